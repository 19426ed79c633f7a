"""Import of optional packages, without their log output and telemetry."""

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
    """Return whether all packages are installed, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in names)


def load_package(name: str) -> Any:
    """Import an optional package.

    Raises:
        MissingPackageError: If it is not installed; names the extra that includes it.
    """
    # Both send telemetry unless it is disabled before the import.
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
    """Suppress output, warnings and logging of exporters; exceptions propagate."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def export_errors(message: str) -> Iterator[None]:
    """Run an exporter quietly, and turn its exceptions into an `ExportError` of one line.

    Args:
        message: What failed; the start of the error message.

    Raises:
        ExportError: With the message and the reason.
    """
    try:
        with quiet():
            yield
    except (OSError, SatsegError):
        raise
    except Exception as error:  # exporters raise their own types
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ExportError(f"{message} ({reason}).") from error
