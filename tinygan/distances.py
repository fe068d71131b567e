"""How far generated samples are from real ones, and whether they differ among themselves.

Most figures compare two sets of feature vectors, arrays (N, F); `classifier.features` makes them
from images. None is a verdict alone: a generator that repeats one perfect digit has precision 1,
one that returns its training set has recall 1. Computed in float64.
"""

import math

import numpy as np

from .randomness import Randomness


def frechet(a, b):
    """The Fréchet distance of two Gaussians fitted to features (N, F) and (M, F), ≥ 0, 0 if equal.

    |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½), the last trace as Σ √λ of the eigenvalues λ of
    C₁^½ C₂ C₁^½. Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", eq. 6.
    With the features of a digit classifier this is a *classifier* Fréchet distance: published FIDs
    use another network. It grows as N shrinks, so compare equal N.
    """
    a, b = _pair("frechet", a, b, least=2)
    c1, c2 = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c2 @ root), 0)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return max(0.0, float(gap @ gap + np.trace(c1) + np.trace(c2) - 2 * cross))


def kernel_distance(a, b):
    """The unbiased MMD² of features (N, F) and (M, F) with the kernel (⟨x, y⟩/F + 1)³.

    mean k(aᵢ, aⱼ) over i ≠ j + mean k(bᵢ, bⱼ) over i ≠ j − 2 mean k(aᵢ, bⱼ): 0 on average for equal
    distributions, at any N, so it may be negative. Source: Bińkowski et al. 2018, "Demystifying MMD
    GANs", section 4; the estimator is that of Gretton et al. 2012, lemma 6.
    """
    a, b = _pair("kernel_distance", a, b, least=2)

    def k(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):
        return (k(x, x).sum() - np.trace(k(x, x))) / (len(x) * (len(x) - 1))
    return float(within(a) + within(b) - 2 * k(a, b).mean())


def sliced_wasserstein(a, b, directions=128, seed=0):
    """The sliced Wasserstein-2 distance of samples a (N, D) and b (M, D), ≥ 0, 0 if equal.

    √ mean (quantiles of ⟨a, θ⟩ − quantiles of ⟨b, θ⟩)² over random unit vectors θ and the
    quantiles (i + ½) / n, n = min(N, M): the sorted samples if N = M. Source: Bonneel et al.
    2015, "Sliced and Radon Wasserstein barycenters of measures".
    """
    a, b = _pair("sliced_wasserstein", a, b, least=1)
    theta = Randomness(seed).rng("slices").standard_normal((a.shape[1], directions))
    theta /= np.linalg.norm(theta, axis=0)
    at = (np.arange(min(len(a), len(b))) + 0.5) / min(len(a), len(b))
    qa, qb = (np.sort(x @ theta, axis=0)[(at * len(x)).astype(int)] for x in (a, b))
    return float(np.sqrt(((qa - qb) ** 2).mean()))


def inception_score(probabilities):
    """exp(mean KL(p(y|x) ‖ p(y))) of class probabilities (N, K): 1 (all alike) to K (sure, even).

    p(y) is the mean of the rows. Source: Salimans et al. 2016, "Improved techniques for training
    GANs", section 4; there with the Inception network.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not len(p) or (p < 0).any() or not np.allclose(p.sum(axis=1), 1):
        raise ValueError("inception_score: expected probabilities (N, K) with rows that sum to 1, "
                         f"got shape {p.shape}")
    logs = np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, p.mean(axis=0), 1))
    return math.exp((p * logs).sum(axis=1).mean())


def precision_recall(real, fake, k=3):
    """(precision, recall), each in [0, 1], of fake features (M, F) against real ones (N, F).

    Around every real sample lies a ball that reaches to its k-th nearest real neighbour.
    Precision is the share of fakes within some ball; recall is the same with real and fake
    exchanged. A lonely real sample has a large ball, in which rubbish counts as precise: read both
    figures together. Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric for
    assessing generative models", eq. 1 and 2.
    """
    return tuple(float(_inside("precision_recall", a, b, k).any(axis=0).mean())
                 for a, b in ((real, fake), (fake, real)))


def density_coverage(real, fake, k=5):
    """(density, coverage) of fake features (M, F) against real ones (N, F).

    With the balls of `precision_recall`: density is the number of balls that a fake lies in, on
    average, by k (≥ 0, 1 for equal distributions); coverage the share of balls that hold a fake
    (0 to 1). Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics", section 3.
    """
    inside = _inside("density_coverage", real, fake, k)
    return float(inside.sum(axis=0).mean() / k), float(inside.any(axis=1).mean())


def _inside(who, centers, x, k):
    """Which samples x (M) lie in the balls around the centers (N): a mask (N, M)."""
    centers, x = _pair(who, centers, x, least=k + 1)
    d = pairwise(centers, centers)
    np.fill_diagonal(d, math.inf)
    return pairwise(centers, x) <= np.partition(d, k - 1, axis=1)[:, k - 1:k]


def pairwise(a, b):
    """Euclidean distances of a (N, ...) and b (M, ...): (N, M)."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0))


def _pair(who, a, b, least):
    """Both as float64 (N, F), or a ValueError."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < least \
            or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"{who}: expected finite features (N, F) and (M, F), N and M at least "
                         f"{least}, got {a.shape} and {b.shape}, or NaN or infinity among them")
    return a, b


def ms_ssim(a, b, value_range=2.0):
    """Multi-scale structural similarity of images a and b, both (N, H, W, C): (N,), 1 if equal.

    Π cⱼ^wⱼ over the scales j, times l^w at the coarsest, with contrast and structure c = (2 σ_ab
    + k₂) / (σ_a² + σ_b² + k₂) and luminance l = (2 μ_a μ_b + k₁) / (μ_a² + μ_b² + k₁), averaged
    over 11×11 Gaussian windows of deviation 1.5; a negative average counts as 0. Each scale
    halves the image; as many of the five as fit are used (for 28×28 two), their weights made to
    sum to 1. value_range: the span of the pixels. Sources: Wang et al. 2003, "Multiscale structural
    similarity", eq. 7; for diversity Odena et al. 2017, "AC-GAN", section 4.2.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 4 or a.shape != b.shape or min(a.shape[1:3]) < 11:
        raise ValueError("ms_ssim: expected two arrays of images (N, H, W, C), at least 11×11, "
                         f"got {a.shape} and {b.shape}")
    scales = min(5, int(math.log2(min(a.shape[1:3]) / 11)) + 1)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    k1, k2, result = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2, 1.0
    for j, w in enumerate(weights / weights.sum()):
        ma, mb = _blurred(a), _blurred(b)
        variances = _blurred(a * a + b * b) - ma * ma - mb * mb
        c = (2 * (_blurred(a * b) - ma * mb) + k2) / (variances + k2)
        if j == scales - 1:
            c = c * (2 * ma * mb + k1) / (ma * ma + mb * mb + k1)
        result = result * np.maximum(c.mean(axis=(1, 2, 3)), 0) ** w
        h, v = a.shape[1] // 2, a.shape[2] // 2
        a, b = (x[:, :2 * h, :2 * v].reshape(len(x), h, 2, v, 2, -1).mean(axis=(2, 4))
                for x in (a, b))
    return result


def _blurred(x):
    """Images (N, H, W, C) under an 11×11 Gaussian window: (N, H − 10, W − 10, C)."""
    window = np.exp(-np.arange(-5, 6) ** 2 / 4.5)
    for axis in (1, 2):
        x = np.lib.stride_tricks.sliding_window_view(x, 11, axis=axis) @ (window / window.sum())
    return x


def within_class_spread(images, labels):
    """How much images (N, ...) of one class differ: a pixel's deviation within its class, ≥ 0.

    The mean over pixels, then over the classes that occur at least twice; NaN if none does. It is
    small where a conditional generator has collapsed: compare it with that of real images.
    """
    images, labels = np.asarray(images, np.float64), np.asarray(labels)
    groups = [images[labels == c] for c in np.unique(labels)]
    spreads = [g.std(axis=0, ddof=1).mean() for g in groups if len(g) > 1]
    return float(np.mean(spreads)) if spreads else math.nan


def overfit(to_train, to_unseen):
    """(share, standard error): how many samples are nearer to training data than to unseen data.

    Given each sample's distance (N,) to the nearest of M training samples and of M unseen ones of
    the same distribution: ½ where nothing was memorised, 1 for a copier; a tie counts half. The
    standard error is √(s (1 − s) / N). Meehan et al. 2020, "A non-parametric test to detect
    data-copying in generative models", test the same three samples.
    """
    to_train, to_unseen = np.asarray(to_train), np.asarray(to_unseen)
    share = float((to_train < to_unseen).mean() + (to_train == to_unseen).mean() / 2)
    return share, math.sqrt(share * (1 - share) / len(to_train))


def copies(to_train, real_to_train):
    """The share of samples nearer to the training data than all but 1 % of unseen real samples are.

    Given the distances to the nearest training sample, of the samples (N,) and of unseen real data
    (M,): about 0.01 where nothing was copied, 1 for a copier.
    """
    return float((np.asarray(to_train) < np.quantile(real_to_train, 0.01)).mean())
