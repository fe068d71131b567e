"""The same two networks collapse, and with a gradient penalty they do not: counted on eight Gaussians.

A non-saturating GAN, σ = 0.05, in which D takes three steps for each of G's, trained twice from the same weights on
the same data:

    L_D = E softplus(−D(x)) + E softplus(D(G(z))) + γ/2 E ‖∇D(x)‖² + γ/2 E ‖∇D(G(z))‖²        L_G = E softplus(−D(G(z)))

once with γ = 0 and once with γ = 0.1 (R1 at real and R2 at generated points; Mescheder et al. 2018, "Which training
methods for GANs do actually converge?"). Without a penalty D grows steep around the samples of the moment and flat
elsewhere. G sees slopes to the nearest modes only and goes there; modes left behind are lost for good, since the
slopes that led to them are gone. The penalty keeps D smooth, so that a mode that lacks samples pulls from afar. A
strong D is a danger in the first game and a help in the second.

What the usual version gets wrong: it judges by eye, or calls a mode covered when one lucky sample of 10,000 falls
into it. Here a mode counts from 1 % of the samples on (its fair share is 12.5 %). "High quality", the share of
samples within 3σ of a mode, is *higher* for the collapsed generator, since few modes are easier to draw well: alone
it misleads. It also has a ceiling, 98.889 % for a perfect sampler (1 − e^(−9/2)); a figure above that says that
modes have shrunk, as a spread below 1 does. The figure that sums it up is the total variation, TV = ½ (Σₖ |pₖ −
1/8| + share of samples in no mode).

Expect two panels: a few dense spots on the left, all eight on the right. Takes 40 seconds. Prints all figures for both,
and those of a perfect sampler.
"""

import argparse

import numpy as np

import tinygan
from tinygan import data, grad, losses, models, optim, plot
from tinygan.metrics import mode_coverage
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=2500, seed=0, out="mode_collapse.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
device = tinygan.pick_device(args.device)
mixture, latent, batch = data.ring(std=0.05), 16, 128


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, latent), dtype=np.float32), device)


def train(gamma):
    """Both players from scratch, with the penalty's weight γ: 10,000 samples at the end."""
    tinygan.seed(args.seed)                                             # the same start and batches for every γ
    G, D, average = (net.to(device) for net in (models.mlp_generator(latent, (2,), (64, 64)),
                                                models.mlp_discriminator((2,), (64, 64)),
                                                models.mlp_generator(latent, (2,), (64, 64))))
    opt_g, opt_d = (optim.Adam(net.parameters(), 2e-3, betas=(0.5, 0.999)) for net in (G, D))
    mean = optim.EMA(G, average, decay=0.995)                           # single steps of G jitter around its course
    for step in range(args.steps):
        # Both rates fall to 0 in the second half: the radius of the last wandering is proportional to them.
        opt_g.lr = opt_d.lr = 2e-3 * min(1, 2 * (1 - step / args.steps))
        real = tinygan.to_device(mixture.sample(batch, tinygan.rng("batch")), device)
        fake = G(latents(batch))
        for _ in range(3):
            loss_d = softplus(-D(real)).mean() + softplus(D(fake.data)).mean()
            if gamma:
                loss_d += gamma / 2 * (losses.gradient_penalty(D, real, center=0) +
                                       losses.gradient_penalty(D, fake.data, center=0))
            opt_d.step(grad(loss_d, opt_d.params))
        opt_g.step(grad(softplus(-D(fake)).mean(), opt_g.params))
        mean.step()
    with tinygan.no_grad():
        return tinygan.to_host(average(latents(10_000)).data)


def measure(samples):
    """The figures for samples (N, 2) in words."""
    found = mode_coverage(samples, mixture)
    return (f"{found.modes} of 8 modes, {found.high_quality:5.1%} within 3σ, TV {found.tv:.3f}, "
            f"spread {found.std_ratio:.2f} of the true one")


panels, results = [], []
for gamma in (0, 0.1):
    samples = train(gamma)
    results.append(measure(samples))
    print(f"γ = {gamma:<3}            {results[-1]}")
    panels.append(plot.density(samples, mixture.sample(2000, np.random.default_rng(0)), extent=3,
                               title=f"γ = {gamma}: {results[-1][:12]}"))
print(f"perfect sampler    {measure(mixture.sample(10_000, np.random.default_rng(1)))}")
plot.save_image(args.out, np.concatenate(panels, axis=1))
print(f"{args.out}: {results[0][:12]} without the penalty, {results[1][:12]} with it (perfect: 8 of 8)")
