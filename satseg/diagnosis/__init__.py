"""Why a model is wrong: its errors, the evidence behind them, and whether it leans on something that it should not."""

from satseg.diagnosis.diagnose import Diagnosis, diagnose
from satseg.diagnosis.words import summary
from satseg.diagnosis.write import write_diagnosis

__all__ = ["Diagnosis", "diagnose", "summary", "write_diagnosis"]
