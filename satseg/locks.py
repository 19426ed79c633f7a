"""Locks that keep other processes from an output, a run or a folder, and end with the processes that hold them.

A lock is flock's, taken by `filelock`, on a small file that is there while the lock is held. Linux passes it on to the
server of NFS, and Lustre keeps it for all machines where it is mounted with `flock`; so it holds between machines, too.
On storage without locks a warning is logged, and writers must be kept apart by hand.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from satseg.errors import InUseError, ResourceError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"  # in a folder that is locked
POLL_S = 0.05
SETTLE_S = 0.2  # at least so long is waited for: a lock that is just ending, or that `is_free` looks at
MAX_REPLACED = 100  # attempts at a lock file that others remove again and again
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

# Descriptors: a lock is held until all copies of its descriptor are closed.
_taken: dict[Path, int] = {}
_adopted: set[int] = set()


def _forget_locks() -> None:
    """Close the adopted locks in a fork, such as a loader's worker, as `filelock` does with those that were taken."""
    for descriptor in _adopted:
        os.close(descriptor)
    _adopted.clear()
    _taken.clear()


os.register_at_fork(after_in_child=_forget_locks)


def held_descriptors() -> tuple[int, ...]:
    """Return the descriptors of this process's locks, for the processes that write in its stead."""
    return tuple(sorted({*_taken.values(), *_adopted}))


def adopt(descriptors: Iterable[int]) -> None:
    """Hold the parent process's locks, inherited as `held_descriptors`, until this process ends."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        _adopted.add(descriptor)


@contextmanager
def output_lock(output: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing a file, by a lock beside it.

    Args:
        output: The file; its folder is made where it is missing.
        patience_s: How long to wait for another process to end.

    Raises:
        InUseError: If another process writes it; names the process.
        ResourceError: If nothing can be written there.
    """
    lock = output.with_name(f".{output.name}{LOCK_FILE}")
    with hold(lock, str(output), "name another output", patience_s):
        yield


@contextmanager
def folder_lock(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing into a folder, as `output_lock` does for a file."""
    with hold(folder / LOCK_FILE, str(folder), "name another output", patience_s):
        yield


@contextmanager
def hold(path: Path, subject: str, otherwise: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a lock for the length of a block. Folders that were made for it and stay empty are removed.

    Args:
        path: The lock's file.
        subject: What it protects, for the message.
        otherwise: What else the user can do than wait, for the message.
        patience_s: How long to wait for another process to end.

    Raises:
        InUseError: If another process holds it.
        ResourceError: If the file cannot be made.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    lock = FileLock(
        path,
        timeout=max(patience_s, SETTLE_S),
        poll_interval=POLL_S,
        thread_local=False,  # a server's is released by another thread than took it
        fallback_to_soft=False,  # such a lock outlives its process
        on_acquired=partial(_sign, path),
    )
    try:
        _acquire(lock, path)
    except Timeout:
        message = f"{subject} is in use by {_holder(path)}: wait until it has ended, or {otherwise}."
        raise InUseError(message) from None
    except OSError as error:
        remove_empty(made)
        if isinstance(error, PermissionError) and os.access(path, os.F_OK):
            advice = f"remove it if nothing of theirs runs there any more, or {otherwise}"
            raise ResourceError(f"{path} is another user's: {advice}.") from error
        raise ResourceError(f"{path.parent} cannot be written ({error.strerror}): {otherwise}.") from error
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:  # else this is a fork of the process that holds it
            with suppress(OSError):
                path.unlink()
            _release(lock, path)
            remove_empty(made)


def is_free(path: Path) -> bool:
    """Return whether no process holds a lock at this moment.

    A shared lock for a moment, which `filelock` has not: those who look must not take each other for holders, nor need
    they be allowed to write.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in WITHOUT_LOCKS
    finally:
        os.close(descriptor)
    return True


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, up to the first one that is not."""
    with suppress(OSError):  # one that is not empty, and so those that it lies in
        for folder in folders:
            folder.rmdir()


def _acquire(lock: FileLock, path: Path) -> None:
    """Take a lock whose holders remove its file, and the folder where that is empty, when they end.

    `filelock` tries again where the file that it locked has no name any more, but a file of NFS that is removed while
    it is open keeps one.
    """
    for attempt in range(1, MAX_REPLACED + 1):
        try:
            lock.acquire()
        except FileNotFoundError:
            if path.parent.exists() or attempt == MAX_REPLACED:
                raise
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            logger.warning("This storage keeps no locks (%s): take care that nothing else writes there.", error)
            return
        else:
            if _is_at(_taken[path], path):
                return
            if attempt < MAX_REPLACED:
                _release(lock, path)
    logger.warning("%s: this storage does not know its files again, so its locks may not hold.", path)


def _release(lock: FileLock, path: Path) -> None:
    _taken.pop(path, None)
    lock.release()


def _sign(path: Path, descriptor: int) -> None:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    _taken[path] = descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[:200] or "another process"
    except (OSError, ValueError):
        return "another process"
