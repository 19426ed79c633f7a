"""Default sizes of training patches and batches."""

from __future__ import annotations

from collections.abc import Iterable

from satseg.devices import Machine

EDGE_STEP, MAX_EDGE = 32, 256  # backbones halve an image five times
MAX_OVERHANG = 0.1  # share of all pixels that may lie in images smaller than a patch
MAX_BATCH = 32
# Pixels per step: eight patches of 256 pixels, for which the learning rates are tuned, and twice as many on a GPU,
# which those would not fill.
PIXELS_PER_STEP, PIXELS_PER_STEP_GPU = 8 * 256**2, 16 * 256**2
# Measured for a U-Net on a resnet18 in float32; larger networks need several times as much, hence only a quarter.
BYTES_PER_PIXEL, SHARE_OF_MEMORY = 1500, 0.25
MIN_STEPS = 8  # per epoch; batches shrink to reach it
SMALL_BATCH = 4  # the least such batch, for batch norm; two if there are fewer patches


def fit_patch_size(sizes: Iterable[tuple[int, int]]) -> int:
    """Return the edge of a patch: the largest multiple of 32, from 32 to 256, that fits the images.

    Smaller images, over whose borders a patch extends, may hold up to a tenth of all pixels.

    Args:
        sizes: Height and width of each training image in pixels.
    """
    shorter = sorted((min(height, width), height * width) for height, width in sizes)
    allowed = MAX_OVERHANG * sum(pixels for _, pixels in shorter)
    fitting = MAX_EDGE
    for edge, pixels in shorter:
        fitting, allowed = edge, allowed - pixels
        if allowed < 0:
            break
    return max(EDGE_STEP, min(fitting, MAX_EDGE) // EDGE_STEP * EDGE_STEP)


def fit_batch_size(edge: int, patches: int, machine: Machine) -> int:
    """Return the number of patches per batch: a power of two, at least two.

    Args:
        edge: Edge of a patch in pixels.
        patches: Patches per epoch of one device.
        machine: The machine that trains.
    """
    pixels = min(
        PIXELS_PER_STEP_GPU if machine.is_gpu else PIXELS_PER_STEP, SHARE_OF_MEMORY * machine.memory / BYTES_PER_PIXEL
    )
    batch = MAX_BATCH
    while batch > 2 and batch * edge**2 > pixels:
        batch //= 2
    while batch > SMALL_BATCH and patches // batch < MIN_STEPS:
        batch //= 2
    while batch > 2 and batch > patches:
        batch //= 2
    return batch
