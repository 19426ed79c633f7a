"""Base datamodule: the loaders of training patches and whole images that all datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from satseg.data.augmentation import Augmentation
from satseg.data.dataset import ImageDataset, Item, PatchDataset, collate, to_item
from satseg.data.loading_options import check_chosen, check_options, default_workers
from satseg.data.reader import SampleReader
from satseg.data.samples import Sample
from satseg.data.sampling.locations import Area, PatchLocations
from satseg.data.sampling.patch_sizes import fit_batch_size, fit_patch_size
from satseg.data.sampling.sampler import PatchBatchSampler
from satseg.data.split_dataset import SplitDataset
from satseg.data.workers import kill_workers_at_exit, prepare_worker
from satseg.devices import training_machine
from satseg.errors import ConfigError
from satseg.ranks import world_size


class SegmentationDataModule(SplitDataset, pl.LightningDataModule):
    """Split, measure and load a dataset; subclasses provide samples and classes.

    Args:
        patch_size: Edge of a training patch in pixels; `auto` fits the images.
        batch_size: Patches per training batch; `auto` fits memory and the number of patches.
        patches_per_epoch: `auto` covers the area of the training images once.
        num_workers: Loader processes; 0 reads in the training process, `auto` fits the machine.
        augmentation: Augmentation of the training patches.
        sampler: Chooses the locations of training patches; anywhere by default.
        sampling_seed: Seed of order, location and augmentation of patches; never of the split.
        data: Options of `SplitDataset`: `split`, and how its images are read.
    """

    def __init__(
        self,
        *,
        patch_size: int | Literal["auto"] = 256,
        batch_size: int | Literal["auto"] = 8,
        patches_per_epoch: int | Literal["auto"] = "auto",
        num_workers: int | Literal["auto"] = "auto",
        augmentation: Augmentation | None = None,
        sampler: Callable[[Sequence[Sample], SampleReader], PatchLocations] | None = None,
        sampling_seed: int = 0,
        **data: Any,
    ) -> None:
        check_options(patch_size, batch_size, patches_per_epoch, num_workers)
        super().__init__(**data)
        self._patch_size, self._batch_size = patch_size, batch_size
        self.accelerator = "auto"  # as passed to the trainer
        self.patches_per_epoch = patches_per_epoch
        self.num_workers = default_workers() if num_workers == "auto" else num_workers
        self.augmentation = augmentation or Augmentation()
        check_chosen("sampler", sampler or Area())
        self.sampler, self.sampling_seed = sampler or Area(), sampling_seed
        self._start = (0, 0)
        self.train_sampler: PatchBatchSampler | None = None

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
