"Every target, one set of properties: plays what the model plays, loads, refuses by name, leaves nothing half done."
import importlib.util, inspect, json, os

import numpy as np
import pytest
import torch
from torch import nn

from fastproaudio.dsp import noise
from fastproaudio.export import export, load_effect
from fastproaudio.export.nam import import_nam, render_nam
from fastproaudio.export.nam_player import play_nam
from fastproaudio.export.nam_schema import parse_nam
from fastproaudio.export.target import TARGETS
from fastproaudio.models import LSTMEffect, NAMLSTM, NAMWaveNet, SampleWaveNet, TCN, UNet1d, WaveNet
from fastproaudio.models.nam import nam_weights, set_nam_weights
from fastproaudio.models.nam_other import FILMS, NAMConvNet, NAMFullWaveNet, NAMLinear

HAVE_ONNX = all(importlib.util.find_spec(m) for m in ('onnx', 'onnxscript', 'onnxruntime'))


def lstm(dry, **kwargs):
    m = LSTMEffect(warm_up=300, **kwargs)
    with torch.no_grad(): m.dry.fill_(dry)
    return m


def small_nam():
    return NAMWaveNet([dict(n_in=1, channels=4, dilations=[1, 8, 64], ks=[3]*3, acts=['Tanh']*3, gated=False, head=2,
                            head_ks=1, head_bias=False),
                                    dict(n_in=4, channels=2, dilations=[1, 2], ks=[3]*2, acts=['ReLU']*2, gated=False,
                                         head=1, head_ks=1, head_bias=True)], head_scale=.5)


def gated_nam():
    return NAMWaveNet([dict(n_in=1, channels=3, dilations=[1, 8], ks=[3]*2, acts=['Tanh']*2, gated=True, head=1,
                            head_ks=1, head_bias=True)])


def rich_nam():
    a = dict(n_in=1, channels=4, dilations=[1, 8], ks=[3, 2], acts=['PReLU', 'LeakyHardtanh'], gated=False, head=4,
             head_ks=1, head_bias=False, groups=2, n_cond=2,
             gates=['gated', 'blended'], gate_acts=['Softsign', 'Sigmoid'],
             films={k: dict(shift=i % 2 == 0, groups=1) for i, k in enumerate(FILMS[:6])})
    b = dict(n_in=4, channels=4, dilations=[1, 2], ks=[2, 3], acts=['ReLU', 'Fasttanh'], gated=False, head=1,
             head_ks=3, head_bias=True, n_cond=2)
    return NAMFullWaveNet([a, b], dict(channels=3, act='ReLU', n_out=1, ks=[2, 3]),
                          dict(arrays=[{**b, 'n_in': 1, 'head': 2, 'n_cond': 1}], head_scale=1.), head_scale=.5)


def stack(): return nn.Sequential(nn.Conv1d(1, 4, 3, dilation=4), nn.ReLU(), nn.Conv1d(4, 1, 2))


def tcn(): return TCN(n_blocks=2, ks=3, dilation_growth=4, channel_width=4)


# (target, name of the file, model)
CASES = [('audacity', 'folder', tcn), ('nam', 'a.nam', small_nam), ('nam', 'a.nam', gated_nam),
         ('nam', 'a.nam', lambda: NAMLSTM(5, 2, run_in=500)),
         ('nn_tilde', 'a.ts', tcn), ('nn_tilde', 'a.ts', small_nam),
         ('nn_tilde', 'a.ts', lambda: UNet1d(channels=(4, 6), strides=(4,), ks=3)),
         ('nn_tilde', 'a.ts', lambda: NAMLSTM(5, run_in=500)),
         ('torch_export', 'a.pt2', tcn), ('torch_export', 'a.pt2', small_nam),
         ('torch_export', 'a.pt2', lambda: TCN(n_blocks=1, ks=4, channel_width=4, causal=False)),
         ('torch_export', 'a.pt2', lambda: NAMLSTM(4, 2, run_in=500)),
         ('torch_export', 'a.pt2', lambda: lstm(.5, hidden=4, n_layers=2, n_in=2, n_out=2)),
         ('torch_export', 'a.pt2', lambda: UNet1d(channels=(4, 6, 8), strides=(2, 3), ks=5)),
         ('onnx', 'a.onnx', lambda: UNet1d(channels=(4, 6), strides=(4,), ks=3, causal=True)),
         ('onnx', 'a.onnx', lambda: NAMConvNet(3, [1, 2, 4], batchnorm=True)),
         ('nn_tilde', 'a.ts', rich_nam), ('torch_export', 'a.pt2', rich_nam), ('nam', 'a.nam', rich_nam),
         ('nam', 'a.nam', lambda: NAMConvNet(3, [1, 2, 4], batchnorm=True)),
         ('nam', 'a.nam', lambda: set_nam_weights(NAMLinear(5, bias=True), [1., .5, .2, .1, -.3, .05])),
         ('onnx', 'a.onnx', small_nam), ('onnx', 'a.onnx', lambda: lstm(1., hidden=4, n_layers=2)),
         ('onnx', 'a.onnx', lambda: NAMLSTM(4, 2, run_in=500)),
         ('rtneural', 'a.json', stack), ('rtneural', 'a.json', lambda: lstm(0., hidden=4)),
         ('rtneural', 'a.json', lambda: lstm(1., hidden=4)),
         ('rtneural', 'a.json', lambda: NAMLSTM(4, 2, run_in=500)),
         ('guitarml', 'a.json', lambda: lstm(1., hidden=20)),
         ('guitarml', 'a.json', lambda: lstm(0., hidden=4, n_layers=2))]


@pytest.fixture(params=CASES, ids=[f'{t}-{i}' for i, (t, _, _) in enumerate(CASES)])
def case(request, tmp_path):
    target, name, make = request.param
    if target == 'onnx' and not HAVE_ONNX: pytest.skip('onnx, onnxscript and onnxruntime are not installed')
    torch.manual_seed(0)
    return target, tmp_path/name, make().eval()


def before(model, x):
    "What the model plays, silence in front where it does not pad itself."
    if isinstance(model, nn.Sequential): x = torch.cat([torch.zeros(1, 9), x], 1)
    with torch.no_grad(): return model(x[None])[0]


def test_artefact_plays_what_the_model_plays(case):
    target, path, model = case
    options = dict(n_random=0) if target == 'audacity' else {}
    report = export(model, path, to=target, sr=48000, **options)
    assert report.target == target and report.max_diff <= 1e-5 and report.size > 0 and report.times_real_time > 0
    assert str(path) in str(report)
    assert report.latency == (0 if 'whole sounds' in str(report) else getattr(model, 'latency', 0))
    effect = load_effect(path)
    x = noise(1000, seed=5, amp=.5)
    # they start from zeros
    silence = getattr(model, 'receptive_field', 10)-1 if target in ('rtneural', 'guitarml') else 0
    x = x.expand(getattr(model, 'n_in', 1), -1)
    y = effect(torch.cat([torch.zeros(len(x), silence), x], 1))[:, silence:]
    assert y.shape == x.shape and (y-before(model, x)).abs().max() <= 1e-5
    assert y.abs().max() > 1e-4


@pytest.mark.parametrize('target', sorted(set(TARGETS)-{'onnx'}))
def test_overwrites_whole_and_leaves_no_traces(target, tmp_path):
    _, name, make = next(c for c in CASES if c[0] == target)
    path, model = tmp_path/name, make()
    options = dict(n_random=0) if target == 'audacity' else {}
    for _ in range(2): export(model, path, to=target, sr=48000, **options)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('target', sorted(TARGETS))
def test_refuses_nan_and_writes_nothing(target, bad, tmp_path):
    if target == 'onnx' and not HAVE_ONNX: pytest.skip('no onnx')
    model = lstm(1., hidden=4) if target == 'guitarml' else stack() if target == 'rtneural' else small_nam()
    with torch.no_grad(): next(model.parameters()).view(-1)[0] = bad
    suffix = dict(nam='.nam', nn_tilde='.ts', onnx='.onnx', torch_export='.pt2', rtneural='.json',
                  guitarml='.json').get(target, '')
    with pytest.raises(ValueError, match='NaN or Inf'): export(model, tmp_path/f'x{suffix}', to=target, sr=48000)
    assert not list(tmp_path.iterdir())


def first_case(target): return next(c for c in CASES if c[0] == target)[1:]


def quick(target): return dict(n_random=0) if target == 'audacity' else {}


def needs(target):
    if target == 'onnx' and not HAVE_ONNX: pytest.skip('no onnx')


@pytest.mark.parametrize('target', sorted(TARGETS))
def test_places_that_cannot_be_written_to(target, tmp_path, monkeypatch):
    needs(target)
    name, make = first_case(target)
    model, suffix = make(), os.path.splitext(name)[1]
    (tmp_path/'file').write_text('mine')
    (tmp_path/f'clash{suffix}').mkdir() if suffix else (tmp_path/'clash').write_text('mine')
    (tmp_path/f'link{suffix}').symlink_to(tmp_path/'nowhere'/'x')
    before = sorted(p.name for p in tmp_path.iterdir())
    bad = [(None, 'expected a path'), (5, 'expected a path'), ('', 'expected a path'), (b'a.nam', 'expected a path'),
           (f'a\0{suffix}', 'expected a path'),
           (tmp_path/'file'/name, 'cannot be written'), (tmp_path/('a'*300+suffix), 'cannot be written'),
           (tmp_path/f'link{suffix}', 'a link to nothing'),
           (tmp_path/f'clash{suffix}', 'or nothing there')] + ([(tmp_path/'a.xyz', f'ends in {suffix}'),
                                                                (tmp_path/'a',
                                                                 f'ends in {suffix}')] if suffix else [])
    for path, says in bad:
        with pytest.raises(ValueError, match=says): export(model, path, to=target, sr=48000, **quick(target))
    # as in a folder of somebody else's
    monkeypatch.setattr(os, 'access', lambda *a: False)
    with pytest.raises(ValueError, match='no permission'):
        export(model, tmp_path/name, to=target, sr=48000, **quick(target))
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == before and (tmp_path/'file').read_text() == 'mine'
    export(model, tmp_path/'new'/'folder'/name, to=target, sr=48000, **quick(target))   # a missing folder is made
    assert (tmp_path/'new'/'folder'/name).exists()


@pytest.mark.parametrize('target', sorted(TARGETS))
def test_rates_and_tolerances_that_mean_nothing(target, tmp_path):
    needs(target)
    name, make = first_case(target)
    model, nan, inf = make(), float('nan'), float('inf')
    for sr in (0, -1, nan, inf, 'a', True, 44100.5, 10**9, [44100], None):
        with pytest.raises(ValueError, match='expected a sample rate'):
            export(model, tmp_path/name, to=target, sr=sr, **quick(target))
    for tol in (nan, -1., 'a', None):
        with pytest.raises(ValueError, match='expected tol >= 0'):
            export(model, tmp_path/name, to=target, sr=48000, tol=tol, **quick(target))
    for obj in (None, 'model', {}, TCN):
        with pytest.raises(ValueError, match='expected an nn.Module or a Learner'):
            export(obj, tmp_path/name, to=target, sr=48000, **quick(target))
    assert not list(tmp_path.iterdir())
    model.sr = 22050
    with pytest.warns(UserWarning, match='made for 22050 Hz and written as 48000 Hz'):
        export(model, tmp_path/name, to=target, sr=48000, **quick(target))


@pytest.mark.parametrize('target', ['audacity', 'nn_tilde', 'torch_export', 'onnx'])
def test_models_that_are_no_effects(target, tmp_path):
    needs(target)
    name, _ = first_case(target)
    makes = [(lambda: SampleWaveNet(16, 4, 4, n_layers=2, n_blocks=1),
              'predicts the next sample' if target != 'audacity' else 'it raised'),
             (lambda: nn.Linear(3, 3), 'Linear'),
             (lambda: nn.LSTM(1, 1, bidirectional=True), 'LSTM')]
    for make, says in makes:
        with pytest.raises(ValueError, match=says):
            export(make().eval(), tmp_path/name, to=target, sr=48000, **quick(target))
    for knobs in (5, 'ab', [float('nan'), .5], [.5], {'x': 1}):
        with pytest.raises(ValueError, match='expected .*knob'):
            export(TCN(n_knobs=2, n_blocks=1, ks=3, channel_width=4), tmp_path/name, to=target, sr=48000, knobs=knobs,
                   **quick(target))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAVE_ONNX, reason='no onnx')
@pytest.mark.parametrize('target,name', [('onnx', 'a.onnx'), ('torch_export', 'a.pt2')])
def test_graphs_say_what_keeps_them_from_any_length(target, name, tmp_path):
    class Uneven(nn.Module):                            # runs at any length, and torch.export takes one branch
        def forward(self, x): return x*2 if x.shape[2] % 3 else x
    for make, says in ((Uneven, 'torch.export cannot play this Uneven at every length'),
                       (lambda: nn.Sequential(nn.Conv1d(1, 4, 1), nn.InstanceNorm1d(4), nn.Conv1d(4, 1, 1)),
                        'must play any length'), (lambda: nn.Conv1d(1, 1, 3), 'must play any length')):
        with pytest.raises(ValueError, match=says): export(make().eval(), tmp_path/name, to=target, sr=48000)
    assert not list(tmp_path.iterdir())


def test_audacity_keeps_a_readme_that_is_no_card_and_names_norms_over_time(tmp_path):
    (tmp_path/'README.md').write_text('# My project')
    with pytest.raises(ValueError, match='a folder of its own'):
        export(tcn(), tmp_path, to='audacity', sr=48000, n_random=0)
    assert [p.name for p in tmp_path.iterdir()] == ['README.md']
    assert (tmp_path/'README.md').read_text() == '# My project'
    norm = nn.Sequential(nn.Conv1d(1, 4, 1), nn.GroupNorm(1, 4), nn.Conv1d(4, 1, 1)).eval()
    for _ in range(2):
        assert '1 is a GroupNorm, which looks over all of the sound' in str(export(norm, tmp_path/'a', to='audacity',
                                                                                   sr=48000, n_random=0))


@pytest.mark.parametrize('options,says', [(dict(validation_esr=float('nan')), 'validation_esr of at least 0'),
                                          (dict(validation_esr='x'), 'validation_esr'),
                                          (dict(validation_esr=-1), 'validation_esr'),
    (dict(metadata=5), 'expected metadata'), (dict(metadata='a'), 'expected metadata'),
                                          (dict(metadata=dict(input_level_dbu=float('inf'))), 'dBu as a number'),
                                          (dict(lite='x'), 'nn.Module or a Learner'),
    (dict(lite=TCN(n_blocks=1)), 'TCN')], ids=str)
def test_what_a_capture_cannot_say(options, says, tmp_path):
    with pytest.raises(ValueError, match=says): export(small_nam(), tmp_path/'a.nam', to='nam', sr=48000, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', [None, 5, '', b'a'])
def test_load_effect_wants_a_path(path):
    with pytest.raises(ValueError, match='expected a path'): load_effect(path)


REFUSED = [('nam', 'a.nam', lambda: TCN(n_knobs=2, n_blocks=1), '2 knobs'),
           ('nam', 'a.nam', lambda: TCN(n_in=2, n_out=2, n_blocks=1), '2 channels in'),
           ('nam', 'a.nam', lambda: TCN(n_blocks=1, causal=False), 'samples ahead'),
           ('nam', 'a.nam', lambda: lstm(1., hidden=4), 'LSTMEffect'),
           ('nn_tilde', 'a.ts', lambda: nn.Sequential(nn.Conv1d(1, 1, 1)), 'cannot run in blocks'),
           ('rtneural', 'a.json', lambda: lstm(.5, hidden=4), 'gain of 0.5'), ('rtneural', 'a.json', tcn, 'TCN'),
           ('rtneural', 'a.json', lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.GroupNorm(1, 1)), 'GroupNorm'),
           ('guitarml', 'a.json', tcn, 'TCN'), ('guitarml', 'a.json', lambda: lstm(.5, hidden=4), 'gain of 0.5')]


@pytest.mark.parametrize('target,name,make,says', REFUSED, ids=[f'{r[0]}-{r[3]}' for r in REFUSED])
def test_refuses_by_name_what_the_format_cannot_say(target, name, make, says, tmp_path):
    with pytest.raises(ValueError, match=says): export(make(), tmp_path/name, to=target, sr=48000)
    with pytest.raises(ValueError, match='expected a sample rate'): export(small_nam(), tmp_path/'a.nam', to='nam')
    assert not list(tmp_path.iterdir())


def test_group_norm_over_time_is_refused(tmp_path):
    m = tcn()
    m.norm = nn.GroupNorm(1, 4)
    with pytest.raises(ValueError, match='GroupNorm'): export(m, tmp_path/'a.ts', to='nn_tilde', sr=48000)


@pytest.mark.parametrize('preset', ['standard', 'lite', 'feather', 'nano', 'a2', 'a2_lite'])
def test_nam_presets_round_trip(preset, tmp_path):
    torch.manual_seed(0)
    model = NAMWaveNet(preset)
    with torch.no_grad():
        for p in model.parameters(): p.mul_(1.5)
    report = export(model, tmp_path/'a.nam', to='nam', sr=44100, metadata=dict(name='x', gear_type='amp'),
                    validation_esr=.01)
    raw = json.loads((tmp_path/'a.nam').read_text())
    assert raw['version'] == ('0.7.0' if preset.startswith('a2') else '0.5.4') and raw['sample_rate'] == 44100
    assert raw['metadata']['training'] == {'validation_esr': .01}
    assert isinstance(raw['metadata']['loudness'], float) and raw['metadata']['date']['year'] > 2000
    again = import_nam(tmp_path/'a.nam')
    assert np.array_equal(nam_weights(again),
                          nam_weights(model)) and again.config == model.config and report.max_diff <= 2e-6
    export(again, tmp_path/'b.nam', to='nam')
    other = json.loads((tmp_path/'b.nam').read_text())
    assert all(raw[k] == other[k] for k in ('version', 'architecture', 'config', 'weights', 'sample_rate'))


def test_an_imported_capture_trains_further():
    model = import_nam(dict(version='0.5.4', architecture='LSTM',
                            config=dict(input_size=1, hidden_size=1, num_layers=1), weights=[.1]*(8+4+2+2))).train()
    x = noise(5000, seed=0, amp=.1)[None]
    loss = (model(x)-.5*x).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_later_spelling_is_read():
    old = dict(version='0.5.4', architecture='WaveNet', sample_rate=48000, weights=[.1]*18,
               config=dict(head=None, head_scale=.02, layers=[
        dict(input_size=1, condition_size=1, channels=1, head_size=1, head_bias=True, kernel_size=3, dilations=[1, 2],
             activation='Tanh', gated=False)]))
    new = json.loads(json.dumps(old))
    new['version'] = '0.7.0'
    a = new['config']['layers'][0]
    del a['head_size'], a['head_bias'], a['gated']
    a.update(head=dict(out_channels=1, kernel_size=1, bias=True), activation=[dict(type='Tanh')]*2, bottleneck=1,
             groups_input=1, gating_mode=['none']*2,
             layer1x1=dict(active=True, groups=1), head1x1=dict(active=False, out_channels=1, groups=1),
             conv_pre_film=dict(active=False))
    x = noise(50, seed=0)[0].numpy()
    assert parse_nam(old)['config'] == parse_nam(new)['config']
    assert np.array_equal(play_nam(old, x), play_nam(new, x))


@pytest.mark.skipif(not os.environ.get('FASTPROAUDIO_NAM_RENDER'),
                    reason='FASTPROAUDIO_NAM_RENDER does not name the C++ player')
@pytest.mark.parametrize('make', [lambda: NAMWaveNet('nano'), lambda: NAMWaveNet('a2_lite'), lambda: NAMLSTM(8, 2)],
                         ids=['nano', 'a2_lite', 'lstm'])
def test_the_cpp_player_agrees(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    export(model, tmp_path/'a.nam', to='nam', sr=48000)
    x = noise(20_000, seed=0, amp=.1)
    with torch.no_grad(): y = model(x[None])[0, 0]
    assert (render_nam(tmp_path/'a.nam', x[0])-y).abs().max() < 1e-4


def first(**kwargs):
    return {**dict(n_in=1, channels=4, dilations=[1, 8], ks=[3]*2, acts=['Tanh']*2, gated=False, head=3, head_ks=1,
                   head_bias=False), **kwargs}


def second(**kwargs): return {**first(n_in=4, channels=3, head=1, head_bias=True), **kwargs}


def film(name): return {name: dict(shift=True, groups=1)}


# arrays, and the channels of an array that is not as wide as the head before it; None: the plugin's core plays it
SHAPES = {'plain': ([first(), second()], None), 'three': ([first(), second(head=3), second(n_in=3)], None),
          'a head wider than its layers': ([first(channels=2), second(n_in=2)], None),
          'bottleneck in the first': ([first(bottleneck=2), second()], None),
          'head1x1 in the first': ([first(head1x1=5), second()], None),
          'head1x1 in the second': ([first(), second(head1x1=3)], None),
          'head1x1 after a bottleneck in the second': ([first(), second(bottleneck=2, head1x1=3)], None),
          'without layer1x1': ([first(one=False), second()], None),
          'longer heads': ([first(head_ks=4), second(head_ks=3)], None),
          'blended, with every condition': ([first(gates=['blended']*2, head1x1=5,
                                                   films={k: v for n in FILMS for k, v in film(n).items()}),
                                             second()], None),
          'a bottleneck as wide as the head': ([first(), second(channels=5, bottleneck=3)], 5),
          'a head1x1 as wide as the head': ([first(), second(channels=5, head1x1=3)], 5),
          'a head1x1 in the third': ([first(), second(head=2), second(n_in=3, channels=3, head1x1=2)], 3)}


@pytest.mark.parametrize('where', ['the network', 'its condition'])
@pytest.mark.parametrize('name', SHAPES)
def test_nam_shapes_that_the_player_loads_and_no_others(name, where, tmp_path):
    arrays, wide = SHAPES[name]
    torch.manual_seed(0)
    model = (NAMFullWaveNet(arrays) if where == 'the network' else NAMFullWaveNet([first(head=1)],
                                                                                  cond=dict(arrays=arrays))).eval()
    x = noise(300, seed=0, amp=.3)
    with torch.no_grad(): assert model(x[None]).isfinite().all()                    # here all of them run
    if wide:
        with pytest.raises(ValueError, match='expected array . to have as many channels as the head of array .*, '
                                             f'got {wide}; build'):
            export(model, tmp_path/'a.nam', to='nam', sr=48000)
        assert not list(tmp_path.iterdir())
    else:
        assert export(model, tmp_path/'a.nam', to='nam', sr=48000).max_diff <= 2e-6
        layers = json.loads((tmp_path/'a.nam').read_text())['config']['layers']
        assert all(b['channels'] == a['head']['out_channels'] for a, b in zip(layers, layers[1:]))
        if os.environ.get('FASTPROAUDIO_NAM_RENDER'):
            with torch.no_grad(): assert (render_nam(tmp_path/'a.nam', x[0])-model(x[None])[0, 0]).abs().max() < 1e-3


@pytest.mark.parametrize('gates,changes', [(None, False), (['gated']*2, False), (['blended']*2, True)],
                         ids=['none', 'gated', 'blended'])
def test_layer1x1_post_film_counts_where_the_player_has_it(gates, changes):
    torch.manual_seed(0)
    a = first(gates=gates, films=film('layer1x1_post_film'))
    model = NAMFullWaveNet([a, second()]).eval()
    x = noise(300, seed=0, amp=.3)[None]
    with torch.no_grad():
        y = model(x)
        for layer in model.arrays[0].layers: layer.one_post.conv.bias.add_(1.)
        assert ((model(x)-y).abs().max() > 1e-4) == changes
    assert all(p.requires_grad == changes for layer in model.arrays[0].layers for p in layer.one_post.parameters())
    last = NAMFullWaveNet([{**a, 'head': 1}]).arrays[0].layers[-1]                   # nobody hears what it hands on
    assert not any(p.requires_grad for m in (last.one, last.one_post) for p in m.parameters())


def test_a_condition_of_a_condition_is_refused(tmp_path):
    one = dict(arrays=[first(head=2)])
    model = NAMFullWaveNet([first(head=1, n_cond=2)], cond=dict(arrays=[first(head=2, n_cond=2)], cond=one))
    with pytest.raises(ValueError, match='condition of its own'): export(model, tmp_path/'a.nam', to='nam', sr=48000)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAVE_ONNX, reason='no onnx')
def test_onnx_without_state_starts_from_silence_and_quantising_costs_little(tmp_path):
    import onnxruntime as ort
    torch.manual_seed(0)
    model = WaveNet(channels=8, n_layers=3, head=4).eval()
    export(model, tmp_path/'a.onnx', to='onnx', sr=48000)
    x = noise(333, seed=0, amp=.1)[None]
    y, = ort.InferenceSession(str(tmp_path/'a.onnx')).run(['y'], {'x': x.numpy()})
    with torch.no_grad(): assert np.abs(y-model(x).numpy()).max() < 1e-6
    report = export(model, tmp_path/'q.onnx', to='onnx', sr=48000, quantise=True)
    assert 0 < float(report.notes[-1].split()[-1]) < .01 and report.max_diff > 1e-7


@pytest.mark.skipif(not os.environ.get('FASTPROAUDIO_NAM_RENDER'),
                    reason='FASTPROAUDIO_NAM_RENDER does not name the C++ player')
@pytest.mark.parametrize('make', [rich_nam, lambda: NAMConvNet(3, [1, 2, 4], batchnorm=True, act='ReLU'),
                                  lambda: set_nam_weights(NAMLinear(4), [1., .5, .2, -.3])],
                         ids=['every option', 'convnet', 'linear'])
def test_the_cpp_player_agrees_with_every_architecture(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    export(model, tmp_path/'a.nam', to='nam', sr=48000)
    x = noise(2000, seed=0, amp=.1)
    with torch.no_grad(): y = model(x[None])[0, 0]
    assert (render_nam(tmp_path/'a.nam', x[0])-y).abs().max() < 1e-4


@pytest.mark.parametrize('make', [small_nam, gated_nam, rich_nam, lambda: NAMConvNet(3, [1, 4], batchnorm=True),
                                  lambda: NAMLinear(7, bias=True), lambda: NAMLSTM(4, 2, run_in=200)],
                         ids=['a1', 'gated', 'every option', 'convnet', 'linear', 'lstm'])
def test_every_architecture_comes_back_number_for_number(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for p in model.parameters(): p.add_(.1*torch.randn_like(p))
    export(model, tmp_path/'a.nam', to='nam', sr=48000, metadata=dict(name='Old Amp', gear_type='amp'))
    again = import_nam(tmp_path/'a.nam')
    export(again, tmp_path/'b.nam', to='nam')
    one, two = (json.loads((tmp_path/n).read_text()) for n in ('a.nam', 'b.nam'))
    assert all(one[k] == two[k] for k in ('architecture', 'config', 'weights',
                                          'sample_rate')) and two['metadata']['name'] == 'Old Amp'
    x = noise(300, seed=1, amp=.3)
    with torch.no_grad(): a, b = again(x[None])[0, 0], model(x[None])[0, 0]
    assert (a-b).abs().max() <= 1e-6
    assert np.abs(play_nam(tmp_path/'a.nam', x[0].numpy())-b.numpy()).max() <= 3e-6
    again.train()(x[None]).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in again.parameters() if p.requires_grad)


@pytest.mark.parametrize('act', ['Tanh', 'Fasttanh', 'Hardtanh', 'ReLU', 'Sigmoid', 'SiLU', 'Hardswish', 'Softsign',
                                 dict(type='LeakyReLU', negative_slope=.2), dict(type='PReLU', negative_slope=.3),
                                 dict(type='PReLU', negative_slopes=[.1, .2]),
                                 dict(type='LeakyHardTanh', min_val=-.5, max_val=.5, min_slope=.1,
                                      max_slope=.2)], ids=str)
def test_every_activation_is_read(act):
    layer = dict(input_size=1, condition_size=1, channels=2, head=dict(out_channels=1, kernel_size=1, bias=True),
                 kernel_size=[2], dilations=[1], activation=act)
    content = dict(version='0.6.0', architecture='WaveNet', weights=np.linspace(-1, 1, 2+8+2+2+4+2+3+1).tolist(),
                   config=dict(layers=[layer], head=None, head_scale=1.))
    x = noise(50, seed=0, amp=.5)
    with torch.no_grad(): y = import_nam(content)(x[None])[0, 0]
    assert np.abs(play_nam(content, x[0].numpy())-y.numpy()).max() < 2e-6 and y.abs().max() > .1


def test_hub_is_called_as_it_is():
    hub = pytest.importorskip('huggingface_hub')
    assert {'repo_id', 'private', 'exist_ok', 'repo_type'} <= set(inspect.signature(hub.HfApi.create_repo).parameters)
    assert {'repo_id', 'folder_path', 'commit_message',
            'repo_type'} <= set(inspect.signature(hub.HfApi.upload_folder).parameters)
