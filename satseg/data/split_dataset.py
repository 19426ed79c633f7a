"""A dataset divided into splits: its samples, classes, statistics and spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from satseg.data import fingerprints
from satseg.data.assumptions import find_assumptions
from satseg.data.class_weights import class_weights
from satseg.data.extension import check_attribute, check_overrides, checked_samples, explained, full_name, missing
from satseg.data.input_spec import combine_inputs, input_spec
from satseg.data.labels.class_options import extend_to_all_masks
from satseg.data.labels.discovery import ClassScheme, ignoring
from satseg.data.labels.reader import LabelReader
from satseg.data.loading_options import Normalisation, check_chosen, check_numbers
from satseg.data.rasters.bands import band_numbers
from satseg.data.reader import SampleReader
from satseg.data.samples import Pairs, Sample
from satseg.data.splits import Splits, check_disjoint, left_out
from satseg.data.statistics import compute_statistics, count_classes
from satseg.errors import ConfigError, ExtensionError, MaskValueError
from satseg.spec import BandStatistics, DatasetSpec


class SplitDataset:
    """Split and measure a dataset; subclasses provide samples and classes.

    Args:
        split: Called with all samples and the root; returns the splits. If it has `counts_classes`, it is also passed
            a function that returns the pixels per class of a sample.
        cache_gb: Memory for decoded images, shared by all workers.
        bands: One-based numbers or names of the bands to read, in any order; all by default.
        nodata: Value of missing pixels; each file's own by default.
        scale: Divisor of raw numbers to unit scale; see `input_spec` for it and the next two.
        offset: Subtracted before the division.
        normalisation: `auto`, `backbone`, `scale`, `standardise` or `percentile`.
        ignore_values: Values or colours of masks that are no class, in addition to those of `scheme()`.

    Attributes:
        root: The dataset's folder; an attribute or a property.
    """

    root: Path

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_overrides(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute that hides no method or property."""
        check_attribute(type(self), name)
        super().__setattr__(name, value)

    def __init__(
        self,
        *,
        split: Callable[..., Splits],
        cache_gb: float = 1.0,
        bands: Sequence[int | str] | None = None,
        nodata: float | None = None,
        scale: float | Literal["auto"] = "auto",
        offset: float | Literal["auto"] = "auto",
        normalisation: Normalisation = "auto",
        ignore_values: Sequence[Any] | None = None,
    ) -> None:
        super().__init__()
        check_chosen("split", split)
        check_numbers(bands, nodata, scale, offset, normalisation)
        self.split, self.cache_gb = split, cache_gb
        self.bands, self.nodata = bands, nodata
        self.scale, self.offset, self.normalisation = scale, offset, normalisation
        self.ignore_values = ignore_values
        self.assumptions: list[str] = []
        self._checked = False

    def samples(self) -> list[Sample]:
        """Find all samples."""
        raise missing(type(self), "samples()")

    @cached_property
    def _found(self) -> list[Sample]:
        """All samples, checked."""
        with explained(type(self), "samples()"):
            return checked_samples(type(self), self.samples())

    def paired(self) -> Pairs:
        """Return the usable samples, and the files that no sample can be made of."""
        return Pairs(self._found)

    @property
    def finds_classes(self) -> bool:
        """Whether classes are discovered from the masks because no option names them."""
        return False

    def scheme(self) -> ClassScheme:
        """Return the classes and their values in the masks."""
        raise missing(type(self), "scheme()")

    def setup(self, stage: str | None = None) -> None:
        """Find and split the samples, and compare the headers of every image and mask, once."""
        if not self._checked:
            _ = self.sizes
            self.reader.cache_decoded((s for own in self.splits.values() for s in own), self.cache_gb)
            self.assumptions += find_assumptions(self.splits, self.reader)
            self._checked = True

    @cached_property
    def splits(self) -> Splits:
        """Samples by split."""
        splits = self.divide(self._found)
        check_disjoint(splits)
        unused = left_out(self._found, splits)
        if unused:
            self.assumptions.append(f"{len(unused)} images are in no split (such as {unused[0].name})")
        return splits

    def divide(self, samples: Sequence[Sample]) -> Splits:
        """Split samples, and add the remarks of the split to the assumptions."""
        counts = (partial(count_classes, reader=self.reader),) if getattr(self.split, "counts_classes", False) else ()
        with self._all_unknown_values(samples):
            splits = self.split(samples, Path(self.root), *counts)
        self.assumptions += getattr(self.split, "notes", [])
        return splits

    @contextmanager
    def _all_unknown_values(self, samples: Iterable[Sample]) -> Iterator[None]:
        """Extend an error about unknown values in one mask to all masks."""
        try:
            yield
        except MaskValueError as error:
            raise extend_to_all_masks(error, self.reader.labels.scheme, samples) from error

    @cached_property
    def reader(self) -> SampleReader:
        """Reader of samples, in the training process."""
        with explained(type(self), "scheme()"):
            scheme = self.scheme()
        if not isinstance(scheme, ClassScheme):
            raise ExtensionError(
                f"scheme() of {full_name(type(self))} returned {scheme!r}: expected a satseg.data.ClassScheme, such as "
                "scheme_from_config(…) returns."
            )
        return SampleReader(LabelReader(ignoring(scheme, self.ignore_values)), self.bands, self.nodata)

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each sample by name, checked against its mask."""
        return {s.name: self.reader.check(s) for samples in self.splits.values() for s in samples}

    @cached_property
    def _measured(self) -> tuple[BandStatistics, np.ndarray]:
        train, scheme = self.splits["train"], self.reader.labels.scheme
        with self._all_unknown_values(sample for own in self.splits.values() for sample in own):
            return compute_statistics(train, self.reader, len(scheme.names))

    @property
    def class_counts(self) -> np.ndarray:
        """Labelled valid pixels of the training split by class."""
        return self._measured[1]

    @cached_property
    def spec(self) -> DatasetSpec:
        """Dataset spec of the model; mean and std are None if the backbone's own are to be used."""
        scheme, infos = self.reader.labels.scheme, [self.reader.info(s.image) for s in self.splits["train"]]
        inputs = [
            input_spec(
                info,
                band_numbers(info, self.bands),
                self._measured[0],
                scale=self.scale,
                offset=self.offset,
                nodata=self.nodata,
                normalisation=self.normalisation,
            )
            for info in infos
        ]
        source = combine_inputs(inputs)
        return DatasetSpec((source,), scheme.names, scheme.palette, mask_values=scheme.mask_values())

    def class_weights(self, wanted: str | Sequence[float] | None) -> torch.Tensor | None:
        """Return weights (K,) for the loss: none, balanced by the training split's pixels, or as given.

        Raises:
            ConfigError: If the weights do not fit the classes.
        """
        return class_weights(wanted, self.spec.class_names, self.class_counts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the split and its files."""
        return fingerprints.fingerprint(self.splits)

    def manifest(self) -> dict[str, Any]:
        """Return the sample names by split, the windows of partial images, and a hash of both."""
        return fingerprints.manifest(self.splits)

    def digests(self) -> dict[str, str]:
        """Return a digest of each sample's image and mask."""
        return self._digests

    @cached_property
    def _digests(self) -> dict[str, str]:
        return fingerprints.digests(self.splits)

    def use_digests(self, digests: Path) -> None:
        """Compare files that change with the digests in a run's data.json; a touched file is no change."""
        self.reader.states.digests = digests

    def groups(self, split: str) -> dict[str, str]:
        """Return the tile, scene or block of each sample of a split; its own name if the split has no groups."""
        group_of = getattr(self.split, "group_of", lambda sample: sample.name)
        return {s.name: group_of(s) for s in self.samples_of(split)}

    @property
    def is_probability_sample(self) -> bool:
        """Whether the splits were drawn at random, so that a split stands for the whole."""
        return bool(getattr(self.split, "is_random", False))

    def samples_of(self, split: str) -> list[Sample]:
        """Return a split's samples."""
        if not self.splits.get(split):
            there = ", ".join(name for name, samples in self.splits.items() if samples)
            raise ConfigError(f"split={split}: the dataset has no such images; it has {there}.")
        return self.splits[split]
