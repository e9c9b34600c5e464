"""Chunks of files: what is read, what is drawn, what is refused; and the tensor that carries it."""
import copy,math,pickle,subprocess,sys,warnings
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastai.basics import Callback,CrossEntropyLossFlat,Learner,MSELossFlat,load_learner,set_seed
import fastai.callback.all # noqa: F401 lr_find, fit_one_cycle, no_bar
from fastai.data.all import (CategoryBlock,DataBlock,IndexSplitter,ItemGetter,RandomSplitter,TensorCategory,
                             Transform,cast,parent_label)
from torch import Tensor,nn
from torch.nn import functional as F
from fastproaudio.data import *
from fastproaudio.io import *
from fastproaudio.data.files import AudioFile
from fastproaudio.data.splits import cut_tails
from fastproaudio.dsp import noise, sine

sr = 8000

def ramp(n, n_ch=1, k=0):
    "A sound whose samples say where they are from: sample `t` of channel `c` is `t+1000003*c` in 1/2^22."
    return ((torch.arange(n, dtype=torch.float64)[None]+1+1000003*torch.arange(n_ch)[:, None]+k)/2**22).float()

def at(x): return (x.double()*2**22).round().long()-1

def pair(d, n=50_000, name='a', rate=sr, n_ch=1, ext='wav', k=0):
    "An input and a target that is its negative."
    x = ramp(n, n_ch, k)
    subtype = 'FLOAT' if ext=='wav' else 'PCM_24'
    return [write_audio(d/f'{name}_{w}.{ext}', s*x, rate, subtype=subtype) for w,s in (('input',1),('target',-1))]

def loaders(d, n=50_000, **kw):
    kw = {'chunk_len':1000, 'bs':4, 'seed':0, 'device':'cpu', **kw}
    return AudioDataLoaders.from_pairs(*pair(d, n), **kw)

def epoch(dl): return [tuple(cast(o, Tensor).clone() for o in b) for b in dl]
def starts(bs): return torch.cat([at(b[0])[:, 0, 0] for b in bs])
@pytest.fixture(autouse=True)
def close(): yield; plt.close('all')

# Chunks

@pytest.mark.parametrize('kw', [{}, dict(num_workers=2), dict(preload=True), dict(read_len=7000),
                                dict(read_len=7000, num_workers=2)], ids=str)
@pytest.mark.parametrize('ext', ['wav', 'flac'])
def test_pairs_are_aligned_and_true_to_the_file(tmp_path, kw, ext):
    dls = AudioDataLoaders.from_pairs(*pair(tmp_path, ext=ext), chunk_len=1000, bs=4, seed=0, device='cpu', **kw)
    for dl in dls:
        for x,y in dl:
            assert x.shape[1:] == y.shape[1:] == (1, 1000) and type(x) is AudioTensor and x.sr == sr
            assert torch.equal(x, -y)
            assert torch.equal(at(x), at(x)[..., :1]+torch.arange(1000))

@pytest.mark.parametrize('kw', [{}, dict(read_len=5000)], ids=str)
@pytest.mark.parametrize('left,right', [(0, 0), (300, 0), (77, 13)])
def test_training_chunks(tmp_path, kw, left, right):
    "Disjoint, as many in each epoch; over epochs every sample that can be scored is reached, first and last too."
    dls = loaders(tmp_path, n=20_000, **kw)
    dls.set_context(left, right)
    hits,counts,offsets = torch.zeros(16_000, dtype=int),set(),set()
    for _ in range(40):
        bs = epoch(dls.train)
        assert all(b[0].shape[-1]==left+1000+right for b in bs)
        s = starts(bs)+left
        once = torch.zeros(16_000, dtype=int)
        for o in s: once[o:o+1000] += 1
        assert once.max() == 1
        hits += once
        counts.add(len(s))
        offsets.add(int(s.min()))
    assert counts == {dls.train.n} and len(dls.train) == math.ceil(dls.train.n/4)
    assert hits[:left].sum() == 0 and hits[16_000-right:].sum() == 0 and hits[left:16_000-right].min() > 0
    assert len(offsets) > 15 and min(offsets) == left

def test_chunk_order_is_shuffled(tmp_path):
    s = starts(epoch(loaders(tmp_path).train))
    assert not torch.equal(s, s.sort()[0])

@pytest.mark.parametrize('left,right', [(0, 0), (300, 0), (77, 13)])
@pytest.mark.parametrize('n', [20_000, 20_001, 22_345])
def test_validation_grid(tmp_path, left, right, n):
    "The same every time; every scored sample once, except where the last chunk is moved back into the file."
    dls = loaders(tmp_path, n=n)
    dls.set_context(left, right)
    a,b = epoch(dls.valid),epoch(dls.valid)
    assert all(torch.equal(p[0], q[0]) for p,q in zip(a, b)) and len(a) == len(dls.valid)
    s,cut = starts(a)+left,round(n*.8)
    hits = torch.zeros(n, dtype=int)
    for o in s: hits[o:o+1000] += 1
    assert hits[:cut].sum() == 0 and hits[cut:n-right].min() == 1 and hits[n-right:].sum() == 0
    assert (hits>1).sum() == -(n-right-cut)%1000
    assert torch.equal(s[:-1], cut+1000*torch.arange(len(s)-1))

def test_no_sample_on_both_sides(tmp_path):
    "Split by time: nothing that is trained on is scored in validation, and training never looks into the tail."
    dls = loaders(tmp_path, n=20_000)
    dls.set_context(100, 50)
    seen = torch.cat([at(b[0]).flatten() for _ in range(5) for b in epoch(dls.train)])
    scored = torch.cat([at(b[0])[..., 100:1100].flatten() for b in epoch(dls.valid)])
    assert seen.max() < 16_000 <= scored.min()

def test_split_by_file(tmp_path):
    for i in range(5): pair(tmp_path, 5000, name=f's{i}', k=10_000*i)
    dls = AudioDataLoaders.from_pairs(tmp_path, chunk_len=1000, seed=0, device='cpu')
    t,v = [{int(s)//10_000 for s in starts(epoch(dl))} for dl in dls]
    assert len(t) == 4 and len(v) == 1 and not t & v

@pytest.mark.parametrize('kw', [{}, dict(read_len=4000), dict(flip_polarity=True)], ids=str)
def test_workers_do_not_change_the_batches(tmp_path, kw):
    "Nor does a second run under the same seed; another epoch is different."
    runs = []
    for w in (0, 2, 0):
        set_seed(3)
        dls = loaders(tmp_path, seed=None, num_workers=w, **kw)
        runs.append([epoch(dls.train), epoch(dls.train), epoch(dls.valid)])
    for a,b in ((0, 1), (0, 2)):
        for p,q in zip(runs[a], runs[b]):
            assert len(p)==len(q) and all(torch.equal(o, r) for s,t in zip(p, q) for o,r in zip(s, t))
    assert not torch.equal(starts(runs[0][0]), starts(runs[0][1]))

def test_flip_polarity(tmp_path):
    "One sign for input and target, both signs in training, none in validation, off unless asked."
    dls = loaders(tmp_path, flip_polarity=True)
    xs = [(x,y) for x,y in epoch(dls.train)]
    sign = torch.cat([x[:, 0, 0].sign() for x,_ in xs])
    assert 0.2 < (sign<0).float().mean() < .8 and all(torch.equal(x, -y) for x,y in xs)
    assert all((x>0).all() for x,_ in epoch(dls.valid)) and all((x>0).all() for x,_ in epoch(loaders(tmp_path).train))

def test_windows_are_cut_from_long_reads(tmp_path, monkeypatch):
    "Each sample of an epoch is read once, in few reads; windows of one read follow each other row by row."
    import fastproaudio.io.recording as D
    reads = []
    dls = loaders(tmp_path, read_len=8000)
    plain = D.read_into
    def counted(out, info, start):
        reads.append(out.shape[1])
        plain(out, info, start)
    monkeypatch.setattr(D, 'read_into', counted)
    s = torch.stack([at(b[0])[:, 0, 0] for b in epoch(dls.train) if len(b[0])==4])
    assert sum(reads) == 2*1000*dls.train.n and len(reads) == 2*math.ceil(dls.train.n/8)
    assert (s[1:7]-s[:6] == 1000).all()

@pytest.mark.parametrize('n_ch', [1, 2, 3])
@pytest.mark.parametrize('preload', [False, True])
def test_channels(tmp_path, n_ch, preload):
    dls = AudioDataLoaders.from_pairs(*pair(tmp_path, n_ch=n_ch), chunk_len=1000, bs=4, seed=0, device='cpu',
                                      preload=preload)
    x,y = dls.one_batch()
    assert x.shape == (4, n_ch, 1000) and torch.equal(x, -y)
    assert torch.equal(at(x)-at(x)[:, :1], 1000003*torch.arange(n_ch)[None, :, None].expand_as(x))

def test_preload_keeps_16_bits_in_16(tmp_path):
    x = write_audio(tmp_path/'x.wav', noise(5000, seed=0), sr, subtype='PCM_16')
    y = write_audio(tmp_path/'y.flac', noise(5000, seed=1), sr, subtype='PCM_24')
    a,b = [AudioDataLoaders.from_pairs(x, y, chunk_len=500, preload=p, device='cpu', seed=0) for p in (True, False)]
    assert [f.ram.dtype for f in a.train._files[0]] == [np.int16, np.float32]
    assert all(torch.equal(p, q) for s,t in zip(epoch(a.train), epoch(b.train)) for p,q in zip(s, t))
    assert a.train._files[0][0].ram is a.valid._files[0][0].ram

@pytest.mark.parametrize('ext', ['mp3', 'ogg'])
def test_lossy_files_are_decoded_once(tmp_path, ext):
    x = noise(30_000, seed=0)
    p = write_audio(tmp_path/f'x.{ext}', x, sr)
    dls = AudioDataLoaders.from_pairs(p, p, chunk_len=1000, device='cpu')
    whole = read_audio(p)[0]
    for (_,s),b in zip(dls.valid.spans(), torch.cat([b[0] for b in epoch(dls.valid)])):
        assert torch.equal(b, whole[:, s:s+1000])

def test_a_chunk_costs_the_same_anywhere(tmp_path, monkeypatch):
    "What is decoded does not grow with the offset."
    import soundfile as sf
    p = write_audio(tmp_path/'x.flac', noise(400_000, seed=0), sr)
    asked = []
    plain = sf.SoundFile.read
    def read(self, *a, **k):
        asked.append(len(k['out']) if 'out' in k else 0)
        return plain(self, *a, **k)
    monkeypatch.setattr(sf.SoundFile, 'read', read)
    f = AudioFile(p)
    asked.clear()
    for s in (0, 200_000, 399_000): f.read(s, 1000)
    assert asked == [1000]*3

def test_files_changed_under_fork_are_not_mixed_up(tmp_path):
    "Handles open in the parent are not used in the workers: many small reads of one file by two of them are right."
    dls = loaders(tmp_path, n=200_000, chunk_len=200, bs=8, num_workers=2)
    dls.train.one_batch()
    for _ in range(3):
        for x,_ in epoch(dls.train): assert torch.equal(at(x)-at(x)[..., :1], torch.arange(200).expand_as(x))

# fastai around it

target_of = lambda p: p.with_name(p.name.replace('input', 'target'))
inputs_of = lambda p: get_audio_files(p).filter(lambda o: 'input' in o.name)

@pytest.fixture
def folder(tmp_path):
    for i in range(6): pair(tmp_path, 5000, name=f's{i}')
    return tmp_path

@pytest.mark.parametrize('workers', [0, 2])
def test_blocks_in_a_datablock(folder, workers, capsys):
    blocks = [AudioBlock(chunk_len=400)]*2
    db = DataBlock(blocks, get_items=inputs_of, get_y=target_of, splitter=RandomSplitter(.34, seed=0))
    db.summary(folder)
    assert 'AudioTensor of size 1x400' in capsys.readouterr().out
    dls = db.dataloaders(folder, bs=4, chunk_len=500, num_workers=workers, device='cpu')
    x,y = dls.one_batch()
    assert torch.equal(x, -y) and x.shape == (4, 1, 500)
    assert {p for p,_ in dls.train.spans()}.isdisjoint(p for p,_ in dls.valid.spans())
    assert type(AudioDataLoaders.from_dblock(db, folder, chunk_len=500)) is AudioDataLoaders
    dls.set_context(100)
    assert [dl.one_batch()[0].shape[-1] for dl in dls] == [600, 600]

def test_tail_splitter_in_a_datablock(folder):
    db = DataBlock((AudioBlock, AudioBlock), get_items=lambda p: cut_tails(inputs_of(p), .3), get_y=target_of,
                   splitter=TailSplitter())
    dls = db.dataloaders(folder, bs=4, chunk_len=500, device='cpu')
    assert all(torch.equal(x, -y) for dl in dls for x,y in dl)
    assert starts(epoch(dls.train)).max() <= 3000 and starts(epoch(dls.valid)).min() == 3500
    with pytest.raises(ValueError, match='cut_tails'):
        DataBlock((AudioBlock, AudioBlock), get_items=inputs_of, splitter=TailSplitter()).datasets(folder)

def test_with_categories(tmp_path):
    for c,f in (('low', 100), ('high', 900)):
        (tmp_path/c).mkdir()
        for i in range(5): write_audio(tmp_path/c/f'{i}.wav', sine(f+i, sr, 3000+500*i, amp=.5)[None], sr)
    db = DataBlock((AudioBlock(chunk_len=1000), CategoryBlock), get_items=get_audio_files, get_y=parent_label,
                   splitter=RandomSplitter(seed=0))
    db.summary(tmp_path)
    dls = db.dataloaders(tmp_path, bs=4, chunk_len=2000, device='cpu')
    x,y = dls.one_batch()
    assert type(y) is TensorCategory and x.shape == (4, 1, 2000)
    crossings = (x[:, 0, 1:].sign()!=x[:, 0, :-1].sign()).sum(1)
    assert torch.equal(crossings>200, torch.tensor([dls.vocab[i]=='high' for i in y]))
    d2 = AudioDataLoaders.from_folder(tmp_path, chunk_len=2000, seed=0, device='cpu')
    assert list(d2.vocab) == ['high', 'low'] and d2.valid.n >= 2
    d2.show_batch(max_n=2)
    assert any(w in plt.gcf().axes[0].get_title(loc='left') for w in ('high', 'low'))
    learn = Learner(d2, nn.Sequential(nn.Flatten(), nn.Linear(2000, 2)), loss_func=CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.show_results(max_n=2)
    assert ' -> ' in plt.gcf().axes[0].get_title(loc='left')

def test_short_files_are_padded_on_request(tmp_path):
    for i,n in enumerate((300, 2500)): write_audio(tmp_path/f'{i}.wav', ramp(n), sr, subtype='FLOAT')
    db = DataBlock(AudioBlock, get_items=get_audio_files, splitter=IndexSplitter([0]))
    with pytest.raises(ValueError, match='0.wav: expected at least 1000 samples .* pad=True'):
        db.dataloaders(tmp_path, chunk_len=1000)
    dls = db.dataloaders(tmp_path, chunk_len=1000, pad=True, device='cpu')
    dls.set_context(50)
    x, = dls.valid.one_batch()
    assert torch.equal(x[0, 0], F.pad(ramp(300)[0], (50, 700)))

def test_item_and_batch_transforms_see_chunks(folder):
    class Half(Transform):
        def encodes(self, x:AudioTensor): return x/2
    class Double(Transform):
        def encodes(self, x:AudioTensor): return x*2
    dls = DataBlock((AudioBlock, AudioBlock), get_items=inputs_of, get_y=target_of, splitter=RandomSplitter(seed=0),
                    item_tfms=Half,
                    batch_tfms=Double).dataloaders(folder, bs=4, chunk_len=500, device='cpu')
    x,y = dls.one_batch()
    assert type(x) is AudioTensor and torch.equal(x, -y) and x.sr == sr
    assert torch.equal(at(x)-at(x)[..., :1], torch.arange(500).expand_as(x))

class Crop(Callback):
    "Score what has context."
    def before_batch(self): self.learn.yb = (self.y[..., 20:520],)

def test_learner(folder, tmp_path):
    "`fit`, `lr_find`, `get_preds`, `test_dl`, `validate`, `show_results`, `export`: all on the same chunks."
    dls = AudioDataLoaders.from_pairs(folder, chunk_len=500, bs=4, seed=0, device='cpu', path=tmp_path)
    dls.set_context(20, 5)
    net = nn.Conv1d(1, 1, 26, bias=False)
    with torch.no_grad(): net.weight[:] = 0; net.weight[..., 20] = -1
    learn = Learner(dls, net, loss_func=MSELossFlat(), cbs=Crop(), lr=1e-5)
    with learn.no_bar(), learn.no_logging(), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='load_learner')
        preds,targs = learn.get_preds()
        assert preds.shape == (dls.valid.n, 1, 500) and torch.equal(preds, targs)
        for (p,s),o in zip(dls.valid.spans(), targs): assert torch.equal(o, -read_audio(p, s, 500)[0])
        preds,targs = learn.get_preds(ds_idx=0)
        assert torch.equal(preds, targs) and len(preds) >= dls.train.n
        assert learn.validate()[0] == 0
        learn.show_results(max_n=3)
        ax = plt.gcf().axes
        assert [l.get_label() for l in ax[0].lines] == ['input', 'target', 'prediction', 'error']
        assert 'ESR 0' in ax[0].get_title(loc='left')
        learn.fit_one_cycle(1)
        learn.lr_find(show_plot=False)
        files = inputs_of(folder)[:2]
        tdl = dls.test_dl(files)
        x, = tdl.one_batch()
        assert tdl.n == 20 and len(epoch(tdl)) == 5 and torch.equal(x[0], read_audio(files[0], 0, 525)[0])
        learn.export(tmp_path/'l.pkl')
        tdl = load_learner(tmp_path/'l.pkl').dls.test_dl(files)
    assert (tdl.left, tdl.right, tdl.chunk_len, tdl.n) == (20, 5, 500, 20)
    write_audio(tmp_path/'other.wav', ramp(5000), 2*sr)
    with pytest.raises(ValueError, match=f'other.wav: expected {sr} Hz'): dls.test_dl([tmp_path/'other.wav'])

def test_show_batch(folder):
    dls = AudioDataLoaders.from_pairs(folder, chunk_len=500, bs=4, seed=0, device='cpu')
    dls.show_batch(max_n=3)
    axs = plt.gcf().axes
    assert len(axs) == 6 and [l.get_label() for l in axs[0].lines] == ['input', 'target']
    name,time,_ = axs[0].get_title(loc='left').split()
    x = axs[0].lines[0].get_xdata()
    assert (folder/name).exists() and x[0] == pytest.approx(float(time), abs=.006)
    assert x[-1]-x[0] == pytest.approx(499/sr)
    y = axs[0].lines[0].get_ydata()
    assert at(torch.tensor(y[0])) == round(x[0]*sr)

def test_players_in_a_notebook(tmp_path):
    "An executed notebook holds a picture and two players for each row."
    from execnb.shell import CaptureShell
    pair(tmp_path, 20_000)
    sh = CaptureShell(mpl_format='png')
    out = sh.run("from fastproaudio.data import *\nfrom pathlib import Path\n"
                 f"dls = AudioDataLoaders.from_pairs(Path({str(tmp_path)!r}), chunk_len=500, bs=4, device='cpu')\n"
                 "dls.show_batch(max_n=2)")
    html = ''.join(''.join(o['data']['text/html']) for o in out if 'text/html' in o.get('data', {}))
    assert html.count('<audio') == 4 and any('image/png' in o.get('data', {}) for o in out), out

def test_big_batches_of_little_sound(tmp_path):
    "An epoch smaller than a batch is one batch, also where fastai would drop it."
    dls = DataBlock((AudioBlock, AudioBlock), getters=[ItemGetter(0), ItemGetter(1)],
                    splitter=lambda o: ([0], [1])).dataloaders(
        [pair(tmp_path, 5000), pair(tmp_path, 5000, 'b')], bs=64, chunk_len=1000, device='cpu')
    assert len(dls.train) == 1 and len(epoch(dls.train)) == 1

def test_unknown_setting_is_named(tmp_path):
    with pytest.raises(ValueError, match="got 'chunk_length'; did you mean 'chunk_len'"):
        loaders(tmp_path, chunk_length=5)

# Pairs by name

@pytest.mark.parametrize('names', [('a_input.wav', 'a_target.wav'), ('input_3_.wav', 'target_3_.wav'),
                                   ('Dry-1.wav', 'Wet-1.wav'), ('x/input.wav', 'x/target.wav')])
def test_pairs_by_name(tmp_path, names):
    (tmp_path/'x').mkdir()
    for n in names: write_audio(tmp_path/n, ramp(100), sr)
    assert get_pairs(tmp_path) == [(tmp_path/names[0], tmp_path/names[1])]

def test_pairs_of_two_folders(tmp_path):
    for d in ('dry', 'wet'):
        (tmp_path/d/'sub').mkdir(parents=True)
        for n in ('b', 'sub/a', 'c'): write_audio(tmp_path/d/f'{n}.{"wav" if d=="dry" else "flac"}', ramp(100), sr)
    pairs = get_pairs(tmp_path/'dry', tmp_path/'wet')
    key = lambda p, d: p.relative_to(tmp_path/d).with_suffix('').as_posix()
    assert [(key(p, 'dry'), key(q, 'wet')) for p,q in pairs] == [(n, n) for n in ('b', 'c', 'sub/a')]

def test_names_say_the_split(tmp_path):
    for w in ('train', 'valid', 'test'): pair(tmp_path, 3000, w)
    dls = AudioDataLoaders.from_pairs(tmp_path, chunk_len=500, device='cpu')
    assert [{p.name for p,_ in dl.spans()} for dl in dls] == [{'train_input.wav'}, {'valid_input.wav'}]
    (tmp_path/'valid_input.wav').unlink(), (tmp_path/'valid_target.wav').unlink()
    dls = AudioDataLoaders.from_pairs(tmp_path, chunk_len=500, device='cpu')
    assert [{p.name for p,_ in dl.spans()} for dl in dls] == [{'train_input.wav'}]*2
    dls = AudioDataLoaders.from_pairs(tmp_path, valid=(tmp_path/'test_input.wav', tmp_path/'test_target.wav'),
                                      chunk_len=500, device='cpu')
    assert [{p.name for p,_ in dl.spans()} for dl in dls] == [{'train_input.wav'}, {'test_input.wav'}]

def test_bundled_pairs():
    import fastproaudio
    dls = AudioDataLoaders.from_pairs(Path(fastproaudio.__file__).parent/'bundle'/'guitar_dist', chunk_len=8192,
                                      device='cpu')
    assert dls.sr == 44100 and dls.train.n == 42 and dls.one_batch()[0].shape == (16, 1, 8192)

# Bad input

def refused(match, *args, **kw):
    with pytest.raises(ValueError, match=match) as e:
        AudioDataLoaders.from_pairs(*args, **{'chunk_len':1000, 'device':'cpu', **kw})
    assert '\n' not in str(e.value)

def test_missing_partner(tmp_path):
    pair(tmp_path)
    write_audio(tmp_path/'b_input.wav', ramp(100), sr)
    refused('b_input.wav: expected a partner', tmp_path)
def test_two_partners(tmp_path):
    pair(tmp_path), pair(tmp_path, ext='flac')
    refused(r'a_input.wav: expected one file of this name, got a_input.flac', tmp_path)
def test_no_pairs(tmp_path):
    write_audio(tmp_path/'b.wav', ramp(100), sr)
    refused(r'expected files named \*input\* and \*target\*', tmp_path)
def test_empty_folder(tmp_path): refused('expected a folder with audio files, found none', tmp_path)
def test_lists_of_different_length(tmp_path):
    x,y = pair(tmp_path)
    refused('a_input.wav: expected as many targets as inputs, got 1 for 2', [x, x], [y])
def test_different_length(tmp_path):
    x,_ = pair(tmp_path)
    _,y = pair(tmp_path, 49_000, 'b')
    refused(r'b_target.wav: expected 50000 samples as in its input .*a_input.wav, got 49000; .*trim=True', x, y)
    dls = AudioDataLoaders.from_pairs(x, y, chunk_len=1000, trim=True, device='cpu', seed=0)
    assert at(torch.cat([b[0] for b in epoch(dls.valid)])).max() == 48_999
    assert torch.equal(*[(-1)**i*o for i,o in enumerate(dls.one_batch())])
def test_different_rate(tmp_path):
    refused(r'b_target.wav: expected 8000 Hz as the other files, got 16000 Hz; .*resample', pair(tmp_path)[0],
            pair(tmp_path, name='b', rate=2*sr)[1])
def test_different_channels(tmp_path):
    refused(r'b_target.wav: expected 1 channel\(s\) as in its input .*a_input.wav, got 2; .*n_ch=\(1, 2\)',
            pair(tmp_path)[0], pair(tmp_path, name='b', n_ch=2)[1])
def test_other_files_of_another_rate(tmp_path):
    (x,y),(v,w) = pair(tmp_path),pair(tmp_path, name='b', rate=2*sr)
    refused('b_input.wav: expected 8000 Hz', x, y, valid=(v, w))
def test_wrong_rate(tmp_path):
    refused(r'a_input.wav: expected 44100 Hz, got 8000 Hz; pass resample=True', *pair(tmp_path), sr=44100)
def test_too_many_channels(tmp_path):
    refused(r'a_input.wav: expected 1 channel\(s\), got 2; pass n_ch=2', *pair(tmp_path, n_ch=2), n_ch=1)
def test_shorter_than_a_chunk(tmp_path):
    refused(r'a_input.wav: expected at least 60000 samples .*got 40000; use a smaller chunk_len', *pair(tmp_path),
            chunk_len=60_000)
def test_shorter_than_the_context(tmp_path):
    dls = loaders(tmp_path)
    with pytest.raises(ValueError, match=r'a_input.wav: expected at least 46000 samples \(context 45000\+0'):
        dls.set_context(45_000)
@pytest.mark.parametrize('side', ['input', 'target'])
@pytest.mark.parametrize('value,says', [(float('nan'), 'NaN or Inf'), (0., 'silence throughout')])
def test_nan_and_silence(tmp_path, side, value, says):
    import soundfile as sf
    x,y = pair(tmp_path)
    bad = np.full(50_000, value) if value==0 else np.r_[value, ramp(49_999)[0].numpy()]
    sf.write(tmp_path/f'a_{side}.wav', bad, sr, subtype='FLOAT')
    refused(f'a_{side}.wav: expected .* got .*{says}', x, y)
def test_nan_is_met_when_read(tmp_path):
    "Where the files were not listened to first, the chunk with the NaN is refused."
    import soundfile as sf
    x,y = pair(tmp_path, 5000)
    sf.write(y, np.r_[-ramp(4500)[0].numpy(), np.full(500, np.nan)], sr, subtype='FLOAT')
    dls = AudioDataLoaders.from_pairs(x, y, chunk_len=500, check=False, device='cpu')
    epoch(dls.train)
    with pytest.raises(ValueError, match='a_input.wav: expected finite samples, got NaN or Inf after 0.5'):
        epoch(dls.valid)
def test_clipped_warns_once(tmp_path):
    x,y = pair(tmp_path)
    write_audio(y, sine(100, sr, 50_000, amp=3.)[None].clamp(-1, 1), sr)
    with pytest.warns(UserWarning, match='a_target.wav: .* samples are clipped') as w:
        AudioDataLoaders.from_pairs(x, y, chunk_len=1000, device='cpu')
    assert sum('samples are clipped' in str(o.message) for o in w) == 1
def test_long_material_unheard_is_said(tmp_path):
    import fastproaudio.data.chunks as D
    x,y = pair(tmp_path)
    f = AudioFile(x)
    with pytest.warns(UserWarning, match='only the headers were checked'): D.check_content([f], None, limit_s=1.)
def test_not_audio(tmp_path):
    (tmp_path/'t.wav').write_text('no')
    refused('t.wav: expected an audio file', pair(tmp_path)[0], tmp_path/'t.wav')
def test_directory_for_a_file(tmp_path):
    (tmp_path/'dir').mkdir()
    refused('dir: expected an audio file, got a directory', pair(tmp_path)[0], tmp_path/'dir')

@pytest.mark.parametrize('workers', [0, 2])
def test_resample_on_request(tmp_path, workers):
    "Converted once, in memory; the chunks are those of the converted whole."
    x,y = [write_audio(tmp_path/f'{w}.wav', a*sine(440, 16000, 64_000)[None], 16000) for w,a in (('x', .5), ('y', -.5))]
    dls = AudioDataLoaders.from_pairs(x, y, sr=sr, resample=True, chunk_len=1000, num_workers=workers, device='cpu')
    assert dls.sr == sr and dls.valid.spans()[0][1] == 25_600
    b = torch.cat([b[0] for b in epoch(dls.valid)])
    assert (b[1, 0]-.5*sine(440, sr, 32_000)[26_600:27_600]).abs().max() < 1e-3
    f = dls.train._files[0][0]
    assert pickle.loads(pickle.dumps(f)).read(8000, 100).allclose(f.read(8000, 100))

# AudioTensor

def test_audio_tensor():
    x = AudioTensor(ramp(800, 2), sr=sr)
    assert (x.nsamples, x.nchannels, x.duration) == (800, 2, .1)
    for f in (lambda o: o.clone(), lambda o: o[:, :5], lambda o: o*2, lambda o: 1-o,
              lambda o: torch.stack([o, o])[1], lambda o: o.half(),
              lambda o: pickle.loads(pickle.dumps(o)), lambda o: o.to('cpu'), lambda o: o.detach(), copy.copy,
              copy.deepcopy):
        assert type(f(x)) is AudioTensor and f(x).sr == sr

def test_siblings_raise():
    with pytest.raises(TypeError): AudioTokens([1, 2])+AudioSpectrogram([1., 2.])

def test_create_and_save(tmp_path):
    p = pair(tmp_path)[0]
    x = AudioTensor.create(p, 100, 50)
    assert x.sr == sr and torch.equal(at(x)[0], 100+torch.arange(50))
    assert AudioTensor.create(x.save(tmp_path/'b.wav')).shape == (1, 50)

@pytest.mark.parametrize('x', [noise(900, seed=0)[0], noise(900, seed=0, n_ch=2),
                               3*noise(900, seed=0, n_ch=5).requires_grad_(),
                               noise(900, seed=0).half(), noise(900, seed=0).double(), noise(900, seed=0).numpy(),
                               torch.zeros(1, 1)], ids=lambda o: str(o.shape))
def test_show_audio_takes_any_wave(x, capsys):
    n_ch = 1 if x.ndim==1 else len(x)
    for plots in (['melspec', 'waveform'], 'waveform', []):
        axs = show_audio(x, sr, plots=plots, play=True)
        assert len(axs) == (1 if isinstance(plots, str) else len(plots))
    assert len(plot_waveform(x, sr, xlim=(0, .05), ylim=(-1, 1), color='k', label='a', title='t').lines) == n_ch
    assert plt.gca().get_xlim() == (0, .05) and plt.gca().get_ylim() == (-1, 1)
    assert f"shape: ({n_ch}, " in capsys.readouterr().out

def test_players_keep_the_level():
    "A quiet sound stays quiet, and what is beyond full scale is clamped, not scaled."
    import io,wave
    from fastproaudio.data.show import _player
    def heard(x):
        w = wave.open(io.BytesIO(_player(x, sr).data))
        return np.frombuffer(w.readframes(10**6), np.int16)
    assert heard(torch.full((1, 9), .1)).max() == 3276 and heard(torch.tensor([[.1, 3.]])).tolist() == [3276, 32767]

def test_a_batch_is_not_a_waveform():
    with pytest.raises(ValueError, match=r'expected \(channels, samples\), got \(2, 1, 9\); pick one item'):
        plot_waveform(torch.zeros(2, 1, 9), sr)
    with pytest.raises(ValueError, match='expected a sample rate'): plot_waveform(torch.zeros(1, 9))

def test_import_brings_no_ipython():
    code = ("import sys, fastproaudio.data; loaded = {m.split('.')[0] for m in sys.modules}; "
            "sys.exit(bool({'torchvision', 'torchaudio', 'spacy', 'librosa'} & loaded))")
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
