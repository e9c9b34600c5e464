"""Samples per second of generation, beside the naive loop, a public cached path and the eager step loop, in one
run on one thread.

    python benchmarks/generate.py [--seconds 1.5] [--only small large lstm stream]

WaveNets: small 2 x 8 layers, kernel 2, 32 residual / 64 skip; large 3 x 10, 64 / 256; 256 mu-law classes.
The peer is wavenet-vocoder 0.1.1 (`pip install --no-deps wavenet-vocoder==0.1.1`), left out where it is missing
or does not run. LSTMs: one layer, 256 classes, beside
`nn.LSTM` stepped in eager torch. Judge by ratios: each line is timed many times in short runs and the best counts,
which other work on the machine disturbs least. The C++ column is what a hand-written
loop reached on another machine of this class; `GB/s` is weight bytes read per second, the limit of any engine.
"""
import argparse,time,warnings
from functools import partial

import torch
from torch import nn
from fastproaudio.generate import sample_blocks, sample_naive
from fastproaudio.models import SampleWaveNet

CPP = {('small', 1):218_877, ('small', 16):478_773, ('large', 1):4_139, ('large', 16):53_375,
       ('lstm256', 1):108_077, ('lstm256', 16):185_665, ('lstm512', 1):6_321,
       ('lstm512', 16):50_718, ('lstm1024', 1):1_505,
       ('lstm1024', 16):14_484}

def best(run, seconds, tries=3):
    "Best samples per second of `run()`, which returns how many it made."
    top,t_end = 0.,time.perf_counter()+seconds
    for i in range(10_000):
        t = time.perf_counter()
        n = run()
        top = max(top, n/(time.perf_counter()-t))
        if i+1>=tries and time.perf_counter()>t_end: return top

def ours(model, bs, block, **kwargs):
    "A function that makes the next `block` samples of each of `bs` sequences."
    blocks = sample_blocks(model, batch=bs, block=block, seed=0, **kwargs)
    next(blocks)
    return lambda: next(blocks).numel()

def naive(model, bs, n): return lambda: sample_naive(model, n, batch=bs, seed=0).numel()

def public(name, bs, n):
    "The incremental path of wavenet-vocoder, same shape; None where it does not run."
    layers,stacks,res,skip = (16, 2, 32, 64) if name=='small' else (30, 3, 64, 256)
    try:
        from wavenet_vocoder import WaveNet
        m = WaveNet(out_channels=256, layers=layers, stacks=stacks, residual_channels=res,
                    gate_channels=2*res, skip_out_channels=skip,
                    kernel_size=2, dropout=0., weight_normalization=False).eval()
        if hasattr(m, 'make_generation_fast_'): m.make_generation_fast_()
        start = torch.zeros(bs, 256, 1); start[:, 128] = 1
        def run():
            with torch.no_grad(): m.incremental_forward(start, T=n, tqdm=lambda x: x)
            return n*bs
        run()
        return run
    except Exception as e:
        print(f"  (wavenet-vocoder does not run: {type(e).__name__}: {e})")

def weight_bytes(model):
    return 4*sum(p.numel() for n,p in model.named_parameters() if 'inp' not in n and 'emb' not in n)

def row(name, bs, what, rate, base, model=None):
    limit = f"{rate/bs*weight_bytes(model)/1e9:6.1f}" if model is not None else ' '*6
    cpp = CPP.get((name, bs)) if model is not None else None
    part = f'{rate/cpp:6.0%}' if cpp else ''
    print(f"{name:9} {bs:3}  {what:34} {rate:11,.0f} {rate/base:8.1f} {part:>7} {limit:>7}", flush=True)

def wavenets(name, seconds):
    small = dict(channels=32, skip=64, n_layers=8, n_blocks=2)
    size = small if name=='small' else dict(channels=64, skip=256, n_layers=10, n_blocks=3)
    model = SampleWaveNet(256, **size).eval()
    for bs in (1, 16):
        few = 4 if name=='small' else 1
        base = best(naive(model, bs, few), seconds)
        row(name, bs, 'naive, whole receptive field', base, base)
        if peer := public(name, bs, 20 if name=='small' else 5):
            rate = best(peer, seconds)
            row(name, bs, 'wavenet-vocoder, incremental', rate, base)
        row(name, bs, 'ours, eager', best(ours(model, bs, 20, engine='eager'), seconds), base, model)
        row(name, bs, 'ours, numba', best(ours(model, bs, 1000//bs if name=='small' else 80//bs, engine='numba'),
                                          seconds), base, model)

class StepLSTM(nn.Module):
    "The eager way: `nn.LSTM` called for one sample at a time."
    def __init__(self, h):
        super().__init__()
        self.emb,self.rnn,self.out = nn.Embedding(256, h),nn.LSTM(h, h, batch_first=True),nn.Linear(h, 256)
    @torch.no_grad()
    def run(self, bs, n):
        x,state = torch.full((bs, 1), 128),None
        for _ in range(n):
            y,state = self.rnn(self.emb(x), state)
            x = torch.multinomial(self.out(y[:, 0]).softmax(-1), 1)
        return n*bs

def lstms(h, seconds):
    from fastproaudio.models.sample_lstm import SampleLSTM
    eager = StepLSTM(h).eval()
    model = SampleLSTM(n_tokens=256, hidden=h, n_layers=1).eval()
    for bs in (1, 16):
        base = best(partial(eager.run, bs, 20), seconds)
        row(f'lstm{h}', bs, 'nn.LSTM step by step', base, base)
        row(f'lstm{h}', bs, 'ours, eager', best(ours(model, bs, 20, engine='eager'), seconds), base, model)
        row(f'lstm{h}', bs, 'ours, numba', best(ours(model, bs, 600//bs, engine='numba'), seconds), base, model)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seconds', type=float, default=1.5, help='least time for each line')
    p.add_argument('--only', nargs='*', default=['small', 'large', 'lstm256', 'lstm512'], help='parts to run')
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    print(f"{'net':9} {'bs':>3}  {'path':34} {'samples/s':>11} {'x base':>8} {'of C++':>7} {'GB/s':>7}")
    for part in a.only:
        if part in ('small', 'large'): wavenets(part, a.seconds)
        elif part.startswith('lstm'): lstms(int(part[4:]), a.seconds)

if __name__=='__main__': main()
