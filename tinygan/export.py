"""Weights as a `.safetensors` file, which other programs read. Needs the package of that name (the
extra `safetensors`)."""

import json

import numpy as np

from .files import write_atomically
from .saved import generator_of

PARTS = ("average", "generator", "discriminator")


def save(folder, path, part="average"):
    """Write one network of the run in `folder` to `path`: "average" (of the generator's weights),
    "generator" or "discriminator". The file's metadata hold the run's options as JSON."""
    try:
        from safetensors.numpy import save as encode
    except ImportError:
        raise ValueError("this needs the package safetensors: pip install safetensors") from None
    gan, config, shape = generator_of(folder)
    state = gan.state_dict().get(part) if part in PARTS else None
    if state is None:
        raise ValueError(f"export: expected a part of {', '.join(PARTS)} that the run has, "
                         f"got {part!r}")
    arrays = {name: np.ascontiguousarray(a) for name, a in state.items() if name != "steps"}
    text = json.dumps({**config.options(), "shape": shape, "part": part})
    write_atomically(path, lambda file: file.write(encode(arrays, {"tinygan": text})))
