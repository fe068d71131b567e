"""Operators and methods of Tensor mean what NumPy means by them; what they refuse; what they do not
record."""

import numpy as np
import pytest
from table import draw

from tinygan import ops
from tinygan.autograd import Tensor, grad
from tinygan.backend import to_device, to_host

A, B, V = draw((2, 3), 0.5, 2), draw((2, 3), 0.5, 2, seed=1), draw((3,), 0.5, 2, seed=2)

EXPRESSIONS = [
    lambda a, b, v: a + b, lambda a, b, v: a - v, lambda a, b, v: a * 2, lambda a, b, v: 2 * a,
    lambda a, b, v: 1 - a, lambda a, b, v: a / b,
    lambda a, b, v: 1 / a, lambda a, b, v: a ** 2, lambda a, b, v: 2 ** a, lambda a, b, v: a ** b,
    lambda a, b, v: -a, lambda a, b, v: abs(-a),
    lambda a, b, v: a @ v, lambda a, b, v: v @ a.T, lambda a, b, v: v @ v, lambda a, b, v: a.T @ b,
    lambda a, b, v: a.dot(v),
    lambda a, b, v: a.sum(), lambda a, b, v: a.sum(axis=0), lambda a, b, v: a.sum(1, keepdims=True),
    lambda a, b, v: a.mean(axis=(0, 1)),
    lambda a, b, v: a.var(axis=1), lambda a, b, v: a.max(), lambda a, b, v: a.min(axis=0),
    lambda a, b, v: a.reshape(3, 2),
    lambda a, b, v: a.reshape((-1, 2)), lambda a, b, v: a.reshape(6), lambda a, b, v: a.transpose(),
    lambda a, b, v: a.transpose(1, 0),
    lambda a, b, v: a.transpose((0, 1)), lambda a, b, v: a.T, lambda a, b, v: a.ravel(),
    lambda a, b, v: a.flatten(), lambda a, b, v: a[None].squeeze(),
    lambda a, b, v: a[:, None].squeeze(1), lambda a, b, v: a[..., None].squeeze(axis=-1),
    lambda a, b, v: a.swapaxes(0, 1), lambda a, b, v: a.clip(0.8, 1.5),
    lambda a, b, v: a.cumsum(axis=1), lambda a, b, v: a.astype("float64"), lambda a, b, v: a[0],
    lambda a, b, v: a[:, 1:], lambda a, b, v: a[-1, ::2],
    lambda a, b, v: sum(row for row in a), lambda a, b, v: 0.5 * (a + b) - v * (a > b),
]


@pytest.mark.parametrize("i", range(len(EXPRESSIONS)))
def test_operators_and_methods_are_numpys(i, device):
    """The same expression on arrays and on Tensors: the same numbers, shape and type; and it records."""
    f = EXPRESSIONS[i]
    for dtype in (np.float64, np.float32):
        arrays = [to_device(x.astype(dtype), device) for x in (A, B, V)]
        tensors = [Tensor(x) for x in arrays]
        y, expected = f(*tensors), f(*(x.astype(dtype) for x in (A, B, V)))
        assert isinstance(y, Tensor) and y.op is not None and y.shape == expected.shape
        assert y.dtype == (np.float64 if "float64" in f.__code__.co_consts else expected.dtype)
        np.testing.assert_allclose(to_host(y.data), expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


def test_comparisons_and_sign_are_plain_arrays_and_record_nothing(device):
    a, b = Tensor(to_device(A, device)), Tensor(to_device(B, device))
    for y, expected in [(a > b, A > B), (a >= 1.0, A >= 1), (a < b, A < B), (1.0 <= a, A >= 1),
                        (a == a, A == A), (a != b, A != B),
                        (ops.sign(a - 1.0), np.sign(A - 1)), (ops.sign(a.data), np.sign(A))]:
        assert not isinstance(y, Tensor)
        np.testing.assert_array_equal(to_host(y), expected)


def test_a_mask_times_a_tensor_differentiates_only_the_tensor(device):
    a = Tensor(to_device(A, device))
    np.testing.assert_array_equal(to_host(grad((a * (a > 1.0)).sum(), a)), A > 1)


@pytest.mark.parametrize("name, f", [
    ("matmul", lambda: ops.matmul(A, B)), ("matmul", lambda: ops.matmul(A, V)),
    ("linear", lambda: ops.linear(A, B, V)),
    ("linear", lambda: ops.linear(V, B, V)), ("einsum", lambda: ops.einsum("ij,jk", A, B)),
    ("einsum", lambda: ops.einsum("ii->i", A)),
    ("einsum", lambda: ops.einsum("...i->i", A)), ("einsum", lambda: ops.einsum("ij->ij", A, B)),
    ("embedding", lambda: ops.embedding(A, np.array([0, 2]))),
    ("embedding", lambda: ops.embedding(A, np.array([-1]))),
])
def test_wrong_shapes_are_errors_that_name_the_op(name, f):
    with pytest.raises(ValueError, match=name):
        f()


def test_embedding_wants_integers():
    with pytest.raises(TypeError, match="embedding"):
        ops.embedding(A, np.array([0.0]))


def test_shapes_that_do_not_broadcast_are_errors():
    for f in (ops.add, ops.mul, ops.maximum, ops.pow):
        with pytest.raises(ValueError, match="broadcast"):
            f(Tensor(A), Tensor(A[:, :2]))


def test_plain_numbers_do_not_raise_the_precision(device):
    """float32 with Python numbers stays float32, in every op that takes them, forwards and backwards."""
    x = Tensor(to_device(A.astype(np.float32), device))
    for f in (lambda x: 2.0 ** x, lambda x: x ** 2.0, lambda x: x ** 0.5, lambda x: 1.0 / x,
              lambda x: ops.maximum(x, 1.0), lambda x: ops.minimum(1.0, x),
              lambda x: ops.where(x.data > 1, x, 0.0), lambda x: ops.where(x.data > 1, 1.0, x),
              lambda x: ops.clip(x, low=0.1), lambda x: x * True,
              lambda x: ops.leaky_relu(x, slope=0.1), lambda x: ops.elu(x), ops.gelu, ops.softplus,
              ops.sigmoid, lambda x: ops.normalize(x, 1.5, 0.5, axis=0),
              lambda x: ops.pad(x, widths=((1, 1), (0, 0)), value=1.0), lambda x: x.mean() * 3,
              lambda x: x - 1, lambda x: ops.norm(x) + 1e-8):
        y = f(x)
        g = grad((y * y).sum(), x, create_graph=True)
        assert y.dtype == g.dtype == grad((g * g).sum(), x).dtype == np.float32


def test_stacking_and_joining_mixes_arrays_and_tensors(device):
    a, b = Tensor(to_device(A, device)), to_device(B, device)
    np.testing.assert_array_equal(to_host(ops.stack([a, b], axis=-1).data), np.stack([A, B], axis=-1))
    np.testing.assert_array_equal(to_host(ops.concatenate(b, a).data), np.concatenate([B, A]))
    np.testing.assert_array_equal(to_host(grad(ops.concatenate(b, a, b).sum(), a)), np.ones((2, 3)))
