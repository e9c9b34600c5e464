"Learners for each job, their callbacks, and the one call that does it all."
from . import (checkpoint, callbacks, distributed, learner, panel, effects, hear, next_sample, seq2seq,
               labels, classifier, progress, race, guard, judge, ready, auto, generator)

__all__ = [
    *checkpoint.__all__, *callbacks.__all__, *distributed.__all__, *learner.__all__, *panel.__all__,
    *effects.__all__, *hear.__all__, *next_sample.__all__, *seq2seq.__all__, *labels.__all__,
    *classifier.__all__, *progress.__all__, *race.__all__, *guard.__all__, *judge.__all__, *ready.__all__,
    *auto.__all__, *generator.__all__,
]

from .checkpoint import *
from .callbacks import *
from .distributed import *
from .learner import *
from .panel import *
from .effects import *
from .hear import *
from .next_sample import *
from .seq2seq import *
from .labels import *
from .classifier import *
from .progress import *
from .race import *
from .guard import *
from .judge import *
from .ready import *
from .auto import *
from .generator import *
