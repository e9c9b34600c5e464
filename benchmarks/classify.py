"""Learn one-shot sounds from class folders, and label a stream of them: `python benchmarks/classify.py FOLDER`.

FOLDER holds train/CLASS/*.flac, test/CLASS/*.flac and, if a stream shall be labelled, stream_test.flac beside
stream_test_labels.txt. The test folder is scored once, after training; nothing is chosen by it."""
import argparse, tempfile, time
from pathlib import Path

import torch
from fastai.torch_core import set_seed

from fastproaudio.classifier import *
from fastproaudio.data import AudioDataLoaders, get_audio_files
from fastproaudio.export.core import export, load_effect
from fastproaudio.io import audio_info, read_audio


def learn_one(folder, arch, minutes, seed, window_s):
    "A classifier learned from FOLDER/train, and the seconds that took."
    set_seed(seed)
    start = time.perf_counter()
    sr = audio_info(get_audio_files(folder/'train')[0]).sr
    dls = AudioDataLoaders.from_folder(folder, valid='test', chunk_len=int(window_s*sr), head=True, pad=True, preload=True, bs=32, seed=seed, device='cpu')
    learn = classifier_learner(dls, arch=arch, metrics=[])
    with learn.no_bar(), learn.no_logging(): learn.fit_for(minutes)
    return learn, time.perf_counter()-start


def accuracy_on(learn, folder):
    "Part of the files in `folder` that get the name of their folder, how many there are, and those that do not."
    said = [(p, learn.predict(p)[0]) for p in get_audio_files(folder)]
    wrong = [f'{p.parent.name}/{p.name}: {s}' for p, s in said if s!=p.parent.name]
    return 1-len(wrong)/len(said), len(said), wrong


def through_host(learn, stream):
    "Events of a stream as the exported graph finds them."
    with tempfile.TemporaryDirectory() as d:
        export(learn, Path(d)/'out', to='audacity', n_random=2)
        labels, times = load_effect(Path(d)/'out')(read_audio(stream)[0])
    return [Event(learn.model.vocab[i], a, b) for i, (a, b) in zip(labels.tolist(), times.tolist())]


def score(learn, folder, seconds, arch):
    "Print one line of the table, and what was wrong."
    acc, n, wrong = accuracy_on(learn, folder/'test')
    n_par, stream = sum(p.numel() for p in learn.model.parameters()), folder/'stream_test.flac'
    line = f'| {arch} | {n_par:,} | {seconds:.0f} | {acc:.1%} of {n} |'
    if stream.exists():
        truth, found = read_labels(folder/'stream_test_labels.txt'), learn.label(stream)
        bare = lambda events: [('', *e[1:]) for e in events]
        line += f' {event_f1(found, truth)[0]:.3f} | {event_f1(bare(found), bare(truth))[0]:.3f} |'
        line += f' {event_f1(through_host(learn, stream), truth)[0]:.3f} |' if arch=='spec' else ' |'
    print(line, flush=True)
    for w in wrong: print('   wrong:', w)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path)
    p.add_argument('--minutes', type=float, default=1.5, help='time to train each net (default: 1.5)')
    p.add_argument('--arch', nargs='+', default=['spec', 'wave'], choices=['spec', 'wave'])
    p.add_argument('--seeds', type=int, nargs='+', default=[0])
    p.add_argument('--window', type=float, default=.75, help='seconds heard after an onset (default: 0.75)')
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    print('| net | parameters | seconds to learn | accuracy on test | event F1 (50 ms) | onset F1 | F1 of the exported graph |\n|---|---|---|---|---|---|---|')
    for seed in a.seeds:
        for arch in a.arch:
            learn, seconds = learn_one(a.folder, arch, a.minutes, seed, a.window)
            score(learn, a.folder, seconds, arch)


if __name__=='__main__': main()
