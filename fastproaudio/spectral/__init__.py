"Every transform as a layer: FFT inside, trainable on request."
from . import frames, stft, mel, cqt, invertible, gammatone, griffinlim, cfp

__all__ = [
    *frames.__all__, *stft.__all__, *mel.__all__, *cqt.__all__, *invertible.__all__, *gammatone.__all__,
    *griffinlim.__all__, *cfp.__all__,
]

from .frames import *
from .stft import *
from .mel import *
from .cqt import *
from .invertible import *
from .gammatone import *
from .griffinlim import *
from .cfp import *
