"""`python -m satseg.explain`: show where the evidence for a class comes from."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("explain")
def main(cfg: DictConfig) -> None:
    """Write a map of evidence, an overlay and a sheet for every image and class; print where they are."""
    from pathlib import Path

    from satseg.checkpoint import fetch_checkpoint, load_model
    from satseg.devices import choose_device
    from satseg.explaining import Question, explain_pictures, output_folder
    from satseg.pictures import find_pictures

    checkpoint = fetch_checkpoint(cfg.checkpoint, Path(cfg.runs_dir))
    folder = output_folder(cfg.output, checkpoint)
    network = load_model(checkpoint, choose_device(cfg.device), trusted_modules=cfg.trusted_modules)
    question = Question.from_config(cfg, network.spec.class_names)
    rows = explain_pictures(network, find_pictures(cfg, checkpoint, network.spec), question, folder)
    print(f"{len(rows)} explanations: {folder}")


if __name__ == "__main__":
    main()
