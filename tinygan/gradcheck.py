"""Is a gradient right? Compare it with finite differences, to first and second order.

For a function f and a random array v in the shape of its result, S₀(x) = ⟨v, f(x)⟩ is one number, and its gradient is what `grad`
computes, J(x)ᵀ v. Along a random direction h that gradient must agree with a difference quotient of f's plain values:

    ⟨J(x)ᵀ v, h⟩  =  d/dt S₀(x + t h) at t = 0  ≈  (S₀(−2) − 8 S₀(−1) + 8 S₀(1) − S₀(2)) / 12 s,     S₀(i) = S₀(x + i s h)

The five-point stencil errs by O(s⁴): with s = 10⁻³ in float64 about 10⁻¹⁰ relative, so that the tolerance can be 10⁻⁷, where the
usual two-point quotient leaves room for real mistakes at 10⁻³.

Why random v and h? A wrong entry of J shows in ⟨v, J h⟩ unless v or h happens to be 0 there, so one number tests the whole matrix. A v
of ones would not do: rules that permute or mix the entries of ȳ pass it. Every entry of v and h is between ½ and 1 in size: no
element goes unchecked, and an x that is 2 s away from a kink stays on its side.

Second order is the same check of another function: the gradient itself. With a further random u

    S₁(x, v) = ⟨u, J(x)ᵀ v⟩

is again one number, computed by `grad(..., create_graph=True)` and differentiated once more, by x as by v. This is what a gradient
penalty does. It finds rules that are right as numbers but cut the graph; first order finds rules that are consistently wrong.

    check(tanh, x)                              an op, or any function of arrays; raises GradientError, or returns a Report
    check(loss_of_critic, wrt=D.parameters())   a closure over parameters, such as a GAN step with gradient penalty
    check_module(Conv2d(3, 4, 3), x)            a layer: its input and all its parameters
"""

import inspect
import math

import numpy as np

from .autograd import Tensor, grad
from .backend import device_of, restore_streams, stream_states, to_device, to_host

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


class GradientError(AssertionError):
    """A gradient that disagrees with its finite difference; has `argument`, `order`, `expected`, `got`, `error` (relative)."""

    def __init__(self, argument, order, expected, got, error, look):
        self.argument, self.order, self.expected, self.got, self.error, self.look = argument, order, expected, got, error, look
        super().__init__(f"derivative of order {order} with respect to {argument}: expected {expected:.10g} (finite difference), "
                         f"got {got:.10g}, relative error {error:.2g}.\n  Look first at: {look}")


class Report:
    """What was checked: `checks` comparisons; `errors[argument, order]`, the worst relative error of each kind."""

    def __init__(self):
        self.checks, self.errors = 0, {}

    def add(self, argument, order, error):
        self.checks += 1
        self.errors[argument, order] = max(error, self.errors.get((argument, order), 0.0))

    @property
    def worst(self):
        return max(self.errors.values(), default=0.0)

    def __repr__(self):
        rows = [f"{argument:<24} order {order}   worst relative error {e:.1e}" for (argument, order), e in self.errors.items()]
        return "\n".join([f"{self.checks} checks passed", *rows])


def check(f, *args, wrt=(), order=2, tolerance=1e-7, step=1e-3, seed=0, jacobian=False, names=None):
    """Check the derivatives of f(*args) up to `order`; return a `Report`, or raise `GradientError` at the first that is wrong.

    f: any function of arrays or Tensors that returns a Tensor, or several. args: arrays of floating point (or Tensors) are checked, as
    float64; anything else is passed on as it is. wrt: further Tensors that f uses, such as a network's parameters (set to float64
    during the check and restored after it). jacobian: also compare every single entry of J, at two evaluations of f per output and
    four per input. names: what to call the checked arguments and `wrt` in messages. Random streams are rewound before every
    evaluation, so f may draw from `backend.stream`. Points within 2 `step` of a kink cannot be checked.
    """
    inputs = [Tensor(_float64(a)) if _is_float(a) else a for a in args]
    leaves, wrt = [a for a in inputs if isinstance(a, Tensor)], list(wrt)
    names = list(names) if names else _names(f, inputs) + [t.name or f"wrt[{i}]" for i, t in enumerate(wrt)]
    if not leaves and not wrt or len(names) != len(leaves) + len(wrt):
        raise TypeError(f"check: expected floating-point arrays (or wrt=) to differentiate by and a name for each, got "
                        f"{len(leaves) + len(wrt)} and the names {names}")
    before = [t.data for t in wrt]
    try:
        for t in wrt:
            t.data = _float64(t)
        return _Check(f, inputs, leaves + wrt, names, tolerance, step, np.random.default_rng(seed)).run(order, jacobian)
    finally:
        for t, data in zip(wrt, before, strict=True):
            t.data = data


def check_module(module, *inputs, **options):
    """`check` of a layer or network with respect to its inputs and all its parameters.

    State that the forward pass moves, such as BatchNorm's running averages, is put back before every evaluation and at the end.
    """
    parameters = dict(module.named_parameters())
    state = {k: v for k, v in module.state_dict().items() if k not in parameters}

    def restore():
        if state:
            module.load_state_dict({**module.state_dict(), **state})

    def forward(*xs):
        restore()
        return module(*xs)

    names = [*_names(module.forward, [Tensor(_float64(x)) if _is_float(x) else x for x in inputs]), *parameters]
    try:
        return check(forward, *inputs, wrt=parameters.values(), **{"names": names, **options})
    finally:
        restore()


class _Check:
    """One function at one point: the numbers S₀, S₁, ... and their comparison with finite differences."""

    def __init__(self, f, inputs, leaves, names, tolerance, step, rng):
        self.f, self.inputs, self.leaves, self.names = f, inputs, leaves, names
        self.tolerance, self.step, self.rng, self.report = tolerance, step, rng, Report()
        self.streams = stream_states()
        self.cotangents = [Tensor(self.random(y)) for y in self.outputs(rewind=False)]          # v
        self.directions = {}                                                                    # u, per order

    def random(self, like):
        """An array like another, of random signs and sizes between ½ and 1."""
        draw = self.rng.choice([-1.0, 1.0], like.shape) * self.rng.uniform(0.5, 1.0, like.shape)
        return to_device(np.asarray(draw), device_of(_raw(like)))

    def outputs(self, rewind=True):
        if rewind:
            restore_streams(self.streams)
        y = self.f(*self.inputs)
        if not rewind:
            self.streams = {**stream_states(), **self.streams}      # also those that f has just opened
        return y if isinstance(y, (tuple, list)) else [y]

    def variables(self, order):
        """What S is differentiated by to reach this order: x, and from the second order on also v."""
        return self.leaves if order == 1 else self.leaves + self.cotangents

    def terms(self, order, record=False):
        """The pairs whose inner products add up to S: (f, v) for S₀, (gradient of the S below, u) for the others."""
        if order == 0:
            return list(zip(self.outputs(), self.cotangents, strict=True))
        slopes = self.slopes(order, record)
        if order not in self.directions:
            self.directions[order] = [self.random(x) for x in slopes]
        return list(zip(slopes, self.directions[order], strict=True))

    def slopes(self, order, record=False):
        """The gradient of S₍order−1₎, one array per variable."""
        s, variables = 0.0, self.variables(order)
        for a, b in self.terms(order - 1, record=True):
            s = s + (a * b).sum()
        for x in variables:
            s = s + (x * 0.0).sum()         # so that a function that is constant in x has the gradient 0, and not an error
        return grad(s, variables, create_graph=record)

    def numeric(self, order, x, h, step=None):
        """The difference quotient of S₍order−1₎ along h in x, and the size of the terms that S adds up."""
        centre, slope, size, step = x.data, 0.0, 0.0, step or self.step
        for i, c in STENCIL:
            x.data = centre + (i * step) * h
            parts = [_host(a) * _host(b) for a, b in self.terms(order - 1)]
            slope += c * math.fsum(p.sum() for p in parts) / step
            size = max(size, math.fsum(np.abs(p).sum() for p in parts))
        x.data = centre
        return slope, size

    def compare(self, order, k, x, slope, h):
        """(expected, got, relative error) of the derivative along h in x."""
        expected, size = self.numeric(order, x, h)
        got = float((_host(slope) * _host(h)).sum())
        scale = max(abs(expected), float(np.linalg.norm(_host(slope))), 1e-4 * size, 1e-300)
        error = abs(got - expected) / scale                 # 1e-4 · size: where S cancels, its rounding is no mistake of the rule
        return expected, got, error if math.isfinite(error) else math.inf

    def run(self, order, jacobian):
        for n in range(1, order + 1):
            names = self.names + [f"the cotangent{i or ''}" for i in range(len(self.cotangents))]
            try:
                slopes = self.slopes(n)
                if n == 1 and order > 1:
                    self.readings(slopes)
            except (TypeError, ValueError, AttributeError, IndexError) as e:
                raise GradientError("all arguments", n, math.nan, math.nan, math.nan, f"{type(e).__name__}: {e}") from e
            for k, (x, slope) in enumerate(zip(self.variables(n), slopes, strict=True)):
                h = self.random(x)
                expected, got, error = self.compare(n, k, x, slope, h)
                if not error <= self.tolerance:
                    raise GradientError(names[k], n, expected, got, error, self.look(n, k, x, slope, h, expected, got))
                self.report.add(names[k], n, error)
            if n == 1 and jacobian:
                self.jacobian()
        return self.report

    def readings(self, slopes):
        """The plain and the recorded backward pass compute the same numbers."""
        for name, plain, recorded in zip(self.names, slopes, self.slopes(1, record=True), strict=True):
            plain, recorded = _host(plain), _host(recorded)
            error = float(np.abs(plain - recorded).max(initial=0.0) / max(np.abs(recorded).max(initial=0.0), 1e-300))
            if not error <= 1e-12:
                raise GradientError(name, 1, float(np.sum(recorded)), float(np.sum(plain)), error,
                                    "the plain and the recorded reading of the rules differ (here their sums): a shortcut "
                                    "(fast_vjp), or a rule that asks what type it was given")
            self.report.add(name, "1, both readings", error)

    def jacobian(self):
        """Every entry of ∂yᵢ/∂xⱼ, the rows by `grad`, the columns by the stencil."""
        for name, x in zip(self.names, self.leaves, strict=True):
            rows, columns, centre = [], [], x.data
            for k, y in enumerate(self.outputs()):
                for i in range(y.size):
                    unit = to_device(np.eye(1, y.size, i).reshape(y.shape), device_of(_raw(y)))
                    y = self.outputs()[k]
                    rows.append(_host(grad((y * unit).sum() + (x * 0.0).sum(), x)).ravel())
            for j in range(x.size):
                h, column = to_device(np.eye(1, x.size, j).reshape(x.shape), device_of(centre)), 0.0
                for i, c in STENCIL:
                    x.data = centre + (i * self.step) * h
                    column = column + c / self.step * np.concatenate([_host(y).ravel() for y in self.outputs()])
                columns.append(column)
            x.data = centre
            if not rows or not columns:
                continue
            got, expected = np.stack(rows), np.stack(columns, axis=1)                                # (outputs, inputs)
            size = max(np.abs(_host(y)).max() for y in self.outputs() if y.size)
            error = np.abs(got - expected) / max(np.abs(expected).max(), 1e-4 * size, 1e-300)
            i, j = np.unravel_index(np.argmax(error), error.shape)
            if not error[i, j] <= self.tolerance:
                raise GradientError(name, 1, expected[i, j], got[i, j], error[i, j], f"output {i}, input {j} (both flattened)")
            self.report.add(name, "1, every entry", float(error[i, j]))

    def look(self, order, k, x, slope, h, expected, got):
        """Where a reader should look first, from what kind of wrong it is."""
        finer, _ = self.numeric(order, x, h, self.step / 4)
        if not math.isfinite(expected):
            return "the function itself, which is not finite near this point"
        if abs(finer - expected) > 1e-2 * abs(got - expected):
            return "the point: the finite difference does not settle, so it lies near a kink, a jump or a pole; move it, or try a " \
                   f"smaller step (step {self.step:g} gives {expected:.10g}, step {self.step / 4:g} gives {finer:.10g})"
        first = "" if order == 1 else "first order is right, so the formula is. "
        if order > 1 and len(self.directions[order - 1]) > 1:
            first += f"It is the gradient by {self.culprit(order, x, h, slope)} that has a wrong slope. "
        cut = "a .data, a NumPy function or a number taken out of a Tensor cuts the graph"
        if got == 0:
            return first + f"{cut} on the way, or the rule returns 0"
        ratios = [got / expected] if expected else []
        for _ in range(3):
            e, g, _ = self.compare(order, k, x, slope, self.random(x))
            ratios += [g / e] if e else []
        if ratios and x.size > 1 and max(ratios) - min(ratios) < 1e-6 * abs(ratios[0]):
            return first + ("the sign: expected and got are opposite" if abs(ratios[0] + 1) < 1e-6 else
                            f"a factor: what came is {ratios[0]:.6g} times what was expected, in every direction")
        if order > 1:
            return first + f"Inside the rule {cut}, or a helper op that it calls has a wrong rule"
        if self.passes_unbroadcast(x):
            return "broadcasting: with all arguments expanded to one shape this argument's gradient is right"
        return f"the formula of the rule for {self.names[k]}; a transposed, shifted or swapped term changes single entries"

    def culprit(self, order, x, h, slope):
        """The variable whose gradient is differentiated wrongly by x."""
        everything, names = self.directions[order - 1], self.names + ["the cotangent"] * len(self.cotangents)
        position, found = [y is x for y in self.variables(order)].index(True), "some argument"
        for i in range(len(everything)):
            self.directions[order - 1] = [u * float(i == j) for j, u in enumerate(everything)]
            if self.compare(order, position, x, self.slopes(order)[position], h)[2] > self.tolerance:
                found = names[i]
                break
        self.directions[order - 1] = everything
        return found

    def passes_unbroadcast(self, x):
        """Whether the first order in x is right once all checked arguments are expanded to their common shape."""
        try:
            shape = np.broadcast_shapes(*(t.shape for t in self.leaves))
            if all(t.shape == shape for t in self.leaves):
                return False
            full = [Tensor(t.data + 0.0 * sum(u.data for u in self.leaves)) for t in self.leaves]
            place = {id(t): u for t, u in zip(self.leaves, full, strict=True)}
            other = _Check(self.f, [place.get(id(a), a) for a in self.inputs], full, self.names, self.tolerance, self.step, self.rng)
            k = [t is x for t in self.leaves].index(True)
            return other.compare(1, k, full[k], other.slopes(1)[k], other.random(full[k]))[2] <= self.tolerance
        except (TypeError, ValueError):
            return False


def _raw(x):
    return x.data if isinstance(x, Tensor) else x


def _host(x):
    return np.asarray(to_host(_raw(x)))


def _is_float(x):
    return isinstance(x, Tensor) or getattr(getattr(x, "dtype", None), "kind", "") == "f"


def _float64(x):
    return _raw(x).astype(np.float64)


def _names(f, inputs):
    """Names for the Tensors among the inputs: those of f's parameters where it has a readable signature."""
    try:
        found = [p for p in inspect.signature(f).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    except (TypeError, ValueError):
        found = []
    names = []
    for i in range(len(inputs)):
        rest = i - len(found) + 1
        many = found and found[-1].kind is found[-1].VAR_POSITIONAL and rest >= 0
        names.append(f"{found[-1].name}[{rest}]" if many else found[i].name if i < len(found) else f"argument {i}")
    return [name for name, a in zip(names, inputs, strict=True) if isinstance(a, Tensor)]
