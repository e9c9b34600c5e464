"A network of a user's, in a file of its own, streams and leaves like those of the library."
import importlib.util

import pytest
import torch

from fastproaudio.dsp import noise
from fastproaudio.export import export, load_effect
from fastproaudio.export.nn_tilde import step_of

OWN = '''
from typing import List, Optional, Tuple
import torch
from torch import Tensor, nn
from fastproaudio.models import AudioModel, blocks, TCN

class Louder(TCN):
    "A network of the library, with other numbers."
    def __init__(self):
        super().__init__(n_blocks=2, ks=3, dilation_growth=4, channel_width=4)
        with torch.no_grad(): self.out.weight.mul_(1.5)

class Chain(AudioModel):
    "Two convolutions, each on a line."
    def __init__(self):
        super().__init__(1, 1, 0, receptive_field=1+4+12)
        self.a, self.b = blocks.Conv(1, 3, 5), blocks.Conv(3, 1, 4, dilation=4)
    def valid(self, x: Tensor, knobs: Optional[Tensor] = None) -> Tensor:
        return blocks.to_outer(self.b(torch.tanh(self.a(blocks.to_inner(x))+.1)))
    def lines(self) -> List[Tuple[int, int]]: return [(1, 4), (3, 12)]
    def go_on(self, x: Tensor, state: List[Tensor], knobs: Optional[Tensor]) -> Tensor:
        y = torch.tanh(self.a(blocks.push(state, 1, blocks.to_inner(x)))+.1)
        return blocks.to_outer(self.b(blocks.push(state, 2, y)))

class Bare(AudioModel):
    "Nothing but `valid`."
    def __init__(self):
        super().__init__(1, 1, 0, receptive_field=8)
        self.conv = nn.Conv1d(1, 1, 8)
    def valid(self, x: Tensor, knobs: Optional[Tensor] = None) -> Tensor: return torch.tanh(self.conv(x))
'''
STATE = dict(Louder=1*2+4*8, Chain=4+3*12, Bare=7)


@pytest.fixture(params=STATE)
def net(request, tmp_path):
    path = tmp_path/'my_networks.py'
    path.write_text(OWN)
    spec = importlib.util.spec_from_file_location('my_networks', path)
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    torch.manual_seed(0)
    return getattr(mod, request.param)().eval().requires_grad_(False)


def test_its_stream_is_its_lines_and_nothing_else(net):
    "A graph keeps the context of each layer, not the past input of the whole network."
    assert step_of(net).start.shape == (1, STATE[type(net).__name__])


@pytest.mark.parametrize('sizes', [[64], [1, 5, 500, 5000]])
def test_it_streams_as_it_plays_offline(net, sizes):
    x = noise(12_000, seed=0, amp=.5)[None]
    state, out, at = net.init_state(1), [], 0
    while at < x.shape[2]:
        y, state = net.stream(x[..., at:at+sizes[len(out) % len(sizes)]], state)
        out.append(y)
        at += y.shape[2]
    torch.testing.assert_close(torch.cat(out, 2), net(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize('target,name', [('nn_tilde', 'a.ts'), ('onnx', 'a.onnx'), ('torch_export', 'a.pt2')])
def test_it_leaves_and_plays_the_same(net, target, name, tmp_path):
    if target == 'onnx': [pytest.importorskip(m) for m in ('onnx', 'onnxscript', 'onnxruntime')]
    export(net, tmp_path/name, to=target, sr=48000)
    x = noise(6000, seed=1, amp=.5)
    with torch.no_grad(): torch.testing.assert_close(load_effect(tmp_path/name)(x), net(x[None])[0], atol=1e-5, rtol=0)
