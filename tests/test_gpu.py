"""The GPU path, proved without a GPU.

1. The stand-in (standin.py), on which the whole suite runs as one more device, catches every kind of mistake: here each is planted.
2. Every kernel, run from its source through a C++ compiler, equals its formula.
3. Every kernel compiles with NVIDIA's own compiler (NVRTC, from the package nvidia-cuda-nvrtc; needs neither GPU nor driver).
4. Every name that is asked of an array module is one that CuPy has.
5. A training step moves its batch and its latents to the device, and nothing else; the same seed gives the same run as on the CPU.
6. A training step launches no more than it did.
"""

import ast
import ctypes
import io
import os
import re
import subprocess
import sys
import tokenize
from collections import Counter
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import standin
import table

import tinygan
from tinygan import backend, cli, conv, gpu, models, nn, ops, optim, plain, train
from tinygan.autograd import Tensor, grad
from tinygan.backend import to_device, to_host
from tinygan.randomness import seed
from tinygan.reductions import normalize

PACKAGE = Path(tinygan.__file__).parent
SOURCE = (PACKAGE / "kernels.cu").read_text(encoding="utf-8")
needs_compiler = pytest.mark.skipif(standin.COMPILER is None, reason="no C++ compiler to run the kernels with")


@pytest.fixture
def cupy():
    """The stand-in as CuPy, also on machines that have the real one."""
    if standin.COMPILER is None:
        pytest.skip("no C++ compiler to run the kernels with")
    with standin.installed() as module:
        yield module


@pytest.fixture
def any_gpu():
    """The real CuPy where it works, elsewhere the stand-in."""
    try:
        backend.pick_device("gpu")
    except backend.DeviceError:
        if standin.COMPILER is None:
            pytest.skip("no C++ compiler to run the kernels with")
        with standin.installed():
            yield
    else:
        yield


def some(shape, dtype=np.float32, start=0):
    return np.random.default_rng([start, *shape]).standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ 1. planted mistakes


HOST = np.ones((2, 3), np.float32)
PLANTED = {
    "a NumPy function": [lambda c, x: np.tanh(x), lambda c, x: np.sum(x), lambda c, x: np.where(x > 0, x, x),
                         lambda c, x: np.concatenate([x, x]), lambda c, x: np.add(x, 1), lambda c, x: np.add.at(x, 0, 1.0)],
    "an implicit copy to the host": [lambda c, x: np.asarray(x), lambda c, x: np.array(x), lambda c, x: np.stack([x]),
                                     lambda c, x: np.testing.assert_array_equal(x, HOST), lambda c, x: memoryview(x)],
    "an implicit copy to the device": [lambda c, x: x[np.array([0, 1])], lambda c, x: x[[0, 1]], lambda c, x: x[HOST > 0],
                                       lambda c, x: x.__setitem__(0, HOST[0])],
    "both devices at once": [lambda c, x: x * HOST, lambda c, x: HOST * x, lambda c, x: x @ HOST.T, lambda c, x: c.maximum(x, HOST),
                             lambda c, x: x + np.ones((), "f"), lambda c, x: np.ones((), "f") + x, lambda c, x: x > HOST,
                             lambda c, x: c.concatenate([x, HOST]), lambda c, x: x.__iadd__(HOST),
                             lambda c, x: ops.mul(Tensor(x), HOST), lambda c, x: Tensor(HOST) * Tensor(x),
                             lambda c, x: nn.Linear(3, 1)(Tensor(x))],
    "a name that CuPy lacks": [lambda c, x: c.errstate(), lambda c, x: c.vecdot(x, x), lambda c, x: c.block([[x]]),
                               lambda c, x: c.float128, lambda c, x: x.setflags(write=False), lambda c, x: x.ctypes],
    "an argument that CuPy lacks": [lambda c, x: c.add(x, x, where=x > 0), lambda c, x: x.sum(where=x > 0),
                                    lambda c, x: x.max(initial=0.0), lambda c, x: x.var(correction=1),
                                    lambda c, x: c.clip(x, min=0), lambda c, x: c.sum(x, initial=1),
                                    lambda c, x: c.einsum("ij->j", x, out=x)],
    "an array as a condition or position": [lambda c, x: c.where(True, x, x), lambda c, x: [1, 2][c.zeros((), "int64")],
                                            lambda c, x: range(c.ones((), "int64")), lambda c, x: hash(x)],
}


@pytest.mark.parametrize("mistake", [pytest.param(f, id=f"{kind} {i}") for kind, fs in PLANTED.items() for i, f in enumerate(fs)])
def test_a_planted_mistake_is_an_error(mistake, cupy):
    with pytest.raises((TypeError, AttributeError)):
        mistake(cupy, to_device(HOST, "gpu"))


@pytest.mark.parametrize("wait", [
    float, bool, int, str, repr, lambda x: x.item(), lambda x: x.tolist(), lambda x: f"{x}", lambda x: 1 if x > 0 else 0,
    lambda x: max(x, x + 1), lambda x: x.reshape(1).nonzero(), lambda x: np.float32(x)])
def test_waiting_for_the_device_is_counted(wait, cupy):
    x = to_device(np.ones(1, np.float32), "gpu").sum()
    with standin.watch() as seen:
        try:
            wait(x)
        except TypeError:           # NumPy's numbers do not even take it
            return
    assert seen.syncs


def test_waiting_for_a_mask_is_counted(cupy):
    x = to_device(HOST, "gpu")
    with standin.watch() as seen:
        x[x > 0]
    assert seen.syncs == ["mask"]


def test_transfers_are_counted_with_shape_and_type(cupy):
    with standin.watch() as seen:
        x = to_device(HOST, "gpu")
        to_device(x, "gpu")
        to_host(x + 1)
        cupy.concatenate([x] * 9)
    assert seen.uploads[0] == ((2, 3), "float32") and "pointers" in seen.uploads[1] and len(seen.uploads) == 2
    assert seen.downloads == [((2, 3), "float32")] and not seen.syncs


def test_reductions_stay_on_the_device_and_fresh_memory_is_no_zero(cupy):
    x = to_device(HOST, "gpu")
    assert backend.device_of(x.sum()) == backend.device_of(x.max(axis=0)[0]) == "gpu" and x.sum().shape == ()
    assert np.isnan(to_host(cupy.empty((2,), "float32"))).all()
    assert (np.float64(2) * to_device(HOST, "gpu")).dtype == np.float64, "a NumPy float64 is no plain number"
    assert (2.0 * x).dtype == np.float32


def spoil_forward(monkeypatch):
    monkeypatch.setattr(ops.tanh, "forward", np.tanh)


def spoil_rule(monkeypatch):
    monkeypatch.setattr(ops.tanh, "rules", (lambda g, y, x: g * (1 - np.square(y)),))


def spoil_constant(monkeypatch):
    monkeypatch.setattr(ops.tanh, "rules", (lambda g, y, x: g * (np.ones(y.shape, y.dtype) - y * y),))


@pytest.mark.parametrize("spoil", [spoil_forward, spoil_rule, spoil_constant])
def test_the_suite_notices_an_op_that_leaves_its_device(spoil, cupy, monkeypatch):
    """What works on the CPU, and is right there, fails where the suite runs it on the stand-in."""
    spoil(monkeypatch)
    case = table.ROWS["tanh"][3]
    with np.errstate(all="ignore"):
        x = table.tensors(case, "cpu")[1][0]
        np.testing.assert_allclose(grad(ops.tanh(x).sum(), x), 1 - np.tanh(x.data) ** 2)
    with pytest.raises((TypeError, AssertionError)):
        table.run("tanh", "gpu")


# ------------------------------------------------------------------------------------------------ 2. the kernels

SETTINGS = [((5, 6), (3, 3), (1, 1), (0, 0), (1, 1)), ((5, 6), (2, 3), (2, 1), (1, 2), (1, 1)),
            ((7, 4), (3, 2), (1, 2), (0, 1), (2, 1)), ((6, 6), (4, 4), (2, 2), (1, 1), (1, 1)),
            ((4, 4), (1, 1), (3, 3), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (4, 3), (1, 2)),
            ((8, 5), (3, 3), (2, 3), (2, 1), (2, 2)), ((2, 9), (1, 5), (1, 4), (0, 2), (1, 1))]
each_setting = pytest.mark.parametrize("size, kernel, stride, padding, dilation", SETTINGS)
each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def taps(size, kernel, stride, padding, dilation):
    """(output size, [((i, j, u, v), (row, column) in the image)]): the definition, in Python's own integers."""
    ho, wo = conv.output_size(size, kernel, stride, padding, dilation)
    found = []
    for i, j, u, v in np.ndindex(ho, wo, *kernel):
        row, column = i * stride[0] + u * dilation[0] - padding[0], j * stride[1] + v * dilation[1] - padding[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            found.append(((i, j, u, v), (row, column)))
    return (ho, wo), found


@pytest.fixture
def guarded(cupy, monkeypatch):
    """Fresh arrays lie between canaries, which must be unharmed at the end; what is read before or behind one shows as NaN."""
    made, margin = [], 64

    def within(a):
        whole = np.full(a.size + 2 * margin, np.nan, a.dtype) if a.dtype.kind == "f" else np.full(a.size + 2 * margin, -77, a.dtype)
        inner = whole[margin:margin + a.size].reshape(a.shape)
        inner[...] = a
        made.append((whole, a.size, a.dtype))
        return standin.wrap(inner)

    def empty(shape, dtype=float):
        return within(np.full(shape, np.nan, dtype))
    monkeypatch.setattr(standin.cupy, "empty", empty)
    for name, made_by in (("zeros", np.zeros), ("zeros_like", lambda x: np.zeros_like(standin.take(x)))):
        monkeypatch.setattr(standin.cupy, name, lambda *a, _f=made_by, **k: within(_f(*a, **k)), raising=False)
    monkeypatch.setattr(standin, "_upload", within)
    yield
    for whole, size, dtype in made:
        edges = np.concatenate([whole[:margin], whole[margin + size:]])
        assert np.isnan(edges).all() if dtype.kind == "f" else (edges == -77).all(), "a kernel wrote outside of its array"


@each_type
@each_setting
def test_im2col_and_col2im_are_their_definitions(size, kernel, stride, padding, dilation, dtype, guarded):
    for n, c in [(2, 3), (1, 1), (3, 5)]:
        (ho, wo), pairs = taps(size, kernel, stride, padding, dilation)
        x, v = some((n, *size, c), dtype), some((n, ho, wo, *kernel, c), dtype, 1)
        windows, image = np.zeros_like(v), np.zeros((n, *size, c))
        for (i, j, a, b), (row, column) in pairs:
            windows[:, i, j, a, b] = x[:, row, column]
            image[:, row, column] += v[:, i, j, a, b]
        on = [to_device(a, "gpu") for a in (x, v)]
        how = dict(stride=stride, padding=padding, dilation=dilation)
        with standin.watch() as seen:
            got = conv.unfold(on[0], kernel=kernel, **how)
            np.testing.assert_array_equal(to_host(got), windows)
            got = conv.fold(on[1], size=size, **how)
        assert seen.launches == ["im2col", "col2im"] and got.dtype == dtype
        np.testing.assert_allclose(to_host(got), image, rtol=0, atol=20 * np.finfo(dtype).eps)


@each_setting
def test_unfold_and_fold_on_the_device_are_those_on_the_host(size, kernel, stride, padding, dilation, any_gpu):
    how = dict(stride=stride, padding=padding, dilation=dilation)
    x = some((2, *size, 2))
    v = some(conv.unfold(x, kernel=kernel, **how).shape)
    for flip in (lambda a: a, lambda a: a[:, ::-1, ::-1]):                  # arrays that are views count too
        got = conv.unfold(flip(to_device(x, "gpu")), kernel=kernel, **how)
        np.testing.assert_array_equal(to_host(got), conv.unfold(flip(x), kernel=kernel, **how))
        got = conv.fold(flip(to_device(v, "gpu")), size=size, **how)
        np.testing.assert_allclose(to_host(got), conv.fold(flip(v), size=size, **how), atol=3e-6)


def test_settings_may_be_numpys_integers(any_gpu):
    """They reach the kernels in the one width that these are compiled for."""
    x = some((2, 6, 6, 3))
    numbers = [np.int64(k) for k in (3, 2, 1, 1, 6)]
    kernel, stride, padding, dilation, size = [(k, k) for k in numbers]
    how = dict(stride=stride, padding=padding, dilation=dilation)
    v = conv.unfold(x, kernel=kernel, **how)
    np.testing.assert_array_equal(to_host(conv.unfold(to_device(x, "gpu"), kernel=kernel, **how)), v)
    got = conv.fold(to_device(v.copy(), "gpu"), size=size, **how)
    np.testing.assert_allclose(to_host(got), conv.fold(v, size=size, **how), atol=3e-6)
    pool = dict(kernel=kernel, stride=stride, padding=padding)
    t = Tensor(to_device(x, "gpu"))
    np.testing.assert_array_equal(to_host(conv.max_pool(t, **pool).data), conv.max_pool(x, **pool))
    u = Tensor(x)
    np.testing.assert_allclose(to_host(grad(conv.max_pool(t, **pool).sum(), t)), grad(conv.max_pool(u, **pool).sum(), u))


@each_type
@each_setting
def test_max_pooling_and_its_gradient_are_their_definitions(size, kernel, stride, padding, dilation, dtype, guarded):
    """Every window by itself, with many ties: its maximum, and its gradient in equal parts to where that is."""
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    ho, wo = conv.output_size(size, kernel, stride, padding)
    for n, c in [(2, 3), (1, 1), (3, 5)]:
        x, g = np.random.default_rng(c).integers(-3, 2, (n, *size, c)).astype(dtype), some((n, ho, wo, c), dtype, 1)
        y, gradient = np.empty_like(g), np.zeros_like(x)
        for i, j in np.ndindex(ho, wo):
            rows, columns = (slice(max(a * s - p, 0), a * s - p + k) for a, s, p, k in zip((i, j), stride, padding, kernel,
                                                                                           strict=True))
            window = x[:, rows, columns]
            y[:, i, j] = window.max(axis=(1, 2))
            hit = window == y[:, i:i + 1, j:j + 1]
            gradient[:, rows, columns] += hit * (g[:, i:i + 1, j:j + 1] / hit.sum(axis=(1, 2), keepdims=True)).astype(dtype)
        for device in ("cpu", "gpu"):
            got = conv.max_pool(to_device(x, device), kernel=kernel, stride=stride, padding=padding)
            np.testing.assert_array_equal(to_host(got), y)
            back = grad(conv.max_pool(t := Tensor(to_device(x, device)), kernel=kernel, stride=stride, padding=padding), t,
                        to_device(g, device))
            assert back.dtype == dtype
            np.testing.assert_allclose(to_host(back), gradient, rtol=0, atol=20 * np.finfo(dtype).eps)


def test_pooling_takes_a_cotangent_of_another_precision(any_gpu):
    x, g = some((2, 4, 4, 3)), some((2, 2, 2, 3), np.float64)
    backs = []
    for device in ("cpu", "gpu"):
        t = Tensor(to_device(x, device))
        backs.append(to_host(grad(conv.max_pool2d(t, 2), t, to_device(g, device))))
    np.testing.assert_allclose(*backs, rtol=1e-6)


def test_max_pooling_passes_nan_on(any_gpu):
    """On both devices alike: a window with a NaN has no maximum."""
    x = some((1, 4, 4, 1))
    for place in ((0, 0), (1, 1), (0, 1)):
        x[0, place[0], place[1], 0] = np.nan
        for device in ("cpu", "gpu"):
            y = to_host(conv.max_pool2d(to_device(x, device), 2))
            assert np.isnan(y[0, 0, 0, 0]) and np.isfinite(y[0, 1, 1, 0])
            t = Tensor(to_device(x, device))
            with np.errstate(all="ignore"):
                back = to_host(grad(conv.max_pool2d(t, 2).sum(), t))
            assert np.isnan(back[0, :2, :2]).all() and np.isfinite(back[0, 2:]).all()
        x[0, place[0], place[1], 0] = 0


@pytest.mark.parametrize("most", [1, 3000, 1 << 40])
def test_convolutions_in_blocks_are_convolutions(most, cupy, monkeypatch):
    """One image at a time, a few, all: the memory for columns decides how, not what."""
    monkeypatch.setattr(gpu, "COLUMNS", most)
    how = dict(stride=2, padding=1)
    x, w, g = some((5, 6, 6, 3)), some((4, 4, 3, 2)), some((5, 3, 3, 2))
    on = [to_device(a, "gpu") for a in (x, w, g)]
    with standin.watch() as seen:
        results = (conv.conv2d(on[0], on[1], **how), conv.conv2d_transpose(on[2], on[1], size=(6, 6), **how),
                   conv.conv2d_weight_gradient(on[0], on[2], kernel=(4, 4), **how))
    blocks = {1: 5, 3000: 5 if most < 2 * 9 * 48 * 4 else 3, 1 << 40: 1}[most]
    assert seen.launches.count("im2col") == 2 * blocks and seen.launches.count("col2im") == blocks
    expected = (conv.conv2d(x, w, **how), conv.conv2d_transpose(g, w, size=(6, 6), **how),
                conv.conv2d_weight_gradient(x, g, kernel=(4, 4), **how))
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_allclose(to_host(a), b, rtol=1e-4, atol=1e-5)


@each_type
def test_adding_at_repeated_indices_is_numpys_bit_for_bit(dtype, guarded):
    """Also at one place a thousand times, at none, and at negative indices: the order is that of the indices."""
    rng = np.random.default_rng(0)
    for shape, index in [((7, 3), rng.integers(-7, 7, 40)), ((2, 3), np.zeros(1000, int)), ((5, 2), np.array([], int)),
                         ((1, 1), np.array([0])), ((100,), rng.integers(0, 100, (3, 50))), ((4, 6), np.array(2))]:
        v = some((*index.shape, *shape[1:]), dtype)
        expected = np.zeros(shape, dtype)
        np.add.at(expected, index, v)
        np.testing.assert_array_equal(to_host(ops.add_at(to_device(v, "gpu"), key=to_device(index, "gpu"), shape=shape)), expected)


@each_type
def test_normalising_with_shared_sums_is_its_definition(dtype, any_gpu):
    """For each choice of what is differentiated, statistics as well. Far from zero the mean's own rounding must not show: one
    mean taken away leaves an error of about the mean times 1e-7, two leave none."""
    for shape, far in (((6, 4), 0), ((3, 2, 4, 5), 3), ((2, 1, 1, 1), 0), ((32, 7, 9, 3), 1000)):
        c, axis = shape[-1], tuple(range(len(shape) - 1))
        inputs = [some(shape, dtype) + dtype(far), some((c,), dtype, 1), some((c,), dtype, 2)]
        g, results = to_device(some(shape, dtype, 3), "gpu"), []
        for off in ("nothing", "normalize"):
            x, scale, shift = (Tensor(to_device(a, "gpu")) for a in inputs)
            statistics = []
            with plain(off):
                y = normalize(x, scale, shift, axis=axis, statistics=statistics)
                shares = [grad(y, wrt, g) for wrt in ([x, scale, shift], [x], [scale], [shift, scale])]
            results.append([to_host(a) for a in (y.data, *statistics, *(s for some in shares for s in some))])
        for fast, slow in zip(*results, strict=True):
            assert fast.dtype == slow.dtype == dtype and fast.shape == slow.shape
            np.testing.assert_allclose(fast, slow, rtol=1e3 * np.finfo(dtype).eps, atol=200 * np.finfo(dtype).eps)


@each_type
@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.999), 1e-4), ((0.0, 0.9), 0.1)])
@pytest.mark.parametrize("many", [0, 4, 5])
def test_adams_kernel_is_adam(dtype, betas, eps, many, guarded):
    """One launch per eight parameters that have elements: nothing is joined, copied or moved."""
    shapes = [(3, 4), (5,), (300, 2), (), (0, 3), *[(i, 2) for i in range(1, 1 + many)]]
    host, device = (optim.Adam([Tensor(some(s, dtype)) for s in shapes], lr=0.01, betas=betas, eps=eps) for _ in range(2))
    for p in device.params:
        p.data = to_device(p.data, "gpu")
    device.memory = [[to_device(m, "gpu") for m in slot] for slot in device.memory]
    for step in range(5):
        grads = [some(s, dtype, step + 1) for s in shapes]
        with plain():
            host.step(grads)
        moved = [to_device(g, "gpu") for g in grads]
        with standin.watch() as seen:
            device.step(moved)
        assert seen.launches == ["adam"] * (2 if many == 5 else 1) and not seen.uploads + seen.downloads + seen.syncs
        for g, a in zip(grads, moved, strict=True):
            np.testing.assert_array_equal(to_host(a), g)
    pairs = [(p.data, q.data) for p, q in zip(device.params, host.params, strict=True)]
    pairs += [pair for slots in zip(device.memory, host.memory, strict=True) for pair in zip(*slots, strict=True)]
    assert len(pairs) == 3 * len(shapes)
    for a, b in pairs:
        assert a.dtype == dtype
        np.testing.assert_allclose(to_host(a), b, rtol=100 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps)


def test_adam_takes_parameters_and_gradients_of_any_layout(cupy):
    """What the kernel cannot count through is updated by the definition, in place too."""
    results = []
    for device in ("cpu", "gpu"):
        whole = [to_device(some((4, 6), start=i), device) for i in range(2)]
        params = [Tensor(np.zeros(1)) for _ in whole]
        for p, a, view in zip(params, whole, (lambda a: a.T, lambda a: a[:, ::2]), strict=True):
            p.data = view(a)
        o = optim.Adam(params, lr=0.1)
        grads = [to_device(some((6, 4), start=2), device), to_device(some((3, 4), np.float64, start=3), device).T]
        for _ in range(3):
            o.step(grads)
        results.append([to_host(a) for a in whole])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.allclose(results[0][0], some((4, 6), start=0)), "the memory behind the view is what moves"


MUTANTS = [("im2col", "0 <= column &&", ""), ("im2col", "u * dh - ph", "u * dh"), ("im2col", "j * sw", "j * sh"),
           ("col2im", "top % sh ||", ""), ("col2im", "sum += columns", "sum = columns"), ("col2im", "v * dw;", "v;"),
           ("max_pool", "value > most", "value < most"), ("max_pool", "min(j * sw - pw + kw, w)", "j * sw - pw + kw"),
           ("max_pool_input", "/ ties", ""), ("max_pool_input", "x[k] != y[window]", "false"),
           ("max_pool_input", "row + ph - kh + sh", "row + ph - kh"), ("max_pool_input", "sum += g", "sum = g"),
           ("add_at", "if (k > 0 && places[k - 1] == place) return;", ""), ("add_at", "values[order[j]]", "values[j]"),
           ("leaky_relu", "x[k] > 0", "x[k] >= -0.5"), ("leaky_relu_input", "slope * g[k]", "slope * x[k]"),
           ("softplus_input", "k * step", "k"), ("softplus_input", "x[k] < 0 ? e : 1", "x[k] < 0 ? 1 : e"),
           ("scaled", "d[k] * slope", "d[k] / slope"), ("channels", "variance[k] + eps", "variance[k] - eps"),
           ("channels", "r[k] * scale", "r[k] / scale"), ("scaled", "shift[k % c]", "shift[k / c]"),
           ("centred_product", "- mean", "+ mean"), ("normalize_input", "r[i] * r[i]", "r[i]"),
           ("PARAMETER", "beta1 * m##i[k]", "beta2 * m##i[k]"), ("PARAMETER", "sqrt(v##i[k]) + eps", "sqrt(v##i[k] + eps)"),
           ("adam", "PARAMETER(1);", "")]


def kernels_hold():
    """The comparisons of this section in short, on the device of the moment."""
    for size, kernel, stride, padding, dilation in SETTINGS:
        how = dict(stride=stride, padding=padding, dilation=dilation)
        x, v = some((2, *size, 3)), some(conv.unfold(some((2, *size, 3)), kernel=kernel, **how).shape)
        assert np.array_equal(to_host(conv.unfold(to_device(x, "gpu"), kernel=kernel, **how)), conv.unfold(x, kernel=kernel, **how))
        assert np.allclose(to_host(conv.fold(to_device(v, "gpu"), size=size, **how)), conv.fold(v, size=size, **how), atol=1e-5)
        if dilation == (1, 1) and all(2 * p <= k for p, k in zip(padding, kernel, strict=True)):
            x = np.round(x)
            pooled = []
            for device in ("cpu", "gpu"):
                y = conv.max_pool(t := Tensor(to_device(x, device)), kernel=kernel, stride=stride, padding=padding)
                pooled.append((to_host(y.data), to_host(grad(y, t, to_device(some(y.shape), device)))))
            assert np.array_equal(pooled[0][0], pooled[1][0]) and np.allclose(pooled[0][1], pooled[1][1], atol=1e-5)
    index, v = np.array([2, 0, 2, 2, 1, 0]), some((6, 2))
    got = ops.add_at(to_device(v, "gpu"), key=to_device(index, "gpu"), shape=(4, 2))
    assert np.array_equal(to_host(got), ops.add_at(v, key=index, shape=(4, 2)))
    for f in (ops.leaky_relu, ops.softplus, lambda t: ops.softplus(t).mean()):
        found = []
        for device in ("cpu", "gpu"):
            y = f(t := Tensor(to_device(some((7, 3)) * 4, device)))
            found.append((to_host(y.data), to_host(grad(y, t, to_device(np.asarray(some(y.shape, start=1)), device)))))
        assert all(np.allclose(a, b, rtol=1e-5) for a, b in zip(*found, strict=True))
    scale, variance = (some((4,), start=i) + 2 for i in range(2))
    r, slope = (to_device(np.zeros(4, np.float32), "gpu") for _ in range(2))
    gpu._launch("channels", 4, to_device(scale, "gpu"), to_device(variance, "gpu"), r, slope, 4, 0.1)
    expected = (variance + np.float32(0.1)) ** -0.5
    assert np.allclose(to_host(r), expected, rtol=1e-5) and np.allclose(to_host(slope), expected * scale, rtol=1e-5)
    y, shift = to_device(np.zeros((2, 4), np.float32), "gpu"), to_device(variance, "gpu")
    gpu._launch("scaled", 8, to_device(some((2, 4)), "gpu"), slope, shift, y, 8, 4)
    assert np.allclose(to_host(y), some((2, 4)) * to_host(slope) + variance, rtol=1e-5)
    found = []
    for device in ("cpu", "gpu"):
        args = [Tensor(to_device(a, device)) for a in (some((40, 3)) + 500, some((3,), start=1), some((3,), start=2))]
        y = ops.normalize(*args, axis=(0,), statistics=(kept := []))
        g = to_device(some((40, 3), start=3), device)
        found.append([*map(to_host, kept), to_host(y.data), *map(to_host, grad(y, args, g))])
    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*found, strict=True))
    results = []
    for device in ("cpu", "gpu"):
        o = optim.Adam([Tensor(to_device(some((n,), start=n), device)) for n in (5, 3)], lr=0.01, betas=(0.5, 0.9), eps=1e-4)
        for i in range(2):
            o.step([to_device(some(p.shape, start=i), device) for p in o.params])
        results.append([to_host(p.data) for p in o.params])
    assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kernel, old, new", MUTANTS)
def test_a_mistake_in_a_kernel_is_noticed(kernel, old, new, cupy, monkeypatch):
    body = SOURCE[re.search(rf"(void|define) {kernel}\(", SOURCE).start():].partition('extern "C"')[0]
    assert old in body
    source = SOURCE.replace(body, body.replace(old, new))
    monkeypatch.setattr(gpu, "_kernel", lambda c, char, name: cupy.RawModule(
        code=source, options=("-DREAL=float",)).get_function(name))
    with pytest.raises(AssertionError):
        kernels_hold()


@pytest.mark.parametrize("kind, how", [(optim.SGD, {}), (optim.SGD, {"momentum": 0.9}), (optim.RMSProp, {})])
def test_other_optimisers_update_each_parameter_on_its_device(kind, how, cupy):
    """By their definition, moving nothing; the result is the CPU's."""
    shapes, results = [(70, 10), (5,), ()], []
    for device in ("cpu", "gpu"):
        o = kind([Tensor(to_device(some(s), device)) for s in shapes], lr=0.1, **how)
        for step in range(3):
            grads = [to_device(some(s, start=step + 1), device) for s in shapes]
            with standin.watch() as seen:
                o.step(grads)
            assert seen.uploads == seen.downloads == seen.syncs == []
        results.append([to_host(a) for a in (*(p.data for p in o.params), *(m for slot in o.memory for m in slot))])
    for host, device in zip(*results, strict=True):
        np.testing.assert_allclose(device, host, rtol=1e-6)
    for p, s in zip(results[0], shapes, strict=False):
        assert not np.any(p == some(s)), "every number moved"


@pytest.mark.parametrize("args, message", [
    (lambda c, x: (x, x, 6), "size must be int32"), (lambda c, x: (x, x, np.int64(6)), "size must be int32"),
    (lambda c, x: (x.T, x, np.int32(6)), "a must be a contiguous"),
    (lambda c, x: (x.astype("float64"), x, np.int32(6)), "a must be a contiguous"),
    (lambda c, x: (HOST, x, np.int32(6)), "a must be a contiguous device array"), (lambda c, x: (x, x), "expected 3 arguments")])
def test_a_kernel_takes_exactly_what_it_declares(args, message, cupy):
    code = 'typedef REAL real;\nextern "C" __global__ void twice(const real* a, real* b, int size) { b[0] = 2 * a[0]; }'
    kernel = cupy.RawModule(code=code, options=("-DREAL=float",)).get_function("twice")
    with pytest.raises(TypeError, match=message):
        kernel((1,), (256,), args(cupy, to_device(HOST, "gpu")))


def refused_at(kernel):
    """(a function that runs the kernel once on the device, elements of the largest array in it)."""
    x, many = to_device(some((3, 6, 6, 1)), "gpu"), to_device(np.zeros(99, int), "gpu")
    pool = dict(kernel=(2, 2), stride=(2, 2))
    if kernel == "adam":
        o = optim.Adam([Tensor(x)])
        return lambda: o.step([x]), 108
    if kernel == "max_pool_input":
        y = conv.max_pool(t := Tensor(x), **pool).sum()
        return lambda: grad(y, t), 108
    y = {"leaky_relu_input": ops.leaky_relu, "softplus_input": ops.softplus,
         "centred_product": lambda t: ops.normalize(t, *(Tensor(a) for a in (x[0, 0, 0], x[0, 0, 1])), axis=(0, 1, 2))}
    if kernel in y:
        y = y[kernel](t := Tensor(x)).sum()
        return lambda: grad(y, t), 108
    row, one = x.reshape(1, 108), x[0, 0, 0]
    if kernel == "normalize_input":
        return lambda: gpu._launch(kernel, 108, *[row] * 8, 108, 108, 1), 108
    return {"im2col": (lambda: conv.unfold(x, kernel=(2, 2)), 300), "leaky_relu": (lambda: ops.leaky_relu(x), 108),
            "channels": (lambda: ops.normalize(row, row[0], row[0], axis=(0,)), 108),
            "scaled": (lambda: ops.normalize(x, one, one, axis=(0, 1, 2)), 108), "max_pool": (lambda: conv.max_pool(x, **pool), 108),
            "col2im": (lambda: conv.fold(x.reshape(3, 3, 3, 2, 2, 1), size=(4, 4)), 108),
            "add_at": (lambda: ops.add_at(x.reshape(-1)[:99], key=many, shape=(5,)), 99)}[kernel]


@pytest.mark.parametrize("kernel", sorted(standin.signatures(SOURCE)))
def test_arrays_beyond_32_bits_are_refused(kernel, cupy, monkeypatch):
    """The kernel is named and not run. Here the limit is lowered to meet arrays of a test's size, from above and from below."""
    assert gpu.MOST + gpu.THREADS < 2 ** 31, "the last thread's number is an int"
    run, size = refused_at(kernel)
    monkeypatch.setattr(gpu, "MOST", size - 1)
    with standin.watch() as seen, pytest.raises(ValueError, match=f"^{kernel}: arrays on the GPU are limited to {size - 1} "
                                                                  "elements here; use a smaller batch"):
        run()
    assert kernel not in seen.launches
    monkeypatch.setattr(gpu, "MOST", size)
    with standin.watch() as seen:
        run()
    assert kernel in seen.launches


# ------------------------------------------------------------------------------------------------ 3. NVIDIA's compiler


def nvrtc():
    """The compiler as a ctypes library; skips where it is not installed."""
    spec = util.find_spec("nvidia")
    places = [Path(p) for p in spec.submodule_search_locations] if spec else []
    found = [f for place in places for f in sorted(place.glob("*/lib/libnvrtc.so.*")) if "alt" not in f.name]
    if not found:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    for builtins in found[-1].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(found[-1]))


def compile_ptx(source, options):
    """(PTX or None, the compiler's log) of CUDA C source."""
    lib, program, n = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    failed = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*(o.encode() for o in options)))
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(n))
    log = ctypes.create_string_buffer(n.value)
    lib.nvrtcGetProgramLog(program, log)
    ptx = None
    if not failed:
        lib.nvrtcGetPTXSize(program, ctypes.byref(n))
        ptx = ctypes.create_string_buffer(n.value)
        lib.nvrtcGetPTX(program, ptx)
        ptx = ptx.value.decode()
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx, log.value.decode()


@pytest.mark.parametrize("architecture", ["compute_75", "compute_80", "compute_90", "sm_90"])       # sm: to machine code
@pytest.mark.parametrize("real", ["float", "double"])
def test_every_kernel_compiles_for_the_gpu(real, architecture):
    ptx, log = compile_ptx(SOURCE, [f"-DREAL={real}", f"--gpu-architecture={architecture}"])
    assert ptx is not None and not log.strip("\0\n "), log
    for name in standin.signatures(SOURCE):
        assert f".entry {name}(" in ptx
    assert "atom." not in ptx and "red." not in ptx, "an atomic addition: the order of the sum would change from run to run"
    assert (".f64" in ptx) == (real == "double"), "a float kernel computes in double somewhere" if real == "float" else "no double"


def test_a_kernel_with_a_mistake_does_not_compile():
    broken = SOURCE.replace("real sum = 0;", "real sum = nothing;")
    assert broken != SOURCE
    assert compile_ptx(broken, ["-DREAL=float", "--gpu-architecture=compute_90"])[0] is None


def test_all_kernels_are_known_by_their_declaration():
    assert set(standin.signatures(SOURCE)) == {"im2col", "col2im", "max_pool", "max_pool_input", "add_at", "leaky_relu", "leaky_relu_input", "softplus_input",
                                                "channels", "scaled", "centred_product", "normalize_input", "adam"}
    assert SOURCE.count("__global__") == len(standin.signatures(SOURCE)) and SOURCE.isascii()


# ------------------------------------------------------------------------------------------------ 4. names


def asked_of_cupy(source):
    """(line, dotted name, keywords or None) of what a file asks of an array module: xp(...).f(...), or by a name bound to it."""
    tree, found, called = ast.parse(source), [], {}
    bound = {t.id for n in ast.walk(tree) if isinstance(n, ast.Assign) and is_module(n.value, ())
             for t in n.targets if isinstance(t, ast.Name)}
    for n in ast.walk(tree):
        if isinstance(n, ast.Call):
            called[n.func] = [k.arg for k in n.keywords if k.arg]
    inner = {n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for n in ast.walk(tree):
        if isinstance(n, ast.Attribute) and n not in inner:
            path, at = [], n
            while isinstance(at, ast.Attribute):
                path.insert(0, at.attr)
                at = at.value
            if is_module(at, bound):
                found.append((n.lineno, ".".join(path), called.get(n)))
    return found


def is_module(node, bound):
    """Is this expression xp(...), sys.modules["cupy"], _load_cupy(), or a name bound to one?"""
    if isinstance(node, ast.IfExp):
        return is_module(node.orelse, bound) or is_module(node.body, bound)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("xp", "_load_cupy")
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "cupy"
    return isinstance(node, ast.Name) and node.id in {"cupy", *bound}


def lacking(source):
    """What CuPy would not understand in a file's uses of the array module."""
    wrong = []
    for line, name, keywords in asked_of_cupy(source):
        if name.startswith(("cuda.", "__")):            # names that NumPy does not have either; see gpu_name
            continue
        head, dot, tail = name.partition(".")
        if dot and standin.NAMES.get(head) == standin.UFUNC:        # a method such as add.at
            name = "ufunc." + tail
        known = standin.NAMES.get(name)
        if name not in standin.NAMES:
            wrong.append(f"line {line}: CuPy has no {name}")
        elif known is not None and not any(p.startswith("**") for p in known):
            wrong += [f"line {line}: {name} has no {k}=" for k in keywords or () if k not in known]
    return wrong


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda f: f.name)
def test_only_names_that_cupy_has_are_asked_of_the_array_module(file):
    assert not lacking(file.read_text(encoding="utf-8"))


def test_the_scan_sees_the_uses_and_the_mistakes():
    used = {name for f in PACKAGE.glob("*.py") for _, name, _ in asked_of_cupy(f.read_text(encoding="utf-8"))}
    assert {"exp", "where", "einsum", "zeros", "RawModule", "asarray", "empty", "add.at", "lib.stride_tricks.as_strided"} <= used
    for planted in ("xp(x).vecdot(x, x)", "xp(x).add(x, y, where=m)", "m = xp(x)\nm.errstate()", "xp(x).random.Generator.normal",
                    "xp(x).max(x, initial=0)", "cupy.block(x)", "xp(x).add.nat(x)", "xp(x).einsum('i', x, out=y)"):
        assert lacking(planted), planted
    assert not lacking("xp(x).add(x, y, out=y)\nm = xp(x) if a else np\nm.zeros(3, dtype=d)")


def fetches_cupy(source):
    """Whether code imports CuPy or takes it from sys.modules, rather than ask `xp` of an array."""
    for n in ast.walk(ast.parse(source)):
        names = ([a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or ""] if isinstance(n, ast.ImportFrom) else
                 [n.args[0].value] if isinstance(n, ast.Call) and n.args and isinstance(n.args[0], ast.Constant)
                 and getattr(n.func, "attr", getattr(n.func, "id", "")) in ("import_module", "__import__", "get") else
                 [n.slice.value] if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)
                 and getattr(n.value, "attr", "") == "modules" else [])
        if any(str(name).lower().partition(".")[0] == "cupy" for name in names):
            return True
    return False


def names_cupy(source):
    """Whether code (not comments or docstrings) names CuPy, as a name or as a string."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return any(t.type == tokenize.NAME and "cupy" in t.string.lower() or
               t.type == tokenize.STRING and t.string.strip("'\"").lower() == "cupy" for t in tokens)


def imported(source):
    """The modules of the package that a file imports, by their bare names."""
    return {name.partition(".")[0] for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom) and n.level
            for name in ([n.module] if n.module else [a.name for a in n.names])}


def files_that(seen):
    return {f.name for f in PACKAGE.glob("*.py") if seen(f.read_text(encoding="utf-8"))}


def test_the_book_knows_neither_cupy_nor_the_engine_rooms():
    """One file fetches CuPy, one is written for it, and one keeps shortcuts under its name. Everything else asks an array for its
    module, and would run on any that has NumPy's names. What is faster is registered from outside."""
    assert files_that(fetches_cupy) == {"backend.py"}
    assert files_that(names_cupy) == {"backend.py", "gpu.py", "shortcuts.py"}
    rooms = {"gpu.py", "cpu.py", "cpu_conv.py", "cpu_winograd.py"}
    assert files_that(lambda source: imported(source) & {"cpu", "gpu"}) - rooms == {"__init__.py", "cli.py"}        # cli: the memory
    others = rooms | {"backend.py", "shortcuts.py"}
    assert files_that(lambda source: "shortcut(" in source) <= others


def test_those_scans_see_what_they_look_for():
    for planted in ("import cupy as cp", "from cupy.linalg import norm", 'sys.modules["cupy"]', 'importlib.import_module("cupy")',
                    'sys.modules.get("cupy")', "import numpy, cupy"):
        assert fetches_cupy(planted) and names_cupy(planted), planted
    assert names_cupy('x = "cupy"') and not fetches_cupy('x = "cupy"') and not names_cupy('"""NumPy or CuPy"""  # cupy')
    assert imported("from .gpu import handles\nfrom . import cpu, conv\nimport gpu") == {"gpu", "cpu", "conv"}


# ------------------------------------------------------------------------------------------------ 5. a training step


def player(kind, device, average=False):
    """A small GAN of each kind, its data on the device."""
    seed(5)
    penalty = train.wgan_gp() if "gp" in kind else None
    loss = "wasserstein" if penalty else "non-saturating"
    if kind.startswith("conv"):
        nets = [models.conv_generator(8, 12, 1, 4), models.conv_generator(8, 12, 1, 4),
                models.conv_discriminator(12, 1, 4, norm=penalty is None)]
        x = np.tanh(some((40, 12, 12, 1)))
    else:
        nets = [models.mlp_generator(8, hidden=(16, 16)), models.mlp_generator(8, hidden=(16, 16)),
                models.mlp_discriminator(hidden=(16, 16))]
        x = some((40, 2))
    g, a, d = (n.to(device) for n in nets)
    return train.GAN(g, d, 8, loss=loss, penalty=penalty, lr=1e-3, average=a if average else None), to_device(x, device)


KINDS = ["mlp", "mlp-gp", "conv", "conv-gp"]


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_the_batch_and_the_latents_and_waits_for_nothing(kind, average, cupy):
    gan, x = player(kind, "gpu", average)
    data = train.batches(x, 10)
    for _ in range(3):
        with standin.watch() as seen:
            gan.step(next(data))
        expected = [((10,), "int64"), ((10, 8), "float32")]         # which samples, and the latents
        if "gp" in kind:
            expected.append(((10,) + (1,) * (x.ndim - 1), "float32"))       # where between real and fake the penalty looks
        assert sorted(seen.uploads) == sorted(expected)
        assert seen.downloads == [] and seen.syncs == []
        assert seen.launches.count("adam") == sum(-(-len(o.params) // 8) for o in (gan.opt_d, gan.opt_g))


CONSTANTS = {
    "an array": lambda c, x: x * c.arange(3, dtype="float32"),
    "an array of another type": lambda c, x: x + c.arange(3, dtype="int64"),
    "a number on the device": lambda c, x: x * c.ones((), "float64"),
    "a plain number": lambda c, x: x * 2,
    "a NumPy number": lambda c, x: np.float64(2) * x,
    "a condition": lambda c, x: ops.where(x.data > 0, x, 0.0),
    "an index": lambda c, x: x[c.arange(2)],
}


@pytest.mark.parametrize("constant", CONSTANTS.values(), ids=CONSTANTS)
def test_a_recorded_constant_stays_on_its_device(constant, cupy):
    """It is copied in the device's memory, so that later changes of it change nothing, and no gradient."""
    x = Tensor(to_device(HOST, "gpu"))
    with standin.watch() as seen:
        y = constant(cupy, x)
        back = grad(y.sum(), x)
    assert seen.uploads == seen.downloads == seen.syncs == []
    assert y.dtype == back.dtype == np.float32 and backend.device_of(back) == "gpu"


def test_a_recorded_constant_is_a_copy(cupy):
    x, c = Tensor(to_device(HOST, "gpu")), to_device(2 * HOST, "gpu")
    with standin.watch() as seen:
        y = x * c
    assert Counter(seen.launches) == {"astype": 1, "mul": 1}
    c[...] = 7
    np.testing.assert_array_equal(to_host(grad(y.sum(), x)), 2 * HOST)


PLANTED_IN_THE_LOSS = {
    "float": lambda loss: lambda d: loss(d) * float(d.mean().data),
    "item": lambda loss: lambda d: loss(d) * d.mean().item(),
    "condition": lambda loss: lambda d: loss(d) if (d.data > -1e9).all() else d.mean(),
    "round trip": lambda loss: lambda d: loss(d) + to_device(to_host(d.data * 0), "gpu").mean(),
    "constant": lambda loss: lambda d: loss(d) + to_device(np.zeros(1, np.float32), "gpu").sum(),
    "long join": lambda loss: lambda d: loss(ops.concatenate(*(d[i:i + 1] for i in range(10)))),
}


@pytest.mark.parametrize("plant", PLANTED_IN_THE_LOSS.values(), ids=PLANTED_IN_THE_LOSS)
def test_a_planted_transfer_in_the_step_shows_in_the_count(plant, cupy):
    gan, x = player("mlp", "gpu")
    gan.loss = gan.loss._replace(generator=plant(gan.loss.generator))
    data = train.batches(x, 10)
    with standin.watch() as seen:
        gan.step(next(data))
    assert len(seen.uploads) > 2 or seen.downloads or seen.syncs


def test_a_host_batch_in_a_device_step_is_an_error(cupy):
    gan, x = player("mlp", "gpu")
    with pytest.raises(TypeError):
        gan.step(to_host(x)[:10])


def test_logging_a_row_copies_four_results(cupy):
    gan, x = player("mlp", "gpu")
    results = gan.step(x[:10])
    with standin.watch() as seen:
        train.row(gan, results)
    assert len(seen.downloads) == 4 and not seen.uploads and not seen.syncs


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_run_on_both_devices(kind, any_gpu):
    """Losses and weights of the first five steps agree to 1e-4 of their size; after hundreds of steps rounding would have grown."""
    runs = []
    for device in ("cpu", "gpu"):
        gan, x = player(kind, device, average=True)
        data, log = train.batches(x, 10), []
        for _ in range(5):
            log += [to_host(backend.xp(r).asarray(r)) for r in gan.step(next(data))]
        runs.append([*log, *gan.g.state_dict().values(), *gan.d.state_dict().values(), *gan.average.module.state_dict().values()])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * max(np.abs(a).max(), 1e-2))


def test_the_device_is_proved_once(cupy):
    """A GPU is believed in after it has run a kernel, which must not cost every transfer a wait."""
    backend.pick_device("gpu")
    with standin.watch() as seen:
        to_device(HOST, "gpu")
        backend.pick_device("gpu")
    assert seen.syncs == [] and len(seen.uploads) == 1


def test_the_command_trains_resumes_and_samples_on_the_device(any_gpu, tmp_path, capsys):
    folder = str(tmp_path / "run")
    assert cli.main(["train", "--data", "ring", "--width", "8", "--steps", "3", "--device", "gpu", "--out", folder]) == 0
    assert "on the gpu" in capsys.readouterr().out
    for device in ("cpu", "gpu"):
        assert cli.main(["train", "--resume", folder, "--steps", "5" if device == "cpu" else "6", "--device", device]) == 0
        assert cli.main(["sample", folder, "--device", device, "--out", str(tmp_path / f"{device}.png")]) == 0
    assert cli.main(["info"]) == 0
    assert ", CuPy " in capsys.readouterr().out


def test_the_benchmark_says_in_one_line_that_there_is_no_gpu(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('this is a test')")
    done = subprocess.run([sys.executable, str(PACKAGE.parent / "benchmarks" / "gpu.py")], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("benchmarks/gpu.py needs a GPU: ") and done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------------------------ 6. launches


LAUNCHES = {
    0: [lambda c, x, i: x.T, lambda c, x, i: x[:, 1], lambda c, x, i: x.reshape(-1), lambda c, x, i: x.shape,
        lambda c, x, i: c.ascontiguousarray(x), lambda c, x, i: c.broadcast_to(x, (5, 2, 3)), lambda c, x, i: c.empty((3,)),
        lambda c, x, i: x.astype("float32", copy=False), lambda c, x, i: x[:0] + 1,
        lambda c, x, i: x.__setitem__(slice(0, 0), 1.0)],
    1: [lambda c, x, i: x + x, lambda c, x, i: 2 * x, lambda c, x, i: -x, lambda c, x, i: x > 0, lambda c, x, i: c.exp(x),
        lambda c, x, i: x.sum(axis=0), lambda c, x, i: x.mean(), lambda c, x, i: x @ x.T, lambda c, x, i: c.maximum(x, 0),
        lambda c, x, i: x.copy(), lambda c, x, i: x.astype("float64"), lambda c, x, i: c.zeros((3,)), lambda c, x, i: x[i],
        lambda c, x, i: x.T.reshape(-1), lambda c, x, i: c.ascontiguousarray(x.T), lambda c, x, i: x.__iadd__(1),
        lambda c, x, i: x.__setitem__(0, 1.0), lambda c, x, i: c.add(x, x, out=x), lambda c, x, i: c.einsum("ij,kj->ik", x, x),
        lambda c, x, i: c.pad(x, ((0, 0), (0, 0))), lambda c, x, i: c.add.at(x, i, 1.0), lambda c, x, i: c.concatenate([x] * 9)],
    2: [lambda c, x, i: c.where(x > 0, x, 1.0), lambda c, x, i: c.concatenate([x, x]), lambda c, x, i: x[:, ::2] @ x[0, :2]],
    3: [lambda c, x, i: c.pad(x, ((1, 0), (0, 2)))],
}


@pytest.mark.parametrize("count, work", [pytest.param(n, f, id=f"{n} {k}") for n, fs in LAUNCHES.items() for k, f in enumerate(fs)])
def test_launches_are_counted(count, work, cupy):
    """One for whatever writes memory of its own, none for a view or for nothing."""
    x, i = to_device(HOST, "gpu"), to_device(np.array([0, 1, 1]), "gpu")
    with standin.watch() as seen:
        work(cupy, x, i)
    assert len(seen.launches) == count, seen.launches


STEPS = {       # (launches of a whole step, matrix products among them): upper bounds, as measured
    "ring": (82, 22), "ring-gp": (142, 34), "mlp": (93, 25), "dcgan28": (225, 30), "wgan-gp28": (211, 34),
}


def tiny(kind):
    """A GAN on the device with the depth of the benchmarks' workload of this name, but narrow; its data."""
    penalty = train.wgan_gp() if "gp" in kind else None
    shape = (2,) if "ring" in kind else (6, 6, 1) if kind == "mlp" else (28, 28, 1)
    if "28" in kind:
        nets = models.conv_generator(8, 28, 1, 4), models.conv_discriminator(28, 1, 4, norm=penalty is None)
    else:
        nets = (models.mlp_generator(8, shape, (8, 8, 8) if kind == "mlp" else (8, 8)), models.mlp_discriminator(shape, (8, 8)))
    gan = train.GAN(*(n.to("gpu") for n in nets), 8, loss="wasserstein" if penalty else "non-saturating", penalty=penalty)
    return gan, to_device(some((4, *shape)), "gpu")


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_launches_no_more_than_it_did(kind, cupy):
    """On a GPU a small step takes as long as its launches, of a few microseconds each, however narrow the networks are."""
    gan, x = tiny(kind)
    counts = []
    for _ in range(2):
        with standin.watch() as seen:
            gan.step(x)
        counts.append((len(seen.launches), seen.launches.count("matmul")))
    most, products = STEPS[kind]
    assert counts[0] == counts[1], "every step is alike"
    assert counts[0][0] <= most and counts[0][1] <= products, Counter(seen.launches).most_common()


def test_the_kernels_save_launches(cupy):
    """Each that stands for several functions launches less than its definition, in a step where it is at work."""
    for kind, names in (("ring", ["Adam", "leaky_relu", "softplus", "verdicts"]), ("dcgan28", ["Adam", "unfold", "fold", "normalize"])):
        gan, x = tiny(kind)
        counts = []
        for off in ["nothing", *names]:
            with plain(off), standin.watch() as seen:
                gan.step(x)
            counts.append(len(seen.launches))
        assert all(n > counts[0] for n in counts[1:]), (kind, counts)
