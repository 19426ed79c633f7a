"""Optional packages: what to install where one is missing, without their chatter and without their telemetry."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from satseg.errors import ExportError, MissingPackageError, SatsegError

EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx", "openvino": "openvino", "nncf": "int8"}


def installed(*names: str) -> bool:
    """Tell whether all packages are there, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in names)


def load_package(name: str) -> Any:
    """Import an optional package.

    Raises:
        MissingPackageError: Says which extra has it.
    """
    # Both report each use to their makers unless this is said before they are imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingPackageError(
            f"The package {name} is needed, but cannot be imported ({reason}): pip install 'satseg[{EXTRAS[name]}]'."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print, warn of and log to themselves; their errors go through."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Run an exporter quietly, and turn whatever goes wrong in it into one line.

    Args:
        what: What cannot be done then.

    Raises:
        ExportError: Says what, and the reason.
    """
    try:
        with quiet():
            yield
    except (OSError, SatsegError):
        raise
    except Exception as error:  # of whichever library
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ExportError(f"{what} ({reason}).") from error
