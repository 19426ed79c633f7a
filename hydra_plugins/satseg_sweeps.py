"""Hydra plugins: satseg's sweepers, and a launcher for Ray.

Hydra's own plugins for Optuna and Ray require an Optuna of 2022 and a cloudpickle that conflicts with joblib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from satseg.sweep import Sweep


class GridSweeper(Sweeper):
    """Runs each combination of the swept values.

    Args:
        params: Options with their values, as on the command line, which takes precedence.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the context for launching runs."""
        self.config, self.hydra_context = config, hydra_context
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the missing runs, and print all outcomes."""
        from satseg.sweep import grid, parse

        sweep = self._open(arguments)
        grid(sweep, parse(self.params, arguments))
        sweep.save()
        sweep.close(sweep.run(sweep.jobs, self._launch))

    def _open(self, arguments: Sequence[str]) -> Sweep:
        from satseg.sweep import Sweep, to_overrides

        command = [*to_overrides(self.params), *arguments]
        return Sweep(Path(self._config.hydra.sweep.dir), self._config.resume_sweep, command)

    def _launch(self, commands: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        self.validate_batch_is_legal(commands)  # fails on unknown options before the first run
        return self._launcher.launch(commands, initial_job_idx=first)


class OptunaSweeper(GridSweeper):
    """Lets Optuna choose values from the scores of earlier runs.

    Args:
        params: Options with their search spaces, as on the command line, which takes precedence.
        num_trials: Total number of runs.
        batch_size: Runs at a time; runs of one batch do not use each other's scores.
        seed: Seed of the search, not of the runs.
    """

    def __init__(
        self, params: dict[str, Any] | None = None, num_trials: int = 20, batch_size: int = 1, seed: int = 0
    ) -> None:
        super().__init__(params)
        self.num_trials, self.batch_size, self.seed = num_trials, batch_size, seed

    def sweep(self, arguments: list[str]) -> None:
        """Run `num_trials` trials, and print all outcomes."""
        from satseg.sweep import Search, parse, search_space

        space, fixed = search_space(parse(self.params, arguments))
        sweep = self._open(arguments)
        search = Search(sweep, space, fixed, self.num_trials, self.seed)
        sweep.close(search.run(self.batch_size, self._launch))


class RayLauncher(Launcher):
    """Runs jobs as Ray tasks, on this machine or on a cluster with a shared file system.

    Args:
        address: Address of a cluster; by default Ray is started on this machine.
        num_cpus: CPU cores per run.
        num_gpus: GPUs per run.
    """

    def __init__(self, address: str | None = None, num_cpus: int = 1, num_gpus: int = 0) -> None:
        self.address, self.resources = address, {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the context for launching runs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs and wait for them; a job whose worker dies counts as failed."""
        from satseg.sweep.tasks import run_on_ray

        jobs = [(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        context = (self.hydra_context, self.task_function, self.config)
        return run_on_ray(jobs, context, self.address, self.resources)
