"""Whole settings: every recipe trains, the defaults are what they were, and what cannot work is refused."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tinygan import data, metrics, models, nn, recipes
from tinygan.aids import SpectralNorm
from tinygan.conditions import CONDITIONS
from tinygan.optim import Adam, RMSProp
from tinygan.randomness import seed
from tinygan.recipes import DEFAULTS, HIDDEN, RECIPES, build, field, for_projection
from tinygan.train import GAN, fit, row, wgan_gp
from tinygan.views import Noise

KINDS = [("mlp", (2,)), ("mlp", (8, 8, 1)), ("conv", (8, 8, 3))]


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def config(model="mlp", recipe=None, **options):
    return SimpleNamespace(**{"model": model, "recipe": recipe, "loss": "non-saturating", "width": 4, "latent": 3, "lr": 1e-3,
                              "device": "cpu", "batch_size": 8, **options})


def some(*shape):
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("model, shape", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_every_kind_of_network(name, model, shape):
    gan, log = build(config(model, name), shape), []
    before = [p.data.copy() for p in gan.parameters()]
    fit(gan, some(40, *shape), 6, 8, lambda gan, results: log.append(row(gan, results)))
    assert all(math.isfinite(v) for r in log for v in r.values())
    moved = [not np.array_equal(a, p.data) for a, p in zip(before, gan.parameters(), strict=True) if "bias" not in p.name]
    assert all(moved)
    assert gan.sample(gan.latents(5)).shape == (5, *shape) and field(gan)(some(5, *shape)).shape == (5,)


@pytest.mark.parametrize("model, shape", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_puts_batchnorm_under_a_gradient_penalty(name, model, shape):
    gan = build(config(model, name), shape)
    kinds = {type(m) for m in gan.d.modules()}
    assert nn.BatchNorm not in kinds or gan.penalty is None and model == "conv"
    assert (SpectralNorm in kinds) == (name == "spectral")


def test_an_old_loss_name_is_the_recipe_of_that_name():
    for loss in ("minimax", "non-saturating", "least-squares", "wasserstein", "hinge", "relativistic"):
        seed(0)
        old = build(config(loss=loss), (2,))
        seed(0)
        new = build(config(recipe=loss), (2,))
        assert old.loss is new.loss is not None and old.d_steps == new.d_steps
        assert (old.penalty is None) == (new.penalty is None) == (loss != "wasserstein")


@pytest.mark.parametrize("model, shape, strength", [("mlp", (2,), 0.1), ("mlp", (8, 8, 1), 10.0), ("conv", (8, 8, 1), 10.0)])
@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein"])
def test_the_two_defaults_are_those_written_out_to_the_last_bit(loss, model, shape, strength):
    """The discriminator's weights are drawn first, then the generator's, then the average's."""
    critic, w = loss == "wasserstein", 4
    seed(2)
    if model == "conv":
        d = models.conv_discriminator(8, 1, w, norm=not critic, hidden=HIDDEN)
        g, average = (models.conv_generator(3, 8, 1, w, hidden=(HIDDEN, HIDDEN)) for _ in range(2))
    else:
        hidden = (w, w) if shape == (2,) else (w, 2 * w, 4 * w)
        d = models.mlp_discriminator(shape, hidden[1::-1])
        g, average = (models.mlp_generator(3, shape, hidden) for _ in range(2))
    more = dict(penalty=wgan_gp(strength), d_steps=2, betas=(0.0, 0.9)) if critic else dict(betas=(0.5, 0.999))
    fast = model == "conv" and not critic
    expected = GAN(g, d, 3, loss=loss, lr=(1e-3, 3e-3) if fast else 1e-3, average=average, decay=0.998,
                   schedule=recipes.warm_up if fast else None, view=Noise(0.3, until=4000) if fast else None, **more)
    seed(2)
    found = build(config(model, loss=loss), shape)
    assert type(found.opt_d) is Adam
    for gan in (expected, found):
        fit(gan, some(40, *shape), 4, 8)
    for part, values in expected.state_dict().items():
        for name, value in values.items():
            np.testing.assert_array_equal(value, found.state_dict()[part][name])


def test_what_is_drawn_behind_points_is_a_probability_only_where_there_is_one():
    for name in RECIPES:
        gan = build(config(recipe=name), (2,))
        assert field(gan) == (gan.score if gan.loss.probability else gan.logits)
        results = [np.float32(1), np.float32(1), np.full((2, 1), 3.0, np.float32), np.full((2, 1), -2.0, np.float32)]
        logged = row(gan, results)
        assert logged["d_real"] == pytest.approx(1 / (1 + math.exp(-3)) if gan.loss.probability else 3.0)
        assert logged["d_fake"] == pytest.approx(1 / (1 + math.exp(2)) if gan.loss.probability else -2.0)
    assert field(build(config(), (2,))) and not build(config(loss="wasserstein"), (2,)).loss.probability


def test_packing_widens_what_the_discriminator_sees():
    points, pictures = build(config(recipe="packed"), (2,)), build(config("conv", "packed"), (8, 8, 3))
    assert points.d[0].weight.shape[0] == 4 and pictures.d[0].weight.shape[2] == 6


def test_clipping_is_done_by_rmsprop_with_the_given_rate():
    gan = build(config(recipe="wgan-clip", lr=0.07), (2,))
    assert type(gan.opt_d) is type(gan.opt_g) is RMSProp and gan.opt_d.lr == 0.07
    gan.step(some(8, 2))
    assert max(abs(p.data).max() for p in gan.d.parameters()) <= np.float32(0.2)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("model, shape", KINDS)
def test_recipes_with_classes(model, shape, condition):
    gan = build(config(model, classes=3, condition=condition), shape)
    told = gan.loss, gan.average.module
    if condition == "auxiliary":
        gan.terms_d = (lambda gan, r: (gan.d.classify(r.real) ** 2).mean(),)
    fit(gan, some(40, *shape), 2, 8, given=(np.arange(40) % 3,))
    assert gan.sample(gan.latents(4), [0, 1, 2, 0]).shape == (4, *shape) and told


@pytest.mark.parametrize("options, shape, message", [
    (dict(recipe="gan"), (2,), "recipe: expected one of minimax, non-saturating, .* got 'gan'"),
    (dict(recipe="packed", classes=3), (2,), "packed: packed samples have several labels, but D takes one"),
    (dict(model="conv"), (2,), r"model conv needs square images \(H, H, C\), got samples \(2,\)"),
    (dict(model="conv"), (8, 16, 1), r"model conv needs square images"),
    (dict(classes=3, condition="wish"), (2,), "condition: expected one of concatenate, .* got 'wish'"),
    (dict(latent=0), (2,), "latent|integer >= 1"), (dict(width=0), (2,), "integer >= 1"), (dict(lr=0), (2,), "lr")])
def test_combinations_that_cannot_work_are_refused_with_the_reason(options, shape, message):
    with pytest.raises(ValueError, match=message):
        build(config(**options), shape)


def test_the_rows_of_a_projection_are_normalised_and_a_label_s_picture_is_not():
    """A picture per label that is drawn from N(0, 1) would be divided by about 30, and is hardly seen then."""
    for condition, wrapped in (("projection", True), ("embedding", False)):
        gan = build(config("conv", "spectral", classes=3, condition=condition), (8, 8, 3))
        assert (type(gan.d.table) is SpectralNorm) == wrapped


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_with_a_projection_has_no_batchnorm_in_d_or_is_refused(name):
    """Left to itself the non-saturating loss becomes r1; asked for by name, what has BatchNorm is refused."""
    c = config("conv", name, classes=3, condition="projection")
    if RECIPES[name].get("norm", True):
        with pytest.raises(ValueError, match=f"not with {name}, whose D has BatchNorm"):
            for_projection(c)
        c = config("conv", classes=3, condition="projection")
    for_projection(c)
    assert nn.BatchNorm not in {type(m) for m in build(c, (8, 8, 3)).d.modules()}
    assert c.recipe == ("r1" if RECIPES[name].get("norm", True) else name)


def test_gs_rate_rises_to_three_times_ds_where_both_have_batchnorm():
    """From the first step on, three times as much let a seed of 20 collapse."""
    gan = build(config("conv"), (8, 8, 3))
    first = gan.opt_d.lr
    for step, factor in ((0, 1), (recipes.WARM // 2, 2), (recipes.WARM, 3), (10 * recipes.WARM, 3)):
        gan.steps = step
        gan._set_rates()
        assert (gan.opt_d.lr, gan.opt_g.lr) == pytest.approx((first, factor * first))
    assert not build(config("conv", "wgan-gp"), (8, 8, 3)).schedule and not build(config("mlp"), (2,)).schedule


def test_the_defaults_name_every_option_that_a_run_needs():
    assert DEFAULTS.keys() == {"conv", "mlp", "points"}
    assert all(d.keys() == {"steps", "batch_size", "lr", "width", "latent"} for d in DEFAULTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns_the_ring(name):
    """1500 steps of the command's defaults for points."""
    mixture = data.ring()
    seed(0)
    options = {k: DEFAULTS["points"][k] for k in ("width", "latent", "lr", "batch_size")}
    gan = build(config(recipe=name, **options), (2,))
    fit(gan, mixture.sample(20_000, np.random.default_rng(0)), 1500, options["batch_size"])
    found = metrics.mode_coverage(gan.sample(gan.latents(4000)), mixture)
    print(name, found)
    assert found.modes >= 4


def test_recipes_are_a_table_of_options_of_gan():
    """Every key of a recipe is an argument of GAN, or one of the three that shape the networks."""
    import inspect
    known = {*inspect.signature(GAN.__init__).parameters, "norm", "pack", "spectral"}
    assert all(set(r) <= known for r in recipes.RECIPES.values())
