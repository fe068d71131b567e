"""A run: everything `tinygan train` does around the two-player loop.

A run folder holds

    config.json       the options, so that the run can be repeated, sampled from and resumed
    weights.npz       the newest checkpoint: networks, optimisers, random generators and the log
    weights-<step>.npz                earlier checkpoints, with --keep
    frames.npz        the pictures so far
    log.csv           step, losses, D's mean scores on real and fake samples, seconds
    samples.png       the generator's picture of the same latents, renewed while it learns
    training.gif      those pictures in a row
    losses.png        the log as curves
    lock              who writes the folder at the moment (files.py)

The checkpoint is the truth: it is written at the start, then by the clock and at the end, and
everything that a run draws or logs follows from it and from the frames. So a run that was
interrupted or killed, and goes on, leaves the same files in the end, bit for bit, as one that was
not; only the seconds differ.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import time
import warnings

import numpy as np
from PIL import Image

from . import backend, checkpoint, data, files, models, plot, saved
from .checkpoint import CheckpointError, refused
from .interruption import Interruption
from .progress import Progress
from .randomness import Randomness
from .saved import Config, checkpoints, generator_of, load_weights, read_config, resume_command
from .train import GAN, Diverged, fit, row, wgan_gp

__all__ = ["Config", "Run", "build", "field", "generator_of", "load_weights", "read_config"]

FRAMES = 48                 # pictures in training.gif
LOGS = 500                  # rows in log.csv
PERIOD = 30.0               # seconds between two checkpoints
PRODUCTS = ("frames.npz", "log.csv", "samples.png", "training.gif", "losses.png")

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


def png(image):
    """A uint8 image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class FolderLost(OSError):
    """The run folder was deleted or moved while training; the message says where everything was
    saved instead."""


class Run:
    """A run folder being written. `start` makes a new one, `resume` goes on with one; then
    `train`."""

    def __init__(self, folder, config, dataset, gan, lock):
        self.config, self.dataset, self.gan = config, dataset, gan
        self.folder, self.place, self.lock = folder, os.path.abspath(folder), lock
        self.log, self.seconds, self.frames = [], 0.0, {}
        self.newest = self.framed = None        # the last steps in weights.npz and frames.npz
        count = 64 if dataset.is_image else 2000
        z = Randomness(config.seed).rng("picture")
        # The same latents in every picture.
        self.latents = z.standard_normal((count, config.latent), dtype=np.float32)

    def path(self, name):
        """Where a file of this run is, whatever the current folder."""
        return os.path.join(self.place, name)

    @classmethod
    def start(cls, config, folder=None, force=False):
        """Load the data, make the networks and the folder (default runs/<data>-<model>), and save
        the beginning.

        ValueError if the folder holds a run already, unless `force` replaces it, or if a run is
        being written there.
        """
        dataset = data.load(config.data, size=config.size, grey=config.grey, seed=config.seed)
        config.complete(dataset.is_image)
        if config.batch_size > len(dataset):
            raise ValueError(f"--batch-size {config.batch_size} is more than the {len(dataset)} "
                             f"samples of {config.data}")
        config.device = backend.pick_device(config.device)
        if folder is None:
            kind = os.path.basename(config.data.partition(":")[0])
            name = re.sub(r"[^\w.-]+", "_", kind) or "data"
            folder = os.path.join("runs", f"{name}-{config.model}")
        if dataset.path:                        # absolute, so that the run can go on from anywhere
            kind = "folder:" if config.data.startswith("folder:") else ""
            config.data, config.fingerprint = kind + str(dataset.path), dataset.fingerprint
        with Randomness(config.seed):
            gan = build(config, dataset.x.shape[1:])
        run = cls(folder, config, dataset, gan, files.Lock(folder))
        os.makedirs(run.place, exist_ok=True)
        with run.lock.taken():
            if checkpoints(run.place) and not force:
                raise ValueError(f"{folder} already holds a run: go on with it (--resume), "
                                 "replace it (--force) or choose another folder (--out)")
            # The options first, as they mean nothing to other weights.
            for name in ("config.json", *checkpoints(run.place), *PRODUCTS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(run.path(name))
            run._write_config()
            run._write_state()
        return run

    @classmethod
    def resume(cls, folder, steps=None, device="auto", keep=None):
        """Go on where the run in this folder stopped, up to its own number of steps or another,
        which becomes its own."""
        read_config(folder)                     # without a run there is nothing to lock
        lock = files.Lock(folder)
        with lock.taken():                      # so that nobody else changes what is read
            config, shape = read_config(folder)
            config.device = backend.pick_device(device)
            config = dataclasses.replace(config, keep=config.keep if keep is None else keep,
                                         steps=config.steps if steps is None else steps)
            dataset = data.load(config.data, size=config.size, grey=config.grey, seed=config.seed)
            now = dataset.fingerprint if config.fingerprint else None
            if dataset.x.shape[1:] != shape or now != config.fingerprint:
                raise ValueError(f"the data {config.data} have changed since {folder} began, so it "
                                 "cannot go on: bring them back, or start a new run (--out)")
            run = cls(folder, config, dataset, None, lock)
            run._load(shape)
            if steps is not None and steps < run.gan.steps:
                raise ValueError(f"--steps {steps}: {folder} has done {run.gan.steps} steps "
                                 "already")
            if steps is not None and len(run.log) > 10 * LOGS:      # extended again and again
                run.log = run.log[::2]
            run._write_config()
        return run

    def _load(self, shape):
        """The newest readable checkpoint and its frames; a run that was killed before its first
        one begins anew."""
        if not checkpoints(self.place):
            warnings.warn(f"{self.folder} holds no checkpoint: it starts from the beginning",
                          stacklevel=3)
            with Randomness(self.config.seed):
                self.gan = build(self.config, shape)
            return self._write_state()
        self.gan, info, name = saved.load_gan(self.place, self.config, shape)
        with refused(self.path(name), "saved by a run"):
            self.log, self.seconds = saved.progress_of(info, self.gan.steps)
        if name == "weights.npz":               # else that is damaged, and is not kept
            self.newest = self.gan.steps
        try:
            self.frames = saved.load_frames(self.path("frames.npz"), self.gan.steps)
        except CheckpointError as e:
            warnings.warn(f"{e}; training.gif begins at step {self.gan.steps}", stacklevel=3)

    def train(self, out=None):
        """Run to the end, or until a signal or lost output stops it. Returns 0, or 128 + the
        signal's number, or 1.

        Progress goes to `out` (default: standard output), as a bar on a terminal and else as plain
        lines.
        """
        self.lock.take()
        try:
            before, steps = self.gan.steps, self.config.steps
            self.every_log, self.every_frame = max(1, steps // LOGS), max(1, steps // FRAMES)
            self.progress = Progress(steps, before, out)
            x = backend.to_device(self.dataset.x, self.config.device)
            # Here a signal is only noted, and an overflow is no warning: `Diverged` says more.
            with (Interruption() as self.stop, contextlib.closing(self.progress),
                  np.errstate(all="ignore")):
                self.checked = time.monotonic()
                self.began = self.checked - self.seconds
                if before == 0:
                    self.frames[0] = png(self.picture())
                fit(self.gan, x, steps, self.config.batch_size, self._after_step)
                self.save()
            return self._farewell(before)
        finally:
            self.lock.release()

    def _after_step(self, gan, results):
        """Log, draw and save what is due. Returns True to stop."""
        self.progress.step()
        self.seconds = time.monotonic() - self.began
        if gan.steps % self.every_log == 0 or gan.steps == self.config.steps:
            self.log.append({**row(gan, results), "seconds": round(self.seconds, 3)})
            self.progress.row(self.log[-1], self.seconds)
        if gan.steps % self.every_frame == 0:
            self.frames[gan.steps] = png(self.picture())
            if len(self.frames) % 8 == 0:
                self.save()
        if time.monotonic() - self.checked > PERIOD:
            self._on_disk(self._write_state)
        return self.stop.signal is not None or self.progress.lost is not None

    def _farewell(self, before):
        """Say how the run ended. Returns the exit status."""
        step, folder, lost = self.gan.steps, self.folder, self.progress.lost
        say, go_on = self.progress.say, resume_command(folder)
        if step == before == self.config.steps:
            say(f"nothing left to do: {folder} has done its {step} steps; "
                f"for more: {go_on} --steps N")
        elif step == self.config.steps:
            say(f"done in {self.seconds:.0f} s: see {os.path.join(folder, 'samples.png')} and "
                f"{os.path.join(folder, 'training.gif')}")
        elif self.stop.signal is not None:
            say(f"stopped at step {step}; go on with: {go_on}")
            return 128 + self.stop.signal
        else:
            warnings.warn(f"output failed ({type(lost).__name__}): stopped at step {step}; "
                          f"go on with: {go_on}", stacklevel=3)
            return 128 + 13 if isinstance(lost, BrokenPipeError) else 1         # 13 is SIGPIPE
        return 0

    def picture(self):
        """What the generator makes of the fixed latents now, as a uint8 image."""
        fake = self.gan.sample(self.latents)
        if not np.isfinite(fake).all():
            raise Diverged("the generator's samples hold NaN or infinity at step "
                           f"{self.gan.steps}; try a smaller learning rate")
        if self.dataset.is_image:
            return plot.to_grid(fake)
        behind = field(self.gan, self.config)
        return plot.density(fake, self.dataset.x, field=behind, title=f"step {self.gan.steps:,}")

    def save(self):
        """Write everything the folder holds; each file is replaced as a whole."""
        self._on_disk(self._write_state, self._write_pictures)

    def _on_disk(self, *writers):
        """Write into the folder. If that was deleted or moved, save everything elsewhere and
        stop."""
        try:
            for write in writers:
                if not self.lock.held():
                    raise FileNotFoundError(self.place)
                write()
        except (FileNotFoundError, NotADirectoryError):
            self._rescue()

    def _rescue(self):
        """Make the folder again, or one beside it if something is there now, and save everything.
        Raises `FolderLost`."""
        lost, place = self.folder, self.place
        self.lock.release()
        beside = (f"{place}-{n}" for n in itertools.count(2))
        self.place = next(p for p in itertools.chain([place], beside) if not os.path.lexists(p))
        self.folder = lost if self.place == place else self.place
        os.makedirs(self.place)
        self.lock = files.Lock(self.place)
        self.lock.take()
        self.newest = self.framed = None
        for write in (self._write_config, self._write_state, self._write_pictures):
            write()
        raise FolderLost(f"{lost} was deleted or moved while training; step {self.gan.steps} was "
                         f"saved in {self.folder}; go on with: {resume_command(self.folder)}")

    def _write(self, name, contents):
        files.write_atomically(self.path(name), lambda file: file.write(contents))

    def _write_config(self):
        values = {**self.config.options(), "shape": self.dataset.x.shape[1:]}
        self._write("config.json", (json.dumps(values, indent=2) + "\n").encode())

    def _write_state(self):
        """The frames, then the checkpoint: so there is a frame for every step that the checkpoint
        has been through."""
        self.checked = time.monotonic()
        if self.frames and max(self.frames) != self.framed:
            frames = {str(step): np.frombuffer(raw, np.uint8) for step, raw in self.frames.items()}
            checkpoint.save(self.path("frames.npz"), {"frames": frames}, {})
            self.framed = max(self.frames)
        if self.config.keep > 1 and self.newest not in (None, self.gan.steps):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path("weights.npz"), self.path(f"weights-{self.newest}.npz"))
        try:
            checkpoint.save(self.path("weights.npz"), self.gan.state_dict(),
                            {"log": self.log, "seconds": self.seconds})
        except checkpoint.NotFinite as e:
            raise Diverged(f"step {self.gan.steps}: {e}; try a smaller learning rate") from None
        self.newest = self.gan.steps
        older = [name for name in checkpoints(self.place) if name != "weights.npz"]
        for name in older[self.config.keep - 1:]:
            os.unlink(self.path(name))
        if self.log:
            rows = [self.log[0], *(row.values() for row in self.log)]
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            self._write("log.csv", text.encode())

    def _write_pictures(self):
        self._write("samples.png", self.frames.get(self.gan.steps) or png(self.picture()))
        if self.log:
            self._write("losses.png", png(plot.losses(self.log)))
        frames = [saved.decoded(raw) for _, raw in sorted(self.frames.items())]
        if len(frames) > 1:
            plot.save_gif(self.path("training.gif"), frames)
