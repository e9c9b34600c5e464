"LSTMs of the next sample: contracts, learning, generation."
import math
from copy import deepcopy
import warnings

import pytest
import torch
from fastai.basics import Callback, first, load_learner, set_seed
import fastai.callback.schedule  # gives learners fit_one_cycle and lr_find  # noqa: F401

from fastproaudio.data import AudioDataLoaders, AudioTensor
from fastproaudio.dsp import mu_law_encode, noise, sine
from fastproaudio.generate import sample
from fastproaudio.io import write_audio
from fastproaudio.models import LSTMEffect, SampleLSTM
from fastproaudio.train import autoregressive_learner, effects_learner, NextBaselines
from fastproaudio.train.next_sample import ActivationReg


MODELS = {
    'tokens': lambda: SampleLSTM(32, hidden=8, emb=6),
    'tokens_layers': lambda: SampleLSTM(32, hidden=8, emb=6, n_layers=3, weight_p=.3, hidden_p=.2, input_p=.1,
                                        output_p=.1),
    'tied': lambda: SampleLSTM(32, hidden=8, emb=6, tied=True),
    'mse': lambda: SampleLSTM(0, head='mse', hidden=8),
    'gaussian_stereo': lambda: SampleLSTM(0, n_in=2, head='gaussian', hidden=8, n_layers=2),
    'mol_stereo': lambda: SampleLSTM(0, n_in=2, hidden=8, n_mix=3),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def make_input(m, n, bs=2):
    x = torch.stack([noise(n, seed=i, n_ch=m.n_in, amp=.3) for i in range(bs)]).clamp(-1, 1)
    return mu_law_encode(x[:, 0], m.n_tokens) if m.n_tokens else x


def time(m): return 1 if m.n_tokens else -1


@pytest.mark.parametrize('sizes', [[1]*40, [7, 1, 32], [40]])
def test_pieces_are_the_whole(model, sizes):
    model = model.double()
    x = make_input(model, 40)
    x = x if model.n_tokens else x.double()
    state, out = model.init_state(2), []
    with torch.no_grad():
        for p in x.split(sizes, -1):
            y, state = model.stream(p, state)
            out.append(y)
        assert (torch.cat(out, time(model))-model(x)).abs().max() < 1e-12


def test_steps_are_the_whole(model):
    x, state, out = make_input(model, 40), model.init_state(2), []
    with torch.no_grad():
        for t in range(40):
            y, state = model.step(x[..., t], state)
            out.append(y)
        assert (torch.stack(out, time(model))-model(x)).abs().max() < 1e-5


def test_script_and_state_dict_and_autocast(model, request):
    x = make_input(model, 30)
    other = MODELS[request.node.callspec.params['model']]().eval()
    other.load_state_dict(model.state_dict())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        assert torch.equal(other(x), model(x))
        torch.testing.assert_close(torch.jit.script(model)(x), model(x), atol=1e-6, rtol=0)
        with torch.autocast('cpu', torch.bfloat16): y = model(x).float()
    assert (y-model(x)).pow(2).sum() < .01*model(x).pow(2).sum()


def test_past_is_all_that_counts(model):
    x = make_input(model, 40)
    z = x.clone()
    z[..., 20:] = x[..., 20:].flip(-1)
    with torch.no_grad(): a, b = model(x), model(z)
    assert torch.equal(a.narrow(time(model), 0, 20), b.narrow(time(model), 0, 20))
    assert not torch.equal(a, b)


def test_every_weight_learns(model):
    model.train()(make_input(model, 60)).pow(2).mean().backward()
    for name, p in model.named_parameters(): assert p.grad is not None and p.grad.abs().max() > 0, name


def test_engines_draw_the_same(model):
    pytest.importorskip('numba')
    prompt = make_input(model, 20, bs=1)
    for kwargs in (dict(temperature=0.), dict(seed=3), dict(seed=3, batch=3)):
        a, b = [sample(model, 60, prompt=prompt, engine=e, **kwargs) for e in ('eager', 'numba')]
        if model.n_tokens: assert torch.equal(a, b)
        else: torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_cached_draws_are_the_naive_ones():
    torch.manual_seed(0)
    m = MODELS['tokens_layers']().eval()
    x = make_input(m, 10, bs=1)
    got, seq = sample(m, 30, prompt=x, temperature=0., engine='eager'), x
    with torch.no_grad():
        for _ in range(30): seq = torch.cat([seq, m(seq)[:, -1].argmax(-1)[:, None]], 1)
    assert torch.equal(got, seq[:, 10:])


def test_regularised_training_leaves_a_model_that_exports(tmp_path):
    write_audio(tmp_path/'a.wav', noise(2000, seed=0), 8000)
    dls = AudioDataLoaders.from_files(tmp_path/'a.wav', n_tokens=32, chunk_len=50, bs=4)
    learn = autoregressive_learner(dls, MODELS['tokens_layers'](), alpha=2., beta=1., path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    copy = deepcopy(learn.model)
    learn.export('m.pkl')
    x = make_input(copy, 30)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        assert torch.equal(load_learner(tmp_path/'m.pkl').model.eval()(x), copy.eval()(x))
    with pytest.raises(ValueError, match='SampleLSTM'): autoregressive_learner(dls, wavenet(), alpha=1.).fit(1)


def wavenet():
    from fastproaudio.models.sample_wavenet import SampleWaveNet
    return SampleWaveNet(32, channels=4, skip=4, n_layers=2, n_blocks=1)


def test_activation_regularisation_adds_what_it_says(tmp_path):
    write_audio(tmp_path/'a.wav', noise(2000, seed=0), 8000)
    dls = AudioDataLoaders.from_files(tmp_path/'a.wav', n_tokens=32, chunk_len=50, bs=4)
    learn, seen = autoregressive_learner(dls, SampleLSTM(32, hidden=6), alpha=2., beta=3.), []
    class Look(Callback):
        order = 21
        def after_loss(self):
            if not self.training: return
            reg = first(c for c in self.learn.cbs if isinstance(c, ActivationReg))
            r = reg.raw
            seen.append((self.loss_grad-self.loss-2*r.pow(2).mean()-3*(r[:, 1:]-r[:, :-1]).pow(2).mean()).abs().item())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Look())
    assert seen and max(seen) < 1e-5


# what it learns

def learn_tones(path, tones, **kwargs):
    "Three tones in noise, learned for a few seconds."
    n = 40_000
    x = sum(sine(f, 8000, n, amp=.2, phase=f) for f in tones)[None]+noise(n, seed=0, amp=.004)
    write_audio(path/'tones.wav', x, 8000)
    set_seed(0)
    dls = AudioDataLoaders.from_files(path/'tones.wav', n_tokens=kwargs['n_tokens'] or None, chunk_len=100, bs=8,
                                      seed=0)
    learn = autoregressive_learner(dls, SampleLSTM(hidden=48, **kwargs))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(12, 1e-2)
    learn.file,learn.tones = path/'tones.wav',tones
    return learn


@pytest.fixture(scope='module')
def by_tokens(tmp_path_factory): return learn_tones(tmp_path_factory.mktemp('tokens'), (200, 500, 1100), n_tokens=64)


@pytest.fixture(scope='module')
def by_density(tmp_path_factory):
    return learn_tones(tmp_path_factory.mktemp('density'), (200, 520, 1130), n_tokens=0, head='gaussian')


def tone_share(y, tones):
    "Share of the power within 15 Hz of the tones."
    p = torch.fft.rfft(y.as_subclass(torch.Tensor)[..., -8000:]*torch.hann_window(8000)).abs().square().flatten()
    return (sum(p[f-15:f+16].sum() for f in tones)/p.sum()).item()


@pytest.mark.parametrize('name,temperature', [('by_tokens', .5), ('by_density', .5), ('by_density', 1.)])
def test_three_tones_in_noise_are_learned(name, temperature, request):
    learn = request.getfixturevalue(name)
    y = learn.generate(10_000, prompt=AudioTensor.create(learn.file, 0, 2000), temperature=temperature, seed=0)
    assert tone_share(y, learn.tones) > .9
    assert abs(y.std()-.245) < .05                               # neither silent nor constant, and as loud as it was


@pytest.mark.parametrize('name', ['by_tokens', 'by_density'])
def test_bits_are_well_under_every_baseline(name, request):
    learn = request.getfixturevalue(name)
    scores = first(c for c in learn.cbs if isinstance(c, NextBaselines)).scores
    bits = learn.validate()[1]
    assert bits < min(scores['copy-last'], scores['majority'])-2
    assert abs(learn.score(learn.file)-bits) < .3
    if name == 'by_density': return
    _, _, perplexity, match = learn.validate()
    assert match > 2*max(scores['copy-last match'], scores['majority match']) and abs(perplexity-2**bits) < .01


def test_silent_and_constant_outputs_are_caught(by_tokens):
    silent = torch.zeros(1, 10_000)
    assert not tone_share(silent, by_tokens.tones) > .9 and not tone_share(silent+.3, by_tokens.tones) > .9
    m = deepcopy(by_tokens.model)
    with torch.no_grad(): m.bias[m.n_tokens//2] += 100               # always the same token
    assert autoregressive_learner(by_tokens.dls, m).validate()[1] > 20


@pytest.mark.parametrize('bad,match', [
    (dict(n=-1), 'n >= 0'), (dict(temperature=-1.), 'temperature >= 0'), (dict(top_k=65), 'top_k in 1..64'),
    (dict(top_k=0), 'top_k'),
    (dict(top_p=0.), 'top_p'), (dict(batch=0), 'batch'), (dict(prompt=torch.tensor([64])), 'tokens in 0..63'),
    (dict(prompt=torch.full((1, 5), math.nan)), 'finite'), (dict(prompt=torch.zeros(2, 10)), '1, samples'),
    (dict(prompt=AudioTensor(torch.zeros(1, 5), sr=100)), 'expected 8000 Hz'), (dict(prompt={}), 'got dict'),
    (dict(n=1.5), 'a whole number'),
    (dict(seed=-1), 'seed'), (dict(temperature=math.nan), 'temperature'), (dict(top_k=1.5), 'top_k in 1..64'),
    (dict(batch=1.5), 'batch'), (dict(prompt='no.wav'), 'no.wav')])
def test_bad_requests_say_what_was_expected(by_tokens, bad, match):
    with pytest.raises(ValueError, match=match): by_tokens.generate(**{'n':5, **bad})


@pytest.mark.parametrize('n,prompt', [(0, None), (1, torch.zeros(1, 1)), (3, torch.zeros(1, 5000)),
                                      (3, torch.zeros(1, 0)), (3, torch.zeros(7))])
def test_prompts_of_any_length_and_silence(by_tokens, n, prompt):
    assert by_tokens.generate(n, prompt=prompt, seed=0).shape == (1, n)


def test_effect_lstm_learns_a_filter_with_memory(tmp_path):
    x = noise(30_000, seed=0, amp=.2)
    y = torch.zeros_like(x)
    for t in range(1, 30_000): y[0, t] = .9*y[0, t-1]+.1*x[0, t]       # one pole: memory of tens of samples
    write_audio(tmp_path/'dry.wav', x, 8000), write_audio(tmp_path/'wet.wav', torch.tanh(6*y), 8000)
    set_seed(0)
    dls = AudioDataLoaders.from_pairs(tmp_path/'dry.wav', tmp_path/'wet.wav', chunk_len=400, bs=8, seed=0,
                                      path=tmp_path)
    learn = effects_learner(dls, LSTMEffect(hidden=12, warm_up=64), checkpoint=None)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(15, 1e-2)
    assert learn.validate()[1] < .05
    assert learn.predict(tmp_path/'dry.wav').shape == (1, 30_000)
