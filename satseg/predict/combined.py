"""Combined files of several scenes: all polygons, and a table of all areas."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from satseg.locks import output_lock
from satseg.mapping import join_layers, write_all_areas
from satseg.predict.outcomes import Outcome
from satseg.predict.outputs import combined_paths


def write_combined(cfg: DictConfig, outcomes: Sequence[Outcome]) -> list[str]:
    """Write the combined files of all scenes.

    Args:
        cfg: The composed configuration of `satseg.predict`.
        outcomes: Outcomes of all scenes; failed ones are left out, with a warning.

    Returns:
        A line per file, for the user.

    Raises:
        ResourceError: If a file cannot be written.
        InUseError: If another process writes the same file.
    """
    made = [outcome for outcome in outcomes if not outcome.error]
    paths = combined_paths(cfg, made[0].files[0].parent, len(outcomes)) if made else {}
    lines = []
    for kind, path in paths.items():
        with output_lock(path):
            if kind == "areas":
                write_all_areas({outcome.files[0].stem: outcome.areas for outcome in made}, path)
                lines.append(f"Areas of {len(made)} scenes: {path}")
            else:
                files = {outcome.files[0].stem: (outcome.vectors, outcome.files[0]) for outcome in made}
                counts = join_layers({name: (own, map_) for name, (own, map_) in files.items() if own}, path)
                layers = "" if len(counts) == 1 else f" in {len(counts)} layers, one per CRS"
                lines.append(f"Polygons of {len(made)} scenes: {path} ({sum(counts.values())}{layers})")
        if len(made) < len(outcomes):
            print(f"Warning: {path} is missing {len(outcomes) - len(made)} of {len(outcomes)} scenes.", file=sys.stderr)
    return lines
