"Effects block by block: the compiled engine plays what torch streams, and says what it cannot play."
import copy
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from fastproaudio.generate import sample
from fastproaudio.generate.cuda_engine import GraphEngine, LSTMStep, WaveNetStep
from fastproaudio.generate.prompt import as_prompt
from fastproaudio.generate.torch_engine import prefill as _prefill
from fastproaudio.live import Live
from fastproaudio.live.networks import PLAYERS
from fastproaudio.models import (Block, FIR, LSTMEffect, NAMWaveNet, Parallel, SampleLSTM, SampleWaveNet, TCN,
                                 WaveNet)

from networks import make_input, MODELS as LISTED

numba = pytest.mark.skipif(importlib.util.find_spec('numba') is None, reason='numba is an extra')


MORE = {
    'tcn_wide_growing': lambda: TCN(n_in=2, n_out=3, n_blocks=3, ks=4, channel_width=20,
                                    channel_growth=2, dilation_growth=3),
    'tcn_grouped_growing': lambda: TCN(n_in=2, n_knobs=1, n_blocks=3, ks=3,
                                       channel_width=4, channel_growth=2, grouped=True),
    'tcn_centred_knobs': lambda: TCN(n_knobs=2, n_blocks=2, ks=5, channel_width=6, causal=False),
    'wavenet_knobs': lambda: WaveNet(n_knobs=1, channels=20, n_layers=3, ks=4, dilation_growth=3),
    'wavenet_one_layer': lambda: WaveNet(n_layers=1, ks=1, channels=5),
    'nam_standard': lambda: NAMWaveNet('standard', head_scale=1.),
    'nam_a2_lite': lambda: NAMWaveNet('a2_lite', head_scale=1.),
    'nam_acts': lambda: NAMWaveNet([dict(n_in=1, channels=3, dilations=[1, 2, 5, 9, 3],
                                         ks=[2, 3, 1, 2, 2], gated=False, head=1, head_ks=3, head_bias=True,
                                         acts=['ReLU', 'Sigmoid', 'Hardtanh', 'Hardswish', 'Softsign'])],
                                   head_scale=1.),
    'block_stereo': lambda: Block(4, 2, 3, in_channels=2, out_channels=2, intermediate_channels=17),
    'fir_long': lambda: FIR(700, 1, 2),
    'lstm_wide': lambda: LSTMEffect(hidden=40, n_layers=2, warm_up=50),
    'parallel_of_parallel': lambda: Parallel(FIR(30), Parallel(FIR(90), LSTMEffect(n_knobs=1, hidden=4, warm_up=70))),
}
ALL = {**LISTED, **MORE}


def build(name):
    "A model none of whose numbers is zero, as some are at the start."
    torch.manual_seed(0)
    m = ALL[name]().eval()
    with torch.no_grad():
        for p in m.parameters(): p.add_(.03*torch.randn_like(p))
    return m


def known(m): return type(m) in PLAYERS


NAMES = [n for n in ALL if known(ALL[n]())]
pair = pytest.fixture(params=NAMES)(lambda request: build(request.param))


def both(m, knobs=None, bs=2, **kw): return [Live(m, knobs, bs=bs, engine=e, **kw) for e in ('numba', 'eager')]


def difference(a, b): return (a-b).abs().max().item()


def test_every_listed_model_is_played_or_refused_by_name():
    refused = {n for n in ALL if n not in NAMES}
    assert refused == {n for n in ALL if n.startswith(('own', 'unet', 'sidechain'))}


@numba
@pytest.mark.parametrize('sizes', [[1]*70, [64]*12, [1000], [3, 1, 65, 63, 128, 5, 200, 7, 4, 150]],
                         ids=['1', '64', '1000', 'mixed'])
def test_compiled_equals_torch(pair, sizes):
    x, knobs = make_input(pair, sum(sizes))
    a, b = both(pair, knobs)
    got, want = (torch.cat([live(part) for part in x.split(sizes, -1)], -1) for live in (a, b))
    assert want.std() > 1e-3 and difference(got, want) <= 1e-5
    assert got.dtype == torch.float32 and got.shape == (2, pair.n_out, sum(sizes))


@numba
@pytest.mark.parametrize('name', ['tcn', 'wavenet_gated_knobs_stereo', 'nam',
                                  'fir_long', 'parallel_knobs', 'lstm_stereo_knobs_layers'])
def test_a_long_stream_equals_one_pass(name):
    "Rings go round many times."
    m = build(name)
    x, knobs = make_input(m, 20000)
    live = Live(m, knobs, bs=2, engine='numba')
    with torch.no_grad(): want = m(x, knobs)
    assert difference(torch.cat([live(p) for p in x.split(173, -1)], -1), want) <= 1e-5


@numba
def test_reset_forgets(pair):
    x, knobs = make_input(pair, 300)
    live = Live(pair, knobs, bs=2, engine='numba')
    first = live(x)
    live(x)
    assert torch.equal(live.reset()(x), first)


@numba
@pytest.mark.parametrize('engine', ['numba', 'eager'])
def test_streams_are_independent_and_copies_go_their_own_way(engine):
    m = build('tcn_knobs')
    x, knobs = make_input(m, 400)
    live = Live(m, knobs, bs=2, engine=engine)
    whole = live(x)
    for i in range(2): assert difference(Live(m, knobs[i], engine=engine)(x[i]), whole[i]) < 1e-6
    live.reset()(x[..., :100])
    other = copy.deepcopy(live)
    a = other(x[..., 100:])
    other(x)
    assert torch.equal(live(x[..., 100:]), a)
    with torch.no_grad():
        for p in m.parameters(): p.zero_()                         # training goes on: what plays is a copy
    assert torch.equal(live.reset()(x), whole)


@numba
@pytest.mark.parametrize('name', ['tcn_knobs', 'wavenet_gated_knobs_stereo',
                                  'wavenet_knobs', 'parallel_knobs', 'lstm_stereo_knobs_layers', 'tcn_grouped_growing',
                                  'parallel_of_parallel'])
def test_knobs_turn_and_move(name):
    m = build(name)
    x, knobs = make_input(m, 500)
    curve = torch.rand(2, m.n_knobs, 500, generator=torch.Generator().manual_seed(0))
    parts = [(0, 10, None), (10, 150, curve[..., 10:150]), (150, 151, None),
             (151, 300, curve[..., 151]), (300, 500, curve[..., 300:])]
    lives = both(m, knobs)
    got, want = (torch.cat([live(x[..., a:b], k) for a, b, k in parts], -1) for live in lives)
    assert difference(got, want) <= 1e-5
    still = torch.cat([lives[0].reset(knobs)(x[..., a:b]) for a, b, k in parts], -1)
    assert difference(still, got) > 1e-4
    assert torch.equal(lives[0].knobs, knobs)


@numba
def test_arrays_and_single_blocks():
    m = build('tcn')
    x = np.random.default_rng(0).standard_normal((1, 100)).astype(np.float32)
    y = Live(m)(x)
    assert isinstance(y, np.ndarray) and y.shape == (1, 100) and y.dtype == np.float32
    assert Live(m)(torch.from_numpy(x)[None]).shape == (1, 1, 100)
    live = Live(m)
    assert live(x[:, :0]).shape == (1, 0)
    assert np.array_equal(live(x), y)                              # an empty block is no time
    assert Live(m)(torch.from_numpy(x).double()).dtype == torch.float64
    # as a host's interleaved frames come
    assert np.array_equal(Live(m)(np.asfortranarray(np.stack([x[0], x[0]], 1)).T[:1]), y)


@numba
def test_broken_sound_does_not_stay_in_a_convolution():
    m = build('tcn')
    live, x = Live(m), torch.zeros(1, 10)
    x[0, 3] = float('nan')
    live(x)
    live(torch.zeros(1, m.receptive_field))
    assert torch.isfinite(live(torch.zeros(1, 50))).all()


@pytest.mark.parametrize('make,words', [
    (lambda: Live(build('unet_causal'), engine='numba'), 'UNet1d'), (lambda: Live(build('own'), engine='numba'), 'Own'),
    (lambda: Live(build('tcn'), engine='gpu'), 'engine in'), (lambda: Live(build('tcn'), [.5]), 'no knobs'),
    (lambda: Live(build('tcn_knobs')), '2 knobs'), (lambda: Live(build('tcn_knobs'), [.5]), r'\(2,\)'),
    (lambda: Live(build('tcn'))(torch.zeros(2, 10)), r'\(1, n\)'), (lambda: Live(build('tcn'), bs=0), 'at least 1'),
    (lambda: Live(SampleWaveNet(16, n_layers=2)), 'generate_blocks'), (lambda: Live(nn.Conv1d(1, 1, 3)), 'Conv1d'),
    (lambda: Live(build('tcn_centred_knobs'), [.1, .2], engine='numba')(torch.zeros(1, 9), torch.zeros(1, 2, 9)),
     'looks ahead')])
def test_what_cannot_be_played_is_refused_in_a_sentence(make, words):
    if importlib.util.find_spec('numba') is None and 'tcn' in words: pytest.skip('numba is an extra')
    with pytest.raises(ValueError, match=words): make()


def test_an_activation_that_is_not_known_is_refused_by_name():
    m = build('wavenet')
    m.layers[1].act = nn.GELU()
    with pytest.raises(ValueError, match='GELU'): Live(m, engine='numba')
    assert Live(build('unet_causal')).engine == Live(build('tcn').double()).engine == 'eager'


def test_without_numba(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'numba' else find(name, *a))
    m = build('tcn')
    assert Live(m).engine == 'eager'
    with pytest.raises(ImportError, match='pip install'): Live(m, engine='numba')


def graph_engine(m, prompt, batch, settings, device, knobs=None, local=None, **kw):
    "As `generate` builds it, on any device."
    x = as_prompt(m, prompt, batch)
    state, out = _prefill(m, x, knobs, local)
    spec, state, out = m.step_spec(), m.step_state(state), out.numpy()
    if spec['kind'] == 'lstm': step = LSTMStep(spec, state, device)
    else:
        frame, phase = divmod(x.shape[-1], m.hop)
        rest = None if local is None else local[..., min(frame, local.shape[2]-1):].numpy()
        step = WaveNetStep(spec, state, batch, device, None if knobs is None else knobs.numpy(), rest, m.hop, phase)
    return GraphEngine(step, spec, out, settings, device, **kw)


GENERATORS = {
    'wavenet': lambda: SampleWaveNet(32, channels=8, skip=12, n_layers=4, n_blocks=2),
    'odd_ks3': lambda: SampleWaveNet(33, channels=7, gate=5, skip=19, ks=3, n_layers=3),
    'ks1': lambda: SampleWaveNet(16, channels=8, ks=1, n_layers=2),
    'embedding': lambda: SampleWaveNet(20, channels=8, n_layers=3, dilation_growth=3,
                                       inp='embedding', weight_norm=True),
    'conditions': lambda: SampleWaveNet(24, channels=8, n_layers=3, n_knobs=2, n_local=3, hop=7),
    'gaussian_stereo': lambda: SampleWaveNet(0, channels=8, n_layers=3, head='gaussian', n_in=2),
    'mol': lambda: SampleWaveNet(0, channels=8, n_layers=3, head='mol', n_mix=3),
    'lstm': lambda: SampleLSTM(24, hidden=10, n_layers=2),
    'lstm_mse': lambda: SampleLSTM(0, hidden=10, head='mse'),
}
SETTINGS = [dict(temperature=0.), dict(temperature=.8), dict(temperature=1., top_k=5), dict(temperature=1., top_p=.6)]


def generator(name):
    torch.manual_seed(0)
    m = GENERATORS[name]().eval()
    n = 30
    prompt = torch.randint(m.n_tokens, (2, n)) if m.n_tokens else .3*torch.randn(2, m.n_in, n)
    cond = dict(knobs=torch.rand(2, 2), local=torch.randn(2, 3, 20)) if name == 'conditions' else {}
    return m, prompt, cond


@pytest.mark.parametrize('device',
                         ['cpu', pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(),
                                                                               reason='no GPU'))])
@pytest.mark.parametrize('name', GENERATORS)
def test_a_step_on_fixed_memory_makes_the_choices_of_every_engine(name, device):
    "On a GPU the step is captured; here it runs as it is."
    m, prompt, cond = generator(name)
    for kw in SETTINGS if m.n_tokens else SETTINGS[:2]:
        want = sample(m, 70, prompt=prompt, batch=2, seed=3, engine='eager', **kw, **cond)
        with torch.no_grad():
            engine = graph_engine(m, prompt, 2, (kw['temperature'], kw.get('top_k'), kw.get('top_p')),
                                  device, **cond, block=16)
            rng = np.random.default_rng(3)
            u = rng.random((70, 2, 1 if m.n_tokens else m.n_in, 2))
            got = torch.cat([engine.run(u[:25]), engine.run(u[25:])], -1).cpu()
        assert engine.graph is not None or device == 'cpu'
        if m.n_tokens: assert torch.equal(got, want), kw
        else: torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_a_step_allocates_no_state():
    "Everything that outlives a step stays where it is, as a captured graph needs it."
    m, prompt, _ = generator('wavenet')
    with torch.no_grad():
        engine = graph_engine(m, prompt, 2, (1., None, None), 'cpu')
        engine.run(np.random.default_rng(0).random((3, 2, 1, 2)))
        memory = [*engine.net.memory(), engine.out, engine.last, engine.made, engine.i, engine.u]
        before = [t.data_ptr() for t in memory]
        engine.run(np.random.default_rng(0).random((40, 2, 1, 2)))
    assert [t.data_ptr() for t in [*engine.net.memory(), engine.out, engine.last,
                                   engine.made, engine.i, engine.u]] == before


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_cuda_engine_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match='CUDA'): sample(generator('wavenet')[0], 5, engine='cuda')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('name', GENERATORS)
def test_cuda_engine_equals_eager(name):
    m, prompt, cond = generator(name)
    kw = dict(prompt=prompt, batch=2, seed=3, **cond)
    got, want = sample(m, 200, engine='cuda', **kw).cpu(), sample(m, 200, engine='eager', **kw)
    if m.n_tokens: assert (got == want).float().mean() > .99         # another device rounds otherwise
    else: torch.testing.assert_close(got, want, atol=1e-3, rtol=0)
