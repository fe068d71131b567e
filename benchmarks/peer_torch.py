"""The workloads in PyTorch eager, at its honest best.

Gradients only for the parameters being updated (torch.autograd.grad), fused Adam, no second pass through the generator. The runner
times this with contiguous and with channels_last images and keeps the faster.
"""

import math
import os
import resource

import torch
import torch.nn.functional as F
from torch import nn
from workloads import BETAS, LR

if "BENCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
if "BENCH_TF32" in os.environ:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = os.environ["BENCH_TF32"] == "1"


class View(nn.Module):
    """(N, ...) → (N, *shape)."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(x.shape[0], *self.shape)


def mlp(sizes, end=()):
    """Linear layers with LeakyReLU(0.2) between."""
    layers = []
    for a, b in zip(sizes, sizes[1:]):  # noqa: B905
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1], *end)


def networks(w):
    """(G, D) of the workload; images are (N, C, H, W) here."""
    features = math.prod(w.shape)
    if w.net == "mlp":
        return mlp((w.latent, *w.g, features), (nn.Tanh(),) if len(w.shape) > 1 else ()), mlp((features, *w.d, 1))
    (times, size), channels, width = w.levels(), w.shape[2], w.g[0]
    c = width * 2 ** (times - 1)
    g = [nn.Linear(w.latent, size * size * c, bias=False), View(c, size, size), nn.BatchNorm2d(c), nn.ReLU()]
    for _ in range(times - 1):
        g += [nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(c // 2), nn.ReLU()]
        c //= 2
    g += [nn.ConvTranspose2d(c, channels, 4, 2, 1), nn.Tanh()]
    d = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    c = width
    for _ in range(times - 1):
        d += [nn.Conv2d(c, 2 * c, 4, 2, 1, bias=w.penalty), *([] if w.penalty else [nn.BatchNorm2d(2 * c)]), nn.LeakyReLU(0.2)]
        c *= 2
    return nn.Sequential(*g), nn.Sequential(*d, nn.Flatten(), nn.Linear(size * size * c, 1))


def make(w, device="cpu", layout="contiguous", fused=True, joined=False):
    """A function that runs one training step of the workload.

    fused: Adam as one loop, which has to be asked for. joined: D answers real and fake in one pass, where it has no BatchNorm.
    """
    joined = joined and (w.net == "mlp" or w.penalty)
    device = {"gpu": "cuda"}.get(device, device)
    g, d = networks(w)
    shape = (w.shape[2], *w.shape[:2]) if w.net == "conv" else (math.prod(w.shape),)
    real = torch.rand((w.batch, *shape), device=device) * 2 - 1
    g, d = g.to(device), d.to(device)
    if layout == "channels_last":
        g, d = g.to(memory_format=torch.channels_last), d.to(memory_format=torch.channels_last)
        real = real.contiguous(memory_format=torch.channels_last)
    pg, pd = list(g.parameters()), list(d.parameters())
    og, od = (torch.optim.Adam(p, LR, BETAS, fused=fused, capturable=device == "cuda") for p in (pg, pd))

    def update(optimizer, params, loss):
        for p, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = grad
        optimizer.step()

    def step():
        fake = g(torch.randn(w.batch, w.latent, device=device))
        cut = fake.detach()
        d_real, d_fake = d(torch.cat([real, cut])).split(w.batch) if joined else (d(real), d(cut))
        if w.loss == "wasserstein":
            loss = d_fake.mean() - d_real.mean()
        else:
            loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
        if w.penalty:
            eps = torch.rand((w.batch,) + (1,) * (real.ndim - 1), device=device)
            x = (eps * real + (1 - eps) * cut).requires_grad_()
            slope, = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            loss = loss + 10 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        update(od, pd, loss)
        logits = d(fake)
        update(og, pg, -logits.mean() if w.loss == "wasserstein" else F.softplus(-logits).mean())
    return step


def finish():
    """Wait for the GPU, if there is one at work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def memory():
    """Peak MiB: of the GPU's memory pool, or of the process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2 ** 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
