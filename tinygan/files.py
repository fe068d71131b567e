"""Files that are whole at every moment, and folders that one process writes at a time.

A process can be killed between any two instructions, and a disk can fill up in the middle of a
file. So a file is written beside its place under a temporary name, flushed to the disk, and only
then renamed, which the system does in one go.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import zlib

try:
    import fcntl
except ImportError:             # Windows
    fcntl = None


# ---------------------------------------------------------------------------------------- processes


def _began(pid):
    """When a process began, as /proc tells it, or "": a number that tells it from a later process
    with the same pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _me():
    """This process, as what a lock or the name of a temporary file holds of it."""
    return {"pid": os.getpid(), "began": _began(os.getpid()), "host": socket.gethostname()}


def _short(host):
    """The name of a machine as eight hexadecimal digits, for use in names of files."""
    return f"{zlib.crc32(host.encode()):08x}"


def _is_gone(process):
    """Whether a process as `_me` describes it has certainly ended. One on another machine, or on
    Windows, may still run."""
    pid = process.get("pid")
    if process.get("host") != socket.gethostname() or os.name == "nt":
        return False
    if type(pid) is not int or not 0 < pid < 2 ** 31:
        return False
    try:
        os.kill(pid, 0)                             # asks whether it exists, and sends nothing
    except ProcessLookupError:
        return True
    except OSError:                                 # it exists and belongs to somebody else
        pass
    return _began(pid) != process.get("began")


# ---------------------------------------------------------------------------------------- contents


def open_regular(path):
    """Open a file for reading in binary. ValueError for a pipe, a device or a folder, which are not
    even opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):           # exchanged in between
        file.close()
        raise ValueError("not a regular file")
    return file


def write_atomically(path, write):
    """Replace the file at `path` by what write(file) writes: others see the old file or the new
    one, never half of one.

    A symbolic link is replaced, not followed. ValueError if `path` leads to a folder, a device or a
    pipe; OSError, and the old file stays, if writing fails.
    """
    shown, path = path, os.path.abspath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{shown}: not a regular file, so it is not replaced")
    folder, name = os.path.split(path)
    me = _me()
    mark = f"{_short(me['host'])}-{me['pid']}-{me['began'] or 0}-{os.urandom(4).hex()}"
    temporary = os.path.join(folder, f".{name[:100]}.{mark}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(temporary, "wb", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as e:          # also Ctrl-C, which may come just after the renaming
        if getattr(e, "filename", None) == temporary:
            e.filename = os.fspath(shown)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync(folder)


def keep_copy(path, copy):
    """Give the file at `path` a second name, unless that is taken: a link, or a copy where the file
    system has no links."""
    try:
        os.link(path, copy)
    except (FileExistsError, FileNotFoundError):
        pass
    except OSError:
        with open(path, "rb") as file:
            write_atomically(copy, lambda out: shutil.copyfileobj(file, out))


def _sync(folder):
    """Bring the renaming itself to the disk, where the system can do that: Windows and some file
    systems cannot."""
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_stale(folder):
    """Delete the temporary files that `write_atomically` could not delete because its process was
    killed."""
    host = socket.gethostname()
    for name in os.listdir(folder):
        mark = re.fullmatch(r"\..+\.([0-9a-f]{8})-(\d{1,10})-(\d+)-[0-9a-f]{8}\.tmp", name)
        if mark and mark[1] == _short(host):
            began = "" if mark[3] == "0" else mark[3]
            if _is_gone({"pid": int(mark[2]), "began": began, "host": host}):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))


# ---------------------------------------------------------------------------------------- locks


class Locked(ValueError):
    """Another process writes this folder; the message says which."""


class Lock:
    """The right to write a folder, held by one `Lock` at a time.

    The file `lock` in the folder says who holds it: process, host, and when the process began. The
    system itself locks that file (`flock`), and frees it when the process ends, however it ends; so
    what a killed process leaves is taken over at once. On a file system that cannot do this the
    contents decide: a process that has ended, or whose pid has gone to another one since, holds
    nothing.
    """

    def __init__(self, folder):
        self.folder, self.handle = folder, None
        self.path = os.path.join(os.path.abspath(folder), "lock")

    def take(self):
        """Take the lock unless this object holds it already. Raises `Locked`."""
        if self.held():
            return
        self.release()
        handle = self._open()
        while not self._is_at_path(handle):         # its last owner has just deleted it
            os.close(handle)
            handle = self._open()
        self.handle = handle
        try:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(_me()).encode())
        except BaseException:
            self.release()
            raise

    @contextlib.contextmanager
    def taken(self):
        """The lock is taken, and temporary files of the dead are removed; it is given back only if
        the block fails."""
        self.take()
        try:
            remove_stale(os.path.dirname(self.path))
            yield
        except BaseException:
            self.release()
            raise

    def _open(self):
        """A handle of the lock's file, locked."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            handle, new = os.open(self.path, flags | os.O_EXCL, 0o666), True
        except FileExistsError:
            handle, new = os.open(self.path, flags, 0o666), False
        owner, text = self._owner()
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
        except BlockingIOError:
            os.close(handle)
            raise Locked(text) from None
        except OSError:                             # a file system without such locks
            pass
        if new or _is_gone(owner):
            return handle
        os.close(handle)
        raise Locked(f"{text}; if that process has ended, delete {self.path}")

    def _owner(self):
        """Who holds the lock: ({pid, began, host}, a sentence)."""
        try:
            with open_regular(self.path) as file:
                owner = json.loads(file.read(1000))
            text = f"process {int(owner['pid'])} on {str(owner['host'])[:100]}"
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            owner, text = {}, "another process"
        return owner, (f"{self.folder} is in use by {text}: wait until it has ended, or choose "
                       "another folder (--out)")

    def _is_at_path(self, handle):
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))
        except OSError:
            return False

    def held(self):
        """Whether this object holds the lock of what is the folder now: it may have been deleted or
        moved away."""
        return self.handle is not None and self._is_at_path(self.handle)

    def release(self):
        """Give it back; nothing happens if it is not held."""
        handle, self.handle = self.handle, None
        if handle is not None:
            mine = self._is_at_path(handle)
            # While it is locked, so that the next owner's file is safe. Windows cannot do that.
            if os.name == "nt":
                os.close(handle)
            if mine:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
            if os.name != "nt":
                os.close(handle)

    __del__ = release
