"""Reverse-mode automatic differentiation: the whole engine.

Calling an op on Tensors computes its value and remembers what it was computed from. That memory is the *tape*: every Tensor
knows the op that made it and the arguments it was made from, which are older Tensors. `grad` walks the tape from the newest
Tensor to the oldest and applies the chain rule at each step.

For y = f(a, b, ...) and a scalar loss L, write ȳ = ∂L/∂y. An op supplies one rule per argument that turns ȳ into that argument's
share, ā = ȳ ∂y/∂a (a vector-Jacobian product, "vjp"). Where a Tensor is used several times its shares add up.

Three ideas keep this file short:

1. Creation order is a topological order. Tensors are numbered as they are made and arguments are always older than results, so
   "newest first" visits every Tensor after all its uses. No recursion, and a graph 10,000 deep is no special case.
2. Every rule is read in two ways. Given arrays it computes arrays: a plain backward pass that records nothing. Given Tensors
   (`create_graph=True`) the same line records itself, so that gradients can be differentiated again, to any order.
3. Only paths that lead from the loss to what was asked for are walked. Training a generator through a discriminator never
   computes the discriminator's weight gradients; there is no `.grad`, nothing to zero and nothing to detach.
"""

import inspect
import itertools
from contextlib import contextmanager

import numpy as np

from .backend import xp

_numbers = itertools.count()
_recording = True


class Tensor:
    """An array and its place on the tape.

    `data` is the NumPy or CuPy array (floating point; float32 unless it already is a float array of another kind). Assigning to it
    (also `t.data -= ...`) marks the Tensor as changed: what was computed from its old value then refuses to be differentiated.
    Changing elements (`t.data[0] = ...`) goes unnoticed; call `touch()` after it.
    Operators, `sum`, `reshape` and the other methods are attached by `ops`.
    """

    __slots__ = ("_data", "number", "op", "args", "kwargs", "saved", "name", "__weakref__")
    __array_ufunc__ = None      # NumPy then leaves `array * tensor` to us instead of working through the elements

    def __init__(self, data, name=None):
        if isinstance(data, Tensor):
            raise TypeError("Tensor: got a Tensor; it already is one (use its .data to start a new graph)")
        if type(data) is not np.ndarray and xp(data) is np:
            data = np.asarray(data, dtype=None if hasattr(data, "dtype") else np.float32)
        if data.dtype.kind != "f":
            raise TypeError(f"Tensor: expected floating-point data, got {data.dtype}; "
                            "a derivative needs real numbers, so convert first: x.astype('float32')")
        self._data, self.name = data, name
        self.number = next(_numbers)
        self.op = None

    @property
    def data(self):
        return self._data

    @data.setter
    def data(self, value):
        self._data = value
        self.touch()

    def touch(self):
        """Say that the data were changed in place. The Tensor becomes younger than everything computed from its old value."""
        self.number = next(_numbers)

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)

    def __len__(self):
        return len(self._data)

    def __float__(self):
        return float(self._data.item())

    def __bool__(self):
        return bool(self._data)

    def item(self):
        """The value of a one-element Tensor as a Python number."""
        return self._data.item()

    def __repr__(self):
        made = f", from {self.op.name}" if self.op else f", {self.name}" if self.name else ""
        return f"Tensor({np.array2string(np.asarray(self._data), separator=', ', prefix='Tensor(')}{made})" \
            if xp(self._data) is np else f"Tensor({self._data!r}{made})"

    def __array__(self, *args, **kwargs):
        raise TypeError("a Tensor does not turn into a NumPy array by itself, since that would drop it from the tape: "
                        "take its .data, or use the op of the same name from tinygan.ops")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(f"np.{func.__name__} does not record on the tape: use tinygan.ops.{func.__name__} "
                        "(or .data, if no gradient is wanted)")

    def _parents(self):
        """(position, Tensor) of every argument that is a Tensor and has a rule."""
        if self.op is None:
            return ()
        return [(i, a) for i, a in enumerate(self.args) if isinstance(a, Tensor) and self.op.has_rule(i)]


def data_of(x):
    """The array of a Tensor; anything else as it is. For the parts of a rule that are constants, such as masks."""
    return x._data if isinstance(x, Tensor) else x


@contextmanager
def no_grad():
    """Inside `with no_grad():` ops compute values and remember nothing: for sampling and evaluation."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


class Op:
    """A differentiable function: `forward` on plain arrays and one rule per positional argument.

    Positional arguments are differentiable (a rule of `None` says that one is not, like the condition of `where`); keyword
    arguments are static. A rule is called as rule(g, y, *args, **kwargs), with g = ȳ and all keyword arguments (one left out has
    forward's default), and returns that argument's share of the gradient. It may use operators, the methods that arrays and Tensors
    share, and other ops, so that it works in both readings. It may return the share before summing over axes along which the
    argument was broadcast: the engine does that.
    """

    def __init__(self, forward):
        self.forward = forward
        self.name = forward.__name__
        self.__doc__ = forward.__doc__
        self.__name__ = self.name
        self.__wrapped__ = forward
        self.rules, self.each, self.fast = (), None, None
        self.defaults = {p.name: p.default for p in inspect.signature(forward).parameters.values()
                         if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def vjps(self, *rules, each=None):
        """State the rules, in the order of the arguments; an op with any number of arguments gives one `each(i, g, y, *args)`."""
        self.rules, self.each = rules, each

    def fast_vjp(self, function):
        """A shortcut for the plain reading: function(g, y, saved, wanted, *args, **kwargs) → one share per argument.

        For ops whose rules share work, or can reuse what the forward pass had at hand: their forward returns (y, saved).
        `wanted[i]` says whether share i is needed. The rules stay the definition; the tests hold every shortcut to them.
        """
        self.fast = function
        return function

    def has_rule(self, i):
        if self.each is not None:
            return True
        if i >= len(self.rules):
            raise TypeError(f"{self.name}: argument {i} has no rule; state one with {self.name}.vjps(...), "
                            "or pass the argument by keyword if it is static")
        return self.rules[i] is not None

    def rule(self, i):
        return self.rules[i] if self.each is None else lambda *args, **kwargs: self.each(i, *args, **kwargs)

    def __call__(self, *args, **kwargs):
        raw, tracked = [], False
        for a in args:
            if isinstance(a, Tensor):
                tracked = True
                a = a._data
            raw.append(a)
        y = self.forward(*raw, **kwargs)
        saved = None
        if self.fast is not None:
            y, saved = y
        if not tracked:
            return y
        out = Tensor.__new__(Tensor)        # skips __init__'s checks: a forward pass returns a floating-point array
        out._data, out.name, out.op = y, None, None
        out.number = next(_numbers)
        if _recording:
            out.op, out.args, out.kwargs, out.saved = self, args, {**self.defaults, **kwargs}, saved
        return out

    def __repr__(self):
        return f"<op {self.name}>"


def op(forward):
    """Decorator: make an `Op` of a function on arrays. Its rules follow with `.vjps(...)`."""
    return Op(forward)


def unbroadcast(g, shape):
    """Sum g over the axes along which an argument of this shape was broadcast, so that the result has that shape.

    Broadcasting copies an element to many places; its gradient is the sum over all of them.
    """
    if g.shape == shape:
        return g
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    if axes and len(shape) <= 1 < g.ndim and not isinstance(g, Tensor) and axes == tuple(range(g.ndim - 1)):
        g = sum_rows(g)
    elif axes:
        g = g.sum(axis=axes)
    return g.reshape(shape)


def sum_rows(x):
    """The array x (..., C) summed over all axes but the last, as a product with a vector of ones.

    NumPy's own sum runs on one core and, for few channels, in short loops: three times slower for (64, 14, 14, 64)
    (benchmarks/tricks.py).
    """
    c = x.shape[-1]
    if x.size == 0:
        return xp(x).zeros(c, dtype=x.dtype)
    wide = x.reshape(-1, c if x.ndim < 3 else x.shape[-2] * c)             # long rows, several pixels each
    return (xp(x).ones(len(wide), dtype=x.dtype) @ wide).reshape(-1, c).sum(axis=0)


def _changed_argument(t):
    """An argument of t, or something it is a view of, that was changed in place after t was computed; None if there is none."""
    todo = list(t.args)
    while todo:
        a = todo.pop()
        if isinstance(a, Tensor):
            if a.number > t.number:             # changing a Tensor renumbers it: an argument younger than its result
                return a
            if a.op is not None and a._data.base is not None:
                todo.extend(a.args)
    return None


def grad(y, wrt, cotangent=None, create_graph=False):
    """The gradient of y with respect to one Tensor or a list of Tensors.

    y: a scalar Tensor, or one of any shape together with `cotangent`, an array of y's shape (the result is then Σ ȳ ∂y/∂w).
    Returns one array per Tensor of `wrt`, in its shape; with `create_graph=True` Tensors that can be differentiated again.
    A list gives a list, a single Tensor a single gradient.

    Raises ValueError if y is no scalar and has no cotangent, if y does not depend on something in `wrt`, or if a Tensor on the
    way was changed (say, by an optimiser) after y was computed from it.
    """
    if isinstance(wrt, Tensor):
        return grad(y, [wrt], cotangent, create_graph)[0]
    targets = list(wrt)
    if not isinstance(y, Tensor) or not all(isinstance(t, Tensor) for t in targets):
        raise TypeError("grad: expected a Tensor and the Tensors to differentiate by; wrap inputs first: x = Tensor(array)")
    if cotangent is None:
        if y.size != 1:
            raise ValueError(f"grad: y has shape {y.shape}, so it has no single gradient; "
                             "reduce it with .sum() or .mean(), or pass cotangent=")
        cotangent = xp(y._data).ones_like(y._data)
    elif cotangent.shape != y.shape:
        raise ValueError(f"grad: cotangent has shape {cotangent.shape}, expected y's shape {y.shape}")

    # 1. What is on the tape between y and the targets? `leads` are the Tensors through which a target is reached.
    wanted = {t.number for t in targets}
    oldest = min(wanted, default=0)
    reached, parents, todo = {}, {}, [y]
    while todo:
        t = todo.pop()
        if t.number in reached or t.number < oldest:
            continue
        reached[t.number] = t
        parents[t.number] = t._parents()
        todo.extend(p for _, p in parents[t.number])
    leads = set(wanted)
    for n in sorted(reached):
        if any(p.number in leads for _, p in parents[n]):
            leads.add(n)
            changed = _changed_argument(reached[n])
            if changed is not None:
                raise ValueError(f"grad: {changed.name or 'a Tensor'} of shape {changed.shape} was changed after it was used in "
                                 f"{reached[n].op.name}; compute the loss again after an update, "
                                 "or take the gradient before it")

    # 2. Newest first: when a Tensor's turn comes, all its uses have already added their share to its gradient.
    grads, result = {y.number: cotangent}, {}
    for n in sorted(leads & reached.keys(), reverse=True):
        t, g = reached[n], grads.pop(n)
        if n in wanted:
            result[n] = g
        shares = [(i, p) for i, p in parents[n] if p.number in leads]
        if not shares:
            continue
        if create_graph:
            compute = [t.op.rule(i)(g, t, *t.args, **t.kwargs) for i, _ in shares]
        else:
            raw = [a._data if isinstance(a, Tensor) else a for a in t.args]
            if t.op.fast is None:
                compute = [t.op.rule(i)(g, t._data, *raw, **t.kwargs) for i, _ in shares]
            else:
                flags = [False] * len(raw)
                for i, _ in shares:
                    flags[i] = True
                every = t.op.fast(g, t._data, t.saved, flags, *raw, **t.kwargs)
                compute = [every[i] for i, _ in shares]
        for (_, p), share in zip(shares, compute, strict=True):
            share = unbroadcast(share, p.shape)
            grads[p.number] = grads[p.number] + share if p.number in grads else share

    for t in targets:
        if t.number not in result:
            raise ValueError(f"grad: y does not depend on {t.name or 'the given Tensor'} of shape {t.shape}" + (
                ", or that was changed after y was computed from it" if t.number > y.number else ""))
    found = [result[t.number] for t in targets]
    return [g if isinstance(g, Tensor) else Tensor(g) for g in found] if create_graph else found
