"""Where should a reader look first when a gradient is wrong?

`look` goes through what is usually to blame, from the outside inwards: the function (not finite,
random), the point (a kink), one of the ops that the function calls, a cut in the graph, and at last
the rule itself, whose mistake often shows in the ratio of what came to what was expected.

To find the op to blame, each one on the tape is checked alone, by the same `check`. To find a cut,
the tape is written at two points and compared: a plain array on it that moved with x was cut off
from x.
"""

import copy
import math

from . import gradcheck  # each of the two needs the other: an op is blamed by checking it
from .autograd import Tensor
from .tracing import close, distinct, host, made, names_of, same, tensor_positions, written

CUT = "a .data, no_grad, a NumPy function or a number taken out of a Tensor cuts the graph"
POINT = "the point"
RANDOM = ("the function or a rule, which is not deterministic: it draws random numbers that do not "
          "come from tinygan's rng, or keeps something from one call to the next")


def look(s, x, gradient, h, expected, got):
    """Where to look, in words, if the slope of a WeightedSum s along h in x is not as expected."""
    off, step = abs(got - expected), s.how.step
    if not math.isfinite(expected):
        return "the function itself, which is not finite near this point"
    if not math.isfinite(got):
        return ("a rule, whose result is not finite although the function is: 0 times infinity or "
                "a division by 0, as in where(x > 0, sqrt(x), 0) at x < 0")
    where = ("" if _repeats(s, x, gradient, h, expected, off) else RANDOM) \
        or _point(s, x, gradient, h, expected, off) or _op_to_blame(s)
    if where:
        return where
    others = [s.compare(x, gradient, s.how.random(x), step)[:2] for _ in range(3)]
    ratios = [g / e for e, g in [(expected, got), *others] if e]
    rule = _inner_rule(s, x, h) if s.order > 1 else ""
    cut, factor = _cut(s, x, h), _factor(ratios, x)
    if cut:
        return f"{rule}{CUT}: {cut}" + (f"; {factor}" if factor else "")
    if not any(ratios):
        return f"{rule}{CUT} on the way, or a rule returns 0"
    if s.order == 1 and _right_when_expanded(s, x):
        return "broadcasting: with all arguments expanded to one shape this gradient is right"
    return rule + (factor or "the formula of the rule; a transposed, shifted or swapped term "
                             "changes single entries")


def of_exception(e, s, values, record):
    """The GradientError for an exception in a rule while the gradient of s was computed."""
    where = "a rule"
    for t in made(values):
        for i in tensor_positions(t):
            try:
                written(t, [i], record)
            except Exception as again:
                if type(again) is type(e):
                    where = f"the rule of {t.op.name} for {names_of(t)[i]}"
    if record:
        where += ", read with Tensors: it may use operators, methods of Tensor, and ops"
    return gradcheck.GradientError("all arguments", s.order + record, "a gradient",
                                   f"{type(e).__name__}: {e}", math.inf, where)


def of_module(e, moved):
    """The GradientError of a module's check, which says more if the module moves its state."""
    hint = ("; here the layer moves its own state: what a layer treats as a constant must not "
            "depend on its parameters; check in evaluation mode, check_module(layer.eval(), x)")
    look = e.look + (hint if moved and CUT in e.look else "")
    return gradcheck.GradientError(e.argument, e.order, e.expected, e.got, e.error, look)


# ------------------------------------------------------------------ one suspect after the other


def _repeats(s, x, gradient, h, expected, off):
    """Whether the function still gives the values that it gave at first, and the same slopes."""
    again = next(g for g, t in zip(s.gradient(), s.variables, strict=True) if t is x)
    pairs = [*zip(s.f(False), s.start, strict=True), (again, gradient)]
    slope = s.compare(x, gradient, h, s.how.step)[0]
    return abs(slope - expected) <= 0.1 * off and all(close(a, b) for a, b in pairs)


def _point(s, x, gradient, h, expected, off):
    """Words about the point, if the slopes on its two sides differ or the slope does not settle."""
    finer = s.compare(x, gradient, h, s.how.step / 4)[0]
    if abs(finer - expected) > 1e-2 * off:
        rounded = [t for t in made(s.f(True)) if t.dtype.itemsize < 8]
        if rounded:
            return (f"{POINT}, at which {rounded[0].op.name} gives {rounded[0].dtype}: finite "
                    "differences need float64 all the way")
        return (f"{POINT}: the finite difference does not settle ({expected:.10g}, with a quarter "
                f"of the step {finer:.10g}), so it lies near a kink, a jump or a pole; move it, or "
                "try a smaller step")

    def one_sided(t):
        at = [s.value(x, i * t, h)[0] for i in range(3)]
        return (4 * at[1] - at[2] - 3 * at[0]) / (2 * t)
    left, right = one_sided(-s.how.step), one_sided(s.how.step)
    jump = one_sided(s.how.step / 4) - one_sided(-s.how.step / 4)
    if abs(jump) > max(0.1 * off, 0.5 * abs(right - left)):     # if f is smooth, it shrinks by 16
        return (f"{POINT}, which is a kink: the slope is {left:.6g} on one side and {right:.6g} on "
                "the other, so there is no derivative; move the point")
    return ""


def _op_to_blame(s):
    """Words about an op that is wrong when it is checked alone, if the function calls several."""
    order, first = s.order, s
    while first.inner:
        first = first.inner
    tape = made(first.f(True))
    if len(tape) == 1:                  # f is one op itself: look at those that its rule calls
        own = tape[0].op
        tape = [] if order == 1 else [t for t in made(first.gradient(True)) if t.op is not own]
        order = 1
    for t in distinct(tape):
        if not close(t.op(*t.args, **t.kwargs), t):
            return (f"an argument of the op {t.op.name}, which was changed in place after it was "
                    "used; make a new array instead")
        try:
            _check_alone(t, order, s.how)
        except gradcheck.GradientError as e:
            if not e.look.startswith(POINT):
                return (f"the op {t.op.name}, which is wrong when it is checked alone (argument "
                        f"{e.argument}, order {e.order}): {e.look}")
    return ""


def _check_alone(t, order, how):
    """Check the op that made t, with the values that t was made from."""
    places = tensor_positions(t)

    def alone(*xs):
        given = dict(zip(places, xs, strict=True))
        return t.op(*(given.get(i, a) for i, a in enumerate(t.args)), **t.kwargs)
    names = [names_of(t)[i] for i in places]
    gradcheck.check(alone, *(t.args[i] for i in places), order=order, tolerance=how.tolerance,
                    step=how.step, names=names)


def _cut(s, x, h):
    """Where a constant on the tape moves with x, in words; empty if none does."""
    def constants():
        found = [(t, i, a) for t in made(s.f(True))
                 for i, a in [*enumerate(t.args), *t.kwargs.items()]]
        return [(t, i, a) for t, i, a in found
                if (isinstance(a, float) or hasattr(a, "dtype")) and getattr(a, "op", None) is None
                and not any(a is v for v in s.variables)]
    here, centre = constants(), x.data
    x.data = centre + s.how.step * h
    there = constants()
    x.data = centre
    for (t, i, a), (_, _, b) in zip(here, there, strict=False):
        if host(a).dtype.kind == "f" and not same(a, b):
            name = i if isinstance(i, str) else names_of(t)[i]
            return f"{t.op.name} gets a constant {name} that was computed from a checked Tensor"
    return ""


def _inner_rule(s, x, h):
    """Which gradient of the order below has the wrong slope, in words."""
    for i, name in enumerate(s.inner.names):
        one = copy.copy(s)
        one.weights = [Tensor(v.data * float(i == j)) for j, v in enumerate(s.weights)]
        gradient = next(g for g, t in zip(one.gradient(), s.variables, strict=True) if t is x)
        if one.compare(x, gradient, h, s.how.step)[2] > s.how.tolerance:
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


def _right_when_expanded(s, x):
    """Whether the gradient is right once all arguments have been expanded to their common shape."""
    before = [t.data for t in s.variables]
    try:
        full = sum(before) * 0.0
        for t, data in zip(s.variables, before, strict=True):
            t.data = data + full
        gradient = next(g for g, t in zip(s.gradient(), s.variables, strict=True) if t is x)
        error = s.compare(x, gradient, s.how.random(x), s.how.step)[2]
        return any(a.shape != full.shape for a in before) and error <= s.how.tolerance
    except (TypeError, ValueError):             # arguments that have no common shape
        return False
    finally:
        for t, data in zip(s.variables, before, strict=True):
            t.data = data
