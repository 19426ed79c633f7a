"""Pictures of single places for the page: small, and no more of them than it holds."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from satseg.diagnosis.cases import Case
from satseg.diagnosis.doubts import Doubt
from satseg.diagnosis.evidence import Maps
from satseg.diagnosis.leaning import Example, Leaning
from satseg.diagnosis.swaps import Change, changed
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.spec import DatasetSpec
from satseg.visualization.display import to_rgb
from satseg.visualization.encoding import webp
from satseg.visualization.overlays import signed_heat
from satseg.visualization.palette import colourise

BUDGET = 2_000_000  # bytes of all panels, which become 2.7 MB of text
QUALITY = 72  # of WebP
WHITE, BLACK, PINK, CYAN = (255, 255, 255), (0, 0, 0), (255, 45, 149), (0, 205, 255)
ENLARGED = 2  # so that two outlines a few pixels apart are seen

Line = tuple[np.ndarray, tuple[int, int, int]]  # pixels (H, W), boolean, and the colour of the line around them


@dataclass(frozen=True)
class Panel:
    """One picture with its title; `data` is a WebP file as base64, `large` whether it takes the room of two."""

    title: str
    data: str
    large: bool = False


class Album:
    """Makes panels until the page is full.

    Attributes:
        left_out: Places that were left out since then.
    """

    def __init__(self, spec: DatasetSpec, budget: int = BUDGET) -> None:
        self.spec, self.left_out, self._room = spec, 0, budget

    def show(self, pictures: Sequence[tuple[str, np.ndarray]]) -> list[Panel]:
        """Return panels of one place, from titles and colours (H, W, 3); none where the page is full."""
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
        return self.show([(title, outlined(picture, lines)) for title, picture in pictures])

    def maps(self, case: Case, maps: Maps) -> list[Panel]:
        """Return the three maps of an error: the contrast, for the predicted class, and for the true one."""
        rgb, lines = self._rgb(case.image, case.valid), [(case.pixels.cpu().numpy(), BLACK)]
        names = self.spec.class_names
        truth, predicted = names[case.spot.truth], names[case.spot.predicted]
        pictures = (
            (f"{predicted} against {truth}", maps.contrast),
            (f"for {predicted}", maps.predicted),
            (f"for {truth}", maps.true),
        )
        return self.show([(title, outlined(signed_heat(rgb, evidence), lines)) for title, evidence in pictures])

    def doubt(self, doubt: Doubt) -> list[Panel]:
        """Return image, label and prediction; where the labels lie off, the image with both outlines, else a box."""
        rgb = self._rgb(doubt.image, doubt.valid)
        label, predicted = self._classes(doubt.truth), self._classes(doubt.predicted)
        mistake = doubt.found.mistake
        if mistake and mistake.offset:
            drawn = doubt.truth.cpu().numpy()
            put_back = moved(drawn, -mistake.offset.down, -mistake.offset.right, self.spec.ignore_index)
            ignored = self.spec.ignore_index
            lines = [(borders(drawn, ignored), PINK), (borders(put_back, ignored), CYAN)]
            outlines = "image; edges of the label: pink as drawn, blue put back"
            panels = self.show([(outlines, traced(rgb, lines)), ("label", label), ("prediction", predicted)])
            return [replace(panel, large=panel.title == outlines) for panel in panels]
        box, window = doubt.found.box, doubt.window
        inside = np.zeros(doubt.truth.shape, bool)
        row, col = box.row - window.row, box.col - window.col
        inside[max(row, 0) : max(row + box.height, 0), max(col, 0) : max(col + box.width, 0)] = True
        pictures = [("image", rgb), ("label", label), ("prediction", predicted)]
        return self.show([(title, outlined(picture, [(inside, PINK)])) for title, picture in pictures])

    def leaning(self, network: SegmentationNetwork, leaning: Leaning, count: int) -> list[list[Panel]]:
        """Return, a place a list, the image, what it was with donors of either kind, and what is said of these."""
        masks = leaning.part.masks if leaning.part else ()
        change = leaning.question.change
        return [
            self._example(network, example, mask, change)
            for example, mask in zip(leaning.examples[:count], masks, strict=False)
        ]

    def _example(self, network: SegmentationNetwork, example: Example, mask: np.ndarray, change: Change) -> list[Panel]:
        names, recipient = self.spec.class_names, example.recipient.picture
        lines = [(recipient.region, WHITE), *([] if mask.all() else [(mask, PINK)])]
        case = example.recipient.case
        pictures = [
            ("image", outlined(self._rgb(case.image, case.valid), lines)),
        ]
        for donor in (example.same, example.other):
            made, known, region = (torch.from_numpy(v)[None] for v in changed(change, recipient, donor.picture))
            classes, around = (
                segment(network, made.to(case.image.device), known.to(case.image.device))[0].argmax(0),
                region[0].numpy(),
            )
            title = f"with the {change} of an image of {names[donor.truth]}"
            pictures.append((title, outlined(self._rgb(made, known), [(around, WHITE), *lines[1:]])))
            pictures.append(("its prediction", outlined(self._classes(classes), [(around, WHITE)])))
        return self.show(pictures)

    def _rgb(self, image: torch.Tensor, valid: torch.Tensor) -> np.ndarray:
        return to_rgb(image[0].cpu(), valid[0].cpu(), self.spec)

    def _classes(self, classes: torch.Tensor) -> np.ndarray:
        return colourise(classes.cpu().numpy(), self.spec.palette)


def outlined(picture: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Draw a line of two pixels around pixels, edged with its opposite so that it is seen on any ground."""
    drawn = picture.copy()
    for pixels, colour in lines:
        drawn[binary_dilation(pixels) & ~pixels] = WHITE if colour == BLACK else BLACK
        drawn[pixels & ~binary_erosion(pixels, iterations=2)] = colour
    return drawn


def borders(classes: np.ndarray, ignored: int) -> np.ndarray:
    """Return the pixels (H, W) of classes (H, W) that have another class to the right or below."""
    found, known = np.zeros(classes.shape, bool), classes != ignored
    found[:, :-1] |= (classes[:, 1:] != classes[:, :-1]) & known[:, 1:] & known[:, :-1]
    found[:-1] |= (classes[1:] != classes[:-1]) & known[1:] & known[:-1]
    return found


def moved(classes: np.ndarray, down: int, right: int, outside: int) -> np.ndarray:
    """Return classes (H, W) moved by some pixels, with `outside` where nothing is left."""
    result = np.full_like(classes, outside)
    height, width = classes.shape
    rows, cols = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_rows, from_cols = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
    result[rows, cols] = classes[from_rows, from_cols]
    return result


def traced(picture: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Draw thin lines along pixels on a picture that is enlarged for them, each edged with black."""
    large = picture.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    for pixels, colour in lines:
        line = pixels.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        large[binary_dilation(line) & ~line] = BLACK
        large[line] = colour
    return large


def _encoded(picture: np.ndarray) -> bytes:
    """Return a WebP file; without loss where there are few colours, as in a map of classes."""
    flat = len(np.unique(picture.reshape(-1, 3), axis=0)) <= 256
    return webp(picture, lossless=flat, quality=QUALITY)
