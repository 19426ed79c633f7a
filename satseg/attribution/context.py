"""Whether a prediction hangs on something outside the region that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from satseg.attribution.replacement import blurred, elsewhere, replaced
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

MARGIN = 8  # pixels around the region that count as its own
SHARE = 0.03  # of the image, that is replaced
NOTABLE = 0.1  # harm that is worth comparing with chance
DRAWS = 8  # of the same shape elsewhere
ATTEMPTS = 200
WHOLE = 0.8  # of a patch that must stay when it is moved


@dataclass(frozen=True)
class ContextCheck:
    """What replacing the loudest context does, against replacing the same shape elsewhere.

    Attributes:
        patch: What was replaced (H, W), boolean.
        harm: Share of the region's pixels that are then another class.
        chance: The same for patches of that shape in random places; empty where the harm is under NOTABLE.
    """

    patch: np.ndarray
    harm: float
    chance: tuple[float, ...]

    @property
    def excess(self) -> float:
        """Harm beyond what patches elsewhere do on average; 0 where it was not worth comparing."""
        return self.harm - float(np.mean(self.chance)) if self.chance else 0.0

    @property
    def stands_out(self) -> bool:
        """Whether no patch elsewhere does as much harm."""
        return bool(self.chance) and self.harm > max(self.chance)


def check_context(
    network: SegmentationNetwork,
    image: Tensor,
    valid: Tensor,
    pixels: Tensor,
    target: int,
    evidence: Tensor,
    seed: int = 0,
) -> ContextCheck | None:
    """Replace the context that speaks loudest for a class, once by blur and once by content from elsewhere.

    Args:
        network: In evaluation mode.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean, of which the network says `target`.
        target: Index of the class.
        evidence: Map (H, W).
        seed: Of the random places.

    Returns:
        None where nothing outside speaks for the class, or the image has no room for the same shape elsewhere.
    """
    region = pixels.cpu().numpy()
    free = valid[0].cpu().numpy() & ~binary_dilation(region, iterations=MARGIN)
    patch = loudest(evidence.cpu().numpy(), free)
    if patch is None:
        return None
    others = list(moved_patches(patch, free, seed))
    if len(others) < DRAWS:
        return None
    contents = blurred(image, valid), elsewhere(image)

    def harm(where: np.ndarray) -> float:
        spot = torch.from_numpy(where)
        changed = [segment(network, replaced(image, c, spot), valid)[0].argmax(0) for c in contents]
        return float(np.mean([(p[pixels] != target).float().mean().item() for p in changed]))

    done = harm(patch)
    return ContextCheck(patch, done, tuple(harm(other) for other in others) if done >= NOTABLE else ())


def loudest(evidence: np.ndarray, free: np.ndarray) -> np.ndarray | None:
    """Return the pixels (H, W) of the strongest positive evidence where it is free to choose, SHARE of all at most."""
    candidates: np.ndarray = np.where(free & (evidence > 0), evidence, 0)
    count = min(int(SHARE * free.size), int(np.count_nonzero(candidates)))
    if count == 0:
        return None
    threshold = np.partition(candidates.ravel(), candidates.size - count)[candidates.size - count]
    chosen: np.ndarray = (candidates >= threshold) & (candidates > 0)
    return chosen


def moved_patches(patch: np.ndarray, free: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Give the patch (H, W) in DRAWS random places where it fits; fewer where there is no room."""
    generator = np.random.default_rng(seed)
    needed, found = WHOLE * np.count_nonzero(patch), 0
    for _ in range(ATTEMPTS):
        offset = tuple(int(generator.integers(n)) for n in patch.shape)
        other = np.roll(patch, offset, (0, 1)) & free
        if np.count_nonzero(other) >= needed and np.count_nonzero(other & patch) < needed / 2:
            yield other
            found += 1
        if found == DRAWS:
            return
