"""Functions that own their parameters: Parameter, Module, Sequential.

A `Module` is any object with a `forward` method; call the object to run it. Nothing is registered:
whoever asks for the parameters makes the Module look through its attributes.

    what an attribute holds                 what that means
    a Parameter                             trained and saved
    a Module                                a part: all that it holds counts as well
    a list, tuple or dict of these          the same, by names like blocks.a.0.weight, nested or not
    an array                                state: saved, not trained (BatchNorm's averages)
    anything else                           a setting, neither trained nor saved; what only looks
                                            trained is refused: a bare Tensor, a set of layers

What `forward` assigns (self.features = h) is a result of the call: it may be a Tensor, and it is no
state unless it was state before. State arrays are replaced by new ones and never changed in place.
So a graph that was recorded with the old array keeps the values it was computed with.
"""

import copy
import math
import reprlib
from collections import deque
from collections.abc import Mapping, Set, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .autograd import Tensor, data_of
from .backend import device_of, pick_device, to_device, to_host
from .randomness import rng

_running = ContextVar("the Module whose forward this thread runs", default=None)
_watcher = ContextVar("a function of (module, output), called after every Module", default=None)


class Parameter(Tensor):
    """A Tensor that a Module trains."""

    __slots__ = ()
    itself = property(lambda self: self)        # Module.entries uses it for one in a list


def uniform(shape, fan_in, name=None):
    """A Parameter uniform in ±1/√fan_in: PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng("init").uniform(-bound, bound, shape).astype(np.float32), name)


class Module:
    """Base of all layers and networks. Subclasses define `forward`; call the object to run it.

    A copy, a deep copy and an unpickled Module share no parameter with the original.
    """

    training = True
    _state = frozenset()                        # names of the attributes that are state

    def __call__(self, *inputs, **options):
        before = _running.set(self)
        try:
            out = self.forward(*inputs, **options)
        finally:
            _running.reset(before)
        watcher = _watcher.get()
        if watcher is not None:
            watcher(self, out)
        return out

    def __setattr__(self, name, value):
        running = _running.get()            # what it gives itself or a part of it is a result
        if running is None or running is not self and self not in running.modules():
            _refuse_untrained(f"{type(self).__name__}.{name}", value)
            if _is_array(value):
                super().__setattr__("_state", self._state | {name})
        super().__setattr__(name, value)

    def __copy__(self):
        return copy.deepcopy(self)

    def children(self):
        """(name, part) of every Module in an attribute, or in its lists, tuples and dicts."""
        return [(name, part) for attribute, value in vars(self).items()
                for name, part in _parts(attribute, value) if isinstance(part, Module)]

    def modules(self):
        """This Module and all below it, each once."""
        found, todo = {}, [self]
        while todo:
            module = todo.pop()
            if id(module) not in found:
                found[id(module)] = module
                todo.extend(child for _, child in reversed(module.children()))
        return list(found.values())

    def entries(self):
        """The list of (dotted name, owner, attribute) of every Parameter and state array.

        getattr(owner, attribute) is the Parameter or the array. A state array is replaced by
        setattr(owner, attribute, array); a Parameter stays, and its `data` is assigned. The order
        is that of definition. What is used in several places is listed once, by its first name.
        """
        return list(self._entries("", {id(self)}))

    def _entries(self, prefix, seen):
        for attribute, value in vars(self).items():
            if attribute in self._state and _is_array(value):
                yield prefix + attribute, self, attribute
            for name, part in _parts(attribute, value):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                if isinstance(part, Module):
                    yield from part._entries(f"{prefix}{name}.", seen)
                else:       # a Parameter in a container is nobody's attribute: its own owner
                    yield prefix + name, *((self, name) if part is value else (part, "itself"))

    def named_parameters(self):
        """{dotted name: Parameter}; one that is used in two places is listed once."""
        return {name: p for name, owner, attribute in self.entries()
                if isinstance(p := getattr(owner, attribute), Parameter)}

    def parameters(self):
        """The list of Parameters, in the order of `named_parameters`."""
        return list(self.named_parameters().values())

    def buffers(self):
        """The list of state arrays, in the order of definition."""
        return [v for _, owner, attribute in self.entries()
                if not isinstance(v := getattr(owner, attribute), Parameter)]

    def name_parameters(self, prefix=""):
        """Give every Parameter its dotted name for messages, after a prefix; returns the Module."""
        for name, p in self.named_parameters().items():
            p.name = prefix + name
        return self

    def state_dict(self):
        """{dotted name: NumPy array}: copies of all parameters and state."""
        return {name: np.array(to_host(data_of(getattr(owner, attribute))))
                for name, owner, attribute in self.entries()}

    def load_state_dict(self, state):
        """Copy the arrays of a `state_dict` into this Module, converted to its types.

        All or nothing: ValueError if keys are missing or unexpected, if an array has another shape,
        or if it holds something else than numbers of that kind (text, objects, complex numbers).
        """
        who, entries = f"{type(self).__name__}.load_state_dict", self.entries()
        if not isinstance(state, Mapping):
            raise ValueError(f"{who}: expected a dict of arrays, got {type(state).__name__}")
        names, arrays = {name for name, _, _ in entries}, []
        if names != state.keys():
            raise ValueError(f"{who}: missing {sorted(names - state.keys())}, "
                             f"unexpected {sorted(state.keys() - names, key=str)}")
        for name, owner, attribute in entries:
            now, new = getattr(owner, attribute), np.asarray(to_host(data_of(state[name])))
            if not np.can_cast(new.dtype, now.dtype, "same_kind"):
                raise ValueError(f"{who}: {name} holds {new.dtype}, expected numbers that fit "
                                 f"{now.dtype}")
            if new.shape != now.shape:
                raise ValueError(f"{who}: {name} has shape {new.shape}, expected {now.shape}")
            arrays.append(to_device(new.astype(now.dtype), device_of(data_of(now))))
        for (_, owner, attribute), array in zip(entries, arrays, strict=True):
            _replace(owner, attribute, array)

    def to(self, device):
        """Move all parameters and state to 'cpu', 'gpu' or 'auto', in place; returns the Module.

        Do so before making an optimiser. ValueError for another name, DeviceError without a GPU.
        """
        device = pick_device(device)
        for _, owner, attribute in self.entries():
            now = data_of(getattr(owner, attribute))
            if device_of(now) != device:
                _replace(owner, attribute, to_device(now, device))
        return self

    def train(self, training=True):
        """Training mode: BatchNorm uses the batch, Dropout drops. Returns the Module."""
        for m in self.modules():
            m.training = training
        return self

    def eval(self):
        """Evaluation: BatchNorm uses its averages, Dropout does nothing. Returns the Module."""
        return self.train(False)

    @contextmanager
    def evaluating(self):
        """Within `with module.evaluating():` it is in evaluation mode.

        Afterwards, also after an error, every part has the mode back that it had: one that was
        frozen by `eval` stays frozen. The mode belongs to the Module and not to a thread.
        """
        modes = [(m, m.training) for m in self.modules()]
        try:
            yield self.eval()
        finally:
            for m, training in modes:
                m.training = training

    @reprlib.recursive_repr()
    def __repr__(self):
        name, parts, shown = type(self).__name__, self.children(), []
        if parts:
            lines = [f"({n}): {part!r}".replace("\n", "\n  ") for n, part in parts]
            return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
        for n, value in vars(self).items():             # numbers, and tuples of integers by name
            if isinstance(value, (int, float)) and n != "training":
                shown.append(str(value))
            elif isinstance(value, tuple) and all(isinstance(i, int) for i in value):
                shown.append(f"{n} {'x'.join(map(str, value))}")
        return f"{name}({', '.join(shown)})"


def _is_array(value):
    """Whether a value is an array of numbers. A NumPy number is none, and text is a setting."""
    return (hasattr(value, "dtype") and hasattr(value, "__setitem__")
            and not isinstance(value, Tensor) and value.dtype.kind in "biufc")


def _parts(name, value):
    """(name, part) of each Module and Parameter: the value itself, or those in containers."""
    if isinstance(value, (Module, Parameter)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _parts(f"{name}.{key}", inner)


def _refuse_untrained(who, value):
    """TypeError for what looks trained and would not be: a bare Tensor, a set of layers."""
    if isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_untrained(who, inner)
    elif isinstance(value, (Set, ValuesView, deque)):
        if any(_parts("", list(value))):
            raise TypeError(f"{who}: what is inside a {type(value).__name__} is not found and "
                            "would not be trained; keep it in a list, a tuple or a dict")
    elif isinstance(value, Tensor) and not isinstance(value, Parameter):
        raise TypeError(f"{who}: a bare Tensor is neither trained nor saved; make it a Parameter "
                        "to train it, an array to save it as state, or assign it in forward")


def _replace(owner, attribute, array):
    """Put another array in the place of an entry's."""
    value = getattr(owner, attribute)
    if isinstance(value, Parameter):
        value.data = array
    else:
        setattr(owner, attribute, array)


@contextmanager
def watching(function):
    """Within `with watching(f):` f(module, output) is called after every Module of this thread."""
    before = _watcher.set(function)
    try:
        yield
    finally:
        _watcher.reset(before)


class Sequential(Module):
    """One layer after the other: y = layerₙ(... layer₁(x)). Index and slice it like a list.

    A slice is a Sequential that shares the layers: D[:-1] gives the features before D's last layer.
    The layers are the attributes named 0, 1, ...; others are parts that `forward` does not run.
    """

    def __init__(self, *layers):
        for layer in layers:
            self.append(layer)

    def append(self, layer):
        """Add a layer at the end; returns the Sequential."""
        if not isinstance(layer, Module):
            raise TypeError(f"{type(self).__name__}: layer {len(self)} must be a Module, "
                            f"got {layer!r}")
        setattr(self, str(len(self)), layer)
        return self

    def _layers(self):
        return [layer for name, layer in vars(self).items() if name.isdigit()]

    def __getitem__(self, i):
        if not isinstance(i, slice):
            return self._layers()[i]
        part = Sequential(*self._layers()[i])
        part.training = self.training
        return part

    def __iter__(self):
        return iter(self._layers())

    def __len__(self):
        return len(self._layers())

    def forward(self, x):
        for layer in self._layers():
            x = layer(x)
        return x
