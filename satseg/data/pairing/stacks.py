"""Pairing of masks with images whose bands are separate files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from satseg.data.pairing.files import shared_labels
from satseg.data.rasters.names import is_image, is_vector
from satseg.data.rasters.stacks import Stack, common_name, find_band, gather_stacks, visible_files, write_stack
from satseg.data.rasters.wildcards import expand_folders
from satseg.data.samples import Sample
from satseg.errors import ConfigError, DataError


def find_stack_files(
    root: Path, images: Mapping[str, str], masks: str, mask_suffix: str = ""
) -> tuple[list[Stack], dict[str, dict[str, Path]]]:
    """Find stacks and masks, with or without a partner, by the text that the wildcards of their patterns match.

    Args:
        root: The dataset's folder.
        images: Glob pattern by band, relative to the root.
        masks: Glob pattern of the masks.
        mask_suffix: Ending of mask names that is not part of the match, such as `_LabelHand`.

    Returns:
        The stacks in natural order of their names, some perhaps incomplete; and files by kind and name: `image` (the
        first band's file) and `mask`.

    Raises:
        ConfigError: If a pattern is not relative to the root, or a file is both image and mask.
        DataError: If the root is missing, or a pattern finds nothing.
    """
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder; give the one that holds your images and masks.")
    gathered = gather_stacks(images, root, "dataset.images")
    stacks = [Stack(s.name or common_name(s), s.files) for s in gathered]
    files = {s.name: tuple(Path(f) for f in s.files.values()) for s in stacks}
    rasters = any(map(is_image, visible_files(root, expand_folders(root, masks), "dataset.masks")))
    found = find_band("dataset.masks", masks, root, is_image if rasters else is_vector)
    named = {name.removesuffix(mask_suffix): Path(file) for name, file in found.items() if name.endswith(mask_suffix)}
    named = shared_labels(named, files)
    both = {file for own in files.values() for file in own} & {*named.values()}
    if both:
        raise ConfigError(
            f"dataset.images and dataset.masks={masks} both match {min(both)}: make the patterns narrower."
        )
    if not named:
        raise DataError(f"{root}: no mask of dataset.masks={masks} ends in dataset.mask_suffix={mask_suffix}.")
    return stacks, {"image": {name: own[0] for name, own in files.items()}, "mask": named}


def stack_sample(stack: Stack, mask: Path, nodata: float | None) -> Sample:
    """Return the sample of a complete stack.

    Raises:
        SatsegError: As `write_stack`.
    """
    return Sample(stack.name, write_stack(stack, nodata), mask, tuple(Path(f) for f in stack.files.values()))
