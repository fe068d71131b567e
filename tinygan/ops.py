"""All ops in one place, as operators and methods of Tensor, and by NumPy's own names.

    ops.exp(t)      the op
    t.sum(axis=0)   a method, where NumPy's arrays have it
    np.exp(t)       NumPy's function, where an op of its name exists: NumPy hands the call over

The derivative table itself stands in four files, in the order in which they are best read:
elementwise.py, shapes.py, reductions.py, products.py.
"""

# ruff: noqa: F401, F403, F405  (whatever the four files have is to be had here)
import numpy as np

from .elementwise import *
from .products import *
from .reductions import *
from .shapes import *
from .tape import Tensor, data_of, unbroadcast

# --------------------------------------------------------------------------- operators and methods


def _args(args):
    """Accept x.reshape(2, 3) as well as x.reshape((2, 3))."""
    return args[0] if len(args) == 1 else args or None


def _as_method(op):
    return lambda x, *args, **kwargs: op(x, *args, **kwargs)


for _name, _method in {
    "__add__": lambda a, b: add(a, b), "__radd__": lambda a, b: add(b, a),
    "__sub__": lambda a, b: sub(a, b), "__rsub__": lambda a, b: sub(b, a),
    "__mul__": lambda a, b: mul(a, b), "__rmul__": lambda a, b: mul(b, a),
    "__truediv__": lambda a, b: div(a, b), "__rtruediv__": lambda a, b: div(b, a),
    "__pow__": lambda a, b: pow(a, b), "__rpow__": lambda a, b: pow(b, a),
    "__matmul__": lambda a, b: dot(a, b), "__rmatmul__": lambda a, b: dot(b, a),
    "__neg__": lambda a: neg(a), "__abs__": lambda a: abs(a),
    "__getitem__": lambda a, key: getitem(a, key=_copied(key)),
    "__lt__": lambda a, b: a.data < data_of(b), "__le__": lambda a, b: a.data <= data_of(b),
    "__gt__": lambda a, b: a.data > data_of(b), "__ge__": lambda a, b: a.data >= data_of(b),
    "__eq__": lambda a, b: a.data == data_of(b), "__ne__": lambda a, b: a.data != data_of(b),
    "__hash__": object.__hash__, "__bool__": lambda a: bool(a.data),
    "__len__": lambda a: len(a.data), "__float__": lambda a: float(a.item()),
    "item": lambda a: a.data.item(),
    **{op.name: _as_method(op) for op in (sum, mean, var, max, min, cumsum, clip, astype)},
    "reshape": lambda x, *shape: reshape(x, shape=_args(shape)),
    "transpose": lambda x, *axes: transpose(x, axes=_args(axes)),
    "T": property(lambda x: transpose(x)),
    "ravel": lambda x: reshape(x, shape=-1), "flatten": lambda x: reshape(x, shape=-1),
    "squeeze": squeeze, "swapaxes": swapaxes, "dot": dot,
}.items():
    setattr(Tensor, _name, _method)

# ------------------------------------------------------------------------------ NumPy's own names
# NumPy offers every call of its functions to the arguments' types first: ufuncs such as np.exp by
# `__array_ufunc__`, the others by `__array_function__`.


def _copied(key):
    """An index that stays as it is when its arrays or lists are changed afterwards."""
    if isinstance(key, tuple):
        return tuple(map(_copied, key))
    return key.copy() if hasattr(key, "copy") else key


def _euclidean(x, ord=None, axis=None, keepdims=False):
    if ord not in (None, 2, "fro") or (ord == 2 and axis is None and x.ndim > 1):
        raise TypeError(f"np.linalg.norm: only the Euclidean norm has an op, got ord={ord!r}")
    return norm(x, axis=axis, keepdims=keepdims)


def _constant_pad(array, pad_width, mode="constant", constant_values=0.0):
    if mode != "constant":
        raise TypeError(f"np.pad: only mode='constant' has an op (ops.pad), got {mode!r}")
    return pad(array, widths=pad_width, value=constant_values)


CONSTANT = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.sign,
            np.isfinite, np.isnan, np.isinf, np.floor, np.ceil, np.rint}    # locally: plain arrays
BY_NUMPY = {
    np.add: add, np.subtract: sub, np.multiply: mul, np.divide: div, np.negative: neg,
    np.power: pow, np.absolute: abs, np.square: lambda x: x * x, np.matmul: dot, np.dot: dot,
    np.linalg.norm: _euclidean, np.pad: _constant_pad, np.ravel: lambda a: a.ravel(),
    np.clip: lambda a, a_min=None, a_max=None, min=None, max=None: clip(
        a, low=min if a_min is None else a_min, high=max if a_max is None else a_max),
    np.swapaxes: lambda a, axis1, axis2: swapaxes(a, axis1, axis2),
    np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim, np.size: lambda a: a.size,
    **{getattr(np, name): globals()[name] for name in (
        "exp", "log", "log1p", "sqrt", "sin", "cos", "tanh", "maximum", "minimum", "where", "sum",
        "mean", "var", "max", "min", "cumsum", "reshape", "broadcast_to", "concatenate", "stack",
        "flip", "squeeze", "einsum", "transpose")},
}


def _by_numpy(function, args, kwargs):
    """The op for a call of one of NumPy's functions, or a TypeError that says what to use."""
    if function in CONSTANT:
        return function(*map(data_of, args), **kwargs)
    own, name = BY_NUMPY.get(function), function.__name__
    if own is None:
        hint = f"use ops.{name}" if name in globals() else "no op has this name; combine ops"
        raise TypeError(f"np.{name} does not record on the tape: {hint}, or take .data if no "
                        "gradient is wanted")
    try:
        return own(*args, **kwargs)
    except TypeError as e:
        raise TypeError(f"np.{name} of a Tensor: {e}") from e


class _ArrayUfunc:
    """`Tensor.__array_ufunc__`, seen by two readers.

    NumPy reads it off the class and calls it. CuPy reads it off an instance: None there says that
    `array * tensor` is to be left to the Tensor's own operators.
    """

    def __get__(self, instance, owner):
        return self if instance is None else None

    def __call__(self, tensor, ufunc, method, *args, **kwargs):
        own = BY_NUMPY.get(ufunc)
        if own is not None and method == "__call__" and not kwargs:
            return own(*args)
        if method != "__call__" or kwargs.get("out") is not None:
            raise TypeError(f"np.{ufunc.__name__}: a Tensor is not changed in place, and enters no "
                            "array in place (write a = a + t, not a += t); reductions have ops of "
                            "their own, such as ops.sum")
        return _by_numpy(ufunc, args, kwargs)


Tensor.__array_function__ = lambda self, function, types, args, kwargs: _by_numpy(
    function, args, kwargs)
Tensor.__array_ufunc__ = _ArrayUfunc()
