"Every learner, every habit of a fastai user, with the callbacks, bars and logs that are on by default."
import warnings
from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.basics import Callback, cast, Learner, load_learner, Tensor
from fastai.callback.hook import ActivationStats
from fastai.callback.mixup import MixUp
from fastai.callback.progress import CSVLogger, ShowGraphCallback
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.interpret import Interpretation
from torch import nn

from fastproaudio.data import AudioDataLoaders, RandomGain
from fastproaudio.dsp import noise, sine
from fastproaudio.io import write_audio
from fastproaudio.losses import mae
from fastproaudio.models import SampleLSTM, SampleWaveNet, Seq2Seq, TCN
from fastproaudio.train import autoregressive_learner, Checkpoint, classifier_learner, effects_learner, seq2seq_learner

plt = pytest.importorskip('matplotlib.pyplot')
SR,CHUNK = 8000,512

# --- Learners ---------------------------------------------------------------------------------------------------------

def sounds(path):
    "A pair, a table with a knob, and sounds of two kinds."
    x = noise(4800, seed=0, amp=.2)
    for name,y in (('input_0', x), ('target_0', .8*torch.tanh(6*x)), ('target_1', .8*torch.tanh(2*x))):
        write_audio(path/f'{name}.wav', y, SR, subtype='FLOAT')
    lines = [f'input_0.wav,target_{i}.wav,{i}' for i in range(2)]
    (path/'table.csv').write_text('\n'.join(['input,target,drive', *lines])+'\n')
    for i in range(6):
        folder = path/'sounds'/('tone', 'noise')[i%2]
        folder.mkdir(parents=True, exist_ok=True)
        x = sine(200+50*i, sr=SR, n=6400)[None]*.5 if i%2==0 else noise(6400, seed=i, amp=.3)
        write_audio(folder/f'{i}.wav', x, SR, subtype='FLOAT')
    return path


def pairs(path):
    return AudioDataLoaders.from_pairs(path/'input_0.wav', path/'target_0.wav', chunk_len=CHUNK, bs=2, seed=0,
                                       path=path, device='cpu')
def tcn(**kwargs): return TCN(n_blocks=2, ks=3, channel_width=2, **kwargs)
def effects(path): return effects_learner(pairs(path), tcn())
def knobs(path):
    dls = AudioDataLoaders.from_table(path/'table.csv', chunk_len=CHUNK, bs=2, seed=0, path=path, device='cpu')
    return effects_learner(dls, tcn(n_knobs=1))
def lstm(path):
    dls = AudioDataLoaders.from_files(path/'sounds'/'tone', n_tokens=16, chunk_len=CHUNK, bs=2, seed=3, path=path,
                                      device='cpu')
    return autoregressive_learner(dls, SampleLSTM(hidden=6, n_tokens=16))
def wavenet(path):
    dls = AudioDataLoaders.from_files(path/'sounds'/'tone', n_tokens=16, carry=False, chunk_len=CHUNK, bs=4, seed=3,
                                      path=path, device='cpu')
    return autoregressive_learner(dls, SampleWaveNet(n_tokens=16, channels=4, n_layers=3))
def seq2seq(path):
    dls = AudioDataLoaders.from_prev_next(path/'sounds'/'tone', 32, 16, bs=16, path=path, device='cpu')
    return seq2seq_learner(dls, Seq2Seq(hidden=4))
def classes(path, arch):
    dls = AudioDataLoaders.from_folder(path/'sounds', valid_pct=.34, seed=0, head=True, pad=True, chunk_len=6400, bs=2,
                                       device='cpu')
    dls.path = path
    return classifier_learner(dls, arch=arch, width=2, n_nets=1)
def by_wave(path): return classes(path, 'wave')
def by_picture(path): return classes(path, 'spec')
def plain(path):
    net = nn.Sequential(nn.Conv1d(1, 2, 9, padding=4), nn.Tanh(), nn.Conv1d(2, 1, 1))
    return Learner(pairs(path), net, loss_func=nn.MSELoss(), metrics=mae, path=path)


LEARNERS = dict(effects=effects, knobs=knobs, lstm=lstm, wavenet=wavenet, seq2seq=seq2seq, by_wave=by_wave,
                by_picture=by_picture, plain=plain)


# --- Habits -----------------------------------------------------------------------------------------------------------

HABITS = {}
def habit(f):
    HABITS[f.__name__] = f
    return f


def moved(learn, fit):
    "A fit changes the weights."
    before = [p.detach().clone() for p in learn.model.parameters()]
    fit()
    assert any(not torch.equal(a, b) for a,b in zip(before, learn.model.parameters()))
    assert np.isfinite(learn.recorder.values[-1]).all()


@habit
def summary(learn, path):
    "Before and after a fit; it writes nothing."
    assert 'Callbacks' in learn.summary() and not list(path.rglob('*.pth'))
    learn.fit(1)
    kept = {p:p.read_bytes() for p in path.rglob('*.pth')}
    assert 'Callbacks' in learn.summary()
    assert kept=={p:p.read_bytes() for p in path.rglob('*.pth')}


@habit
def lr_find(learn, path):
    assert 0<learn.lr_find(num_it=6, show_plot=True, end_lr=.1).valley<1
    assert not list(path.rglob('last*.pth'))


@habit
def fits(learn, path): # noqa: ARG001
    for fit in (partial(learn.fit, 1), partial(learn.fit_one_cycle, 1), partial(learn.fit_flat_cos, 1),
                partial(learn.fit_sgdr, 1, 1)):
        moved(learn, fit)


@habit
def fine_tune(learn, path): # noqa: ARG001
    learn.freeze()
    learn.unfreeze()
    moved(learn, partial(learn.fine_tune, 1))


@habit
def judge(learn, path): # noqa: ARG001
    learn.fit(1)
    assert len(learn.validate())>=1
    n = learn.dls.valid.n
    for more in ({}, dict(with_loss=True), dict(with_decoded=True), dict(with_input=True),
                 dict(with_input=True, with_loss=True, with_decoded=True)):
        out = learn.get_preds(**more)
        assert len(out)==2+len(more)
    assert len(out[-1])==n if 'with_loss' in more else True


@habit
def interpret(learn, path): # noqa: ARG001
    interp = Interpretation.from_learner(learn)
    assert len(interp.losses)==learn.dls.valid.n
    interp.plot_top_losses(2)
    if hasattr(learn, 'plot_top_losses'): learn.plot_top_losses(2)


@habit
def tta(learn, path): # noqa: ARG001
    preds,targs = learn.tta(n=2)
    assert len(preds)==len(targs)==learn.dls.valid.n


@habit
def predict(learn, path): # noqa: ARG001
    f = learn.dls.valid.spans()[0][0]
    setting = dict(drive=.5) if getattr(learn.model, 'n_knobs', 0) else {}
    assert learn.predict(f, **setting) is not None
    dl = learn.dls.test_dl([learn.dls.valid_ds.items[0]], with_labels=True)
    assert len(learn.get_preds(dl=dl)[0])==dl.n


@habit
def loaded(learn, path):
    learn.fit(1)
    learn.export(path/'export.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = load_learner(path/'export.pkl')
    again.dls = learn.dls
    again.path = path
    moved(again, partial(again.fit_one_cycle, 1))


@habit
def copied(learn, path): # noqa: ARG001
    again = deepcopy(learn)
    moved(again, partial(again.fit, 1))
    again = deepcopy(again)
    moved(again, partial(again.fit, 1))


@habit
def saved(learn, path): # noqa: ARG001
    learn.fit(1)
    learn.save('a')
    with_preds = learn.get_preds()[0]
    learn.fit(1)
    learn.load('a')
    torch.testing.assert_close(learn.get_preds()[0], with_preds)


class Stop(Callback):
    def before_epoch(self):
        if self.epoch==2: raise KeyboardInterrupt


@habit
def resumed(learn, path):
    learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, Checkpoint)])
    with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3, cbs=[Checkpoint('run'), Stop()])
    kept = (path/'models'/'run.pth').read_bytes()
    with learn.added_cbs(Checkpoint('run')): learn.summary()
    assert kept==(path/'models'/'run.pth').read_bytes(), 'looking at a network writes nothing'
    learn.fit_one_cycle(3, cbs=Checkpoint('run', resume=True))
    assert len(learn.recorder.values)==3


@habit
def trackers(learn, path):
    learn.fit(2, cbs=[SaveModelCallback(), EarlyStoppingCallback(), ReduceLROnPlateau()])
    assert list(path.rglob('model.pth'))


@habit
def logs(learn, path):
    learn.fit(2, cbs=[CSVLogger(), ShowGraphCallback()])
    assert len(pd.read_csv(path/'history.csv'))==2


@habit
def board(learn, path):
    pytest.importorskip('tensorboard')
    from fastai.callback.tensorboard import TensorBoardCallback
    learn.fit(1, cbs=TensorBoardCallback(log_dir=path/'board'))
    assert list((path/'board').iterdir())


@habit
def others(learn, path): # noqa: ARG001
    learn.fit(1, cbs=[GradientAccumulation(4), ParamScheduler({'lr':SchedCos(1e-3, 1e-4)})])
    learn.fit(1, cbs=ActivationStats(with_hist=True))


@habit
def mixup(learn, path): # noqa: ARG001
    moved(learn, partial(learn.fit, 1, cbs=MixUp()))


@habit
def mixup_resumed(learn, path): # noqa: ARG001
    learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, Checkpoint)])
    with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3, cbs=[MixUp(), Checkpoint('mix'), Stop()])
    learn.fit_one_cycle(3, cbs=[MixUp(), Checkpoint('mix', resume=True)])


@habit
def precision(learn, path): # noqa: ARG001
    for to in ('to_bf16', 'to_fp16', 'to_fp32'): moved(getattr(learn, to)(), partial(learn.fit, 1))


@habit
def shows(learn, path): # noqa: ARG001
    learn.dls.show_batch(max_n=2, figsize=(6, 3), nrows=2, ncols=1)
    learn.dls.show_batch(max_n=2, unique=True)
    learn.show_results(max_n=2)


# --- The table --------------------------------------------------------------------------------------------------------

NOT_VARIED = 'expected loaders that vary the sound'
REFUSED = {(kind, name):'expected one waveform to mix'
           for kind in ('knobs', 'lstm', 'wavenet', 'seq2seq') for name in ('mixup', 'mixup_resumed')}
REFUSED |= {(kind, 'tta'):NOT_VARIED for kind in LEARNERS if kind!='plain'}

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield sounds(tmp_path_factory.mktemp('habits'))
    torch.set_num_threads(n)


@pytest.mark.parametrize('name', HABITS)
@pytest.mark.parametrize('kind', LEARNERS)
def test_habit(folder, tmp_path, kind, name):
    import matplotlib
    matplotlib.use('agg')
    torch.manual_seed(0)
    learn = LEARNERS[kind](folder)
    learn.path = tmp_path
    run = partial(HABITS[name], learn, tmp_path)
    try:
        if (kind, name) not in REFUSED: return run()
        with pytest.raises(ValueError, match=REFUSED[kind, name]): run()
    finally: plt.close('all')


# --- More than that it runs -------------------------------------------------------------------------------------------

def test_interpretation_shows_the_chunks_it_means(folder, tmp_path):
    "The worst prediction is of the chunk with the greatest loss, and not of the file with its number."
    learn = effects(folder)
    learn.path = tmp_path
    interp = Interpretation.from_learner(learn)
    losses,idxs = interp.top_losses(2)
    inps,preds,targs,_,_ = interp[idxs]
    whole = learn.get_preds(with_input=True)
    torch.testing.assert_close(preds, whole[1][idxs])
    torch.testing.assert_close(targs, whole[2][idxs])
    assert inps.shape==targs.shape and torch.equal(inps, whole[0][idxs][..., -inps.shape[-1]:])
    for p,t,loss in zip(preds, targs, losses):
        torch.testing.assert_close(learn.loss_func(p[None], t[None]), loss, rtol=1e-4, atol=1e-5)


def test_tta_averages_over_varied_sound(folder):
    dls = AudioDataLoaders.from_pairs(folder/'input_0.wav', folder/'target_0.wav', chunk_len=CHUNK, bs=2, seed=0,
                                      path=folder, device='cpu', batch_tfms=RandomGain(6., on='input'))
    learn = effects_learner(dls, tcn(), checkpoint=None)
    assert not torch.equal(learn.tta(n=2)[0], learn.get_preds()[0])


def test_a_quiet_item_does_not_rule_the_loss(tmp_path):
    "Item 5: hiss in a pause, and the music half wrong; the default monitor keeps what the ESR would keep."
    x = noise(30000, seed=0, amp=.3)
    x[:, -6000:] = 0                                                 # validation ends in silence
    for name,y in (('x', x), ('y', torch.tanh(3*x))): write_audio(tmp_path/f'{name}.wav', y, SR, subtype='FLOAT')
    dls = AudioDataLoaders.from_pairs(tmp_path/'x.wav', tmp_path/'y.wav', chunk_len=1024, bs=4, valid_pct=.4, seed=0,
                                      path=tmp_path, device='cpu', check=False)
    loss = effects_learner(dls, tcn(), checkpoint=None).loss_func
    y = torch.cat([cast(t, Tensor)[..., -1024:] for _,t in dls.valid])
    assert (y.square().mean((1, 2))==0).any()
    hiss = 3e-3*torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    nearly,half = loss(y+hiss, y),loss(.5*y, y)
    assert torch.isfinite(loss(torch.zeros_like(y), torch.zeros_like(y))) and nearly<half
    loss.reduction = 'none'
    each = loss(y+hiss, y)
    assert 0<each.max()<half/2, 'a pause neither outweighs the music nor counts for nothing'
