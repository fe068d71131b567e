"""A run as it lies in its folder, read by somebody who trusts nothing: its options, its
checkpoints, its pictures.

Whatever a file claims is compared with what the other files say before networks are built or memory
is spent. Everything here raises `CheckpointError`, which names the file.
"""

import dataclasses
import io
import json
import math
import os
import re
import shlex
import warnings
from reprlib import repr as short

import numpy as np
from PIL import Image

from . import checkpoint, recipes
from .checkpoint import CheckpointError, refused
from .files import require_regular
from .losses import LOSSES
from .models import CONDITIONS
from .randomness import Randomness

# What the options can be: from one number to another, or one of several.
OPTIONS = {"steps": (1, 10 ** 9), "batch_size": (2, 10 ** 6), "lr": (1e-12, 10.0),
           "seed": (0, 2 ** 128), "size": (6, 1024), "width": (1, 8192), "latent": (1, 65536),
           "keep": (1, 1000), "pack": (1, 64), "classes": (0, 10_000), "model": ("mlp", "conv"),
           "loss": tuple(LOSSES), "recipe": tuple(recipes.RECIPES), "condition": CONDITIONS,
           "device": ("auto", "cpu", "gpu"), "grey": (False, True)}


@dataclasses.dataclass
class Config:
    """The options of a run; None means the default for this data and model, see `complete`.

    ValueError for an option of another type, or with a value that no run can have.
    """

    data: str = "digits"
    model: str | None = None
    loss: str = "non-saturating"
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "auto"
    size: int = 64
    grey: bool = False
    width: int | None = None
    latent: int | None = None
    keep: int = 1
    recipe: str | None = None
    condition: str | None = None            # how the players are told the label; None: not at all
    pack: int | None = None
    classes: int | None = None              # how many labels there are to be told
    fingerprint: str | None = None          # of the data, to notice when they change

    def __post_init__(self):
        for name, allowed in OPTIONS.items():
            value, kind = getattr(self, name), type(allowed[0])
            if value is None and getattr(Config, name) is None:
                continue
            if kind in (int, float):
                number = isinstance(value, (kind, int, np.integer)) and not isinstance(value, bool)
                good = number and allowed[0] <= value <= allowed[1]
                what = f"{'an integer' if kind is int else 'a number'} from %s to %s" % allowed
            else:
                good = type(value) is kind and value in allowed
                what = "one of " + ", ".join(map(str, allowed))
            if not good:
                raise ValueError(f"{name}: expected {what}, got {short(value)}")
            setattr(self, name, kind(value))
        if type(self.data) is not str or type(self.fingerprint) not in (str, type(None)):
            raise ValueError(f"data: expected a text, got {short(self.data)}")

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


def resume_command(folder):
    """What to type to go on with a run."""
    return "tinygan train --resume" + ("=" if folder.startswith("-") else " ") + shlex.quote(folder)


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
        images = len(shape) == 3 and all(type(n) is int and 0 < n <= 4096 for n in shape)
        points = len(shape) == 1 and type(shape[0]) is int and 0 < shape[0] <= 2 ** 20
        if not points and not (images and math.prod(shape) <= 2 ** 24):
            raise ValueError("shape: expected [features] or [height, width, channels], "
                             f"got {short(list(shape))}")
        config = Config(**values).complete(images)
    return config, shape


def checkpoints(folder):
    """The names of a run's checkpoints, newest first: weights.npz, then weights-<step>.npz."""
    names = os.listdir(folder)
    older = [name for name in names if re.fullmatch(r"weights-\d{1,10}\.npz", name)]
    older.sort(key=lambda name: int(name[8:-4]), reverse=True)
    return ["weights.npz"] * ("weights.npz" in names) + older


def load_gan(folder, config, shape):
    """(GAN, info, file name) of the newest readable checkpoint of the run in a folder, with a
    warning if it is not the newest."""
    errors = []
    for name in checkpoints(folder) or ["weights.npz"]:
        try:
            gan, info = _load_gan(os.path.join(folder, name), config, shape)
        except CheckpointError as e:
            errors.append(e)
        else:
            if errors:
                warnings.warn(f"{errors[0]}; going on with {name}, step {gan.steps}", stacklevel=3)
            return gan, info, name
    raise errors[0]


def _load_gan(path, config, shape):
    parts, info = checkpoint.load(path)
    with Randomness(config.seed):
        gan = recipes.build(config, shape)
    checkpoint.restore(path, parts, gan)
    return gan, info


def load_weights(folder):
    """({part: {name: array}}, info) of the newest checkpoint of the run in a folder."""
    return checkpoint.load(os.path.join(folder, "weights.npz"))


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


def load_frames(path, steps):
    """{step: PNG} of a run's frames.npz up to this step."""
    if not os.path.exists(path):
        return {}
    with refused(path, "the pictures of a run"):
        if os.path.getsize(path) > 2 ** 28:
            raise ValueError(f"{os.path.getsize(path):,} bytes")
        frames = checkpoint.load(path)[0].get("frames", {})
        frames = {int(step): png.tobytes() for step, png in frames.items() if int(step) <= steps}
        if len({decoded(png).shape for png in frames.values()}) > 1:
            raise ValueError("pictures of different sizes")
    return frames


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
