"""A DCGAN draws digits: two convolutional networks, one loop, and a test that cannot be talked round.

G turns 64 random numbers into an image by transposed convolutions, each doubling the size; D turns an image into
one logit by convolutions, each halving it (Radford et al. 2016, "Unsupervised representation learning with
DCGANs"). Both have one dense layer of 256 besides, as InfoGAN's do: convolutions see neighbours, and someone has to
plan the whole digit. (Without it, even with twice the channels, the test below said 84 %.) They minimise

    L_D = E softplus(−D(x)) + E softplus(D(G(z)))          L_G = E softplus(−D(G(z)))          (non-saturating)

What the usual version gets wrong: *real and generated images in one batch through D*: its BatchNorm then sees one
set of statistics for a mixture, and D can tell the halves apart without looking at a digit. Here they go through
separately. *Data in [0, 1] against a tanh in [−1, 1]*: D needs to look at nothing but the background. *Sampling in
training mode*, so that every image depends on its neighbours in the batch; and *averaged weights without
BatchNorm's averages*. EMA and eval() take care of both here. *"G's loss fell, so the images are better"*: L_G
measures G against the D of the moment and says nothing about images.

What says something: a two-sample test by nearest neighbour (Lopez-Paz & Oquab 2017). Mix 1,000 real and 1,000
generated digits and give each the label of its nearest neighbour. If both come from one distribution that is right
half of the time: 50 %. Blurred or few digits give up to 100 %, copies of the very digits compared 0 %.

Expect 64 mostly legible digits. Takes 1 minute. Prints the accuracy of that test (expect 74 %; perfect: 50 %).
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, models, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=2000, seed=0, out="dcgan_digits.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
device, latent, batch = tinygan.pick_device(args.device), 64, 32

digits = tinygan.to_device(data.digits().x, device)                     # (10000, 28, 28, 1) in [−1, 1]
G, average = (models.conv_generator(latent, 28, 1, width=16, hidden=256).to(device) for _ in range(2))
D = models.conv_discriminator(28, 1, width=16, hidden=256).to(device)
opt_g, opt_d = (optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999)) for net in (G, D))
mean = optim.EMA(G, average, decay=0.99)


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, latent), dtype=np.float32), device)


for _ in trange(args.steps, disable=None):
    x = digits[tinygan.to_device(tinygan.rng("batch").integers(len(digits), size=batch), device)]
    fake = G(latents(batch))

    loss_d = softplus(-D(x)).mean() + softplus(D(fake.data)).mean()     # .data: D's step sees numbers, not G's history
    opt_d.step(grad(loss_d, opt_d.params))

    loss_g = softplus(-D(fake)).mean()                                  # the same images, now with their history
    opt_g.step(grad(loss_g, opt_g.params))                              # D's weight gradients are never computed
    mean.step()

average.eval()                                                          # each image on its own from here on
with tinygan.no_grad():
    drawn = tinygan.to_host(average(latents(1000)).data)
plot.save_image(args.out, plot.to_grid(drawn[:64]))


def nearest_neighbour_accuracy(real, fake):
    """How often the nearest neighbour of a sample is of its own kind: 50 % if nothing tells the two kinds apart."""
    x = np.concatenate([real, fake]).reshape(len(real) + len(fake), -1)
    squares = (x * x).sum(axis=1)
    distance = squares[:, None] - 2 * x @ x.T + squares                 # |a − b|² = |a|² − 2 a·b + |b|²
    np.fill_diagonal(distance, np.inf)                                  # nobody is his own neighbour
    is_real = np.arange(len(x)) < len(real)
    return (is_real[distance.argmin(axis=1)] == is_real).mean()


real = tinygan.to_host(digits)
floor = nearest_neighbour_accuracy(real[:1000], real[1000:2000])
accuracy = nearest_neighbour_accuracy(real[:1000], drawn)
print(f"{args.out}: the nearest neighbour tells real from generated in {accuracy:.0%} of cases (perfect: 50%; "
      f"real from real: {floor:.0%})")
