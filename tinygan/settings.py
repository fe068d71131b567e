"""What a layer is given: settings, checked when it is made, inputs, and the start of its weights.

Every check says which layer, which setting, what was expected and what came.
"""

import math
import numbers
import operator

import numpy as np

from .attributes import Parameter
from .autograd import Tensor
from .randomness import rng


def whole(layer, least=1, **setting):
    """The one setting as an int, or a ValueError. NumPy's integers are integers, too."""
    (name, value), = setting.items()
    try:
        ok = not isinstance(value, bool) and operator.index(value) >= least
    except TypeError:
        ok = False
    if not ok:
        bound = f" >= {least}" if least > -math.inf else ""
        raise ValueError(f"{layer}: {name} must be an integer{bound}, got {value!r}")
    return operator.index(value)


def number(layer, wanted, test, **setting):
    """The one setting as a float, or a ValueError that says what is wanted."""
    (name, value), = setting.items()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not test(value):
        raise ValueError(f"{layer}: {name} must be {wanted}, got {value!r}")
    return float(value)


def fraction(layer, **setting):
    """The one setting as a float from 0 to 1, or a ValueError."""
    return number(layer, "in [0, 1]", lambda v: 0 <= v <= 1, **setting)


def bias_of(layer, bias, size, fan_in):
    """A bias Parameter if bias is True, None if it is False."""
    if not isinstance(bias, (bool, np.bool_)):
        raise ValueError(f"{layer}: bias must be True or False, got {bias!r}")
    return uniform((size,), fan_in, f"{layer}.bias") if bias else None


def plain(layer, x, parameter):
    """A plain array in the parameter's type, so that NumPy's float64 goes no further."""
    if isinstance(x, Tensor) or getattr(x, "dtype", None) == parameter.dtype:
        return x
    if getattr(getattr(x, "dtype", None), "kind", "") not in ("b", "i", "u", "f"):
        raise TypeError(f"{type(layer).__name__}: expected a Tensor or an array of numbers, "
                        f"got {getattr(x, 'dtype', type(x).__name__)}")
    return x.astype(parameter.dtype)


def images(layer, x, channels="C"):
    """ValueError unless x is a batch of images, with so many channels."""
    if len(x.shape) != 4 or channels not in ("C", x.shape[3]):
        raise ValueError(f"{type(layer).__name__}: expected images (N, H, W, {channels}), "
                         f"got {x.shape}")


def uniform(shape, fan_in, name=None):
    """A Parameter uniform in ±1/√fan_in: PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng("init").uniform(-bound, bound, shape).astype(np.float32), name)
