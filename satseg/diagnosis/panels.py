"""Image panels for the report page, within a byte budget."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from satseg.diagnosis.cases import Case
from satseg.diagnosis.dependence import Dependence, Example
from satseg.diagnosis.evidence import Maps
from satseg.diagnosis.label_issues import LabelIssue
from satseg.diagnosis.swaps import Change, apply_change
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.spec import DatasetSpec
from satseg.visualization.display import to_rgb
from satseg.visualization.examples import webp
from satseg.visualization.overlays import signed_heat
from satseg.visualization.palette import colourise

BUDGET = 2_000_000  # bytes of all panels; 2.7 MB as base64
QUALITY = 72  # of WebP
WHITE, BLACK, PINK, CYAN = (255, 255, 255), (0, 0, 0), (255, 45, 149), (0, 205, 255)
ENLARGED = 2  # factor, so that two outlines a few pixels apart are distinguishable

Line = tuple[np.ndarray, tuple[int, int, int]]  # pixels (H, W), boolean, and the colour of the line around them


@dataclass(frozen=True)
class Panel:
    """One picture with its title; `data` is a WebP file as base64, `large` if it takes the space of two."""

    title: str
    data: str
    large: bool = False


class PanelEncoder:
    """Encoder of panels, up to the page's byte budget.

    Attributes:
        left_out: Places left out because the page is full.
    """

    def __init__(self, spec: DatasetSpec, budget: int = BUDGET) -> None:
        self.spec, self.left_out, self._room = spec, 0, budget

    def show(self, pictures: Sequence[tuple[str, np.ndarray]]) -> list[Panel]:
        """Return panels of one place from titles and RGB pictures (H, W, 3); none if the page is full."""
        encoded = [(title, _encoded(picture)) for title, picture in pictures]
        size = sum(len(data) for _, data in encoded)
        if size > self._room:
            self.left_out += 1
            return []
        self._room -= size
        return [Panel(title, base64.b64encode(data).decode()) for title, data in encoded]

    def error(self, case: Case) -> list[Panel]:
        """Return image, truth and prediction of a case."""
        lines = [(case.pixels.cpu().numpy(), WHITE)]
        pictures = [
            ("image", self._rgb(case.image, case.valid)),
            ("label", self._classes(case.truth)),
            ("prediction", self._classes(case.predicted)),
        ]
        return self.show([(title, draw_outlines(picture, lines)) for title, picture in pictures])

    def maps(self, case: Case, maps: Maps) -> list[Panel]:
        """Return the three maps of an error: contrast, predicted class and true class."""
        rgb, lines = self._rgb(case.image, case.valid), [(case.pixels.cpu().numpy(), BLACK)]
        names = self.spec.class_names
        truth, predicted = names[case.component.truth], names[case.component.predicted]
        pictures = (
            (f"{predicted} over {truth}", maps.contrast),
            (f"for {predicted}", maps.predicted),
            (f"for {truth}", maps.true),
        )
        return self.show([(title, draw_outlines(signed_heat(rgb, evidence), lines)) for title, evidence in pictures])

    def issue(self, issue: LabelIssue) -> list[Panel]:
        """Return image, label and prediction, with a box; for displaced labels, the image with both outlines."""
        rgb = self._rgb(issue.image, issue.valid)
        label, predicted = self._classes(issue.truth), self._classes(issue.predicted)
        mistake = issue.found.mistake
        if mistake and mistake.offset:
            drawn = issue.truth.cpu().numpy()
            put_back = shift_classes(drawn, -mistake.offset.down, -mistake.offset.right, self.spec.ignore_index)
            ignored = self.spec.ignore_index
            lines = [(class_borders(drawn, ignored), PINK), (class_borders(put_back, ignored), CYAN)]
            outlines = "image; edges of the label: pink as drawn, blue after correction"
            panels = self.show([(outlines, draw_lines(rgb, lines)), ("label", label), ("prediction", predicted)])
            return [replace(panel, large=panel.title == outlines) for panel in panels]
        box, window = issue.found.box, issue.window
        inside = np.zeros(issue.truth.shape, bool)
        row, col = box.row - window.row, box.col - window.col
        inside[max(row, 0) : max(row + box.height, 0), max(col, 0) : max(col + box.width, 0)] = True
        pictures = [("image", rgb), ("label", label), ("prediction", predicted)]
        return self.show([(title, draw_outlines(picture, [(inside, PINK)])) for title, picture in pictures])

    def dependence(self, network: SegmentationNetwork, dependence: Dependence, count: int) -> list[list[Panel]]:
        """Return a list per example: the image, and the image with either donor and its prediction."""
        masks = dependence.part.masks if dependence.part else ()
        change = dependence.question.change
        return [
            self._example(network, example, mask, change, dependence.predicted)
            for example, mask in zip(dependence.examples[:count], masks, strict=False)
        ]

    def _example(
        self, network: SegmentationNetwork, example: Example, mask: np.ndarray, change: Change, k: int
    ) -> list[Panel]:
        name, recipient = self.spec.class_names[k], example.recipient.picture
        lines = [(recipient.region, WHITE), *([] if mask.all() else [(mask, PINK)])]
        case = example.recipient.case
        pictures = [
            ("image", draw_outlines(self._rgb(case.image, case.valid), lines)),
        ]
        for donor in (example.same, example.other):
            made, known, region = (torch.from_numpy(v)[None] for v in apply_change(change, recipient, donor.picture))
            classes, around = (
                segment(network, made.to(case.image.device), known.to(case.image.device))[0].argmax(0),
                region[0].numpy(),
            )
            title = (
                f"with the {change} of {donor.case.component.image} ({'with' if donor.has(k) else 'without'} {name})"
            )
            pictures.append((title, draw_outlines(self._rgb(made, known), [(around, WHITE), *lines[1:]])))
            pictures.append(("its prediction", draw_outlines(self._classes(classes), [(around, WHITE)])))
        return self.show(pictures)

    def _rgb(self, image: torch.Tensor, valid: torch.Tensor) -> np.ndarray:
        return to_rgb(image[0].cpu(), valid[0].cpu(), self.spec)

    def _classes(self, classes: torch.Tensor) -> np.ndarray:
        return colourise(classes.cpu().numpy(), self.spec.palette)


def draw_outlines(picture: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Draw an outline two pixels wide around pixels, with a contrasting edge so that it shows on any background."""
    drawn = picture.copy()
    for pixels, colour in lines:
        drawn[binary_dilation(pixels) & ~pixels] = WHITE if colour == BLACK else BLACK
        drawn[pixels & ~binary_erosion(pixels, iterations=2)] = colour
    return drawn


def class_borders(classes: np.ndarray, ignored: int) -> np.ndarray:
    """Return a boolean mask (H, W) of pixels with another class to the right or below."""
    found, known = np.zeros(classes.shape, bool), classes != ignored
    found[:, :-1] |= (classes[:, 1:] != classes[:, :-1]) & known[:, 1:] & known[:, :-1]
    found[:-1] |= (classes[1:] != classes[:-1]) & known[1:] & known[:-1]
    return found


def shift_classes(classes: np.ndarray, down: int, right: int, outside: int) -> np.ndarray:
    """Return classes (H, W) shifted by some pixels, filled with `outside`."""
    result = np.full_like(classes, outside)
    height, width = classes.shape
    rows, cols = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_rows, from_cols = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
    result[rows, cols] = classes[from_rows, from_cols]
    return result


def draw_lines(picture: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Draw thin lines, edged with black, along pixels on an enlarged picture."""
    large = picture.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    for pixels, colour in lines:
        line = pixels.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        large[binary_dilation(line) & ~line] = BLACK
        large[line] = colour
    return large


def _encoded(picture: np.ndarray) -> bytes:
    """Return a WebP file; lossless if there are few colours, as in a class map."""
    flat = len(np.unique(picture.reshape(-1, 3), axis=0)) <= 256
    return webp(picture, lossless=flat, quality=QUALITY)
