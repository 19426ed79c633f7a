"""Suggested commands for a trained model."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

SPLITS = ("test", "val", "train")  # by preference for judging a model


def usual_split(splits: Collection[str]) -> str:
    """Return the split that a model is scored on by default."""
    return next((split for split in SPLITS if split in splits), SPLITS[0])


def trust_option(modules: Collection[str]) -> str:
    """Return the option that trusts the user's own modules, to append to a command; empty if there are none."""
    return f" trusted_modules={shlex.quote('[' + ','.join(modules) + ']')}" if modules else ""


def after_training(folder: Path, scene: Path | str, split: str, trusted_modules: Collection[str] = ()) -> list[str]:
    """Return commands, with a description each, that score, map, diagnose and serve the model.

    Args:
        folder: The run folder.
        scene: An example image.
        split: Split of the image.
        trusted_modules: The user's own modules that the model needs.
    """
    checkpoint = f"checkpoint={shlex.quote(str(folder))}"
    trusted = trust_option(trusted_modules)
    return [
        f"Score it again: python -m satseg.evaluate {checkpoint}{trusted}",
        f"Map a scene, here an image of {split}; put yours there: "
        f"python -m satseg.predict {checkpoint} input={shlex.quote(str(scene))} areas=true{trusted}",
        f"See what it confuses: python -m satseg.explain {checkpoint} split={split} report=true{trusted}",
        f"Try it in a browser: python -m satseg.app {checkpoint}{trusted}",
    ]
