"""The network that is chosen beside the best at the same budget: ESR of `net='auto'` over the least ESR of any network.

    python benchmarks/choose.py DATA [--tasks a_dist b_comp c_reverb] [--rigs compressor hall] [--sound 15 60]
                                     [--minutes 1 3 10] [--nets wavenet tcn ...]

DATA holds a folder a task with {train,test}_{input,target}.flac; rigs are played on the dry of the first task.
One thread, CPU minutes.
"""
import argparse
import math
import tempfile
import time
from pathlib import Path

import torch

from fastproaudio.all import *


def wave(path): return read_audio(path)[0].as_subclass(torch.Tensor)[:1]


def esr(pair, test, sr, minutes, net):
    "What one network leaves after so many CPU minutes."
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for k, v in zip(('dry', 'wet', 'test_dry', 'test_wet'), (*pair, *test)):
            write_audio(tmp/f'{k}.wav', v, sr, subtype='FLOAT')
        try:
            got = train_effect(tmp/'dry.wav', tmp/'wet.wav', tmp/'out', minutes=minutes, net=net, quiet=True,
                               clock=time.process_time, test=(tmp/'test_dry.wav', tmp/'test_wet.wav'))
        except ValueError as e:
            print(f'  {net}: {e}')
            return math.inf, net
        return got.report.esr, first(got.tried) if got.tried else type(got.learn.model).__name__


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--tasks', nargs='*', default=['a_dist', 'b_comp', 'c_reverb'])
    p.add_argument('--rigs', nargs='*', default=[r.name for r in RIGS.values() if r.learnable])
    p.add_argument('--sound', type=float, nargs='*', default=[15, 60])
    p.add_argument('--minutes', type=float, nargs='*', default=[1, 3, 10])
    p.add_argument('--nets', nargs='*', default=list(NETS))
    a = p.parse_args()
    torch.set_num_threads(1)
    cases = {}
    for task in a.tasks:
        cases[task] = [wave(a.data/task/f'{s}_{w}.flac') for s in ('train', 'test') for w in ('input', 'target')]
    dry = [wave(a.data/'a_dist'/f'{s}_input.flac') for s in ('train', 'test')]
    sr = audio_info(a.data/'a_dist'/'train_input.flac').sr
    for name in a.rigs:
        late = round(RIGS[name].latency_s*sr)
        cases[name] = [o for x in dry for o in (x[:, :x.shape[1]-late], RIGS[name](x, sr)[:, late:])]
    print('| task | sound, s | minutes | chosen | ESR | best | ESR | ratio |\n|---|---|---|---|---|---|---|---|')
    ratios = []
    for name, (x, y, tx, ty) in cases.items():
        for sound in a.sound:
            pair = [o[:, :int(sound*sr)] for o in (x, y)]
            for minutes in a.minutes:
                got, taken = esr(pair, (tx, ty), sr, minutes, 'auto')
                found = {n: esr(pair, (tx, ty), sr, minutes, n)[0] for n in a.nets}
                best = min(found, key=found.get)
                ratios.append(got/min(found[best], got))
                print(f'| {name} | {sound:g} | {minutes:g} | {taken} | {got:.4f} | {best} | {found[best]:.4f} | '
                      f'{ratios[-1]:.2f} |', flush=True)
    if ratios: print(f'geometric mean {math.exp(sum(map(math.log, ratios))/len(ratios)):.3f}, worst {max(ratios):.3f}')


if __name__ == '__main__': main()
