"""Runs of a sweep as Ray tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from satseg.errors import MissingPackageError

Context = tuple[HydraContext, TaskFunction, DictConfig]
Job = tuple[list[str], int]


def run_on_ray(
    jobs: Sequence[Job], context: Context, address: str | None, resources: dict[str, int]
) -> list[JobReturn]:
    """Run jobs on Ray's workers; a lost worker fails only its own job.

    Raises:
        MissingPackageError: If Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError("hydra/launcher=ray needs Ray: pip install 'satseg[ray]'.") from error
    local: dict[str, Any] = {} if address else {"include_dashboard": False}
    ray.init(address=address, logging_level="ERROR", log_to_driver=True, **local)
    try:
        task = ray.remote(max_retries=0, **resources)(_run)
        shared = ray.put((context, Singleton.get_state(), str(Path.cwd())))
        running = [task.remote(job, shared) for job in jobs]
        return [_result(ray, reference) for reference in running]
    finally:
        ray.shutdown()


def _result(ray: Any, reference: Any) -> JobReturn:
    try:
        ended: JobReturn = ray.get(reference)
    except ray.exceptions.RayError as error:
        return JobReturn(status=JobStatus.FAILED, _return_value=error)
    return ended


def _run(job: Job, shared: tuple[Context, Any, str]) -> JobReturn:
    (overrides, number), ((hydra_context, function, config), singletons, folder) = job, shared
    os.chdir(folder)  # so that relative paths resolve
    setup_globals()
    Singleton.set_state(singletons)
    composed = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed.hydra.job):
        composed.hydra.job.id, composed.hydra.job.num = f"{composed.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=hydra_context,
        task_function=function,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
