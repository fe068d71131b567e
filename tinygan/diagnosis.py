"""Where should a reader look first when a gradient is wrong?

`look` goes through what is usually to blame, from the outside inwards: the function (not finite,
random), the point (a kink), one of the ops that the function calls, a cut in the graph, and at last
the rule itself, whose mistake often shows in the ratio of what came to what was expected.

To find the op to blame, each one on the tape is checked alone, by the same `check`. To find a cut,
the tape is written at two points and compared: a plain array on it that moved with x was cut off
from x.
"""

import copy
import inspect
import math

import numpy as np

from . import gradcheck  # each of the two needs the other: an op is blamed by checking it
from .autograd import Tensor, ancestors, data_of, grad
from .backend import to_host

CUT = "a .data, no_grad, a NumPy function or a number taken out of a Tensor cuts the graph"
STATE = ("; if that is state which the layer moves itself: what it treats as a constant must not "
         "depend on its parameters; check in evaluation mode, check_module(layer.eval(), x)")
ONE_SIDED = ((0, -25 / 12), (1, 48 / 12), (2, -36 / 12), (3, 16 / 12), (4, -3 / 12))
POINT = "the point"
RANDOM = ("the function or a rule, which is not deterministic: it draws random numbers that do not "
          "come from tinygan's rng, keeps something from one call to the next, or writes into its "
          "argument")


def look(s, i, gradient, h, expected, got):
    """Where to look, in words, if the slope of a WeightedSum s along h in variable i is wrong."""
    x, off = s.variables[i], abs(got - expected)
    if not math.isfinite(expected):
        return "the function itself, which is not finite near this point"
    if not math.isfinite(got):
        return ("a rule, whose result is not finite although the function is: 0 times infinity or "
                "a division by 0, as in where(x > 0, sqrt(x), 0) at x < 0")
    s.check_repeats()
    if not close(s.gradient()[i], gradient):
        return RANDOM
    where = _point(s, x, h, expected, off) or _op_to_blame(s)
    if where:
        return where
    others = [s.compare(x, gradient, s.how.random(x))[:2] for _ in range(3)]
    ratios = [g / e for e, g in [(expected, got), *others] if e]
    rule = _inner_rule(s, i, h) if s.order > 1 else ""
    cut, factor = _cut(s, x, h), _factor(ratios, x)
    if cut:
        return f"{rule}{CUT}: {cut}" + (f"; {factor}" if factor else "")
    if not any(ratios):
        return f"{rule}{CUT} on the way, or a rule returns 0"
    hint = factor or ("the formula of the rule; a transposed, shifted or swapped term changes "
                      "single entries")
    if not factor and len({v.shape for v in s.first.variables}) > 1:
        hint += "; or broadcasting, if this passes when all arguments have one shape"
    return rule + hint


def try_alone(t, g, record):
    """GradientError if the op that made t, or a rule of it, raises or writes into what it is given.

    It runs on copies, with ȳ = g: to first order, and also recorded if `record` is true.
    """
    y = t.op(*(Tensor(a.data) if isinstance(a, Tensor) else a for a in t.args), **t.kwargs)
    names, arriving = names_of(t), Tensor(g)
    arrays = [*zip((f"its argument {name}" for name in names), y.args, t.args, strict=True),
              ("its result", y, np.array(host(y))), ("the incoming gradient", arriving, g)]
    for reading in (False, True)[:1 + record]:
        for i, a in y.parents():
            rule = f"the rule of {t.op.name} for {names[i]}"
            try:
                grad(y, a, arriving if reading else arriving.data, create_graph=reading)
            except Exception as e:                      # whatever a rule does wrong
                raise gradcheck.GradientError(names[i], 1 + reading, (
                    f"{rule}, which raises {e!r}" + ", when it is read with Tensors: it may use "
                    "operators, methods of Tensor, and ops" * reading)) from e
            for what, now, before in arrays:
                if not close(now, before):
                    raise gradcheck.GradientError(names[i], 1, (
                        f"{rule}, or the op itself, which writes into {what}; make a new array "
                        "instead (not g *= 2 but g * 2)"))


# ------------------------------------------------------------------ one suspect after the other


def _point(s, x, h, expected, off):
    """Words about the point, if the slopes on its two sides differ from that across it."""
    left, right = (flat(s.weights) @ s.slopes(x, h, side * s.how.step / 2, ONE_SIDED)
                   for side in (-1, 1))
    if max(abs(left - expected), abs(right - expected)) <= 0.1 * off:
        return ""
    rounded = [t.op.name for t in made(s.f(True)) if t.dtype.itemsize < 8]
    if rounded:
        return (f"{POINT}, at which {rounded[0]} gives float32 or less: finite differences need "
                "float64 all the way")
    return (f"{POINT}, which is a kink, or near a kink, a jump or a pole: the slope is {left:.6g} "
            f"on one side and {right:.6g} on the other; move the point, or try a smaller step")


def _op_to_blame(s):
    """Words about an op that is wrong when it is checked alone, if the function calls several."""
    order, tape = s.order, made(s.first.f(True))
    if len(tape) == 1:                  # f is one op itself: look at those that its rule calls
        own = tape[0].op
        tape = [] if order == 1 else [t for t in made(s.first.gradient(True)) if t.op is not own]
        order = 1
    for t in distinct(tape, set()):
        places = [i for i, _ in t.parents()]

        def alone(*xs, t=t, places=places):
            given = dict(zip(places, xs, strict=True))
            return t.op(*(given.get(i, a) for i, a in enumerate(t.args)), **t.kwargs)
        try:
            gradcheck.check(alone, *(t.args[i] for i in places), order=order, step=s.how.step,
                            tolerance=s.how.tolerance, names=[names_of(t)[i] for i in places])
        except gradcheck.GradientError as e:
            if not e.look.startswith(POINT):
                return (f"the op {t.op.name}, which is wrong when it is checked alone (argument "
                        f"{e.argument}, order {e.order}): {e.look}")
    return ""


def _cut(s, x, h):
    """Where a constant on the tape moves with x, in words; empty if none does."""
    def constants():
        found = [(t.op.name, name, a) for t in made(s.f(True))
                 for name, a in [*named(t.op.forward, t.args), *t.kwargs.items()]]
        return [(op, name, host(a)) for op, name, a in found
                if (isinstance(a, float) or hasattr(a, "dtype")) and getattr(a, "op", None) is None
                and not any(a is v for v in s.variables)]
    here, centre = constants(), x.data
    x.data = centre + s.how.step * h
    there = constants()
    x.data = centre
    for (op, name, a), (_, _, b) in zip(here, there, strict=False):
        if a.dtype.kind == "f" and not close(a, b):
            return f"{op} gets a constant {name} that was computed from a checked Tensor"
    return ""


def _inner_rule(s, i, h):
    """Which gradient of the order below has the wrong slope, in words."""
    for j, name in enumerate(s.inner.names):
        one = copy.copy(s)
        one.weights = [Tensor(v.data * float(j == k)) for k, v in enumerate(s.weights)]
        if one.compare(s.variables[i], one.gradient()[i], h)[2] > s.how.tolerance:
            return (f"the rule for {name}. As a number it is right (order {s.order - 1} passed), "
                    "but its own slope is not: ")
    return ""


def _factor(ratios, x):
    """Words for the case that the result is a fixed multiple of what was expected."""
    if x.size < 2 or not any(ratios) or max(ratios) - min(ratios) >= 1e-6 * abs(ratios[0]):
        return ""
    if abs(ratios[0] + 1) < 1e-6:
        return "the sign, which is reversed"
    return f"a factor: what came is {ratios[0]:.6g} times what was expected, in every direction"


# ------------------------------------------------------------------ reading the tape


def host(x):
    """A Tensor or an array of any device as a NumPy array."""
    return np.asarray(to_host(data_of(x)))


def flat(values):
    """All numbers of a list of Tensors or arrays of any device, in one NumPy array."""
    return np.concatenate([host(a).ravel() for a in values])


def close(x, array):
    """Whether x holds the numbers of another array, to twelve digits of the largest."""
    x, array = host(x), host(array)
    room = 1e-12 * np.abs(array).max(initial=0.0)
    return x.shape == array.shape and np.allclose(x, array, 1e-12, room, equal_nan=True)


def made(results):
    """Every Tensor on the tape of these results that an op made, oldest first."""
    found = {id(t): t for y in results if isinstance(y, Tensor) for t in ancestors(y) if t.op}
    return sorted(found.values(), key=lambda t: t.number)


def distinct(tape, seen):
    """One Tensor for each op, static arguments and shapes that are not in `seen` yet."""
    for t in tape:
        key = t.op, str(t.kwargs), *(getattr(a, "shape", ()) for a in t.args)
        if key not in seen:
            seen.add(key)
            yield t


def named(f, values):
    """(name, value) of f's positional arguments by its signature: x, or xs[0] in a list or *xs."""
    def within(name, a):
        if isinstance(a, (list, tuple)):
            return [pair for j, b in enumerate(a) for pair in within(f"{name}[{j}]", b)]
        return [(name, a)]
    try:
        given = inspect.signature(f).bind(*values).arguments
    except (TypeError, ValueError):     # f is written in C, say; what does not fit, f will refuse
        given = {"argument": values}
    return [pair for name, a in given.items() for pair in within(name, a)]


def names_of(t):
    """What the op that made t calls its arguments."""
    return [name for name, _ in named(t.op.forward, t.args)]
