"The contracts that every model keeps (design.md): one list of models, one set of tests."
import warnings
from typing import Optional

import pytest
import torch
from torch import nn

from fastproaudio.dsp import noise
from fastproaudio.models import (AudioModel, Block, FIR, LSTMEffect, NAMLSTM, NAMWaveNet, Parallel, run_long,
                                 SideChain, TCN, UNet1d, WaveNet)

def _noisy(m):
    "A filter that is not just the dry signal."
    with torch.no_grad(): m.taps.normal_(std=.1)
    return m


NAM = [dict(n_in=1, channels=4, dilations=[1, 2, 4], ks=[3]*3, acts=['Tanh']*3, gated=False, head=2, head_ks=1,
            head_bias=False),
       dict(n_in=4, channels=2, dilations=[8, 1], ks=[2, 3], acts=['SiLU', 'Tanh'], gated=True, head=1, head_ks=5,
            head_bias=True)]
class Own(AudioModel):
    "A network of a user's: `valid` alone, all else from the base."
    def __init__(self):
        super().__init__(1, 1, 0, receptive_field=7, lookahead=2)
        self.conv = nn.Conv1d(1, 1, 7)
    def valid(self, x: torch.Tensor, knobs: Optional[torch.Tensor] = None) -> torch.Tensor:
        return torch.tanh(self.conv(x))


MODELS = {
    'own': Own,
    'tcn': lambda: TCN(n_blocks=3, ks=5, dilation_growth=4, channel_width=6),
    'tcn_centred': lambda: TCN(n_blocks=3, ks=5, dilation_growth=4, channel_width=6, causal=False),
    'tcn_even_kernel_centred': lambda: TCN(n_blocks=3, ks=4, dilation_growth=3, channel_width=6, causal=False),
    'tcn_knobs': lambda: TCN(n_knobs=2, n_blocks=3, ks=3, dilation_growth=5, channel_width=6),
    'tcn_stereo_grouped': lambda: TCN(2, 2, n_blocks=4, ks=3, dilation_growth=2, channel_width=4, stack_size=2,
                                      grouped=True),
    'tcn_no_memory': lambda: TCN(n_blocks=2, ks=1, channel_width=6),
    'wavenet': lambda: WaveNet(channels=6, n_layers=5, n_blocks=2, head=4),
    'wavenet_gated_knobs_stereo': lambda: WaveNet(2, 2, n_knobs=2, channels=4, ks=2, n_layers=4, gated=True, head=4),
    'fir': lambda: _noisy(FIR(40)),
    'fir_stereo': lambda: _noisy(FIR(20, 2, 2)),
    'parallel_knobs': lambda: Parallel(_noisy(FIR(50)),
                                       TCN(n_knobs=2, n_blocks=2, ks=3, dilation_growth=5, channel_width=6)),
    'nam': lambda: NAMWaveNet(NAM, head_scale=.5),
    'nam_lstm': lambda: NAMLSTM(6, 2, run_in=200),
    'block': lambda: Block(3, 3, intermediate_channels=4, bias=True),
    'unet': lambda: UNet1d(channels=(4, 6, 8), strides=(2, 3), ks=5),
    'unet_knobs': lambda: UNet1d(n_knobs=3, channels=(4, 6), strides=(4,), ks=3),
    'unet_causal': lambda: UNet1d(channels=(4, 6, 8), strides=(2, 3), ks=5, causal=True),
    'unet_causal_stereo_knobs': lambda: UNet1d(2, 2, 1, channels=(4, 6, 8), strides=(4, 2), ks=3, causal=True),
    'sidechain': lambda: SideChain(hop=6, frames=8, width=5, channels=4, ks=3, n_layers=3, film=3),
    'sidechain_stereo_knobs': lambda: SideChain(2, 2, 2, hop=8, frames=2, width=4, channels=4, ks=2, n_layers=2,
                                                film=3),
    'sidechain_lstm': lambda: SideChain(hop=4, frames=60, driver='lstm', width=5, channels=4, ks=3, n_layers=2, film=3),
    'sidechain_lstm_knobs': lambda: SideChain(1, 2, n_knobs=1, hop=5, frames=60, driver='lstm', width=5, channels=4,
                                              n_layers=2, film=3),
    'lstm': lambda: LSTMEffect(hidden=6, warm_up=200),
    'lstm_stereo_knobs_layers': lambda: LSTMEffect(2, 2, n_knobs=2, hidden=5, n_layers=2, warm_up=200),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def make_input(m, n, bs=2, dtype=torch.float32):
    x = torch.stack([noise(n, seed=i, n_ch=m.n_in, amp=.5) for i in range(bs)]).to(dtype)
    knobs = torch.linspace(.1, .9, bs*m.n_knobs).reshape(bs, m.n_knobs).to(dtype) if m.n_knobs else None
    return x, knobs


def support(m):
    "Past and future samples that gradients see, over one stride of outputs."
    n = 2*m.receptive_field+4*m.stride
    floor = 1e-6 if any(isinstance(o, FIR) for o in m.modules()) else 0          # an FFT leaves rounding everywhere
    start = (m.receptive_field//m.stride+1)*m.stride
    past = ahead = 0
    for t in range(start, start+m.stride):
        x, knobs = make_input(m, n, bs=1)
        x.requires_grad_()
        m(x, knobs)[0, :, t].sum().backward()
        g = x.grad[0].abs().sum(0)
        hit = (g > floor*g.max()).nonzero()[:, 0]
        past, ahead = max(past, t-hit.min().item()), max(ahead, hit.max().item()-t)
    return past, ahead


def test_receptive_field_is_what_gradients_see(model):
    if model.recurrent: pytest.skip('its memory has no end: receptive_field says when the past hardly matters')
    past, ahead = support(model)
    assert (past+ahead+1, ahead) == (model.receptive_field, model.lookahead)
    assert model.compute_receptive_field() == model.receptive_field


def test_causal_models_ignore_the_future(model):
    if model.lookahead: pytest.skip('looks ahead, and says so')
    x, knobs = make_input(model, 120)
    z = x.clone()
    z[..., 60:] += 1
    with torch.no_grad(): a, b = model(x, knobs), model(z, knobs)
    assert torch.equal(a[..., :60], b[..., :60]) or (a-b)[..., :60].abs().max() < 1e-6
    assert (a-b)[..., 60:].abs().max() > 1e-4


@pytest.mark.parametrize('n', [1, 2, 3, 17, 100])
def test_same_length_out_as_in(model, n):
    x, knobs = make_input(model, n)
    with torch.no_grad(): y = model(x, knobs)
    assert y.shape == (2, model.n_out, n) and torch.isfinite(y).all()


def test_valid_is_forward_where_the_context_is_real(model):
    past = model.receptive_field-1-model.lookahead
    start = -(-past//model.stride)*model.stride                    # valid's first output sits on the stride
    x, knobs = make_input(model, start+100)
    with torch.no_grad():
        whole = model(x, knobs)
        part = model.valid(x[..., start-past:], knobs)
    assert part.shape[-1] == start+100-(start-past)-model.receptive_field+1
    tol = 1e-4 if model.recurrent else 1e-6       # what it has forgotten, it has forgotten nearly
    torch.testing.assert_close(part, whole[..., start:start+part.shape[-1]], atol=tol, rtol=0)


@pytest.mark.parametrize('dtype,tol', [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=['float32', 'float64'])
@pytest.mark.parametrize('blocks', [1, 3, 64, 1000, 'mixed'])
def test_streaming_equals_offline(model, dtype, tol, blocks):
    model = model.to(dtype)
    n = 150 if blocks == 1 else 700
    x, knobs = make_input(model, n, dtype=dtype)
    tail = torch.zeros(*x.shape[:2], model.latency, dtype=dtype)
    sizes = [1, 5, 1, 2, 400, 64, n+model.latency-473] if blocks == 'mixed' else blocks
    with torch.no_grad():
        state, out = model.init_state(2, knobs), []
        for part in torch.cat([x, tail], -1).split(sizes, -1):
            y, state = model.stream(part, state, knobs)
            assert y.shape[-1] == part.shape[-1]
            out.append(y)
        got, want = torch.cat(out, -1)[..., model.latency:], model(x, knobs)
    assert (got-want).abs().max() <= tol


def test_long_stream_equals_offline(model):
    "Longer than the lines, which then start again at their front."
    x, knobs = make_input(model, 10_000, bs=1)
    with torch.no_grad():
        state, out = model.init_state(1, knobs), []
        tail = torch.zeros(1, model.n_in, model.latency)
        for part in torch.cat([x, tail], -1).split([5000, 600, 4400+model.latency], -1):
            y, state = model.stream(part, state, knobs)
            out.append(y)
        assert (torch.cat(out, -1)[..., model.latency:]-model(x, knobs)).abs().max() <= 1e-6


def test_batch_equals_items(model):
    x, knobs = make_input(model, 90, bs=3)
    with torch.no_grad():
        y = model(x, knobs)
        items = [model(x[i:i+1], None if knobs is None else knobs[i:i+1]) for i in range(3)]
    torch.testing.assert_close(y, torch.cat(items), atol=1e-6, rtol=0)


def test_script_equals_eager_and_streams(model):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        s = torch.jit.script(model)
    for n in (1, 50, 201):
        x, knobs = make_input(model, n)
        with torch.no_grad(): torch.testing.assert_close(s(x, knobs), model(x, knobs), atol=1e-6, rtol=0)
    state = s.init_state(2, knobs)
    out = []
    with torch.no_grad():
        for part in x.split(30, -1):
            y, state = s.stream(part, state, knobs)                # TorchScript copies lists: the returned state counts
            out.append(y)
        y, want = torch.cat(out, -1), model(x, knobs)
    assert (y[..., model.latency:]-want[..., :201-model.latency]).abs().max() <= 1e-6


def test_compile_equals_eager(model):
    "Every graph is captured whole, forwards and backwards, without the code generator's minutes."
    torch._dynamo.reset()
    c = torch.compile(model, backend='aot_eager', dynamic=True)
    for n in (50, 201):
        x, knobs = make_input(model, n)
        with torch.no_grad(): torch.testing.assert_close(c(x, knobs), model(x, knobs), atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['tcn_knobs', 'unet_causal'])
def test_generated_code_equals_eager(name):
    torch.manual_seed(0)
    torch._dynamo.reset()
    m = MODELS[name]().eval()
    c = torch.compile(m, dynamic=True)
    for n in (50, 201):
        x, knobs = make_input(m, n)
        with torch.no_grad(): torch.testing.assert_close(c(x, knobs), m(x, knobs), atol=1e-5, rtol=0)


def test_run_in_pieces_equals_one_pass(model):
    x, knobs = make_input(model, 700, bs=1)
    with torch.no_grad():
        parts = list(run_long(model, lambda start, n: x[..., start:start+n], 700, knobs, piece=150))
        assert (torch.cat(parts, -1)-model(x, knobs)).abs().max() <= 1e-6


def test_bf16_autocast_is_finite_and_near(model):
    x, knobs = make_input(model, 200)
    with torch.no_grad():
        want = model(x, knobs)
        with torch.autocast('cpu', torch.bfloat16): y = model(x, knobs)
    assert torch.isfinite(y).all()
    assert (y.float()-want).pow(2).sum() < .01*want.pow(2).sum()


def test_gradients_reach_every_parameter(model):
    x, knobs = make_input(model, 300)
    model.train()(x, knobs).pow(2).mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def test_state_dict_round_trip(model, request):
    other = MODELS[request.node.callspec.params['model']]()
    other.load_state_dict(model.state_dict())
    x, knobs = make_input(model, 60)
    with torch.no_grad(): assert torch.equal(other.eval()(x, knobs), model(x, knobs))


def test_knobs_change_the_sound_and_wrong_ones_are_refused(model):
    x, knobs = make_input(model, 60)
    if knobs is None:
        with pytest.raises(ValueError, match='no knobs'): model(x, torch.zeros(2, 1))
        return
    with torch.no_grad(): assert (model(x, knobs)-model(x, 1-knobs)).abs().max() > 1e-5
    with pytest.raises(ValueError, match='expected knobs'): model(x)
    with pytest.raises(ValueError, match='expected knobs'): model(x, knobs[:1])


def test_wrong_shapes_are_refused(model):
    x, knobs = make_input(model, 60)
    for bad in (x[0], torch.zeros(2, model.n_in+1, 60), torch.zeros(2, model.n_in, 0)):
        with pytest.raises(ValueError, match='expected'): model(bad, knobs)


def test_models_are_plain_modules(model):
    assert isinstance(model, nn.Module) and all(type(t) is torch.Tensor for t in model.state_dict().values())
