"""Spreading the strips of one scene, or the scenes of a folder, over Ray's workers.

Workers open scene and model by the same paths as the caller, so on several machines these lie on shared storage.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from satseg.errors import ConfigError, ResourceError, SatsegError
from satseg.inference.blending import Seen
from satseg.inference.pipeline import Stopwatch
from satseg.inference.strips import StripPart

RESTARTS = 3  # of a worker that died, before the run gives up


@contextmanager
def cluster(cfg: DictConfig) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `ray_address`, for the length of a block.

    Raises:
        ConfigError: If Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise ConfigError("executor=ray needs Ray: pip install 'satseg[ray]'.") from error
    local: dict[str, Any] = {} if cfg.ray_address else {"include_dashboard": False}
    try:
        ray.init(address=cfg.ray_address or None, logging_level="ERROR", log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray_address={cfg.ray_address}: no cluster answers ({error}).") from error
    try:
        yield Cluster(ray, cfg)
    finally:
        ray.shutdown()


class Cluster:
    """Workers that each hold the model."""

    def __init__(self, ray: Any, cfg: DictConfig) -> None:
        self._ray = ray
        gpu = cfg.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        threads = torch.get_num_threads()  # as in this process: results may depend on it
        available = ray.cluster_resources().get("GPU" if gpu else "CPU", 1)
        count = cfg.workers or max(1, int(available if gpu else available // threads))
        resources = {"num_gpus": 1} if gpu else {"num_cpus": min(threads, available)}
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **resources)(Worker)
        config = OmegaConf.merge(cfg, {"executor": "local", "progress": False})
        self._workers = [actor.remote(OmegaConf.to_yaml(config, resolve=True), threads) for _ in range(count)]

    def map(self, method: str, items: Sequence[Any]) -> Iterator[Any]:
        """Return a method's results for items, in order, with one waiting a worker."""
        waiting: deque[Any] = deque()
        for number, item in enumerate(items):
            worker = self._workers[number % len(self._workers)]
            waiting.append(getattr(worker, method).remote(item))
            if len(waiting) > len(self._workers):
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
            raise ResourceError(f"A worker of the cluster was lost {RESTARTS + 1} times: {error}") from error

    def strips(self, scene: str | Path, rows: Sequence[int]) -> Generator[tuple[int, Iterator[StripPart]]]:
        """Compute strips of a scene; in order, whichever worker is first."""
        results = self.map("strip", [(scene, row) for row in rows])
        for row, parts in zip(rows, results, strict=True):
            yield row, map(_unpack, parts)


class Worker:
    """Lives in a process of its own, on any machine of the cluster."""

    def __init__(self, config: str, threads: int) -> None:
        from satseg.predicting.models import open_models

        torch.set_num_threads(threads)
        self._cfg = cast(DictConfig, OmegaConf.create(config))
        self._models = open_models(self._cfg)
        self._makers: dict[str, Any] = {}

    def strip(self, item: tuple[str, int]) -> list[tuple[Any, ...]]:
        """Return a strip's parts, as arrays."""
        from satseg.predicting.scenes import maker_of

        scene, row = item
        if scene not in self._makers:
            self._makers[scene] = maker_of(self._cfg, self._models, scene)
        maker = self._makers[scene]
        return [_pack(part) for _, parts in maker.make([row], Stopwatch()) for part in parts]

    def scene(self, item: tuple[str | Path, Path]) -> Any:
        """Segment a whole scene; return its outcome."""
        from satseg.predicting.scenes import predict_or_tell

        return predict_or_tell(self._cfg, self._models, *item)


def _pack(part: StripPart) -> tuple[Any, ...]:
    top = part.top.logits.cpu().numpy(), part.top.valid.numpy()
    return part.column, part.col, top, part.body, part.bottom.cpu().numpy()


def _unpack(packed: tuple[Any, ...]) -> StripPart:
    column, col, (logits, valid), body, bottom = packed
    return StripPart(column, col, Seen(_tensor(logits), _tensor(valid)), body, _tensor(bottom))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array.copy())  # what Ray hands out is read-only
