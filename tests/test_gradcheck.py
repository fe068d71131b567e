"""The checker checks: planted mistakes are found, and described so that a reader knows where to look."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from table import draw

from tinygan import nn, ops
from tinygan.autograd import Tensor, data_of, grad, no_grad, op
from tinygan.backend import to_device, to_host
from tinygan.gradcheck import GradientError, Report, check, check_module
from tinygan.randomness import rng, seed

X = draw((2, 3), 0.5, 2)


def cube(*rules):
    """y = x³ with the given rule."""
    @op
    def cube(x):
        return x * x * x
    cube.vjps(*rules)
    return cube


def failure(f, *args, **options):
    with pytest.raises(GradientError) as e:
        check(f, *args, **options)
    return e.value


def test_a_right_rule_passes_and_is_reported(device):
    report = check(cube(lambda g, y, x: 3 * g * x * x), to_device(X, device), order=3, jacobian=True)
    assert isinstance(report, Report) and report.worst < 1e-9
    assert report.errors.keys() == {("x", "1, both readings"), ("x", 1), ("x", 2),
                                    ("the cotangent", 2),
                                    ("x", 3), ("the cotangent", 3)}
    assert report.checks == 6 + X.size and "12 checks passed" in repr(report)


@pytest.mark.parametrize("rule, order, words", [
    (lambda g, y, x: -3 * g * x * x, 1, "the sign, which is reversed"),
    (lambda g, y, x: 2 * g * x * x, 1, "a factor: what came is 0.666667 times"),
    (lambda g, y, x: g * x, 1, "the formula of the rule"),
    (lambda g, y, x: 3 * g[::-1] * x * x, 1, "transposed, shifted or swapped"),
    (lambda g, y, x: 0.0 * x, 1, "a rule returns 0"),
    (lambda g, y, x: 3.00001 * g * x * x, 1, "a factor: what came is 1 times"),
    (lambda g, y, x: 3 * g * data_of(x) ** 2, 2, "cuts the graph"),
    (lambda g, y, x: 3 * data_of(g) * x * x, 2, "cuts the graph"),
    (lambda g, y, x: 3 * g * x * data_of(x), 2, "what came is 0.5 times"),
    (lambda g, y, x: g * x * x + data_of(x) * data_of(x) * g * 2, 2,
     "As a number it is right (order 1 passed)"),
    (lambda g, y, x: 3 * g * np.frexp(x)[0] * 2 ** np.frexp(x)[1] * x, 2, "TypeError"),
    (lambda g, y, x: 3 * g * x * x * (1.0 if isinstance(x, Tensor) else 1.01), 1,
     "a factor: what came is 1.01 times"),
    (lambda g, y, x: 3 * g * x * x * (1 + 1e-9 if isinstance(x, Tensor) else 1.0), 1, "the two readings"),
], ids=range(13))
def test_a_planted_mistake_is_found_and_described(rule, order, words):
    error = failure(cube(rule), X)
    assert error.order == order and words in str(error)
    assert f"derivative of order {order}" in str(error) and "expected" in str(error) and "Look first at" in str(error)


def test_the_argument_is_named():
    @op
    def product(left, right):
        return left * right
    product.vjps(lambda g, y, a, b: g * b, lambda g, y, a, b: 0.5 * g * a)
    assert failure(product, X, X + 1).argument == "right"
    assert failure(product, X, X + 1, names=["p", "q"]).argument == "q"
    assert failure(lambda *xs: product(*xs), X, X + 1).argument == "xs[1]"
    product.vjps(lambda g, y, a, b: g * data_of(b), lambda g, y, a, b: g * a)
    assert "the rule for left" in failure(product, X, X + 1).look


def test_a_mistake_that_shows_only_when_broadcast_is_called_that():
    @op
    def total(a, b):
        return a + b
    total.vjps(lambda g, y, a, b: g,
               lambda g, y, a, b: g * (np.arange(1.0, 3.0)[:, None] if g.shape != b.shape else 1.0))
    check(total, X, X + 1)
    error = failure(total, X, X[:1])
    assert error.argument == "b" and "broadcasting" in error.look


def test_one_wrong_entry_in_a_large_jacobian_is_found():
    """Random cotangents and directions have no zeros, so a single wrong number among 10⁴ shows; a
    cotangent of ones would miss it."""
    a = draw((100, 100))

    def bad(slip):
        @op
        def product(x):
            return a @ x
        wrong = a.copy()
        # the sum over outputs is unchanged
        wrong[3, 7], wrong[4, 7] = wrong[3, 7] + slip, wrong[4, 7] - slip
        product.vjps(lambda g, y, x: ops.matmul(wrong.T, g))
        return product
    check(bad(0.0), draw((100, 1)))
    assert failure(bad(0.01), draw((100, 1))).order == 1
    x = Tensor(draw((100, 1)))
    np.testing.assert_allclose(grad(bad(0.01)(x).sum(), x), a.sum(axis=0)[:, None])


def test_jacobian_looks_along_every_axis():
    @op
    def f(x):
        return x * 2
    f.vjps(lambda g, y, x: g * 2 + 1e-5 * np.array([0.0, 0.0, 1.0]) * g.sum())
    error = failure(f, np.ones(3), jacobian=True, order=1)
    assert error.order == 1


def test_a_kink_is_not_blamed_on_the_rule():
    assert "kink" in failure(ops.relu, np.array([5e-4, 1.0])).look
    check(ops.relu, np.array([3e-3, 1.0]))


def test_a_function_that_is_not_finite_is_not_blamed_on_the_rule():
    with np.errstate(all="ignore"):
        assert "not finite" in failure(ops.log, np.array([-1.0, 1.0])).look


def test_a_function_that_cuts_the_graph_is_found():
    assert "cuts the graph" in failure(lambda x: ops.tanh(x.data) * 2.0 + x * 0.0, X).look
    assert "cuts the graph" in failure(lambda x: ops.tanh(x.data), X).look


def test_only_floating_point_arrays_are_checked(device):
    index = to_device(np.array([2, 0, 2]), device)
    report = check(lambda w, i, scale: w[i] * scale, to_device(draw((3, 2)), device), index, 2.5)
    assert {name for name, _ in report.errors} == {"w", "the cotangent"}
    with pytest.raises(TypeError, match="floating-point"):
        check(lambda i: i, index)


def test_float32_arguments_are_checked_in_float64(device):
    assert check(ops.exp, to_device(X.astype(np.float32), device)).worst < 1e-9


def test_several_outputs():
    check(lambda x: (ops.sin(x), x * x), X)
    assert failure(lambda x: (ops.sin(x), cube(lambda g, y, x: g)(x)), X).order == 1


def test_constant_and_linear_functions_have_derivative_zero():
    assert check(lambda x: x * 3.0, X, order=3).worst < 1e-7
    assert check(lambda x: Tensor(np.ones(2)), X).worst < 1e-7


def test_empty_arrays_pass():
    assert check(ops.exp, np.zeros((0, 3)), jacobian=True).worst == 0


def test_parameters_are_put_back(device):
    """Parameters are float64 during the check and bit for bit what they were after it, also after a
    failure."""
    layer = nn.Linear(3, 2).to(device)
    before = [p.data for p in layer.parameters()]
    check_module(layer, to_device(X, device))
    with pytest.raises(GradientError):
        check(lambda: cube(lambda g, y, x: g)(layer.weight), wrt=layer.parameters()[:1])
    assert all(p.data is b for p,
               b in zip(layer.parameters(), before, strict=True)) and before[0].dtype == np.float32


def test_running_averages_are_put_back(device):
    layer = nn.BatchNorm(3).to(device)
    before = layer.state_dict()
    check_module(layer, to_device(X, device))
    assert all(np.array_equal(v, before[k]) for k, v in layer.state_dict().items())


def test_layer_mistakes_name_the_parameter():
    class Bad(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            return x @ ops.tanh(self.inner.weight.data * 2.0) + self.inner.bias + 0.0 * self.inner.weight.sum()
    with pytest.raises(GradientError) as e:
        check_module(Bad(), X)
    assert e.value.argument == "inner.weight" and "cuts the graph" in e.value.look


def test_random_functions_are_rewound():
    """Dropout would be another function at every evaluation; the streams go back to where they stood
    before each."""
    seed(5)
    check(lambda x: x * rng("dropout").random(x.shape), X)
    check_module(nn.Dropout(0.5), X)


def test_a_gradient_penalty_is_checked_to_second_order_itself(device):
    """f may take gradients inside: its first derivative is then a second one, its second a third."""
    w = Tensor(to_device(draw((3, 1)), device), "w")
    x = to_device(X, device)

    def penalty():
        inner = Tensor(x)
        slope = grad(ops.tanh(inner @ w).sum(), inner, create_graph=True)
        return ((ops.norm(slope, axis=1) - 1.0) ** 2).mean()
    report = check(penalty, wrt=[w])
    assert report.errors["w", 2] < 1e-7


def test_errors_are_relative():
    """Large and small functions are held to the same standard."""
    for scale in (1e-12, 1e12):
        check(lambda x, scale=scale: scale * ops.sin(x), X)
        assert failure(lambda x, scale=scale: scale * cube(lambda g, y, x: 3.0001 * g * x * x)(x),
                       X).error > 1e-6


def test_the_finite_difference_is_good_to_ten_digits():
    """The stencil's own error, against a derivative in closed form: the room that the tolerance needs."""
    assert check(ops.exp, draw((5,), -1, 1)).worst < 1e-10
    assert check(lambda x: 1 / x, draw((5,), 0.5, 1)).worst < 1e-7


def test_results_are_reproducible():
    a, b, c = check(ops.exp, X), check(ops.exp, X), check(ops.exp, X, seed=1)
    assert a.errors == b.errors and a.errors != c.errors


# ---------------------------------------------------------------------------- nothing is overwritten


def in_place(name):
    """A right rule of y = x³ that then writes into one of the arrays it was given."""
    def rule(g, y, x):
        share = 3 * g * x * x
        data_of({"g": g, "y": y, "x": x}[name])[...] *= 2
        return share
    return rule


@pytest.mark.parametrize("name, what", [("g", "the incoming gradient"), ("y", "its result"),
                                        ("x", "its argument x")])
def test_a_rule_that_writes_into_what_it_was_given_is_named(name, what):
    """Its own numbers are right, but other gradients break: alone, in a network, in either reading."""
    bad = cube(in_place(name))
    for f in (bad, lambda x: ops.tanh(bad(0.1 * x) + 1.0), lambda x: bad(x.sum(axis=0)) * x):
        for order in (1, 2):
            error = failure(f, X, order=order)
            assert error.argument == "x" and "cube" in error.look and what in error.look

    def only_plain(g, y, x):
        return in_place(name)(g, y, x) if isinstance(g, np.ndarray) else 3 * g * x * x
    assert what in failure(cube(only_plain), X).look


def test_an_op_that_only_a_rule_calls_must_not_overwrite_either():
    inner = cube(in_place("g"))
    error = failure(cube(lambda g, y, x: 3 * g * x * x + 0.0 * inner(x)), X)
    assert "cube" in error.look and "the incoming gradient" in error.look


def test_a_forward_pass_that_overwrites_its_argument_is_named():
    @op
    def halve(left, right):
        right /= 2
        return left * right
    halve.vjps(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a / 2)
    error = failure(halve, X, X + 1)
    assert "halve" in error.look and "its argument right" in error.look

    def f(x):
        x.data *= 1.5
        return x * 1.0
    error = failure(f, X)
    assert "writes into its argument" in error.look


# ---------------------------------------------------------------------------- hints that do not mislead


@pytest.mark.parametrize("f", [ops.relu, lambda x: ops.leaky_relu(x) * ops.exp(x),
                               lambda x: ops.where(x.data > 0, 3.0 * x, x) + ops.sin(x)])
def test_a_point_on_a_kink_is_called_that(f):
    """The central difference of relu at 0 is ½ at every step: only the one-sided slopes show the kink."""
    look = failure(f, [0.0, 1.0]).look
    assert "kink" in look and "on one side" in look and "rule" not in look


def test_a_wrong_rule_is_not_called_a_kink():
    """Steep or small, a smooth function keeps its slope when the step shrinks."""
    for scale in (1e-6, 1.0, 5.0):
        wrong = cube(lambda g, y, x: 3.00001 * g * x * x)
        look = failure(lambda x, scale=scale, wrong=wrong: wrong(ops.sin(scale * x)), X).look
        assert "cube" in look and "kink" not in look


@pytest.mark.parametrize("f", [lambda x: x * np.random.uniform(size=x.shape),  # noqa: NPY002
                               lambda x: x + 1e-9 * np.random.uniform(size=x.shape)])  # noqa: NPY002
def test_a_random_function_is_called_that(f):
    assert "not deterministic" in failure(f, X).look


@pytest.mark.parametrize("change", range(1, 21))
def test_a_function_that_changes_from_call_to_call_is_called_that(change):
    """Whenever during the check the change comes."""
    calls = []

    def f(x):
        calls.append(x)
        return x * (2.0 if len(calls) > change else 1.0)
    assert "not deterministic" in failure(f, X).look


def test_a_random_rule_is_called_that():
    noise = iter(np.linspace(1, 2, 1000))
    assert "not deterministic" in failure(cube(lambda g, y, x: 3 * g * x * x * next(noise)), X).look


def test_what_f_raises_is_raised_as_it_is():
    def always(x):
        raise RuntimeError("a mistake in f")

    def elsewhere(x):
        if x.data[0, 0] != X[0, 0]:
            raise RuntimeError("a mistake in f")
        return x * 1.0
    for f in (always, elsewhere):
        with pytest.raises(RuntimeError, match="a mistake in f"):
            check(f, X)


@pytest.mark.parametrize("order", [1, 2])
def test_what_a_rule_raises_is_shown_and_the_rule_named(order):
    def rule(g, y, x):
        if order == 1 or isinstance(y, Tensor):
            raise KeyError("a mistake in the rule")
        return 3 * g * x * x
    bad = cube(rule)
    error = failure(lambda x: ops.tanh(bad(x)), X)
    assert error.order == order and isinstance(error.__cause__, KeyError)
    assert "KeyError('a mistake in the rule')" in str(error) and "nan" not in str(error)
    assert "the rule of cube for x" in error.look


def test_a_share_of_the_wrong_shape_is_named():
    """The engine fails on it, outside of the rule; the rule is named all the same."""
    bad = cube(lambda g, y, x: (3 * g * x * x)[:, :2])
    assert "the rule of cube for x, which raises" in failure(lambda x: ops.exp(bad(x)), X).look


def test_a_reading_that_no_order_needs_is_not_asked_for():
    """A rule that works on arrays alone is right to first order."""
    only_arrays = cube(lambda g, y, x: 3 * g * np.frexp(x)[0] * 2.0 ** np.frexp(x)[1] * x)
    check(only_arrays, X, order=1)
    assert "read with Tensors" in failure(only_arrays, X).look


def test_what_f_depends_on_may_have_names():
    w = Tensor(X)
    assert ("scale", 2) in check(lambda x: ops.tanh(x) * w, X, wrt={"scale": w}).errors


def test_lists_are_arguments():
    assert check(ops.tanh, [0.5, 1.0]).errors == check(ops.tanh, np.array([0.5, 1.0])).errors
    assert {n for n, _ in check(lambda xs: xs[0] * xs[1], [X, Tensor(X + 1)]).errors} == {
        "xs[0]", "xs[1]", "the cotangent"}
    check(lambda x, shape: x.reshape(*shape), X, (3, 2))              # integers stay what they are
    with pytest.raises(TypeError, match=r"write \[0., 1.\] for \[0, 1\]"):
        check(ops.tanh, [0, 1])


def test_the_op_to_blame_is_named_within_a_network():
    wrong = cube(lambda g, y, x: 3.3 * g * x * x)
    look = failure(lambda x: ops.tanh(ops.exp(-wrong(x))) + x, X).look
    assert "the op cube" in look and "what came is 1.1 times" in look
    cut = cube(lambda g, y, x: 3 * g * data_of(x) ** 2)
    error = failure(lambda x: ops.tanh(ops.exp(-cut(x))) + x, X)
    assert error.order == 2 and "the op cube" in error.look and "cuts the graph" in error.look


def test_the_op_to_blame_may_be_one_that_a_rule_calls():
    @op
    def scaled(g, x):
        return g * x * x
    scaled.vjps(lambda h, y, g, x: h * x * x, lambda h, y, g, x: h * g * x)
    look = failure(cube(lambda g, y, x: 3 * scaled(g, x)), X).look
    assert "the op scaled" in look and "what came is 0.5 times" in look


class Cut(nn.Module):
    """A layer that takes something out of its weight's Tensor in one of several ways."""

    def __init__(self, out):
        self.inner, self.out = nn.Linear(3, 2), out

    def forward(self, x):
        return ops.tanh(self.inner(x)) * self.out(self.inner.weight)


@pytest.mark.parametrize("out", [
    lambda w: w.data.sum(), lambda w: float(w.sum().data), lambda w: Tensor(w.data.mean(axis=0)),
    lambda w: ops.exp(w.data[0]), lambda w: 1.0 + 1e-3 * w.data[1]])
def test_a_cut_in_a_layer_is_called_a_cut(out):
    with pytest.raises(GradientError) as e:
        check_module(Cut(out), X)
    assert e.value.argument == "inner.weight"
    assert "cuts the graph: mul gets a constant b" in e.value.look
    assert "formula of the rule" not in e.value.look and "evaluation mode" not in e.value.look


def test_an_array_that_is_changed_after_an_op_used_it_does_no_harm():
    """The tape holds a copy of every constant."""
    class Late(nn.Module):
        def __init__(self):
            self.scale = np.full(3, 0.1)

        def forward(self, x):
            y = ops.tanh(x) * self.scale
            self.scale *= 1.25
            return y
    check_module(Late(), X)


@pytest.mark.parametrize("f", [
    lambda x: ops.where(x > 1.0, ops.sqrt(x - 1.0), 0.0), cube(lambda g, y, x: g * x / (0.0 * x)),
    cube(lambda g, y, x: g * np.where([[True], [False]], 1.0, np.nan) * x)])
def test_a_gradient_that_is_not_finite_is_called_that(f):
    """The function is finite: neither it nor the point is to blame."""
    with np.errstate(all="ignore"):
        look = failure(f, X).look
    assert "a rule, whose result is not finite" in look and "deterministic" not in look


def test_rounding_to_float32_on_the_way_is_not_called_a_kink():
    look = failure(lambda x: ops.exp(x.astype(np.float32)) * x, X).look
    assert "float64 all the way" in look and "at which astype gives" in look


def test_no_grad_on_the_way_is_called_a_cut():
    def f(x):
        with no_grad():
            scale = ops.exp(x)
        return scale * x
    assert "no_grad" in failure(f, X).look and "cuts the graph: mul gets a constant a" in failure(f, X).look


def test_lists_that_an_op_fills_are_not_called_a_cut():
    """`normalize` reports its statistics in a list; a wrong rule elsewhere is still the one to blame."""
    wrong = cube(lambda g, y, x: 3.3 * g * x * x)

    def f(x):
        return wrong(ops.normalize(x, 1.0, 0.0, axis=(1,), statistics=[]))
    look = failure(f, X).look
    assert "the op cube" in look and "cuts" not in look


@pytest.mark.parametrize("result", [None, 1.5, "text"])
def test_a_function_that_returns_no_tensor_is_refused(result):
    with pytest.raises(TypeError, match="check: f must return a Tensor, or several, got"):
        check(lambda x: result, X)


class Spectral(nn.Module):
    """W / σ(W) with one power iteration per training pass (Miyato et al. 2018, algorithm 1)."""

    def __init__(self):
        self.weight = nn.Parameter(draw((3, 2)).astype(np.float32), "weight")
        self.u = np.full((1, 3), 3 ** -0.5, np.float32)
        self.v = np.full((2, 1), 2 ** -0.5, np.float32)

    def forward(self, x):
        if self.training:
            v = (self.u @ self.weight.data).T
            self.v = v / np.linalg.norm(v)
            u = (self.weight.data @ self.v).T
            self.u = u / np.linalg.norm(u)
        return x @ (self.weight / (Tensor(self.u) @ self.weight @ Tensor(self.v)))


def test_state_that_follows_the_parameters_is_explained():
    layer = Spectral()
    layer(X.astype(np.float32))
    before = vars(layer).copy()
    with pytest.raises(GradientError) as e:
        check_module(layer, X)
    assert "must not depend on its parameters; check in evaluation mode" in e.value.look
    assert "kink" not in e.value.look and all(vars(layer)[k] is v for k, v in before.items())
    check_module(layer.eval(), X)


# ---------------------------------------------------------------------------- no trace is left


class Stateful(nn.Module):
    """A layer that moves all that a layer can move."""

    def __init__(self):
        self.norm, self.scale = nn.BatchNorm(3), np.full(3, 0.1, np.float32)
        self.calls, self.history, self.count = 0, [], np.zeros(1, np.int64)
        self.seen = []

    def forward(self, x):
        self.seen.append(0)
        y = self.norm(x) * self.scale + 0.0 * rng("dropout").random()
        self.scale = self.scale * 1.25
        self.count += 1
        self.calls, self.last, self.training = self.calls + 1, x, False
        self.history.append(float(self.scale[0]))
        if self.scale.dtype != np.float64:
            raise RuntimeError(f"state is {self.scale.dtype} during the check")
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left(fails, device):
    """Arrays (the same objects, the same bits), counters, lists, modes and random generators, also
    after an error; state is float64 meanwhile and the same before every call."""
    layer = Stateful().to(device)
    layer.norm.eval()
    seed(3)
    arrays = {k: v.copy() for k, v in layer.state_dict().items()}
    before = [(m, dict(vars(m))) for m in layer.modules()]
    history, data = layer.history, [p.data for p in layer.parameters()]
    generator, number = rng("dropout"), rng("dropout").bit_generator.state
    x = to_device(X, device)
    if fails:
        with pytest.raises(GradientError):
            check_module(layer, x, tolerance=-1.0)
    else:
        check_module(layer, x)
    assert all(vars(m).keys() == v.keys() for m, v in before)
    assert all(vars(m)[k] is v for m, values in before for k, v in values.items())
    assert all(np.array_equal(v, arrays[k]) and v.dtype == arrays[k].dtype
               for k, v in layer.state_dict().items())
    assert history == [] and all(p.data is d for p, d in zip(layer.parameters(), data, strict=True))
    assert rng("dropout") is generator and generator.bit_generator.state == number


def test_the_example_runs(capsys):
    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "define_an_op.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "checks passed" in out and "Look first at" in out


def test_host_values_reach_the_report(device):
    assert all(isinstance(e, float)
               for e in check(ops.exp, to_device(X, device)).errors.values()) and to_host(X) is X
