"""The page: which handler answers to which part."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from satseg.errors import SatsegError
from satseg.serving import fragments, handlers, views
from satseg.serving.downloads import ENDINGS
from satseg.serving.evidence import Asked
from satseg.serving.handlers import Handlers, Result, Telling
from satseg.serving.layout import EMPTY, HINT, LOST, NO_MAP, REGIONS, RESULT, Layout, class_choices, target_choices
from satseg.serving.maps import map_page
from satseg.serving.served import Served
from satseg.serving.sessions import Session, Work
from satseg.visualization.display import display_bands

Updates = dict[Any, Any]


class Page(Layout):
    """The page's parts, and what each does.

    Args:
        app: Its handlers.
    """

    def __init__(self, app: Handlers) -> None:
        super().__init__(list(app.served), next(iter(app.served.values())), app.sessions.keep_seconds)
        self.app = app
        with self.blocks:
            self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        shown = [
            self.status, self.cancel, self.empty, self.result, self.picture, self.compare, self.confidence, self.areas,
            self.pixel, self.bands_box, *self.bands, self.evidence, self.evidence_map, self.map, self.downloads_note,
            *self.downloads,
        ]  # fmt: skip
        seen = [self.opacity, self.classes]
        look = [*seen, *self.bands]
        pictures = [self.picture, self.compare, self.status]
        started = [*shown, self.tabs, self.file, self.gallery]  # at any time: the last one counts
        self.file.upload(self.on_upload, [self.file, self.model, *seen], started, trigger_mode="multiple", **quiet)
        self.gallery.select(self.on_example, [self.model, *seen], started, trigger_mode="multiple", **quiet)
        self.file.clear(self.on_clear, None, shown, **quiet)
        self.cancel.click(self.on_cancel, None, None, queue=False, **quiet)
        named = [self.style, self.classes, self.target, self.layer, self.card, self.gallery]
        self.model.input(self.on_model, self.model, [*shown, *named], **quiet)
        for part in look:
            part.input(self.on_look, look, pictures, trigger_mode="always_last", **quiet)
        self.picture.select(self.on_click, look, [self.picture, self.pixel], **quiet)
        asked = [self.target, self.region, self.method, self.layer]
        self.ask.click(self.on_ask, asked, [self.status, self.cancel, self.evidence, self.evidence_map], **quiet)
        self.map_tab.select(self.on_map, None, self.map, **quiet)
        self.downloads_tab.select(self.on_downloads, None, [self.downloads_note, self.cancel, *self.downloads], **quiet)
        self.blocks.load(self.on_load, None, [self.gallery, self.layer], **quiet)
        self.blocks.unload(self.on_unload)

    def _session(self, request: gr.Request) -> Session:
        return self.app.sessions.of(request.session_hash)

    def on_load(self, request: gr.Request) -> Updates:
        """Fill in what takes a moment to find."""
        return self._of_model(self.app.sessions.open(request.session_hash).served)

    def on_unload(self, request: gr.Request) -> None:
        """Note that a page was closed, or that its connection broke: for Gradio that is one."""
        self.app.sessions.leave(request.session_hash)

    def on_upload(
        self, file: str | None, model: str, opacity: float, classes: list[str], request: gr.Request
    ) -> Iterator[Updates]:
        """Segment a file."""
        if file is not None:
            session = self._session(request)
            session.served = self.app.served[model]  # which a visitor who was forgotten still sees in the menu
            unchosen = {self.gallery: gr.Gallery(selected_index=None)}
            yield from self._segment(session, Path(file), opacity, classes, unchosen)

    def on_example(
        self, model: str, opacity: float, classes: list[str], chosen: gr.SelectData, request: gr.Request
    ) -> Iterator[Updates]:
        """Segment an example."""
        session = self._session(request)
        session.served = self.app.served[model]
        example = self.app.examples(session.served)[int(chosen.index)]
        yield from self._segment(session, example.path, opacity, classes, {self.file: None})

    def _segment(
        self, session: Session, file: Path, opacity: float, classes: list[str], unchosen: Updates
    ) -> Iterator[Updates]:
        work = session.begin()
        at_result = {self.tabs: gr.Tabs(selected=RESULT)}  # the others are filled when they are chosen
        yield self._nothing() | at_result | unchosen
        done = yield from self._tell(session, work, self.app.segment(work, file), self.status)
        if done:
            yield self._shown(session, work, opacity, classes) | at_result

    def _tell(
        self, session: Session, work: Work, telling: Telling[Result], part: Any
    ) -> Generator[Updates, None, Result | None]:
        """Show in a part of the page how far a job is; return what comes of it, or None if its upload is replaced."""
        result, is_over = None, False
        while not is_over:
            updates: Updates = {}
            try:
                updates = {part: next(telling)}
            except StopIteration as ended:
                result, is_over = ended.value, True
            if session.work is not work:
                work.discard()
                return None
            yield updates | {self.cancel: gr.Button(visible=work.is_busy)}
        return result

    def _nothing(self) -> Updates:
        """Return the page without a result."""
        hidden = [self.result, self.bands_box, self.evidence, self.evidence_map, self.cancel, *self.downloads]
        return {
            self.status: "",
            self.empty: gr.HTML(visible=True),
            self.map: EMPTY,
            self.downloads_note: EMPTY,
            **{part: gr.update(visible=False) for part in hidden},
        }

    def _shown(self, session: Session, work: Work, opacity: float, classes: list[str]) -> Updates:
        """Return the page with a result."""
        assert work.found is not None and work.small is not None
        info = work.found.upload.info
        names = views.band_names(info)
        chosen = display_bands(names)
        several = len(names) > 3
        updates: Updates = {
            part: gr.Dropdown([(name, i) for i, name in enumerate(names)], value=chosen[place])
            for place, part in enumerate(self.bands)
        }
        return updates | self._overlay(session, work, _look(work, opacity, classes, chosen)) | {
            self.empty: gr.HTML(visible=False),
            self.result: gr.Column(visible=True),
            self.bands_box: gr.Accordion(visible=several),
            self.confidence: session.picture(views.enlarge(views.confidence_picture(work.small))),
            self.areas: fragments.areas(work.found.areas, work.served.spec.palette),
            self.pixel: HINT,
        }  # fmt: skip

    def _overlay(self, session: Session, work: Work, look: views.Look) -> Updates:
        base, coloured = map(session.picture, handlers.overlay(work, look))
        return {self.picture: coloured, self.compare: (base, coloured)}

    def on_clear(self, request: gr.Request) -> Updates:
        """Forget the upload."""
        self._session(request).end()
        return self._nothing()

    def on_cancel(self, request: gr.Request) -> None:
        """Stop what is being computed."""
        work = self._session(request).work
        if work is not None:
            work.cancel()

    def on_model(self, name: str, request: gr.Request) -> Updates:
        """Use another model; what the last one made is no longer shown."""
        session = self._session(request)
        session.end()
        session.served = served = self.app.served[name]
        return self._nothing() | self._of_model(served) | {
            self.style: fragments.legend(served.spec.palette),
            self.classes: gr.CheckboxGroup(**class_choices(served)),
            self.target: gr.Dropdown(**target_choices(served)),
            self.card: fragments.model(served),
        }  # fmt: skip

    def _of_model(self, served: Served) -> Updates:
        examples = self.app.examples(served)
        pictures = [example.thumbnail for example in examples]
        return {
            self.gallery: gr.Gallery(pictures, visible=bool(examples), selected_index=None),
            self.layer: gr.Dropdown(["auto", "decoder", *served.layer_names], value="auto"),
        }

    def on_look(
        self, opacity: float, classes: list[str], red: int, green: int, blue: int, request: gr.Request
    ) -> Updates:
        """Show the map otherwise."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.status: fragments.problem(LOST)} if session.lost else {self.status: gr.skip()}
        return self._overlay(session, work, _look(work, opacity, classes, (red, green, blue)))

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
        """Tell of a pixel, and mark it, and the box that the last two make."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.pixel: _missing(session)}
        told = handlers.click(work, *at.index)
        _, coloured = handlers.overlay(work, _look(work, opacity, classes, (red, green, blue)))
        for kind in ("box", "pixel"):
            region = handlers.region(work, kind)
            coloured = views.marked(coloured, handlers.on_screen(work, region)) if region else coloured
        return {self.pixel: told, self.picture: session.picture(coloured)}

    def on_ask(self, target: str, region: str, method: str, layer: str, request: gr.Request) -> Iterator[Updates]:
        """Explain a class."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            yield {self.status: fragments.note(LOST if session.lost else "Give an image first.")}
            return
        kind = REGIONS[region]
        clicked = handlers.region(work, kind)
        if clicked is None and kind != "class":
            clicks = "a pixel" if kind == "pixel" else "two corners of a box"
            yield {self.status: fragments.note(f"Click {clicks} on the overlay of the result first.")}
            return
        asked = Asked(work.served.spec.class_names.index(target), clicked, method, layer)
        shown = yield from self._tell(session, work, self.app.explain(work, asked), self.status)
        if shown is not None:
            yield {
                self.evidence: gr.Image(str(shown.overlay), label=shown.title, visible=True),
                self.evidence_map: gr.DownloadButton(value=str(shown.map), visible=True),
            }

    def on_map(self, request: gr.Request) -> Updates:
        """Lay the map over a base map."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            return {self.map: _missing(session)}
        info = work.found.scene.info
        if info.crs is None or info.transform is None:
            return {self.map: NO_MAP}
        title = f"Map of {work.found.upload.name}"
        try:
            page = map_page(work.found.classes, work.served.spec.palette, title)
        except SatsegError:
            return {self.map: NO_MAP}
        return {self.map: fragments.frame(page, title)}

    def on_downloads(self, request: gr.Request) -> Iterator[Updates]:
        """Make the files to take away."""
        session = self._session(request)
        work = session.work
        if work is None or work.found is None:
            yield {self.downloads_note: _missing(session)}
            return
        found = yield from self._tell(session, work, self.app.downloads(work), self.downloads_note)
        paths = found or {}
        yield {
            button: gr.DownloadButton(_label(kind, paths[kind]), value=str(paths[kind]), visible=True)
            for kind, button in zip(ENDINGS, self.downloads, strict=True)
            if kind in paths
        }


def _missing(session: Session) -> str:
    return fragments.problem(LOST) if session.lost else EMPTY


def _look(work: Work, opacity: float, classes: Sequence[str], bands: Sequence[int]) -> views.Look:
    names = work.served.spec.class_names
    return views.Look(opacity / 100, [names.index(name) for name in classes if name in names], bands)


def _label(kind: str, path: Path) -> str:
    what = {"CSV": "Areas", "PNG": "Mask", "GeoTIFF": "Mask"}.get(kind, "Polygons")
    return f"{what} as {kind} ({path.stat().st_size / 1e3:,.3g} kB)"
