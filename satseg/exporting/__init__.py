"""Models as files for other runtimes, each checked against eager PyTorch before it is kept."""

from satseg.exporting.quantising import calibration_crops, export_int8
from satseg.exporting.request import Request
from satseg.exporting.writing import Source, export_model

__all__ = ["Request", "Source", "calibration_crops", "export_int8", "export_model"]
