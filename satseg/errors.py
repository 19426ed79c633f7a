"""Errors of satseg, whose messages are one line: what is wrong, where, what was expected and what to do."""

import traceback
from collections.abc import Sequence
from pathlib import Path

OUT_OF_MEMORY_SIGNS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",  # oneDNN
    "could not execute a primitive",
)


class SatsegError(Exception):
    """An error that the user can fix; entry points print it as one line, without a traceback.

    Args:
        message: The line.
        below: Lines that entry points print below the message, indented, such as the searched folders.
    """

    def __init__(self, message: str = "", *, below: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.below = tuple(below)


class ConfigError(SatsegError):
    """An option has a wrong type, value or combination."""


class PreflightError(ConfigError):
    """A scene is unlike the data that the model was trained on.

    Args:
        message: The line for the user.
        findings: A sentence for each problem of the scene.
    """

    def __init__(self, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class SpecError(ConfigError, ValueError):
    """A dataset spec is inconsistent; also a ValueError, so that pydantic reports its place in a document."""


class ExtensionError(SatsegError):
    """A class of the user's own lacks what satseg needs of it, or its code fails."""


class DataError(SatsegError):
    """Something is wrong with a dataset as a whole: a missing folder, no pairs, an impossible split."""


class RasterReadError(DataError):
    """A file is missing, truncated, or not a raster."""


class UploadError(DataError):
    """An uploaded file cannot be accepted."""


class UploadTypeError(UploadError):
    """An upload is not an image of an accepted type."""


class UploadTooLargeError(UploadError):
    """An upload has too many bytes or pixels."""


class UploadTimeoutError(UploadError):
    """An upload did not arrive in time."""


class BandError(DataError):
    """A band number or count does not match the raster."""


class DataChangedError(DataError):
    """A file of a dataset has changed since the run began."""


class SizeMismatchError(DataError):
    """An image and its mask differ in size."""


class MaskValueError(DataError):
    """A mask holds a value or colour outside the classes."""


class ModelError(SatsegError):
    """A model cannot be built as configured."""


class ModelPairError(ModelError):
    """This decoder does not work on this backbone."""


class BackboneWeightsError(ModelError):
    """Pretrained weights cannot be obtained or do not fit."""


class LayerError(SatsegError):
    """A layer's activation cannot be shown as a map."""


class EmptyRegionError(SatsegError):
    """The region to explain has no pixels."""


class CheckpointError(SatsegError):
    """A model file is missing, corrupt, of another version, or names something not allowed."""


class ExportError(SatsegError):
    """A model cannot be exported to a format, or the exported model disagrees with PyTorch."""


class FixedSizeError(ExportError):
    """A model can only be exported for images of one size."""


class EngineError(SatsegError):
    """An engine does not support the requested computation."""


class MissingPackageError(SatsegError):
    """An optional package is not installed."""


class RunError(SatsegError):
    """A run folder cannot be created, found or resumed."""


class RecordError(RunError):
    """A record of a run is missing, corrupt or invalid."""


class InterruptedRunError(RunError):
    """The user stopped a run."""


class SweepError(RunError):
    """Some runs of a sweep have no score."""


class DivergedError(SatsegError):
    """The loss or a weight is no longer finite."""


class ResourceError(SatsegError):
    """Memory or disk ran out."""


class InUseError(SatsegError):
    """Another process is using a file or folder that this one needs."""


class WorkerLostError(ResourceError):
    """A worker process was killed."""


class RetryLaterError(SatsegError):
    """A client's request can succeed later.

    Attributes:
        seconds: Time after which to retry, if known.
    """

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class BusyError(RetryLaterError):
    """A server has too many requests."""


class ShuttingDownError(BusyError):
    """A server accepts no more requests, as it is shutting down."""


class NotAcceptableError(SatsegError):
    """A client accepts no available media type."""


class NotFoundError(SatsegError):
    """A resource that a client requests does not exist."""


class NotReadyError(RetryLaterError):
    """A resource that a client requests is not ready."""


class CancelledError(SatsegError):
    """The user cancelled a job."""


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and its chain of causes and contexts, the latest first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def line_within(error: BaseException, name: str) -> str | None:
    """Return the last line of a package that an error passed through, as `losses.py:12`; None if there is none.

    Args:
        error: The error.
        name: Name of a module; its top-level package counts.
    """
    package = name.partition(".")[0]
    lines = [
        (Path(frame.f_code.co_filename), number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package
    ]
    if not lines:
        return None
    path, number = lines[-1]
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{number}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that memory ran out, on any device."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS)


def printable(text: str) -> str:
    """Return a text with unprintable characters, as untrusted files may contain, replaced by question marks."""
    return "".join(c if c.isprintable() else "?" for c in text)
