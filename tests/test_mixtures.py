"""Mixtures: centres and shares are checked against closed forms."""

import numpy as np
import pytest

from tinygan import data, mixtures


def test_ring_has_as_many_distinct_modes_as_it_says():
    centers = mixtures.ring(modes=8, radius=2.0).centers
    assert len(np.unique(centers.round(6), axis=0)) == 8
    np.testing.assert_allclose(np.hypot(*centers.T), 2.0)
    neighbours = np.linalg.norm(centers - np.roll(centers, 1, axis=0), axis=1)
    np.testing.assert_allclose(neighbours, 2 * 2.0 * np.sin(np.pi / 8))  # chord of 45 degrees, eight times


def test_grid_is_the_published_one():
    centers = mixtures.grid(side=5, spacing=2.0).centers
    assert {tuple(c) for c in centers} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}


@pytest.mark.parametrize("mixture", [mixtures.ring(), mixtures.grid()])
def test_samples_follow_the_mixture(mixture):
    x = mixture.sample(50_000, np.random.default_rng(0))
    assert x.shape == (50_000, 2) and x.dtype == np.float32
    offsets = x[:, None] - mixture.centers  # (N, K, 2)
    nearest = np.hypot(*offsets.transpose(2, 0, 1)).argmin(axis=1)  # (N,)
    share = np.bincount(nearest, minlength=len(mixture.centers)) / len(x)
    np.testing.assert_allclose(share, 1 / len(mixture.centers), atol=0.006)
    offset = offsets[np.arange(len(x)), nearest]  # (N, 2)
    np.testing.assert_allclose(offset.std(axis=0), mixture.std, rtol=0.02)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=0.02 * mixture.std)
    within = (np.hypot(*offset.T) < 3 * mixture.std).mean()
    assert abs(within - (1 - np.exp(-4.5))) < 0.002  # in 2-D, not the 99.7 % of one dimension


def test_swissroll_lies_on_its_spiral():
    x = mixtures.swissroll(2000, np.random.default_rng(0), noise=0.0)
    radius, angle = np.hypot(*x.T) * 7.5, np.arctan2(x[:, 1], x[:, 0])
    turns = (radius - angle) / (2 * np.pi)  # radius = angle + 2π k
    np.testing.assert_allclose(turns, turns.round(), atol=1e-4)
    assert 1.8 < np.abs(x).max() < 2 and x.dtype == np.float32


def test_the_same_seed_gives_the_same_points_and_another_seed_others():
    for spec in ("ring", "grid", "swissroll"):
        a, b, c = (data.load(spec, n=100, seed=seed).x for seed in (1, 1, 2))
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()


@pytest.mark.parametrize("make", [
    lambda: mixtures.ring(modes=0), lambda: mixtures.grid(side=0), lambda: mixtures.grid(std=-1.0),
    lambda: mixtures.ring(std=float("nan")),
])
def test_impossible_mixtures_are_refused(make):
    with pytest.raises(ValueError, match="Mixture"):
        make()
