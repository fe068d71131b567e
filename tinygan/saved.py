"""A run as it lies in its folder, read by somebody who trusts nothing: its options, its checkpoints, its pictures.

Whatever a file claims is compared with what the other files say before networks are built or memory is spent.
"""

import dataclasses
import io
import json
import math
import os
import re
import reprlib
import warnings

import numpy as np
from PIL import Image

from . import checkpoint, files
from .checkpoint import CheckpointError
from .losses import LOSSES
from .randomness import Randomness

LIMITS = {"steps": (1, 10 ** 9), "batch_size": (2, 10 ** 6), "seed": (0, 2 ** 128), "size": (6, 1024),
          "width": (1, 8192), "latent": (1, 65536), "keep": (1, 1000)}


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
            raise ValueError(f"--model conv needs images, but {self.data} is made of 2-D points; use --model mlp")
        defaults = _recipes().DEFAULTS["points" if not is_image else self.model] if self.model in ("mlp", "conv") else {}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self.check()
        return self

    def check(self):
        """ValueError unless every option has the right type and a value that a run can have."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
                raise ValueError(f"{name}: expected an integer from {low} to {high}, got {reprlib.repr(value)}")
            setattr(self, name, int(value))
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)) or not 0 < self.lr <= 10:
            raise ValueError(f"lr: expected a number > 0 and <= 10, got {reprlib.repr(self.lr)}")
        choices = {"model": ("mlp", "conv"), "loss": tuple(LOSSES), "device": ("auto", "cpu", "gpu"), "grey": (True, False)}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if type(value) is not type(allowed[0]) or value not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {reprlib.repr(value)}")
        if not isinstance(self.data, str) or not isinstance(self.fingerprint, (str, type(None))):
            raise ValueError(f"data: expected a text, got {reprlib.repr(self.data)}")


def least_numbers(config, shape):
    """A number of weights that the generator of this configuration cannot have fewer of, for samples of this shape.

    Whoever reads a run compares it with the checkpoint before any network is built.
    """
    w, latent, hidden = config.width, config.latent, _recipes().HIDDEN
    if len(shape) == 1:
        return w * latent + w * w
    if config.model == "mlp":
        return w * latent + 10 * w * w + 4 * w * math.prod(shape)
    c = w * max(1, shape[0] // 14)              # channels at the lowest resolution, or fewer
    return hidden * latent + 16 * hidden * c + (8 * c * c if shape[0] > 14 else 0)


def checkpoints(folder):
    """The names of a run's checkpoints, newest first: weights.npz, then weights-<step>.npz."""
    steps = [int(m[1]) for name in os.listdir(folder) if (m := re.fullmatch(r"weights-(\d{1,10})\.npz", name))]
    newest = ["weights.npz"] if os.path.lexists(os.path.join(folder, "weights.npz")) else []
    return newest + [f"weights-{step}.npz" for step in sorted(steps, reverse=True)]


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
        raise CheckpointError(f"{folder} holds no run (no config.json); make one with: tinygan train") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        reason = " ".join(str(e).split())[:300]
        raise CheckpointError(f"{path}: not the configuration of a run ({type(e).__name__}: {reason})") from None


def config_of(values):
    """(Config, sample shape) from what config.json holds; ValueError, TypeError or KeyError if it is not that."""
    shape = tuple(values.pop("shape"))
    config = Config(**values)
    config.check()
    if not (shape == (2,) or len(shape) == 3 and all(type(n) is int and 0 < n <= 4096 for n in shape)
            and math.prod(shape) <= 2 ** 24):
        raise ValueError(f"shape: expected [2] or [height, width, channels], got {reprlib.repr(list(shape))}")
    if config.model == "conv" and len(shape) != 3:
        raise ValueError("model conv needs images")
    return config, shape


def build_for(config, shape, shapes):
    """The GAN of a configuration, for weights whose generator has these shapes {name: shape}. ValueError if it has too few."""
    found, least = sum(math.prod(s) for s in shapes.values()), least_numbers(config, shape)
    if found < least:
        raise ValueError(f"it has {found:,} numbers, and its configuration describes a network of {least:,} or more")
    with Randomness(config.seed):
        return _recipes().build(config, shape)


def load_gan(folder, config, shape):
    """(GAN, info, file name) of the newest readable checkpoint of the run in a folder, with a warning if it is not the newest."""
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
        if any(not 0 <= state["lr"] <= 1000 for state in gan.state_dict().values() if "lr" in state):
            raise CheckpointError(f"{path}: a learning rate that no run can have")
        return gan, file.info


def progress_of(info, steps):
    """(log, seconds, best) from a checkpoint's info; ValueError and the like if a run at this step cannot have saved it."""
    log, seconds, best = info["log"], info["seconds"], info.get("best")
    for before, after in zip([{"step": 0}, *log], log, strict=False):
        if not {"step", "d_loss", "g_loss", "seconds"} <= after.keys() == log[0].keys() \
                or not before["step"] < after["step"] <= steps \
                or not all(type(v) in (int, float) and math.isfinite(v) for v in after.values()):
            raise ValueError(f"a row of the log is {reprlib.repr(after)}")
    if not isinstance(log, list) or type(seconds) not in (int, float) or not 0 <= seconds < 1e10:
        raise ValueError(f"seconds are {reprlib.repr(seconds)}")
    if best is not None and not (isinstance(best, list) and all(type(v) in (int, float) for v in best)):
        raise ValueError(f"best is {reprlib.repr(best)}")
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
        frames = {int(step): bytes(picture) for step, picture in frames.items() if int(step) <= steps}
        images = [Image.open(io.BytesIO(picture), formats=["PNG"]) for picture in frames.values()]
        if len({(image.size, image.mode) for image in images}) > 1 or any(math.prod(i.size) > 2 ** 24 for i in images):
            raise ValueError("pictures of different or impossible sizes")
        for image in images:
            image.load()
    except Exception as e:          # Pillow raises anything
        raise CheckpointError(f"{path}: no pictures of a run ({type(e).__name__}: {e})") from None
    return frames


def generator_of(folder, device="cpu"):
    """(GAN, Config, shape): the trained networks of a run, ready to `.sample(z)`. Raises `CheckpointError`."""
    config, shape = read_config(folder)
    config.device = device
    return load_gan(folder, config, shape)[0], config, shape
