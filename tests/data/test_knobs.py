"Knobs: that stand still and that move, from folders and tables, in training, prediction, sliders and exports."
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.schedule import *

from fastproaudio.data import *
from fastproaudio.train import *
from fastproaudio.data import AudioDataLoaders
from fastproaudio.dsp import noise
from fastproaudio.export import export, load_effect
from fastproaudio.io import read_audio, write_audio
from fastproaudio.models import LSTMEffect, run_long, TCN, UNet1d, WaveNet
from fastproaudio.train import effects_learner
from networks import make_input, MODELS

WITH_KNOBS = {k: v for k, v in MODELS.items() if 'knobs' in k}
WITH_KNOBS['tcn_centred_knobs'] = lambda: TCN(n_knobs=2, n_blocks=3, ks=5, dilation_growth=3, channel_width=6,
                                              causal=False)


@pytest.fixture(params=WITH_KNOBS)
def model(request):
    torch.manual_seed(0)
    return WITH_KNOBS[request.param]().eval()


def make_curve(m, n, bs=2, dtype=torch.float32):
    "Knobs that move at every sample, each in its own way."
    t = torch.arange(n)/50
    return torch.stack([torch.stack([.5+.45*torch.sin(t*(1+i+j)+i) for j in range(m.n_knobs)])
                        for i in range(bs)]).to(dtype)


def test_a_curve_that_stands_still_is_a_setting(model):
    x, knobs = make_input(model, 300)
    with torch.no_grad(): got, want = model(x, knobs[..., None].expand(-1, -1, 300)), model(x, knobs)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_a_knob_has_no_effect_before_it_moves_and_one_after(model):
    x, _ = make_input(model, 300)
    a = make_curve(model, 300)
    b = a.clone()
    b[..., 150:] = 1-b[..., 150:]
    with torch.no_grad(): d = (model(x, a)-model(x, b)).abs().amax((0, 1))
    assert d[:150-model.lookahead].max() < 1e-6 and d[150:].max() > 1e-4


def test_curves_change_the_sound_at_once_where_nothing_looks_ahead(model):
    if model.lookahead: pytest.skip('looks ahead')
    x, _ = make_input(model, 300)
    a = make_curve(model, 300)
    b = a.clone()
    b[..., 150] = 1-b[..., 150]
    with torch.no_grad(): assert (model(x, a)-model(x, b))[..., 150].abs().max() > 1e-6


@pytest.mark.parametrize('dtype,tol', [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=['float32', 'float64'])
@pytest.mark.parametrize('blocks', [1, 64, 'mixed'])
def test_streaming_a_curve_equals_offline(model, dtype, tol, blocks):
    model = model.to(dtype)
    n = 120 if blocks == 1 else 700
    x, _ = make_input(model, n, dtype=dtype)
    curve = make_curve(model, n, dtype=dtype)
    tail = torch.zeros(*x.shape[:2], model.latency, dtype=dtype)
    held = torch.cat([curve, curve[..., -1:].expand(-1, -1, model.latency)], -1)
    sizes = [1, 5, 1, 2, 400, 64, n+model.latency-473] if blocks == 'mixed' else blocks
    with torch.no_grad():
        state, out = model.init_state(2, curve[..., 0]), []
        for part, k in zip(torch.cat([x, tail], -1).split(sizes, -1), held.split(sizes, -1)):
            y, state = model.stream(part, state, k)
            out.append(y)
        got, want = torch.cat(out, -1)[..., model.latency:], model(x, curve)
    assert (got-want).abs().max() <= tol


def test_a_long_stream_of_a_curve_equals_offline(model):
    x, _ = make_input(model, 10_000, bs=1)
    n = 10_000+model.latency
    curve = make_curve(model, 10_000, bs=1)
    held = torch.cat([curve, curve[..., -1:].expand(-1, -1, model.latency)], -1)
    with torch.no_grad():
        state, out = model.init_state(1, curve[..., 0]), []
        for part, k in zip(torch.cat([x, torch.zeros(1, model.n_in, model.latency)], -1).split([7000, n-7000], -1),
                           held.split([7000, n-7000], -1)):
            y, state = model.stream(part, state, k)
            out.append(y)
        assert (torch.cat(out, -1)[..., model.latency:]-model(x, curve)).abs().max() <= 1e-6


def test_from_a_setting_to_a_curve_and_back_in_one_stream(model):
    if model.lookahead: pytest.skip('a stream that is late may apply a setting at once')
    x, knobs = make_input(model, 300)
    moves = make_curve(model, 100)
    still = lambda n: knobs[..., None].expand(-1, -1, n)
    with torch.no_grad():
        want = model(x, torch.cat([still(100), moves, still(100)], -1))
        state, out = model.init_state(2, knobs), []
        for part, k in zip(x.split(100, -1), (knobs, moves, knobs)):
            y, state = model.stream(part, state, k)
            out.append(y)
    assert (torch.cat(out, -1)-want).abs().max() <= 1e-6


def test_scripted_and_in_pieces_a_curve_sounds_the_same(model):
    x, _ = make_input(model, 700, bs=1)
    curve = make_curve(model, 700, bs=1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        s = torch.jit.script(model)
    with torch.no_grad():
        want = model(x, curve)
        torch.testing.assert_close(s(x, curve), want, atol=1e-6, rtol=0)
        state, out = s.init_state(1, curve[..., 0]), []
        for part, k in zip(x.split(90, -1), curve.split(90, -1)):
            y, state = s.stream(part, state, k)
            out.append(y)
        parts = list(run_long(model, lambda a, n: x[..., a:a+n], 700, curve, piece=150))
    y = torch.cat(out, -1)
    assert (y[..., model.latency:]-want[..., :700-model.latency]).abs().max() <= 1e-6
    assert (torch.cat(parts, -1)-want).abs().max() <= 1e-6


def test_valid_with_a_curve_is_forward_where_the_context_is_real(model):
    past = model.receptive_field-1-model.lookahead
    start = -(-past//model.stride)*model.stride
    x, _ = make_input(model, start+100)
    curve = make_curve(model, start+100)
    with torch.no_grad():
        whole = model(x, curve)
        part = model.valid(x[..., start-past:], curve[..., start-past:])
    tol = 1e-4 if getattr(model, 'recurrent', False) else 1e-6
    torch.testing.assert_close(part, whole[..., start:start+part.shape[-1]], atol=tol, rtol=0)


def test_curves_get_gradients_and_wrong_ones_are_refused(model):
    x, _ = make_input(model, 200)
    curve = make_curve(model, 200).requires_grad_()
    model(x, curve).pow(2).sum().backward()
    assert (curve.grad.abs().amax((0, 1)) > 0).float().mean() > (.2 if model.stride > 1 else .99)
    for bad in (curve[..., :-1], curve[:, :-1], curve[:1], curve[..., None]):
        with pytest.raises(ValueError, match='expected knobs'): model(x, bad)


# ---- exports: names, ranges and defaults go along; where a host has controls, they are exposed ----

class OneKnobData:
    "What an exporter asks of a learner's data."
    sr = 48000
    knobs = Knobs([Knob('Drive amount', 0, 30, 'dB', default=12), Knob('tone', 0, 1)])


def learner_like(net):
    class Learn: model, dls = net.eval(), OneKnobData()
    return Learn()


NETS = {'tcn': lambda: TCN(n_knobs=2, n_blocks=2, ks=3, channel_width=4),
        'lstm': lambda: LSTMEffect(n_knobs=2, hidden=4, warm_up=50),
        'wavenet': lambda: WaveNet(n_knobs=2, channels=4, n_layers=3),
        'unet': lambda: UNet1d(n_knobs=2, channels=(4, 6), strides=(4,), ks=3)}


def played(net, x, drive, tone):
    with torch.no_grad(): return net(x[None], torch.tensor([[drive/30, tone]]))[0]


@pytest.mark.parametrize('name', NETS)
def test_nn_tilde_has_an_attribute_for_each_knob_in_its_unit(tmp_path, name):
    torch.manual_seed(0)
    learn, x = learner_like(NETS[name]()), noise(500, seed=1, amp=.4).reshape(1, -1)
    report = export(learn, tmp_path/'a.ts', to='nn_tilde')
    assert 'drive_amount, 0..30 dB' in str(report)
    live = load_effect(tmp_path/'a.ts')
    assert live.graph.get_attributes() == ['drive_amount', 'tone']
    assert live.graph.get_drive_amount() == pytest.approx((12,))
    assert live.knobs[0] == dict(name='Drive amount', lo=0, hi=30, unit='dB', default=12, value=12)
    torch.testing.assert_close(live(x), played(learn.model, x, 12, .5), atol=1e-5, rtol=0)
    live.graph.set_drive_amount(24.)
    assert live.graph.get_drive_amount() == pytest.approx((24,))
    torch.testing.assert_close(live(x), played(learn.model, x, 24, .5), atol=1e-5, rtol=0)
    torch.testing.assert_close(live(x, tone=.9), played(learn.model, x, 24, .9), atol=1e-5, rtol=0)
    live.graph.set_drive_amount(99.)                               # a host's slider may send anything
    assert live.graph.get_drive_amount() == pytest.approx((30,))
    with pytest.raises(ValueError, match='0..30 dB'): live(x, drive_amount=31)


@pytest.mark.parametrize('name', NETS)
def test_onnx_has_the_knobs_as_an_input_with_defaults(tmp_path, name):
    pytest.importorskip('onnxruntime'), pytest.importorskip('onnxscript')
    torch.manual_seed(0)
    learn, x = learner_like(NETS[name]()), noise(500, seed=1, amp=.4).reshape(1, -1)
    report = export(learn, tmp_path/'a.onnx', to='onnx')
    assert 'Drive amount = 12 dB' in str(report)
    back = load_effect(tmp_path/'a.onnx')
    assert [k['name'] for k in back.knobs] == ['Drive amount', 'tone'] and back.knobs[0]['hi'] == 30
    torch.testing.assert_close(back(x), played(learn.model, x, 12, .5), atol=1e-5, rtol=0)
    torch.testing.assert_close(back(x, 64, **{'Drive amount': 27}), played(learn.model, x, 27, .5), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match='expected a knob among'): back(x, drive=3)
    with pytest.raises(ValueError, match='0..30 dB'): back(x, **{'Drive amount': 31})


def test_audacity_and_torch_export_bake_a_setting_and_say_so(tmp_path):
    torch.manual_seed(0)
    learn, x = learner_like(NETS['tcn']()), noise(500, seed=1, amp=.4).reshape(1, -1)
    report = export(learn, tmp_path/'amp', to='audacity', knobs={'Drive amount': 24}, n_random=1)
    effect = load_effect(tmp_path/'amp')
    assert effect.metadata['knobs'] == {'Drive amount': 24, 'tone': .5}
    assert effect.metadata['knob_ranges']['Drive amount'] == [0, 30, 'dB']
    assert 'Drive amount = 24 dB' in str(report) and 'Drive amount = 24 dB' in (tmp_path/'amp/README.md').read_text()
    torch.testing.assert_close(effect(x), played(learn.model, x, 24, .5), atol=1e-5, rtol=0)
    report = export(learn, tmp_path/'a.pt2', to='torch_export')
    assert 'Drive amount = 12 dB' in str(report)
    torch.testing.assert_close(load_effect(tmp_path/'a.pt2')(x), played(learn.model, x, 12, .5), atol=1e-5, rtol=0)


@pytest.mark.parametrize('to,path', [('nam', 'a.nam'), ('rtneural', 'a.json'), ('guitarml', 'a.json')])
def test_formats_without_knobs_refuse_them(tmp_path, to, path):
    with pytest.raises(ValueError, match='Drive amount, tone'):
        export(learner_like(NETS['lstm']()), tmp_path/path, to=to)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('to,path', [('audacity', 'a'), ('nn_tilde', 'a.ts'), ('onnx', 'a.onnx'),
                                     ('torch_export', 'a.pt2')])
@pytest.mark.parametrize('knobs,match',
                         [({'Drive amount': 31}, '0..30 dB'), ({'gain': 1}, 'expected a knob among'), ([.5], '2 knobs'),
                          ([2., 0.], '0..1')],
                         ids=['range', 'name', 'count', 'scale'])
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, to, path, knobs, match):
    if to == 'onnx': pytest.importorskip('onnxscript')
    with pytest.raises(ValueError, match=match): export(learner_like(NETS['tcn']()), tmp_path/path, to=to, knobs=knobs)
    assert not list(tmp_path.iterdir())


# ---- folders, tables, loaders ----

matplotlib.use('Agg')
SR = 8000
DRIVES = (0, 6, 12, 18, 24)


def distort(x, d): return torch.tanh(10**(d/20)*x)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A dry recording, one more, and what five drives make of them."
    path = tmp_path_factory.mktemp('drives')
    for i in (0, 1):
        x = noise(12000, seed=i, amp=.1).reshape(1, -1)
        write_audio(path/f'dry{i}.wav', x, SR, subtype='FLOAT')
        for d in DRIVES: write_audio(path/f'wet{i}_{d}.wav', distort(x, d), SR, subtype='FLOAT')
    return path


def table(split=None, inputs=(0, 1)):
    return pd.DataFrame([dict(input=f'dry{i}.wav', target=f'wet{i}_{d}.wav', **{'drive [dB]': d},
                              **({'split': split(i, d)} if split else {}))
                         for i in inputs for d in DRIVES])


def load(folder, df=None, **kwargs):
    return AudioDataLoaders.from_table(table() if df is None else df, root=folder,
                                       **{'bs': 8, 'chunk_len': 1000, 'seed': 0, **kwargs})


def check_batch(b, tol=1e-5):
    "Every chunk is what its own setting makes of it."
    x, k, y = [torch.Tensor(o.as_subclass(torch.Tensor)) for o in b]
    assert k.min() >= 0 and k.max() <= 1
    d = 24*(k[..., None] if k.ndim == 2 else k)
    torch.testing.assert_close(y, distort(x, d), atol=tol, rtol=0)


@pytest.mark.parametrize('workers', [0, 2])
def test_every_chunk_comes_with_its_own_setting(folder, workers):
    dls = load(folder, num_workers=workers)
    assert dls.n_inp == 2 and dls.knobs.describe() == [dict(name='drive', lo=0., hi=24., unit='dB', default=12.)]
    seen = set()
    for dl in dls:
        for b in dl: check_batch(b); seen |= set(b[1].flatten().tolist())
    assert len(seen) == 5


@pytest.mark.parametrize('sep,encoding,index',
                         [(',', 'utf-8', False), (';', 'utf-8-sig', False), ('\t', 'utf-8', True)])
def test_tables_as_spreadsheets_write_them(folder, sep, encoding, index):
    table().to_csv(folder/'settings.csv', sep=sep, encoding=encoding, index=index)
    dls = AudioDataLoaders.from_table(folder/'settings.csv', bs=4, chunk_len=1000)
    assert dls.knobs.names == ['drive'] and dls.knobs['drive'].unit == 'dB'
    check_batch(dls.one_batch())


def test_split_as_the_table_says_with_a_test_part(folder):
    df = table(lambda i, d: 'Test' if i else 'val' if d == 12 else 'train', inputs=(0, 1))
    with pytest.warns(UserWarning, match='the same notes'): dls = load(folder, df)
    assert {round(24*float(r[1])) for r in dls.valid.rows} == {12}
    assert {round(24*float(r[1])) for r in dls.train.rows} == {0, 6, 18, 24}
    assert len(dls.test_items) == 5
    check_batch(dls.test_dl(dls.test_items, with_labels=True).one_batch())


def test_split_by_setting_holds_out_what_lies_between_and_no_note_is_shared(folder):
    for seed in range(4):
        dls = load(folder, split_by='setting', seed=seed)
        held, kept = [{round(24*float(r[1])) for r in dl.rows} for dl in (dls.valid, dls.train)]
        assert not held & kept and held <= {6, 12, 18} and min(kept) == 0 and max(kept) == 24
        assert all(r[0].start >= 9600 for r in dls.valid.rows) and all(r[0].stop <= 9600 for r in dls.train.rows)


def test_without_a_split_whole_inputs_are_held_out_or_the_end_of_the_only_one(folder):
    dls = load(folder)
    assert len({r[0].path for r in dls.train.rows} & {r[0].path for r in dls.valid.rows}) == 0
    dls = load(folder, table(inputs=(0,)))
    assert len(dls.train.rows) == len(dls.valid.rows) == 5 and dls.valid.rows[0][0].start == 9600


WRONG = {'nan': ('drive [dB]', None, 'row 3: drive: expected a number, got nothing'),
         'inf': ('drive [dB]', float('inf'), 'finite'),
         'text': ('drive [dB]', 'loud', "got 'loud'"), 'file': ('target', 'none.wav', 'none.wav, found none'),
         'no input': ('input', None, 'row 3: input: expected the name'),
         'same': ('target', 'dry0.wav', 'another file as target'),
         'twice': ('target', 'wet0_0.wav', 'every target once'),
         'split': ('split', 'trian', "got 'trian'"), 'folder': ('target', '.', 'found none')}


@pytest.mark.parametrize('what', WRONG)
def test_a_wrong_cell_is_named_in_one_sentence(folder, what):
    col, v, match = WRONG[what]
    df = table(lambda i, d: 'train').astype(object)
    df.loc[3, col] = v
    with pytest.raises(ValueError) as e: load(folder, df)
    assert match in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('make,match', [
    (lambda: pd.DataFrame(dict(a=[1])), "expected a column 'input'"), (lambda: table().iloc[:0], 'expected a row'),
    (lambda: '/no/such.csv', 'found none'),
    (lambda: table().rename(columns={'target': 'wet'}), "expected a column 'target'")],
    ids=['columns', 'empty', 'missing', 'target'])
def test_a_wrong_table_is_named_in_one_sentence(folder, make, match):
    with pytest.raises(ValueError, match=match): load(folder, make())


@pytest.mark.parametrize('text', ['', 'input,target\n"x', '\x00\x01\x02', 'input;target;drive\n1;2;3;4;5\n',
                                  'input,target,drive\n'])
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path/'t.csv').write_text(text)
    with pytest.raises(ValueError): AudioDataLoaders.from_table(tmp_path/'t.csv')


def test_ranges_from_caller_header_or_values(folder):
    assert load(folder, knobs={'drive': (-6, 30, 'dB')}).knobs.describe() == [dict(name='drive', lo=-6., hi=30.,
                                                                                   unit='dB', default=12.)]
    df = table().rename(columns={'drive [dB]': 'drive [0..48 dB]'})
    assert load(folder, df).knobs['drive'].hi == 48
    with pytest.raises(ValueError, match='0 dB to 12 dB'): load(folder, knobs={'drive': (0, 12, 'dB')})
    with pytest.raises(ValueError, match="'tone'"): load(folder, knobs=['tone'])


@pytest.mark.parametrize('kind', ['csv', 'csv_times', 'npy', 'npy_slow', 'wav', 'array'])
def test_curves_beside_the_file_reach_each_chunk(tmp_path, kind):
    n = 6000
    x, d = noise(n, seed=3, amp=.1).reshape(1, -1), np.linspace(0, 24, n)
    write_audio(tmp_path/'dry.wav', x, SR, subtype='FLOAT')
    write_audio(tmp_path/'wet.wav', distort(x, torch.tensor(d)).float(), SR, subtype='FLOAT')
    cell = f'curve.{kind.split("_")[0]}'
    if kind == 'csv': pd.DataFrame(dict(drive=[0, 24])).to_csv(tmp_path/cell, index=False)
    if kind == 'csv_times':
        pd.DataFrame(dict(drive=[0, 12, 24], time=np.array([0, .5, 1])*(n-1)/SR)).to_csv(tmp_path/cell, index=False)
    if kind == 'npy': np.save(tmp_path/cell, d.astype(np.float32))
    if kind == 'npy_slow': np.save(tmp_path/cell, np.linspace(0, 24, 7))
    if kind == 'wav': write_audio(tmp_path/cell, torch.tensor(d/24).float()[None], SR, subtype='FLOAT')
    if kind == 'array': cell = [0., 24.]
    rows = pd.DataFrame(dict(input=['dry.wav'], target=['wet.wav'], drive=[cell]))
    dls = AudioDataLoaders.from_table(rows, knobs={'drive': (0, 24, 'dB')}, root=tmp_path, bs=4, chunk_len=500)
    for dl in dls:
        dl.set_context(100, 20)
        for b in dl:
            assert b[1].shape[1:] == (1, 620)
            x, k, y = [o.as_subclass(torch.Tensor) for o in b]
            torch.testing.assert_close(y, distort(x, 24*k), atol=2e-4, rtol=0)


@pytest.mark.parametrize('write,match', [
    (lambda p: p.write_text('time,gain,x\n0,1,2\n'), "expected a column of this name"),
    (lambda p: p.write_text('time,drive\n0,1\n0,2\n'), 'rise'),
    (lambda p: p.write_text('drive\n3\n\nfast\n'), "got 'fast'"),
    (lambda p: p.write_text('drive\n3\n33\n'), '0 dB to 24 dB'), (lambda p: None, 'found none')],
    ids=['column', 'times', 'text', 'range', 'missing'])
def test_wrong_curves_are_named(folder, tmp_path, write, match):
    write(tmp_path/'c.csv')
    df = table(inputs=(0,)).astype(object)
    df.loc[0, 'drive [dB]'] = str(tmp_path/'c.csv')
    with pytest.raises(ValueError, match=match): load(folder, df, knobs={'drive': (0, 24, 'dB')})


def make_signaltrain(path, files):
    for f in files:
        (path/f).parent.mkdir(parents=True, exist_ok=True)
        write_audio(path/f, noise(2000, seed=len(f), amp=.2).reshape(1, -1), SR)


@pytest.mark.parametrize('k', [0, 1, 2, 3])
def test_signaltrain_folders_of_any_number_of_knobs(tmp_path, k):
    tail = lambda i: ''.join(f'__{i*10+j}' for j in range(k))
    parts = {'Train': (1, 2), 'Val': (3,), 'Test': (4, 5)}
    make_signaltrain(tmp_path, [f'{p}/{n}.wav' for p, ids in parts.items() for i in ids
                                for n in (f'input_{i}_', f'target_{i}_comp_2c{tail(i)}')])
    dls = AudioDataLoaders.from_signaltrain(tmp_path, bs=2, chunk_len=500)
    b = dls.one_batch()
    assert [tuple(o.shape) for o in b] == [(2, 1, 500)]+([(2, k)] if k else [])+[(2, 1, 500)]
    assert (len(dls.train.rows), len(dls.valid.rows), len(dls.test_items)) == (2, 1, 2) and dls.n_inp == 1+(k > 0)
    if k: assert dls.knobs.names == [f'knob_{i+1}' for i in range(k)] and (dls.knobs[0].lo, dls.knobs[0].hi) == (10, 50)


@pytest.mark.parametrize('files,match', [
    (['input_1_.wav', 'target_1_x__3.wav', 'input_2_.wav'], 'input_2_.wav: expected a partner'),
    (['input_1_.wav', 'target_1_x__3.wav', 'target_9_x__3.wav'], 'target_9_x__3.wav'),
    (['input_1_.wav', 'target_1_x__3.wav', 'take one.wav'], 'take one.wav: expected a name'),
    (['input_1_.wav', 'input_1_b.wav', 'target_1_x__3.wav'], 'one input with the id 1'),
    (['input_1_.wav', 'target_1_x__3.wav', 'input_2_.wav', 'target_2_x__3__4.wav'],
     'expected 1 knobs in its name')], ids=['input', 'target', 'name', 'twice', 'counts'])
def test_bad_names_in_a_signaltrain_folder_are_named(tmp_path, files, match):
    make_signaltrain(tmp_path, files)
    with pytest.raises(ValueError, match=match): AudioDataLoaders.from_signaltrain(tmp_path)


def test_signaltrain_names_and_ranges_from_its_info_file(tmp_path):
    make_signaltrain(tmp_path, [f'{p}/{n}.wav' for p, i in (('Train', 1), ('Val', 2))
                                for n in (f'input_{i}_', f'target_{i}_c__1__{-5*i}')])
    (tmp_path/'effect_info.ini').write_text("[effect]\nname = comp\nknob_names = ['ratio', 'threshold']\n"
                                            "knob_ranges = [[1, 4], [-30, 0]]\n")
    dls = AudioDataLoaders.from_signaltrain(tmp_path, bs=2, chunk_len=500)
    assert dls.knobs.names == ['ratio', 'threshold'] and dls.knobs['threshold'].lo == -30
    (tmp_path/'effect_info.ini').write_text("[effect]\nknob_names = __import__('os')\n")
    with pytest.raises(ValueError, match='effect_info.ini'): AudioDataLoaders.from_signaltrain(tmp_path)


# ---- training, prediction, sliders ----

@pytest.fixture(scope='module')
def learn(folder):
    "A small network that has learned four drives; the one in the middle it has never heard."
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match='the same notes'):
        dls = load(folder, table(lambda i, d: 'test' if i and d == 12 else 'valid' if i or d == 12 else 'train'),
                   chunk_len=1000, bs=4)
    learn = effects_learner(dls, TCN(n_knobs=1, n_blocks=2, ks=2, dilation_growth=2, channel_width=16), path=folder,
                            checkpoint=None)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(30, 2e-2)
    return learn


def esr(p, y): return float((p-y).pow(2).sum()/y.pow(2).sum())


def test_it_learns_the_settings_and_what_lies_between(learn, folder):
    scores = {round(s['drive']): e for s, e in learn.esr_by_setting()}
    assert set(scores) == set(DRIVES) and max(scores.values()) < .02
    x = read_audio(folder/'dry1.wav')[0]
    got, want = learn.predict(folder/'dry1.wav', drive=12), distort(x, 12)
    nearest = min(esr(distort(x, d), want) for d in (6, 18))
    assert esr(got, want) < .02 < nearest


def test_predict_by_name_by_list_and_as_a_curve_agree(learn, folder):
    x = read_audio(folder/'dry1.wav')[0]
    y = learn.predict(folder/'dry1.wav', drive=18)
    assert y.sr == SR and y.shape == x.shape
    for other in (learn.predict((folder/'dry1.wav', [.75])), learn.predict(x, [.75]),
                  learn.predict((x, {'drive': 18})), learn.predict(x, drive=[18, 18]),
                  learn.predict(x, torch.full(x.shape, .75))):
        torch.testing.assert_close(other, y, atol=1e-6, rtol=0)
    moving = learn.predict(x, drive=[0, 24])
    want = learn.model.eval()(x[None], torch.linspace(0, 1, x.shape[-1])[None, None])[0].detach()
    torch.testing.assert_close(torch.Tensor(moving.as_subclass(torch.Tensor)), want, atol=1e-5, rtol=0)
    assert learn.predict(x.expand(2, -1), drive=[0, 24], each_channel=True).shape == (2, x.shape[-1])


@pytest.mark.parametrize('how,match',
                         [(dict(drive=25), '0 dB to 24 dB'), (dict(gain=3), "'drive'"), (dict(), 'got none'),
                          (dict(knobs=[1.5]), '0..1'), (dict(knobs=[.1], drive=3), 'both'),
                          (dict(drive='loud'), "got 'loud'"), (dict(drive=None), 'got nothing')])
def test_wrong_settings_are_refused_in_prediction(learn, how, match):
    with pytest.raises(ValueError, match=match): learn.predict(noise(500).reshape(1, -1), **how)


def test_process_writes_what_predict_says(learn, folder, tmp_path):
    learn.process(folder/'dry1.wav', tmp_path/'out.wav', drive=9, subtype='FLOAT')
    torch.testing.assert_close(read_audio(tmp_path/'out.wav')[0],
                               torch.Tensor(learn.predict(folder/'dry1.wav', drive=9).as_subclass(torch.Tensor)),
                               atol=1e-6, rtol=0)
    pd.DataFrame(dict(time=[0, 1], drive=[0, 24])).to_csv(tmp_path/'moves.csv', index=False)
    learn.process(folder/'dry1.wav', tmp_path/'moves.wav', drive=tmp_path/'moves.csv')
    with pytest.raises(ValueError, match='0 dB to 24 dB'): learn.process(folder/'dry1.wav', tmp_path/'no.wav', drive=70)
    assert not (tmp_path/'no.wav').exists()


def test_fastai_verbs_work_beside_knobs(learn, folder):
    from matplotlib import pyplot as plt
    preds, targs = learn.get_preds()
    assert preds.shape == targs.shape and esr(preds, targs) < .02
    dl = learn.dls.test_dl([(folder/'dry1.wav', {'drive': 12})])
    assert [tuple(o.shape[1:]) for o in dl.one_batch()] == [(1, 1000+learn.model.receptive_field-1), (1,)]
    assert learn.get_preds(dl=dl)[0].shape[1:] == (1, 1000)
    learn.dls.valid.show_batch(max_n=2, hear=False)
    learn.show_results(max_n=2, hear=False)
    titles = [ax.get_title(loc='left') for f in plt.get_fignums() for ax in plt.figure(f).axes]
    assert any('drive 12 dB' in t for t in titles) and any('ESR' in t and 'drive' in t for t in titles)
    plt.close('all')
    assert learn.plot_top_losses(1, hear=False)[0][0].name.startswith('dry')
    plt.close('all')
    with learn.no_bar(), learn.no_logging(): assert 0 < learn.lr_find(num_it=8, show_plot=False).valley < 10
    assert learn.validate()[1] < .02 and 'receptive field' in str(learn.summary())


def test_an_exported_learner_knows_its_knobs(learn, folder, tmp_path):
    from fastai.learner import load_learner
    learn.export(tmp_path/'amp.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        back = load_learner(tmp_path/'amp.pkl')
    assert back.knobs.describe() == learn.knobs.describe() == [dict(name='drive', lo=0., hi=24., unit='dB',
                                                                    default=12.)]
    torch.testing.assert_close(back.predict(folder/'dry1.wav', drive=7), learn.predict(folder/'dry1.wav', drive=7))
    export(learn, tmp_path/'a.ts', to='nn_tilde')
    assert load_effect(tmp_path/'a.ts').graph.get_drive() == pytest.approx((12,))


def test_sliders_play_without_a_browser(learn, folder):
    pytest.importorskip('ipywidgets')
    panel = learn.sliders(folder/'dry1.wav')
    s = panel.sliders['drive']
    assert (s.min, s.max, s.value) == (0, 24, 12) and 'dB' in s.description
    torch.testing.assert_close(panel.sound, learn.predict(folder/'dry1.wav', drive=12))
    s.value = 20.                                                  # as the browser does
    torch.testing.assert_close(panel.sound, learn.predict(folder/'dry1.wav', drive=20))
    with pytest.raises(ValueError, match='0 dB to 24 dB'): panel.set(drive=30)


def test_without_ipywidgets_one_sentence_says_what_to_install(learn, folder, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'ipywidgets', None)
    with pytest.raises(ImportError, match='pip install ipywidgets'): learn.sliders(folder/'dry1.wav')


def test_a_model_of_other_knobs_is_refused(folder):
    with pytest.raises(ValueError, match='n_knobs=1'): effects_learner(load(folder), TCN(n_blocks=1, ks=3))


def test_moving_knobs_train(tmp_path):
    n = 8000
    torch.manual_seed(0)
    for i in (0, 1):
        x, d = noise(n, seed=i, amp=.1).reshape(1, -1), 12+12*np.sin(np.arange(n)/900+i)
        np.save(tmp_path/f'd{i}.npy', d.astype(np.float32))
        write_audio(tmp_path/f'dry{i}.wav', x, SR, subtype='FLOAT')
        write_audio(tmp_path/f'wet{i}.wav', distort(x, torch.tensor(d)).float(), SR, subtype='FLOAT')
    df = pd.DataFrame([dict(input=f'dry{i}.wav', target=f'wet{i}.wav', drive=f'd{i}.npy',
                            split=('train', 'valid')[i]) for i in (0, 1)])
    dls = AudioDataLoaders.from_table(df, root=tmp_path, bs=4, chunk_len=1000)
    learn = effects_learner(dls, TCN(n_knobs=1, n_blocks=2, ks=2, dilation_growth=2, channel_width=16),
                            path=tmp_path, checkpoint=None)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(60, 2e-2)
    assert learn.validate()[1] < .03
    torch.testing.assert_close(learn.predict(tmp_path/'dry1.wav', drive=tmp_path/'d1.npy'),
                               learn.predict(tmp_path/'dry1.wav', drive=np.load(tmp_path/'d1.npy')))
    with pytest.raises(ValueError, match='curves'): learn.esr_by_setting()
