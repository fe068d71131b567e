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


# L_D and its derivatives by d_real and d_fake, L_G and its own by d_fake: the papers' formulas with plain probabilities.
# The losses that pair real and fake samples compare sample with sample, so there the derivatives are per sample too.
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
ALONE = list(FORMULAS)                          # G's loss looks at fakes only


def ragan(r, f):
    """−E log σ(r − E f) − E log(1 − σ(f − E r)) and its derivatives, through the means too."""
    a, b = sigma(r - f.mean()) - 1, sigma(f - r.mean())
    return -np.log(a + 1).mean() - np.log(1 - b).mean(), (a - b.mean(), b - a.mean())


PAIRED = {
    "relativistic": (lambda r, f: (-np.log(sigma(r - f)).mean(), (sigma(r - f) - 1, 1 - sigma(r - f))),
                     lambda r, f: (-np.log(sigma(f - r)).mean(), sigma(f - r) - 1)),
    "relativistic-average": (ragan, lambda r, f: (ragan(f, r)[0], ragan(f, r)[1][0])),
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
    assert LOSSES.keys() == {*FORMULAS, *PAIRED}
    assert {name for name, loss in LOSSES.items() if loss.paired} == set(PAIRED)


def g_loss(name, fake, real):
    """G's loss, paired or not."""
    return LOSSES[name].generator(fake, real) if LOSSES[name].paired else LOSSES[name].generator(fake)


@pytest.mark.parametrize("name", PAIRED)
def test_paired_values_and_gradients_are_the_papers(name, device):
    real, fake = on(device, REAL), on(device, FAKE)
    for loss, wrt, (value, slopes) in (
            (LOSSES[name].discriminator(real, fake), [real, fake], PAIRED[name][0](REAL, FAKE)),
            (LOSSES[name].generator(fake, real), [fake], PAIRED[name][1](REAL, FAKE))):
        assert loss.shape == () and loss.dtype == np.float32
        np.testing.assert_allclose(host(loss), value, rtol=1e-5)
        slopes = slopes if isinstance(slopes, tuple) else (slopes,)
        for g, slope in zip(grad(loss, wrt), slopes, strict=True):
            np.testing.assert_allclose(host(g), slope / 3, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PAIRED)
def test_only_differences_count_for_relativistic_critics(name):
    """One number added to all logits changes no loss: a probability cannot be read from them."""
    for loss in (LOSSES[name].discriminator, lambda r, f: g_loss(name, f, r)):
        moved = loss(on("cpu", REAL + 3), on("cpu", FAKE + 3))
        np.testing.assert_allclose(host(moved), host(loss(on("cpu", REAL), on("cpu", FAKE))), rtol=1e-5)
    assert not LOSSES[name].probability


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_where_it_is_a_probability_the_best_verdict_is_the_share_of_the_real(name):
    """Where a sample is real three times in four, L_D is least at σ(d) = 3/4. The other losses have their least elsewhere."""
    def slope(loss, d):
        t = Tensor(np.array([[d]]))
        return grad(0.75 * loss.discriminator(t, Tensor(np.zeros((1, 1)))) + 0.25 * loss.discriminator(
            Tensor(np.zeros((1, 1))), t), t).item()
    d = math.log(3)
    assert LOSSES[name].probability and slope(LOSSES[name], d) == pytest.approx(0, abs=1e-12)
    for other in ("least-squares", "wasserstein", "hinge"):
        assert not LOSSES[other].probability and abs(slope(LOSSES[other], d)) > 0.1


@pytest.mark.parametrize("t", [0.7, 0.9, 1.0])
def test_one_sided_smoothing_keeps_the_best_discriminator_unsure(t):
    """σ(d) = t p_r / (p_r + p_f): half of t where real and fake are equally frequent, and t where all is real."""
    for share in (0.5, 0.8):
        best = t * share
        d = Tensor(np.array([[math.log(best / (1 - best))]]))
        zero = Tensor(np.zeros((1, 1)))
        loss = losses.smoothed(t)
        total = share * loss.discriminator(d, zero) + (1 - share) * loss.discriminator(zero, d)
        assert grad(total, d).item() == pytest.approx(0, abs=1e-12)
    assert loss.generator is LOSSES["non-saturating"].generator and loss.probability


@pytest.mark.parametrize("t", [0, -0.1, 1.1, math.nan])
def test_a_smoothed_target_is_a_probability(t):
    with pytest.raises(ValueError, match="smoothed: the target t must be in"):
        losses.smoothed(t)


@pytest.mark.parametrize("name", ALONE)
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
    other = on(device, [[-big]])
    for loss in (LOSSES[name].discriminator(d, other), g_loss(name, d, other)):
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
    assert grad(g_loss(name, fake, real), fake) < 0


def test_minimax_leaves_a_rejected_generator_without_a_slope_and_non_saturating_does_not():
    """D is sure that all is fake: σ(−15) ≈ 3e-7 is minimax's slope, −1 is the other's."""
    d = on("cpu", [[-15.0]])
    assert 0 > grad(LOSSES["minimax"].generator(d), d).item() > -1e-6
    assert grad(LOSSES["non-saturating"].generator(d), d).item() == pytest.approx(-1, abs=1e-6)


@every_loss
def test_losses_pass_the_gradient_check(name):
    gradcheck.check(LOSSES[name].discriminator, REAL, FAKE + 0.1)      # away from hinge's kink at −1
    gradcheck.check(lambda f: g_loss(name, f, Tensor(REAL)), FAKE)


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


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
@pytest.mark.parametrize("where", losses.WHERE)
def test_penalties_refuse_samples_that_are_no_floating_point_numbers(where, dtype):
    """Cast to integers, ε would be 0, and the penalty would look at fakes only without a word."""
    real, fake = np.ones((5, 2), dtype), np.ones((5, 2), np.float32)
    with pytest.raises((ValueError, TypeError), match="floating-point"):
        losses.penalty(where, 1.0)(linear_critic((3.0, 4.0), "cpu"), real, fake if where != "fake" else real)


W, LENGTH = (3.0, -4.0), 5.0
NAMED = {"wgan_gp": (losses.wgan_gp(2.0), 2 * (LENGTH - 1) ** 2, 4 * (LENGTH - 1) / LENGTH),
         "wgan_lp": (losses.wgan_lp(2.0), 2 * (LENGTH - 1) ** 2, 4 * (LENGTH - 1) / LENGTH),
         "dragan": (losses.dragan(2.0), 2 * (LENGTH - 1) ** 2, 4 * (LENGTH - 1) / LENGTH),
         "zero_centred": (losses.zero_centred(2.0), 2 * LENGTH ** 2, 4.0),
         "r1": (losses.r1(2.0), LENGTH ** 2, 2.0), "r2": (losses.r2(2.0), LENGTH ** 2, 2.0)}


@pytest.mark.parametrize("name", NAMED)
def test_named_penalties_of_a_linear_critic_in_closed_form(name, device):
    """∇D = w everywhere: λ (‖w‖ − c)² with gradient 2 λ (1 − c/‖w‖) w, and γ/2 ‖w‖² with γ w."""
    term, value, factor = NAMED[name]
    critic = linear_critic(W, device)
    real, fake = (backend.to_device(some(6, 2, seed=k), device) for k in (0, 1))
    found = term(critic, real, fake)
    np.testing.assert_allclose(host(found), value, rtol=1e-5)
    np.testing.assert_allclose(host(grad(found, critic.weight))[:, 0], factor * np.array(W), rtol=1e-5)


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_one_sided_penalty_leaves_gentle_slopes_alone():
    critic = linear_critic((0.3, 0.4), "cpu")
    both, one = (f(10.0)(critic, some(6, 2), some(6, 2)) for f in (losses.wgan_gp, losses.wgan_lp))
    assert both.item() == pytest.approx(10 * 0.25, rel=1e-5) and one.item() == 0
    assert not grad(one, critic.weight).any()


def test_each_penalty_looks_where_it_says(device):
    """D(x) = ½ ‖x‖² has ∇D = x, so that a penalty with centre 0 is the mean squared length of where it looks."""
    def bowl(x):
        return 0.5 * (x ** 2).sum(axis=1)
    real, fake = some(400, 2), 3 + some(400, 2, seed=1)
    found = {where: host(losses.penalty(where, 0.0, 1.0)(bowl, backend.to_device(real, device),
                                                         backend.to_device(fake, device))) for where in losses.WHERE}
    seed(0)
    eps = rng("penalty").random((400, 1), dtype=np.float32)
    places = {"real": real, "fake": fake, "between": eps * real + (1 - eps) * fake,
              "around": real + 0.5 * real.std() * rng("penalty").random((400, 2), dtype=np.float32)}
    for where, x in places.items():
        np.testing.assert_allclose(found[where], (x.astype(np.float64) ** 2).sum(axis=1).mean(), rtol=1e-4)


@pytest.mark.parametrize("make, where, center, weight", [
    (losses.r1, "real", 0, 0.5), (losses.r2, "fake", 0, 0.5), (losses.zero_centred, "between", 0, 1),
    (losses.wgan_gp, "between", 1, 1), (losses.dragan, "around", 1, 1)])
def test_named_penalties_look_where_their_papers_do(make, where, center, weight):
    """On the bowl ½ ‖x‖², whose slope tells the place: the same number as the penalty spelt out, from the same seed."""
    def bowl(x):
        return 0.5 * (x ** 2).sum(axis=1)
    real, fake = some(50, 2), 3 + some(50, 2, seed=1)
    seed(0)
    found = make(2.0)(bowl, real, fake).item()
    seed(0)
    x = {"real": real, "fake": fake}.get(where)
    if x is None:
        x = losses.WHERE[where](real, fake)
    lengths = np.linalg.norm(x.astype(np.float64), axis=1)
    assert found == pytest.approx(2 * weight * ((lengths - center) ** 2).mean(), rel=1e-4)


@pytest.mark.parametrize("options, message", [(("nowhere", 0), "where must be one of real, fake, between, around"),
                                              (("real", -1), "center: expected a number >= 0"),
                                              (("real", 0, math.nan), "weight: expected a number >= 0")])
def test_penalties_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        losses.penalty(*options)


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


def test_cross_entropy_accepts_labels_in_a_list():
    logits = on("cpu", np.eye(3))
    assert cross_entropy(logits, [0, 1, 2]).item() == cross_entropy(logits, np.arange(3)).item()


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
