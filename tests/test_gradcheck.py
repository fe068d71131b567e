"""The checker checks: planted mistakes are found, and described so that a reader knows where to look."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from table import draw

from tinygan import nn, ops
from tinygan.autograd import Tensor, data_of, grad, op
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
    assert report.errors.keys() == {("x", "1, both readings"), ("x", 1), ("x", "1, every entry"), ("x", 2),
                                    ("the cotangent", 2),
                                    ("x", 3), ("the cotangent", 3)}
    assert report.checks == 7 and "7 checks passed" in repr(report)


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
    (lambda g, y, x: 3 * g * np.square(x), 2, "TypeError"),
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


def test_jacobian_names_the_entry():
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


def test_the_example_runs(capsys):
    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "define_an_op.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "checks passed" in out and "Look first at" in out


def test_host_values_reach_the_report(device):
    assert all(isinstance(e, float)
               for e in check(ops.exp, to_device(X, device)).errors.values()) and to_host(X) is X
