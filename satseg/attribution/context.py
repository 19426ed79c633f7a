"""Whether a prediction hangs on something outside the region that it is about."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from satseg.attribution.replacement import blurred, elsewhere, logits_of, replaced
from satseg.models import SegmentationNetwork

MARGIN = 8.0  # pixels around an object that count as its own
SHARE = 0.03  # of the valid pixels, that is replaced
NOTABLE = 0.1  # harm that is worth comparing with chance
CLEAR = 0.2  # share of a region's pixels by which harm must exceed chance
DRAWS = 16  # patches elsewhere
CANDIDATES = 64  # of which those are taken that are as far from the object


@dataclass(frozen=True)
class ContextCheck:
    """What replacing the loudest context does, against replacing as much elsewhere.

    Attributes:
        patch: What was replaced (H, W), boolean.
        harm: Share of the region's pixels that are then another class, whatever stands in for the patch.
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
        """Whether every patch elsewhere does clearly less harm."""
        return bool(self.chance) and self.harm >= max(self.chance) + CLEAR


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

    def harm(patches: list[np.ndarray]) -> list[float]:
        variants = (replaced(image, c, torch.from_numpy(p)) for p in patches for c in contents)
        wrong = [each.argmax(0)[pixels] != target for each in logits_of(network, variants, valid)]
        shares = np.reshape([w.float().mean().item() for w in wrong], (-1, len(contents)))
        return [float(share) for share in shares.min(1)]

    (done,) = harm([patch])
    if done < NOTABLE:
        return ContextCheck(patch, done, ())
    others = as_far(list(moved_patches(loud, free, patch, seed)), patch, distance)
    return ContextCheck(patch, done, tuple(harm(others))) if len(others) == DRAWS else None


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

    def block(row: int, col: int) -> Tensor:
        inside = torch.zeros_like(free)
        inside[max(row, 0) : row + side, max(col, 0) : col + side] = True
        return inside & free

    def look(corners: Iterable[tuple[int, int]]) -> None:
        """Note what each block takes from the lead; blocks that are half taken up by what is not free are left out."""
        blocks = [block(*corner) for corner in corners]
        used = [b for b in blocks if 2 * int(b.sum()) >= side * side]
        shown = [image.float(), *(replaced(image, without, b) for b in used)]
        whole, *leads = [_lead(logits, pixels, target) for logits in logits_of(network, shown, valid)]
        for b, lead in zip(used, leads, strict=True):
            evidence[b] = evidence[b].clamp(min=whole - lead)

    look(itertools.product(range(0, free.shape[0], side), range(0, free.shape[1], side)))
    row, col = divmod(int(evidence.argmax()), free.shape[1])
    steps = (-(side // 2), 0, side // 2)
    look((row // side * side + down, col // side * side + right) for down, right in itertools.product(steps, steps))
    return evidence


def _lead(logits: Tensor, pixels: Tensor, target: int) -> float:
    """Return the class's mean lead over the strongest other class in a region."""
    seen = logits[:, pixels]
    others = torch.cat([seen[:target], seen[target + 1 :]]).amax(0)
    return float((seen[target] - others).mean())


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
