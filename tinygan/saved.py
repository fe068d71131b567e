"""A run as it lies in its folder: its options, its checkpoint, and what its generator draws.

Whatever a file claims is compared with what the others say before networks are built or memory is
spent. A file that is missing, damaged or of another run is a `CheckpointError`, which names it.
"""

import dataclasses
import io
import json
import math
import os
import re
import warnings
from reprlib import repr as short

import numpy as np
from PIL import Image

from . import checkpoint, recipes
from .checkpoint import CheckpointError, refused
from .conditions import CONDITIONS
from .data import CHOICES
from .files import require_regular, write_atomically
from .losses import LOSSES
from .randomness import Randomness


def option(default, allowed, meaning=None):
    """An option of a run: its values lie between two numbers, are one of several, or any text
    (str). Without a meaning it is none of the command's."""
    return dataclasses.field(default=default, metadata={"allowed": allowed, "help": meaning})


def sized(name, allowed, meaning):
    """An option whose default depends on the data and the model."""
    values = ", ".join(f"{table[name]} for {key}" for key, table in recipes.DEFAULTS.items())
    return option(None, allowed, f"{meaning} (default: {values})")


@dataclasses.dataclass
class Config:
    """The options of a run, and of `tinygan train`; None means the default for this data and model,
    see `complete`.

    ValueError for an option of another type, or with a value that no run can have.
    """

    data: str = option("digits", str, f"{CHOICES} (default: digits)")
    model: str | None = option(None, ("mlp", "conv"), "default: conv for images, mlp for points")
    loss: str = option("non-saturating", tuple(LOSSES),
                       "default: non-saturating; wasserstein adds the penalty of WGAN-GP")
    recipe: str | None = option(None, tuple(recipes.RECIPES),
                                "instead of a loss, with all that goes with it")
    condition: str | None = option(None, CONDITIONS, "tell both players the samples' labels, in "
                                   "this way (default: not at all); projection adds the penalty "
                                   "R1 to the default loss of conv")
    pack: int | None = option(None, (1, 64), "samples that D sees per verdict")
    steps: int | None = sized("steps", (1, 10 ** 9), "training steps")
    batch_size: int | None = sized("batch_size", (2, 10 ** 6), "samples in a step")
    lr: float | None = sized("lr", (1e-12, 10.0), "Adam's rate; in conv G's is three times as high")
    width: int | None = sized("width", (1, 8192), "channels or units")
    latent: int | None = sized("latent", (1, 65536), "size of z")
    size: int = option(64, (6, 1024), "image size for folder: (default: 64)")
    grey: bool = option(False, (False, True), "read a folder: as grey images (default: colour)")
    seed: int = option(0, (0, 2 ** 128), "default: 0")
    device: str = option("auto", ("auto", "cpu", "gpu"), "default: auto (the GPU where one works)")
    keep: int = option(1, (1, 1000), "checkpoints to keep: the last K (default: 1)")
    classes: int | None = option(None, (0, 10_000))     # how many labels there are to be told
    fingerprint: str | None = option(None, str)         # of the data, to notice when they change

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value, allowed = getattr(self, f.name), f.metadata["allowed"]
            kind = str if allowed is str else type(allowed[0])
            if value is None and f.default is None:
                continue
            if kind in (int, float):
                number = isinstance(value, (kind, int, np.integer)) and not isinstance(value, bool)
                good = number and allowed[0] <= value <= allowed[1]
                what = f"{'an integer' if kind is int else 'a number'} from %s to %s" % allowed
            else:
                good = type(value) is kind and (allowed is str or value in allowed)
                what = "a text" if allowed is str else "one of " + ", ".join(map(str, allowed))
            if not good:
                raise ValueError(f"{f.name}: expected {what}, got {short(value)}")
            setattr(self, f.name, kind(value))

    def complete(self, is_image):
        """Fill in what was left open. ValueError if the model does not fit the data."""
        self.model = self.model or ("conv" if is_image else "mlp")
        if self.model == "conv" and not is_image:
            raise ValueError(f"--model conv needs images, but {self.data} is made of points; use "
                             "--model mlp")
        for name, value in recipes.DEFAULTS[self.model if is_image else "points"].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        return self

    def options(self):
        """What is set, as a dict for JSON."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


def read_config(folder):
    """(Config, sample shape) of the run in a folder."""
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        raise CheckpointError(f"{folder} holds no run (no config.json); "
                              "make one with: tinygan train")
    with refused(path, "the configuration of a run"):
        require_regular(path)
        with open(path, "rb") as file:
            values = json.loads(file.read(1_000_000))
        shape = tuple(values.pop("shape"))
        if (len(shape) not in (1, 3) or not all(type(n) is int and n > 0 for n in shape)
                or math.prod(shape) > 2 ** 24):
            raise ValueError("shape: expected [features] or [height, width, channels], "
                             f"got {short(list(shape))}")
        config = Config(**values).complete(is_image=len(shape) == 3)
    return config, shape


def least_numbers(config, shape):
    """A number of weights that the generator of this configuration cannot have fewer of, for
    samples of this shape."""
    w, latent, hidden = config.width, config.latent, recipes.HIDDEN
    if len(shape) == 1:
        return w * latent + w * w
    if config.model == "mlp":
        return w * latent + 10 * w * w + 4 * w * math.prod(shape)
    c = w * max(1, shape[0] // 14)              # channels at the lowest resolution, or fewer
    return hidden * (latent + hidden) + 16 * hidden * c + (8 * c * c if shape[0] > 14 else 0)


def earlier(folder):
    """The names of a run's earlier checkpoints, weights-<step>.npz, newest first."""
    names = [name for name in os.listdir(folder) if re.fullmatch(r"weights-\d{1,10}\.npz", name)]
    return sorted(names, key=lambda name: int(name[8:-4]), reverse=True)


def new_gan(config, shape):
    """The networks of a configuration, as its seed begins them."""
    with Randomness(config.seed):
        return recipes.build(config, shape)


def load_gan(folder, config, shape):
    """(GAN, {step: picture as PNG}, info, file name) of the newest readable checkpoint of the run
    in a folder, with a warning if it is not the newest."""
    errors = []
    for name in ["weights.npz", *earlier(folder)]:
        try:
            gan, frames, info = _load_gan(os.path.join(folder, name), config, shape)
        except CheckpointError as e:
            errors.append(e)
        else:
            if errors:
                warnings.warn(f"{errors[0]}; going on with {name}, step {gan.steps}", stacklevel=3)
            return gan, frames, info, name
    raise errors[0]


def _load_gan(path, config, shape):
    with refused(path, "a checkpoint of this run"):
        found, _ = checkpoint.headers(path)
        sizes = {name: math.prod(s) for name, (s, _) in found.items()}
        numbers = sum(n for name, n in sizes.items() if name.startswith("generator/"))
        if numbers < least_numbers(config, shape):
            raise ValueError(f"its generator has {numbers:,} numbers, fewer than the one that "
                             "config.json describes")
        if sum(n for name, n in sizes.items() if name.startswith("frames/")) > 2 ** 28:
            raise ValueError("its pictures have more than 268 MB")
        gan = new_gan(config, shape)
        parts, info = checkpoint.load(path, gan.state_dict())
        frames = {int(step): png.tobytes() for step, png in parts.pop("frames", {}).items()}
        gan.load_state_dict(parts)
    return gan, frames, info


def progress_of(info, steps):
    """(log, seconds) from a checkpoint's info. Raises anything if a run at this step cannot have
    saved it."""
    log, seconds, before = info["log"], info["seconds"], 0
    for row in log:
        numbers = all(type(v) in (int, float) and math.isfinite(v) for v in row.values())
        named = row.keys() == log[0].keys() >= {"step", "d_loss", "g_loss", "seconds"}
        if not (numbers and named and before < row["step"] <= steps):
            raise ValueError(f"a row of the log is {short(row)}")
        before = row["step"]
    if type(log) is not list or type(seconds) not in (int, float) or not 0 <= seconds < 1e10:
        raise ValueError(f"the log is {short(log)}, after {short(seconds)} seconds")
    return log, float(seconds)


def decoded(png):
    """The bytes of a PNG file as a uint8 image."""
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    if math.prod(image.size) > 2 ** 24:
        raise ValueError(f"a picture of {image.size} pixels")
    return np.asarray(image)


def generator_of(folder, device="cpu"):
    """(GAN, Config, shape): the trained networks of a run, ready to `.sample(z)`."""
    config, shape = read_config(folder)
    config.device = device
    return load_gan(folder, config, shape)[0], config, shape


def labels_in_turn(n, config):
    """What a generator is told for n samples: (0, 1, 2, ..., 0, 1, ...) if it takes labels."""
    return (np.arange(n) % config.classes,) if config.classes else ()


def drawn(gan, config, n, randomness):
    """n samples of a run's generator, with the labels in turn."""
    z = randomness.rng("latent").standard_normal((n, config.latent), dtype=np.float32)
    arrays = z, *labels_in_turn(n, config)
    return np.concatenate([gan.sample(*(a[i:i + 256] for a in arrays)) for i in range(0, n, 256)])


def export(folder, path, part="average"):
    """Write one network of the run in `folder` to a .safetensors file, which other programs read:
    "average" (of the generator's weights), "generator" or "discriminator". The file's metadata hold
    the run's options as JSON. Needs the package of that name (the extra `safetensors`)."""
    try:
        from safetensors.numpy import save as encode
    except ImportError:
        raise ValueError("this needs the package safetensors: pip install safetensors") from None
    gan, config, shape = generator_of(folder)
    arrays = {name: np.ascontiguousarray(a) for name, a in gan.state_dict()[part].items()
              if name != "steps"}
    text = json.dumps({**config.options(), "shape": shape, "part": part})
    write_atomically(path, lambda file: file.write(encode(arrays, {"tinygan": text})))
