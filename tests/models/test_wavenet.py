"Next-sample networks: exact counts, causality, streams, conditions, presets, AR(2), suggestions."
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from fastai.basics import set_seed

from fastproaudio.data import AR2, ar2_process, AudioDataLoaders, Losses, softmax_loss_fn, train_stack_ar
from fastproaudio.dsp import mu_law_encode, noise, sine
from fastproaudio.generate import generate
from fastproaudio.io import write_audio
from fastproaudio.likelihood import token_nll
from fastproaudio.models import (Block, build_ar2, build_custom_model, build_wavenet, build_wavenet_like,
                                 build_wavenet_toy, LpConv, SampleWaveNet, WavenetLike)
from fastproaudio.report import analyze, suggest_model
from fastproaudio.report.recordings import memory_order
from fastproaudio.train import autoregressive_learner, NextBaselines
from fastproaudio.train.next_sample import next_baselines

count = lambda m: sum(p.numel() for p in m.parameters())
NETS = {
    'onehot': dict(n_tokens=16),
    'embedding': dict(n_tokens=17, inp='embedding', gate=3),
    'wave': dict(n_tokens=16, inp='wave', ks=3),
    'mse_stereo': dict(n_tokens=0, head='mse', n_in=2), 'mol': dict(n_tokens=0, head='mol', n_mix=3),
    'gaussian_conditioned': dict(n_tokens=0, head='gaussian', n_knobs=2, n_local=1, hop=5),
    'tokens_conditioned': dict(n_tokens=16, n_knobs=2, n_local=3),
    'weight_norm': dict(n_tokens=16, weight_norm=True),
}


@pytest.fixture(params=NETS)
def model(request):
    torch.manual_seed(0)
    return SampleWaveNet(**{'channels': 6, 'skip': 7, 'n_layers': 3, 'n_blocks': 2, **NETS[request.param]}).eval()


def inputs(m, n, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    if m.n_tokens: x = torch.randint(m.n_tokens, (2, n), generator=g)
    else: x = torch.rand(2, m.n_in, n, generator=g).to(dtype)-.5
    more = [torch.rand(2, m.n_knobs, generator=g).to(dtype)] if m.n_knobs else []
    if m.n_local: more.append(torch.rand(2, m.n_local, n, generator=g).to(dtype))
    return x, more


@pytest.mark.parametrize('dtype,tol', [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=['float32', 'float64'])
@pytest.mark.parametrize('block', [1, 13, 80])
def test_stream_equals_offline(model, block, dtype, tol):
    m = model.to(dtype)
    n = 30 if block == 1 else 80
    x, more = inputs(m, n, dtype)
    axis = 1 if m.n_tokens else 2
    with torch.no_grad():
        state, out = m.init_state(2, *more[:m.n_knobs > 0]), []
        for s in range(0, n, block):
            part = [more[0]] if m.n_knobs else []
            if m.n_local: part.append(more[-1][..., s:s+block])
            y, state = m.stream(x[..., s:s+block], state, *part)
            out.append(y)
        assert (torch.cat(out, axis)-m(x, *more)).abs().max() <= tol


def test_causal_and_as_far_as_it_says(model):
    x, more = inputs(model, 90)
    z = x.clone()
    z[..., 40] = (z[..., 40]+1) % model.n_tokens if model.n_tokens else z[..., 40]+.5
    with torch.no_grad(): d = (model(z, *more)-model(x, *more)).abs()
    hit = (d.amax((0, 2)) if model.n_tokens else d.amax((0, 1))).nonzero()[:, 0]
    assert hit.min() == 40 and hit.max() <= 40+model.receptive_field-1
    assert analyze(model.plain()).Delta_by_gradient == model.receptive_field


def test_plain_copy_exports_and_original_lives_on(model):
    import warnings
    x, more = inputs(model, 50)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        want = model(x, *more)
        plain = model.plain()
        assert not any('parametrizations' in n for n, _ in plain.named_parameters())
        torch.testing.assert_close(torch.jit.script(plain)(x, *more), want, atol=1e-6, rtol=0)
        torch.testing.assert_close(model(x, *more), want, atol=0, rtol=0)


@pytest.mark.parametrize('make,n', [(build_wavenet, 1_063_648), (build_wavenet_toy, 60_610), (build_ar2, 2)])
def test_presets_have_exact_counts(make, n): assert count(make()) == n


@pytest.mark.parametrize('blocks,field', [(3, 3070), (4, 4093), (5, 5116)])
def test_receptive_field_of_presets(blocks, field):
    assert build_wavenet_like(10, n_blocks=blocks).receptive_field_size == field


def test_one_hot_in_logits_out():
    torch.manual_seed(0)
    m = WavenetLike(10, block_n_layers=4, n_blocks=1, one_conv_skip_out_channels=8).eval()
    t = torch.randint(10, (2, 30))
    hot = F.one_hot(t, 10).transpose(1, 2).float()
    assert m(hot).shape == (2, 10, 30)
    torch.testing.assert_close(m(hot).transpose(1, 2), m(t), atol=1e-6, rtol=0)
    assert softmax_loss_fn(m(hot), hot, 16) > 0


@pytest.mark.parametrize('ks,d', [(1, 1), (2, 1), (3, 7)])
def test_lpconv_is_causal(ks, d):
    c, x = LpConv(2, 3, ks, dilation=d), torch.rand(1, 2, 40)
    z = x.clone(); z[..., 20:] += 1
    assert c(x).shape == (1, 3, 40) and torch.equal(c(x)[..., :20], c(z)[..., :20])
    for kw in (dict(padding=1), dict(stride=2)):
        with pytest.raises(TypeError): LpConv(1, 1, 2, **kw)


@pytest.mark.parametrize('delta,budget', [(1, 5000), (100, 20_000), (3000, 60_000)])
def test_custom_model_keeps_its_promises(delta, budget):
    m = build_custom_model(delta, budget)
    assert m.receptive_field >= delta and budget/2 < count(m) <= budget


def test_a_budget_too_small_is_refused():
    with pytest.raises(ValueError, match='budget of at least'): build_custom_model(1000, 100)


@pytest.mark.parametrize('loss', [Losses.mse, Losses.gaussian])
def test_ar2_is_recovered(loss):
    torch.manual_seed(0)
    stack = Block(n_layers=1, kernel_length=2, dilation_rate=1)
    train_stack_ar(stack, list(islice(ar2_process(-.4, .5, 50, 60, seed=0), 100)), loss)
    torch.testing.assert_close(stack.model[0].weight.flatten(), torch.tensor([.5, -.4]), atol=1e-3, rtol=0)
    stack = build_ar2()
    fit = train_stack_ar(stack, list(islice(ar2_process((-.4, .5), (0, 0), sigma=1., seed=1), 10_000)), loss)
    torch.testing.assert_close(stack.model[0].weight.flatten(), torch.tensor([.5, -.4]), atol=.03, rtol=0)
    assert abs(fit.noise_var-1) < .03


def test_two_speakers_make_two_tones():
    "A class as condition: one network, trained on both, makes the tone that is asked for."
    torch.manual_seed(0)
    sr, freqs = 2000, (100, 250)
    m = SampleWaveNet(32, channels=16, skip=16, n_layers=5, n_blocks=1, n_knobs=2)
    x = torch.stack([mu_law_encode(sine(f, sr, 2000, amp=.6), 32) for f in freqs])
    opt = torch.optim.Adam(m.parameters(), lr=1e-2)
    for _ in range(120):
        s = int(torch.randint(1500, (1,)))
        seg = x[:, s:s+400]
        loss = token_nll(m.valid(seg[:, :-1], torch.eye(2)), seg[:, m.receptive_field:])
        opt.zero_grad(); loss.backward(); opt.step()
    y = generate(m, 1000, prompt=x[0, :1].expand(2, 1), batch=2, knobs=torch.eye(2), temperature=.5, seed=0)[:, 0]
    p = torch.fft.rfft(y*torch.hann_window(1000)).abs().square()
    for i, f in enumerate(freqs):
        k = f*1000//sr
        assert p[i, k-3:k+4].sum()/p[i, 1:].sum() > .8, (loss, i)


def test_suggestions():
    s = suggest_model(AR2((.5, .3)))
    assert type(s.model) is Block and s.Delta == 2
    assert memory_order(torch.randn(5000, generator=torch.Generator().manual_seed(0))) == 0


def test_the_toy_preset_learns_tones_in_noise(tmp_path):
    sr = 16_000
    tones = sum(sine(f, sr, 3*sr, amp=.25) for f in (220, 523.25, 1318.51))[None]
    write_audio(tmp_path/'tones.wav', tones+noise(3*sr, seed=0, amp=.05), sr)
    set_seed(0)
    dls = AudioDataLoaders.from_files(tmp_path/'tones.wav', n_tokens=10, carry=False, chunk_len=4096, bs=2, seed=0,
                                      device='cpu')
    learn = autoregressive_learner(dls, build_wavenet_toy(), path=tmp_path)
    beat = next_baselines(dls)
    learn.remove_cb(NextBaselines)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(-(-40//len(dls.train)), 1e-2)
        _, bits, _, match = learn.validate()
    assert bits*torch.log(torch.tensor(2.)) < 1.2
    assert match > max(.5, beat['copy-last match']+.05, beat['majority match']+.05), (match, beat)
