"""Speed, memory and accuracy of the spectrogram layers beside nnAudio, nnAudio2, torch, torchaudio, torchlibrosa
and librosa, in one run.

    python benchmarks/spectro.py [--bs 16] [--seconds 4] [--rounds 5] [--threads 1] [--device cpu] [--only cqt]
    [--quick]

Peers that are not installed are left out (`pip install nnAudio==0.3.4 nnAudio2==2.0.3 torchlibrosa librosa
torchaudio`). Every line of a layer is timed in turn, several times over, and the best counts: judge by ratios;
on one thread the processor's time is taken. `fwd+bwd` is the gradient of the sum down to the waveform.
`MB` is the most memory that tensors take up in that, beyond the input; what a library allocates inside an operation
(oneDNN's convolutions) is not seen. Accuracy is the largest error over the largest value, against the definition
in float64.
"""
import argparse,contextlib,importlib,io,logging,math,os,time,warnings
from functools import partial

warnings.filterwarnings('ignore')
logging.disable(logging.CRITICAL)
os.environ['NNAUDIO_DISABLE_CITATION_REMINDER'] = '1'
import numpy as np
import torch
from fastproaudio.spectral import *
from fastproaudio.dsp import noise, pluck, sweep
from fastproaudio.spectral import CQT, get_window, InvertibleCQT, iSTFT, MelSpectrogram, MFCC, STFT, VQT
from fastproaudio.spectral.cqt import cqt_freqs, cqt_kernel, cqt_lengths
from fastproaudio.spectral.mel import mel_bank

sr,n_fft,hop = 22050,2048,512

def peer(name):
    "A module, or None where it is not installed."
    try:
        with contextlib.redirect_stdout(io.StringIO()): return importlib.import_module(name)
    except ImportError: return None

nn1,nn2,ta,tl,lr = map(peer, ('nnAudio.features', 'nnAudio2.features', 'torchaudio', 'torchlibrosa', 'librosa'))

class Call(torch.nn.Module):
    "A function as a layer."
    def __init__(self, f):
        super().__init__()
        self.f = f
        self.register_buffer('w', torch.hann_window(n_fft))
    def forward(self, x): return self.f(x, self.w)

def nn_pair(name, **kw):
    "The same layer of nnAudio and nnAudio2."
    return {label: (lambda m=m: getattr(m, name)(**kw, verbose=False))
            for label,m in (('nnAudio', nn1), ('nnAudio2', nn2)) if m}

def torch_stft(x, w): return torch.stft(x, n_fft, hop, window=w, return_complex=True)

def nn_istft(m):
    "nnAudio's inverse as a layer on complex tensors."
    class Inverse(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inv = m.iSTFT(n_fft=n_fft, hop_length=hop, verbose=False)
        def forward(self, X): return self.inv(torch.view_as_real(X), onesided=True)
    return Inverse

def layers():
    "Name of the layer -> name of the library -> constructor, ours first."
    mel = dict(n_mels=128, n_fft=n_fft, hop_length=hop)
    ta_mel = dict(n_fft=n_fft, hop_length=hop, n_mels=128, norm='slaney', mel_scale='slaney')
    out = {
        'STFT complex': {'ours': lambda: STFT(n_fft, hop),
                         **nn_pair('STFT', n_fft=n_fft, hop_length=hop, output_format='Complex'),
                         'torch': lambda: Call(torch_stft)},
        'STFT magnitude': {'ours': lambda: STFT(n_fft, hop, output='magnitude'),
                           **nn_pair('STFT', n_fft=n_fft, hop_length=hop, output_format='Magnitude'),
                           'torch': lambda: Call(lambda x, w: torch_stft(x, w).abs())},
        'STFT log scale 1025': {'ours': lambda: STFT(n_fft, hop, output='magnitude', freq_scale='log', sr=sr),
                                **nn_pair('STFT', n_fft=n_fft, hop_length=hop,
                                          output_format='Magnitude', freq_scale='log', sr=sr)},
        'mel 128': {'ours': lambda: MelSpectrogram(sr), **nn_pair('MelSpectrogram', sr=sr, **mel)},
        'MFCC 20': {'ours': lambda: MFCC(sr), **nn_pair('MFCC', sr=sr)},
        'gammatone 64': {'ours': lambda: Gammatonegram(sr), **nn_pair('Gammatonegram', sr=sr)},
        'CQT 84, 12/octave': {'ours': lambda: CQT(sr), **nn_cqt(84, 12)},
        'CQT 84, hop 441': {'ours': lambda: CQT(sr, 441),
                            **nn_pair('CQT1992v2', sr=sr, hop_length=441)},
        'CQT 168, 24/octave': {'ours': lambda: CQT(sr, n_bins=168, bins_per_octave=24), **nn_cqt(168, 24)},
        'VQT 84': {'ours': lambda: VQT(sr, gamma=20.), **nn_pair('VQT', sr=sr, gamma=20.)},
        'inverse STFT': {'ours': lambda: iSTFT(n_fft, hop),
                         **{k: nn_istft(m) for k,m in (('nnAudio', nn1), ('nnAudio2', nn2)) if m},
                         'torch': lambda: Call(lambda X, w: torch.istft(X, n_fft, hop, window=w))},
    }
    if tl: out['STFT magnitude']['torchlibrosa'] = lambda: tl.Spectrogram(n_fft=n_fft, hop_length=hop, power=1.)
    if ta:
        out['mel 128']['torchaudio'] = lambda: ta.transforms.MelSpectrogram(sr, **ta_mel)
        out['MFCC 20']['torchaudio'] = lambda: ta.transforms.MFCC(sr, 20, melkwargs=ta_mel)
        out['inverse STFT']['torchaudio'] = lambda: Call(ta_istft)
    if lr:
        out['mel 128']['librosa'] = lambda: Call(lambda x, w: librosa_of(x, lr.feature.melspectrogram))
        out['CQT 84, 12/octave']['librosa'] = lambda: Call(lambda x, w: librosa_of(x, lr.cqt))
    return out

def ta_istft(X, _): return ta.transforms.InverseSpectrogram(n_fft, hop_length=hop).to(X.device)(X)

def nn_cqt(n_bins, per_octave):
    kw = dict(sr=sr, n_bins=n_bins, bins_per_octave=per_octave, verbose=False)
    return {f'{label} {n[3:]}': (lambda m=m, n=n: getattr(m, n)(**kw))
            for label,m in (('nnAudio', nn1), ('nnAudio2', nn2)) if m for n in ('CQT1992v2', 'CQT2010v2')}

def librosa_of(x, f): return torch.as_tensor(np.abs(f(y=x.detach().cpu().numpy(), sr=sr)))

def wait(x):
    if x.is_cuda: torch.cuda.synchronize()

def forward(layer, x):
    with torch.no_grad(): layer(x)
    wait(x)

def both(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    (torch.view_as_real(y) if y.is_complex() else y).sum().backward()
    wait(x)

def seconds(f, *args):
    "The processor's time on one thread, which other work on the machine changes little; else the wall clock's."
    clock = time.thread_time if torch.get_num_threads()==1 and not args[-1].is_cuda else time.perf_counter
    t = clock()
    f(*args)
    return clock()-t

def peak_mb(layer, x):
    "Most memory that tensors take up during a forward and backward pass, beyond the input, MB."
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        both(layer, x)
        return (torch.cuda.max_memory_allocated()-base)/2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
        both(layer, x)
    steps = sorted((e.start_ns(), e.nbytes()) for e in p.profiler.kineto_results.events() if e.name()=='[memory]')
    return max(np.cumsum([b for _,b in steps]))/2**20

def speed(args):
    "The table of times."
    x = noise(int(args.seconds*sr), seed=0, n_ch=args.bs).to(args.device)
    print(f"\n{args.bs} x {args.seconds:g} s at {sr} Hz, n_fft {n_fft}, hop {hop}, "
          f"{args.threads} thread(s), {args.device}, torch {torch.__version__}")
    print(f"{'layer':22}{'':20}{'fwd ms':>9}{'ratio':>8}{'fwd+bwd':>10}{'ratio':>8}{'MB':>7}{'built ms':>10}")
    for name,makers in layers().items():
        if args.only.lower() in name.lower():
            speed_of(name, makers, torch_stft(x, torch.hann_window(n_fft, device=x.device))
                     if 'inverse' in name else x, args)

def speed_of(name, makers, x, args):
    "One layer's lines."
    built,times = {},{}
    for who,make in makers.items():
        with contextlib.redirect_stdout(io.StringIO()):
            t = time.perf_counter()
            built[who] = make().to(x.device)
            built[who].ms = (time.perf_counter()-t)*1e3
    for k in range(args.rounds+1):
        for who,layer in built.items():
            grad = who!='librosa'
            if k>1 and times[who][2]>args.budget: continue # slow ones have had their turn
            f,b = seconds(forward, layer, x),seconds(both, layer, x) if grad else math.nan
            old = times.get(who, (math.inf, math.inf, 0.))
            times[who] = (f, b, 0.) if k==0 and not args.quick else (min(old[0], f), min(old[1], b) if grad else b,
                                                                     old[2]+f+(b if grad else 0))
    for who,layer in built.items():
        f,b,_ = times[who]
        mb = peak_mb(layer, x) if who!='librosa' else math.nan
        print(f"{name if who=='ours' else '':22}{who:20}{f*1e3:9.1f}{f/times['ours'][0]:8.1f}"
              f"{b*1e3:10.1f}{b/times['ours'][1]:8.1f}{mb:7.0f}{layer.ms:10.0f}", flush=True)

def by_hand(x, kernels, reach, every):
    "Centred inner products in float64, silence beyond the ends; `kernels` are `(first sample, values)`."
    x,out = np.pad(x.double().numpy(), (reach, 2*reach)),[]
    for a,k in kernels:
        frames = np.lib.stride_tricks.sliding_window_view(x, len(k))[reach+a:][:len(x)-3*reach+1:every]
        out.append(frames@k.conj())
    return np.stack(out)

def error(y, ref):
    y = np.asarray(y.detach().squeeze(0) if torch.is_tensor(y) else y)
    n = min(y.shape[-1], ref.shape[-1])
    return np.abs(np.abs(y[..., :n])-np.abs(ref[..., :n])).max()/np.abs(ref).max()

def accuracy():
    "The table of errors."
    n = 3*sr
    x = sweep(30, 10000, sr, n, amp=.3) + noise(n, seed=1)[0]*torch.linspace(0, 1, n) + pluck(220, sr, n, 1.)
    w = get_window('hann', n_fft)
    waves = [(-n_fft//2, w*np.exp(2j*np.pi*k*(np.arange(n_fft)-n_fft//2)/n_fft)) for k in range(n_fft//2+1)]
    spec = by_hand(x, waves, n_fft//2, hop)
    mel = mel_bank(sr, n_fft)@np.abs(spec)**2
    print(f"\n{'largest error of peak against float64':44}ours and peers")
    pad = dict(pad_mode='constant')
    show('STFT magnitude', spec, x, {'ours': STFT(n_fft, hop, output='magnitude', **pad),
                                     **made('STFT', n_fft=n_fft, hop_length=hop, output_format='Magnitude', **pad),
        'torch': lambda x: torch.stft(x, n_fft, hop, window=torch.hann_window(n_fft),
                                      pad_mode='constant', return_complex=True).abs()})
    peers = {'ours': MelSpectrogram(sr, **pad), **made('MelSpectrogram', sr=sr, **pad)}
    if ta:
        peers['torchaudio'] = ta.transforms.MelSpectrogram(sr, n_fft, hop_length=hop,
                                                           n_mels=128, norm='slaney', mel_scale='slaney', **pad)
    if lr: peers['librosa'] = lambda x: lr.feature.melspectrogram(y=x[0].numpy(), sr=sr)
    show('mel 128', mel, x, peers)
    for bins,per in ((84, 12), (168, 24)):
        freqs = cqt_freqs(sr, 32.703, bins, per)
        lengths = cqt_lengths(freqs, sr, per)
        kernels = (cqt_kernel(f, m, sr) for f,m in zip(freqs, lengths))
        ref = by_hand(x, [(a, k*math.sqrt(len(k))) for a,k in kernels], int(lengths.max()+1)//2, hop)
        kw = dict(sr=sr, n_bins=bins, bins_per_octave=per, fmin=32.703, **pad)
        peers = {'ours': CQT(sr, n_bins=bins, bins_per_octave=per, **pad)}
        for c in ('CQT1992v2', 'CQT2010v2'): peers.update({f'{k} {c[3:]}': v for k,v in made(c, **kw).items()})
        if lr: peers['librosa'] = partial(librosa_cqt, bins, per)
        show(f'CQT {bins}, {per}/octave', ref, x, peers)
    X = STFT(n_fft, hop)(x)
    print(f"{'inverse STFT, round trip':28}{'ours':20}{(iSTFT(n_fft, hop)(X, n)-x).abs().max():10.1e}")
    again = torch.istft(X, n_fft, hop, window=torch.hann_window(n_fft), length=n)
    print(f"{'':28}{'torch':20}{(again-x).abs().max():10.1e}")
    inverse_cqt(x)

def librosa_cqt(bins, per, x):
    "librosa's magnitudes, its newer quality factor brought back to the definition."
    r = 2**(1/per)
    return np.abs(lr.cqt(x[0].numpy(), sr=sr, hop_length=hop, n_bins=bins, bins_per_octave=per, fmin=32.703,
                         pad_mode='constant', filter_scale=(r*r-1)/(r*r+1)/(r-1)))

def made(name, **kw):
    "nnAudio's and nnAudio2's layer, built."
    with contextlib.redirect_stdout(io.StringIO()): return {k: f() for k,f in nn_pair(name, **kw).items()}

def show(name, ref, x, peers):
    for who,f in peers.items():
        with torch.no_grad():
            print(f"{name if who=='ours' else '':28}{who:20}{error(f(x[None]), ref):10.1e}", flush=True)

def inverse_cqt(x):
    "Reconstruction of music-like sound and of noise."
    def snr(x, y): # at the best gain, so that a peer's other scale costs it nothing
        y = y*(x@y)/(y@y)
        return (10*torch.log10(x.pow(2).sum()/(y-x).pow(2).sum())).item()
    tfm = InvertibleCQT(sr)
    for name,s in dict(tones=x, noise=noise(len(x), seed=3)[0]).items():
        t = time.perf_counter()
        y = tfm.inverse(tfm(s), len(s))
        spent = time.perf_counter()-t
        print(f"{'inverse CQT, '+name:28}{'ours':20}{snr(s, y):8.1f} dB  {spent:6.2f} s  "
              f"redundancy {tfm.redundancy(len(s)):.2f}")
        peers = {}
        if lr: peers['librosa'] = librosa_icqt
        if hasattr(nn2, 'iCQT') and name=='tones': peers['nnAudio2'] = nn2_icqt
        for who,f in peers.items():
            t = time.perf_counter()
            try:
                got = snr_of(s, f(s).reshape(-1).float(), snr)
                print(f"{'':28}{who:20}{got:8.1f} dB  {time.perf_counter()-t:6.2f} s")
            except Exception as e: print(f"{'':28}{who:20}fails: {type(e).__name__}")

def snr_of(s, y, snr): return snr(s[:len(y)], y[:len(s)])

def librosa_icqt(s):
    coefs = lr.cqt(s.numpy(), sr=sr, n_bins=96, hop_length=64)
    return torch.as_tensor(lr.icqt(coefs, sr=sr, hop_length=64, length=len(s)))

def nn2_icqt(s):
    "nnAudio2's iterative inverse, of the first second."
    kw = dict(sr=sr, hop_length=128, n_bins=96, verbose=False)
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        return nn2.iCQT(**kw)(nn2.CQT1992v2(**kw, output_format='Complex')(s[None, :sr]), length=sr)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--bs', type=int, default=16); p.add_argument('--seconds', type=float, default=4.)
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--budget', type=float, default=3.)
    p.add_argument('--threads', type=int, default=1); p.add_argument('--device', default='cpu')
    p.add_argument('--only', default='', help='part of a layer name'); p.add_argument('--quick', action='store_true')
    p.add_argument('--no-accuracy', action='store_true')
    args = p.parse_args()
    if args.quick: args.bs,args.seconds,args.rounds = 2,1.,1
    torch.set_num_threads(args.threads)
    speed(args)
    if not args.no_accuracy: accuracy()
