"""Maps of evidence for images: what is asked, and the answers as files."""

from satseg.explaining.answers import explain_pictures
from satseg.explaining.question import Question

__all__ = ["Question", "explain_pictures"]
