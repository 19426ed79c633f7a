"""Verdicts on mutated files: accepted, refused, or a fault of satseg; and the memory that they took."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mutated_compare import WrongError
from mutated_originals import Kind

FILL, OTHER_FILL = 85, 170  # bytes that memory is filled with for satseg and for the comparison: unset memory differs
M_PERTURB = -6  # of mallopt in glibc


def use_in(way: Any, path: Path, kind: Kind) -> dict[str, Any]:
    """Pass a file to satseg; return the verdict, its reason, and the memory in bytes.

    The memory is the peak of the process that runs satseg, without the comparison, and its increase by this file.
    """
    found: dict[str, Any] = {"verdict": "crash", "reason": "", "peak": 0, "added": 0}
    verdict, reason = _judged(way, path, kind, found)
    return found | {"verdict": verdict, "reason": reason}


def _judged(way: Any, path: Path, kind: Kind, memory: dict[str, Any]) -> tuple[str, str]:
    from satseg.cli import describe
    from satseg.errors import SatsegError

    try:
        before = peak_bytes(way.pid, reset=True)
        try:
            with _quiet():
                compare = way(path, kind)
        finally:
            memory["peak"] = peak_bytes(way.pid)
            memory["added"] = memory["peak"] - before
        _fill_memory(OTHER_FILL)
        compare()
    except SatsegError as error:
        message = describe(error) or ""
        clear = "\n" not in str(error).strip() and path.suffix in message and len(message) < 1000
        return ("refused", type(error).__name__) if clear else ("unclear", message)
    except WrongError as error:
        return "wrong", str(error)
    except TimeoutError:
        return "hang", ""
    except (ConnectionError, ProcessLookupError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and Path(f"/proc/{way.pid}").exists():
            return "traceback", traceback.format_exc()
        return "crash", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        _fill_memory(FILL)
    return "accepted", ""


def _fill_memory(value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt:
        mallopt(M_PERTURB, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep stderr, also of libraries in C, out of the terminal; raise an error if it contains a traceback."""
    with tempfile.TemporaryFile() as capture:
        kept = os.dup(2)
        os.dup2(capture.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        capture.seek(0)
        if b"Traceback" in (text := capture.read()):
            raise RuntimeError(text.decode(errors="replace")[-3000:])


def peak_bytes(pid: int, reset: bool = False) -> int:
    """Return the peak memory of a process since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
