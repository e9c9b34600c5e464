"""Chunks per second of the loader, beside whole-file loading, one read each and the memcpy ceiling, in one run.

    python benchmarks/data.py [--seconds .7] [--minutes 3] [--files 8]

The sound is synthesised in a temporary folder. Every line is timed in turn, three times over, and the best
counts. A second is a second of this process, which is a wall second when nothing else runs; lines with 2 workers
count wall seconds.
"""
import argparse,tempfile,time
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from fastai.basics import DataBlock,IndexSplitter,TensorBase,TfmdDL,TfmdLists,ItemTransform,set_seed
from fastproaudio.data import *
from fastproaudio.io import audio_info, read_audio

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

def rate(run, seconds, clock):
    "Items per second of a generator that yields the count of each batch; the generator is run again until time is up."
    next(gen := run())
    n,t0 = 0,clock()
    while (t := clock()-t0)<seconds:
        try: n += next(gen)
        except StopIteration: gen = run()
    return n/t

def loader(folder, ext, paired, **kwargs):
    "A training loader as `from_pairs` builds it, or one of single recordings."
    files = sorted(folder.glob(f'*_input.{ext}'))
    kw = dict(chunk_len=65536, bs=16, check=False, device='cpu', **kwargs)
    if paired:
        return AudioDataLoaders.from_pairs(files, [str(f).replace('input', 'target') for f in files],
                                           seed=0, **kw).train
    db = DataBlock(AudioBlock, splitter=IndexSplitter([0]))
    return db.dataloaders(files, **kw).train

def batches(dl):
    def run():
        for b in dl: yield len(b[0] if isinstance(b, tuple) else b)
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
        for i in range(10**6):
            yield read_audio(files[i%len(files)], int(rng.integers(n-65536)), 65536)[0].shape[1]//65536
    return run

class OneRead(ItemTransform):
    "Open, seek and read for one item, as an item transform does it without this library."
    _retain = False
    def encodes(self, o):
        return TensorBase(sf.read(o[0], frames=o[2], start=o[1], dtype='float32', always_2d=True)[0].T)

def one_read_each(folder, ext, n, bs=32):
    "Plain fastai: an item for each window of `n` samples, an open, a seek and a read for each item."
    files = sorted(folder.glob(f'*_input.{ext}'))
    items = [(f, s, n) for f in files for s in range(0, audio_info(f).n-n, n)]
    return batches(TfmdDL(TfmdLists(items, OneRead()), bs=bs, shuffle=True, num_workers=0))

def offset_cost(folder, ext, n=65536, rounds=60):
    "Microseconds of a chunk near the start, in the middle and near the end of a file; the best of many reads in turn."
    f = sorted(folder.glob(f'*_input.{ext}'))[0]
    at = [int(audio_info(f).n*p) for p in (.02, .5, .95)]
    best = [9e9]*3
    for _ in range(rounds):
        for i,s in enumerate(at):
            read_audio(f, at[(i+1)%3], 10)
            t0 = time.perf_counter()
            read_audio(f, s, n)
            best[i] = min(best[i], time.perf_counter()-t0)
    return [1e6*t for t in best]

def table(title, lines, seconds, rounds=3):
    "Time all lines in turn, several rounds, and print the best of each."
    best = {}
    for _ in range(rounds):
        for name,run in lines.items():
            clock = time.perf_counter if 'workers' in name and '0 workers' not in name else time.process_time
            best[name] = max(best.get(name, 0), rate(run, seconds, clock))
    print(f'\n{title}')
    for name,r in best.items(): print(f'  {name:<58}{r:>12,.0f}')
    return best

def verdict(what, got, want, unit=''):
    "One line: what was reached beside what is expected."
    print(f"  {what:<58}{got:>12,.1f}{unit}   (expected {want:,g}{unit}: {'yes' if got>=want else 'no'})")

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seconds', type=float, default=.7, help='time for each line in each of three rounds')
    p.add_argument('--minutes', type=float, default=3., help='length of each file')
    p.add_argument('--files', type=int, default=8, help='pairs of files')
    a = p.parse_args()
    torch.set_num_threads(1)
    set_seed(0)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        write_files(d, a.files, a.minutes)
        lines = {'memcpy of the batch (ceiling)':memcpy(), 'torch.stack of the batch':stack()}
        for ext in ('wav', 'flac'):
            lines[f'{ext}: seek and read, no loader'] = read_only(d, ext)
            for paired in (False, True):
                what = f"{ext}: ChunkDL, {'pairs' if paired else 'single'}"
                lines[f'{what}, 0 workers'] = batches(loader(d, ext, paired))
                lines[f'{what}, 2 workers, their start included'] = batches(loader(d, ext, paired, num_workers=2))
                lines[f'{what}, preload'] = batches(loader(d, ext, paired, preload=True))
            lines[f'{ext}: plain fastai, one open and read each'] = one_read_each(d, ext, 65536, bs=16)
            lines[f'{ext}: whole file for each chunk'] = whole_file(d, ext)
        chunks = table(f'Chunks of 65,536 samples a second ({a.files} files of {a.minutes:g} min)', lines, a.seconds)
        lines = {}
        for ext in ('wav', 'flac'):
            window = dict(chunk_len=2048, bs=32)
            lines[f'{ext}: plain fastai, one open and read each'] = one_read_each(d, ext, 2048)
            lines[f'{ext}: ChunkDL, one read each'] = batches(loader(d, ext, False).new(**window))
            lines[f'{ext}: ChunkDL, cut from reads of 65,536'] = batches(
                loader(d, ext, False).new(read_len=65536, **window))
            lines[f'{ext}: the same, pairs'] = batches(loader(d, ext, True).new(read_len=65536, **window))
            lines[f'{ext}: ChunkDL, preload'] = batches(loader(d, ext, False, preload=True).new(**window))
        windows = table('Windows of 2,048 samples a second', lines, a.seconds)
        print('\nMicroseconds of one chunk of 65,536 near the start, in the middle, near the end of a file')
        for ext in ('wav', 'flac'): print(f'  {ext:<58}' + ''.join(f'{t:>9,.0f}' for t in offset_cost(d, ext)))
    print('\nIn short')
    for ext,want in (('wav', 3000), ('flac', 1200)):
        verdict(f'{ext}: chunks a second, single, 0 workers', chunks[f'{ext}: ChunkDL, single, 0 workers'], want)
        verdict(f'{ext}: times whole-file loading',
                chunks[f'{ext}: ChunkDL, single, 0 workers']/chunks[f'{ext}: whole file for each chunk'], 10, 'x')
        cut = windows[f'{ext}: ChunkDL, cut from reads of 65,536']
        verdict(f'{ext}: windows, times one read each', cut/windows[f'{ext}: plain fastai, one open and read each'],
                10, 'x')
        part = cut/32/chunks[f'{ext}: seek and read, no loader']
        print(f"  {f'{ext}: windows, part of what the decoder alone can do':<58}{part:>12,.0%}")

if __name__=='__main__': main()
