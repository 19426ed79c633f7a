"""What `satseg.predict` asks and answers: scenes from files and folders, one after the other, and what came of each."""

from satseg.predicting.models import Models, open_models
from satseg.predicting.options import check_options
from satseg.predicting.outcomes import Outcome, table
from satseg.predicting.scenes import maker_of, plan_of, predict_scenes, products_for, source_of, task_of
from satseg.predicting.together import write_together

__all__ = [
    "Models",
    "Outcome",
    "check_options",
    "maker_of",
    "open_models",
    "plan_of",
    "predict_scenes",
    "products_for",
    "source_of",
    "table",
    "task_of",
    "write_together",
]
