"""Functions that own their parameters: Module and Sequential.

A `Module` is a function that carries its parameters with it. It is any object with a `forward`
method; call the object to run it.

    class Net(Module):
        def __init__(self):
            self.gain = Parameter(np.ones(3, np.float32))
            self.blocks = {"a": Linear(3, 3), "b": [Linear(3, 3), Tanh()]}

        def forward(self, x):
            self.features = self.blocks["a"](x)
            return self.features * self.gain

Nothing is registered. Whoever asks for the parameters makes the Module look through its attributes:
Parameters are trained and saved, arrays are state, which is saved only, and Modules are parts, also
those in lists and dicts (attributes.py has the whole table).

What `forward` assigns is a result of the call, like `features` above. It is no state, unless the
attribute was state before the call.

State arrays are replaced by new ones and never changed in place. So a graph that was recorded with
the old array keeps the values it was computed with.
"""

import copy
import reprlib
from abc import ABCMeta
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .attributes import Parameter, Part, fitting, is_array, overwrite, parts, refuse_untrained
from .autograd import data_of, no_grad
from .backend import device_of, pick_device, to_device, to_host, xp

_phase = ContextVar("which method of a Module this thread is in: 'init', 'forward'", default=None)
_watcher = ContextVar("a function of (module, output), called after every Module", default=None)


class _Constructed(ABCMeta):
    """Notes for how long `__init__` runs. (From ABCMeta, so that a Module can be abstract, too.)"""

    def __call__(cls, *args, **kwargs):
        before = _phase.set("init")
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _phase.reset(before)


class Module(Part, metaclass=_Constructed):
    """Base of all layers and networks. Subclasses define `forward`; call the object to run it.

    A copy, a deep copy and an unpickled Module are Modules of their own: they share no parameter
    with the original.
    """

    training = True
    _results = frozenset()      # names of the arrays that `forward` assigned, which are no state

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if list(parts(name, value)):
                raise TypeError(f"{cls.__name__}.{name}: a class attribute would not be trained; "
                                f"assign it in __init__: self.{name} = ...")

    def __call__(self, *inputs, **options):
        before = _phase.set("forward")
        try:
            out = self.forward(*inputs, **options)
        finally:
            _phase.reset(before)
        watcher = _watcher.get()
        if watcher is not None:
            watcher(self, out)
        return out

    def __setattr__(self, name, value):
        results = self._results
        if _phase.get() != "forward":
            refuse_untrained(self, name, value, constructing=_phase.get() == "init")
            results = results - {name}
        elif is_array(value) and not self._is_state(name):
            results = results | {name}
        if results != self._results:
            super().__setattr__("_results", results)
        super().__setattr__(name, value)

    def _is_state(self, name):
        return is_array(vars(self).get(name)) and name not in self._results

    def __copy__(self):
        return copy.deepcopy(self)

    # ----------------------------------------------------------- what a Module holds

    def children(self):
        """(name, part) of every Module in an attribute, or in its lists, tuples and dicts."""
        return [(name, part) for attribute, value in vars(self).items()
                for name, part in parts(attribute, value) if isinstance(part, Module)]

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
        setattr(owner, attribute, array); a Parameter stays the same object, and its `data` is
        assigned. The order is that of definition. What is used in several places is listed once,
        under its first name. ValueError if two different ones would have the same name.
        """
        found = list(self._entries("", {id(self)}))
        names = [name for name, _, _ in found]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{type(self).__name__}: different parts have the same name {twice}; "
                             "use other keys in the dict")
        return found

    def _entries(self, prefix, seen):
        for attribute, value in vars(self).items():
            if self._is_state(attribute):
                yield prefix + attribute, self, attribute
            for name, part in parts(attribute, value):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                if isinstance(part, Module):
                    yield from part._entries(f"{prefix}{name}.", seen)
                else:
                    yield prefix + name, *((self, name) if part is value else (part, "itself"))

    def named_parameters(self):
        """{dotted name: Parameter}; one that is used in two places is listed once."""
        found = {name: getattr(owner, attribute) for name, owner, attribute in self.entries()}
        return {name: p for name, p in found.items() if isinstance(p, Parameter)}

    def parameters(self):
        """The list of Parameters, in the order of `named_parameters`."""
        return list(self.named_parameters().values())

    def buffers(self):
        """The list of state arrays, in the order of definition."""
        found = [getattr(owner, attribute) for _, owner, attribute in self.entries()]
        return [v for v in found if not isinstance(v, Parameter)]

    def name_parameters(self, prefix=""):
        """Give every Parameter its dotted name for messages, after a prefix; returns the Module."""
        for name, p in self.named_parameters().items():
            p.name = prefix + name
        return self

    # ----------------------------------------------------------- saving, moving

    def state_dict(self):
        """{dotted name: NumPy array}: copies of all parameters and state."""
        return {name: np.array(to_host(data_of(getattr(owner, attribute))))
                for name, owner, attribute in self.entries()}

    def load_state_dict(self, state):
        """Copy the arrays of a `state_dict` into this Module, converted to its types.

        All or nothing: ValueError if keys are missing or unexpected, if an array has another shape,
        or if it holds something else than numbers of that kind (text, objects, complex numbers).
        """
        who = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise ValueError(f"{who}: expected a dict of arrays, got {type(state).__name__}")
        entries = {name: (owner, attribute) for name, owner, attribute in self.entries()}
        missing = sorted(entries.keys() - state.keys())
        unexpected = sorted(state.keys() - entries.keys(), key=str)
        if missing or unexpected:
            raise ValueError(f"{who}: missing {missing}, unexpected {unexpected}")
        arrays = {name: fitting(f"{who}: {name}", state[name], getattr(owner, attribute))
                  for name, (owner, attribute) in entries.items()}
        for name, (owner, attribute) in entries.items():
            now = getattr(owner, attribute)
            if isinstance(now, Parameter):
                overwrite(now, arrays[name])
            else:
                setattr(owner, attribute, to_device(arrays[name], device_of(now)))

    def to(self, device):
        """Move all parameters and state to 'cpu', 'gpu' or 'auto', in place; returns the Module.

        Do so before making an optimiser. ValueError for another name, DeviceError without a GPU.
        """
        device, moved = pick_device(device), []
        for _, owner, attribute in self.entries():
            value = getattr(owner, attribute)
            moved.append((owner, attribute, value, to_device(data_of(value), device)))
        for owner, attribute, value, array in moved:
            if array is data_of(value):
                continue                        # it was there already
            if isinstance(value, Parameter):
                value.data = array
            else:
                setattr(owner, attribute, array)
        return self

    # ----------------------------------------------------------- training, evaluation

    def train(self, training=True):
        """Switch to training: BatchNorm uses the batch's statistics, Dropout drops.

        Returns the Module.
        """
        for m in self.modules():
            m.training = training
        return self

    def eval(self):
        """Switch to evaluation: BatchNorm uses its running averages, Dropout does nothing.

        Returns the Module.
        """
        return self.train(False)

    @contextmanager
    def evaluating(self):
        """Within `with module.evaluating():` it is in evaluation mode.

        Afterwards, also after an error, every part has the mode back that it had: one that was
        frozen by `eval` stays frozen. The mode belongs to the Module and not to a thread, so a
        thread that trains the same Module at that time finds it in evaluation mode: give each
        thread a copy.
        """
        modes = [(m, m.training) for m in self.modules()]
        try:
            yield self.eval()
        finally:
            for m, training in modes:
                m.training = training

    # ----------------------------------------------------------- showing

    def describe(self):
        """What `repr` shows between the parentheses."""
        return ""

    @reprlib.recursive_repr()
    def __repr__(self):
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ")
                 for name, child in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else self.describe()
        return f"{type(self).__name__}({body})"


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


# ------------------------------------------------------------------- a table of a network


@contextmanager
def watching(function):
    """Within `with watching(f):` f(module, output) is called after every Module of this thread."""
    before = _watcher.set(function)
    try:
        yield
    finally:
        _watcher.reset(before)


def summary(module, shape):
    """A table of a network's layers, with output shapes and parameter counts, for (N, *shape).

    Runs one batch of two zeros in evaluation mode, so nothing changes.
    """
    rows = [("layer", "output", "parameters")]
    first = next(iter(module.parameters()), None)
    module_of = np if first is None else xp(first.data)
    zeros = module_of.zeros((2, *shape), dtype=np.float32 if first is None else first.dtype)

    def watch(m, out):
        if not m.children():
            outs = out if isinstance(out, (tuple, list)) else [out]
            shapes = [str(("N", *o.shape[1:])).replace("'", "") for o in outs]
            rows.append((repr(m), " ".join(shapes), f"{sum(p.size for p in m.parameters()):,}"))
    with module.evaluating(), watching(watch), no_grad():
        module(zeros)
    rows.append(("total", "", f"{sum(p.size for p in module.parameters()):,}"))
    a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(f"{row[0]:<{a}}  {row[1]:<{b}}  {row[2]:>{c}}" for row in rows)
