"Many tracks: names, packing, mixes and stems."
import pickle,random,time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from fastproaudio.data import *
from fastproaudio.data.stems import unpack_stems
from fastproaudio.io import audio_info, read_audio, write_audio
from fastproaudio.models import TCN
from fastproaudio.train import effects_learner

sr = 8000
noise = lambda n, seed, n_ch=1: .1*torch.randn(n_ch, n, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)

@pytest.mark.parametrize('name,base,id', [
    ('input_235-0__1__60.wav', 'input_235__1__60.wav', '0'),
    ('a-b/input_235-12__1__60.wav', 'a-b/input_235__1__60.wav', '12'),
    ('input_235-0.wav', 'input_235.wav', '0'), ('input_235__-1__60.wav', 'input_235__-1__60.wav', None),
    ('input_235-3__-1__6e-3.wav', 'input_235__-1__6e-3.wav', '3'),
    ('/my-data/x-1/one.wav', '/my-data/x-1/one.wav', None),
    ('my-song-7.wav', 'my-song.wav', '7'), ('my__song-7.wav', 'my__song.wav', '7'),
    ('target_235_LA2A_3c-1__1__60.wav', 'target_235_LA2A_3c__1__60.wav', '1'),
    ('a-.wav', 'a-.wav', None), ('-1.wav', '-1.wav', None), ('7.wav', '7.wav', None),
    ('x-1.5__2.wav', 'x-1.5__2.wav', None)])
def test_names(name, base, id): assert split_track(name) == (Path(base), id)

def test_inputs_targets_folders_and_suffixes_are_apart():
    fns = [f'{d}/{s}_{n}-{i}__1{e}' for d in ('a-1', 'a-2') for s in ('input', 'target') for n in (1, 11)
           for i in range(3) for e in ('.wav', '.flac')]
    random.Random(0).shuffle(fns)
    groups = group_tracks(fns)
    assert len(groups) == 16 and all(len(g) == 3 for g in groups.values())
    for base,g in groups.items():
        assert [split_track(f)[1] for f in g] == ['0', '1', '2'] and {split_track(f)[0] for f in g} == {base}
        for f in g:
            assert get_accompanying_tracks(f, fns) == g == get_accompanying_tracks(str(f), [Path(o) for o in fns])

def test_remove_and_a_track_not_in_the_list():
    fns = ['x-0.wav', 'y-0.wav', 'x-1.wav', 'x.wav']
    assert get_accompanying_tracks('x-2.wav', fns) == [Path(f'x-{i}.wav') for i in range(3)] and len(fns) == 4
    assert get_accompanying_tracks('x-0.wav', fns, remove=True) == [Path('x-0.wav'), Path('x-1.wav')]
    assert fns == ['y-0.wav', 'x.wav']

def test_grouping_is_linear():
    "Twice the files, about twice the time; comparing each with each would take four times as long."
    def seconds(n):
        fns = [f'd/input_{i//4}-{i%4}__1__60.wav' for i in range(n)]
        t0 = time.process_time()
        assert len(group_tracks(fns)) == n//4
        return time.process_time()-t0
    a,b = min(seconds(4000) for _ in range(3)),min(seconds(16000) for _ in range(3))
    assert b < 8*a                                               # 4 when linear, 16 when quadratic

def tracks(folder, ids=range(3), n=3000, name='song', rate=sr, subtype='PCM_16', n_ch=1, ext='wav'):
    folder.mkdir(parents=True, exist_ok=True)
    return [write_audio(folder/f'{name}-{i}.{ext}', noise(n, hash((name, str(i)))%1000, n_ch), rate,
                        subtype=subtype) for i in ids]

@pytest.mark.parametrize('subtype,ext',
                         [('PCM_16', 'wav'), ('PCM_24', 'wav'), ('FLOAT', 'wav'), ('PCM_16', 'flac'),
                          ('PCM_S8', 'flac')])
def test_packing_is_exact_both_ways(tmp_path, subtype, ext):
    files = tracks(tmp_path/'in'/'sub', subtype=subtype, ext=ext)
    f, = pack_mono_stems(tmp_path/'in', tmp_path/'out')
    assert f == tmp_path/'out'/'sub'/'song.wav' and audio_info(f).n_ch == 3
    x,_ = read_audio(f)
    for i,g in enumerate(files): assert torch.equal(x[i], read_audio(g)[0][0])
    assert sf.read(f)[0].shape == (3000, 3)                      # (T, N) as others see it
    back = unpack_stems(f, tmp_path/'back')
    assert [b.name for b in back] == ['song-0.wav', 'song-1.wav', 'song-2.wav']
    for b,g in zip(back, files): assert torch.equal(read_audio(b)[0], read_audio(g)[0])
    y,rate = load_as_mc(files)
    assert torch.equal(y.as_subclass(torch.Tensor), x) and rate == sr == y.sr

def test_blocks_do_not_show(tmp_path):
    files = tracks(tmp_path, n=3001)
    x = read_audio(save_as_mc(files, tmp_path/'a.wav'))[0]
    assert torch.equal(read_audio(save_as_mc(files, tmp_path/'b.wav', block=777))[0], x)

def test_click_is_channel_0(tmp_path):
    tracks(tmp_path/'in', ids=('bass', 'click', 'aguitar'))
    f, = pack_mono_stems(tmp_path/'in', tmp_path/'out', ids='click|bass|aguitar')
    assert torch.equal(read_audio(f)[0][0], read_audio(tmp_path/'in'/'song-click.wav')[0][0])

def test_mismatches(tmp_path):
    tracks(tmp_path/'in')
    tracks(tmp_path/'in', ids=[3], n=2000)
    with pytest.raises(ValueError, match=r'song-3.wav: expected 3000 samples .* got 2000; .*pad=True'):
        pack_mono_stems(tmp_path/'in', tmp_path/'out')
    assert not list((tmp_path/'out').rglob('*.wav'))
    x = read_audio(pack_mono_stems(tmp_path/'in', tmp_path/'out', pad=True)[0])[0]
    assert x.shape == (4, 3000) and x[3, 2000:].abs().max() == 0 and x[3, :2000].abs().max() > 0
    tracks(tmp_path/'in', ids=[3], rate=16000)
    with pytest.raises(ValueError, match='expected 8000 Hz .* got 16000 Hz'):
        pack_mono_stems(tmp_path/'in', tmp_path/'out', pad=True)
    tracks(tmp_path/'in', ids=[3], n_ch=2)
    with pytest.raises(ValueError, match='expected a mono file, got 2'): pack_mono_stems(tmp_path/'in', tmp_path/'out')
    (tmp_path/'e').mkdir()
    tracks(tmp_path/'e', ids=['x'])
    with pytest.raises(ValueError, match='found none'): pack_mono_stems(tmp_path/'e', tmp_path/'out')

def songs(root, names, stems=('bass', 'lead'), mixture=False, n_ch=1, n=12000, **kw):
    for name in names:
        (root/name).mkdir(parents=True, exist_ok=True)
        xs = [noise(n, i+10*len(name), n_ch) for i,_ in enumerate(stems)]
        for s,x in zip(stems, xs): write_audio(root/name/f'{s}.wav', x, sr, subtype='FLOAT', **kw)
        if mixture: write_audio(root/name/'mixture.wav', sum(xs), sr, subtype='FLOAT')
    return root

opts = dict(chunk_len=500, bs=4, seed=0, device='cpu', check=False)

@pytest.mark.parametrize('n_ch', [1, 2])
@pytest.mark.parametrize('mix', [None, 'mixture'])
@pytest.mark.parametrize('target', ['stems', 'mix'])
def test_mix_and_stems_agree(tmp_path, n_ch, mix, target):
    root = songs(tmp_path, ['a', 'bb', 'ccc'], mixture=True, n_ch=n_ch)
    dls = AudioDataLoaders.from_stems(root, ['bass', 'lead'], mix=mix, target=target, **opts)
    n = 0
    for dl in dls:
        for b in dl:
            m,s = b if target=='stems' else b[::-1]
            assert m.shape[1:] == (n_ch, 500) and s.shape[1:] == (2*n_ch, 500)
            assert (s[:, :n_ch]+s[:, n_ch:]-m).abs().max() < 1e-6 and m.abs().max() > .1
            n += len(m)
    assert n > 40
    one,two = [{p.parent for p,_ in dl.spans()} for dl in dls]
    assert len(one) == 2 and len(two) == 1 and not one & two

def test_one_song_is_split_in_time(tmp_path):
    dls = AudioDataLoaders.from_stems(songs(tmp_path, ['a']), ['lead', 'bass'], **opts)
    dls.set_context(100)
    assert max(s for _,s in dls.train.spans())+500 <= 9600 <= min(s for _,s in dls.valid.spans())
    x = [b[1] for b in dls.valid][0]
    assert torch.equal(x[0, 0].as_subclass(torch.Tensor), read_audio(tmp_path/'a'/'lead.wav', 9500, 600)[0][0])

def test_numbered_stems_and_named_folders(tmp_path):
    for part in ('train', 'valid', 'test'): tracks(tmp_path/part, n=9000, name='take')
    dls = AudioDataLoaders.from_stems(tmp_path, **opts)
    assert dls.one_batch()[1].shape[1] == 3
    assert [{p.parent.name for p,_ in dl.spans()} for dl in dls] == [{'train'}, {'valid'}]

def test_workers_preload_and_pickles_give_the_same(tmp_path):
    root = songs(tmp_path, ['a', 'bb', 'ccc'])
    runs = [[b for b in AudioDataLoaders.from_stems(root, ['bass', 'lead'], **{**opts, **kw}).train]
            for kw in ({}, dict(num_workers=2), dict(preload=True))]
    for other in runs[1:]:
        assert all(torch.equal(p, q) for a,b in zip(runs[0], other) for p,q in zip(a, b))
        assert len(other) == len(runs[0])
    s = Stems([root/'a'/'bass.wav', root/'a'/'lead.wav'], mix=True)
    assert torch.equal(pickle.loads(pickle.dumps(s)).read(5, 50), s.read(5, 50))
    assert torch.equal(s.read(-10, 20)[:, :10], torch.zeros(1, 10)) and s.read(11990, 20)[:, 10:].abs().max() == 0

@pytest.mark.parametrize('spoil,words', [
    (lambda d: (d/'bb'/'lead.wav').unlink(), 'expected one each of the tracks bass, lead, got bass'),
    (lambda d: write_audio(d/'bb'/'lead.wav', noise(9000, 1), sr), 'pass trim=True'),
    (lambda d: write_audio(d/'bb'/'lead.wav', noise(12000, 1), 16000), 'expected 8000 Hz'),
    (lambda d: write_audio(d/'bb'/'lead.wav', noise(12000, 1, 2), sr), 'expected 1 channel'),
    (lambda d: sf.write(d/'bb'/'lead.wav', np.full(12000, np.nan), sr, subtype='FLOAT'), 'NaN')])
def test_bad_stems(tmp_path, spoil, words):
    "Every stem is listened to, not the first alone."
    root = songs(tmp_path, ['a', 'bb', 'ccc'])
    spoil(root)
    with pytest.raises(ValueError, match=words):
        AudioDataLoaders.from_stems(root, ['bass', 'lead'], **{**opts, 'check':True})

def test_trim_takes_the_shorter(tmp_path):
    root = songs(tmp_path, ['a', 'bb', 'ccc'])
    write_audio(root/'bb'/'lead.wav', noise(9000, 1), sr)
    dls = AudioDataLoaders.from_stems(root, ['bass', 'lead'], trim=True, **opts)
    assert {p.parent.name:s+500 for dl in dls for p,s in sorted(dl.spans())}['bb'] <= 9000

@pytest.mark.parametrize('n_in,n_out', [(1, 2), (2, 1), (2, 2), (2, 4), (3, 1)])
def test_channels_through_a_learner(tmp_path, n_in, n_out):
    "Any channels in and out: packed files through `from_pairs`; to add and to copy channels is learned at once."
    class Mat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.n_in,self.n_out,self.receptive_field = n_in,n_out,1
            self.w = torch.nn.Conv1d(n_in, n_out, 1, bias=False)
        def forward(self, x): return self.w(x)
    torch.manual_seed(0)
    w = torch.randn(n_out, n_in)*.5
    for i in range(3):
        x = noise(8000, i, n_in)
        write_audio(tmp_path/f'{i}_input.wav', x, sr, subtype='FLOAT')
        write_audio(tmp_path/f'{i}_target.wav', w@x, sr, subtype='FLOAT')
    dls = AudioDataLoaders.from_pairs(tmp_path, n_ch=(n_in, n_out), **opts)
    x,y = dls.one_batch()
    assert (x.shape[1], y.shape[1]) == (n_in, n_out)
    learn = effects_learner(dls, Mat(), lr=.1, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(8)
    assert (learn.model.w.weight[..., 0]-w).abs().max() < .05
    y = learn.predict(tmp_path/'0_input.wav')
    assert y.shape == (n_out, 8000)
    assert (y.as_subclass(torch.Tensor)-read_audio(tmp_path/'0_target.wav')[0]).abs().max() < .05

def test_wrong_channels_are_named(tmp_path):
    dls = AudioDataLoaders.from_stems(songs(tmp_path, ['a', 'bb']), ['bass', 'lead'], **opts)
    with pytest.raises(ValueError, match='1 channel.* target, the recordings have 2'):
        effects_learner(dls, TCN(n_in=1, n_out=1))
