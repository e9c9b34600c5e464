"What a check says of eighteen rigs: one sentence for what cannot be learned, and none for the others."
from pathlib import Path

import pytest
import torch

from fastproaudio.data.rigs import RIGS
from fastproaudio.io import read_audio
from fastproaudio.pairs import check_pair

torch.set_num_threads(1)
BUNDLE = Path(__file__).parents[2]/'fastproaudio'/'bundle'
SAYS = ('moves', 'pitch', 'hum', 'noise')


def dry():
    "Half a minute of guitar, with a second of silence."
    one, two = (read_audio(BUNDLE/f'guitar_dist/{o}_input.flac')[0].as_subclass(torch.Tensor)[:1]
                for o in ('train', 'test'))
    x = torch.cat([one, torch.zeros(1, 44100), two, .6*one], 1)
    return x[:, ::2].contiguous()*.9, 22050


@pytest.mark.parametrize('name', RIGS)
def test_what_cannot_be_learned_is_named(name):
    x, sr = dry()
    rig = RIGS[name]
    check = check_pair(x, rig(x, sr, seed=1), sr)
    said = [p for p in check.notes if p.kind in SAYS]
    assert [p.kind for p in said] == [rig.kind]*bool(rig.kind)
    if rig.kind == 'moves': assert f'{rig.rate_hz:.1f}' in said[0] and 'by itself' in said[0]
    if rig.kind in ('hum', 'noise'): assert f'{rig.idle_db:.0f} dBFS' in said[0]
    if rig.kind == 'pitch': assert '+3.0 semitones' in said[0]


@pytest.mark.parametrize('part', ['guitar_dist/train', 'tabla_comp/train', 'tabla_comp/test'])
def test_recordings_that_can_be_learned_get_no_such_sentence(part):
    check = check_pair(BUNDLE/f'{part}_input.flac', BUNDLE/f'{part}_target.flac')
    assert not [p for p in check.notes if p.kind in SAYS]
