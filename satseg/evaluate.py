"""`python -m satseg.evaluate`: score a trained model on a split."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    """Write scores, a table per image and pictures; print the scores."""
    from pathlib import Path

    from satseg.checkpoint import fetch_checkpoint, load_model
    from satseg.devices import choose_device
    from satseg.reporting import report_split
    from satseg.runconfig import recorded_datamodule
    from satseg.runs import run_folder

    checkpoint = fetch_checkpoint(cfg.checkpoint, Path(cfg.runs_dir))
    name = cfg.split if cfg.tta == "none" else f"{cfg.split}_{cfg.tta}"
    folder = Path(cfg.output) if cfg.output else run_folder(checkpoint) / "evaluation" / name
    network = load_model(checkpoint, choose_device(cfg.device), trusted_modules=cfg.trusted_modules)
    datamodule = recorded_datamodule(checkpoint, cfg.dataset, network.spec, cfg.trusted_modules)
    result = report_split(network, datamodule, cfg.split, folder, cfg.tta)
    print(result.table(cfg.split))
    print(f"Scores and pictures: {folder}")


if __name__ == "__main__":
    main()
