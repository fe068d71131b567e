"""The `tinygan` command: train a GAN, draw from it, say what this machine has."""

import argparse
import os
import platform
import sys
import warnings

import numpy as np

from . import backend, cpu, data, export, metrics, plot
from .interruption import Handlers, stop
from .randomness import Randomness
from .recipes import DEFAULTS, field
from .run import Config, Run, generator_of
from .saved import OPTIONS, drawn, labels_in_turn
from .train import Diverged

RESUMED = ("steps", "device", "keep")           # what may change when a run goes on

TRAIN_HELP = """examples:
  tinygan train                                    a convolutional GAN on the bundled digits
  tinygan train --data ring --recipe wgan-gp       eight Gaussians, WGAN-GP, the critic's field
  tinygan train --condition embedding              digits by label
"""

SAMPLE_HELP = """examples:
  tinygan sample runs/digits-conv                      64 samples as grid.png
  tinygan sample runs/digits-conv --interpolate        each row walks from one latent to another
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def path(text):
    """An argparse type: a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return text


def parser():
    """The whole command line."""
    root = Parser(prog="tinygan", description="Train small GANs, from scratch, on NumPy or CuPy.",
                  epilog=TRAIN_HELP + "\nThe options of a command: tinygan train --help",
                  formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = root.add_subparsers(dest="command", required=True,
                                   metavar="{train,sample,evaluate,export,info}")
    for name, options, epilog, description in (
            ("train", train_options, TRAIN_HELP, "Train a GAN and write a run folder."),
            ("sample", sample_options, SAMPLE_HELP, "Draw samples from a trained run."),
            ("evaluate", evaluate_options, None, "Measure a trained run: modes, or digits."),
            ("export", export_options, None, "Write a network of a run as a .safetensors file."),
            ("info", lambda i: None, None, "Print versions, BLAS, threads and devices.")):
        options(commands.add_parser(name, help=description, description=description,
                                    epilog=epilog, formatter_class=root.formatter_class))
    return root


def train_options(t):
    """An option that is not given is None: the defaults are those of `Config`, which also says what
    the values can be."""
    t.add_argument("--data", metavar="NAME", help=f"{data.CHOICES} (default: digits)")
    t.add_argument("--model", choices=OPTIONS["model"],
                   help="default: conv for images, mlp for 2-D points")
    t.add_argument("--loss", choices=OPTIONS["loss"],
                   help="default: non-saturating; wasserstein adds the penalty of WGAN-GP")
    t.add_argument("--recipe", choices=OPTIONS["recipe"],
                   help="instead of a loss, with all that goes with it: "
                        + ", ".join(OPTIONS["recipe"]), metavar="NAME")
    t.add_argument("--condition", choices=OPTIONS["condition"],
                   help="tell both players the samples' labels, in this way (default: not at all); "
                        "projection adds the penalty R1 to the default loss of conv")
    t.add_argument("--pack", type=int, metavar="N", help="samples that D sees per verdict")
    for name, kind, meaning in (("steps", int, "training steps"),
                                ("batch_size", int, "samples in a step"),
                                ("lr", float, "Adam's rate; in conv G's is three times as high"),
                                ("width", int, "channels or units"),
                                ("latent", int, "size of z")):
        values = ", ".join(f"{table[name]} for {key}" for key, table in DEFAULTS.items())
        t.add_argument("--" + name.replace("_", "-"), type=kind, metavar="N",
                       help=f"{meaning} (default: {values})")
    t.add_argument("--size", type=int, metavar="N", help="image size for folder: (default: 64)")
    t.add_argument("--grey", action="store_true", default=None,
                   help="read a folder: as grey images (default: colour)")
    t.add_argument("--seed", type=int, metavar="N", help="default: 0")
    t.add_argument("--device", choices=OPTIONS["device"],
                   help="default: auto (the GPU where one works)")
    t.add_argument("--keep", type=int, metavar="K",
                   help="checkpoints to keep: the last K (default: 1)")
    t.add_argument("--out", type=path, metavar="FOLDER",
                   help="run folder (default: runs/<data>-<model>)")
    t.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    t.add_argument("--resume", type=path, metavar="FOLDER",
                   help="go on with this run, whose options stay; only --steps, --device and "
                        "--keep can be given too")


def sample_options(s):
    """The options of `tinygan sample`."""
    s.add_argument("run", type=path, metavar="RUN", help="a run folder")
    s.add_argument("--n", type=int, default=64, metavar="N", help="number of samples (default: 64)")
    s.add_argument("--out", type=path, default="grid.png", metavar="FILE",
                   help="the picture, .png (default: grid.png)")
    s.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    s.add_argument("--interpolate", action="store_true",
                   help="walk between latents, eight steps per row")
    s.add_argument("--device", choices=OPTIONS["device"], default="cpu", help="default: cpu")


def evaluate_options(e):
    """The options of `tinygan evaluate`."""
    e.add_argument("run", type=path, metavar="RUN", help="a run folder")
    e.add_argument("--n", type=int, default=2000, metavar="N",
                   help="number of samples (default: 2000)")
    e.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    e.add_argument("--device", choices=OPTIONS["device"], default="cpu", help="default: cpu")


def export_options(e):
    """The options of `tinygan export`."""
    e.add_argument("run", type=path, metavar="RUN", help="a run folder")
    e.add_argument("--out", type=path, required=True, metavar="FILE", help="the file, .safetensors")
    e.add_argument("--part", choices=export.PARTS, default="average",
                   help="which network (default: average)")


def train(args):
    """`tinygan train`"""
    given = {name: value for name, value in vars(args).items()
             if hasattr(Config, name) and value is not None}
    if args.loss and args.recipe:
        raise ValueError(f"--loss: not with --recipe, as {args.recipe} has a loss of its own")
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
    c, x = run.config, run.dataset.x
    how = f"recipe {c.recipe}" if c.recipe else f"{c.loss} loss"
    print(f"{c.data}: {len(x):,} samples of {x.shape[1:]}, {c.model} networks, {how}, batch "
          f"{c.batch_size}, on the {c.device}; writing to {run.folder}", flush=True)
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
    if not 1 <= args.n <= 100_000:
        raise ValueError(f"--n: expected an integer from 1 to 100000, got {args.n}")
    gan, config, shape = generator_of(args.run, backend.pick_device(args.device))
    randomness = Randomness(args.seed)
    if args.interpolate:
        rows = max(1, args.n // 8)
        ends = randomness.rng("latent").standard_normal((rows, 2, config.latent), dtype=np.float32)
        label = labels_in_turn(rows, config)            # each row keeps its own
        fake = np.concatenate([gan.sample(walk(*ends[i], 8), *(np.full(8, k[i]) for k in label))
                               for i in range(rows)])
    else:
        fake = drawn(gan, config, args.n, randomness)
    if len(shape) > 1:
        picture = plot.to_grid(fake, columns=8 if args.interpolate else None)
    else:
        real = data.load(config.data, seed=config.seed).x
        picture = plot.density(fake, real, field=field(gan))
    plot.save_image(args.out, picture)
    print(f"{len(fake)} samples: {args.out}")
    return 0


def evaluate(args):
    """`tinygan evaluate`"""
    gan, config, shape = generator_of(args.run, backend.pick_device(args.device))
    dataset = data.load(config.data, size=config.size, grey=config.grey, seed=config.seed)
    if dataset.mixture is None and shape != (28, 28, 1):
        raise ValueError(f"evaluate: no figures are known for {config.data}: it needs points of a "
                         "known mixture (ring, grid) or digits (N, 28, 28, 1)")
    fake = drawn(gan, config, args.n, Randomness(args.seed))
    labels = labels_in_turn(args.n, config)
    figures = (metrics.evaluate_points(fake, dataset.mixture) if dataset.mixture is not None else
               metrics.evaluate_digits(fake, *labels, train=dataset.x))
    print(metrics.table(figures))
    return 0


def write_export(args):
    """`tinygan export`"""
    export.save(args.run, args.out, args.part)
    print(f"{args.part} of {args.run}: {args.out}")
    return 0


def info(args):
    """`tinygan info`"""
    import matplotlib

    from . import __version__
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    try:
        backend.pick_device("gpu")
        gpu = backend.gpu_name()
    except backend.DeviceError as e:
        gpu = f"none: {e}"
    own = hasattr(os, "sched_getaffinity")
    print(f"tinygan     {__version__}")
    print(f"Python      {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"NumPy       {np.__version__}, BLAS {blas.get('name')} {blas.get('version')}")
    print(f"matplotlib  {matplotlib.__version__}")
    print(f"threads     {len(os.sched_getaffinity(0)) if own else os.cpu_count()} cores")
    print(f"GPU         {gpu}")
    return 0


def run(argv):
    """Do what the command line says. Returns the exit status: 2 for bad input, 1 for a failure, 128
    + n for signal n."""
    args = parser().parse_args(argv)
    try:
        commands = {"train": train, "sample": sample, "evaluate": evaluate,
                    "export": write_export, "info": info}
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
        if hasattr(stream, "reconfigure"):      # a name that the terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("TINYGAN_KEEP_MEMORY") != "0":
        cpu.keep_freed_memory()
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
        if sys.stdout is not None:              # which a program without a console has not
            sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
