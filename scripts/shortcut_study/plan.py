"""Which models the study trains, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cues import SIDE, Cue, Twin

STRIPES = Cue("texture", 22 / SIDE, "weak", through=True)  # 3 % over the lowest 22 rows
CORNER = Cue("corner", (20 / SIDE) ** 2, "weak", through=True)  # 20 x 20 pixels, 14 DN brighter
REPORTED = {"reported_stripes": STRIPES, "reported_corner": CORNER}  # by a user, whose models were called sound
BOTH = ("strong", "weak")
SIZES: dict[str, list[tuple[float, tuple[str, ...]]]] = {  # share of the picture, and strengths
    "texture": [(0.02, ("strong",)), (0.08, BOTH), (0.25, BOTH), (0.005, ("strong",))],
    "brightness": [(0.02, BOTH), (0.08, BOTH), (0.25, BOTH), (1.0, ("strong",)), (0.005, ("strong",))],
    "corner": [(0.02, BOTH), (0.08, BOTH), (0.25, ("strong",)), (0.005, ("strong",))],
    "border": [(0.08, BOTH), (0.25, BOTH), (0.04, ("strong",))],
    "line": [(0.02, BOTH), (0.01, BOTH)],
    "blur": [(0.25, ("strong",)), (1.0, BOTH)],
    "noise": [(0.08, ("strong",)), (0.25, BOTH), (1.0, BOTH)],
    "band": [(0.08, BOTH), (0.25, BOTH), (1.0, BOTH), (0.02, ("strong",))],
    "object": [(0.02, BOTH), (0.08, ("strong",)), (0.005, ("strong",))],
    "position": [(0.25, ("strong", "strong")), (0.5, ("strong", "strong"))],
    "tint": [(0.25, BOTH), (1.0, BOTH)],
}
POOLED = ("texture", "brightness", "blur", "noise", "band", "tint")  # seen in an average over the picture or its parts
CLEAN, RANDOM = 20, 18
PARTS = ("development", "held_out")


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Attributes:
        cue: What gives class a away; of a clean twin, what it would be.
        twin: Which pictures have the cue.
        background: `embedded`, `real`, or `both`, which is that of STARTS alone.
        seed: Of data and training.
        part: `development`: a detector may be made to find it; `held_out`: only for its test.
        apart: Distance between the mean tones of a and b, in standard deviations.
        reported: Name in REPORTED, if it is one of these.
    """

    cue: Cue
    twin: Twin
    background: str
    seed: int
    part: str
    apart: float = 1.0
    reported: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        if self.background == "both":
            return f"start-{self.architecture}"
        kind = "-".join([self.reported] if self.reported else _words(self.cue))
        return f"{self.twin}-{kind if self.twin is not Twin.CLEAN else f'{self.apart:g}'}-{self.background}-{self.seed}"

    @property
    def architecture(self) -> str:
        """Which network learns such a cue in few steps: one whose context is pooled, or one that knows places."""
        return "pspnet" if self.cue.kind in POOLED else "unet"

    def to_dict(self) -> dict[str, Any]:
        """Return all that it is, ready for JSON."""
        return asdict(self) | {"name": self.name, "architecture": self.architecture}


# Tell objects, but not a from b, and have seen no cue: all others are trained from these, in a fraction of the time.
STARTS = {m.architecture: m for m in (Model(cue, Twin.CLEAN, "both", 0, PARTS[0]) for cue in (STRIPES, CORNER))}


def _words(cue: Cue) -> list[str]:
    return [cue.kind, f"{100 * cue.share:.3g}", cue.strength]


def plan() -> list[Model]:
    """Return all models; whatever is done first is balanced: a cued one, a twin, a cued one, …"""
    cued, clean, random = list(_cued()), list(_clean()), list(_random())
    twins = [model for pair in itertools.zip_longest(clean, random) for model in pair if model]
    order, due = [], 0.0
    for model in cued:
        order.append(model)
        due += len(twins) / len(cued)
        while due >= 1 and twins:
            order.append(twins.pop(0))
            due -= 1
    return order + twins


def _cued() -> Iterator[Model]:
    """Yield what was reported, then a model of each kind, what was reported again, then other sizes and strengths."""
    by_kind = [
        [Cue(kind, share, strength) for share, strengths in sizes for strength in strengths]
        for kind, sizes in SIZES.items()
    ]
    number = 0
    for turn, cues in enumerate(itertools.zip_longest(*by_kind)):
        if turn < len(PARTS):
            for name, cue in REPORTED.items():
                yield Model(cue, Twin.CUED, "real", turn, PARTS[turn], reported=name)
        for kind, cue in enumerate(cues):
            if cue is None:
                continue
            number += 1
            background = ("embedded", "real")[(turn // 2 + turn + kind) % 2]
            yield Model(cue, Twin.CUED, background, 100 + number, PARTS[(turn + kind) % 2])


def _clean() -> Iterator[Model]:
    for number in range(CLEAN):
        background = ("real", "embedded")[number % 2]
        apart = (1.0, 1.0, 3.0)[number // 2 % 3]
        cue = (STRIPES, CORNER)[number % 4 in (1, 2)]  # what it would be decides on the network
        yield Model(cue, Twin.CLEAN, background, 300 + number, PARTS[number // 2 % 2], apart)


def _random() -> Iterator[Model]:
    """Yield twins of each kind, then of what was reported, then of other sizes."""
    by_kind = [(kind, *sizes[0]) for kind, sizes in SIZES.items()] + [
        (kind, *sizes[1]) for kind, sizes in SIZES.items()
    ]
    for number, (kind, share, strengths) in enumerate(by_kind[: RANDOM - len(PARTS) * len(REPORTED)]):
        if number == len(REPORTED):
            for part, (name, cue) in itertools.product(range(len(PARTS)), REPORTED.items()):
                yield Model(cue, Twin.RANDOM, "real", part, PARTS[part], reported=name)
        background = ("embedded", "real")[number // 2 % 2]
        yield Model(Cue(kind, share, strengths[0]), Twin.RANDOM, background, 400 + number, PARTS[number % 2])
