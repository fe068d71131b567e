"""What the attributes of a Module mean: which are trained, which are saved, which are refused.

    what an attribute holds                 what that means
    a Parameter                             trained and saved
    a Module                                a part: all that it holds counts as well
    a list, tuple or dict of these          the same, by names like blocks.a.0.weight, nested or not
    an array                                state: saved, not trained (BatchNorm's averages)
    anything else                           a setting, neither trained nor saved

Assigning something that would look trained and would not be, such as a set of layers or a bare
Tensor in `__init__`, raises a TypeError.
"""

import functools
import types
from collections import deque
from collections.abc import Set, ValuesView

import numpy as np

from .autograd import Tensor, data_of
from .backend import device_of, to_device, to_host


class Parameter(Tensor):
    """A Tensor that a Module trains."""

    __slots__ = ()
    itself = property(lambda self: self)        # Module.entries uses it for one in a list


class Part:
    """What is looked for in attributes besides Parameters: the base of Module."""


def is_array(value):
    """Whether a value is an array of numbers. A NumPy number is none, and text is a setting."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return (kind in ("b", "i", "u", "f", "c") and hasattr(value, "__setitem__")
            and not isinstance(value, Tensor))


def parts(name, value, around=()):
    """(name, part) of each Module and Parameter: the value itself, or those in containers.

    `around` are the containers that we are in. They are not entered again, should one hold itself.
    """
    if isinstance(value, (Part, Parameter)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)) and not any(value is outer for outer in around):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts(f"{name}.{key}", inner, (*around, value))


def _contents(value):
    """(what can be seen inside a value, whether `parts` finds it there)."""
    if isinstance(value, (list, tuple)):
        return value, True
    if isinstance(value, dict):
        return value.values(), True
    if isinstance(value, (Set, ValuesView, deque)):
        return value, False
    if isinstance(value, np.ndarray):
        return value.flat if value.dtype == object else (), False
    if isinstance(value, types.MethodType):
        return [value.__self__], False
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()], False
    if isinstance(value, (type, types.FunctionType, types.ModuleType)):
        return (), False
    return getattr(value, "__dict__", {}).values(), False


def refuse_untrained(module, name, value, constructing):
    """TypeError if a value holds Modules or Tensors that look trained and would not be.

    constructing: whether `__init__` runs, when a bare Tensor is taken for a mistake.
    """
    who = f"{type(module).__name__}.{name}"
    seen, todo = {}, [(value, True, "")]        # (object, whether it is found, what it lies in)
    while todo:
        v, found, place = todo.pop()
        if isinstance(v, (Part, Parameter)):
            if not found and not _belongs(v, module):
                raise TypeError(f"{who}: a {type(v).__name__} inside a {place} is not found "
                                "and would not be trained; keep it in an attribute, a list, a "
                                "tuple or a dict")
        elif isinstance(v, Tensor):
            if found and constructing:
                raise TypeError(f"{who}: a bare Tensor is neither trained nor saved; make it a "
                                "Parameter to train it, or an array to save it as state")
        elif isinstance(v, (map, filter, zip)) or getattr(v, "__name__", "") == "<genexpr>":
            raise TypeError(f"{who}: what a {type(v).__name__} brings is not found and would not "
                            "be trained; make it a list: list(...)")
        elif id(v) not in seen:
            seen[id(v)] = v                     # kept, so that no other object gets its id
            inside, findable = _contents(v)
            todo += [(x, found and findable, type(v).__name__) for x in inside]
            if isinstance(v, dict):
                todo += [(key, False, "dict as a key") for key in v]


def _belongs(part, module):
    """Whether a part is found elsewhere in the module, as the parameters of its optimiser are."""
    return any(part is known for known in (*module.modules(), *module.parameters()))


def overwrite(parameter, values):
    """Change a Parameter's numbers in place, since an optimiser holds views of the array."""
    parameter.data[...] = to_device(values, device_of(parameter.data))
    parameter.touch()


def fitting(what, value, like):
    """A new array with a value's numbers in the shape and type of `like`, or a ValueError."""
    try:
        a = np.asarray(to_host(data_of(value)))
    except (TypeError, ValueError) as e:
        raise ValueError(f"{what} is no array ({e})") from None
    if not np.can_cast(a.dtype, like.dtype, "same_kind"):
        raise ValueError(f"{what} holds {a.dtype}, expected numbers that fit {like.dtype}")
    if a.shape != like.shape:
        raise ValueError(f"{what} has shape {a.shape}, expected {like.shape}")
    with np.errstate(over="ignore"):
        new = a.astype(like.dtype)
    if not np.array_equal(np.isfinite(new), np.isfinite(a)):
        raise ValueError(f"{what} holds numbers that are too large for {like.dtype}")
    return new
