"""The workloads in tinygan: `GAN.step`, the very code that `tinygan train` runs."""

import os
import resource
import sys

import numpy as np
from workloads import BETAS, LR

from tinygan import cpu, cpu_threads, models
from tinygan.backend import to_device
from tinygan.train import GAN, wgan_gp

if os.environ.get("TINYGAN_KEEP_MEMORY") != "0":
    cpu.keep_freed_memory()                         # as the command does


def make(w, device="cpu"):
    """A function that runs one training step of the workload."""
    if w.net == "mlp":
        g, d = models.mlp_generator(w.latent, w.shape, w.g), models.mlp_discriminator(w.shape, w.d)
    else:
        cpu_threads.share_cores()                   # likewise
        g = models.conv_generator(w.latent, w.shape[0], w.shape[2], *w.g)
        d = models.conv_discriminator(w.shape[0], w.shape[2], *w.d, norm=not w.penalty)
    gan = GAN(g.to(device), d.to(device), w.latent, loss=w.loss, penalty=wgan_gp() if w.penalty else None, lr=LR, betas=BETAS)
    real = to_device(np.random.default_rng(0).uniform(-1, 1, (w.batch, *w.shape)).astype(np.float32), device)
    return lambda: gan.step(real)


def finish():
    """Wait for the GPU, if there is one at work."""
    if "cupy" in sys.modules:
        sys.modules["cupy"].cuda.get_current_stream().synchronize()


def memory():
    """Peak MiB: of the GPU's memory pool, or of the process."""
    if "cupy" in sys.modules:
        return sys.modules["cupy"].get_default_memory_pool().total_bytes() / 2 ** 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
