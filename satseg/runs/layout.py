"""Names of the files in a run folder, and of the options that training fills in."""

from __future__ import annotations

from pathlib import Path

MODEL_FILE = "model.safetensors"
SUMMARY = "summary.json"  # written last: its presence marks the run as complete
CHOICES = "choices.json"  # the file of each config group that the run was composed from
SWEEP = "sweep.json"  # the plan of a sweep, in the folder of its runs
DATA = "data.json"  # the images and masks that the run started with
FAILURE = "failure.json"  # why a run ended without a score
LAST_CHECKPOINT = Path("checkpoints", "last.ckpt")  # to resume from; its folder is created by the first step
FIRST_EPOCH = ("model.safetensors", "metrics.csv", "checkpoints/best.ckpt")  # files that precede LAST_CHECKPOINT
# Files of a run that another program may already have written to the folder.
OVERWRITTEN = (SUMMARY, "model.safetensors", "metrics.csv", "data.json", "report.html", "checkpoints", "evaluation")
# Options whose `auto` is replaced by a number during training.
AUTO = "auto"
AUTO_OPTIONS = ("dataset.patch_size", "dataset.batch_size", "dataset.patches_per_epoch", "trainer.max_epochs")
