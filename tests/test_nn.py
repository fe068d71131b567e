"""Layers: each against its formula written out naively, in training and in evaluation, and what bad input gets. The gated recurrent
unit also against PyTorch's."""

import math

import numpy as np
import pytest
from layers import LAYERS, RNG, every_layer, host, points, randomise, run

from tinygan import Tensor, backend, gradcheck, nn, ops
from tinygan.autograd import grad
from tinygan.optim import SGD
from tinygan.randomness import rng, seed


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def test_the_list_above_holds_every_layer():
    kinds = {v for v in (getattr(nn, name) for name in nn.__all__)
             if isinstance(v, type) and issubclass(v, nn.Module)}
    nets = [make() for make, _ in LAYERS.values()] + [nn.Embedding(2, 2)]
    assert kinds - {nn.Module} == {type(n) for n in nets}


# ---- forward, against naive formulas ----------------------------------------------------------------------

def naive_conv(x, w, stride, padding, dilation):
    """Cross-correlation, one output number at a time."""
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    kh, kw, _, o = w.shape
    ho = (x.shape[1] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    wo = (x.shape[2] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((len(x), ho, wo, o))
    for n, i, j in np.ndindex(len(x), ho, wo):
        for u, v in np.ndindex(kh, kw):
            y[n, i, j] += x[n, i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]] @ w[u, v]
    return y


def naive_transpose(x, w, stride, padding, extra):
    """Every input pixel stamps the kernel onto the output. w: (kh, kw, out, in)."""
    n, h, wd, _ = x.shape
    kh, kw, o, _ = w.shape
    full = np.zeros((n, stride[0] * (h - 1) + kh + extra[0], stride[1] * (wd - 1) + kw + extra[1], o))
    for i, j, u, v in np.ndindex(h, wd, kh, kw):
        full[:, i * stride[0] + u, j * stride[1] + v] += x[:, i, j] @ w[u, v].T
    return full[:, padding[0]:full.shape[1] - padding[0], padding[1]:full.shape[2] - padding[1]]


def naive_pool(x, kernel, stride, padding, fill, reduce):
    x = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=fill)
    ho, wo = (x.shape[1] - kernel[0]) // stride[0] + 1, (x.shape[2] - kernel[1]) // stride[1] + 1
    y = np.zeros((len(x), ho, wo, x.shape[3]))
    for i, j in np.ndindex(ho, wo):
        window = x[:, i * stride[0]:i * stride[0] + kernel[0], j * stride[1]:j * stride[1] + kernel[1]]
        y[:, i, j] = reduce(window, axis=(1, 2))
    return y


def test_linear_is_x_times_w_plus_b(device):
    layer, x = nn.Linear(5, 3), points(4, 5)
    w, b = host(layer.weight), host(layer.bias)
    expected = [[sum(x[n, i] * w[i, o] for i in range(5)) + b[o] for o in range(3)] for n in range(4)]
    np.testing.assert_allclose(run(layer, x, device), expected, rtol=1e-5, atol=1e-6)


def test_linear_without_bias_has_none(device):
    layer, x = nn.Linear(5, 3, bias=False), points(4, 5)
    assert list(layer.named_parameters()) == ["weight"]
    np.testing.assert_allclose(run(layer, x, device), x @ host(layer.weight), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "how", [dict(), dict(stride=2), dict(padding=1), dict(stride=(2, 1), padding=(0, 2)), dict(dilation=2, padding=1)]
)
def test_conv2d_against_loops(device, how):
    layer, x = nn.Conv2d(2, 3, (3, 2), **how), points(2, 6, 5, 2)
    stride, padding, dilation = (
        np.broadcast_to(how.get(k, d), 2) for k, d in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    expected = naive_conv(x, host(layer.weight), stride, padding, dilation) + host(layer.bias)
    np.testing.assert_allclose(run(layer, x, device), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "stride, padding, extra", [((1, 1), (0, 0), (0, 0)), ((2, 2), (1, 1), (0, 0)), ((2, 3), (0, 1), (1, 2))]
)
def test_conv_transpose2d_against_stamping(device, stride, padding, extra):
    layer = nn.ConvTranspose2d(3, 2, (4, 3), stride=stride, padding=padding, output_padding=extra)
    x = points(2, 3, 4, 3)
    expected = naive_transpose(x, host(layer.weight), stride, padding, extra) + host(layer.bias)
    np.testing.assert_allclose(run(layer, x, device), expected, rtol=1e-5, atol=1e-5)


def test_kernel_4_stride_2_padding_1_doubles_an_image(device):
    assert run(nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), points(2, 7, 5, 3), device).shape == (2, 14, 10, 2)


def test_embedding_looks_rows_up(device):
    layer = nn.Embedding(5, 3).to(device)
    index = np.array([[4, 0], [4, 2]])
    np.testing.assert_array_equal(host(layer(backend.to_device(index, device))), host(layer.weight)[index])


def test_embedding_adds_up_the_gradient_of_a_row_used_twice(device):
    layer = nn.Embedding(4, 2).to(device)
    g = grad(layer(backend.to_device(np.array([1, 3, 1]), device)).sum(), layer.weight)
    np.testing.assert_array_equal(host(g), [[0, 0], [2, 2], [0, 0], [1, 1]])


@pytest.mark.parametrize("kernel, stride, padding", [((2, 2), None, 0), ((3, 2), (1, 2), 0), ((3, 3), (2, 2), 1)])
def test_pooling_against_loops(device, kernel, stride, padding):
    x = points(2, 6, 5, 3)
    for layer, fill, reduce in ((nn.MaxPool2d, -np.inf, np.max), (nn.AvgPool2d, 0.0, np.mean)):
        expected = naive_pool(x, kernel, stride or kernel, padding, fill, reduce)
        np.testing.assert_allclose(run(layer(kernel, stride, padding), x, device), expected, rtol=1e-5, atol=1e-6)


def test_upsample_repeats_pixels(device):
    x = points(2, 3, 2, 2)
    np.testing.assert_array_equal(run(nn.Upsample((2, 3)), x, device), x.repeat(2, 1).repeat(3, 2).astype(np.float32))


@pytest.mark.parametrize("layer, formula", [
    (nn.ReLU(), lambda x: max(x, 0)), (nn.LeakyReLU(0.1), lambda x: x if x > 0 else 0.1 * x), (nn.Tanh(), math.tanh),
    (nn.Sigmoid(), lambda x: 1 / (1 + math.exp(-x)))])
def test_activations_against_their_formula(device, layer, formula):
    x = 3 * points(4, 5)
    np.testing.assert_allclose(run(layer, x, device), np.vectorize(formula)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_against_its_formula(device, axis):
    x = points(4, 5)
    e = np.exp(x)
    np.testing.assert_allclose(run(nn.Softmax(axis), x, device), e / e.sum(axis=axis, keepdims=True), rtol=1e-5)


def test_reshape_and_flatten_keep_the_order(device):
    x = points(4, 6).astype(np.float32)
    np.testing.assert_array_equal(run(nn.Reshape(3, 2), x, device), x.reshape(4, 3, 2))
    np.testing.assert_array_equal(run(nn.Flatten(), x.reshape(4, 3, 2), device), x)


def test_sequential_is_one_layer_after_the_other(device):
    a, b = nn.Linear(3, 4), nn.Tanh()
    net = nn.Sequential(a, b, nn.Linear(4, 2))
    assert len(net) == 3 and net[0] is a and net[1] is b and list(net)[2] is net[-1]
    w0, b0, w2, b2 = (host(p) for p in net.parameters())
    x = points(5, 3)
    np.testing.assert_allclose(run(net, x, device), np.tanh(x @ w0 + b0) @ w2 + b2, rtol=1e-5, atol=1e-6)


# ---- types, gradients, moving -----------------------------------------------------------------------------

@every_layer
def test_a_layer_keeps_float32_in_its_output_and_all_gradients(name, device):
    make, shape = LAYERS[name]
    layer = make().to(device)
    x = Tensor(backend.to_device(points(*shape).astype(np.float32), device))
    y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    assert y.dtype == np.float32
    wrt = [x, *layer.parameters()]
    cotangent = backend.to_device(RNG.standard_normal(y.shape).astype(np.float32), device)
    for w, g in zip(wrt, grad(y, wrt, cotangent), strict=True):
        assert g.dtype == np.float32 and g.shape == w.shape
        assert backend.device_of(g) == device
    for w, g in zip(wrt, grad(y, wrt, cotangent, create_graph=True), strict=True):
        assert g.dtype == np.float32 and g.shape == w.shape
    assert all(a.dtype == np.float32 for a in layer.state_dict().values())


@every_layer
def test_a_layer_passes_the_gradient_check(name):
    """Input and all parameters, first and second order, against finite differences in float64."""
    make, shape = LAYERS[name]
    gradcheck.check_module(randomise(make()), points(*shape))


def test_embedding_passes_the_gradient_check():
    gradcheck.check_module(nn.Embedding(5, 3), np.array([[4, 0], [4, 2]]))


@every_layer
def test_a_layer_draws_the_same_weights_from_the_same_seed(name):
    make, _ = LAYERS[name]
    seed(3)
    first = make().state_dict()
    seed(3)
    second = make().state_dict()
    assert first.keys() == second.keys()
    for k in first:
        np.testing.assert_array_equal(first[k], second[k])


@pytest.mark.parametrize(
    "layer, fan_in",
    [
        (lambda: nn.Linear(100, 300), 100),
        (lambda: nn.Conv2d(10, 200, 5), 250),
        (lambda: nn.ConvTranspose2d(200, 10, 5), 250),
    ],
)
def test_weights_start_uniform_within_one_over_the_root_of_fan_in(layer, fan_in):
    w, b = layer().parameters()
    for p in (w, b):
        assert np.abs(p.data).max() <= 1 / math.sqrt(fan_in)
    assert np.abs(w.data).max() > 0.99 / math.sqrt(fan_in)
    assert abs(w.data.std() * math.sqrt(3 * fan_in) - 1) < 0.02         # a uniform distribution's deviation
    assert abs(w.data.mean()) * math.sqrt(3 * fan_in * w.size) < 4


def test_dcgan_initialisation():
    net = nn.Sequential(nn.Linear(100, 200), nn.BatchNorm(2000), nn.Conv2d(30, 60, 4), nn.ConvTranspose2d(60, 30, 4))
    before = [p.dtype for p in net.parameters()]
    assert nn.normal_(net, 0.05) is net
    assert [p.dtype for p in net.parameters()] == before
    for layer in net:
        centre = 1.0 if isinstance(layer, nn.BatchNorm) else 0.0
        assert abs(layer.weight.data.std() / 0.05 - 1) < 0.1
        assert abs(layer.weight.data.mean() - centre) < 5 * 0.05 / math.sqrt(layer.weight.size)
        assert not layer.bias.data.any()


# ---- Dropout ----------------------------------------------------------------------------------------------

def test_dropout_zeroes_a_share_p_and_keeps_the_expectation(device):
    x = np.ones((200, 200), np.float32)
    y = run(nn.Dropout(0.3), x, device)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert abs((y == 0).mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / x.size)
    assert abs(y.mean() - 1) < 0.02


def test_dropout_passes_the_gradient_where_it_passed_the_value(device):
    x = Tensor(backend.to_device(np.full((20, 20), 2.0, np.float32), device))
    y = nn.Dropout(0.5)(x)
    np.testing.assert_array_equal(host(grad(y.sum(), x)), host(y) / 2)


def test_dropout_draws_a_new_mask_every_time_from_its_own_stream():
    x, layer = Tensor(np.ones((10, 10), np.float32)), nn.Dropout(0.5)
    first, second = layer(x).data, layer(x).data
    assert (first != second).any()
    seed(0)
    rng("latent").random(10)
    np.testing.assert_array_equal(layer(x).data, first)


def test_dropout_edge_cases(device):
    x = points(3, 4).astype(np.float32)
    np.testing.assert_array_equal(run(nn.Dropout(0), x, device), x)
    np.testing.assert_array_equal(run(nn.Dropout(1), x, device), 0)
    np.testing.assert_array_equal(run(nn.Dropout(0.5).eval(), x, device), x)


# ---- bad input --------------------------------------------------------------------------------------------

def ones(*shape):
    return Tensor(np.ones(shape, np.float32))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nn.Linear(0, 3), r"Linear: in_features must be an integer >= 1, got 0"),
        (lambda: nn.Linear(3, -1), r"Linear: out_features must be an integer >= 1, got -1"),
        (lambda: nn.Linear(3, 2.0), r"Linear: out_features must be an integer >= 1, got 2.0"),
        (lambda: nn.Linear(3, 2)(ones(4, 5)), r"Linear: expected x of shape \(..., 3\) for a weight \(3, 2\), got \(4, 5\)"),
        (lambda: nn.Linear(3, 2, bias=False)(ones(4, 5)),
         r"Linear: expected x of shape \(..., 3\) for a weight \(3, 2\), got \(4, 5\)"),
        (lambda: nn.Linear(3, 2)(np.float32(1.0)), r"Linear: expected x of shape \(..., 3\).*got \(\)"),
        (lambda: nn.Conv2d(0, 3, 3), r"Conv2d: in_channels must be an integer >= 1"),
        (lambda: nn.Conv2d(1, 3, 0), r"Conv2d: kernel_size: expected an integer >= 1"),
        (lambda: nn.Conv2d(1, 3, (3, 3, 3)), r"Conv2d: kernel_size: expected an integer >= 1 or a pair"),
        (lambda: nn.Conv2d(1, 3, 3, stride=0), r"Conv2d: stride: expected an integer >= 1"),
        (lambda: nn.Conv2d(1, 3, 3, padding=-1), r"Conv2d: padding: expected an integer >= 0"),
        (lambda: nn.Conv2d(1, 3, 3, dilation=0), r"Conv2d: dilation: expected an integer >= 1"),
        (lambda: nn.Conv2d(2, 3, 3)(ones(1, 5, 5, 4)), r"Conv2d: expected images \(N, H, W, 2\), got \(1, 5, 5, 4\)"),
        (lambda: nn.Conv2d(2, 3, 3)(ones(1, 5, 2)), r"Conv2d: expected images \(N, H, W, 2\), got \(1, 5, 2\)"),
        (lambda: nn.Conv2d(1, 3, 6)(ones(1, 5, 5, 1)), r"kernel \(6, 6\).*does not fit into an image of \(5, 5\)"),
        (lambda: nn.ConvTranspose2d(2, 3, 3)(ones(1, 5, 5, 4)), r"ConvTranspose2d: expected images \(N, H, W, 2\), got"),
        (
            lambda: nn.ConvTranspose2d(2, 3, 3, output_padding=-1),
            r"ConvTranspose2d: output_padding: expected an integer >= 0",
        ),
        (
            lambda: nn.ConvTranspose2d(2, 3, 3, output_padding=1),
            r"ConvTranspose2d: output_padding must be less than the stride or less than the dilation, got",
        ),
        (lambda: nn.Embedding(0, 3), r"Embedding: num must be an integer >= 1"),
        (lambda: nn.Embedding(4, 3)(np.array([0, 4])), r"embedding: index must be in 0..3, got 0..4"),
        (lambda: nn.Embedding(4, 3)(np.array([-1])), r"embedding: index must be in 0..3, got -1..-1"),
        (lambda: nn.BatchNorm(0), r"BatchNorm: features must be an integer >= 1, got 0"),
        (lambda: nn.BatchNorm(3)(ones(4, 2)), r"BatchNorm: expected 3 channels on the last axis, got \(4, 2\)"),
        (lambda: nn.LayerNorm(3)(ones(4, 2)), r"LayerNorm: expected 3 channels"),
        (lambda: nn.InstanceNorm(3)(ones(4, 5, 5, 2)), r"InstanceNorm: expected 3 channels"),
        (lambda: nn.InstanceNorm(3)(ones(4, 3)), r"InstanceNorm: expected images \(N, H, W, C\), got \(4, 3\)"),
        (lambda: nn.Dropout(-0.1), r"Dropout: p: expected a number >= 0 and <= 1, got -0.1"),
        (lambda: nn.Dropout(1.1), r"Dropout: p: expected a number >= 0 and <= 1, got 1.1"),
        (lambda: nn.Dropout(math.nan), r"Dropout: p: expected a number >= 0 and <= 1, got nan"),
        (lambda: nn.MaxPool2d(0), r"MaxPool2d: kernel_size: expected an integer >= 1"),
        (lambda: nn.AvgPool2d(2, stride=0), r"AvgPool2d: stride: expected an integer >= 1"),
        (lambda: nn.MaxPool2d(6)(ones(1, 5, 5, 1)), r"does not fit into an image"),
        (lambda: nn.Upsample(0), r"Upsample: factor: expected an integer >= 1"),
    ],
)
def test_bad_sizes_and_shapes_name_the_layer_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("call, message", [
    (lambda: nn.Embedding(4, 3)(np.array([0.0, 1.0])), r"embedding: index must be an array of integers, got float64"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU), r"Sequential: layer 1 must be a Module, got <class"),
    (lambda: nn.Sequential(np.tanh), r"Sequential: layer 0 must be a Module"),
    (lambda: nn.Parameter(np.arange(3)), r"expected floating-point data, got int64"),
])
def test_bad_types_name_the_layer_and_what_came(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_layers_work_on_plain_arrays_too():
    """Ops called without any Tensor just compute, and so do layers without parameters; others give a Tensor."""
    x = points(4, 3).astype(np.float32)
    assert type(nn.ReLU()(x)) is np.ndarray
    y = nn.Linear(3, 2)(x)
    assert isinstance(y, Tensor) and isinstance(ops.tanh(y), Tensor)


# ---- types, batches, settings -----------------------------------------------------------------------------

@pytest.mark.parametrize("layer, shape", [
    (lambda: nn.Linear(3, 4), (5, 3)), (lambda: nn.Linear(3, 4, bias=False), (5, 3)),
    (lambda: nn.Conv2d(2, 3, 2), (2, 4, 4, 2)), (lambda: nn.ConvTranspose2d(2, 3, 2), (2, 4, 4, 2)),
    (lambda: nn.BatchNorm(3), (5, 3)), (lambda: nn.BatchNorm(3).eval(), (5, 3)), (lambda: nn.LayerNorm(3), (5, 3))])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64])
def test_a_plain_array_is_computed_in_the_layers_type(layer, shape, dtype):
    """np.random.randn gives float64, which would go through the whole network from there on."""
    layer, x = layer(), (3 * points(*shape)).astype(dtype)
    y = layer(x)
    assert y.dtype == np.float32 and all(g.dtype == np.float32 for g in grad(y.sum(), layer.parameters()))
    layer = type(layer) is nn.BatchNorm and layer.eval() or layer
    np.testing.assert_array_equal(layer(x).data, layer(x.astype(np.float32)).data)


def test_a_tensor_keeps_its_own_type():
    layer = nn.Linear(3, 4)
    for p in layer.parameters():
        p.data = p.data.astype(np.float64)
    assert layer(Tensor(points(2, 3))).dtype == np.float64


@pytest.mark.parametrize("x, got", [([[1.0, 2.0, 3.0]], "list"), (np.array([["a", "b", "c"]]), "<U1"),
                                    (np.ones((2, 3), complex), "complex128"), (None, "NoneType")])
def test_what_is_no_array_of_numbers_is_refused(x, got):
    with pytest.raises(TypeError, match=f"Linear: expected a Tensor or an array of numbers, got {got}"):
        nn.Linear(3, 4)(x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (2, 4, 5, 3), (0, 3), (0, 4, 3), (4, 0, 3)])
def test_linear_maps_the_last_axis_whatever_comes_before_it(shape, bias):
    layer, x = nn.Linear(3, 2, bias=bias), points(*shape).astype(np.float32)
    y = layer(Tensor(x))
    expected = x @ layer.weight.data + (layer.bias.data if bias else 0)
    assert y.shape == (*shape[:-1], 2)
    np.testing.assert_allclose(y.data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer, shape, expected", [
    (nn.Flatten(), (0, 4, 4, 3), (0, 48)), (nn.Flatten(), (5,), (5, 1)), (nn.Flatten(), (0,), (0, 1)),
    (nn.Reshape(-1, 3), (0, 4, 6), (0, 8, 3)), (nn.Reshape((2, 3)), (0, 6), (0, 2, 3)),
    (nn.Reshape(4, -1), (2, 4, 5), (2, 4, 5)), (nn.Flatten(), (3, 0, 2), (3, 0)), (nn.Reshape(), (4, 1), (4,))])
def test_reshape_and_flatten_of_empty_batches_too(layer, shape, expected):
    assert layer(np.ones(shape, np.float32)).shape == layer(Tensor(np.ones(shape, np.float32))).shape == expected


@pytest.mark.parametrize("make", [
    lambda n: nn.Linear(n(4), n(2)), lambda n: nn.Conv2d(n(4), n(2), 3), lambda n: nn.ConvTranspose2d(n(4), n(2), 3),
    lambda n: nn.Embedding(n(4), n(2)), lambda n: nn.GRU(n(4), n(2)), lambda n: nn.BatchNorm(n(4)),
    lambda n: nn.Reshape(n(4), n(-1)), lambda n: nn.Softmax(n(-1))])
@pytest.mark.parametrize("integer", [np.int64, np.int8, np.array])
def test_numpys_integers_are_integers(make, integer):
    assert repr(make(integer)) == repr(make(int))
    assert make(integer).state_dict().keys() == make(int).state_dict().keys()


@pytest.mark.parametrize("how", [
    dict(stride=(1, 2), dilation=3, output_padding=(2, 1)), dict(dilation=2, output_padding=1),
    dict(stride=2, dilation=3, output_padding=2, padding=2), dict(padding=(1, 0), dilation=2, output_padding=(1, 0))])
def test_output_padding_up_to_the_dilation_against_stamping(how):
    """PyTorch's rule: less than the stride or less than the dilation. What is stamped out of the frame is cut."""
    layer, x = nn.ConvTranspose2d(2, 3, 2, **how), points(2, 3, 4, 2)
    s, p, d, e = (np.broadcast_to(how.get(k, v), 2) for k, v in
                  (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0)))
    kernel = np.zeros((d[0] + 1, d[1] + 1, 3, 2))
    kernel[::d[0], ::d[1]] = layer.weight.data
    expected = naive_transpose(x, kernel, s, p, e) + layer.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k, how, size", [
    (4, dict(padding=2), (1, 1)), (3, dict(padding=5), (2, 3)), (1, dict(padding=1), (2, 2)),
    (2, dict(padding=(0, 3), stride=2), (5, 2))])
def test_a_transposed_convolution_that_leaves_nothing_is_an_error(k, how, size):
    with pytest.raises(ValueError, match="ConvTranspose2d: padding .* leaves nothing of an image of"):
        nn.ConvTranspose2d(1, 1, k, **how)(np.ones((1, *size, 1), np.float32))


@pytest.mark.parametrize("call, message", [
    (lambda: nn.Linear(True, 3), "Linear: in_features must be an integer >= 1, got True"),
    (lambda: nn.Linear(3, "4"), "Linear: out_features must be an integer >= 1, got '4'"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, 2, 0, 2), r"ConvTranspose2d: output_padding must be less than the stride"),
    (lambda: nn.Dropout("0.5"), r"Dropout: p: expected a number >= 0 and <= 1, got '0.5'"),
    (lambda: nn.Dropout(None), r"Dropout: p: expected a number >= 0 and <= 1, got None"),
    (lambda: nn.Dropout(True), r"Dropout: p: expected a number >= 0 and <= 1, got True"),
    (lambda: nn.LeakyReLU(-0.2), r"LeakyReLU: slope: expected a number >= 0 and <= 1, got -0.2"),
    (lambda: nn.LeakyReLU(math.inf), r"LeakyReLU: slope: expected a number >= 0 and <= 1, got inf"),
    (lambda: nn.Reshape(3, 0), r"Reshape: expected numbers >= 1, and at most one -1, got \(3, 0\)"),
    (lambda: nn.Reshape(-1, -1), r"Reshape: expected numbers >= 1, and at most one -1, got \(-1, -1\)"),
    (lambda: nn.Reshape(2.0), r"Reshape: shape must be an integer >= -1, got 2.0"),
    (lambda: nn.Reshape(3, 2)(ones(4, 5)), r"Reshape: an input of \(4, 5\) does not fit into \(N, 3, 2\)"),
    (lambda: nn.Reshape(3, -1)(ones(4, 5)), r"Reshape: an input of \(4, 5\) does not fit into \(N, 3, -1\)"),
    (lambda: nn.Flatten()(ones()), r"Flatten: an input of \(\) does not fit"),
    (lambda: nn.MaxPool2d(2)(ones(4, 5)), r"MaxPool2d: expected images \(N, H, W, C\), got \(4, 5\)"),
    (lambda: nn.AvgPool2d(2)(ones(4, 5, 5)), r"AvgPool2d: expected images \(N, H, W, C\), got \(4, 5, 5\)"),
    (lambda: nn.Upsample(2)(ones(4, 5)), r"Upsample: expected images \(N, H, W, C\), got \(4, 5\)"),
    (lambda: nn.normal_(nn.Linear(2, 2), -1), r"normal_: std: expected a number >= 0 and < inf, got -1"),
])
def test_settings_are_checked_at_the_entry(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_normal_initialisation_after_an_optimiser_was_made():
    """The optimiser moves the new numbers."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm(2))
    optimiser = SGD(net.parameters(), lr=0.5)
    nn.normal_(net)
    before = [p.data.copy() for p in net.parameters()]
    optimiser.step([np.ones_like(a) for a in before])
    assert all(np.array_equal(p.data, a - 0.5) for p, a in zip(net.parameters(), before, strict=True))


# ---- the gated recurrent unit -----------------------------------------------------------------------------

def draw(*shape):
    return np.random.default_rng(3).standard_normal(shape)


def float64(layer):
    for p in layer.parameters():
        p.data = np.random.default_rng(p.size).standard_normal(p.shape)
    return layer


def naive_gru(x, h, wx, wh, bx, bh):
    """One number at a time, straight from the four equations."""
    def sigmoid(v):
        return 1 / (1 + np.exp(-v))
    (n, steps, k), size = x.shape, h.shape[1]
    states = np.zeros((n, steps, size))
    for i in range(n):
        now = h[i]
        for t in range(steps):
            new = np.zeros(size)
            for j in range(size):
                a = [sum(x[i, t, c] * wx[c, g * size + j] for c in range(k)) + bx[g * size + j] for g in range(3)]
                b = [sum(now[c] * wh[c, g * size + j] for c in range(size)) + bh[g * size + j] for g in range(3)]
                r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
                new[j] = (1 - z) * np.tanh(a[2] + r * b[2]) + z * now[j]
            now = states[i, t] = new
    return states


@pytest.mark.parametrize("given", [False, True])
def test_gru_against_its_equations(given):
    layer, x = float64(nn.GRU(3, 4)), draw(2, 5, 3)
    h = draw(2, 4) if given else np.zeros((2, 4))
    states, last = layer(x, h) if given else layer(x)
    expected = naive_gru(x, h, *(p.data for p in layer.parameters()))
    np.testing.assert_allclose(states.data, expected, rtol=1e-12)
    np.testing.assert_array_equal(last.data, states.data[:, -1])


def test_gru_passes_the_gradient_check_to_second_order_also_by_the_first_state():
    gradcheck.check_module(nn.GRU(2, 3), draw(2, 3, 2), draw(2, 3))
    gradcheck.check_module(nn.GRU(2, 3, bias=False), draw(2, 3, 2))


def test_reading_in_two_pieces_with_the_state_handed_on_is_reading_at_once():
    layer, x = float64(nn.GRU(3, 4)), draw(2, 6, 3)
    first, h = layer(x[:, :2])
    second, last = layer(x[:, 2:], h)
    whole, end = layer(x)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, rtol=1e-14)
    np.testing.assert_allclose(last.data, end.data, rtol=1e-14)


def test_gru_starts_within_one_over_the_root_of_the_hidden_size_and_computes_in_float32():
    seed(0)
    layer = nn.GRU(7, 100)
    assert list(layer.named_parameters()) == ["weight_x", "weight_h", "bias_x", "bias_h"]
    assert all(0.09 < np.abs(p.data).max() <= 0.1 for p in layer.parameters())
    assert layer(draw(2, 3, 7))[0].dtype == np.float32


@pytest.mark.parametrize("call, message", [
    (lambda: nn.GRU(0, 3), "GRU: input_size must be an integer >= 1, got 0"),
    (lambda: nn.GRU(3, 2.5), "GRU: hidden_size must be an integer >= 1, got 2.5"),
    (lambda: nn.GRU(3, 2)(draw(4, 3)), r"GRU: expected x of shape \(N, T, 3\) with T >= 1, got \(4, 3\)"),
    (lambda: nn.GRU(3, 2)(draw(4, 0, 3)), r"GRU: expected x of shape \(N, T, 3\) with T >= 1"),
    (lambda: nn.GRU(3, 2)(draw(4, 5, 3), draw(1, 4, 2)), r"GRU: expected a state of shape \(4, 2\), got \(1, 4, 2\)"),
])
def test_bad_sizes_of_a_gru_name_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gru_is_pytorchs_on_the_same_weights():
    torch = pytest.importorskip("torch")
    layer, theirs = float64(nn.GRU(5, 4)), torch.nn.GRU(5, 4, batch_first=True).double()
    pairs = list(zip(layer.parameters(), theirs.parameters(), strict=True))
    with torch.no_grad():
        for p, q in pairs:
            q.copy_(torch.tensor(p.data.T))
    x, h = draw(3, 6, 5), draw(3, 4)
    states, last = layer(Tensor(x), Tensor(h))
    expected, end = theirs(torch.tensor(x), torch.tensor(h)[None])
    np.testing.assert_allclose(states.data, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(last.data, end[0].detach().numpy(), rtol=1e-12)
    (expected ** 2).sum().backward()
    for g, (_, q) in zip(grad((states ** 2).sum(), layer.parameters()), pairs, strict=True):
        np.testing.assert_allclose(g, q.grad.numpy().T, rtol=1e-10, atol=1e-12)
