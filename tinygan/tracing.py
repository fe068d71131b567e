"""Reading the tape: which ops are on it, whether they leave their arguments alone, what cancels.

The tape is the engine's memory: every Tensor knows the op that made it and that op's arguments. The
checker (gradcheck.py) reads it to look at each op on its own.
"""

import copy
import inspect

import numpy as np

from .autograd import Tensor, data_of, grad
from .backend import device_of, to_device, to_host


def host(x):
    """A Tensor or an array of any device as a NumPy array."""
    return np.asarray(to_host(data_of(x)))


def same(x, array):
    """Whether x holds the same numbers as another array."""
    return np.array_equal(host(x), host(array), equal_nan=True)


def close(x, array):
    """Whether x holds the numbers of another array, to twelve digits of the largest."""
    x, array = host(x), host(array)
    room = 1e-12 * np.abs(array).max(initial=0.0)
    return x.shape == array.shape and np.allclose(x, array, 1e-12, room, equal_nan=True)


def made(results):
    """Every Tensor on the tape of these results that an op made, oldest first."""
    found, todo = {}, [t for t in results if isinstance(t, Tensor)]
    while todo:
        t = todo.pop()
        if t.op is not None and id(t) not in found:
            found[id(t)] = t
            todo.extend(a for a in t.args if isinstance(a, Tensor))
    return sorted(found.values(), key=lambda t: t.number)


def distinct(tape):
    """One Tensor of the tape for each op, its static arguments and the shapes it was given."""
    shapes = [tuple(getattr(a, "shape", ()) for a in t.args) for t in tape]
    return {(t.op, str(t.kwargs), s): t for t, s in zip(tape, shapes, strict=True)}.values()


def tensor_positions(t):
    """Which of the arguments that t was made from are Tensors."""
    return [i for i, a in enumerate(t.args) if isinstance(a, Tensor)]


def argument_names(f, n):
    """What f's signature calls the first n positional arguments: x, or xs[0] where it says *xs."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):                 # a function written in C may have no signature
        parameters = ()
    names = []
    for p in parameters:
        many = p.kind is p.VAR_POSITIONAL
        names += [f"{p.name}[{j}]" for j in range(n - len(names))] if many else [p.name]
    return [*names, *(f"argument {i}" for i in range(len(names), n))][:n]


def tensor_names(f, inputs):
    """(name, Tensor) of every Tensor among f's inputs: x, or xs[0] in a list."""
    flat = []
    for name, a in zip(argument_names(f, len(inputs)), inputs, strict=True):
        flat += [(f"{name}[{j}]", b) for j, b in enumerate(a)] if type(a) is list else [(name, a)]
    return [(name, a) for name, a in flat if isinstance(a, Tensor)]


def names_of(t):
    """What the op that made t calls its arguments."""
    return argument_names(t.op.forward, len(t.args))


def overwriter(results):
    """(Tensor, argument's name, what) of an op that writes into what it was given, or None."""
    for t in distinct(made(results)):
        positions = tensor_positions(t)
        try:
            if any(written(t, positions, record) for record in (False, True)):
                for i in positions:
                    what = written(t, [i], False) or written(t, [i], True)
                    if what:
                        return t, names_of(t)[i], what
        except Exception:                           # what raises is for the check itself to report
            continue
    return None


def written(t, positions, record):
    """What an op writes into when it is called, and differentiated by some arguments; else "".

    The op of t works on copies. Its result y meets a w of zeros in y + w, so that ȳ and w̄ are one
    array: a rule that writes into ȳ shows in w̄.
    """
    zeros, ones = (to_device(np.full(t.shape, c, t.dtype), device_of(data_of(t))) for c in (0, 1))
    with np.errstate(all="ignore"):
        args = [copy.copy(data_of(a)) for a in t.args]
        for i in tensor_positions(t):
            args[i] = Tensor(args[i])
        before, w = [np.array(host(a)) for a in args], Tensor(zeros)
        y = t.op(*args, **t.kwargs)
        result = np.array(host(y))
        s = ((y + w) * Tensor(ones)).sum()      # as a Tensor, so that ȳ is one if recorded
        for i in positions:
            s = s + (args[i] * 0.0).sum()           # so that s depends on it in any case
        arrived = grad(s, [*(args[i] for i in positions), w], create_graph=record)[-1]
    for name, a, b in zip(names_of(t), args, before, strict=True):
        if not same(a, b):
            return f"its argument {name}"
    if not same(y, result):
        return "its result"
    return "" if same(arrived, ones) else "the incoming gradient"


def cancelled(gradient, weights):
    """How large, per element, the numbers are that a recorded gradient was computed from.

    Rounding a Tensor t on its tape by 10⁻¹⁶ changes s = ⟨weights, gradient⟩ by up to
    10⁻¹⁶ Σ |t ∂s/∂t|. The sum of that over all t shows what was there before a gradient cancelled,
    such as that of BatchNorm over two rows.
    """
    tape = made([gradient])
    s = (gradient * weights).sum()
    for t in tape:
        s = s + (t * 0.0).sum()
    slopes = grad(s, tape) if tape else []
    sizes = [np.abs(host(t) * host(g)).sum() for t, g in zip(tape, slopes, strict=True)]
    return float(sum(sizes)) / max(gradient.size, 1)
