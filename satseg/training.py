"""The parts of a training run, in the order in which `satseg.train` puts them together."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from satseg import ending, publishing
from satseg.callbacks.averaging import ExponentialMovingAverage
from satseg.callbacks.checkpoint_io import AtomicCheckpointIO
from satseg.callbacks.lines import EpochLines
from satseg.callbacks.position import Position
from satseg.callbacks.records import BestModelFile, MetricsCsv, Throughput
from satseg.callbacks.saving import SaveLast
from satseg.callbacks.seeding import SeedBatches
from satseg.callbacks.stopping import StopOnInterrupt
from satseg.checkpoint import load_model
from satseg.config import ALLOWED_TARGETS
from satseg.data import SegmentationDataModule
from satseg.errors import ConfigError, InterruptedRunError
from satseg.files import write_json
from satseg.locks import alone_in
from satseg.metrics import Scores
from satseg.models import build_model, channels_last, freeze_backbone, init_from
from satseg.next_steps import after_training, usual_split
from satseg.optimization import scaled_lr
from satseg.ranks import agree, is_first, world_size
from satseg.repeating import read_choices, read_environment
from satseg.reporting import report_split
from satseg.run_report import report_run
from satseg.runconfig import backbone_name, config_choices, prepare_config, recognise_data, run_name, with_backbone
from satseg.runs import AUTO, CHOICES, FAILURE, SUMMARY, Run, how_to_resume, open_run, read_metrics, write_failure
from satseg.sharding import SyncNorms
from satseg.task import SegmentationTask
from satseg.validation import Finding, Severity, check_cheaply

logger = logging.getLogger(__name__)

SHARDED = "satseg.sharding.ShardedStrategy"
UNUSED_ALLOWED = "ddp_find_unused_parameters_true"
EVALUATION_S = 3600.0  # in which somebody who evaluates the run while it trains must have ended
HARMLESS = (  # Lightning's warnings, as regular expressions
    "treespec, LeafSpec",  # its own affair
    "could not find the monitored key",  # an epoch that is not scored
    "your dataloader is not resumable",  # the sampler is
    "Checkpoint directory .* exists and is not empty",  # of this run
    "WeightAveraging callback with a model that overrides",  # where layers are sharded, ema is refused
    "smaller than the logging interval",  # epochs are logged, too
)


@contextmanager
def started_run(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Make or reopen the run folder, and note what the run was composed from.

    It is one folder for all processes that train, and for the length of the block theirs alone.
    """
    cfg = prepare_config(cfg)
    recognised = recognise_data(cfg)
    if cfg.from_run is not None:
        read_environment(Path(cfg.from_run))  # a broken record is told before a folder is made
    known = with_backbone(read_choices(Path(cfg.from_run)) if cfg.from_run is not None else config_choices(), cfg)
    with ExitStack() as stack:
        config = OmegaConf.to_yaml(cfg, resolve=True)
        opened = open_run(cfg.run_dir, Path(cfg.runs_dir), run_name(known), cfg.resume_from, config)
        run = agree(lambda: stack.enter_context(opened))
        prepare_process(cfg, run)
        stack.callback(end_log)
        logger.info("Run folder: %s", run.path)
        for sentence in recognised:
            logger.info("Recognised: %s", sentence)
        if run.resume_path is None and is_first():
            write_json(run.path / CHOICES, known)
        yield cfg, run


def prepare_process(cfg: DictConfig, run: Run) -> None:
    """Start the log, and seed every random number generator."""
    log_to(run.path / "train.log")
    if cfg.from_run is not None:  # their number decides the order of sums
        torch.set_num_threads(read_environment(Path(cfg.from_run))["threads"])
    pl.seed_everything(cfg.seed, workers=True, verbose=False)


@contextmanager
def failure_recorded(run: Run) -> Iterator[None]:
    """Note in the run folder why a run ended without a score; an interruption is no failure, and says how to go on."""
    path = run.path / FAILURE
    if is_first():
        path.unlink(missing_ok=True)
    try:
        with ending.blamed():
            yield
    except ending.AskedToEnd as request:
        request.advice = how_to_resume(run.path)
        raise
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error} {how_to_resume(run.path)}") from error
    except Exception as error:
        if not is_first():
            raise
        write_failure(run.path, error)
        raise


def log_to(path: Path) -> None:
    """Send satseg's messages to the terminal and to one file; of several processes, those of the first."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):  # a sweep starts several runs in one process
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    root.propagate = False
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else advertisements and what it found normal
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    if not is_first():
        root.addHandler(logging.NullHandler())
        return
    terminal, file = logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")
    terminal.addFilter(lambda record: not getattr(record, "in_bar", False))
    terminal.setFormatter(logging.Formatter("%(message)s"))
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(terminal)
    root.addHandler(file)


def end_log() -> None:
    """Write no more to a file: its folder may go."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


def build_datamodule(cfg: DictConfig) -> SegmentationDataModule:
    """Find the data, measure the training split, and say what was assumed."""
    augmentation = instantiate(cfg.augmentation, _convert_="all")
    make = instantiate(cfg.dataset, _partial_=True, _convert_="all")
    datamodule: SegmentationDataModule = make(augmentation=augmentation, sampling_seed=cfg.seed)
    datamodule.accelerator = str(cfg.trainer.accelerator)
    datamodule.setup()
    for assumption in datamodule.assumptions:
        logger.info("Assumed: %s", assumption)
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in datamodule.splits.items())
    logger.info("Data: %s images; classes: %s", sizes, ", ".join(datamodule.spec.class_names))
    return datamodule


def check_data(datamodule: SegmentationDataModule) -> list[Finding]:
    """Check the headers of images and masks, and say what is wrong; worst first."""
    findings = [finding.below(str(datamodule.root)) for finding in check_cheaply(datamodule)]
    for finding in findings:
        level = logging.ERROR if finding.severity is Severity.ERROR else logging.WARNING
        logger.log(level, "Data: %s", finding.line())
    return findings


def build_task(cfg: DictConfig, datamodule: SegmentationDataModule) -> SegmentationTask:
    """Build network, criterion and what optimises them, for the classes and bands that the data has."""
    scores = [f"val/{name}" for name in Scores.empty(datamodule.spec.class_names).as_dict()]
    if cfg.monitor not in scores:
        raise ConfigError(f"monitor={cfg.monitor}: there is no such score; choose one of {', '.join(scores)}.")
    model = _plain(cfg.model)
    if cfg.init_from is not None or cfg.resume_from is not None:  # these bring the backbone's weights too
        model["encoder_weights"] = "none"
    network = build_model(model, datamodule.spec)
    if cfg.init_from is not None and cfg.resume_from is None:
        source = load_model(cfg.init_from, trusted_modules=cfg.trusted_modules, runs_dir=Path(cfg.runs_dir))
        logger.info("%s", init_from(network, source))
    if cfg.backbone.freeze:
        freeze_backbone(network)
    if cfg.channels_last:
        channels_last(network)
    if cfg.compile:
        network.net.compile()
    criterion = instantiate(cfg.loss, class_weights=None)
    criterion.set_class_weights(datamodule.class_weights(_plain(cfg.loss.get("class_weights", "none"))))
    optimizer = _plain(cfg.optimizer)
    optimizer["lr"] = scaled_lr(optimizer["lr"], cfg.scale_lr, world_size())
    return SegmentationTask(network, criterion, optimizer, _plain(cfg.scheduler))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


@contextmanager
def built_trainer(cfg: DictConfig, run: Run) -> Iterator[pl.Trainer]:
    """Build the trainer for the length of a block; in a sweep the next run has loggers of its own."""
    trainer = build_trainer(cfg, run)
    failed = True
    try:
        yield trainer
        failed = False
    finally:
        publishing.close(trainer.loggers, failed)


def check_trainer(cfg: DictConfig) -> None:
    """Check the trainer's options before any image is read.

    Raises:
        ConfigError: If they do not go together, or no epoch would be scored.
    """
    every, epochs = cfg.trainer.check_val_every_n_epoch, cfg.trainer.max_epochs
    strategy = cfg.trainer.get("strategy")
    if OmegaConf.is_config(strategy) and strategy.get("_target_") == SHARDED and (cfg.ema or cfg.compile):
        raise ConfigError("ema and compile do not go with trainer=fsdp, where no device has the whole network.")
    if cfg.trainer.accelerator == "cpu" and cfg.trainer.get("sync_batchnorm"):
        raise ConfigError(
            "trainer.sync_batchnorm=true works on GPUs only; with trainer.accelerator=cpu set it to false."
        )
    if epochs != AUTO and (isinstance(epochs, bool) or not isinstance(epochs, int)):
        raise ConfigError(
            f"trainer.max_epochs={'null' if epochs is None else epochs}: name a whole number, which schedules need, or "
            "auto; trainer.max_time ends earlier."
        )
    if str(cfg.trainer.precision) in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
        raise ConfigError(f"trainer.precision={cfg.trainer.precision}: choose 32-true, bf16-mixed or 16-mixed.")
    if not isinstance(cfg.save_every_min, int | float) or cfg.save_every_min < 0:
        raise ConfigError(f"save_every_min={cfg.save_every_min}: expected a number of minutes.")
    if epochs != AUTO and epochs < (every or 1):
        raise ConfigError(
            f"trainer.max_epochs={epochs} with trainer.check_val_every_n_epoch={every}: no epoch would be scored, and "
            "no model chosen; train at least as many epochs."
        )


def build_trainer(cfg: DictConfig, run: Run) -> pl.Trainer:
    """Build Lightning's trainer with the run's records, callbacks and loggers.

    Raises:
        ConfigError: If Lightning does not take its options.
    """
    strategy = cfg.trainer.get("strategy")
    metrics = MetricsCsv(run.path / "metrics.csv")
    records = [
        StopOnInterrupt(),
        SeedBatches(cfg.seed),
        Position(),
        Throughput(),
        metrics,
        EpochLines(metrics, cfg.monitor, cfg.log_every_epochs),
        BestModelFile(run.path / "model.safetensors", cfg.monitor),
        *([ExponentialMovingAverage()] if cfg.ema else []),
        pl.callbacks.ModelCheckpoint(
            run.path / "checkpoints",
            filename="best",
            monitor=cfg.monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        SaveLast(run.path / "checkpoints" / "last.ckpt", cfg.save_every_min),
    ]
    chosen = (cfg.logger or {}).values() if is_first() else ()
    loggers = [instantiate(node, save_dir=str(run.path)) for node in chosen]
    listeners = [instantiate(node) for name, node in cfg.callbacks.items() if loggers or name != "learning_rate"]
    try:
        trainer: pl.Trainer = instantiate(
            cfg.trainer,
            callbacks=records + listeners,
            logger=loggers,
            plugins=[AtomicCheckpointIO(), *([SyncNorms()] if cfg.trainer.get("sync_batchnorm") else [])],
            **({"strategy": UNUSED_ALLOWED} if strategy == "ddp" and _has_unused_layers(cfg) else {}),
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=cfg.trainer.get("enable_progress_bar", True) and sys.stdout.isatty(),
            default_root_dir=str(run.path),
        )
    except Exception as error:  # Hydra wraps whatever Lightning says about an impossible combination
        publishing.close(loggers, failed=True)
        raise ConfigError(
            f"The trainer cannot be built: {error.__cause__ or error} Choose trainer=auto, cpu, gpu, ddp, fsdp or "
            "debug, and options that go together."
        ) from error
    return trainer


def _has_unused_layers(cfg: DictConfig) -> bool:
    """Tell whether a decoder leaves out the backbone's last stages, for whose gradients DDP would wait."""
    return str(cfg.model._target_).endswith(".PSPNet")


def finish_run(cfg: DictConfig, run: Run, datamodule: SegmentationDataModule, trainer: pl.Trainer) -> float:
    """Score the saved model file on validation and test, write pictures and report, publish, close the record."""
    datamodule.trainer = None  # whose processes would each read a share
    trusted = _trusted_modules(cfg)
    network = load_model(run.path, _device(cfg), trusted_modules=trusted)
    splits = [split for split in ("val", "test") if datamodule.splits.get(split)]
    reports = {}
    for split in splits:
        folder = run.path / "evaluation" / split
        logger.info("Scoring %s with the best weights: %d images", split, len(datamodule.splits[split]))
        with alone_in(folder, EVALUATION_S):
            reports[split] = report_split(network, datamodule, split, folder)
        ending.check()
    results = {split: report.result for split, report in reports.items()}
    parameters = sum(p.numel() for p in network.parameters())
    score = float(results["val"].scores.as_dict()[cfg.monitor.removeprefix("val/")])
    summary = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "monitor": cfg.monitor,
        "score": score,
        "model": str(cfg.model._target_).rpartition(".")[2],
        "backbone": backbone_name(cfg),
        "scores": {split: result.scores.as_dict() for split, result in results.items()},
        "parameters": parameters,
        "training_seconds": sum(row.get("seconds") or 0 for row in read_metrics(run.path / "metrics.csv")),
    }
    logger.info("Writing the report")
    report_run(run.path, cfg, reports, datamodule, parameters)
    ending.complete()
    write_json(run.path / SUMMARY, summary)
    publishing.publish_results(trainer.loggers, run, network, datamodule, results)
    _tell(run, results)
    split = usual_split(splits)
    for line in after_training(run.path, datamodule.splits[split][0].image, split, trusted):
        logger.info("%s", line)
    return score


def _trusted_modules(cfg: DictConfig) -> list[str]:
    """Return the modules of the user's own that model and record may name: the user named them."""
    targets = [str(node._target_) for node in (cfg.model, cfg.dataset)]
    own = [t.rpartition(".")[0] for t in targets if t not in ALLOWED_TARGETS and not t.startswith("satseg.")]
    return list(dict.fromkeys([*cfg.trusted_modules, *own]))


def _device(cfg: DictConfig) -> str:
    accelerated = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if accelerated else "cpu"


def _tell(run: Run, results: dict[str, Any]) -> None:
    for split, result in results.items():
        logger.info("%s", result.table(split))
    logger.info("Run folder: %s", run.path)
    logger.info("Report:     %s", run.path / "report.html")
