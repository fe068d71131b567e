"""The workloads in PyTorch with Adam as `torch.optim.Adam(params, lr)` makes it, which is what most programs have: not fused."""

import functools

import peer_torch

make = functools.partial(peer_torch.make, fused=False)
finish, memory = peer_torch.finish, peer_torch.memory
