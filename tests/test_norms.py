"""Normalisation: each layer against its formula, BatchNorm's running averages, and bad input."""

import math

import numpy as np
import pytest
from layers import host, points, randomise, run

from tinygan import Tensor, backend, gradcheck, nn
from tinygan.autograd import grad


def naive_norm(x, axis, weight, bias, eps=1e-5):
    mean = x.mean(axis=axis, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


@pytest.mark.parametrize("layer, shape, axis", [
    (nn.BatchNorm, (6, 3), 0), (nn.BatchNorm, (3, 4, 2, 3), (0, 1, 2)),
    (nn.LayerNorm, (6, 3), 1), (nn.LayerNorm, (2, 4, 2, 3), 3), (nn.InstanceNorm, (2, 4, 2, 3), (1, 2))])
def test_normalisation_layers_against_their_formula(device, layer, shape, axis):
    layer, x = randomise(layer(3)), 5 + 2 * points(*shape)
    expected = naive_norm(x, axis, host(layer.weight), host(layer.bias))
    np.testing.assert_allclose(run(layer, x, device), expected, rtol=1e-4, atol=1e-4)


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


def evaluated(layer, x):
    """The loss of a BatchNorm in evaluation, recorded, and what its slope by the weight is now."""
    loss = (layer(Tensor(x)) ** 2).sum()
    return loss, grad(loss, layer.weight)


@pytest.mark.parametrize("disturb", [
    lambda layer: layer.train()(Tensor(np.full((4, 3), 9.0, np.float32) * np.arange(4)[:, None])),
    lambda layer: [layer.train(), [layer(Tensor(points(4, 3))) for _ in range(3)]],
    lambda layer: setattr(layer, "running_mean", layer.running_mean + 5),
    lambda layer: layer.load_state_dict({**layer.state_dict(), "running_var": np.full(3, 7.0)}),
])
def test_a_recorded_graph_keeps_the_averages_it_was_computed_with(disturb):
    """Else a training pass between a loss and its gradient would change the gradient silently."""
    layer = randomise(nn.BatchNorm(3)).eval()
    loss, expected = evaluated(layer, points(5, 3).astype(np.float32))
    before = layer.running_mean, layer.running_var
    copies = [a.copy() for a in before]
    disturb(layer)
    for old, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(old, copy)                # arrays are replaced, never changed
    try:
        np.testing.assert_array_equal(grad(loss, layer.weight), expected)
    except ValueError as e:                                     # loading also changes the weight
        assert "changed" in str(e)


def test_the_type_of_the_averages_stays_whatever_comes_in():
    layer = nn.BatchNorm(3)
    layer(Tensor(points(5, 3)))                                 # a float64 batch
    assert layer.running_mean.dtype == layer.running_var.dtype == np.float32
    layer.running_mean = layer.running_mean.astype(np.float64)
    layer.running_var = layer.running_var.astype(np.float64)
    layer(Tensor(points(5, 3).astype(np.float32)))
    assert layer.running_mean.dtype == layer.running_var.dtype == np.float64


def test_float_state_can_be_float64_for_a_while():
    """As a gradient check in float64 wants it, through `entries` and setattr, and back."""
    net = nn.Sequential(nn.Linear(3, 3), randomise(nn.BatchNorm(3)).eval())
    net(Tensor(points(6, 3)))
    before = [(owner, name, getattr(owner, name)) for _, owner, name in net.entries()
              if not isinstance(getattr(owner, name), nn.Parameter)]
    assert len(before) == 2
    for owner, name, value in before:
        setattr(owner, name, value.astype(np.float64))
    gradcheck.check_module(net, points(6, 3))
    assert {k: v.dtype.name for k, v in net.state_dict().items() if "running" in k} == {
        "1.running_mean": "float64", "1.running_var": "float64"}
    for owner, name, value in before:
        setattr(owner, name, value)
    assert net[1].running_mean.dtype == np.float32


@pytest.mark.parametrize("call, message", [
    (lambda: nn.BatchNorm(3, eps=-1), r"BatchNorm: eps: expected a number > 0 and < inf, got -1"),
    (lambda: nn.BatchNorm(3, eps=0), r"BatchNorm: eps: expected a number > 0 and < inf, got 0"),
    (lambda: nn.LayerNorm(3, eps=math.nan), r"LayerNorm: eps: expected a number > 0 and < inf, got nan"),
    (lambda: nn.InstanceNorm(3, eps="1"), r"InstanceNorm: eps: expected a number > 0 and < inf, got '1'"),
    (lambda: nn.BatchNorm(3, momentum=2), r"BatchNorm: momentum: expected a number >= 0 and <= 1, got 2"),
    (lambda: nn.BatchNorm(3, momentum=None), r"BatchNorm: momentum: expected a number >= 0 and <= 1, got None"),
    (lambda: nn.BatchNorm(True), r"BatchNorm: features must be an integer >= 1, got True"),
    (lambda: nn.BatchNorm(3)(np.ones(3, np.float32)), r"BatchNorm: expected 3 channels.*got \(3,\)"),
    (lambda: nn.LayerNorm(1), r"LayerNorm: features must be an integer >= 2, got 1"),
    (lambda: nn.InstanceNorm(2)(np.ones((3, 1, 1, 2), np.float32)), r"InstanceNorm: one pixel minus its mean"),
])
def test_settings_and_inputs_that_can_only_be_mistakes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
