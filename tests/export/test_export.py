"""The Audacity export: equal to eager at every length, loadable by libtorch 1.9, whole or not there at all."""
import copy, json, os, re, subprocess, sys, warnings, zipfile
from typing import Tuple

import jsonschema
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastproaudio.dsp import noise
from fastproaudio.export import audacity as A, block, export, load_effect
from fastproaudio.export.target import frozen_copy
from fastproaudio.models import TCN, UNet1d

SR = 44100
SCHEMA = dict(type='object', required=['sample_rate', 'domain_tags', 'short_description', 'long_description',
                                       'labels', 'effect_type',
                                       'multichannel'],
    properties=dict(sample_rate=dict(type='integer', minimum=0, maximum=384000), multichannel=dict(type='boolean'),
        domain_tags=dict(type='array', maxItems=4,
                         items=dict(type='string', enum=['music', 'environmental', 'speech', 'other'])),
        short_description=dict(type='string', maxLength=60), long_description=dict(type='string', maxLength=280),
        tags=dict(type='array', maxItems=5, uniqueItems=True, items=dict(type='string')),
        labels=dict(type='array', items=dict(type='string')),
        effect_type=dict(type='string', enum=['waveform-to-waveform', 'waveform-to-labels'])))
META = dict(sample_rate=48000, domain_tags=['music', 'speech', 'environmental'],
            short_description='Use me to boost volume by 3dB :).',
            long_description='A long text.', tags=['volume boost'], labels=['boosted'],
            effect_type='waveform-to-waveform', multichannel=False)


class LSTMEffect(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm,self.out = nn.LSTM(1, 4, batch_first=True),nn.Linear(4, 1)
    def forward(self, x):
        if x.shape[1]!=1: raise ValueError(f"expected 1 channel, got {x.shape[1]}")
        return self.out(self.lstm(x.transpose(1, 2))[0]).transpose(1, 2)+x


class Loop(nn.Module):
    "Control flow that depends on the length: a trace would bake it in."
    def forward(self, x):
        out,y = [],torch.zeros(x.shape[0], x.shape[1])
        for t in range(0, x.shape[2], 1000):
            y = .5*y + x[:, :, t:t+1000].mean(-1)
            out.append(x[:, :, t:t+1000]*y[:, :, None])
        return torch.cat(out, -1)


class Separator(nn.Module):
    def forward(self, x): return torch.cat([x, -x, .5*x], 1)


def norm_stack():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 9)), nn.BatchNorm1d(4),
                         nn.Dropout(.5), nn.PReLU(4),
                         nn.utils.parametrizations.spectral_norm(nn.Conv1d(4, 1, 5)))


def halves(): return nn.Sequential(nn.Conv1d(1, 4, 4, stride=4), nn.Tanh(), nn.ConvTranspose1d(4, 1, 4, stride=4))


MODELS = dict(
    tcn=(lambda: TCN(n_blocks=2, ks=5, channel_width=8), {}),
    knobs=(lambda: TCN(n_knobs=2, n_blocks=2, ks=5, channel_width=8), dict(knobs={'drive':.2, 'tone':.9})),
    ahead=(lambda: TCN(causal=False, n_blocks=2, ks=5, channel_width=8), {}),
    stereo=(lambda: TCN(n_in=2, n_out=2, n_blocks=2, ks=5, channel_width=8), {}),
    unet=(lambda: UNet1d(), {}),
    lstm=(LSTMEffect, dict(multichannel=True)),
    stack=(norm_stack, dict(multichannel=True)),
    halves=(halves, dict(multichannel=True)),
    separator=(Separator, {}),
    loop=(Loop, dict(multichannel=True)))


def settings(name):
    torch.manual_seed(0)
    make,kw = MODELS[name]
    return make(),dict(sr=SR, n_random=1)|kw


def eager(name, model, x):
    "What the model says, without anything of the export."
    model = copy.deepcopy(model).eval()
    if name=='stack': x = torch.cat([x.new_zeros(len(x), 12), x], -1)
    n = x.shape[-1]
    if name=='halves': x = F.pad(x, (0, -n%4))
    with torch.no_grad():
        if name=='stereo': return model(x.expand(2, -1)[None])[0]
        if name=='knobs': return model(x[:, None], torch.tensor([[.2, .9]]).expand(len(x), 2))[:, 0]
        y = model(x[:, None])
        return y.reshape(-1, y.shape[-1])[:, :n]


@pytest.fixture(scope='module', params=MODELS)
def exported(request, tmp_path_factory):
    model,kw = settings(request.param)
    path = tmp_path_factory.mktemp('exports')/request.param
    return request.param,model,path,export(model, path, **kw)


def test_equals_eager(exported):
    name,model,path,report = exported
    effect = load_effect(path)
    for n in (1, 2, 5, 2048, 3*8192+1):
        for c in (1, 2) if effect.multichannel else (1,):
            x = noise(n, seed=n, n_ch=c)
            torch.testing.assert_close(effect(x), eager(name, model, x), rtol=0, atol=1e-5)
    assert report.max_diff<=1e-5 and min(report.lengths)==1 and max(report.lengths)>2048
    assert ('scripted' in report.notes[0])==(name=='loop')


def test_files(exported):
    name,model,path,report = exported
    assert sorted(p.name for p in path.iterdir())==['README.md', 'metadata.json', 'model.pt']
    meta = json.loads((path/'metadata.json').read_text())
    jsonschema.validate(meta, SCHEMA)
    assert A.validate_metadata(meta)==(True, 'ok') and type(meta['sample_rate']) is int and meta['sample_rate']==SR
    tracks = load_effect(path)(torch.zeros(1+meta['multichannel'], 10)).shape[0]
    assert len(meta['labels'])==tracks==dict(separator=3).get(name, 1+meta['multichannel'])
    assert (path/'README.md').read_text().startswith('---\ntags:\n- audacity\n---\n')
    extra = {'metadata.json':''}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.load(path/'model.pt', _extra_files=extra)
    assert json.loads(extra['metadata.json'])==meta
    if name=='knobs':
        assert meta['knobs']=={'drive':.2, 'tone':.9} and 'drive = 0.2, tone = 0.9' in (path/'README.md').read_text()
    assert report.size==(path/'model.pt').stat().st_size and report.times_real_time>0
    assert report.receptive_field==(getattr(model, 'receptive_field', None) or dict(stack=13).get(name))
    assert report.latency==getattr(model, 'latency', 0)
    assert str(path) in str(report) and 'times real time' in str(report)


def test_archive_obeys_libtorch_19(exported):
    assert A.check_archive(exported[2]/'model.pt')==[]
    with zipfile.ZipFile(exported[2]/'model.pt') as z:
        assert not [n for n in z.namelist() if n.endswith('.debug_pkl')]
        assert int(next(z.read(n) for n in z.namelist() if n.endswith('/version')))<=6


@pytest.mark.skipif('FASTPROAUDIO_AUDACITY_HOST' not in os.environ,
                    reason="set FASTPROAUDIO_AUDACITY_HOST to a program `host model.pt in.f32 out.f32 channels n` "
                           "on libtorch 1.9")
def test_plays_in_a_real_host(exported, tmp_path):
    name,model,path,_ = exported
    for n in (1, 2, 8191):
        x = noise(n, seed=n, n_ch=1+load_effect(path).multichannel)
        x.numpy().tofile(tmp_path/'in.f32')
        subprocess.run([os.environ['FASTPROAUDIO_AUDACITY_HOST'], path/'model.pt', tmp_path/'in.f32',
                        tmp_path/'out.f32',
                        str(x.shape[0]), str(n)], check=True, capture_output=True)
        got = torch.from_numpy(np.fromfile(tmp_path/'out.f32', dtype='<f4')).reshape(-1, n)
        torch.testing.assert_close(got, eager(name, model, x), rtol=0, atol=1e-5)


# --- the model survives

@pytest.mark.parametrize('name', ['stack', 'knobs', 'lstm'])
def test_model_is_left_alone(name, tmp_path):
    model,kw = settings(name)
    model.train()
    model[0].eval() if name=='stack' else None
    x = noise(3000, seed=0)[None]
    args = (x, torch.tensor([[.2, .9]])) if name=='knobs' else (x,)
    modes = [m.training for m in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    state = {k:v.clone() for k,v in model.state_dict().items()}
    types = [type(m) for m in model.modules()]
    export(model, tmp_path/'out', **kw)
    assert modes==[m.training for m in model.modules()] and grads==[p.requires_grad for p in model.parameters()]
    assert list(state)==list(model.state_dict()) and all(torch.equal(v, model.state_dict()[k]) for k,
                                                         v in state.items())
    assert types==[type(m) for m in model.modules()]
    model(*args).square().mean().backward()                                     # and still trains
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_old_style_weight_norm_after_a_step(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = nn.utils.weight_norm(nn.Conv1d(1, 1, 3))
    # leaves a computed weight, which deepcopy refuses
    model(torch.randn(1, 1, 9)).sum().backward()
    export(model, tmp_path/'out', sr=SR, n_random=0)
    x = noise(50, seed=0)
    torch.testing.assert_close(load_effect(tmp_path/'out')(x), model(F.pad(x, (2, 0))[None])[0], rtol=0, atol=1e-6)


def test_learner_is_duck_typed(tmp_path):
    class Dls: sr,knob_names = 22050,['gain', 'mix']
    class Learn: model,dls = TCN(n_knobs=2, n_blocks=1, ks=3, channel_width=4),Dls()
    report = export(Learn(), tmp_path/'amp', n_random=0)
    assert load_effect(tmp_path/'amp').metadata['knobs']=={'gain':.5, 'mix':.5}
    assert load_effect(tmp_path/'amp').sr==22050 and 'gain = 0.5' in str(report)
    export(Learn(), tmp_path/'amp', n_random=0, metadata=dict(sample_rate=48000., short_description='Mine'))
    assert load_effect(tmp_path/'amp').metadata['short_description']=='Mine' and load_effect(tmp_path/'amp').sr==48000


# --- whole or not at all

BROKEN = dict(
    nan=(lambda: nn.Conv1d(1, 1, 3), {}, 'NaN or Inf in weight'),
    gelu=(lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.GELU()), {}, 'file format 10'),
    pad=(lambda: nn.ConstantPad1d((2, -2), 0.), {}, 'aten::pad: unknown; pad with torch.cat'),
    wide=(lambda: nn.Conv1d(3, 3, 1), {}, '1 or 2 channels, got 3'),
    stereo=(lambda: nn.Conv1d(2, 2, 1), dict(multichannel=False), 'multichannel=True'),
    tracks=(Separator, dict(multichannel=True), 'multichannel=False'),
    rate=(nn.Identity, dict(sr=None), 'expected a sample rate'),
    rates=(nn.Identity, dict(metadata=dict(sample_rate=48000)), 'one sample rate'),
    fraction=(nn.Identity, dict(sr=44100.5), 'write int'),
    knobs=(lambda: TCN(n_knobs=2), dict(knobs=[.5]), '2 knobs for TCN, got 1'),
    scale=(lambda: TCN(n_knobs=1), dict(knobs=[50]), 'knobs in 0..1'),
    none=(nn.Identity, dict(knobs=[.5]), '0 knobs'),
    label=(nn.Identity, dict(metadata=dict(labels=['a', 'b'])), 'labels: expected 1'),
    text=(nn.Identity, dict(metadata=dict(short_description='x'*61)), 'at most 60 characters, got 61'),
    dice=(lambda: Dice(), {}, 'differs from eager'),
    longer=(lambda: nn.Conv1d(1, 1, 1, padding=1), {}, 'keeps its length'),
    target=(nn.Identity, dict(to='nm'), "target among 'audacity'.*got 'nm'"),
    how=(nn.Identity, dict(how='onnx'), "'trace', 'script'"))


class Dice(nn.Module):
    def forward(self, x): return x+torch.randn_like(x)


@pytest.mark.parametrize('case', BROKEN)
def test_failed_export_leaves_what_was_there(case, tmp_path):
    make,kw,message = BROKEN[case]
    model,kw = make(),dict(sr=SR, n_random=0)|kw
    if case=='nan': model.weight.data[0, 0, 1] = float('nan')
    with pytest.raises(ValueError, match=message): export(model, tmp_path/'amp', **kw)
    assert list(tmp_path.iterdir())==[]
    A.save_model(scripted(A.Effect(nn.Identity())), META, tmp_path/'amp')
    before = {p.name:p.read_bytes() for p in (tmp_path/'amp').iterdir()}
    with pytest.raises(ValueError, match=message): export(model, tmp_path/'amp', **kw)
    assert {p.name:p.read_bytes() for p in (tmp_path/'amp').iterdir()}==before
    assert [p.name for p in tmp_path.iterdir()]==['amp']


def test_re_export_replaces_and_keeps_other_files(tmp_path):
    (tmp_path/'amp'/'.git').mkdir(parents=True)
    (tmp_path/'amp'/'.git'/'config').write_text('mine')
    for g in (1., 2.):
        model = nn.Conv1d(1, 1, 1, bias=False)
        model.weight.data.fill_(g)
        export(model, tmp_path/'amp', sr=SR, n_random=0)
        assert load_effect(tmp_path/'amp')(torch.ones(1, 3)).tolist()==[[g]*3]
    assert (tmp_path/'amp'/'.git'/'config').read_text()=='mine'


def test_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(A, '_speed', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): export(nn.Identity(), tmp_path/'amp', sr=SR, n_random=0)
    assert list(tmp_path.iterdir())==[]


def test_wrong_paths(tmp_path):
    (tmp_path/'file').write_text('x')
    with pytest.raises(ValueError, match='file: expected a folder'):
        export(nn.Identity(), tmp_path/'file', sr=SR, n_random=0)
    with pytest.raises(ValueError, match='found nothing there'): load_effect(tmp_path/'none')
    with pytest.raises(ValueError, match='none of their files'): load_effect(tmp_path)
    with pytest.raises(ValueError, match='got dict'): export({}, tmp_path/'amp')


# --- quiet, bare, playable

def test_no_warnings_and_none_silenced_outside(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        export(LSTMEffect(), tmp_path/'amp', sr=SR, n_random=0)
        load_effect(tmp_path/'amp')
        with pytest.raises(DeprecationWarning): torch.jit.script(nn.Identity())


def test_plays_in_a_bare_process(tmp_path):
    model,kw = settings('tcn')
    export(model, tmp_path/'amp', **kw)
    x = noise(500, seed=0)
    code = ("import sys, torch; from fastproaudio.export.target import load_effect; e = load_effect(sys.argv[1]); "
            "x = torch.load(sys.argv[2]);"
            "torch.save(e(x), sys.argv[2]); "
            "bad = {'fastai', 'matplotlib', 'IPython', 'soundfile'} & set(sys.modules); assert not bad, bad")
    torch.save(x, tmp_path/'x.pt')
    subprocess.run([sys.executable, '-c', code, tmp_path/'amp', tmp_path/'x.pt'], check=True)
    torch.testing.assert_close(torch.load(tmp_path/'x.pt'), eager('tcn', model, x), rtol=0, atol=1e-5)


def test_loaded_effect_checks_its_input(tmp_path):
    export(nn.Identity(), tmp_path/'amp', sr=SR, n_random=0)
    effect = load_effect(tmp_path/'amp')
    for shape,message in (((2, 5), 'expected 1 channel, got 2'), ((5,), r'\(channels, samples\)'),
                          ((1, 0), r'\(channels, samples\)')):
        with pytest.raises(ValueError, match=message): effect(torch.zeros(shape))


# --- metadata

def test_metadata_of_the_readme_is_good(): assert A.validate_metadata(META)==(True, 'ok')


@pytest.mark.parametrize('field,value', [
    ('sample_rate', 396000), ('sample_rate', 44100.5), ('sample_rate', True), ('sample_rate', '48000'),
                                         ('sample_rate', -1),
    ('labels', None), ('labels', 'boosted'), ('domain_tags', ['Music']), ('domain_tags', ['music']*5),
                                         ('domain_tags', 'music'),
    ('short_description', 'x'*61), ('long_description', 'x'*281), ('tags', list('abcdef')), ('tags', ['a', 'a']),
                                         ('multichannel', 0),
    ('effect_type', 'waveform'), ('effect_type', None), ('name', 3)])
def test_metadata_refused_as_by_the_schema(field, value):
    meta = {**META, field:value}
    if field!='name': pytest.raises(jsonschema.ValidationError, jsonschema.validate, meta, SCHEMA)
    ok,message = A.validate_metadata(meta)
    assert not ok and message.startswith(field) and 'expected' in message and '\n' not in message


@pytest.mark.parametrize('field,value', [('sample_rate', 0), ('sample_rate', 44100.), ('labels', []),
                                         ('tags', ['x'*16])])
def test_metadata_refused_as_by_the_host(field, value):
    meta = {**META, field:value}
    jsonschema.validate(meta, SCHEMA)                                           # the schema lets it through
    assert A.validate_metadata(meta)[0] is False


@pytest.mark.parametrize('field', [*SCHEMA['required'], 'tags'])
def test_metadata_missing(field):
    ok,message = A.validate_metadata({k:v for k,v in META.items() if k!=field})
    assert not ok and message.startswith(f'{field}: missing')
    assert A.validate_metadata(['no', 'dict'])[0] is False


def test_metadata_labels_per_track():
    assert A.validate_metadata(META, n_tracks=1)[0] and not A.validate_metadata(META, n_tracks=2)[0]
    assert A.validate_metadata({**META, 'effect_type':'waveform-to-labels'}, n_tracks=2)[0]


# --- the archive

def scripted(m):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.script(m)


def traced(m, x):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.trace(m, x)


def save(graph, path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.save(graph, path)


class Of(nn.Module):
    def __init__(self, f): super().__init__(); self.f = f
    def forward(self, x): return self.f(x)


@pytest.mark.parametrize('f,message', [
    (lambda x: F.pad(x, (1, 0)), 'aten::pad'), (F.gelu, 'file format'),
                                       (lambda x: F.scaled_dot_product_attention(x, x, x), 'scaled_dot_product'),
    (lambda x: torch.stft(x[0], 8, return_complex=True).abs(), 'aten::(pad|stft)'),
                                       (lambda x: F.rms_norm(x, (8,)), 'rms_norm'),
    (lambda x: torch.einsum('bct,bdt->bcd', x, x), None), (lambda x: torch.special.bessel_j0(x), 'bessel'),
                                       (lambda x: x.tanh().relu_(), None),
    (lambda x: torch.cat([x.new_zeros(1, 8, 2), x], -1)[..., 2:], None),
                                       (lambda x: F.conv1d(x, torch.ones(1, 8, 3), dilation=2), None)])
def test_archive_rules(f, message, tmp_path):
    save(traced(Of(f), torch.randn(1, 8, 8)), tmp_path/'model.pt')
    faults = A.check_archive(tmp_path/'model.pt')
    if message is None: assert faults==[]
    else: assert re.search(message, ' '.join(faults)), faults
    # there was something to read
    with zipfile.ZipFile(tmp_path/'model.pt') as z: assert any(n.endswith('.py') for n in z.namelist())


def test_exceptions_of_a_script_are_rewritten(tmp_path):
    save(scripted(LSTMEffect()), tmp_path/'raw.pt')
    assert any('RaiseException' in f for f in A.check_archive(tmp_path/'raw.pt'))
    export(LSTMEffect(), tmp_path/'amp', sr=SR, how='script', n_random=0)
    assert A.check_archive(tmp_path/'amp'/'model.pt')==[]


# --- the names people know

def test_audacitorch_walkthrough(tmp_path):
    class MyVolumeModel(nn.Module):
        def forward(self, x:torch.Tensor) -> torch.Tensor: return x*2
    class MyVolumeModelWrapper(A.WaveformToWaveform):
        def do_forward_pass(self, x:torch.Tensor) -> torch.Tensor: return self.model(x)
    model = MyVolumeModel()
    wrapper = MyVolumeModelWrapper(model)
    assert not model.training
    root = A.save_model(scripted(wrapper), META, tmp_path/'deep'/'booster-net')
    assert {p.name for p in root.iterdir()}=={'model.pt', 'metadata.json', 'README.md'}
    x = noise(7, seed=0)
    assert torch.equal(load_effect(root)(x), 2*x)
    export(wrapper, tmp_path/'again', sr=SR, n_random=0)
    assert torch.equal(load_effect(tmp_path/'again')(x), 2*x)
    with pytest.raises(ValueError, match='sample_rate: expected'):
        A.save_model(scripted(wrapper), {**META, 'sample_rate':48000.}, root)
    with pytest.raises(ValueError, match='aten::pad'):
        A.save_model(traced(Of(lambda x: F.pad(x, (1, -1))), x), META, tmp_path/'bad')
    assert not (tmp_path/'bad').exists()


def test_test_run_and_examples():
    for multichannel in (False, True):
        inputs = A.get_example_inputs(multichannel)
        assert len(inputs)==10 and all(2048<=x.shape[1]<=396000 for x in inputs)
        assert {x.shape[0] for x in inputs}=={1, 1+multichannel}
        assert all(torch.equal(a, b) for a,b in zip(inputs, A.get_example_inputs(multichannel)))
    assert len(A.test_run(A.Effect(nn.Identity()), multichannel=True))==10
    class Half(A.WaveformToWaveform):
        def do_forward_pass(self, x): return x[:, ::2]
    with pytest.raises(ValueError, match='as many samples out as in'): A.test_run(Half())


@pytest.mark.parametrize('labels,times,message', [
    (torch.zeros(2, 3), torch.zeros(2, 2), 'int64'), (torch.zeros(1).long(), torch.tensor([[1., 1.]]), 'start < end'),
    (torch.zeros(1).long(), torch.tensor([[-1., 1.]]), 'start < end'),
                                                  (torch.zeros(2).long(), torch.tensor([[0., 1.]]), r'\(2, 2\)'),
    (torch.zeros(0).long(), torch.zeros(0), r'\(0, 2\)'), (torch.zeros(1), torch.tensor([[0., 1.]]), 'int64')])
def test_labels_contract(labels, times, message):
    class Listener(A.WaveformToLabels):
        def do_forward_pass(self, x): return labels,times
    with pytest.raises(ValueError, match=message): Listener()(torch.zeros(1, 10))


class Onsets(A.WaveformToLabels):
    "Marks every hundredth of a second whose first sample is loud: how many there are depends on the sound."
    def do_forward_pass(self, x:torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        at = torch.nonzero(x[0, ::441].abs()>.3)[:, 0]
        start = at.float()*.01
        return torch.zeros_like(at), torch.stack([start, start+.01], 1)


def test_labels_export(tmp_path):
    export(Onsets(), tmp_path/'onsets', sr=SR, n_random=1, metadata=dict(labels=['onset']))
    effect,x = load_effect(tmp_path/'onsets'),noise(44100, seed=0, amp=.3)
    labels,times = effect(x)
    assert effect.metadata['effect_type']=='waveform-to-labels' and labels.dtype==torch.int64 and 10<len(labels)<90
    torch.testing.assert_close(times, Onsets()(x)[1])
    assert effect(torch.zeros(1, 5))[1].shape==(0, 2)
    with pytest.raises(ValueError, match='labels: expected'): export(Onsets(), tmp_path/'none', sr=SR, n_random=0)


def test_a_model_that_cannot_be_fitted_says_why():
    class Picky(nn.Module):
        def forward(self, x):
            if x.shape[-1]!=2**16: raise RuntimeError('only my length')
            return x
    with pytest.raises(ValueError, match='for 1 samples it raised: only my length'): A.fit_model(Picky())


def test_both_pairs_of_names():
    assert block.WaveformToWaveformBase is block.WaveformToWaveform
    assert block.WaveformToLabelsBase is block.WaveformToLabels


def test_frozen_copy_shares_nothing():
    model = norm_stack()
    twin = frozen_copy(model)
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not twin.training and not any(p.requires_grad for p in twin.parameters())
    assert not any(nn.utils.parametrize.is_parametrized(m) for m in twin.modules())
    assert sum(nn.utils.parametrize.is_parametrized(m) for m in model.modules())==2
