"""`python -m satseg.train`: train, evaluate and save one model."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Train one model; return the monitored score, which sweeps optimise."""
    from satseg import fitting, training

    cfg, run = training.start_run(cfg)
    with training.failure_recorded(run), training.built_trainer(cfg, run) as trainer:
        datamodule = training.build_datamodule(cfg)
        task = training.build_task(cfg, datamodule)
        training.record(cfg, run, datamodule, trainer, task)
        fitting.fit(trainer, task, datamodule, run)
        return training.finish_run(cfg, run, datamodule, trainer)


if __name__ == "__main__":
    main()
