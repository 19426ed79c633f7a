"""Layout of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from satseg.attribution import METHODS
from satseg.serve.page import fragments
from satseg.serve.page.downloads import SUFFIXES
from satseg.serve.served_models import ServedModel

HEAD = "<div class='satseg-head'><h1>satseg</h1><p>Segments satellite and aerial images into classes.</p></div>"
EMPTY = "<div class='empty'><b>No image yet</b>Drop a file into the box, or pick an example.</div>"
LOST = "The connection was lost; upload the image again."
HINT = "<p class='hint'>Click a pixel of the overlay for its probabilities.</p>"
REFUSED = "<div class='empty'><b>Not segmented</b>See the tab Result for the reason.</div>"
NO_MAP = "<p class='hint'>The image is not georeferenced, so it cannot be shown on a map.</p>"
REGIONS = {
    "whole class": "class",
    "clicked pixel": "pixel",
    "clicked box": "box",
}
RESULT = "result"
LOOK = "look"  # component with the display options, which the base map's page reads
FILE_TYPES = [".tif", ".tiff", ".png", ".jpg", ".jpeg"]
SWEEP_SECONDS = 60  # maximum between Gradio's removals of old uploads
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
CSS = Path(__file__).with_name("app.css")


def theme() -> gr.themes.Base:
    """Return a theme that loads no fonts from other servers."""
    mono = ("ui-monospace", "SFMono-Regular", "monospace")
    return gr.themes.Soft(primary_hue="emerald", neutral_hue="slate", font=FONTS, font_mono=mono)


class Layout:
    """The page's components, without event handlers.

    Args:
        names: Names of the models.
        served: The model that is selected first.
        keep_seconds: Time for which Gradio keeps uploads.
    """

    def __init__(self, names: list[str], served: ServedModel, keep_seconds: float) -> None:
        age = max(1, round(keep_seconds))
        with gr.Blocks(title="satseg", fill_width=True, delete_cache=(min(age, SWEEP_SECONDS), age)) as self.blocks:
            gr.HTML(HEAD)
            self.style = gr.HTML(fragments.checkbox_style(served.spec.palette), elem_classes="unseen")
            self.look = gr.HTML(elem_classes="unseen", elem_id=LOOK)
            with gr.Row(elem_id="parts"):  # arranged by app.css
                with gr.Column(elem_id="give"):
                    self._build_input(names, served)
                with gr.Column(elem_id="try"):
                    self._build_gallery()
                with gr.Column(elem_id="tune"):
                    self._build_look(served)
                with gr.Column(elem_id="see"):
                    self.status = gr.HTML("")
                    self.notes = gr.HTML(visible=False)
                    with gr.Tabs() as self.tabs:
                        self._build_result(served)
                        self._build_explain(served)
                        self._build_map()
                        self._build_downloads()
                        with gr.Tab("Model"):
                            self.card = gr.HTML(fragments.model(served))

    def _build_input(self, names: list[str], served: ServedModel) -> None:
        self.model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model")
        self.file = gr.File(label="Image: PNG, JPEG or GeoTIFF", file_types=FILE_TYPES, height=180, elem_id="upload")
        self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")

    def _build_gallery(self) -> None:
        self.gallery = gr.Gallery(
            label="Or pick an example",
            columns=4,
            height=150,
            allow_preview=False,
            interactive=False,
            buttons=[],
            object_fit="cover",
            elem_id="examples",
            visible=False,
        )

    def _build_look(self, served: ServedModel) -> None:
        with gr.Group():
            self.classes = gr.CheckboxGroup(label="Classes", elem_id="classes", **class_choices(served))
            self.opacity = gr.Slider(0, 100, 50, step=5, label="Opacity (%)", elem_id="opacity")
        with gr.Accordion("Bands on the screen", open=False, visible=False) as self.bands_box:
            self.bands = [gr.Dropdown([], label=colour, elem_id=colour) for colour in ("Red", "Green", "Blue")]

    def _build_result(self, served: ServedModel) -> None:
        with gr.Tab("Result", id=RESULT, elem_id=RESULT):
            self.empty = gr.HTML(EMPTY, elem_id="empty")
            with gr.Column(visible=False) as self.refusal:
                self.refused = gr.HTML()
                self.anyway = gr.Button("Segment it anyway", variant="stop", elem_id="anyway")
            with gr.Column(visible=False) as self.result:
                with gr.Tabs():
                    with gr.Tab("Overlay"):
                        self.picture = _image("picture")
                    with gr.Tab("Before and after"):
                        self.compare = gr.ImageSlider(
                            show_label=False,
                            interactive=False,
                            format="png",
                            buttons=[],
                            elem_id="compare",
                            max_height=900,
                        )
                    with gr.Tab("Confidence"):
                        self.confidence = _image("confidence")
                        gr.HTML(fragments.scale())
                self.pixel = gr.HTML(HINT)
                self.areas = gr.HTML(elem_id="areas")

    def _build_explain(self, served: ServedModel) -> None:
        with gr.Tab("Explain"):
            gr.HTML(
                "<p class='hint'>Shows where in the image the evidence for a class lies. The class with the largest "
                "area is selected first. Click on the result to choose a pixel, or two corners of a box.</p>"
            )
            with gr.Row():
                self.target = gr.Dropdown(label="Class", elem_id="target", **target_choices(served))
                self.region = gr.Dropdown(list(REGIONS), label="Region", elem_id="region", value=next(iter(REGIONS)))
                self.method = gr.Dropdown(list(METHODS), value=METHODS[0], label="Method", elem_id="method")
                self.layer = gr.Dropdown(label="Layer", elem_id="layer", value="auto", choices=["auto", "decoder"])
            self.basis = gr.HTML(elem_id="basis")
            self.explain_button = gr.Button("Explain", variant="primary", elem_id="ask")
            self.evidence_text = gr.HTML(visible=False, elem_id="evidence-text")
            self.evidence = _image("evidence", visible=False)
            self.evidence_map = gr.DownloadButton("Evidence as GeoTIFF", visible=False, size="sm")

    def _build_map(self) -> None:
        with gr.Tab("Map") as self.map_tab:
            self.map = gr.HTML(EMPTY, elem_id="map")

    def _build_downloads(self) -> None:
        with gr.Tab("Files") as self.downloads_tab:
            self.downloads_note = gr.HTML(EMPTY)
            self.downloads = [gr.DownloadButton(kind, visible=False, elem_id=f"download-{kind}") for kind in SUFFIXES]


def _image(elem_id: str, *, visible: bool = True) -> gr.Image:
    """Return an image without a label, which Gradio would put over a corner."""
    return gr.Image(
        show_label=False, interactive=False, format="png", buttons=["fullscreen"], elem_id=elem_id, visible=visible
    )


def class_choices(served: ServedModel) -> dict[str, Any]:
    """Return the options of the class checkboxes: one per class, all checked."""
    names = list(served.spec.class_names)
    return {"choices": names, "value": names}


def target_choices(served: ServedModel) -> dict[str, Any]:
    """Return the options of the menu of classes to explain."""
    names = list(served.spec.class_names)
    return {"choices": names, "value": names[0]}
