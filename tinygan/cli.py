"""The `tinygan` command: train a GAN, draw from it, say what this machine has."""

import argparse
import dataclasses
import os
import platform
import signal
import sys
import warnings

import numpy as np

from . import backend, cpu, cpu_threads, data, metrics, plot, saved
from .interruption import handled, stop
from .randomness import Randomness
from .recipes import field
from .run import Config, Run, generator_of
from .saved import drawn, labels_in_turn
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

    def exit(self, status=0, message=None):
        print(end="", flush=True)
        super().exit(status, message)


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
    commands, of = root.add_subparsers(dest="command", required=True, metavar="COMMAND"), {}
    for act, epilog, description in (
            (train, TRAIN_HELP, "Train a GAN and write a run folder."),
            (sample, SAMPLE_HELP, "Draw samples from a trained run."),
            (evaluate, None, "Measure a trained run: modes, or digits."),
            (export, None, "Write a network of a run as a .safetensors file."),
            (info, None, "Print versions, BLAS, threads and devices.")):
        of[act] = commands.add_parser(act.__name__, help=description, description=description,
                                      epilog=epilog, formatter_class=root.formatter_class)
        of[act].set_defaults(act=act)
    train_options(of[train])
    for act in (sample, evaluate, export):
        of[act].add_argument("run", type=path, metavar="RUN", help="a run folder")
    for act, n in ((sample, 64), (evaluate, 2000)):
        of[act].add_argument("--n", type=int, default=n, metavar="N",
                             help=f"number of samples (default: {n})")
        of[act].add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
        of[act].add_argument("--device", choices=("auto", "cpu", "gpu"), default="cpu",
                             help="default: cpu")
    of[sample].add_argument("--out", type=path, default="grid.png", metavar="FILE",
                            help="the picture, .png (default: grid.png)")
    of[sample].add_argument("--interpolate", action="store_true",
                            help="walk between latents, eight steps per row")
    of[export].add_argument("--out", type=path, required=True, metavar="FILE",
                            help="the file, .safetensors")
    of[export].add_argument("--part", choices=("average", "generator", "discriminator"),
                            default="average", help="which network (default: average)")
    return root


def train_options(t):
    """The options of `tinygan train`: those of a `Config`, and what concerns the folder. One that
    is not given is None."""
    for f in dataclasses.fields(Config):
        allowed, name = f.metadata["allowed"], "--" + f.name.replace("_", "-")
        kind = str if allowed is str else type(allowed[0])
        if f.metadata["help"]:
            how = (dict(action="store_true", default=None) if kind is bool
                   else dict(choices=allowed) if kind is str and allowed is not str
                   else dict(type=kind, metavar="NAME" if kind is str else "N"))
            t.add_argument(name, help=f.metadata["help"], **how)
    t.add_argument("--out", type=path, metavar="FOLDER",
                   help="run folder (default: runs/<data>-<model>)")
    t.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    t.add_argument("--resume", type=path, metavar="FOLDER",
                   help="go on with this run, whose options stay; only --steps, --device and "
                        "--keep can be given too")


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
    if c.model == "conv" and c.device == "cpu":
        cpu_threads.share_cores()
    how = f"recipe {c.recipe}" if c.recipe else f"{c.loss} loss"
    print(f"{c.data}: {len(x):,} samples of {x.shape[1:]}, {c.model} networks, {how}, batch "
          f"{c.batch_size}, on the {c.device}; writing to {run.folder}", flush=True)
    return run.train()


def walk(a, b, steps):
    """cos φ · a + sin φ · b for φ from 0 to π/2: between N(0, 1) latents each of them is one, while
    the middle of a straight line is too short (White 2016, section 2.1)."""
    angle = np.linspace(0, np.pi / 2, steps, dtype=np.float32)[:, None]
    return np.cos(angle) * a + np.sin(angle) * b


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
    figures = (metrics.evaluate_points(fake, dataset.mixture) if dataset.mixture is not None else
               metrics.evaluate_digits(fake, *labels_in_turn(args.n, config), train=dataset.x))
    print(metrics.table(figures))
    return 0


def export(args):
    """`tinygan export`"""
    saved.export(args.run, args.out, args.part)
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


def main(argv=None):
    """Entry point of the command. Returns the exit status: 2 for bad input, 1 for a failure, 128 +
    n for signal n."""
    # A warning is one line, without the source code.
    warnings.formatwarning = lambda message, *where: f"tinygan: {message}\n"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):      # a name that the terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("TINYGAN_KEEP_MEMORY") != "0":
        cpu.keep_freed_memory()
    try:
        with handled(stop):
            args = parser().parse_args(argv)
            status = args.act(args)
            print(end="", flush=True)
            return status
    except BrokenPipeError:                     # whoever read the output has gone, as `head` does;
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)    # Python would complain of it at the end
        return 128 + 13
    except KeyboardInterrupt as e:              # at any moment outside the training itself
        print("tinygan: interrupted", file=sys.stderr)
        return 128 + (e.args[0] if e.args else signal.SIGINT)
    except (data.DownloadError, Diverged) as e:
        status, message = 1, e
    except (ValueError, backend.DeviceError, FileNotFoundError, NotADirectoryError, FileExistsError,
            PermissionError, IsADirectoryError) as e:
        status, message = 2, e
    except (OSError, MemoryError) as e:                     # a full disk and the like
        status, message = 1, e
    print(f"tinygan {args.command}: {' '.join(str(message).split())}", file=sys.stderr)
    return status
