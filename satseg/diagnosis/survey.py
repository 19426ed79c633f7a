"""One pass over a split: confusion, confident components, and contradicted labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects, label
from torch import Tensor

from satseg.data.dataset import Item
from satseg.diagnosis.mistakes import Fit, fit_labels
from satseg.diagnosis.suspects import Disagreement, find_disagreement
from satseg.evaluate.metrics import confusion_matrices
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

MAX_COMPONENTS = 32  # of each pair of classes
MIN_PIXELS = 16  # of a pair in an image; less is ignored
MAX_WORST = 3  # images kept for each confused pair


@dataclass(frozen=True)
class Component:
    """A connected component of pixels of one true and one predicted class.

    Attributes:
        image: Name.
        truth: Index of the true class.
        predicted: Index of the predicted class; the same if it is right.
        centre: Row and column of the pixel farthest from the component's border.
        pixels: Number of pixels.
        weight: Probability of the predicted class (minus the true one's, in an error), summed with each pixel's
            distance from the border as weight: large and confident components weigh most, seams between classes little.
    """

    image: str
    truth: int
    predicted: int
    centre: tuple[int, int]
    pixels: int
    weight: float


@dataclass
class Survey:
    """Findings of the pass.

    Attributes:
        matrix: Counts (K, K), rows truth.
        components: Those of the largest weight by true and predicted class, largest first.
        worst: The images with the most pixels of a confused pair, and their number, most first.
        objects: The largest component of each true class in each image, whatever is predicted.
        images: Number of labelled images.
        disagreements: Images with any contradiction, largest share first.
        fits: Fit under simple mistakes of the labels of images with more than one class.
    """

    matrix: np.ndarray
    components: dict[tuple[int, int], list[Component]] = field(default_factory=dict)
    worst: dict[tuple[int, int], list[tuple[str, int]]] = field(default_factory=dict)
    objects: dict[int, list[Component]] = field(default_factory=dict)
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
        _record_worst(found, item["name"], matrix)
        counted = valid[0] & (truth != network.spec.ignore_index)
        lead = _lead(probabilities, predicted, truth.where(counted, 0))
        seen = tuple(t.cpu().numpy() for t in (predicted, truth, counted, lead))
        _record_components(found, item["name"], *seen)
        disagreement = find_disagreement(item["name"], *seen, num_classes=count)
        found.disagreements += [disagreement] if disagreement else []
        fit = fit_labels(item["name"], probabilities, truth.where(counted, 0).long(), counted, valid[0])
        found.fits += [fit] if fit else []
    found.disagreements.sort(key=lambda d: -d.share)
    return found


def _lead(probabilities: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the predicted class's probability, minus the true one's where they differ (H, W)."""
    best = probabilities.amax(0)
    labelled = probabilities.gather(0, truth[None].long())[0]
    return torch.where(predicted == truth, best, best - labelled)


def _record_components(
    found: Survey, name: str, predicted: np.ndarray, truth: np.ndarray, counted: np.ndarray, lead: np.ndarray
) -> None:
    count = len(found.matrix)
    pairs = np.where(counted, truth.astype(np.int64) * count + predicted, -1)
    for pair, pixels in zip(*np.unique(pairs[counted], return_counts=True), strict=True):
        if pixels >= MIN_PIXELS:
            key = divmod(int(pair), count)
            components = [
                Component(name, *key, centre, size, weight) for centre, size, weight in _largest(pairs == pair, lead)
            ]
            _record_object(found, components)
            kept = sorted([*found.components.get(key, []), *components], key=lambda s: -s.weight)[:MAX_COMPONENTS]
            if kept:
                found.components[key] = kept


def _record_object(found: Survey, components: list[Component]) -> None:
    """Keep the largest of an image's components of a true class; one image's components are added in sequence."""
    for component in components[:1]:
        known = found.objects.setdefault(component.truth, [])
        if not known or known[-1].image != component.image:
            known.append(component)
        elif known[-1].pixels < component.pixels:
            known[-1] = component


def _largest(pixels: np.ndarray, lead: np.ndarray) -> Iterator[tuple[tuple[int, int], int, float]]:
    """Yield centre, size and weight of the largest connected components of a mask (H, W)."""
    labels, number = label(pixels)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    boxes = find_objects(labels)
    for index in np.argsort(-sizes, kind="stable")[:MAX_COMPONENTS]:
        box = boxes[index]
        part = np.pad(labels[box] == index + 1, 1)  # an image's edge is a border, too
        distance = distance_transform_edt(part)[1:-1, 1:-1]
        weight = float((lead[box] * np.clip(distance - 1, 0, None)).sum())
        if weight > 0:
            row, col = np.unravel_index(int(distance.argmax()), distance.shape)
            yield (box[0].start + int(row), box[1].start + int(col)), int(sizes[index]), weight


def _record_worst(found: Survey, name: str, matrix: np.ndarray) -> None:
    """Record an image for the pairs of classes of which it is among the worst."""
    for truth, predicted in np.argwhere(matrix).tolist():
        if truth != predicted:
            images = [*found.worst.get((truth, predicted), []), (name, int(matrix[truth, predicted]))]
            found.worst[truth, predicted] = sorted(images, key=lambda image: -image[1])[:MAX_WORST]
