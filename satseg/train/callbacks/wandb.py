"""Logger for Weights & Biases that never prompts and never blocks training."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from satseg.errors import ConfigError
from satseg.files import write_text
from satseg.runs import SWEEP

logger = logging.getLogger(__name__)

MAX_ID_LENGTH = 64  # characters
TIMEOUT_S = 30  # for the server, at the start and at the end
ID_FILE = "wandb_id"  # a resumed run continues in the same dashboard
# Patterns of metrics, and their names in the dashboard, which groups them by the word before the slash.
SECTIONS = (
    (r"(train|val)/loss", r"losses/\1"),
    (r"train/(images_per_second)", r"throughput/\1"),
    (r"train/(memory_gb)", r"memory/\1"),
    (r"lr-(.+)", r"learning_rate/\1"),
    (r"val/(iou|f1|precision|recall)/(.+)", r"\1_by_class/\2"),
    (r"val/(.+)", r"scores/\1"),
)


def section(key: str) -> str:
    """Return the dashboard's name for a metric."""
    for pattern, name in SECTIONS:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, name, key)
    return key


class Dashboard(WandbLogger):
    """Weights & Biases logger of one run.

    Args:
        save_dir: The run folder.
        watch: Histograms to log: `gradients`, `parameters` or `all`; none by default.
        watch_every: Batches between histograms.
        options: Further options of `wandb.init`.

    Raises:
        ConfigError: If wandb is not installed.
    """

    def __init__(self, save_dir: str, watch: str | None = None, watch_every: int = 100, **options: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("logger=wandb needs the package wandb: pip install 'satseg[wandb]'.") from error
        if watch not in (None, "gradients", "parameters", "all"):
            raise ConfigError(f"logger.wandb.watch={watch}: choose gradients, parameters or all.")
        self.folder, self.watched, self.watch_every = Path(save_dir), watch, watch_every
        self.is_broken = False
        self._sets_folder = "WANDB_DATA_DIR" not in os.environ
        if self._sets_folder:  # keep all data in the run folder, not in the user's home
            os.environ["WANDB_DATA_DIR"] = str(self.folder / "wandb" / "data")
        settings = wandb.Settings(
            init_timeout=TIMEOUT_S, login_timeout=TIMEOUT_S, finish_timeout=TIMEOUT_S, finish_timeout_raises=False
        )
        options = {"name": self.folder.name, "group": _sweep(self.folder), "settings": settings, **options}
        options |= {"id": _saved_id(self.folder) or secrets.token_hex(4), "resume": "allow"}
        super().__init__(save_dir=save_dir, mode=_mode(), **options)
        self._start(wandb)
        write_text(self.folder / ID_FILE, f"{self.experiment.id}\n")  # under a W&B agent the id is the agent's

    def _start(self, wandb: Any) -> None:
        """Start the W&B run, offline if the server cannot be reached."""
        before = self._folders()
        try:
            _ = self.experiment
        except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            logger.warning(
                "Weights & Biases cannot be reached (%s): logging offline. Send it later with: wandb sync %s/wandb/*",
                " ".join(str(error).split())[:120],
                self.folder,
            )
            wandb.teardown()
            for attempt in self._folders() - before:  # it is empty; earlier ones may wait for their upload
                shutil.rmtree(attempt, ignore_errors=True)
            self._wandb_init["mode"] = "offline"
            _ = self.experiment

    def _folders(self) -> set[Path]:
        return set((self.folder / "wandb").glob("run-*"))

    @contextmanager
    def errors_logged(self) -> Iterator[None]:
        """Log the first error of the dashboard and suppress all, so that training goes on."""
        try:
            yield
        except Exception as error:  # any failure of W&B's process or service
            if not self.is_broken:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
                logger.warning("Weights & Biases failed (%s): training continues without it.", reason)
            self.is_broken = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics by their names in the dashboard."""
        if self.is_broken:
            return
        with self.errors_logged():
            super().log_metrics({section(key): value for key, value in metrics.items()}, step)

    def close(self, failed: bool) -> None:
        """Finish the W&B run, so that the next one of a sweep has its own; unsent data is kept."""
        if self._experiment is not None:
            with self.errors_logged():
                self._experiment.finish(exit_code=int(failed))
            self._experiment = None
        if self._sets_folder:
            os.environ.pop("WANDB_DATA_DIR", None)


def _saved_id(folder: Path) -> str | None:
    """Return the W&B id of a resumed run, validated, as the folder may be untrusted; None for a new run."""
    path = folder / ID_FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(MAX_ID_LENGTH + 2).decode("ascii", "replace").strip()
    if re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}", text):
        return text
    logger.warning("%s does not hold a Weights & Biases id: the run continues in a new dashboard.", path)
    return None


def _mode() -> str:
    """Return the W&B mode: online if there is an API key, else offline; never prompts."""
    import wandb

    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    return "online" if os.environ.get("WANDB_API_KEY") or wandb.api.api_key else "offline"


def _sweep(folder: Path) -> str | None:
    """Return the name of the sweep that a run folder belongs to, if any."""
    return folder.parent.name if (folder.parent / SWEEP).is_file() else None
