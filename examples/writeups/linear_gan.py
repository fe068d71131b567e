"""A linear GAN in NumPy terms: exactly what a generator x = z W + b can learn, and what it cannot.

Generator x = z W + b with z ~ N(0, I) in R¹⁰ and x in R²: its samples are Gaussian, with mean b and covariance Wᵀ
W, whatever happens. Discriminator: logistic regression d = φ(x) a + c on features φ. What it can compare, the
generator must match:

    φ(x) = (x₁, x₂)                      the means of real and fake, E φ(x) = E φ(G(z)), and nothing else
    φ(x) = (x₁, x₂, x₁², x₁x₂, x₂²)      means and covariances: with a Gaussian target that is everything
    the same, data with two modes        mean and covariance again: one broad Gaussian over the gap between the modes

    L_D = E softplus(−d(x)) + E softplus(d(G(z))) + λ Σ a²          L_G = E softplus(−d(G(z)))

λ Σ a² is there because the pure game only goes in circles: D pushes G past the target, turns round, pushes it back.
For a linear D, a is the slope ∂d/∂x, so this term is the penalty R1 in its simplest form, and the circles become
spirals inwards.

What the usual version gets wrong: exp(d) as the probability (it is σ(d) = 1 / (1 + e⁻ᵈ); exp(d) passes 1 at d = 0);
one loss for both players, with the sign wrong for one of them; one sample per step, so that the gradient is mostly
noise; noise drawn inside the generator over its own argument, which makes G(z) forget z. Here the latents are an
argument and stay one.

Expect three panels: a point cloud at the right place but of the wrong shape; the right shape too; one blob over two
clusters. Takes 5 seconds. Prints for each how far mean and covariance are from the real ones (perfect: 0) and
whether the modes are apart.
"""

import argparse

import numpy as np

import tinygan
from tinygan import Tensor, grad, optim, plot
from tinygan.ops import concatenate, softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=1000, seed=0, out="linear_gan.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
device = tinygan.pick_device(args.device)
tinygan.seed(args.seed)


def normal(n, width, stream="latent"):
    """(n, width) numbers ~ N(0, 1) on the device."""
    return tinygan.to_device(tinygan.rng(stream).standard_normal((n, width), dtype=np.float32), device)


def tilted(n):
    """A Gaussian with mean (1, −0.5) and correlated coordinates: (n, 2)."""
    mix = tinygan.to_device(np.array([[0.9, 0.5], [0.0, 0.4]], np.float32), device)
    shift = tinygan.to_device(np.array([1.0, -0.5], np.float32), device)
    return normal(n, 2, "batch") @ mix + shift


def two_modes(n):
    """Half of the points around (−1.5, 0), half around (1.5, 0): (n, 2)."""
    x = 0.25 * normal(n, 2, "batch")
    x[::2, 0] -= 1.5
    x[1::2, 0] += 1.5
    return x


def linear(x):
    """φ(x) = (x₁, x₂)."""
    return x


def quadratic(x):
    """φ(x) = (x₁, x₂, x₁², x₁x₂, x₂²), for arrays and Tensors alike."""
    return concatenate(x, x * x, x[:, :1] * x[:, 1:], axis=1)


def play(data, features):
    """A generator (W, b), trained for `steps` steps against a logistic regression on these features."""
    W, b = Tensor(0.3 * normal(10, 2, "init")), Tensor(0 * normal(1, 2, "init"))
    width = features(normal(1, 2)).shape[1]
    a, c = Tensor(0 * normal(width, 1, "init")), Tensor(0 * normal(1, 1, "init"))
    opt_g, opt_d = optim.Adam([W, b], 0.02, betas=(0.5, 0.99)), optim.Adam([a, c], 0.05, betas=(0.5, 0.99))
    for step in range(args.steps):
        opt_g.lr, opt_d.lr = (rate * (1 - step / args.steps) for rate in (0.02, 0.05))
        x, fake = data(256), normal(256, 10) @ W + b

        d_real, d_fake = features(x) @ a + c, features(fake.data) @ a + c           # fake.data: no way back into G
        loss_d = softplus(-d_real).mean() + softplus(d_fake).mean() + 0.1 * (a * a).sum()
        opt_d.step(grad(loss_d, opt_d.params))

        loss_g = softplus(-(features(fake) @ a + c)).mean()                         # fake: with its history
        opt_g.step(grad(loss_g, opt_g.params))
    return W.data, b.data


panels, reports = [], []
for data, features in ((tilted, linear), (tilted, quadratic), (two_modes, quadratic)):
    W, b = play(data, features)
    real, fake = (tinygan.to_host(x) for x in (data(10_000), normal(10_000, 10) @ W + b))
    mean_error = np.linalg.norm(fake.mean(0) - real.mean(0))
    cov_error = np.linalg.norm(np.cov(fake.T) - np.cov(real.T)) / np.linalg.norm(np.cov(real.T))
    gap = [(np.abs(x[:, 0]) < 0.5).mean() for x in (real, fake)]
    reports.append(f"mean off by {mean_error:.2f}, covariance by {cov_error:.0%}")
    print(f"{data.__name__:9} {features.__name__:9} {reports[-1]}, |x₁| < 0.5: real {gap[0]:.0%}, fake {gap[1]:.0%}")
    panels.append(plot.density(fake, real, extent=3.2, title=f"{features.__name__}: {reports[-1]}"))
plot.save_image(args.out, np.concatenate(panels, axis=1))
print(f"{args.out}: with quadratic features, {reports[1]} (perfect: 0.00 and 0%; chance alone: about 0.02 and 2%)")
