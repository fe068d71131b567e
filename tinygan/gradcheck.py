"""Is a gradient right? Compare it with finite differences, to first and second order.

For a function f and a random array v in the shape of its result, S(x) = ⟨v, f(x)⟩ is one number.
Its gradient, J(x)ᵀ v with the Jacobian J of f, is what `grad` computes. Along a random direction h
that gradient must agree with a difference quotient of f's plain values:

    ⟨J(x)ᵀ v, h⟩ = d/dt S(x + t h) at t = 0 ≈ (S(−2) − 8 S(−1) + 8 S(1) − S(2)) / 12 s

where S(i) is short for S(x + i s h). This five-point stencil errs by O(s⁴): with s = 10⁻³ in
float64 by about 10⁻¹⁰ relative. So the tolerance can be 10⁻⁷, where the usual two-point quotient
needs 10⁻³.

Why random v and h? A wrong entry of J shows in ⟨v, J h⟩ unless v or h happens to be 0 there, so one
number tests the whole matrix. A v of ones would not do: rules that permute or mix the entries of ȳ
pass it. Every entry of v and h is between ½ and 1 in size: no element goes unchecked, and an x that
is 2 s away from a kink stays on its side.

Second order is the same check of another function: the gradient itself.

    order   the function          of        made one number     whose gradient is compared by
    1       f(x)                  x         S = ⟨v, f⟩          x
    2       ∇S = J(x)ᵀ v          x, v      S′ = ⟨u, ∇S⟩        x and v
    3       ∇S′                   x, v      ⟨w, ∇S′⟩            x and v

This is what a gradient penalty does. It finds rules that are right as numbers but cut the graph.
First order finds rules whose numbers are wrong.

    check(tanh, x)                              an op, or any function of arrays
    check(loss, wrt=D.parameters())             a closure over parameters, such as a GAN step
    check_module(Conv2d(3, 4, 3), x)            a layer: its input and all its parameters

Each returns a Report, or raises GradientError, which says where to look first (diagnosis.py).
"""

import math

import numpy as np

from . import diagnosis
from .autograd import Tensor, data_of, grad
from .backend import device_of, to_device
from .randomness import Randomness, current
from .tracing import cancelled, close, host, overwriter, same, tensor_names

OVERWRITTEN = "arrays to stay as they are", "other numbers in one", math.inf
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


class GradientError(AssertionError):
    """A gradient that is wrong, or that cannot be checked.

    Attributes: `argument` and `order` of the derivative, what was `expected` and what was `got`
    (numbers, or words where no number came), the relative `error`, and where to `look` first.
    """

    def __init__(self, argument, order, expected, got, error, look):
        self.argument, self.order, self.expected, self.got = argument, order, expected, got
        self.error, self.look = error, look
        if not isinstance(expected, str):
            expected = f"{expected:.10g} (finite difference)"
            got = f"{got:.10g}, relative error {error:.2g}"
        super().__init__(f"derivative of order {order} with respect to {argument}: "
                         f"expected {expected}, got {got}.\n  Look first at: {look}")


class Report:
    """What was checked: the number of `checks`; the worst of each in `errors[argument, order]`."""

    def __init__(self):
        self.checks, self.errors = 0, {}

    def add(self, argument, order, error):
        self.checks += 1
        self.errors[argument, order] = max(float(error), self.errors.get((argument, order), 0.0))

    worst = property(lambda self: max(self.errors.values(), default=0.0))

    def __repr__(self):
        rows = [f"{argument:<24} order {order}   worst relative error {e:.1e}"
                for (argument, order), e in self.errors.items()]
        return "\n".join([f"{self.checks} checks passed", *rows])


def check(f, *args, wrt=(), order=2, tolerance=1e-7, step=1e-3, seed=0, jacobian=False, names=None):
    """Check the derivatives of f(*args) up to `order`; return a `Report` or raise `GradientError`.

    f: any function of arrays or Tensors that returns a Tensor, or several. args: floating-point
    arrays, Tensors and lists of numbers with a decimal point are checked, as float64; anything else
    is passed on as it is. wrt: further Tensors that f uses, such as a network's parameters (float64
    during the check, put back after it). jacobian: compare every entry of J, too. names: what
    messages call the checked arguments and `wrt`. tinygan's random generators are rewound before
    every evaluation, so f may draw from `rng`. What f itself raises is raised as it is. A point
    within 2 `step` of a kink cannot be checked.
    """
    inputs, wrt = [_tensors(a) for a in args], [wrt] if isinstance(wrt, Tensor) else list(wrt)
    named = tensor_names(f, inputs)
    leaves = [t for _, t in named] + wrt
    names = list(names or [n for n, _ in named]
                 + [getattr(t, "name", "") or f"wrt[{i}]" for i, t in enumerate(wrt)])
    if not leaves or len(names) != len(leaves) or not all(isinstance(t, Tensor) for t in wrt):
        raise TypeError("check: expected floating-point arrays to differentiate by (or Tensors in "
                        f"wrt=) and a name for each, got {len(leaves)} and the names {names}; "
                        "integers are passed on as they are, so write [0., 1.] for [0, 1]")
    randomness, before = current().copy(), [t.data for t in wrt]

    def values(record=False):
        with randomness.copy():                     # the same random numbers in every evaluation
            y = f(*inputs)
        y = list(y) if isinstance(y, (tuple, list)) else [y]
        if not all(hasattr(a, "shape") for a in y):
            raise TypeError(f"check: f must return a Tensor, or several, got {y!r:.60}; "
                            "a number taken out of a Tensor has no gradient")
        return y
    how = _How(tolerance, step, Randomness(seed).rng("check"), Report())
    try:
        for t in wrt:
            t.data = _float64(t)
        return _check_orders(values, leaves, names, order, jacobian, how)
    finally:
        for t, data in zip(wrt, before, strict=True):
            t.data = data


def check_module(module, *inputs, **options):
    """`check` of a layer or network with respect to its inputs and all its parameters.

    Its state, such as BatchNorm's running averages, is float64 during the check, and the same
    before every evaluation. Afterwards, also after an error, every attribute is what it was.
    """
    parameters = module.named_parameters()
    before = [(vars(m), dict(vars(m))) for m in module.modules()]

    def forward(*xs):
        _set_attributes(before, lambda v: _copied(v, list(parameters.values())))
        return module(*xs)
    names = [name for name, _ in tensor_names(module.forward, [_tensors(x) for x in inputs])]
    options = {"wrt": parameters.values(), "names": [*names, *parameters], **options}
    try:
        return check(forward, *inputs, **options)
    except GradientError as e:
        moved = any(_is_state(v) and not same(now.get(name), v)
                    for now, values in before for name, v in values.items())
        raise diagnosis.of_module(e, moved) from e.__cause__
    finally:
        _set_attributes(before, lambda v: v)


class _How:
    """The settings of a check, its random numbers and its report."""

    def __init__(self, tolerance, step, rng, report):
        self.tolerance, self.step, self.rng, self.report = tolerance, step, rng, report

    def random(self, like):
        """An array like another, of random signs and sizes between ½ and 1."""
        draw = self.rng.choice([-1.0, 1.0], like.shape) * self.rng.uniform(0.5, 1.0, like.shape)
        return to_device(np.asarray(draw), device_of(data_of(like)))


class WeightedSum:
    """S = ⟨v, f⟩ of a function f of some variables: one number, and its gradient.

    f is called as f(record) and returns a list: of Tensors that can be differentiated if `record`
    is true, else of Tensors or arrays. The `weights` are the random v. `inner` is the sum whose
    gradient f is, None at first order. `size` is how large the terms have been.
    """

    def __init__(self, f, variables, names, how, inner=None):
        self.f, self.variables, self.names, self.how, self.inner = f, variables, names, how, inner
        self.order, self.size = (inner.order + 1, inner.size) if inner else (1, 0.0)
        values = f(False)
        self.start = [np.array(host(y)) for y in values]        # to see later if f still gives them
        self.weights = [Tensor(how.random(y)) for y in values]

    def gradient(self, record=False):
        """∇S by every variable, from `grad`: arrays, or with `record` Tensors."""
        s, values = 0.0, self.f(True)
        for y, v in zip(values, self.weights, strict=True):
            s = s + (y * v).sum()
        for x in self.variables:
            s = s + (x * 0.0).sum()                 # what f does not use has the gradient 0
        try:
            return grad(s, self.variables, create_graph=record)
        except Exception as e:                      # whatever a rule does wrong
            raise diagnosis.of_exception(e, self, values, record) from e

    def value(self, x, t, h):
        """S where x is moved by t h, and the sum of the sizes of its terms."""
        centre = x.data
        x.data = centre + t * h
        try:
            terms = [host(y) * host(v) for y, v in zip(self.f(False), self.weights, strict=True)]
        except Exception as e:
            e.add_note(f"(raised where gradcheck evaluates f, a distance of {t:g} from the point)")
            raise
        finally:
            x.data = centre
        return math.fsum(a.sum() for a in terms), math.fsum(np.abs(a).sum() for a in terms)

    def compare(self, x, gradient, h, step):
        """(expected, got, relative error) of the slope of S along h in x."""
        values = [self.value(x, i * step, h) for i, _ in STENCIL]
        expected = sum(c * s for (_, c), (s, _) in zip(STENCIL, values, strict=True)) / step
        got = float((host(gradient) * host(h)).sum())
        size = max(s for _, s in values)
        self.size = max(size, self.size)
        # Where S cancels (the two sizes), its rounding is no mistake of the rule.
        scale = max(abs(expected), float(np.linalg.norm(host(gradient))), 1e-4 * size,
                    1e-7 * self.size, 1e-300)
        error = abs(got - expected) / scale
        return expected, got, error if math.isfinite(error) else math.inf


def _check_orders(values, leaves, names, order, jacobian, how):
    """Check f, then its gradient as a function of x and v, then the gradient of that."""
    before = [np.array(host(x)) for x in leaves]
    s = first = WeightedSum(values, leaves, names, how)
    _check_tape(values())
    for x, name, data in zip(leaves, names, before, strict=True):
        if not same(x, data):
            raise GradientError(name, 1, *OVERWRITTEN, "f, which writes into its argument")
    _check_repeats(first)
    for n in range(1, order + 1):
        if n == 2:
            _check_readings(first)
            _check_tape(first.gradient(record=True))
        if n > 1:
            cotangents = ["the cotangent"] * len(first.weights)
            s = WeightedSum(s.gradient, leaves + first.weights, names + cotangents, how, inner=s)
        for x, gradient, name in zip(s.variables, s.gradient(), s.names, strict=True):
            h = how.random(x)
            expected, got, error = s.compare(x, gradient, h, how.step)
            if not error <= how.tolerance:
                look = diagnosis.look(s, x, gradient, h, expected, got)
                raise GradientError(name, n, expected, got, error, look)
            how.report.add(name, n, error)
        if n == 1 and jacobian:
            _check_jacobian(first)
    _check_repeats(first)
    return how.report


def _check_tape(results):
    """No op on the way to these results, and no rule, writes into an array that it was given."""
    found = overwriter(results)
    if found:
        t, name, what = found
        raise GradientError(name, 1, *OVERWRITTEN, f"{t.op.name}, which writes into {what} in its "
                            f"forward pass or in its rule for {name}; make a new array instead "
                            "(not g *= 2 but g * 2)")


def _check_repeats(s):
    """f gives what it gave at first."""
    if not all(close(a, b) for a, b in zip(s.f(False), s.start, strict=True)):
        raise GradientError("all arguments", s.order, "the same result from the same arguments",
                            "another one at a later call", math.inf, diagnosis.RANDOM)


def _check_readings(s):
    """The plain and the recorded backward pass compute the same numbers."""
    pairs = [(host(plain), recorded) for plain, recorded in
             zip(s.gradient(), s.gradient(record=True), strict=True)]
    largest = max(np.abs(plain).max(initial=0.0) for plain, _ in pairs)
    for name, (plain, recorded) in zip(s.names, pairs, strict=True):
        off = np.abs(plain - host(recorded)).max(initial=0.0)
        scale = max(np.abs(host(recorded)).max(initial=0.0), 1e-4 * largest, 1e-300)
        if not off <= 1e-12 * scale:
            scale = max(scale, cancelled(recorded, s.how.random(recorded)))
        if not off <= 1e-12 * scale:
            _check_repeats(s)
            raise GradientError(
                name, 1, float(host(recorded).sum()), float(plain.sum()), off / scale,
                "the two readings, which differ (here the sums of the recorded and the plain "
                "gradient): a shortcut, or a rule that asks for types")
        s.how.report.add(name, "1, both readings", off / scale)


def _check_jacobian(s):
    """Every entry of ∂yᵢ/∂xⱼ: rows by `grad`, columns by the stencil."""
    def unit(like, i):
        return to_device(np.eye(1, like.size, i).reshape(like.shape), device_of(data_of(like)))
    y, step = s.f(), s.how.step
    size = max((np.abs(host(a)).max(initial=0.0) for a in y), default=0.0)
    for name, x in zip(s.names, s.variables, strict=True):
        got, expected = np.zeros((2, sum(a.size for a in y), x.size))       # (outputs, inputs)
        for row, (k, i) in enumerate((k, i) for k, a in enumerate(y) for i in range(a.size)):
            entry = (s.f()[k] * unit(y[k], i)).sum() + (x * 0.0).sum()
            got[row] = host(grad(entry, x)).ravel()
        centre = x.data
        for j in range(x.size):
            for i, c in STENCIL:
                x.data = centre + (i * step) * unit(x, j)
                expected[:, j] += c / step * np.concatenate([host(a).ravel() for a in s.f()])
        x.data = centre
        if got.size:
            error = np.abs(got - expected) / max(np.abs(expected).max(), 1e-4 * size, 1e-300)
            i, j = np.unravel_index(np.argmax(error), error.shape)
            if not error[i, j] <= s.how.tolerance:
                raise GradientError(name, 1, expected[i, j], got[i, j], error[i, j], "the entry "
                                    f"for output {i} and input {j}, counted through all axes")
            s.how.report.add(name, "1, every entry", error[i, j])


# ------------------------------------------------------------------ arguments and attributes


def _tensors(a):
    """A float64 Tensor for an array or a list of floating-point numbers; anything else as it is."""
    if isinstance(a, (list, tuple)):
        if any(isinstance(b, Tensor) or getattr(b, "ndim", 0) for b in a):
            return [_tensors(b) for b in a]
        try:
            numbers = np.asarray(a)
        except (TypeError, ValueError):             # no rectangle of numbers
            return a
        return Tensor(_float64(numbers)) if numbers.dtype.kind == "f" and numbers.size else a
    is_float = isinstance(a, Tensor) or getattr(getattr(a, "dtype", None), "kind", "") == "f"
    return Tensor(_float64(a)) if is_float else a


def _float64(x):
    """A copy of an array or of a Tensor's, as float64."""
    return data_of(x).astype(np.float64)


def _set_attributes(before, change):
    """Give every module the attributes it had, each after `change`."""
    for attributes, values in before:
        attributes.clear()
        attributes.update({name: change(v) for name, v in values.items()})


def _copied(v, parameters):
    """A copy of an attribute: floating-point state as float64; parameters and parts themselves."""
    if type(v) in (list, tuple):
        return type(v)(_copied(a, parameters) for a in v)
    if type(v) is dict:
        return {k: _copied(a, parameters) for k, a in v.items()}
    if not _is_state(v) or any(v is p for p in parameters):
        return v
    copy = _float64(v) if v.dtype.kind == "f" else v.copy()
    return Tensor(copy) if isinstance(v, Tensor) else copy


def _is_state(v):
    """Whether an attribute is a Tensor or an array."""
    return isinstance(v, Tensor) or hasattr(v, "dtype") and hasattr(v, "__setitem__")
