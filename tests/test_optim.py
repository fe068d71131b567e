"""Optimisers: several steps against their formulas written out in float64, resuming, and what bad input gets."""

import math

import numpy as np
import pytest

from tinygan import Tensor, backend, nn
from tinygan.aids import SpectralNorm
from tinygan.autograd import grad
from tinygan.optim import EMA, SGD, Adam, RMSProp

SHAPES = [(3, 2), (2,), (1, 4)]


def naive_sgd(theta, gradients, lr, momentum=0.0):
    v = 0.0
    for g in gradients:
        v = momentum * v + g
        theta = theta - lr * v
    return theta


def naive_rmsprop(theta, gradients, lr, alpha=0.99, eps=1e-8):
    s = 0.0
    for g in gradients:
        s = alpha * s + (1 - alpha) * g ** 2
        theta = theta - lr * g / (np.sqrt(s) + eps)
    return theta


def naive_adam(theta, gradients, lr, betas=(0.9, 0.999), eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g ** 2
        theta = theta - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return theta


OPTIMISERS = {
    "SGD": (SGD, naive_sgd, dict(lr=0.1)),
    "SGD with momentum": (SGD, naive_sgd, dict(lr=0.1, momentum=0.9)),
    "RMSProp": (RMSProp, naive_rmsprop, dict(lr=0.01)),
    "RMSProp, other constants": (RMSProp, naive_rmsprop, dict(lr=0.01, alpha=0.5, eps=0.1)),
    "Adam": (Adam, naive_adam, dict(lr=0.01)),
    "Adam for GANs": (Adam, naive_adam, dict(lr=0.01, betas=(0.5, 0.999))),
    "Adam, other constants": (Adam, naive_adam, dict(lr=0.01, betas=(0.0, 0.9), eps=0.1)),
}
every_optimiser = pytest.mark.parametrize("name", OPTIMISERS)


def parameters(device):
    rng = np.random.default_rng(0)
    return [nn.Parameter(backend.to_device(rng.standard_normal(s).astype(np.float32), device), f"p{i}")
            for i, s in enumerate(SHAPES)]


def gradients(steps, device="cpu"):
    """One list of gradients per step, of very different sizes, with an exact zero among them."""
    rng = np.random.default_rng(1)
    every = [
        [rng.standard_normal(s).astype(np.float32) * 10.0 ** rng.integers(-3, 3) for s in SHAPES] for _ in range(steps)
    ]
    for step in every:
        step[0][0, 0] = 0
    return [[backend.to_device(g.astype(np.float32), device) for g in step] for step in every]


def values(params):
    return [backend.to_host(p.data).copy() for p in params]


@every_optimiser
def test_several_steps_follow_the_formula(name, device):
    kind, naive, options = OPTIMISERS[name]
    params = parameters(device)
    start = values(params)
    optimiser = kind(params, **options)
    for g in gradients(6, device):
        optimiser.step(g)
    for i, (p, theta) in enumerate(zip(values(params), start, strict=True)):
        expected = naive(theta.astype(np.float64), [g[i].astype(np.float64) for g in gradients(6)], **options)
        assert p.dtype == np.float32
        np.testing.assert_allclose(p, expected, rtol=2e-5, atol=1e-6)


def test_adams_first_step_has_length_lr_for_a_gradient_of_any_size(device):
    """The bias corrections make m̂ / √v̂ = ±1 at step 1."""
    p = nn.Parameter(backend.to_device(np.zeros(4, np.float32), device))
    Adam([p], lr=0.25, betas=(0.5, 0.999)).step([backend.to_device(np.float32([1e-4, -3, 1e4, 0]), device)])
    np.testing.assert_allclose(backend.to_host(p.data), [-0.25, 0.25, -0.25, 0], rtol=1e-3)


@every_optimiser
def test_changing_lr_between_steps_counts_from_the_next_step(name):
    kind, _, options = OPTIMISERS[name]
    params = parameters("cpu")
    optimiser = kind(params, **options)
    first, second = gradients(2)
    optimiser.step(first)
    before = values(params)
    optimiser.lr = 0.0
    optimiser.step(second)
    for a, b in zip(before, values(params), strict=True):
        np.testing.assert_array_equal(a, b)


@every_optimiser
def test_an_optimiser_does_not_change_the_gradients_it_is_given(name, device):
    kind, _, options = OPTIMISERS[name]
    optimiser = kind(parameters(device), **options)
    steps = gradients(2, device)
    for g in steps:
        optimiser.step(g)
    for g, expected in zip(steps, gradients(2), strict=True):
        for a, b in zip(g, expected, strict=True):
            np.testing.assert_array_equal(backend.to_host(a), b)


@every_optimiser
def test_a_resumed_optimiser_goes_on_bit_for_bit(name, device):
    kind, _, options = OPTIMISERS[name]
    steps = gradients(6, device)
    params = parameters(device)
    optimiser = kind(params, **options)
    for g in steps[:3]:
        optimiser.step(g)
    state = optimiser.state_dict()
    assert all(type(v) is np.ndarray for v in state.values())
    copies = [nn.Parameter(backend.to_device(v, device)) for v in values(params)]
    for g in steps[3:]:
        optimiser.step(g)                   # must not reach into the state that was handed out
    again = kind(copies, **options)
    again.load_state_dict(state)
    for g in steps[3:]:
        again.step(g)
    for a, b in zip(values(copies), values(params), strict=True):
        np.testing.assert_array_equal(a, b)
    for k, v in again.state_dict().items():
        np.testing.assert_array_equal(v, optimiser.state_dict()[k])


def test_a_state_of_other_parameters_or_another_method_is_refused():
    state = Adam(parameters("cpu"), lr=0.1).state_dict()
    with pytest.raises(ValueError, match="Adam"):
        Adam([nn.Parameter(np.zeros((5, 5), np.float32))], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match="RMSProp"):
        RMSProp(parameters("cpu"), lr=0.1).load_state_dict(state)


@every_optimiser
def test_a_loss_built_before_a_step_refuses_to_be_differentiated_after_it(name, device):
    """Its recorded values are gone; a silent wrong gradient would be worse than an error."""
    kind, _, options = OPTIMISERS[name]
    x = Tensor(backend.to_device(np.ones((2, 3), np.float32), device), "x")
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(device)
    optimiser = kind(net.parameters(), **options)
    loss, other = (net(x) ** 2).sum(), net(x).sum()
    optimiser.step(grad(loss, optimiser.params))
    with pytest.raises(ValueError, match=r"grad: Linear\.\w+ of shape .* was changed after it was used in linear.*before the first update"):
        grad(other, optimiser.params)
    with pytest.raises(ValueError, match=r"grad: Linear\.\w+ of shape \(.*\) was changed after it was used in"):
        grad(other, x)                      # a path through changed weights, although x itself is as it was
    grad(net(x).sum(), optimiser.params)    # computed again, it works


def test_sgd_finds_the_minimum_of_a_parabola(device):
    p = nn.Parameter(backend.to_device(np.float32([5.0, -3.0]), device))
    target = backend.to_device(np.float32([1.0, 2.0]), device)
    optimiser = SGD([p], lr=0.1, momentum=0.5)
    for _ in range(100):
        optimiser.step(grad(((p - target) ** 2).sum(), [p]))
    np.testing.assert_allclose(backend.to_host(p.data), [1, 2], atol=1e-4)


# ---- bad input --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])
@pytest.mark.parametrize("lr", [0, -1e-3, math.nan, math.inf, None, "0.1"])
def test_the_learning_rate_is_a_positive_number(kind, lr):
    with pytest.raises(ValueError, match="lr: expected a number > 0"):
        kind(parameters("cpu"), lr=lr)


@pytest.mark.parametrize("make, message", [
    (lambda p: Adam(p, betas=(1.0, 0.9)), "betas: expected a number >= 0 and < 1, got 1.0"),
    (lambda p: Adam(p, betas=(0.9, -0.1)), "betas: expected a number >= 0 and < 1, got -0.1"),
    (lambda p: Adam(p, betas=(0.9, math.nan)), "betas: expected a number >= 0 and < 1, got nan"),
    (lambda p: Adam(p, eps=-1.0), "eps: expected a number >= 0"),
    (lambda p: SGD(p, lr=1, momentum=1.0), "momentum: expected a number >= 0 and < 1, got 1.0"),
    (lambda p: RMSProp(p, lr=1, alpha=1.5), "alpha: expected a number >= 0 and < 1, got 1.5"),
])
def test_coefficients_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(parameters("cpu"))


@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])
def test_no_parameters_or_one_twice_is_an_error(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: no parameters"):
        kind([], lr=0.1)
    p = parameters("cpu")
    with pytest.raises(ValueError, match=f"{kind.__name__}: .*twice"):
        kind([*p, p[0]], lr=0.1)


@every_optimiser
@pytest.mark.parametrize(
    "spoil", [lambda g: g[:-1], lambda g: g[::-1], lambda g: [*g[:2], g[2].reshape(4, 1)], lambda g: [*g, g[0]]]
)
def test_gradients_of_other_shapes_are_refused_and_nothing_moves(name, spoil):
    kind, _, options = OPTIMISERS[name]
    params = parameters("cpu")
    before = values(params)
    optimiser = kind(params, **options)
    with pytest.raises(ValueError, match=f"{kind.__name__}.step: expected one gradient per parameter"):
        optimiser.step(spoil(gradients(1)[0]))
    for a, b in zip(before, values(params), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- the moving average of weights ------------------------------------------------------------------------

def network(device="cpu"):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), nn.Linear(4, 2)).to(device)


def wander(net, k, device):
    """Move all weights and BatchNorm's averages somewhere else, as step k of a training would."""
    rng = np.random.default_rng(k)
    net(Tensor(backend.to_device(rng.standard_normal((5, 3)).astype(np.float32), device)))
    for p in net.parameters():
        p.data = backend.to_device(rng.standard_normal(p.shape).astype(np.float32), device)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_ema_follows_its_closed_form_for_weights_and_batchnorm_statistics(decay, device):
    """w̄ ← d w̄ + (1 − d) w with d = min(decay, (1 + t) / (10 + t)) at step t."""
    source, average = network(device), network(device)
    ema = EMA(source, average, decay)
    expected = {k: v.astype(np.float64) for k, v in source.state_dict().items()}
    for k, v in average.state_dict().items():
        np.testing.assert_array_equal(v, expected[k])               # starts as a copy
    for t in range(1, 8):
        wander(source, t, device)
        ema.step()
        now, d = source.state_dict(), min(decay, (1 + t) / (10 + t))
        for k, v in now.items():
            expected[k] = d * expected[k] + (1 - d) * v
    found = average.state_dict()
    assert {"1.running_mean", "1.running_var"} < found.keys()
    for k, v in expected.items():
        np.testing.assert_allclose(found[k], v, rtol=1e-5, atol=1e-6)
    assert all(v.dtype == np.float32 for v in found.values())


def test_ema_copies_other_state():
    """The mean of SpectralNorm's unit vectors would be no unit vector."""
    source, average = (SpectralNorm(nn.Linear(3, 4)) for _ in range(2))
    ema = EMA(source, average, 0.9)
    for seen in range(3):
        source(Tensor(np.ones((2, 3), np.float32)))                     # moves u and v
        source.layer.weight.data += seen + 1
        ema.step()
        np.testing.assert_array_equal(average.u, source.u)
        assert not np.array_equal(average.layer.weight.data, source.layer.weight.data)


def test_ema_leaves_its_source_alone_and_shares_no_memory():
    source, average = network(), network()
    ema = EMA(source, average, 0.5)
    wander(source, 1, "cpu")
    before = source.state_dict()
    ema.step()
    for (_, a, name), (_, b, _) in zip(source.entries(), average.entries(), strict=True):
        a, b = getattr(a, name), getattr(b, name)
        assert not np.shares_memory(*(x.data if isinstance(x, Tensor) else x for x in (a, b)))
    for k, v in source.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_ema_refuses_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay: expected a number >= 0 and < 1"):
        EMA(network(), network(), decay)


def test_ema_needs_two_networks_of_one_build():
    with pytest.raises(ValueError, match="load_state_dict"):
        EMA(network(), nn.Linear(3, 4))


def test_parameters_replaced_behind_the_optimisers_back_are_noticed(device):
    """Other values are taken up and trained (clipped weights, a new initialisation); another shape is refused."""
    params, again = parameters(device), parameters(device)
    optimiser, other = SGD(params, lr=0.1), SGD(again, lr=0.1)
    g, = gradients(1, device)
    params[1].data = backend.to_device(np.float32([5, 6]), device)
    optimiser.step(g)
    other.step(g)
    values = backend.to_host(params[1].data)
    np.testing.assert_allclose(values, np.float32([5, 6]) - np.float32(0.1) * backend.to_host(g[1]), rtol=1e-6)
    np.testing.assert_array_equal(backend.to_host(params[0].data), backend.to_host(again[0].data))
    optimiser = Adam(params, lr=0.1)
    params[1].data = backend.to_device(np.zeros((1, 2), np.float32), device)
    with pytest.raises(ValueError, match=r"Adam.step: .*one gradient per parameter|p1 has changed its shape"):
        optimiser.step(g)
    with pytest.raises(ValueError, match=r"Adam.step: p1 has changed its shape or its device since the optimiser was made"):
        optimiser.step([backend.to_device(np.zeros(p.shape, np.float32), device) for p in params])


def test_loading_a_state_dict_into_a_network_keeps_its_optimiser_working(device):
    net = network(device)
    optimiser = SGD(net.parameters(), lr=1.0)
    net.load_state_dict({k: np.zeros_like(v) for k, v in net.state_dict().items()})
    optimiser.step([backend.to_device(np.ones(p.shape, np.float32), device) for p in net.parameters()])
    for p in net.parameters():
        np.testing.assert_array_equal(backend.to_host(p.data), -1)


def test_a_subclass_keeps_the_shortcuts_of_an_update_that_it_keeps():
    class Logged(Adam):
        def step(self, grads):
            super().step([2 * g for g in grads])

    class Signed(Adam):
        def update(self, theta, g, m, v):
            theta -= self.lr * np.sign(g)

    assert Logged.definition is Adam.definition
    assert Signed.definition is not Adam.definition and not Signed.definition.shortcuts
    p = nn.Parameter(np.zeros(3, np.float32))
    Signed([p], lr=0.5).step([np.array([1, -2, 0], np.float32)])
    assert p.data.tolist() == [-0.5, 0.5, 0]
