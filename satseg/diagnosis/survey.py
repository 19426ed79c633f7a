"""One pass over a split: what is taken for what, where with the most confidence, and which labels are in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects, label
from torch import Tensor

from satseg.data.dataset import Item
from satseg.diagnosis.disagreement import Disagreement, disagreement_in
from satseg.diagnosis.mistakes import Fit, fit_of
from satseg.evaluate.metrics import confusion_matrices
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

KEPT = 32  # spots of each pair of classes
SMALLEST = 16  # pixels of a pair in an image that are looked at
WORST = 3  # images named of each confused pair


@dataclass(frozen=True)
class Spot:
    """Connected pixels of one true and one predicted class.

    Attributes:
        image: Name.
        truth: Index of the true class.
        predicted: Index of the predicted class; the same where it is right.
        centre: Row and column of the pixel farthest from the spot's border.
        pixels: How many they are.
        weight: Probability of the predicted class (less the true one's, in an error), summed with each pixel's
            distance from the border: large and confident spots weigh most, seams between classes little.
    """

    image: str
    truth: int
    predicted: int
    centre: tuple[int, int]
    pixels: int
    weight: float


@dataclass
class Survey:
    """What the pass found.

    Attributes:
        matrix: Counts (K, K), rows truth.
        spots: The weightiest by true and predicted class, weightiest first.
        worst: The images with the most pixels of a confused pair, and how many, most first.
        objects: The largest connected part of each true class in each image, whatever is predicted.
        images: How many images have labels.
        disagreements: Images that are contradicted at all, by share, largest first.
        fits: How the labels of images with more than one class would fit if they were drawn otherwise.
    """

    matrix: np.ndarray
    spots: dict[tuple[int, int], list[Spot]] = field(default_factory=dict)
    worst: dict[tuple[int, int], list[tuple[str, int]]] = field(default_factory=dict)
    objects: dict[int, list[Spot]] = field(default_factory=dict)
    images: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)


def survey(network: SegmentationNetwork, items: Iterable[Item]) -> Survey:
    """Segment every image once.

    Args:
        network: In evaluation mode.
        items: Whole images with `image`, `mask`, `valid` and `name`.
    """
    count, device = network.spec.num_classes, next(network.parameters()).device
    found = Survey(np.zeros((count, count), np.int64))
    for item in items:
        image, valid = item["image"][None].to(device), item["valid"][None].to(device)
        probabilities = segment(network, image, valid)[0].softmax(0)
        predicted, truth = probabilities.argmax(0), item["mask"].to(device)
        matrix = confusion_matrices(predicted[None], truth[None], valid, count)[0].cpu().numpy()
        found.matrix += matrix
        found.images += bool(matrix.any())
        _note_worst(found, item["name"], matrix)
        counted = valid[0] & (truth != network.spec.ignore_index)
        lead = _lead(probabilities, predicted, truth.where(counted, 0))
        seen = tuple(t.cpu().numpy() for t in (predicted, truth, counted, lead))
        _note_spots(found, item["name"], *seen)
        disagreement = disagreement_in(item["name"], *seen, num_classes=count)
        found.disagreements += [disagreement] if disagreement else []
        fit = fit_of(item["name"], probabilities, truth.where(counted, 0).long(), counted, valid[0])
        found.fits += [fit] if fit else []
    found.disagreements.sort(key=lambda d: -d.share)
    return found


def _lead(probabilities: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the predicted class's probability, less the true one's where they differ (H, W)."""
    best = probabilities.amax(0)
    labelled = probabilities.gather(0, truth[None].long())[0]
    return torch.where(predicted == truth, best, best - labelled)


def _note_spots(
    found: Survey, name: str, predicted: np.ndarray, truth: np.ndarray, counted: np.ndarray, lead: np.ndarray
) -> None:
    count = len(found.matrix)
    pairs = np.where(counted, truth.astype(np.int64) * count + predicted, -1)
    for pair, pixels in zip(*np.unique(pairs[counted], return_counts=True), strict=True):
        if pixels >= SMALLEST:
            key = divmod(int(pair), count)
            spots = [Spot(name, *key, centre, size, weight) for centre, size, weight in _largest(pairs == pair, lead)]
            _note_object(found, spots)
            kept = sorted([*found.spots.get(key, []), *spots], key=lambda s: -s.weight)[:KEPT]
            if kept:
                found.spots[key] = kept


def _note_object(found: Survey, spots: list[Spot]) -> None:
    """Keep the largest of an image's parts of a true class, whose predictions come one after another."""
    for spot in spots[:1]:
        known = found.objects.setdefault(spot.truth, [])
        if not known or known[-1].image != spot.image:
            known.append(spot)
        elif known[-1].pixels < spot.pixels:
            known[-1] = spot


def _largest(pixels: np.ndarray, lead: np.ndarray) -> Iterator[tuple[tuple[int, int], int, float]]:
    """Give centre, size and weight of the largest connected parts of some pixels (H, W)."""
    labels, number = label(pixels)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    boxes = find_objects(labels)
    for index in np.argsort(-sizes, kind="stable")[:KEPT]:
        box = boxes[index]
        part = np.pad(labels[box] == index + 1, 1)  # an image's edge is a border, too
        distance = distance_transform_edt(part)[1:-1, 1:-1]
        weight = float((lead[box] * np.clip(distance - 1, 0, None)).sum())
        if weight > 0:
            row, col = np.unravel_index(int(distance.argmax()), distance.shape)
            yield (box[0].start + int(row), box[1].start + int(col)), int(sizes[index]), weight


def _note_worst(found: Survey, name: str, matrix: np.ndarray) -> None:
    """Keep the name of an image that is among the worst by any pair of classes that it confuses."""
    for truth, predicted in np.argwhere(matrix).tolist():
        if truth != predicted:
            images = [*found.worst.get((truth, predicted), []), (name, int(matrix[truth, predicted]))]
            found.worst[truth, predicted] = sorted(images, key=lambda image: -image[1])[:WORST]
