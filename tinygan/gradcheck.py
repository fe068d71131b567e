"""Is a gradient right? Compare it with finite differences, to first and second order.

For a function f and a random array v in the shape of its result, S₀(x) = ⟨v, f(x)⟩ is one number, and its gradient is what `grad`
computes, J(x)ᵀ v. Along a random direction h that gradient must agree with a difference quotient of f's plain values:

    ⟨J(x)ᵀ v, h⟩  =  d/dt S₀(x + t h) at t = 0  ≈  (S(−2) − 8 S(−1) + 8 S(1) − S(2)) / 12 s,   S(i) = S₀(x + i s h)

The five-point stencil errs by O(s⁴): with s = 10⁻³ in float64 about 10⁻¹⁰ relative, so that the tolerance can be 10⁻⁷, where the
usual two-point quotient leaves room for real mistakes at 10⁻³.

Why random v and h? A wrong entry of J shows in ⟨v, J h⟩ unless v or h happens to be 0 there, so one number tests the whole
matrix. A v of ones would not do: rules that permute or mix the entries of ȳ pass it. Every entry of v and h is between ½ and 1
in size: no element goes unchecked, and an x that is 2 s away from a kink stays on its side.

Second order is the same check of another function: the gradient itself. With a further random u

    S₁(x, v) = ⟨u, J(x)ᵀ v⟩

is again one number, computed by `grad(..., create_graph=True)` and differentiated once more, by x as by v. This is what a
gradient penalty does. It finds rules that are right as numbers but cut the graph; first order finds rules that are wrong alike
in both readings.

    check(tanh, x)                              an op, or any function of arrays; raises GradientError, or returns a Report
    check(loss_of_critic, wrt=D.parameters())   a closure over parameters, such as a GAN step with gradient penalty
    check_module(Conv2d(3, 4, 3), x)            a layer: its input and all its parameters
"""

import inspect
import math

import numpy as np

from .autograd import Tensor, data_of, grad
from .backend import device_of, to_device, to_host
from .randomness import Randomness, current

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


class GradientError(AssertionError):
    """A gradient that disagrees with its finite difference: `argument`, `order`, `expected`, `got`, relative `error`, `look`."""

    def __init__(self, argument, order, expected, got, error, look):
        self.argument, self.order, self.expected, self.got, self.error, self.look = argument, order, expected, got, error, look
        super().__init__(f"derivative of order {order} with respect to {argument}: expected {expected:.10g} (finite difference), "
                         f"got {got:.10g}, relative error {error:.2g}.\n  Look first at: {look}")


class Report:
    """What was checked: `checks` comparisons; `errors[argument, order]`, the worst relative error of each; `worst` of all."""

    def __init__(self):
        self.checks, self.errors = 0, {}

    def add(self, argument, order, error):
        self.checks += 1
        self.errors[argument, order] = max(float(error), self.errors.get((argument, order), 0.0))

    worst = property(lambda self: max(self.errors.values(), default=0.0))

    def __repr__(self):
        rows = [f"{argument:<24} order {order}   worst relative error {e:.1e}" for (argument, order), e in self.errors.items()]
        return "\n".join([f"{self.checks} checks passed", *rows])


def check(f, *args, wrt=(), order=2, tolerance=1e-7, step=1e-3, seed=0, jacobian=False, names=None):
    """Check the derivatives of f(*args) up to `order`; return a `Report`, or raise `GradientError` at the first that is wrong.

    f: any function of arrays or Tensors that returns a Tensor, or several. args: floating-point arrays (or Tensors) are checked,
    as float64; anything else is passed on as it is. wrt: further Tensors that f uses, such as a network's parameters (float64
    during the check, put back after it). jacobian: compare every single entry of J, too. names: what messages call the checked
    arguments and `wrt`. Random generators are rewound before every evaluation, so f may draw from `rng`. A point within
    2 `step` of a kink cannot be checked.
    """
    inputs, wrt = [Tensor(_float64(a)) if _is_float(a) else a for a in args], list(wrt)
    leaves, before = [a for a in inputs if isinstance(a, Tensor)] + wrt, [t.data for t in wrt]
    names = list(names or _names(f, inputs) + [t.name or f"wrt[{i}]" for i, t in enumerate(wrt)])
    if not leaves or len(names) != len(leaves):
        raise TypeError(f"check: expected floating-point arrays (or wrt=) and a name for each, got {len(leaves)} and {names}")
    try:
        for t in wrt:
            t.data = _float64(t)
        return _Check(f, inputs, leaves, names, tolerance, step, Randomness(seed).rng("check")).run(order, jacobian)
    finally:
        for t, data in zip(wrt, before, strict=True):
            t.data = data


def check_module(module, *inputs, **options):
    """`check` of a layer or network with respect to its inputs and all its parameters.

    State that the forward pass moves, such as BatchNorm's running averages, is put back before every evaluation and at the end.
    """
    parameters = dict(module.named_parameters())
    state = {k: v for k, v in module.state_dict().items() if k not in parameters}

    def forward(*xs):
        if state:
            module.load_state_dict({**module.state_dict(), **state})
        return module(*xs)
    names = [*_names(module.forward, [Tensor(_float64(x)) if _is_float(x) else x for x in inputs]), *parameters]
    try:
        return check(forward, *inputs, wrt=parameters.values(), **{"names": names, **options})
    finally:
        module.load_state_dict({**module.state_dict(), **state})


class _Check:
    """One function at one point: the numbers S₀, S₁, ... and their slopes, computed in two ways."""

    def __init__(self, f, inputs, leaves, names, tolerance, step, rng):
        self.f, self.inputs, self.leaves, self.names = f, inputs, leaves, names
        self.tolerance, self.step, self.rng, self.report, self.size = tolerance, step, rng, Report(), 0.0
        self.randomness = current().copy()
        self.v, self.u = [Tensor(self.random(y)) for y in self.outputs()], {}
        self.names = names + ["the cotangent"] * len(self.v)

    def random(self, like):
        """An array like another, of random signs and sizes between ½ and 1."""
        draw = self.rng.choice([-1.0, 1.0], like.shape) * self.rng.uniform(0.5, 1.0, like.shape)
        return to_device(np.asarray(draw), device_of(data_of(like)))

    def outputs(self):
        with self.randomness.copy():                # the same numbers in every evaluation
            y = self.f(*self.inputs)
        return list(y) if isinstance(y, (tuple, list)) else [y]

    def variables(self, order):
        """What S is differentiated by to reach this order: x, and from the second order on also v."""
        return self.leaves if order == 1 else self.leaves + self.v

    def terms(self, order, record=False):
        """S as pairs whose inner products add up to it: (f, v) for S₀, (gradient of the S before it, u) for the others."""
        if order == 0:
            return list(zip(self.outputs(), self.v, strict=True))
        slopes = self.slopes(order, record)
        self.u.setdefault(order, [self.random(a) for a in slopes])
        return list(zip(slopes, self.u[order], strict=True))

    def slopes(self, order, record=False):
        """The gradient of S₍order−1₎ by every variable."""
        s, variables = 0.0, self.variables(order)
        for a, b in self.terms(order - 1, record=True):
            s = s + (a * b).sum()
        for x in variables:
            s = s + (x * 0.0).sum()         # so that a function that is constant in x has the gradient 0, and not an error
        return grad(s, variables, create_graph=record)

    def compare(self, order, x, slope, h):
        """(expected, got, relative error) of the slope of S₍order−1₎ along h in x."""
        centre, expected, size = x.data, 0.0, 0.0
        for i, c in STENCIL:
            x.data = centre + (i * self.step) * h
            parts = [_host(a) * _host(b) for a, b in self.terms(order - 1)]
            expected += c * math.fsum(p.sum() for p in parts) / self.step
            size = max(size, math.fsum(np.abs(p).sum() for p in parts))
        x.data = centre
        got = float((_host(slope) * _host(h)).sum())
        self.size = max(size, self.size)
        # Where S cancels (the last two sizes), its rounding is no mistake of the rule.
        scale = max(abs(expected), float(np.linalg.norm(_host(slope))), 1e-4 * size, 1e-7 * self.size, 1e-300)
        error = abs(got - expected) / scale
        return expected, got, error if math.isfinite(error) else math.inf

    def run(self, order, jacobian):
        for n in range(1, order + 1):
            try:
                slopes = self.slopes(n)
            except Exception as e:                          # whatever a rule or f does wrong
                raise GradientError("all arguments", n, math.nan, math.nan, math.inf, f"{type(e).__name__}: {e}" + (
                    "" if n == 1 else " (in the recorded reading: rules may use operators, methods of Tensor, and ops)")) from e
            for x, slope, name in zip(self.variables(n), slopes, self.names, strict=False):
                h = self.random(x)
                expected, got, error = self.compare(n, x, slope, h)
                if not error <= self.tolerance:
                    raise GradientError(name, n, expected, got, error, self.look(n, x, slope, h, expected, got))
                self.report.add(name, n, error)
            if n == 1 and jacobian:
                self.jacobian()
            if n == 2:
                self.readings()
        return self.report

    def readings(self):
        """The plain and the recorded backward pass compute the same numbers."""
        pairs = [(_host(a), _host(b)) for a, b in zip(self.slopes(1), self.slopes(1, record=True), strict=True)]
        largest = max(np.abs(a).max(initial=0.0) for a, _ in pairs)
        for name, (plain, recorded) in zip(self.names, pairs, strict=False):
            error = np.abs(plain - recorded).max(initial=0.0) / max(np.abs(recorded).max(initial=0.0), 1e-4 * largest, 1e-300)
            if not error <= 1e-12:
                raise GradientError(name, 1, float(recorded.sum()), float(plain.sum()), error,
                                    "the two readings, which differ (here the sums of the recorded and the plain gradient): "
                                    "a shortcut (fast_vjp), or a rule that asks for types")
            self.report.add(name, "1, both readings", error)

    def jacobian(self):
        """Every entry of ∂yᵢ/∂xⱼ: rows by `grad`, columns by the stencil."""
        def unit(like, i):
            return to_device(np.eye(1, like.size, i).reshape(like.shape), device_of(data_of(like)))
        y = self.outputs()
        size = max((np.abs(_host(a)).max(initial=0.0) for a in y), default=0.0)
        for name, x in zip(self.names, self.leaves, strict=False):
            got, expected = np.zeros((2, sum(a.size for a in y), x.size))                                   # (outputs, inputs)
            for row, (k, i) in enumerate((k, i) for k, a in enumerate(y) for i in range(a.size)):
                got[row] = _host(grad((self.outputs()[k] * unit(y[k], i)).sum() + (x * 0.0).sum(), x)).ravel()
            centre = x.data
            for j in range(x.size):
                for i, c in STENCIL:
                    x.data = centre + (i * self.step) * unit(x, j)
                    expected[:, j] += c / self.step * np.concatenate([_host(a).ravel() for a in self.outputs()])
            x.data = centre
            if got.size:
                error = np.abs(got - expected) / max(np.abs(expected).max(), 1e-4 * size, 1e-300)
                at = i, j = np.unravel_index(np.argmax(error), error.shape)
                if not error[at] <= self.tolerance:
                    raise GradientError(name, 1, expected[at], got[at], error[at],
                                        f"the entry for output {i} and input {j}, counted through all axes")
                self.report.add(name, "1, every entry", error[at])

    def look(self, order, x, slope, h, expected, got):
        """Where a reader should look first, from the kind of mistake."""
        if not math.isfinite(expected):
            return "the function itself, which is not finite near this point"
        self.step /= 4
        finer, self.step = self.compare(order, x, slope, h)[0], self.step * 4
        if abs(finer - expected) > 1e-2 * abs(got - expected):
            return f"the point: the finite difference does not settle ({expected:.10g}, with a quarter of the step " \
                   f"{finer:.10g}), so it lies near a kink, a jump or a pole; move it, or try a smaller step"
        again = [self.compare(order, x, slope, self.random(x))[:2] for _ in range(3)]
        ratios = [g / e for e, g in [(expected, got), *again] if e]
        cut = "a .data, a NumPy function or a number taken out of a Tensor cuts the graph"
        where = self.culprit(order, x, h) if order > 1 else ""
        if not any(ratios):
            return f"{where}{cut} on the way, or a rule returns 0"
        if order == 1 and self.passes_expanded(x):
            return "broadcasting: with all arguments expanded to one shape this gradient is right"
        if max(ratios) - min(ratios) < 1e-6 * abs(ratios[0]) and x.size > 1:
            return where + ("the sign, which is reversed" if abs(ratios[0] + 1) < 1e-6 else
                            f"a factor: what came is {ratios[0]:.6g} times what was expected, in every direction")
        return f"{where}inside the rule {cut}, or an op that the rule calls has a wrong rule" if order > 1 else \
            "the formula of the rule; a transposed, shifted or swapped term changes single entries"

    def culprit(self, order, x, h):
        """At a higher order: which gradient of the order below has the wrong slope."""
        u, name = self.u[order - 1], "some argument"
        for i in range(len(u)):
            self.u[order - 1] = [a * float(i == j) for j, a in enumerate(u)]
            slope = next(s for s, t in zip(self.slopes(order), self.variables(order), strict=True) if t is x)
            if self.compare(order, x, slope, h)[2] > self.tolerance:
                name = self.names[i]
                break
        self.u[order - 1] = u
        return f"the rule for {name}. As a number it is right (order {order - 1} passed), but its own slope is not: "

    def passes_expanded(self, x):
        """Whether the gradient is right once all arguments have been expanded to their common shape."""
        before = [t.data for t in self.leaves]
        try:
            full = sum(before) * 0.0
            for t, data in zip(self.leaves, before, strict=True):
                t.data = data + full
            slope = next(s for s, t in zip(self.slopes(1), self.leaves, strict=True) if t is x)
            return any(a.shape != full.shape for a in before) and self.compare(1, x, slope, self.random(x))[2] <= self.tolerance
        except (TypeError, ValueError):                     # arguments that have no common shape
            return False
        finally:
            for t, data in zip(self.leaves, before, strict=True):
                t.data = data


def _host(x):
    return np.asarray(to_host(data_of(x)))


def _is_float(x):
    return isinstance(x, Tensor) or getattr(getattr(x, "dtype", None), "kind", "") == "f"


def _float64(x):
    return data_of(x).astype(np.float64)


def _names(f, inputs):
    """The names that f's signature gives to the Tensors among its inputs."""
    names = []
    for p in inspect.signature(f).parameters.values():
        many = len(inputs) - len(names) if p.kind is p.VAR_POSITIONAL else 0
        names += [f"{p.name}[{j}]" for j in range(many)] or [p.name]
    return [name for name, a in zip(names, inputs, strict=False) if isinstance(a, Tensor)]
