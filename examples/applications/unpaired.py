"""Style transfer without pairs: thin grey digits become thick orange ones on blue, and back.

There are 5,000 digits a in one style, 5,000 *others* b in the other, two networks G: a → b and F: b → a, and two
discriminators, one of each style. As in CycleGAN (Zhu et al. 2017), with least squares,

    L_D  = E (D_B(b) − 1)² + E D_B(G(a))²  +  the same for D_A, a and F(b)
    L_GF = E (D_B(G(a)) − 1)² + E (D_A(F(b)) − 1)² + 10 (E |F(G(a)) − a| + E |G(F(b)) − b|)

The last bracket, the cycle, ties a picture to its translation; the rest asks for digits in style, whichever they are.
Only the surface changes, every digit stays the digit it is: this is style transfer, and no more is claimed.

What the usual version gets wrong: *the same digits in both sets*: pairs are there after all. *The cycle error as the
measure*: doing nothing has none. *Nothing to compare with*: here digits that are only recoloured, the same networks
without the cycle, and trained on pairs. This style is a formula, so the true translation of a held-out digit is known:
the figures are the RMSE to it, and the share that a classifier reads right.

Expect the cycle to come close to what pairs teach: RMSE 0.06 and back 0.10 for 0.05 and 0.09 (perfect: 0), without the
cycle 0.10 and 0.15, only recoloured 0.30 and 0.48. 97 % and 99 % are read right, but this alone says little: of those
only recoloured as many are, and networks that see 9 × 9 pixels can hardly confuse digits. Takes 55 seconds.
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, metrics, models, nn, optim, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=400, seed=0, out="unpaired.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
device, batch = tinygan.pick_device(args.device), 16
PAPER, INK = np.float32([-0.6, -0.5, 0.3]), np.float32([1, 0.4, -0.8])              # blue, orange


def thicken(x):
    """The largest of each pixel and its four neighbours: a pixel more ink on every side. Shape (N, 28, 28, 1)."""
    p = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)             # (N, 30, 30, 1)
    return np.max([x, p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]], axis=0)


def colour(x):
    """Paper where x is −1, ink where it is 1: (N, 28, 28, 1) → (N, 28, 28, 3)."""
    return PAPER + (x + 1) / 2 * (INK - PAPER)


def repaint(c, d):
    """Images (N, 28, 28, c) → (N, 28, 28, d), each pixel from the 9 × 9 around it: enough for strokes."""
    return nn.Sequential(nn.Conv2d(c, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm(16),
                         nn.ReLU(), nn.Conv2d(16, d, 3, padding=1), nn.Tanh())


def train(cycle):
    """G and F, with a weight of the cycle or, for None, on pairs."""
    maps, average = (nn.Sequential(repaint(1, 3), repaint(3, 1)).to(device) for _ in range(2))
    critics = nn.Sequential(*(models.conv_discriminator(28, c, width=16) for c in (1, 3))).to(device)
    (G, F), (D_a, D_b) = maps, critics
    opt_g, opt_d = (optim.Adam(nets.parameters(), 1e-3, betas=(0.5, 0.999)) for nets in (maps, critics))
    mean = optim.EMA(maps, average, decay=0.99)
    for step in trange(args.steps, disable=None):
        opt_g.lr = opt_d.lr = 1e-3 * min(1, 2 * (1 - step / args.steps))
        rows, others = tinygan.to_device(tinygan.rng("batch").integers(5000, size=(2, batch)), device)
        a, b = thin[rows], pairs[rows] if cycle is None else thick[others]
        to_b, to_a = G(a), F(b)
        if cycle is None:
            loss = abs(to_b - b).mean() + abs(to_a - a).mean()
        else:
            opt_d.step(grad(sum(((D(real) - 1) ** 2).mean() + (D(fake.data) ** 2).mean()
                                for D, real, fake in ((D_a, a, to_a), (D_b, b, to_b))), opt_d.params))
            loss = ((D_a(to_a) - 1) ** 2).mean() + ((D_b(to_b) - 1) ** 2).mean()
        if cycle:
            loss = loss + cycle * (abs(F(to_b) - a).mean() + abs(G(to_a) - b).mean())
        opt_g.step(grad(loss, opt_g.params))
        mean.step()
    return average.eval()


def measure(name, *made):
    """Print and return: RMSE to the truth of the thick, thin and returned; share of thick and thin read right."""
    grey = ((2 * made[0] - PAPER - INK) @ (INK - PAPER)[:, None] / ((INK - PAPER) ** 2).sum()).clip(-1, 1)  # colour⁻¹
    off = [np.sqrt(((x - y) ** 2).mean()) for x, y in zip(made, (b, a, a), strict=True)]
    right = [(metrics.classify(judge.module, x)[0] == judge.labels).mean() for x in (grey, made[1])]
    print(f"{name:15}: RMSE {off[0]:.3f}, {off[1]:.3f}, there and back {off[2]:.3f}, "
          f"read {right[0]:.1%}, {right[1]:.1%}")
    return *off, *right


x, judge = data.digits().x, metrics.judge()
thin, thick, pairs = (tinygan.to_device(y, device) for y in (
    x[:5000], colour(thicken(x[5000:])), colour(thicken(x[:5000]))))                # pairs: for comparison only
a, b = judge.images, colour(thicken(judge.images))
true, nothing = measure("true", b, a, a), measure("only recoloured", colour(a), thicken(a), a)
rows, got = [a, b], []
for name, cycle in {"cycle": 10, "without cycle": 0, "pairs": None}.items():
    G, F = train(cycle)
    with tinygan.no_grad():
        to_b = G(tinygan.to_device(a, device))
        made = [tinygan.to_host(y.data) for y in (to_b, F(tinygan.to_device(b, device)), F(to_b))]
    got.append(measure(name, *made))
    rows += made[:2]
plot.save_image(args.out, plot.to_grid(np.concatenate([y[:14] * np.ones(3, np.float32) for y in rows]), columns=14))
ours, free, paired = got
print(f"{args.out}: RMSE to the true translation {ours[0]:.2f}, back {ours[1]:.2f} (only recoloured {nothing[0]:.2f}, "
      f"{nothing[1]:.2f}; without cycle {free[0]:.2f}, {free[1]:.2f}; from pairs {paired[0]:.2f}, {paired[1]:.2f}; "
      f"perfect: 0), read right {ours[3]:.1%}, {ours[4]:.1%} (perfect: the true ones' {true[3]:.1%}, {true[4]:.1%})")
