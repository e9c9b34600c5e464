"`Listening` and `WandBAudio`: what is logged where, for every learner, and that training does not notice."
import errno, io, re, sys, types
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from fastai.basics import Callback, set_seed

import fastproaudio.train.hear as listening_module
from fastproaudio.data import AudioDataLoaders
from fastproaudio.dsp import noise, sine
from fastproaudio.io import write_audio
from fastproaudio.models import SampleLSTM, SampleWaveNet, TCN, UNet1d
from fastproaudio.train import (autoregressive_learner, Checkpoint, classifier_learner, effects_learner,
                                Listening, WandBAudio)
from fastproaudio.train.checkpoint import get_rng

SR = 8000


@pytest.fixture(scope='module')
def sounds(tmp_path_factory):
    path = tmp_path_factory.mktemp('sounds')
    for i in range(6):
        folder = path/'folders'/('tone', 'noise')[i%2]
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder/f'{i}.wav', sine(200+50*i, sr=SR, n=3000)[None]*.5
                    if i%2==0 else noise(3000, seed=i, amp=.3), SR)
    for n_ch in (1, 2):
        x = noise(9000, seed=0, n_ch=n_ch, amp=.2)
        for name,o in ((f'dry{n_ch}', x), (f'wet{n_ch}', 1.2*torch.tanh(6*x))):
            write_audio(path/f'{name}.wav', o, SR, subtype='FLOAT')
    return path


def make(kind, sounds, path, **kwargs):
    set_seed(0)
    more = dict(path=path, device='cpu')
    if kind in ('tcn', 'centred', 'stereo', 'bf16'):
        n_ch = 2 if kind=='stereo' else 1
        dls = AudioDataLoaders.from_pairs(sounds/f'dry{n_ch}.wav', sounds/f'wet{n_ch}.wav', chunk_len=512, bs=4, **more)
        net = UNet1d(channels=(4, 6), strides=(4,),
                     ks=3) if kind=='centred' else TCN(n_in=n_ch, n_out=n_ch, n_blocks=2, ks=3, channel_width=4)
        learn = effects_learner(dls, net, checkpoint=None, **kwargs)
        if kind=='bf16': learn.to_bf16()
    elif kind in ('lstm', 'wavenet', 'continuous'):
        q = None if kind=='continuous' else 32
        dls = AudioDataLoaders.from_files(sounds/'folders'/'tone', n_tokens=q,
                                          carry=kind=='lstm', chunk_len=128, bs=3, seed=0, **more)
        net = SampleLSTM(hidden=8,
                         n_tokens=q) if kind=='lstm' else SampleWaveNet(n_tokens=q or 0,
                                                                        head='categorical' if q else 'gaussian',
                                                                        inp='onehot' if q else 'wave',
                                                                        channels=4, n_layers=3)
        learn = autoregressive_learner(dls, net, **kwargs)
    else:
        dls = AudioDataLoaders.from_folder(sounds/'folders', valid_pct=.34,
                                           seed=0, head=True, pad=True, chunk_len=3000, bs=2, device='cpu')
        learn = classifier_learner(dls, width=4, path=path, **kwargs)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name in ('progress', 'baselines', 'next_baselines')])
    learn.logger = lambda *a: None
    return learn


KINDS = ['tcn', 'centred', 'stereo', 'bf16', 'lstm', 'wavenet', 'continuous', 'classifier']

def end(learn):
    "Everything that a run leaves behind."
    return ([p.detach().clone() for p in learn.model.state_dict().values()], [float(v) for v in learn.recorder.losses],
            [[float(o) for o in v] for v in learn.recorder.values], repr(get_rng()),
            learn.dls.train.rng.getstate(), learn.model.training,
            [s['sqr_avg'].sum().item() for s in learn.opt.state.values() if 'sqr_avg' in s])


@pytest.mark.parametrize('kind', KINDS)
def test_training_does_not_notice(kind, sounds, tmp_path):
    "Weights, losses, draws: to the bit; and what is logged is what the learner says."
    plain = make(kind, sounds, tmp_path)
    plain.fit_one_cycle(2, 5e-3)
    cb = Listening(n=2, seconds=.2, to='folder')
    learn = make(kind, sounds, tmp_path)
    learn.fit_one_cycle(2, 5e-3, cbs=cb)
    for a,b in zip(end(plain), end(learn)):
        assert all(map(torch.equal, a, b)) if isinstance(a, list) and isinstance(a[0], torch.Tensor) else a==b
    where = Path(cb.where)
    assert where==tmp_path/'listening'/'run-1'
    files = {f.name for f in where.iterdir()}
    page = (where/'index.html').read_text()
    assert 'example_2_00002.png' in files and 'index.html' in files and not any(f.startswith('.') for f in files)
    for link in re.findall(r'src="([^"]+)"', page): assert link in files, link
    assert {f for f in files if f.endswith('.wav')}=={f for f in re.findall(r'src="([^"]+\.wav)"',
                                                                            page)}, 'every sound can be played'
    for f in files:
        if not f.endswith('.wav'): continue
        x,sr = sf.read(where/f, always_2d=True)
        assert sr==SR and len(x)<=.2*SR+1 and np.isfinite(x).all() and x.shape[1]==(2 if kind=='stereo' else 1)
    assert [h['step'] for h in cb.history]==[1, 2] and list(cb.history[1]['metrics'])[:2]==['train_loss', 'valid_loss']
    assert list(cb.history[1]['metrics'].values())==[float(v) for v in learn.final_record]
    if kind in ('lstm', 'wavenet'):
        assert 'match_fraction' in cb.history[0]['metrics'] and 'example_1_generated_00002.wav' in files
        assert 'example_1_prompt.wav' in files
        assert re.search(r'0\.\d+ s generated', cb.history[1]['captions']['example_1'])
    elif kind=='classifier':
        assert re.fullmatch(r'heard (tone|noise) \(\d+%\), is (tone|noise)', cb.history[1]['captions']['example_1'])
        assert not any('prediction' in f for f in files)


def test_the_prediction_is_that_of_the_learner(sounds, tmp_path):
    "The logged prediction and target are the whole recording's, at the same place."
    cb = Listening(n=1, seconds=.2, to='folder')
    learn = make('tcn', sounds, tmp_path)
    learn.fit(1, 5e-3, cbs=cb)
    read = lambda k: torch.from_numpy(sf.read(Path(cb.where)/f'example_1_{k}.wav', dtype='float32')[0])
    x,y = [torch.from_numpy(sf.read(sounds/f'{k}1.wav', dtype='float32')[0]) for k in ('dry', 'wet')]
    t = read('target')
    start = next(s for s in range(7000, 9000-len(t)+1) if torch.allclose(y[s:s+len(t)].clamp(-1, 1), t, atol=1e-4))
    torch.testing.assert_close(read('input'), x[start:start+len(t)], atol=1e-4, rtol=0)
    pred = learn.predict(x)[0, start:start+len(t)]
    torch.testing.assert_close(read('prediction_00001'), torch.as_tensor(pred).clamp(-1, 1), atol=1e-4, rtol=0)
    assert len(t)==1600 and t.abs().max()==pytest.approx(1, abs=1e-3), 'above full scale is clipped, not scaled'


def test_bounded_and_spread(sounds, tmp_path):
    "Sounds of at most `most` epochs, the first and the last among them; figures of all."
    cb = Listening(n=1, seconds=.1, to='folder', most=3)
    learn = make('tcn', sounds, tmp_path)
    learn.fit(11, 1e-3, cbs=cb)
    steps = [h['step'] for h in cb.history if h['captions']]
    assert len(cb.history)==11 and steps[0]==1 and steps[-1]==11 and len(steps)<=4
    assert len(list(Path(cb.where).iterdir()))==2+2*len(steps)+1
    learn.fit_for(.3/60, 1e-3, cbs=cb)
    more = [h['step'] for h in cb.history if h['captions'] and h['step']>11]
    assert 1<=len(more)<=4 and cb.history[-1]['step']>11, 'a second fit goes on in the same place'
    other = Listening(n=1, seconds=.1, to='folder')
    learn.fit(1, 1e-3, cbs=other)
    assert Path(other.where).name=='run-2'


def test_tensorboard(sounds, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    def logged(kind):
        cb = Listening(n=2, seconds=.2)
        learn = make(kind, sounds, tmp_path/kind)
        learn.fit(2, 5e-3, cbs=cb)
        ea = EventAccumulator(cb.where, size_guidance=dict(audio=0, images=0, scalars=0, tensors=0))
        ea.Reload()
        return learn,ea
    learn,ea = logged('stereo')
    assert ea.Tags()['scalars']==learn.recorder.metric_names[1:-1]
    for k,i in (('train_loss', 0), ('esr', 2)):
        assert [(e.step, e.value) for e in ea.Scalars(k)]==[(s+1, pytest.approx(float(v[i]))) for s,
                                                            v in enumerate(learn.recorder.values)]
    assert [e.step for e in ea.Audio('example_1/prediction')]==[1, 2]
    assert [e.step for e in ea.Audio('example_1/target')]==[1]
    e = ea.Audio('example_2/prediction')[1]
    x,sr = sf.read(io.BytesIO(e.encoded_audio_string), always_2d=True)
    assert (sr, e.sample_rate, x.shape)==(SR, SR, (1600, 2))
    image = ea.Images('example_1/picture')[0]
    assert image.encoded_image_string[:4]==b'\x89PNG' and image.height>100
    assert b'ESR' in ea.Tensors('example_1/caption/text_summary')[0].tensor_proto.string_val[0]
    learn,ea = logged('wavenet')
    assert {'train_loss', 'valid_loss', 'match_fraction'} <= set(ea.Tags()['scalars'])
    assert ea.Audio('example_1/generated')[0].length_frames>0
    _,ea = logged('classifier')
    assert re.search(rb'heard (tone|noise)', ea.Tensors('example_1/caption/text_summary')[0].tensor_proto.string_val[0])


class FakeWandB(types.ModuleType):
    def __init__(self, run=True):
        super().__init__('wandb')
        self.run,self.logged = run or None,[]
    class Audio:
        def __init__(self, x, sample_rate, caption=None): self.x,self.sample_rate,self.caption = x,sample_rate,caption
    class Image:
        def __init__(self, im, caption=None): self.size,self.caption = im.size,caption
    def log(self, d): self.logged.append(d)


def test_wandb(sounds, tmp_path, monkeypatch):
    wandb = FakeWandB()
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    learn = make('tcn', sounds, tmp_path)
    learn.fit(2, 1e-3, cbs=WandBAudio(n_preds=2, sample_rate=SR, seconds=.2))
    one,two = wandb.logged
    assert one['epoch']==1 and two['valid_loss']==float(learn.recorder.values[1][1])
    a = two['example_2/prediction']
    assert a.x.shape==(1600, 1) and a.sample_rate==SR and a.caption.startswith('ESR')
    assert 'example_1/input' in one and 'example_1/input' not in two and one['example_1/picture'].size[0]>100
    assert not (tmp_path/'listening').exists() or not list((tmp_path/'listening').rglob('*.wav'))
    listening = Listening(n=1, seconds=.1)
    learn.fit(1, cbs=listening)
    assert 'wandb' in listening.places and len(wandb.logged)==3, 'a run that is started is used'


def test_wandb_itself_offline(sounds, tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb')
    for k,v in dict(WANDB_MODE='offline', WANDB_DIR=tmp_path, WANDB_SILENT='true',
                    WANDB_CACHE_DIR=tmp_path/'c', WANDB_CONFIG_DIR=tmp_path/'k').items():
        monkeypatch.setenv(k, str(v))
    run = wandb.init(project='fastproaudio-test', dir=str(tmp_path),
                     settings=wandb.Settings(x_disable_stats=True, console='off'))
    try:
        make('tcn', sounds, tmp_path).fit(1, cbs=WandBAudio(n_preds=1, seconds=.1))
        assert run.summary['epoch']==1 and 0<run.summary['valid_loss']
        assert run.summary['example_1/prediction']['_type']=='audio-file'
        assert run.summary['example_1/picture']['_type']=='image-file'
    finally: run.finish()
    assert any(sf.info(f).samplerate==SR for f in tmp_path.rglob('media/audio/**/*.wav'))


@pytest.mark.parametrize('to, hide, words', [('tensorboard', 'tensorboard', 'pip install tensorboard'),
                                             ('wandb', 'wandb', 'pip install wandb'),
                                             ('wandb', None, r'wandb\.init'), ('tensorbord', None, "got 'tensorbord'")])
def test_what_is_not_there_is_named_before_training(sounds, tmp_path, monkeypatch, to, hide, words):
    monkeypatch.delitem(sys.modules, 'tensorboard', raising=False)
    monkeypatch.setitem(sys.modules, 'wandb', FakeWandB(run=False))
    if hide:
        monkeypatch.delitem(sys.modules, hide, raising=False)
        monkeypatch.setattr(listening_module.importlib.util, 'find_spec', lambda m: None)
    learn = make('tcn', sounds, tmp_path)
    with pytest.raises(ValueError, match=words): learn.fit(1, cbs=Listening(to=to))
    assert not learn.recorder.losses


def test_without_loggers_it_is_a_folder(sounds, tmp_path, monkeypatch):
    for m in ('tensorboard', 'wandb'): monkeypatch.delitem(sys.modules, m, raising=False)
    monkeypatch.setattr(listening_module.importlib.util, 'find_spec', lambda m: None)
    cb = Listening(n=1, seconds=.1)
    make('tcn', sounds, tmp_path).fit(1, cbs=cb)
    assert cb.places==['folder'] and (Path(cb.where)/'index.html').exists()


def test_full_disk_does_not_end_training(sounds, tmp_path, monkeypatch):
    cb = Listening(n=1, seconds=.1, to='folder')
    learn = make('tcn', sounds, tmp_path)
    def refuse(*_): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', refuse)
    with pytest.warns(UserWarning, match='epoch 1 was not logged .No space left on device.; training goes on'):
        learn.fit(2, cbs=cb)
    assert len(learn.recorder.values)==2


def test_a_network_that_has_diverged_can_still_be_logged(sounds, tmp_path):
    cb = Listening(n=1, seconds=.1, to='folder')
    learn = make('tcn', sounds, tmp_path)
    with torch.no_grad(): next(learn.model.parameters()).fill_(float('nan'))
    learn.fit(1, 0., cbs=cb)
    assert cb.history[0]['captions']['example_1']=='not finite'
    assert np.isfinite(sf.read(Path(cb.where)/'example_1_prediction_00001.wav')[0]).all()


def test_resumed_it_goes_on_in_the_same_place(sounds, tmp_path):
    class Stop(Callback):
        def after_batch(self):
            if self.training and self.epoch==2: raise KeyboardInterrupt
    first_,cb = Listening(n=1, seconds=.1, to='folder'),Listening(n=1, seconds=.1, to='folder')
    with pytest.raises(KeyboardInterrupt): make('tcn', sounds, tmp_path).fit(3, cbs=[first_, Checkpoint('a'), Stop()])
    make('tcn', sounds, tmp_path).fit(3, cbs=[cb, Checkpoint('a', resume=True)])
    assert cb.where==first_.where and [h['step'] for h in cb.history]==[1, 2, 3]
    assert len(list(Path(cb.where).glob('*prediction*')))==3 and 'epoch 1:' in (Path(cb.where)/'index.html').read_text()


def test_no_fit_no_log(sounds, tmp_path):
    learn = make('tcn', sounds, tmp_path, cbs=Listening(n=1, seconds=.1, to='folder'))
    learn.validate(); learn.get_preds(); learn.lr_find(num_it=30, show_plot=False)
    assert not (tmp_path/'listening').exists()
