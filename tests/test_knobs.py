"Knobs: that stand still and that move, from folders and tables, in training, prediction, sliders and exports."
import warnings

import pytest
import torch

from fastproaudio.models.blocks import run_long
from fastproaudio.models.tcn import TCN
from test_models import MODELS, make_input

WITH_KNOBS = {k: v for k, v in MODELS.items() if 'knobs' in k}
WITH_KNOBS['tcn_centred_knobs'] = lambda: TCN(n_knobs=2, n_blocks=3, ks=5, dilation_growth=3, channel_width=6, causal=False)


@pytest.fixture(params=WITH_KNOBS)
def model(request):
    torch.manual_seed(0)
    return WITH_KNOBS[request.param]().eval()


def make_curve(m, n, bs=2, dtype=torch.float32):
    "Knobs that move at every sample, each in its own way."
    t = torch.arange(n)/50
    return torch.stack([torch.stack([.5+.45*torch.sin(t*(1+i+j)+i) for j in range(m.n_knobs)]) for i in range(bs)]).to(dtype)


def test_a_curve_that_stands_still_is_a_setting(model):
    x, knobs = make_input(model, 300)
    with torch.no_grad(): got, want = model(x, knobs[..., None].expand(-1, -1, 300)), model(x, knobs)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_a_knob_has_no_effect_before_it_moves_and_one_after(model):
    x, _ = make_input(model, 300)
    a = make_curve(model, 300)
    b = a.clone()
    b[..., 150:] = 1-b[..., 150:]
    with torch.no_grad(): d = (model(x, a)-model(x, b)).abs().amax((0, 1))
    assert d[:150-model.lookahead].max() < 1e-6 and d[150:].max() > 1e-4


def test_curves_change_the_sound_at_once_where_nothing_looks_ahead(model):
    if model.lookahead: pytest.skip('looks ahead')
    x, _ = make_input(model, 300)
    a = make_curve(model, 300)
    b = a.clone()
    b[..., 150] = 1-b[..., 150]
    with torch.no_grad(): assert (model(x, a)-model(x, b))[..., 150].abs().max() > 1e-6


@pytest.mark.parametrize('dtype,tol', [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=['float32', 'float64'])
@pytest.mark.parametrize('blocks', [1, 64, 'mixed'])
def test_streaming_a_curve_equals_offline(model, dtype, tol, blocks):
    model = model.to(dtype)
    n = 120 if blocks == 1 else 700
    x, _ = make_input(model, n, dtype=dtype)
    curve = make_curve(model, n, dtype=dtype)
    tail = torch.zeros(*x.shape[:2], model.latency, dtype=dtype)
    held = torch.cat([curve, curve[..., -1:].expand(-1, -1, model.latency)], -1)
    sizes = [1, 5, 1, 2, 400, 64, n+model.latency-473] if blocks == 'mixed' else blocks
    with torch.no_grad():
        state, out = model.init_state(2, curve[..., 0]), []
        for part, k in zip(torch.cat([x, tail], -1).split(sizes, -1), held.split(sizes, -1)):
            y, state = model.stream(part, state, k)
            out.append(y)
        got, want = torch.cat(out, -1)[..., model.latency:], model(x, curve)
    assert (got-want).abs().max() <= tol


def test_a_long_stream_of_a_curve_equals_offline(model):
    x, _ = make_input(model, 10_000, bs=1)
    n = 10_000+model.latency
    curve = make_curve(model, 10_000, bs=1)
    held = torch.cat([curve, curve[..., -1:].expand(-1, -1, model.latency)], -1)
    with torch.no_grad():
        state, out = model.init_state(1, curve[..., 0]), []
        for part, k in zip(torch.cat([x, torch.zeros(1, model.n_in, model.latency)], -1).split([7000, n-7000], -1), held.split([7000, n-7000], -1)):
            y, state = model.stream(part, state, k)
            out.append(y)
        assert (torch.cat(out, -1)[..., model.latency:]-model(x, curve)).abs().max() <= 1e-6


def test_from_a_setting_to_a_curve_and_back_in_one_stream(model):
    if model.lookahead: pytest.skip('a stream that is late may apply a setting at once')
    x, knobs = make_input(model, 300)
    moves = make_curve(model, 100)
    still = lambda n: knobs[..., None].expand(-1, -1, n)
    with torch.no_grad():
        want = model(x, torch.cat([still(100), moves, still(100)], -1))
        state, out = model.init_state(2, knobs), []
        for part, k in zip(x.split(100, -1), (knobs, moves, knobs)):
            y, state = model.stream(part, state, k)
            out.append(y)
    assert (torch.cat(out, -1)-want).abs().max() <= 1e-6


def test_scripted_and_in_pieces_a_curve_sounds_the_same(model):
    x, _ = make_input(model, 700, bs=1)
    curve = make_curve(model, 700, bs=1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        s = torch.jit.script(model)
    with torch.no_grad():
        want = model(x, curve)
        torch.testing.assert_close(s(x, curve), want, atol=1e-6, rtol=0)
        state, out = s.init_state(1, curve[..., 0]), []
        for part, k in zip(x.split(90, -1), curve.split(90, -1)):
            y, state = s.stream(part, state, k)
            out.append(y)
        parts = list(run_long(model, lambda a, n: x[..., a:a+n], 700, curve, piece=150))
    y = torch.cat(out, -1)
    assert (y[..., model.latency:]-want[..., :700-model.latency]).abs().max() <= 1e-6
    assert (torch.cat(parts, -1)-want).abs().max() <= 1e-6


def test_valid_with_a_curve_is_forward_where_the_context_is_real(model):
    past = model.receptive_field-1-model.lookahead
    start = -(-past//model.stride)*model.stride
    x, _ = make_input(model, start+100)
    curve = make_curve(model, start+100)
    with torch.no_grad():
        whole = model(x, curve)
        part = model.valid(x[..., start-past:], curve[..., start-past:])
    tol = 1e-4 if getattr(model, 'recurrent', False) else 1e-6
    torch.testing.assert_close(part, whole[..., start:start+part.shape[-1]], atol=tol, rtol=0)


def test_curves_get_gradients_and_wrong_ones_are_refused(model):
    x, _ = make_input(model, 200)
    curve = make_curve(model, 200).requires_grad_()
    model(x, curve).pow(2).sum().backward()
    assert (curve.grad.abs().amax((0, 1)) > 0).float().mean() > (.2 if model.stride > 1 else .99)
    for bad in (curve[..., :-1], curve[:, :-1], curve[:1], curve[..., None]):
        with pytest.raises(ValueError, match='expected knobs'): model(x, bad)
