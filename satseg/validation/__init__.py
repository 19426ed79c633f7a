"""Finding what is wrong with a dataset before anything is trained on it."""

from satseg.validation.checking import Limits, Validation, check_cheaply, validate
from satseg.validation.findings import Finding, Severity
from satseg.validation.scanning import scan

__all__ = [
    "Finding",
    "Limits",
    "Severity",
    "Validation",
    "check_cheaply",
    "scan",
    "validate",
]
