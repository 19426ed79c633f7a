"""Export of models for other runtimes, verified against eager PyTorch."""

from satseg.runtimes.quantising import calibration_crops, export_int8
from satseg.runtimes.request import Request
from satseg.runtimes.writing import Source, export_model

__all__ = ["Request", "Source", "calibration_crops", "export_int8", "export_model"]
