"A value is checked in one way at every door: what is no whole number here is none there."
import math

import numpy as np
import pytest
import torch

from fastproaudio.checks import all_finite, alike, finite_sound, first_bad, is_real, is_whole, one_of, rate, real, whole
from fastproaudio.data.files import OpenAudio
from fastproaudio.data.tokens import MuLaw
from fastproaudio.export.checks import check_tol, rate_for
from fastproaudio.export.trust import whole_number
from fastproaudio.generate import generate
from fastproaudio.models import SampleLSTM
from fastproaudio.spectral import CQT, MelSpectrogram, STFT

NO_WHOLE = (True, 1.5, 'three', None, math.nan, math.inf, [3], np.bool_(1), torch.tensor(2.), np.zeros(2), 1j)


def generator():
    torch.manual_seed(0)
    return SampleLSTM(n_tokens=8, hidden=4).eval()


COUNTS = dict(MuLaw=MuLaw, n_fft=STFT, n_mels=lambda v: MelSpectrogram(8000, n_mels=v),
              bins=lambda v: CQT(8000, bins_per_octave=v), trust=lambda v: whole_number(v, 'layers'),
              generate=lambda v: generate(generator(), v), batch=lambda v: generate(generator(), 2, batch=v),
              channels=lambda v: OpenAudio(n_ch=v))


@pytest.mark.parametrize('door', COUNTS)
@pytest.mark.parametrize('bad', NO_WHOLE, ids=repr)
def test_every_door_knows_a_whole_number(door, bad):
    if bad is None and door in ('channels', 'generate'): return      # none: any; and no end
    if door == 'channels' and is_real(bad) and bad == int(bad): return # 2.0 is said of a table's column
    with pytest.raises(ValueError, match='whole number.*got'): COUNTS[door](bad)


@pytest.mark.parametrize('make', [int, np.int64, np.uint8, np.int16, torch.tensor], ids=lambda o: o.__name__)
def test_a_whole_number_is_one_whoever_made_it(make):
    assert is_whole(make(3)) and whole(make(3), 'n') == 3 and type(whole(make(3), 'n')) is int
    assert MuLaw(make(16)).n_tokens == 16
    assert rate(make(96), 'sr') == 96


@pytest.mark.parametrize('bad', [True, 'loud', None, math.nan, math.inf, -math.inf, 10**400, 1j, [1.]], ids=str)
def test_a_number_is_finite(bad):
    assert not is_real(bad)
    with pytest.raises(ValueError, match='expected gain, a finite number, got'): real(bad, 'gain')
    with pytest.raises(ValueError, match='expected tol >= 0'): check_tol(bad)


def test_bounds_are_part_of_the_sentence():
    assert real(np.float32(2), 'x', above=1, high=2) == 2.
    for low in (1, 0, -3):
        with pytest.raises(ValueError, match='expected x > 1 and <= 2, a finite number, got'):
            real(low, 'x', above=1, high=2)
    with pytest.raises(ValueError, match=r'expected n in 2\.\.4, a whole number, got 5; take 4'):
        whole(5, 'n', 2, 4, '; take 4')
    with pytest.raises(ValueError, match='got .{0,60}$'): whole('x'*1000, 'n')      # a message stays a line


def test_rates_may_be_written_as_48e3():
    assert rate(48e3) == 48000 and type(rate(48e3)) is int
    assert rate_for(torch.nn.Linear(1, 1), 48e3, 'nam') == 48000
    for bad in (44100.5, 0, -8000., '44100', math.nan):
        with pytest.raises(ValueError, match='whole number'): rate(bad)


@pytest.mark.parametrize('as_array', [torch.Tensor.numpy, torch.Tensor.clone], ids=['numpy', 'torch'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_large_is_finite_and_nan_has_a_place(dtype, as_array):
    x = torch.full((2, 500), float(torch.finfo(dtype).max), dtype=dtype)
    assert all_finite(as_array(x)) and first_bad(as_array(x)) is None               # their sum is Inf
    for bad in (math.nan, math.inf, -math.inf):
        y = x.clone()
        y[1, 123] = bad
        y[0, 321] = -bad
        assert first_bad(as_array(y)) == 123
        with pytest.raises(ValueError, match=r'a.wav: expected finite samples, .* at sample 1123 \(0.112 s\)'):
            finite_sound(as_array(y), 'a.wav', 10000, 1000)
    assert all_finite(as_array(x[:, :0])) and all_finite(as_array(x.long()))


def test_a_nan_that_hides_behind_its_opposite_is_found():
    x = np.array([[math.inf, -math.inf, 1.]])
    assert not all_finite(x) and first_bad(x) == 0
    assert not all_finite(np.array([1+1j*math.nan])) and not all_finite(torch.tensor([1+1j*math.inf]))


def test_what_belongs_together():
    assert alike((2, 5), (2, 5)) == (2, 5) and one_of(None, 'engine', ('auto', None)) is None
    with pytest.raises(ValueError, match='^b.wav: expected 8000 Hz as in a.wav, got 16000 Hz; convert it$'):
        alike(16000, 8000, 'b.wav', ' Hz', ' as in a.wav', '; convert it')
    for bad in ('Hann', ['hann'], {}, np.array(['hann']), True):
        with pytest.raises(ValueError, match='expected window among hann, hamming, got'):
            one_of(bad, 'window', ('hann', 'hamming'))
