"""Two learning rates: gradient descent for two players by hand, then Adam in its place; and dropout.

Discriminator on 28 × 28 digits: conv 16 – pool – conv 32 – pool – flatten – dense 256 – dropout 0.3 – dense 1,
batches of 32. Each player has its own loss and its own rate, and walks downhill on its own parameters only:

    D ← D − η_D ∂L_D/∂D        L_D = E softplus(−D(x)) + E softplus(D(G(z)))
    G ← G − η_G ∂L_G/∂G        L_G = E softplus(−D(G(z)))

`grad(L_G, G.parameters())` differentiates *through* D without touching it. Two rates, since the players differ in
size and in what a step changes (Heusel et al. 2017 prove that with two rates the pair can converge); here G's is
three times D's. The first twelfth of the steps does the two lines above literally; then the optimiser classes take
over, `opt.step(grad(...))`, and go on from the same weights. Both rates fall to 0 over the last fifth.

What the usual version gets wrong: *a sigmoid code of length 100 as an "image"*: D then tells codes from digits, and
no picture ever exists; here G ends in (28, 28, 1). *Both players in one `fit`* on one loss: one of them is trained
uphill. *Dropout left on when sampling or scoring*, or used in a D with a gradient penalty at two different masks.
Sampling here is in `evaluating()`. *SGD at Adam's 0.001*: Adam divides by the size of the gradients, SGD does not,
and takes much larger rates (here 0.1 and 0.3) to move at all.

Changed here: 16, 32 and 256 units for 64, 128 and 1024, dropout 0.3 for 0.5, convolutions with stride 2 (with stride
1 a step takes nearly twice as long), BatchNorm, and DCGAN's start. Pooling windows of 2 × 2 overlap (stride 1), since
the convolutions shrink the image enough: side by side 87 % can be read in place of 91 % (one run each, seed 0).
Dropout is to keep D from learning its images by heart. In a training as short as this it does not pay: without it
92 % can be read, at a distance of 17 in place of 21. Nor must the rates differ: equal ones in Adam's part give 89 %
and 19 (seed 0 again; seeds differ by as much).

Expect two rows of grainy strokes behind a lattice of dots after plain gradient descent, then four rows of digits
after Adam, nine in ten of which can be read (seeds 0 to 3: 89 to 91 %, the rarest digit 7.0 to 8.6 %, Fréchet
distance 21 to 31). Takes 110 seconds. Prints what `tinygan evaluate` does: the Fréchet distance to digits held out,
in the eyes of a classifier, after each part (perfect: 8); the share that it reads with a confidence of 0.9 (perfect:
98 %); and how often the rarest of the ten is drawn (perfect: 7.3 %, as in real ones; a collapse would be 0).
"""

import argparse
import copy

import numpy as np
from tqdm import trange

import tinygan
from tinygan import cpu, cpu_threads, data, grad, metrics, nn, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=5000, seed=0, out="two_learning_rates.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
cpu_threads.share_cores()
cpu.keep_freed_memory()                                                 # as `tinygan train` does: quicker steps
digits, device, batch = data.digits().x, tinygan.pick_device(args.device), 32

D = nn.normal_(nn.Sequential(
    nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2, stride=1),             # (N, 13, 13, 16)
    nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.BatchNorm(32), nn.LeakyReLU(0.2),                     # (N, 6, 6, 32)
    nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(5 * 5 * 32, 256), nn.BatchNorm(256), nn.LeakyReLU(0.2),
    nn.Dropout(0.3), nn.Linear(256, 1)))
G = nn.normal_(nn.Sequential(
    nn.Linear(64, 256), nn.BatchNorm(256), nn.ReLU(), nn.Linear(256, 256), nn.BatchNorm(256), nn.ReLU(),
    nn.Linear(256, 7 * 7 * 32), nn.Reshape(7, 7, 32), nn.BatchNorm(32), nn.ReLU(),
    nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm(16), nn.ReLU(),                    # (N, 14, 14, 16)
    nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Tanh()))                                      # (N, 28, 28, 1)
D.to(device), G.to(device)
x_all = tinygan.to_device(digits, device)


def latents(n):
    """n latents z ~ N(0, 1)."""
    return tinygan.to_device(tinygan.rng("latent").standard_normal((n, 64), dtype=np.float32), device)


def gradients():
    """One round: first D's gradients; then, when the caller has moved D (hence `yield`), G's."""
    x = x_all[tinygan.to_device(tinygan.rng("batch").integers(len(x_all), size=batch), device)]
    fake = G(latents(batch))
    yield grad(softplus(-D(x)).mean() + softplus(D(fake.data)).mean(), D.parameters())
    yield grad(softplus(-D(fake)).mean(), G.parameters())


def sample(net):
    """2,000 digits, with BatchNorm's averages."""
    with net.evaluating(), tinygan.no_grad():
        return tinygan.to_host(net(latents(2000)).data)


by_hand = args.steps // 12
eta_d, eta_g = 0.1, 0.3                                                 # η_D and η_G
for _ in trange(by_hand, desc="by hand", disable=None):
    for net, eta, gradient in zip((D, G), (eta_d, eta_g), gradients(), strict=True):
        for parameter, g in zip(net.parameters(), gradient, strict=True):
            parameter.data -= eta * g                                   # θ ← θ − η ∂L/∂θ
after_sgd = sample(G)

opt_d, opt_g = (optim.Adam(net.parameters(), betas=(0.5, 0.999)) for net in (D, G))
mean = optim.EMA(G, copy.deepcopy(G), decay=0.998)                      # G's weights, averaged over some 500 steps
for step in trange(by_hand, args.steps, desc="Adam", disable=None):
    eta = 1e-3 * min(1, 5 * (1 - step / args.steps))                    # falls over the last fifth
    opt_d.lr, opt_g.lr = eta, eta * (1 + 2 * min(1, (step - by_hand) / 500))    # G's grows to three times D's
    for opt, gradient in zip((opt_d, opt_g), gradients(), strict=True):
        opt.step(gradient)
    mean.step()
after_adam = sample(mean.module)

plot.save_image(args.out, plot.to_grid(np.concatenate([after_sgd[:20], after_adam[:40]]), columns=10))
sgd, adam = (metrics.evaluate_digits(x, resamples=5) for x in (after_sgd, after_adam))     # as `tinygan evaluate` does
real = {name: columns["real, held out"][0] for name, columns in adam.items()}
sgd, adam = ({name: columns["generated"][0] for name, columns in figures.items()} for figures in (sgd, adam))
far, read, rarest = "classifier Fréchet distance", "read with confidence 0.9", "rarest digit"
print(f"{args.out}: Fréchet distance {sgd[far]:.0f} after gradient descent, {adam[far]:.0f} after Adam (perfect: "
      f"{real[far]:.0f}); then {adam[read]:.0%} of the digits can be read (perfect: {real[read]:.0%}), "
      f"the rarest is drawn {adam[rarest]:.1%} of the time (perfect: {real[rarest]:.1%})")
