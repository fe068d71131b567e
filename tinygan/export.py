"""Weights as a `.safetensors` file, which other programs read too. Needs the package of that name
(the extra `safetensors`).

The file's metadata hold the run's options, so that `tinygan sample` can build the generator again.
"""

import json

import numpy as np

from .checkpoint import CheckpointError, reason, write_atomically
from .files import open_regular
from .saved import build_for, config_of, generator_of

PARTS = ("average", "generator", "discriminator")


def _package():
    try:
        import safetensors.numpy
        return safetensors
    except ImportError:
        raise ValueError("this needs the package safetensors: pip install safetensors") from None


def save(folder, path, part="average"):
    """Write one network of the run in `folder` to `path`: "average" (of the generator's weights),
    "generator", "discriminator"."""
    package = _package()
    gan, config, shape = generator_of(folder)
    state = gan.state_dict()
    if part not in PARTS or part not in state:
        known = ", ".join(p for p in PARTS if p in state)
        raise ValueError(f"export: expected a part of {known}, got {part!r}")
    arrays = {name: np.ascontiguousarray(a) for name, a in state[part].items() if name != "steps"}
    text = json.dumps({**config.options(), "shape": shape, "part": part})
    write_atomically(path, lambda file: file.write(package.numpy.save(arrays, {"tinygan": text})))


def load(path, device="cpu"):
    """(GAN, Config, shape) with the generator from a file made by `save`; the discriminator is
    untrained. `CheckpointError` for anything else."""
    package = _package()
    try:
        open_regular(path).close()              # no pipe, no device
        with package.safe_open(path, framework="numpy") as file:
            values = json.loads((file.metadata() or {})["tinygan"])
            part = values.pop("part")
            if part == "discriminator":
                raise ValueError("it holds a discriminator, which draws nothing")
            config, shape = config_of(values)
            config.device = device
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            gan = build_for(config, shape, shapes)
            arrays = {name: file.get_tensor(name) for name in shapes}
        state = gan.state_dict()
        for name in ("generator", "average"):
            if name in state:
                state[name] = {**arrays, **{k: v for k, v in state[name].items() if k == "steps"}}
        if not all(np.isfinite(a).all() for a in arrays.values()):
            raise ValueError("weights that are NaN or infinite")
        gan.load_state_dict(state)
    except Exception as e:              # the package has exceptions of its own
        raise CheckpointError(f"{path}: not a generator of tinygan export ({reason(e)})") from None
    return gan, config, shape
