"""Layers: each against its formula written out naively, in training and in evaluation, and what bad input gets."""

import math

import numpy as np
import pytest

from tinygan import Tensor, backend, gradcheck, nn, ops
from tinygan.autograd import grad
from tinygan.optim import SGD
from tinygan.randomness import rng, seed

RNG = np.random.default_rng(0)

# Every layer, and the shape of an input for it. Every test below that says "layer" runs on all of them.
LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 4, 2)),
    "Conv2d dilated": (lambda: nn.Conv2d(2, 2, 3, padding=2, dilation=2, bias=False), (2, 5, 4, 2)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (2, 3, 2, 3)),
    "ConvTranspose2d pairs": (
        lambda: nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 3), padding=(0, 1), output_padding=(1, 2)),
        (2, 3, 2, 2),
    ),
    "BatchNorm": (lambda: nn.BatchNorm(3), (6, 3)),
    "BatchNorm of images": (lambda: nn.BatchNorm(2), (3, 2, 3, 2)),
    "BatchNorm in evaluation": (lambda: nn.BatchNorm(3).eval(), (6, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "InstanceNorm": (lambda: nn.InstanceNorm(2), (2, 3, 3, 2)),
    "Dropout": (lambda: nn.Dropout(0.4), (5, 6)),
    "Dropout of everything": (lambda: nn.Dropout(1.0), (5, 6)),
    "Reshape": (lambda: nn.Reshape(3, 2), (4, 6)),
    "Flatten": (lambda: nn.Flatten(), (4, 2, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, stride=2, padding=1), (2, 5, 4, 2)),
    "AvgPool2d": (lambda: nn.AvgPool2d((2, 3)), (2, 4, 6, 2)),
    "Upsample": (lambda: nn.Upsample((2, 3)), (2, 2, 3, 2)),
    "ReLU": (lambda: nn.ReLU(), (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), (3, 4)),
    "Tanh": (lambda: nn.Tanh(), (3, 4)),
    "Sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "Softmax": (lambda: nn.Softmax(), (3, 4)),
    "GRU": (lambda: nn.GRU(3, 2), (2, 3, 3)),
    "GRU without bias": (lambda: nn.GRU(3, 2, bias=False), (2, 3, 3)),
    "Linear on sequences": (lambda: nn.Linear(5, 3), (2, 3, 5)),
    "ConvTranspose2d with more output_padding than stride": (
        lambda: nn.ConvTranspose2d(2, 2, 2, stride=(1, 2), dilation=3, output_padding=(2, 1)),
        (2, 3, 2, 2),
    ),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)), (3, 4)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def points(*shape):
    """Random values that keep 0.1 away from 0, where ReLU has its kink, and from each other's ties."""
    x = np.random.default_rng(1).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def host(x):
    return backend.to_host(x.data if isinstance(x, Tensor) else x)


def run(module, x, device):
    """module(x) on a device, as a float32 NumPy array."""
    return host(module.to(device)(Tensor(backend.to_device(np.asarray(x, np.float32), device))))


def randomise(module):
    """Give all parameters other values than the neutral ones (scale 1, bias 0) that hide mistakes."""
    for p in module.parameters():
        p.data = RNG.uniform(0.5, 1.5, p.shape).astype(np.float32)
    return module


def test_the_list_above_holds_every_layer():
    kinds = {v for name, v in vars(nn).items()
             if isinstance(v, type) and issubclass(v, nn.Module) and not name.startswith("_")}
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


def naive_norm(x, axis, weight, bias, eps=1e-5):
    mean = x.mean(axis=axis, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


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


@pytest.mark.parametrize("layer, shape, axis", [
    (nn.BatchNorm, (6, 3), 0), (nn.BatchNorm, (3, 4, 2, 3), (0, 1, 2)),
    (nn.LayerNorm, (6, 3), 1), (nn.LayerNorm, (2, 4, 2, 3), 3), (nn.InstanceNorm, (2, 4, 2, 3), (1, 2))])
def test_normalisation_layers_against_their_formula(device, layer, shape, axis):
    layer, x = randomise(layer(3)), 5 + 2 * points(*shape)
    expected = naive_norm(x, axis, host(layer.weight), host(layer.bias))
    np.testing.assert_allclose(run(layer, x, device), expected, rtol=1e-4, atol=1e-4)


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


# ---- BatchNorm --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 3)])
def test_batchnorm_keeps_running_averages_with_the_unbiased_variance(device, shape):
    layer = randomise(nn.BatchNorm(3, momentum=0.3)).to(device)
    mean, var = np.zeros(3), np.ones(3)
    for k in range(3):
        x = np.random.default_rng(k).normal(k, 1 + k, shape)
        run(layer, x, device)
        rows = x.reshape(-1, 3)
        mean = 0.7 * mean + 0.3 * rows.mean(axis=0)
        var = 0.7 * var + 0.3 * rows.var(axis=0, ddof=1)
    state = layer.state_dict()
    np.testing.assert_allclose(state["running_mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["running_var"], var, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 3)])
def test_batchnorm_in_evaluation_uses_the_averages_and_leaves_them(device, shape):
    layer = randomise(nn.BatchNorm(3, eps=0.3)).to(device)
    run(layer, points(*shape) + 2, device)
    before = layer.state_dict()
    x = points(*shape) * 3
    y = run(layer.eval(), x, device)
    expected = (x - before["running_mean"]) / np.sqrt(before["running_var"] + 0.3) * before["weight"] + before["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(layer, x[:1], device), expected[:1], rtol=1e-4, atol=1e-5)  # one sample is enough
    for k, v in layer.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_batchnorm_of_a_constant_batch_is_exactly_its_bias_with_gradient_zero(device):
    layer = randomise(nn.BatchNorm(3)).to(device)
    x = Tensor(backend.to_device(np.full((4, 3), 7.7, np.float32), device))
    y = layer(x)
    np.testing.assert_array_equal(host(y), np.tile(host(layer.bias), (4, 1)))
    g = grad(y, x, backend.to_device(np.ones((4, 3), np.float32), device))
    np.testing.assert_array_equal(host(g), 0)


def test_batchnorm_far_from_zero_keeps_its_precision(device):
    """E[x²] − E[x]² in float32 has a relative error of 7e-3 at mean 100; two passes have none that matters."""
    x = 100 + np.random.default_rng(0).standard_normal((4096, 2)).astype(np.float32)
    y = run(nn.BatchNorm(2), x, device)
    np.testing.assert_allclose(y, naive_norm(x.astype(np.float64), 0, 1, 0), atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3)])
def test_batchnorm_of_one_value_per_channel_is_an_error_and_changes_nothing(shape):
    layer = nn.BatchNorm(3)
    with pytest.raises(ValueError, match="BatchNorm: training needs more than one value per channel"):
        layer(Tensor(np.ones(shape, np.float32)))
    assert not layer.running_mean.any()


def test_batchnorms_second_argument_is_eps():
    """BatchNorm(x, 0.8) is widely written and meant as momentum."""
    assert nn.BatchNorm(3, 0.8).eps == 0.8 and nn.BatchNorm(3, 0.8).momentum == 0.1


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


# ---- modules ----------------------------------------------------------------------------------------------

class Twice(nn.Module):
    """A network that uses one layer in two places, and parts within parts."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.inner = nn.Sequential(nn.BatchNorm(3), nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)))
        self.again = self.first
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return self.scale * self.again(self.inner(self.first(x)))


def test_parameters_have_dotted_names_in_order_and_a_shared_one_counts_once():
    net = Twice()
    assert " ".join(net.named_parameters()) == (
        "first.weight first.bias inner.0.weight inner.0.bias inner.1.1.weight inner.1.1.bias scale")
    assert len(net.parameters()) == 7 and all(isinstance(p, nn.Parameter) for p in net.parameters())
    SGD(net.parameters(), lr=0.1)           # takes no parameter twice


def test_train_and_eval_reach_every_part():
    net = Twice()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules()) and not net.inner[1][0].training
    net.train()
    assert all(m.training for m in net.modules())
    assert nn.Linear(1, 1).training, "a switch of one network is no switch of others"


def test_state_dict_round_trip(device):
    a, b = Twice().to(device), Twice().to(device)
    run(a, points(5, 3), device)            # moves the running averages
    state = a.state_dict()
    assert {"inner.0.running_mean", "inner.0.running_var"} < state.keys()
    assert all(type(v) is np.ndarray for v in state.values())
    b.load_state_dict(state)
    for k, v in b.state_dict().items():
        np.testing.assert_array_equal(v, state[k])
    x = points(5, 3)
    np.testing.assert_array_equal(run(a.eval(), x, device), run(b.eval(), x, device))


def test_a_state_dict_is_a_copy_on_both_ways():
    net = nn.Linear(2, 2)
    state = net.state_dict()
    net.weight.data += 1
    assert not np.array_equal(state["weight"], net.weight.data)
    net.load_state_dict(state)
    state["weight"][:] = 9
    assert not (net.weight.data == 9).any()


@pytest.mark.parametrize("spoil, message", [
    (lambda s: s.pop("1.bias"), r"missing \['1.bias'\], unexpected \[\]"),
    (lambda s: s.update(extra=np.zeros(1)), r"missing \[\], unexpected \['extra'\]"),
    (lambda s: s.update({"1.weight": np.zeros((3, 2))}), r"1.weight has shape \(3, 2\), expected \(3, 3\)"),
    (lambda s: s.update({"1.weight": np.array("text")}), r"1.weight holds <U4, expected numbers that fit float32"),
])
def test_load_state_dict_is_strict_and_all_or_nothing(spoil, message):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    before = net.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(state)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_loading_weights_outdates_a_loss_computed_before():
    net = nn.Linear(2, 1)
    loss = net(Tensor(np.ones((3, 2), np.float32))).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match="grad: .*(was changed after|does not depend on)"):
        grad(loss, net.parameters())


def test_numpy_numbers_and_types_among_the_attributes_are_no_state():
    net = nn.LeakyReLU(np.float32(0.2))
    net.dtype = np.float32
    assert net.state_dict() == {} and net.to("cpu") is net


def test_repr_shows_the_tree():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1), nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2)), nn.MaxPool2d(2)
    )
    assert repr(net) == ("Sequential(\n"
                         "  (0): Conv2d(1, 8, kernel 4x4, stride 2x2, padding 1x1, dilation 1x1)\n"
                         "  (1): Sequential(\n"
                         "    (0): Linear(3, 4)\n"
                         "    (1): LeakyReLU(0.2)\n"
                         "  )\n"
                         "  (2): MaxPool2d((2, 2), stride (2, 2))\n"
                         ")")


@every_layer
def test_every_layer_has_a_repr_with_its_name(name):
    layer = LAYERS[name][0]()
    assert repr(layer).startswith(f"{type(layer).__name__}(") and repr(layer).endswith(")")


def test_summary_shows_output_shapes_and_counts_and_changes_nothing(device):
    net = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)
    )
    net.to(device)
    net[1].eval()
    before = net.state_dict()
    lines = nn.summary(net, (28, 28, 1)).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [repr(m) for m in net] + ["total"]
    expected = [("(N, 14, 14, 8)", "136"), ("(N, 14, 14, 8)", "16"), ("(N, 14, 14, 8)", "0"), ("(N, 1568)", "0"),
                ("(N, 10)", "15,690"), ("", "15,842")]
    for line, (shape, count) in zip(lines[1:], expected, strict=True):
        assert shape in line and line.split()[-1] == count
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    assert net.training and not net[1].training
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_summary_after_an_error_leaves_no_trace():
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError):
        nn.summary(net, (4,))
    assert net.training
    nn.summary(nn.Linear(4, 2), (4,))


def test_a_module_of_ones_own_needs_a_forward_and_nothing_else():
    class Square(nn.Module):
        def __init__(self):
            self.gain = nn.Parameter(np.float32([2.0]), "gain")

        def forward(self, x):
            return self.gain * x * x

    net = Square()
    assert net(Tensor(np.float32([3.0]))).item() == 18
    (g,) = grad(net(Tensor(np.float32([3.0]))).sum(), net.parameters())
    assert g.tolist() == [9.0]


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
        (lambda: nn.Dropout(-0.1), r"Dropout: p must be in \[0, 1\], got -0.1"),
        (lambda: nn.Dropout(1.1), r"Dropout: p must be in \[0, 1\], got 1.1"),
        (lambda: nn.Dropout(math.nan), r"Dropout: p must be in \[0, 1\], got nan"),
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
