"""Learning an effect: this library beside Neural Amp Modeler's trainer, on the same recordings, at equal CPU seconds.

    python benchmarks/effects.py DATA [--seconds 30 90] [--tasks a_dist b_comp c_reverb] [--auto]

With --auto only what `fastproaudio train` does is run: `train_effect`, which is told nothing about the effect
and chooses the network.

DATA holds one folder a task with {train,test}_{input,target}.flac. Everything runs on one thread, and time is
the process's own CPU time, fitting, validation and reading included. NAM's net is its standard WaveNet with its
recipe: mean squared error and 2e-4 multi-resolution STFT, Adam at 4e-3 with a decay of .993 an epoch, batches of
16 x 8192 samples.
"""
import argparse
import importlib.util
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import torch

from fastproaudio.all import *

OURS = {'a_dist': lambda: WaveNet(n_layers=5, ks=5, dilation_growth=4), 'b_comp': lambda: TCN(channel_width=16),
        'c_reverb': lambda: FIR(32768)}


def figures(pred, y):
    return float(whole_esr(pred, y)), float((pred-y).abs().mean()), float(stft_distance(pred[None], y[None]))


def ours(src, task, seconds):
    "Predicted test recording and CPU seconds spent."
    start = time.process_time()
    set_seed(0)
    model = OURS.get(task, OURS['a_dist'])()
    with tempfile.TemporaryDirectory() as tmp:
        dls = AudioDataLoaders.from_pairs(src, chunk_len=8192 if model.receptive_field < 8192 else 16384, valid_pct=.05,
                                          bs=4 if model.receptive_field < 8192 else 2, seed=0, path=tmp)
        if isinstance(model, FIR):
            model.fit(read_audio(src/'train_input.flac')[0], read_audio(src/'train_target.flac')[0])
            learn = EffectsLearner(dls, model, loss_func=ESRLoss())
        else:
            learn = effects_learner(dls, model, checkpoint=None)
            with learn.no_bar(), learn.no_logging():
                learn.fit_for((seconds-(time.process_time()-start))/60, clock=time.process_time)
        spent = time.process_time()-start
        return learn.predict(src/'test_input.flac').as_subclass(torch.Tensor), spent, model


def chosen(src, seconds):
    "What `train_effect` makes of the training pair, told nothing: predicted test recording, CPU seconds spent, model."
    start = time.process_time()
    with tempfile.TemporaryDirectory() as tmp:
        got = train_effect(src, out=Path(tmp)/'effect', minutes=seconds/60, quiet=True, clock=time.process_time)
        pred = got.learn.predict(src/'test_input.flac').as_subclass(torch.Tensor)
        return pred, time.process_time()-start, got.learn.model


def peer(src, seconds, seed=0, ny=8192, bs=16):
    "The same by NAM: predicted test recording and CPU seconds spent."
    from nam.models.losses import multi_resolution_stft_loss
    from nam.models.wavenet import WaveNet as NAMNet
    layers = lambda i, c, h, b: dict(input_size=i, condition_size=1,
                                     head=dict(out_channels=h, kernel_size=1, bias=b), channels=c,
                                     kernel_size=3, dilations=[2**k for k in range(10)], activation='Tanh')
    torch.manual_seed(seed)
    m = NAMNet.init_from_config(dict(layers_configs=[layers(1, 16, 8, False), layers(16, 8, 1, True)], head_scale=.02))
    (x, _), (y, _) = read_audio(src/'train_input.flac'), read_audio(src/'train_target.flac')
    start, rf = time.process_time(), m.receptive_field
    opt = torch.optim.Adam(m.parameters(), lr=4e-3)
    sched = torch.optim.lr_scheduler.ExponentialLR(opt, .993)
    starts = torch.arange(0, x.shape[1]-rf-ny+1, ny)
    while True:
        for part in starts[torch.randperm(len(starts))].split(bs):
            if time.process_time()-start > seconds:
                test = torch.cat([torch.zeros(1, rf-1), read_audio(src/'test_input.flac')[0]], 1)
                return m.eval(), m(test, pad_start=False).detach(), time.process_time()-start
            xb = torch.stack([x[0, s:s+rf-1+ny] for s in part])
            yb = torch.stack([y[0, s+rf-1:s+rf-1+ny] for s in part])
            p = m(xb, pad_start=False)
            loss = (p-yb).pow(2).mean() + 2e-4*multi_resolution_stft_loss(p, yb)
            opt.zero_grad(); loss.backward(); opt.step()
        sched.step()


def show_row(task, y, name, m, seconds, pred):
    "One line of the table: what was trained for how long, and how near it came."
    scores = ' | '.join(f'{v:.2g}' if v < 1e-4 else f'{v:.5f}' for v in figures(pred, y))
    n_weights = sum(p.numel() for p in m.parameters())
    print(f'| {task} | {name} | {n_weights} | {m.receptive_field} | {seconds:.0f} |', scores, '|', flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('data', type=Path)
    p.add_argument('--seconds', type=float, nargs='+', default=[30, 90],
                   help='CPU seconds for each; several: one row for each')
    p.add_argument('--tasks', nargs='+', default=['a_dist', 'b_comp', 'c_reverb'])
    p.add_argument('--auto', action='store_true', help='let the library choose the network')
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    if importlib.util.find_spec('nam') is None:
        print('without the peer: pip install "fastproaudio[bench]" brings neural-amp-modeler')
    print('| task | what | weights | receptive field | CPU s | ESR | MAE | multi-resolution STFT |\n'
          '|---|---|---|---|---|---|---|---|', flush=True)
    for task in a.tasks:
        src = a.data/task
        x, y = read_audio(src/'test_input.flac')[0], read_audio(src/'test_target.flac')[0]
        fx, fy = read_audio(src/'train_input.flac')[0], read_audio(src/'train_target.flac')[0]
        h = best_fir(fx, fy, 4096)
        for name, pred in (('silence', torch.zeros_like(y)), ('dry at best gain', best_gain(fx, fy)*x),
                           ('best filter, 4096 taps', fft_conv(x, h))):
            print(f'| {task} | {name} | | | |', ' | '.join(f'{v:.4f}' for v in figures(pred, y)), '|', flush=True)
        row = partial(show_row, task, y)
        for seconds in a.seconds:
            if a.auto:
                pred, spent, m = chosen(src, seconds)
                row(f'train_effect: {type(m).__name__}', m, spent, pred)
                continue
            pred, spent, m = ours(src, task, seconds)
            row(f'fastproaudio {type(m).__name__}', m, spent, pred)
            try: m, pred, spent = peer(src, seconds)
            except ImportError: continue
            row('NAM 0.13 standard', m, spent, pred)


if __name__ == '__main__': main()
