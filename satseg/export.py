"""`python -m satseg.export`: export a model for other runtimes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from satseg.cli import entry_point

if TYPE_CHECKING:
    from satseg.runtimes import Request, Source

logger = logging.getLogger(__name__)


@entry_point("export")
def main(cfg: DictConfig) -> None:
    """Export the model, and verify the file against eager PyTorch before it is kept."""
    from satseg.locks import output_lock
    from satseg.models.checkpoint import fetch_checkpoints, load_model
    from satseg.runs import model_path, run_folder
    from satseg.runtimes import Request, Source, export_model

    (checkpoint,) = map(model_path, fetch_checkpoints(cfg.checkpoint, Path(cfg.runs_dir)))
    if cfg.output is None:
        cfg.output = f"{run_folder(checkpoint) / 'exported'}/"
    request = Request.from_config(cfg)
    network = load_model(checkpoint, trusted_modules=cfg.trusted_modules)
    source = Source(network, checkpoint, tuple(cfg.trusted_modules))
    with output_lock(request.output):
        if request.int8:
            _export_int8(cfg, source, request)
            return
        difference = export_model(source, request)
        print(f"Exported: {request.output}; its logits agree with PyTorch to {difference:.1e} of the largest logit.")


def _export_int8(cfg: DictConfig, source: Source, request: Request) -> None:
    import torch

    from satseg.errors import ResourceError
    from satseg.evaluate.scoring import evaluate
    from satseg.inference.engines import keep_int8
    from satseg.models import SegmentationNetwork
    from satseg.records.dataset import recorded_datamodule
    from satseg.runtimes import calibration_crops, export_int8

    datamodule = recorded_datamodule(source.checkpoint, cfg.dataset, source.network.spec, source.trusted_modules)

    def score(network: SegmentationNetwork) -> float:
        return evaluate(network, datamodule.val_dataloader(), torch.device("cpu")).scores.miou

    crops = calibration_crops(datamodule, cfg.calibration_images)
    measured = export_int8(source, request.output, crops, score)
    try:
        keep_int8(source.network, request.output)
    except ResourceError as error:
        logger.warning("engine=openvino_int8 will not find it: %s", error)
    miou = measured["miou"]
    print(f"Exported: {request.output}; mIoU {miou['int8']:.4f} instead of {miou['fp32']:.4f} on the validation split.")


if __name__ == "__main__":
    main()
