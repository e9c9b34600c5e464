"The training layer under the name that nbdev projects know: the learner for effects."
from .train.effects import *
from .train.learner import *
