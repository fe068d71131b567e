"""What autograd is, on ten lines of network: exclusive or from four points, with nothing but `grad`.

A network is a formula with numbers in it that may be changed, its parameters θ. Here, for points x and hidden width
8,

    h = tanh(x W₁ + b₁)        d = h W₂ + b₂        p = σ(d), the probability that x has the label t = 1

and the loss is L = −E [t log p + (1 − t) log(1 − p)] = E [softplus(d) − t d], where softplus(d) = log(1 + eᵈ).
Learning is walking downhill: θ ← θ − η ∂L/∂θ. Writing the formula with Tensors is enough for `grad(L, [W₁, b₁, W₂,
b₂])` to know all four derivatives. What it returns is compared below with the definition, (L(θ + h) − L(θ − h)) /
2h, at one weight.

What the usual version gets wrong: it computes p = 1 / (1 + e⁻ᵈ) and then log p. For d = −800 that is log 0 = −inf,
and one such sample turns every parameter into NaN. softplus(d) − t d is the same number, exact for every d. The
loss of a GAN's discriminator is this very formula with t = 1 for real and t = 0 for generated samples, so the
mistake is at home there too.

Expect four panels: p over the square, from a tilted plane to two corners against two. Takes 2 seconds. Prints the
points it gets right (perfect: 4 of 4), the loss (perfect: 0) and how far `grad` is from the definition (perfect: 0,
but for rounding).
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import tinygan
from tinygan import Tensor, grad, ops, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="cpu", steps=500, seed=0, out="xor_from_scratch.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)


def on_device(values):
    """An array of the given values where the network lives."""
    return tinygan.to_device(np.asarray(values, np.float32), tinygan.pick_device(args.device))


x = on_device([[0, 0], [0, 1], [1, 0], [1, 1]])                         # (4, 2)
t = on_device([[0], [1], [1], [0]])                                     # (4, 1): no straight line separates 1 from 0

init = tinygan.rng("init")
W1, b1 = Tensor(on_device(init.normal(size=(2, 8)))), Tensor(on_device(np.zeros(8)))
W2, b2 = Tensor(on_device(init.normal(size=(8, 1)))), Tensor(on_device(np.zeros(1)))
parameters = [W1, b1, W2, b2]


def network(x):
    """Points (N, 2) → logits d (N, 1)."""
    return ops.tanh(x @ W1 + b1) @ W2 + b2


def loss():
    """E [softplus(d) − t d] over the four points."""
    d = network(x)
    return (ops.softplus(d) - t * d).mean()


# The definition of a derivative, at W₁[0, 0]. `grad` gets there without any small h, for all 33 parameters in one walk.
ours, h = float(grad(loss(), W1)[0, 0]), 1e-2
W1.data[0, 0] += h
above = loss().item()
W1.data[0, 0] -= 2 * h
below = loss().item()
W1.data[0, 0] += h
print(f"∂L/∂W₁[0,0] by grad {ours:+.5f}, by its definition {(above - below) / (2 * h):+.5f}")

ticks = np.linspace(-0.25, 1.25, 121)
square = on_device(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2))      # (121·121, 2)
moments = [round(args.steps * share) for share in (0, 0.04, 0.1, 1)]
axes = Figure(figsize=(10, 2.9), dpi=100, layout="constrained").subplots(1, 4)
for step in range(args.steps + 1):
    L = loss()
    for ax in axes[[step == m for m in moments]]:
        with tinygan.no_grad():                                         # nothing here will be differentiated
            p = tinygan.to_host(ops.sigmoid(network(square)).data).reshape(121, 121)
        ax.imshow(p, plot.FIELD, vmin=0, vmax=1, origin="lower", extent=(-0.25, 1.25, -0.25, 1.25))
        ax.scatter(*tinygan.to_host(x).T, s=70, c=[plot.ORANGE, plot.BLUE, plot.BLUE, plot.ORANGE], edgecolors="white")
        ax.set(xticks=[0, 1], yticks=[0, 1])
        ax.set_title(f"step {step}: loss {L.item():.3f}", fontsize=11, color=plot.INK)
    for parameter, gradient in zip(parameters, grad(L, parameters), strict=True):
        parameter.data -= 0.5 * gradient                                # θ ← θ − η ∂L/∂θ, all there is to training
axes[0].figure.savefig(args.out)

right = int(((network(x) > 0) == (t > 0)).sum())                        # p > ½ exactly where d > 0
print(f"{args.out}: {right} of 4 points right (perfect: 4), loss {loss().item():.4f} (perfect: 0)")
