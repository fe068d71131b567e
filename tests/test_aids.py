"""What papers have added: each against its formula, and what it does to a small game."""

import math

import numpy as np
import pytest

from tinygan import Tensor, backend, grad, gradcheck, models, nn, ops
from tinygan.aids import (
    MinibatchStd,
    SpectralNorm,
    auxiliary,
    call,
    clip_weights,
    coded,
    feature_matching,
    information,
    unrolled,
)
from tinygan.losses import LOSSES, Loss, cross_entropy
from tinygan.ops import concatenate
from tinygan.optim import SGD, Adam
from tinygan.randomness import Randomness, rng, seed
from tinygan.train import GAN, Round, fit


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- spectral normalisation ---------------------------------------------------------------------------------

LAYERS = {"linear": (lambda: nn.Linear(5, 7), (5,)), "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1), (6, 6, 3)),
          "transposed": (lambda: nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), (6, 6, 3))}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_weight_is_divided_by_its_largest_singular_value(kind, device):
    """Of the weight as a matrix (all else, output channels), by NumPy's own decomposition."""
    make, shape = LAYERS[kind]
    layer = make()
    net = SpectralNorm(layer).to(device)
    x = backend.to_device(some(4, *shape), device)
    for _ in range(300):
        out = net(x)
    w = backend.to_host(layer.weight.data).astype(np.float64)
    matrix = np.moveaxis(w, 2 if kind == "transposed" else -1, -1).reshape(-1, 7 if kind == "linear" else 4)
    sigma = np.linalg.svd(matrix, compute_uv=False)[0]
    layer.weight.data = layer.weight.data / np.float32(sigma)
    np.testing.assert_allclose(backend.to_host(out.data), backend.to_host(layer(x).data), rtol=1e-3, atol=1e-5)
    assert out.dtype == np.float32


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_normalisation_passes_the_gradient_check_where_u_stays(kind):
    make, shape = LAYERS[kind]
    net = SpectralNorm(make())
    net(some(2, *shape))
    gradcheck.check(net.eval(), some(2, *shape).astype(np.float64), wrt=net.parameters())


def test_its_derivative_is_that_of_w_over_sigma():
    """∂/∂W of Σ G · W/σ is G/σ − (Σ G · W) v uᵀ / σ² (Miyato et al. 2018, eq. 12), by the singular vectors."""
    layer = nn.Linear(4, 3, bias=False)
    net, x, g = SpectralNorm(layer), np.eye(4, dtype=np.float32), some(4, 3)
    for _ in range(200):
        net(x)
    slope = grad((net.eval()(x) * g).sum(), layer.weight)
    left, values, right = np.linalg.svd(layer.weight.data.astype(np.float64))
    share = (g * layer.weight.data).sum() / values[0] ** 2
    np.testing.assert_allclose(slope, g / values[0] - share * np.outer(left[:, 0], right[0]), rtol=1e-3, atol=1e-4)


def test_a_network_of_normalised_layers_is_never_steeper_than_one():
    """After steps that multiply its weights by hundreds: |D(x) − D(y)| ≤ ‖x − y‖ for LeakyReLU between them."""
    d = SpectralNorm.everywhere(models.mlp_discriminator((3,), (8, 8)))
    assert [type(m) for m in d] == [SpectralNorm, nn.LeakyReLU, SpectralNorm, nn.LeakyReLU, SpectralNorm]
    x, y = some(500, 3), some(500, 3, seed=1)
    for p in d.parameters():
        p.data = p.data * 300
    for _ in range(100):
        d(x)
    rise = np.abs(d.eval()(x).data - d(y).data)[:, 0] / np.linalg.norm(x - y, axis=1)
    assert rise.max() <= 1.001


def test_a_projection_of_normalised_layers_is_steeper_than_two_at_no_label():
    """Head and row have the norm 1 at most, so |D(x, y) − D(x', y)| ≤ 2 ‖x − x'‖, although the rows were multiplied by 300."""
    d = SpectralNorm.everywhere(models.mlp_discriminator((3,), (8, 8), classes=4, condition="projection"))
    d.table = SpectralNorm(d.table)
    x, near, y = some(500, 3), some(500, 3, seed=1), np.arange(500) % 4
    for p in d.parameters():
        p.data = p.data * 300
    for _ in range(100):
        d(x, y)
    rise = np.abs(d.eval()(x, y).data - d(near, y).data)[:, 0] / np.linalg.norm(x - near, axis=1)
    assert rise.max() <= 2.002


def test_in_evaluation_mode_nothing_moves_and_the_state_is_saved():
    net = SpectralNorm(nn.Linear(3, 2))
    net(some(4, 3))
    assert net.state_dict().keys() == {"layer.weight", "layer.bias", "u", "v"}
    u = net.u
    net.eval()(some(4, 3))
    assert net.u is u
    net.train()(some(4, 3))
    assert net.u is not u and np.linalg.norm(net.u) == pytest.approx(1, rel=1e-5)


def test_what_has_no_weight_matrix_is_refused_and_nothing_is_wrapped_twice():
    with pytest.raises(TypeError, match="SpectralNorm: expected a Linear, Conv2d, ConvTranspose2d or Embedding, got LayerNorm"):
        SpectralNorm(nn.LayerNorm(3))
    net = SpectralNorm.everywhere(SpectralNorm.everywhere(models.conv_discriminator(8, 1, 2, norm=False)))
    assert not any(isinstance(m.layer, SpectralNorm) for m in net.modules() if isinstance(m, SpectralNorm))


# ---- minibatch standard deviation ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3), (6, 4, 4, 2)])
def test_the_new_channel_is_the_mean_deviation_over_the_batch(shape, device):
    x = some(*shape)
    found = backend.to_host(MinibatchStd()(Tensor(backend.to_device(x, device))).data)
    np.testing.assert_array_equal(found[..., :-1], x)
    np.testing.assert_allclose(found[..., -1], x.astype(np.float64).std(axis=0).mean(), rtol=1e-5)
    gradcheck.check(MinibatchStd(), x.astype(np.float64))


@pytest.mark.parametrize("value", range(3))
def test_a_discriminator_that_sees_the_deviation_finds_out_a_repeating_generator(value):
    """G hops from −1 to +1 and back, all samples of a batch the same: as single samples no worse than the real ones.

    Seeds 0 to 2: L_D falls to 0.0045, 0.0026 and 0.0018; without the layer it stays at 1.387 to 1.391 (2 log 2 = 1.386).
    """
    class Hopping(nn.Module):
        def __init__(self):
            self.theta = nn.Parameter(np.zeros((1, 1), np.float32))

        def forward(self, z):
            return self.theta + (np.sign(z[:1]) + 0 * z)

    found = []
    for extra in ([], [MinibatchStd()]):
        seed(value)
        d = nn.Sequential(*extra, nn.Linear(1 + len(extra), 8), nn.LeakyReLU(), nn.Linear(8, 1))
        gan = GAN(Hopping(), d, 1, optimizer=(lambda p: Adam(p, 0.02), lambda p: SGD(p, 1e-9)))
        losses = [float(gan.step(np.sign(rng("data").standard_normal((32, 1))).astype(np.float32))[0]) for _ in range(300)]
        found.append(np.mean(losses[200:]))
    assert found[0] > 1.3 and found[1] < 0.05


# ---- terms --------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """A generator that draws its parameter, for every z."""

    def __init__(self, *value):
        self.theta = nn.Parameter(np.float32(value))

    def forward(self, z, *given):
        return self.theta + z[:, :1] * 0.0


SILENT = Loss(LOSSES["non-saturating"].discriminator, lambda f: 0.0 * f.mean())     # G learns from its terms alone


def test_feature_matching_brings_the_means_of_the_features_together():
    """With the samples as features and G a constant θ each step is θ ← θ − 2 η λ (θ − μ), whatever D thinks."""
    gan = GAN(Constant(3.0, -1.0), models.mlp_discriminator((2,), ()), 1, loss=SILENT,
              terms_g=(feature_matching(0.5),), optimizer=lambda p: SGD(p, 0.2))
    x = some(8, 2)
    theta, mean = np.array([3.0, -1.0]), x.mean(axis=0)
    for _ in range(10):
        gan.step(x)
        theta = theta - 2 * 0.2 * 0.5 * (theta - mean)
    np.testing.assert_allclose(gan.g.theta.data, theta, rtol=1e-4)


def test_features_are_those_below_the_head():
    d = models.mlp_discriminator((2,), (5,))
    x, fake = some(8, 2), Tensor(some(8, 2, seed=1))
    h = [np.maximum(a, 0.2 * a) for a in (y @ d[0].weight.data + d[0].bias.data for y in (x, fake.data))]
    found = feature_matching()(GAN(models.mlp_generator(2), d, 2), Round(None, (), x, fake))
    assert found.item() == pytest.approx(((h[0].mean(axis=0) - h[1].mean(axis=0)) ** 2).sum(), rel=1e-4)


def test_a_term_of_ones_own_draws_each_sample_to_its_partner():
    """Paired data (Isola et al. 2017): the wanted output stands beside what G is told. G is one number; the best is the factor 2."""
    class Scale(nn.Module):
        def __init__(self):
            self.theta = nn.Parameter(np.float32([0.5]))

        def forward(self, z, y):
            return self.theta * y

    class Pair(nn.Module):
        def __init__(self):
            self.net = nn.Linear(2, 1)

        def forward(self, x, y):
            return self.net(concatenate(x, y, axis=1))

    source = some(64, 1)
    gan = GAN(Scale(), Pair(), 1, loss=SILENT, optimizer=lambda p: SGD(p, 0.01),
              terms_g=lambda gan, r: 10.0 * ops.abs(r.fake - r.real).mean())
    fit(gan, 2 * source, 60, 32, given=(source,))
    assert gan.g.theta.item() == pytest.approx(2, abs=0.1)


def triangle(n, value=0):
    """Three classes, each about a corner of a triangle: points (n, 2), labels (n,)."""
    draw = np.random.default_rng(value)
    labels = draw.integers(3, size=n)
    corners = np.stack([np.cos(2 * np.pi * np.arange(3) / 3), np.sin(2 * np.pi * np.arange(3) / 3)], axis=1)
    return (2 * corners[labels] + 0.1 * draw.standard_normal((n, 2))).astype(np.float32), labels


def test_an_auxiliary_classifier_is_asked_about_real_and_fake_samples_in_the_right_turns():
    seen = []
    gan = GAN(models.mlp_generator(2, classes=3), models.mlp_discriminator(classes=3, condition="auxiliary"), 2,
              terms_d=(auxiliary("real"), auxiliary("fake", 0.5)), terms_g=(auxiliary("fake"),))
    classify = gan.d.classify
    gan.d.classify = lambda x: (seen.append(x), classify(x))[1]
    x, y = triangle(6)
    gan.step(x, y)
    assert seen[0] is x and not isinstance(seen[1], Tensor) and isinstance(seen[2], Tensor) and len(seen) == 3
    r = Round(None, (y,), x, x)
    assert auxiliary("real", 3.0)(gan, r).item() == pytest.approx(3 * cross_entropy(classify(x), y).item())
    with pytest.raises(ValueError, match="auxiliary: where must be 'real' or 'fake', got 'both'"):
        auxiliary("both")


def test_latents_with_a_code_are_noise_and_one_hot(device):
    gan = GAN(models.mlp_generator(7).to(device), models.mlp_discriminator().to(device), coded(4, 3))
    z = gan.latents(3000)
    assert backend.device_of(z) == device
    z = backend.to_host(z)
    assert z.shape == (3000, 7) and z.dtype == np.float32
    assert abs(z[:, :4].std() - 1) < 0.05 and {*z[:, 4:].ravel().tolist()} == {0.0, 1.0}
    assert (z[:, 4:].sum(axis=1) == 1).all() and np.abs(z[:, 4:].mean(axis=0) - 1 / 3).max() < 0.04


@pytest.mark.parametrize("value", range(3))
def test_infogan_makes_the_code_readable_from_the_samples(value):
    """Q reads which of the three codes a sample was made with. Seeds 0 to 2: 100 %; chance is 33 %."""
    seed(value)
    q = nn.Linear(32, 3)
    gan = GAN(models.mlp_generator(5, hidden=(32,)), models.mlp_discriminator(hidden=(32,)), coded(2, 3), lr=3e-3,
              extra_g={"q": q}, terms_g=(information(3),))
    before = q.weight.data.copy()
    fit(gan, triangle(500)[0], 300, 64)
    assert not np.array_equal(before, q.weight.data) and any(p is q.weight for p in gan.opt_g.params)
    z = gan.latents(300, random=Randomness(9))
    read = q(gan.d.features(gan.sample(z))).data.argmax(axis=1)
    assert (read == z[:, -3:].argmax(axis=1)).mean() > 0.9


# ---- hooks --------------------------------------------------------------------------------------------------


def test_clipped_weights_stay_in_their_box_and_the_critic_is_gentle(device):
    """After every step, while without clipping they leave it; a linear critic is then no steeper than c √features."""
    for hook in (clip_weights(0.05), None):
        seed(0)
        gan = GAN(models.mlp_generator(2).to(device), models.mlp_discriminator(hidden=()).to(device), 2, lr=0.1,
                  loss="wasserstein", after_d=hook)
        for k in range(5):
            gan.step(backend.to_device(some(8, 2, seed=k), device))
            largest = max(float(abs(p.data).max()) for p in gan.d.parameters())
            assert largest <= np.float32(0.05) or hook is None
        slope = grad(gan.d(t := Tensor(backend.to_device(some(3, 2), device))).sum(), t)
        assert (np.linalg.norm(backend.to_host(slope), axis=1).max() <= 0.05 * math.sqrt(2) + 1e-6) == (hook is not None)


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_limit_is_positive(limit):
    with pytest.raises(ValueError, match="clip_weights: limit: expected a number > 0"):
        clip_weights(limit)


def dirac(theta, psi, **options):
    """The smallest game: data at 0, G draws θ, D(x) = ψ x (Mescheder et al. 2018)."""
    d = nn.Linear(1, 1, bias=False)
    d.weight.data = np.float64([[psi]])
    g = Constant(theta)
    g.theta.data = g.theta.data.astype(np.float64)
    return GAN(g, d, 1, **options)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_unrolling_adds_the_answer_of_the_discriminator_to_gs_gradient(k):
    """Wasserstein: ψₖ = ψ − k lr θ, so that L_G = −ψₖ θ has the derivative −ψ + 2 k lr θ, and D stays where it is."""
    theta, psi, lr = 0.7, 0.3, 0.05
    gan = dirac(theta, psi, loss="wasserstein", judge=unrolled(k, lr), optimizer=lambda p: SGD(p, 1.0), simultaneous=True)
    gan.step(np.zeros((4, 1)))
    assert gan.g.theta.item() == pytest.approx(theta - (-psi + 2 * k * lr * theta), rel=1e-6)
    assert gan.d.weight.item() == pytest.approx(psi - theta, rel=1e-6), "its own step, once"


def test_unrolling_turns_the_spiral_inwards():
    """One unrolled step damps G: Wasserstein's simultaneous spiral runs outwards by √(1 + η²) per step, this one inwards."""
    eta, lr, radius = 0.1, 1.0, {}
    for k in (0, 1):
        gan = dirac(1.0, 0.0, loss="wasserstein", judge=unrolled(k, lr), optimizer=lambda p: SGD(p, eta), simultaneous=True)
        for _ in range(100):
            gan.step(np.zeros((2, 1)))
        radius[k] = math.hypot(gan.g.theta.item(), gan.d.weight.item())
    assert radius[0] == pytest.approx((1 + eta ** 2) ** 50, rel=1e-4)
    matrix = np.array([[1 - 2 * eta * lr, eta], [-eta, 1]])             # (θ, ψ) ↦ the next (θ, ψ)
    assert radius[1] == pytest.approx(np.linalg.norm(np.linalg.matrix_power(matrix, 100)[:, 0]), rel=1e-3) and radius[1] < 0.1


def logistic_game(k, learns=slice(None)):
    """A game that has played three steps, its discriminator with hidden units, and a batch."""
    seed(0)
    minimax = LOSSES["minimax"]
    loss = minimax._replace(generator=lambda f, r: -minimax.discriminator(r, f), paired=True)
    d = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    gan = GAN(nn.Linear(3, 2), d, 3, loss=loss, judge=unrolled(k), extra_d={"more": nn.Linear(1, 1)},
              terms_d=(lambda gan, r: sum((p ** 2).sum() for p in gan.extras["more"].parameters()),))
    for p in gan.parameters():
        p.data = p.data.astype(np.float64)
    gan.opt_d, gan.opt_g = Adam(gan.opt_d.params[learns], 0.03, (0.5, 0.999)), Adam(gan.opt_g.params, 0.01)
    real = some(6, 2).astype(np.float64)
    for _ in range(3):
        gan.step(real)
    return gan, real, some(6, 3, seed=1).astype(np.float64)


@pytest.mark.parametrize("k, learns", [(0, slice(None)), (1, slice(None)), (4, slice(None)), (2, slice(2, None))])
def test_unrolling_ds_own_adam_ends_where_that_adam_would(k, learns):
    """G meets the D of k steps of the optimiser itself on the same batch, also if that has but some weights; D stays."""
    gan, real, z = logistic_game(k, learns)
    fake, before = gan.g(z), [p.data.copy() for p in gan.d.parameters()]
    told = gan.judge(gan, Round(z, (), real, fake))(real).data
    for p, old in zip(gan.d.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)
    for _ in range(k):
        loss = gan.loss.discriminator(gan.d(real), gan.d(fake.data)) + gan.terms_d[0](gan, None)
        gan.opt_d.step(grad(loss, gan.opt_d.params))
    np.testing.assert_allclose(told, gan.d(real).data, rtol=1e-6)
    assert k == 0 or not np.allclose(told, call(gan.d, dict(zip(gan.d.named_parameters(), map(Tensor, before), strict=True)),
                                                real).data, rtol=1e-2), "D has moved visibly"


def test_gs_gradient_flows_through_every_unrolled_move_of_adam():
    """Central differences of −L_D(θ₃) in G's weights, both of its terms."""
    gan, real, z = logistic_game(3)
    w = gan.g.weight

    def loss():
        return gan._loss_g(Round(z, (), real, gan.g(z)))
    slope, eps = grad(loss(), w).data, 1e-5
    for place in np.ndindex(w.shape):
        ends = []
        for sign in (1, -1):
            w.data[place] += sign * eps
            w.touch()
            ends.append(loss().item())
            w.data[place] -= sign * eps
            w.touch()
        assert slope[place] == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-5, abs=1e-9)


def test_weights_without_a_slope_are_unrolled_as_well():
    """A dead ReLU has m = v = 0 under Adam: the root's slope must not be infinite there."""
    gan = GAN(nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), 3, judge=unrolled(2))
    gan.d.parameters()[1].data[...] = -100.0
    gan.step(some(4, 2))
    assert all(np.isfinite(p.data).all() for p in gan.parameters())


def test_adam_is_what_can_be_unrolled_without_a_rate():
    gan = dirac(1.0, 0.5, judge=unrolled(1), optimizer=lambda p: SGD(p, 0.1))
    with pytest.raises(TypeError, match="unrolled: D's optimiser is no Adam but SGD; give a lr"):
        gan.step(np.zeros((2, 1)))


@pytest.mark.parametrize("options", [(-1, 0.1), (1.5, 0.1), (2, 0), (2, math.nan)])
def test_unrolling_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="unrolled: (steps must be an integer >= 0|lr: expected a number > 0)"):
        unrolled(*options)


# ---- other parameters than a network's own ------------------------------------------------------------------


class Twice(nn.Module):
    """One layer in two places, and one in a list."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.second, self.rest = self.first, [nn.Linear(3, 2)]

    def forward(self, x):
        return self.rest[0](self.second(self.first(x)))


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), Twice,
                                  lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 2)), nn.LayerNorm(2))])
def test_a_network_with_another_ones_parameters_is_that_other_network(make, device):
    net, other = make().to(device), make().to(device)
    x, before = backend.to_device(some(5, 3), device), net.state_dict()
    own = net.named_parameters()
    found = call(net, other.named_parameters(), x)
    np.testing.assert_array_equal(backend.to_host(found.data), backend.to_host(other(x).data))
    assert all(net.named_parameters()[k] is p for k, p in own.items()), "the very same parameters are back"
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_what_is_not_mentioned_is_used_as_it_is():
    net, x = nn.Linear(3, 2), some(4, 3)
    found = call(net, {"bias": Tensor(np.zeros(2, np.float32))}, x)
    np.testing.assert_allclose(found.data, x @ net.weight.data, rtol=1e-6)


def test_gradients_flow_through_an_update_that_is_on_the_tape():
    """L(w − lr ∂ℓ/∂w) by w, against the derivative by finite differences in float64."""
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = net.weight.data.astype(np.float64)
    x, y = some(6, 2).astype(np.float64), some(6, 1, seed=1).astype(np.float64)

    def loss(w):
        inner = ((call(net, {"weight": w}, x) - y) ** 2).mean()
        g = grad(inner, w, create_graph=True)
        return (call(net, {"weight": w - 0.3 * g}, x) ** 4).sum()

    w, step = some(2, 1, seed=2).astype(np.float64), 1e-5
    expected = [(loss(Tensor(w + e)).item() - loss(Tensor(w - e)).item()) / (2 * step)
                for e in step * np.eye(2)[:, :, None]]
    t = Tensor(w)
    np.testing.assert_allclose(grad(loss(t), t)[:, 0], expected, rtol=1e-7)


def test_an_error_inside_leaves_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    own = net.parameters()
    with pytest.raises(ValueError):
        call(net, {"0.weight": Tensor(np.zeros((3, 2), np.float32))}, some(4, 7))
    assert all(p is q for p, q in zip(net.parameters(), own, strict=True))


@pytest.mark.parametrize("parameters", [{"0.wait": np.zeros((3, 2))}, {"0.weight": np.zeros((2, 3))}])
def test_a_name_or_shape_that_the_network_does_not_have_is_refused(parameters):
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"call: the module has no parameter 0\.w.* \{'0\.weight': \(3, 2\)"):
        call(net, {k: Tensor(v) for k, v in parameters.items()}, some(4, 3))


def test_parameters_in_lists_and_dicts_are_reached_and_those_in_a_tuple_refused():
    class Boxes(nn.Module):
        def __init__(self, box):
            self.box = box([nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(2, np.float32))])

        def forward(self, x):
            return x * self.box[0] + self.box[1]
    new = {"box.1": Tensor(np.full(2, 5, np.float32))}
    for box in (list, lambda ps: dict(enumerate(ps))):
        net = Boxes(box)
        np.testing.assert_array_equal(call(net, new, np.ones(2, np.float32)).data, [6, 6])
        np.testing.assert_array_equal(net(np.ones(2, np.float32)).data, [2, 2])
    with pytest.raises(ValueError, match="call: a parameter in a tuple cannot be replaced"):
        call(Boxes(tuple), new, np.ones(2, np.float32))
