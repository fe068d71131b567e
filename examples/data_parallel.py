"""One training step on several processes: each takes its share of the batch, and one message makes the gradients equal.

A loss over a batch is a mean, and so is its gradient. Cut the batch into N equal shares, one for each process (MPI
calls a process a rank), and the gradient of the whole is the mean of the gradients of the shares:

    ∂L/∂θ = 1/B Σ_b ∂ℓ(x_b)/∂θ = 1/N Σ_r gᵣ          gᵣ = the mean over the B/N samples of rank r

So every rank has the same networks and optimisers, computes gᵣ, lays all gradients into one flat array, and lets
`Allreduce` add up these arrays and hand the sum to everybody. Adam then moves the same weights by the same numbers
everywhere: they stay equal to the last bit, which is checked on the way. All ranks have equal random generators, draw
what belongs to the whole batch and keep their rows of it; N processes therefore do what one would have done, rounding
apart.

What the usual version gets wrong: *one message per parameter*, each of which waits for the slowest rank. *Equal seeds
and no shares*: every rank computes the same gradient, N times. *Rates scaled for the larger batch without saying so.*
*BatchNorm*, whose statistics would be those of a share: the networks here have none (those of `models.conv_generator`
would train, on local statistics, as in PyTorch's DistributedDataParallel). *A rank that fails while the others wait
for it for ever*: here any error ends all ranks, and the checkpoint remains, which is replaced as a whole in each of the
first ten steps, in every hundredth and in the last.

    pip install -e ".[mpi]"
    OPENBLAS_NUM_THREADS=1 mpiexec -n 2 python examples/data_parallel.py [--resume]

On GPUs each rank takes one, and NCCL adds the arrays where they are (this part has not run yet). `--resume` goes on
from the checkpoint beside the picture (data_parallel.npz), with any number of processes. Rank 0 first makes 50 steps alone,
which gives the time and the weights to compare with.

Expect 64 rough digits. Takes 75 seconds with two processes. Prints the speed beside one process's (perfect: N times).
"""

import argparse
import statistics
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from tqdm import trange

import tinygan
from tinygan import backend, checkpoint, data, models, optim, plot
from tinygan.train import GAN, batches

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="cpu", steps=800, seed=0, out="data_parallel.png").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
cli.add_argument("--resume", action="store_true", help="go on from the checkpoint")
args = cli.parse_args()
try:
    from mpi4py import MPI
except ImportError:
    sys.exit('data_parallel.py needs MPI: pip install -e ".[mpi]" brings mpi4py and MPICH')

world, batch = MPI.COMM_WORLD, 512
device, saved = tinygan.pick_device(args.device), Path(args.out).with_suffix(".npz")
if batch % world.size:
    sys.exit(f"a batch of {batch} cannot be shared by {world.size} processes")


def end_all(kind, error, trace):
    """Instead of an error in one rank only, which the others would wait for."""
    sys.__excepthook__(kind, error, trace)
    time.sleep(1)                                                       # until mpiexec has passed the message on
    world.Abort(1)


sys.excepthook = end_all


def adder(comm):
    """A function that replaces a flat array by its sum over all ranks, in place."""
    if device == "cpu":
        return lambda flat: comm.Allreduce(MPI.IN_PLACE, flat)
    import cupy
    from cupy.cuda import nccl
    cupy.cuda.Device(comm.rank % cupy.cuda.runtime.getDeviceCount()).use()
    ring = nccl.NcclCommunicator(comm.size, comm.bcast(nccl.get_unique_id()), comm.rank)
    return lambda flat: ring.allReduce(flat.data.ptr, flat.data.ptr, flat.size, nccl.NCCL_FLOAT32, nccl.NCCL_SUM,
                                       cupy.cuda.get_current_stream().ptr)


class SharedAdam(optim.Adam):
    """Adam, moved by the mean of the gradients of all ranks."""

    def __init__(self, params, lr, comm, add):
        super().__init__(params, lr, betas=(0.5, 0.999))
        self.ranks, self.add = comm.size, add

    def step(self, grads):
        flat = backend.xp(grads[0]).concatenate([g.reshape(-1) for g in grads])     # all of a player's, (weights,)
        self.add(flat)
        flat /= self.ranks
        ends = np.cumsum([g.size for g in grads])
        super().step([flat[end - g.size:end].reshape(g.shape) for g, end in zip(grads, ends, strict=True)])


def build(comm):
    """The GAN of one rank, and its endless shares of the batches. Everything random is equal on all ranks."""
    tinygan.seed(args.seed)
    g, d = models.mlp_generator(64, (28, 28, 1), (256, 512)), models.mlp_discriminator((28, 28, 1), (512, 256))
    mine, add = slice(comm.rank, None, comm.size), adder(comm)
    gan = GAN(g.to(device), d.to(device), optimizer=lambda params: SharedAdam(params, 5e-4, comm, add),
              latent=lambda n: tinygan.rng("latent").standard_normal((n * comm.size, 64), dtype=np.float32)[mine])

    def shares():
        for x in batches(tinygan.to_device(data.digits().x, device), batch):
            yield x[mine]                                               # (batch / ranks, 28, 28, 1)
    return gan, shares()


def step(gan, shares):
    """One step of one rank: the seconds that it took."""
    start = time.perf_counter()
    with gan.random:                                                    # the GAN's own generators, which it saves
        x = next(shares)
    gan.step(x)
    return time.perf_counter() - start


def weights(gan):
    """All weights, flat, on the host."""
    return np.concatenate([tinygan.to_host(p.data).reshape(-1) for p in gan.parameters()])


alone, first = min(50, args.steps), world.rank == 0
if first:
    one, stream = build(MPI.COMM_SELF)
    start = weights(one)
    seconds_alone = [step(one, stream) for _ in range(alone)]
world.Barrier()

gan, stream = build(world)
if args.resume:
    gan.load_state_dict(checkpoint.load(saved)[0])
seconds, off = [], None
for _ in trange(args.steps - gan.steps, disable=None if first else True):
    seconds.append(step(gan, stream))
    if gan.steps <= 10 or gan.steps % 100 == 0 or gan.steps == args.steps:
        if len(set(world.allgather(zlib.crc32(weights(gan))))) > 1:
            raise RuntimeError(f"the weights of the ranks differ after step {gan.steps}")
        if first:
            checkpoint.save(saved, gan.state_dict(), {"processes": world.size})
    if first and gan.steps == alone:
        off = np.linalg.norm(weights(gan) - weights(one)) / np.linalg.norm(weights(one) - start)

if first:
    plot.save_image(args.out, plot.to_grid(gan.sample(gan.latents(64)[:64])))
    if off is not None:
        print(f"after {alone} steps the weights of {world.size} and of one process differ by {off:.1%} of their way")
    ms, ms_alone = (1e3 * statistics.median(s or [np.nan]) for s in (seconds, seconds_alone))
    print(f"a step takes {ms:.0f} ms, and {ms_alone:.0f} ms with one process")
    print(f"{args.out}: {world.size} processes are {ms_alone / ms:.1f} times as fast as one (perfect: {world.size})")
