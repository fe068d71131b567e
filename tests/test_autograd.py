"""The engine: the order of the walk, what is walked, what is remembered, and what is refused."""

import gc
import math
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from tinygan import autograd, ops
from tinygan.autograd import Op, Tensor, grad, no_grad, op, unbroadcast
from tinygan.backend import to_device, to_host


def at(values, device="cpu", dtype=np.float64, name=None):
    return Tensor(to_device(np.array(values, dtype=dtype), device), name)


def equal(got, expected):
    np.testing.assert_array_equal(to_host(got.data if isinstance(got, Tensor) else got), expected)


def counting(name="counted"):
    """A product that counts how often each of its rules is called."""
    calls = [0, 0]

    def forward(a, b):
        return a * b
    o = Op(forward)

    def rule(i):
        def share(g, y, a, b):
            calls[i] += 1
            return g * (b, a)[i]
        return share
    o.vjps(rule(0), rule(1))
    return o, calls


# ---------------------------------------------------------------------------- the walk


def test_a_tensor_used_many_times_gets_every_share(device):
    x = at([2.0, 3.0], device)
    equal(grad((x * x + x + x * 3.0).sum(), x), [2 * 2 + 1 + 3, 2 * 3 + 1 + 3])
    equal(grad(ops.concatenate(x, x, x).sum(), x), [3, 3])
    equal(grad((x + x + x + x).sum(), x), [4, 4])


def test_diamonds_are_walked_once(device):
    """x → 30 levels of y = y + y: 2³⁰ paths, 30 steps, and the exact count of paths."""
    x = at(1.0, device)
    y = x
    for _ in range(30):
        y = y + y
    equal(grad(y, x), 2.0 ** 30)


def test_a_late_short_path_does_not_overtake_an_early_long_one(device):
    """A Tensor hands its gradient on only after all its uses have added to it, however deep they lie."""
    x = at(0.5, device)
    a = ops.sin(x)
    b = ops.exp(a)
    c = b * b
    y = c + a * 2.0 + c * a
    s, e = math.sin(0.5), math.exp(math.sin(0.5))
    np.testing.assert_allclose(to_host(grad(y, x)), math.cos(0.5) * (2 * e * e + 2 + 2 * e * e * s + e * e),
                               rtol=1e-14)


def test_graphs_deeper_than_the_recursion_limit(device):
    x = at(1.0, device)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    assert sys.getrecursionlimit() < 10_000
    equal(grad(y, x), 1.0)
    equal(grad(y, x, create_graph=True), 1.0)


def test_only_paths_to_what_is_asked_for_are_computed():
    """Training G through D never computes D's weight gradients: rules of other arguments are not called."""
    o, calls = counting()
    w, x = at([1.0, 2.0]), at([3.0, 4.0])
    y = o(o(x, w), w).sum()
    equal(grad(y, x), [1, 4])
    assert calls == [2, 0]
    equal(grad(y, w), [6, 16])
    assert calls == [3, 2]


def test_what_lies_below_the_oldest_target_is_not_walked():
    """Asking for an intermediate result stops there, even if its own past is long."""
    o, calls = counting()
    x = at([1.0])
    middle = o(x, x)
    y = o(middle, at([5.0])).sum()
    seen = []
    original = Tensor._parents

    def spy(self):
        seen.append(self)
        return original(self)
    Tensor._parents = spy
    try:
        equal(grad(y, middle), [5])
    finally:
        Tensor._parents = original
    assert calls == [1, 0] and not any(t is x for t in seen)


def test_intermediate_results_can_be_asked_for_together_with_their_past(device):
    x = at([3.0], device)
    y = x * x
    z = (y * y).sum()
    gx, gy, gz = grad(z, [x, y, z])
    equal(gx, [4 * 27])
    equal(gy, [18])
    equal(gz, 1)


def test_answers_come_in_the_order_and_form_of_the_question(device):
    a, b = at([1.0, 2.0], device), at([3.0], device)
    y = (a * b).sum()
    equal(grad(y, a), [3, 3])
    gb, ga, again = grad(y, [b, a, b])
    equal(gb, [3])
    equal(ga, [3, 3])
    equal(again, [3])
    assert grad(y, []) == []
    assert grad(y, (a,))[0].shape == (2,)


def test_a_cotangent_weighs_the_results(device):
    x = at([1.0, 2.0], device)
    equal(grad(x * x, x, to_device(np.array([10.0, 0.5]), device)), [20, 2])


def test_a_scalar_can_have_any_number_of_axes(device):
    x = at([[3.0]], device)
    equal(grad(x * x, x), [[6]])


def test_float32_stays_float32(device):
    x = at([1.0, 2.0], device, np.float32)
    y = (x * 2 + 1).mean()
    assert y.dtype == np.float32 and grad(y, x).dtype == np.float32 and grad(y, x,
        create_graph=True).dtype == np.float32


# ---------------------------------------------------------------------------- higher orders


def test_derivatives_of_any_order(device):
    """sin has period 4 under differentiation; x⁵ ends after 5."""
    x = at([0.3, -1.2], device)
    y = ops.sin(x)
    for n in range(9):
        expected = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)][n % 4](to_host(x.data))
        np.testing.assert_allclose(to_host(y.data), expected, rtol=1e-13)
        y = grad(y.sum(), x, create_graph=True)
    y = x ** 5
    for n in range(6):
        np.testing.assert_allclose(to_host(y.data), math.perm(5, n) * to_host(x.data) ** (5 - n), rtol=1e-12)
        y = grad((y + x * 0.0).sum(), x, create_graph=True)


def test_a_recorded_gradient_is_a_tensor_even_if_nothing_was_computed(device):
    x = at([1.0, 2.0], device)
    g = grad(x.sum(), x, create_graph=True)
    assert isinstance(g, Tensor)
    (same,) = grad(x, [x], to_device(np.ones(2), device), create_graph=True)
    assert isinstance(same, Tensor)


def test_a_plain_gradient_is_an_array_that_remembers_nothing(device):
    x = at([1.0, 2.0], device)
    assert not isinstance(grad((x * x).sum(), x), Tensor)


def test_rules_get_arrays_in_the_plain_reading_and_tensors_in_the_recorded():
    kinds = []

    @op
    def double(x):
        return x * 2

    def rule(g, y, x):
        kinds.append((type(g), type(y), type(x)))
        return g * 2.0
    double.vjps(rule)
    x = at([1.0])
    y = double(x).sum()
    grad(y, x)
    grad(y, x, create_graph=True)
    assert kinds[0] == (np.ndarray, np.ndarray, np.ndarray)
    assert kinds[1][1:] == (Tensor, Tensor)


def test_the_cotangent_may_depend_on_what_is_differentiated(device):
    """∂/∂v ⟨u, J v⟩ is J u: a forward-mode product from two backward passes."""
    x, v = at([1.0, 2.0], device), at([1.0, 1.0], device)
    g = grad((ops.exp(x) * v).sum(), x, create_graph=True)
    np.testing.assert_allclose(to_host(grad((g * to_device(np.array([3.0, 5.0]), device)).sum(), v)),
                               np.exp([1, 2]) * [3, 5], rtol=1e-14)


# ---------------------------------------------------------------------------- memory


def test_memory_goes_back_without_the_garbage_collector():
    """No reference cycles: dropping the loss frees the whole tape at once, after plain and recorded
    backward passes."""
    gc.collect()
    gc.disable()
    try:
        x = at(np.ones(5))
        y = ops.tanh(x * 2.0)
        loss = (y * y).sum()
        g = grad(loss, x, create_graph=True)
        h = grad((g * g).sum(), x)
        refs = [weakref.ref(t) for t in (y, loss, g)]
        del y, loss, g, h
        assert [r() for r in refs] == [None] * 3
    finally:
        gc.enable()


def test_deep_tapes_are_freed_without_overflowing_the_stack():
    x = at(1.0)
    y = x
    for _ in range(50_000):
        y = y * 1.0
    del y


def test_no_grad_remembers_nothing(device):
    x = at([1.0], device)
    with no_grad():
        y = x * x
    assert isinstance(y, Tensor) and y.op is None
    with pytest.raises(ValueError, match="does not depend"):
        grad(y.sum(), x)
    assert (x * x).op is ops.mul


def test_no_grad_ends_with_its_block_also_after_an_error_and_when_nested(device):
    x = at([1.0], device)
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0           # noqa: B018
    assert (x * x).op is ops.mul
    with no_grad():
        with no_grad():
            pass
        assert (x * x).op is None
    assert (x * x).op is ops.mul


# ---------------------------------------------------------------------------- changed values


def test_a_change_between_loss_and_gradient_is_refused_by_name(device):
    """An optimiser step in between would silently give the gradient of a mixture of old and new values."""
    for change in (lambda w: setattr(w, "data", w.data - 1.0), lambda w: (w.data.__isub__(1.0), w.touch())):
        w, x = at([2.0], device, name="layer.weight"), at([3.0], device)
        loss = (w * x).sum()
        change(w)
        for wrt in (x, w):
            with pytest.raises(ValueError, match=r"layer\.weight.*\(1,\).*changed"):
                grad(loss, wrt)
        equal(grad((w * x).sum(), x), [1])


def test_a_change_behind_a_view_is_noticed(device):
    """w.T shares w's memory: changing w changes what the product was computed from."""
    w, x = at([[2.0, 1.0]], device, name="w"), at([[1.0, 1.0]], device)
    loss = (x @ w.T).sum()
    w.data -= 1.0
    with pytest.raises(ValueError, match="changed"):
        grad(loss, x)


def test_a_change_elsewhere_does_not_matter(device):
    w, x, other = at([2.0], device), at([3.0], device), at([4.0], device)
    loss = (w * x).sum()
    _ = (other * w).sum()
    other.data = other.data * 2.0
    equal(grad(loss, x), [2])


# ---------------------------------------------------------------------------- broadcasting


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0))
def test_unbroadcast_is_the_adjoint_of_broadcasting(shapes):
    """Every element's gradient is the sum over its copies, here counted one by one."""
    shape, result = shapes.input_shapes[0], np.broadcast_shapes(*shapes.input_shapes)
    g = np.random.default_rng(0).integers(-9, 9, result).astype(float)
    owner = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), result)
    expected = np.zeros(math.prod(shape))
    for place, value in zip(owner.ravel(), g.ravel(), strict=True):
        expected[place] += value
    got = unbroadcast(g, shape)
    assert got.shape == shape and np.array_equal(got, expected.reshape(shape))


# ---------------------------------------------------------------------------- ops of one's own


def test_an_op_without_tensors_is_a_plain_function():
    assert type(ops.tanh(np.ones(2))) is np.ndarray and ops.add(1, 2) == 3


def test_a_missing_rule_is_an_error_that_names_the_op():
    @op
    def twice(x):
        return 2 * x
    x = at([1.0])
    with pytest.raises(TypeError, match="twice: argument 0 has no rule"):
        grad(twice(x).sum(), x)


def test_an_argument_whose_rule_is_none_is_constant(device):
    @op
    def gated(c, x):
        return c * x
    gated.vjps(None, lambda g, y, c, x: g * c)
    c, x = at([2.0], device), at([3.0], device)
    equal(grad(gated(c, x).sum(), x), [2])
    with pytest.raises(ValueError, match="does not depend"):
        grad(gated(c, x).sum(), c)


def test_a_shortcut_serves_the_plain_reading_and_the_rules_the_recorded():
    """fast_vjp gets what the forward pass saved and which shares are wanted; with create_graph the rules
    are used."""
    asked = []

    @op
    def product(a, b):
        return a * b, "saved"
    product.vjps(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)

    @product.fast_vjp
    def _(g, y, saved, wanted, a, b):
        asked.append((saved, list(wanted)))
        return [g * b if wanted[0] else None, g * a if wanted[1] else None]
    a, b = at([2.0]), at([5.0])
    equal(product(a, b), [10])
    equal(product(a.data, b.data), [10])
    equal(grad(product(a, b).sum(), a), [5])
    equal(grad(product(a, b).sum(), [b, a])[1], [5])
    assert asked == [("saved", [True, False]), ("saved", [True, True])]
    g = grad(product(a, b).sum(), a, create_graph=True)
    equal(grad(g.sum(), b), [1])
    assert len(asked) == 2          # not asked again: what was differentiated last is `mul`, inside the rule


def test_static_arguments_go_to_the_rule_by_name(device):
    @op
    def scaled(x, *, by):
        return x * by
    scaled.vjps(lambda g, y, x, by: g * by)
    x = at([1.0], device)
    equal(grad(scaled(x, by=7.0).sum(), x), [7])


# ---------------------------------------------------------------------------- what is refused


def test_data_must_be_floating_point():
    for bad in (np.array([1, 2]), np.array([True]), np.array(["a"])):
        with pytest.raises(TypeError, match="floating-point"):
            Tensor(bad)
    with pytest.raises(TypeError, match="already is one"):
        Tensor(Tensor([1.0]))


def test_plain_numbers_and_lists_become_float32():
    assert Tensor([1, 2.5]).dtype == np.float32 and Tensor(3).dtype == np.float32
    assert Tensor(np.float64(3)).dtype == np.float64 and Tensor(np.zeros(2, np.float16)).dtype == np.float16


def test_numpy_functions_are_refused_with_the_name_to_use():
    """A stray np.sum in a rule would otherwise cut the graph, and only second order would notice."""
    x = at([1.0])
    with pytest.raises(TypeError, match=r"tinygan\.ops\.concatenate"):
        np.concatenate([x, x])
    with pytest.raises(TypeError, match=r"tinygan\.ops\.where"):
        np.where(x, x, x)
    with pytest.raises(TypeError):
        np.tanh(x)
    with pytest.raises(TypeError, match=r"\.data"):
        np.asarray(x)
    with pytest.raises(TypeError):
        np.ones(1) + np.asarray(x)


def test_arrays_and_numpy_scalars_on_the_left_leave_the_operation_to_the_tensor():
    x = at([1.0, 2.0])
    for y, expected in [(np.array([3.0, 4.0]) * x, [3, 8]), (np.float64(2) * x, [2, 4]),
                        (np.array([[1.0], [2.0]]) - x, [[0, -1], [1, 0]]),
                        (np.float64(2) ** x, [2, 4]), (np.array([[1.0, 1.0]]) @ x, [3]),
                        (np.array([2.0, 2.0]) / x, [2, 1])]:
        assert isinstance(y, Tensor)
        equal(y, expected)
    a = np.ones(2)
    assert (a < x).tolist() == [False, True] and (a == x).tolist() == [True, False]


def test_questions_without_an_answer():
    x, y = at([1.0, 2.0]), at([1.0])
    with pytest.raises(ValueError, match="no single gradient"):
        grad(x * x, x)
    with pytest.raises(ValueError, match=r"cotangent has shape \(3,\), expected y's shape \(2,\)"):
        grad(x * x, x, np.ones(3))
    with pytest.raises(ValueError, match="does not depend"):
        grad(x.sum(), y)
    with pytest.raises(ValueError, match="does not depend on w"):
        grad(x.sum(), [x, at([1.0], name="w")])
    with pytest.raises(TypeError, match="wrap inputs"):
        grad(np.ones(1), x)
    with pytest.raises(TypeError, match="wrap inputs"):
        grad(x.sum(), [x.data])


def test_tensor_shows_its_value_and_origin():
    x = at([1.0, 2.0], name="w")
    assert repr(x) == "Tensor([1., 2.], w)" and "from add" in repr(x + 1.0)
    assert float(x.sum()) == 3 and x.sum().item() == 3 and len(x) == 2 and bool(x[0] > 0)
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2,), 1, 2, np.float64) and x in {x}
    assert autograd.Tensor is Tensor
