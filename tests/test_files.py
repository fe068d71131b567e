"""Files that are whole at every moment, temporary files that killed writers left, and locks."""

import errno
import os
import signal
import stat
import threading

import pytest

from tinygan import files
from tinygan.files import Lock

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def put(path, contents=b"new"):
    files.write_atomically(path, lambda file: file.write(contents))


# ---- writing ----------------------------------------------------------------------------------------------

def test_a_symbolic_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    put(tmp_path / "a")
    assert not (tmp_path / "a").is_symlink() and (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "precious").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a device"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = path if kind == "link to a device" else os.devnull
        if kind == "link to a device":
            path.symlink_to(os.devnull)
    with pytest.raises(ValueError, match="not a regular file"):
        put(path)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(errno.EINVAL, "no"), AttributeError("no")])
def test_a_folder_that_cannot_be_brought_to_the_disk_is_no_error(tmp_path, monkeypatch, error):
    """Windows cannot open folders; some network file systems cannot fsync them."""
    original = os.open

    def no_folders(path, flags, *args, **kwargs):
        if os.path.isdir(path):
            raise error
        return original(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_folders)
    put(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_ctrl_c_just_after_the_renaming_is_only_ctrl_c(tmp_path, monkeypatch):
    replace = os.replace

    def and_ctrl_c(a, b):
        replace(a, b)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", and_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new" and os.listdir(tmp_path) == ["a"]


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        put(tmp_path / "none" / "a")
    assert str(error.value).endswith(f"'{tmp_path}/none/a'")


def test_the_mode_of_a_new_file_follows_the_mask(tmp_path):
    mask = os.umask(0o027)
    try:
        put(tmp_path / "a")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@needs_fork
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    def half(file):
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            files.write_atomically(tmp_path / "weights.npz", half)
        os.waitpid(pid, 0)
    assert len(os.listdir(tmp_path)) == 3
    (tmp_path / ".mine.tmp").write_bytes(b"")
    with Lock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "lock"]


# ---- locks ------------------------------------------------------------------------------------------------

def test_one_holds_a_lock_and_the_others_are_told_who(tmp_path):
    a, b = Lock(tmp_path), Lock(tmp_path)
    a.__enter__()
    a.__enter__()
    assert a.held() and not b.held()
    with pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on .*choose another folder"):
        b.__enter__()
    a.release()
    a.release()
    assert os.listdir(tmp_path) == [] and not a.held()
    b.__enter__()
    assert b.held()


def test_a_lock_that_nobody_refers_to_any_more_is_free(tmp_path):
    Lock(tmp_path).__enter__()
    Lock(tmp_path).__enter__()


@needs_fork
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    pid = os.fork()
    if pid == 0:
        lock = Lock(tmp_path)
        lock.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert os.listdir(tmp_path) == ["lock"]
    lock = Lock(tmp_path)
    lock.__enter__()
    assert f"process {os.getpid()} on " in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("text", [b"", b"\xff\0" * 99, b"process 1 on elsewhere"])
def test_whatever_a_lock_file_holds_it_is_free_unless_somebody_has_locked_it(tmp_path, text):
    (tmp_path / "lock").write_bytes(text)
    lock = Lock(tmp_path)
    lock.__enter__()
    assert lock.held()


@pytest.mark.parametrize("system", ["no flock", "no fcntl"])
def test_where_the_system_has_no_locks_everything_else_works(tmp_path, monkeypatch, system):
    """A file system that has none; Windows, which has no such module."""
    def refuse(*args):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files, "fcntl", None) if system == "no fcntl" else monkeypatch.setattr(files.fcntl, "flock", refuse)
    lock = Lock(tmp_path)
    with lock:
        put(tmp_path / "a")
        assert lock.held()
    assert os.listdir(tmp_path) == ["a"]


def test_a_lock_that_is_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        Lock(tmp_path).__enter__()
    assert (tmp_path / "precious").read_bytes() == b"old"


def test_the_lock_of_a_folder_that_was_moved_is_not_held_and_not_taken_away_from_the_next(tmp_path):
    (tmp_path / "a").mkdir()
    lock = Lock(tmp_path / "a")
    lock.__enter__()
    (tmp_path / "a").rename(tmp_path / "b")
    assert not lock.held()
    (tmp_path / "a").mkdir()
    other = Lock(tmp_path / "a")
    other.__enter__()
    lock.release()
    assert other.held()


def test_many_threads_one_lock(tmp_path):
    """Taken and released all the time: never two holders."""
    holders, most, errors = [], [], []

    def work():
        try:
            for _ in range(60):
                lock = Lock(tmp_path)
                try:
                    lock.__enter__()
                except ValueError:
                    continue
                holders.append(1)
                most.append(len(holders))
                holders.pop()
                lock.release()
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == [] and set(most) == {1} and os.listdir(tmp_path) == []
