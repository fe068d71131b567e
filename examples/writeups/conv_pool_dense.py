"""Convolution, max pooling, dense: a GAN for 64 × 64 colour images whose generator really ends in an image.

Discriminator: conv 32 (4×4, stride 4), conv 32 (3×3), max pool, dense 128, dense 1: one number. Generator: dense layers
turn z into the places of 16 curves, lines and circles; how far each pixel lies on either side of each of them goes
through the same two small dense layers at every pixel (1×1 convolutions), and tanh: (64, 64, 3) in (−1, 1). Each player
has its own optimiser and its own loss, and they take turns:

    L_D = E softplus(−D(x)) + E softplus(D(G(z))) + γ/2 (E ‖∇D(x)‖² + E ‖∇D(G(z))‖²)      L_G = E softplus(−D(G(z)))

What the usual version gets wrong: *a generator that is a classifier*: it convolves and pools an image down to class
scores, so D would have to compare scores with images; nothing it makes can be shown. *Softmax over D's one output*
is 1 for every image and has no gradient. *One `backward` for both players* on the sum of the losses: L_D also flows
into G, with the wrong sign, and G learns to look fake. *The two losses with their roles swapped*: D then learns to
praise what G makes, and both losses fall to 0 while nothing is learnt.

Changed here: G has no transposed convolutions. Those do the same everywhere and do not know where they are, so to draw
a sharp thing at a place that z names is what they learn worst (Liu et al. 2018, "An intriguing failing of convolutional
neural networks and the CoordConv solution"): three of them behind a dense layer, trained by WGAN-GP for about two
minutes (seed 0), drew soft blobs of which 4% were recognised by geometry too, see below. The remedy is to tell the
network the coordinates y and x, and y² + x², of every pixel; here z puts the coefficients in front of them, so a
straight rim or a round one anywhere is one unit of the network. That suits pictures of few sharp shapes, and not
photographs. Both slopes of D are penalised, from γ = 30 down to 2 (Mescheder et al. 2018). Twelve switches, one of them
on, belong to z, because a z that varies smoothly has to pass through things between the kinds.

Data: a disc or a square in one of six colours on a dark ground, drawn afresh for every step; `--folder PATH` takes your
own images instead.

Expect 32 small pictures of one shape each in all six colours, most of them sharp; some squares have bent sides, some
discs a corner or two colours. Takes 2 minutes. Prints the distance of generated images to their nearest real one, and
that of other real ones (perfect: the same). Also, not for your own images: the share whose kind a classifier of true
shapes is 90% sure of; the share for which geometry says the same (the same colour and shape, and its distance to the
best redrawn one is below 3/4 of that to the other); and how many of the 12 kinds were drawn. Seeds 0, 1 and 2: 82%, 80%
and 76% are recognised, 72%, 69% and 64% by geometry too, 12, 12 and 11 kinds.
"""

import argparse
import copy

import numpy as np
from tqdm import trange

import tinygan
from tinygan import cpu, cpu_threads, data, grad, losses, nn, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=4300, seed=0, out="conv_pool_dense.png", folder="").items():
    shown = f"default: {default}" if default != "" else "of your own images"
    cli.add_argument(f"--{name}", type=type(default), default=default, help=shown)
args = cli.parse_args()
tinygan.seed(args.seed)
cpu.keep_freed_memory()                                         # as the command does: a step takes less time
cpu_threads.share_cores()
COLOURS = np.float32([[1, -.5, -.6], [1, .5, -.8], [.9, .9, -.6], [-.5, .8, -.4], [-.5, .2, 1], [.7, -.4, 1]])


def masks(square, size, down, right):
    """How far each pixel lies inside of a shape, 0 to 1: (n, 64, 64). Discs and squares of one size have one area."""
    square, size, down, right = (np.float32(a)[:, None, None] for a in (square, size, down, right))
    dy, dx = np.arange(64, dtype=np.float32)[:, None] - down, np.arange(64, dtype=np.float32) - right
    edge = np.where(square, np.maximum(abs(dy), abs(dx)) * np.float32(1.13), np.hypot(dy, dx))          # 1.13 = 2/√π
    return np.clip(size - edge + np.float32(0.5), 0, 1)                                                 # soft rims


def shapes(n, rng):
    """n images of one shape (n, 64, 64, 3) in [−1, 1], and the kind of each: colour + 6 · (is it a square?)."""
    kind, size = rng.integers(12, size=n), rng.uniform(12, 18, size=n)
    inside = masks(kind >= 6, size, *rng.uniform(22, 42, size=(2, n)))[..., None]           # (n, 64, 64, 1)
    return inside * COLOURS[kind % 6][:, None, None] - (1 - inside) * np.float32(0.9), kind


class Curves(nn.Module):
    """k lines and circles a y + b x + c (y² + x²) + d, where the input puts them: (N, 4 k) → (N, 64, 64, k)."""

    def __init__(self, k):
        self.k, self.at = k, np.linspace(-2, 2, 64, dtype=np.float32)[:, None]              # (64, 1): the coordinates

    def forward(self, w):
        a, b, c, d = (w[:, i * self.k:(i + 1) * self.k].reshape((len(w), 1, self.k)) for i in range(4))
        rows, columns = self.at * (a + c * self.at / 2) + d, self.at * (b + c * self.at / 2)    # (N, 64, k) each
        return rows.reshape((len(w), 64, 1, self.k)) + columns.reshape((len(w), 1, 64, self.k))


def recogniser():
    """A small network that tells the 12 kinds of true shapes apart; it never sees what G draws."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 4, stride=2, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 16, 64), nn.ReLU(), nn.Linear(64, 12))
    opt, lessons, steps = optim.Adam(net.parameters(), 3e-3), np.random.default_rng(7), min(1500, args.steps)
    for step in range(steps):
        opt.lr = 3e-3 * (1 - step / steps)
        x, kind = shapes(32, lessons)
        opt.step(grad(losses.cross_entropy(net(x), kind), opt.params))
    return net.eval()


def redrawn(x):
    """The shape of x by geometry alone: its kind (n,), and the distances to the disc and the square drawn in its
    place (2, n): of its colour, its area and its centre."""
    x, colours = x + 0.9, COLOURS + 0.9
    colour = (x.sum((1, 2)) @ (colours / np.linalg.norm(colours, axis=1)[:, None]).T).argmax(1)
    c = colours[colour][:, None, None]                                                      # (n, 1, 1, 3)
    inside = (x * c).sum(3) > (c * c).sum(3) / 2                                            # (n, 64, 64)
    area, at = np.maximum(inside.sum((1, 2)), 1), np.arange(64)
    place = np.sqrt(area / np.pi), (inside.sum(2) * at).sum(1) / area, (inside.sum(1) * at).sum(1) / area
    far = np.stack([np.sqrt(((masks(np.full(len(x), square), *place)[..., None] * c - x) ** 2).mean((1, 2, 3)))
                    for square in (False, True)])
    return colour + 6 * far.argmin(0), far


G = nn.Sequential(
    nn.Linear(20, 64), nn.BatchNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm(64), nn.ReLU(),
    nn.Linear(64, 4 * 16),                                                                  # where the curves lie
    Curves(16), nn.BatchNorm(16), nn.ReLU(),                                                # (N, 64, 64, 16)
    nn.Linear(16, 16), nn.BatchNorm(16), nn.ReLU(), nn.Linear(16, 3), nn.Tanh())      # (N, 64, 64, 3): an image
D = nn.Sequential(
    nn.Conv2d(3, 32, 4, stride=4), nn.LeakyReLU(0.2),                                       # (N, 16, 16, 32)
    nn.Conv2d(32, 32, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2), nn.Flatten(),      # (N, 8 · 8 · 32)
    nn.Linear(8 * 8 * 32, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))                       # a number, no softmax
device, batch, rate = tinygan.pick_device(args.device), 8, 2e-3
images = data.folder(args.folder, 64).x if args.folder else shapes(2000, tinygan.rng("shapes"))[0]
G, D = G.to(device), D.to(device)
opt_d, opt_g = optim.Adam(D.parameters(), rate, (0, 0.99)), optim.Adam(G.parameters(), 2 * rate, (0, 0.99))
mean = optim.EMA(G, copy.deepcopy(G), decay=0.99)


def latents(n):
    """n latents: 8 numbers ~ N(0, 1), and one of 12 switches that is on."""
    random = tinygan.rng("latent")
    z, switch = random.standard_normal((n, 8), dtype=np.float32), random.integers(12, size=n)
    return tinygan.to_device(np.concatenate([z, 4 * np.eye(12, dtype=np.float32)[switch]], axis=1), device)


for step in trange(args.steps, disable=None):
    fall = min(1, 2 * (1 - step / args.steps))
    opt_d.lr, opt_g.lr = rate * fall, 2 * rate * fall
    random = tinygan.rng("batch")
    x = images[random.integers(len(images), size=batch)] if args.folder else shapes(batch, random)[0]
    x = tinygan.to_device(x, device)
    fake = G(latents(batch))

    # D's turn: its own loss, its own optimiser. Every fourth step its slope is kept low, four times as strongly.
    loss = softplus(-D(x)).mean() + softplus(D(fake.data)).mean()
    if step % 4 == 0:
        gamma = 30 / 15 ** (step / args.steps)
        loss += 4 * gamma / 2 * (losses.gradient_penalty(D, x, 0) + losses.gradient_penalty(D, fake.data, 0))
    opt_d.step(grad(loss, opt_d.params))

    # G's turn: the other loss, the other optimiser; D is only asked.
    opt_g.step(grad(softplus(-D(fake)).mean(), opt_g.params))
    mean.step()                                                         # its weights, averaged over the last steps

with tinygan.no_grad():
    drawn = tinygan.to_host(mean.module.eval()(latents(256)).data)
plot.save_image(args.out, plot.to_grid(drawn[:32], columns=8))


def nearest(a, b):
    """The distance per pixel value from each image of a to the nearest in b: (len(a),)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    squares = ((a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)).clip(0) / a.shape[1]
    return np.sqrt(squares.min(axis=1))


def recognised(net, x):
    """Whether net is 90% sure of the kind of each of x, whether geometry says the same, and the kind: three (n,)."""
    with tinygan.no_grad():
        score = net(x).data
    kind, (geometric, far) = score.argmax(1), redrawn(x)
    sure = np.exp(score - score.max(1, keepdims=True)).sum(1) < 1 / 0.9
    return sure, sure & (geometric == kind) & (far.min(0) < 0.75 * far.max(0)), kind


half = min(256, len(images) // 2)
report = f"distance to the nearest real image {nearest(drawn, images[half:]).mean():.3f}, " \
         f"of other real images {nearest(images[:half], images[half:]).mean():.3f} (perfect: the same)"
if not args.folder:
    net, fresh = recogniser(), shapes(256, np.random.default_rng(1))[0]
    (sure, both, kind), (real_sure, real_both, _) = recognised(net, drawn), recognised(net, fresh)
    report += f", {sure.mean():.0%} recognised by a classifier (perfect: {real_sure.mean():.0%}), " \
              f"{both.mean():.0%} by geometry too (perfect: {real_both.mean():.0%}), " \
              f"{len(set(kind[sure]))} of 12 kinds drawn (perfect: 12)"
print(f"{args.out}: {report}")
