"""Convolution, max pooling, dense: a GAN for 64 × 64 colour images whose generator really ends in an image.

Discriminator: conv 32 (3×3) ReLU, max pool, conv 64 ReLU, dense 128 ReLU, dense 1: one number. Generator, the same
path backwards: dense to 8 × 8 × 64, then three transposed convolutions that double the size, and tanh: (64, 64, 3)
in (−1, 1). Each player has its own optimiser and its own loss, and they take turns:

    L_D = E D(G(z)) − E D(x) + 10 E (‖∇D(x̂)‖ − 1)²,  x̂ between x and G(z)          L_G = −E D(G(z))

What the usual version gets wrong: *a generator that is a classifier*: it convolves and pools an image down to class
scores, so D would have to compare scores with images; nothing it makes can be shown. *Softmax over D's one output*
is 1 for every image and has no gradient. *One `backward` for both players* on the sum of the losses: L_D also flows
into G, with the wrong sign, and G learns to look fake. *The two losses with their roles swapped*: D then learns to
praise what G makes, and both losses fall to 0 while nothing is learnt.

Changed here: both convolutions have stride 2, or a step would take several times as long; and the loss is that of
WGAN-GP. With softplus losses and R1, γ from 0.3 to 50, G drew 1 to 8 of the 12 kinds of shape there are, whatever the
learning rate (mode_collapse.py is about that); with this one all 12 are there after 200 steps.

Data: a disc or a square in one of six colours on a dark ground, drawn here; `--folder PATH` takes your own images
instead.

Expect 32 small pictures of one shape each in all six colours, edges and corners still soft. Takes 2 minutes. Prints the
distance of generated images to their nearest real one, and that of other real ones (perfect: the same), and how many
of the 12 kinds of shape were drawn (perfect: 12; not for your own images).
"""

import argparse
import copy

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, losses, nn, optim, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=800, seed=0, out="conv_pool_dense.png", folder="").items():
    shown = f"default: {default}" if default != "" else "of your own images"
    cli.add_argument(f"--{name}", type=type(default), default=default, help=shown)
args = cli.parse_args()
tinygan.seed(args.seed)
COLOURS = np.float32([[1, -.5, -.6], [1, .5, -.8], [.9, .9, -.6], [-.5, .8, -.4], [-.5, .2, 1], [.7, -.4, 1]])


def shapes(n, rng):
    """n images of one shape (n, 64, 64, 3) in [−1, 1], and the kind of each: colour + 6 · (is it a square?)."""
    kind, size = rng.integers(12, size=n), rng.uniform(12, 18, size=n)[:, None, None]
    down, right = rng.uniform(22, 42, size=(2, n))
    dy, dx = np.arange(64)[:, None] - down[:, None, None], np.arange(64) - right[:, None, None]     # (n, 64, 1), (n, 1, 64)
    edge = np.where(kind[:, None, None] < 6, np.hypot(dy, dx), np.maximum(abs(dy), abs(dx)) * 1.13)  # 2/√π: equal areas
    inside = np.clip(size - edge + 0.5, 0, 1)[..., None]                                    # (n, 64, 64, 1), soft rims
    return (inside * COLOURS[kind % 6][:, None, None] - (1 - inside) * 0.9).astype(np.float32), kind


G = nn.Sequential(
    nn.Linear(32, 8 * 8 * 64), nn.Reshape(8, 8, 64), nn.BatchNorm(64), nn.ReLU(),
    nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.BatchNorm(32), nn.ReLU(),        # (N, 16, 16, 32)
    nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm(16), nn.ReLU(),        # (N, 32, 32, 16)
    nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1), nn.Tanh())                           # (N, 64, 64, 3): an image
D = nn.Sequential(
    nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2),                   # (N, 16, 16, 32)
    nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),                     # (N, 8 · 8 · 64)
    nn.Linear(8 * 8 * 64, 128), nn.ReLU(), nn.Linear(128, 1))                               # a number, no softmax
device, batch, rate = tinygan.pick_device(args.device), 32, 1e-3
images = data.folder(args.folder, 64).x if args.folder else shapes(2000, tinygan.rng("shapes"))[0]
images, G, D = tinygan.to_device(images, device), G.to(device), D.to(device)
opt_g, opt_d = optim.Adam(G.parameters(), rate, (0, 0.9)), optim.Adam(D.parameters(), rate, (0, 0.9))
mean = optim.EMA(G, copy.deepcopy(G), decay=0.99)


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, 32), dtype=np.float32), device)


for step in trange(args.steps, disable=None):
    opt_g.lr = opt_d.lr = rate * min(1, 2 * (1 - step / args.steps))
    x = images[tinygan.to_device(tinygan.rng("batch").integers(len(images), size=batch), device)]
    fake = G(latents(batch))

    # D's turn: its own loss, its own optimiser. The penalty keeps its slope near 1, so that G can always follow it.
    penalty = losses.gradient_penalty(D, losses.interpolate(x, fake.data))
    opt_d.step(grad(D(fake.data).mean() - D(x).mean() + 10 * penalty, opt_d.params))

    # G's turn: the other loss, the other optimiser; D is only asked.
    opt_g.step(grad(-D(fake).mean(), opt_g.params))
    mean.step()                                                         # its weights, averaged over the last steps

with tinygan.no_grad():
    drawn = tinygan.to_host(mean.module.eval()(latents(256)).data)
plot.save_image(args.out, plot.to_grid(drawn[:32], columns=8))


def nearest(a, b):
    """The distance per pixel value from each image of a to the nearest in b, and which that is: two (len(a),)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    squares = ((a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)).clip(0) / a.shape[1]
    return np.sqrt(squares.min(axis=1)), squares.argmin(axis=1)


real, half = tinygan.to_host(images), min(256, len(images) // 2)
report = f"distance to the nearest real image {nearest(drawn, real[half:])[0].mean():.3f}, " \
         f"of other real images {nearest(real[:half], real[half:])[0].mean():.3f} (perfect: the same)"
if not args.folder:
    fresh, kinds = shapes(1000, np.random.default_rng(1))
    report += f", {len(set(kinds[nearest(drawn, fresh)[1]]))} of 12 kinds drawn (perfect: 12)"
print(f"{args.out}: {report}")
