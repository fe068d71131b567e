"""Two learning rates: gradient descent for two players by hand, then Adam in its place; and dropout.

Discriminator on 28 × 28 digits: conv 64 – pool – conv 128 – pool – flatten – dense 1024 – dropout 0.5 – dense 1,
batches of 32. Each player has its own loss and its own rate, and walks downhill on its own parameters only:

    D ← D − η_D ∂L_D/∂D        L_D = E softplus(−D(x)) + E softplus(D(G(z)))
    G ← G − η_G ∂L_G/∂G        L_G = E softplus(−D(G(z)))

`grad(L_G, G.parameters())` differentiates *through* D without touching it. Two rates, since the players differ in
size and in what a step changes (Heusel et al. 2017 prove that with two rates the pair can converge). The first
third of the steps does the two lines above literally; then the optimiser classes take over, `opt.step(grad(...))`,
and go on from the same weights.

What the usual version gets wrong: *a sigmoid code of length 100 as an "image"*: D then tells codes from digits, and
no picture ever exists; here G ends in (28, 28, 1). *Both players in one `fit`* on one loss: one of them is trained
uphill. *Dropout left on when sampling or scoring*, or used in a D with a gradient penalty at two different masks.
Here dropout keeps D from learning 10,000 digits by heart. Scoring calls eval(). *SGD at Adam's 0.001*: Adam divides
by the size of the gradients, SGD does not, and takes much larger rates (here 0.02 and 0.1) to move at all.

Expect two rows of pen strokes after plain gradient descent, then four rows of rough digits after Adam. Takes 2
minutes. Prints the Fréchet distance to the digits in their 20 principal directions after each part (perfect: that
between two sets of real digits, printed next to it).
"""

import argparse

import numpy as np
from tqdm import trange

import tinygan
from tinygan import data, grad, nn, optim, plot
from tinygan.ops import softplus

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=450, seed=0, out="two_learning_rates.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
digits, device, batch = data.digits().x, tinygan.pick_device(args.device), 32

D = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2),   # (N, 14, 14, 64)
                  nn.Conv2d(64, 128, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2),  # (N, 7, 7, 128)
                  nn.Flatten(), nn.Linear(7 * 7 * 128, 1024), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(1024, 1))
G = nn.Sequential(nn.Linear(64, 7 * 7 * 64), nn.Reshape(7, 7, 64), nn.BatchNorm(64), nn.ReLU(),
                  nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.BatchNorm(32), nn.ReLU(),     # (N, 14, 14, 32)
                  nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1), nn.Tanh())                        # (N, 28, 28, 1)
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


def sample(n):
    """n digits, without dropout and with BatchNorm's averages."""
    G.eval()
    with tinygan.no_grad():
        drawn = tinygan.to_host(G(latents(n)).data)
    G.train()
    return drawn


by_hand = args.steps // 3
eta_d, eta_g = 0.02, 0.1                                                # η_D and η_G
for _ in trange(by_hand, desc="by hand", disable=None):
    for net, eta, gradient in zip((D, G), (eta_d, eta_g), gradients(), strict=True):
        for parameter, g in zip(net.parameters(), gradient, strict=True):
            parameter.data -= eta * g                                   # θ ← θ − η ∂L/∂θ
after_sgd = sample(1000)

opt_d, opt_g = optim.Adam(D.parameters(), 2e-4, (0.5, 0.999)), optim.Adam(G.parameters(), 1e-3, (0.5, 0.999))
for _ in trange(args.steps - by_hand, desc="Adam", disable=None):
    for opt, gradient in zip((opt_d, opt_g), gradients(), strict=True):
        opt.step(gradient)
after_adam = sample(1000)

flat = digits.reshape(len(digits), -1)
_, axes = np.linalg.eigh(np.cov(flat.T))
axes = axes[:, -20:]                                                    # (784, 20): most of the variance of the digits


def frechet(a, b):
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two sets of images, along the axes."""
    a, b = a.reshape(len(a), -1) @ axes, b.reshape(len(b), -1) @ axes
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root


plot.save_image(args.out, plot.to_grid(np.concatenate([after_sgd[:20], after_adam[:40]]), columns=10))
floor = frechet(digits[:5000], digits[5000:6000])
print(f"{args.out}: Fréchet distance {frechet(digits, after_sgd):.1f} after gradient descent, "
      f"{frechet(digits, after_adam):.1f} after Adam (perfect: {floor:.1f}, real from real)")
