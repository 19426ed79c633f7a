"""From samples to batches: the part that all datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from satseg.data.augmentation import Augmentation
from satseg.data.dataset import ImageDataset, Item, PatchDataset, collate, to_item
from satseg.data.masks import ClassScheme
from satseg.data.options import check_options, default_workers
from satseg.data.pairing import Sample
from satseg.data.reader import SampleReader
from satseg.data.sampler import PatchBatchSampler
from satseg.data.splits import Splits
from satseg.data.statistics import compute_statistics, fingerprint
from satseg.errors import BandError, ConfigError, DataError
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

Normalisation = Literal["auto", "backbone", "statistics", "none"]


class SegmentationDataModule(pl.LightningDataModule):
    """Splits, measures and loads a dataset; a subclass says where samples and classes come from.

    Args:
        split: Called with all samples and the root; returns the splits.
        patch_size: Edge of a training patch in pixels.
        batch_size: Patches a training batch.
        patches_per_epoch: `auto` covers the training images' area once.
        num_workers: Loader processes; 0 reads in the training process, `auto` suits the machine.
        cache_gb: Memory for decoded files, in each worker.
        bands: One-based numbers of the bands to read; all by default.
        nodata: Value of missing pixels; each file's own by default.
        scale: Divisor of raw numbers to unit scale; `auto` is 255 for 8-bit images, else the training
            split's range from the 2nd to the 98th percentile.
        normalisation: `backbone`: the backbone's own mean and deviation; `statistics`: the training split's;
            `none`; `auto`: the backbone's for 8-bit RGB, else the split's.
        augmentation: For the training patches.
        sampling_seed: Order, place and augmentation of patches; never the split.
    """

    def __init__(
        self,
        *,
        split: Callable[[Sequence[Sample], Path], Splits],
        patch_size: int = 256,
        batch_size: int = 8,
        patches_per_epoch: int | Literal["auto"] = "auto",
        num_workers: int | Literal["auto"] = "auto",
        cache_gb: float = 1.0,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        scale: float | Literal["auto"] = "auto",
        normalisation: Normalisation = "auto",
        augmentation: Augmentation | None = None,
        sampling_seed: int = 0,
    ) -> None:
        super().__init__()
        self.split = split
        self.patch_size, self.batch_size = patch_size, batch_size
        self.patches_per_epoch, self.cache_gb = patches_per_epoch, cache_gb
        self.num_workers = default_workers() if num_workers == "auto" else num_workers
        self.bands, self.nodata, self.scale, self.normalisation = bands, nodata, scale, normalisation
        self.augmentation = augmentation or Augmentation()
        self.sampling_seed = sampling_seed
        self.assumptions: list[str] = []
        self._epoch, self._checked = 0, False
        check_options(patch_size, batch_size, patches_per_epoch, num_workers, bands, scale)

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        raise NotImplementedError

    def samples(self) -> list[Sample]:
        """Find all samples."""
        raise NotImplementedError

    def paired(self) -> tuple[list[Sample], dict[str, list[Path]]]:
        """Return the samples that there are, and by kind (`image`, `mask`) the files that lack their partner."""
        return self.samples(), {}

    def scheme(self) -> ClassScheme:
        """Return the classes and what masks call them."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Find and split the samples, and compare the headers of every image and mask; once."""
        if not self._checked:
            _ = self.sizes
            self._check_bands()
            self._checked = True

    def _check_bands(self) -> None:
        info = self.reader.info(self.splits["train"][0].image)
        there = range(1, len(info.band_names) + 1)
        missing = [b for b in self.bands or () if b not in there]
        if missing:
            raise BandError(
                f"{info.path} has no band {missing[0]}, only 1 to {len(there)}; set dataset.bands to some of these."
            )
        alpha = [b for b in there if b not in info.bands]
        if alpha and self.bands is None:
            self.assumptions.append(
                f"band {alpha[0]} of the images is transparency (dataset.bands={list(there)} takes it as data)"
            )

    @cached_property
    def splits(self) -> Splits:
        """Samples by split."""
        return self.divide(self.samples())

    def divide(self, samples: Sequence[Sample]) -> Splits:
        """Split some samples."""
        whole = {s.name: s for s in samples}
        sides = self.split([s.by_file()[0] for s in whole.values()], self.root)  # a stack lies outside of the root
        return {split: [whole[s.name] for s in samples] for split, samples in sides.items()}

    @cached_property
    def reader(self) -> SampleReader:
        """Reads samples, in the training process."""
        return SampleReader(self.scheme(), self.bands, self.nodata, self.cache_gb)

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each image by name, checked against its mask."""
        return {s.name: self.reader.check(s) for samples in self.splits.values() for s in samples}

    @cached_property
    def _measured(self) -> tuple[BandStatistics, np.ndarray]:
        train = self.splits["train"]
        statistics, counts = compute_statistics(train, self.reader, len(self.reader.scheme.names))
        if counts.sum() == 0:
            raise DataError("The training images have no labelled pixel that is not nodata.")
        return statistics, counts

    @property
    def class_counts(self) -> np.ndarray:
        """Labelled valid pixels of the training split by class."""
        return self._measured[1]

    @cached_property
    def spec(self) -> DatasetSpec:
        """What the model needs to know; mean and std are None where the backbone's own are wanted."""
        info = self.reader.info(self.splits["train"][0].image)
        numbers = self.bands or info.bands
        names = tuple(info.band_names[n - 1] for n in numbers)
        statistics = self._measured[0]
        offset, scale = self._unit_scale(info.dtype, statistics)
        mean, std = self._standardisation(info.dtype, statistics, offset, scale)
        nodata = info.nodata if self.nodata is None else self.nodata
        source = InputSpec(names, info.dtype, scale, offset, nodata, info.gsd_m, 1, mean, std, statistics)
        scheme = self.reader.scheme
        return DatasetSpec((source,), scheme.names, scheme.palette)

    def _unit_scale(self, dtype: str, statistics: BandStatistics) -> tuple[float, float]:
        if self.scale != "auto":
            return 0.0, float(self.scale)
        if dtype == "uint8":
            return 0.0, 255.0
        offset = min(0.0, *statistics.p02)
        return offset, max(max(statistics.p98) - offset, 1e-6)

    def _standardisation(
        self, dtype: str, statistics: BandStatistics, offset: float, scale: float
    ) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        bands = len(statistics.mean)
        kind = self.normalisation
        if kind == "auto":
            kind = "backbone" if dtype == "uint8" and bands == 3 else "statistics"
        if kind == "backbone":
            return None, None
        if kind == "none":
            return (0.0,) * bands, (1.0,) * bands
        if kind != "statistics":
            raise ConfigError(f"dataset.normalisation={kind}: choose auto, backbone, statistics or none.")
        mean = tuple((m - offset) / scale for m in statistics.mean)
        return mean, tuple(max(s / scale, 1e-6) for s in statistics.std)

    def class_weights(self, wanted: str | Sequence[float] | None) -> torch.Tensor | None:
        """Return weights (K,) for the loss: none, balanced by the training split's pixels, or as given.

        Raises:
            ConfigError: If the weights do not fit the classes.
        """
        if wanted is None or wanted == "none":
            return None
        if wanted == "balanced":
            shares = self.class_counts / self.class_counts.sum()
            weights = 1 / np.sqrt(np.maximum(shares, 1e-6))  # the root: full inversion drowns frequent classes
            return torch.tensor(weights / weights.mean(), dtype=torch.float32)
        fits = isinstance(wanted, list | tuple) and len(wanted) == self.spec.num_classes
        if not fits or not all(isinstance(w, int | float) and w >= 0 for w in wanted):
            raise ConfigError(
                f"loss.class_weights={wanted}: expected none, balanced, or {self.spec.num_classes} numbers for "
                f"{', '.join(self.spec.class_names)}."
            )
        return torch.tensor([float(w) for w in wanted], dtype=torch.float32)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of split and files."""
        return fingerprint({split: [f for s in samples for f in s.by_file()] for split, samples in self.splits.items()})

    def manifest(self) -> dict[str, list[str]]:
        """Return the names by split."""
        return {split: [s.name for s in samples] for split, samples in self.splits.items()}

    def digests(self) -> dict[str, str]:
        """Return a digest of each sample's image and mask."""
        return {s.name: fingerprint({"": s.by_file()})[:16] for samples in self.splits.values() for s in samples}

    def groups(self, split: str) -> dict[str, str]:
        """Return which tile or scene each image of a split is a part of; itself, where the split knows of none."""
        group_of = getattr(self.split, "group_of", lambda sample: sample.name)
        return {s.name: group_of(s.by_file()[0]) for s in self.samples_of(split)}

    @property
    def is_probability_sample(self) -> bool:
        """Whether the splits were drawn at random, so that a split stands for the whole."""
        return bool(getattr(self.split, "is_random", False))

    def train_dataloader(self) -> DataLoader[Item]:
        """Training patches; each pass is the next epoch."""
        train = self.splits["train"]
        self.train_sampler = PatchBatchSampler(
            [self.sizes[s.name] for s in train],
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            num_patches=self._num_patches(train),
            seed=self.sampling_seed,
            zoom=tuple(self.augmentation.zoom),  # type: ignore[arg-type]
            **self._ranks(),
        )
        self.train_sampler.epoch = self._epoch
        dataset = PatchDataset(train, self._own_reader(), self.augmentation, self.spec.inputs[0], self.patch_size)
        return self._loader(dataset, self.train_sampler)

    def _num_patches(self, train: Sequence[Sample]) -> int:
        if self.patches_per_epoch != "auto":
            return self.patches_per_epoch
        return round(sum(np.prod(self.sizes[s.name]) for s in train) / self.patch_size**2)

    def val_dataloader(self) -> DataLoader[Item]:
        """Whole images of the validation split."""
        return self.eval_dataloader("val")

    def eval_dataloader(self, split: str) -> DataLoader[Item]:
        """Whole images of a split, one a batch and each once, on whichever rank.

        Raises:
            ConfigError: If the dataset has no such split.
        """
        samples = self.samples_of(split)
        ranks = self._ranks()
        own = range(ranks["rank"], len(samples), ranks["world_size"])
        return self._loader(ImageDataset(samples, self._own_reader()), [[index] for index in own])

    def samples_of(self, split: str) -> list[Sample]:
        """Return a split's samples."""
        if not self.splits.get(split):
            there = ", ".join(name for name, samples in self.splits.items() if samples)
            raise ConfigError(f"split={split}: the dataset has no such images; it has {there}.")
        return self.splits[split]

    def named_items(self, split: str, names: Sequence[str]) -> Iterator[Item]:
        """Read whole images by name, in that order."""
        by_name = {s.name: s for s in self.samples_of(split)}
        for name in names:
            yield to_item(name, *self.reader.read(by_name[name]))

    def _own_reader(self) -> SampleReader:
        reader = self.reader
        if self.num_workers == 0:
            return reader
        return SampleReader(reader.scheme, reader.bands, reader.nodata, reader.cache_gb, reader.like)

    def _loader(self, dataset: Any, batches: Iterable[list[Any]]) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        if trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}

    def on_after_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Raise what went wrong in a worker."""
        if "failure" in batch:
            batch["failure"].raise_error()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """How many epochs of patches have been drawn."""
        return {"epoch": self.train_sampler.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the patches of the next epoch."""
        self._epoch = state_dict["epoch"]
