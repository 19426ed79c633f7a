"""Leakage between splits: duplicates, near duplicates, overlapping crops and continuing edges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice, permutations
from typing import NamedTuple

import numpy as np
import shapely

from satseg.data.rasters.header import RasterInfo
from satseg.validate.alignments import AlignmentInput, find_alignments
from satseg.validate.facts import SIDES, Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, count, percent
from satseg.validate.fingerprints import Crop, find_overlaps
from satseg.validate.ground import Footprint
from satseg.validate.near_duplicates import find_near_duplicates
from satseg.validate.orientations import DESCRIPTIONS
from satseg.validate.similarity import correlated_pairs, unit_rows

MIN_REPORTED_ZOOM = 1.03
MIN_EDGE_CORRELATION = 0.3  # of the gradients along two edges that continue each other
EDGE_MARGIN = 2.0  # standard deviations above the expected maximum by chance over all pairs
MAX_EDGE_LENGTH = 1024  # in pixels; longer edges are averaged down
COARSE_STEP = 4  # pixels averaged at the coarser of two scales
MIN_EDGE_LENGTH = 8 * COARSE_STEP  # in pixels; shorter edges are not informative
MAX_CHANCE_EDGES = 500  # edges on which chance correlations are measured
UNREACHABLE = 1.1  # as a correlation
MAX_PAIRS = 10_000  # reported; with more, a split is hopeless anyway
FACING = (("right", "left"), ("bottom", "top"))

REMEDY_COPIES = "Remove the copies, or keep them in one split."
REMEDY_SCENES = (
    "Keep images of one scene in one split: dataset/split=group with dataset.split.pattern, a published list "
    "(dataset/split=list), or dataset/split=blocks."
)
REMEDY_CROPS = (
    "Split by the mosaic that they were cropped from: dataset/split=group with dataset.split.pattern, or a list of "
    "whole mosaics (dataset/split=list)."
)
EXPECTED = "Scored images show places that no other split contains: otherwise scores measure memorisation, not skill."


class ComparedImage(NamedTuple):
    """An image to compare, its header, and whether it is georeferenced."""

    name: str
    file: str
    image: ImageFacts
    info: RasterInfo
    is_placed: bool


class Pair(NamedTuple):
    """Two images, their correlation or common share of pixels, and the change from one to the other."""

    one: ComparedImage
    other: ComparedImage
    value: float
    how: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Names of both images."""
        return frozenset((self.one.name, self.other.name))


def check_leakage(splits: Mapping[str, Sequence[Facts]], places: Sequence[Footprint] = ()) -> list[Finding]:
    """Find duplicates, overlapping crops and continuing edges across splits.

    Args:
        splits: Facts by split.
        places: Footprints on the ground; overlaps that these show are not reported here.
    """
    seen = {split: _comparable(facts) for split, facts in splits.items()}
    outlines = {p.name: p.outline for p in places}
    duplicates = list(_duplicates(seen))
    reported = {p.names for p in duplicates}
    aligned, whole = _aligned(seen)
    near_duplicates = _unreported((*_near_duplicates(seen), *whole), reported)
    crops = [p for p in _unreported((*_overlapping_crops(seen), *aligned), reported) if not _known_to_meet(p, outlines)]
    # A mirrored copy has the edges of its original, so reported pairs are skipped here, too.
    edges = [p for p in _continuing_edges(seen) if p.names not in reported]
    parts = len({f.name for p in edges for f in (p.one, p.other)})
    found = (
        ("duplicates", duplicates, REMEDY_COPIES, "{} of images of different splits hold the same pixels"),
        ("near_duplicates", near_duplicates, REMEDY_COPIES, "{} of images of different splits show nearly the same"),
        (
            "overlapping_crops",
            crops,
            REMEDY_CROPS,
            "{} of images of different splits are crops of one scene and overlap: they hold the same ground, shifted",
        ),
        (
            "continuing_edges",
            edges,
            REMEDY_SCENES,
            f"{parts} images of different splits continue each other's edges ({{}}): they are parts of one scene, and "
            "the split leaks",
        ),
    )
    side = {f.name: split for split, some in seen.items() for f in some}
    return [_finding(check, pairs, repair, text, side) for check, pairs, repair, text in found if pairs]


def _comparable(facts: Sequence[Facts]) -> list[ComparedImage]:
    return [
        ComparedImage(f.name, f.image_file, f.image, f.image_info, bool(f.image_info.transform))
        for f in facts
        if f.image and f.image_info and f.image.usable and not f.image.is_constant
    ]


def _finding(check: str, pairs: list[Pair], repair: str, text: str, side: Mapping[str, str]) -> Finding:
    severity = Severity.WARNING if check == "continuing_edges" else Severity.ERROR
    pairs = sorted(pairs, key=lambda pair: -pair.value)
    between = sorted({"/".join(sorted((side[p.one.name], side[p.other.name]), key=_order)) for p in pairs})
    ways = Counter(p.how for p in pairs if p.how)
    first, second = sorted(pairs[0][:2], key=lambda seen: _order(side[seen.name]))
    value, way = pairs[0].value, pairs[0].how
    how = "" if value == 1 else f", correlation {value:.2f}"
    if check == "overlapping_crops":
        how = f", with {percent(value)} of the pixels in common"
    ways_of = (
        f" ({'; '.join(f'{number} {way}' for way, number in ways.most_common())})" if len(pairs) > 1 and ways else ""
    )
    message = (
        f"{text.format(count(len(pairs), 'pair'))}{ways_of}; between {', '.join(between)}; such as {first.name} "
        f"({side[first.name]}) and {second.name} ({side[second.name]}){f', {way}' if way else ''}{how}"
    )
    files = dict.fromkeys(f.file for p in pairs for f in (p.one, p.other))
    return Finding(check, severity, message, EXPECTED, repair, tuple(files))


def _order(split: str) -> int:
    return ("train", "val", "test").index(split) if split in ("train", "val", "test") else 3


def _duplicates(splits: Mapping[str, Sequence[ComparedImage]]) -> Iterator[Pair]:
    by_digest: dict[str, list[tuple[str, ComparedImage]]] = defaultdict(list)
    for split, facts in splits.items():
        for f in facts:
            by_digest[f.image.digest].append((split, f))
    for same in by_digest.values():
        yield from (Pair(a, b, 1.0) for (s, a), (t, b) in combinations(same, 2) if s != t)


def _with_thumbnails(splits: Mapping[str, Sequence[ComparedImage]]) -> dict[str, list[ComparedImage]]:
    return {split: [f for f in some if f.image.thumbnail is not None] for split, some in splits.items()}


def _thumbnails(seen: Sequence[ComparedImage]) -> np.ndarray:
    """Return thumbnails, scaled so that no value, such as an undeclared fill of 1e20, is too large."""
    thumbnail = np.array([f.image.thumbnail for f in seen], np.float64)
    thumbnail -= thumbnail.mean((1, 2), keepdims=True)
    scaled: np.ndarray = (thumbnail / np.maximum(np.abs(thumbnail).max((1, 2), keepdims=True), 1e-300)).astype(
        np.float32
    )
    return scaled


def _near_duplicates(splits: Mapping[str, Sequence[ComparedImage]]) -> Iterator[Pair]:
    with_thumbnails = _with_thumbnails(splits)
    groups = {split: _thumbnails(some) for split, some in with_thumbnails.items() if some}
    for one, other, like in islice(find_near_duplicates(groups), MAX_PAIRS):
        yield Pair(
            with_thumbnails[one][like.one],
            with_thumbnails[other][like.other],
            like.correlation,
            _describe_change(like.orientation, like.zoom),
        )


def _describe_change(orientation: int, zoom: float) -> str:
    """Return the change from one image to another as text."""
    zoom = max(zoom, 1 / zoom)
    enlarged = f"enlarged by about {100 * (zoom - 1):.0f} %" if zoom > MIN_REPORTED_ZOOM else ""
    return ", ".join(filter(None, (DESCRIPTIONS[orientation], enlarged)))


def _unreported(pairs: Iterable[Pair], reported: set[frozenset[str]]) -> list[Pair]:
    """Return the pairs that are not reported yet, each once, and record them."""
    found = {pair.names: pair for pair in reversed(list(pairs)) if pair.names not in reported}
    reported.update(found)
    return list(found.values())


def _known_to_meet(pair: Pair, places: Mapping[str, shapely.Polygon]) -> bool:
    """Return whether two images overlap by their footprints."""
    one, other = (places.get(name) for name in (pair.one.name, pair.other.name))
    return bool(one and other and one.intersects(other))


def _overlapping_crops(splits: Mapping[str, Sequence[ComparedImage]]) -> Iterator[Pair]:
    images = [(f, number) for number, facts in enumerate(splits.values()) for f in facts]
    crops = [Crop(f.image.fingerprints, f.info.height, f.info.width, number) for f, number in images]
    yield from (Pair(images[i][0], images[j][0], share) for i, j, share in islice(find_overlaps(crops), MAX_PAIRS))


def _aligned(splits: Mapping[str, Sequence[ComparedImage]]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of images with some ground in common, and those with all."""
    with_thumbnails = _with_thumbnails(splits)
    groups = {
        split: [
            AlignmentInput(f.image.landmarks, f.info.height, f.info.width, thumbnail)
            for f, thumbnail in zip(some, _thumbnails(some), strict=True)
        ]
        for split, some in with_thumbnails.items()
        if some
    }
    parts: list[Pair] = []
    whole: list[Pair] = []
    for one, other, found in islice(find_alignments(groups), MAX_PAIRS):
        a, b, how = (
            with_thumbnails[one][found.one],
            with_thumbnails[other][found.other],
            _describe_change(found.orientation, found.zoom),
        )
        if found.is_whole:
            whole.append(Pair(a, b, found.correlation, how))
        else:
            parts.append(Pair(a, b, found.share, how))
    return parts, whole


def _continuing_edges(splits: Mapping[str, Sequence[ComparedImage]]) -> Iterator[Pair]:
    """Yield pairs of images without coordinates whose facing edges of equal length continue each other."""
    placeless = {s: [f for f in facts if not f.is_placed] for s, facts in splits.items()}
    by_length: dict[tuple[int, int], dict[str, list[ComparedImage]]] = defaultdict(lambda: defaultdict(list))
    for split, facts in placeless.items():
        for f in facts:
            for number, (side, _) in enumerate(FACING):
                by_length[number, _edge(f, side).shape[1]][split].append(f)
    for (number, length), groups in by_length.items():
        if length >= MIN_EDGE_LENGTH:
            yield from _continuing_edges_of(groups, *FACING[number])


def _continuing_edges_of(groups: Mapping[str, Sequence[ComparedImage]], side: str, facing: str) -> Iterator[Pair]:
    """Yield the pairs that match at one of two scales: pixel by pixel, or averaged against noise."""
    best: dict[tuple[str, int, str, int], float] = {}
    for scale in range(2):
        rows = {s: [unit_rows(_profiles(seen, edge, scale)) for edge in (side, facing)] for s, seen in groups.items()}
        least = _correlation_threshold(*(np.concatenate([pair[i] for pair in rows.values()]) for i in range(2)))
        for one, other in permutations(rows, 2):
            for i, j, r in islice(correlated_pairs(rows[one][0], rows[other][1], least), MAX_PAIRS):
                best[one, i, other, j] = max(r, best.get((one, i, other, j), r))
    yield from (Pair(groups[one][i], groups[other][j], r) for (one, i, other, j), r in best.items())


def _correlation_threshold(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation above which two edges continue each other, far above that of unrelated edges.

    Chance correlations are measured on edges of the same side, which never touch, and on reversed edges, after Fisher's
    transformation; the expected maximum of n pairs is about sqrt(2 ln n) standard deviations.
    """
    pairs = max(len(a) * len(b), 2)
    step = max(1, len(a) // MAX_CHANCE_EDGES)
    a, b = a[::step], b[::step]
    unrelated = ~np.eye(len(a), dtype=bool)
    chance = np.concatenate([(x @ y.T)[unrelated] for x, y in ((a, a), (b, b), (a, a[:, ::-1]), (a, b[:, ::-1]))])
    if not chance.size:
        return UNREACHABLE
    spread = np.sqrt(np.mean(np.arctanh(np.clip(chance, -0.999, 0.999)) ** 2))
    deviations = np.sqrt(2 * np.log(pairs)) + EDGE_MARGIN
    return float(max(MIN_EDGE_CORRELATION, np.tanh(deviations * max(spread, 1 / np.sqrt(a.shape[1])))))


def _profiles(seen: Sequence[ComparedImage], side: str, scale: int) -> np.ndarray:
    return np.stack([_profile(_edge(f, side)[scale], coarse=scale > 0) for f in seen])


def _profile(edge: np.ndarray, coarse: bool) -> np.ndarray:
    """Return the profile of an edge, of at most MAX_EDGE_LENGTH values; 0 where a pixel is invalid.

    It holds the differences of neighbours, which are the most informative; at the coarse scale, the averages.
    """
    step = max(-(-len(edge) // MAX_EDGE_LENGTH), COARSE_STEP if coarse else 1)
    means = edge[: len(edge) // step * step].reshape(-1, step).mean(1)
    usable = means[np.isfinite(means)]
    level = usable.mean() if usable.size else 0.0  # a whole edge may be invalid
    profile: np.ndarray = np.nan_to_num(means - level if coarse else np.diff(means))
    return profile


def _edge(seen: ComparedImage, side: str) -> np.ndarray:
    return seen.image.edges[SIDES.index(side)]
