"""Numerical edge cases: what each op does where floating point is difficult, against values known in
closed form."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from tinygan import conv, losses, nn, ops
from tinygan.autograd import Tensor, grad
from tinygan.backend import to_device, to_host


def at(values, device, dtype=np.float64):
    return Tensor(to_device(np.array(values, dtype=dtype), device))


def host(x):
    return np.asarray(to_host(x.data if isinstance(x, Tensor) else x))


def derivatives(f, x):
    """(f(x), f'(x), f''(x)) of an elementwise function, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = f(x)
        first = grad(y.sum(), x, create_graph=True)
        zero = ops.clip(x, low=-1, high=1) * 0.0         # for functions whose slope is constant
        return host(y), host(first), host(grad((first + zero).sum(), x))


def equal(got, expected):
    np.testing.assert_array_equal(host(got), expected)


def test_bce_with_logits_is_exact_for_huge_logits(device):
    """softplus(d) − t d is exact: the loss of a certain and wrong discriminator is its logit, and its
    slope −1 or 1."""
    for d, t, loss, slope in [(1e4, 1, 0, 0), (-1e4, 1, 1e4, -1), (1e4, 0, 1e4, 1), (-1e4, 0, 0, 0)]:
        for dtype in (np.float64, np.float32):
            x, target = at([d], device, dtype), to_device(np.array([t], dtype), device)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                y = losses.bce_with_logits(x, target)
                g = grad(y, x)
            equal(y, loss)
            equal(g, [slope])
            assert g.dtype == dtype


def test_bce_refuses_targets_that_are_no_probabilities(device):
    for t in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="targets"):
            losses.bce_with_logits(at([0.0], device), to_device(np.array([t]), device))


def test_sigmoid_and_tanh_are_finite_to_second_order_everywhere(device):
    for dtype in (np.float64, np.float32):
        y, first, second = derivatives(ops.sigmoid, at([-1e4, -90.0, 90.0, 1e4], device, dtype))
        equal(y[[0, 3]], [0, 1])
        assert np.isfinite(first).all() and np.isfinite(second).all() and y.dtype == first.dtype == second.dtype == dtype
        equal(first[[0, 3]], [0, 0])
        equal(second[[0, 3]], [0, 0])
        y, first, second = derivatives(ops.tanh, at([-1e4, 1e4], device, dtype))
        equal(y, [-1, 1])
        equal(first, [0, 0])
        equal(second, [0, 0])


def test_sigmoid_keeps_relative_precision_in_its_tail(device):
    """σ(−50) = e⁻⁵⁰ / (1 + e⁻⁵⁰): to full precision, where 1 − σ(50) would be 0."""
    y, first, _ = derivatives(ops.sigmoid, at([-50.0], device))
    np.testing.assert_allclose(y, math.exp(-50), rtol=1e-14)
    np.testing.assert_allclose(first, math.exp(-50), rtol=1e-14)


def test_softplus_has_no_threshold(device):
    """log(1 + eˣ) exactly, for any x; its second derivative σ (1 − σ) runs smoothly through ±20, where
    other libraries switch."""
    y, first, second = derivatives(ops.softplus, at([-1e4, 0, 1e4, 19.9, 20.1, -40.0], device))
    equal(y[[0, 2]], [0, 1e4])
    np.testing.assert_allclose(y[[1, 5]], [math.log(2), math.log1p(math.exp(-40))], rtol=1e-15)
    equal(first[[0, 2]], [0, 1])
    np.testing.assert_allclose(second[[3, 4]], [math.exp(-x) / (1 + math.exp(-x)) ** 2 for x in (19.9, 20.1)],
                               rtol=1e-6)


def test_log_softmax_is_exact_for_huge_logits(device):
    y, first, second = derivatives(lambda x: ops.log_softmax(x)[0:1], at([1e4, -1e4, 0.0], device))
    equal(y, [0])
    equal(first, [0, 0, 0])
    equal(second, [0, 0, 0])
    equal(ops.log_softmax(to_device(np.array([1e4, -1e4, 0.0]), device)), [0, -2e4, -1e4])
    y, first, _ = derivatives(lambda x: ops.log_softmax(x)[1:2], at([1e4, -1e4, 0.0], device))
    equal(first, [-1, 1, 0])
    equal(ops.softmax(to_device(np.array([1e4, -1e4, 1e4]), device)), [0.5, 0, 0.5])


def test_logsumexp_of_nothing(device):
    """log of an empty sum of exponentials: −inf, with gradient 0 and a finite second order."""
    for x in ([-np.inf, -np.inf], [1e4, 1e4], [-1e4, -1e4]):
        y, first, second = derivatives(ops.logsumexp, at(x, device))
        equal(y, -np.inf if x[0] == -np.inf else x[0] + math.log(2))
        np.testing.assert_allclose(first, [0, 0] if x[0] == -np.inf else [0.5, 0.5], rtol=1e-11)
        np.testing.assert_allclose(second, [0, 0], atol=1e-11)


def test_norm_at_the_zero_vector(device):
    """A gradient penalty meets a slope of exactly 0: value 0, gradient 0, second order finite."""
    y, first, second = derivatives(lambda x: ops.norm(x, axis=1), at([[0.0, 0.0], [3.0, 4.0]], device))
    equal(y, [0, 5])
    equal(first, [[0, 0], [0.6, 0.8]])
    assert np.isfinite(second).all()
    x = at([[0.0, 0.0]], device)
    y, first, second = derivatives(lambda x: (ops.norm(x, axis=1) - 1.0) ** 2, x)
    equal(first, [[0, 0]])
    assert np.isfinite(second).all()


def test_norm_neither_overflows_nor_vanishes(device):
    for size in (1e30, 1e-30):
        x = at([size, size], device, np.float32)
        y = ops.norm(x)
        np.testing.assert_allclose(host(y), size * math.sqrt(2), rtol=1e-6)
        np.testing.assert_allclose(host(grad(y, x)), [0.5 ** 0.5] * 2, rtol=1e-6)


def test_sqrt_and_log_at_zero_are_numpys(device):
    """√0 = 0 with an infinite slope, log 0 = −inf: nothing is hidden."""
    with np.errstate(all="ignore"):
        x = at([0.0], device)
        equal(ops.sqrt(x), [0])
        equal(grad(ops.sqrt(x).sum(), x), [np.inf])
        equal(ops.log(x), [-np.inf])
        equal(grad(ops.log(x).sum(), x), [np.inf])
        equal(ops.log(at([-1.0], device)), [np.nan])


def test_where_needs_a_safe_argument(device):
    """The bad branch is computed too and 0 · inf is NaN; the spelling given in the docstring avoids it,
    at every order."""
    x = at([-1.0, 4.0], device)
    with np.errstate(all="ignore"):
        equal(grad(ops.where(x.data > 0, ops.sqrt(x), 0.0).sum(), x), [np.nan, 0.25])

    def safe(x):
        return ops.where(x.data > 0, ops.sqrt(ops.where(x.data > 0, x, 1.0)), 0.0)
    y, first, second = derivatives(safe, x)
    equal(y, [0, 2])
    equal(first, [0, 0.25])
    equal(second, [0, -1 / 32])


def test_normalising_a_constant_batch_gives_exactly_zero(device):
    """Rounding of the mean is not a deviation: 0.1 is no binary fraction, and an error of 1e-8 would be
    scaled by 1/√ε."""
    for dtype in (np.float64, np.float32):
        for value in (0.1, -3.7, 100.3, 0.0):
            for shape in [(3, 2), (7, 5, 5, 2), (64, 16, 16, 2)]:
                x, layer = at(np.full(shape, value), device, dtype), nn.BatchNorm(2).to(device)
                for p in layer.parameters():
                    p.data = p.data.astype(dtype)
                y = layer(x)
                equal(y, np.zeros(shape))
                equal(grad((y * y).sum(), x), np.zeros(shape))
                equal(grad(y.sum(), x), np.zeros(shape))
                equal(ops.var(x, axis=0), np.zeros(shape[1:]))


def test_batchnorm_refuses_one_value_per_channel(device):
    with pytest.raises(ValueError, match="BatchNorm"):
        nn.BatchNorm(3).to(device)(at(np.zeros((1, 3)), device, np.float32))


def test_variance_far_from_zero(device):
    """In float32 at mean 100 the shortcut E x² − (E x)² errs by 7e-3; two passes keep full precision,
    also at 10⁴."""
    rng = np.random.default_rng(0)
    for mean in (100.0, 1e4):
        x = (mean + rng.standard_normal(10_000)).astype(np.float32)
        exact = [Fraction(float(v)) for v in x]
        mu = sum(exact) / len(exact)
        truth = float(sum((v - mu) ** 2 for v in exact) / len(exact))
        assert abs(float(host(ops.var(at(x, device, np.float32)))) / truth - 1) < 1e-5
        y = host(ops.standardize(at(x[:, None], device, np.float32), axis=0))
        assert abs(y.mean(dtype=float)) < 1e-3 and abs(y.var(dtype=float) - 1) < 1e-4


def test_statistics_of_a_large_batch(device):
    """float32 sums over axis 0 lose digits row by row: the mean and variance that normalisation reports
    are still right."""
    x = (np.random.default_rng(0).random((200_000, 2)) + 3).astype(np.float32)
    statistics = []
    ops.normalize(to_device(x, device), 1.0, 0.0, axis=0, statistics=statistics)
    np.testing.assert_allclose(host(statistics[0])[0], x.mean(axis=0, dtype=float), rtol=1e-5)
    np.testing.assert_allclose(host(statistics[1])[0], x.var(axis=0, dtype=float), rtol=1e-4)


def test_zero_to_the_power_of_zero(device):
    """0⁰ = 1 with slope 0 in the base; in the exponent 0ᵖ has slope 0; a negative base has none (NaN)."""
    x, p = at([0.0, 0.0], device), at([0.0, 2.0], device)
    y = x ** p
    equal(y, [1, 0])
    equal(grad(y.sum(), x), [0, 0])
    equal(grad(y.sum(), p), [0, 0])
    with np.errstate(all="ignore"):
        x = at([-2.0], device)
        y = x ** at([2.0], device)
        equal(y, [4])
        equal(grad(y.sum(), x), [-4])
        p = at([2.0], device)
        equal(grad((at([-2.0], device) ** p).sum(), p), [np.nan])
        equal(grad((-2.0 ** at([1.0], device)).sum() * 0 + ((-2.0) ** p).sum(), p), [np.nan])


def test_integer_powers_at_zero_to_third_order(device):
    """x², x³ and x¹ at 0, differentiated until nothing is left: never 0 · inf."""
    for n in (0, 1, 2, 3):
        x = at([0.0, -1.0, 1e-310], device)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            y, expected = x ** n, 1.0
            for k in range(4):
                expected = host(x) ** n if k == 0 else (math.perm(n, k) * host(x) ** (n - k) if k <= n
                    else np.zeros(3))
                equal(y, expected)
                y = grad((y + x * 0.0).sum(), x, create_graph=True)


def test_empty_means_have_empty_gradients(device):
    """The mean of nothing is NaN, as in NumPy; its gradient has no elements, and no division by zero
    stops the backward pass."""
    x = at(np.zeros((0, 3)), device)
    for f in (ops.mean, ops.var):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = f(x, axis=0)
            assert np.isnan(host(y)).all() and grad(y.sum(), x).shape == (0, 3)


def test_empty_batches_pass_through(device):
    """No sample, no gradient, no error."""
    from tinygan import conv
    x, w = at(np.zeros((0, 4, 4, 2)), device), at(np.ones((3, 3, 2, 5)), device)
    gx, gw = grad(conv.conv2d(x, w, padding=1).sum(), [x, w])
    assert gx.shape == x.shape
    equal(gw, np.zeros(w.shape))


def test_nothing_over_an_empty_axis_is_a_value_and_no_crash(device):
    """ops.softmax and ops.log_softmax: nothing; ops.logsumexp: −inf; ops.norm: 0."""
    for name, expected in [("softmax", None), ("log_softmax", None), ("logsumexp", -np.inf), ("norm", 0.0)]:
        for shape, axis in [((3, 0), 1), ((3, 0), -1), ((0, 2), 0), ((2, 0, 3), 1), ((0,), 0), ((2, 0), 0)]:
            x = at(np.zeros(shape), device)
            y = getattr(ops, name)(x, axis=axis)
            assert y.shape == (shape if expected is None else tuple(np.delete(shape, axis)))
            if expected is not None:
                equal(y, np.full(y.shape, expected))
            assert grad(y.sum(), x).shape == shape


def test_normalising_nothing_gives_nothing(device):
    """ops.normalize and ops.standardize of no samples, or of no features."""
    for shape in [(0, 5), (4, 0), (0, 3, 3, 2)]:
        for axis in [(0,), (1,), tuple(range(len(shape) - 1))]:
            x = at(np.zeros(shape), device)
            y = ops.normalize(x, 1.0, 0.0, axis=axis)
            assert y.shape == shape and grad(y.sum(), x).shape == shape


def test_a_single_number_has_the_axes_0_and_minus_1_or_none_at_all():
    """As NumPy has it, function by function: ops.sum, ops.mean, ops.max, ops.min, ops.var, ops.norm, ops.logsumexp,
    ops.softmax, ops.log_softmax, ops.cumsum. Value and gradient work, or the forward pass refuses."""
    x = at(3.0, "cpu")
    for name in ["sum", "mean", "max", "min", "var", "norm", "logsumexp", "softmax", "log_softmax", "cumsum"]:
        for axis in (0, -1):
            try:
                y = getattr(ops, name)(x, axis=axis)
            except np.exceptions.AxisError:
                continue
            assert grad(y.sum(), x).shape == ()
        with pytest.raises(np.exceptions.AxisError):
            getattr(ops, name)(x, axis=1)


def test_stacking_along_an_axis_that_is_not_there_is_refused():
    x = at([1.0, 2.0], "cpu")
    for axis in (2, 7, -3):
        with pytest.raises(np.exceptions.AxisError, match="stack"):
            ops.stack([x, x], axis=axis)


def test_a_leaky_slope_beyond_1_is_right_too(device):
    x = at([-1.0, 2.0], device)
    y = ops.leaky_relu(x, slope=2.0)
    equal(y, [-2, 2])
    equal(grad(y.sum(), x), [2, 1])


def test_an_infinite_vector_has_an_infinite_norm(device):
    equal(ops.norm(at([np.inf, 1.0], device)), np.inf)
    equal(ops.norm(at([-np.inf, np.inf], device)), np.inf)


def test_zero_to_a_power_is_as_its_docstring_says():
    p = at([-1.0, 0.0, 2.0], "cpu")
    with np.errstate(all="ignore"):
        g = grad(ops.pow(0.0, p).sum(), p)
    assert np.isnan(g[0]) and g[1] == 0 and g[2] == 0


def test_the_statistics_of_ops_normalize_are_the_mean_and_variance_with_the_axes_kept(device):
    for shape in [(4, 3), (2, 3, 2, 2), (5, 1)]:
        axis = tuple(range(len(shape) - 1))
        a, found = np.arange(float(np.prod(shape))).reshape(shape) ** 1.5, []
        ops.normalize(at(a, device), at(np.full(shape[-1], 2.0), device), at(np.zeros(shape[-1]), device), axis=axis, statistics=found)
        for got, expected in zip(found, (a.mean(axis, keepdims=True), a.var(axis, keepdims=True)), strict=True):
            np.testing.assert_allclose(host(got), expected, rtol=1e-12)


def test_float32_far_from_zero_in_ops_normalize_costs_no_digits():
    """A mean of a million with deviations of 1, which float32 knows in steps of 1/16: the mean's rounding is taken away.
    And an outlier of 1e5 among 2,000 numbers, in the first place and in another."""
    scale, shift = np.float32([3.0, 2.0, 0.5]), np.float32([1.0, -1.0, 0.0])
    for offset, outlier, place, width in [(1e6, 1e6, 0, 1), (-1e6, 1 - 1e6, 7, 1), (100, 1e5, 0, 1), (100, 1e5, 777, 1),
                                          (3, 3, 0, 1e-4), (-3, -3, 0, 1e-4)]:
        a = (width * np.cos(np.arange(6000.0)).reshape(2000, 3) + offset).astype(np.float32)
        a[place, 1] = outlier
        exact = a.astype(np.float64)
        expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5) * scale + shift
        got = host(ops.normalize(at(a, "cpu", np.float32), at(scale, "cpu", np.float32), at(shift, "cpu", np.float32), axis=(0,)))
        assert np.abs(got - expected).max() < 4e-6 * max(1.0, np.abs(expected).max())


def test_types_mix_in_ops_linear_as_in_numpy():
    """One argument of three in double precision makes the result double."""
    arrays = [np.ones((2, 3)), np.ones((3, 4)), np.ones(4)]
    for double in range(3):
        ts = [at(a, "cpu", np.float64 if i == double else np.float32) for i, a in enumerate(arrays)]
        y = ops.linear(*ts)
        assert y.dtype == np.float64
        equal(y, np.full((2, 4), 4.0))
        assert [g.dtype for g in grad(y.sum(), ts)] == [t.dtype for t in ts]


def test_padding_beyond_half_the_window_is_refused():
    """ops.max_pool would compare nothing but padding there."""
    for kernel, padding in [(2, 2), (3, 2), ((4, 2), (2, 2))]:
        with pytest.raises(ValueError, match="more than half the kernel"):
            conv.max_pool2d(np.zeros((1, 6, 6, 1)), kernel, 1, padding)


def test_slopes_of_ops_leaky_relu_have_a_default_of_a_fifth():
    equal(ops.leaky_relu(at([-1.0, 5.0], "cpu")), [-0.2, 5.0])
