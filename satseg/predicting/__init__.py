"""What `satseg.predict` asks and answers: scenes from files and folders, one after the other, and what came of each."""

from satseg.predicting.models import Models, open_models
from satseg.predicting.options import check_options
from satseg.predicting.scenes import Outcome, predict_scenes, source_of, table, task_of

__all__ = ["Models", "Outcome", "check_options", "open_models", "predict_scenes", "source_of", "table", "task_of"]
