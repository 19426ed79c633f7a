"""Finding images and masks, and pairing them by name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from satseg.data.pairing.suffixes import find_suffixes
from satseg.data.rasters.names import (
    USUAL,
    FilePredicate,
    describe_skipped,
    has_unknown_suffix,
    is_image,
    is_vector,
    natural_key,
)
from satseg.data.rasters.wildcards import BRACES, expand_braces, expand_folders
from satseg.data.samples import Sample
from satseg.errors import ConfigError, DataError


def find_files(
    root: Path, images: str, masks: str, image_suffix: str = "", mask_suffix: str = ""
) -> dict[str, dict[str, Path]]:
    """Find images and masks by name, with or without a partner.

    Two files form a pair if their paths below `root` are the same without the suffix and without the folder that
    distinguishes images from masks (`Tile 1/images/a.jpg` and `Tile 1/masks/a.png`). If a pattern names a folder in
    part, such as `*-org-img` or `{train,val}_images`, the rest of its name counts. Masks may be files of polygons; a
    single one belongs to every image.

    Args:
        root: The dataset's folder.
        images: Glob pattern of the images, relative to the root; for a folder, all files in it.
        masks: Glob pattern of the masks.
        image_suffix: Ending of image names that masks lack, such as `_S2Hand`.
        mask_suffix: Ending of mask names that images lack, such as `_LabelHand`.

    Returns:
        Files by kind (`image` and `mask`) and name.

    Raises:
        DataError: If the root is missing, a pattern finds nothing, or two files have the same name.
        ConfigError: If a pattern is no glob pattern relative to the root, or both patterns find the same file.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder; give the one that holds your images and masks.")
    inner, labels = expand_folders(root, images), expand_folders(root, masks)
    found = {
        "image": _find(root, inner, image_suffix, labels),
        "mask": _find(root, labels, mask_suffix, inner) or _find(root, labels, mask_suffix, inner, is_vector),
    }
    both = {*found["image"].values()} & {*found["mask"].values()}
    if mask_suffix and not image_suffix:  # both kinds in one folder: the suffix marks the masks
        found["image"] = {name: path for name, path in found["image"].items() if path not in both}
        both = set()
    found["mask"] = shared_labels(found["mask"], found["image"])
    for kind, pattern, wider, ending in (("image", images, inner, image_suffix), ("mask", masks, labels, mask_suffix)):
        if not found[kind]:
            why = _why_none(root, wider, kind, ending)
            raise DataError(f"{root}: no {kind} matches dataset.{kind}s={pattern}{why}.")
    if both:
        raise ConfigError(
            f"dataset.images={images} and dataset.masks={masks} both match {min(both).relative_to(root)}: make the "
            "patterns narrower, or set dataset.image_suffix and dataset.mask_suffix."
        )
    return found


def find_vectors(root: Path, masks: str, mask_suffix: str = "") -> list[Path]:
    """Return the files of polygons among the masks; none if the masks are rasters.

    The arguments are those of `find_files`.
    """
    found = []
    for path in _glob(Path(root), expand_folders(Path(root), masks)):
        if path.stem.endswith(mask_suffix):
            if is_image(path):
                return []
            if is_vector(path):
                found.append(path)
    return sorted(found)


def shared_labels(masks: dict[str, Path], images: Iterable[str]) -> dict[str, Path]:
    """Return the masks by image name; a single file of polygons belongs to every image."""
    files = list(masks.values())
    is_shared = len(files) == 1 and is_vector(files[0])
    return dict.fromkeys(images, files[0]) if is_shared else masks


def pair(found: dict[str, dict[str, Path]]) -> list[Sample]:
    """Return samples of the files that have a partner, in natural order of their names."""
    names = sorted(found["image"].keys() & found["mask"].keys(), key=natural_key)
    return [Sample(name, found["image"][name], found["mask"][name]) for name in names]


def _why_none(root: Path, pattern: str, kind: str, ending: str) -> str:
    """Return the reason why a pattern finds no usable file, for a message."""
    files = list(_glob(root, pattern))
    usable = [path for path in files if is_image(path) or (kind == "mask" and is_vector(path))]
    if usable:
        return f": none of the {len(usable)} files that it finds ends in dataset.{kind}_suffix={ending}"
    words = describe_skipped(files)
    if words and kind == "mask":
        words += "; polygons end in .gpkg, .geojson, .json or .shp"
    return f": {words}" if words else "; set the pattern to where they are"


def _find(root: Path, pattern: str, ending: str, other: str, accepts: FilePredicate = is_image) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named_files(root, pattern, other, ending, accepts):
        if name in found:
            raise DataError(f"{found[name]} and {path} have the same name {name!r}: make the pattern narrower.")
        found[name] = path
    return found


def named_files(
    root: Path, pattern: str, other: str, ending: str = "", accepts: FilePredicate = is_image
) -> Iterator[tuple[str, Path]]:
    """Yield the files of one kind with the names by which they pair with the other kind.

    Args:
        root: The dataset's folder.
        pattern: Pattern of this kind.
        other: Pattern of the other kind.
        ending: Suffix that names must have, and that is removed.
        accepts: Predicate of the files to yield.
    """
    own = _distinct_parts(pattern, other)
    for path in _glob(root, pattern):
        if path.stem.endswith(ending) and accepts(path):
            yield _key(path.relative_to(root), own, ending), path


def _glob(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the visible files that match a pattern."""
    try:
        for each in expand_braces(pattern):
            yield from (path for path in root.glob(each) if path.is_file() and not path.name.startswith("."))
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"Pattern {pattern!r} (dataset.images, dataset.masks) cannot be used ({error}): give one relative to "
            "dataset.root, such as images/**/*."
        ) from error


def _distinct_parts(pattern: str, other: str) -> set[str]:
    """Return the folders of a pattern, or parts of them, that the other lacks: they distinguish images from masks."""
    return {p for p in PurePosixPath(pattern).parent.parts if p.strip("*")} - set(PurePosixPath(other).parts)


def _key(path: Path, own: set[str], ending: str) -> str:
    folders = [_wildcard_part(folder, own) for folder in path.parent.parts]
    key = "/".join([*filter(None, folders), path.stem.removesuffix(ending)])
    return unicodedata.normalize("NFC", key)  # macOS may store é as e and a combining accent


def _wildcard_part(folder: str, own: set[str]) -> str:
    """Return the text that wildcards match in a folder of one kind; any other folder unchanged."""
    for part in own:
        pieces = re.split(rf"(\*|{BRACES})", part)
        match = re.fullmatch("".join(map(_expression, pieces)), folder)
        if match:  # the other kind may have train where this has Train
            texts = zip(pieces[1::2], match.groups(), strict=True)
            return "".join(text if piece == "*" else text.lower() for piece, text in texts)
    return folder


def _expression(piece: str) -> str:
    """Return the regular expression for a wildcard, or for literal text."""
    if piece == "*":
        return "(.*)"
    if re.fullmatch(BRACES, piece):
        return f"({'|'.join(map(re.escape, piece[1:-1].split(',')))})"
    return re.escape(piece)


def check_all_paired(root: Path, found: dict[str, dict[str, Path]], patterns: Mapping[str, str] | None = None) -> None:
    """Check that every image has a mask and every mask an image.

    Args:
        root: The dataset's folder.
        found: Files by kind (`image` and `mask`) and name.
        patterns: Patterns by kind, to find partners that were skipped because of their suffix.

    Raises:
        DataError: If a file has no partner; names the first.
    """
    for kind, files in find_unpaired(root, found).items():
        if files:
            other = "mask" if kind == "image" else "image"
            first = files[0].relative_to(root)
            passed = _note_skipped(root, (patterns or {}).get(other), files[0].stem)
            raise DataError(
                f"{root}: {len(files)} {kind}s have no {other}, the first is {first}; add or remove them{passed}."
            )


def _note_skipped(root: Path, pattern: str | None, stem: str) -> str:
    """Return a note about a matching file of the same name whose suffix is unknown, if there is one."""
    for path in _glob(root, expand_folders(root, pattern)) if pattern else ():
        if path.stem == stem and has_unknown_suffix(path):
            return f" ({path.relative_to(root)} was skipped: images end in {USUAL})"
    return ""


def _pairing_advice(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """Return the options that pair most names, or general advice if none does."""
    for suffixes in find_suffixes(images, masks):
        named = zip(("image", "mask"), (suffixes.image, suffixes.mask), strict=True)
        options = " ".join(f"dataset.{kind}_suffix={suffix}" for kind, suffix in named if suffix)
        return f"{options} pairs {suffixes.pairs} of {len(images)} images"
    return "set dataset.image_suffix and dataset.mask_suffix to what differs, or give both the same names"


def find_unpaired(root: Path, found: dict[str, dict[str, Path]]) -> dict[str, list[Path]]:
    """Return the files without a partner, by kind.

    Raises:
        DataError: If no file has a partner.
    """
    images, masks = found["image"], found["mask"]
    if not images.keys() & masks.keys():
        one, two = next(iter(images.values())), next(iter(masks.values()))
        raise DataError(
            f"{root}: no image has a mask of the same name (such as {one.relative_to(root)} and "
            f"{two.relative_to(root)}); {_pairing_advice(images, masks)}."
        )
    unpaired = {"image": images.keys() - masks.keys(), "mask": masks.keys() - images.keys()}
    return {kind: [found[kind][name] for name in sorted(names, key=natural_key)] for kind, names in unpaired.items()}
