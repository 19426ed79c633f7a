"""The page: its event handlers, from choosing an image to showing the map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from satseg.serve.page import fragments, views
from satseg.serve.page.handlers import Handlers, Progress
from satseg.serve.page.layout import EMPTY, HINT, LOST, RESULT, class_choices, target_choices
from satseg.serve.page.results import Results, Updates, display_options
from satseg.serve.page.sessions import Session, Work
from satseg.serve.served_models import ServedModel
from satseg.visualization.display import display_bands

# On a phone, the examples are below the result.
TO_RESULT = "() => { if (innerWidth <= 768) document.getElementById('see').scrollIntoView(); }"


class Page(Results):
    """The whole page.

    Args:
        app: The backend.
    """

    def __init__(self, app: Handlers) -> None:
        super().__init__(app)
        with self.blocks:
            self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        shown = [
            self.status, self.notes, self.cancel, self.empty, self.refusal, self.refused, self.result, self.picture,
            self.compare, self.look, self.confidence, self.areas, self.pixel, self.bands_box, *self.bands, self.target,
            self.basis, *self.of_evidence, self.map, self.downloads_note, *self.downloads,
        ]  # fmt: skip
        seen = [self.opacity, self.classes]
        look = [*seen, *self.bands]
        pictures = [self.picture, self.compare, self.look, self.status]
        started = [*shown, self.tabs, self.file, self.gallery]  # may be triggered at any time; the latest wins
        self.file.upload(self.on_upload, [self.file, self.model, *seen], started, trigger_mode="multiple", **quiet)
        self.gallery.select(self.on_example, [self.model, *seen], started, trigger_mode="multiple", **quiet)
        self.anyway.click(self.on_anyway, seen, started, **quiet)
        # Outside the queue, so that an upload that follows at once is not handled first.
        self.gallery.select(None, js=TO_RESULT)
        self.file.clear(self.on_clear, None, shown, queue=False, **quiet)
        self.cancel.click(self.on_cancel, None, None, queue=False, **quiet)
        named = [self.style, self.classes, self.layer, self.card, self.gallery]
        self.model.input(self.on_model, self.model, [*shown, *named], **quiet)
        for part in look:
            part.input(self.on_look, look, pictures, trigger_mode="always_last", **quiet)
        self.picture.select(self.on_click, look, [self.picture, self.pixel], **quiet)
        inputs = [self.target, self.region, self.method, self.layer]
        self.explain_button.click(self.on_explain, inputs, [self.status, self.cancel, *self.of_evidence], **quiet)
        self.target.input(self.on_target, self.target, self.basis, trigger_mode="always_last", **quiet)
        self.map_tab.select(self.on_map, None, self.map, **quiet)
        self.downloads_tab.select(self.on_downloads, None, [self.downloads_note, self.cancel, *self.downloads], **quiet)
        self.blocks.load(self.on_load, None, [self.gallery, self.layer], **quiet)
        self.blocks.unload(self.on_unload)

    def on_load(self, request: gr.Request) -> Updates:
        """Fill in components that take a moment to compute."""
        return self._of_model(self.app.sessions.open(request.session_hash).served)

    def on_unload(self, request: gr.Request) -> None:
        """Handle a closed page or a lost connection, which Gradio does not tell apart."""
        self.app.sessions.leave(request.session_hash)

    def on_upload(
        self, file: str | None, model: str, opacity: float, classes: list[str], request: gr.Request
    ) -> Iterator[Updates]:
        """Segment a file."""
        if file is not None:
            session = self._session(request)
            session.served = self.app.served[model]  # the menu may show another one than an expired session
            unchosen = {self.gallery: gr.Gallery(selected_index=None)}
            yield from self._segment(session, Path(file), opacity, classes, unchosen)

    def on_example(
        self, model: str, opacity: float, classes: list[str], chosen: gr.SelectData, request: gr.Request
    ) -> Iterator[Updates]:
        """Segment an example."""
        session = self._session(request)
        session.served = self.app.served[model]
        examples = self.app.examples(session.served)
        if chosen.index in range(len(examples)):  # the previous model may have had more
            yield from self._segment(session, examples[chosen.index].path, opacity, classes, {self.file: None})

    def _segment(
        self, session: Session, file: Path, opacity: float, classes: list[str], unchosen: Updates
    ) -> Iterator[Updates]:
        work = session.begin()
        yield self._nothing() | {self.tabs: gr.Tabs(selected=RESULT)} | unchosen
        yield from self._map(session, work, self.app.segment(work, file), opacity, classes)

    def _map(
        self, session: Session, work: Work, progress: Progress[bool], opacity: float, classes: list[str]
    ) -> Iterator[Updates]:
        at_result = {self.tabs: gr.Tabs(selected=RESULT)}  # other tabs are filled when selected
        done = yield from self._show_progress(session, work, progress, self.status)
        if done:
            yield self._shown(session, work, opacity, classes) | at_result
        elif done is False and work.unlike and session.work is work:
            yield self._refused(work) | at_result

    def on_anyway(self, opacity: float, classes: list[str], request: gr.Request) -> Iterator[Updates]:
        """Segment an image that is unlike the training data."""
        session = self._session(request)
        work = session.work
        if work is None or not work.unlike or work.is_busy:
            yield {self.status: fragments.problem(LOST)} if session.lost else {self.status: gr.skip()}
            return
        yield self._nothing()
        yield from self._map(session, work, self.app.map(work, "warn"), opacity, classes)

    def _refused(self, work: Work) -> Updates:
        """Return the updates that show why an image was refused."""
        return {
            self.empty: gr.HTML(visible=False),
            self.refusal: gr.Column(visible=True),
            self.refused: fragments.unlike(work.unlike, refused=True),
        }

    def _nothing(self) -> Updates:
        """Return the updates that clear the page."""
        hidden = [self.notes, self.refusal, self.result, self.bands_box, self.cancel, *self.downloads]
        return {
            self.status: "",
            self.empty: gr.HTML(visible=True),
            self.basis: "",
            self.map: EMPTY,
            self.downloads_note: EMPTY,
            **{part: gr.update(visible=False) for part in (*hidden, *self.of_evidence)},
        }

    def _shown(self, session: Session, work: Work, opacity: float, classes: list[str]) -> Updates:
        """Return the updates that show a result."""
        assert work.found is not None and work.small is not None
        info, areas = work.found.upload.info, work.found.areas
        names = views.band_names(info)
        chosen = display_bands(names)
        largest = max(range(len(areas)), key=lambda index: areas[index].pixels)
        several = len(names) > 3
        updates: Updates = {
            part: gr.Dropdown([(name, i) for i, name in enumerate(names)], value=chosen[place])
            for place, part in enumerate(self.bands)
        }
        return updates | self._overlay(session, work, display_options(work, opacity, classes, chosen)) | {
            self.empty: gr.HTML(visible=False),
            self.notes: gr.HTML(fragments.notes(work.unlike, work.found.notes), visible=True),
            self.target: gr.Dropdown(value=areas[largest].name),
            self.basis: fragments.basis(areas, largest),
            self.result: gr.Column(visible=True),
            self.bands_box: gr.Accordion(visible=several),
            self.confidence: session.picture(views.enlarge(views.confidence_picture(work.small))),
            self.areas: fragments.areas(areas, work.served.spec.palette),
            self.pixel: HINT,
        }  # fmt: skip

    def on_clear(self, request: gr.Request) -> Updates:
        """Discard the upload."""
        self._session(request).end()
        return self._nothing()

    def on_cancel(self, request: gr.Request) -> None:
        """Cancel the current job."""
        work = self._session(request).work
        if work is not None:
            work.cancel()

    def on_model(self, name: str, request: gr.Request) -> Updates:
        """Switch to another model, and clear the result of the previous one."""
        session = self._session(request)
        session.end()
        session.served = served = self.app.served[name]
        return self._nothing() | self._of_model(served) | {
            self.style: fragments.checkbox_style(served.spec.palette),
            self.classes: gr.CheckboxGroup(**class_choices(served)),
            self.target: gr.Dropdown(**target_choices(served)),
            self.card: fragments.model(served),
        }  # fmt: skip

    def _of_model(self, served: ServedModel) -> Updates:
        examples = self.app.examples(served)
        pictures = [example.thumbnail for example in examples]
        return {
            self.gallery: gr.Gallery(pictures, visible=bool(examples), selected_index=None),
            self.layer: gr.Dropdown(["auto", "decoder", *served.layer_names], value="auto"),
        }
