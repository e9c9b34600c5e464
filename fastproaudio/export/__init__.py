"A model to a host's contract, checked before it is named done, and back."
from . import target, block, audacity, network, hub

__all__ = [
    *target.__all__, *block.__all__, *audacity.__all__, *network.__all__, *hub.__all__,
]

from .target import *
from .block import *
from .audacity import *
from .network import *
from .hub import *
