"""Files that are whole at every moment, and folders that one process writes at a time.

A process can be killed between any two instructions, and a disk can fill up in the middle of a
file. So a file is written beside its place under a temporary name, flushed to the disk, and only
then renamed, which the system does in one go.

Whoever writes holds a lock of the system (`flock`), which ends with the process, however that ends.
Windows and a few file systems have no such locks: there nothing keeps two runs out of one folder.
"""

import contextlib
import os
import socket
from pathlib import Path

try:
    import fcntl
except ImportError:             # Windows
    fcntl = None


def require_regular(path):
    """ValueError for a pipe, a device or a folder. What does not exist is left to `open`."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: not a regular file")


def write_atomically(path, write):
    """Replace the file at `path` by what write(file) writes: others see the old file or the new
    one, never half of one.

    A symbolic link is replaced, not followed. ValueError if `path` leads to a folder, a device or a
    pipe; OSError, and the old file stays, if writing fails.
    """
    require_regular(path)
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(folder, name))
    except BaseException as e:          # also Ctrl-C, which may come just after the renaming
        if getattr(e, "filename", None) == temporary:
            e.filename = os.fspath(path)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError, AttributeError):      # where folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)                                # the renaming itself
        finally:
            os.close(handle)


class Lock:
    """The right to write a folder: a lock on the file `lock` in it, which says whose it is.

    `with` takes it, unless this object holds it already, and gives it back. ValueError if another
    process holds it.
    """

    def __init__(self, folder):
        self.folder, self.handle = folder, None
        self.path = os.path.join(os.path.abspath(folder), "lock")

    def __enter__(self):
        while not self.held():          # again if its last owner has just deleted the file
            self.release()
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self.handle = os.open(self.path, flags, 0o666)
            try:
                if fcntl is not None:
                    fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(self.handle, 100).decode("ascii", "replace") or "another process"
                os.close(self.handle)
                self.handle = None
                raise ValueError(f"{self.folder} is in use by {owner}: wait until it has ended, or "
                                 "choose another folder (--out)") from None
            except OSError:             # a file system without locks
                pass
            os.ftruncate(self.handle, 0)
            os.write(self.handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            # What `write_atomically` could not delete because its process was killed.
            for stale in Path(self.path).parent.glob(f".*.{'[0-9a-f]' * 16}.tmp"):
                stale.unlink(missing_ok=True)

    def __exit__(self, *exception):
        self.release()

    def held(self):
        """Whether this object holds the lock of what is the folder now: it may have been deleted or
        moved away."""
        try:
            there = os.stat(self.path)
            return self.handle is not None and os.path.samestat(os.fstat(self.handle), there)
        except OSError:
            return False

    def release(self):
        """Give it back; nothing happens if it is not held."""
        if self.handle is not None:
            if self.held():             # while it is locked, so that the next owner's is safe
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
            os.close(self.handle)
            self.handle = None

    __del__ = release
