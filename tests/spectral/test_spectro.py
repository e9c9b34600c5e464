"Every spectrogram layer keeps the same contract: shapes, definitions, gradients, state, scripting, bad input."
import math,time,warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from fastproaudio import Spectrogram
from fastproaudio.spectral import *
from fastproaudio.dsp import noise, pluck, sine, sweep
from fastproaudio.spectral import (AmplitudeToDB, CQT, get_window, InvertibleCQT, iSTFT, MelSpectrogram, MFCC,
                                   STFT, VQT)
from fastproaudio.spectral.cqt import cqt_freqs, cqt_kernel, cqt_lengths
from fastproaudio.spectral.fft import scale_freqs

sr,n = 16000,9000

LAYERS = { # every layer from waveforms to real spectrograms, small
    'stft': partial(STFT, 512, 130, output='magnitude'),
    'stft-uncentred': partial(STFT, 400, 150, 300, center=False, output='power'),
    'stft-phase': partial(STFT, 64, 64, output='phase'),
    'stft-log': partial(STFT, 512, freq_scale='log', freq_bins=70, sr=sr, output='magnitude'),
    'mel': partial(MelSpectrogram, sr, 512, 128, 40),
    'mel-root': partial(MelSpectrogram, sr, 512, 128, 40, power=.5, htk=True, norm=None),
    'mfcc': partial(MFCC, sr, 13, n_fft=512, hop_length=128, n_mels=40),
    'gammatone': partial(Gammatonegram, sr, 512, 128, 20),
    'cqt': partial(CQT, sr, 256, 110., 60),
    'cqt-odd-hop': partial(CQT, sr, 441, 110., 60, output='power'),
    'vqt': partial(VQT, sr, 256, 55., 70, gamma=20., pad_mode='constant'),
    'cfp': partial(CFP, sr),
}
TRAINABLE = {
    'stft': partial(STFT, 256, 64, output='magnitude'),
    'stft-log': partial(STFT, 256, 64, output='magnitude', freq_scale='log', freq_bins=40),
    'mel': partial(MelSpectrogram, sr, 512, 128, 40),
    'mfcc': partial(MFCC, sr, 13, n_fft=512, hop_length=128, n_mels=40),
    'gammatone': partial(Gammatonegram, sr, 512, 128, 20), 'cqt': partial(CQT, sr, 256, 220., 40),
    'vqt': partial(VQT, sr, 256, 220., 40, gamma=20.),
}

def sound(n=n, seed=0):
    "Two items of two channels: noise, a sweep, a note, a fade."
    x = torch.stack([noise(n, seed=seed)[0], sweep(50, 7000, sr, n, .3), pluck(220, sr, n, 1.),
        sine(1000, sr, n)*torch.linspace(0, 1, n)])
    return x.view(2, 2, n)

def close(a, b, tol=1e-5): return (a-b).abs().max().item()<=tol*max(b.abs().max().item(), 1e-9)

def tol_of(layer): return 1e-2 if getattr(layer, 'output', '')=='phase' else 2e-5

@pytest.fixture(params=LAYERS, scope='module')
def layer(request): return LAYERS[request.param]()

# ---- the contract

def test_shapes_and_batch_consistency(layer):
    x = sound()
    y = layer(x)
    assert y.shape[:2]==(2, 2) and y.ndim==4
    assert layer(x[0]).shape==y.shape[1:] and layer(x[0, 0]).shape==y.shape[2:]
    assert close(layer(x[1, 1]), y[1, 1], tol_of(layer))

def test_silence_has_finite_gradients(layer):
    x = torch.zeros(1, 1, n, requires_grad=True)
    y = layer(x)
    assert torch.isfinite(y).all()
    y.sum().backward()
    assert torch.isfinite(x.grad).all()

def test_gradient_agrees_with_finite_differences(layer):
    if isinstance(layer, CFP) or getattr(layer, 'output', '')=='phase': pytest.skip('phases jump, and thresholds bend')
    x = sound()[0, :1].double().requires_grad_()
    twin = layer.double()
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    w = torch.randn(twin(x).shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    (twin(x)*w).sum().backward()
    h = 1e-7
    by_steps = (((twin(x+h*d)-twin(x-h*d))*w).sum()/(2*h)).item()
    layer.float()
    assert math.isclose((x.grad*d).sum().item(), by_steps, rel_tol=1e-3)

def test_scripted_equals_eager(layer):
    x = sound()
    scripted = torch.jit.script(layer)
    assert close(scripted(x), layer(x), tol_of(layer))
    assert torch.isfinite(torch.autograd.grad(scripted(x.requires_grad_()).sum(), x)[0]).all()

def test_traced_equals_eager(layer):
    x = sound()[:, :1]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # a trace is for one length, and says so
        traced = torch.jit.trace(layer, x, check_trace=False)
    assert close(traced(x), layer(x), tol_of(layer))

def test_autocast_stays_float32(layer):
    x = sound()
    y = layer(x)
    with torch.autocast('cpu', dtype=torch.bfloat16): low = layer(x)
    assert low.dtype==torch.float32 and torch.equal(low, y)
    assert layer(x.bfloat16()).dtype==torch.float32

def test_state_dict_round_trip(layer, request):
    twin = LAYERS[request.node.callspec.params['layer']]()
    for t in [*twin.parameters(), *twin.buffers()]: t.data.zero_()
    twin.load_state_dict(layer.state_dict())
    for (k,a),b in zip(layer.state_dict().items(), twin.state_dict().values()): assert torch.equal(a, b), k
    x = sound()[:1]
    assert torch.equal(twin(x), layer(x))

def test_state_moves_and_is_small(layer):
    tensors = [*layer.parameters(), *layer.buffers()]
    assert sum(t.numel() for t in tensors)*4<4e6
    moved = type(layer).to(layer, torch.float64)
    assert all(t.dtype==torch.float64 for t in moved.buffers() if t.is_floating_point()) and tensors
    assert moved(sound()).dtype==torch.float64
    layer.float()
    for k,v in vars(layer).items(): assert not torch.is_tensor(v), f"{k} is no buffer: it would stay behind"

def test_wrong_device_says_so(layer):
    with pytest.raises(ValueError, match='move one with .to'): layer(torch.zeros(1, 1, n, device='meta'))

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_cuda_equals_cpu(layer):
    x = sound()
    y = layer(x)
    on = layer.cuda()
    z = x.cuda().requires_grad_()
    out = on(z)
    out.sum().backward()
    with pytest.raises(ValueError, match='move one'): on(x)
    layer.cpu()
    assert close(out.detach().cpu(), y, 3*tol_of(layer)) and torch.isfinite(z.grad).all()

@pytest.mark.parametrize('bad,say', [(torch.full((1, 1, n), math.nan), 'NaN or Inf'),
    (torch.zeros(1, 1, n).short(), '32768'),
    (torch.zeros(1, 1, 0), 'not empty'), (torch.zeros(1, 1, 1, n), 'expected'),
    (torch.full((1, 1, n), -math.inf), 'NaN or Inf'), (torch.zeros(1, 1, n, dtype=torch.bool), 'float waveform'),
    (torch.zeros(1, 1, n, dtype=torch.complex64), 'float waveform'), (torch.zeros(0, 1, n), 'not empty'),
    (torch.tensor(0.), 'not empty'), (np.zeros(n, np.float32), 'torch.as_tensor'), ([0.]*n, 'torch.as_tensor')],
    ids=['nan', 'int16', 'empty', '4 axes', 'inf', 'bool', 'complex', 'no batch', 'number', 'array', 'list'])
def test_bad_sound_says_what_to_do(layer, bad, say):
    with pytest.raises(ValueError, match=say): layer(bad)

def test_nothing_is_printed(layer, capsys):
    repr(layer), layer(sound())
    out = capsys.readouterr()
    assert out.out=='' and out.err==''

def test_built_in_milliseconds():
    for name,make in [*LAYERS.items(), ('cqt-24', partial(CQT, 22050, n_bins=168, bins_per_octave=24))]:
        best = min(_seconds(make) for _ in range(3))
        assert best<.5, f'{name} took {best:.2f} s' # 5 to 100 ms on a quiet machine

def _seconds(f):
    t = time.thread_time() # of this thread, however busy the machine is
    f()
    return time.thread_time()-t

@pytest.mark.parametrize('n', [1, 2, 63, 1000, 4097])
def test_any_length_with_silence_around(n):
    x = noise(n, seed=1)[None]
    for f in (STFT(512, 100, pad_mode='constant', output='power'),
        MelSpectrogram(sr, 512, 100, 40, pad_mode='constant'),
              CQT(sr, 100, 110., 60, pad_mode='constant'), VQT(sr, 77, 110., 60, pad_mode='constant')):
        y = f(x)
        assert y.shape[-1]==n//f_hop(f)+1 and torch.isfinite(y).all()

def f_hop(f): return getattr(f, 'hop_length', None) or f.stft.hop_length

def test_compiles_whole():
    x = sound()
    for make in (LAYERS['mel'], LAYERS['cqt'], LAYERS['stft-log'],
        partial(STFT, 512, freq_scale='log', freq_bins=70, sr=sr)):
        layer = make()
        assert close(torch.compile(layer, fullgraph=True, backend='aot_eager')(x), layer(x), 1e-5)

def test_torch_export_and_onnx(tmp_path):
    x = sound()[:1, :1]
    for name in ('stft', 'mel', 'cqt'):
        layer = LAYERS[name]()
        assert close(torch.export.export(layer, (x,)).module()(x), layer(x), 1e-6)
    pytest.importorskip('onnxscript')
    ort = pytest.importorskip('onnxruntime')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(layer:=LAYERS['mel'](), (x,), dynamo=True, verbose=False).save(tmp_path/'mel.onnx')
    run = ort.InferenceSession(tmp_path/'mel.onnx')
    assert close(torch.as_tensor(run.run(None, {run.get_inputs()[0].name: x.numpy()})[0]), layer(x), 1e-5)

# ---- the definitions, in float64

def centred(x, kernels, reach, hop):
    "Inner products of `x` with `(first sample, values)` kernels every `hop` samples, silence beyond the ends."
    m = x.shape[-1]
    x = np.pad(x.double().numpy(), (reach, 2*reach))
    def frames(a, n): return np.lib.stride_tricks.sliding_window_view(x, n)[reach+a:][:m+1:hop][:m//hop+1]

    return np.stack([frames(a, len(k))@k.conj() for a,k in kernels])

@pytest.mark.parametrize('kw', [dict(), dict(n_fft=511, hop_length=77), dict(win_length=300, window='blackmanharris'),
    dict(window=('kaiser', 9.)),
    dict(freq_scale='linear', freq_bins=99, fmin=100., fmax=8000.),
    dict(freq_scale='log', freq_bins=64, fmin=20., fmax=7999.), dict(freq_scale='log2')])
def test_stft_is_the_fourier_sum(kw):
    x = sound()[0, 0]
    tfm = STFT(**{**dict(n_fft=512, hop_length=128, pad_mode='constant', sr=sr), **kw})
    m = tfm.n_fft
    w = get_window(kw.get('window', 'hann'), tfm.win_length)
    w = np.pad(w, ((m-len(w))//2, m-len(w)-(m-len(w))//2))
    freqs = scale_freqs(tfm.freq_scale, tfm.freq_bins, kw.get('fmin', 50.), kw.get('fmax', 6000.), sr, m)
    ref = centred(x, [(-(m//2), w*np.exp(2j*np.pi*f/sr*np.arange(m))) for f in freqs], m, tfm.hop_length)
    assert np.abs(tfm(x).numpy()-ref).max()<1e-5*np.abs(ref).max()

@pytest.mark.parametrize('kw', [dict(), dict(bins_per_octave=24, n_bins=150), dict(hop_length=441),
    dict(hop_length=509), dict(hop_length=1148), dict(hop_length=100),
    dict(gamma=24.7), dict(filter_scale=.6, norm=2), dict(window='blackman', scale='wrap'),
    dict(norm=0, scale='convolutional'),
    dict(fmin=200., fmax=7000.), dict(window=('gaussian', 60.), n_bins=40, fmin=200.),
    dict(window='boxcar', n_bins=30, fmin=500.)])
def test_cqt_is_the_inner_product_at_every_bin(kw):
    x = sound()[0].sum(0)
    tfm = VQT(sr, **{**dict(pad_mode='constant', output='complex', fmin=65.4), **kw})
    freqs = cqt_freqs(sr, kw.get('fmin', 65.4), tfm.n_bins, tfm.bins_per_octave, kw.get('fmax'))
    lengths = cqt_lengths(freqs, sr, tfm.bins_per_octave, kw.get('filter_scale', 1.), kw.get('gamma', 0.))
    gain = {'librosa': np.sqrt(lengths), 'wrap': np.full(len(lengths), 2.),
        'convolutional': np.ones(len(lengths))}[kw.get('scale', 'librosa')]
    kernels = [cqt_kernel(f, int(m), sr, kw.get('window', 'hann'), kw.get('norm', 1)) for f,m in zip(freqs, lengths)]
    ref = centred(x, [(a, k*g) for (a,k),g in zip(kernels, gain)], tfm.reach, tfm.hop_length)
    err = np.abs(tfm(x).numpy()-ref)
    assert err.shape==(tfm.n_bins, n//tfm.hop_length+1)
    assert err.max()<1e-4*np.abs(ref).max()
    assert (err.max(-1)<1e-4*np.abs(ref).max(-1).clip(1e-3*np.abs(ref).max())).all(), "a quiet bin is off"

@pytest.mark.parametrize('kw', [dict(fmin=70.), dict(n_bins=30), dict(bins_per_octave=13), dict(gamma=5.),
    dict(filter_scale=.8), dict(norm=2), dict(window='hamming'),
    dict(center=False), dict(pad_mode='constant'), dict(output='power'), dict(scale='wrap'), dict(hop_length=200),
    dict(fmax=1000.)])
def test_every_argument_of_the_cqt_has_its_effect(kw):
    x = sound()[0, 0]
    base,other = (VQT(sr, **{**dict(hop_length=256, fmin=65.4, n_bins=60), **k})(x) for k in (dict(), kw))
    assert base.shape!=other.shape or not torch.allclose(base, other, rtol=1e-3)

def test_uncentred_frames_start_at_their_sample():
    x = sound()[0, 0]
    stft,cqt = STFT(512, 128, center=False),CQT(sr, 128, 110., 60, center=False)
    assert close(stft(x).abs()[:, 3], STFT(512, 128, center=False)(x[384:]).abs()[:, 0])
    assert close(cqt(x)[:, 0], CQT(sr, 128, 110., 60)(x)[:, cqt.n_fft//256], 1e-4)

# ---- inverses

@pytest.mark.parametrize('kw', [dict(), dict(win_length=400, hop_length=90), dict(n_fft=511, hop_length=128),
    dict(window='blackman', hop_length=64), dict(pad_mode='constant')])
@pytest.mark.parametrize('n', [9000, 8999, 700])
def test_istft_undoes_stft(kw, n):
    x = sound(n)
    kw = {**dict(n_fft=512, hop_length=128), **kw}
    inv = iSTFT(**{k:v for k,v in kw.items() if k!='pad_mode'})
    y = inv(STFT(**kw)(x), length=n)
    assert y.shape==x.shape and y.dtype==x.dtype and (y-x).abs().max()<1e-5
    learned = iSTFT(**{k:v for k,v in kw.items() if k!='pad_mode'}, trainable=True)
    assert torch.allclose(learned(STFT(**kw)(x), length=n), y, atol=1e-5)

def test_istft_gradient_is_finite_and_length_is_kept():
    X = torch.zeros(1, 257, 9, dtype=torch.complex64, requires_grad=True)
    y = iSTFT(512, 128)(X, length=5000)
    y.sum().backward()
    assert y.shape==(1, 5000) and torch.isfinite(torch.view_as_real(X.grad)).all()

def test_istft_matches_torch():
    X = STFT(512, 128)(sound()[0]) * torch.rand(2, 257, 71)
    ref = torch.istft(X, 512, 128, window=torch.hann_window(512), length=8900)
    assert close(iSTFT(512, 128)(X, length=8900), ref)

@pytest.mark.parametrize('per', [12, 36])
@pytest.mark.parametrize('n', [1, 100, 9000, 16001])
def test_inverse_cqt_is_above_100_db(per, n):
    tfm = InvertibleCQT(sr, bins_per_octave=per)
    for x in (noise(n, seed=1)[None], sound(max(n, 100))[..., :n]):
        y = tfm.inverse(tfm(x), n)
        assert y.shape==x.shape
        assert 10*torch.log10(x.pow(2).sum()/(y-x).pow(2).sum().clamp(min=1e-30))>100
    assert n<9000 or tfm.redundancy(n)<4

def test_inverse_cqt_reads_amplitudes_and_has_gradients():
    tfm = InvertibleCQT(sr, fmin=55.)
    g = tfm.grid(tfm(.5*sine(tfm.freqs[48], sr, sr)[None]))
    assert g.shape[:2]==(1, tfm.n_bins) and g[0, :, g.shape[-1]//2].argmax()==48
    assert abs(g[0, 48, g.shape[-1]//2].item()-.5)<.01
    x = torch.zeros(1, 4000, requires_grad=True)
    tfm.inverse([c*2 for c in tfm(x)], 4000).sum().backward()
    assert close(x.grad, torch.full_like(x, 2.), 1e-3) # twice the coefficients, twice the sound

def test_griffin_lim_finds_a_sine():
    tfm = STFT(512, 128, output='magnitude')
    s = tfm(sine(440, sr, sr)[None])
    y = GriffinLim(512, 128)(s, length=sr)
    assert y.shape==(1, sr) and ((tfm(y)-s).norm()/s.norm())<.1
    assert torch.equal(GriffinLim(512, 128)(s, length=sr), y)

# ---- learning

@pytest.mark.parametrize('name', TRAINABLE)
def test_trainable_starts_equal_and_learns(name):
    x = sound()
    fixed,learned = TRAINABLE[name](),TRAINABLE[name](trainable=True)
    assert not list(fixed.parameters()) and list(learned.parameters())
    assert close(learned(x), fixed(x), 1e-4)
    learned(x).pow(2).mean().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum()>0 for p in learned.parameters())
    learned.zero_grad()
    learned(torch.zeros(1, 1, n)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in learned.parameters())

def test_trainable_window_and_bank():
    x = sound()
    for tfm in (STFT(256, 64, output='power', trainable='window'),
        MelSpectrogram(sr, 512, 128, 40, trainable='window')):
        (p,) = tfm.parameters()
        h,d = 1e-3,torch.linspace(-1, 1, p.numel())
        g, = torch.autograd.grad(tfm(x).mean(), p)
        tfm.double()
        p = next(tfm.parameters())
        with torch.no_grad():
            p += h*d; a = tfm(x.double()).mean(); p -= 2*h*d; b = tfm(x.double()).mean()
        assert math.isclose((g*d).sum().item(), ((a-b)/(2*h)).item(), rel_tol=1e-2)
    assert [k for k,_ in MelSpectrogram(sr, 512, 128, 40, trainable='bank').named_parameters()]==['bank.weight']
    with pytest.raises(ValueError, match='among bank, kernels, window'): MelSpectrogram(sr, trainable='filters')

def test_one_training_step_with_a_layer_in_front():
    torch.manual_seed(0)
    net = nn.Sequential(MelSpectrogram(sr, 512, 128, 40, trainable='bank'), nn.Flatten(), nn.Linear(40*71, 2))
    opt,loss = torch.optim.SGD(net.parameters(), 1e-4),nn.CrossEntropyLoss()
    x,y = sound()[:, :1],torch.tensor([0, 1])
    before = loss(net(x), y)
    before.backward()
    opt.step()
    assert loss(net(x), y)<before

# ---- streams

@pytest.mark.parametrize('make', [partial(STFT, 512, 130, center=False, output='magnitude'),
    partial(STFT, 256, 256, center=False), partial(MelSpectrogram, sr, 512, 128, 40, center=False)])
@pytest.mark.parametrize('size', [1, 100, 513, 5000])
def test_a_stream_equals_the_whole(make, size):
    tfm,x = make(),sound(1500 if size==1 else n)
    state,parts = tfm.init_state(2, 2),[]
    for block in x.split(size, -1):
        y,state = tfm.stream(block, state)
        parts.append(y)
    y = tfm(x)
    assert (torch.cat(parts, -1)-y).abs().max()<=2e-6*y.abs().max()

def test_centred_frames_cannot_stream():
    with pytest.raises(ValueError, match='a centred frame needs the future'): STFT(512).stream(torch.zeros(1, 1, 10),
        torch.zeros(1, 1, 0))

# ---- bad settings

@pytest.mark.parametrize('make,say', [
    (lambda: STFT(512, 0), 'hop_length >= 1'), (lambda: STFT(512, win_length=600), 'win_length in 1..512'),
    (lambda: STFT(0), 'n_fft >= 1'),
    (lambda: STFT(512, window='hanning'), "got 'hanning'"), (lambda: STFT(512, pad_mode='zeros'), 'reflect, constant'),
    (lambda: STFT(512, output='db'), 'complex, magnitude'),
    (lambda: STFT(512, freq_scale='log', fmin=0.), 'fmin > 0'),
    (lambda: STFT(512, freq_scale='mel'), 'no, linear, log, log2'), (lambda: STFT(512, freq_bins=300), '1..257'),
    (lambda: STFT(512, freq_scale='log', fmin=900., fmax=100.), 'fmin < fmax'),
    (lambda: STFT(512, freq_scale='linear', fmax=20000.), 'Nyquist'),
    (lambda: MelSpectrogram(sr, fmin=5000., fmax=100.), 'fmin < fmax'),
    (lambda: MelSpectrogram(sr, fmax=9000.), '8000 Hz, the Nyquist'),
    (lambda: MelSpectrogram(sr, 256, 64, 128), 'numbers .*fewer n_mels'),
    (lambda: MelSpectrogram(sr, power=0.), 'power > 0'), (lambda: MelSpectrogram(sr, norm='l1'), "'slaney' or None"),
    (lambda: MFCC(sr, 200), 'n_mfcc in 1..128'), (lambda: Gammatonegram(sr, fmin=-1.), 'fmin >= 0'),
    (lambda: CQT(sr, 0), 'hop_length >= 1'),
    (lambda: CQT(sr, n_bins=100), 'take n_bins <= 9'), (lambda: CQT(sr, fmin=0.), 'fmin > 0'),
    (lambda: CQT(sr, fmin=900., fmax=100.), 'fmin < fmax'), (lambda: CQT(sr, fmax=9000.), 'Nyquist'),
    (lambda: VQT(sr, gamma=-1.), 'gamma >= 0'), (lambda: VQT(sr, scale='l2'), 'librosa, convolutional, wrap'),
    (lambda: InvertibleCQT(sr, fmin=9000.), 'Nyquist'),
    (lambda: iSTFT(512, 512), 'smaller hop_length'), (lambda: GriffinLim(512, n_iter=0), 'n_iter >= 1'),
    (lambda: CFP(sr, fmin=2000., fmax=1000.), 'fmin < fmax'),
    (lambda: AmplitudeToDB(amin=0.), 'amin > 0'), (lambda: AmplitudeToDB(power=2.), 'power True'),
    (lambda: MFCC(sr, norm='slaney'), "'ortho' or None"),
    (lambda: STFT(512, window=np.full(512, math.nan)), 'NaN or Inf'),
    (lambda: STFT(512, window=np.zeros(512)), 'not all 0'), (lambda: STFT(1, freq_scale='log'),
    'n_fft for a log scale >= 2'),
    (lambda: CFP(sr, fmin=0.), 'fmin > 0'), (lambda: CFP(sr, g=(math.nan, 1)), 'exponents g'),
    (lambda: CFP(sr, g=1.), 'two exponents'), (lambda: InvertibleCQT(sr, fmin=0.), 'fmin > 0'),
    (lambda: GriffinLim(512, momentum=math.nan), 'momentum'), (lambda: CQT(sr, norm='l2'), 'norm 1, 2 or 0')])
def test_bad_settings_say_what_to_do(make, say):
    with pytest.raises(ValueError, match=say): make()

COUNTS, NUMBERS = (0, -1, 1.5, math.nan, 'a', True), (math.nan, math.inf, 'a', True)
MAKE = dict(STFT=lambda **k: STFT(**{'n_fft': 256, **k}), STFT_log=lambda **k: STFT(256, freq_scale='log',
    **{'fmin': 50., 'fmax': 2000., 'sr': sr, **k}),
    iSTFT=lambda **k: iSTFT(**{'n_fft': 256, **k}), Mel=lambda **k: MelSpectrogram(**{'sr': sr, 'n_fft': 256,
    'n_mels': 20, **k}),
    MFCC=lambda **k: MFCC(**{'sr': sr, 'n_mfcc': 10, 'n_fft': 256, 'n_mels': 20, **k}),
    Gammatonegram=lambda **k: Gammatonegram(**{'sr': sr, 'n_fft': 256, 'n_bins': 20, **k}),
    CQT=lambda **k: CQT(**{'sr': sr, 'fmin': 200., 'n_bins': 24, **k}),
    VQT=lambda **k: VQT(**{'sr': sr, 'fmin': 200., 'n_bins': 24, **k}),
    InvertibleCQT=lambda **k: InvertibleCQT(**{'sr': sr, 'fmin': 200., **k}),
    GriffinLim=lambda **k: GriffinLim(**{'n_fft': 256, **k}), CFP=lambda **k: CFP(**{'sr': sr, **k}), dB=AmplitudeToDB)
COUNTED = dict(STFT=('n_fft', 'hop_length', 'win_length', 'freq_bins'),
    STFT_log=('hop_length', 'win_length', 'freq_bins'), iSTFT=('n_fft', 'hop_length', 'win_length'),
    Mel=('n_fft', 'hop_length', 'win_length', 'n_mels'), MFCC=('n_fft', 'hop_length', 'n_mels', 'n_mfcc'),
    Gammatonegram=('n_fft', 'hop_length', 'win_length', 'n_bins'),
    CQT=('hop_length', 'n_bins', 'bins_per_octave'), VQT=('hop_length', 'n_bins', 'bins_per_octave'),
    InvertibleCQT=('n_bins', 'bins_per_octave'),
    GriffinLim=('n_fft', 'hop_length', 'win_length', 'n_iter'), CFP=('hop_length', 'win_length', 'bins_per_octave'))
MEASURED = dict(STFT=('sr',), STFT_log=('sr', 'fmin', 'fmax'), Mel=('sr', 'fmin', 'fmax', 'power'),
    MFCC=('sr', 'fmin', 'fmax', 'power', 'amin', 'ref', 'top_db'), Gammatonegram=('sr', 'fmin', 'fmax', 'power'),
    CQT=('sr', 'fmin', 'fmax', 'filter_scale'), VQT=('sr', 'fmin', 'fmax', 'filter_scale', 'gamma'),
    InvertibleCQT=('sr', 'fmin'), GriffinLim=('momentum', 'power'),
    CFP=('sr', 'fmin', 'fmax', 'resolution_hz'), dB=('amin', 'ref', 'top_db'))

@pytest.mark.parametrize('name,key', [(n, k) for n,ks in COUNTED.items() for k in ks])
def test_every_count_is_a_whole_number(name, key):
    MAKE[name]()
    for v in COUNTS:
        with pytest.raises(ValueError, match=f'expected {key}\\b.*a whole number, got'): MAKE[name](**{key: v})

@pytest.mark.parametrize('name,key', [(n, k) for n,ks in MEASURED.items() for k in ks])
def test_every_measure_is_a_number(name, key):
    for v in NUMBERS + ((0, -1) if key in ('sr', 'power', 'resolution_hz') else ()):
        with pytest.raises(ValueError, match=f'expected {key}\\b.*a finite number, got'): MAKE[name](**{key: v})

@pytest.mark.parametrize('name', [n for n in MAKE if n!='InvertibleCQT' and n!='dB' and n!='GriffinLim' and n!='CFP'])
def test_what_is_to_be_trained_has_a_name(name):
    for v in (5, 'x', ('window', 'x'), 2.5):
        with pytest.raises(ValueError, match='expected trainable to be'): MAKE[name](trainable=v)

@pytest.mark.parametrize('n_fft', [1, 2, 3, 255, 257])
def test_odd_and_tiny_transforms(n_fft):
    x = sound()[:, :, :2000]
    z = STFT(n_fft, 1, pad_mode='constant', window='boxcar')(x)
    assert z.shape[-2]==n_fft//2+1
    assert close(iSTFT(n_fft, 1, window='boxcar')(z, x.shape[-1]), x, 1e-5)

@pytest.mark.parametrize('layer,say', [(STFT(2048), '1025 samples for reflect padding, got 1000'),
    (STFT(2048, center=False), '2048 samples for one frame, got 1000'),
    (MelSpectrogram(sr, 2048, center=False), '2048 samples'), (CQT(sr), 'for reflect padding'),
    (CQT(sr, center=False), 'the longest window')])
def test_too_short_sound_says_what_to_do(layer, say):
    with pytest.raises(ValueError, match=say): layer(torch.zeros(1, 1, 1000))

def test_inverses_refuse_what_they_cannot_invert():
    z = STFT(256)(sound()[:1])
    late = z.clone(); late[..., -1] = complex(math.nan, 0)
    for inv in (iSTFT(256), iSTFT(256, trainable=True), STFT(256).inverse):
        for bad,say in ((z.abs(), 'needs the phase'), (late, 'NaN or Inf'), (z[..., :-1, :], r'\(..., 129'),
            (z[..., :0], r'\(..., 129'), (z.to('meta'), 'move one with .to'), (z.numpy(), 'torch.as_tensor'),
                        (z[..., :1], 'span at least 1 sample')):
            with pytest.raises(ValueError, match=say): inv(bad)
        for length in (0, -1, 1.5, math.nan):
            with pytest.raises(ValueError, match='length >= 1'): inv(z, length)
        assert inv(z.to(torch.complex128), 500).shape[-1]==500
    gl,m = GriffinLim(256, n_iter=1),z.abs()
    for bad,say in ((z, 'expected a magnitude'), (-m, 'of dB'), (m*math.nan, 'NaN or Inf'), (m[..., :0], 'got none'),
        (m.to('meta'), 'move one with .to'), (m.numpy(), 'torch.as_tensor'), (m.long(), 'int64'),
                    (m[..., :1], 'span at least 1 sample')):
        with pytest.raises(ValueError, match=say): gl(bad)
    c = InvertibleCQT(sr, fmin=200.)
    parts = c(sound()[:1])
    for bad,say in ((parts[:-1], 'groups'), ([p.abs() for p in parts], 'needs the phase'),
        ([p*math.nan for p in parts], 'NaN or Inf'), ([p[..., :-1] for p in parts], 'in group 0')):
        with pytest.raises(ValueError, match=say): c.inverse(bad, n)
    for length in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match='length >= 1'): c.inverse(parts, length)
    for bad,say in ((z, 'abs'), (m[0, 0, 0], 'bins, frames'), (m[..., :0], 'not empty'),
        (m.numpy(), 'torch.as_tensor')):
        with pytest.raises(ValueError, match=say): AmplitudeToDB()(bad)

@pytest.mark.parametrize('block', [torch.zeros(1, 1, 500, dtype=torch.int16), torch.zeros(1, 2, 500), torch.zeros(500),
    torch.zeros(1, 1, 500, device='meta')], ids=['int16', 'stereo', 'one axis', 'device'])
def test_a_stream_takes_blocks_like_its_state(block):
    for layer in (STFT(256, center=False), MelSpectrogram(sr, 256, 64, 20, center=False)):
        with pytest.raises(ValueError, match=r'expected a block \(1, 1, samples\) of floats'): layer.stream(block,
            layer.init_state(1))

@pytest.mark.parametrize('fmin', [0., -1., math.nan, 'a'])
def test_the_other_spelling_refuses_too(fmin):
    for cls in (Spectrogram.CQT1992, Spectrogram.CQT1992v2, Spectrogram.CQT2010, Spectrogram.CQT2010v2,
        Spectrogram.CQT2019, Spectrogram.VQT):
        with pytest.raises(ValueError, match='expected fmin > 0'): cls(sr=sr, fmin=fmin)
    with pytest.raises(ValueError, match='torch.as_tensor'): Spectrogram.STFT(256)(np.zeros(1000, np.float32))

# ---- peers, where they are installed

def test_agrees_with_torch():
    x = sound()
    ref = torch.stft(x.view(4, -1), 512, 100, 400, torch.hann_window(400), return_complex=True).view(2, 2, 257, -1)
    assert (STFT(512, 100, 400)(x)-ref).abs().max()<1e-5*ref.abs().max()

def test_agrees_with_torchaudio():
    T = pytest.importorskip('torchaudio').transforms
    x = sound()
    for htk,norm in ((True, None), (False, 'slaney')):
        ref = T.MelSpectrogram(sr, 512, hop_length=128, n_mels=40, f_min=50., f_max=7000., norm=norm,
            mel_scale='htk' if htk else 'slaney')(x)
        assert close(MelSpectrogram(sr, 512, 128, 40, fmin=50., fmax=7000., htk=htk, norm=norm)(x), ref, 1e-5)

def test_agrees_with_librosa():
    librosa = pytest.importorskip('librosa')
    x,a = sound()[0, 0],sound()[0, 0].numpy()
    mel = librosa.feature.melspectrogram(y=a, sr=sr, n_fft=512, hop_length=128, n_mels=40, pad_mode='reflect')
    assert np.abs(MelSpectrogram(sr, 512, 128, 40)(x).numpy()-mel).max()<1e-5*mel.max()
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=13)
    assert np.abs(MFCC(sr, 13, n_fft=512, hop_length=128, n_mels=40)(x).numpy()-mfcc).max()<1e-3
    r = 2**(1/12) # librosa >= 0.10 has another quality factor: bring it back
    cqt = np.abs(librosa.cqt(a, sr=sr, hop_length=128, fmin=220., n_bins=48, filter_scale=(r*r-1)/(r*r+1)/(r-1),
        sparsity=0., pad_mode='constant'))
    tfm,freqs = CQT(sr, 128, 220., 48, pad_mode='constant'),cqt_freqs(sr, 220., 48, 12)
    kernels = [cqt_kernel(f, int(m), sr) for f,m in zip(freqs, cqt_lengths(freqs, sr, 12))]
    ref = np.abs(centred(x, [(a, k*math.sqrt(len(k))) for a,k in kernels], tfm.reach, 128))
    theirs,between = np.abs(cqt-ref).max(),np.abs(cqt-tfm(x).numpy()).max()
    assert between<theirs+1e-4*ref.max() and between<.1*ref.max() # what is between us is its own error

NN = [('STFT', dict(output_format='Complex')), ('STFT', dict(output_format='Magnitude', freq_scale='log',
    freq_bins=84)), ('STFT', dict(output_format='Complex', win_length=1000, hop_length=300)),
      ('MelSpectrogram', dict(n_mels=64, htk=True, norm=None)), ('MFCC', dict()), ('Gammatonegram', dict()),
      ('CQT1992v2', dict(output_format='Complex')), ('CQT', dict(center=False)),
      ('CQT1992v2', dict(window='hamming', norm=2, filter_scale=.7))]
@pytest.mark.usefixtures('capsys') # it prints
@pytest.mark.parametrize('name,kw', NN)
def test_agrees_with_nnaudio(name, kw):
    theirs = getattr(pytest.importorskip('nnAudio.features'), name)(**kw)
    x = sweep(50, 9000, 22050, 22050, .3)[None]+noise(22050, seed=2)
    ref = theirs(x)
    y = getattr(Spectrogram, name)(**kw)(x)
    assert y.shape==ref.shape and close(y, ref, 2e-5)

@pytest.mark.parametrize('name', ['STFT', 'MelSpectrogram', 'MFCC', 'Gammatonegram', 'CQT', 'CQT1992', 'CQT1992v2',
    'CQT2010', 'CQT2010v2', 'CQT2019', 'VQT', 'CFP', 'Combined_Frequency_Periodicity'])
def test_nnaudio_names_take_three_shapes_in_silence(name, capsys):
    layer = getattr(Spectrogram, name)()
    x = sound(22050).view(4, -1)
    first = lambda y: y if torch.is_tensor(y) else y[0]
    y = first(layer(x))
    assert y.ndim==3 and len(y)==4 and torch.equal(first(layer(x[:, None])),
        y) and first(layer(x[0])).shape==y[:1].shape
    assert capsys.readouterr().out==''
    with pytest.raises(ValueError, match='takes several channels'): layer(torch.zeros(2, 2, 9000))

def test_core_import_is_light():
    import subprocess,sys
    heavy = ['fastai', 'matplotlib', 'IPython', 'torchaudio', 'librosa', 'scipy.signal', 'nnAudio']
    code = "import sys, fastproaudio.spectral, fastproaudio.Spectrogram; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()=='[]'
