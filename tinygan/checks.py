"""What arguments must be: whole numbers, numbers within bounds, pairs, arrays and images."""

import operator

import numpy as np

from .tape import Tensor


def whole(name, value, least=1):
    """The value as an int ≥ least, or a ValueError. NumPy's integers are integers, too."""
    try:
        integer = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        integer = least - 1
    if integer < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return integer


def pair(value, name="value", least=1):
    """(v, v) of an integer v, or the pair itself; every entry an integer ≥ least."""
    try:
        v, h = value if isinstance(value, (tuple, list)) else (value, value)
        return whole(name, v, least), whole(name, h, least)
    except ValueError:
        raise ValueError(f"{name}: expected an integer >= {least} or a pair of them, "
                         f"got {value!r}") from None


def number(name, value, low, high, above=False, closed=False):
    """The value as a float if low ≤ value < high (low < where `above`, ≤ high where `closed`)."""
    ok = (isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
          and low <= value <= high and not (above and value == low)
          and (closed or value != high))
    if not ok:
        raise ValueError(f"{name}: expected a number {'>' if above else '>='} {low} and "
                         f"{'<=' if closed else '<'} {high}, got {value!r}")
    return float(value)


def in_type_of(layer, x, parameter):
    """x; an array that is no Tensor is converted to the parameter's type, so that NumPy's float64
    goes no further. TypeError for anything else."""
    if isinstance(x, Tensor) or getattr(x, "dtype", None) == parameter.dtype:
        return x
    if getattr(getattr(x, "dtype", None), "kind", "O") not in "biuf":
        raise TypeError(f"{type(layer).__name__}: expected a Tensor or an array of numbers, "
                        f"got {getattr(x, 'dtype', type(x).__name__)}")
    return x.astype(parameter.dtype)


def images(layer, x, channels="C"):
    """ValueError unless x is a batch of images, with so many channels."""
    if len(x.shape) != 4 or channels not in ("C", x.shape[3]):
        raise ValueError(f"{type(layer).__name__}: expected images (N, H, W, {channels}), "
                         f"got {x.shape}")
