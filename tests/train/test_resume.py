"""A run that is killed in the middle of an epoch, and resumed, ends as the unbroken one: every learner, bit for
bit; and what can go wrong."""
import errno, os, random, re, resource, signal, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.basics import Callback
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from torch import nn

import fastproaudio.train.checkpoint as checkpoint_module
from fastproaudio.data import AudioDataLoaders
from fastproaudio.dsp import noise
from fastproaudio.io import write_audio
from fastproaudio.train import Checkpoint, effects_learner
from fastproaudio.train.checkpoint import read_checkpoint

SCRIPT = Path(__file__).with_name('resume_script.py')
KINDS = ['effects', 'lstm', 'wavenet', 'classifier']


def run(path, role, *kinds):
    "What a script prints, in a process of its own."
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[2])}
    r = subprocess.run([sys.executable, str(SCRIPT), str(path), role, *kinds],
                       capture_output=True, text=True, env=env, timeout=300)
    assert r.returncode==0, r.stderr
    return r.stdout


# --- Killed, resumed
# ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    "Runs of each kind: unbroken; killed in mid-epoch; and resumed in a new process. The folder, and what was printed."
    path = tmp_path_factory.mktemp('runs')
    run(path, 'whole', *KINDS)
    assert run(path, 'kill', *KINDS).count(f'died of {int(signal.SIGKILL)}\n')==len(KINDS)
    return path, run(path, 'resume', *KINDS)


def results(path, kind, *names): return [torch.load(path/f'{kind}_{n}.result', weights_only=True) for n in names]


@pytest.mark.parametrize('kind', KINDS)
def test_killed_and_resumed_is_as_unbroken(killed, kind):
    path,log = killed
    assert f'{kind}_broken.pth: going on after epoch 1 of 3' in log
    a,b = results(path, kind, 'whole', 'broken')
    assert a.keys()==b.keys() and len(a['losses'])==a['train_iter']>=6 and len(a['values'])==3
    for k in a['weights']: assert torch.equal(a['weights'][k], b['weights'][k]), f'{k} differs'
    for k in a: assert k=='weights' or repr(a[k])==repr(b[k]), f'{k} differs'


def test_another_seed_ends_elsewhere(killed):
    "The check above can fail: from the start, the seed of the resumed script leads to other weights."
    path,_ = killed
    a,b = results(path, 'effects', 'whole', 'other')
    assert any(not torch.equal(a['weights'][k], b['weights'][k]) for k in a['weights'])


# --- In one process
# -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp('sound')
    x = noise(5000, seed=0, amp=.2)
    for name,o in (('dry', x), ('wet', .8*torch.tanh(6*x)), ('wet2', .5*x)):
        write_audio(path/f'{name}.wav', o, 8000, subtype='FLOAT')
    write_audio(path/'longer.wav', torch.cat([x, x], -1), 8000, subtype='FLOAT')
    return path


def net(): return nn.Sequential(nn.Conv1d(1, 4, 1), nn.Tanh(), nn.Dropout(.2), nn.Conv1d(4, 1, 1))


def learner(sound, path, model=None, files=('dry', 'wet'), seed=0, bs=4, **kwargs):
    random.seed(seed); np.random.seed(seed); torch.manual_seed(seed)
    dls = AudioDataLoaders.from_pairs(*[sound/f'{f}.wav' for f in files], chunk_len=256, bs=bs, path=path, device='cpu')
    learn = effects_learner(dls, model or net(), loss_func=nn.MSELoss(), checkpoint=None, **kwargs)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name in ('progress', 'baselines')])
    learn.logger = lambda *a: None
    return learn


class Stop(Callback):
    "An interruption in the middle of an epoch."
    def __init__(self, epoch): self.at = epoch
    def after_batch(self):
        if self.training and self.epoch==self.at and self.iter==1: raise KeyboardInterrupt


class StopAtStep(Stop):
    "An interruption before the gradients of the step are cleared."
    def after_batch(self): pass
    def after_step(self):
        if self.epoch==self.at and self.iter==1: raise KeyboardInterrupt


def weights(learn): return [p.detach().clone() for p in learn.model.parameters()]
def same(a, b): return all(torch.equal(o, p) for o,p in zip(a, b))


def test_interrupted_and_resumed_in_a_notebook(sound, tmp_path, capsys):
    "The cell is run again: once with the same learner, once with a new one."
    ref = learner(sound, tmp_path/'ref')
    ref.fit_one_cycle(3, 1e-2)
    learn = learner(sound, tmp_path)
    with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3, 1e-2, cbs=[Checkpoint('a'), StopAtStep(1)])
    assert "Checkpoint('a', resume=True)" in capsys.readouterr().out
    assert np.isfinite(learn.validate()).all() and learn.predict(torch.zeros(1, 10)).shape==(1, 10)
    for again in (learn, learner(sound, tmp_path, seed=5)):
        again.fit_one_cycle(3, 1e-2, cbs=Checkpoint('a', resume=True))
        assert same(weights(again), weights(ref))
        assert 'going on after epoch 1 of 3' in capsys.readouterr().out or again is not learn
    assert not any(isinstance(cb, Checkpoint) for cb in learn.cbs) and '_with_events' not in vars(learn)
    learn.fit(1, cbs=Checkpoint('b'))


def test_interrupted_with_mixup(tmp_path):
    "fastai's MixUp holds the loss for a fit: an interruption must give it back."
    from resume_script import make, sounds
    sounds(tmp_path)
    learn = make(tmp_path, 'classifier')
    loss = learn.loss_func
    with learn.no_bar(), learn.no_logging():
        with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=Stop(0))
        assert learn.loss_func is loss
        learn.fit(1)


@pytest.mark.parametrize('at', [0, 1, 2])
def test_several_fits_of_one_script(sound, tmp_path, at):
    "`fine_tune` is two fits: those that are done are left out, whatever of them was interrupted."
    def script(path, cb, *more):
        learn = learner(sound, path, cbs=[cb, *more], seed=len(more))
        learn.fine_tune(2, 1e-2)
        return learn
    class StopAt(Callback):
        n = 0
        def after_step(self):
            StopAt.n += 1
            if StopAt.n==2+3*at: raise KeyboardInterrupt
    ref = script(tmp_path/'ref', Checkpoint('a'))
    learn = learner(sound, tmp_path, cbs=[Checkpoint('a'), StopAt()])
    with pytest.raises(KeyboardInterrupt): learn.fine_tune(2, 1e-2)
    assert same(weights(script(tmp_path, Checkpoint('a', resume=True))), weights(ref))


def test_what_callbacks_count(sound, tmp_path):
    "An early stop goes on waiting, gradients on adding up, and what was best is still the best."
    def fit(path, *more, **kwargs):
        cbs = [EarlyStoppingCallback(patience=3, min_delta=1e9), GradientAccumulation(12),
               SaveModelCallback(fname='best'), Checkpoint('a', **kwargs)]
        learn = learner(sound, path)
        learn.fit(20, 1e-2, cbs=cbs+list(more))
        return learn,cbs
    ref,ref_cbs = fit(tmp_path/'ref')
    with pytest.raises(KeyboardInterrupt): fit(tmp_path, Stop(2))
    learn,cbs = fit(tmp_path, resume=True)
    assert len(learn.recorder.values)==len(ref.recorder.values)==4, 'stopped after three epochs that were no better'
    assert same(weights(learn), weights(ref))
    assert (cbs[0].wait, cbs[0].best, cbs[1].count, cbs[2].best)==(ref_cbs[0].wait,
                                                                   ref_cbs[0].best, ref_cbs[1].count, ref_cbs[2].best)
    state = read_checkpoint(tmp_path/'models'/'a.pth')['run']
    assert state['finished'] and state['epoch']==4
    again,_ = fit(tmp_path, resume=True)
    assert same(weights(again), weights(ref)) and len(again.recorder.values)==4


def test_a_fit_by_the_clock(sound, tmp_path):
    "What is left of the time is what a resumed fit gets."
    ticks = lambda: iter(np.arange(0, 1e6, .5)).__next__
    ref = learner(sound, tmp_path/'ref')
    ref.fit_for(20/60, 1e-2, clock=ticks(), cbs=Checkpoint('a'))
    learn = learner(sound, tmp_path)
    with pytest.raises(KeyboardInterrupt): learn.fit_for(20/60, 1e-2, clock=ticks(), cbs=[Checkpoint('a'), Stop(2)])
    done = read_checkpoint(tmp_path/'models'/'a.pth')['run']['learn']['train_iter']
    again = learner(sound, tmp_path)
    again.fit_for(20/60, 1e-2, clock=ticks(), cbs=Checkpoint('a', resume=True))
    assert 0<done<again.train_iter and abs(again.train_iter-ref.train_iter)<=1
    assert again.recorder.lrs[:done]==ref.recorder.lrs[:done] and again.recorder.lrs[-1]<1e-3


class Scaled(Callback):
    "What fastai's mixed precision does, on a CPU: a scale that grows with every second good step."
    order = 10
    def before_fit(self): self.learn.scaler = torch.amp.GradScaler('cpu', init_scale=2., growth_interval=2)
    def before_backward(self): self.learn.loss_grad = self.learn.scaler.scale(self.loss_grad)
    def before_step(self):
        for p in self.learn.model.parameters(): p.grad.div_(self.learn.scaler.get_scale())
    def after_step(self):
        s = self.learn.scaler
        s.load_state_dict({**s.state_dict(), 'scale':s.get_scale()*1.5})


def test_the_scale_of_mixed_precision(sound, tmp_path):
    ref = learner(sound, tmp_path/'ref', cbs=Scaled())
    ref.fit(3, 1e-2)
    learn = learner(sound, tmp_path, cbs=Scaled())
    with pytest.raises(KeyboardInterrupt): learn.fit(3, 1e-2, cbs=[Checkpoint('a'), Stop(2)])
    again = learner(sound, tmp_path, cbs=Scaled(), seed=1)
    again.fit(3, 1e-2, cbs=Checkpoint('a', resume=True))
    assert again.scaler.get_scale()==ref.scaler.get_scale()>2
    assert same(weights(again), weights(ref))


def test_no_fit_no_checkpoint(sound, tmp_path):
    "`validate`, `get_preds` and `lr_find` neither write nor read one."
    learn = learner(sound, tmp_path)
    learn.fit(1, cbs=Checkpoint('a'))
    file,w = tmp_path/'models'/'a.pth',weights(learn)
    before = file.read_bytes()
    learn.add_cb(Checkpoint('a', resume=True))
    with torch.no_grad(): learn.model[0].weight.add_(1)
    w = weights(learn)
    learn.validate(); learn.get_preds(); learn.lr_find(num_it=5, show_plot=False)
    assert same(weights(learn), w) and file.read_bytes()==before


def test_a_run_that_is_about_to_be_replaced_is_named(sound, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt): learner(sound, tmp_path).fit(3, cbs=[Checkpoint('a'), Stop(2)])
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt): learner(sound, tmp_path).fit(3, cbs=[Checkpoint('a'), Stop(0)])
    said = capsys.readouterr().out
    assert "epoch 2 of 3 of this run is replaced; cbs=Checkpoint('a', resume=True) goes on from it" in said
    learner(sound, tmp_path).fit(3, cbs=Checkpoint('a', resume=True))
    assert 'going on after epoch 2 of 3' in capsys.readouterr().out, 'nothing was lost in the first epoch'


# --- What goes wrong
# ----------------------------------------------------------------------------------------------------------

OTHERS = {
    'model': (dict(model=nn.Sequential(nn.Conv1d(1, 5, 1), nn.Conv1d(5, 1, 1))),
              {}, 'this model, Sequential with 16 parameters, got one of Sequential with 13'),
    'sound': (dict(files=('longer', 'longer')), {}, 'this sound, .* got one of .* from 4 recordings'),
    'batch': (dict(bs=2), {}, 'this sound, .* batches of 2'),
    'epochs': ({}, dict(n=4), 'this schedule, 4 epochs at a learning rate of 0.01, got one of 3 epochs'),
    'rate': ({}, dict(lr=2e-2),
             'this schedule, 3 epochs at a learning rate of 0.02, got one of 3 epochs at a learning rate of 0.01'),
}

@pytest.mark.parametrize('what', OTHERS)
def test_checkpoint_of_another_run(sound, tmp_path, what):
    with pytest.raises(KeyboardInterrupt):
        learner(sound, tmp_path).fit_one_cycle(3, 1e-2, cbs=[Checkpoint('a'), Stop(1)])
    kwargs,fit,words = OTHERS[what]
    learn = learner(sound, tmp_path, **kwargs)
    w = weights(learn)
    with pytest.raises(ValueError, match=words) as e:
        learn.fit_one_cycle(fit.get('n', 3), fit.get('lr', 1e-2), cbs=Checkpoint('a', resume=True))
    assert 'resume=False' in str(e.value) and same(weights(learn), w)


@pytest.fixture(scope='module')
def kept(sound, tmp_path_factory):
    "The bytes of a checkpoint and of the one before it, and the weights at the end."
    path = tmp_path_factory.mktemp('kept')
    ref = learner(sound, path)
    ref.fit(3, 1e-2)
    with pytest.raises(KeyboardInterrupt): learner(sound, path).fit(3, 1e-2, cbs=[Checkpoint('a'), Stop(2)])
    return (path/'models'/'a.pth').read_bytes(),(path/'models'/'a.previous.pth').read_bytes(),weights(ref)


def put(path, last, before=None):
    (path/'models').mkdir(exist_ok=True)
    (path/'models'/'a.pth').write_bytes(last)
    if before is not None: (path/'models'/'a.previous.pth').write_bytes(before)


def damaged(b, how, rng=random.Random(0)):
    if how=='empty': return b''
    if how=='short': return b[:rng.randrange(1, len(b))]
    if how=='noise': return bytes(rng.randrange(256) for _ in range(len(b)))
    b = bytearray(b)
    i = rng.randrange(len(b)) if how=='bit' else b.find(b'/data/')+200
    b[i] ^= 1<<rng.randrange(8)
    return bytes(b)


@pytest.mark.parametrize('how', ['empty', 'short', 'noise', 'weight'])
def test_damaged_checkpoint(sound, tmp_path, kept, how, capsys):
    "The one before it takes over; if there is none, one sentence; and it is never lost to the damaged one."
    last,before,w = kept
    bad = damaged(last, how)
    put(tmp_path, bad, before)
    learn = learner(sound, tmp_path, seed=1)
    with pytest.raises(KeyboardInterrupt): learn.fit(3, 1e-2, cbs=[Checkpoint('a', resume=True), Stop(1)])
    assert 'going on from a.previous.pth' in capsys.readouterr().out
    assert (tmp_path/'models'/'a.previous.pth').read_bytes()==before, 'it was still the only whole one'
    learn.fit(3, 1e-2, cbs=Checkpoint('a', resume=True))
    assert same(weights(learn), w)
    (tmp_path/'models'/'a.previous.pth').unlink()
    put(tmp_path, bad)
    with pytest.raises(ValueError, match=r'a\.pth: expected a checkpoint .* delete it to start anew'):
        learner(sound, tmp_path).fit(3, 1e-2, cbs=Checkpoint('a', resume=True))


def test_any_changed_bit(tmp_path, kept):
    "Wherever a bit of the file falls over, what is read is right or refused."
    last,_,_ = kept
    want,rng = repr(read_bytes(tmp_path, last)),random.Random(1)
    refused = 0
    for _ in range(60):
        try: assert repr(read_bytes(tmp_path, damaged(last, 'bit', rng)))==want
        except ValueError: refused += 1
    assert refused>30


def read_bytes(path, b):
    (path/'x.pth').write_bytes(b)
    return read_checkpoint(path/'x.pth')


def test_code_is_not_run(sound, tmp_path):
    class Boom:
        def __reduce__(self): return (os.mkdir, (str(tmp_path/'ran'),))
    (tmp_path/'models').mkdir()
    torch.save(dict(model={}, opt=dict(run=Boom())), tmp_path/'models'/'a.pth')
    with pytest.raises(ValueError, match='holds code, which is not run'):
        learner(sound, tmp_path).fit(3, cbs=Checkpoint('a', resume=True))
    assert not (tmp_path/'ran').exists()


def test_weights_alone_are_no_checkpoint(sound, tmp_path):
    learn = learner(sound, tmp_path)
    learn.fit(1)
    learn.save('a')
    with pytest.raises(ValueError, match='weights alone'): learn.fit(3, cbs=Checkpoint('a', resume=True))


def test_nothing_there_is_a_start(sound, tmp_path):
    learner(sound, tmp_path).fit(1, cbs=Checkpoint('a', resume=True))
    assert read_checkpoint(tmp_path/'models'/'a.pth')['run']['finished']


class Full(Callback):
    "A disk that is full in the epochs `when`: no file may grow over 2000 bytes."
    def __init__(self, when): self.when = when
    def before_epoch(self): self.limit(2000 if self.epoch in self.when else resource.RLIM_INFINITY)
    def after_fit(self): self.limit(resource.RLIM_INFINITY)
    def limit(self, n): resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))


def test_full_disk(sound, tmp_path):
    "Training goes on and says so, what was saved stays, and room that is made is used."
    ref = learner(sound, tmp_path/'ref')
    ref.fit(4, 1e-2)
    learn,file,seen = learner(sound, tmp_path),tmp_path/'models'/'a.pth',[]
    class Look(Callback):
        order = 2000
        def after_epoch(self):
            seen.append((read_checkpoint(file)['run']['epoch'], sorted(f.name for f in file.parent.iterdir())))
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        try: learn.fit(4, 1e-2, cbs=[Checkpoint('a'), Full((1, 2)), Look()])
        finally: Full(()).limit(resource.RLIM_INFINITY)
    said = [str(o.message) for o in w if 'not saved' in str(o.message)]
    assert len(said)==2 and re.search(r'a\.pth: epoch 2 was not saved \(File too large\); training goes on', said[0])
    assert [o[0] for o in seen]==[1, 1, 1, 4], 'the last whole one, then again the newest'
    assert not any(n.endswith('.part') for o in seen for n in o[1]), 'what was half written is gone'
    assert same(weights(learn), weights(ref))


@pytest.mark.parametrize('fault', [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_no_place_to_write_is_said_before_training(sound, tmp_path, fault, monkeypatch):
    real = open
    def refuse(f, mode='r', *a, **k):
        if 'w' in mode and str(f).endswith('.part'): raise OSError(fault, os.strerror(fault))
        return real(f, mode, *a, **k)
    monkeypatch.setattr(checkpoint_module, 'open', refuse, raising=False)
    learn = learner(sound, tmp_path)
    w = weights(learn)
    with pytest.raises(ValueError,
                       match=rf"a\.pth: expected a place for checkpoints, got '{os.strerror(fault)}'; pass path="):
        learn.fit(2, cbs=Checkpoint('a'))
    assert same(weights(learn), w) and not list(tmp_path.rglob('*.pth'))


def test_a_file_where_the_folder_should_be(sound, tmp_path):
    (tmp_path/'models').write_text('')
    with pytest.raises(ValueError, match='expected a place for checkpoints'):
        learner(sound, tmp_path).fit(1, cbs=Checkpoint('a'))


@pytest.mark.parametrize('call', [1, 2])
def test_killed_while_it_is_written(sound, tmp_path, kept, call):
    "Before either of the two renames: there is a whole checkpoint at every moment."
    pid = os.fork()
    if pid==0:
        n,real = [0],os.replace
        def replace(*a):
            n[0] += 1
            # the start's save renames once, epoch 1's twice
            if n[0]==2*1+call: os.kill(os.getpid(), signal.SIGKILL)
            real(*a)
        os.replace = replace
        learner(sound, tmp_path).fit(3, 1e-2, cbs=Checkpoint('a'))
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1])==signal.SIGKILL
    learn = learner(sound, tmp_path, seed=1)
    learn.fit(3, 1e-2, cbs=Checkpoint('a', resume=True))
    assert same(weights(learn), kept[2])
    assert not list((tmp_path/'models').glob('.*')), 'the half-written one was used up'
