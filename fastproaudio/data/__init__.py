"Items are files; chunks, knobs, tokens, stems, tables, downloads."
from . import (show, tensors, augment, files, splits, chunks, loaders, habits, pairs, conditions, knobs, tables,
               tokens, prepare, download, stems, bundled, datasets, synthetic, rigs, capture)

__all__ = [
    *show.__all__, *tensors.__all__, *augment.__all__, *files.__all__, *splits.__all__, *chunks.__all__,
    *loaders.__all__, *habits.__all__,
    *pairs.__all__, *conditions.__all__, *knobs.__all__, *tables.__all__, *tokens.__all__, *prepare.__all__,
    *download.__all__, *stems.__all__, *bundled.__all__, *datasets.__all__, *synthetic.__all__, *rigs.__all__,
    *capture.__all__,
]

from .show import *
from .tensors import *
from .augment import *
from .files import *
from .splits import *
from .chunks import *
from .loaders import *
from .habits import *
from .pairs import *
from .conditions import *
from .knobs import *
from .tables import *
from .tokens import *
from .prepare import *
from .download import *
from .stems import *
from .bundled import *
from .datasets import *
from .synthetic import *
from .rigs import *
from .capture import *
