"The sampler: every engine makes the choices of the naive loop; bad settings are refused in a sentence."
import importlib.util

import pytest
import torch

from fastproaudio.dsp import mu_law_decode
from fastproaudio.generate import generate, generate_blocks, sample, sample_blocks, sample_naive
from fastproaudio.models import SampleLSTM, SampleWaveNet

numba = pytest.mark.skipif(importlib.util.find_spec('numba') is None, reason='numba is an extra')
ENGINES = ['eager', pytest.param('numba', marks=numba)]
NETS = {
    'plain': dict(n_tokens=32, channels=8, skip=12, n_layers=4, n_blocks=2),
    'odd_sizes_ks3': dict(n_tokens=33, channels=7, gate=5, skip=19, ks=3, n_layers=3),
    'embedding_growth3': dict(n_tokens=100, channels=16, skip=16, n_layers=3,
                              dilation_growth=3, inp='embedding', weight_norm=True),
    'wave_in': dict(n_tokens=64, channels=4, skip=70, n_layers=2, n_blocks=1, inp='wave'),
}


def net(name):
    torch.manual_seed(0)
    m = SampleWaveNet(**NETS[name]).eval()
    with torch.no_grad(): m.post2.weight.mul_(8)                     # answers with an opinion
    return m


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('batch', [1, 3, 9])
@pytest.mark.parametrize('name', NETS)
def test_engines_equal_naive(name, batch, engine):
    m = net(name)
    prompt = torch.randint(m.n_tokens, (batch, 20), generator=torch.Generator().manual_seed(1))
    for kw in (dict(temperature=0.), dict(seed=1), dict(seed=2, top_k=5, temperature=.7), dict(seed=3, top_p=.6)):
        want = sample_naive(m, 60, prompt, batch=batch, **kw)
        assert torch.equal(sample(m, 60, prompt=prompt, batch=batch, engine=engine, **kw), want), kw


@numba
def test_long_greedy_run_equals_naive():
    m = net('plain')
    assert torch.equal(sample(m, 1500, temperature=0., engine='numba'), sample_naive(m, 1500, temperature=0.))


@numba
@pytest.mark.parametrize('batch', [1, 5])
@pytest.mark.parametrize('layers', [1, 2])
def test_lstm_engines_agree(layers, batch):
    torch.manual_seed(0)
    m = SampleLSTM(48, hidden=20, n_layers=layers).eval()
    prompt = torch.randint(48, (1, 30))
    for kw in (dict(temperature=0.), dict(seed=1), dict(seed=2, top_k=3)):
        a, b = (sample(m, 200, prompt=prompt, batch=batch, engine=e, **kw) for e in ('eager', 'numba'))
        assert torch.equal(a, b), kw


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('head', ['mse', 'gaussian', 'mol'])
def test_continuous_heads_equal_naive(head, engine):
    torch.manual_seed(0)
    m = SampleWaveNet(0, 8, 8, head=head, n_layers=4, n_in=2).eval()
    prompt = torch.rand(2, 2, 20)-.5
    want = sample_naive(m, 40, prompt, batch=2, seed=0, temperature=.3)
    torch.testing.assert_close(sample(m, 40, prompt=prompt, batch=2, seed=0, temperature=.3, engine=engine),
                               want, atol=1e-4, rtol=0)


@pytest.mark.parametrize('engine', ENGINES)
def test_draws_follow_the_models_odds(engine):
    "A model without a past draws from one distribution: its own."
    m = SampleWaveNet(8, 4, 4, ks=1, n_layers=1, n_blocks=1).eval()
    odds = torch.tensor([.3, .05, .05, .2, .1, .1, .15, .05])
    with torch.no_grad(): m.post2.weight.zero_(); m.post2.bias.copy_(odds.log())
    n = 20_000 if engine == 'numba' else 3000
    got = torch.bincount(sample(m, n//10, batch=10, seed=0, engine=engine).flatten(), minlength=8)/n
    assert (got-odds).abs().max() < (.012 if engine == 'numba' else .03)
    kept = sample(m, 200, seed=0, engine=engine, top_p=.6).unique().tolist()
    assert kept == [0, 3, 6]                                          # .3, .2 and .15 pass .6


@pytest.mark.parametrize('engine', ENGINES)
def test_conditions_reach_every_engine(engine):
    torch.manual_seed(0)
    m = SampleWaveNet(16, 8, 8, n_layers=4, n_knobs=2, n_local=1, hop=7).eval()
    with torch.no_grad(): m.post2.weight.mul_(8)
    kw = dict(batch=2, knobs=torch.eye(2), local=torch.linspace(-3, 3, 20)[None, None], prompt=torch.arange(10), seed=0)
    made = sample(m, 120, engine=engine, **kw)
    # the reference: one parallel pass over what was made must give the same choices
    seq = torch.cat([torch.arange(10).expand(2, 10), made], 1)
    from fastproaudio.likelihood import draw_token
    import numpy as np
    with torch.no_grad():
        out = m(seq[:, :-1], kw['knobs'], m.spread(kw['local'].expand(2, -1, -1), 140)[..., :129])[:, 9:]
    u = torch.from_numpy(np.random.default_rng(0).random((120, 2, 1, 2)))
    assert torch.equal(torch.stack([draw_token(out[:, i], u[i, :, 0, 1]) for i in range(120)], 1), made)
    with pytest.raises(ValueError, match='19 frames'):
        sample(m, 120, engine=engine, **{**kw, 'local': kw['local'][..., :10]})


@pytest.mark.parametrize('engine', ENGINES)
def test_blocks_of_any_size_are_the_whole(engine):
    m = net('plain')
    want = sample(m, 100, seed=0, engine=engine)
    for block in (1, 33, 1000):
        assert torch.equal(torch.cat(list(sample_blocks(m, 100, seed=0, block=block, engine=engine)), -1), want)


def test_endless_generation_and_restored_settings():
    m = net('plain').train()
    was = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        blocks = generate_blocks(m, seed=0, block=50)
        parts = [next(blocks) for _ in range(3)]
        assert [p.shape for p in parts] == [(1, 1, 50)]*3 and m.training and torch.get_num_threads() == 2
    finally: torch.set_num_threads(was)


def test_waveform_and_token_prompts_are_the_same():
    m = net('plain')
    t = torch.randint(32, (1, 40))
    assert torch.equal(sample(m, 30, prompt=t, seed=0), sample(m, 30, prompt=mu_law_decode(t, 32), seed=0))
    for n in (1, m.receptive_field-1, m.receptive_field+500):
        assert sample(m, 5, prompt=torch.zeros(n), seed=0).shape == (1, 5)


def test_seeds():
    m = net('plain')
    assert torch.equal(generate(m, 50, seed=7), generate(m, 50, seed=7))
    assert not torch.equal(generate(m, 50, seed=7), generate(m, 50, seed=8))
    assert not torch.equal(generate(m, 50), generate(m, 50))
    assert generate(m, 0).shape == (1, 1, 0) and sample(m, 0).dtype == torch.int64


@pytest.mark.parametrize('kw,words', [
    (dict(n=-1), 'n >= 0'), (dict(temperature=-.1), 'temperature >= 0'),
    (dict(temperature=float('nan')), 'temperature'),
    (dict(top_k=0), r'top_k in 1\.\.32'), (dict(top_k=33), r'top_k in 1\.\.32'),
    (dict(top_p=1.5), 'top_p'), (dict(batch=0), 'batch'),
    (dict(prompt=torch.tensor([32])), r'0\.\.31'), (dict(prompt=torch.full((5,), float('nan'))), 'finite'),
    (dict(prompt=torch.zeros(3, 1, 5), batch=2), '1 or 2 prompts'), (dict(engine='abacus'), 'engine in')])
def test_bad_settings_are_refused(kw, words):
    with pytest.raises(ValueError, match=words): generate(net('plain'), **{'n': 5, **kw})


def test_an_effect_is_not_a_generator():
    from fastproaudio.models.wavenet import WaveNet
    with pytest.raises(ValueError, match='learn.predict'): generate(WaveNet(channels=2, n_layers=2), 5)


def test_without_numba(monkeypatch):
    import sys
    m = net('plain')
    monkeypatch.setitem(sys.modules, 'numba', None)
    for name in ('live.kernels', 'generate.numba_draws', 'generate.numba_engine'):
        monkeypatch.delitem(sys.modules, f'fastproaudio.{name}', raising=False)
    from fastproaudio import generate as package
    monkeypatch.delattr(package, 'numba_engine', raising=False)
    with pytest.raises(ImportError, match='pip install numba'): sample(m, 5, engine='numba')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None)
    with pytest.warns(UserWarning, match='pip install numba'): assert sample(m, 5, seed=0).shape == (1, 5)
