"""Points in the plane: how many modes of a mixture were found, and how well.

Even a *perfect* sampler has only 98.889 % of its samples within 3σ in the plane (`ceiling`); a
higher figure means that the modes have shrunk. At the other end, uniform noise "finds" all 25
modes of a grid if one sample per mode is enough: a count of modes says little without the share
that lies on them.
"""

import math
from typing import NamedTuple

import numpy as np


class Coverage(NamedTuple):
    """What `mode_coverage` counts. Perfect are high_quality `ceiling()`, tv 0, std_ratio 1,
    reverse_kl 0."""

    modes: int
    high_quality: float
    tv: float                   # at most 1
    std_ratio: float            # NaN if no mode holds two samples
    reverse_kl: float           # at most log K


def ceiling(radius_sigmas=3.0):
    """1 − exp(−r²/2): the share of a round 2-D Gaussian within r standard deviations."""
    return 1 - math.exp(-radius_sigmas ** 2 / 2)


def mode_coverage(samples, mixture, radius_sigmas=3.0, least=0.01):
    """Compare samples (N, 2) with a `data.Mixture` of K modes. Returns a `Coverage`.

    A sample lies *on* a mode if it is within r = radius_sigmas standard deviations of the nearest
    centre. A mode is found if at least the share `least` of all samples lies on it, and no less
    than one sample: `least=0` counts lucky hits too, as many papers do. With pₖ the share of
    samples on mode k, and qₖ the share of samples that are nearer to centre k than to any other,

        high_quality = Σ pₖ     tv = ½ (Σ |pₖ − 1/K| + 1 − Σ pₖ)     reverse_kl = Σ qₖ log(K qₖ)

    (tv: total variation, with what lies on no mode as a class of its own; reverse_kl: KL(p_model ‖
    p_data) over the modes, as in Lin et al. 2018, "PacGAN", section 4). std_ratio is the standard
    deviation about each mode's own mean, pooled, by that of the true Gaussian cut off at the same
    radius, σ √(1 − (r²/2) e^(−r²/2) / (1 − e^(−r²/2))).
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 2 or samples.shape[1] != 2 or not len(samples) \
            or not np.isfinite(samples).all() or not mixture.std > 0:
        raise ValueError("mode_coverage: expected finite samples of shape (N, 2) with N > 0, and a "
                         f"mixture with std > 0, got {samples.shape} and std {mixture.std}")
    k, inside = len(mixture.centers), ceiling(radius_sigmas)
    distance = np.stack([np.hypot(*(samples - c).T) for c in mixture.centers])      # (K, N)
    nearest = distance.argmin(axis=0)                                               # (N,)
    on = distance.min(axis=0) <= radius_sigmas * mixture.std                        # (N,)
    counts = np.bincount(nearest[on], minlength=k)                                  # (K,)
    shares, q = counts / len(samples), np.bincount(nearest, minlength=k) / len(samples)
    modes = int(((counts > 0) & (shares >= least)).sum())
    tv = (np.abs(shares - 1 / k).sum() + 1 - shares.sum()) / 2

    groups = [samples[on & (nearest == i)] for i in np.flatnonzero(counts > 1)]
    squares = sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)
    freedom = sum(2 * (len(group) - 1) for group in groups)
    true = mixture.std * math.sqrt(1 - radius_sigmas ** 2 / 2 * (1 - inside) / inside)
    return Coverage(modes, float(shares.sum()), float(tv),
                    math.sqrt(squares / freedom) / true if freedom else math.nan,
                    float((q[q > 0] * np.log(k * q[q > 0])).sum()))


def uniform_noise(mixture, n, rng):
    """n points (n, 2) uniform over the square that reaches 10 σ beyond the mixture's centres."""
    low, high = mixture.centers.min(axis=0), mixture.centers.max(axis=0)
    half = (high - low).max() / 2 + 10 * mixture.std
    return (low + high) / 2 + rng.uniform(-half, half, (n, 2))
