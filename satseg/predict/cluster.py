"""Distribution of the strips of one scene, or the scenes of a folder, over Ray workers.

Workers open scene and model by the same paths as the caller, so with several machines these must be on shared storage;
for `engine=openvino_int8`, so must the user's cache.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from satseg.data.rasters.opening import is_remote, reason
from satseg.errors import CheckpointError, ConfigError, SatsegError, WorkerLostError
from satseg.inference.blending import WindowLogits
from satseg.inference.pipeline import Stopwatch
from satseg.inference.strips import StripMaker, StripPart
from satseg.predict.assemble import maker_of, plan_of, source_of
from satseg.predict.models import Models, open_models
from satseg.predict.one_scene import predict_or_report
from satseg.predict.outcomes import Outcome

RESTARTS = 3  # of a dead worker, before the run fails


@contextmanager
def cluster(cfg: DictConfig, models: Models) -> Iterator[Cluster]:
    """Start Ray on this machine, or connect to the cluster at `ray_address`, within a block.

    Raises:
        ConfigError: If Ray is not installed, there is no cluster at the address, or it has too few cores or GPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
    except ImportError as error:
        raise ConfigError("executor=ray needs Ray: pip install 'satseg[ray]'.") from error
    _check_address(cfg.ray_address)
    local: dict[str, Any] = {} if cfg.ray_address else {"include_dashboard": False}
    try:
        ray.init(address=cfg.ray_address or None, logging_level="ERROR", log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray_address={cfg.ray_address}: no cluster answers ({error}).") from error
    try:
        yield Cluster(ray, cfg, models)
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Check that the address is reachable; Ray itself would keep waiting."""
    host, _, port = str(address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"ray_address={address}: no cluster answers ({error}).") from error


class Cluster:
    """Ray workers that each hold the model."""

    def __init__(self, ray: Any, cfg: DictConfig, models: Models) -> None:
        self._ray, self._cfg, self._models = ray, cfg, models
        threads, gpu = torch.get_num_threads(), models.device.type == "cuda"  # results may depend on the threads
        available = ray.cluster_resources().get("GPU" if gpu else "CPU", 0)
        max_workers = int(available // (1 if gpu else min(threads, max(available, 1))))
        if (cfg.workers or 1) > max_workers:
            what = "GPUs" if gpu else f"CPU cores, and each worker needs {threads}"
            raise ConfigError(
                f"workers={cfg.workers}: the cluster has {available:g} {what}; set at most {max_workers}."
            )
        resources = {"num_gpus": 1} if gpu else {"num_cpus": min(threads, available)}
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **resources)(Worker)
        config = OmegaConf.to_yaml(_resolved(cfg, models), resolve=True)
        self._workers = [actor.remote(config, threads, models.digests) for _ in range(cfg.workers or max_workers)]

    def _engines(self, scene: str | Path) -> tuple[str, ...]:
        """Return the engines chosen in this process for a scene; workers that measure could choose others."""
        with suppress(SatsegError):  # the worker raises it as well
            source = source_of(self._cfg, self._models, scene)
            self._models.open(plan_of(self._cfg, self._models, source).window)
        return self._models.chosen or self._models.engines

    def map(self, method: str, items: Iterable[Any], max_pending: int) -> Iterator[Any]:
        """Yield the results of a worker method for items, in order, with at most `max_pending` calls ahead."""
        pending: deque[Any] = deque()
        for number, item in enumerate(items):
            worker = self._workers[number % len(self._workers)]
            pending.append(getattr(worker, method).remote(item))
            if len(pending) > max_pending:
                yield self._result(pending.popleft())
        while pending:
            yield self._result(pending.popleft())

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SatsegError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkerLostError(
                f"A worker of the cluster was lost {RESTARTS + 1} times ({reason(error)}), most likely because memory "
                "ran out: lower workers, window_size or batch_size. Run the same command again to continue."
            ) from error

    def scenes(self, scenes: Sequence[str | Path], outputs: Sequence[Path]) -> Iterator[Outcome]:
        """Segment whole scenes; yield their outcomes in order."""
        pairs = zip(scenes, outputs, strict=True)
        items = ((_absolute(scene), self._engines(scene), output.resolve()) for scene, output in pairs)
        for outcome in self.map("scene", items, len(self._workers)):
            outcome.print_warnings()  # the output of workers is not shown
            yield outcome

    def strips(self, scene: str | Path, rows: Sequence[int]) -> Generator[tuple[int, Iterator[StripPart]]]:
        """Compute strips of a scene; yield them in order."""
        maker = maker_of(self._cfg, self._models, source_of(self._cfg, self._models, scene))
        room = maker.max_ram_bytes // maker.strip_bytes - 1  # minus the one being written
        chosen, graphs = self._models.chosen, self._models.graphs
        items = ((_absolute(scene), chosen, graphs, row) for row in rows)
        results = self.map("strip", items, min(max(room, 0), len(self._workers)))
        for row, parts in zip(rows, results, strict=True):
            yield row, map(_unpack, parts)


def _absolute(path: str | Path) -> str | Path:
    return path if is_remote(path) else Path(path).resolve()


def _resolved(cfg: DictConfig, models: Models) -> DictConfig:
    """Return the options with `latest` resolved to a path, so that all workers use the same model."""
    paths = [str(path.resolve()) for path in models.checkpoints]
    changes = {"checkpoint": paths, "executor": "local", "progress": False}
    return cast(DictConfig, OmegaConf.merge(cfg, changes))


class Worker:
    """A worker process on any machine of the cluster."""

    def __init__(self, config: str, threads: int, digests: list[str]) -> None:
        torch.set_num_threads(threads)
        self._cfg = cast(DictConfig, OmegaConf.create(config))
        self._models, self._digests = open_models(self._cfg), digests
        self._makers: dict[tuple[str, tuple[str, ...]], StripMaker] = {}

    def _models_on(self, engines: tuple[str, ...]) -> Models:
        if self._models.digests != self._digests:
            raise CheckpointError(f"checkpoint={self._cfg.checkpoint}: the model changed while it was in use.")
        if self._models.engines != engines:
            self._models = replace(self._models, engines=engines)
        return self._models

    def strip(self, item: tuple[str | Path, tuple[str, ...], tuple[str, ...], int]) -> list[tuple[Any, ...]]:
        """Return the parts of a strip as arrays."""
        scene, engines, graphs, row = item
        models, key = self._models_on(engines), (str(scene), engines)
        if key not in self._makers:
            self._makers[key] = maker_of(self._cfg, models, source_of(self._cfg, models, scene))
        if models.graphs != graphs:
            raise CheckpointError(
                f"{socket.gethostname()} has another quantised model of {self._cfg.checkpoint} in its cache; set "
                "SATSEG_CACHE to a folder that all workers share."
            )
        return [_pack(part) for _, parts in self._makers[key].make([row], Stopwatch()) for part in parts]

    def scene(self, item: tuple[str | Path, tuple[str, ...], Path]) -> Outcome:
        """Segment a whole scene; return its outcome."""
        scene, engines, output = item
        return predict_or_report(self._cfg, self._models_on(engines), scene, output)


def _pack(part: StripPart) -> tuple[Any, ...]:
    top = part.top.logits.cpu().numpy(), part.top.valid.numpy()
    return part.column, part.col, top, part.body, part.bottom.cpu().numpy()


def _unpack(packed: tuple[Any, ...]) -> StripPart:
    column, col, (logits, valid), body, bottom = packed
    return StripPart(column, col, WindowLogits(_tensor(logits), _tensor(valid)), body, _tensor(bottom))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array.copy())  # arrays from Ray are read-only
