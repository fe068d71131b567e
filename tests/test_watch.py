"""Games that go wrong: `fit` stops at what is not finite, and warns once of what has become meaningless."""

import math
import warnings

import numpy as np
import pytest

from tinygan import models, nn
from tinygan.losses import LOSSES, wgan_gp
from tinygan.optim import SGD, Adam
from tinygan.randomness import seed
from tinygan.train import GAN, Diverged, fit
from tinygan.views import Noise


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def some(n=64, d=2, value=5):
    return np.random.default_rng(value).standard_normal((n, d)).astype(np.float32)


def small(**options):
    return GAN(models.mlp_generator(3, hidden=(8,)), models.mlp_discriminator(hidden=(8,)), 3, **options)


def spoil(gan, role, at, value=math.nan):
    """on_step that sets one weight of a player after a step."""
    def on_step(gan, results):
        if gan.steps == at:
            gan.networks()[role].parameters()[2].data[0, 0] = value
    return on_step


def warned(gan, steps, x=None, **options):
    """The warnings of a training."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit(gan, some() if x is None else x, steps, 16, **options)
    return [str(w.message) for w in found]


# ---- NaN and infinity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_a_weight_that_is_not_finite_stops_the_training_with_its_name_and_the_step(role, value):
    """At the last step too, where the losses are still finite, and at a hundred on the way."""
    gan = small()
    with pytest.raises(Diverged, match=rf"{role}\.2\.weight holds NaN or infinity at step 7; try a smaller learning rate"):
        fit(gan, some(), 7, 16, spoil(gan, role, 7, value))
    gan = small()
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=r"at step 100; .*not finite: generator\.0\.weight"):
        fit(gan, some(), 250, 16, spoil(gan, role, 90, value))


def test_a_loss_that_is_not_finite_stops_the_training_without_any_on_step():
    bad = LOSSES["wasserstein"]._replace(generator=lambda f: f.mean() * math.nan)
    with pytest.raises(Diverged, match=r"the generator's loss is nan at step 1; try a smaller learning rate"):
        fit(small(loss=bad), some(), 1, 16)


def test_an_extra_network_is_looked_at_too():
    gan = small(extra_g={"q": nn.Linear(2, 2)}, terms_g=lambda gan, r: (gan.extras["q"](r.fake) ** 2).mean())

    def on_step(gan, results):
        gan.extras["q"].bias.data[1] = math.inf
    with pytest.raises(Diverged, match=r"q\.bias holds NaN or infinity at step 1"):
        fit(gan, some(), 1, 16, on_step)


def test_what_stops_early_is_looked_at_too():
    gan = small()

    def on_step(gan, results):
        gan.d.parameters()[0].data[0, 0] = math.nan
        return True
    with pytest.raises(Diverged, match=r"discriminator\.0\.weight"):
        fit(gan, some(), 500, 16, on_step)


# ---- sizes ----------------------------------------------------------------------------------------------------


def test_absurd_sizes_are_warned_of_once_with_advice():
    """A critic without a penalty on data of thousands: all numbers are finite, and mean nothing."""
    gan = small(loss="wasserstein", optimizer=lambda p: SGD(p, 1e-2))
    found = warned(gan, 3, 1e4 * some())
    assert len(found) == 1 and "has reached" in found[0] and "add a penalty on D's slope" in found[0]
    gan = small()
    gan.d.parameters()[2].data *= 3e6
    found = warned(gan, 1) + warned(gan, 2)
    assert len(found) == 1 and found[0].startswith("step 1: discriminator.2.weight has reached")


def test_games_in_order_are_not_warned_of():
    for options in ({}, dict(loss="wasserstein", penalty=wgan_gp(0.1)), dict(loss="hinge"), dict(loss="relativistic")):
        assert warned(small(lr=1e-3, **options), 700) == []


# ---- collapse -------------------------------------------------------------------------------------------------


class Stuck(nn.Module):
    """A generator that draws nearly the same for every z: a constant plus a thousandth of the rest."""

    def __init__(self, share):
        self.net, self.share = models.mlp_generator(3, hidden=(8,)), share

    def forward(self, z):
        x = self.net(z)
        return x.mean(axis=0, keepdims=True) + self.share * (x - x.mean(axis=0, keepdims=True))


def test_a_collapsed_generator_is_warned_of_once():
    d = models.mlp_discriminator(hidden=(8,))
    gan = GAN(Stuck(1e-3), d, 3)
    found = warned(gan, 400)
    assert found == [], "one look is not enough"
    found = warned(gan, 2500)
    assert len(found) == 1 and "G draws nearly the same sample for every z. Show D several samples at once" in found[0]


def test_a_generator_on_one_mode_of_many_is_warned_of_but_not_one_that_starts_narrow():
    """One mode of this ring has 7 % of the ring's spread, two neighbours have 38 %. It is as wrong to stay on one from the start,
    where D's loss need not be 0, as to fall there later."""
    angle = 2 * np.pi * np.arange(800) / 8
    x = (2 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1 * some(800)).astype(np.float32)

    class Gauss(nn.Module):
        def __init__(self, width):
            self.theta, self.width = nn.Parameter(np.zeros((1, 2), np.float32)), width

        def forward(self, z):
            return self.theta + self.width * z
    found = []
    for start, at, then in ((0.1, 0, 0.1), (1.4, 150, 0.1), (0.1, 1850, 1.4), (1.4, 150, 0.55)):
        gan = GAN(Gauss(start), models.mlp_discriminator(hidden=(8,)), 2,
                  optimizer=(lambda p: Adam(p, 1e-3), lambda p: SGD(p, 1e-9)))

        def change(gan, results, at=at, then=then):
            if gan.steps == at:
                gan.g.width = then
        found.append(warned(gan, 2100, x, on_step=change))
    stayed, fell, grew, two = found
    assert len(stayed) == 1 and stayed[0].startswith("step 2000: G draws nearly the same sample for every z")
    assert len(fell) == 1 and fell[0].startswith("step 600: G draws nearly the same sample for every z")
    assert grew == two == []


# ---- defeat ---------------------------------------------------------------------------------------------------


def test_a_discriminator_that_has_won_for_good_is_warned_of_once():
    """Data at 50, a generator that may not move: D's loss is 0 after a while."""
    gan = small(optimizer=(lambda p: Adam(p, 0.05), lambda p: SGD(p, 1e-30)))
    found = warned(gan, 900, 50 + some())
    assert len(found) == 1 and "D is sure of every sample and no longer learns" in found[0]
    assert "Lower D's learning rate, add a penalty (r1) or noise" in found[0]
    seed(0)
    gan = small(optimizer=(lambda p: Adam(p, 0.05), lambda p: SGD(p, 1e-30)), view=Noise(30.0))
    assert warned(gan, 900, 50 + some()) == [], "the advice helps"


# ---- what looking costs ---------------------------------------------------------------------------------------


def test_looking_changes_no_number(monkeypatch):
    """Not even BatchNorm's averages, dropout masks or the random generators."""
    states = []
    for every in (100, 1):
        monkeypatch.setattr("tinygan.train.EVERY", every)
        seed(0)
        d = nn.Sequential(*models.conv_discriminator(8, 1, 2, hidden=4), nn.Dropout(0.2))
        gan = GAN(models.conv_generator(3, 8, 1, 2, hidden=4), d, 3, average=models.conv_generator(3, 8, 1, 2, hidden=4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # at every step it seems long that G starts narrow
            fit(gan, np.tanh(some(40, 64)).reshape(-1, 8, 8, 1), 12, 8)
        states.append(gan.state_dict())
    for part in states[0]:
        for name, value in states[0][part].items():
            np.testing.assert_array_equal(value, states[1][part][name])


def test_a_look_is_taken_every_hundred_steps_and_at_the_end(monkeypatch):
    seen = []
    monkeypatch.setattr("tinygan.train.Watch.__call__", lambda self, gan, results: seen.append(gan.steps))
    fit(small(), some(), 250, 16)
    assert seen == [100, 200, 250]
