"""`python -m satseg.train`: train, evaluate and save one model."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg import signals
from satseg.cli import entry_point


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Train one model; return the monitored score, which sweeps optimise."""
    with signals.deferred():  # a library may swallow an interruption during its imports
        from satseg.train.run import train

    return train(cfg)


if __name__ == "__main__":
    main()
