"""Effects played block by block, times real time: compiled, in torch, and beside the other ways to do it, in one
run on one thread.

    python benchmarks/streaming.py [--models tcn32 nam] [--blocks 1 16 64 256 1024] [--seconds .5] [--sr 48000]

`torch stream` is `model.stream(x, state)`; `Live, in torch` the same behind `Live`. The peers are written here
as one would write them:
*recompute* runs the receptive field again for every block (Neural Amp Modeler's own network in torch has no other way),
*cache + cat* keeps each layer's past and joins it to the block, *gather from ring* keeps it in a ring, gathers all
taps and multiplies once. All play the sound of our `stream`; the first blocks are compared.
`FASTPROAUDIO_NAM_RENDER=/path/to/render` adds the plugin's C++ player, which plays whole files. All ways take
turns, many short runs each, and the best counts: read ratios, not absolutes.
"""
import argparse, os, tempfile, time
from pathlib import Path

import torch
import torch.nn.functional as F
from fastproaudio.dsp import noise
from fastproaudio.live import Live
from fastproaudio.models import FIR, LSTMEffect, NAMWaveNet, TCN, TCNModel, WaveNet

MODELS = dict(tcn16=lambda: TCN(channel_width=16), tcn32=TCN,
              microtcn=lambda: TCNModel(2, causal=True, dilation_growth=2), nam=NAMWaveNet,
              nam_nano=lambda: NAMWaveNet('nano'), wavenet=WaveNet, lstm=LSTMEffect, fir=FIR)


class Ring:
    "The past of one layer: all taps gathered from a ring, then one matrix product."
    def __init__(self, conv, room=2048):
        n_out, n_in, ks = conv.weight.shape
        self.w, self.bias = conv.weight.permute(2, 1, 0).reshape(ks*n_in, n_out).contiguous(), conv.bias
        self.n, self.pos = conv.context+room, 0
        self.ring, self.now = torch.zeros(self.n, n_in), torch.arange(room)
        self.taps = (self.now[:, None]-torch.arange(ks-1, -1, -1)*conv.dilation).contiguous()

    def __call__(self, x):
        n = len(x)
        if self.taps.shape[1]==1: heard = x
        else:
            self.ring.index_copy_(0, (self.now[:n]+self.pos)%self.n, x)
            heard = self.ring.index_select(0, ((self.taps[:n]+self.pos)%self.n).flatten()).view(n, -1)
            self.pos = (self.pos+n)%self.n
        return heard@self.w if self.bias is None else torch.addmm(self.bias, heard, self.w)


class Cached(Ring):
    "The past of one layer, joined to the block, then a convolution."
    def __init__(self, conv):
        self.conv, self.past = conv, torch.zeros(1, conv.weight.shape[1], conv.context)

    def __call__(self, x):
        x = torch.cat([self.past, x.t()[None]], 2)
        self.past = x[..., x.shape[2]-self.past.shape[2]:]
        return F.conv1d(x, self.conv.weight, self.conv.bias, dilation=self.conv.dilation)[0].t()


def tcn_by(layer, m):
    "A TCN without knobs, made of such layers."
    parts = [(layer(b.conv), b.act.weight, layer(b.res)) for b in m.blocks]
    out = layer(m.out)
    def block(x):
        x = x[0].t()
        for conv, slope, res in parts: x = F.prelu(conv(x), slope) + res(x)
        return out(x).t()[None]
    return block


def nam_by(layer, m):
    "A NAM WaveNet, made of such layers."
    stacks = [(layer(s.rechannel), [(layer(l.conv), layer(l.mix), None if l.out is None else layer(l.out))
                                    for l in s.layers], layer(s.head)) for s in m.arrays]
    def block(x):
        y = dry = x[0].t()
        total = 0.
        for rechannel, layers, head in stacks:
            y = rechannel(y)
            for conv, mix, out in layers:
                found = torch.tanh(conv(y)+mix(dry))
                total = total+found
                if out is not None: y = y+out(found)
            total = head(total)
        return total.t()[None]*m.head_scale
    return block


def wavenet_by(layer, m):
    "A WaveNet without knobs, made of such layers."
    inp, (first, act, last) = layer(m.inp), m.head
    layers = [(layer(l.conv), None if l.res is None else layer(l.res)) for l in m.layers]
    first, last = layer(first), layer(last)
    def block(x):
        y, total = inp(x[0].t()), 0.
        for conv, res in layers:
            found = torch.tanh(conv(y))
            total = total+found
            if res is not None: y = y+res(found)
        return last(F.prelu(first(m.scale*total), act.weight)).t()[None]
    return block


def streamed(m, knobs):
    "Our stream, block after block."
    k = None if knobs is None else torch.tensor(knobs)[None]
    state = m.init_state(1, k)
    def block(x):
        nonlocal state
        y, state = m.stream(x, state, k)
        return y
    return block


def recompute(m):
    "The receptive field again for every block."
    past = torch.zeros(1, m.n_in, m.receptive_field-1)
    run = m.valid
    def block(x):
        nonlocal past
        seen = torch.cat([past, x], 2)
        past = seen[..., seen.shape[2]-past.shape[2]:]
        return run(seen)
    return block


def ways(name, m, knobs):
    "What is compared, by name."
    yield 'torch stream', streamed(m, knobs)
    yield 'Live, in torch', Live(m, knobs, engine='eager')
    try: yield 'compiled', Live(m, knobs, engine='numba')
    except ImportError as e: print(f'    ({e})')
    makers = dict(tcn=tcn_by, nam=nam_by, wavenet=wavenet_by)
    by = next((make for start, make in makers.items() if name.startswith(start)), None)
    if by: yield 'gather from ring', by(Ring, m)
    if by: yield 'cache + cat', by(Cached, m)
    if by and not knobs: yield 'recompute', recompute(m)


def same(plays, m):
    "Largest difference to our stream once the first receptive field is over."
    x = noise(m.receptive_field+4000, seed=3, amp=.3)[None]
    want, *others = (torch.cat([play(p) for p in x.split(1500, -1)], -1)[..., -3000:] for play in plays.values())
    return max([(y-want).abs().max().item() for y in others], default=0.)


def speeds(plays, n, sr, seconds):
    "Times real time of each way in blocks of `n`, taking turns."
    x = noise(n, seed=1, amp=.3)[None]
    best = dict.fromkeys(plays, 1e9)
    calls = max(1, 64//n)
    end = time.perf_counter()+seconds*len(plays)
    while time.perf_counter()<end:
        for k, play in plays.items():
            for _ in range(5):
                t = time.perf_counter()
                for _ in range(calls): play(x)
                best[k] = min(best[k], (time.perf_counter()-t)/calls)
    return {k: n/sr/t for k, t in best.items()}


def cpp(m, sr, seconds=20):
    "Times real time of the C++ player on a whole file, its start-up taken off."
    from fastproaudio.export.target import export
    from fastproaudio.export.nam import render_nam
    with tempfile.TemporaryDirectory() as d:
        export(m, Path(d)/'a.nam', to='nam', sr=sr)
        def took(n):
            start = time.perf_counter()
            render_nam(Path(d)/'a.nam', noise(n, seed=0, amp=.1)[0])
            return time.perf_counter()-start
        base = took(sr)
        return (seconds-1)/max(took(seconds*sr)-base, 1e-9)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--models', nargs='+', choices=list(MODELS), default=list(MODELS))
    p.add_argument('--blocks', nargs='+', type=int, default=[1, 16, 64, 256, 1024])
    p.add_argument('--seconds', type=float, default=.5, help='for each way and block')
    p.add_argument('--sr', type=int, default=48000)
    a = p.parse_args()
    torch.set_num_threads(1)
    for name in a.models:
        torch.manual_seed(0)
        m = MODELS[name]().eval().requires_grad_(False)
        knobs = [.5]*m.n_knobs or None
        plays = dict(ways(name, m, knobs))
        print(f'\n{name}: {sum(p.numel() for p in m.parameters()):,} weights, '
              f'receptive field {m.receptive_field:,}; largest difference {same(plays, m):.0e}')
        print(f"{'times real time, by block':26}" + ''.join(f'{n:>9}' for n in a.blocks), flush=True)
        table = [speeds(plays, n, a.sr, a.seconds) for n in a.blocks]
        for k in plays: print(f'{k:26}' + ''.join(f'{row[k]:9.2f}' for row in table))
        if 'compiled' in plays:
            print(f"{'compiled over torch stream':26}" + ''.join(f"{row['compiled']/row['torch stream']:9.1f}"
                                                                 for row in table))
        if 'gather from ring' in plays:
            print(f"{'torch stream over ring':26}" + ''.join(f"{row['torch stream']/row['gather from ring']:9.2f}"
                                                             for row in table))
        if name.startswith('nam') and os.environ.get('FASTPROAUDIO_NAM_RENDER'):
            print(f"{'C++ player, whole file':26}{cpp(m, a.sr):9.2f}")


if __name__=='__main__': main()
