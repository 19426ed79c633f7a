"""Tables and figures of an evaluated split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satseg.evaluate.files import write_evaluation
from satseg.evaluate.scoring import PLAIN, EvaluationResult, ImageScores, Scoring, evaluate, without_edges
from satseg.inference.averaging import AnyNetwork, views
from satseg.inference.windows import segment
from satseg.visualization.display import to_rgb
from satseg.visualization.examples import Example
from satseg.visualization.figures import plot_confusion_matrix, plot_samples
from satseg.visualization.report import SplitPage

if TYPE_CHECKING:  # importing it imports Lightning, which prediction and serving do not need
    from satseg.data import SegmentationDataModule

NUM_PICTURES = 4


@dataclass(frozen=True)
class SplitReport:
    """A split's scores, and example images with predictions; no image is in both groups.

    Attributes:
        result: The scores.
        worst: The images with the lowest mIoU, lowest first.
        samples: Images evenly spaced over the rest, highest mIoU first.
    """

    result: EvaluationResult
    worst: list[Example]
    samples: list[Example]

    @property
    def page(self) -> SplitPage:
        """The content of the report page."""
        result = self.result
        return SplitPage(
            num_images=len(result.images),
            matrix=result.matrix,
            scores=result.scores.as_dict(),
            bins=result.reliability.rows(),
            calibration_error=result.reliability.error,
            worst=self.worst,
            samples=self.samples,
        )


def report_split(
    network: AnyNetwork,
    datamodule: SegmentationDataModule,
    split: str,
    folder: Path,
    scoring: Scoring = PLAIN,
) -> SplitReport:
    """Score a split and write scores, tables and figures to a folder."""
    device, spec = next(network.parameters()).device, network.spec
    result = evaluate(network, datamodule.eval_dataloader(split), device, scoring, datamodule.groups(split))
    write_evaluation(result, folder, split)
    plot_confusion_matrix(result.matrix, list(result.class_names), folder / "confusion_matrix.png")
    worst, samples = (list(_examples(network, datamodule, split, names, scoring)) for names in choose_examples(result))
    for examples, path in ((worst, folder / "worst.png"), (samples, folder / "samples.png")):
        path.unlink(missing_ok=True)  # from an earlier evaluation
        if examples:
            plot_samples(examples, list(spec.class_names), spec.palette, path)
    return SplitReport(result, worst, samples)


def choose_examples(result: EvaluationResult) -> tuple[list[str], list[str]]:
    """Choose images to show: the worst, lowest mIoU first, and some evenly spaced over the rest, highest first.

    No image is in both. With few images, half are the worst; images without labelled pixels are shown if there are no
    others.
    """
    scored = result.worst(len(result.images)) or list(result.images)
    num_worst = min(NUM_PICTURES, len(scored) // 2)
    rest: list[ImageScores] = scored[num_worst:][::-1]
    number = min(NUM_PICTURES, len(rest))
    spread = np.linspace(0, len(rest) - 1, number).round().astype(int) if number > 1 else range(number)
    return [image.name for image in scored[:num_worst]], [rest[i].name for i in spread]


def _examples(
    network: AnyNetwork,
    datamodule: SegmentationDataModule,
    split: str,
    names: Sequence[str],
    scoring: Scoring,
) -> Iterator[Example]:
    """Segment the named images again, and yield them as examples."""
    spec, device = network.spec, next(network.parameters()).device
    tta_views = views(scoring.tta)
    for item in datamodule.named_items(split, names):
        image, valid = item["image"][None].to(device), item["valid"][None].to(device)
        predicted = segment(network, image, valid, tta_views)[0].argmax(0)
        mask = without_edges(item["mask"][None], scoring.ignore_edges)[0]
        truth = mask.where(item["valid"], spec.ignore_index)
        rgb = to_rgb(item["image"], item["valid"], spec)
        yield Example.of(item["name"], rgb, truth.numpy(), predicted.cpu().numpy(), spec.num_classes)
