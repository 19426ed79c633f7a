"""Whether a prediction hangs on something outside the region that it is about."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from satseg.attribution.replacement import blurred, elsewhere, replaced
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

MARGIN = 8.0  # pixels around an object that count as its own
SHARE = 0.03  # of the valid pixels, that is replaced
NOTABLE = 0.1  # harm that is worth comparing with chance
DRAWS = 16  # patches elsewhere
CANDIDATES = 64  # of which those are taken that are as far from the object


@dataclass(frozen=True)
class ContextCheck:
    """What replacing the loudest context does, against replacing as much elsewhere.

    Attributes:
        patch: What was replaced (H, W), boolean.
        harm: Share of the region's pixels that are then another class.
        chance: The same for other patches of that area; empty where the harm is under NOTABLE.
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
    own: Tensor | None = None,
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
        own: The whole object that the region is a part of (H, W), boolean, which is no context.
        seed: Of the patches elsewhere.

    Returns:
        Without a patch where nothing outside speaks for the class; None where there is no outside, or no room for as
        much elsewhere.
    """
    distance = distance_transform_edt(~(pixels if own is None else own).cpu().numpy())
    free = valid[0].cpu().numpy() & (distance > MARGIN)
    loud = evidence.cpu().numpy()
    patch = loudest(loud, free, int(SHARE * int(valid.sum())))
    if patch is None:
        return ContextCheck(np.zeros_like(free), 0.0, ()) if free.any() else None
    contents = blurred(image, valid), elsewhere(image, valid)

    def harm(where: np.ndarray) -> float:
        spot = torch.from_numpy(where)
        changed = [segment(network, replaced(image, c, spot), valid)[0].argmax(0) for c in contents]
        return float(np.mean([(p[pixels] != target).float().mean().item() for p in changed]))

    done = harm(patch)
    if done < NOTABLE:
        return ContextCheck(patch, done, ())
    others = as_far(list(moved_patches(loud, free, patch, seed)), patch, distance)
    return ContextCheck(patch, done, tuple(harm(other) for other in others)) if len(others) == DRAWS else None


def context_by_occlusion(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, pixels: Tensor, target: int, own: Tensor
) -> Tensor:
    """Return what blurring each block of the context takes from a class's lead over the others in a region (H, W).

    Gradients are flat where a network is sure of itself, and then say nothing of what it is sure by; this does.
    Blocks of SHARE of the valid pixels lie side by side; around the worst one it looks again, half a block aside.

    Args:
        network: In evaluation mode.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean.
        target: Index of the class.
        own: The whole object (H, W), boolean, which is no context.
    """
    free = valid[0] & torch.from_numpy(distance_transform_edt(~own.cpu().numpy()) > MARGIN).to(valid.device)
    side = max(1, int((SHARE * int(valid.sum())) ** 0.5))
    without = blurred(image, valid)
    evidence = torch.zeros(image.shape[-2:], device=image.device)

    def lead(shown: Tensor) -> float:
        logits = segment(network, shown, valid)[0][:, pixels]
        others = logits.clone()
        others[target] = -torch.inf
        return float((logits[target] - others.amax(0)).mean())

    def look(row: int, col: int) -> float:
        block = torch.zeros_like(free)
        block[max(row, 0) : row + side, max(col, 0) : col + side] = True
        block &= free
        if 2 * int(block.sum()) < side * side:
            return 0.0
        lost = before - lead(replaced(image, without, block))
        evidence[block] = evidence[block].clamp(min=lost)
        return lost

    before = lead(image)
    corners = [(row, col) for row in range(0, free.shape[0], side) for col in range(0, free.shape[1], side)]
    row, col = max(corners, key=lambda corner: look(*corner))
    half = side // 2
    for down, right in itertools.product((-half, 0, half), repeat=2):
        look(row + down, col + right)
    return evidence


def loudest(evidence: np.ndarray, free: np.ndarray, count: int) -> np.ndarray | None:
    """Return the pixels (H, W) of the strongest positive evidence where it is free to choose, `count` at most."""
    candidates = np.where(free & (evidence > 0), evidence, 0)
    count = min(count, int(np.count_nonzero(candidates)))
    return _first(candidates, count) if count else None


def moved_patches(evidence: np.ndarray, free: np.ndarray, patch: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Give patches of the same area, from the same map moved at random around its edges.

    None shares a pixel with the patch; where there is not as much room, there are none.
    """
    generator, count = np.random.default_rng(seed), int(np.count_nonzero(patch))
    room = free & ~patch
    for _ in range(CANDIDATES if np.count_nonzero(room) >= count else 0):
        offset = tuple(int(generator.integers(n)) for n in patch.shape)
        yield _first(np.where(room, np.roll(evidence, offset, (0, 1)), -np.inf), count)


def as_far(others: list[np.ndarray], patch: np.ndarray, distance: np.ndarray) -> list[np.ndarray]:
    """Return the DRAWS patches whose distance from the object is most like the patch's own."""
    wanted = distance[patch].mean()
    return sorted(others, key=lambda other: abs(distance[other].mean() - wanted))[:DRAWS]


def _first(values: np.ndarray, count: int) -> np.ndarray:
    """Return exactly `count` pixels (H, W) of the largest values."""
    chosen = np.zeros(values.size, bool)
    chosen[np.argpartition(-values.ravel(), count - 1)[:count]] = True
    return chosen.reshape(values.shape)
