"""Base datamodule: splits, statistics and loaders that all datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from satseg.data import fingerprints
from satseg.data.assumptions import find_assumptions
from satseg.data.augmentation import Augmentation
from satseg.data.class_weights import class_weights
from satseg.data.dataset import ImageDataset, Item, PatchDataset, collate, to_item
from satseg.data.input_spec import combine_inputs, input_spec
from satseg.data.labels.discovery import ClassScheme
from satseg.data.labels.reader import LabelReader
from satseg.data.labels.unknown_values import extend_to_all_masks
from satseg.data.options import Normalisation, check_numbers, check_options, default_workers
from satseg.data.rasters.bands import band_numbers
from satseg.data.reader import SampleReader
from satseg.data.samples import Pairs, Sample
from satseg.data.sampling.locations import Area, PatchLocations
from satseg.data.sampling.patch_sizes import fit_batch_size, fit_patch_size
from satseg.data.sampling.sampler import PatchBatchSampler
from satseg.data.splits import Splits, left_out
from satseg.data.statistics import compute_statistics, count_classes
from satseg.data.workers import kill_workers_at_exit, prepare_worker
from satseg.devices import training_machine
from satseg.errors import ConfigError, MaskValueError
from satseg.ranks import world_size
from satseg.spec import BandStatistics, DatasetSpec


class SegmentationDataModule(pl.LightningDataModule):
    """Split, measure and load a dataset; subclasses provide samples and classes.

    Args:
        split: Called with all samples and the root; returns the splits. If it has `counts_classes`, it is also passed
            a function that returns the pixels per class of a sample.
        patch_size: Edge of a training patch in pixels; `auto` fits the images.
        batch_size: Patches per training batch; `auto` fits memory and the number of patches.
        patches_per_epoch: `auto` covers the area of the training images once.
        num_workers: Loader processes; 0 reads in the training process, `auto` fits the machine.
        cache_gb: Memory for decoded images, shared by all workers.
        bands: One-based numbers or names of the bands to read, in any order; all by default.
        nodata: Value of missing pixels; each file's own by default.
        scale: Divisor of raw numbers to unit scale; see `input_spec` for it and the next two.
        offset: Subtracted before the division.
        normalisation: `auto`, `backbone`, `scale`, `standardise` or `percentile`.
        augmentation: Augmentation of the training patches.
        sampler: Chooses the locations of training patches; anywhere by default.
        sampling_seed: Seed of order, location and augmentation of patches; never of the split.
    """

    def __init__(
        self,
        *,
        split: Callable[..., Splits],
        patch_size: int | Literal["auto"] = 256,
        batch_size: int | Literal["auto"] = 8,
        patches_per_epoch: int | Literal["auto"] = "auto",
        num_workers: int | Literal["auto"] = "auto",
        cache_gb: float = 1.0,
        bands: Sequence[int | str] | None = None,
        nodata: float | None = None,
        scale: float | Literal["auto"] = "auto",
        offset: float | Literal["auto"] = "auto",
        normalisation: Normalisation = "auto",
        augmentation: Augmentation | None = None,
        sampler: Callable[[Sequence[Sample], SampleReader], PatchLocations] | None = None,
        sampling_seed: int = 0,
    ) -> None:
        super().__init__()
        self.split = split
        self._patch_size, self._batch_size = patch_size, batch_size
        self.accelerator = "auto"  # as passed to the trainer
        self.patches_per_epoch, self.cache_gb = patches_per_epoch, cache_gb
        self.num_workers = default_workers() if num_workers == "auto" else num_workers
        self.bands, self.nodata = bands, nodata
        self.scale, self.offset, self.normalisation = scale, offset, normalisation
        self.augmentation = augmentation or Augmentation()
        self.sampler, self.sampling_seed = sampler or Area(), sampling_seed
        self.assumptions: list[str] = []
        self._start = (0, 0)
        self.train_sampler: PatchBatchSampler | None = None
        self._checked = False
        check_options(patch_size, batch_size, patches_per_epoch, num_workers)
        check_numbers(bands, nodata, scale, offset, normalisation)

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        raise NotImplementedError

    def samples(self) -> list[Sample]:
        """Find all samples."""
        raise NotImplementedError

    def paired(self) -> Pairs:
        """Return the usable samples, and the files that no sample can be made of."""
        return Pairs(self.samples())

    @property
    def finds_classes(self) -> bool:
        """Whether classes are discovered from the masks because no option names them."""
        return False

    def scheme(self) -> ClassScheme:
        """Return the classes and their values in the masks."""
        raise NotImplementedError

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
        splits = self.divide(self.samples())
        unused = left_out(self.samples(), splits)
        if unused:
            self.assumptions.append(f"{len(unused)} images are in no split (such as {unused[0].name})")
        return splits

    def divide(self, samples: Sequence[Sample]) -> Splits:
        """Split samples, and add the remarks of the split to the assumptions."""
        counts = (partial(count_classes, reader=self.reader),) if getattr(self.split, "counts_classes", False) else ()
        with self._all_unknown_values(samples):
            splits = self.split(samples, self.root, *counts)
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
        return SampleReader(LabelReader(self.scheme()), self.bands, self.nodata)

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

    @cached_property
    def patch_size(self) -> int:
        """Edge of a training patch in pixels."""
        if self._patch_size != "auto":
            return self._patch_size
        return fit_patch_size(self.sizes[s.name] for s in self.splits["train"])

    @cached_property
    def batch_size(self) -> int:
        """Patches per training batch of one device."""
        if self._batch_size != "auto":
            return self._batch_size
        patches = self.num_patches // world_size()
        return fit_batch_size(self.patch_size, patches, training_machine(self.accelerator))

    @property
    def num_patches(self) -> int:
        """Patches per epoch over all devices, before rounding up to whole batches."""
        if self.patches_per_epoch != "auto":
            return self.patches_per_epoch
        return round(sum(np.prod(self.sizes[s.name]) for s in self.splits["train"]) / self.patch_size**2)

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

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the loader of training patches; each pass is the next epoch."""
        train = self.splits["train"]
        self.train_sampler = PatchBatchSampler(
            [self.sizes[s.name] for s in train],
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            num_patches=self.num_patches,
            seed=self.sampling_seed,
            zoom=tuple(self.augmentation.zoom),  # type: ignore[arg-type]
            locations=self._locations,
            **self._ranks(),
        )
        self.start_at(*self._start)
        own = self.augmentation, self.spec.inputs[0], self.patch_size, self._defers_photometric
        return self._loader(PatchDataset(train, self.reader, *own), self.train_sampler)

    @property
    def _defers_photometric(self) -> bool:
        """Whether photometric augmentation runs on a device other than the processor."""
        there = self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"
        return there and self.augmentation.has_photometric

    def start_at(self, epoch: int, batches: int) -> None:
        """Start training patches within an epoch, after a number of batches; also for a loader that exists already."""
        self._start = epoch, batches
        if self.train_sampler is not None:
            self.train_sampler.epoch, self.train_sampler.skip = epoch, batches

    @cached_property
    def _locations(self) -> PatchLocations:
        return self.sampler(self.splits["train"], self.reader)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the validation split."""
        return self.eval_dataloader("val")

    def eval_dataloader(self, split: str) -> DataLoader[Item]:
        """Return the loader of a split: whole images or blocks, one per batch, each on exactly one rank.

        Raises:
            ConfigError: If the dataset has no such split, or fewer samples than ranks.
        """
        samples = self.samples_of(split)
        ranks = self._ranks()
        if len(samples) < ranks["world_size"]:
            raise ConfigError(
                f"split={split} has {len(samples)} images, too few for {ranks['world_size']} devices to share: "
                "set trainer.devices to fewer."
            )
        own = range(ranks["rank"], len(samples), ranks["world_size"])
        return self._loader(ImageDataset(samples, self.reader), [[index] for index in own])

    def samples_of(self, split: str) -> list[Sample]:
        """Return a split's samples."""
        if not self.splits.get(split):
            there = ", ".join(name for name, samples in self.splits.items() if samples)
            raise ConfigError(f"split={split}: the dataset has no such images; it has {there}.")
        return self.splits[split]

    def named_items(self, split: str, names: Sequence[str]) -> Iterator[Item]:
        """Yield whole samples by name, in the given order."""
        by_name = {s.name: s for s in self.samples_of(split)}
        for name in names:
            yield to_item(name, *self.reader.read(by_name[name]))

    def _loader(self, dataset: Any, batches: Iterable[list[Any]]) -> DataLoader[Item]:
        kill_workers_at_exit()
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=prepare_worker,
            pin_memory=torch.cuda.is_available(),
        )

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        if trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}

    def on_after_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Raise the error of a worker; apply the photometric augmentation deferred to the device."""
        if "failure" in batch:
            batch["failure"].raise_error()
        if "seed" in batch:
            seeds = batch.pop("seed")
            batch["image"] = self.augmentation.photometric(batch["image"], batch["valid"], seeds, self.spec.inputs[0])
        return batch
