"""`python -m satseg.train`: train, evaluate and save one model."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg import ending
from satseg.cli import entry_point


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Train one model; return the monitored score, which sweeps optimise."""
    with ending.deferred():  # as modules may go on without one whose import failed
        from satseg import fitting, launching, training

    with training.started_run(cfg) as (cfg, run), training.failure_recorded(run):
        count = launching.num_processes(cfg)
        return launching.launch(cfg, run, count) if count > 1 else fitting.train(cfg, run)


if __name__ == "__main__":
    main()
