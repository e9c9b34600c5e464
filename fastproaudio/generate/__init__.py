"One sampler for every model that predicts the next sample."
from . import prompt, sampler

__all__ = [
    *prompt.__all__, *sampler.__all__,
]

from .prompt import *
from .sampler import *
