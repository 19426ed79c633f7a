"""What to do with a model that has been trained, as commands that run as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

SPLITS = ("test", "val", "train")  # the first that there is tells the most of a model


def usual_split(splits: Collection[str]) -> str:
    """Return the split that a model is scored on, and shown by, where none is asked for."""
    return next((split for split in SPLITS if split in splits), SPLITS[0])


def after_training(folder: Path, scene: Path | str, split: str, trusted_modules: Collection[str] = ()) -> list[str]:
    """Return a line each for scoring the model, mapping a scene with it, diagnosing it, and trying it in a browser.

    Args:
        folder: The run's.
        scene: An image that the model can segment, as an example.
        split: That the image is of.
        trusted_modules: Modules of the user's own, without which the model cannot be loaded.
    """
    checkpoint = f"checkpoint={shlex.quote(str(folder))}"
    trusted = f" trusted_modules={shlex.quote('[' + ','.join(trusted_modules) + ']')}" if trusted_modules else ""
    return [
        f"Score it again: python -m satseg.evaluate {checkpoint}{trusted}",
        f"Map a scene, here an image of {split}; put yours there: "
        f"python -m satseg.predict {checkpoint} input={shlex.quote(str(scene))} areas=true{trusted}",
        f"See what it confuses: python -m satseg.explain {checkpoint} split={split} report=true{trusted}",
        f"Try it in a browser: python -m satseg.app {checkpoint}{trusted}",
    ]
