"""Two sequential networks on 100 × 100 colour images; losses and scores are plotted while they train.

Discriminator: conv 16 (4×4, stride 2), max pool, flatten, dense 64, dense 1. Generator, backwards: dense 64, dense
25 · 25 · 16, enlarge, conv 16, transposed conv to (100, 100, 3), tanh. With labels t = 1 for real and t = 0 for
generated, one cross-entropy serves all, H(d, t) = E [softplus(d) − t d]:

    L_D = H(d(x), 1) + H(d(G(z)), 0)          L_G = H(d(G(z)), 1): the same images, labelled as G wants them seen

D also pays for its slope at real images, γ/2 E ‖∇d(x)‖² with γ = 10 (R1, Mescheder et al. 2018). Without that the
curves of this script swing to and fro, and its six skies are one sky.

What the usual version gets wrong: *the mean squared error between a fake image and a discriminator's score*: 30,000
pixels are compared with one number, which broadcasting allows, and G learns to be uniformly grey. *Labels missing*,
so that D has nothing to tell apart. *Networks never connected*: G is trained by itself, and no gradient ever passes
through D to G. *Losses read like those of a classifier*: here neither falls to 0 if all goes well. At the balance D
is undecided, its scores σ(d) are 0.5 for real and generated alike, L_D = 2 log 2 = 1.386 and L_G = log 2 = 0.693;
L_D → 0 and scores at 1 and 0 mean that D has won and G is not learning.

Data: evening skies, drawn here: the lower the sun, the redder. Open the picture in a viewer that reloads: it is
renewed every 50 steps.

Expect two pairs of curves that meet, and six skies under them. Takes 2 minutes. Prints the last scores
(perfect: 0.5 and 0.5) and how far mean and deviation of the generated pixels are from the real ones (perfect: 0,
and what chance alone gives).
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import grad, losses, nn, ops, optim, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=1000, seed=0, out="live_losses.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)


def skies(n, rng):
    """n pictures (n, 100, 100, 3) in [−1, 1]: a sky from deep to light, a sun somewhere, a dark hill under it."""
    down, across, hill = rng.uniform(20, 70, n), rng.uniform(20, 80, n), rng.uniform(70, 85, n)
    low = ((down - 20) / 50)[:, None, None, None]                                       # 0 at noon, 1 at sunset
    y, x = np.mgrid[:100, :100]                                                         # each (100, 100)
    height = (y / 99)[..., None]                                                        # 0 at the top, 1 at the bottom
    top, bottom = (1 - low) * [-.6, -.1, .7] + low * [-.5, -.6, .0], (1 - low) * [.2, .6, .9] + low * [.9, .1, -.5]
    sky = (1 - height) * top + height * bottom                                          # (n, 100, 100, 3)
    sun = np.clip(14.5 - np.hypot(y - down[:, None, None], x - across[:, None, None]), 0, 1)[..., None]
    ground = np.clip(y - hill[:, None, None] + 0.002 * (x - 50.0) ** 2, 0, 1)[..., None]
    sky = sky + sun * ([1, .9, .4] - sky)
    return (sky + ground * ([-.8, -.7, -.8] - sky)).astype(np.float32)


device, batch, every = tinygan.pick_device(args.device), 16, 50
images = tinygan.to_device(skies(1000, tinygan.rng("skies")), device)
G = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 25 * 25 * 16), nn.Reshape(25, 25, 16),
                  nn.BatchNorm(16), nn.ReLU(), nn.Upsample(2),                                      # (N, 50, 50, 16)
                  nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm(16), nn.ReLU(),
                  nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1), nn.Tanh()).to(device)
D = nn.Sequential(nn.Conv2d(3, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2), nn.Flatten(),
                  nn.Linear(25 * 25 * 16, 64), nn.LeakyReLU(0.2), nn.Dropout(0.4), nn.Linear(64, 1)).to(device)
opt_g, opt_d = (optim.Adam(net.parameters(), 1e-3, (0.5, 0.99)) for net in (G, D))


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, 16), dtype=np.float32), device)


def figure():
    """Curves of losses and scores with six generated skies under them, as one image (824, 960, 3)."""
    G.eval()
    with tinygan.no_grad():
        row = plot.to_grid(tinygan.to_host(G(fixed).data[:6]), columns=6)               # (104, 614, 3)
    G.train()
    sides = ((10, 10), (173, 173), (0, 0))
    return np.concatenate([plot.losses(log), np.pad(row, sides, constant_values=255)])


fixed, log = latents(8), []
real_label = tinygan.to_device(np.ones((batch, 1), np.float32), device)
fake_label = 0 * real_label
for step in trange(1, args.steps + 1, disable=None):
    x = images[tinygan.to_device(tinygan.rng("batch").integers(len(images), size=batch), device)]
    fake = G(latents(batch))                                            # (16, 100, 100, 3), the shape of the data

    d_real, d_fake = D(x), D(fake.data)                                 # (16, 1) each
    loss_d = losses.bce_with_logits(d_real, real_label) + losses.bce_with_logits(d_fake, fake_label)
    slope = 10 / 2 * losses.gradient_penalty(D, x, center=0) if step % 4 == 0 else 0    # one step in four, four times as strong
    opt_d.step(grad(loss_d + 4 * slope, opt_d.params))

    loss_g = losses.bce_with_logits(D(fake), real_label)                # connected: the gradient passes through D to G
    opt_g.step(grad(loss_g, opt_g.params))

    if step % 5 == 0 or step == args.steps:                             # a number read makes a GPU wait: not each step
        scores = [float(ops.sigmoid(d.data).mean()) for d in (d_real, d_fake)]
        log.append(dict(step=step, d_loss=loss_d.item(), g_loss=loss_g.item(), d_real=scores[0], d_fake=scores[1]))
    if step % every == 0 or step == args.steps:
        plot.save_image(args.out, figure())

G.eval()
with tinygan.no_grad():
    drawn = tinygan.to_host(G(latents(500)).data)
real = tinygan.to_host(images)
off, floor = ([np.abs(statistic(a, axis=0) - statistic(real[:500], axis=0)).mean() for statistic in (np.mean, np.std)]
              for a in (drawn, real[500:]))
late = {key: np.mean([row[key] for row in log[-20:]]) for key in ("d_real", "d_fake")}
print(f"{args.out}: scores {late['d_real']:.2f} and {late['d_fake']:.2f} (perfect: 0.5), mean off by {off[0]:.3f}, "
      f"deviation by {off[1]:.3f} (perfect: 0; by chance {floor[0]:.3f} and {floor[1]:.3f})")
