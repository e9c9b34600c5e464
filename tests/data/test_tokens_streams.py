"Mu-law tokens, next-sample targets and streams."
import math

import numpy as np
import pytest
import torch
from fastai.basics import Callback, CancelFitException, Path, first
import fastai.callback.schedule  # gives learners fit_one_cycle and lr_find  # noqa: F401

from fastproaudio.data import AudioDataLoaders, AudioTensor, AudioTokens, MuLaw
from fastproaudio.dsp import noise, sine
from fastproaudio.io import write_audio
from fastproaudio.models import SampleLSTM
from fastproaudio.train import autoregressive_learner
from fastproaudio.train.callbacks import CarryState
from fastproaudio.train.next_sample import next_baselines



def as_tokens(t): return torch.as_tensor(t).as_subclass(torch.Tensor)


@pytest.fixture
def folder(tmp_path):
    "Five recordings of different lengths, none of them a multiple of a window."
    for i, n in enumerate((1030, 333, 471, 222, 805)):
        write_audio(tmp_path/f'{i}.wav', noise(n, seed=i), 8000, subtype='FLOAT')
    return tmp_path


def loaders(folder, **kwargs):
    kwargs = {'n_tokens':None, 'chunk_len':50, 'bs':3, 'val_bs':3, 'valid':sorted(folder.glob('4.wav')),
              'check':False, **kwargs}
    return AudioDataLoaders.from_files(sorted(folder.glob('[0-3].wav')), **kwargs)


# tokens

@pytest.mark.parametrize('q', [2, 3, 7, 10, 128, 255, 256, 1000])
@pytest.mark.parametrize('n_ch', [1, 2, 3])
def test_tokens_round_trip_exactly(q, n_ch):
    f, t = MuLaw(q, n_ch), torch.randint(q, (4, 30*n_ch), generator=torch.Generator().manual_seed(q))
    x = f.decode(AudioTokens(t, sr=8000))
    assert type(x) is AudioTensor and x.shape == (4, n_ch, 30) and x.sr == 8000
    assert torch.equal(as_tokens(f(x)), t) and type(f(x)) is AudioTokens


@pytest.mark.parametrize('q', [16, 256, 257])
def test_decoded_waveform_is_within_half_a_step(q):
    x = torch.linspace(-1, 1, 20_001)[None]
    f, levels = MuLaw(q), MuLaw(q).decode(AudioTokens(torch.arange(q)))[0]
    y = f.decode(f(AudioTensor(x)))
    steps = as_tokens(levels).diff().max()
    assert (as_tokens(y)-x).abs().max() <= .62*steps                 # a step is halved on the curve, not on the line
    assert (as_tokens(y).diff(dim=-1) >= 0).all()


def test_silence_is_defined():
    assert MuLaw(257).hiss_db == -math.inf and MuLaw(256).hiss_db < -80 < MuLaw(10).hiss_db
    for q in (10, 255, 256):
        f = MuLaw(q)
        assert (f(AudioTensor(torch.zeros(1, 5))) == f.silence).all()


def test_wrong_tokens_and_channels_are_refused():
    with pytest.raises(ValueError, match='expected tokens in 0..255'): MuLaw().decode(AudioTokens([256]))
    with pytest.raises(ValueError, match='n_ch=2'): MuLaw()(AudioTensor(torch.zeros(2, 5)))
    with pytest.raises(ValueError, match='n_tokens >= 2'): MuLaw(1)


# loaders

@pytest.mark.parametrize('n_tokens,n_ch', [(None, 1), (None, 2), (64, 1), (64, 2)])
@pytest.mark.parametrize('carry', [True, False])
def test_target_is_the_next_sample(tmp_path, n_tokens, n_ch, carry):
    write_audio(tmp_path/'a.wav', noise(2000, seed=0, n_ch=n_ch), 8000)
    for x, y in AudioDataLoaders.from_files(tmp_path/'a.wav', n_tokens=n_tokens, n_ch=n_ch, carry=carry,
                                            chunk_len=60, bs=4).train:
        assert torch.equal(as_tokens(x[..., 1:]), as_tokens(y[..., :-1]))
        assert x.shape[1:] == ((60*n_ch,) if n_tokens else (n_ch, 60))


@pytest.mark.parametrize('bs', [1, 2, 3, 7, 40, 1000])
def test_every_window_comes_once_at_any_batch_size(folder, bs):
    dl = loaders(folder).train.new(bs=bs, shuffle=False)
    rows = [r for x, _ in dl for r in x.rows]
    assert sorted(rows) == list(range(20+6+9+4))
    assert len(dl.get_idxs()) == dl.n == len(rows)


@pytest.mark.parametrize('kwargs', [dict(), dict(num_workers=2), dict(read_len=200), dict(preload=True)])
def test_streams_do_not_depend_on_how_they_are_read(folder, kwargs):
    def epochs(**kw):
        dl = loaders(folder, seed=5, **kw).train
        return [[x for x, _ in dl] for _ in range(2)]
    for a, b in zip(epochs(), epochs(**kwargs)):
        assert len(a) == len(b) and all(torch.equal(as_tokens(p), as_tokens(q)) for p, q in zip(a, b))


def test_rows_continue_exactly_where_the_samples_do(folder):
    dl = loaders(folder, seed=1).train
    n_joined = 0
    for _ in range(3):
        before = None
        for x, y in dl:
            if before is not None:
                px, py = before
                goes_on = dl.continues(x.rows, px.rows)
                for i, on in enumerate(goes_on): assert (x[i, 0, 0] == py[i, 0, -1]) == bool(on)
                n_joined += goes_on.sum()
            before = x, y
    assert n_joined > 50


def test_over_epochs_every_sample_is_heard(folder):
    dl, seen = loaders(folder, seed=2).train, np.zeros((4, 1030), int)
    for _ in range(60):
        for x, _ in dl:
            for f, s in dl.table[x.rows][:, :2]: seen[f, s:s+50] += 1
    for i, n in enumerate((1030, 333, 471, 222)): assert seen[i, :n-1].min() > 0 and seen[i, n-1:].max() == 0


def test_hundreds_of_files_need_few_handles(tmp_path):
    for i in range(150): write_audio(tmp_path/f'{i:03}.wav', noise(400, seed=i), 8000)
    files = sorted(tmp_path.glob('*.wav'))
    dl = AudioDataLoaders.from_files(files[1:], valid=files[:1], n_tokens=None, chunk_len=50, bs=32, check=False).train
    before = len(list(Path('/proc/self/fd').iterdir())) if Path('/proc/self/fd').exists() else 0
    assert sum(len(x) for x, _ in dl) == dl.n
    if before: assert len(list(Path('/proc/self/fd').iterdir()))-before <= 70


def test_files_shorter_than_a_window_are_named(folder):
    with pytest.raises(ValueError, match=r'3.wav: expected at least 301 samples'): loaders(folder, chunk_len=300)


NOT_COUNTS = (0, -1, 1.5, 'a', True, math.nan)
BAD_LOADERS = ([({k: v}, rf'expected {k} >= 1, a whole number') for k in ('chunk_len', 'bs', 'sr', 'n_ch')
                for v in NOT_COUNTS] + [({'val_bs': 0}, 'expected bs')] +
               [({'valid': None, 'valid_pct': v}, 'valid_pct above 0 and below 1')
                for v in (0, 1, -.1, 1.5, math.nan, 'a')] +
               [({'valid': None, 'valid_pct': v, 'split_by': 'time'}, 'valid_pct above 0 and below 1')
                for v in (0, 1, -.1, math.nan)] +
               [({'n_tokens': v}, 'expected n_tokens >= 2') for v in (1, 0, -3, 1.5, 'a', True)] +
               [({'valid': None, 'split_by': 'x'}, "'file' or 'time'"), ({'valid': []}, 'others for validation')])


@pytest.mark.parametrize('kw,says', BAD_LOADERS,
                         ids=lambda o: '-'.join(map(str, o.items())) if isinstance(o, dict) else '')
def test_settings_of_loaders_that_mean_nothing(folder, kw, says):
    with pytest.raises(ValueError, match=says): loaders(folder, **kw)
    if {'n_tokens', 'bs', 'val_bs'} & set(kw) or kw.get('valid') == []: return
    sizes = {'n_prev': kw['chunk_len'], 'n_next': 5} if 'chunk_len' in kw else {'n_prev': 20, 'n_next': 20}
    kw = {k: v for k, v in kw.items() if k not in ('chunk_len', 'valid')} | sizes
    if isinstance(kw['n_prev'], bool): return
    with pytest.raises(ValueError, match=says if 'n_prev' not in kw or kw['n_prev'] == 20 else 'min_prev <= n_prev'):
        AudioDataLoaders.from_prev_next(folder, bs=3, check=False, **kw)


def test_a_recording_is_on_one_side_only(folder):
    a, b, c = sorted(folder.glob('*.wav'))[:3]
    with pytest.raises(ValueError, match='got it twice'):
        AudioDataLoaders.from_files([a, b, a], n_tokens=None, chunk_len=50)
    with pytest.raises(ValueError, match='expected recordings, got none'):
        AudioDataLoaders.from_files([], n_tokens=None, chunk_len=50)
    dls = AudioDataLoaders.from_files(folder, valid=[a], n_tokens=None, chunk_len=50, bs=2)
    assert [f.path for f, in dls.valid._files] == [a]
    assert a not in [f.path for f, in dls.train._files]
    assert len(dls.train._files) == 4
    with pytest.raises(ValueError, match='got 0 and 2'):
        AudioDataLoaders.from_files([a, b], valid=[a, b], n_tokens=None, chunk_len=50)
    for pct in (.01, .8, .99):                                       # one file at least on either side
        dls = AudioDataLoaders.from_files([a, b, c], valid_pct=pct, n_tokens=None, chunk_len=50, bs=2, seed=0)
        assert len(dls.train._files) >= 1 and len(dls.valid._files) >= 1


def test_no_sample_on_both_sides(tmp_path):
    write_audio(tmp_path/'a.wav', (torch.arange(4000)/4096)[None], 8000, subtype='FLOAT')
    dls = AudioDataLoaders.from_files(tmp_path/'a.wav', n_tokens=None, chunk_len=50, bs=4)
    train, valid = [max(y.max() for _, y in dls.train), min(x.min() for x, _ in dls.valid)]
    assert train < 3200/4096 <= valid


# carried state

@pytest.mark.parametrize('n_tokens', [None, 32])
@pytest.mark.parametrize('bs', [1, 3, 8])
def test_carried_state_is_one_long_sequence(folder, n_tokens, bs):
    torch.manual_seed(0)
    dls = loaders(folder, n_tokens=n_tokens, val_bs=bs)
    m = SampleLSTM(n_tokens or 0, hidden=6, n_layers=2, head=None if n_tokens else 'mse').eval()
    learn = autoregressive_learner(dls, m)
    dl = dls.train.new(shuffle=False, bs=bs)
    preds, _ = learn.get_preds(dl=dl)
    order = dl.get_idxs()
    preds = dict(zip(order, preds)) if preds.shape[0] == len(order) else {}
    # get_preds gives them back in the order of the table
    cut = {order[i] for i in range(min(bs, dl.n))}                   # where a stream begins
    with torch.no_grad():
        for f in range(4):
            rows = [r for r in range(dl.n) if dl.table[r, 0] == f]
            x = dl._files[f][0].read(0, int(dl.table[rows[-1], 1])+51)
            t = as_tokens(MuLaw(n_tokens)(x) if n_tokens else x)[None]
            starts = [r for r in rows if r in cut or r == rows[0]]
            for a, b in zip(starts, starts[1:]+[rows[-1]+1]):
                s = int(dl.table[a, 1])
                want = m(t[..., s:s+50*(b-a)])
                got = torch.cat([torch.as_tensor(all_preds(learn, dl)[r]) for r in range(a, b)], 0 if n_tokens else -1)
                torch.testing.assert_close(got[None] if n_tokens else got[None], want, atol=1e-5, rtol=0)


_cache = {}
def all_preds(learn, dl):
    "Predictions of a loader's windows in the order of its table."
    if id(dl) not in _cache:
        _cache.clear()
        _cache[id(dl)] = learn.get_preds(dl=dl)[0]
    return _cache[id(dl)]


def test_state_survives_interruption_lr_find_and_other_batch_sizes(folder, tmp_path):
    torch.manual_seed(0)
    dls = loaders(folder, n_tokens=32, seed=0, path=tmp_path)
    learn = autoregressive_learner(dls, SampleLSTM(32, hidden=6))
    class Stop(Callback):
        def before_batch(self):
            if self.training and self.iter == 2: raise CancelFitException()
    with learn.no_bar(), learn.no_logging():
        want = learn.validate()
        w = [p.clone() for p in learn.model.parameters()]
        learn.fit(1, 0., cbs=Stop())
        assert learn.validate() == want
        learn.lr_find(num_it=12, show_plot=False)
        for p, q in zip(learn.model.parameters(), w): assert torch.equal(p, q)
        assert learn.validate() == want
        preds, targs = learn.get_preds(dl=dls.valid.new(bs=1))
        assert preds.shape[:2] == targs.shape
    assert first(c for c in learn.cbs if isinstance(c, CarryState)).state is None


def test_gradients_stop_at_windows_and_reset_rows_start_fresh(folder):
    torch.manual_seed(0)
    dls = loaders(folder, n_tokens=32, seed=0)
    learn = autoregressive_learner(dls, SampleLSTM(32, hidden=6))
    seen = []
    class Look(Callback):
        order = 6
        def before_batch(self): seen.append((self.xb[1][0].clone(), self.xb[1][0].requires_grad))
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-3, cbs=Look())
    assert not any(g for _, g in seen)
    zero = torch.stack([(h == 0).all(1).float().mean() for h, _ in seen])
    assert zero[0] == 1 and 0 < zero[1:].mean() < .6


# baselines

def test_baselines_are_what_they_say(tmp_path):
    write_audio(tmp_path/'a.wav', sine(100, 8000, 16_000, amp=.5)[None], 8000)
    b = next_baselines(AudioDataLoaders.from_files(tmp_path/'a.wav', n_tokens=256, chunk_len=100, bs=4))
    assert b['copy-last'] < b['majority'] < 8 and 0 < b['copy-last match'] < 1
    torch.manual_seed(0)
    write_audio(tmp_path/'n.wav', (2*torch.rand(1, 200_000)-1), 8000)
    b = next_baselines(AudioDataLoaders.from_files(tmp_path/'n.wav', n_tokens=None, chunk_len=1000, bs=4))
    want = .5*math.log2(2*math.pi*math.e/3)+15                        # a normal distribution of a uniform one's power
    assert abs(b['majority']-want) < .02 and abs(b['copy-last']-want-.5) < .02
