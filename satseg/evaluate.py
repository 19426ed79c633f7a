"""`python -m satseg.evaluate`: score a trained model on a split."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    """Write scores, a table per image and pictures; print the scores."""
    import sys
    from pathlib import Path

    from satseg import evaluating
    from satseg.checkpoint import fetch_checkpoint, load_model
    from satseg.devices import choose_device
    from satseg.locks import alone_in
    from satseg.next_steps import usual_split
    from satseg.reporting import report_split
    from satseg.runconfig import recorded_datamodule
    from satseg.runs import run_folder

    scoring = evaluating.scoring(cfg)
    checkpoint = fetch_checkpoint(cfg.checkpoint, Path(cfg.runs_dir))
    network = load_model(checkpoint, choose_device(cfg.device), trusted_modules=cfg.trusted_modules)
    datamodule = recorded_datamodule(checkpoint, cfg.dataset, network.spec, cfg.trusted_modules)
    if cfg.calibrate:
        evaluating.calibrate(checkpoint, network, datamodule, scoring)
    split = cfg.split or usual_split([name for name, samples in datamodule.splits.items() if samples])
    if cfg.split is None:
        why = "" if split == "test" else ", as there is no test split"
        print(f"Scoring split={split}{why}", file=sys.stderr)
    name = f"{split}{scoring.suffix}{'_calibrated' if network.temperature != 1 else ''}"
    folder = Path(cfg.output) if cfg.output else run_folder(checkpoint) / "evaluation" / name
    with alone_in(folder):
        result = report_split(network, datamodule, split, folder, scoring).result
        print(result.table(split))
        if cfg.map_areas:
            print(evaluating.corrected_areas(result, Path(cfg.map_areas), datamodule, split, folder))
    print(f"Scores and pictures: {folder}")


if __name__ == "__main__":
    main()
