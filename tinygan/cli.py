"""The `tinygan` command: train a GAN, draw from it, say what this machine has."""

import argparse
import os
import platform
import sys
import warnings

import numpy as np

from . import backend, data, plot
from .checkpoint import CheckpointError
from .losses import LOSSES
from .run import DEFAULTS, Config, Run, field, generator_of
from .train import Diverged

TRAIN_HELP = """examples:
  tinygan train                                        a convolutional GAN on the bundled digits
  tinygan train --data ring --loss wasserstein         eight Gaussians, WGAN-GP, with the critic's field drawn
"""

SAMPLE_HELP = """examples:
  tinygan sample runs/digits-conv                      64 samples as grid.png
  tinygan sample runs/digits-conv --interpolate        each row walks from one latent to another
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def number(kind, low, high=None, above=False):
    """An argparse type: a number of this kind, ≥ low (or > low), ≤ high."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (value > low if above else value >= low) or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {'an integer' if kind is int else 'a number'} "
                                             f"{'>' if above else '>='} {low}{f' and <= {high}' if high else ''}, got {text!r}")
        return value
    return parse


def parser():
    """The whole command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    root = Parser(prog="tinygan", description="Train small GANs, from scratch, on NumPy or CuPy.", formatter_class=formatter,
                  epilog=TRAIN_HELP + "\nThe options of a command: tinygan train --help")
    commands = root.add_subparsers(dest="command", metavar="{train,sample,info}", required=True)

    t = commands.add_parser("train", help="train a GAN", description="Train a GAN and write a run folder.", epilog=TRAIN_HELP,
                            formatter_class=formatter)

    def default(name):
        return ", ".join(f"{v[name]} for {k}" for k, v in DEFAULTS.items())
    t.add_argument("--data", default="digits", metavar="NAME",
                   help=f"{data.CHOICES} (default: digits)")
    t.add_argument("--model", choices=["mlp", "conv"], help="default: conv for images, mlp for 2-D points")
    t.add_argument("--loss", choices=list(LOSSES), default="non-saturating",
                   help="default: non-saturating; wasserstein adds the gradient penalty of WGAN-GP")
    t.add_argument("--steps", type=number(int, 1), metavar="N", help=f"default: {default('steps')}")
    t.add_argument("--batch-size", type=number(int, 2), metavar="N", help=f"default: {default('batch_size')}")
    t.add_argument("--lr", type=number(float, 0, 10, above=True), metavar="X", help=f"Adam's rate (default: {default('lr')})")
    t.add_argument("--width", type=number(int, 1), metavar="N", help=f"channels or units (default: {default('width')})")
    t.add_argument("--latent", type=number(int, 1), metavar="N", help=f"size of z (default: {default('latent')})")
    t.add_argument("--size", type=number(int, 6, 1024), default=64, metavar="N", help="image size for folder: (default: 64)")
    t.add_argument("--grey", action="store_true", help="read a folder: as grey images (default: colour)")
    t.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="default: 0")
    t.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto", help="default: auto (the GPU where one works)")
    t.add_argument("--out", metavar="FOLDER", help="run folder (default: runs/<data>-<model>)")
    t.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    t.add_argument("--resume", metavar="FOLDER", help="go on with this run; only --steps and --device count then")

    s = commands.add_parser("sample", help="draw from a trained run", description="Draw samples from a trained run.",
                            epilog=SAMPLE_HELP, formatter_class=formatter)
    s.add_argument("run", metavar="RUN", help="a run folder")
    s.add_argument("--n", type=number(int, 1, 100_000), default=64, metavar="N", help="number of samples (default: 64)")
    s.add_argument("--out", default="grid.png", metavar="FILE", help="the picture, .png (default: grid.png)")
    s.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="default: 0")
    s.add_argument("--interpolate", action="store_true", help="walk between latents, eight steps per row")
    s.add_argument("--device", choices=["auto", "cpu", "gpu"], default="cpu", help="default: cpu")

    commands.add_parser("info", help="print versions, BLAS, threads and devices",
                        description="Print what tinygan runs on: versions, BLAS, threads, devices.")
    return root


def train(args):
    """`tinygan train`"""
    if args.resume:
        run = Run.resume(args.resume, args.steps, args.device)
    else:
        names = ("data", "model", "loss", "steps", "batch_size", "lr", "seed", "device", "size", "grey", "width", "latent")
        run = Run.start(Config(**{n: getattr(args, n) for n in names}), args.out, args.force)
    c = run.config
    print(f"{c.data}: {len(run.dataset):,} samples of {run.dataset.x.shape[1:]}, {c.model} networks, {c.loss} loss, "
          f"batch {c.batch_size}, on the {c.device}; writing to {run.folder}", flush=True)
    return run.train()


def walk(a, b, steps):
    """Points on the great circle from a to b (spherical interpolation): between N(0, 1) latents a straight line is too short in
    the middle (White 2016, section 2.1)."""
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if angle < 1e-4:
        return (1 - t) * a + t * b
    return ((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)).astype(np.float32)


def sample(args):
    """`tinygan sample`"""
    gan, config, shape = generator_of(args.run, backend.pick_device(args.device))
    rng = np.random.default_rng(args.seed)
    if args.interpolate:
        rows = max(1, args.n // 8)
        ends = rng.standard_normal((rows, 2, config.latent), dtype=np.float32)
        z = np.concatenate([walk(a, b, 8) for a, b in ends])
    else:
        z = rng.standard_normal((args.n, config.latent), dtype=np.float32)
    fake = np.concatenate([gan.sample(z[i:i + 256]) for i in range(0, len(z), 256)])
    if len(shape) > 1:
        picture = plot.to_grid(fake, columns=8 if args.interpolate else None)
    else:
        picture = plot.density(fake, data.load(config.data, seed=config.seed).x, field=field(gan, config))
    plot.save_image(args.out, picture)
    print(f"{len(fake)} samples: {args.out}")
    return 0


def info(args):
    """`tinygan info`"""
    import matplotlib

    from . import __version__
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"tinygan     {__version__}")
    print(f"Python      {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"NumPy       {np.__version__}, BLAS {blas.get('name')} {blas.get('version')}")
    print(f"matplotlib  {matplotlib.__version__}")
    print(f"threads     {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores")
    try:
        backend.pick_device("gpu")
        print("GPU         " + backend.gpu_name())
    except backend.DeviceError as e:
        print(f"GPU         none: {e}")
    return 0


def main(argv=None):
    """Entry point of the command. Returns the exit status."""
    args = parser().parse_args(argv)
    warnings.formatwarning = lambda message, *where: f"tinygan: {message}\n"      # one line, without the source code
    try:
        return {"train": train, "sample": sample, "info": info}[args.command](args)
    except (data.DownloadError, Diverged) as e:
        status, message = 1, e
    except (ValueError, CheckpointError, backend.DeviceError, FileNotFoundError, NotADirectoryError, FileExistsError,
            PermissionError, IsADirectoryError) as e:
        status, message = 2, e
    except (OSError, MemoryError) as e:                     # a full disk and the like
        status, message = 1, e
    except KeyboardInterrupt:
        status, message = 130, "interrupted"
    print(f"tinygan {args.command}: {' '.join(str(message).split())}", file=sys.stderr)
    return status
