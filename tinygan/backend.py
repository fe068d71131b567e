"""Arrays and devices: the same code on NumPy (CPU) and CuPy (GPU).

An op asks `xp(x)` for the module that made its argument and calls that module's functions, so a
formula written once runs wherever its data lies. Data changes sides at exactly two places,
`to_device` and `to_host`; nothing moves by itself. CuPy is imported only when somebody asks for
the GPU.
"""

import sys
import warnings

import numpy as np


def xp(*arrays):
    """The array module, numpy or cupy, of the first array among the arguments; else numpy."""
    for x in arrays:
        kind = type(x)
        if kind is np.ndarray:
            return np
        if kind.__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


class DeviceError(RuntimeError):
    """The GPU was asked for and cannot be used; the message says why, and what to install."""


_proven = None          # the CuPy that has run a kernel


def _load_cupy():
    """CuPy, after it has *run* a kernel: it can be imported on machines without any GPU."""
    global _proven
    if _proven is not None and sys.modules.get("cupy") is _proven:
        return _proven
    try:
        import cupy
        a = cupy.ones((2, 2), dtype="float32")
        if float((a @ a + 1).sum()) != 12.0:         # an elementwise kernel, a reduction and cuBLAS
            raise RuntimeError("a test product came out wrong")
    except Exception as e:                            # every layer below has exceptions of its own
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise DeviceError(f"no usable GPU ({reason}); install CuPy for your CUDA version, pip "
                          "install cupy-cuda13x[ctk] (or cupy-cuda12x[ctk]), or use --device cpu"
                          ) from e
    _proven = cupy
    return cupy


def pick_device(name="auto"):
    """Turn 'auto', 'cpu' or 'gpu' into 'cpu' or 'gpu'.

    'auto' takes the GPU where one works and otherwise the CPU. 'gpu' raises `DeviceError` where
    none works.
    """
    if name not in ("auto", "cpu", "gpu"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'gpu', got {name!r}")
    if name == "cpu":
        return "cpu"
    try:
        _load_cupy()
        return "gpu"
    except DeviceError as e:
        if name == "gpu":
            raise
        if "cupy" in sys.modules:           # it is installed, so the user may well have expected it
            warnings.warn(f"running on the CPU: {e}", stacklevel=2)
        return "cpu"


def gpu_name():
    """What the GPU calls itself, with CuPy's and CUDA's versions."""
    cupy = _load_cupy()
    runtime = cupy.cuda.runtime
    version = runtime.runtimeGetVersion()
    return (f"{runtime.getDeviceProperties(0)['name'].decode()}, CuPy {cupy.__version__}, "
            f"CUDA {version // 1000}.{version % 1000 // 10}")


def device_of(x):
    """'cpu' or 'gpu': where the array x lies."""
    return "cpu" if xp(x) is np else "gpu"


def to_device(x, device):
    """The array x on `device` ('cpu' or 'gpu'): x itself if it is there already, else a copy."""
    if device not in ("cpu", "gpu"):
        raise ValueError(f"to_device: expected 'cpu' or 'gpu', got {device!r}")
    if device_of(x) == device:
        return x
    return _load_cupy().asarray(x) if device == "gpu" else to_host(x)


def to_host(x):
    """The array x as a NumPy array: x itself if it is one already, else a copy."""
    return x if xp(x) is np else x.get()
