"""Backend: devices are chosen honestly, arrays move only when told."""

import os
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

from tinygan import backend


class NoCupy:
    """An import hook that makes CuPy absent, also on machines that have it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'")


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoCupy(), *sys.meta_path])


def broken_cupy(monkeypatch, ones):
    """A CuPy that imports without complaint, as the real one does on a machine without a driver."""
    fake = types.ModuleType("cupy")
    fake.ones = ones
    monkeypatch.setitem(sys.modules, "cupy", fake)


# ---- devices ----------------------------------------------------------------------------------------------

def test_gpu_without_cupy_is_an_error_that_names_the_install_command(no_cupy):
    with pytest.raises(backend.DeviceError, match=r"No module named 'cupy'.*pip install cupy-cuda13x.*--device cpu"):
        backend.pick_device("gpu")


def test_auto_without_cupy_is_the_cpu_in_silence(no_cupy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend.pick_device("auto") == backend.pick_device() == "cpu"


def test_a_cupy_that_cannot_run_a_kernel_does_not_count(monkeypatch):
    """Importing succeeds without any GPU; auto says why it runs on the CPU, gpu fails with the reason."""
    def ones(shape, dtype):
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nand a long trace")

    broken_cupy(monkeypatch, ones)
    with pytest.warns(UserWarning, match="running on the CPU: no usable GPU .*cudaErrorNoDevice") as caught:
        assert backend.pick_device("auto") == "cpu"
    assert len(caught) == 1
    with pytest.raises(backend.DeviceError, match="no CUDA-capable device is detected") as error:
        backend.pick_device("gpu")
    assert "\n" not in str(error.value)


def test_a_cupy_that_computes_nonsense_does_not_count(monkeypatch):
    broken_cupy(monkeypatch, lambda shape, dtype: np.zeros(shape, dtype))
    with pytest.raises(backend.DeviceError, match="came out wrong"):
        backend.pick_device("gpu")


def test_a_cupy_that_computes_right_counts(monkeypatch):
    broken_cupy(monkeypatch, np.ones)
    assert backend.pick_device("gpu") == backend.pick_device("auto") == "gpu"


def test_cpu_is_the_cpu_without_a_look_at_cupy(no_cupy):
    assert backend.pick_device("cpu") == "cpu"


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device: expected 'auto', 'cpu' or 'gpu', got 'cuda'"):
        backend.pick_device("cuda")


def test_importing_and_training_on_the_cpu_imports_neither_cupy_nor_torch(tmp_path):
    """Both are made importable here, so that an attempt would be seen."""
    for name in ("cupy", "torch"):
        (tmp_path / f"{name}.py").write_text("")
    code = ("import sys, tinygan.cli\n"
            "from tinygan import backend, models, train\n"
            "import numpy as np\n"
            "gan = train.GAN(models.mlp_generator(2, hidden=(4,)), models.mlp_discriminator(hidden=(4,)), 2)\n"
            "gan.step(np.ones((4, 2), np.float32)); backend.pick_device('cpu')\n"
            "print(sorted({'cupy', 'torch'} & sys.modules.keys()))")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
                         capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_moving_an_array_to_where_it_is_copies_nothing(device):
    x = backend.to_device(np.arange(6, dtype=np.float32).reshape(2, 3), device)
    assert backend.device_of(x) == device
    assert backend.to_device(x, device) is x


def test_a_round_trip_changes_no_bit(device):
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    y = backend.to_host(backend.to_device(x, device))
    assert type(y) is np.ndarray and y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)


def test_the_array_module_is_found_by_type(device):
    x = backend.to_device(np.zeros(2), device)
    assert (backend.xp(x) is np) == (device == "cpu")
    assert backend.xp(2.0, x) is backend.xp(x), "a number decides nothing"
    assert backend.xp(2.0) is np
