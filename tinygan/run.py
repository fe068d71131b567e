"""A run: everything `tinygan train` does around the two-player loop.

A run folder holds

    config.json       the options, so that the run can be repeated, sampled from and resumed
    weights.npz       the checkpoint: networks, the average of G, optimisers, number of steps and
                      random generators (`GAN.state_dict`), the log and the pictures so far
    weights-<step>.npz                earlier ones, with --keep; the newest that can be read is
                      gone on with where weights.npz is damaged
    log.csv           step, losses, D's mean scores on real and fake samples, seconds
    samples.png       the generator's picture of the same latents, renewed while it learns
    training.gif      those pictures in a row
    losses.png        the log as curves
    lock              who writes the folder at the moment (files.py)

The checkpoint is the truth: it is written at the start, then by the clock and at the end, and
everything that a run draws or logs follows from it. So a run that was interrupted or killed, and
goes on, leaves the same files in the end, bit for bit, as one that was not; only the seconds
differ.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import re
import shlex
import sys
import time
import warnings

import numpy as np
from PIL import Image
from tqdm import tqdm

from . import backend, checkpoint, classifier, coverage, data, files, plot, saved
from .checkpoint import refused
from .interruption import noted
from .randomness import Randomness
from .recipes import build, field, for_projection
from .saved import Config, earlier, generator_of, read_config
from .train import Diverged, fit, row

__all__ = ["Config", "Run", "build", "field", "generator_of", "read_config"]

FRAMES = 48                 # pictures in training.gif
LOGS = 500                  # rows in log.csv
PERIOD = 30.0               # seconds between two checkpoints
LINES = 5.0                 # seconds between two lines of progress, where no terminal shows a bar
PRODUCTS = ("log.csv", "samples.png", "training.gif", "losses.png")


def png(image):
    """A uint8 image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def resume_command(folder):
    """What to type to go on with a run."""
    return "tinygan train --resume" + ("=" if folder.startswith("-") else " ") + shlex.quote(folder)


class Run:
    """A run folder being written. `start` makes a new one, `resume` goes on with one; then
    `train`."""

    def __init__(self, folder, config, dataset, gan, lock):
        self.config, self.dataset, self.gan = config, dataset, gan
        self.folder, self.place, self.lock = folder, os.path.abspath(folder), lock
        self.log, self.seconds, self.frames = [], 0.0, {}
        self.newest = None                      # the steps of weights.npz
        self.lost, self.printed = None, -math.inf       # the error of output, the time of a line
        count = 64 if dataset.is_image else 2000
        z = Randomness(config.seed).rng("picture")      # the same latents in every picture
        self.latents = z.standard_normal((count, config.latent), dtype=np.float32)
        self.given = saved.labels_in_turn(count, config)

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
        if config.condition is not None:
            if dataset.labels is None:
                raise ValueError(f"--condition: {config.data} has no labels to go by")
            config.classes = int(dataset.labels.max()) + 1
        for_projection(config)
        if config.batch_size > len(dataset):
            raise ValueError(f"--batch-size {config.batch_size} is more than the {len(dataset)} "
                             f"samples of {config.data}")
        config.device = backend.pick_device(config.device)
        if folder is None:
            name = re.sub(r"[^\w.-]+", "_", os.path.basename(config.data.partition(":")[0]))
            folder = os.path.join("runs", f"{name or 'data'}-{config.model}")
        if dataset.path:                        # absolute, so that the run can go on from anywhere
            kind = "folder:" if config.data.startswith("folder:") else ""
            config.data, config.fingerprint = kind + str(dataset.path), dataset.fingerprint
        gan = saved.new_gan(config, dataset.x.shape[1:])
        run = cls(folder, config, dataset, gan, files.Lock(folder))
        os.makedirs(run.place, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(run.lock)
            if not force and (os.path.exists(run.path("weights.npz")) or earlier(run.place)):
                raise ValueError(f"{folder} already holds a run: go on with it (--resume), "
                                 "replace it (--force) or choose another folder (--out)")
            # The options first, as they mean nothing to other weights.
            for name in ("config.json", "weights.npz", *earlier(run.place), *PRODUCTS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(run.path(name))
            run._write_config()
            run._write_state()
            stack.pop_all()                     # the lock is kept until `train` ends
        return run

    @classmethod
    def resume(cls, folder, steps=None, device="auto", keep=None):
        """Go on where the run in this folder stopped, up to its own number of steps or another,
        which becomes its own."""
        read_config(folder)                     # without a run there is nothing to lock
        lock = files.Lock(folder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock)           # so that nobody else changes what is read
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
            run._write_config()
            stack.pop_all()                     # the lock is kept until `train` ends
        return run

    def _load(self, shape):
        """The newest readable checkpoint; a run that was killed before its first one begins
        anew."""
        if not os.path.exists(self.path("weights.npz")) and not earlier(self.place):
            warnings.warn(f"{self.folder} holds no checkpoint: it starts from the beginning",
                          stacklevel=3)
            self.gan = saved.new_gan(self.config, shape)
            return self._write_state()
        self.gan, self.frames, info, name = saved.load_gan(self.place, self.config, shape)
        with refused(self.path(name), "saved by a run"):
            self.log, self.seconds = saved.progress_of(info, self.gan.steps)
            if len({saved.decoded(png).shape for png in self.frames.values()}) > 1:
                raise ValueError("pictures of different sizes")
        if name == "weights.npz":               # else that is damaged, and is not kept
            self.newest = self.gan.steps

    def train(self, out=None):
        """Run to the end, or until a signal or lost output stops it. Returns 0, or 128 + the
        signal's number, or 1.

        Progress goes to `out` (default: standard output), as a bar on a terminal and else as plain
        lines.
        """
        with self.lock:
            before, steps = self.gan.steps, self.config.steps
            self.every_log, self.every_frame = max(1, steps // LOGS), max(1, steps // FRAMES)
            arrays = [self.dataset.x, *([self.dataset.labels] if self.config.classes else [])]
            x, *given = (backend.to_device(a, self.config.device) for a in arrays)
            # Here a signal is only noted, and an overflow is no warning: `Diverged` says more.
            self.out = out or sys.stdout or open(os.devnull, "w")   # a program without a console
            bar = tqdm(total=steps, initial=before, unit=" steps", file=self.out,
                       dynamic_ncols=True, disable=not getattr(self.out, "isatty", bool)())
            with noted() as self.stop, bar as self.bar, np.errstate(all="ignore"):
                self.checked = time.monotonic()
                self.began = self.checked - self.seconds
                if before == 0:
                    self.frames[0] = png(self.picture())
                fit(self.gan, x, steps, self.config.batch_size, self._after_step, given=given)
                self.save()
            return self._farewell(before)

    def _after_step(self, gan, results):
        """Log, draw and save what is due. Returns True to stop."""
        self.seconds, logged = time.monotonic() - self.began, None
        if gan.steps % self.every_log == 0 or gan.steps == self.config.steps:
            logged = {**row(gan, results), "seconds": round(self.seconds, 3)}
            self.log.append(logged)
        self._report(logged)
        if gan.steps % self.every_frame == 0:
            self.frames[gan.steps] = png(self.picture())
            if len(self.frames) % 8 == 0:
                self.save()
        if time.monotonic() - self.checked > PERIOD:
            self._on_disk(self._write_state)
        return self.stop.signal is not None or self.lost is not None

    def _report(self, row):
        """One step is done; row: of the log, or None. Output that fails is kept in `lost`: the
        reader of a pipe has gone, a terminal was closed, a disk is full."""
        try:
            self.bar.update()
            if row:
                losses = f"D {row['d_loss']:.3f}  G {row['g_loss']:.3f}"
                self.bar.set_postfix_str(losses, refresh=False)
                steps, now = self.config.steps, time.monotonic()
                if self.bar.disable and (now - self.printed > LINES or row["step"] == steps):
                    self.printed, rate = now, row["step"] / max(self.seconds, 1e-9)
                    print(f"step {row['step']}/{steps}  {losses}  {rate:.1f} steps/s  "
                          f"{(steps - row['step']) / rate:.0f} s left", file=self.out, flush=True)
        except (OSError, ValueError) as e:              # ValueError: the file was closed
            self.lost = e

    def _farewell(self, before):
        """Say how the run ended. Returns the exit status."""
        step, folder, status = self.gan.steps, self.folder, 0
        go_on = resume_command(folder)
        if step == before == self.config.steps:
            text = (f"nothing left to do: {folder} has done its {step} steps; "
                    f"for more: {go_on} --steps N")
        elif step == self.config.steps:
            text = (f"done in {self.seconds:.0f} s{self.figure()}: see "
                    f"{os.path.join(folder, 'samples.png')} and "
                    f"{os.path.join(folder, 'training.gif')}")
        elif self.stop.signal is not None:
            text, status = f"stopped at step {step}; go on with: {go_on}", 128 + self.stop.signal
        else:
            warnings.warn(f"output failed ({type(self.lost).__name__}): stopped at step {step}; "
                          f"go on with: {go_on}", stacklevel=3)
            return 128 + 13 if isinstance(self.lost, BrokenPipeError) else 1    # 13 is SIGPIPE
        print(text, file=self.out, flush=True)
        return status

    def picture(self):
        """What the generator makes of the fixed latents now, as a uint8 image."""
        fake = self.gan.sample(self.latents, *self.given)
        if not np.isfinite(fake).all():
            raise Diverged("the generator's samples hold NaN or infinity at step "
                           f"{self.gan.steps}; try a smaller learning rate")
        if self.dataset.is_image:
            return plot.to_grid(fake)
        return plot.density(fake, self.dataset.x, field=field(self.gan),
                            title=f"step {self.gan.steps:,}")

    def figure(self):
        """How good the generator is, in a few words, where that can be measured."""
        if self.dataset.mixture is not None:
            c = coverage.mode_coverage(self.gan.sample(self.latents), self.dataset.mixture)
            return (f", {c.modes} of {len(self.dataset.mixture.centers)} modes, "
                    f"{100 * c.high_quality:.1f} % within 3σ of one (perfect: "
                    f"{100 * coverage.ceiling():.1f} %)")
        if self.dataset.name in ("digits", "mnist"):
            fake = saved.drawn(self.gan, self.config, 1000, Randomness(self.config.seed))
            shares = classifier.class_shares(*classifier.classify(classifier.judge()[0], fake))
            return (f", {100 * shares.confident:.0f} % readable, rarest digit "
                    f"{100 * shares.smallest:.1f} %")
        return ""

    def save(self):
        """Write everything the folder holds; each file is replaced as a whole."""
        self._on_disk(self._write_state, self._write_pictures)

    def _on_disk(self, *writers):
        """Write into the folder. If that was deleted or moved, make it again, or one beside it if
        something is there now, save everything there and stop."""
        try:
            for write in writers:
                if not self.lock.held():
                    raise FileNotFoundError(self.place)
                write()
        except (FileNotFoundError, NotADirectoryError):
            lost, place = self.folder, self.place
            beside = (f"{place}-{n}" for n in itertools.count(2))
            self.place = next(p for p in itertools.chain([place], beside) if not os.path.lexists(p))
            self.folder = lost if self.place == place else self.place
            os.makedirs(self.place)
            self.newest, self.lock = None, files.Lock(self.place)
            with self.lock:
                for write in (self._write_config, self._write_state, self._write_pictures):
                    write()
            raise OSError(f"{lost} was deleted or moved while training; step {self.gan.steps} was "
                          f"saved in {self.folder}; go on with: {resume_command(self.folder)}"
                          ) from None

    def _write(self, name, contents):
        files.write_atomically(self.path(name), lambda file: file.write(contents))

    def _write_config(self):
        values = {**self.config.options(), "shape": self.dataset.x.shape[1:]}
        self._write("config.json", (json.dumps(values, indent=2) + "\n").encode())

    def _write_state(self):
        """The checkpoint, and the log as a table."""
        self.checked = time.monotonic()
        if self.config.keep > 1 and self.newest not in (None, self.gan.steps):
            with open(self.path("weights.npz"), "rb") as file:
                self._write(f"weights-{self.newest}.npz", file.read())
        frames = {str(step): np.frombuffer(raw, np.uint8) for step, raw in self.frames.items()}
        checkpoint.save(self.path("weights.npz"), {**self.gan.state_dict(), "frames": frames},
                        {"log": self.log, "seconds": self.seconds})
        self.newest = self.gan.steps
        for name in earlier(self.place)[self.config.keep - 1:]:
            os.unlink(self.path(name))
        if self.log:
            rows = [self.log[0], *(row.values() for row in self.log)]
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            self._write("log.csv", text.encode())

    def _write_pictures(self):
        self._write("samples.png", self.frames.get(self.gan.steps) or png(self.picture()))
        if self.log:
            self._write("losses.png", png(plot.losses(self.log)))
        if len(self.frames) > 1:
            plot.save_gif(self.path("training.gif"),
                          [saved.decoded(raw) for _, raw in sorted(self.frames.items())])
