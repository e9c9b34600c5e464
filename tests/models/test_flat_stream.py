"The short way of a stream that is only heard gives what the long way gives, and never goes on with old weights."
import pytest
import torch

from fastproaudio.dsp import noise
from fastproaudio.models import blocks, NAMWaveNet, TCN, WaveNet

PRELU = dict(type='PReLU', negative_slopes=[.1, .4, .2])
ARRAYS = [dict(n_in=1, channels=3, dilations=[1, 7], ks=[3, 1], acts=[PRELU, 'Fasttanh'], gated=False, head=2,
               head_ks=1, head_bias=True),
          dict(n_in=3, channels=2, dilations=[5, 1], ks=[2, 4], acts=['SiLU', 'Tanh'], gated=True, head=1, head_ks=5,
               head_bias=False)]
MODELS = dict(
    tcn=lambda: TCN(n_blocks=3, ks=13, dilation_growth=10, channel_width=16),
    tcn_wide=lambda: TCN(2, 2, n_blocks=2, ks=9, dilation_growth=3, channel_width=40),
    tcn_knobs=lambda: TCN(n_knobs=2, n_blocks=3, ks=3, dilation_growth=4, channel_width=6),
    tcn_centred_knobs=lambda: TCN(2, 1, n_knobs=1, n_blocks=3, ks=4, dilation_growth=3, channel_width=6, causal=False),
    tcn_grouped=lambda: TCN(n_knobs=1, n_blocks=3, ks=3, dilation_growth=2, channel_width=4, grouped=True),
    wavenet=lambda: WaveNet(channels=6, n_layers=5, n_blocks=2, head=4),
    wavenet_gated_knobs=lambda: WaveNet(2, 2, n_knobs=2, channels=4, ks=2, n_layers=4, gated=True, head=4),
    nam=lambda: NAMWaveNet(ARRAYS, head_scale=.5),
    nam_lite=lambda: NAMWaveNet('lite'),
    nam_a2=lambda: NAMWaveNet('a2_lite'))
SIZES = [1, 2, 64, 192, 193, 97, 800, 4000, 64, 4096, 491]           # over the lines' free space more than once
SIZE = sum(SIZES)


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    m = MODELS[request.param]().eval().double()
    with torch.no_grad():
        for p in m.parameters(): p += .02*torch.randn_like(p)         # no bias stays at zero
    return m


def inputs(m, bs, curves):
    x = torch.stack([noise(SIZE, seed=i, n_ch=m.n_in, amp=.5) for i in range(bs)]).double()
    if not m.n_knobs: return x, None
    k = torch.rand(bs, m.n_knobs, SIZE, generator=torch.Generator().manual_seed(1)).double()
    return x, k if curves else k[..., 0]


def play(m, x, knobs, sizes, state=None):
    "The sound, and how many of its blocks went the short way."
    start = None if knobs is None else knobs if knobs.ndim==2 else knobs[..., 0]
    state = m.init_state(x.shape[0], start) if state is None else state
    out, at, short = [], 0, 0
    for n in sizes:
        k = knobs[..., at:at+n] if knobs is not None and knobs.ndim==3 else knobs
        short += blocks.plays_flat(x[..., at:at+n], state)
        y, state = m.stream(x[..., at:at+n], state, k)
        assert y.shape==(x.shape[0], m.n_out, n) and y.is_contiguous()
        out.append(y)
        at += n
    return torch.cat(out, -1), short


@pytest.mark.parametrize('bs', [1, 3])
@pytest.mark.parametrize('curves', [False, True], ids=['still', 'curves'])
def test_short_way_equals_long_way(model, bs, curves, monkeypatch):
    if curves and not model.n_knobs: pytest.skip('no knobs')
    x, knobs = inputs(model, bs, curves)
    with torch.no_grad():
        got, short = play(model, x, knobs, SIZES)
        assert short==len(SIZES)
        monkeypatch.setattr(blocks, 'only_heard', lambda x: False)
        want, short = play(model, x, knobs, SIZES)
    assert short==0 and got.std()>1e-4
    assert (got-want).abs().max()<=1e-12


def test_both_ways_share_one_state(model):
    "Blocks with and without gradients in turn are one stream."
    x, knobs = inputs(model, 2, False)
    with torch.no_grad():
        want, _ = play(model, x, knobs, SIZES)
        state = model.init_state(2, knobs)
    out = []
    for i, part in enumerate(x.split(SIZES, -1)):
        with torch.set_grad_enabled(i%2==1):
            state = [p.detach() for p in state]
            y, state = model.stream(part, state, knobs)
        assert y.requires_grad==(i%2==1)
        out.append(y.detach())
    assert (torch.cat(out, -1)-want).abs().max()<=1e-12


def test_weights_changed_behind_torchs_back_are_heard_at_once(model):
    "fastai's optimizers and moving averages write to `.data`, which no version counts."
    x, knobs = inputs(model, 1, False)
    x = x[..., :128]
    with torch.no_grad():
        state = model.init_state(1, knobs)
        model.stream(x, state, knobs)
        for p in model.parameters(): p.data.zero_()
        y, _ = model.stream(x, state, knobs)
    assert y.abs().max()==0


def test_what_the_short_way_leaves_to_the_long_one(model):
    x, knobs = inputs(model, 2, False)
    x = x[..., :64]
    with torch.no_grad():
        state = model.init_state(2, knobs)
        assert blocks.plays_flat(x, state)
        assert not blocks.plays_flat(x[:1], state)                     # another batch than the lines'
        assert not blocks.plays_flat(x.repeat(1, 1, 65), state)        # longer than the lines' free space
        turned = [state[0].clone(), *(l.contiguous() for l in state[1:])]
        assert not blocks.plays_flat(x, turned)                        # lines laid out in another way
        want = model.stream(x, state, knobs)[0]
        assert (model.stream(x, turned, knobs)[0]-want).abs().max()<=1e-12
        with torch.autocast('cpu', torch.bfloat16): assert not blocks.plays_flat(x, state)
    assert not blocks.plays_flat(x, state)                             # with gradients
    with torch.inference_mode(): assert model.stream(x, model.init_state(2, knobs), knobs)[0].isfinite().all()
