"Any effect, block by block, as fast as the machine allows."
from . import live

__all__ = [
    *live.__all__,
]

from .live import *
