"""The workloads in PyTorch with the whole training step captured as one CUDA graph: the floor of launch overhead. GPU only."""

import peer_torch
import torch


def make(w, device="cuda", layout="contiguous"):
    """A function that replays one captured training step of the workload."""
    if not torch.cuda.is_available():
        raise NotImplementedError("a CUDA graph needs a GPU")
    step = peer_torch.make(w, device, layout)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):                   # warm up where nothing is captured: cuBLAS and autograd set themselves up
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


finish, memory = peer_torch.finish, peer_torch.memory
