"""The two-player loop: one step against plain NumPy, who moves when, repeatability, memory, and that it learns."""

import copy
import gc
import math
import sys
import zlib

import numpy as np
import pytest

from tinygan import Tensor, backend, data, losses, metrics, models, nn, train
from tinygan.randomness import seed
from tinygan.train import GAN, Diverged, batches, fit, r1, row, wgan_gp


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def tiny(device="cpu", **options):
    """A GAN of two linear maps: G (N, 2) → (N, 2), D (N, 2) → (N, 1)."""
    g, d = models.mlp_generator(2, hidden=()), models.mlp_discriminator(hidden=())
    return GAN(g.to(device), d.to(device), 2, **options)


def small(device="cpu", average=True, **options):
    """A GAN with hidden layers on points, and an averaged generator."""
    g, a = (models.mlp_generator(3, hidden=(8,)).to(device) for _ in range(2))
    return GAN(g, models.mlp_discriminator(hidden=(8,)).to(device), 3, average=a if average else None, **options)


def conv(device="cpu", **options):
    """A GAN on 8 × 8 images."""
    g, d = models.conv_generator(3, 8, 1, 2), models.conv_discriminator(8, 1, 2, norm="penalty" not in options)
    return GAN(g.to(device), d.to(device), 3, **options)


def real(n=8, shape=(2,), device="cpu", seed=5):
    return backend.to_device(np.random.default_rng(seed).uniform(-1, 1, (n, *shape)).astype(np.float32), device)


def weights(net):
    return {k: v.copy() for k, v in net.state_dict().items()}


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


# ---- who moves when ---------------------------------------------------------------------------------------

def test_the_generator_and_its_average_move_on_every_third_step_only(device):
    gan = small(device, d_steps=3)
    for step in range(1, 7):
        g, average, d = weights(gan.g), weights(gan.average.module), weights(gan.d)
        gan.step(real(device=device))
        assert not same(d, weights(gan.d)), "D moves on every step"
        assert same(g, weights(gan.g)) == (step % 3 != 0) == same(average, weights(gan.average.module))


# ---- one step ---------------------------------------------------------------------------------------------

def sigma(d):
    return 1 / (1 + np.exp(-d))


# ∂L_D/∂d_real, ∂L_D/∂d_fake, ∂L_G/∂d_fake per sample, from the losses' formulas.
SLOPES = {
    "minimax": (lambda d: sigma(d) - 1, sigma, lambda d: -sigma(d)),
    "non-saturating": (lambda d: sigma(d) - 1, sigma, lambda d: sigma(d) - 1),
    "least-squares": (lambda d: d - 1, lambda d: d, lambda d: d - 1),
    "wasserstein": (lambda d: 0 * d - 1, lambda d: 0 * d + 1, lambda d: 0 * d - 1),
    "hinge": (lambda d: -1.0 * (d < 1), lambda d: 1.0 * (d > -1), lambda d: 0 * d - 1),
}


class Adam64:
    """Adam in float64, from the paper's algorithm 1, for one array."""

    def __init__(self, theta, lr, betas):
        self.theta, self.lr, self.betas, self.t, self.m, self.v = theta.astype(np.float64), lr, betas, 0, 0.0, 0.0

    def step(self, g):
        (b1, b2), self.t = self.betas, self.t + 1
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g ** 2
        self.theta -= self.lr * (self.m / (1 - b1 ** self.t)) / (np.sqrt(self.v / (1 - b2 ** self.t)) + 1e-8)


@pytest.mark.parametrize(
    "name, penalty", [*((n, None) for n in SLOPES), ("wasserstein", "wgan-gp"), ("non-saturating", "r1")]
)
def test_steps_of_two_linear_players_are_those_worked_out_by_hand(name, penalty, device):
    """fake = z A + a, logits = x w + c: every derivative fits on a line. D moves first, G then meets the new D."""
    lr, betas = (0.02, 0.05), (0.5, 0.9)
    function = {"wgan-gp": wgan_gp(10.0), "r1": r1(3.0), None: None}[penalty]
    gan = tiny(device, loss=name, lr=lr, betas=betas, penalty=function)
    a_w, a_b = (Adam64(backend.to_host(p.data), lr[1], betas) for p in gan.g.parameters())
    w, c = (Adam64(backend.to_host(p.data), lr[0], betas) for p in gan.d.parameters())
    latents = np.random.default_rng([0, zlib.crc32(b"latent")])
    slope_real, slope_fake, slope_g = SLOPES[name]
    for k in range(3):
        x = real(device=device, seed=k)
        gan.step(x)

        x = backend.to_host(x).astype(np.float64)
        z = latents.standard_normal((8, 2), dtype=np.float32).astype(np.float64)
        fake = z @ a_w.theta + a_b.theta
        d_real, d_fake = slope_real(x @ w.theta + c.theta) / 8, slope_fake(fake @ w.theta + c.theta) / 8
        g_w, g_c = x.T @ d_real + fake.T @ d_fake, d_real.sum(axis=0) + d_fake.sum(axis=0)
        length = np.linalg.norm(w.theta)
        g_w += {"wgan-gp": 20 * (length - 1) * w.theta / length, "r1": 3 * w.theta, None: 0}[penalty]
        w.step(g_w)
        c.step(g_c)
        d_g = slope_g(fake @ w.theta + c.theta) / 8 @ w.theta.T                # (8, 2), through the D just updated
        a_w.step(z.T @ d_g)
        a_b.step(d_g.sum(axis=0))
    assert gan.steps == 3
    found = [backend.to_host(p.data) for p in (*gan.g.parameters(), *gan.d.parameters())]
    for p, expected in zip(found, (a_w, a_b, w, c), strict=True):
        np.testing.assert_allclose(p, expected.theta, rtol=1e-4, atol=2e-5)


def test_a_step_returns_the_losses_and_logits_it_was_made_of(device):
    gan = tiny(device)
    x = real(device=device)
    (a, b), (w, c) = ([backend.to_host(p.data).copy() for p in net.parameters()] for net in (gan.g, gan.d))
    loss_d, loss_g, d_real, d_fake = (backend.to_host(r) for r in gan.step(x))
    z = np.random.default_rng([0, zlib.crc32(b"latent")]).standard_normal((8, 2), dtype=np.float32)
    np.testing.assert_allclose(d_real, backend.to_host(x) @ w + c, rtol=1e-5, atol=1e-6)
    (w, c) = (backend.to_host(p.data) for p in gan.d.parameters())          # as G's turn met them
    np.testing.assert_allclose(loss_g, -np.log(sigma((z @ a + b) @ w + c)).mean(), rtol=1e-5)
    np.testing.assert_allclose(loss_d, -np.log(sigma(d_real)).mean() - np.log(1 - sigma(d_fake)).mean(), rtol=1e-5)
    assert loss_d.shape == loss_g.shape == () and d_fake.shape == (8, 1)


@pytest.mark.parametrize("make", [small, conv])
def test_each_update_moves_one_player_only(make, device):
    """Training G through D leaves D's weights as they are, and the other way round."""
    gan = make(device)
    moves = []
    for name in ("opt_d", "opt_g"):
        optimiser = getattr(gan, name)

        def step(grads, name=name, original=optimiser.step):
            before = [weights(net) for net in (gan.d, gan.g)]
            original(grads)
            moves.append((name, *(not same(b, weights(net)) for b, net in zip(before, (gan.d, gan.g), strict=True))))
        optimiser.step = step
    gan.step(real(shape=(8, 8, 1) if make is conv else (2,), device=device))
    assert moves == [("opt_d", True, False), ("opt_g", False, True)]


def test_d_sees_real_and_fake_in_batches_of_their_own():
    """One batch statistic over both would hand the answer from sample to sample."""
    gan, seen = conv(), []
    forward = gan.d.forward
    gan.d.forward = lambda x: (seen.append(x), forward(x))[1]
    gan.step(real(shape=(8, 8, 1)))
    assert [len(x) for x in seen] == [8, 8, 8]
    assert [isinstance(x, Tensor) for x in seen] == [False, False, True]        # only G's turn has a history


def test_the_average_takes_part_in_every_step():
    gan = small(decay=0.5)
    before = weights(gan.average.module)
    gan.step(real())
    expected = {k: v + (1 - 2 / 11) * (weights(gan.g)[k] - v) for k, v in before.items()}  # warm-up: (1 + 1) / (10 + 1)
    for k, v in weights(gan.average.module).items():
        np.testing.assert_allclose(v, expected[k], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize(
    "make, shape, penalty",
    [(small, (2,), None), (conv, (8, 8, 1), None), (conv, (8, 8, 1), wgan_gp()), (small, (2,), r1())],
)
def test_every_loss_trains_every_kind_of_network_in_float32(name, make, shape, penalty, device):
    gan = make(device, loss=name, **({"penalty": penalty} if penalty else {}))
    before = [weights(net) for net in (gan.g, gan.d)]
    for _ in range(2):
        results = gan.step(real(shape=shape, device=device))
    assert all(r.dtype == np.float32 and np.isfinite(backend.to_host(r)).all() for r in results)
    for net, old in zip((gan.g, gan.d), before, strict=True):
        now = weights(net)
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in now.values())
        moved = {k for k in now if not np.array_equal(now[k], old[k])}
        # A critic's last bias shifts real and fake alike, so Wasserstein's loss may not feel it.
        assert {k for k in now if "bias" not in k} <= moved


# ---- repeatability ----------------------------------------------------------------------------------------

def train_run(value, steps=5, make=small, **options):
    seed(value)
    gan = make(**options)
    fit(gan, real(50, (8, 8, 1) if make is conv else (2,)), steps, 8)
    return {**weights(gan.g), **{"d." + k: v for k, v in weights(gan.d).items()}}


@pytest.mark.parametrize(
    "make, options", [(small, {}), (conv, {}), (conv, {"loss": "wasserstein", "penalty": wgan_gp()})]
)
def test_one_seed_is_one_run_and_another_seed_another(make, options):
    first = train_run(0, make=make, **options)
    assert same(first, train_run(0, make=make, **options))
    assert not same(first, train_run(1, make=make, **options))


def test_drawing_samples_in_between_does_not_change_a_run():
    expected = train_run(3)
    seed(3)
    gan = small()

    def look(gan, results):
        gan.sample(np.ones((4, 3), np.float32))
        gan.score(np.ones((4, 2), np.float32))

    fit(gan, real(50), 5, 8, look)
    assert same(weights(gan.g), {k: v for k, v in expected.items() if not k.startswith("d.")})


# ---- memory -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, shape, options", [(small, (2,), {}), (conv, (8, 8, 1), {}),
                                                  (conv, (8, 8, 1), {"loss": "wasserstein", "penalty": wgan_gp()})])
def test_a_step_leaves_no_cyclic_garbage_and_memory_does_not_grow(make, shape, options):
    """Reference counting frees everything, also the graph of a gradient of a gradient."""
    gan, x = make(**options), real(shape=shape)
    for _ in range(3):
        gan.step(x)
    gc.collect()
    gc.disable()
    try:
        gan.step(x)
        assert gc.collect() == 0
        used = []
        for _ in range(3):
            for _ in range(30):
                gan.step(x)
            assert gc.collect() == 0        # this also empties Python's stock of freed objects
            used.append(sys.getallocatedblocks())
        assert used[2] - used[1] < 30       # less than one object per step
    finally:
        gc.enable()


# ---- fit, batches, logging --------------------------------------------------------------------------------

def test_fit_counts_steps_in_all_and_stops_when_told():
    gan, seen = small(), []
    fit(gan, real(20), 3, 4, lambda gan, results: seen.append((gan.steps, len(results))))
    assert seen == [(1, 4), (2, 4), (3, 4)]
    fit(gan, real(20), 5, 4)
    assert gan.steps == 5
    fit(gan, real(20), 5, 4)
    assert gan.steps == 5
    fit(gan, real(20), 100, 4, lambda gan, results: gan.steps == 7)
    assert gan.steps == 7


def test_batches_draw_every_sample_equally_often(device):
    x = backend.to_device(np.arange(10, dtype=np.float32)[:, None], device)
    draw = batches(x, 5)
    counts = np.bincount(
        np.concatenate([backend.to_host(next(draw))[:, 0].astype(int) for _ in range(2000)]), minlength=10
    )
    assert counts.sum() == 10_000 and np.abs(counts - 1000).max() < 5 * math.sqrt(900)
    batch = next(draw)
    assert batch.shape == (5, 1) and backend.device_of(batch) == device


@pytest.mark.parametrize("size", [0, -1, 21])
def test_a_batch_must_fit_into_the_data(size):
    with pytest.raises(ValueError, match=rf"batch size: expected 1..20 .* got {size}"):
        fit(small(), real(20), 1, size)


def test_row_reports_losses_and_mean_probabilities(device):
    gan = small(device)
    gan.steps = 12
    results = [backend.to_device(np.array(v, np.float32), device) for v in (0.5, 2.0, [[0.0], [2.0]], [[-1.0], [-1e4]])]
    found = row(gan, results)
    assert found == {"step": 12, "d_loss": 0.5, "g_loss": 2.0, "d_real": pytest.approx((0.5 + sigma(2)) / 2),
                     "d_fake": pytest.approx(sigma(-1) / 2)}
    assert all(type(v) in (int, float) for v in found.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("player, place", [("discriminator", 0), ("generator", 1)])
def test_a_loss_that_is_not_finite_names_the_player_and_the_step(bad, player, place):
    gan = small()
    gan.steps = 12
    results = [np.float32(1), np.float32(1), np.zeros((2, 1)), np.zeros((2, 1))]
    results[place] = np.float32(bad)
    with pytest.raises(Diverged, match=f"the {player}'s loss is {bad} at step 12"):
        row(gan, results)


# ---- sampling ---------------------------------------------------------------------------------------------

def test_latents_are_standard_normal(device):
    gan = small(device)
    z = gan.latents(20_000)
    assert backend.device_of(z) == device
    z = backend.to_host(z)
    assert z.shape == (20_000, 3) and z.dtype == np.float32
    assert np.abs(z.mean(axis=0)).max() < 0.03 and np.abs(z.std(axis=0) - 1).max() < 0.03


def test_samples_come_from_the_average_in_evaluation_mode(device):
    gan = conv(device, average=models.conv_generator(3, 8, 1, 2).to(device))
    for _ in range(3):
        gan.step(real(shape=(8, 8, 1), device=device))
    z = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    before = weights(gan.average.module)
    x = gan.sample(z)
    assert type(x) is np.ndarray and x.shape == (4, 8, 8, 1)
    np.testing.assert_allclose(gan.sample(z[:1]), x[:1], rtol=1e-5, atol=1e-6)      # no batch statistics
    assert same(weights(gan.average.module), before) and gan.average.module.training
    expected = copy.deepcopy(before)
    other = models.conv_generator(3, 8, 1, 2).to(device)
    other.load_state_dict(expected)
    found = other.eval()(Tensor(backend.to_device(z, device)))
    np.testing.assert_array_equal(backend.to_host(found.data), x)


def test_without_an_average_samples_come_from_the_generator_itself():
    gan = tiny()
    (a, b), z = (p.data for p in gan.g.parameters()), np.ones((3, 2), np.float32)
    np.testing.assert_allclose(gan.sample(z), z @ a + b, rtol=1e-6)


def test_the_score_is_the_probability_of_being_real(device):
    gan = tiny(device)
    x = np.array([[0.3, 0.2], [1e5, 1e5], [-1e5, -1e5]], np.float32)
    w, c = (backend.to_host(p.data) for p in gan.d.parameters())
    score = gan.score(x)
    assert score.shape == (3,) and gan.d.training
    np.testing.assert_allclose(score[0], sigma(x[0] @ w + c)[0], rtol=1e-5)
    assert {0.0, 1.0} >= {*score[1:].tolist()}


def test_what_a_checkpoint_holds():
    assert small().parts().keys() == {"generator", "discriminator", "opt_g", "opt_d", "average"}
    assert small(average=False).parts().keys() == {"generator", "discriminator", "opt_g", "opt_d"}


def test_an_unknown_loss_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="loss: expected one of minimax, non-saturating, .* got 'gan'"):
        small(loss="gan")


def test_a_loss_of_ones_own():
    """Relativistic, from two logits at once, needs no other loop: a pair of functions is enough."""
    def far(d_real, d_fake):
        return (d_fake.mean() - d_real.mean() + 1) ** 2

    gan = small(loss=losses.Loss(far, lambda d_fake: -d_fake.mean()))
    gan.step(real())
    assert gan.steps == 1


def test_gradient_descent_on_a_network_that_is_given_another_order_of_layers_does_not_matter():
    """Parameters and gradients pair up by order of definition, also in a network nested within another."""
    inner = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    gan = GAN(nn.Sequential(inner, nn.Linear(3, 2)), nn.Sequential(nn.Sequential(nn.Linear(2, 1))), 2)
    gan.step(real())
    assert gan.g[0][0].weight is gan.opt_g.params[0]


# ---- does it learn? ---------------------------------------------------------------------------------------

def test_500_steps_on_the_ring_find_most_of_it():
    """Small networks, half-way through: most samples lie near the circle, and at least five of eight modes are covered.

    An untrained generator puts 3 % of its samples near the circle. Five other seeds reached 94 % and 8 modes.
    """
    mixture = data.ring()
    x = mixture.sample(20_000, np.random.default_rng(0))
    g, average = (models.mlp_generator(8, hidden=(64, 64)) for _ in range(2))
    gan = GAN(g, models.mlp_discriminator(hidden=(64, 64)), 8, lr=2e-3, average=average, decay=0.98)
    z = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    near = [(np.abs(np.hypot(*gan.sample(z).T) - 2) < 0.4).mean()]
    fit(gan, x, 500, 128)
    samples = gan.sample(z)
    near.append((np.abs(np.hypot(*samples.T) - 2) < 0.4).mean())
    assert near[0] < 0.3 and near[1] > 0.8
    assert metrics.mode_coverage(samples, mixture).modes >= 5
    assert 0.2 < gan.score(x[:500]).mean() < 0.8, "the players are in balance"


def test_train_module_documents_its_step():
    assert "θ_D" in train.__doc__ and "θ_G" in train.__doc__
