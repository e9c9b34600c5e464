"A run that was cut off goes on where it was, with the network it had chosen."
import itertools
import json

import pytest
import torch

from fastproaudio.dsp import noise
from fastproaudio.io import write_audio
from fastproaudio.train import train_effect

SR = 16000


class Ticks:
    "A clock that moves on with every look at it, and stops the run at one of them."
    def __init__(self, stop=None): self.ticks, self.seen, self.stop = itertools.count(), 0, stop
    def __call__(self):
        self.seen = next(self.ticks)
        if self.seen == self.stop: raise KeyboardInterrupt
        return self.seen


def pair(tmp_path):
    torch.manual_seed(0)
    x = .3*noise(8*SR, seed=0)
    y = .5*torch.tanh(4*x)
    write_audio(tmp_path/'dry.wav', x, SR, 'FLOAT'), write_audio(tmp_path/'wet.wav', y, SR, 'FLOAT')
    return tmp_path/'dry.wav', tmp_path/'wet.wav'


def test_a_run_cut_off_goes_on(tmp_path):
    args = dict(out=tmp_path/'effect', minutes=1., net='wavenet', quiet=True)
    with pytest.raises(KeyboardInterrupt): train_effect(*pair(tmp_path), **args, clock=Ticks(45))
    name = json.loads((tmp_path/'effect'/'training.json').read_text())['name']
    assert name == 'wavenet'
    assert (tmp_path/'effect'/'training.json').exists() and not (tmp_path/'effect'/'network.json').exists()
    clock = Ticks()
    got = train_effect(tmp_path/'dry.wav', tmp_path/'wet.wav', **args, resume=True, clock=clock)
    assert f'{name}, trained' in got.report.notes[0]
    assert clock.seen < 45, 'it began anew'                      # the rest of sixty ticks, and no second race
    assert not (tmp_path/'effect'/'training.json').exists() and not (tmp_path/'effect'/'models').exists()


def test_nothing_to_go_on_with(tmp_path):
    with pytest.raises(ValueError, match='cut off'):
        train_effect(*pair(tmp_path), out=tmp_path/'effect', resume=True)
