"""The `tinygan` command: train a GAN, draw from it, say what this machine has."""

import argparse
import os
import platform
import sys
import warnings

import numpy as np

from . import backend, data, export, plot
from .interruption import Handlers, stop
from .losses import LOSSES
from .randomness import Randomness
from .run import DEFAULTS, Config, Run, field, generator_of
from .saved import LIMITS
from .train import Diverged

OPTIONS = ("data", "model", "loss", "steps", "batch_size", "lr", "width", "latent", "size", "grey",
           "seed", "device", "keep")
RESUMED = ("steps", "device", "keep")           # what may change when a run goes on

TRAIN_HELP = """examples:
  tinygan train                                    a convolutional GAN on the bundled digits
  tinygan train --data ring --loss wasserstein     eight Gaussians, WGAN-GP, the critic's field
"""

SAMPLE_HELP = """examples:
  tinygan sample runs/digits-conv                      64 samples as grid.png
  tinygan sample runs/digits-conv --interpolate        each row walks from one latent to another
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def number(kind, low, high, above=False):
    """An argparse type: a number of this kind, ≥ low (or > low), ≤ high."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (low < value if above else low <= value) or value > high:
            what = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"expected {what} {'>' if above else '>='} {low} and <= {high}, got {text!r}")
        return value
    return parse


def path(text):
    """An argparse type: a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return text


def limited(name):
    """The argparse type of an integer option of `train`."""
    return number(int, *LIMITS[name])


def parser():
    """The whole command line."""
    layout = argparse.RawDescriptionHelpFormatter
    root = Parser(prog="tinygan", formatter_class=layout,
                  description="Train small GANs, from scratch, on NumPy or CuPy.",
                  epilog=TRAIN_HELP + "\nThe options of a command: tinygan train --help")
    commands = root.add_subparsers(dest="command", required=True,
                                   metavar="{train,sample,export,info}")
    add_train_options(commands.add_parser(
        "train", help="train a GAN", description="Train a GAN and write a run folder.",
        epilog=TRAIN_HELP, formatter_class=layout))
    add_sample_options(commands.add_parser(
        "sample", help="draw from a trained run", description="Draw samples from a trained run.",
        epilog=SAMPLE_HELP, formatter_class=layout))
    add_export_options(commands.add_parser(
        "export", help="write weights for other programs",
        description="Write one network of a run as a .safetensors file."))
    commands.add_parser("info", help="print versions, BLAS, threads and devices",
                        description="Print what tinygan runs on: versions, BLAS, threads, devices.")
    return root


def add_train_options(t):
    """An option that is not given is None: the defaults are those of `Config`."""
    def default(name):
        values = ", ".join(f"{values[name]} for {kind}" for kind, values in DEFAULTS.items())
        return f"default: {values}"

    t.add_argument("--data", metavar="NAME", help=f"{data.CHOICES} (default: digits)")
    t.add_argument("--model", choices=["mlp", "conv"],
                   help="default: conv for images, mlp for 2-D points")
    t.add_argument("--loss", choices=list(LOSSES), help="default: non-saturating; wasserstein adds "
                                                        "the gradient penalty of WGAN-GP")
    t.add_argument("--steps", type=limited("steps"), metavar="N", help=default("steps"))
    t.add_argument("--batch-size", type=limited("batch_size"), metavar="N",
                   help=default("batch_size"))
    t.add_argument("--lr", type=number(float, 0, 10, above=True), metavar="X",
                   help=f"Adam's rate ({default('lr')})")
    t.add_argument("--width", type=limited("width"), metavar="N",
                   help=f"channels or units ({default('width')})")
    t.add_argument("--latent", type=limited("latent"), metavar="N",
                   help=f"size of z ({default('latent')})")
    t.add_argument("--size", type=limited("size"), metavar="N",
                   help="image size for folder: (default: 64)")
    t.add_argument("--grey", action="store_true", default=None,
                   help="read a folder: as grey images (default: colour)")
    t.add_argument("--seed", type=limited("seed"), metavar="N", help="default: 0")
    t.add_argument("--device", choices=["auto", "cpu", "gpu"],
                   help="default: auto (the GPU where one works)")
    t.add_argument("--keep", type=limited("keep"), metavar="K",
                   help="checkpoints to keep: the last K (default: 1); with two or more also the "
                        "best for 2-D mixtures")
    t.add_argument("--out", type=path, metavar="FOLDER",
                   help="run folder (default: runs/<data>-<model>)")
    t.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    t.add_argument("--resume", type=path, metavar="FOLDER",
                   help="go on with this run, whose options stay; only --steps, --device and "
                        "--keep can be given too")


def add_sample_options(s):
    """The options of `tinygan sample`."""
    s.add_argument("run", type=path, metavar="RUN",
                   help="a run folder, or a file made by tinygan export")
    s.add_argument("--n", type=number(int, 1, 100_000), default=64, metavar="N",
                   help="number of samples (default: 64)")
    s.add_argument("--out", type=path, default="grid.png", metavar="FILE",
                   help="the picture, .png (default: grid.png)")
    s.add_argument("--seed", type=limited("seed"), default=0, metavar="N", help="default: 0")
    s.add_argument("--interpolate", action="store_true",
                   help="walk between latents, eight steps per row")
    s.add_argument("--device", choices=["auto", "cpu", "gpu"], default="cpu", help="default: cpu")


def add_export_options(e):
    """The options of `tinygan export`."""
    e.add_argument("run", type=path, metavar="RUN", help="a run folder")
    e.add_argument("--out", type=path, required=True, metavar="FILE", help="the file, .safetensors")
    e.add_argument("--part", choices=export.PARTS, default="average",
                   help="which network (default: average)")


def train(args):
    """`tinygan train`"""
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    if args.resume is not None:
        others = [name for name in given if name not in RESUMED]
        others += [name for name in ("out", "force") if getattr(args, name)]
        if others:
            names = ", ".join("--" + name.replace("_", "-") for name in others)
            raise ValueError(f"{names}: not with --resume, as the run in {args.resume} keeps its "
                             "own options")
        run = Run.resume(args.resume, **given)
    else:
        run = Run.start(Config(**given), args.out, args.force)
    c = run.config
    x = run.dataset.x
    with run.lock.taken():                      # given back if the output has been closed already
        print(f"{c.data}: {len(x):,} samples of {x.shape[1:]}, {c.model} networks, {c.loss} loss, "
              f"batch {c.batch_size}, on the {c.device}; writing to {run.folder}", flush=True)
    return run.train()


def walk(a, b, steps):
    """Points on the great circle from a to b (spherical interpolation): between N(0, 1) latents a
    straight line is too short in the middle (White 2016, section 2.1)."""
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if angle < 1e-4:
        return (1 - t) * a + t * b
    arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return arc.astype(np.float32)


def sample(args):
    """`tinygan sample`"""
    exported = args.run.endswith(".safetensors")
    device = backend.pick_device(args.device)
    gan, config, shape = (export.load if exported else generator_of)(args.run, device)
    rng = Randomness(args.seed).rng("latent")
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
        # An exported generator comes without its judge.
        behind = None if exported else field(gan, config)
        picture = plot.density(fake, data.load(config.data, seed=config.seed).x, field=behind)
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
    own = hasattr(os, "sched_getaffinity")
    print(f"threads     {len(os.sched_getaffinity(0)) if own else os.cpu_count()} cores")
    try:
        backend.pick_device("gpu")
        print("GPU         " + backend.gpu_name())
    except backend.DeviceError as e:
        print(f"GPU         none: {e}")
    return 0


def write_export(args):
    """`tinygan export`"""
    export.save(args.run, args.out, args.part)
    print(f"{args.part} of {args.run}: {args.out}")
    return 0


def run(argv):
    """Do what the command line says. Returns the exit status: 2 for bad input, 1 for a failure, 128
    + n for signal n."""
    args = parser().parse_args(argv)
    try:
        commands = {"train": train, "sample": sample, "export": write_export, "info": info}
        return commands[args.command](args)
    except BrokenPipeError:                     # whoever read the output has gone, as `head` does
        return 128 + 13
    except (data.DownloadError, Diverged) as e:
        status, message = 1, e
    except (ValueError, backend.DeviceError, FileNotFoundError, NotADirectoryError, FileExistsError,
            PermissionError, IsADirectoryError) as e:
        status, message = 2, e
    except (OSError, MemoryError) as e:                     # a full disk and the like
        status, message = 1, e
    print(f"tinygan {args.command}: {' '.join(str(message).split())}", file=sys.stderr)
    return status


def main(argv=None):
    """Entry point of the command. Returns the exit status."""
    # A warning is one line, without the source code.
    warnings.formatwarning = lambda message, *where: f"tinygan: {message}\n"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal cannot show stops nothing.
            stream.reconfigure(errors="backslashreplace")
    try:
        with Handlers(stop):
            try:
                return run(argv)
            finally:
                _flush()
    except KeyboardInterrupt as e:              # at any moment outside the training itself
        print("tinygan: interrupted", file=sys.stderr)
        return getattr(e, "status", 130)


def _flush():
    """Bring the output out now: of a reader that has gone, Python would complain at the very
    end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except AttributeError:                                  # no standard output at all
        pass
