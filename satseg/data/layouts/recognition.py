"""Recognition of the layout of images and masks from the names of folders and files."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from satseg.data.layouts.unrecognised import folder_tree, suggest_options
from satseg.data.loading_options import FOLDER
from satseg.data.pairing.files import named_files
from satseg.data.pairing.folder_names import Folders, has_images, named_folders, split_folders, subfolders
from satseg.data.pairing.suffixes import find_suffixes, has_mask_suffix, split_by_suffix
from satseg.data.rasters.names import is_image, is_vector
from satseg.data.rasters.wildcards import expand_braces, expand_folders
from satseg.data.splits import Auto
from satseg.errors import ConfigError, DataError

MAX_DEPTH, MAX_INNER_FOLDERS = 4, 100  # levels of folders, and folders per level
MAX_ENTRIES = 10_000  # examined per folder
OPTIONS = ("images", "masks", "image_suffix", "mask_suffix")
AUTO = "satseg.data.splits.Auto"
NO_PAIR, PAIRED, WHOLE = 1, 2, 3  # grades of how well names pair


@dataclass(frozen=True)
class Layout:
    """Patterns of images and masks below a folder.

    Attributes:
        root: The folder that the patterns are relative to.
        images: Pattern of the images.
        masks: Pattern of the masks.
        image_suffix: Ending of image names that mask names lack.
        mask_suffix: Ending of mask names that image names lack.
        folders: Names of the images' folders by split, if there are any.
        left_out: Folders of one kind without a counterpart of the other.
    """

    root: Path
    images: str
    masks: str
    image_suffix: str = ""
    mask_suffix: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Return the equivalent dataset options."""
        return {name: str(getattr(self, name)) for name in ("root", *OPTIONS)}

    def description(self) -> str:
        """Return the locations of images and masks, for messages."""
        endings = [f" that end in {suffix}" if suffix else "" for suffix in (self.image_suffix, self.mask_suffix)]
        return f"images{endings[0]} in {_pattern_text(self.images)}, masks{endings[1]} in {_pattern_text(self.masks)}"

    def summary(self) -> str:
        """Return a sentence about what was recognised."""
        rest = f"; left out for lack of a counterpart: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.description()}, below {self.root}{rest} (dataset.images and dataset.masks override this)"


def _pattern_text(pattern: str) -> str:
    return "this folder" if pattern == "*" else " and ".join(each.removesuffix("/*") for each in expand_braces(pattern))


@dataclass(frozen=True)
class Fit:
    """A layout and its grade; higher is better."""

    layout: Layout
    grade: tuple[int, bool]  # of the names; and whether masks are rasters, which are preferred to polygons


def recognise(
    root: Path,
    images: str | Mapping[str, str] | None = None,
    masks: str | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
) -> Layout:
    """Recognise the layout of images and masks in a folder, or in the one folder inside it that a download made.

    Args:
        root: The dataset's folder.
        images: Given pattern of the images; None to recognise it.
        masks: Given pattern of the masks; None to recognise it.
        image_suffix: Given suffix; detected if neither suffix is given.
        mask_suffix: Given suffix; likewise.

    Raises:
        DataError: If the folder is missing or nothing in it is recognised; shows the folder tree.
        ConfigError: If two layouts fit equally; names both.
    """
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder; give the one that holds your images and masks.")
    suffixes = (image_suffix, mask_suffix)
    fits = list(_fits(root, images, masks, suffixes))
    if images is None and masks is None and not any(fit.grade[0] for fit in fits):
        inner = [
            fit for folder in subfolders(root)[:MAX_INNER_FOLDERS] for fit in _fits(root / folder, None, None, suffixes)
        ]
        fits = [fit for fit in inner if fit.grade[0]] or fits
    if not fits:
        if isinstance(images, str) and not any(named_files(root, expand_folders(root, images), "")):
            return Layout(root, images, "masks")  # pairing then reports that there is no image
        raise _nothing_recognised(root, images, masks)
    best = max(fit.grade for fit in fits)
    return _best([fit.layout for fit in fits if fit.grade == best], root)


def recognise_options(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that are recognised for a dataset, and sentences about them.

    A split by folders is among these options, so that a saved configuration gives the same split later.

    Args:
        dataset: The options; nothing is recognised unless they are of `FolderDataModule`, and `images` or `masks` is
            present and null. For a user's own class, null may mean something else.

    Raises:
        SatsegError: As `recognise`.
    """
    given = {name: dataset.get(name) for name in ("images", "masks")}
    is_open = given.keys() <= dataset.keys() and None in given.values() and dataset.get("root") is not None
    if dataset.get("_target_") != FOLDER or not is_open:
        return {}, []
    endings = [dataset.get(name) or "" for name in ("image_suffix", "mask_suffix")]
    layout = recognise(Path(dataset["root"]), given["images"], given["masks"], *endings)
    found: dict[str, Any] = layout.options() | {name: value for name, value in given.items() if value is not None}
    split = dataset.get("split")
    if not isinstance(split, Mapping) or split.get("_target_") != AUTO:
        return found, [layout.summary()]
    auto = Auto(**{name: value for name, value in split.items() if not name.startswith("_")})
    kind, options = auto.options(layout.folders)
    found["split"] = {"_target_": f"{AUTO.rpartition('.')[0]}.{kind.__name__}"} | options
    return found, [layout.summary(), auto.summary(layout.folders)]


def _best(layouts: Sequence[Layout], root: Path) -> Layout:
    """Return the best layout.

    Raises:
        ConfigError: If several fit equally.
    """
    first = layouts[0]
    if len(layouts) == 1:
        return first
    if len({each.root for each in layouts}) == len(layouts):
        options = _options(replace(first, images=f"*/{first.images}", masks=f"*/{first.masks}"))
        raise ConfigError(
            f"{root}: {len(layouts)} folders have images and masks, such as {first.root.name} and "
            f"{layouts[1].root.name}: add {options} to use all that are laid out like {first.root.name}, or "
            f"dataset.root={shlex.quote(str(first.root))} to use one."
        )
    differing = [name for name in OPTIONS if len({getattr(each, name) for each in layouts}) > 1]
    raise ConfigError(
        f"{root}: {len(layouts)} layouts fit equally: {'; or '.join(each.description() for each in layouts)}. Choose "
        f"by {', or '.join(_options(each, differing) for each in layouts)}."
    )


def _options(layout: Layout, names: Sequence[str] = OPTIONS) -> str:
    """Return the dataset options of a layout, ready for the command line."""
    named = [(name, getattr(layout, name)) for name in names]
    return " ".join(f"dataset.{name}={shlex.quote(value)}" for name, value in named if value)


def _fits(
    root: Path, images: str | Mapping[str, str] | None, masks: str | None, suffixes: tuple[str, str]
) -> Iterator[Fit]:
    """Yield the layouts that the names of folders allow, graded by the names of their files."""
    if isinstance(images, Mapping):  # a pattern per band: files pair by what the wildcards match
        for layout in _candidates(root, next(iter(images.values()), ""), masks):
            yield Fit(layout, (_grade_masks(layout), True))
        return
    found = [fit for layout in _candidates(root, images, masks) for fit in _fit(layout, suffixes)]
    yield from found
    if images is None and masks is None and not any(fit.grade[0] for fit in found):
        yield from _in_one_folder(root, suffixes)


def _grade_masks(layout: Layout) -> int:
    files = named_files(layout.root, expand_folders(layout.root, layout.masks), "", accepts=_is_label)
    return NO_PAIR if next(files, None) else 0


def _is_label(path: Path) -> bool:
    return is_image(path) or is_vector(path)


def _candidates(root: Path, images: str | None, masks: str | None) -> list[Layout]:
    """Return the layouts that the names of folders allow."""
    there = named_folders(root)
    if images is not None:
        return [Layout(root, images, f.pattern(f.names)) for kind, f in there if kind == "mask"]
    if masks is not None:
        return [Layout(root, f.pattern(f.names), masks) for kind, f in there if kind == "image"]
    ones, others = ([f for kind, f in there if (kind == "mask") == is_mask] for is_mask in (False, True))
    found = [layout for one, other in itertools.product(ones, others) for layout in _pair(root, one, other)]
    return [each for each in found if not _is_divided(each, found) or has_images(root / each.images)]


def _is_divided(layout: Layout, layouts: Sequence[Layout]) -> bool:
    """Return True if other layouts are the splits of this one, inside its folders."""
    starts = f"{layout.images}/", f"{layout.masks}/"
    return any(each.images.startswith(starts[0]) and each.masks.startswith(starts[1]) for each in layouts)


def _pair(root: Path, one: Folders, other: Folders) -> list[Layout]:
    """Return the layout of folders of images and folders of masks, if they share a split or have none."""
    sides = one.names.keys() & other.names.keys()
    if (one.names or other.names) and not sides:
        return []
    unpaired = [f.of(side) for f in (one, other) for side in f.names if side not in sides]
    return [Layout(root, one.pattern(sides), other.pattern(sides), left_out=tuple(unpaired))]


def _fit(layout: Layout, suffixes: tuple[str, str]) -> list[Fit]:
    """Return the graded layouts of a pair of folders; several if different suffixes fit equally."""
    inner, labels = (expand_folders(layout.root, pattern) for pattern in (layout.images, layout.masks))
    files = dict(named_files(layout.root, inner, labels))
    layout = replace(layout, folders=split_folders(path.relative_to(layout.root).parent for path in files.values()))
    masks = {name for name, _ in named_files(layout.root, labels, inner)}
    if not masks:
        polygons = dict(named_files(layout.root, labels, inner, accepts=is_vector))
        by_name = len(polygons) > 1 and files.keys() & polygons.keys()  # a single file may have any name
        return [Fit(layout, (0 if not files or not polygons else PAIRED if by_name else NO_PAIR, False))]
    if inner == labels:
        images, masks = split_by_suffix(masks)
    else:
        images = set(files)
    return _endings(layout, images, masks, suffixes) if images else [Fit(layout, (0, True))]


def _endings(layout: Layout, images: set[str], masks: set[str], suffixes: tuple[str, str]) -> list[Fit]:
    """Return a layout with the usual suffixes that pair most names."""
    if any(suffixes):
        layout = replace(layout, image_suffix=suffixes[0], mask_suffix=suffixes[1])
        return [Fit(layout, (PAIRED, True))]
    found = [each for each in find_suffixes(images, masks) if each.is_common]
    best = [each for each in found if each.pairs == found[0].pairs]
    if not best:
        return [Fit(layout, (PAIRED if images & masks else NO_PAIR, True))]
    plain = [each for each in best if not each.image and not each.mask]
    grade = WHOLE if best[0].pairs == len(images) else PAIRED
    return [
        Fit(replace(layout, image_suffix=each.image, mask_suffix=each.mask), (grade, True)) for each in plain or best
    ]


def _in_one_folder(root: Path, suffixes: tuple[str, str]) -> Iterator[Fit]:
    """Yield layouts with images and masks in one folder, or in one per split, that differ in their suffixes."""
    named = named_folders(root)
    folders = [f for kind, f in named if kind != "mask"] if all(kind != "mask" for kind, _ in named) else []
    for pattern in [f.pattern(f.names) for f in folders] or (["*"] if _may_hold_both(root) else []):
        yield from (fit for fit in _fit(Layout(root, pattern, pattern), suffixes) if fit.grade[0] > NO_PAIR)


def _may_hold_both(folder: Path) -> bool:
    """Return True if any of the first MAX_ENTRIES files of a folder has a mask suffix."""
    with suppress(OSError), os.scandir(folder) as entries:
        return any(has_mask_suffix(Path(entry.name).stem) for entry in itertools.islice(entries, MAX_ENTRIES))
    return False


def _nothing_recognised(root: Path, images: Any, masks: str | None) -> DataError:
    wanted = "images and masks" if images is None and masks is None else "images" if images is None else "masks"
    advice = None
    if wanted == "images and masks":
        deeper = _find_deeper(root)
        advice = f"dataset.root={shlex.quote(str(deeper))}" if deeper else suggest_options(root)
    expected = (
        "expected images/ and masks/, or train/images and train/masks, val/images and val/masks, or the like; set "
        "dataset.images and dataset.masks to where they are"
    )
    message = f"{root}: no folders of {wanted} were recognised; {f'add {advice}' if advice else expected}."
    return DataError(message, below=folder_tree(root))


def _find_deeper(root: Path) -> Path | None:
    """Return the only deeper folder with a recognised layout; None if there is none or more than one."""
    level, found = [root / name for name in subfolders(root)], []  # already searched
    for _ in range(MAX_DEPTH - 1):
        level = [folder / name for folder in level for name in subfolders(folder)][:MAX_INNER_FOLDERS]
        found += [folder for folder in level if any(fit.grade[0] for fit in _fits(folder, None, None, ("", "")))]
    return found[0] if len(found) == 1 else None
