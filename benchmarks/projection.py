"""Why does a projection draw one digit per class from networks with BatchNorm? Each guess is a run that leaves one thing out.

    python benchmarks/projection.py                                         a minute, one core
    python benchmarks/projection.py --only "projection, R1" --steps 2000 --seed 1

The networks, rates and batches are those of `tinygan train` on the bundled digits. After the steps it is shown
how often D is right and its mean logit on real and on fake samples, over the last 50 steps; how many samples the
classifier reads as the digit asked for; and how much a pixel varies within a digit (0.31 for real ones).
"""

import argparse
import os
from types import SimpleNamespace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import tinygan  # noqa: E402
from tinygan import conditions, data, metrics, models, nn, recipes  # noqa: E402
from tinygan.optim import Adam  # noqa: E402
from tinygan.train import fit  # noqa: E402


class OwnMeans(conditions.ConditionalDiscriminator):
    """A projection of h minus its mean over the samples of the same class in the batch."""

    def forward(self, x, y):
        h = self.features(x, y)
        same = np.equal.outer(y, y).astype(np.float32)                                  # (N, N)
        own = h - (same / same.sum(axis=1, keepdims=True)) @ h
        return self.net.head(h) + (self.table(y) * own).sum(axis=1, keepdims=True)


def dense_layer_without_batchnorm(d):
    """The last BatchNorm goes, and the dense layer before it gets a bias instead."""
    layers = list(d.net)
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm))
    features, hidden = layers[last - 1].weight.shape
    layers[last - 1:last + 1] = [nn.normal_(nn.Linear(features, hidden))]
    d.net = models.Discriminator(*layers)


def own_means(d):
    d.__class__ = OwnMeans


def no_label(d):
    """Rows of zeros, which stay: what no gradient reaches cannot learn."""
    d.forward = lambda x, y: d.net.head(d.features(x, y)) + 0 * (d.table(y) * d.features(x, y)).sum(axis=1, keepdims=True)


RUNS = {                            # condition, recipe, what is done to D
    "projection, as BatchNorm has it": ("projection", "non-saturating", None),
    "projection, own means taken off": ("projection", "non-saturating", own_means),
    "D is not told the label": ("projection", "non-saturating", no_label),
    "concatenation": ("concatenate", "non-saturating", None),
    "concatenation, dense layer without BatchNorm": ("concatenate", "non-saturating", dense_layer_without_batchnorm),
    "projection, spectral": ("projection", "spectral", None),
    "projection, R1": ("projection", "r1", None),
}


def play(name, steps, seed):
    """(share of D's verdicts that are right, mean logits on real and fake, share read as asked, spread)."""
    condition, recipe, change = RUNS[name]
    digits = data.digits()
    tinygan.seed(seed)
    gan = recipes.build(SimpleNamespace(model="conv", recipe=recipe, device="cpu", classes=10, condition=condition,
                                        **recipes.DEFAULTS["conv"]), digits.x.shape[1:])
    if change:
        change(gan.d)
        gan.opt_d = Adam(gan.d.parameters(), gan.opt_d.lr, betas=(0.5, 0.999))
    seen = []
    fit(gan, digits, steps, 32, lambda gan, results: seen.append([r.ravel() for r in results[2:]]))
    real, fake = np.stack(seen[-50:]).swapaxes(0, 1)
    asked = np.arange(1000) % 10
    x = gan.sample(gan.latents(1000), asked)
    read, _ = metrics.classify(metrics.judge().module, x)
    return ((real > 0).mean() + (fake < 0).mean()) / 2, real.mean(), fake.mean(), (read == asked).mean(), \
        metrics.within_class_spread(x, asked)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", nargs="+", default=RUNS, choices=RUNS, metavar="NAME", help="runs (default: all)")
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--seed", type=int, default=0)
    o = options.parse_args()
    print("| run | D is right, % | D(real) | D(fake) | read as asked, % | spread |\n|---|---|---|---|---|---|")
    for name in o.only:
        right, real, fake, obeys, spread = play(name, o.steps, o.seed)
        print(f"| {name} | {100 * right:.0f} | {real:.2f} | {fake:.2f} | {100 * obeys:.1f} | {spread:.3f} |", flush=True)
