"""A linear generator against a dense discriminator: no features by hand, and a loss that says when to stop.

Generator x = z W + b, z ~ N(0, I) in R¹⁰; discriminator 2 → 64 → 64 → 1 with LeakyReLU; Adam with rate 0.001 for
both:

    L_D = −E log D(x) − E log(1 − D(G(z)))          L_G = −E log D(G(z))          D(x) = σ(d(x))

written on logits d, where −log σ(d) = softplus(−d) and −log(1 − σ(d)) = softplus(d). For a fixed G the best D is
p_real / (p_real + p_fake), and L_D is then 2 log 2 − 2 JS(p_real, p_fake): as G gets better L_D *rises* to 2 log 2
= 1.386. The data are a Gaussian, which this G can produce exactly, so its error has a formula, the Wasserstein
distance between two Gaussians:

    W₂² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

What the usual version gets wrong: *softmax over the one unit of D* is 1 for every input, its gradient 0, and
nothing trains. *A plus in L_D*, −E log D(x) + E log(1 − D(G(z))), rewards D for calling everything real. *Noise in
place of the data*: G learns the noise. *BatchNorm applied after training*: a layer that was not there while the
weights were learnt undoes them; G's samples are moved to mean 0 and deviation 1. The last line of output measures
that: one line of code, and the distance is back near the start. D must learn on too: had we stopped it at its best,
G would run off to wherever d is largest.

Expect real and generated points in one cloud over a pale field, D undecided nearly everywhere. Takes 10 seconds. Prints
W₂ and L_D along the way and at the end (perfect: 0 and 1.386).
"""

import argparse

import numpy as np

import tinygan
from tinygan import grad, nn, ops, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=4000, seed=0, out="dense_discriminator.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)

mu, mix = np.float32([1, -0.5]), np.float32([[0.9, 0.5], [0, 0.4]])     # real points are mu + ε mix, ε ~ N(0, I)
device = tinygan.pick_device(args.device)
G = nn.Linear(10, 2).to(device)
D = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
D.to(device)
opt_g, opt_d = (optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999)) for net in (G, D))


def draw(name, n, width):
    """(n, width) numbers ~ N(0, 1) from the random stream of this name."""
    return tinygan.rng(name).standard_normal((n, width), dtype=np.float32)


def distance(mean, cov):
    """W₂ between N(mean, cov) and the real Gaussian; tr (Σ₁ Σ₂)^½ = Σ √eigenvalue of Σ₁ Σ₂."""
    real = mix.T @ mix
    roots = np.sqrt(np.linalg.eigvals(real @ cov).real.clip(0)).sum()
    return np.sqrt(((mean - mu) ** 2).sum() + max(0.0, np.trace(real) + np.trace(cov) - 2 * roots))


def generator_distance():
    """W₂ of G itself: its mean is b, its covariance Wᵀ W, no sampling needed."""
    W, b = tinygan.to_host(G.weight.data), tinygan.to_host(G.bias.data)
    return distance(b, W.T @ W)


for step in range(args.steps + 1):
    x = tinygan.to_device(draw("batch", 256, 2) @ mix + mu, device)
    fake = G(tinygan.to_device(draw("latent", 256, 10), device))

    loss_d = softplus(-D(x)).mean() + softplus(D(fake.data)).mean()     # two batches, two means, two minus signs inside
    if step % max(1, args.steps // 6) == 0:
        print(f"step {step:5}  W₂ {generator_distance():.3f}  L_D {loss_d.item():.3f}")
    opt_d.step(grad(loss_d, opt_d.params))

    loss_g = softplus(-D(fake)).mean()                                  # D has just moved: ask it again
    opt_g.step(grad(loss_g, opt_g.params))

with tinygan.no_grad():
    samples = G(tinygan.to_device(draw("picture", 2000, 10), device))
    late = tinygan.to_host(nn.BatchNorm(2).to(device)(samples).data)    # the usual mistake, made on purpose


def probability(points):
    """D's σ(d) at points (N, 2), for the background of the picture."""
    with tinygan.no_grad():
        return tinygan.to_host(ops.sigmoid(D(tinygan.to_device(points, device))).data)


plot.save_image(args.out, plot.density(tinygan.to_host(samples.data), draw("picture", 2000, 2) @ mix + mu, extent=4,
                                       field=probability, title=f"step {args.steps}: W₂ = {generator_distance():.3f}"))
print(f"with BatchNorm put behind G after training: W₂ {distance(late.mean(0), np.cov(late.T)):.3f}")
print(f"{args.out}: W₂ {generator_distance():.3f} (perfect: 0), L_D {loss_d.item():.3f} (perfect: 1.386)")
