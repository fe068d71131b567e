"""WGAN-GP draws digits: the gradient penalty written out, and differentiated a second time.

A critic f scores images; how far apart the mean scores of real and generated images can get, if f is nowhere
steeper than 1, is the Wasserstein distance between the two, W = max E f(x) − E f(G(z)). Gulrajani et al. 2017
("Improved training of Wasserstein GANs", algorithm 1) ask for the slope 1 with a penalty at random points x̂
between real and generated images:

    L_f = E f(G(z)) − E f(x) + 10 E (‖∇f(x̂)‖ − 1)²      x̂ = ε x + (1 − ε) G(z), ε ~ U(0, 1)      L_G = −E f(G(z))

The penalty is made of a gradient, ∇f(x̂) = ∂f/∂x̂, and L_f is differentiated by f's weights. So the first gradient
must be on record itself: `grad(..., create_graph=True)` returns Tensors, computed by the same rules as always, with
a history.

What the usual version gets wrong, each of which runs without an error: the norm over the wrong axis (flatten per
sample first); one ε for the whole batch; √Σ∇² with its infinite slope at ∇ = 0 (`norm` is safe there); the slope
taken *without* create_graph, a constant that trains nothing; BatchNorm in f, which makes ∇f(x̂ₙ) depend on the
other images; a sigmoid on f; strong momentum (β₁ = 0 here); and "−E f(x)" read as a distance before f has had its
three steps per step of G to become one.

Expect digits, and under them the estimate of W falling while the slope stays close to 1. Takes 100 seconds. Prints the
mean slope (perfect: 1) and the sliced Wasserstein distance to the digits, with that between two halves of the
digits as the floor.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from tqdm import trange

import tinygan
from tinygan import Tensor, data, grad, models, ops, optim, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=1200, seed=0, out="wgan_gp_digits.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
device, latent, batch, critic_steps = tinygan.pick_device(args.device), 64, 32, 3

digits = tinygan.to_device(data.digits().x, device)                     # (10000, 28, 28, 1)
G = models.conv_generator(latent, 28, 1, width=16, hidden=256).to(device)   # BatchNorm is fine in G: no penalty looks at it
f = models.conv_discriminator(28, 1, width=16, norm=False, hidden=256).to(device)
opt_g, opt_f = (optim.Adam(net.parameters(), 1e-3, betas=(0.0, 0.9)) for net in (G, f))


def fakes(n):
    """n generated images (n, 28, 28, 1), with their history."""
    return G(tinygan.to_device(tinygan.rng("latent").standard_normal((n, latent), dtype=np.float32), device))


def penalty(x, fake):
    """E (‖∇f(x̂)‖ − 1)² as a scalar Tensor, and the mean slope E ‖∇f(x̂)‖ as a number."""
    eps = tinygan.rng("penalty").random((len(x), 1, 1, 1), dtype=np.float32)         # one per image, not per batch
    eps = tinygan.to_device(eps, device)
    between = Tensor(eps * x + (1 - eps) * fake)                        # what to differentiate by must be a Tensor
    # The sum over the batch separates: f(x̂ₙ) depends on x̂ₙ alone, so ∂Σf/∂x̂ holds every ∇f(x̂ₙ) in one call.
    slope = grad(f(between).sum(), between, create_graph=True)          # first backward pass, recorded
    length = ops.norm(slope.reshape(len(x), -1), axis=1)                # (N, 28, 28, 1) → (N, 784) → (N,)
    return ((length - 1) ** 2).mean(), length.data.mean()


log = []
for step in trange(args.steps, disable=None):
    opt_g.lr = opt_f.lr = 1e-3 * min(1, 2 * (1 - step / args.steps))
    for _ in range(critic_steps):
        x = digits[tinygan.to_device(tinygan.rng("batch").integers(len(digits), size=batch), device)]
        with tinygan.no_grad():
            fake = fakes(batch).data                                    # the critic's step needs no history of G
        gap = f(x).mean() - f(fake).mean()                              # → W, once f is good
        penalised, slope = penalty(x, fake)
        opt_f.step(grad(10 * penalised - gap, opt_f.params))            # second backward pass, through the first one
    log.append((gap.item(), float(slope)))
    opt_g.step(grad(-f(fakes(batch)).mean(), opt_g.params))

G.eval()
with tinygan.no_grad():
    drawn = tinygan.to_host(fakes(2000).data)

figure = Figure(figsize=(5.4, 7.6), dpi=100, layout="constrained")
pictures, curves = figure.subplots(2, 1, height_ratios=[5.4, 2])
pictures.imshow(plot.to_grid(drawn[:64]), cmap="gray")
pictures.axis("off")
for values, color, label in zip(np.transpose(log), (plot.BLUE, plot.ORANGE), ("estimate of W", "slope"), strict=True):
    curves.plot(values, color=color, linewidth=1, label=label)
curves.set(xlabel="step", yscale="log", ylim=(0.5, None))
curves.spines[["top", "right"]].set_visible(False)
curves.legend(frameon=False, ncols=2)
figure.savefig(args.out)


def sliced(a, b):
    """The mean Wasserstein distance of a and b (N, ...) seen from 200 random directions: in 1-D it is sorting."""
    directions = np.random.default_rng(0).standard_normal((a[0].size, 200))
    a, b = (np.sort(x.reshape(len(x), -1) @ (directions / np.linalg.norm(directions, axis=0)), axis=0) for x in (a, b))
    return np.abs(a - b).mean()


real = tinygan.to_host(digits)
print(f"{args.out}: mean slope {np.mean([s for _, s in log[-100:]]):.2f} (perfect: 1), sliced Wasserstein distance "
      f"{sliced(real[:2000], drawn):.3f} (perfect: {sliced(real[:2000], real[2000:4000]):.3f}, real from real)")
