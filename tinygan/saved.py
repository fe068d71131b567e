"""A run as it lies in its folder, read by somebody who trusts nothing: its options, its
checkpoints, its pictures.

Whatever a file claims is compared with what the other files say before networks are built or memory
is spent.
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

from . import checkpoint, files
from .checkpoint import FOREIGN, CheckpointError, reason
from .losses import LOSSES
from .randomness import Randomness

LIMITS = {"steps": (1, 10 ** 9), "batch_size": (2, 10 ** 6), "seed": (0, 2 ** 128),
          "size": (6, 1024), "width": (1, 8192), "latent": (1, 65536), "keep": (1, 1000)}


def is_number(value, *types):
    """Whether a value has one of these types; True and False are no numbers."""
    return isinstance(value, types) and not isinstance(value, bool)


def _recipes():
    """The table of defaults and `build`."""
    from . import run  # not at the top: run.py imports this file
    return run


@dataclasses.dataclass
class Config:
    """The options of a run; None means the default for this data and model, see `complete`."""

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
    fingerprint: str | None = None          # of the data, to notice when they change

    def complete(self, is_image):
        """Fill in what was left open. ValueError for an option that no run can have."""
        self.model = self.model or ("conv" if is_image else "mlp")
        if self.model == "conv" and not is_image:
            raise ValueError(f"--model conv needs images, but {self.data} is made of 2-D points; "
                             "use --model mlp")
        kind = self.model if is_image else "points"
        for name, value in _recipes().DEFAULTS.get(kind, {}).items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self.check()
        return self

    def options(self):
        """What is set, as a dict for JSON."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def check(self):
        """ValueError unless every option has the right type and a value that a run can have."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not is_number(value, int, np.integer) or not low <= value <= high:
                raise ValueError(f"{name}: expected an integer from {low} to {high}, "
                                 f"got {short(value)}")
            setattr(self, name, int(value))
        if not is_number(self.lr, int, float) or not 0 < self.lr <= 10:
            raise ValueError(f"lr: expected a number > 0 and <= 10, got {short(self.lr)}")
        choices = {"model": ("mlp", "conv"), "loss": tuple(LOSSES),
                   "device": ("auto", "cpu", "gpu"), "grey": (True, False)}
        for name, allowed in choices.items():
            value, names = getattr(self, name), ", ".join(map(str, allowed))
            if type(value) is not type(allowed[0]) or value not in allowed:
                raise ValueError(f"{name}: expected one of {names}, got {short(value)}")
        if not isinstance(self.data, str) or not isinstance(self.fingerprint, (str, type(None))):
            raise ValueError(f"data: expected a text, got {short(self.data)}")


def least_numbers(config, shape):
    """A number of weights that the generator of this configuration cannot have fewer of, for
    samples of this shape.

    Whoever reads a run compares it with the checkpoint before any network is built.
    """
    w, latent, hidden = config.width, config.latent, _recipes().HIDDEN
    if len(shape) == 1:
        return w * latent + w * w
    if config.model == "mlp":
        return w * latent + 10 * w * w + 4 * w * math.prod(shape)
    c = w * max(1, shape[0] // 14)              # channels at the lowest resolution, or fewer
    return hidden * latent + 16 * hidden * c + (8 * c * c if shape[0] > 14 else 0)


def resume_command(folder):
    """What to type to go on with a run."""
    return "tinygan train --resume" + ("=" if folder.startswith("-") else " ") + shlex.quote(folder)


def checkpoints(folder):
    """The names of a run's checkpoints, newest first: weights.npz, then weights-<step>.npz."""
    names = os.listdir(folder)
    older = [name for name in names if re.fullmatch(r"weights-\d{1,10}\.npz", name)]
    older.sort(key=lambda name: int(name[8:-4]), reverse=True)
    return ["weights.npz"] * ("weights.npz" in names) + older


def read_config(folder):
    """(Config, sample shape) of the run in a folder. Raises `CheckpointError`."""
    path = os.path.join(folder, "config.json")
    try:
        with files.open_regular(path) as file:
            text = file.read(1_000_001)
        if len(text) > 1_000_000:
            raise ValueError("more than a megabyte")
        return config_of(json.loads(text))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no run (no config.json); "
                              "make one with: tinygan train") from None
    except FOREIGN as e:
        raise CheckpointError(f"{path}: not the configuration of a run ({reason(e)})") from None


def config_of(values):
    """(Config, sample shape) from what config.json holds; ValueError, TypeError or KeyError if it
    is not that."""
    shape = tuple(values.pop("shape"))
    config = Config(**values)
    config.check()
    images = len(shape) == 3 and all(type(n) is int and 0 < n <= 4096 for n in shape)
    if shape != (2,) and not (images and math.prod(shape) <= 2 ** 24):
        raise ValueError("shape: expected [2] or [height, width, channels], "
                         f"got {short(list(shape))}")
    if config.model == "conv" and len(shape) != 3:
        raise ValueError("model conv needs images")
    return config, shape


def build_for(config, shape, shapes):
    """The GAN of a configuration, for weights whose generator has these shapes {name: shape}.
    ValueError if it has too few."""
    found, least = sum(math.prod(s) for s in shapes.values()), least_numbers(config, shape)
    if found < least:
        raise ValueError(f"it has {found:,} numbers, and its configuration describes a network of "
                         f"{least:,} or more")
    with Randomness(config.seed):
        return _recipes().build(config, shape)


def load_gan(folder, config, shape):
    """(GAN, info, file name) of the newest readable checkpoint of the run in a folder, with a
    warning if it is not the newest."""
    first = None
    for name in checkpoints(folder) or ["weights.npz"]:
        try:
            gan, info = _load_gan(os.path.join(folder, name), config, shape)
        except CheckpointError as e:
            first = first or e
        else:
            if first is not None:
                warnings.warn(f"{first}; going on with {name}, step {gan.steps}", stacklevel=3)
            return gan, info, name
    raise first


def _load_gan(path, config, shape):
    with checkpoint.Checkpoint(path) as file:
        try:
            gan = build_for(config, shape, file.shapes.get("generator", {}))
        except ValueError as e:
            raise CheckpointError(f"{path}: part 'generator' does not fit: {e}") from None
        file.restore(gan)
        rates = [state["lr"] for state in gan.state_dict().values() if "lr" in state]
        if not all(0 <= rate <= 1000 for rate in rates):
            raise CheckpointError(f"{path}: a learning rate that no run can have")
        return gan, file.info


def load_weights(folder):
    """({part: {name: array}}, info) of the newest checkpoint of the run in a folder."""
    return checkpoint.load(os.path.join(folder, "weights.npz"))


def progress_of(info, steps):
    """(log, seconds, best) from a checkpoint's info; ValueError and the like if a run at this step
    cannot have saved it."""
    log, seconds, best = info["log"], info["seconds"], info.get("best")
    for before, after in zip([{"step": 0}, *log], log, strict=False):
        numbers = all(is_number(v, int, float) for v in after.values())
        finite = numbers and all(math.isfinite(after[k]) for k in ("d_loss", "g_loss", "seconds"))
        fits = finite and after.keys() == log[0].keys()
        if not (fits and before["step"] < after["step"] <= steps):
            raise ValueError(f"a row of the log is {short(after)}")
    if not isinstance(log, list) or not is_number(seconds, int, float) or not 0 <= seconds < 1e10:
        raise ValueError(f"seconds are {short(seconds)}")
    numbers = isinstance(best, list) and all(is_number(v, int, float) for v in best)
    if best is not None and not numbers:
        raise ValueError(f"best is {short(best)}")
    return log, float(seconds), best


def load_frames(path, steps):
    """{step: PNG} of a run's frames.npz up to this step. Raises `CheckpointError`."""
    if not os.path.exists(path):
        return {}
    with checkpoint.Checkpoint(path) as file:
        if file.size > 2 ** 28:
            raise CheckpointError(f"{path}: {file.size:,} bytes of pictures")
        frames = file.parts().get("frames", {})
    try:
        frames = {int(step): bytes(png) for step, png in frames.items() if int(step) <= steps}
        images = [Image.open(io.BytesIO(png), formats=["PNG"]) for png in frames.values()]
        kinds = {(image.size, image.mode) for image in images}
        if len(kinds) > 1 or any(math.prod(size) > 2 ** 24 for size, _ in kinds):
            raise ValueError("pictures of different or impossible sizes")
        for image in images:
            image.load()
    except Exception as e:          # Pillow raises anything
        raise CheckpointError(f"{path}: no pictures of a run ({reason(e)})") from None
    return frames


def generator_of(folder, device="cpu"):
    """(GAN, Config, shape): the trained networks of a run, ready to `.sample(z)`. Raises
    `CheckpointError`."""
    config, shape = read_config(folder)
    config.device = device
    return load_gan(folder, config, shape)[0], config, shape
