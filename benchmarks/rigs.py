"""Eighteen rigs of which all is known: what a check says, the network taken, and its worth beside what costs nothing.

    python benchmarks/rigs.py DRY.flac [--sound 15] [--seconds 30] [--rigs amp hum ...]

DRY is played through each rig of `RIGS`, its first part is learned from for so many CPU seconds by `train_effect`,
told nothing, and what follows is judged on. Idle level is what the network makes of silence; what the rig itself
does there is in brackets.
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch

from fastproaudio.all import *
from fastproaudio.pairs import check_pair


def row(name, x, sr, sound, seconds):
    "One line of the table."
    rig = RIGS[name]
    y = rig(x, sr)
    cut = int(sound*sr)
    said = check_pair(x[:, :cut], y[:, :cut], sr)
    late = max(0, said.latency or 0)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        parts = dict(dry=x[:, :cut-late], wet=y[:, late:cut], test_dry=x[:, cut:-late or None],
                     test_wet=y[:, cut+late:])
        for k, v in parts.items(): write_audio(tmp/f'{k}.wav', v, sr, subtype='FLOAT')
        got = train_effect(tmp/'dry.wav', tmp/'wet.wav', tmp/'out', minutes=seconds/60, quiet=True,
                           clock=time.process_time, test=(tmp/'test_dry.wav', tmp/'test_wet.wav'))
        idle = float(rms_db(got.learn.predict(torch.zeros(1, sr)).as_subclass(torch.Tensor)))
    base = got.report.baselines
    kinds = ', '.join(said.kinds+[n.kind for n in said.notes])
    return (f"| {name} | {got.report.verdict} | {first(got.tried) if got.tried else type(got.learn.model).__name__} | "
            f"{got.report.esr:.4f} | {base['identity']:.4f} | {base['gain']:.4f} | {base['filter']:.4f} | "
            f"{idle:.0f} ({rig.idle_db:.0f}) | {kinds} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('dry', type=Path)
    p.add_argument('--sound', type=float, default=15, help='seconds to learn from')
    p.add_argument('--seconds', type=float, default=30, help='CPU seconds for a rig')
    p.add_argument('--rigs', nargs='*', default=list(RIGS))
    a = p.parse_args()
    torch.set_num_threads(1)
    x, sr = read_audio(a.dry)
    x = x.as_subclass(torch.Tensor)[:1, :int((a.sound+8)*sr)]
    print('| rig | verdict | network | ESR | dry | gain | filter | idle, dBFS | said |\n'
          '|---|---|---|---|---|---|---|---|---|')
    for name in a.rigs: print(row(name, x, sr, a.sound, a.seconds), flush=True)


if __name__ == '__main__': main()
