"""`python -m satseg.evaluate`: score a trained model on a split."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    """Write scores, a table of images and figures; print the scores."""
    import sys
    from pathlib import Path

    from satseg.devices import choose_device
    from satseg.evaluate.area_estimates import corrected_areas
    from satseg.evaluate.report import report_split
    from satseg.evaluate.scoring import read_scoring
    from satseg.evaluate.temperature import calibrate
    from satseg.evaluate.unseen import check_unseen
    from satseg.inference.members import load_members
    from satseg.locks import folder_lock
    from satseg.records.dataset import recorded_datamodule
    from satseg.runs.next_steps import usual_split

    scoring = read_scoring(cfg)
    models = load_members(cfg, choose_device(cfg.device))
    first = models.checkpoints[0]
    datamodule = recorded_datamodule(first, cfg.dataset, models.spec, cfg.trusted_modules)
    split = cfg.split or usual_split([name for name, samples in datamodule.splits.items() if samples])
    if cfg.split is None:
        why = "" if split == "test" else ", as there is no test split"
        print(f"Scoring split={split}{why}", file=sys.stderr)
    check_unseen(models.checkpoints, datamodule, split)
    if cfg.calibrate:
        calibrate(first, models.networks[0], datamodule, scoring)
    calibrated = "_calibrated" if any(network.temperature != 1 for network in models.networks) else ""
    name = f"{split}{scoring.suffix}{calibrated}"
    folder = Path(cfg.output) if cfg.output else models.folder(Path(cfg.runs_dir)) / "evaluation" / name
    with folder_lock(folder):
        result = report_split(models.network, datamodule, split, folder, scoring).result
        if scoring.models > 1:
            models.write_record(folder)
        print(result.table(split))
        if cfg.map_areas:
            print(corrected_areas(result, Path(cfg.map_areas), datamodule, split, folder))
    print(f"Scores and pictures: {folder}")


if __name__ == "__main__":
    main()
