"""Data sets: one check that everything goes through, and every data set by its name."""

import dataclasses
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygan import backend, data

GOOD = np.zeros((4, 2, 2, 1), np.float32)


def bad(value, like=GOOD):
    """An array with one bad number in it, the last."""
    x = np.array(like, np.float64)
    x.flat[-1] = value
    return x


@pytest.mark.parametrize("x, message", [
    (np.zeros((0, 2), np.float32), "empty"),
    (np.zeros((3, 0), np.float32), "empty"),
    (np.zeros((3, 8, 8, 0), np.uint8), "empty"),
    ([], "empty"),
    (np.float32(3), r"points \(N, D\) or images"),
    (np.zeros(5), r"reshape\(-1, 1\)"),
    (np.zeros((2, 3, 4, 4, 1)), r"images \(N, H, W, C\), and not empty, got shape \(2, 3, 4, 4, 1\)"),
    (np.ones((2, 3, 8, 8)), r"channels last.*transpose\(0, 2, 3, 1\)"),
    (np.ones((2, 1, 28, 28), np.uint8), r"channels last"),
    (bad(np.nan), "NaN"),
    (bad(np.inf, np.zeros((4, 2))), "infinity"),
    (bad(1e300, np.zeros((4, 2))), "beyond float32"),
    (bad(255.0), r"lie in \[-1, 1\], got \[0, 255\]; scale bytes \(0 to 255\) with x / 127\.5 - 1"),
    (bad(-1.5), r"lie in \[-1, 1\]"),
    (GOOD.astype(int), r"got int64; .*x.astype\('uint8'\) for images of 0 to 255"),
    (np.zeros((4, 2), int), r"got int64; use x.astype\('float32'\)"),
    (np.zeros((4, 2), np.uint8), r"got uint8; use x.astype\('float32'\)"),
    (np.zeros((4, 2), bool), "got bool"),
    (np.zeros((4, 2), complex), "got complex128"),
    (np.array([[None, 1.0]]), "got object"),
    (np.array([["a", "b"]]), "got <U1"),
    (np.zeros((4, 2), "M8[s]"), "got datetime64"),
    (np.zeros((4, 2), [("r", "f4")]), "got .*r"),
    ([[1.0], [1.0, 2.0]], "inhomogeneous"),
    (None, "got shape"),
    ("digits", "got shape"),
])
def test_what_cannot_be_trained_on_is_refused_with_its_reason_and_what_to_do(x, message):
    for make in (data.as_dataset, lambda x: data.Dataset("mine", x)):
        with pytest.raises(ValueError, match=message):
            make(x)


@pytest.mark.parametrize("labels, message", [
    (np.zeros(3, np.int64), "4 integers, got int64 of shape"),
    (np.zeros(4, np.float32), r"astype\(int\)"),
    (np.zeros((4, 10), int), r"argmax\(axis=1\)"),
    ([0, 1, 2, -1], "got -1"),
    (np.full(4, 2 ** 63, np.uint64), "int64"),
    (np.array([0, 1, 2, None]), "object"),
    ([[0], [1, 2], [3], [4]], "inhomogeneous"),
])
def test_labels_that_are_not_one_whole_number_per_sample_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        data.as_dataset(GOOD, labels)


@pytest.mark.parametrize("labels", [[3, 0, 1, 2], (3, 0, 1, 2), np.array([3, 0, 1, 2], np.uint8),
                                    np.array([3, 0, 1, 2], np.uint64), np.array([3, 0, 1, 2], ">i2")])
def test_labels_of_any_integer_type_become_int64(labels):
    found = data.as_dataset(GOOD, labels).labels
    assert found.dtype == np.int64 and found.tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "longdouble"])
def test_floats_of_any_type_become_float32(dtype):
    values = np.linspace(-1, 1, 24)
    for shape in ((4, 6), (24, 1), (2, 3, 4, 1)):
        found = data.as_dataset(values.astype(dtype).reshape(shape)).x
        assert found.dtype == np.dtype("f4") and found.shape == shape
        np.testing.assert_allclose(found.ravel(), values, atol=1e-3)


def test_bytes_become_images_between_minus_one_and_one():
    ramp = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    for x in (ramp, ramp[..., None]):
        found = data.as_dataset(x)
        assert found.is_image and found.x.shape == (4, 8, 8, 1)
        np.testing.assert_allclose(found.x.ravel(), (np.arange(256) - 127.5) / 127.5, atol=1e-6)


def test_lists_and_points_of_any_dimension_are_data():
    """A GAN on tabular data: points have no range that they must lie in."""
    assert data.as_dataset([[1.0, 2.0, 300.0]]).x.tolist() == [[1, 2, 300]]
    found = data.as_dataset(np.full((5, 7), -1e6))
    assert not found.is_image and found.x.shape == (5, 7) and len(found) == 5


def test_images_from_0_to_1_are_accepted_with_a_warning():
    with pytest.warns(UserWarning, match=r"2 \* x - 1"):
        found = data.as_dataset(np.linspace(0, 1, 32).reshape(2, 4, 4, 1))
    assert found.x.max() == 1 and found.x.min() == 0


def test_a_dataset_is_returned_as_it_is_and_takes_labels():
    ring = data.load("ring", n=4)
    assert data.as_dataset(ring) is ring
    labelled = data.as_dataset(ring, [0, 1, 2, 3])
    assert labelled.mixture is ring.mixture and labelled.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="labels"):
        data.as_dataset(ring, [0])


def test_a_dataset_stays_as_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.as_dataset(GOOD).x = None


def test_dataset_knows_its_length_and_kind():
    images, points = data.Dataset("a", GOOD, np.zeros(4, np.int64)), data.load("ring", n=7)
    assert len(images) == 4 and images.is_image
    assert len(points) == 7 and not points.is_image and points.mixture.centers.shape == (8, 2)


def test_arrays_on_the_device_are_checked_where_they_lie(device):
    x = backend.to_device(np.array([[0.5, -1.0]], np.float32), device)
    found = data.as_dataset(x, backend.to_device(np.array([1]), device))
    assert backend.device_of(found.x) == device and isinstance(found.labels, np.ndarray)
    np.testing.assert_array_equal(backend.to_host(found.x), [[0.5, -1.0]])
    assert found.fingerprint == data.as_dataset(backend.to_host(x), [1]).fingerprint
    with pytest.raises(ValueError, match="NaN"):
        data.as_dataset(x * np.float32("nan"))


def test_the_fingerprint_tells_any_other_samples_or_labels():
    x = np.arange(12.0).reshape(6, 2)
    same = data.as_dataset(x).fingerprint
    assert same == data.as_dataset(x.copy(order="F"), name="other").fingerprint and len(same) == 16
    changed = x.copy()
    changed[5, 1] += 1e-5
    others = [data.as_dataset(*args).fingerprint for args in
              ((changed,), (x[::-1],), (x.reshape(3, 4),), (x[:5],), (x, [0] * 6), (x, [0] * 5 + [1]))]
    assert len({same, *others}) == 7


def test_every_choice_is_in_the_error_for_an_unknown_one():
    for spec in ("cifar", "folder", "", "Ring", "ring ", "npy"):
        with pytest.raises(ValueError, match="digits, mnist, ring, grid, swissroll, folder:PATH, "
                                             "fashion-mnist, FILE.npy or FILE.npz"):
            data.load(spec)


def test_load_wants_a_name_and_points_to_as_dataset():
    for spec in (None, GOOD, 3):
        with pytest.raises(TypeError, match=r"as_dataset\(x\)"):
            data.load(spec)


@pytest.mark.parametrize("n", [0, -1, 2.5, None])
def test_an_impossible_number_of_points_is_refused(n):
    for spec in ("ring", "grid", "swissroll"):
        with pytest.raises(ValueError, match="load: n must be an integer >= 1"):
            data.load(spec, n=n)


def test_digits_are_10000_shuffled_images_in_range():
    digits = data.load("digits")
    assert digits.x.shape == (10_000, 28, 28, 1) and digits.x.dtype == np.float32
    assert digits.x.min() == -1 and digits.x.max() == 1
    # MNIST's first 10,000 training labels, as its label file counts them.
    assert np.bincount(digits.labels).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert all(len(set(digits.labels[i:i + 100])) == 10 for i in range(0, 10_000, 100))


def test_names_that_programs_use_are_all_there():
    assert all(hasattr(data, name) for name in data.__all__)


# ---- arrays of one's own from files: read as they were written, refused before they can do harm

POINTS = np.linspace(-3, 3, 15, dtype=np.float32).reshape(5, 3)
LABELS = np.array([0, 1, 2, 1, 0])


def npy(header, body=b"", version=(1, 0)):
    """A .npy file, written from the format's description."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + body


def header(shape, dtype="<f4"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize("x", [POINTS, np.asfortranarray(POINTS), POINTS.astype(">f8"),
                               np.arange(32, dtype=np.uint8).reshape(2, 4, 4)])
def test_a_npy_file_is_read_as_numpy_wrote_it(tmp_path, x):
    np.save(tmp_path / "mine.npy", x)
    found = data.load(f"{tmp_path}/mine.npy")
    np.testing.assert_array_equal(found.x, data.as_dataset(x).x)
    assert found.name == "mine" and found.labels is None and found.path == str(tmp_path / "mine.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("x", ["x", "images", "arr_0", "anything"])
@pytest.mark.parametrize("labels", ["labels", "y", None])
def test_a_npz_file_is_read_under_the_usual_names(tmp_path, save, x, labels):
    save(tmp_path / "mine.npz", **{x: POINTS, **({labels: LABELS} if labels else {})})
    found = data.load(tmp_path / "mine.npz")
    np.testing.assert_array_equal(found.x, POINTS)
    assert found.labels is None if labels is None else found.labels.tolist() == LABELS.tolist()


def test_the_bundled_digits_can_be_named_as_a_file():
    assert data.load(Path(data.__file__).with_name("digits.npz")).fingerprint == data.digits().fingerprint


def test_paths_are_absolute_and_a_suffix_may_be_in_capitals(tmp_path, monkeypatch):
    with open(tmp_path / "A.NPY", "wb") as file:
        np.save(file, POINTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("A.NPY", "./A.NPY", "~/A.NPY"):
        assert data.load(spec).path == str(tmp_path / "A.NPY")


class Payload:
    """What a pickle can do: run a function of the file's choice."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/tinygan-test-was-run",)


def objects():
    file = io.BytesIO()
    np.save(file, np.array([Payload()], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("raw, message", [
    (b"", "no .npy or .npz file"),
    (b"\x93NUMPY", "cannot be read"),
    (b"hello", "no .npy or .npz file"),
    (pickle.dumps(Payload()), "no .npy or .npz file"),
    (objects(), "pickle"),
    (npy(header((5, 3)), bytes(59)), "cannot be read"),
    (npy(header((5, 3)), bytes(61)), "more follows"),
    (npy(header((2 ** 40, 2 ** 40)), bytes(60)), "cannot be read"),
    (npy(header((2 ** 36, 3)), bytes(60)), "cannot be read"),
    (npy(header((-5, -3)), bytes(60)), "cannot be read"),
    (npy(header((5, 3), "|O"), bytes(120)), "pickle"),
    (npy(header((5, 3), "<q9"), bytes(120)), "cannot be read"),
    (npy(header("(5, 3"), bytes(60)), "cannot be read"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5, [3]), }", bytes(60)), "cannot be read"),
    (npy("0" * 9999, bytes(60)), "cannot be read"),
    (npy(header((5, 3)), bytes(60), version=(9, 0)), "cannot be read"),
    (npy(header((0, 3))), "empty"),
    (npy(header(()), bytes(4)), "got shape"),
    (npy(header((5,), "|S3"), bytes(15)), "got shape"),
    (npy(header((5, 3)), np.full(15, np.nan, np.float32).tobytes()), "NaN"),
])
def test_a_foreign_damaged_or_lying_npy_file_is_one_line(tmp_path, raw, message):
    (tmp_path / "bad.npy").write_bytes(raw)
    with pytest.raises(ValueError, match=message) as error:
        data.load(f"{tmp_path}/bad.npy")
    assert "bad" in str(error.value) and "\n" not in str(error.value)
    assert not os.path.exists("/tmp/tinygan-test-was-run")


def test_every_truncation_and_many_flips_of_an_archive_are_read_right_or_refused(tmp_path):
    file = io.BytesIO()
    np.savez_compressed(file, x=POINTS, labels=LABELS)
    raw, path = file.getvalue(), tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    damaged = [raw[:n] for n in range(0, len(raw), 7)]
    for place in rng.integers(len(raw), size=300):
        damaged.append(raw[:place] + bytes([raw[place] ^ 1 << rng.integers(8)]) + raw[place + 1:])
    refused = 0
    for text in damaged:
        path.write_bytes(text)
        try:
            np.testing.assert_array_equal(data.array_file(path).x, POINTS)
        except ValueError as e:
            refused += 1
            assert "\n" not in str(e)
    assert refused > 100


@pytest.mark.parametrize("members, message", [
    ({"a": POINTS, "b": POINTS}, "which array is the data.*a, b"),
    ({"labels": LABELS}, "which array is the data"),
    ({}, "no .npy or .npz file, or an empty one"),
    ({"x": POINTS, "images": POINTS}, "which array is the data"),
    ({"x": POINTS, "labels": LABELS[:4]}, "labels must be 5 integers"),
    ({"x": POINTS, "y": -LABELS}, "labels must be >= 0"),
])
def test_an_archive_that_does_not_say_what_is_what_is_refused(tmp_path, members, message):
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(ValueError, match=message):
        data.load(f"{tmp_path}/a.npz")


def test_an_archive_bomb_is_refused_before_it_unpacks_and_unneeded_members_are_not_opened(tmp_path, memory_below):
    size = 2 ** 27
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            member.write(npy(header((size // 8, 2))))
            for _ in range(size // 2 ** 20):
                member.write(bytes(2 ** 20))
    with zipfile.ZipFile(tmp_path / "good.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.npy", npy(header((5, 3)), POINTS.tobytes()))
        with archive.open("other.npy", "w") as member:
            for _ in range(size // 2 ** 20):
                member.write(bytes(2 ** 20))
    with memory_below(4e6):
        with pytest.raises(ValueError, match="would unpack to .* bytes"):
            data.load(f"{tmp_path}/bomb.npz")
        np.testing.assert_array_equal(data.load(f"{tmp_path}/good.npz").x, POINTS)


def test_what_is_no_readable_file_is_one_line(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "fifo.npz")
    os.symlink("loop.npy", tmp_path / "loop.npy")
    for name in ("missing.npy", "folder.npy", "fifo.npz", "loop.npy", "a\0b.npy"):
        with pytest.raises(ValueError, match="cannot be read|not a regular file|null"):
            data.load(f"{tmp_path}/{name}")
    with pytest.raises(ValueError, match="nosuchuser.*cannot be read"):
        data.load("~nosuchuser/x.npz")
