"""Losses and metrics: values worked by hand, auraloss where it is right, silence, autocast, gradients, crops."""
import math

import auraloss
import pytest
import torch
import torch.nn.functional as F

from fastproaudio import losses as L
from fastproaudio.losses import loudness
from fastproaudio.losses import waves
from fastproaudio.dsp import fft_conv, noise, sine

LOSSES = dict(esr=L.ESRLoss, dc=waves.DCLoss, l1=L.L1Loss, mse=L.MSELoss, logcosh=waves.LogCoshLoss, snr=L.SNRLoss,
              sisdr=L.SISDRLoss,
              stft=L.STFTLoss, multires=L.MultiResSTFTLoss, pre=lambda **k: L.PreEmphasis(L.ESRLoss(**k)),
              sum=lambda **k: L.SumLoss((.5, L.ESRLoss()), (.1, L.MultiResSTFTLoss()), **k))
METRICS = [L.esr, L.esr_db, L.mae, L.snr_db, L.si_sdr, L.stft_distance, L.lufs_difference]
PERFECT = dict(snr=-100, sisdr=-100)


@pytest.fixture
def xy():
    return noise(3*4000, seed=0).reshape(3, 1, -1), noise(3*4000, seed=1).reshape(3, 1, -1)


@pytest.mark.parametrize('name', LOSSES)
def test_contract(name, xy):
    "Zero against itself, one item as in a batch, all reductions, refused shapes."
    x,y = xy
    loss = LOSSES[name]()
    assert loss(y, y).item()==pytest.approx(PERFECT.get(name, 0), abs=1e-6)
    each = LOSSES[name](reduction='none')(x, y)
    assert each.shape==(3,)
    torch.testing.assert_close(each[1], loss(x[1:2], y[1:2]))
    torch.testing.assert_close(each[1], loss(x[1], y[1]))                       # fewer axes: one item
    torch.testing.assert_close(loss(x, y), each.mean())
    torch.testing.assert_close(LOSSES[name](reduction='sum')(x, y), each.sum())
    with pytest.raises(ValueError, match='one shape'): loss(x, y[..., 1:])


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('case', ['both', 'pred', 'targ', 'equal'])
def test_finite_on_silence(name, case):
    s = sine(440, 8000, 3000).expand(2, 1, -1)
    x = (torch.zeros_like(s) if case in ('both', 'pred') else s).clone().requires_grad_()
    y = torch.zeros_like(s) if case in ('both', 'targ') else s
    value = LOSSES[name]()(x, y)
    value.backward()
    assert value.isfinite() and x.grad.isfinite().all()


@pytest.mark.parametrize('name', LOSSES)
def test_float32_under_autocast(name, xy):
    x,y = xy
    want = LOSSES[name]()(x.bfloat16().float(), y)
    with torch.autocast('cpu', dtype=torch.bfloat16): got = LOSSES[name]()(x.bfloat16(), y)
    assert got.dtype==torch.float32
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('name', LOSSES)
def test_gradient(name):
    x,y = [noise(2*40, seed=s).reshape(1, 2, -1).double() for s in (0, 1)]
    loss = dict(stft=lambda: L.STFTLoss(32, 8, 20, w_lin=.5),
        multires=lambda: L.MultiResSTFTLoss((32, 16), (5, 4), (20, 16)),
                sum=lambda: L.SumLoss((.5, L.ESRLoss()), (.1, L.STFTLoss(32, 8))), ).get(name, LOSSES[name])()
    assert torch.autograd.gradcheck(lambda x: loss(x, y), x.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize('name', LOSSES)
def test_quiet_item_counts(name):
    "The same sound 26 dB down, with the same error, has the same loss."
    if name in ('l1', 'mse', 'logcosh'): pytest.skip('absolute by definition')
    g = torch.tensor([1., .05])[:, None, None]
    each = LOSSES[name](reduction='none')(g*(noise(4000, seed=0)+.3*noise(4000, seed=1)), g*noise(4000, seed=0))
    torch.testing.assert_close(each[0], each[1], rtol=2e-2, atol=1e-9)


# --- by hand

def test_esr_by_hand():
    y = torch.tensor([[[3., 4.]], [[0., .1]]])
    p = torch.tensor([[[3., 3.]], [[0., .2]]])
    torch.testing.assert_close(waves.esr_items(p, y), torch.tensor([1/25, 1.]))
    assert L.esr(p, y).item()==pytest.approx(.52)
    assert L.esr_db(p, y).item()==pytest.approx(10*math.log10(.52), abs=1e-5)
    assert L.whole_esr(p, y)==pytest.approx(1.01/25.01)
    assert L.esr(torch.zeros_like(y), y).item()==pytest.approx(1)


def test_esr_of_silence():
    z,e = torch.zeros(1, 1, 100),torch.full((1, 1, 100), 1e-3)                  # -60 dBFS
    assert L.esr(z, z)==0 and L.whole_esr(z, z)==0 and L.whole_esr(e, z)==math.inf
    assert L.ESRLoss(floor_db=-60)(e, z).item()==pytest.approx(1, rel=1e-5)
    assert L.esr(e, z).item()==pytest.approx(1e4, rel=1e-4)                     # the metric's floor is -100 dBFS


def test_esr_sums_add_up(xy):
    x,y = xy
    parts = sum(waves.esr_sums(a, b) for a,b in zip(x.split(1), y.split(1)))
    assert waves.esr_from_sums(parts)==pytest.approx(L.whole_esr(x, y), rel=1e-6)
    assert parts.dtype==torch.float64


def test_dc_is_per_channel():
    y = sine(100, 8000, 8000).expand(1, 2, -1)
    assert waves.DCLoss()(y+torch.tensor([[.1], [-.1]]), y).item()==pytest.approx(.02, rel=1e-4)


def test_log_cosh_does_not_overflow():
    loss = waves.LogCoshLoss()(torch.full((1, 1, 4), 1e4), torch.zeros(1, 1, 4))
    assert loss.item()==pytest.approx(1e4-math.log(2), rel=1e-6)


def test_pre_emphasis_leaves_the_unknown_first_sample_out():
    x,y = torch.tensor([[[9., 1., 2.]]]),torch.zeros(1, 1, 3)
    assert L.PreEmphasis(L.L1Loss(), coef=.5)(x, y).item()==pytest.approx((3.5+1.5)/2)
    with pytest.raises(ValueError, match='at least 2 samples'): L.PreEmphasis(L.L1Loss())(x[..., :1], y[..., :1])


@pytest.mark.parametrize('gain', [1e-3, 1, 30])
def test_si_sdr_knows_no_level(gain):
    s,c = sine(100, 8000, 8000)[None, None],sine(100, 8000, 8000, phase=math.pi/2)[None, None]
    assert L.si_sdr(gain*(s+.1*c), s).item()==pytest.approx(20, abs=1e-3)
    assert L.snr_db(s+.1*c, s).item()==pytest.approx(20, abs=1e-3)


# --- against auraloss 0.4, where it is right

@pytest.mark.parametrize('ours,theirs', [
    (L.ESRLoss(), auraloss.time.ESRLoss()), (waves.DCLoss(), auraloss.time.DCLoss()),
    (L.SNRLoss(), auraloss.time.SNRLoss(zero_mean=False)),
    (L.SISDRLoss(), auraloss.time.SISDRLoss(zero_mean=False)),
    (waves.LogCoshLoss(a=3.), auraloss.time.LogCoshLoss(a=3.))])
def test_agrees_with_auraloss(ours, theirs, xy):
    torch.testing.assert_close(ours(*xy), theirs(*xy), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('args', [(1024, 256, 1024), (512, 50, 240), (1000, 130, 700)])
def test_stft_agrees_with_auraloss_for_one_item(args, xy):
    x,y = [v[:1] for v in xy]
    for w in ((1, 0, 0), (0, 1, 0), (1, 1, .5)):
        theirs = auraloss.freq.STFTLoss(*args, w_sc=w[0], w_log_mag=w[1], w_lin_mag=w[2])(x, y)
        ours = L.STFTLoss(*args, w_sc=w[0], w_log=w[1], w_lin=w[2])(x, y)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)
    theirs = auraloss.freq.MultiResolutionSTFTLoss()(x, y)
    torch.testing.assert_close(L.stft_distance(x, y), theirs, rtol=2e-5, atol=1e-6)


def test_where_auraloss_is_wrong(xy):
    "Its spectral convergence is one norm over the whole batch: a loud item hides a quiet one. Ours is not."
    y = xy[1][:2].clone()
    y[1] *= .05
    p = y.clone()
    p[1] = 0                                                                    # the quiet item is missed altogether
    theirs = auraloss.freq.STFTLoss(w_log_mag=0.)(p, y)
    assert theirs<.1
    assert L.STFTLoss(w_log=0)(p, y).item()==pytest.approx(.5, abs=.01)


def test_stft_is_per_item_over_channels(xy):
    x,y = [v.reshape(1, 3, -1) for v in xy]
    a,b = [torch.stft(v[0], 256, 64, window=torch.hann_window(256), return_complex=True).abs() for v in (x, y)]
    want = (a-b).norm()/b.norm() + (a.log()-b.log()).abs().mean()
    torch.testing.assert_close(L.STFTLoss(256, 64)(x, y), want, rtol=1e-4, atol=1e-5)


def test_stft_of_short_sounds_and_bad_settings():
    for n in (1, 7, 512, 513):
        x = noise(n, seed=n)[None].requires_grad_()
        L.MultiResSTFTLoss()(x, noise(n, seed=n+1)[None]).backward()
        assert x.grad.isfinite().all()
    with pytest.raises(ValueError, match='win_length'): L.STFTLoss(512, 128, 600)
    with pytest.raises(ValueError, match='as many'): L.MultiResSTFTLoss((1, 2), (1,), (1, 2))
    with pytest.raises(ValueError, match='without gradient'):
        L.STFTLoss()(noise(99)[None], noise(99)[None].requires_grad_())
    with pytest.raises(ValueError, match='reduction'): L.ESRLoss(reduction='avg')


# --- loudness

@pytest.mark.parametrize('sr', [22050, 44100, 48000, 96000])
def test_lufs_of_the_reference_tone(sr):
    x = sine(997, sr, 2*sr)
    assert L.lufs(x, sr).item()==pytest.approx(-3.01, abs=.02 if sr>=44100 else .05) # the bilinear map bends the shelf
    assert L.lufs(.1*x, sr).item()==pytest.approx(L.lufs(x, sr).item()-20, abs=1e-3)
    assert L.lufs(x.expand(2, -1), sr).item()==pytest.approx(L.lufs(x, sr).item()+3.01, abs=1e-3)


def test_k_weighting_is_the_standards_table():
    "The coefficients that BS.1770-4 prints for 48 kHz, run as recursions."
    x = noise(4800, seed=0, amp=1.)[0].double()
    def biquad(x, b, a):
        y = []
        for i in range(len(x)):
            y.append(sum(b[k]*x[i-k] for k in range(3) if i>=k) - sum(a[k]*y[i-k] for k in (1, 2) if i>=k))
        return y
    want = biquad(x.tolist(), (1.53512485958697, -2.69169618940638, 1.19839281085285),
        (1, -1.69065929318241, .73248077421585))
    want = torch.tensor(biquad(want, (1, -2, 1), (1, -1.99004745483398, .99007225036621)), dtype=torch.float64)
    n = 2**16
    got = torch.fft.irfft(torch.fft.rfft(x, n)*loudness._k_weights(48000, n), n)[:4800]
    assert (got-want).abs().max()<1e-6*want.abs().max()


def test_lufs_gates_and_channels():
    sr,x = 48000,sine(997, 48000, 96000)
    quiet = torch.cat([.1*x, .1*x, 1e-5*x])                                     # -113 LUFS: under the absolute gate
    assert L.lufs(quiet, sr).item()==pytest.approx(L.lufs(.1*x, sr).item(), abs=.2)
    soft = torch.cat([.1*x]*4+[.01*x]*4)                                        # 20 LU down: under the relative gate
    assert L.lufs(soft, sr).item()==pytest.approx(L.lufs(.1*x, sr).item(), abs=.15)
    five = torch.zeros(5, 96000); five[3] = x
    assert L.lufs(five, sr).item()==pytest.approx(-3.01+10*math.log10(1.41), abs=.02)
    assert L.lufs(torch.zeros(2, 1, 100), sr).tolist()==[-70, -70]
    with pytest.raises(ValueError, match='at most 5 channels'): L.lufs(torch.zeros(6, 100), sr)


def test_lufs_difference():
    x = torch.stack([sine(997, 8000, 16000), .1*sine(500, 8000, 16000)])[:, None]
    g = torch.tensor([2., .5])[:, None, None]
    assert L.lufs_difference(g*x, x, 8000).item()==pytest.approx(6.02, abs=.01)


# --- tokens, crops, sums, baselines

def test_match_fraction():
    logits = torch.tensor([[[.1, .9], [.8, .2]], [[.3, .7], [.4, .6]]])
    assert L.match_fraction(logits, torch.tensor([[1, 0], [0, 1]])).item()==.75
    with pytest.raises(ValueError, match='logits'): L.match_fraction(logits, torch.zeros(2, 3))


@pytest.mark.parametrize('causal,lookahead', [(True, 0), (False, 6)])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('func', [F.mse_loss, F.l1_loss])
def test_identity_model_has_no_crop_loss(causal, lookahead, reduction, func):
    x,w = noise(200, seed=0)[None],torch.zeros(1, 1, 13)
    w[..., 12-lookahead] = 1
    loss = L.Crop_Loss(causal=causal, reduction=reduction, func=func)
    assert loss(F.conv1d(x, w), x)==0 and L.crop_mse(F.conv1d(x, w), x, causal=causal)==0
    assert L.Crop_Loss(causal=not causal, reduction=reduction, func=func)(F.conv1d(x, w), x)>0      # it can fail
    assert loss(x, x)==0
    assert L.Crop_Loss(axis=1, causal=causal, reduction=reduction, func=func)(F.conv1d(x, w).mT, x.mT)==0


def test_crops():
    x = torch.arange(10)
    assert L.causal_crop(x, 3).tolist()==[7, 8, 9] and L.causal_crop(x, 10).tolist()==x.tolist()
    assert L.center_crop(x, 4).tolist()==[3, 4, 5, 6] and L.center_crop(x, 3).tolist()==[3, 4, 5]
    for crop in (L.causal_crop, L.center_crop):
        for n in (0, 11):
            with pytest.raises(ValueError, match='crop of 1..10'): crop(x, n)


def test_sum_loss_parts(xy):
    loss = L.SumLoss((2, L.MSELoss()), (.5, L.PreEmphasis(L.MSELoss(), .5)), (1, L.MSELoss()))
    total = loss(*xy)
    assert list(loss.last)==['mse1', 'mse_pre', 'mse2']
    torch.testing.assert_close(total, 3*loss.last['mse1']+.5*loss.last['mse_pre'])
    with pytest.raises(ValueError, match='at least one'): L.SumLoss()


def test_baselines():
    x = noise(6000, seed=0)
    h = torch.tensor([.5, 0, .3, -.1])
    b = L.baselines(x, fft_conv(x, h), n_taps=16)
    power = h.square().sum().item()
    assert b['zero']==pytest.approx(1) and b['filter']<1e-6
    assert b['identity']==pytest.approx((.25+.09+.01)/power, rel=.05)
    assert b['gain']==pytest.approx((.09+.01)/power, rel=.05)
    other = noise(6000, seed=1)
    fit = L.baselines(x, fft_conv(x, h), fit=(other, -fft_conv(other, h)), n_taps=16)
    assert fit['filter']==pytest.approx(4, rel=1e-3)  # fitted on the wrong sign: it is really used
    assert L.baselines(x, x.expand(2, -1), n_taps=4)['identity']==0
    with pytest.raises(ValueError, match='one length'): L.baselines(x, x[:, 1:])


@pytest.mark.parametrize('metric', METRICS, ids=lambda f: f.__name__)
def test_metrics_run_in_a_learner(metric):
    from fastai.basics import DataLoader, DataLoaders, Learner, no_random
    from fastai.callback.progress import ProgressCallback  # noqa: F401, patches no_bar in
    with no_random():
        x = torch.randn(8, 1, 4000)*.1
        dl = DataLoader(list(zip(x, .5*x)), bs=4)
        learn = Learner(DataLoaders(dl, dl), torch.nn.Conv1d(1, 1, 1), loss_func=L.ESRLoss(), metrics=metric)
        with learn.no_bar(): res = learn.validate()
        p,t,losses = learn.get_preds(with_loss=True)
    assert res[1]==pytest.approx(sum(metric(a, b).item() for a,b in zip(p.split(4), t.split(4)))/2, rel=1e-4)
    assert losses.shape==(8,) and res[0]==pytest.approx(losses.mean().item(), rel=1e-4)
