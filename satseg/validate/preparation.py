"""Preparation of a dataset for checking: pairs, classes and splits, despite errors in single files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satseg.data.labels.class_options import class_options, describe_found_classes
from satseg.data.labels.discovery import ClassScheme, declared_nodata, default_colour, discover_scheme
from satseg.data.labels.scheme import pack
from satseg.data.rasters.header import RasterInfo, read_info
from satseg.data.rasters.opening import bounded_cache
from satseg.data.rasters.raster import read_strips
from satseg.data.samples import Sample
from satseg.data.splits import left_out
from satseg.errors import DataError, RasterReadError, SatsegError
from satseg.validate.findings import MAX_EXAMPLES, Finding, Severity, count
from satseg.validate.mask_tally import MAX_VALUES, MaskTally, count_values, is_extreme
from satseg.validate.masks import classify_outside
from satseg.validate.scanning import is_lossy

if TYPE_CHECKING:
    from satseg.data import SegmentationDataModule

UNSPLIT = "all"  # name of the only split if the dataset cannot be split
MAX_GUESS_MASKS = 20  # read to guess the classes
MIN_VALUE_SHARE = 0.01  # of the pixels, for a value to be taken for a class


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset prepared for checking.

    Attributes:
        samples: All pairs.
        scheme: The classes.
        splits: Samples by split; parts of images, if these are cut.
        findings: Findings so far.
    """

    samples: list[Sample]
    scheme: ClassScheme
    splits: dict[str, list[Sample]]
    findings: list[Finding]

    def parts(self) -> list[Sample]:
        """Return the samples to read: those of all splits, and images that are in none."""
        chosen = [sample for samples in self.splits.values() for sample in samples]
        return [*chosen, *left_out(self.samples, self.splits)]


def prepare_dataset(datamodule: SegmentationDataModule) -> PreparedDataset:
    """Pair files, find classes and split; errors in single files become findings.

    Raises:
        DataError: If there is nothing to check: no folder, no pair, no readable mask.
        ConfigError: If an option is invalid.
    """
    pairs = datamodule.paired()
    samples = pairs.samples
    findings = [_unpaired(kind, files) for kind, files in pairs.unpaired.items() if files]
    findings += _unusable(pairs.faults)
    scheme, guessed = _scheme(datamodule, samples)
    splits, unsplit = _splits(datamodule, samples)
    assumed = [Finding("assumed", Severity.NOTE, text) for text in datamodule.assumptions]
    findings += [*guessed, *unsplit, *_unused(left_out(samples, splits)), *assumed]
    return PreparedDataset(samples, scheme, splits, findings)


def _unpaired(kind: str, files: Sequence[Path]) -> Finding:
    other = "image" if kind == "mask" else "mask"
    return Finding(
        f"{kind}_without_{other}",
        Severity.ERROR,
        f"{count(len(files), kind)} without {other}",
        "Every image has a mask of the same name, and every mask an image.",
        f"Add the missing {other}s, or remove these.",
        tuple(map(str, files)),
    )


def _unusable(faults: Sequence[tuple[Path, SatsegError]]) -> list[Finding]:
    """Group files with errors of one type, quoting the first ones."""
    kinds: dict[type[SatsegError], list[tuple[Path, SatsegError]]] = {}
    for file, error in faults:
        kinds.setdefault(type(error), []).append((file, error))
    expected = "Images have all their bands; polygons can be read, have a class and overlap their image."
    found = []
    for some in kinds.values():
        files = tuple(dict.fromkeys(str(file) for file, _ in some))
        reasons = list(dict.fromkeys(str(error).rstrip(".") for _, error in some))
        more = " …" if len(reasons) > MAX_EXAMPLES else ""
        message = f"{count(len(files), 'file')} cannot be used: {'; '.join(reasons[:MAX_EXAMPLES])}{more}"
        found.append(Finding("unusable", Severity.ERROR, message, expected, "", files))
    return found


def _unused(samples: Sequence[Sample]) -> list[Finding]:
    if not samples:
        return []
    files = tuple(str(s.file) for s in samples)
    return [Finding("in_no_split", Severity.NOTE, f"{count(len(samples), 'image')} in no split", "", "", files)]


def _scheme(datamodule: SegmentationDataModule, samples: Sequence[Sample]) -> tuple[ClassScheme, list[Finding]]:
    """Return the classes; if they are not given, those of the readable masks."""
    if not datamodule.finds_classes:
        return datamodule.reader.labels.scheme, []
    with bounded_cache():
        scheme, guessed = _found_scheme([s.mask for s in samples])
    return scheme, guessed or [Finding("found_classes", Severity.NOTE, describe_found_classes(scheme))]


def _found_scheme(masks: Sequence[Path]) -> tuple[ClassScheme, list[Finding]]:
    some = [path for path in masks[:: max(1, -(-len(masks) // MAX_GUESS_MASKS))] if _can_be_read(path)]
    common = _common_values(some)
    for guess in (_extreme_values(common), common):
        kinds = {_outside_kind(path, guess) for path in some} - {""} if guess else set()
        if guess and kinds - {"mask_values"} and (guess is common or "mask_values" not in kinds):
            return guess, [_guessed(guess)]
    try:
        return discover_scheme(masks), []
    except RasterReadError:
        return discover_scheme(path for path in masks if _can_be_read(path)), []


def _can_be_read(path: Path) -> bool:
    try:
        for _ in read_strips(path):
            pass
    except SatsegError:
        return False
    return True


def _common_values(masks: Sequence[Path]) -> ClassScheme | None:
    """Return the common values of masks as classes, so that the others can be reported; None if there are too few."""
    values: Counter[float] = Counter()
    infos = [read_info(path) for path in masks]
    by_colour = any(info.count >= 3 for info in infos)
    for info in infos:
        for keys, labelled in _keys(info, by_colour):
            values.update(count_values(keys[labelled]))
            if len(values) > MAX_VALUES:
                values = Counter(dict(values.most_common(MAX_VALUES)))
    total = sum(values.values())
    common = sorted(
        int(v) for v, n in values.items() if n >= MIN_VALUE_SHARE * total and float(v).is_integer() and v >= 0
    )
    return _classes_of(common, by_colour) if len(common) >= 2 else None


def _classes_of(common: Sequence[int], by_colour: bool) -> ClassScheme:
    names = tuple(f"color_{v:06x}" if by_colour else f"class_{v}" for v in common)
    colours = tuple((v >> 16, v >> 8 & 255, v & 255) if by_colour else default_colour(i) for i, v in enumerate(common))
    return ClassScheme(names, colours, {v: i for i, v in enumerate(common)}, by_colour)


def _keys(info: RasterInfo, by_colour: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a mask's values or packed colours (h, w) by parts, with a mask of those not declared as nodata."""
    colours = by_colour and info.count >= 3
    nodata = declared_nodata(info, colours)
    for raw in read_strips(info.path):
        keys = pack(raw) if colours else raw[0]
        yield keys, np.ones(keys.shape, bool) if nodata is None else keys != nodata


def _extreme_values(scheme: ClassScheme | None) -> ClassScheme | None:
    """Return the classes with values 0 and 255, or colours of these: values in between may come from smoothing."""
    if scheme is None:
        return None
    chosen = [value for value in sorted(scheme.values) if is_extreme(value, scheme.by_colour)]
    return _classes_of(chosen, scheme.by_colour) if 2 <= len(chosen) < len(scheme.values) else None


def _outside_kind(path: Path, scheme: ClassScheme) -> str:
    """Return the origin of a mask's values outside the classes; empty if there are none."""
    info = read_info(path)
    tally = MaskTally(info, scheme, is_lossy(path))
    for raw, (_, labelled) in zip(read_strips(path), _keys(info, scheme.by_colour), strict=True):
        tally.add(raw, labelled, None)
    facts = tally.facts()
    return classify_outside(facts) if facts.num_outside else ""


def _guessed(scheme: ClassScheme) -> Finding:
    return Finding(
        "guessed_classes",
        Severity.WARNING,
        f"masks hold values that are no class, and dataset.classes does not declare the classes; assumed classes: "
        f"{', '.join(scheme.names)}",
        "dataset.classes declares the meaning of mask values.",
        f"Give dataset.classes, such as {class_options(scheme)}.",
    )


def _splits(
    datamodule: SegmentationDataModule, samples: Sequence[Sample]
) -> tuple[dict[str, list[Sample]], list[Finding]]:
    try:
        splits = datamodule.divide(samples)
        return {split: list(some) for split, some in splits.items() if some}, []
    except DataError as error:
        finding = Finding(
            "split",
            Severity.ERROR,
            f"the dataset cannot be split: {str(error).rstrip('.')}",
            "There are images for training and validation.",
            "Set dataset/split, or its options.",
        )
        return {UNSPLIT: list(samples)}, [finding]
