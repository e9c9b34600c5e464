"The contracts that every model keeps (design.md): one list of models, one set of tests."
import warnings

import pytest
import torch
from torch import nn

from fastproaudio.models import FIR, run_long

from networks import make_input, MODELS


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


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
