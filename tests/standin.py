"""A stand-in for CuPy, made of NumPy and a C++ compiler: the GPU path runs without a GPU, and stricter than on one.

Arrays here wrap a NumPy array that nobody can reach. What would copy behind the reader's back is an error: NumPy functions applied
to a device array, a host array as an operand, an index or a value, a list as an index. What copies or waits because it was asked
to is counted (`watch`): uploads, downloads, synchronisations. A name, method or argument that CuPy lacks is an error too: they are
listed in cupy_names.txt, read off CuPy 14.2. Results of reductions stay 0-d arrays, and fresh memory is full of NaN.

`RawModule` compiles the very source that CuPy would compile, with g++ and a few lines that stand for CUDA, and runs it one thread
after the other. It wants arguments of exactly the C types that the kernel declares, and contiguous arrays.

What this cannot show: whether a GPU is fast, rounds alike, or runs threads in an order that hides a race. (No kernel lets two
threads write to one place.)

    python tests/standin.py > tests/cupy_names.txt        renews the list; needs CuPy, but no GPU
"""

import contextlib
import ctypes
import functools
import inspect
import operator
import re
import shutil
import subprocess
import sys
import tempfile
import types
import weakref
from pathlib import Path

import numpy as np

LIST = Path(__file__).parent / "cupy_names.txt"
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def _read(lines):
    """{name: list of parameters, or None where they are not known}."""
    names = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            name, bracket, rest = line.strip().partition("(")
            names[name] = [p for p in rest.rstrip(")").split(", ") if p] if bracket else None
    return names


NAMES = _read(LIST.read_text().splitlines())
NAMES["einsum"] = ["*operands"]                 # it takes keywords, but not `out`
UFUNC = ["*args", "out", "dtype", "casting"]    # every ufunc's parameters: no `where`


# ------------------------------------------------------------------------------------------------ counting


class Seen:
    """What happened within a `watch`.

    uploads, downloads: what crossed between host and device, as (shape, type) or a word each.
    syncs: what waited for the device. launches: what was queued on it, by name: kernels of
    kernels.cu, and CuPy's own.

    A launch is here whatever writes to memory of its own: a function, operator or method whose
    result is no view of an argument, an update in place, an assignment to an index. Some of CuPy's
    functions launch several kernels; what is known of that is in `_launched`. A result without
    elements costs nothing, and neither does fresh memory (`empty`). The true count is somewhat
    higher where CuPy sorts, indexes by several arrays, or reduces in two passes.
    """

    def __init__(self):
        self.uploads, self.downloads, self.syncs, self.launches = [], [], [], []


_watching = []


@contextlib.contextmanager
def watch():
    """with watch() as seen: ...   records all transfers, synchronisations and launches of the block."""
    seen = Seen()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def _note(kind, what):
    for seen in _watching:
        getattr(seen, kind).append(what)


def _launched(name, result, args):
    """Note the kernels that CuPy launches for result = name(*args), all of them NumPy arrays here."""
    if not _watching:
        return
    results = [r for r in (result if isinstance(result, (tuple, list)) else [result])
               if isinstance(r, (np.ndarray, np.generic)) and r.size]
    flat = [a for arg in args for a in (arg if isinstance(arg, (tuple, list)) else [arg])]
    arrays = [a for a in flat if isinstance(a, np.ndarray) and a.size]
    if not results or any(np.may_share_memory(r, a) for r in results for a in arrays):
        return
    times = 1
    if name in ("concatenate", "stack", "hstack", "vstack"):
        times = len(arrays) if len(arrays) <= 8 else 1          # each is copied to its place
    elif name == "einsum":
        times = max(1, len(arrays) - 1)                         # two arguments at a time
    elif name == "pad":
        times += np.count_nonzero(np.broadcast_to(args[1], (arrays[0].ndim, 2)))    # each border
    elif name in ("var", "std"):
        times = 3
    elif name in ("matmul", "dot"):                             # cuBLAS takes rows or columns, no others
        times += sum(not (a.flags.c_contiguous or a.flags.f_contiguous) for a in arrays)
    for _ in range(times):
        _note("launches", name)


def _upload(a):
    _note("uploads", (a.shape, a.dtype.name))
    return wrap(np.array(a, order="K"))


# ------------------------------------------------------------------------------------------------ arrays


_wrappers = weakref.WeakValueDictionary()          # by the id of what they wrap, for `base`


def wrap(a):
    """A result of NumPy's as a device array; what is no array stays as it is."""
    if isinstance(a, (np.ndarray, np.generic)):
        a = np.asarray(a)
        x = _wrappers.get(id(a))
        if x is None or x._host is not a:
            x = object.__new__(ndarray)
            x._host, x.base = a, wrap(a.base)
            _wrappers[id(a)] = x
        return x
    return type(a)(map(wrap, a)) if isinstance(a, (tuple, list)) else a


def take(x):
    """The NumPy array behind an argument. TypeError for anything that CuPy does not take, above all a host array."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, (tuple, list)):
        return type(x)(map(take, x))
    if x is None or x is Ellipsis or isinstance(x, (bool, int, float, str, slice, range, np.generic, np.dtype, type)):
        return x
    raise TypeError(f"Unsupported type {type(x)}: only arrays of the device and plain numbers go together")


def _allowed(name, args, kwargs, method=False):
    """Raise AttributeError or TypeError if CuPy has no such function, or it has no such arguments."""
    if name not in NAMES:
        raise AttributeError(f"CuPy has no {name}")
    known = NAMES[name]
    if known is None:
        return
    for k in kwargs:
        if k not in known and not any(p.startswith("**") for p in known):
            raise TypeError(f"cupy.{name}() got an unexpected keyword argument {k!r}; it has {', '.join(known)}")
    if len(args) - method > len(known) and not any(p.startswith("*") for p in known):
        raise TypeError(f"cupy.{name}() takes {len(known)} arguments, got {len(args) - method}")


def _call(f, args, kwargs, owner=()):
    """f of the NumPy arrays behind the arguments, as a device array; a method has an `owner`."""
    args, kwargs = [take(a) for a in args], {k: take(v) for k, v in kwargs.items()}
    result = f(*args, **kwargs)
    if kwargs.get("out") is not None:
        _note("launches", f.__name__)                   # into memory that is there already
    else:
        _launched(f.__name__, result, (*owner, *args))
    return wrap(result)


SYNCHRONISING = {"nonzero", "argwhere", "flatnonzero", "unique", "tolist", "item", "tobytes", "compress", "extract", "bincount"}


class ndarray:
    """cupy.ndarray."""

    __slots__ = ("_host", "base", "__weakref__")        # base: the array whose memory this one is a view of
    __array_priority__ = 100

    def __init__(self, *args, **kwargs):
        raise TypeError("the stand-in makes arrays by cupy.empty and its like only")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    T = property(lambda self: wrap(self._host.T))
    flags = property(lambda self: types.SimpleNamespace(          # no `writeable`: CuPy has none
        c_contiguous=self._host.flags.c_contiguous, f_contiguous=self._host.flags.f_contiguous, owndata=self._host.flags.owndata))

    data = property(lambda self: "device memory")

    def __getattr__(self, name):
        if "ndarray." + name not in NAMES or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(f"cupy.ndarray has no {name!r}")

        def method(*args, **kwargs):
            _allowed("ndarray." + name, args, kwargs)
            if name in SYNCHRONISING:
                _note("syncs", name)
            result = _call(getattr(self._host, name), args, kwargs, owner=(self._host,))
            return take(result) if name in ("item", "tolist", "tobytes") else result
        return method

    def get(self):
        """The explicit way to the host: a copy."""
        _note("downloads", (self.shape, self.dtype.name))
        return np.array(self._host)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"np.{function.__name__} was applied to a device array; use its own module, xp(x).{function.__name__}")

    def __array_ufunc__(self, ufunc, kind, *inputs, **kwargs):
        if kind == "__call__" and not kwargs and len(inputs) == 2 and isinstance(inputs[0], np.generic):      # np.float32(2) * x
            return _call(ufunc, inputs, {})
        raise TypeError(f"np.{ufunc.__name__} was applied to a device array; use its own module, xp(x).{ufunc.__name__}")

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def _key(self, key):
        parts = key if isinstance(key, tuple) else (key,)
        for k in parts:
            if isinstance(k, (np.ndarray, list)):
                raise TypeError("a host array or list as an index is uploaded without being asked for; move it with to_device")
            if isinstance(k, ndarray) and k.dtype == bool:
                _note("syncs", "mask")
        parts = tuple(map(take, parts))
        return parts if any(k is Ellipsis for k in parts) else (*parts, ...)        # ... keeps a single element a view

    def __getitem__(self, key):
        result = self._host[self._key(key)]
        _launched("getitem", result, (self._host,))
        return wrap(result)

    def __setitem__(self, key, value):
        key = self._key(key)
        self._host[key] = take(value)
        if self._host[key].size:
            _note("launches", "setitem")

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def _waited(self, convert):
        _note("syncs", convert.__name__)
        return convert(self._host)

    def __float__(self):
        return self._waited(float)

    def __int__(self):
        return self._waited(int)

    def __bool__(self):
        return self._waited(bool)

    def __repr__(self):
        return self._waited(repr)

    def __str__(self):
        return self._waited(str)


def _operators():
    comparisons = ("lt", "le", "gt", "ge", "eq", "ne")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", *comparisons):
        function, plain = getattr(operator, name), name.rstrip("_")
        change = getattr(operator, "i" + plain, None)

        def forward(self, other, function=function):
            if getattr(other, "__array_ufunc__", 0) is None:                        # CuPy's rule too: it is the other one's turn
                return NotImplemented
            return _call(function, (self, other), {})

        def backward(self, other, function=function):
            return _call(function, (other, self), {})

        def inplace(self, other, change=change):
            self._host = change(self._host, take(other))
            if self.size:
                _note("launches", change.__name__)
            return self
        setattr(ndarray, f"__{plain}__", forward)
        if plain not in comparisons:
            setattr(ndarray, f"__r{plain}__", backward)
            setattr(ndarray, f"__i{plain}__", inplace)
    for name in ("neg", "pos", "abs", "invert"):
        function = getattr(operator, name)
        setattr(ndarray, f"__{name}__", lambda self, function=function: _call(function, (self,), {}))


_operators()
ndarray.__hash__ = None
ndarray.__module__ = "cupy"


# ------------------------------------------------------------------------------------------------ kernels

CUDA = """
#include <algorithm>
#include <cmath>
using namespace std;
struct index3 { unsigned x, y, z; };
static index3 threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__ static
"""
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\((.*?)\)', re.DOTALL)


def signatures(source):
    """{kernel: [(C type, name)]} of CUDA C source."""
    found = {}
    for name, params in KERNEL.findall(source):
        split = [p.replace("__restrict__", "").replace("const", "").strip() for p in params.split(",")]
        found[name] = [tuple(part.strip() for part in p.rpartition(" ")[::2]) for p in split]
    return found


@functools.cache
def _compile(source, options):
    """The source as a shared library, each kernel with a function that runs it once per thread."""
    text = CUDA + source
    for name, params in signatures(source).items():
        declared = ", ".join(f"{kind} {p}" for kind, p in params)
        text += (f'\nextern "C" void run_{name}(unsigned grid, unsigned block, {declared}) {{\n'
                 f"    gridDim.x = grid; blockDim.x = block;\n"
                 f"    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)\n"
                 f"        for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)\n"
                 f"            {name}({', '.join(p for _, p in params)});\n}}\n")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernels.cpp").write_text(text)
        done = subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", *options,
                               "kernels.cpp", "-o", "kernels.so"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return ctypes.CDLL(str(Path(folder) / "kernels.so"))


class RawModule:
    """cupy.RawModule, on the CPU."""

    def __init__(self, *, code, options=()):
        if not isinstance(options, tuple):
            raise TypeError("RawModule: options must be a tuple")
        self.source, self.library, self.kernels = code, _compile(code, options), signatures(code)
        real = {"float": np.float32, "double": np.float64}
        self.types = {"int": np.int32, "long long": np.int64, **real,
                      "real": next((real[o.partition("=")[2]] for o in options if o.startswith("-DREAL=")), None)}

    def get_function(self, name):
        """The kernel of this name, called as kernel(grid, block, arguments)."""
        if name not in self.kernels:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: no kernel {name!r}")
        return functools.partial(self._run, name)

    def _run(self, name, grid, block, args):
        params = self.kernels[name]
        if not (isinstance(grid, tuple) and isinstance(block, tuple) and 0 < block[0] <= 1024 and 0 < grid[0] < 2 ** 31):
            raise TypeError(f"{name}: bad grid {grid} or block {block}")
        if len(args) != len(params):
            raise TypeError(f"{name}: expected {len(params)} arguments, got {len(args)}")
        raw = []
        for (kind, p), a in zip(params, args, strict=True):
            if kind.endswith("*"):
                if not isinstance(a, ndarray) or a.dtype != self.types[kind[:-1].strip()] or not a._host.flags.c_contiguous:
                    raise TypeError(f"{name}: {p} must be a contiguous device array for {kind}, got {type(a)}")
                raw.append(ctypes.c_void_p(a._host.ctypes.data))
            else:
                if type(a) is not self.types[kind]:
                    raise TypeError(f"{name}: {p} must be {self.types[kind].__name__} for {kind}, got {type(a)}")
                raw.append({"i": ctypes.c_int, "q": ctypes.c_longlong, "l": ctypes.c_long, "f": ctypes.c_float,
                            "d": ctypes.c_double}[a.dtype.char](a))
        _note("launches", name)
        getattr(self.library, "run_" + name)(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), *raw)


# ------------------------------------------------------------------------------------------------ the module


class Function:
    """A function of the module `cupy`."""

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, *args, **kwargs):
        name = self.__name__
        _allowed(name, args, kwargs)
        if name in SYNCHRONISING:
            _note("syncs", name)
        if name == "where" and not isinstance(args[0], ndarray):
            raise AttributeError("cupy.where wants an array as its condition")
        if name == "concatenate" and len(args[0]) > 8:
            _note("uploads", "the table of pointers of a long concatenate")
        return _call(getattr(np, name), args, kwargs)

    def at(self, x, key, value):
        """ufunc.at: real CuPy adds atomically, in any order."""
        getattr(np, self.__name__).at(take(x), x._key(key), take(value))
        _note("launches", f"{self.__name__}.at")


class Module(types.ModuleType):
    """The module that stands in sys.modules as `cupy`."""

    def __getattr__(self, name):
        if name not in NAMES:
            raise AttributeError(f"module 'cupy' has no attribute {name!r} (as of the version of {LIST.name})")
        value = getattr(np, name)
        return Function(name) if callable(value) and not isinstance(value, type) else value

    def asarray(self, a, dtype=None):
        """The explicit way to the device."""
        if isinstance(a, ndarray):
            return a if dtype in (None, a.dtype) else a.astype(dtype)
        return _upload(np.asarray(a, dtype=dtype))

    def array(self, a, dtype=None):
        """A copy on the device."""
        return self.asarray(a, dtype).copy()

    def empty(self, shape, dtype=float):
        """Memory as a program finds it: full of nonsense."""
        a = np.empty(shape, dtype)
        a.fill(np.nan if a.dtype.kind == "f" else 77)
        return wrap(a)


cupy = Module("cupy")
cupy.__version__ = "14.2, a stand-in"
cupy.ndarray, cupy.RawModule = ndarray, RawModule
cupy.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=lambda x, shape, strides: wrap(
    np.lib.stride_tricks.as_strided(take(x), shape, strides))))
cupy.cuda = types.SimpleNamespace(
    runtime=types.SimpleNamespace(getDeviceProperties=lambda i: {"name": b"no GPU"}, runtimeGetVersion=lambda: 0),
    get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: _note("syncs", "stream")))


@contextlib.contextmanager
def installed():
    """with installed(): ...   `import cupy` finds the stand-in."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    try:
        yield cupy
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before


# ------------------------------------------------------------------------------------------------ the list of names


def _describe(f, real):
    """The parameters of a function of CuPy's in brackets, or nothing where it does not say."""
    if isinstance(f, real.ufunc):
        return f"({', '.join(UFUNC)})"
    try:
        marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        params = [marks.get(p.kind, "") + p.name for p in inspect.signature(f).parameters.values()]
    except (TypeError, ValueError):             # compiled: the signature is the first line of the docstring
        found = re.match(r"[\w.]+\((.*?)\)(\s*->|\n|$)", f.__doc__ or "")
        if not found:
            return ""
        params = [re.split("[=:]", p)[0].split()[-1] for p in found[1].split(",") if p.strip() not in ("self", "/", "")]
    return f"({', '.join(params)})"


def _write(real):
    print(f"# What CuPy {real.__version__} offers: name(parameters), or the name alone where they are not known.")
    print("# Written by tests/standin.py.")
    for place, prefix in [(real, ""), (real.ndarray, "ndarray."), (real.ufunc, "ufunc."), (real.random, "random."),
                          (real.random.Generator, "random.Generator."), (real.linalg, "linalg."),
                          (real.lib.stride_tricks, "lib.stride_tricks.")]:
        for name in sorted(dir(place)):
            value = getattr(place, name)
            if not name.startswith("_") and not inspect.ismodule(value):
                print(prefix + name + (_describe(value, real) if callable(value) and not isinstance(value, type) else ""))


if __name__ == "__main__":
    import cupy as real
    _write(real)
