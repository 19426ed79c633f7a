"""Handlers of the page's events, independent of its layout."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from satseg.errors import CancelledError, PreflightError, SatsegError, UploadError
from satseg.serve.estimates import MAP_PAGE, PICTURE, POLYGONS, Estimate
from satseg.serve.evidence import ExplainRequest, Explanation, estimate_evidence, explain_upload
from satseg.serve.jobs import Jobs
from satseg.serve.map_exports import num_corners
from satseg.serve.page import fragments, views
from satseg.serve.page.downloads import SUFFIXES, write_downloads
from satseg.serve.page.examples import Example, find_examples
from satseg.serve.page.sessions import Sessions, Work
from satseg.serve.page.views import Thumbnails, probabilities_at, thumbnails
from satseg.serve.public_messages import FAILED, public_message
from satseg.serve.segmenting import Segmented, segment_upload
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Continuation, Ticket
from satseg.serve.uploads import Limits, check_upload

Result = TypeVar("Result")
Progress = Generator[str, None, Result]  # yields HTML of a job's progress, returns its result
logger = logging.getLogger(__name__)

UNLIKE = "classes_of_unlike_image"  # in the file names of maps made in spite of a preflight error
POLL_SECONDS = 0.3  # between updates of a job's progress


@dataclass(frozen=True)
class Handlers:
    """The page's backend.

    Attributes:
        served: The models by name.
        jobs: The job queue.
        sessions: The visitors' sessions.
        limits: Maximum size of uploads.
        root: Folder of files that all visitors share.
    """

    served: dict[str, ServedModel]
    jobs: Jobs
    sessions: Sessions
    limits: Limits
    root: Path
    _examples: dict[str, list[Example]] = field(default_factory=dict)

    def examples(self, served: ServedModel) -> list[Example]:
        """Return example images for a model, cached after the first call."""
        if served.name not in self._examples:
            self._examples[served.name] = find_examples(served, self.root)
        return self._examples[served.name]

    def segment(self, work: Work, file: Path) -> Progress[bool]:
        """Check a file and segment it unless it is unlike the training data; return whether there is a map.

        Args:
            work: The visitor's new upload.
            file: The chosen file; left in place, as others may use it, too.
        """
        try:
            work.upload = check_upload(_link_or_copy(file, work.folder / "upload"), file.name, self.limits)
            (work.folder / "map").mkdir()
        except Exception as error:
            work.discard()
            yield error_html(error, work.folder, file.name)
            return False
        return (yield from self.map(work, "stop"))

    def map(self, work: Work, preflight: str) -> Progress[bool]:
        """Segment a checked upload; return whether there is a map.

        Args:
            work: The visitor's upload; its differences from the training data are stored here.
            preflight: `stop` at a scene unlike the training data, or only `warn`.
        """
        upload, kind = work.upload, "classes" if preflight == "stop" else UNLIKE
        assert upload is not None

        def compute(ticket: Ticket) -> tuple[Segmented, Thumbnails]:
            found = segment_upload(work.served, upload, work.folder / "map", ticket, preflight, kind)
            ticket.tick(0)
            return found, thumbnails(found, views.SIDE)

        try:
            estimate = work.served.costs.estimate(MAP_PAGE, upload.info.width * upload.info.height)
            work.found, work.small = yield from self._watch(work, compute, estimate, f"Segmenting {upload.name}")
        except PreflightError as error:
            work.unlike = tuple(upload.public_text(finding) for finding in error.findings)
        except Exception as error:
            work.discard()
            work.unlike = ()
            yield error_html(error, work.folder, upload.name)
            return False
        yield ""
        return work.found is not None

    def explain(self, work: Work, query: ExplainRequest) -> Progress[Explanation | None]:
        """Explain a class in the current map; return None if that fails."""
        assert work.found is not None
        name, info = work.found.upload.name, work.found.upload.info
        folder = work.folder / secrets.token_hex(8)  # new each time, as browsers cache by URL
        try:
            computed = partial(explain_upload, work.served, work.found, query, folder)
            estimate = estimate_evidence(work.served, info.width * info.height, query.method)
            shown = yield from self._watch(work, computed, estimate, "Looking for evidence")
        except Exception as error:
            yield error_html(error, work.folder, name)
            return None
        nothing = f"There is no evidence for {work.served.spec.class_names[query.target]} at this layer."
        yield "" if shown.has_evidence else fragments.note(nothing)
        return shown

    def downloads(self, work: Work) -> Progress[dict[str, Path]]:
        """Write the downloads of the current map; return none if that fails."""
        assert work.found is not None
        found, names, costs = work.found, work.served.spec.class_names, work.served.costs

        def count_corners(ticket: Ticket) -> dict[str, Path] | Continuation[dict[str, Path]]:
            corners = num_corners(found.classes, len(names), ticket)
            ticket.complete()
            return Continuation(partial(write_downloads, found, names), costs.estimate(POLYGONS, 2 * corners))

        try:
            estimate = costs.estimate(PICTURE, found.upload.info.width * found.upload.info.height)
            paths = yield from self._watch(work, count_corners, estimate, "Preparing the files")
        except Exception as error:
            yield error_html(error, work.folder, found.upload.name)
            return {}
        missing = " and ".join(kind for kind in SUFFIXES if kind not in paths)
        yield fragments.note(f"{missing} cannot be written for this map.") if missing else ""
        return paths

    def _watch(
        self, work: Work, compute: Callable[[Ticket], Result | Continuation[Result]], estimate: Estimate, what: str
    ) -> Progress[Result]:
        job = self.jobs.submit(compute, estimate)
        work.job = job
        while not job.wait(POLL_SECONDS):
            if job.ticket.cancelled:  # the job may take a while to notice
                raise CancelledError("Cancelled.")
            yield fragments.progress(job.ticket, what)
        return job.result()


def _link_or_copy(file: Path, target: Path) -> Path:
    """Link or copy a file, as Gradio has one path for all uploads of the same content."""
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or not permitted
        try:
            shutil.copyfile(file, target)
        except FileNotFoundError as error:
            raise UploadError(f"{file.name} no longer exists; upload it again.") from error
    return target


def error_html(error: Exception, folder: Path, name: str) -> str:
    """Render an error for a visitor: one sentence, without the server's paths or command-line options."""
    if isinstance(error, CancelledError):
        return fragments.note("Cancelled.")
    if not isinstance(error, SatsegError):
        logger.exception("A job failed", exc_info=error)
        return fragments.problem(FAILED)
    return fragments.problem(public_message(str(error), folder, name))


def overlay(work: Work, look: views.DisplayOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return the image without and with the class colours, uint8 (h, w, 3), enlarged if it is tiny."""
    assert work.found is not None and work.small is not None
    info, small = work.found.upload.info, work.small
    base = views.picture_of(info, small.image, small.valid, look.bands)
    coloured = views.overlaid(base, small, work.served.spec, look)
    return views.enlarge(base), views.enlarge(coloured)


def click(work: Work, x: int, y: int) -> str:
    """Store a click on the enlarged image, and render the prediction for the pixel."""
    assert work.found is not None and work.small is not None
    height, width = (n * views.factor_of(work.small.valid.shape) for n in work.small.valid.shape)
    info = work.found.scene.info
    col = min(max(int((x + 0.5) * info.width / width), 0), info.width - 1)
    row = min(max(int((y + 0.5) * info.height / height), 0), info.height - 1)
    work.clicks = (*work.clicks, (col, row))[-2:]
    return fragments.pixel(work.found, work.served, col, row, probabilities_at(work.found, col, row))


def region(work: Work, kind: str) -> tuple[int, ...] | None:
    """Return the clicked region: a pixel, or the box between the last two; None if there is none."""
    needed = {"pixel": 1, "box": 2}.get(kind, 0)
    if not needed or len(work.clicks) < needed:
        return None
    if kind == "pixel":
        return work.clicks[-1]
    (a, b), (c, d) = work.clicks
    return min(a, c), min(b, d), abs(a - c) + 1, abs(b - d) + 1


def on_screen(work: Work, region: Sequence[int]) -> tuple[int, ...]:
    """Convert a region of the image to pixels of the enlarged image."""
    assert work.found is not None and work.small is not None
    shape, info = work.small.valid.shape, work.found.scene.info
    factor = views.factor_of(shape)
    across, down = shape[1] * factor / info.width, shape[0] * factor / info.height
    return tuple(int(n * (down if i % 2 else across)) for i, n in enumerate(region))
