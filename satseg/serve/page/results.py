"""Handlers of a finished map: display, explanation, base map and downloads."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from satseg.errors import SatsegError
from satseg.files import size_text
from satseg.serve.evidence import ExplainRequest
from satseg.serve.page import fragments, handlers, views
from satseg.serve.page.downloads import SUFFIXES
from satseg.serve.page.handlers import Handlers, Progress, Result
from satseg.serve.page.layout import EMPTY, LOOK, LOST, NO_MAP, REFUSED, REGIONS, Layout
from satseg.serve.page.maps import map_page
from satseg.serve.page.sessions import Session, Work

Updates = dict[Any, Any]


class Results(Layout):
    """The page's components, with the event handlers of a finished map.

    Args:
        app: The backend.
    """

    def __init__(self, app: Handlers) -> None:
        super().__init__(list(app.served), next(iter(app.served.values())), app.sessions.keep_seconds)
        self.app = app
        self.of_evidence = [self.evidence_text, self.evidence, self.evidence_map]

    def _session(self, request: gr.Request) -> Session:
        return self.app.sessions.of(request.session_hash)

    def _show_progress(
        self, session: Session, work: Work, progress: Progress[Result], part: Any
    ) -> Generator[Updates, None, Result | None]:
        """Show a job's progress in a component; return its result, or None if the upload was replaced."""
        result, is_over = None, False
        while not is_over:
            updates: Updates = {}
            try:
                updates = {part: next(progress)}
            except StopIteration as ended:
                result, is_over = ended.value, True
            if session.work is not work:
                work.discard()
                return None
            yield updates | {self.cancel: gr.Button(visible=work.is_busy)}
        return result

    def _overlay(self, session: Session, work: Work, look: views.DisplayOptions) -> Updates:
        base, coloured = map(session.picture, handlers.overlay(work, look))
        return {self.picture: coloured, self.compare: (base, coloured), self.look: fragments.look(look)}

    def on_look(
        self, opacity: float, classes: list[str], red: int, green: int, blue: int, request: gr.Request
    ) -> Updates:
        """Update the display of the map."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.status: fragments.problem(LOST)} if session.lost else {self.status: gr.skip()}
        return self._overlay(session, work, display_options(work, opacity, classes, (red, green, blue)))

    def on_click(
        self,
        opacity: float,
        classes: list[str],
        red: int,
        green: int,
        blue: int,
        at: gr.SelectData,
        request: gr.Request,
    ) -> Updates:
        """Show the prediction for a pixel, and mark it and the box between the last two clicks."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.pixel: _missing(session)}
        html = handlers.click(work, *at.index)
        _, coloured = handlers.overlay(work, display_options(work, opacity, classes, (red, green, blue)))
        for kind in ("box", "pixel"):
            region = handlers.region(work, kind)
            coloured = views.marked(coloured, handlers.on_screen(work, region)) if region else coloured
        return {self.pixel: html, self.picture: session.picture(coloured)}

    def on_explain(self, target: str, region: str, method: str, layer: str, request: gr.Request) -> Iterator[Updates]:
        """Explain a class."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            yield {self.status: fragments.note(LOST if session.lost else "Upload an image first.")}
            return
        kind = REGIONS[region]
        clicked = handlers.region(work, kind)
        if clicked is None and kind != "class":
            clicks = "a pixel" if kind == "pixel" else "two corners of a box"
            yield {self.status: fragments.note(f"Click {clicks} on the overlay of the result first.")}
            return
        query = ExplainRequest(work.served.spec.class_names.index(target), clicked, method, layer)
        shown = yield from self._show_progress(session, work, self.app.explain(work, query), self.status)
        if shown is not None:
            yield {
                self.evidence_text: gr.HTML(fragments.evidence(shown, work.served), visible=True),
                self.evidence: gr.Image(session.picture(views.enlarge(views.read(shown.overlay))), visible=True),
                self.evidence_map: gr.DownloadButton(value=str(shown.map), visible=True),
            }

    def on_target(self, target: str, request: gr.Request) -> Updates:
        """Show the area of the class to explain."""
        work = self._session(request).work
        if work is None or work.found is None:
            return {self.basis: ""}
        return {self.basis: fragments.basis(work.found.areas, work.served.spec.class_names.index(target))}

    def on_map(self, request: gr.Request) -> Updates:
        """Show the map over a base map."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.map: _missing(session)}
        info = work.found.scene.info
        if info.crs is None or info.transform is None:
            return {self.map: NO_MAP}
        title = f"Map of {work.found.upload.name}"
        try:
            page = map_page(work.found.classes, work.served.spec, title, LOOK)
        except SatsegError:
            return {self.map: NO_MAP}
        return {self.map: fragments.frame(page, title)}

    def on_downloads(self, request: gr.Request) -> Iterator[Updates]:
        """Write the downloads."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            yield {self.downloads_note: _missing(session)}
            return
        found = yield from self._show_progress(session, work, self.app.downloads(work), self.downloads_note)
        paths = found or {}
        yield {
            button: gr.DownloadButton(_label(kind, paths[kind]), value=str(paths[kind]), visible=True)
            for kind, button in zip(SUFFIXES, self.downloads, strict=True)
            if kind in paths
        }


def _missing(session: Session) -> str:
    if session.lost:
        return fragments.problem(LOST)
    return REFUSED if session.work is not None and session.work.unlike else EMPTY


def display_options(work: Work, opacity: float, classes: Sequence[str], bands: Sequence[int]) -> views.DisplayOptions:
    """Return the display options from the page's component values."""
    names = work.served.spec.class_names
    return views.DisplayOptions(opacity / 100, [names.index(name) for name in classes if name in names], bands)


def _label(kind: str, path: Path) -> str:
    what = {"CSV": "Areas", "PNG": "Mask", "GeoTIFF": "Mask"}.get(kind, "Polygons")
    size = size_text(path.stat().st_size).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{what} as {kind} ({size})"
