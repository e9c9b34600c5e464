"""Learning an effect with a knob: settings that were trained, and settings between them that were not.

    python benchmarks/knobs.py [TRAIN TEST] [--effect amp] [--seconds 90] [--folder OUT]

TRAIN and TEST are dry recordings of one rate; without them the sound that comes with the package is used.
A folder in SignalTrain's convention is rendered from them: with `pedalboard` a tube-amp chain whose drive is
turned (`--effect amp`), or without it `tanh(10**(d/20)*x)` (`--effect tanh`). Trained on the settings 6, 12, ...
dB alone, tested on another recording at these and at those half-way. Everything runs on one thread; the time is
the process's own CPU time.
"""
import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch

from fastproaudio.all import *

TRAINED = {'amp': (6, 12, 18, 24, 30), 'tanh': (0, 6, 12, 18, 24)}


def amp(x, sr, drive):
    "A tube amp: `pedalboard`'s distortion between filters."
    try: import pedalboard as pb
    except ImportError:
        raise SystemExit("the amp is rendered by pedalboard, which is not installed; "
                         "pip install pedalboard, or use --effect tanh") from None
    chain = pb.Pedalboard([pb.HighpassFilter(80), pb.Gain(-2), pb.Distortion(drive_db=drive),
                           pb.LadderFilter(mode=pb.LadderFilter.Mode.LPF24,
                                           cutoff_hz=4500, resonance=.1, drive=1.5), pb.Gain(-8)])
    return torch.from_numpy(chain(x.numpy(), sr, reset=True))


def tanh(x, _, drive): return torch.tanh(10**(drive/20)*x)


EFFECTS = {'amp': amp, 'tanh': tanh}
between = lambda ds: [(a+b)/2 for a, b in zip(ds, ds[1:])]


def render(effect, train, test, out, valid_pct=.1):
    "A folder in SignalTrain's convention: trained settings in Train and Val, those and the ones between in Test."
    (x, sr), (z, rate) = read_audio(train), read_audio(test)
    if rate != sr: raise SystemExit(f"{test}: expected {sr} Hz as in {train}, got {rate} Hz")
    cut = round((1-valid_pct)*x.shape[1])
    for i, (part, dry, settings) in enumerate([('Train', x[:, :cut], TRAINED[effect]),
                                               ('Val', x[:, cut:], TRAINED[effect]),
                                               ('Test', z, (*TRAINED[effect], *between(TRAINED[effect])))]):
        (out/part).mkdir(parents=True, exist_ok=True)
        write_audio(out/part/f'input_{i}_.wav', dry, sr)
        for d in settings:
            write_audio(out/part/f'target_{i}_{effect}__{d:g}.wav', EFFECTS[effect](dry, sr, d), sr, subtype='FLOAT')
    return sr


def learned(folder, seconds, model):
    "A learner trained on a folder for so many CPU seconds, reading and validation included."
    start = time.process_time()
    set_seed(0)
    dls = AudioDataLoaders.from_signaltrain(folder, knobs=['drive'], chunk_len=8192, bs=4, seed=0)
    learn = effects_learner(dls, model, path=folder, checkpoint=None)
    with learn.no_bar(), learn.no_logging():
        learn.fit_for((seconds-(time.process_time()-start))/60, clock=time.process_time)
    return learn, time.process_time()-start


def rows(learn, folder, effect, sr):
    """For each setting: drive, whether it was trained, and ESR of the model, the nearest trained setting, the dry
    sound at its best gain and as it is."""
    x = read_audio(next((folder/'Test').glob('input_*')))[0]
    ratio = lambda p, y: float((p-y).pow(2).sum()/y.pow(2).sum())
    for d in sorted((*TRAINED[effect], *between(TRAINED[effect]))):
        y = read_audio(next((folder/'Test').glob(f'target_*__{d:g}.wav')))[0]
        near = [EFFECTS[effect](x, sr, t) for t in TRAINED[effect] if t != d]
        p = learn.predict(x, drive=d).as_subclass(torch.Tensor)
        yield d, d in TRAINED[effect], ratio(p, y), min(ratio(o, y)
                                                        for o in near), ratio(float(best_gain(x, y))*x, y), ratio(x, y)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('sound', nargs='*', help='two dry recordings, to train and to test on')
    p.add_argument('--effect', choices=EFFECTS, default='amp')
    p.add_argument('--seconds', type=float, default=90)
    p.add_argument('--folder', type=Path, help='where to keep what was rendered')
    a = p.parse_args()
    if len(a.sound) not in (0, 2): p.error('expected two recordings, or none')
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    train, test = a.sound or [bundled('guitar_dist')/f'{part}_input.flac' for part in ('train', 'test')]
    with tempfile.TemporaryDirectory() as tmp:
        folder = a.folder or Path(tmp)
        sr = render(a.effect, train, test, folder)
        if a.effect == 'amp': net = WaveNet(n_knobs=1, n_layers=5, ks=5, dilation_growth=4)
        else: net = TCN(n_knobs=1, n_blocks=2, ks=1, channel_width=16)
        n_weights = sum(q.numel() for q in net.parameters())
        learn, spent = learned(folder, a.seconds, net)
        print(f"{a.effect}: {type(net).__name__}, {n_weights:,} parameters, {spent:.0f} CPU s\n")
        print("| drive, dB | trained | ESR of the model | nearest other trained setting | "
              "dry at best gain | dry | silence |")
        print('|' + '---|'*7)
        for d, seen, *scores in rows(learn, folder, a.effect, sr):
            print(f"| {d:g} | {'yes' if seen else 'no'} | " + ' | '.join(f'{e:.4f}' for e in scores) + " | 1 |")


if __name__ == '__main__': main()
