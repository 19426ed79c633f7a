"""What work will take on this server, learned from what it took."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

SMALL_SECONDS = 1.0  # work of at most so long is small,
SMALL_PIXELS = 1 << 19  # and so is a map of so many pixels, however slow the model
UNKNOWN = 1e-6  # seconds a pixel, until the model was measured
FIXED = 0.1  # seconds that any work takes, until it was measured
RECENT = 8  # pieces of work over which their speed is averaged

# Seconds a pixel of each kind of work, as a multiple of the model's own, until such work was done here.
MAP, MAP_FILE, MAP_PAGE, EVIDENCE = "map", "map file", "map page", "evidence"
FIRST_GUESS = {MAP: 1.0, MAP_FILE: 1.2, MAP_PAGE: 1.5, EVIDENCE: 1.0}
# Work that no model does: seconds a pixel of a picture, and a corner of polygons (of noise the longest).
PICTURE, POLYGONS = "picture", "polygons"
WITHOUT_MODEL = {PICTURE: 1e-7, POLYGONS: 1e-4}


@dataclass
class _Speed:
    fixed: float
    slope: float


class CostModel:
    """How fast a model works here, by kind of work: so many seconds, and so many more a unit."""

    def __init__(self) -> None:
        self._per_pixel = UNKNOWN
        self._speeds: dict[str, _Speed] = {}
        self._lock = threading.Lock()

    def calibrate(self, num_pixels: int, seconds: float) -> None:
        """Take note of what the bare model took for so many pixels."""
        self._per_pixel = seconds / num_pixels

    def estimate(self, kind: str, num_units: float) -> Estimate:
        """Return what so many pixels, times the passes through the model, or so many corners will take."""
        return Estimate(self, kind, num_units)

    def seconds(self, kind: str, num_units: float) -> float:
        """Return what work of a kind takes when nothing else runs."""
        with self._lock:
            speed = self._speed(kind)
            return speed.fixed + speed.slope * num_units

    def learn(self, kind: str, num_units: float, seconds: float) -> None:
        """Take note of what work took; it corrects the part that most of the time goes by."""
        with self._lock:
            speed = self._speeds.setdefault(kind, self._speed(kind))
            if speed.slope * num_units > speed.fixed:
                speed.slope += (max(seconds - speed.fixed, 0.0) / num_units - speed.slope) / RECENT
            else:
                speed.fixed += (max(seconds - speed.slope * num_units, 0.0) - speed.fixed) / RECENT

    def _speed(self, kind: str) -> _Speed:
        if kind in self._speeds:
            return self._speeds[kind]
        return _Speed(FIXED, WITHOUT_MODEL[kind] if kind in WITHOUT_MODEL else FIRST_GUESS[kind] * self._per_pixel)


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take; it is made anew, from what was learned since, each time that it is asked.

    Attributes:
        costs: Knows what such work took.
        kind: Of work.
        num_units: Pixels times passes, or corners.
    """

    costs: CostModel = field(default_factory=CostModel)
    kind: str = MAP
    num_units: float = 0.0

    @property
    def seconds(self) -> float:
        """What it will take when nothing else runs."""
        return self.costs.seconds(self.kind, self.num_units)

    @property
    def is_small(self) -> bool:
        """Whether it is done so soon that those who come later may wait for it."""
        return self.seconds <= max(SMALL_SECONDS, self.costs.seconds(MAP, SMALL_PIXELS))

    def learn(self, seconds: float) -> None:
        """Take note of what it took."""
        self.costs.learn(self.kind, self.num_units, seconds)
