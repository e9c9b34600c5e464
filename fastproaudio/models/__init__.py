"Networks with one contract: receptive field, streaming, scripting."
from . import (blocks, model, fir, sample_wavenet, wavenet, tcn, unet, lstm, sample_lstm, sidechain, seq2seq,
               gan, nam, nam_lstm, nam_other, classifier)

__all__ = [
    *blocks.__all__, *model.__all__, *fir.__all__, *sample_wavenet.__all__, *wavenet.__all__, *tcn.__all__,
    *unet.__all__, *lstm.__all__, *sample_lstm.__all__, *sidechain.__all__, *seq2seq.__all__, *gan.__all__,
    *nam.__all__, *nam_lstm.__all__, *nam_other.__all__, *classifier.__all__,
]

from .blocks import *
from .model import *
from .fir import *
from .sample_wavenet import *
from .wavenet import *
from .tcn import *
from .unet import *
from .lstm import *
from .sample_lstm import *
from .sidechain import *
from .seq2seq import *
from .gan import *
from .nam import *
from .nam_lstm import *
from .nam_other import *
from .classifier import *
