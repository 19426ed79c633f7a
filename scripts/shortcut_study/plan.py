"""Models of the study, in training order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from cues import SIDE, Cue, Twin

STRIPES = Cue("texture", 22 / SIDE, "weak", through=True)  # 3 % over the lowest 22 rows
CORNER = Cue("corner", (20 / SIDE) ** 2, "weak", through=True)  # 20 x 20 pixels, 14 DN brighter
REPORTED = {"reported_stripes": STRIPES, "reported_corner": CORNER}  # by a user, as missed by the diagnosis
REPORTED_KINDS = {cue.kind: cue for cue in REPORTED.values()}
BOTH = ("strong", "weak")
SIZES: dict[str, list[tuple[float, tuple[str, ...]]]] = {  # share of the picture, and strengths
    "texture": [(0.08, BOTH), (0.25, BOTH), (0.02, ("strong",))],
    "brightness": [(0.25, BOTH), (1.0, ("strong",)), (0.08, BOTH), (0.02, ("strong",))],
    "corner": [(0.08, BOTH), (0.02, BOTH), (0.25, ("strong",)), (0.005, ("strong",))],
    "border": [(0.25, BOTH), (0.08, BOTH), (0.04, ("strong",))],
    "line": [(0.02, BOTH), (0.01, ("strong",))],
    "blur": [(1.0, BOTH), (0.25, ("strong",))],
    "noise": [(0.25, BOTH), (1.0, BOTH), (0.08, ("strong",))],
    "band": [(0.25, BOTH), (1.0, BOTH), (0.08, BOTH), (0.02, ("strong",))],
    "object": [(0.02, BOTH), (0.08, ("strong",)), (0.005, ("strong",))],
    "position": [(0.25, ("strong",)), (0.5, ("strong", "strong"))],
    "tint": [(0.25, BOTH), (1.0, BOTH)],
}
STARTS = ((12.0, 12.0), (1.0, 5.0))  # emphases of successive starts: a cue learned when strong is then learned fainter
CLEAN, RANDOM = 20, 12
PARTS = ("development", "held_out")


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Attributes:
        cue: The cue that identifies class a; for a clean twin, the cue of its counterpart.
        twin: Which pictures have the cue.
        background: `embedded`, `real`, or, only for starts, `both`.
        seed: Of data and training.
        part: `development`: detectors may be tuned on it; `held_out`: only for testing them.
        apart: Distance between the mean tones of a and b, in standard deviations.
        reported: Name in REPORTED, if it is one of these.
        emphasis: How many times as strong the cue is in pictures for training, at least and at most.
    """

    cue: Cue
    twin: Twin
    background: str
    seed: int
    part: str = "development"
    apart: float = 0.5
    reported: str | None = None
    emphasis: tuple[float, float] = (1.0, 1.0)

    @property
    def name(self) -> str:
        """Name of its folder."""
        if self.emphasis in STARTS:
            return f"start-{self.cue.kind}-{1 + STARTS.index(self.emphasis)}"
        kind = "-".join([self.reported] if self.reported else _words(self.cue))
        return f"{self.twin}-{kind if self.twin is not Twin.CLEAN else f'{self.apart:g}'}-{self.background}-{self.seed}"

    @property
    def start(self) -> Model | None:
        """Model to start training from, which has learned a stronger version of the cue; None for twins."""
        before = STARTS.index(self.emphasis) if self.emphasis in STARTS else len(STARTS)
        if self.twin is not Twin.CUED or not before:
            return None
        kind = self.cue.kind
        share, _ = SIZES[kind][0]
        cue = REPORTED_KINDS.get(kind, Cue(kind, share, "weak"))
        background = "embedded" if before == 1 else "both"
        return Model(cue, Twin.CUED, background, 900 + list(SIZES).index(kind), emphasis=STARTS[before - 1])

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes and the name, ready for JSON."""
        return asdict(self) | {"name": self.name}


def _words(cue: Cue) -> list[str]:
    return [cue.kind, f"{100 * cue.share:.3g}", cue.strength]


def plan() -> list[Model]:
    """Return all models, cued ones and twins alternating, so that the first ones are balanced."""
    cued, clean, random = (list(_in_parts(models)) for models in (_cued(), _clean(), _random()))
    twins = [model for pair in itertools.zip_longest(clean, random) for model in pair if model]
    order, due = [], 0.0
    for model in cued:
        order.append(model)
        due += len(twins) / len(cued)
        while due >= 1 and twins:
            order.append(twins.pop(0))
            due -= 1
    return order + twins


def _in_parts(models: Iterator[Model]) -> Iterator[Model]:
    """Yield models with their parts: the reported ones and a random one of every three others are for development."""
    random = np.random.default_rng(24)
    reported, others = [], []
    for model in models:
        (reported if model.reported else others).append(model)
    yield from reported
    for first in range(0, len(others), 3):
        chosen = random.integers(3)
        for number, model in enumerate(others[first : first + 3]):
            yield replace(model, part=PARTS[int(number != chosen)])


def _cued() -> Iterator[Model]:
    """Yield the reported cues, then a model of each kind, then other sizes and strengths."""
    by_kind = [
        [Cue(kind, share, strength) for share, strengths in sizes for strength in strengths]
        for kind, sizes in SIZES.items()
    ]
    for seed, (name, cue) in itertools.product(range(2), REPORTED.items()):
        yield Model(cue, Twin.CUED, "real", seed, reported=name)
    number = 0
    for turn, cues in enumerate(itertools.zip_longest(*by_kind)):
        for kind, cue in enumerate(cues):
            if cue is not None:
                number += 1
                background = ("embedded", "real")[(turn // 2 + turn + kind) % 2]
                yield Model(cue, Twin.CUED, background, 100 + number)


def _clean() -> Iterator[Model]:
    for number in range(CLEAN):
        background, apart = ("real", "embedded")[number % 2], (0.5, 0.5, 3.0)[number // 2 % 3]
        yield Model(STRIPES, Twin.CLEAN, background, 300 + number, apart=apart)


def _random() -> Iterator[Model]:
    """Yield twins of the reported cues, then of each kind."""
    for name, cue in REPORTED.items():
        yield Model(cue, Twin.RANDOM, "real", 0, reported=name)
    for number, (kind, sizes) in enumerate(list(SIZES.items())[: RANDOM - len(REPORTED)]):
        share, strengths = sizes[0]
        background = ("embedded", "real")[number // 2 % 2]
        yield Model(Cue(kind, share, strengths[0]), Twin.RANDOM, background, 400 + number)
