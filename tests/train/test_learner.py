"""`effects_learner` over every kind of model: fastai's tools, whole recordings in and out, aligned training, what
goes wrong."""
import contextlib, math, re, subprocess, sys, warnings
from functools import partial

import numpy as np
import pytest
import soundfile as sf
import torch
from fastai.basics import Callback, Tensor, cast, first
from fastai.callback.fp16 import MixedPrecision
from torch import nn
from torch.nn import functional as F

import fastproaudio.train.effects as effects_module
from fastproaudio.data import AudioDataLoaders, AudioTensor
from fastproaudio.dsp import noise, sine
from fastproaudio.export import load_effect
from fastproaudio.io import write_audio
from fastproaudio.losses import (Crop_Loss, crop_mse, esr, esr_db, ESRLoss, lufs_difference, mae, MSELoss, si_sdr,
                                 snr_db, stft_distance)
from fastproaudio.models import AudioModel, FIR, Parallel, run_long, TCN, UNet1d, WaveNet
from fastproaudio.train import AudacityExport, Baselines, ClockSchedule, effects_learner
from fastproaudio.train.callbacks import CPUBF16

SR,N,CHUNK = 8000,6000,512


def plain():
    "What a researcher brings: it pads itself and says nothing about its receptive field."
    return nn.Sequential(nn.ConstantPad1d((8, 0), 0.), nn.Conv1d(1, 4, 9), nn.Tanh(), nn.Conv1d(4, 1, 1))


MODELS = {
    'tcn': lambda: TCN(n_blocks=2, ks=3, dilation_growth=4, channel_width=4),
    'tcn_centred': lambda: TCN(n_blocks=2, ks=5, dilation_growth=4, channel_width=4, causal=False),
    'unet_centred': lambda: UNet1d(channels=(4, 6), strides=(4,), ks=3),
    'unet_causal': lambda: UNet1d(channels=(4, 6), strides=(4,), ks=3, causal=True),
    'wavenet': lambda: WaveNet(channels=4, n_layers=4, head=3),
    'fir': lambda: FIR(20),
    'parallel': lambda: Parallel(FIR(30), TCN(n_blocks=2, ks=3, channel_width=4)),
    'plain': plain,
}


def recordings(path, n=N):
    "A dry and a wet recording, kept exactly."
    x = noise(n, seed=0, amp=.2)
    x[:, n//2:n//2+600] *= .05                                   # a quiet passage
    y = .8*torch.tanh(6*x)
    for name,o in (('dry', x), ('wet', y)): write_audio(path/f'{name}.wav', o, SR, subtype='FLOAT')
    return x, y


def make_learner(path, model, files=('dry.wav', 'wet.wav'), bs=4, **kwargs):
    torch.manual_seed(0)
    dls = AudioDataLoaders.from_pairs(*[path/f for f in files], chunk_len=CHUNK, bs=bs, seed=0, path=path, device='cpu')
    return effects_learner(dls, model, path=path, **kwargs)


@contextlib.contextmanager
def quiet(learn):
    with learn.no_bar(), learn.no_logging(): yield learn


@pytest.fixture(scope='module', params=MODELS)
def trained(request, tmp_path_factory):
    "A learner after one epoch; its sound."
    path = tmp_path_factory.mktemp(request.param)
    x,y = recordings(path)
    torch.manual_seed(0)
    learn = make_learner(path, MODELS[request.param]())
    with quiet(learn): learn.fit(1, 5e-3)
    return learn, path, x, y


def whole(learn, x):
    "The model, once over all of it."
    with torch.no_grad(): return learn.model.eval()(x[None])[0]


# --- fastai's tools
# -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', MODELS)
def test_tools_run_without_warnings(name, tmp_path, capsys):
    recordings(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        learn = make_learner(tmp_path, MODELS[name]())
        with quiet(learn):
            before = [p.detach().clone() for p in learn.model.parameters()]
            found = learn.lr_find(num_it=100 if name=='tcn' else 40, show_plot=False)
            assert 1e-7<=found.valley<=10
            assert all(torch.equal(a, b) for a,
                       b in zip(before, learn.model.parameters())), 'lr_find changed the weights'
            assert 'to beat' not in capsys.readouterr().out, 'baselines belong to a fit'
            learn.fit_one_cycle(1, 5e-3)
            learn.freeze(); learn.unfreeze()
            learn.fine_tune(1, 5e-3)
            loss,ratio,err = learn.validate()
            assert np.isfinite([loss, ratio, err]).all()
            preds,targs = learn.get_preds()
            assert preds.shape==targs.shape==(learn.dls.valid.n, 1, CHUNK)
            assert float(mae(preds, targs))==pytest.approx(err, rel=1e-4)
            dl = learn.dls.test_dl([tmp_path/'dry.wav'])
            alone,_ = learn.get_preds(dl=dl)
            assert alone.shape==(dl.n, 1, CHUNK) and alone.isfinite().all()
        assert capsys.readouterr().out.count('to beat')==1, 'once, over several fits'
        with quiet(learn): text = learn.summary()
        assert f"{sum(p.numel() for p in learn.model.parameters()):,} parameters in all" in text
        learn.save('kept')
        w = [p.detach().clone() for p in learn.model.parameters()]
        with quiet(learn): learn.fit(1, 1e-2)
        learn.load('kept')
        assert all(torch.equal(a, b) for a,b in zip(w, learn.model.parameters()))


@pytest.mark.parametrize('name', MODELS)
def test_half_precision_on_a_cpu(name, tmp_path, capsys):
    recordings(tmp_path)
    seen = []
    class Look(Callback):
        order = 5
        def after_loss(self): seen.append((torch.is_autocast_enabled('cpu'), self.pred.dtype, self.loss.dtype))
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        learn = make_learner(tmp_path, MODELS[name](), cbs=Look()).to_bf16()
        assert any(isinstance(cb, CPUBF16) for cb in learn.cbs)
        with quiet(learn): learn.fit(1, 1e-3)
        assert set(seen)=={(False, torch.float32, torch.float32)}, 'the loss is outside autocast'
        learn.to_fp32()
        assert not any(isinstance(cb, (CPUBF16, MixedPrecision)) for cb in learn.cbs)
        capsys.readouterr()
        with quiet(learn): learn.to_fp16().fit(1, 1e-3)
        assert 'needs a GPU' in capsys.readouterr().out


def test_bf16_is_left_when_interrupted(tmp_path):
    recordings(tmp_path)
    class Interrupting(nn.Conv1d):
        def forward(self, x): raise KeyboardInterrupt
    learn = make_learner(tmp_path, Interrupting(1, 1, 1), checkpoint=None).to_bf16()
    with quiet(learn), pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert not torch.is_autocast_enabled('cpu')


# --- Whole recordings
# ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('n', [1, CHUNK-1, 1001, N])
def test_predict_is_one_pass_over_the_whole(trained, n, monkeypatch):
    learn,path,x,_ = trained
    monkeypatch.setattr(effects_module, 'run_long', partial(run_long, piece=1000))
    x = x[:, :n]
    f = write_audio(path/f'in{n}.wav', x, SR, subtype='FLOAT')
    want = whole(learn, x)
    assert want.shape==(1, n)
    for item in (f, str(f), x, x[0], x.numpy(), x.numpy()[0].astype(np.float64),
                 AudioTensor(x, sr=SR), AudioTensor.create(f)):
        y = learn.predict(item)
        assert type(y) is AudioTensor and y.sr==SR and y.shape==want.shape
        torch.testing.assert_close(cast(y, Tensor), want, atol=2e-6, rtol=1e-5)
    out = learn.process(f, path/f'out{n}.wav', subtype='FLOAT')
    torch.testing.assert_close(cast(AudioTensor.create(out), Tensor), cast(learn.predict(f), Tensor), atol=0, rtol=0)


def test_predict_leaves_no_trace(trained):
    learn,_,x,_ = trained
    learn.model.train()
    y = learn.predict(x)
    assert learn.model.training and not y.requires_grad and getattr(learn.model, 'pad_input', True) is True
    assert all(p.requires_grad for p in learn.model.parameters())


def test_stereo_goes_channel_by_channel(tmp_path):
    recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['tcn']())
    st = noise(1500, seed=3, n_ch=2, amp=.2)
    f = write_audio(tmp_path/'stereo.wav', st, SR, subtype='FLOAT')
    with pytest.raises(ValueError, match=r'stereo\.wav.*each_channel=True'): learn.predict(f)
    y = learn.predict(f, each_channel=True)
    torch.testing.assert_close(cast(y, Tensor), torch.cat([whole(learn, c[None]) for c in st]), atol=2e-6, rtol=1e-5)
    out = learn.process(f, tmp_path/'stereo_out.wav', each_channel=True, subtype='FLOAT')
    assert torch.equal(AudioTensor.create(out), y)


FRESH = '''
import sys, warnings
import torch
from fastproaudio.all import *
warnings.simplefilter('ignore')
for f in sys.argv[1:]:
    f = Path(f)
    torch.save(cast(load_learner(f).predict(f.parent/'dry.wav'), Tensor), f.with_suffix('.pt'))
'''


def test_export_loads_in_a_fresh_process(tmp_path):
    x,_ = recordings(tmp_path, 4000)
    want,files = {},[]
    for i,(name,make) in enumerate(MODELS.items()):
        torch.manual_seed(i)
        learn = make_learner(tmp_path, make())
        with torch.no_grad(): [p.add_(.05*torch.randn_like(p)) for p in learn.model.parameters()]
        learn.export(tmp_path/f'{name}.pkl')
        want[name] = learn.predict(tmp_path/'dry.wav')
        files.append(str(tmp_path/f'{name}.pkl'))
    r = subprocess.run([sys.executable, '-c', FRESH, *files], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert r.returncode==0, r.stderr
    assert r.stdout=='', 'importing and loading print nothing'
    for name,y in want.items():
        torch.testing.assert_close(torch.load(tmp_path/f'{name}.pt'), cast(y, Tensor), atol=1e-6, rtol=0, msg=name)


# --- Training sees what the whole recording would give
# ------------------------------------------------------------------------

class Watch(Callback):
    "Keeps where each batch came from, what was predicted and scored, and the loss."
    order = -10                                                  # before fastai strips the batch
    def before_fit(self): self.got = []
    def before_batch(self): self.rows = list(self.xb[0].rows)

class WatchLoss(Callback):
    order = 50
    def after_loss(self):
        starts = [s for _,s in self.dl.spans(self.learn.watch.rows)]
        self.learn.watch.got.append((self.training, starts, self.pred.detach().clone(),
                                     self.y.clone(), float(self.loss.detach())))


def heard(model, x, s):
    """The chunk at `s` of the model run over the whole file, which begins where the model's strides make `s` a
    first output."""
    k = -s%model.stride
    return model.eval()(F.pad(x, (k, 0))[None])[0, :, k+s:k+s+CHUNK]


def test_loss_is_that_of_the_whole_file(trained):
    learn,path,x,y = trained
    learn = make_learner(path, learn.model, cbs=[Watch(), WatchLoss()])
    with quiet(learn): learn.fit(1, 0.)                          # the weights stand still
    past = getattr(learn.model, 'receptive_field', 1)-1-getattr(learn.model, 'lookahead', 0)
    for train,starts,pred,targ,loss in learn.watch.got:
        def cut(o, starts=starts): return torch.stack([o[:, s:s+CHUNK] for s in starts])
        assert torch.equal(cast(targ, Tensor), cut(y)), 'targets are not those of the positions'
        assert min(starts)>=past
        with torch.no_grad():
            if isinstance(learn.model, AudioModel): mine = torch.stack([heard(learn.model, x, s) for s in starts])
            else: mine = learn.model(cut(x))                     # it tells no context, so it gets none
        torch.testing.assert_close(cast(pred, Tensor), mine, atol=2e-6, rtol=1e-5)
        assert loss==pytest.approx(float(learn.loss_func(mine, cut(y))), rel=1e-4)
    assert {t for t,*_ in learn.watch.got}=={True, False}


class Same(AudioModel):
    "Gives what it hears, but asks for context on both sides."
    def __init__(self, past, ahead):
        super().__init__(1, 1, 0, past+1+ahead, ahead)
        self.past,self.scale = past,nn.Parameter(torch.ones(1))
    def valid(self, x, knobs=None): return self.scale*x[..., self.past:x.shape[-1]-self.lookahead]


@pytest.mark.parametrize('past,ahead', [(0, 0), (9, 0), (9, 9), (3, 12), (0, 5)])
@pytest.mark.parametrize('loss', [ESRLoss(), MSELoss(), crop_mse, Crop_Loss(causal=True),
                                  Crop_Loss(reduction='sum'), nn.L1Loss()],
                         ids=lambda o: getattr(o, '__name__', type(o).__name__))
def test_identity_has_no_loss(past, ahead, loss, tmp_path):
    recordings(tmp_path, 3000)
    learn = make_learner(tmp_path, Same(past, ahead), files=('dry.wav', 'dry.wav'), loss_func=loss)
    assert learn.validate()[0]<1e-9
    with quiet(learn): learn.fit(1, 0.)
    assert float(learn.recorder.losses[-1])<1e-9


def test_shifted_by_one_sample_is_next_sample_prediction(tmp_path):
    w = 2*math.pi*1000/SR
    s = sine(1000, SR, 4001, amp=.5)[None]
    write_audio(tmp_path/'now.wav', s[:, :-1], SR, subtype='FLOAT')
    write_audio(tmp_path/'next.wav', s[:, 1:], SR, subtype='FLOAT')
    learn = make_learner(tmp_path, FIR(2), files=('now.wav', 'next.wav'), clip=None, loss_func=ESRLoss())
    with quiet(learn): learn.fit_one_cycle(60, .1)
    taps = learn.model.taps.detach().flatten()
    # s[t+1] = 2 cos(w) s[t] - s[t-1]
    torch.testing.assert_close(taps, torch.tensor([2*math.cos(w), -1.]), atol=.01, rtol=0)
    said = cast(learn.predict(s), Tensor)
    assert float(esr(said[None, :, 2:-1], s[None, :, 3:]))<1e-3, 'each sample is told from those before it'
    assert float(esr(s[None, :, :-1], s[None, :, 1:]))>.1, 'which repeating the last one does not do'


# --- Metrics, baselines
# -------------------------------------------------------------------------------------------------------

def test_metrics_are_those_of_the_predictions(tmp_path):
    recordings(tmp_path, 40_000)
    ms = [esr, esr_db, mae, snr_db, si_sdr, stft_distance, partial(lufs_difference, sr=SR)]
    torch.manual_seed(0)
    dls = AudioDataLoaders.from_pairs(tmp_path/'dry.wav', tmp_path/'wet.wav',
                                      chunk_len=4000, bs=64, seed=0, path=tmp_path)
    learn = effects_learner(dls, MODELS['tcn'](), metrics=ms)
    with quiet(learn): values = learn.validate()[1:]
    with quiet(learn): preds,targs = learn.get_preds()
    for m,v in zip(ms, values): assert np.isfinite(v) and v==pytest.approx(float(m(preds, targs)), rel=1e-3), m


def test_lr_find_with_all_its_output(tmp_path, capsys):
    recordings(tmp_path)
    make_learner(tmp_path, MODELS['plain']()).lr_find(num_it=20, show_plot=False)
    assert 'to beat' not in capsys.readouterr().out


def test_baselines_are_right_and_said_once(tmp_path, capsys):
    x,y = recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['plain']())
    with quiet(learn):
        learn.lr_find(num_it=20, show_plot=False)
        assert capsys.readouterr().out.count('to beat')==0
        for _ in range(3): learn.fit(1)
    assert capsys.readouterr().out.count('to beat')==1
    scores = first(cb for cb in learn.cbs if isinstance(cb, Baselines)).scores
    cut = round(N*.8)
    k = (N-cut)//CHUNK                                           # chunks side by side, and one that ends at the end
    at = [cut+i*CHUNK for i in range(k)]+([N-CHUNK] if (N-cut)%CHUNK else [])
    a,b = [torch.cat([o[:, s:s+CHUNK] for s in at], -1) for o in (x, y)]
    assert scores['silence']==pytest.approx(1)
    assert scores['dry']==pytest.approx(float((a-b).square().sum()/b.square().sum()), rel=1e-4)


# --- A given time
# -------------------------------------------------------------------------------------------------------------

def test_fit_for_follows_its_clock(tmp_path):
    recordings(tmp_path)
    now = iter(np.arange(0, 1e6, .5)).__next__                   # each look at the clock takes half a second
    learn = make_learner(tmp_path, MODELS['plain'](), bs=2)
    validated = []
    class Look(Callback):
        def after_validate(self): validated.append(self.learn.train_iter)
    with quiet(learn): learn.fit_for(20/60, 1e-2, pct_start=.25, clock=now, cbs=Look())
    lrs = np.array(learn.recorder.lrs)
    assert len(lrs)==20 and validated[-1]==20, 'two looks a batch: 20 batches, then one more validation'
    assert len(validated)>=2, 'whole epochs before it were validated too'
    top = lrs.argmax()
    assert abs(top-5)<=1 and lrs[top]==pytest.approx(1e-2, rel=.1)
    assert (np.diff(lrs[:top+1])>0).all() and (np.diff(lrs[top:])<0).all() and lrs[-1]<1e-3
    assert not any(isinstance(cb, ClockSchedule) for cb in learn.cbs), 'it goes when the fit is done'
    assert (tmp_path/'models'/'last.pth').exists()
    with pytest.raises(ValueError, match='above 0'): learn.fit_for(0)


# --- What goes wrong
# ----------------------------------------------------------------------------------------------------------

def test_interrupted_in_epoch_two(tmp_path, capsys):
    recordings(tmp_path)
    kept = {}
    class Stop(Callback):
        order = 70
        def after_epoch(self): kept[self.epoch] = [p.detach().clone() for p in self.model.parameters()]
        def after_step(self):
            if self.epoch==2: raise KeyboardInterrupt
    learn = make_learner(tmp_path, MODELS['tcn'](), cbs=Stop())
    with quiet(learn), pytest.raises(KeyboardInterrupt): learn.fit(4, 1e-2)
    assert "learn.load('last')" in capsys.readouterr().out
    assert learn.model.pad_input is True
    assert not all(torch.equal(a, b) for a,b in zip(kept[1], learn.model.parameters())), 'a step of epoch 2 was made'
    learn.load('last')
    assert all(torch.equal(a, b) for a,b in zip(kept[1], learn.model.parameters()))
    assert sorted(f.name for f in (tmp_path/'models').iterdir())==['last.previous.pth', 'last.pth']
    assert learn.predict(torch.zeros(1, 10)).shape==(1, 10)
    learn.remove_cb(Stop)
    with quiet(learn): learn.fit(1)


def test_failed_export_leaves_nothing(tmp_path):
    recordings(tmp_path)
    (tmp_path/'taken').write_text('a file')
    learn = make_learner(tmp_path, MODELS['tcn'](), cbs=AudacityExport(tmp_path/'taken'))
    with quiet(learn), pytest.raises(ValueError, match='taken.*got a file'): learn.fit(1)
    assert (tmp_path/'taken').read_text()=='a file'
    class Break(Callback):
        order = 55
        def after_fit(self):
            with torch.no_grad(): next(self.model.parameters()).fill_(float('nan'))
    learn = make_learner(tmp_path, MODELS['tcn'](), cbs=[Break(), AudacityExport(tmp_path/'broken')])
    before = {p.name for p in tmp_path.iterdir()}
    with quiet(learn), pytest.raises(ValueError, match='NaN or Inf in'): learn.fit(1)
    assert {p.name for p in tmp_path.iterdir()}-{'models'}==before-{'models'}


def test_export_after_the_fit(tmp_path):
    x,_ = recordings(tmp_path)
    cb = AudacityExport(tmp_path/'amp', metadata={'name':'My amp'})
    learn = make_learner(tmp_path, MODELS['tcn'](), cbs=cb)
    with quiet(learn):
        learn.lr_find(num_it=5, show_plot=False)
        assert not (tmp_path/'amp').exists() and cb.report is None
        learn.fit(1)
    assert cb.report.max_diff<1e-5 and '"My amp"' in (tmp_path/'amp'/'metadata.json').read_text()
    assert f'{SR}' in (tmp_path/'amp'/'metadata.json').read_text()
    y = load_effect(tmp_path/'amp')(x)
    torch.testing.assert_close(y, whole(learn, x), atol=1e-5, rtol=0)


def _bad(path):
    "Files that cannot be predicted, and what is said about each."
    nan = noise(4000, seed=5, amp=.1); nan[0, 3000] = float('nan')
    sf.write(path/'nan.wav', nan[0].numpy(), SR, 'FLOAT')
    write_audio(path/'rate.wav', noise(4000, seed=5, amp=.1), 44100)
    write_audio(path/'stereo.wav', noise(4000, seed=5, n_ch=2, amp=.1), SR)
    sf.write(path/'empty.wav', np.zeros(0), SR)
    (path/'text.wav').write_text('no sound')
    (path/'folder').mkdir(exist_ok=True)
    full = write_audio(path/'full.wav', noise(4000, seed=6, amp=.1), SR).read_bytes()
    (path/'cut.wav').write_bytes(full[:len(full)//2])
    return {'nan.wav':r'NaN or Inf at sample 3000 \(0\.375 s\)', 'rate.wav':'expected 8000 Hz.*got 44100',
            'stereo.wav':r'expected 1 channel',
            'empty.wav':'zero samples', 'text.wav':'audio file', 'folder':'directory',
            'missing.wav':'no such file', 'cut.wav':'truncated'}


def test_bad_files_are_refused_by_name(tmp_path):
    recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['tcn']())
    for name,why in _bad(tmp_path).items():
        with pytest.raises(ValueError, match=f'(?s){re.escape(name)}.*{why}'): learn.predict(tmp_path/name)
        with pytest.raises(ValueError, match=f'(?s){re.escape(name)}.*{why}'):
            learn.process(tmp_path/name, tmp_path/'never.wav')
        assert not [p for p in tmp_path.iterdir() if p.name=='never.wav' or p.suffix=='.part'], name
    for bad,why in ((torch.zeros(2, 1, 10), 'one recording'), (torch.zeros(1, 0), 'zero samples'),
                    (torch.full((1, 9), float('inf')), 'sample 0'),
                    (AudioTensor(torch.zeros(1, 9), sr=96000), '96000 Hz')):
        with pytest.raises(ValueError, match=why): learn.predict(bad)
    with pytest.raises(ValueError, match='another file'): learn.process(tmp_path/'dry.wav', tmp_path/'dry.wav')
    assert learn.model.training is False or learn.model.pad_input


def test_names_in_any_script_and_very_long(tmp_path):
    x,_ = recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['tcn']())
    for name in ('grüße 音.wav', 'n'*200+'.wav'):
        f = write_audio(tmp_path/name, x, SR, subtype='FLOAT')
        torch.testing.assert_close(cast(learn.predict(f), Tensor), whole(learn, x), atol=2e-6, rtol=1e-5)
    with pytest.raises(ValueError, match='n{300}'): learn.predict(tmp_path/('n'*300+'.wav'))


# --- Seen and heard
# -----------------------------------------------------------------------------------------------------------

def test_show_results_plays_input_target_prediction_and_error(tmp_path):
    recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['tcn_centred']())
    from execnb.shell import CaptureShell
    from matplotlib import pyplot as plt
    shell = CaptureShell()
    shell.user_ns['learn'] = learn
    outs = shell.run('with learn.no_bar(): learn.show_results(max_n=2)')
    plt.close('all')
    assert not shell.exc, shell.exc
    text = ''.join(str(o) for o in outs)
    assert text.count('<audio')==8 and 'image/png' in text
    assert all(w in text for w in ('input', 'target', 'prediction', 'error'))


def test_top_losses_are_where_it_is_wrong(tmp_path):
    x,y = recordings(tmp_path)
    y[:, 5800:5900] += noise(100, seed=9)                        # what no model can know
    write_audio(tmp_path/'spoilt.wav', y, SR, subtype='FLOAT')
    learn = make_learner(tmp_path, MODELS['tcn'](), files=('dry.wav', 'spoilt.wav'))
    from execnb.shell import CaptureShell
    from matplotlib import pyplot as plt
    shell = CaptureShell()
    shell.user_ns['learn'] = learn
    with quiet(learn): learn.fit(5, 1e-2)
    text = ''.join(map(str, shell.run('with learn.no_bar(): worst = learn.plot_top_losses(2)')))
    plt.close('all')
    assert not shell.exc, shell.exc
    (f,t,r),(_,_,r2) = shell.user_ns['worst']
    assert f.name=='dry.wav' and t*SR<=5800 and 5900<=t*SR+CHUNK and r>r2
    assert f'dry.wav  {t:.2f} s' in text and text.count('<audio')==8


def test_a_model_in_a_wrapper_is_played_as_itself(tmp_path):
    "Several devices and the compiler wrap a network: it keeps its channels, its knobs and its memory."
    x,_ = recordings(tmp_path)
    learn = make_learner(tmp_path, MODELS['tcn']())
    wanted = learn.predict(x)
    learn.model = nn.DataParallel(learn.model)
    torch.testing.assert_close(cast(learn.predict(x), Tensor), cast(wanted, Tensor))
    assert len(learn.knobs)==0
    with pytest.raises(ValueError, match=r'expected 1 channel\(s\), which the model takes, got 2'):
        learn.predict(torch.zeros(2, 500))
    assert learn.predict(torch.zeros(2, 500), each_channel=True).shape==(2, 500)
