"Is a pair of recordings fit for training, and in time?"
from . import check, align

__all__ = [
    *check.__all__, *align.__all__,
]

from .check import *
from .align import *
