"How far a wave is from its target."
from . import waves, spectra, loudness, effects

__all__ = [
    *waves.__all__, *spectra.__all__, *loudness.__all__, *effects.__all__,
]

from .waves import *
from .spectra import *
from .loudness import *
from .effects import *
