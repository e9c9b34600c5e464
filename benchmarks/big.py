"""Larger than memory: start-up, memory and the cost of a chunk, on many small files and on one file of many gigabytes.

    python benchmarks/big.py [--files 20000] [--gb 6] [--folder DIR]

The sound is made in a temporary folder; the large files are sparse and take no room. Each start is a process of
its own, with an index of headers in a folder of its own; the peers read every header at every start, as loaders
without an index do. Seconds are of the process
(what else runs on the machine does not count); the system has the files in its cache, so that a disk would make
the difference larger.
"""
import argparse,json,os,struct,subprocess,sys,tempfile,time
from pathlib import Path

sr = 16000

def small_files(folder, n, seconds=.1):
    "Speech Commands at a small scale: 35 folders of short recordings."
    import numpy as np, soundfile as sf
    rng = np.random.default_rng(0)
    for w in range(35): (folder/f'word{w:02d}').mkdir(parents=True)
    for i in range(n):
        sf.write(folder/f'word{i%35:02d}'/f'{i:06d}.wav', rng.uniform(-.3, .3, int(seconds*sr)), sr, subtype='PCM_16')

def big_file(path, n_bytes):
    "A sparse RF64 of silence (EBU Tech 3306)."
    with open(path, 'wb') as f:
        f.write(b'RF64'+b'\xff'*4+b'WAVEds64'+struct.pack('<IQQQI', 28, n_bytes+72, n_bytes, n_bytes//2, 0)
                +b'fmt '+struct.pack('<IHHIIHH', 16, 1, 1, sr, 2*sr, 2, 16)+b'data'+b'\xff'*4)
        f.truncate(f.tell()+n_bytes)

START = """import sys,time,json
import torch; torch.set_num_threads(1)
from fastproaudio.all import *
from fastproaudio.io import headers
def rss(): return int(open('/proc/self/statm').read().split()[1])*4096/2**20
r0,t0,w0,n = rss(),time.process_time(),time.perf_counter(),[]
real = headers._read_info
headers._read_info = lambda p: n.append(0) or real(p)
"""
OURS = START+"""more = dict(device='cpu', check=False)
dls = AudioDataLoaders.from_folder(sys.argv[1], chunk_len=1000, bs=16, seed=0, **more)
print(json.dumps([time.process_time()-t0, time.perf_counter()-w0, rss()-r0, len(n)]))"""
LIST = START+"""fs = get_audio_files(sys.argv[1])
print(json.dumps([time.process_time()-t0, time.perf_counter()-w0, rss()-r0, 0]))"""
INFO = START+"""import soundfile as sf,os
infos = [sf.info(os.path.join(d, f)) for d,_,fs in os.walk(sys.argv[1]) for f in fs]
print(json.dumps([time.process_time()-t0, time.perf_counter()-w0, rss()-r0, len(infos)]))"""
FASTAI = START+"""import soundfile as sf
class Header(Transform):
    def encodes(self, o:Path): return TitledTuple((str(o), sf.info(str(o)).frames))
waves = partial(get_files, extensions={'.wav'})
db = DataBlock((TransformBlock(type_tfms=Header), CategoryBlock), get_items=waves, get_y=parent_label)
dsets = db.datasets(Path(sys.argv[1]))
items = [dsets[i] for i in range(len(dsets))]
print(json.dumps([time.process_time()-t0, time.perf_counter()-w0, rss()-r0, len(items)]))"""
WHOLE = START+"""import soundfile as sf,os
xs = [sf.read(os.path.join(d, f), dtype='float32')[0] for d,_,fs in os.walk(sys.argv[1]) for f in fs]
print(json.dumps([time.process_time()-t0, time.perf_counter()-w0, rss()-r0, len(xs)]))"""
EPOCH = START+"""stream = partial(AudioDataLoaders.from_files, n_tokens=None, carry=False)
make = AudioDataLoaders.from_folder if sys.argv[3]=='folder' else stream
t0 = time.process_time()
dls = make(sys.argv[1], chunk_len=int(sys.argv[2]), bs=16, seed=0, device='cpu', check=False)
start,curve,stop = time.process_time()-t0,[],int(sys.argv[4])
n = len(dls.train) if not stop else min(stop, len(dls.train))
t0 = time.process_time()
for i,b in enumerate(dls.train):
    if i==0: t0,first = time.process_time(),time.process_time()-t0
    if i in {int(n*k/5) for k in range(1, 5)} | {0, n-1}: curve.append(rss()-r0)
    if i==n-1: break
print(json.dumps([start, first, dls.train.n, 16*(n-1)/(time.process_time()-t0), curve]))"""

def run(code, *args, cache):
    env = {**os.environ, 'FASTPROAUDIO_CACHE':str(cache), 'OMP_NUM_THREADS':'1'}
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)],
                       capture_output=True, text=True, env=env)
    if r.returncode: raise SystemExit(r.stderr)
    return json.loads(r.stdout.splitlines()[-1])

def starts(folder, n, cache, rounds):
    "Seconds to be ready to train on many files; the best of several rounds in turn."
    lines = {'list the files':LIST, 'peer: soundfile.info of every file':INFO,
             'peer: fastai items that know their length':FASTAI,
             'peer: read all sound into memory':WHOLE,
             'fastproaudio, first start':OURS, 'fastproaudio, every later start':OURS}
    best = {}
    for i in range(rounds):
        for name,code in lines.items():
            got = run(code, folder, cache=cache/str(i))
            best[name] = min(best.get(name, got), got)
    print(f'\nStart-up on {n:,} files\n  {"":<42}{"CPU s":>9}{"ms a file":>11}{"MB":>8}{"headers read":>14}')
    for name,(cpu,wall,mb,read) in best.items():
        print(f'  {name:<42}{cpu:>9.2f}{1000*cpu/n:>11.3f}{mb:>8.0f}{read:>14,}')

def epochs(folder, big, gb, cache):
    "Memory over an epoch: in a row when the first batch is there, at each fifth, at the end."
    print(f'\nAn epoch\n  {"":<40}{"chunks":>12}{"start s":>9}{"first s":>9}{"chunks/s":>10}   '
          'MB more than after the import')
    for name,args in {'many small files':(folder, 1000, 'folder', 0),
                      f'one file of {gb:g} GB, chunks of 65,536':(big, 65536, 'file', 0),
                      f'one file of {gb:g} GB, chunks of 1,024':(big, 1024, 'file', 20000),
                      f'one file of {gb:g} GB, chunks of 256':(big, 256, 'file', 20000)}.items():
        start,first,n,rate,curve = run(EPOCH, *args, cache=cache/'0')
        print(f'  {name:<40}{n:>12,}{start:>9.2f}{first:>9.2f}{rate:>10,.0f}   '+' '.join(f'{o:.0f}' for o in curve))

def offsets(big, gb, rounds=40, n=65536):
    """Microseconds of a chunk at places in a large file, the best of many reads in turn; each read is at a place
    that was not read before."""
    from fastproaudio.io.headers import audio_info
    from fastproaudio.io.recording import read_audio
    at = (.001, .25, .5, .75, .999)
    total,best = audio_info(big).n,{p:9e9 for p in at}
    for i in range(rounds):
        for p in at:
            s = min(int(total*p)+i*n, total-n)
            t0 = time.process_time()
            read_audio(big, s, n)
            best[p] = min(best[p], time.process_time()-t0)
    print(f'\nMicroseconds of a chunk of {n:,} in a file of {gb:g} GB\n  '
          +'  '.join(f'at {100*p:g} %: {1e6*t:.0f}' for p,t in best.items()))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--files', type=int, default=20000, help='small files')
    p.add_argument('--gb', type=float, default=6., help='size of the large file, GB; it is sparse')
    p.add_argument('--rounds', type=int, default=2, help='starts of each kind; the best counts')
    p.add_argument('--folder', type=Path, help='where to make the files (default: a temporary folder)')
    a = p.parse_args()
    with tempfile.TemporaryDirectory(dir=a.folder) as d:
        d = Path(d)
        small_files(d/'many', a.files)
        big_file(d/'big.rf64', int(a.gb*2**30)//2*2)
        starts(d/'many', a.files, d/'cache', a.rounds)
        epochs(d/'many', d/'big.rf64', a.gb, d/'cache')
        offsets(d/'big.rf64', a.gb)

if __name__=='__main__': main()
