"""The engine: the order of the walk, what is walked, what is remembered, and what is refused."""

import copy
import gc
import math
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from tinygan import autograd, ops
from tinygan.autograd import Op, Tensor, grad, no_grad, op, unbroadcast
from tinygan.backend import to_device, to_host
from tinygan.shortcuts import REGISTERED


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
    original = Tensor.parents

    def spy(self):
        seen.append(self)
        return original(self)
    Tensor.parents = spy
    try:
        equal(grad(y, middle), [5])
    finally:
        Tensor.parents = original
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
    with pytest.raises(TypeError, match="twice has no rules yet; state them with twice.vjps"):
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
    """Its vjp gets what its forward saved and which shares are wanted; with create_graph the rules are used."""
    asked = []

    @op
    def product(a, b):
        return a * b
    product.vjps(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)

    @product.shortcut("numpy")
    class _:
        def forward(a, b):
            return a * b, "saved"

        def vjp(g, y, saved, wanted, a, b):
            asked.append((saved, list(wanted)))
            return [g * b if wanted[0] else None, g * a if wanted[1] else None]
    REGISTERED.pop()            # an op of this test alone
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


def test_numpy_functions_without_an_op_are_refused_with_the_way_out():
    """A stray np.median in a rule would otherwise cut the graph, and only second order would notice."""
    x = at([1.0])
    for f in (np.median, np.arctan, np.sort):
        with pytest.raises(TypeError, match=rf"np.{f.__name__} does not record on the tape: no op .*\.data"):
            f(x)
    with pytest.raises(TypeError, match="np.mod|np.remainder"):
        np.mod(x, 2.0)
    with pytest.raises(TypeError, match=r"np.add: .*not changed in place.*a = a \+ t"):
        a = np.ones(1)
        a += x
    with pytest.raises(TypeError, match=r"np.sum of a Tensor: .*dtype"):
        np.sum(x, dtype=int)
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


# ---------------------------------------------------------------------------- copies, threads, memory

COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_a_tensor_of_its_own(how):
    """It has a number of its own, so that its gradient is its own; its memory too; its past it leaves behind."""
    w = at([1.0, 2.0], name="w")
    v = COPIES[how](w)
    equal(grad((w * 3.0 + v * 5.0).sum(), [w, v])[0], [3, 3])
    equal(grad((w * 3.0 + v * 5.0).sum(), [w, v])[1], [5, 5])
    v.data[0] = 9.0
    equal(w, [1, 2])
    result = COPIES[how](w * 2.0)
    assert type(v) is Tensor and v.name == "w" and result.op is None
    equal(result, [2, 4])
    with pytest.raises(ValueError, match="does not depend"):
        grad(result.sum(), w)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copying_a_structure_copies_each_tensor_once(how):
    w = at([1.0])
    a, (b, c) = COPIES[how]([w, (w, at([2.0]))])
    assert (a is b) and a is not w
    equal(grad((a * b * c).sum(), a), [4])


def test_copies_of_copies_in_a_training_loop_stay_apart():
    """Numbers decide the order of the walk: a copy made late must not come before what was made from it."""
    w = at([2.0])
    snapshots = []
    for _ in range(3):
        snapshots.append(copy.deepcopy(w))
        w.data = w.data * 2
    y = (snapshots[0] * snapshots[1] + snapshots[2] * w).sum()
    for g, e in zip(grad(y, [*snapshots, w]), ([4], [2], [16], [8]), strict=True):
        equal(g, e)


def test_recording_is_a_matter_of_the_thread():
    """One thread samples within no_grad while another trains: neither switches the other."""
    inside, done = threading.Event(), threading.Event()
    found = []

    def preview():
        with no_grad():
            inside.set()
            done.wait(5)
            found.append(ops.tanh(at([1.0])).op)
        found.append(ops.tanh(at([1.0])).op)
    thread = threading.Thread(target=preview)
    thread.start()
    inside.wait(5)
    x = at([3.0])
    equal(grad((x * x).sum(), x), [6])
    done.set()
    thread.join()
    assert found[0] is None and found[1] is ops.tanh
    with no_grad():
        others = []
        thread = threading.Thread(target=lambda: others.append(ops.tanh(at([1.0])).op))
        thread.start()
        thread.join()
    assert others == [ops.tanh]


def test_gradients_belong_to_the_caller(device):
    """Writable, and never two names for one memory: neither among themselves nor with what went in."""
    a, b, w = at([1.0, 2.0], device), at([3.0, 4.0], device), at([5.0, 6.0], device)
    v = to_device(np.array([1.0, 1.0]), device)
    for y, wrt, cotangent in [(((a + b) * w).sum(), [a, b], None), (a + b, [a, b], v), (a.mean(), [a], None),
                              (ops.broadcast_to(a.sum(), shape=(2, 2)).sum(), [a, a], None), (a.reshape((2, 1)).T, [a], v[None]),
                              (a + b, [a, b, a], v), (a[:1] + b[1:], [a, b], v[:1]), (a, [a], v), ((a + 0.0) + b, [b, a], v)]:
        gs = grad(y, wrt, cotangent)
        before = [to_host(g).copy() for g in gs]
        kept = [to_host(x).copy() for x in (a.data, b.data, w.data, v)]
        for i, g in enumerate(gs):
            g *= 7.0
            g[...] = g + 1.0
            for j, other in enumerate(gs):
                expected = before[j] * 7 + 1 if j <= i else before[j]
                np.testing.assert_array_equal(to_host(other), expected)
        for x, k in zip((a.data, b.data, w.data, v), kept, strict=True):
            np.testing.assert_array_equal(to_host(x), k)


def test_what_a_graph_has_recorded_does_not_change_under_it():
    """Constants and the arrays that Tensors were made of may change afterwards: the recorded values count."""
    c, data = np.array([2.0, 3.0]), np.array([1.0, 1.0])
    x = Tensor(data)
    y = (x * x * c).sum()
    c[:], data[:] = 100.0, 100.0
    equal(grad(y, x), [4, 6])
    equal(grad(y, x, create_graph=True).data, [4, 6])


# ---------------------------------------------------------------------------- what a user types


def test_static_arguments_by_position_and_sequences_as_in_numpy():
    x = at([[3.0, -1.0, 2.0], [0.5, 4.0, -2.0]])
    a = x.data
    for t, expected in [
            (ops.sum(x, 0), a.sum(0)), (ops.mean(x, (0, 1), True), a.mean((0, 1), keepdims=True)),
            (ops.clip(x, 0, 1), a.clip(0, 1)), (ops.clip(x, None, 1.0), a.clip(None, 1.0)), (x.clip(0.0, None), a.clip(0)),
            (ops.softmax(x, 0), np.exp(a) / np.exp(a).sum(0)), (ops.reshape(x, (3, 2)), a.reshape(3, 2)),
            (ops.concatenate([x, x]), np.concatenate([a, a])), (ops.concatenate((x, x), 1), np.concatenate([a, a], 1)),
            (ops.concatenate([x, a], axis=None), np.concatenate([a, a], None)), (ops.cumsum(x), a.cumsum()),
            (ops.transpose(x, (1, 0)), a.T), (ops.flip(x), a[::-1, ::-1]), (ops.stack([x, x], 1), np.stack([a, a], 1)),
            (ops.pad(x, 1), np.pad(a, 1)), (ops.pad(x, (1, 2), 5.0), np.pad(a, (1, 2), constant_values=5.0)),
            (ops.leaky_relu(x, 0.5), np.where(a > 0, a, 0.5 * a)), (ops.getitem(x, 1), a[1])]:
        np.testing.assert_allclose(t.data, expected, rtol=1e-14)
        assert isinstance(t, Tensor) and grad((t * t).sum(), x).shape == x.shape
    assert np.array_equal(ops.concatenate([a, a]), np.concatenate([a, a]))       # without a Tensor, too
    with pytest.raises(TypeError, match=r"sum: takes 1 argument\(s\), then axis, keepdims"):
        ops.sum(x, 0, True, 3)
    with pytest.raises(TypeError, match="sum: takes"):
        ops.sum(x, 0, axis=1)


@pytest.mark.parametrize("f", [
    np.exp, np.tanh, np.sqrt, np.abs, np.negative, np.square, np.sin, np.log, np.log1p, np.sum, np.mean, np.var, np.max, np.min,
    np.cumsum, np.ravel, np.transpose, np.linalg.norm, np.flip, np.squeeze,
    lambda t: np.sum(t, axis=0), lambda t: np.sum(t, 1, keepdims=True),
    lambda t: np.concatenate([t, t]), lambda t: np.concatenate([t, t], axis=1), lambda t: np.stack([t, t], axis=-1),
    lambda t: np.maximum(t, 1.5), lambda t: np.minimum(1.5, t), lambda t: np.add(t, t), lambda t: np.power(t, 3),
    lambda t: np.multiply(2.0, t),
    lambda t: np.divide(1.0, t), lambda t: np.subtract(t, np.ones(3)), lambda t: np.matmul(t, t.T),
    lambda t: np.dot(np.ones((1, 2)), t),
    lambda t: np.clip(t, 1.0, 2.0), lambda t: np.clip(t, a_min=1.0, a_max=None), lambda t: np.reshape(t, (3, 2)), lambda t: np.pad(t, 1),
    lambda t: np.broadcast_to(t, (4, 2, 3)), lambda t: np.where(np.ones((2, 3)) > 0, t, 0.0), lambda t: np.swapaxes(t, 0, 1),
    lambda t: np.einsum("ij,ij->i", t, t), lambda t: np.linalg.norm(t, axis=1), lambda t: np.ones(3) * t, lambda t: np.float64(2) - t],
    ids=lambda f: getattr(f, "__name__", "lambda"))
def test_numpys_functions_do_on_tensors_what_they_do_on_arrays_and_record(f):
    a = np.array([[0.5, 1.25, 2.5], [1.75, 3.0, 0.75]])
    t = at(a)
    y = f(t)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.data, f(a), rtol=1e-12)
    h = 1e-6 * np.cos(np.arange(6)).reshape(2, 3)
    slope = float((grad((y * y).sum(), t) * h).sum())
    assert slope == pytest.approx(((f(a + h) ** 2).sum() - (f(a - h) ** 2).sum()) / 2, rel=1e-6)


def test_numpys_questions_get_plain_answers():
    t = at([[1.0, -2.0]])
    assert np.shape(t) == (1, 2) and np.ndim(t) == 2 and np.size(t) == 2
    for y in (np.sign(t), np.isfinite(t), np.greater(t, 0), np.floor(t)):
        assert type(y) is np.ndarray and y.shape == (1, 2)


def test_constants_may_be_changed_after_the_op(device):
    """Masks, labels and places as well as numbers: the tape has copies of what is no Tensor."""
    table = Tensor(to_device(np.arange(6.0).reshape(3, 2), device))
    for f, constant in [(lambda x, c: ops.where(c, x, 0.0), np.array([[True, False]] * 3)), (lambda x, c: x * c, np.ones((3, 2))),
                        (lambda x, c: ops.embedding(x, c), np.array([0, 2])), (lambda x, c: x[c], np.array([1, 1]))]:
        c = to_device(constant, device)
        expected = to_host(grad(f(table, c).sum(), table))
        y = f(table, c).sum()
        c[...] = 0
        np.testing.assert_array_equal(to_host(grad(y, table)), expected)


def test_the_type_of_a_tensor_rules_over_constants(device):
    """float32 stays float32, whatever numbers and constant arrays it meets, in the gradient too."""
    x = Tensor(to_device(np.float32([1.0, 2.0]), device))
    two = to_device(np.array([2.0, 2.0]), device)
    for y in (x * np.sqrt(2.0), np.sqrt(2.0) * x, x / np.float64(3), x * two, two - x, x ** to_device(np.array([2, 3]), device),
              ops.maximum(x, two), ops.where(x.data > 1, x, two), x + True, x * 2, x[None] @ to_device(np.ones((2, 2)), device)):
        assert y.dtype == np.float32
        for g in (grad(y.sum(), x), grad(y.sum(), x, create_graph=True)):
            assert g.dtype == np.float32
    double = Tensor(to_device(np.array([1.0, 2.0]), device))
    y = x * double
    assert y.dtype == np.float64                        # two Tensors promote as arrays do; each gradient keeps its own type
    assert [g.dtype for g in grad(y.sum(), [x, double])] == [np.float32, np.float64]


def test_cotangents_are_converted_to_the_type_of_y():
    x = Tensor(np.float32([1.0, 2.0]))
    for v in (np.array([1, 2]), np.array([1.0, 2.0]), [1, 2]):
        g = grad(x * 3.0, x, v)
        assert g.dtype == np.float32
        equal(g, [3, 6])
    assert grad(x.sum(), x, 2.0).tolist() == [2, 2]
    with pytest.raises(TypeError, match="cotangent must be real numbers, got complex"):
        grad(x * 3.0, x, np.array([1j, 0]))


def test_what_has_no_real_derivative_is_refused():
    x = at([1.0, 2.0])
    with pytest.raises(TypeError, match="astype: a Tensor holds floating-point numbers, got int64"):
        x.astype(int)
    with pytest.raises(TypeError, match="complex"):
        x * (1 + 2j)
    with pytest.raises(TypeError, match="complex"):
        x * np.array([1j, 2])
    for bad, words in ((None, "None"), ("text", "could not convert|str")):
        with pytest.raises((TypeError, ValueError), match=words):
            Tensor(bad)
    with pytest.raises(TypeError, match="Tensor.data: expected an array, got list"):
        x.data = [1.0, 2.0]
    with pytest.raises(TypeError, match="Tensor.data: expected floating-point data, got int64"):
        x.data = np.array([1, 2])


def test_a_number_of_numpys_becomes_an_array():
    """NumPy turns 0-d results into numbers of its own; a Tensor always holds an array."""
    p = at(2.0)
    p.data = p.data - 0.5
    assert type(p.data) is np.ndarray and type((p * p).data) is np.ndarray and type(p.sum().data) is np.ndarray
    assert type(grad((p * p).sum(), p)) is np.ndarray


def test_zeros_for_what_a_loss_does_not_use_if_asked_for():
    x, w = at([1.0, 2.0]), at([[3.0]], name="w")
    with pytest.raises(ValueError, match="does not depend on w .*zeros=True"):
        grad(x.sum(), [x, w])
    a, b = grad(x.sum(), [x, w], zeros=True)
    equal(a, [1, 1])
    equal(b, [[0]])
    equal(grad(x.sum(), w, zeros=True, create_graph=True), [[0]])
    y = (x * w).sum()
    w.data = w.data * 2
    with pytest.raises(ValueError, match="w of shape .* was changed after it was used in mul"):
        grad(y, w, zeros=True)              # it does use w: zeros would be silently wrong


def test_a_stale_loss_is_called_that_however_it_is_asked():
    w, x = at([1.0], name="generator.0.weight"), at([2.0], name="x")
    y = (w * x).sum()
    w.data -= 0.1
    for wrt in (w, [w], x, [w, x]):
        with pytest.raises(ValueError, match="generator.0.weight of shape .* was changed after it was used in mul"):
            grad(y, wrt)


def test_a_loss_computed_within_no_grad_is_called_that():
    w = at([1.0], name="w")
    with no_grad():
        y = (w * w).sum()
        h = w * 3.0
    for loss in (y, (h * h).sum()):
        with pytest.raises(ValueError, match=r"does not depend on w .*within no_grad\(\)"):
            grad(loss, w)
