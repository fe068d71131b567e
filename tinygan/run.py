"""A run: everything `tinygan train` does around the two-player loop.

A run folder holds

    config.json       the options, so that the run can be repeated, sampled from and resumed
    log.csv           step, losses, D's mean scores on real and fake samples, seconds
    samples.png       the generator's picture of the same latents, renewed while it learns
    training.gif      those pictures in a row
    losses.png        the log as curves
    weights.npz       networks, optimisers and random generators (no pickle)
"""

import csv
import dataclasses
import io
import json
import math
import os
import signal
import sys
import time

import numpy as np
from tqdm import tqdm

from . import backend, checkpoint, data, models, plot, randomness
from .losses import LOSSES
from .train import GAN, Diverged, fit, row, wgan_gp

FILES = ("weights.npz", "log.csv", "samples.png", "training.gif", "losses.png")
FRAMES = 48                 # pictures in training.gif
LOGS = 500                  # rows in log.csv


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

    def complete(self, is_image):
        """Fill in what was left open."""
        self.model = self.model or ("conv" if is_image else "mlp")
        if self.model == "conv" and not is_image:
            raise ValueError(f"--model conv needs images, but {self.data} is made of 2-D points; use --model mlp")
        defaults = DEFAULTS["points" if not is_image else self.model]
        for name, value in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        return self


HIDDEN = 256                # units of the dense layer in both convolutional networks: it makes digits whole (see README)
DEFAULTS = {
    "conv": dict(steps=2800, batch_size=32, lr=1e-3, width=16, latent=64),
    "mlp": dict(steps=4000, batch_size=64, lr=2e-4, width=256, latent=64),
    "points": dict(steps=5000, batch_size=256, lr=1e-3, width=128, latent=16),
}


def build(config, shape):
    """The GAN of a configuration, for samples of this shape: (2,) or (H, W, C)."""
    penalised = config.loss == "wasserstein"
    if config.model == "conv":
        size, channels = shape[1], shape[2]

        def generator():
            return models.conv_generator(config.latent, size, channels, config.width, HIDDEN)
        discriminator = models.conv_discriminator(size, channels, config.width, not penalised, HIDDEN)
    else:
        w = config.width
        wide = (w, 2 * w, 4 * w) if len(shape) > 1 else (w, w)

        def generator():
            return models.mlp_generator(config.latent, shape, wide)
        discriminator = models.mlp_discriminator(shape, wide[1::-1])
    g, average = generator(), generator()
    for net in (g, average, discriminator):
        net.to(config.device)
    extra = {}
    if penalised:       # Gulrajani et al. 2017: betas of algorithm 1; weight 10 for images, 0.1 for toy data as in their code
        extra = dict(penalty=wgan_gp(10.0 if len(shape) > 1 else 0.1), d_steps=2, betas=(0.0, 0.9))
    return GAN(g, discriminator, config.latent, loss=config.loss, lr=config.lr, average=average, decay=0.998, **extra)


def field(gan, config):
    """What to draw behind 2-D samples: D's probability that a point is real, or a critic's plain score."""
    return gan.logits if config.loss == "wasserstein" else gan.score


class Run:
    """A run folder being written. `start` makes a new one, `resume` goes on with one, `open` reads one."""

    def __init__(self, folder, config, dataset):
        self.folder, self.config, self.dataset = folder, config, dataset
        self.gan = build(config, dataset.x.shape[1:])
        self.log, self.frames, self.seconds = [], [], 0.0
        rng = np.random.default_rng(config.seed)
        count = 64 if dataset.is_image else 2000
        self.latents = rng.standard_normal((count, config.latent), dtype=np.float32)     # the same in every picture

    def path(self, name):
        return os.path.join(self.folder, name)

    @classmethod
    def start(cls, config, folder=None, force=False):
        """Load the data, make the folder (default runs/<data>-<model>) and the networks. ValueError if it holds a run already."""
        dataset = data.load(config.data, size=config.size, grey=config.grey, seed=config.seed)
        config.complete(dataset.is_image)
        if config.batch_size > len(dataset):
            raise ValueError(f"--batch-size {config.batch_size} is more than the {len(dataset)} samples of {config.data}")
        config.device = backend.pick_device(config.device)
        randomness.seed(config.seed)
        kind = config.data.partition(":")[0]
        folder = folder or os.path.join("runs", f"{kind}-{config.model}")
        run = cls(folder, config, dataset)
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(run.path("config.json")) and not force:
            raise ValueError(f"{folder} already holds a run: go on with it (--resume), replace it (--force) "
                             "or choose another folder (--out)")
        for name in FILES:                      # of the run that --force replaces
            if os.path.exists(run.path(name)):
                os.unlink(run.path(name))
        text = json.dumps({**dataclasses.asdict(config), "shape": dataset.x.shape[1:]}, indent=2) + "\n"
        checkpoint.write_atomically(run.path("config.json"), lambda f: f.write(text.encode()))
        return run

    @classmethod
    def resume(cls, folder, steps=None, device="auto"):
        """Go on where the run in this folder stopped, up to its own number of steps or another."""
        config, _ = read_config(folder)
        config.device, config.steps = backend.pick_device(device), steps or config.steps
        randomness.seed(config.seed)
        run = cls(folder, config, data.load(config.data, size=config.size, grey=config.grey, seed=config.seed))
        parts, info = load_weights(folder)
        checkpoint.restore(run.path("weights.npz"), parts, run.gan)
        try:
            run.log, run.seconds = info["log"], info["seconds"]
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise checkpoint.CheckpointError(f"{run.path('weights.npz')}: not saved by a run ({type(e).__name__}: {e})") from None
        return run

    def train(self, out=None):
        """Run to the end, or until the user interrupts. Returns 0, or the signal's exit status 130 / 143.

        Progress goes to `out` (default: standard output), as a bar on a terminal and else as plain lines.
        """
        config, gan, out = self.config, self.gan, out or sys.stdout
        x = backend.to_device(self.dataset.x, config.device)
        every_log, every_frame = max(1, config.steps // LOGS), max(1, config.steps // FRAMES)
        bar = tqdm(total=config.steps, initial=gan.steps, unit=" steps", dynamic_ncols=True, file=out,
                   disable=not out.isatty())
        clock, printed = time.monotonic() - self.seconds, -math.inf
        if gan.steps == 0:
            self.frames.append(self.picture())
        with Interruption() as stop, np.errstate(all="ignore"):         # `Diverged` says more than a warning
            def on_step(gan, results):
                nonlocal printed
                bar.update()
                if gan.steps % every_log == 0 or gan.steps == config.steps or stop.signal:
                    self.seconds = time.monotonic() - clock
                    self.log.append({**row(gan, results), "seconds": round(self.seconds, 3)})
                    last = self.log[-1]
                    bar.set_postfix_str(f"D {last['d_loss']:.3f}  G {last['g_loss']:.3f}", refresh=False)
                    if bar.disable and (time.monotonic() - printed > 5 or gan.steps == config.steps):
                        printed = time.monotonic()
                        rate = gan.steps / self.seconds
                        print(f"step {gan.steps}/{config.steps}  D {last['d_loss']:.3f}  G {last['g_loss']:.3f}  "
                              f"{rate:.1f} steps/s  {(config.steps - gan.steps) / rate:.0f} s left", file=out, flush=True)
                if gan.steps % every_frame == 0:
                    self.frames.append(self.picture())
                    if len(self.frames) % 8 == 0:
                        self.save()
                return stop.signal is not None
            fit(gan, x, config.steps, config.batch_size, on_step)
            bar.close()
            self.save()
        if stop.signal is not None:
            print(f"stopped at step {gan.steps}; go on with: tinygan train --resume {self.folder}", file=out)
            return 128 + stop.signal
        print(f"done in {self.seconds:.0f} s: see {self.path('samples.png')} and {self.path('training.gif')}", file=out)
        return 0

    def picture(self):
        """What the generator makes of the fixed latents now, as a uint8 image."""
        fake = self.gan.sample(self.latents)
        if not np.isfinite(fake).all():
            raise Diverged(f"the generator's samples hold NaN or infinity at step {self.gan.steps}; try a smaller learning rate")
        if self.dataset.is_image:
            return plot.to_grid(fake)
        return plot.density(fake, self.dataset.x, field=field(self.gan, self.config), title=f"step {self.gan.steps:,}")

    def save(self):
        """Write everything the folder holds; each file is replaced as a whole."""
        info = {"log": self.log, "seconds": self.seconds}
        try:
            checkpoint.save(self.path("weights.npz"), self.gan.state_dict(), info)
        except ValueError as e:
            raise Diverged(f"step {self.gan.steps}: {e}; try a smaller learning rate") from None
        if self.log:
            text = io.StringIO()
            table = csv.DictWriter(text, self.log[0].keys(), lineterminator="\n")
            table.writeheader()
            table.writerows(self.log)
            checkpoint.write_atomically(self.path("log.csv"), lambda f: f.write(text.getvalue().encode()))
            plot.save_losses(self.path("losses.png"), self.log)
        plot.save_image(self.path("samples.png"), self.picture())
        if len(self.frames) > 1:
            plot.save_gif(self.path("training.gif"), self.frames)


class Interruption:
    """Within this block Ctrl-C and SIGTERM are noted in `.signal` instead of stopping the program; a second one stops it."""

    signal = None

    def __enter__(self):
        def note(number, frame):
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number
        self.before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception):
        for s, handler in self.before.items():
            signal.signal(s, handler)


def read_config(folder):
    """(Config, sample shape) of the run in a folder. Raises `CheckpointError`."""
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        shape = tuple(values.pop("shape"))
        config = Config(**values)
        counts = (config.steps, config.batch_size, config.size, config.width, config.latent, *shape)
        if not (len(shape) in (1, 3) and all(isinstance(n, int) and n > 0 for n in counts)
                and isinstance(config.seed, int) and isinstance(config.lr, (int, float)) and isinstance(config.data, str)
                and config.loss in list(LOSSES) and (config.model == "mlp" or config.model == "conv" and len(shape) == 3)):
            raise ValueError("an option that no run can have")
        return config, shape
    except FileNotFoundError:
        raise checkpoint.CheckpointError(f"{folder} holds no run (no config.json); make one with: tinygan train") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise checkpoint.CheckpointError(f"{path}: not the configuration of a run ({type(e).__name__}: {e})") from None


def load_weights(folder):
    """The checkpoint of the run in a folder."""
    return checkpoint.load(os.path.join(folder, "weights.npz"))


def generator_of(folder, device="cpu"):
    """(GAN, Config, shape): the trained networks of a run, ready to `.sample(z)`. Raises `CheckpointError`."""
    config, shape = read_config(folder)
    config.device = device
    gan = build(config, shape)
    parts, _ = load_weights(folder)
    checkpoint.restore(os.path.join(folder, "weights.npz"), parts, gan)
    return gan, config, shape
