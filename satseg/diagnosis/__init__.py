"""Diagnosis of a model's errors: the evidence behind them, label issues, and shortcuts that it depends on."""

from satseg.diagnosis.actions import Action, actions
from satseg.diagnosis.descriptions import summary
from satseg.diagnosis.diagnose import Diagnosis, diagnose
from satseg.diagnosis.write import write_diagnosis

__all__ = ["Action", "Diagnosis", "actions", "diagnose", "summary", "write_diagnosis"]
