"""Learn one-shot sounds from class folders, and label a stream of them: `python benchmarks/classify.py FOLDER`.

FOLDER holds train/CLASS/*.flac, test/CLASS/*.flac and, if a stream shall be labelled, stream_test.flac beside
stream_test_labels.txt. The test folder is scored once, after training; nothing is chosen by it: settings were
chosen with `--folds 3`, which splits the training folder and leaves the test folder alone. Baselines: cepstra's
means and deviations, with scikit-learn's classifiers."""
import argparse, collections, os, random, statistics, tempfile, time
from pathlib import Path

import torch
from fastai.basics import Callback, CancelValidException
from fastai.torch_core import set_seed

from fastproaudio.models import *
from fastproaudio.train import *
from fastproaudio.data import AudioDataLoaders, get_audio_files
from fastproaudio.export import export, load_effect
from fastproaudio.io import audio_info, read_audio
from fastproaudio.spectral import MFCC
from fastproaudio.train.labels import SoundEvent


class NoValidation(Callback):
    "All of the time for learning."
    def before_validate(self): raise CancelValidException


def learn_one(folder, arch, minutes, seed, window_s, clock=time.perf_counter):
    "A classifier learned from FOLDER/train, and the seconds that took."
    set_seed(seed)
    start = clock()
    sr = audio_info(get_audio_files(folder/'train')[0]).sr
    dls = AudioDataLoaders.from_folder(folder, valid='test', chunk_len=int(window_s*sr),
                                       head=True, pad=True, preload=True, bs=32, seed=seed, device='cpu')
    learn = classifier_learner(dls, arch=arch, metrics=[])
    with learn.no_bar(), learn.no_logging(): learn.fit_for(minutes, clock=clock, cbs=NoValidation())
    return learn, clock()-start


def accuracy_on(learn, folder):
    "Part of the files in `folder` that get the name of their folder, how many there are, and those that do not."
    said = [(p, learn.predict(p)[0]) for p in get_audio_files(folder)]
    wrong = [f'{p.parent.name}/{p.name}: {s}' for p, s in said if s!=p.parent.name]
    return 1-len(wrong)/len(said), len(said), wrong


def folded(folder, k, seed, into):
    """Folders like FOLDER, made of links: each of `k` with another part of FOLDER/train as its test folder, every
    class in each."""
    files, rng = collections.defaultdict(list), random.Random(seed)
    for p in sorted(get_audio_files(folder/'train')): files[p.parent.name].append(p.resolve())
    for ps in files.values(): rng.shuffle(ps)
    for fold in range(k):
        for i, p in ((i, p) for ps in files.values() for i, p in enumerate(ps)):
            to = into/f'{fold}'/('test' if i%k==fold else 'train')/p.parent.name
            to.mkdir(parents=True, exist_ok=True)
            os.symlink(p, to/p.name)
    return [into/f'{fold}' for fold in range(k)]


def summary(path, window_s, sr):
    "Means and deviations over time of 20 cepstra and of their steps, `(80,)`."
    x = read_audio(path, 0, min(int(window_s*sr), audio_info(path).n))[0].mean(0)
    c = MFCC(sr, 20, pad_mode='constant')(x)
    d = c.diff() if c.shape[-1]>2 else torch.zeros(len(c), 2)
    return torch.cat([c.mean(-1), c.std(-1), d.mean(-1), d.std(-1)]).numpy()


def baselines(folder, window_s):
    "Name -> part of FOLDER/test told right after learning from FOLDER/train."
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC
    except ImportError: return {}
    parts = [sorted(get_audio_files(folder/o)) for o in ('train', 'test')]
    (x, y), (a, b) = [([summary(p, window_s, audio_info(p).sr) for p in ps], [p.parent.name for p in ps])
                      for ps in parts]
    makers = {'cepstra, logistic regression': LogisticRegression(max_iter=2000),
              'cepstra, SVM': SVC(C=10), 'cepstra, nearest neighbour': KNeighborsClassifier(1)}
    return {k: make_pipeline(StandardScaler(), m).fit(x, y).score(a, b) for k, m in makers.items()}


def cross_validate(a, clock):
    "Print the accuracy over all folds inside FOLDER/train, of each net and each baseline."
    for seed in a.seeds:
        with tempfile.TemporaryDirectory() as d:
            folders = folded(a.folder, a.folds, seed, Path(d))
            for arch in a.arch:
                scores = [accuracy_on(learn_one(f, arch, a.minutes, seed, a.window, clock)[0], f/'test')
                          for f in folders]
                n = sum(n for _, n, _ in scores)
                print(f'| {arch}, seed {seed} | {sum(acc*n for acc, n, _ in scores)/n:.1%} of {n} |',
                      *(w for *_, ws in scores for w in ws), flush=True)
            for name in (each := [baselines(f, a.window) for f in folders])[0]:
                print(f'| {name}, seed {seed} | {statistics.mean(e[name] for e in each):.1%} |', flush=True)


def through_host(learn, stream):
    "Events of a stream as the exported graph finds them."
    with tempfile.TemporaryDirectory() as d:
        export(learn, Path(d)/'out', to='audacity', n_random=2)
        labels, times = load_effect(Path(d)/'out')(read_audio(stream)[0])
    return [SoundEvent(learn.model.vocab[i], a, b) for i, (a, b) in zip(labels.tolist(), times.tolist())]


def score(learn, folder, seconds, arch):
    "Print one line of the table, and what was wrong."
    acc, n, wrong = accuracy_on(learn, folder/'test')
    n_par, stream = sum(p.numel() for p in learn.model.parameters()), folder/'stream_test.flac'
    line = f'| {arch} | {n_par:,} | {seconds:.0f} | {acc:.1%} of {n} |'
    if stream.exists():
        truth, found = read_labels(folder/'stream_test_labels.txt'), learn.label(stream)
        bare = lambda events: [('', *e[1:]) for e in events]
        line += f' {event_f1(found, truth)[0]:.3f} | {event_f1(bare(found), bare(truth))[0]:.3f} |'
        line += f' {event_f1(through_host(learn, stream), truth)[0]:.3f} |' if arch.startswith('spec') else ' |'
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
    p.add_argument('--cpu', action='store_true',
                   help="count the processor's seconds, not the wall clock's: for a busy machine, with --threads 1")
    p.add_argument('--folds', type=int, default=0,
                   help='instead of the test folder, cross-validate inside the training folder')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    clock = time.process_time if a.cpu else time.perf_counter
    if a.folds: return cross_validate(a, clock)
    print('| net | parameters | seconds to learn | accuracy on test | event F1 (50 ms) | onset F1 | '
          'F1 of the exported graph |\n|---|---|---|---|---|---|---|')
    for seed in a.seeds:
        for arch in a.arch:
            learn, seconds = learn_one(a.folder, arch, a.minutes, seed, a.window, clock)
            score(learn, a.folder, seconds, f'{arch}, seed {seed}')
    for name, acc in baselines(a.folder, a.window).items(): print(f'| {name} | | | {acc:.1%} | | | |')


if __name__=='__main__': main()
