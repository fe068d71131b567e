"""Is a gradient right? Compare it with finite differences, to first and second order.

For a function f and a random array v in the shape of its result, S(x) = ⟨v, f(x)⟩ is one number.
Its gradient, J(x)ᵀ v with the Jacobian J of f, is what `grad` computes. Along a random direction h
that gradient must agree with a difference quotient of f's plain values:

    ⟨J(x)ᵀ v, h⟩ = d/dt S(x + t h) at t = 0 ≈ (S(−2) − 8 S(−1) + 8 S(1) − S(2)) / 12 s

where S(i) is short for S(x + i s h). This five-point stencil errs by O(s⁴): with s = 10⁻³ in
float64 by about 10⁻¹⁰ relative, where the central quotient of two points errs by 5·10⁻⁶ and the
one-sided one by 2·10⁻³. So the step stays far above rounding, and the tolerance can be 10⁻⁷.

Why random v and h? A wrong entry of J shows in ⟨v, J h⟩ unless v or h happens to be 0 there, so one
number tests the whole matrix. A v of ones would not do: rules that permute or mix the entries of ȳ
pass it. Every entry of v and h is between ½ and 1 in size: no element goes unchecked, and an x that
is 2 s away from a kink stays on its side.

Second order is the same check of another function: the gradient itself.

    order   function F            its variables     S = ⟨random, F⟩     checked: S differentiated by
    1       f(x)                  x                 S = ⟨v, f⟩          x
    2       ∇S = J(x)ᵀ v          x, v              S′ = ⟨u, ∇S⟩        x and v
    3       ∇S′                   x, v              ⟨w, ∇S′⟩            x and v

This is what a gradient penalty does. It finds rules that are right as numbers but cut the graph.
First order finds rules whose numbers are wrong.

    check(tanh, x)                              an op, or any function of arrays
    check(loss, wrt=D.parameters())             a closure over parameters, such as a GAN step
    check_module(Conv2d(3, 4, 3), x)            a layer: its input and all its parameters

Each returns a Report, or raises GradientError, which says where to look first (diagnosis.py).
"""

import copy
import functools
import math

import numpy as np

from . import diagnosis
from .autograd import Tensor, data_of, grad
from .backend import device_of, to_device
from .diagnosis import close, flat, host, named
from .randomness import Randomness, current

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


class GradientError(AssertionError):
    """A gradient that is wrong, or that cannot be checked.

    Attributes: `argument` and `order` of the derivative, where to `look` first, what was `expected`
    and what was `got` (None where there is no number), and the relative `error`.
    """

    def __init__(self, argument, order, look, expected=None, got=None, error=math.inf):
        super().__init__(argument, order, look, expected, got, error)
        self.argument, self.order, self.look = argument, order, look
        self.expected, self.got, self.error = expected, got, error

    def __str__(self):
        numbers = "expected a gradient to compare, got none" if self.got is None else (
            f"expected {self.expected:.10g} (finite difference), got {self.got:.10g}, "
            f"relative error {self.error:.2g}")
        return (f"derivative of order {self.order} with respect to {self.argument}: {numbers}.\n"
                f"  Look first at: {self.look}")


class Report:
    """What was checked: the number of `checks`; the worst of each in `errors[argument, order]`.

    It also has the settings of the check and its random numbers.
    """

    def __init__(self, tolerance, step, seed):
        self.tolerance, self.step = tolerance, step
        self.rng = Randomness(seed).rng("check")
        self.checks, self.errors = 0, {}

    worst = property(lambda self: max(self.errors.values(), default=0.0))

    def add(self, argument, order, error):
        self.checks += 1
        self.errors[argument, order] = max(float(error), self.errors.get((argument, order), 0.0))

    def random(self, like):
        """An array like another, of random signs and sizes between ½ and 1."""
        draw = self.rng.choice([-1.0, 1.0], like.shape) * self.rng.uniform(0.5, 1.0, like.shape)
        return to_device(np.asarray(draw), device_of(data_of(like)))

    def __repr__(self):
        rows = [f"{argument:<24} order {order}   worst relative error {e:.1e}"
                for (argument, order), e in self.errors.items()]
        return "\n".join([f"{self.checks} checks passed", *rows])


def check(f, *args, wrt=(), order=2, tolerance=1e-7, step=1e-3, seed=0, jacobian=False, names=None):
    """Check the derivatives of f(*args) up to `order`; return a `Report` or raise `GradientError`.

    f: any function of arrays or Tensors that returns a Tensor, or several. args: floating-point
    arrays, Tensors and lists of numbers with a decimal point are checked, as float64; anything else
    is passed on as it is. wrt: further Tensors that f uses, such as a network's parameters, in a
    list or in a dict by name (float64 during the check, put back after it). jacobian: compare
    along every single axis at first order, too, which checks J column by column. names: what
    messages call the checked arguments and `wrt`. tinygan's random generators are rewound before
    every evaluation, so f may draw from `rng`. What f itself raises is raised as it is. A point
    within 2 `step` of a kink cannot be checked.
    """
    inputs, wrt = [_tensors(a) for a in args], [wrt] if isinstance(wrt, Tensor) else wrt
    wrt = list(wrt.items() if isinstance(wrt, dict) else
               [(getattr(t, "name", "") or f"wrt[{i}]", t) for i, t in enumerate(wrt)])
    found = [(name, a) for name, a in named(f, inputs) if isinstance(a, Tensor)] + wrt
    leaves, names = [t for _, t in found], list(names or [name for name, _ in found])
    if not leaves or len(names) != len(leaves) or not all(isinstance(t, Tensor) for t in leaves):
        raise TypeError("check: expected floating-point arrays to differentiate by (or Tensors in "
                        f"wrt=) and a name for each, got {len(leaves)} and the names {names}; "
                        "integers are passed on as they are, so write [0., 1.] for [0, 1]")
    randomness, before = current().copy(), [(t, t.data) for _, t in wrt]

    def values(record):
        with randomness.copy():                     # the same random numbers in every evaluation
            y = f(*inputs)
        y = list(y) if isinstance(y, (tuple, list)) else [y]
        if not all(hasattr(a, "shape") for a in y):
            raise TypeError(f"check: f must return a Tensor, or several, got {y!r:.60}; "
                            "a number taken out of a Tensor has no gradient")
        return y
    try:
        for t, data in before:
            t.data = data.astype(np.float64)
        return _check_orders(values, leaves, names, order, jacobian, Report(tolerance, step, seed))
    finally:
        for t, data in before:
            t.data = data


def check_module(module, *inputs, **options):
    """`check` of a layer or network with respect to its inputs and all its parameters.

    Each evaluation runs a fresh deep copy with the same parameters, and with state such as
    BatchNorm's running averages in float64: all start alike, and the module keeps its own state.
    """
    shared = {id(p): p for p in module.parameters()}
    start = copy.deepcopy(module, dict(shared))
    for _, owner, attribute in start.entries():
        state = getattr(owner, attribute)
        if not isinstance(state, Tensor) and state.dtype.kind == "f":
            setattr(owner, attribute, state.astype(np.float64))

    @functools.wraps(module.forward)                # for the names of its arguments
    def forward(*xs):
        return copy.deepcopy(start, dict(shared))(*xs)
    try:
        return check(forward, *inputs, **{"wrt": module.named_parameters(), **options})
    except GradientError as e:
        if diagnosis.CUT in e.look and module.training and module.buffers():
            e.look += diagnosis.STATE
        raise


class WeightedSum:
    """S = ⟨v, f⟩ of a function f of some variables: one number, and its gradient.

    f is called as f(record) and returns a list: of Tensors that can be differentiated if `record`
    is true, else of Tensors or arrays. `start` are its values at the point, and the `weights` are
    the random v. `inner` is the sum whose gradient f is (None at first order), `first` the sum at
    first order. `size` is how large the terms of S are, at least a thousandth of `inner`'s.
    """

    def __init__(self, f, variables, names, how, inner=None):
        self.f, self.variables, self.names, self.how, self.inner = f, variables, names, how, inner
        self.first, self.order = (inner.first, inner.order + 1) if inner else (self, 1)
        values = f(False)
        self.start = [np.array(host(y)) for y in values]
        self.weights = [Tensor(how.random(y)) for y in values]
        size = np.abs(flat(self.weights) * flat(self.start)).sum()
        self.size = max(size, 1e-3 * inner.size) if inner else size

    def gradient(self, record=False):
        """∇S by every variable, from `grad`: arrays, or with `record` Tensors."""
        s = sum((y * v).sum() for y, v in zip(self.f(True), self.weights, strict=True))
        return grad(s, self.variables, create_graph=record, zeros=True)

    def slopes(self, x, h, step, stencil=STENCIL):
        """The difference quotient of every value of f along h in x, in one flat array."""
        total, centre = 0.0, x.data
        for i, c in stencil:
            x.data = centre + i * step * h
            try:
                total = total + c / step * flat(self.f(False))
            finally:
                x.data = centre
        return total

    def compare(self, x, gradient, h):
        """(expected, got, relative error) of the slope of S along h in x."""
        expected = float(flat(self.weights) @ self.slopes(x, h, self.how.step))
        got = float((host(gradient) * host(h)).sum())
        # Where S cancels, the rounding of its terms is no mistake of the rule.
        scale = max(abs(expected), float(np.linalg.norm(host(gradient))), 1e-4 * self.size, 1e-300)
        error = abs(got - expected) / scale
        return expected, got, error if math.isfinite(error) else math.inf

    def check_repeats(self):
        """f gives what it gave at first."""
        if not all(close(a, b) for a, b in zip(self.f(False), self.start, strict=True)):
            raise GradientError("all arguments", self.order, diagnosis.RANDOM)


def _check_orders(values, leaves, names, order, jacobian, how):
    """Check f, then its gradient as a function of x and v, then the gradient of that."""
    s, seen = WeightedSum(values, leaves, names, how), set()
    for n in range(1, order + 1):
        if n == 2:
            _check_readings(s)
        if n > 1:
            cotangents = ["the cotangent"] * len(s.first.weights)
            s = WeightedSum(s.gradient, leaves + s.first.weights, names + cotangents, how, inner=s)
        # First every op on its own: does a rule raise, or write into what it is given?
        for t in diagnosis.distinct(diagnosis.made(s.f(True)), seen):
            diagnosis.try_alone(t, how.random(t).astype(t.dtype), record=n < order)
        for i, gradient in enumerate(s.gradient()):
            axes = np.eye(gradient.size) if jacobian and n == 1 else []     # one entry changes
            along = [to_device(a.reshape(gradient.shape), device_of(gradient)) for a in axes]
            for h in [how.random(gradient), *along]:
                expected, got, error = s.compare(s.variables[i], gradient, h)
                if not error <= how.tolerance:
                    look = diagnosis.look(s, i, gradient, h, expected, got)
                    raise GradientError(s.names[i], n, look, expected, got, error)
                how.add(s.names[i], n, error)
    s.first.check_repeats()
    return how


def _check_readings(s):
    """The plain and the recorded backward pass compute the same numbers."""
    for name, a, b in zip(s.names, s.gradient(), s.gradient(record=True), strict=True):
        a, b = host(a), host(b)
        scale = max(np.abs(b).max(initial=0.0), 1e-3 * s.size, 1e-300)
        error = np.abs(a - b).max(initial=0.0) / scale
        if not error <= 1e-10:
            s.check_repeats()
            raise GradientError(name, 1, "the two readings, which differ (here the sums of the "
                                "recorded and the plain gradient): a shortcut, or a rule that asks "
                                "for types", float(b.sum()), float(a.sum()), error)
        s.how.add(name, "1, both readings", error)


def _tensors(a):
    """A float64 Tensor for floating-point numbers, also in a list; anything else as it is."""
    numbers = a
    if isinstance(a, (list, tuple)):
        if not a or any(isinstance(b, Tensor) or getattr(b, "ndim", 0) for b in a):
            return [_tensors(b) for b in a]
        try:
            numbers = np.asarray(a)
        except ValueError:                          # no rectangle of numbers
            return a
    is_float = getattr(getattr(numbers, "dtype", None), "kind", "") == "f"
    return Tensor(data_of(numbers).astype(np.float64)) if is_float else a
