"What a model, a recording, a trained effect is worth; which network to choose."
from . import models, surrogates, recordings, choose, effects

__all__ = [
    *models.__all__, *surrogates.__all__, *recordings.__all__, *choose.__all__, *effects.__all__,
]

from .models import *
from .surrogates import *
from .recordings import *
from .choose import *
from .effects import *
