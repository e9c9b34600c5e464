"""Cost of the losses, forward and gradient, beside auraloss and beside a plain torch.stft version, in one process.

    python benchmarks/losses.py [--threads 1] [--repeats 7]
"""
import argparse, time

import torch
from torch import nn

import auraloss
from fastproaudio import losses as fpa

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
SHAPES = ((16, 1, 8192), (8, 1, 32768), (4, 2, 65536))


def plain(pred, targ):
    "Multi-resolution STFT distance as one would write it with torch.stft and autograd."
    def mags(x, n_fft, hop, win):
        z = torch.view_as_real(torch.stft(x.flatten(0, 1), n_fft, hop, win,
                                          torch.hann_window(win), return_complex=True))
        return (z.square().sum(-1)+1e-8).sqrt()
    total = 0
    for r in RESOLUTIONS:
        a,b = mags(pred, *r),mags(targ, *r)
        total = total + ((a-b).norm(dim=(1, 2))/b.norm(dim=(1, 2))).mean() + (a.log()-b.log()).abs().mean()
    return total/len(RESOLUTIONS)


def once(loss, pred, targ):
    p = pred.clone().requires_grad_()
    start = time.perf_counter()
    loss(p, targ).backward()
    return (time.perf_counter()-start)*1e3


def best(cases, pred, targ, repeats):
    "Best of several, the candidates taking turns, so that a busy moment hits all of them."
    for f in cases: once(f, pred, targ)
    times = [[once(f, pred, targ) for f in cases] for _ in range(repeats)]
    return [min(t) for t in zip(*times)]


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--repeats', type=int, default=7)
    a = p.parse_args()
    torch.set_num_threads(a.threads); torch.manual_seed(0)
    rows = [('multi-resolution STFT', fpa.MultiResSTFTLoss(), auraloss.freq.MultiResolutionSTFTLoss(), plain),
            ('ESR', fpa.ESRLoss(), auraloss.time.ESRLoss(), None), ('DC', fpa.DCLoss(), auraloss.time.DCLoss(), None),
            ('log-cosh', fpa.LogCoshLoss(), auraloss.time.LogCoshLoss(), None),
            ('SI-SDR', fpa.SISDRLoss(), auraloss.time.SISDRLoss(), None), ('MSE', fpa.MSELoss(), nn.MSELoss(), None)]
    print(f"milliseconds, forward and gradient, {a.threads} thread(s), best of {a.repeats}; "
          "MSE stands beside torch's own\n")
    print(f"{'batch':>14} {'loss':<22} {'ours':>8} {'peer':>8} {'plain':>8} {'peer/ours':>10}")
    for shape in SHAPES:
        pred,targ = .1*torch.randn(shape),.1*torch.randn(shape)
        for name,ours,peer,ref in rows:
            t = best([f for f in (ours, peer, ref) if f], pred, targ, a.repeats)
            third = f"{t[2]:8.2f}" if ref else ' '*8
            print(f"{'x'.join(map(str, shape)):>14} {name:<22} {t[0]:8.2f} {t[1]:8.2f} {third} {t[1]/t[0]:10.1f}")


if __name__=='__main__': main()
