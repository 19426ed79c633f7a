"""How large training patches and batches are where nobody says so."""

from __future__ import annotations

from collections.abc import Iterable

from satseg.devices import Machine

EDGE_STEP, MAX_EDGE = 32, 256  # backbones halve an image five times
OVERHANG = 0.1  # share of all pixels that may lie in images which are smaller than a patch
MAX_BATCH = 32
# What one step sees: eight patches of 256 pixels, which the optimizers' rates are made for, and twice as much on a
# GPU, which they do not fill.
PIXELS, PIXELS_GPU = 8 * 256**2, 16 * 256**2
# Measured for a U-Net on a resnet18 in float32; larger networks need several times as much, so it may take a quarter.
BYTES_A_PIXEL, SHARE_OF_MEMORY = 1500, 0.25
MIN_STEPS = 8  # an epoch, for which batches shrink
SMALL_BATCH = 4  # they shrink no further, as its statistics normalise the features; to two where patches are fewer


def fit_patch_size(sizes: Iterable[tuple[int, int]]) -> int:
    """Return the edge of a patch: the largest multiple of 32 up to 256 that fits the images.

    Images that are smaller may hold a tenth of all pixels: a patch hangs over their borders. It is 32 at least.

    Args:
        sizes: Height and width of each training image in pixels.
    """
    shorter = sorted((min(height, width), height * width) for height, width in sizes)
    allowed = OVERHANG * sum(pixels for _, pixels in shorter)
    fitting = MAX_EDGE
    for edge, pixels in shorter:
        fitting, allowed = edge, allowed - pixels
        if allowed < 0:
            break
    return max(EDGE_STEP, min(fitting, MAX_EDGE) // EDGE_STEP * EDGE_STEP)


def fit_batch_size(edge: int, patches: int, machine: Machine) -> int:
    """Return how many patches a batch has: a power of two, and two at least.

    Args:
        edge: Of a patch in pixels.
        patches: An epoch's, of one device.
        machine: What it is trained on.
    """
    pixels = min(PIXELS_GPU if machine.is_gpu else PIXELS, SHARE_OF_MEMORY * machine.memory / BYTES_A_PIXEL)
    batch = MAX_BATCH
    while batch > 2 and batch * edge**2 > pixels:
        batch //= 2
    while batch > SMALL_BATCH and patches // batch < MIN_STEPS:
        batch //= 2
    while batch > 2 and batch > patches:
        batch //= 2
    return batch
