"""Spreading the strips of one scene, or the scenes of a folder, over Ray's workers.

Workers open scene and model by the same paths as the caller, so on several machines these lie on shared storage; for
`engine=openvino_int8`, the user's cache does, too.
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
from satseg.predict.one_scene import predict_or_tell
from satseg.predict.outcomes import Outcome

RESTARTS = 3  # of a worker that died, before the run gives up


@contextmanager
def cluster(cfg: DictConfig, models: Models) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `ray_address`, for the length of a block.

    Raises:
        ConfigError: If Ray is not installed, there is no cluster at the address, or it has too few cores or GPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
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
    """Ray itself would wait for a cluster that is not there."""
    host, _, port = str(address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"ray_address={address}: no cluster answers ({error}).") from error


class Cluster:
    """Workers that each hold the model."""

    def __init__(self, ray: Any, cfg: DictConfig, models: Models) -> None:
        self._ray, self._cfg, self._models = ray, cfg, models
        threads, gpu = torch.get_num_threads(), models.device.type == "cuda"  # results may depend on the threads
        there = ray.cluster_resources().get("GPU" if gpu else "CPU", 0)
        most = int(there // (1 if gpu else min(threads, max(there, 1))))
        if (cfg.workers or 1) > most:
            what = "GPUs" if gpu else f"processor cores, {threads} for each"
            raise ConfigError(f"workers={cfg.workers}: the cluster has {there:g} {what}; ask for at most {most}.")
        resources = {"num_gpus": 1} if gpu else {"num_cpus": min(threads, there)}
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **resources)(Worker)
        config = OmegaConf.to_yaml(_settled(cfg, models), resolve=True)
        self._workers = [actor.remote(config, threads, models.digests) for _ in range(cfg.workers or most)]

    def _engines(self, scene: str | Path) -> tuple[str, ...]:
        """Return the engines that this process takes for a scene: workers that measured could take others."""
        with suppress(SatsegError):  # which the worker meets, too
            source = source_of(self._cfg, self._models, scene)
            self._models.open(plan_of(self._cfg, self._models, source).window)
        return self._models.chosen or self._models.engines

    def map(self, method: str, items: Iterable[Any], most: int) -> Iterator[Any]:
        """Return a method's results for items, in order; at most so many are asked for and not taken."""
        waiting: deque[Any] = deque()
        for number, item in enumerate(items):
            worker = self._workers[number % len(self._workers)]
            waiting.append(getattr(worker, method).remote(item))
            if len(waiting) > most:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

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
                "ran out: set workers, window_size or batch_size lower. The same command goes on where it stopped."
            ) from error

    def scenes(self, scenes: Sequence[str | Path], outputs: Sequence[Path]) -> Iterator[Outcome]:
        """Segment whole scenes; return their outcomes in order."""
        pairs = zip(scenes, outputs, strict=True)
        items = ((_absolute(scene), self._engines(scene), output.resolve()) for scene, output in pairs)
        for outcome in self.map("scene", items, len(self._workers)):
            outcome.tell()  # what a worker prints is not seen
            yield outcome

    def strips(self, scene: str | Path, rows: Sequence[int]) -> Generator[tuple[int, Iterator[StripPart]]]:
        """Compute strips of a scene; in order, whichever worker is first."""
        maker = maker_of(self._cfg, self._models, source_of(self._cfg, self._models, scene))
        room = maker.max_ram_bytes // maker.strip_bytes - 1  # one is being written
        chosen, graphs = self._models.chosen, self._models.graphs
        items = ((_absolute(scene), chosen, graphs, row) for row in rows)
        results = self.map("strip", items, min(max(room, 0), len(self._workers)))
        for row, parts in zip(rows, results, strict=True):
            yield row, map(_unpack, parts)


def _absolute(path: str | Path) -> str | Path:
    return path if is_remote(path) else Path(path).resolve()


def _settled(cfg: DictConfig, models: Models) -> DictConfig:
    """Return the options with what `latest` stands for, so that all workers agree."""
    paths = [str(path.resolve()) for path in models.checkpoints]
    changes = {"checkpoint": paths, "executor": "local", "progress": False}
    return cast(DictConfig, OmegaConf.merge(cfg, changes))


class Worker:
    """Lives in a process of its own, on any machine of the cluster."""

    def __init__(self, config: str, threads: int, digests: list[str]) -> None:
        torch.set_num_threads(threads)
        self._cfg = cast(DictConfig, OmegaConf.create(config))
        self._models, self._wanted = open_models(self._cfg), digests
        self._makers: dict[tuple[str, tuple[str, ...]], StripMaker] = {}

    def _with(self, engines: tuple[str, ...]) -> Models:
        if self._models.digests != self._wanted:
            raise CheckpointError(f"checkpoint={self._cfg.checkpoint}: the model changed while it was in use.")
        if self._models.engines != engines:
            self._models = replace(self._models, engines=engines)
        return self._models

    def strip(self, item: tuple[str | Path, tuple[str, ...], tuple[str, ...], int]) -> list[tuple[Any, ...]]:
        """Return a strip's parts, as arrays."""
        scene, engines, graphs, row = item
        models, key = self._with(engines), (str(scene), engines)
        if key not in self._makers:
            self._makers[key] = maker_of(self._cfg, models, source_of(self._cfg, models, scene))
        if models.graphs != graphs:
            raise CheckpointError(
                f"{socket.gethostname()} has another quantised model of {self._cfg.checkpoint} in its cache; let "
                "SATSEG_CACHE name one folder that all workers share."
            )
        return [_pack(part) for _, parts in self._makers[key].make([row], Stopwatch()) for part in parts]

    def scene(self, item: tuple[str | Path, tuple[str, ...], Path]) -> Outcome:
        """Segment a whole scene; return its outcome."""
        scene, engines, output = item
        return predict_or_tell(self._cfg, self._with(engines), scene, output)


def _pack(part: StripPart) -> tuple[Any, ...]:
    top = part.top.logits.cpu().numpy(), part.top.valid.numpy()
    return part.column, part.col, top, part.body, part.bottom.cpu().numpy()


def _unpack(packed: tuple[Any, ...]) -> StripPart:
    column, col, (logits, valid), body, bottom = packed
    return StripPart(column, col, WindowLogits(_tensor(logits), _tensor(valid)), body, _tensor(bottom))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array.copy())  # what Ray hands out is read-only
