"""Maps of evidence for images: what is asked, and the answers as files."""

from satseg.explaining.answers import explain_pictures
from satseg.explaining.question import Question, check_report

__all__ = ["Question", "check_report", "explain_pictures"]
