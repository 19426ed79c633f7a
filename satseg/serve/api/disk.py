"""What becomes of a request when the disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from satseg.errors import ResourceError


@contextmanager
def writing() -> Iterator[None]:
    """Tell clients to come back when the block cannot write.

    Raises:
        ResourceError: If the system cannot: no space, no right.
    """
    try:
        yield
    except TimeoutError:  # an OSError by inheritance, and about the client
        raise
    except OSError as error:
        raise ResourceError(f"The image cannot be kept on the server ({error.strerror}); try again later.") from error
