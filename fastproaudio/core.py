"The data layer under the name that nbdev projects know: tensors and pictures."
from .data.show import *
from .data.tensors import *
