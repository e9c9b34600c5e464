"""Chunks per second of the loader, beside whole-file loading, one read each and the memcpy ceiling, in one run.

    python benchmarks/data.py [--seconds 2] [--minutes 2] [--files 6] [--quick]

The sound is synthesised in a temporary folder. Judge by ratios: every line is timed in turn, several times over, and the best counts.
"""
import argparse,tempfile,time
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from fastai.basics import TfmdDL,set_seed
from fastai.data.all import DataBlock,IndexSplitter
from fastproaudio.data import *
from fastproaudio.io import audio_info,read_audio

sr = 44100

def write_files(folder, n_files, minutes):
    "Mono files of decaying tones in noise (compressible as music is), WAV and FLAC, each with a partner."
    n,rng = int(60*minutes*sr),np.random.default_rng(0)
    t = np.arange(n)/sr
    for i in range(n_files):
        x = .4*np.sin(2*np.pi*(110+20*i)*t)*np.exp(-6*(t%.5)) + .01*rng.standard_normal(n)
        for ext in ('wav', 'flac'):
            sf.write(folder/f'{i}_input.{ext}', x, sr, subtype='PCM_16')
            sf.write(folder/f'{i}_target.{ext}', np.tanh(2*x), sr, subtype='PCM_16')

def rate(run, seconds):
    "Items per second of a generator that yields the count of each batch; the generator is run until time is up."
    next(gen := run())
    n,t0 = 0,time.perf_counter()
    while (t := time.perf_counter()-t0)<seconds:
        try: n += next(gen)
        except StopIteration: gen = run()
    return n/t

def loader(folder, ext, paired, **kwargs):
    "A training loader as `from_pairs` builds it, or one of single recordings."
    files = sorted(folder.glob(f'*_input.{ext}'))
    kw = dict(chunk_len=65536, bs=16, check=False, device='cpu', **kwargs)
    if paired: return AudioDataLoaders.from_pairs(files, [str(f).replace('input', 'target') for f in files], seed=0, **kw).train
    db = DataBlock(AudioBlock, splitter=IndexSplitter([0]))
    return db.dataloaders(files, **kw).train

def batches(dl):
    def run():
        for b in dl: yield len(b[0])
    return run

def whole_file(folder, ext):
    "The way of loaders that decode a file for each chunk."
    def run():
        for f in sorted(folder.glob(f'*_input.{ext}'))*100:
            yield sf.read(f, dtype='float32')[0][65536:131072].shape[0]//65536
    return run

def memcpy():
    "Copy a batch out of memory: nothing can be faster."
    x,out = torch.randn(64, 1, 65536),torch.empty(16, 1, 65536)
    def run():
        for i in range(10**6):
            j = i%3*16
            out.copy_(x[j:j+16])
            yield 16
    return run

def stack():
    "The same into fresh memory, as a collate function does."
    x = torch.randn(64, 1, 65536)
    def run():
        for i in range(10**6): yield len(torch.stack(list(x[i%3*16:i%3*16+16])))
    return run

def read_only(folder, ext):
    "Seek and read with the library's reader, no loader around it."
    files = sorted(folder.glob(f'*_input.{ext}'))
    n,rng = audio_info(files[0]).n,np.random.default_rng(0)
    def run():
        for i in range(10**6): yield read_audio(files[i%len(files)], int(rng.integers(n-65536)), 65536)[0].shape[1]//65536
    return run

class PerItem(ChunkDL):
    "One read for each window through fastai's own item path: what a dataset of windows costs."
    def create_batches(self, samps): return TfmdDL.create_batches(self, samps)

def one_read_each(folder, ext, n):
    "Windows of `n` samples, one read and one item each."
    dl = loader(folder, ext, False)
    return batches(dl.new(cls=PerItem, chunk_len=n, bs=32))

def table(title, lines, seconds, rounds=3):
    "Time all lines in turn, several rounds, and print the best of each."
    best = {}
    for _ in range(rounds):
        for name,run in lines.items(): best[name] = max(best.get(name, 0), rate(run, seconds))
    print(f'\n{title}')
    for name,r in best.items(): print(f'  {name:<58}{r:>12,.0f}')
    return best

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seconds', type=float, default=1.)
    p.add_argument('--minutes', type=float, default=2.)
    p.add_argument('--files', type=int, default=6)
    a = p.parse_args()
    torch.set_num_threads(1)
    set_seed(0)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        write_files(d, a.files, a.minutes)
        lines = {'memcpy of the batch (ceiling)':memcpy(), 'torch.stack of the batch':stack()}
        for ext in ('wav', 'flac'):
            lines[f'{ext}: seek and read only'] = read_only(d, ext)
            lines[f'{ext}: ChunkDL, single, 0 workers'] = batches(loader(d, ext, False))
            lines[f'{ext}: ChunkDL, single, 2 workers'] = batches(loader(d, ext, False, num_workers=2))
            lines[f'{ext}: ChunkDL, pairs, 0 workers'] = batches(loader(d, ext, True))
            lines[f'{ext}: ChunkDL, pairs, 2 workers'] = batches(loader(d, ext, True, num_workers=2))
            lines[f'{ext}: ChunkDL, single, preload'] = batches(loader(d, ext, False, preload=True))
            lines[f'{ext}: whole file for each chunk'] = whole_file(d, ext)
        chunks = table(f'Chunks of 65,536 samples a second ({a.files} files of {a.minutes:g} min)', lines, a.seconds)
        lines = {}
        for ext in ('wav', 'flac'):
            window = dict(chunk_len=2048, bs=32)
            lines[f'{ext}: one read and one item each'] = one_read_each(d, ext, 2048)
            lines[f'{ext}: one read each, batch at once'] = batches(loader(d, ext, False).new(**window))
            lines[f'{ext}: cut from reads of 65,536'] = batches(loader(d, ext, False).new(read_len=65536, **window))
            lines[f'{ext}: the same, pairs'] = batches(loader(d, ext, True).new(read_len=65536, **window))
            lines[f'{ext}: preload'] = batches(loader(d, ext, False, preload=True).new(**window))
        windows = table('Windows of 2,048 samples a second', lines, a.seconds)

if __name__=='__main__': main()
