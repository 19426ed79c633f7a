"""`python -m satseg.explain`: map the evidence for a class, or diagnose a model's errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from satseg.cli import entry_point

if TYPE_CHECKING:
    from satseg.models import SegmentationNetwork


@entry_point("explain")
def main(cfg: DictConfig) -> None:
    """Write an evidence map, an overlay and a sheet for every image and class; or, with `report`, a diagnosis."""
    from satseg.devices import choose_device
    from satseg.models import channels_last
    from satseg.models.checkpoint import fetch_checkpoints, load_model

    (checkpoint,) = fetch_checkpoints(cfg.checkpoint, Path(cfg.runs_dir))
    network = load_model(checkpoint, choose_device(cfg.device), trusted_modules=cfg.trusted_modules)
    channels_last(network)
    if cfg.report:
        _diagnose(cfg, checkpoint, network)
    else:
        _explain(cfg, checkpoint, network)


def _explain(cfg: DictConfig, checkpoint: Path, network: SegmentationNetwork) -> None:
    from satseg.explain.images import find_pictures
    from satseg.explain.maps import explain_pictures
    from satseg.explain.options import ExplainOptions
    from satseg.locks import folder_lock
    from satseg.runs import run_folder

    folder = Path(cfg.output) if cfg.output else run_folder(checkpoint) / "explanations"
    options = ExplainOptions.from_config(cfg, network.spec.class_names)
    with folder_lock(folder):
        rows = explain_pictures(network, find_pictures(cfg, checkpoint, network.spec), options, folder)
    print(f"{len(rows)} explanations: {folder}")


def _diagnose(cfg: DictConfig, checkpoint: Path, network: SegmentationNetwork) -> None:
    from satseg.devices import out_of_memory_advice
    from satseg.diagnosis import actions, diagnose, summary, write_diagnosis
    from satseg.locks import folder_lock
    from satseg.records.dataset import recorded_datamodule
    from satseg.runs import run_folder

    folder = Path(cfg.output) if cfg.output else run_folder(checkpoint) / "diagnosis" / cfg.split
    datamodule = recorded_datamodule(checkpoint, cfg.dataset, network.spec, cfg.trusted_modules)
    with out_of_memory_advice("The split's images are too large for this device; try device=cpu."):
        found = diagnose(network, datamodule, cfg.split)
    with folder_lock(folder):
        page = write_diagnosis(found, network, cfg.split, run_folder(checkpoint).name, folder)
    names = network.spec.class_names
    for number, action in enumerate(actions(found, names), 1):
        print(f"{number}. {action.what} {action.why}")
    print("\n".join(f"- {line}" for line in summary(found, names)))
    print(f"Diagnosis: {page}")


if __name__ == "__main__":
    main()
