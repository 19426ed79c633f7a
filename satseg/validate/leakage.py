"""Images of different splits that show the same, or one the continuation of the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice, permutations
from typing import NamedTuple

import numpy as np
import shapely

from satseg.data.rasters.raster import RasterInfo
from satseg.validate.alignments import Pictured, alignments
from satseg.validate.crops import Cut, overlapping
from satseg.validate.facts import SIDES, Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, count, percent
from satseg.validate.ground import Footprint
from satseg.validate.likeness import near_copies
from satseg.validate.similarity import alike, unit_rows
from satseg.validate.turns import WORDS

LEAST_ZOOM = 1.03  # that is told
EDGE = 0.3  # lowest correlation of the gradients along two edges that continue each other
EDGE_MARGIN = 2.0  # standard deviations above the highest that is expected by chance among so many pairs
LONGEST = 1024  # pixels of an edge that are compared; longer ones are averaged down
AVERAGED = 4  # pixels, at the coarser of two scales
SHORTEST = 8 * AVERAGED  # pixels; shorter edges tell nothing
MEASURED = 500  # edges that chance is measured on
IMPOSSIBLE = 1.1  # as a correlation
MOST_WAYS = 12  # how images became others, that are told
MOST_PAIRS = 10_000  # reported; beyond that a split is hopeless anyway
FACING = (("right", "left"), ("bottom", "top"))

ANEW = "Remove the copies, or keep them on one side."
APART = (
    "Keep images of one scene on one side: dataset/split=group with dataset.split.pattern, a published list "
    "(dataset/split=list), or dataset/split=blocks."
)
UNCUT = (
    "Split by the mosaic that they were cut from: dataset/split=group with dataset.split.pattern, or a list of whole "
    "mosaics (dataset/split=list)."
)
EXPECTED = "A scored image shows places that no other split has seen: else scores tell of memory, not of skill."


class Seen(NamedTuple):
    """An image that can be compared, its header, and whether it has coordinates."""

    name: str
    file: str
    image: ImageFacts
    info: RasterInfo
    is_placed: bool


class Pair(NamedTuple):
    """Two images, their correlation or the share of the pixels that both have, and how one became the other."""

    one: Seen
    other: Seen
    value: float
    how: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Of both."""
        return frozenset((self.one.name, self.other.name))


def check_leakage(splits: Mapping[str, Sequence[Facts]], places: Sequence[Footprint] = ()) -> list[Finding]:
    """Find duplicates across splits, crops that overlap, and edges that continue in another split.

    Args:
        splits: Facts by split.
        places: Outlines on the ground; overlaps that these tell are left to them.
    """
    seen = {split: _seen(facts) for split, facts in splits.items()}
    outlines = {p.name: p.outline for p in places}
    copies = list(_copies(seen))
    told = {p.names for p in copies}
    aligned, whole = _aligned(seen)
    twins = _untold((*_twins(seen), *whole), told)
    crops = [p for p in _untold((*_cut_alike(seen), *aligned), told) if not _meet(p, outlines)]
    edges = [p for p in _continued(seen) if p.names not in told]  # a mirrored copy has the edges of its original
    parts = len({f.name for p in edges for f in (p.one, p.other)})
    words = (
        ("duplicates", Severity.ERROR, copies, "{} of images of different splits hold the same pixels", ANEW),
        ("near_duplicates", Severity.ERROR, twins, "{} of images of different splits show nearly the same", ANEW),
        (
            "overlapping_crops",
            Severity.ERROR,
            crops,
            "{} of images of different splits are cut from one scene and overlap: they hold the same ground, moved",
            UNCUT,
        ),
        (
            "continuing_edges",
            Severity.WARNING,
            edges,
            f"{parts} images of different splits continue each other's edges ({{}}): they are parts of one scene, and "
            "the split leaks",
            APART,
        ),
    )
    side = {f.name: split for split, some in seen.items() for f in some}
    return [_finding(check, grade, pairs, text, repair, side) for check, grade, pairs, text, repair in words if pairs]


def _seen(facts: Sequence[Facts]) -> list[Seen]:
    return [
        Seen(f.name, f.image_file, f.image, f.image_info, bool(f.image_info.transform))
        for f in facts
        if f.image and f.image_info and f.image.usable and not f.image.is_constant
    ]


def _finding(
    check: str, severity: Severity, pairs: list[Pair], text: str, repair: str, side: Mapping[str, str]
) -> Finding:
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


def _copies(splits: Mapping[str, Sequence[Seen]]) -> Iterator[Pair]:
    by_digest: dict[str, list[tuple[str, Seen]]] = defaultdict(list)
    for split, facts in splits.items():
        for f in facts:
            by_digest[f.image.digest].append((split, f))
    for same in by_digest.values():
        yield from (Pair(a, b, 1.0) for (s, a), (t, b) in combinations(same, 2) if s != t)


def _pictured(splits: Mapping[str, Sequence[Seen]]) -> dict[str, list[Seen]]:
    return {split: [f for f in some if f.image.small is not None] for split, some in splits.items()}


def _small(seen: Sequence[Seen]) -> np.ndarray:
    """Return small pictures, scaled so that no numbers, such as an undeclared fill of 1e20, are too large."""
    small = np.array([f.image.small for f in seen], np.float64)
    small -= small.mean((1, 2), keepdims=True)
    scaled: np.ndarray = (small / np.maximum(np.abs(small).max((1, 2), keepdims=True), 1e-300)).astype(np.float32)
    return scaled


def _twins(splits: Mapping[str, Sequence[Seen]]) -> Iterator[Pair]:
    pictured = _pictured(splits)
    groups = {split: _small(some) for split, some in pictured.items() if some}
    for one, other, like in islice(near_copies(groups), MOST_PAIRS):
        yield Pair(pictured[one][like.one], pictured[other][like.other], like.correlation, _how(like.turn, like.zoom))


def _how(turn: int, zoom: float) -> str:
    """Return in words how one image becomes another."""
    zoom = max(zoom, 1 / zoom)
    enlarged = f"enlarged by about {100 * (zoom - 1):.0f} %" if zoom > LEAST_ZOOM else ""
    return ", ".join(filter(None, (WORDS[turn], enlarged)))


def _untold(pairs: Iterable[Pair], told: set[frozenset[str]]) -> list[Pair]:
    """Return the pairs that are not told yet, each once, and note them."""
    found = {pair.names: pair for pair in reversed(list(pairs)) if pair.names not in told}
    told.update(found)
    return list(found.values())


def _meet(pair: Pair, places: Mapping[str, shapely.Polygon]) -> bool:
    """Tell whether coordinates tell that two images show the same ground."""
    one, other = (places.get(name) for name in (pair.one.name, pair.other.name))
    return bool(one and other and one.intersects(other))


def _cut_alike(splits: Mapping[str, Sequence[Seen]]) -> Iterator[Pair]:
    images = [(f, number) for number, facts in enumerate(splits.values()) for f in facts]
    cuts = [Cut(f.image.fingerprints, f.info.height, f.info.width, number) for f, number in images]
    yield from (Pair(images[i][0], images[j][0], share) for i, j, share in islice(overlapping(cuts), MOST_PAIRS))


def _aligned(splits: Mapping[str, Sequence[Seen]]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of images that have some of their ground in common, and those that have all."""
    pictured = _pictured(splits)
    groups = {
        split: [
            Pictured(f.image.landmarks, f.info.height, f.info.width, small)
            for f, small in zip(some, _small(some), strict=True)
        ]
        for split, some in pictured.items()
        if some
    }
    parts: list[Pair] = []
    whole: list[Pair] = []
    for one, other, found in islice(alignments(groups), MOST_PAIRS):
        a, b, how = pictured[one][found.one], pictured[other][found.other], _how(found.turn, found.zoom)
        if found.is_whole:
            whole.append(Pair(a, b, found.likeness, how))
        else:
            parts.append(Pair(a, b, found.share, how))
    return parts, whole


def _continued(splits: Mapping[str, Sequence[Seen]]) -> Iterator[Pair]:
    """Compare facing edges of equal length, where there are no coordinates to tell who touches whom."""
    placeless = {s: [f for f in facts if not f.is_placed] for s, facts in splits.items()}
    by_length: dict[tuple[int, int], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for split, facts in placeless.items():
        for f in facts:
            for number, (side, _) in enumerate(FACING):
                by_length[number, _edge(f, side).shape[1]][split].append(f)
    for (number, length), groups in by_length.items():
        if length >= SHORTEST:
            yield from _continued_in(groups, *FACING[number])


def _continued_in(groups: Mapping[str, Sequence[Seen]], side: str, facing: str) -> Iterator[Pair]:
    """Yield the pairs that are alike at one of two scales: pixel by pixel, or averaged where pixels are noisy."""
    best: dict[tuple[str, int, str, int], float] = {}
    for scale in range(2):
        rows = {s: [unit_rows(_profiles(seen, edge, scale)) for edge in (side, facing)] for s, seen in groups.items()}
        least = _least_likeness(*(np.concatenate([pair[i] for pair in rows.values()]) for i in range(2)))
        for one, other in permutations(rows, 2):
            for i, j, r in islice(alike(rows[one][0], rows[other][1], least), MOST_PAIRS):
                best[one, i, other, j] = max(r, best.get((one, i, other, j), r))
    yield from (Pair(groups[one][i], groups[other][j], r) for (one, i, other, j), r in best.items())


def _least_likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation from which two edges continue each other, far above that of edges that cannot.

    What is usual is measured on edges of the same side, which never touch, and on edges read backwards, on Fisher's
    scale; among n pairs the highest by chance lies about sqrt(2 ln n) standard deviations up.
    """
    pairs = max(len(a) * len(b), 2)
    step = max(1, len(a) // MEASURED)
    a, b = a[::step], b[::step]
    unrelated = ~np.eye(len(a), dtype=bool)
    chance = np.concatenate([(x @ y.T)[unrelated] for x, y in ((a, a), (b, b), (a, a[:, ::-1]), (a, b[:, ::-1]))])
    if not chance.size:
        return IMPOSSIBLE
    spread = np.sqrt(np.mean(np.arctanh(np.clip(chance, -0.999, 0.999)) ** 2))
    deviations = np.sqrt(2 * np.log(pairs)) + EDGE_MARGIN
    return float(max(EDGE, np.tanh(deviations * max(spread, 1 / np.sqrt(a.shape[1])))))


def _profiles(seen: Sequence[Seen], side: str, scale: int) -> np.ndarray:
    return np.stack([_profile(_edge(f, side)[scale], coarse=scale > 0) for f in seen])


def _profile(edge: np.ndarray, coarse: bool) -> np.ndarray:
    """Return what changes along an edge, at most at LONGEST places; 0 where a pixel is not usable.

    These are the differences of neighbours, which are the most telling; and coarsely, the averages themselves.
    """
    step = max(-(-len(edge) // LONGEST), AVERAGED if coarse else 1)
    means = edge[: len(edge) // step * step].reshape(-1, step).mean(1)
    usable = means[np.isfinite(means)]
    level = usable.mean() if usable.size else 0.0  # a whole edge may be missing
    profile: np.ndarray = np.nan_to_num(means - level if coarse else np.diff(means))
    return profile


def _edge(seen: Seen, side: str) -> np.ndarray:
    return seen.image.edges[SIDES.index(side)]
