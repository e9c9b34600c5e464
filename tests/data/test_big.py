"Larger than memory, at a small size: no header is read twice, chunks take no memory, any place costs the same."
import os,struct,subprocess,sys,time,tracemalloc,warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from fastai.data.all import DataBlock,IndexSplitter
from fastproaudio.data import *
from fastproaudio.data import SpeechCommands, chunks
from fastproaudio.data.chunks import grid_starts
from fastproaudio.data.files import AudioFile
from fastproaudio.io import audio_info, headers, read_audio, recording

sr,opts = 8000,dict(chunk_len=200, bs=8, seed=0, device='cpu', check=False)

@pytest.fixture
def fresh(tmp_path, monkeypatch):
    "A cache of its own; a call is a new process: it forgets all, and counts the headers that are read from then on."
    monkeypatch.setenv('FASTPROAUDIO_CACHE', str(tmp_path/'cache'))
    read,real = [],headers._read_info
    monkeypatch.setattr(headers, '_read_info', lambda p: read.append(Path(p).name) or real(p))
    def new():
        headers._indexes.clear(); headers._said.clear(); headers._infos.clear(); read.clear()
        return read
    yield new
    new()

def folder(path, n=100, words=('no', 'yes')):
    for w in words:
        (path/w).mkdir(parents=True)
        for i in range(n):
            sf.write(path/w/f'{i}.wav', np.random.default_rng(i).uniform(-.5, .5, 500), sr, subtype='PCM_16')
    return path

def pairs(path, n=70):
    path.mkdir()
    for i in range(n):
        for s in ('input', 'target'):
            sf.write(path/f'{i}_{s}.wav', np.random.default_rng(i).uniform(-.5, .5, 500), sr, subtype='PCM_16')
    return path

makers = {'from_folder':(folder, lambda p: AudioDataLoaders.from_folder(p, **opts)),
          'from_pairs, a folder':(pairs, lambda p: AudioDataLoaders.from_pairs(p, **opts)),
          'from_pairs, lists':(pairs, lambda p: AudioDataLoaders.from_pairs(
              sorted(p.glob('*input*')), sorted(map(str, p.glob('*target*'))), **opts)),
          'from_pairs, in time':(pairs, lambda p: AudioDataLoaders.from_pairs(p, split_by='time',
                                                                              **{**opts, 'chunk_len':50})),
          'from_files':(folder, lambda p: AudioDataLoaders.from_files(p, **opts)),
          'SpeechCommands':(folder, lambda p: SpeechCommands(p, **opts)),
          'a DataBlock':(folder, lambda p: DataBlock(AudioBlock, get_items=get_audio_files,
                                                     splitter=IndexSplitter([0])).dataloaders(p, **opts)),
          'a list in a DataBlock':(folder, lambda p: DataBlock(AudioBlock, splitter=IndexSplitter([0])).dataloaders(
              list(p.rglob('*.wav')), **opts))}

def first_of(batch): return batch[0] if isinstance(batch, tuple) else batch

@pytest.mark.parametrize('how', makers)
def test_second_start_reads_no_header(tmp_path, fresh, how):
    make,load = makers[how]
    path = make(tmp_path/'sound')
    before = sorted(path.rglob('*'))
    read = fresh()
    a = load(path)
    assert len(read) == len([f for f in before if f.suffix=='.wav'])
    read = fresh()
    b = load(path)
    assert len(read) <= (how=='a list in a DataBlock')                # fastai opens one item before it makes a loader
    assert all(torch.equal(first_of(x), first_of(y)) for x,y in zip(a.train, b.train))
    assert sorted(path.rglob('*')) == before                          # nothing is written among the recordings

def test_changed_new_and_deleted(tmp_path, fresh):
    path = folder(tmp_path/'sound')
    load = lambda: AudioDataLoaders.from_folder(path, **opts)
    fresh(); load()
    sf.write(path/'yes'/'3.wav', np.zeros(600), sr, subtype='PCM_16')  # longer
    os.utime(path/'yes'/'4.wav', ns=(1, 1))                            # as long, another time
    sf.write(path/'no'/'new.wav', np.zeros(500), sr, subtype='PCM_16')
    (path/'no'/'5.wav').unlink()
    read = fresh(); load()
    assert sorted(read) == ['3.wav', '4.wav', 'new.wav'] and audio_info(path/'yes'/'3.wav').n == 600
    names = set(headers.HeaderIndex(path).d)
    assert len(names) == 200 and 'no/new.wav' in names and 'no/5.wav' not in names
    (path/'no'/'new.wav').unlink()
    fresh(); load()
    assert len(headers.HeaderIndex(path).d) == 199                     # only a deletion is a change too
    (path/'no'/'6.wav').write_bytes(b'no sound')
    fresh()
    # a file that turned bad is not taken for what it was
    with pytest.raises(ValueError, match='6.wav'): load()

@pytest.mark.parametrize('spoil', [lambda b: b'', lambda b: b[:len(b)//2], lambda b: b[:-1],
                                   lambda b: bytes(len(b)), lambda b: b'PK'+b[::-1],
    lambda b: b[:300]+bytes([b[300]^255])+b[301:], lambda b: b[:len(b)//2]+bytes([b[len(b)//2]^1])+b[len(b)//2+1:]],
    ids=range(7))
def test_a_spoilt_index_is_made_again(tmp_path, fresh, spoil):
    path = folder(tmp_path/'sound')
    load = lambda: AudioDataLoaders.from_folder(path, **opts)
    fresh(); load()
    f = headers.HeaderIndex(path).path
    f.write_bytes(spoil(f.read_bytes()))
    read = fresh(); dls = load()
    assert len(read) == 200 and dls.train.n > 0
    read = fresh(); load()
    assert read == []

def test_another_version_or_folder_is_not_taken(tmp_path, fresh, monkeypatch):
    path = folder(tmp_path/'sound')
    fresh(); AudioDataLoaders.from_folder(path, **opts)
    ix = headers.HeaderIndex(path)
    other = headers.HeaderIndex(tmp_path/'other')
    other.path.write_bytes(ix.path.read_bytes())
    assert headers.HeaderIndex(tmp_path/'other').d == {}
    monkeypatch.setattr(headers, '_version', 99)
    assert headers.HeaderIndex(path).d == {}

def test_a_cache_that_cannot_be_written(tmp_path, fresh, monkeypatch):
    "One sentence, once; the loaders are as good."
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('FASTPROAUDIO_CACHE', str(tmp_path/'file'/'cache'))
    path = folder(tmp_path/'sound')
    fresh()
    with pytest.warns(UserWarning, match='set FASTPROAUDIO_CACHE'): dls = AudioDataLoaders.from_folder(path, **opts)
    assert dls.one_batch()[0].shape == (8, 1, 200)
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        AudioDataLoaders.from_folder(path, **opts)
    assert not [o for o in w if 'FASTPROAUDIO_CACHE' in str(o.message)]

def test_small_folders_leave_nothing_behind(tmp_path, fresh):
    fresh(); AudioDataLoaders.from_folder(folder(tmp_path/'sound', 20), **opts)
    assert not (tmp_path/'cache').exists()

LOAD = """import sys
from fastproaudio.data import *
from fastproaudio.io import headers
n,real = [],headers._read_info
headers._read_info = lambda p: n.append(p) or real(p)
for i in range(3): AudioDataLoaders.from_folder(sys.argv[1], chunk_len=200, bs=8, device='cpu', check=False)
print(len(n))"""

def test_processes_at_once(tmp_path, fresh): # noqa: ARG001
    path = folder(tmp_path/'sound')
    runs = [subprocess.Popen([sys.executable, '-W', 'ignore', '-c', LOAD, path], stdout=subprocess.PIPE,
                             text=True) for _ in range(3)]
    # none reads a header twice
    assert all(int(r.communicate(timeout=300)[0]) <= 200 and r.returncode == 0 for r in runs)
    assert len(headers.HeaderIndex(path).d) == 200 and not list((tmp_path/'cache').rglob('*.part'))
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', LOAD, path], capture_output=True,
                          text=True).stdout.strip() == '0'

def test_two_writers_keep_each_others_lines(tmp_path, fresh):
    fresh()
    a,b = headers.HeaderIndex(tmp_path),headers.HeaderIndex(tmp_path)
    a.put('a.wav', 1, 2, 3, 4, 5, 'WAV', 'PCM_16'); b.put('b.wav', 1, 2, 3, 4, 5, 'WAV', 'PCM_16')
    a.save(); b.save()
    assert set(headers.HeaderIndex(tmp_path).d) == {'a.wav', 'b.wav'}

def test_strange_names(tmp_path, fresh):
    fresh()
    names = ['a b.wav', 'é/ü\n.wav', os.fsdecode(b'\xff\xfe.wav'), "it's \"so\".wav"]
    ix = headers.HeaderIndex(tmp_path)
    for i,n in enumerate(names): ix.put(n, 2**62, i, 44100, 2**40, 2, 'W64', 'PCM_24')
    ix.save()
    assert list(headers.HeaderIndex(tmp_path).d) == names
    assert headers.HeaderIndex(tmp_path).get(names[2], 2**62, 2) == (44100, 2**40, 2, 'W64', 'PCM_24')

# -- files beyond what memory holds: sparse, so that they take no room

def rf64(n_bytes): return (b'RF64'+b'\xff'*4+b'WAVEds64'+struct.pack('<IQQQI', 28, n_bytes+72, n_bytes, n_bytes//2, 0)
                           +b'fmt '+struct.pack('<IHHIIHH', 16, 1, 1, sr, 2*sr, 2, 16)+b'data'+b'\xff'*4)
def wav(n_bytes):
    fmt = struct.pack('<IHHIIHH', 16, 1, 1, sr, 2*sr, 2, 16)
    return b'RIFF'+struct.pack('<I', n_bytes+36)+b'WAVEfmt '+fmt+b'data'+struct.pack('<I', n_bytes)
tail = bytes.fromhex('f3acd3118cd100c04f8edb8a')
def w64(n_bytes):
    riff = b'riff'+bytes.fromhex('2e91cf11a5d628db04c10000')
    size = 24+16+40+24+n_bytes
    fmt = tail+struct.pack('<QHHIIHH', 40, 1, 1, sr, 2*sr, 2, 16)
    return riff+struct.pack('<Q', size)+b'wave'+tail+b'fmt '+fmt+b'data'+tail+struct.pack('<Q', 24+n_bytes)

def sparse(path, n_bytes):
    "A file of silence with single samples of known value: at the beginning, in the middle, and at the very end."
    head = dict(rf64=rf64, wav=wav, w64=w64)[path.suffix[1:]](n_bytes)
    marks = {0:1000, n_bytes//4:2000, n_bytes//2-1:3000}
    with open(path, 'wb') as f:
        f.write(head)
        for i,v in marks.items(): f.seek(len(head)+2*i); f.write(struct.pack('<h', v))
    return marks

@pytest.mark.parametrize('name,gb', [('a.wav', 1), ('a.wav', 3), ('a.wav', 3.9), ('a.rf64', 6), ('a.w64', 6),
                                     ('a.rf64', 100)])
def test_every_sample_is_where_it_is(tmp_path, name, gb):
    "Beyond 2 GB and beyond 4 GB, where sizes of 32 bits end."
    n_bytes = int(gb*2**30)//4*4
    marks = sparse(tmp_path/name, n_bytes)
    assert audio_info(tmp_path/name).n == n_bytes//2
    for i,v in marks.items():
        x,_ = read_audio(tmp_path/name, max(0, i-5), 6 if i else 1)
        assert x[0, -1] == v/2**15 and x[0, :-1].abs().sum() == 0
    dls = AudioDataLoaders.from_files(tmp_path/name, n_tokens=None, carry=False, valid_pct=.1, chunk_len=65536,
                                      bs=4, device='cpu', check=False)
    last = dls.valid.spans([dls.valid.n-1])[0][1]
    assert last+65536 in (n_bytes//2-1, n_bytes//2)

def test_a_wav_that_outgrew_its_header(tmp_path):
    "Some recorders go on past 4 GB: the header counts the rest only, and nothing of the sound may be lost in silence."
    n = 2**32+2**20
    with open(tmp_path/'a.wav', 'wb') as f:
        f.write(wav(n%2**32))
        f.truncate(44+n)
    with pytest.raises(ValueError, match='4 GB'): audio_info(tmp_path/'a.wav')

def test_chunks_take_no_memory(tmp_path):
    "Ten million chunks: the loaders themselves take nothing for them, an epoch takes its order."
    sparse(tmp_path/'a.rf64', 6*2**30)
    kw = dict(n_tokens=None, carry=False, valid_pct=.2, chunk_len=256, bs=64, device='cpu', check=False, seed=0)
    AudioDataLoaders.from_files(tmp_path/'a.rf64', **kw)
    tracemalloc.start()
    dls = AudioDataLoaders.from_files(tmp_path/'a.rf64', **kw)
    assert dls.train.n > 10**7
    assert tracemalloc.get_traced_memory()[1] < 2*2**20
    idxs = dls.train.get_idxs()
    assert tracemalloc.get_traced_memory()[1] < 8*dls.train.n*1.1+2**21
    assert len(idxs) == dls.train.n and len(np.unique(idxs)) == dls.train.n
    del idxs
    n0 = None
    for i,b in enumerate(dls.train):
        if i==5: n0 = tracemalloc.get_traced_memory()[0]; tracemalloc.reset_peak()
        if i==200: break
    assert tracemalloc.get_traced_memory()[1]-n0 < 2**20
    tracemalloc.stop()

RSS = """import sys,torch,gc
from fastproaudio.data import *
torch.set_num_threads(1)
more = dict(device='cpu', check=False, num_workers=int(sys.argv[2]))
dls = AudioDataLoaders.from_folder(sys.argv[1], chunk_len=100, bs=4, **more)
rss = lambda: int(open('/proc/self/statm').read().split()[1])*4096
for i,b in enumerate(dls.train): at = rss() if i==30 else at if i else 0
print(rss()-at, i)"""

@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='no /proc')
def test_memory_is_flat_over_an_epoch(tmp_path, fresh): # noqa: ARG001
    "More files than are kept open, several times over."
    path = folder(tmp_path/'sound', 150)
    grown,n = map(int, subprocess.run([sys.executable, '-W', 'ignore', '-c', RSS, path, '0'], capture_output=True,
                                      text=True).stdout.split())
    assert n > 150 and grown < 4*2**20

def test_any_place_costs_the_same(tmp_path):
    sparse(tmp_path/'a.rf64', 6*2**30)
    n = audio_info(tmp_path/'a.rf64').n
    best = {p:9. for p in (.01, .5, .99)}
    for i in range(60):
        for p in best:
            t0 = time.perf_counter()
            read_audio(tmp_path/'a.rf64', int(n*p)+i*65536, 65536)
            best[p] = min(best[p], time.perf_counter()-t0)
    assert max(best.values()) < 3*min(best.values())

@pytest.mark.parametrize('left,right,read_len', [(0, 0, None), (100, 7, None), (0, 0, 1000), (30, 0, 650)])
@pytest.mark.parametrize('lens', [(500, 1234, 200), (200,), (2000, 2001, 2199)])
def test_the_table_is_the_list_it_stands_for(tmp_path, left, right, read_len, lens):
    "Row for row as if all chunks had been listed."
    for i,n in enumerate(lens):
        sf.write(tmp_path/f'{i}.wav', np.random.default_rng(i).uniform(-.5, .5, n+left+right), sr, subtype='PCM_16')
    items = [(AudioFile(f),) for f in sorted(tmp_path.glob('*.wav'))]
    dl = ChunkDL(items, bs=3, chunk_len=200, read_len=read_len, left=left, right=right, check=False)
    rows,per = [],max(1, (read_len or 0)//200)
    for i,(a,b) in enumerate(dl._spans):
        s = grid_starts(a, b, 200)
        for j in range(len(s)):
            g = s[j//per*per:j//per*per+per]
            rows.append((i, s[j], g[0], g[-1]+200-g[0], 1))
    assert np.array_equal(dl.table[:], rows) and dl.n == len(dl.table) == len(rows)
    assert np.array_equal(dl.table[[-1, 0]], np.array(rows)[[-1, 0]]) and dl.table[0, 1] == rows[0][1]
    assert np.array_equal(np.asarray(dl.table)[:, 1], dl.table[:, 1])
    with pytest.raises(IndexError): dl.table[len(rows)]
    order = dl.table.shuffled(np.random.default_rng(0), 3)
    assert sorted(order) == list(range(dl.n))
    if per==1: return
    reads = dl.table[order][:, [0, 2]]
    # taken in turn
    n_reads = len({tuple(r) for r in dl.table[:][:, [0, 2]].tolist()})
    assert len({tuple(r) for r in reads[:3].tolist()}) == min(3, n_reads)

def test_orders_follow_the_seed_and_change():
    t = chunks.ChunkTable(np.arange(3), np.zeros(3, int), np.array([5, 0, 9]), np.full(3, 999), 10, per_read=2)
    assert len(t) == 14 and set(t[:, 0]) == {0, 2}
    a,b,c = [t.shuffled(np.random.default_rng(s), 2).tolist() for s in (0, 0, 1)]
    assert a == b != c

def test_compressed_files_beyond_the_limit(tmp_path, monkeypatch):
    "Said, decoded when read, and kept up to a limit; the batches are the same."
    for i in range(6):
        sf.write(tmp_path/f'{i}.ogg', np.random.default_rng(i).uniform(-.1, .1, 9000), sr, format='OGG',
                 subtype='VORBIS')
    load = lambda: AudioDataLoaders.from_files(tmp_path, n_tokens=None, carry=False, valid_pct=.2, split_by='file',
                                               **opts)
    want = [b for b in load().train]
    monkeypatch.setattr(chunks, '_lossy_bytes', 1000); monkeypatch.setattr(recording, '_recent_bytes', 100_000)
    recording._recent.clear()
    with pytest.warns(UserWarning, match='prepare_audio'): dls = load()
    got = [b for b in dls.train]
    assert len(got) == len(want) and all(torch.equal(p, q) for a,b in zip(got, want) for p,q in zip(a, b))
    assert 0 < sum(o.nbytes for o in recording._recent.values()) <= 100_000
    assert all(f[0].ram is None for f in dls.train._files)
    recording._recent.clear()
