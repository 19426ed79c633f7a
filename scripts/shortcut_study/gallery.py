"""Gallery of the cues on synthetic backgrounds."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from backgrounds import backgrounds
from cues import Cue, Twin, draw
from plan import SIZES
from training import stored


def write_gallery(path: Path) -> None:
    """Write a picture of each kind: the weak cue in the upper row, the strong one in the lower."""
    source = backgrounds("embedded", "test")
    figure, axes = plt.subplots(2, len(SIZES), figsize=(1.5 * len(SIZES), 3.6), layout="constrained")
    for column, (kind, sizes) in zip(axes.T, SIZES.items(), strict=True):
        share = sorted(share for share, _ in sizes)[len(sizes) // 2]
        for axis, strength in zip(column, ("weak", "strong"), strict=True):
            picture = draw(source, Cue(kind, share, strength), Twin.CUED, (4, 2), 10, 1.0)
            axis.imshow(np.moveaxis(stored(picture.image), 0, -1), interpolation="nearest")
            axis.set_axis_off()
        column[0].set_title(f"{kind}, {share:.0%}", fontsize=9)
    figure.savefig(path, dpi=100)
