"""`python -m satseg.validate`: check a dataset before training."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("validate")
def main(cfg: DictConfig) -> None:
    """Check a whole dataset, print and write the findings, and exit with status 1 if there are errors."""
    import time
    from pathlib import Path

    from satseg.data.building import build_dataset
    from satseg.locks import folder_lock
    from satseg.validate.checking import Limits, validate
    from satseg.validate.write import write_validation

    limits = Limits(cfg.min_class_share, cfg.max_ignored, cfg.giveaway)
    datamodule = build_dataset(cfg.dataset)
    validation = validate(datamodule, limits, cfg.workers, cfg.progress)
    folder = Path(cfg.output or Path(cfg.runs_dir) / "validation" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    with folder_lock(folder):
        print(write_validation(validation, folder))
    if validation.has_errors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
