"""One writer at a time: locks that end with the processes that hold them, however these end.

A lock is flock's on a small file that is there while the lock is held. Linux passes it on to the server of NFS, and
Lustre keeps it for all machines where it is mounted with `flock`; so it holds between machines, too. Storage without
locks is warned of, and there writers must be kept apart by hand.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from satseg.errors import InUseError, ResourceError

logger = logging.getLogger(__name__)

NAME = ".lock"  # in a folder that is locked
LOOK_S = 0.1
MOST_LOOKS = 100  # at a lock that others take away again and again
TAKEN = (errno.EACCES, errno.EAGAIN)
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_held: set[int] = set()  # descriptors: a lock is held until all copies of its descriptor are closed


def _let_go() -> None:
    """In a copy of this process, such as a loader's worker: it writes nothing, and may outlive this one."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def held() -> tuple[int, ...]:
    """Return the descriptors of this process's locks, for the processes that write in its stead."""
    return tuple(sorted(_held))


def adopt(descriptors: Iterable[int]) -> None:
    """Hold, until this process ends, the locks that the one that started it `held`."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        _held.add(descriptor)


@contextmanager
def alone_at(output: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing a file, by a lock beside it.

    Args:
        output: The file; its folder is made where it is missing.
        patience_s: How long to wait for another one to end.

    Raises:
        InUseError: If another process writes it; says which.
        ResourceError: If nothing can be written there.
    """
    lock = output.with_name(f".{output.name}{NAME}")
    with alone(lock, str(output), "name another output", patience_s):
        yield


@contextmanager
def alone_in(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing into a folder, as `alone_at` does for a file."""
    with alone(folder / NAME, str(folder), "name another output", patience_s):
        yield


@contextmanager
def alone(lock: Path, subject: str, otherwise: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a lock for the length of a block. Folders that were made for it and stay empty are removed.

    Args:
        lock: Its file.
        subject: What it stands for, in the message.
        otherwise: What else the user can do than wait, in the message.
        patience_s: How long to wait for another process to end.

    Raises:
        InUseError: If another process holds it.
        ResourceError: If the file cannot be made.
    """
    made = [folder for folder in lock.parents if not folder.exists()]
    try:
        descriptor = _patiently_locked(lock, patience_s)
    except OSError as error:
        remove_empty(made)
        if isinstance(error, PermissionError) and os.access(lock, os.F_OK):
            advice = f"remove it if nothing of theirs runs there any more, or {otherwise}"
            raise ResourceError(f"{lock} is another user's: {advice}.") from error
        raise ResourceError(f"{lock.parent} cannot be written ({error.strerror}): {otherwise}.") from error
    if descriptor is None:
        raise InUseError(f"{subject} is in use by {_holder(lock)}: wait until it has ended, or {otherwise}.")
    try:
        yield
    finally:
        if descriptor in _held:  # else this is a copy of the process that holds it
            with suppress(OSError):
                lock.unlink()
            _held.discard(descriptor)
            os.close(descriptor)
            remove_empty(made)


def is_free(lock: Path) -> bool:
    """Tell whether no process holds a lock at this moment."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        return _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, up to the first one that is not."""
    with suppress(OSError):  # one that is not empty, and so those that it lies in
        for folder in folders:
            folder.rmdir()


def _patiently_locked(lock: Path, patience_s: float) -> int | None:
    deadline = time.monotonic() + patience_s
    while (descriptor := _locked(lock)) is None and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return descriptor


def _locked(lock: Path) -> int | None:
    """Lock a file, and write into it who holds it; None where another process does."""
    looks = 0
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if lock.parent.exists():
                raise
            continue  # its last holder has just taken the empty folder away
        try:
            if not _try(descriptor, fcntl.LOCK_EX):
                os.close(descriptor)
                return None
            if (looks := looks + 1) == MOST_LOOKS:
                logger.warning("%s: this storage does not know its files again, so its locks may not hold.", lock)
            if looks == MOST_LOOKS or _is_at(descriptor, lock):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                _held.add(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder ended and took it away meanwhile: a third may hold the one that is there now


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        if error.errno not in WITHOUT_LOCKS:
            raise
        if how == fcntl.LOCK_EX:
            logger.warning("This storage keeps no locks (%s): take care that nothing else writes there.", error)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8")[:200] or "another process"
    except (OSError, ValueError):
        return "another process"
