"""The tape: Tensors that remember what they were computed from, and ops that write the memory.

See autograd.py for the ideas; it walks the tape that is written here.
"""

import inspect
import itertools
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter

import numpy as np

from .backend import to_host, xp
from .shortcuts import Definition

_numbers = itertools.count()
_recording = ContextVar("whether ops record on the tape", default=True)     # a matter of the thread
NUMBERS = {int, float, bool}
UNRECORDED = "computed within no_grad()"


class Tensor:
    """An array and its place on the tape.

    data: an array of floating-point numbers, or a list or Python number (then float32). It is
    copied, so that changing the original later changes nothing here. TypeError for anything else.

    Assigning to `t.data` (also `t.data -= ...`) marks the Tensor as changed: what was computed from
    its old value then refuses to be differentiated. Changing single elements (`t.data[0] = ...`)
    goes unnoticed; call `t.touch()` after it. A copy, a deep copy and an unpickled Tensor are new
    Tensors of the same value, without a history.

    The operators, `sum`, `reshape` and the other methods are attached by ops.py.
    """

    __slots__ = ("_data", "number", "op", "args", "kwargs", "saved", "name", "__weakref__")

    def __init__(self, data, name=None):
        if isinstance(data, Tensor):
            raise TypeError("Tensor: got a Tensor; it already is one (use its .data to start a new "
                            "graph)")
        self._data, self.name = _floats("Tensor", data).copy(), name
        self.number = next(_numbers)
        self.op = None

    data = property(attrgetter("_data"))

    @data.setter
    def data(self, value):
        if not hasattr(value, "dtype"):
            raise TypeError(f"Tensor.data: expected an array, got {type(value).__name__}")
        self._data = _floats("Tensor.data", value)
        self.touch()

    def touch(self):
        """Say that the data changed: the Tensor becomes younger than all that was made from it."""
        self.number = next(_numbers)

    shape = property(attrgetter("_data.shape"))
    dtype = property(attrgetter("_data.dtype"))
    ndim = property(attrgetter("_data.ndim"))
    size = property(attrgetter("_data.size"))

    def __repr__(self):
        values = np.array2string(to_host(self._data), separator=", ", prefix="Tensor(")
        made = f", from {self.op.name}" if self.op else f", {self.name}" if self.name else ""
        return f"Tensor({values}{made})"

    def __array__(self, *args, **kwargs):
        raise TypeError("a Tensor does not turn into a NumPy array by itself, since that would "
                        "drop it from the tape: take its .data, or use the op of the same name "
                        "from tinygan.ops")

    def __reduce__(self):                   # for copy, deepcopy and pickle
        return type(self), (self._data, self.name)

    def parents(self):
        """(position, Tensor) of every argument that is a Tensor and has a rule."""
        if self.op is None:
            return ()
        return [(i, a) for i, a in enumerate(self.args)
                if isinstance(a, Tensor) and self.op.differentiable(i)]


def _floats(who, data):
    """data as an array of floating-point numbers. Lists and plain numbers become float32."""
    if type(data) is not np.ndarray and xp(data) is np:
        if data is None:
            raise TypeError(f"{who}: expected numbers, got None")
        data = np.asarray(data, dtype=None if hasattr(data, "dtype") else np.float32)
    if data.dtype.kind != "f":
        raise TypeError(f"{who}: expected floating-point data, got {data.dtype}; a derivative "
                        "needs real numbers, so convert first: x.astype('float32')")
    return data


def data_of(x):
    """The array of a Tensor; anything else as it is. For the constant parts of a rule (masks)."""
    return x._data if isinstance(x, Tensor) else x


@contextmanager
def no_grad():
    """Inside `with no_grad():` ops compute values and remember nothing: sampling and evaluation.

    It holds for this thread alone: another one that trains at the same time goes on recording.
    """
    before = _recording.get()
    _recording.set(False)
    try:
        yield
    finally:
        _recording.set(before)


class Op(Definition):
    """A differentiable function: `forward` on plain arrays and one rule per positional argument.

    Positional arguments are differentiable (a rule of None says that one is not, like the condition
    of `where`); keyword arguments are static. A rule is called as rule(g, y, *args, **kwargs), with
    g = ȳ and all keyword arguments, and returns that argument's share of the gradient. It may use
    operators, the methods that arrays and Tensors share, and other ops, so that it works in both
    readings. It may return the share before summing over axes along which the argument was
    broadcast, and in another floating-point type: the engine corrects both.

    A caller may give static arguments by position too, after the others, and the arguments of an op
    that takes any number of them as one list: `sum(x, 0)`, `concatenate([a, b], 1)`, as in NumPy.
    Among the arguments the Tensors' type rules: constants are converted to it, and copied, because
    the tape may need them after the caller has changed them.
    """

    def __init__(self, forward):
        super().__init__(forward.__name__)
        self.forward, self.__doc__, self.__name__ = forward, forward.__doc__, forward.__name__
        self.__wrapped__ = forward
        self.rules = self.each = None
        parameters = inspect.signature(forward).parameters.values()
        many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.statics = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.arity = None if many else len(parameters) - len(self.statics)     # None: any number

    def vjps(self, *rules, each=None):
        """State the rules, in the order of the arguments.

        An op with any number of arguments gives one rule for all: `each(i, g, y, *args)`.
        """
        if each is None and len(rules) != self.arity:
            raise TypeError(f"{self.name}.vjps: expected {self.arity} rules, one per positional "
                            f"argument (None where it has no derivative), got {len(rules)}")
        self.rules, self.each = rules, each

    def differentiable(self, i):
        """Whether argument i has a rule."""
        if self.rules is None:
            raise TypeError(f"{self.name} has no rules yet; state them with {self.name}.vjps(...)")
        return self.each is not None or self.rules[i] is not None

    def rule(self, i):
        """The rule of argument i."""
        if self.each is None:
            return self.rules[i]
        return lambda *args, **kwargs: self.each(i, *args, **kwargs)

    def __call__(self, *args, **kwargs):
        if self.arity is None or len(args) > self.arity:
            args, kwargs = self._sorted(args, kwargs)
        raw, tensors, constants = [], False, False
        for a in args:
            if isinstance(a, Tensor):
                a, tensors = a._data, True
            elif type(a) not in NUMBERS:                # a plain number yields to the Tensor's type
                constants = True
            raw.append(a)
        if not tensors:
            return self.compute(raw, kwargs)[0]
        if constants:
            args, raw = self._with_constants(args)
        y, saved = self.compute(raw, kwargs)
        if type(y) is not np.ndarray or y.dtype.kind != "f":
            y = _floats(self.name, y)                   # a sum over everything is a NumPy number
        out = Tensor.__new__(Tensor)                    # without the copy that __init__ makes
        out._data, out.number = y, next(_numbers)
        if _recording.get():
            out.op, out.args, out.saved, out.name = self, args, saved, None
            out.kwargs = {**self.statics, **kwargs} if self.statics else kwargs
        else:
            out.op, out.name = None, UNRECORDED
        return out

    def compute(self, raw, kwargs):
        """(y, saved) for arrays: by a shortcut if there is one, else by the definition."""
        if self.shortcuts:
            forward = self.faster("forward", raw)
            done = forward and forward(*raw, **kwargs)
            if done:
                return done
        return self.forward(*raw, **kwargs), None

    def _sorted(self, args, kwargs):
        """Positional arguments apart from static ones, if these were given by position too."""
        if self.arity is None:
            listed = len(args) > 0 and isinstance(args[0], (list, tuple))
            args, rest = (tuple(args[0]), args[1:]) if listed else (args, ())
        else:
            args, rest = args[:self.arity], args[self.arity:]
        named = dict(zip(self.statics, rest, strict=False))
        if len(rest) > len(self.statics) or named.keys() & kwargs.keys():
            raise TypeError(f"{self.name}: takes {self.arity or 'any number of'} argument(s), then "
                            f"{', '.join(self.statics) or 'nothing'}; got {len(rest)} more, and "
                            f"{', '.join(kwargs) or 'nothing'} by name")
        return args, {**named, **kwargs}

    def _with_constants(self, args):
        """The arguments and their arrays, every constant in the Tensors' type and copied."""
        types = [a._data.dtype for a in args if isinstance(a, Tensor)]
        args, dtype = list(args), types[0] if len(types) == 1 else np.result_type(*types)
        for i, a in enumerate(args):
            if isinstance(a, np.generic):
                args[i] = a.item()
            elif not isinstance(a, Tensor):
                a = np.asarray(a) if isinstance(a, (list, tuple)) else a
                if hasattr(a, "dtype"):
                    numbers = a.dtype.kind in "fiu" and self.differentiable(i)
                    args[i] = a.astype(dtype) if numbers else a.copy()
        return args, [a._data if isinstance(a, Tensor) else a for a in args]

    def __repr__(self):
        return f"<op {self.name}>"


op = Op             # as a decorator of a function on arrays, whose rules follow with .vjps(...)


@op
def unbroadcast(g, *, shape):
    """Sum g over the axes along which an argument of this shape was broadcast.

    Broadcasting copies an element to many places; its gradient is the sum over all of them. The
    rule stands in shapes.py, beside its twin `broadcast_to`.
    """
    extra = g.ndim - len(shape)
    if extra < 0:
        raise ValueError(f"a rule returned a share of shape {g.shape} for an argument of {shape}")
    axes = tuple(i for i in range(g.ndim) if i < extra or shape[i - extra] == 1 != g.shape[i])
    return g.sum(axis=axes).reshape(shape)
