"""The workloads in PyTorch with one pass of D over real and fake samples, which tinygan makes by itself and a PyTorch program by hand."""

import functools

import peer_torch

make = functools.partial(peer_torch.make, joined=True)
finish, memory = peer_torch.finish, peer_torch.memory
