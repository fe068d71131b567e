"""Translate without a dictionary: a GAN breaks a substitution cipher, given no text in both languages.

One half of a text is plain; in the other every symbol is replaced by another one, by a secret permutation of 27
symbols (space and a to z). The generator is a table of logits W (27, 27): P = Sinkhorn(W) holds the probability that
cipher symbol c means plain symbol p. Sinkhorn's steps divide columns and rows by their sums in turn, so that no plain
symbol is taken twice. The critic f sees 16 symbols in a row and tells decoded from plain text, as in CipherGAN (Gomez
et al. 2018, "Unsupervised cipher cracking using discrete GANs"):

    L_f = E f(G(c)) − E f(x) + 2 E (‖∇f(x̂)‖ − 1)²      L_G = −E f(G(c))      (Gulrajani et al. 2017)

What the usual version gets wrong: G(c) is the row P[c] itself, a mixture of symbols, while plain text is one-hot. The
critic need not read, as whatever is soft is fake; G becomes hard instead of right, and is then stuck, because a
softmax that is sure has no slope. Here f sees a symbol *drawn* from P[c], and G's gradient passes the drawing as if
it were the identity ("straight-through", Bengio et al. 2013): y = p + (one-hot(draw) − p), the bracket a constant.
Both versions are trained, the other with the slower rates and the stronger penalty (10) that suited it better; even
so, it ends anywhere between 3 and 75 %.

Data: the English of Python's language reference (`pydoc_data.topics`), each paragraph once, 279,000 symbols. The first
half is plain, the second enciphered; its last 10,000 symbols are only for the figure.

Expect a complete key, and without drawing a wrong one. Takes 25 seconds. Prints the share of held-out text decoded
right (perfect: 100 %), beside the GAN without drawing, sorting by frequency, and the classical attack, which needs no
network and half a second: from the sorted key on, swap two meanings wherever that makes pairs of neighbours likelier.
"""

import argparse
import re
from pydoc_data import topics

import numpy as np
from matplotlib.figure import Figure
from tqdm import trange

import tinygan
from tinygan import grad, losses, nn, ops, optim, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="auto", steps=1500, seed=0, out="translate.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)
device, batch, length = tinygan.pick_device(args.device), 32, 16

pieces = "\n\n".join(topics.topics.values()).lower().split("\n\n")
text = " ".join(p for p in dict.fromkeys(" ".join(re.findall("[a-z]+", p)) for p in pieces) if len(p) >= 60)
text = np.frombuffer(text.encode(), np.uint8).astype(int) % 32          # ASCII: space is 32 + 0, a is 3 · 32 + 1
plain, secret = np.array_split(text, 2)
key = tinygan.rng("key").permutation(27)                                # from plain to cipher symbols
truth, cipher, held_out = np.argsort(key), key[secret[:-10_000]], key[secret[-10_000:]]
one_hot = tinygan.to_device(np.eye(27, dtype=np.float32), device)


def windows(text, name):
    """Random stretches of a text, as integers (batch, length)."""
    start = tinygan.rng(name).integers(len(text) - length, size=(batch, 1))
    return tinygan.to_device(text[start + np.arange(length)], device)


def crack(drawing, rates, weight):
    """Train a table; what it took the cipher symbols for after every step: a list of arrays (27,)."""
    W = nn.Parameter(tinygan.to_device(0.1 * tinygan.rng("init").standard_normal((27, 27), dtype=np.float32), device))
    f = nn.Sequential(nn.Reshape(1, length, 27), nn.Conv2d(27, 64, (1, 5), padding=(0, 2)), nn.LeakyReLU(0.2),
                      nn.Conv2d(64, 64, (1, 3)), nn.LeakyReLU(0.2),                             # (batch, 1, 14, 64)
                      nn.AvgPool2d((1, length - 2)), nn.Flatten(), nn.Linear(64, 1)).to(device)
    opt_g, opt_f = optim.Adam([W], betas=(0.5, 0.99)), optim.Adam(f.parameters(), betas=(0, 0.9))
    guesses = []
    for step in trange(args.steps, disable=None):
        opt_g.lr, opt_f.lr = (rate * min(1, 2 * (1 - step / args.steps)) for rate in rates)
        logits = W
        for _ in range(5):                                              # Sinkhorn, in logarithms
            logits = ops.log_softmax(ops.log_softmax(logits, axis=0), axis=1)
        fake = ops.embedding(ops.exp(logits), windows(cipher, "cipher"))                        # (batch, length, 27)
        if drawing:
            u = tinygan.to_device(tinygan.rng("draw").random((batch, length, 1), dtype=np.float32), device)
            drawn = one_hot[(u > fake.data.cumsum(axis=2)[..., :-1]).sum(axis=2)]               # (batch, length, 27)
            fake = fake + (drawn - fake.data)                           # the value of the draw, the gradient of p
        x = one_hot[windows(plain, "plain")]
        penalty = losses.gradient_penalty(f, losses.interpolate(x, fake.data))
        opt_f.step(grad(f(fake.data).mean() - f(x).mean() + weight * penalty, opt_f.params))
        opt_g.step(grad(-f(fake).mean(), opt_g.params))
        guesses.append(tinygan.to_host(logits.data).argmax(axis=1))
    return guesses


def right(guess):
    """The share of the held-out text that these meanings decode right."""
    return (guess[held_out] == truth[held_out]).mean()


drawn, soft = crack(True, (0.02, 2e-3), 2), crack(False, (0.01, 1e-3), 10)[-1]
by_frequency = np.argsort(-np.bincount(plain, minlength=27))[np.argsort(np.argsort(-np.bincount(cipher, minlength=27)))]
pairs, english = (np.bincount(t[:-1] * 27 + t[1:], minlength=729).reshape(27, 27) for t in (cipher, plain))
climbed, best = by_frequency, 0                                         # best: a log-likelihood, up to a constant
for i, j in list(zip(*np.triu_indices(27, 1), strict=True)) * 6:        # six rounds through all swaps
    swapped = climbed.copy()
    swapped[[i, j]] = climbed[[j, i]]
    if (likely := (pairs * np.log(english + 1)[np.ix_(swapped, swapped)]).sum()) > best:
        climbed, best = swapped, likely
rows = {f"step {k}": drawn[k - 1] for k in (100, 150, 200, 400, args.steps) if k <= args.steps}
rows = {"cipher text": np.arange(27), **rows, "not drawn": soft, "by frequency": by_frequency}
figure = Figure(figsize=(9, 2.6), dpi=100)
for row, (label, guess) in enumerate(rows.items()):
    figure.text(0.01, y := 0.9 - row * 0.12, label)
    figure.text(0.99, y, f"{right(guess):.1%}" if row else "", ha="right")
    for column, (symbol, meant) in enumerate(zip(guess[held_out[:64]], truth[held_out[:64]], strict=True)):
        color = plot.GREY if row == 0 else plot.BLUE if symbol == meant else plot.ORANGE
        figure.text(0.14 + 0.012 * column, y, " abcdefghijklmnopqrstuvwxyz"[symbol], color=color, family="monospace")
figure.savefig(args.out)
print(f"{args.out}: decoded right {right(drawn[-1]):.1%} (without drawing {right(soft):.1%}, by frequency "
      f"{right(by_frequency):.1%}, swapping by pairs {right(climbed):.1%}; perfect: 100%)")
