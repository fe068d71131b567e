"""Choose the digit: both players of this GAN are told the label, and a classifier checks who obeys.

The label y enters each network as a vector that is learnt with it, a row of a table E (`nn.Embedding`), joined to
the other input:

    G(z, y) = G([z, E_G(y)])          D(x, y) = D([x, E_D(y)])          (Mirza & Osindero 2014, "Conditional GANs")

In D the row has 28 · 28 numbers and becomes a second channel of the image. The losses are those of any GAN, for
pairs:

    L_D = E softplus(−D(x, y)) + E softplus(D(G(z, y), y))          L_G = E softplus(−D(G(z, y), y))

What the usual version gets wrong: it tells only G. Nothing then rewards obeying, and G ignores y. Or it gives D the
real images with their labels and the fakes with fresh random ones, which D tells apart by the mismatch. Or it
one-hot encodes y as ten floats next to 784 pixels in a dense D, a whisper. And it shows a picture in place of a
figure; or reports the accuracy of a classifier that was trained on generated images, or ends in softmax before a
cross-entropy that contains one, and so never gets beyond e/(e + 9) = 0.23 confidence.

Here a small network is trained on 8,000 real digits, tried on 2,000 others, and then asked what it sees in 1,000
generated ones.

Expect ten columns, one per digit. Takes 75 seconds. Prints how often G draws what was asked for (perfect: 100 %,
but no more can be proven than the classifier's own accuracy on real digits, printed next to it; by chance: 10 %).
It says nothing about variety: one good picture per digit would score 100 %, so look along the columns too.
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, losses, models, nn, optim, plot
from tinygan.ops import concatenate, softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=2000, seed=0, out="conditional_digits.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
digits, device, batch = data.digits(), tinygan.pick_device(args.device), 32
x_all, y_all = tinygan.to_device(digits.x, device), tinygan.to_device(digits.labels, device)


class Generator(nn.Module):
    """(z (N, 48), y (N,)) → images (N, 28, 28, 1)."""

    def __init__(self):
        self.table = nn.Embedding(10, 16)
        self.net = models.conv_generator(48 + 16, 28, 1, width=16, hidden=256)

    def forward(self, z, y):
        return self.net(concatenate(z, self.table(y), axis=1))          # (N, 48) and (N, 16) → (N, 64)


class Discriminator(nn.Module):
    """(images (N, 28, 28, 1), y (N,)) → logits (N, 1)."""

    def __init__(self):
        self.table = nn.Embedding(10, 28 * 28)
        self.net = models.conv_discriminator(28, 2, width=16, hidden=256)

    def forward(self, x, y):
        plane = self.table(y).reshape(-1, 28, 28, 1)                    # one picture per label, to be learnt
        return self.net(concatenate(x, plane, axis=3))                  # (N, 28, 28, 2)


def indices(high, n, name):
    """n integers in 0..high−1 from the random stream of this name."""
    return tinygan.to_device(tinygan.rng(name).integers(high, size=n), device)


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, 48), dtype=np.float32), device)


G, average, D = Generator().to(device), Generator().to(device), Discriminator().to(device)
mean = optim.EMA(G, average, decay=0.99)
opt_g, opt_d = (optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999)) for net in (G, D))
for step in trange(args.steps, disable=None):
    opt_g.lr = opt_d.lr = 1e-3 * min(1, 2 * (1 - step / args.steps))
    rows, wanted = indices(len(x_all), batch, "batch"), indices(10, batch, "label")
    fake = G(latents(batch), wanted)

    right = softplus(-D(x_all[rows], y_all[rows])).mean()               # a real digit with its own label
    wrong = softplus(D(fake.data, wanted)).mean()                       # a fake with the label it was made for
    opt_d.step(grad(right + wrong, opt_d.params))

    opt_g.step(grad(softplus(-D(fake, wanted)).mean(), opt_g.params))
    mean.step()

# The judge, who has never seen a generated image. Logits into cross_entropy, which contains the softmax.
judge = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10)).to(device)
opt = optim.Adam(judge.parameters(), 2e-3)
for _ in range(min(1500, 2 * args.steps)):
    rows = indices(8000, 128, "judge")
    opt.step(grad(losses.cross_entropy(judge(x_all[rows]), y_all[rows]), opt.params))

average.eval(), judge.eval()                                                # BatchNorm's averages, no dropout
with tinygan.no_grad():
    wanted = tinygan.to_device(np.arange(1000) % 10, device)
    drawn = average(latents(1000), wanted).data
    obeyed = float((judge(drawn).data.argmax(axis=1) == wanted).mean())
    ceiling = float((judge(x_all[8000:]).data.argmax(axis=1) == y_all[8000:]).mean())
plot.save_image(args.out, plot.to_grid(tinygan.to_host(drawn[:80]), columns=10))
print(f"{args.out}: the digit asked for {obeyed:.1%} (perfect: 100%; the judge is right on real digits {ceiling:.1%})")
