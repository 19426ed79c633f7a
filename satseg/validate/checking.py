"""All checks of a dataset, and the cheap ones that training begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satseg.data.labels.discovery import ClassScheme
from satseg.data.rasters.bands import band_numbers
from satseg.errors import ConfigError
from satseg.validate.balance import SplitTotals, check_balance, split_totals
from satseg.validate.bands import BandFacts, check_bands, measure_bands
from satseg.validate.facts import Facts, ScanPlan
from satseg.validate.findings import Finding, Severity, worst_first
from satseg.validate.ground import Footprint, axis_labels, check_footprints, footprints
from satseg.validate.headers import Pair, check_headers
from satseg.validate.leakage import check_leakage
from satseg.validate.masks import check_masks
from satseg.validate.parallel_scan import scan_all
from satseg.validate.pixels import check_pixels
from satseg.validate.preparation import prepare_dataset
from satseg.validate.scanning import part_of
from satseg.validate.shifts import check_shifts
from satseg.validate.transparency import check_transparency

if TYPE_CHECKING:  # imports torch, which the scanning processes do not need
    from satseg.data import SegmentationDataModule

MAX_DRAWN = 1_000_000  # sampled pixels of all images on which bands are measured
MAX_DRAWN_PER_IMAGE = 20_000
MIN_DRAWN_PER_IMAGE = 100


@dataclass(frozen=True)
class Limits:
    """Thresholds of the checks.

    Attributes:
        min_class_share: Share of a split's pixels that each class must have.
        max_ignored: Share of an image's pixels that may be ignored or without data.
        giveaway: Balanced accuracy above which a single band leaks the label or a class.
    """

    min_class_share: float = 0.001
    max_ignored: float = 0.5
    giveaway: float = 0.98

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value}: expected a share from 0 to 1.")


@dataclass(frozen=True)
class Validation:
    """Contents of a dataset, and the findings about it.

    Attributes:
        root: The dataset's folder.
        scheme: The classes.
        splits: Facts of the samples, by split.
        totals: Totals by split.
        bands: Measurements of each band over all images.
        places: Footprints of the georeferenced images.
        axes: Labels of their two coordinates.
        bands_read: Numbers or names of the bands that training reads; None if it reads all.
        findings: Worst first.
    """

    root: str
    scheme: ClassScheme
    splits: dict[str, list[Facts]]
    totals: dict[str, SplitTotals]
    bands: list[BandFacts]
    places: list[Footprint]
    axes: tuple[str, str]
    bands_read: Sequence[int | str] | None
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """True if there are only notes."""
        return all(f.severity == Severity.NOTE for f in self.findings)

    @property
    def has_errors(self) -> bool:
        """True if there are errors, which invalidate training or its scores."""
        return any(f.severity == Severity.ERROR for f in self.findings)

    @property
    def facts(self) -> list[Facts]:
        """Facts of all samples that are in a split."""
        return [f for facts in self.splits.values() for f in facts]


def validate(
    datamodule: SegmentationDataModule, limits: Limits | None = None, workers: int | None = None, progress: bool = True
) -> Validation:
    """Check a whole dataset, reading each file once.

    Args:
        datamodule: The dataset.
        limits: Thresholds of the checks.
        workers: As for `scan_all`.
        progress: Show a progress bar.

    Raises:
        DataError: If there is nothing to check.
    """
    limits = limits or Limits()
    prepared = prepare_dataset(datamodule)
    drawn = min(MAX_DRAWN_PER_IMAGE, max(MIN_DRAWN_PER_IMAGE, MAX_DRAWN // len(prepared.samples)))
    plan = ScanPlan(prepared.scheme, datamodule.bands, datamodule.nodata, drawn)
    by_name = {f.name: f for f in scan_all(prepared.parts(), plan, workers, progress)}
    splits = {split: [by_name[s.name] for s in samples] for split, samples in prepared.splits.items()}
    facts, names = list(by_name.values()), prepared.scheme.names
    totals = split_totals(splits, len(names))
    band_names, option_names = _bands_read(facts, plan)
    bands = measure_bands(facts, band_names, len(names), limits.giveaway)
    places = footprints(
        {s: [(f.name, f.image_file, f.image_info) for f in some if f.image_info] for s, some in splits.items()}
    )
    scale = None if datamodule.scale == "auto" else float(datamodule.scale)
    offset = float(datamodule.offset) if datamodule.offset != "auto" else 0.0
    of_pixels = check_pixels(facts, scale, offset, option_names)
    filled = {file for finding in of_pixels if finding.check == "undeclared_nodata" for file in finding.files}
    findings = [
        *prepared.findings,
        *of_pixels,
        *check_shifts([f for f in facts if f.image_file not in filled], splits),  # a fill value is no unit
        *check_headers(_pairs(facts), datamodule.bands),
        *check_transparency(facts, datamodule.bands),
        *check_masks(
            facts,
            prepared.scheme,
            limits.max_ignored,
            datamodule.ignore_values or (),
            given=not datamodule.finds_classes,
        ),
        *check_leakage(splits, places),
        *check_footprints(places),
        *check_bands(bands, limits.giveaway, names, option_names),
        *check_balance(totals, names, limits.min_class_share),
    ]
    root = str(datamodule.root)
    worst = worst_first(finding.relative_to(root) for finding in findings)
    axes = axis_labels([f.image_info for f in facts if f.image_info])
    return Validation(root, prepared.scheme, splits, totals, bands, places, axes, plan.bands, worst)


def check_cheaply(datamodule: SegmentationDataModule) -> list[Finding]:
    """Check headers only, without reading a pixel; worst findings first, without notes."""
    infos: dict[str, Any] = {}
    pairs: dict[str, Pair] = {}
    for split, samples in datamodule.splits.items():
        for sample in samples:
            image, file = datamodule.reader.info(sample.image), str(sample.file)
            infos.setdefault(split, []).append((sample.name, file, part_of(image, sample.window)))
            pairs[file] = (file, image, str(sample.mask_file), datamodule.reader.info(sample.mask))
    findings = [*check_headers(list(pairs.values()), datamodule.bands), *check_footprints(footprints(infos))]
    return [f for f in worst_first(findings) if f.severity > Severity.NOTE]


def _pairs(facts: Sequence[Facts]) -> list[Pair]:
    pairs = {}
    for seen in facts:
        image, mask = seen.headers
        if image and mask:
            pairs[seen.image_file] = (seen.image_file, image, seen.mask_file, mask)
    return list(pairs.values())


def _bands_read(facts: Sequence[Facts], plan: ScanPlan) -> tuple[list[str], list[int | str]]:
    """Return the names of the bands that are read, and the name or number of each in dataset.bands."""
    info = next((f.image_info for f in facts if f.image and f.image_info), None)
    numbers = band_numbers(info, plan.bands) if info else ()
    return [info.band_names[n - 1] for n in numbers] if info else [], list(plan.bands or numbers)
