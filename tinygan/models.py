"""The networks: multi-layer perceptrons for points and small images, DCGAN's convolutional pair for images.

Generators map latents (N, latent), drawn from N(0, 1), to data; discriminators map data to one logit per sample, (N, 1).
"""

import math

from .nn import BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, ReLU, Reshape, Sequential, Tanh, normal_


def mlp_generator(latent=16, shape=(2,), hidden=(128, 128)):
    """Latents (N, latent) → samples (N, *shape): Linear and LeakyReLU per hidden width, then Linear; images end in tanh."""
    layers = []
    for a, b in zip((latent, *hidden), hidden, strict=False):
        layers += [Linear(a, b), LeakyReLU(0.2)]
    layers.append(Linear((latent, *hidden)[-1], math.prod(shape)))
    if len(shape) > 1:
        layers += [Tanh(), Reshape(*shape)]
    return Sequential(*layers)


def mlp_discriminator(shape=(2,), hidden=(128, 128)):
    """Samples (N, *shape) → logits (N, 1): Linear and LeakyReLU per hidden width, then Linear."""
    layers = [Flatten()] if len(shape) > 1 else []
    for a, b in zip((math.prod(shape), *hidden), hidden, strict=False):
        layers += [Linear(a, b), LeakyReLU(0.2)]
    return Sequential(*layers, Linear((math.prod(shape), *hidden)[-1], 1))


def _levels(size):
    """How often an image size can be halved before it is 7 pixels or fewer: (times, what is left)."""
    times = 0
    while size > 7 and size % 2 == 0:
        size, times = size // 2, times + 1
    if times == 0 or size > 7:
        raise ValueError(f"a convolutional network needs an image size of (4..7) · 2ⁿ with n >= 1, got {size * 2 ** times}; "
                         "try 28, 32 or 64")
    return times, size


def conv_generator(latent=100, size=28, channels=1, width=64, hidden=None):
    """Latents (N, latent) → images (N, size, size, channels) in (−1, 1), by the rules of DCGAN (Radford et al. 2016).

    A linear layer makes the smallest feature map, then transposed convolutions (kernel 4, stride 2, padding 1) double it, each
    halving the channels down to `width` before the image itself. BatchNorm and ReLU everywhere but at the output. `hidden` puts a
    dense layer of so many units before all that, as InfoGAN has for MNIST (Chen et al. 2016, appendix C.1): convolutions see
    neighbours, and only a dense layer can plan the whole picture.
    """
    times, start = _levels(size)
    c = width * 2 ** (times - 1)
    layers = []
    if hidden is not None:
        layers += [Linear(latent, hidden, bias=False), BatchNorm(hidden), ReLU()]
        latent = hidden
    layers += [Linear(latent, start * start * c, bias=False), Reshape(start, start, c), BatchNorm(c), ReLU()]
    for _ in range(times - 1):
        layers += [ConvTranspose2d(c, c // 2, 4, stride=2, padding=1, bias=False), BatchNorm(c // 2), ReLU()]
        c //= 2
    return normal_(Sequential(*layers, ConvTranspose2d(c, channels, 4, stride=2, padding=1), Tanh()))


def conv_discriminator(size=28, channels=1, width=64, norm=True, hidden=None):
    """Images (N, size, size, channels) → logits (N, 1), by the rules of DCGAN.

    Convolutions (kernel 4, stride 2, padding 1) halve the image and double the channels from `width` on, LeakyReLU(0.2) after each,
    BatchNorm except at the first; `norm=False` leaves it out, as a gradient penalty demands. `hidden` puts a dense layer of so many
    units before the logit, see `conv_generator`.
    """
    times, end = _levels(size)
    layers = [Conv2d(channels, width, 4, stride=2, padding=1), LeakyReLU(0.2)]
    c = width
    for _ in range(times - 1):
        layers += [Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=not norm), *([BatchNorm(2 * c)] if norm else []),
                   LeakyReLU(0.2)]
        c *= 2
    layers.append(Flatten())
    features = end * end * c
    if hidden is not None:
        layers += [Linear(features, hidden, bias=not norm), *([BatchNorm(hidden)] if norm else []), LeakyReLU(0.2)]
        features = hidden
    return normal_(Sequential(*layers, Linear(features, 1)))
