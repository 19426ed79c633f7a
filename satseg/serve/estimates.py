"""Estimates of how long jobs take on this server, learned from past jobs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

SMALL_SECONDS = 1.0  # jobs of at most this long are small,
SMALL_PIXELS = 1 << 19  # and so are maps of this many pixels, however slow the model
UNKNOWN = 1e-6  # seconds per pixel, until the model is measured
FIXED = 0.1  # fixed seconds per job, until measured
RECENT = 8  # jobs in the moving average

# Seconds per pixel by kind of job, as a multiple of the model's own, until measured.
MAP, MAP_FILE, MAP_PAGE, EVIDENCE = "map", "map file", "map page", "evidence"
FIRST_GUESS = {MAP: 1.0, MAP_FILE: 1.2, MAP_PAGE: 1.5, EVIDENCE: 1.0}
# Jobs without a model: seconds per pixel of a PNG, and per corner of polygons (noise being the slowest).
PICTURE, POLYGONS = "picture", "polygons"
WITHOUT_MODEL = {PICTURE: 1e-7, POLYGONS: 1e-4}


@dataclass
class _Speed:
    fixed: float
    slope: float


class CostModel:
    """Cost of jobs on this server, by kind: fixed seconds plus seconds per unit."""

    def __init__(self) -> None:
        self._per_pixel = UNKNOWN
        self._speeds: dict[str, _Speed] = {}
        self._lock = threading.Lock()

    def calibrate(self, num_pixels: int, seconds: float) -> None:
        """Set the model's own speed from a timed run."""
        self._per_pixel = seconds / num_pixels

    def estimate(self, kind: str, num_units: float) -> Estimate:
        """Return the estimate for a number of pixels times passes through the model, or of polygon corners."""
        return Estimate(self, kind, num_units)

    def seconds(self, kind: str, num_units: float) -> float:
        """Return the seconds that a job takes when nothing else runs."""
        with self._lock:
            speed = self._speed(kind)
            return speed.fixed + speed.slope * num_units

    def learn(self, kind: str, num_units: float, seconds: float) -> None:
        """Learn from a finished job, by correcting the dominant part of its cost."""
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
    """Estimated cost of a job, computed from the current cost model on each access.

    Attributes:
        costs: The cost model.
        kind: Kind of job.
        num_units: Pixels times passes, or corners.
    """

    costs: CostModel = field(default_factory=CostModel)
    kind: str = MAP
    num_units: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds that the job takes when nothing else runs."""
        return self.costs.seconds(self.kind, self.num_units)

    @property
    def is_small(self) -> bool:
        """True if the job is short enough for others to wait for it."""
        return self.seconds <= max(SMALL_SECONDS, self.costs.seconds(MAP, SMALL_PIXELS))

    def learn(self, seconds: float) -> None:
        """Learn from the job's actual duration."""
        self.costs.learn(self.kind, self.num_units, seconds)
