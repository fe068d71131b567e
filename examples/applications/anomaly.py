"""Which of these is not a digit of the usual kind? A GAN that has only seen one digit tries to rebuild each image.

Only normal images are to be had for training: here those of one digit. A GAN learns to draw them, then an encoder E
learns to find the z from which G would draw an image x, while G and D stay as they are:

    L_D = E softplus(−D(x)) + E softplus(D(G(z)))          L_G = E softplus(−D(G(z)))          L_E = E a(x)
    a(x) = mean (x − G(E(x)))² + mean (f(x) − f(G(E(x))))²          f: the features of D before its last layer

G has only learnt to draw normal images, so an odd one comes back changed, and a(x) says how much (Schlegl et al. 2017,
"AnoGAN", who seek z by gradient descent for each image; Schlegl et al. 2019, "f-AnoGAN", with the encoder). All this
is done ten times, with each digit as the normal one and the nine others as odd.

What the usual version gets wrong: it takes −D(x) for the score, but D has only learnt to tell real images from G's,
never from other digits, and is little better than a coin. Or it picks the score, the step or the threshold by the
labels of the test set. Or it reports accuracy, which is 90 % for calling everything odd. And it leaves out a baseline
without a network: the distance to the plane of the first principal components (PCA), as many as z has numbers.

Expect a top row of ten held-out digits and, below, ten GANs' attempts at them: the GAN of digit k rebuilds column k
and bends the others towards k. Takes 50 seconds. Prints the AUROC, how often an odd image has a higher score than a
normal one, on 2,000 held-out images (by chance: 0.5, perfect: 1): 0.93 on average and 0.98 for '0' (AnoGAN: 0.913 and
0.966 by Ruff et al. 2018, table 1). Pixels alone do as well, and PCA wins: 0.96 and 0.99, in a blink.
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, metrics, models, nn, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=2000, seed=0, out="anomaly.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
device, batch, latent = tinygan.pick_device(args.device), 32, 16
digits, judge = data.digits(), metrics.judge()                          # to learn from, and 2,000 images held out


def half(x):
    """Images (N, 28, 28, 1) at half the size, as rows: (N, 196)."""
    return x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, latent), dtype=np.float32), device)


def some(x):
    """A random batch of x's rows."""
    return x[tinygan.to_device(tinygan.rng("batch").integers(len(x), size=batch), device)]


def changes(x, y, D):
    """The two terms of a(x), for each image x and its reconstruction y: (N,) and (N,)."""
    pixels, features = y - x, D.features(y) - D.features(x)
    return (pixels * pixels).mean(axis=1), (features * features).mean(axis=1)


def train(x):
    """G, E and D of one GAN and its encoder, trained on normal images x (N, 196)."""
    G = nn.Sequential(nn.Linear(latent, 128), nn.BatchNorm(128), nn.ReLU(), nn.Linear(128, 196), nn.Tanh()).to(device)
    D = models.mlp_discriminator((196,), (128, 64)).to(device)
    E = nn.Sequential(nn.Linear(196, 128), nn.LeakyReLU(0.2), nn.Linear(128, latent)).to(device)
    opt_g, opt_d, opt_e = (optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999)) for net in (G, D, E))
    for _ in range(args.steps):                                         # first the GAN, as everywhere
        fake = G(latents(batch))
        opt_d.step(grad(softplus(-D(some(x))).mean() + softplus(D(fake.data)).mean(), opt_d.params))
        opt_g.step(grad(softplus(-D(fake)).mean(), opt_g.params))
    G.eval()
    for _ in range(args.steps):                                         # then E, with G and D as they are
        real = some(x)
        opt_e.step(grad(sum(changes(real, G(E(real)), D)).mean(), opt_e.params))
    return G, E, D


def off_plane(x, shown):
    """The squared distance of each image shown from the plane of x's first principal components."""
    axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:latent]       # (16, 196)
    return (((shown - x.mean(axis=0)) @ (np.eye(196) - axes.T @ axes)) ** 2).mean(axis=1)


def auroc(scores, odd):
    """How often an odd image has a higher score than a normal one: from the sum of the odd ones' ranks."""
    ranks, n = scores.argsort().argsort() + 1, odd.sum()
    return (ranks[odd].sum() - n * (n + 1) / 2) / (n * (len(odd) - n))


train_x, test_x = half(digits.x), half(judge.images)
shown = [int(np.flatnonzero(judge.labels == k)[0]) for k in range(10)]  # the first of each digit
picture, table, x = [test_x[shown]], [], tinygan.to_device(test_x, device)
for k in trange(10, disable=None):
    normal = train_x[digits.labels == k]
    G, E, D = train(tinygan.to_device(normal, device))
    with tinygan.no_grad():
        y = G(E(x))
        pixels, features = (tinygan.to_host(part.data) for part in changes(x, y, D))
        verdict = tinygan.to_host(-D(x).data)[:, 0]
    picture.append(tinygan.to_host(y.data)[shown])
    table.append([auroc(s, judge.labels != k) for s in (pixels + features, pixels, verdict, off_plane(normal, test_x))])

gan, pixel, coin, pca = np.mean(table, axis=0)
images = np.concatenate(picture).reshape(-1, 14, 14, 1).repeat(3, axis=1).repeat(3, axis=2)
plot.save_image(args.out, plot.to_grid(images, columns=10))
print(f"by normal digit: {', '.join(f'{k}: {row[0]:.2f}' for k, row in enumerate(table))}; by pixels only {pixel:.2f}")
print(f"{args.out}: AUROC {gan:.2f} on average, '0' {table[0][0]:.2f} (PCA{' wins' if pca > gan else ''}: {pca:.2f}, "
      f"{table[0][3]:.2f}; −D(x) {coin:.2f}; chance: 0.5, perfect: 1)")
