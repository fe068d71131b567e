"""Losses: each against its closed form, its signs, its extremes, and the gradient penalty."""

import math

import numpy as np
import pytest

from tinygan import Tensor, backend, gradcheck, losses, nn
from tinygan.autograd import grad
from tinygan.losses import LOSSES, bce_with_logits, cross_entropy, gradient_penalty, interpolate
from tinygan.randomness import rng, seed

REAL, FAKE = np.array([[2.0], [-0.5], [0.3]]), np.array([[-1.0], [0.7], [3.0]])


def sigma(d):
    return 1 / (1 + np.exp(-d))


# L_D and its derivatives by d_real and d_fake, L_G and its own: the papers' formulas with plain probabilities.
LOGISTIC = (lambda r, f: -np.log(sigma(r)).mean() - np.log(1 - sigma(f)).mean(),
            lambda r, f: (sigma(r) - 1, sigma(f)))
FORMULAS = {
    "minimax": (*LOGISTIC, lambda f: np.log(1 - sigma(f)).mean(), lambda f: -sigma(f)),
    "non-saturating": (*LOGISTIC, lambda f: -np.log(sigma(f)).mean(), lambda f: sigma(f) - 1),
    "least-squares": (lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f ** 2).mean(), lambda r, f: (r - 1, f),
                      lambda f: 0.5 * ((f - 1) ** 2).mean(), lambda f: f - 1),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: (-np.ones_like(r), np.ones_like(f)),
                    lambda f: -f.mean(), lambda f: -np.ones_like(f)),
    "hinge": (lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
              lambda r, f: (-1.0 * (r < 1), 1.0 * (f > -1)), lambda f: -f.mean(), lambda f: -np.ones_like(f)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def on(device, x, dtype=np.float32):
    return Tensor(backend.to_device(np.asarray(x, dtype), device))


def host(x):
    return backend.to_host(x.data if isinstance(x, Tensor) else x)


def test_every_loss_has_a_formula_here():
    assert LOSSES.keys() == FORMULAS.keys()


@every_loss
def test_values_and_gradients_are_the_papers(name, device):
    value_d, slope_d, value_g, slope_g = FORMULAS[name]
    real, fake = on(device, REAL), on(device, FAKE[1:])             # batches of two sizes: means are taken apart
    loss = LOSSES[name].discriminator(real, fake)
    assert loss.shape == () and loss.dtype == np.float32
    np.testing.assert_allclose(host(loss), value_d(REAL, FAKE[1:]), rtol=1e-5)
    for g, expected, n in zip(grad(loss, [real, fake]), slope_d(REAL, FAKE[1:]), (3, 2), strict=True):
        np.testing.assert_allclose(host(g), expected / n, rtol=1e-5, atol=1e-7)
    loss = LOSSES[name].generator(fake)
    assert loss.shape == () and loss.dtype == np.float32
    np.testing.assert_allclose(host(loss), value_g(FAKE[1:]), rtol=1e-5)
    np.testing.assert_allclose(host(grad(loss, fake)), slope_g(FAKE[1:]) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_an_undecided_discriminator_costs_two_log_two(name):
    d = on("cpu", np.zeros((4, 1)))
    assert LOSSES[name].discriminator(d, d).item() == pytest.approx(2 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("big", [1e4, -1e4])
def test_logistic_losses_are_exact_at_huge_logits(big, device):
    """Through probabilities they would be log 0. Softplus gives 1e4 or 0, with gradients ∓1 or 0."""
    d = on(device, [[big]])
    low, high = (0.0, 1e4) if big > 0 else (1e4, 0.0)               # softplus(−d), softplus(d)
    value = {"-log sigma": LOSSES["non-saturating"].generator(d), "log(1 - sigma)": LOSSES["minimax"].generator(d),
             "discriminator": LOSSES["minimax"].discriminator(d, d)}
    assert host(value["-log sigma"]) == low and host(value["log(1 - sigma)"]) == -high
    assert host(value["discriminator"]) == low + high
    assert host(grad(value["-log sigma"], d)) == (0 if big > 0 else -1)
    assert host(grad(value["log(1 - sigma)"], d)) == (-1 if big > 0 else 0)


@every_loss
@pytest.mark.parametrize("big", [1e4, -1e4])
def test_no_loss_overflows_to_second_order(name, big, device):
    d = on(device, [[big]])
    for loss in (LOSSES[name].discriminator(d, d), LOSSES[name].generator(d)):
        g = grad(loss, d, create_graph=True)
        assert np.isfinite(host(loss)) and np.isfinite(host(g))
        if g.op is not None:                                        # wasserstein's slope is a constant
            try:
                assert np.isfinite(host(grad(g.sum(), d)))
            except ValueError as e:                                 # hinge's, too
                assert "does not depend" in str(e)


@every_loss
def test_d_pushes_real_up_and_fake_down_and_g_pushes_fake_up(name):
    """The sign that is wrong in so many repositories. All moves go against the gradient."""
    real, fake = on("cpu", [[0.3]]), on("cpu", [[0.2]])
    g_real, g_fake = grad(LOSSES[name].discriminator(real, fake), [real, fake])
    assert g_real < 0 < g_fake
    assert grad(LOSSES[name].generator(fake), fake) < 0


def test_minimax_leaves_a_rejected_generator_without_a_slope_and_non_saturating_does_not():
    """D is sure that all is fake: σ(−15) ≈ 3e-7 is minimax's slope, −1 is the other's."""
    d = on("cpu", [[-15.0]])
    assert 0 > grad(LOSSES["minimax"].generator(d), d).item() > -1e-6
    assert grad(LOSSES["non-saturating"].generator(d), d).item() == pytest.approx(-1, abs=1e-6)


@every_loss
def test_losses_pass_the_gradient_check(name):
    gradcheck.check(LOSSES[name].discriminator, REAL, FAKE + 0.1)      # away from hinge's kink at −1
    gradcheck.check(LOSSES[name].generator, FAKE)


# ---- the gradient penalty ---------------------------------------------------------------------------------

def linear_critic(w, device):
    critic = nn.Linear(len(w), 1).to(device)
    critic.weight.data = backend.to_device(np.float32(w)[:, None], device)
    return critic


@pytest.mark.parametrize("w", [(3.0, 4.0), (0.3, -0.4), (0.6, 0.8)])
def test_penalty_of_a_linear_critic_and_its_gradient_in_closed_form(w, device):
    """∇ₓ(w·x + b) = w at every x, so the penalty is (‖w‖ − 1)² and its gradient 2 (‖w‖ − 1) w / ‖w‖."""
    critic, w = linear_critic(w, device), np.array(w)
    x = backend.to_device(np.random.default_rng(0).standard_normal((7, 2)).astype(np.float32), device)
    penalty = gradient_penalty(critic, x)
    length = np.linalg.norm(w)
    np.testing.assert_allclose(host(penalty), (length - 1) ** 2, rtol=1e-5, atol=1e-7)
    (g,) = grad(penalty, [critic.weight])
    np.testing.assert_allclose(host(g)[:, 0], 2 * (length - 1) * w / length, rtol=1e-5, atol=1e-6)


def test_r1_of_a_linear_critic_in_closed_form(device):
    """Centre 0: ‖w‖², with gradient 2 w."""
    critic = linear_critic((3.0, -4.0), device)
    penalty = gradient_penalty(critic, backend.to_device(np.ones((5, 2), np.float32), device), center=0.0)
    np.testing.assert_allclose(host(penalty), 25, rtol=1e-6)
    np.testing.assert_allclose(host(grad(penalty, critic.weight))[:, 0], [6, -8], rtol=1e-6)


def test_the_norm_runs_over_all_features_of_one_sample(device):
    """D(x) = ½ Σ x² over an image has ∇D = x: the penalty is the mean over samples of (‖xₙ‖ − 1)²."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    penalty = gradient_penalty(lambda t: 0.5 * (t ** 2).sum(axis=(1, 2, 3)), backend.to_device(x, device))
    lengths = np.sqrt((x.astype(np.float64) ** 2).reshape(4, -1).sum(axis=1))
    np.testing.assert_allclose(host(penalty), ((lengths - 1) ** 2).mean(), rtol=1e-5)


@pytest.mark.parametrize("center", [0.0, 1.0])
def test_a_critic_without_any_slope_gives_a_finite_penalty_and_gradient(center, device):
    critic = linear_critic((0.0, 0.0), device)
    penalty = gradient_penalty(critic, backend.to_device(np.ones((5, 2), np.float32), device), center)
    assert host(penalty) == center ** 2
    assert np.isfinite(host(grad(penalty, critic.weight))).all()


def test_penalty_of_a_network_passes_the_gradient_check():
    """Third derivatives of the critic: through the gradient, then checked to second order."""
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    x = np.random.default_rng(0).standard_normal((4, 3))
    gradcheck.check(lambda: gradient_penalty(critic, x), wrt=critic.parameters()[:-1])     # D's last bias has no slope


def test_interpolate_uses_one_epsilon_per_sample(device):
    real, fake = np.zeros((500, 3, 2, 1), np.float32), np.ones((500, 3, 2, 1), np.float32)
    x = host(interpolate(backend.to_device(real, device), backend.to_device(fake, device))).reshape(500, -1)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, x[:, :1].repeat(6, axis=1))    # the same for all features of a sample
    eps = 1 - x[:, 0]
    assert len(np.unique(eps)) == 500 and 0 <= eps.min() < 0.02 and 0.98 < eps.max() <= 1
    assert abs(eps.mean() - 0.5) < 4 / math.sqrt(12 * 500)


def test_interpolate_lies_between_its_ends():
    real, fake = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    x = interpolate(real, fake)
    seed(0)
    eps = rng("penalty").random((6, 1), dtype=np.float32)
    np.testing.assert_allclose(x, fake + eps * (real - fake), rtol=1e-5, atol=1e-6)


def test_interpolate_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"interpolate: real \(3, 2\) and fake \(4, 2\)"):
        interpolate(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))


# ---- classification losses --------------------------------------------------------------------------------

def test_bce_is_the_mean_negative_log_probability(device):
    d, t = REAL, np.array([[1.0], [0.0], [0.25]])
    expected = -(t * np.log(sigma(d)) + (1 - t) * np.log(1 - sigma(d))).mean()
    logits = on(device, d)
    loss = bce_with_logits(logits, backend.to_device(np.float32(t), device))
    np.testing.assert_allclose(host(loss), expected, rtol=1e-5)
    np.testing.assert_allclose(host(grad(loss, logits)), (sigma(d) - t) / 3, rtol=1e-5)


@pytest.mark.parametrize(
    "logit, target, value, slope", [(1e4, 1, 0, 0), (1e4, 0, 1e4, 1), (-1e4, 1, 1e4, -1), (-1e4, 0, 0, 0)]
)
def test_bce_is_exact_at_huge_logits(logit, target, value, slope, device):
    d = on(device, [logit])
    loss = bce_with_logits(d, backend.to_device(np.float32([target]), device))
    assert host(loss) == value and host(grad(loss, d)) == slope


@pytest.mark.parametrize("dtype", [np.int64, np.float64, bool])
def test_bce_stays_in_float32_whatever_the_targets_are(dtype):
    logits = on("cpu", REAL)
    loss = bce_with_logits(logits, np.array([[1], [0], [1]], dtype))
    assert loss.dtype == grad(loss, logits).dtype == np.float32


def test_bce_refuses_n_by_1_against_n():
    """Broadcast, it would compare every sample with every other, and train, badly."""
    with pytest.raises(ValueError, match=r"bce_with_logits: logits \(3, 1\) and targets \(3,\) must have one shape"):
        bce_with_logits(on("cpu", REAL), np.ones(3, np.float32))


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_bce_refuses_targets_outside_0_to_1(bad):
    with pytest.raises(ValueError, match=r"bce_with_logits: targets must be in \[0, 1\]"):
        bce_with_logits(on("cpu", REAL), np.float32([[0], [1], [bad]]))


def test_cross_entropy_and_its_gradient_in_closed_form(device):
    """−log pₗ, and (p − onehot) / N."""
    x, labels = np.random.default_rng(0).standard_normal((5, 4)) * 2, np.array([0, 3, 3, 1, 2])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    logits = on(device, x)
    loss = cross_entropy(logits, backend.to_device(labels, device))
    assert loss.dtype == np.float32
    np.testing.assert_allclose(host(loss), -np.log(p[np.arange(5), labels]).mean(), rtol=1e-5)
    np.testing.assert_allclose(host(grad(loss, logits)), (p - np.eye(4)[labels]) / 5, rtol=1e-4, atol=1e-6)


def test_cross_entropy_is_exact_at_huge_logits():
    logits = on("cpu", [[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]])
    loss = cross_entropy(logits, np.array([0, 1]))
    assert loss.item() == 1e4
    np.testing.assert_array_equal(grad(loss, logits), [[0, 0, 0], [0.5, -0.5, 0]])


@pytest.mark.parametrize("labels, message", [
    (np.array([0, 3]), r"labels must be in 0..2, got 0..3"), (np.array([0, -1]), r"labels must be in 0..2, got -1..0"),
    (np.array([0.0, 1.0]), r"integer labels, got \(2, 3\) and \(2,\) float64"),
    (np.array([[0], [1]]), r"integer labels, got \(2, 3\) and \(2, 1\)"), (np.array([0]), r"got \(2, 3\) and \(1,\)")])
def test_cross_entropy_refuses_labels_that_would_pick_something_else(labels, message):
    with pytest.raises(ValueError, match=f"cross_entropy: .*{message}"):
        cross_entropy(on("cpu", np.zeros((2, 3))), labels)


def test_the_table_in_the_docstring_names_every_loss():
    assert all(f"| {name} " in losses.__doc__ for name in LOSSES)
