"Files in and out: headers, recordings, whole-or-nothing writers."
from . import headers, recording, writers, promise

__all__ = [
    *headers.__all__, *recording.__all__, *writers.__all__,
]

from .headers import *
from .recording import *
from .writers import *
