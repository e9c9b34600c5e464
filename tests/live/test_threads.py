"One `Live` that is used by two threads at once refuses, and mixes nothing."
import copy
import pickle
import threading

import pytest
import torch

from fastproaudio.live import Live
from fastproaudio.models import TCN

torch.set_num_threads(1)


def net():
    torch.manual_seed(0)
    return TCN(n_blocks=2, ks=3, channel_width=4)


def test_a_second_thread_is_refused():
    live = Live(net(), engine='eager')
    inside, go = threading.Event(), threading.Event()
    play = live.player.play
    def slow(x, knobs):
        inside.set()
        go.wait(10)
        return play(x, knobs)
    live.player.play = slow
    x = torch.randn(1, 64)
    out = []
    t = threading.Thread(target=lambda: out.append(live(x)))
    t.start()
    assert inside.wait(10)
    with pytest.raises(ValueError, match='one thread at a time.*Live of its own'): live(x)
    with pytest.raises(ValueError, match='one thread at a time'): live.reset()
    go.set()
    t.join()
    assert torch.equal(out[0], Live(net(), engine='eager')(x))
    assert live.reset()(x).shape == (1, 64)


def test_a_copy_plays_beside_it():
    live = Live(net(), engine='eager')
    x = torch.randn(1, 64)
    live(x)
    other = copy.deepcopy(live)
    assert torch.equal(other(x), live(x))
    assert pickle.loads(pickle.dumps(Live(net(), engine='eager')))(x).shape == (1, 64)


def test_a_block_that_fails_leaves_it_free():
    live = Live(net(), engine='eager')
    with pytest.raises(ValueError): live(torch.zeros(3, 3, 3))
    assert live(torch.zeros(1, 10)).shape == (1, 10)
