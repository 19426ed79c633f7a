"""Where Hydra looks for plugins: satseg's sweepers, and a launcher for Ray.

Hydra's plugins for Optuna and Ray want an Optuna of 2022 and a cloudpickle that joblib refuses.
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
    """Runs each combination of the values that are swept over.

    Args:
        params: Options with their values, as on the command line, which wins.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the runs are launched with."""
        self.config, self.hydra_context = config, hydra_context
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run what is missing, and say how all ended."""
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
        self.validate_batch_is_legal(commands)  # a wrong name ends the sweep before its first run
        return self._launcher.launch(commands, initial_job_idx=first)


class OptunaSweeper(GridSweeper):
    """Lets Optuna choose the values, by what earlier runs scored.

    Args:
        params: Options with the values that they may take, as on the command line, which wins.
        num_trials: Runs in all.
        batch_size: Runs at a time; those of one batch do not know of each other.
        seed: Of the search, not of the runs.
    """

    def __init__(
        self, params: dict[str, Any] | None = None, num_trials: int = 20, batch_size: int = 1, seed: int = 0
    ) -> None:
        super().__init__(params)
        self.num_trials, self.batch_size, self.seed = num_trials, batch_size, seed

    def sweep(self, arguments: list[str]) -> None:
        """Run trials up to their number, and say how all ended."""
        from satseg.sweep import Search, parse, search_space

        space, fixed = search_space(parse(self.params, arguments))
        sweep = self._open(arguments)
        search = Search(sweep, space, fixed, self.num_trials, self.seed)
        sweep.close(search.run(self.batch_size, self._launch))


class RayLauncher(Launcher):
    """Runs jobs as tasks of Ray, on this machine or a cluster with the same files.

    Args:
        address: Of a cluster; Ray is started on this machine by default.
        num_cpus: Processor cores for each run.
        num_gpus: GPUs for each run.
    """

    def __init__(self, address: str | None = None, num_cpus: int = 1, num_gpus: int = 0) -> None:
        self.address, self.resources = address, {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the runs are launched with."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs and wait for them; one whose worker dies is a job that failed."""
        from satseg.sweep.tasks import run_on_ray

        jobs = [(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        context = (self.hydra_context, self.task_function, self.config)
        return run_on_ray(jobs, context, self.address, self.resources)
