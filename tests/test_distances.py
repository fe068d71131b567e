"""Distances between sets of images: closed forms, limits, and naive loops written from the formulas."""

import math

import numpy as np
import pytest

from tinygan import distances
from tinygan.distances import (
    copies,
    density_coverage,
    frechet,
    inception_score,
    kernel_distance,
    ms_ssim,
    overfit,
    pairwise,
    precision_recall,
    within_class_spread,
)

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((23, 4)), 0.5 + 1.5 * RNG.standard_normal((31, 4))


def exactly(mean, cov, n):
    """n points whose sample mean and covariance are exactly these."""
    x = np.random.default_rng(1).standard_normal((n, len(mean)))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + x @ np.linalg.cholesky(cov).T


def test_frechet_of_gaussians_in_closed_form():
    """Diagonal covariances commute: |μ₁ − μ₂|² + Σ (σ₁ − σ₂)²."""
    s, t = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5])
    a = exactly(np.array([0.0, 1.0, 2.0]), np.diag(s ** 2), 50)
    b = exactly(np.array([1.0, 1.0, 0.0]), np.diag(t ** 2), 70)
    assert frechet(a, b) == pytest.approx(5 + ((s - t) ** 2).sum(), rel=1e-10)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-10)
    assert frechet(a, a) == pytest.approx(0, abs=1e-10)


def test_frechet_of_correlated_gaussians_by_newtons_square_root():
    """An independent root of C₁ C₂: X ← ½ (X + X⁻¹ C₁ C₂) converges to it."""
    c1, c2 = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    root = np.eye(4)
    for _ in range(50):
        root = 0.5 * (root + np.linalg.inv(root) @ c1 @ c2)
    np.testing.assert_allclose(root @ root, c1 @ c2)
    gap = A.mean(axis=0) - B.mean(axis=0)
    assert frechet(A, B) == pytest.approx(gap @ gap + np.trace(c1 + c2 - 2 * root), rel=1e-8)


def test_frechet_needs_no_full_rank():
    """Features that never fire have no variance; one feature is a 1×1 covariance."""
    dead = np.pad(A, ((0, 0), (0, 3)))
    assert frechet(dead, dead + 1.0) == pytest.approx(7.0)
    assert frechet([[0.0], [2.0]], [[1.0], [1.0]]) == pytest.approx(2.0)        # (√2 − 0)²


def test_kernel_distance_is_the_unbiased_sum_of_pairs():
    def k(x, y):
        return (float(x @ y) / 4 + 1) ** 3
    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
              for x in (A, B)]
    across = np.mean([k(x, y) for x in A for y in B])
    assert kernel_distance(A, B) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kernel_distance_is_zero_on_average_for_small_sets_of_one_distribution():
    rng = np.random.default_rng(3)
    d = [kernel_distance(rng.standard_normal((5, 3)), rng.standard_normal((7, 3)))
         for _ in range(3000)]
    assert abs(np.mean(d)) < 4 * np.std(d) / math.sqrt(len(d)) and min(d) < 0


def test_inception_score_between_one_and_the_number_of_classes():
    sure = np.eye(5)[[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]]
    assert inception_score(sure) == pytest.approx(5)
    assert inception_score(np.full((7, 5), 0.2)) == pytest.approx(1)
    assert inception_score(sure[[0, 0, 0]]) == pytest.approx(1)                 # one class only
    p = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    q = p.mean(axis=0)
    kl = [sum(pi * math.log(pi / qi) for pi, qi in zip(row, q, strict=True)) for row in p]
    assert inception_score(p) == pytest.approx(math.exp(np.mean(kl)))


def ball(x, i, k):
    return sorted(np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if j != i)[k - 1]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_coverage_by_loops(k):
    real = [ball(A, i, k) for i in range(len(A))]
    fake = [ball(B, j, k) for j in range(len(B))]
    inside = [[np.linalg.norm(a - b) <= r for b in B] for a, r in zip(A, real, strict=True)]
    back = [[np.linalg.norm(a - b) <= r for a in A] for b, r in zip(B, fake, strict=True)]
    precision, recall = precision_recall(A, B, k)
    assert precision == np.any(inside, axis=0).mean() and recall == np.any(back, axis=0).mean()
    density, coverage = density_coverage(A, B, k)
    assert density == pytest.approx(np.sum(inside) / (k * len(B)))
    assert coverage == np.any(inside, axis=1).mean()


def test_the_limits_of_precision_and_recall():
    """Far away: all 0. The same set: all 1. One real sample repeated: precise, but it covers little."""
    assert precision_recall(A, A + 100) == (0, 0) and density_coverage(A, A + 100) == (0, 0)
    assert precision_recall(A, A) == (1, 1) and density_coverage(A, A)[1] == 1
    one = A[:1] + 1e-6 * np.random.default_rng(0).standard_normal((30, 4))
    assert precision_recall(A, one)[0] == 1 and precision_recall(A, one)[1] < 0.05


def test_equal_distributions_have_density_one():
    rng = np.random.default_rng(0)
    d = [density_coverage(rng.standard_normal((200, 2)), rng.standard_normal((200, 2)))[0]
         for _ in range(20)]
    assert np.mean(d) == pytest.approx(1, abs=0.03)


def test_pairwise_distances_of_images():
    a, b = RNG.standard_normal((3, 4, 4, 1)), RNG.standard_normal((5, 4, 4, 1))
    expected = [[math.sqrt(((x - y) ** 2).sum()) for y in b] for x in a]
    np.testing.assert_allclose(pairwise(a, b), expected)
    np.testing.assert_allclose(pairwise(1e4 + a, 1e4 + a).diagonal(), 0, atol=1e-2)


# ---------------------------------------------------------------------------- images


def naive_ms_ssim(a, b, weights, span):
    """One pair (H, W) by loops over every window."""
    window = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5 ** 2)) for j in range(-5, 6)]
                       for i in range(-5, 6)])
    window /= window.sum()
    k1, k2, product = (0.01 * span) ** 2, (0.03 * span) ** 2, 1.0
    for n, w in enumerate(weights):
        cs, full = [], []
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                x, y = a[i:i + 11, j:j + 11], b[i:i + 11, j:j + 11]
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                cs.append((2 * cov + k2) / (vx + vy + k2))
                full.append(cs[-1] * (2 * mx * my + k1) / (mx ** 2 + my ** 2 + k1))
        product *= max(np.mean(full if n == len(weights) - 1 else cs), 0) ** w
        a, b = (np.array([[x[i:i + 2, j:j + 2].mean() for j in range(0, x.shape[1] // 2 * 2, 2)]
                          for i in range(0, x.shape[0] // 2 * 2, 2)]) for x in (a, b))
    return product


@pytest.mark.parametrize("size, scales", [((28, 28), 2), ((23, 25), 2), ((12, 21), 1), ((44, 45), 3)])
def test_ms_ssim_by_loops(size, scales):
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (2, *size, 1))
    b = np.clip(a + 0.4 * rng.standard_normal(a.shape), -1, 1)
    weights = np.array([0.0448, 0.2856, 0.3001])[:scales]
    expected = [naive_ms_ssim(x[..., 0], y[..., 0], weights / weights.sum(), 2.0)
                for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(a, b), expected, rtol=1e-10)
    assert 0 < expected[0] < 1


def test_ms_ssim_of_equal_and_opposite_images():
    a = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 3))
    np.testing.assert_allclose(ms_ssim(a, a), 1)
    assert (ms_ssim(a, -a) == 0).all()
    np.testing.assert_allclose(ms_ssim(a * 127.5, a[::-1] * 127.5, 255.0), ms_ssim(a, a[::-1]))


def test_spread_within_a_class():
    """The average of the classes' own deviations: how far apart the classes lie does not count."""
    x = np.random.default_rng(0).standard_normal((40_000, 3))
    labels = np.arange(40_000) % 2
    images = x * np.where(labels, 3.0, 1.0)[:, None] + 100 * labels[:, None]
    assert within_class_spread(images, labels) == pytest.approx(2, rel=0.01)
    assert within_class_spread([[1.0], [1.0], [5.0]], [0, 0, 1]) == 0
    assert within_class_spread([[0.0], [2.0], [5.0]], [0, 0, 1]) == pytest.approx(math.sqrt(2))
    assert math.isnan(within_class_spread([[1.0], [2.0]], [0, 1]))


def test_overfit_is_a_half_for_fresh_data_and_one_for_a_copier():
    rng = np.random.default_rng(0)
    train, unseen, fresh = rng.standard_normal((3, 1000, 2))

    def measured(x):
        return overfit(pairwise(x, train).min(axis=1), pairwise(x, unseen).min(axis=1))
    share, error = measured(fresh)
    assert abs(share - 0.5) < 4 * error and error == pytest.approx(0.0158, abs=1e-4)
    assert measured(train)[0] == 1 and measured(unseen)[0] == 0
    assert overfit([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])[0] == pytest.approx(0.5)   # a tie is half


def test_copies_are_what_lies_nearer_than_one_percent_of_unseen_data():
    rng = np.random.default_rng(0)
    train, unseen, fresh = rng.standard_normal((3, 2000, 3))

    def measured(x):
        return copies(pairwise(x, train).min(axis=1), pairwise(unseen, train).min(axis=1))
    assert measured(unseen) == 0.01 and measured(fresh) == pytest.approx(0.01, abs=0.008)
    assert measured(train) == 1
    assert measured(np.concatenate([train[:500], fresh[:1500]])) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("f, args, message", [
    (frechet, (A, B[:, :2]), r"frechet: .*got \(23, 4\) and \(31, 2\)"),
    (frechet, (A[:1], B), "at least 2"),
    (kernel_distance, (A, B[0]), r"got \(23, 4\) and \(4,\)"),
    (kernel_distance, (A, B * np.nan), "NaN"),
    (precision_recall, (A[:3], B), "at least 4"),
    (density_coverage, (A, B[:5]), "at least 6"),
    (inception_score, (A,), "rows that sum to 1"),
    (ms_ssim, (np.zeros((2, 8, 8, 1)),) * 2, "at least 11×11"),
    (ms_ssim, (np.zeros((2, 28, 28, 1)), np.zeros((3, 28, 28, 1))), "two arrays of images")])
def test_what_cannot_be_compared_is_refused(f, args, message):
    with pytest.raises(ValueError, match=message):
        f(*args)


def test_nothing_is_changed():
    """Every function leaves its arguments alone and gives plain numbers."""
    a, b = A.copy(), B.copy()
    values = [frechet(A, B), kernel_distance(A, B), *precision_recall(A, B), *density_coverage(A, B)]
    assert all(type(v) is float for v in values) and (a == A).all() and (b == B).all()
    assert distances.__doc__
