"""Points in the plane whose density is known, so that a generator can be judged by counting.

A picture of faces shows whether samples look good. Only a mixture shows whether every mode was
found, and how much of the probability went to each.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely round Gaussians: p(x) = 1/K Σₖ N(x; centersₖ, std² I), with centers (K, 2)."""

    centers: np.ndarray
    std: float

    def __post_init__(self):
        shape = self.centers.shape
        if len(shape) != 2 or shape[1] != 2 or shape[0] == 0 or not self.std >= 0:
            raise ValueError("Mixture: expected centers (K, 2) with K > 0 and std >= 0, got shape "
                             f"{shape} and std {self.std}")

    def sample(self, n, rng):
        """n independent points, float32 (n, 2), drawn from a `numpy.random.Generator`."""
        k = rng.integers(len(self.centers), size=n)             # which Gaussian each point is from
        points = self.centers[k] + self.std * rng.standard_normal((n, 2))
        return points.astype(np.float32)


def ring(modes=8, radius=2.0, std=0.1):
    """Gaussians on a circle, at the angles 2πk / modes.

    Source: Metz et al. 2017, "Unrolled GANs", appendix A.
    """
    # Not linspace(0, 2π, modes): that counts the first angle twice, a "ring of 8" with 7 modes.
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), std)


def grid(side=5, spacing=2.0, std=0.05):
    """side × side Gaussians, `spacing` apart and centred on 0.

    Source: Lin et al. 2018, "PacGAN", section 4.1.
    """
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), std)


def swissroll(n, rng, noise=0.03):
    """n points (t cos t, t sin t) / 7.5, t uniform in [1.5π, 4.5π], plus Gaussian noise of this
    deviation: a spiral within about [−2, 2], float32 (n, 2).

    Source: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", figure 1.
    """
    t = rng.uniform(1.5 * np.pi, 4.5 * np.pi, size=n)
    points = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5     # (n, 2)
    return (points + noise * rng.standard_normal((n, 2))).astype(np.float32)
