"""Why a model is wrong: its errors, the evidence behind them, and whether it leans on something that it should not."""

from satseg.diagnosis.actions import Action, actions
from satseg.diagnosis.diagnose import Diagnosis, diagnose
from satseg.diagnosis.words import summary
from satseg.diagnosis.write import write_diagnosis

__all__ = ["Action", "Diagnosis", "actions", "diagnose", "summary", "write_diagnosis"]
