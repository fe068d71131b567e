"""The networks: multi-layer perceptrons for points and small images, DCGAN's pair for images.

Generators map latents (N, latent), drawn from N(0, 1), to data; discriminators map data to one
logit per sample, (N, 1). With classes = K > 0 both are told labels too, integers (N,) in 0..K−1:
G(z, y) and D(x, y).
"""

import math

from . import nn
from .autograd import data_of
from .backend import xp
from .module import whole
from .nn import BatchNorm, Conv2d, ConvTranspose2d, Embedding, LeakyReLU, Linear, ReLU, Reshape
from .ops import concatenate

LABEL = 16              # numbers per label that a conditional generator learns
CONDITIONS = ("concatenate", "embedding", "projection", "auxiliary")


class ConditionalGenerator(nn.Module):
    """G(z, y) = net([z, e(y)]), e(y) a vector per label that is learned."""

    def __init__(self, net, classes):
        self.table, self.net = Embedding(classes, LABEL), net

    def forward(self, z, y):
        return self.net(concatenate(z, self.table(y), axis=1))


class Discriminator(nn.Sequential):
    """Layers of which the last one, the head, makes a logit of the features of the others."""

    def features(self, x):
        """What the head sees: (N, features)."""
        for layer in list(self)[:-1]:
            x = layer(x)
        return x

    def head(self, h):
        return self[-1](h)


class ConditionalDiscriminator(nn.Module):
    """D(x, y), told the label in one of four ways. net: a `Discriminator` of what is then seen.

    concatenate  K more channels, 1 for the label and 0 for the others (Mirza & Osindero 2014)
    embedding    one more channel: a picture per label that is learned
    projection   d = head(h) + e(y) · h, h the features (Miyato & Koyama 2018, eq. 3)
    auxiliary    not told: `classify` guesses the label from the features (Odena et al. 2017)

    A projection needs a D without BatchNorm, and R1. BatchNorm gives each feature one mean in the
    real and in the fake batch, so the head cannot use it and D stays unsure: right in 57 % by
    concatenation. But e(y) · h is taken class by class, where these means differ, and D is right in
    91 %: G draws about one picture per digit. h without its class's mean: 76 %, no label: 70 %
    (`python benchmarks/projection.py`, seed 0, 300 steps). With R1 the spread of a pixel within a
    digit is 0.27 to 0.28 after 4,000 steps, seeds 0 to 2. Small rows help 8×8 digits.
    """

    def __init__(self, net, places, classes, condition):
        self.net, self.classes, self.condition = net, classes, condition
        self.places = tuple(places)                                 # (H, W), or () for points
        features = net[-1].weight.shape[0]
        if condition == "auxiliary":
            self.classifier = Linear(features, classes)
        elif condition == "embedding":
            self.table = Embedding(classes, math.prod(places))
        elif condition == "projection":             # its rows start as a head's: N(0, 1) drowns it
            self.table = Embedding(classes, features)
            self.table.weight = nn.uniform((classes, features), features, "Embedding.weight")

    def features(self, x, y=None):
        """What the head sees: (N, features)."""
        if self.condition == "concatenate":
            label = xp(data_of(x)).eye(self.classes, dtype=x.dtype)[y]              # (N, K)
            plane = xp(data_of(x)).ones((*x.shape[:-1], 1), x.dtype)                # (N, H, W, 1)
            x = concatenate(x, plane * label.reshape(len(y), *[1] * len(self.places), -1), axis=-1)
        elif self.condition == "embedding":
            x = concatenate(x, self.table(y).reshape((-1, *self.places, 1)), axis=-1)
        return self.net.features(x)

    def forward(self, x, y):
        h = self.features(x, y)
        d = self.net.head(h)
        if self.condition == "projection":
            d = d + (self.table(y) * h).sum(axis=1, keepdims=True)
        return d

    def classify(self, x):
        """Logits (N, K) of the label, by the auxiliary classifier."""
        return self.classifier(self.features(x))


def _inputs(latent, classes):
    """How many numbers a generator's first layer sees."""
    more = LABEL if whole("generator: classes", classes, 0) else 0
    return whole("generator: latent", latent) + more


def _channels(channels, classes, condition):
    """How many channels a discriminator's first layer sees."""
    if condition not in CONDITIONS:
        raise ValueError(f"condition: expected one of {', '.join(CONDITIONS)}, got {condition!r}")
    classes = whole("discriminator: classes", classes, 0)
    return channels + {"concatenate": classes, "embedding": min(classes, 1)}.get(condition, 0)


def _dense(widths):
    """Linear and LeakyReLU from each width to the next."""
    return [layer for a, b in zip(widths, widths[1:], strict=False)
            for layer in (Linear(a, b), LeakyReLU(0.2))]


def mlp_generator(latent=16, shape=(2,), hidden=(128, 128), classes=0):
    """Latents (N, latent) → samples (N, *shape): Linear and LeakyReLU per hidden width, Linear.

    Images end in tanh.
    """
    widths = (_inputs(latent, classes), *hidden)
    end = [nn.Tanh(), Reshape(*shape)] if len(shape) > 1 else []
    net = nn.Sequential(*_dense(widths), Linear(widths[-1], math.prod(shape)), *end)
    return ConditionalGenerator(net, classes) if classes else net


def mlp_discriminator(shape=(2,), hidden=(128, 128), classes=0, condition="embedding"):
    """Samples (N, *shape) → logits (N, 1): Linear and LeakyReLU per hidden width, then Linear."""
    *places, channels = shape
    widths = (math.prod(places) * _channels(channels, classes, condition), *hidden)
    start = [nn.Flatten()] if places else []
    net = Discriminator(*start, *_dense(widths), Linear(widths[-1], 1))
    return ConditionalDiscriminator(net, places, classes, condition) if classes else net


def _levels(size):
    """How often a size can be halved until 4 to 7 pixels are left: (times, what is left)."""
    for times in range(1, 20):
        if size % 2 ** times == 0 and 4 <= size // 2 ** times <= 7:
            return times, size // 2 ** times
    raise ValueError("a convolutional network needs an image size of (4..7) · 2ⁿ with n >= 1, "
                     f"got {size}; try 28, 32 or 64")


def conv_generator(latent=100, size=28, channels=1, width=64, hidden=None, classes=0):
    """Latents (N, latent) → images (N, size, size, channels) in (−1, 1), as in Radford et al. 2016.

    A linear layer makes the smallest feature map, then transposed convolutions (kernel 4, stride 2,
    padding 1) double it, each halving the channels down to `width` before the image itself.
    BatchNorm and ReLU everywhere but at the output. `hidden` puts a dense layer of so many units
    before all that, as InfoGAN has for MNIST (Chen et al. 2016, appendix C.1): convolutions see
    neighbours, and only a dense layer can plan the whole picture. A tuple puts one layer per number
    (Karras et al. 2019, section 2): the more of them, the more abruptly the picture may change
    where the latent passes from one kind of picture to another.
    """
    inputs, (times, start) = _inputs(latent, classes), _levels(size)
    layers, c = [], width * 2 ** (times - 1)
    for units in hidden if isinstance(hidden, tuple) else () if hidden is None else (hidden,):
        layers += [Linear(inputs, units, bias=False), BatchNorm(units), ReLU()]
        inputs = units
    layers += [Linear(inputs, start * start * c, bias=False), Reshape(start, start, c)]
    for _ in range(times - 1):
        layers += [BatchNorm(c), ReLU(),
                   ConvTranspose2d(c, c // 2, 4, stride=2, padding=1, bias=False)]
        c //= 2
    layers += [BatchNorm(c), ReLU(), ConvTranspose2d(c, channels, 4, stride=2, padding=1)]
    net = nn.normal_(nn.Sequential(*layers, nn.Tanh()))
    return ConditionalGenerator(net, classes) if classes else net


def conv_discriminator(size=28, channels=1, width=64, norm=True, hidden=None, classes=0,
                       condition="embedding"):
    """Images (N, size, size, channels) → logits (N, 1), by the rules of DCGAN.

    Convolutions (kernel 4, stride 2, padding 1) halve the image and double the channels from
    `width` on, LeakyReLU(0.2) after each, BatchNorm except at the first; `norm=False` leaves it
    out, as a gradient penalty demands. `hidden` puts a dense layer of so many units before the
    logit, see `conv_generator`.
    """
    layers, c, (times, end) = [], _channels(channels, classes, condition), _levels(size)

    def add(layer, out, norm):
        layers.extend([layer, *([BatchNorm(out)] if norm else []), LeakyReLU(0.2)])
        return out
    for level in range(times):
        out, normed = width * 2 ** level, norm and level > 0
        c = add(Conv2d(c, out, 4, stride=2, padding=1, bias=not normed), out, normed)
    layers.append(nn.Flatten())
    features = end * end * c
    if hidden is not None:
        features = add(Linear(features, hidden, bias=not norm), hidden, norm)
    net = nn.normal_(Discriminator(*layers, Linear(features, 1)))
    return ConditionalDiscriminator(net, (size, size), classes, condition) if classes else net
