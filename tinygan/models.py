"""The networks: multi-layer perceptrons for points and small images, DCGAN's pair for images.

Generators map latents (N, latent), drawn from N(0, 1), to data; discriminators map data to one
logit per sample, (N, 1). With classes = K > 0 both are told labels too (conditions.py).
"""

import math

from . import nn
from .conditions import ConditionalDiscriminator, ConditionalGenerator, channels_of, inputs_of
from .nn import BatchNorm, Conv2d, ConvTranspose2d, LeakyReLU, Linear, ReLU, Reshape


class Discriminator(nn.Sequential):
    """Layers of which the last one, the head, makes a logit of the features of the others."""

    def features(self, x):
        """What the head sees: (N, features)."""
        for layer in list(self)[:-1]:
            x = layer(x)
        return x

    def head(self, h):
        return self[-1](h)


def _dense(widths):
    """Linear and LeakyReLU from each width to the next."""
    return [layer for a, b in zip(widths, widths[1:], strict=False)
            for layer in (Linear(a, b), LeakyReLU(0.2))]


def mlp_generator(latent=16, shape=(2,), hidden=(128, 128), classes=0):
    """Latents (N, latent) → samples (N, *shape): Linear and LeakyReLU per hidden width, Linear.

    Images end in tanh.
    """
    widths = (inputs_of(latent, classes), *hidden)
    end = [nn.Tanh(), Reshape(*shape)] if len(shape) > 1 else []
    net = nn.Sequential(*_dense(widths), Linear(widths[-1], math.prod(shape)), *end)
    return ConditionalGenerator(net, classes) if classes else net


def mlp_discriminator(shape=(2,), hidden=(128, 128), classes=0, condition="embedding"):
    """Samples (N, *shape) → logits (N, 1): Linear and LeakyReLU per hidden width, then Linear."""
    *places, channels = shape
    widths = (math.prod(places) * channels_of(channels, classes, condition), *hidden)
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
    inputs, (times, start) = inputs_of(latent, classes), _levels(size)
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
    layers, c, (times, end) = [], channels_of(channels, classes, condition), _levels(size)

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
