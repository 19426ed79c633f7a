"""Every error that satseg raises on purpose: one line that says what, where, what was expected, what to do."""

from collections.abc import Sequence

OUT_OF_MEMORY_SIGNS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",  # oneDNN
    "could not execute a primitive",
)


class SatsegError(Exception):
    """Something the user can mend; entry points print it as one line, without a traceback.

    Args:
        message: The line.
        below: Lines that entry points print below it, indented, such as the folders that were looked into.
    """

    def __init__(self, message: str = "", *, below: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.below = tuple(below)


class ConfigError(SatsegError):
    """An option has a wrong type, value or combination."""


class PreflightError(ConfigError):
    """A scene is unlike what the model was trained on.

    Args:
        message: The line for the user.
        findings: What speaks against the scene, a sentence each.
    """

    def __init__(self, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class SpecError(ConfigError, ValueError):
    """A dataset spec contradicts itself; a ValueError too, so that a schema says where in a document it stands."""


class DataError(SatsegError):
    """Something is wrong with a dataset as a whole: a missing folder, no pairs, an impossible split."""


class RasterReadError(DataError):
    """A file is missing, truncated, or no raster."""


class UploadError(DataError):
    """A file from outside cannot be taken."""


class UploadTypeError(UploadError):
    """It is no image of a kind that is taken."""


class UploadTooLargeError(UploadError):
    """It has too many bytes or pixels."""


class UploadTimeoutError(UploadError):
    """It did not come in time."""


class BandError(DataError):
    """A band number or count is not what the raster has."""


class DataChangedError(DataError):
    """A file of a dataset is not what it was when the run began."""


class SizeMismatchError(DataError):
    """An image and its mask differ in size."""


class MaskValueError(DataError):
    """A mask holds a value or colour outside the classes."""


class ModelError(SatsegError):
    """A model cannot be built as asked."""


class ModelPairError(ModelError):
    """This decoder does not work on this backbone."""


class BackboneWeightsError(ModelError):
    """Pretrained weights cannot be had or do not fit."""


class LayerError(SatsegError):
    """A layer's activation cannot be shown as a map."""


class EmptyRegionError(SatsegError):
    """The region to explain has no pixel."""


class CheckpointError(SatsegError):
    """A model file is missing, broken, of another version, or asks for something it must not."""


class ExportError(SatsegError):
    """A model cannot be written in a format, or what was written disagrees with PyTorch."""


class FixedSizeError(ExportError):
    """A model can only be written for images of one size."""


class EngineError(SatsegError):
    """An engine cannot compute what it is asked for."""


class MissingPackageError(SatsegError):
    """An optional package is not installed."""


class RunError(SatsegError):
    """A run folder cannot be made, found or continued."""


class RecordError(RunError):
    """A file that a run has recorded is missing, broken, or no such record."""


class InterruptedRunError(RunError):
    """The user stopped a run."""


class SweepError(RunError):
    """Runs of a sweep have no score."""


class DivergedError(SatsegError):
    """The loss is no longer a number."""


class ResourceError(SatsegError):
    """Memory or disk ran out."""


class InUseError(SatsegError):
    """Another process writes what this one was to write."""


class WorkerLostError(ResourceError):
    """A process that works for this one was killed."""


class RetryLaterError(SatsegError):
    """What a client asks for can be had later.

    Attributes:
        seconds: After which it is worth asking again, where that is known.
    """

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class BusyError(RetryLaterError):
    """More is asked of a server than it can take on."""


class ShuttingDownError(BusyError):
    """A server takes no more, as it is about to end."""


class NotAcceptableError(SatsegError):
    """A client takes no kind of answer that there is."""


class NotFoundError(SatsegError):
    """What a client names does not exist."""


class NotReadyError(RetryLaterError):
    """What a client asks for is not ready."""


class CancelledError(SatsegError):
    """The user stopped a job."""


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error, and those that it was raised from or while handling, the latest first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on whichever device."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS)


def printable(text: str) -> str:
    """Return a text with a question mark for each character that no terminal shows, as files from outside may have."""
    return "".join(c if c.isprintable() else "?" for c in text)
