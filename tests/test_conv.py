"""Convolution: one trilinear form, read in three ways, against the formula evaluated term by term.
(Gradients: test_gradients.py.)"""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import draw, trilinear

from tinygan import conv, cpu, cpu_conv, cpu_winograd
from tinygan.autograd import Tensor, grad
from tinygan.backend import to_device, to_host


@st.composite
def settings(draw_):
    """(size, kernel, how) such that at least one window fits."""
    axes = []
    for _ in range(2):
        k, s, p, d = draw_(st.integers(1, 4)), draw_(st.integers(1, 3)), draw_(st.integers(0,
            3)), draw_(st.integers(1, 3))
        least = max(1, d * (k - 1) + 1 - 2 * p)
        axes.append((draw_(st.integers(least, least + 4)), k, s, p, d))
    size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    return size, kernel, dict(stride=stride, padding=padding, dilation=dilation)


@given(settings(), st.integers(1, 2), st.integers(1, 5), st.integers(1, 3))
def test_the_trio_is_the_formula_at_any_setting(setting, n, c, o):
    """Sizes, rectangular kernels, strides, paddings (also wider than the kernel) and dilations per axis."""
    size, kernel, how = setting
    x, w = draw((n, *size, c)), draw((*kernel, c, o), seed=1)
    g = draw((n, *conv.output_size(size, kernel, **how), o), seed=2)
    y, gx, gw = trilinear(x, w, g, **how)
    np.testing.assert_allclose(conv.conv2d(x, w, **how), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(conv.conv2d_transpose(g, w, size=size, **how), gx, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(conv.conv2d_weight_gradient(x, g, kernel=kernel, **how), gw, rtol=1e-12, atol=1e-12)


@given(settings(), st.integers(0, 2), st.integers(1, 5), st.integers(1, 3))
def test_both_ways_to_the_transposed_convolution_are_the_formula(setting, n, c, o):
    """By sub-pixels and by adding windows up, whichever of them the layer's shape would have chosen."""
    size, kernel, how = setting
    how["dilation"] = (1, 1)
    try:
        shape = conv.output_size(size, kernel, **how)
    except ValueError:
        return
    w, g = draw((*kernel, c, o), seed=1), draw((n, *shape, o), seed=2)
    _, expected, _ = trilinear(np.zeros((n, *size, c)), w, g, **how)
    for few in (True, False):
        with mock.patch.object(cpu_conv, "_sub_pixels_pay", lambda *a, few=few, **k: few):
            y = conv.conv2d_transpose(g, w, size=size, **how)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12, err_msg=f"sub-pixels: {few}")


def test_sub_pixels_are_taken_where_they_cost_few_products():
    """A DCGAN's middle layers: yes. Wide and tiny features, a single channel, dilation: no."""
    how = dict(stride=2, padding=1, dilation=1)
    assert cpu_conv._sub_pixels_pay((64, 7, 7, 128), (4, 4, 64, 128), (14, 14), **how)
    assert cpu_conv._sub_pixels_pay((32, 16, 16, 64), (3, 3, 64, 64), (16, 16), stride=1, padding=1, dilation=1)
    assert not cpu_conv._sub_pixels_pay((32, 4, 4, 512), (4, 4, 256, 512), (8, 8), **how)
    assert not cpu_conv._sub_pixels_pay((64, 14, 14, 64), (4, 4, 1, 64), (28, 28), **how)
    assert not cpu_conv._sub_pixels_pay((64, 14, 14, 64), (4, 4, 32, 64), (31, 31), **{**how, "dilation": 2})


@given(st.integers(1, 3), st.tuples(st.integers(1, 11), st.integers(1, 11)), st.tuples(st.integers(0, 4), st.integers(0, 4)),
       st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 6 << 20]))
def test_winograds_tiles_are_the_formula(n, size, padding, c, o, bytes_at_a_time):
    """Odd and even sizes, paddings too small and too large for whole tiles, one image at a time and all; forwards, and from what the
    forward pass has kept for the backward pass."""
    how = dict(stride=2, padding=padding)
    try:
        shape = conv.output_size(size, (4, 4), **how)
    except ValueError:
        return
    x, w, g = draw((n, *size, c)), draw((4, 4, c, o), seed=1), draw((n, *shape, o), seed=2)
    y, gx, gw = trilinear(x, w, g, **how)
    with mock.patch.object(cpu_winograd, "LEAST", -math.inf), mock.patch.object(cpu, "GROUP", bytes_at_a_time):
        X, W, G = Tensor(x), Tensor(w), Tensor(g)
        y_ = conv.conv2d(X, W, **how)
        x_ = conv.conv2d_transpose(G, W, size=size, **how)
        w_ = conv.conv2d_weight_gradient(X, G, kernel=(4, 4), **how)
        assert all(t.saved is not None for t in (y_, x_, w_)), "the tiles were not taken"
        found = [(y_.data, y), (x_.data, gx), (w_.data, gw), *zip(grad(y_, [X, W], g), (gx, gw), strict=True),
                 *zip(grad(x_, [G, W], x), (y, gw), strict=True), *zip(grad(w_, [X, G], w), (gx, y), strict=True)]
    for ours, truth in found:
        np.testing.assert_allclose(ours, truth, rtol=1e-11, atol=1e-11)


def test_winograds_tiles_are_taken_where_they_pay():
    """The layers of a DCGAN for images of 64 pixels: yes. Few channels, few features to share the weights' transform, tiles that are
    half empty, another kernel, stride or dilation: no."""
    how = dict(kernel=(4, 4), stride=2, padding=1, dilation=1)
    for shape, features in (((32, 32, 32, 64), (32, 16, 16, 128)), ((32, 8, 8, 256), (32, 4, 4, 512)), ((64, 8, 8, 64), (64, 4, 4, 128))):
        assert cpu_winograd.tiles(shape, features, **how)
        for other in (dict(kernel=(3, 4)), dict(stride=1), dict(stride=(2, 1)), dict(dilation=2)):
            assert not cpu_winograd.tiles(shape, features, **{**how, **other})
    for shape, features in (((32, 14, 14, 16), (32, 7, 7, 32)), ((4, 8, 8, 256), (4, 4, 4, 512)), ((64, 6, 6, 64), (64, 3, 3, 128)),
                            ((0, 32, 32, 64), (0, 16, 16, 128))):
        assert not cpu_winograd.tiles(shape, features, **how)


@given(settings())
def test_fold_is_the_adjoint_of_unfold(setting):
    """⟨unfold(x), v⟩ = ⟨x, fold(v)⟩ for all x and v."""
    size, kernel, how = setting
    x = draw((2, *size, 3))
    v = conv.unfold(x, kernel=kernel, **how)
    u = draw(v.shape, seed=1)
    np.testing.assert_allclose((v * u).sum(), (x * conv.fold(u, size=size, **how)).sum(), rtol=1e-11,
                               atol=1e-9)


def test_convolution_is_correlation_with_a_known_answer(device):
    """A 2 × 2 kernel on 1 … 9, by hand: no flipping, as in deep learning."""
    x = to_device(np.arange(1.0, 10).reshape(1, 3, 3, 1), device)
    w = to_device(np.array([[1.0, 2], [3, 4]]).reshape(2, 2, 1, 1), device)
    np.testing.assert_array_equal(to_host(conv.conv2d(x, w))[0, :, :, 0], [[37, 47], [67, 77]])
    np.testing.assert_array_equal(to_host(conv.conv2d(x, w, stride=2, padding=1))[0, :, :, 0],
                                  [[4, 18], [36, 77]])


def test_transposed_convolution_paints_the_kernel(device):
    """One lit feature, stride 2: the kernel itself appears at twice its place."""
    g = np.zeros((1, 2, 2, 1))
    g[0, 1, 0, 0] = 1
    w = draw((2, 2, 1, 1))
    y = to_host(conv.conv2d_transpose(to_device(g, device), to_device(w, device), size=(4, 4), stride=2))
    expected = np.zeros((4, 4))
    expected[2:, :2] = w[:, :, 0, 0]
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_a_batch_is_its_images_one_by_one(device):
    """Grouping by memory never mixes images; also for batches much larger than a group."""
    x, w = draw((300, 12, 12, 4)).astype(np.float32), draw((5, 5, 4, 16), seed=1).astype(np.float32)
    xs, ws = to_device(x, device), to_device(w, device)
    y = to_host(conv.conv2d(xs, ws, padding=2))
    back = to_host(conv.conv2d_transpose(to_device(y, device), ws, size=(12, 12), padding=2))
    for i in (0, 150, 299):
        np.testing.assert_allclose(y[i],
                                   to_host(conv.conv2d(to_device(x[i:i + 1], device), ws, padding=2))[0],
                                   rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(back[i],
                                   to_host(conv.conv2d_transpose(to_device(y[i:i + 1], device), ws, size=(12, 12),
                                       padding=2))[0],
                                   rtol=1e-4, atol=1e-2)
    weights = sum(to_host(conv.conv2d_weight_gradient(to_device(x[i:i + 50], device), to_device(y[i:i + 50], device),
                                             kernel=(5, 5), padding=2)).astype(float)
                  for i in range(0, 300, 50))
    whole = to_host(conv.conv2d_weight_gradient(xs, to_device(y, device), kernel=(5, 5), padding=2))
    np.testing.assert_allclose(whole, weights, rtol=1e-3, atol=1e-2 * np.abs(weights).max())


def test_float32_stays_float32(device):
    x, w = (Tensor(to_device(a.astype(np.float32), device))
            for a in (draw((2, 5, 5, 2)), draw((3, 3, 2, 3), seed=1)))
    y = conv.conv2d(x, w, stride=2, padding=1)
    assert {y.dtype, *(g.dtype for g in grad(y.sum(), [x, w]))} == {np.dtype(np.float32)}


def test_the_input_is_not_touched(device):
    """Windows are a view of the image without padding: nothing may write through it."""
    x = Tensor(to_device(draw((1, 4, 4, 1)), device))
    before = np.array(to_host(x.data))
    v = conv.unfold(x, kernel=(2, 2))
    grad((v * v).sum(), x)
    np.testing.assert_array_equal(to_host(x.data), before)


def test_changing_an_image_behind_its_windows_is_noticed():
    x = Tensor(draw((1, 4, 4, 1)), "image")
    y = (conv.unfold(x, kernel=(2, 2)) ** 2).sum()
    x.data *= 2.0
    with pytest.raises(ValueError, match="changed"):
        grad(y, x)


def test_padding_never_wins_a_maximum(device):
    """All values negative: zeros as padding would be the maximum of every border window."""
    x = -1 - draw((1, 4, 4, 1)) ** 2
    y = to_host(conv.max_pool2d(to_device(x, device), 3, 2, 1))
    assert (y < 0).all() and y[0, 0, 0, 0] == x[0, :2, :2].max()


def test_average_pooling_counts_the_padding(device):
    y = to_host(conv.avg_pool2d(to_device(np.ones((1, 2, 2, 1)), device), 2, 2, 1))
    np.testing.assert_array_equal(y, np.full((1, 2, 2, 1), 0.25))


def test_upsampling_repeats_pixels(device):
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    y = to_host(conv.upsample(to_device(x, device), (1, 2)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 0, 1, 1], [2, 2, 3, 3]])


@pytest.mark.parametrize("f, words", [
    (lambda x, w: conv.conv2d(x[..., :1], w), "conv2d"), (lambda x, w: conv.conv2d(x[0], w), "conv2d"),
    (lambda x, w: conv.conv2d(x, w, stride=0), "stride"),
    (lambda x, w: conv.conv2d(x, w, padding=-1), "padding"),
    (lambda x, w: conv.conv2d(x, w, dilation=2.5), "dilation"),
    (lambda x, w: conv.conv2d(x, w, stride=(1, 2, 3)), "stride"),
    (lambda x, w: conv.conv2d(x[:, :2], w), "does not fit"),
    (lambda x, w: conv.conv2d_transpose(x, w, size=(9, 9)), "conv2d_transpose"),
    (lambda x, w: conv.conv2d_weight_gradient(x, x, kernel=(3, 3)), "conv2d_weight_gradient"),
    (lambda x, w: conv.max_pool2d(x, 0), "kernel"), (lambda x, w: conv.max_pool2d(x, 2, 0), "stride"),
    (lambda x, w: conv.max_pool2d(x, 3, 1, 2), "half the kernel"), (lambda x, w: conv.avg_pool2d(x, 2, padding=-1), "padding"),
    (lambda x, w: conv.upsample(x, 0), "factor"), (lambda x, w: conv.max_pool2d(x, 9), "does not fit"),
], ids=range(15))
def test_what_is_refused(f, words):
    with pytest.raises(ValueError, match=words):
        f(draw((1, 4, 4, 2)), draw((3, 3, 2, 2)))
