"""Hyperparameter search with Optuna, with its state in the sweep's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.override_parser.types import Sweep as Values

from satseg.errors import ConfigError, MissingPackageError
from satseg.ranks import world_size
from satseg.sweep.outcome import Outcome, read_outcome
from satseg.sweep.sweep import SWEEP_OPTIONS, Job, Launch, Sweep

JOURNAL, STUDY = "search.log", "search"


class Search:
    """Runs trials that Optuna suggests, and reports their scores to it.

    Args:
        sweep: The sweep to add runs to.
        space: Optuna's distributions by option.
        fixed: Options shared by all runs.
        num_trials: Total number of runs, including those of earlier commands.
        seed: Seed of the sampler.

    Raises:
        MissingPackageError: If Optuna is not installed.
        ConfigError: If it runs under torchrun.
    """

    def __init__(self, sweep: Sweep, space: dict[str, Any], fixed: Sequence[str], num_trials: int, seed: int) -> None:
        if world_size() > 1:  # each process would run its own search
            raise ConfigError("sweep=search does not run under torchrun: start it directly, with trainer.devices.")
        try:
            import optuna
        except ImportError as error:
            raise MissingPackageError("A search needs Optuna: pip install 'satseg[optuna]'.") from error
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.space, self.fixed, self.num_trials = sweep, space, list(fixed), num_trials
        self.states = optuna.trial.TrialState
        sweep.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(sweep.folder / JOURNAL)))
        self.study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
        # a new seed for each command, as a resumed search would otherwise repeat its first draws
        self.study.sampler = optuna.samplers.TPESampler(seed=seed + len(self.study.trials))

    def run(self, batch_size: int, launch: Launch) -> list[Outcome]:
        """Run the trials that an earlier command left open, then new ones, up to `num_trials`."""
        planned = {t.number: self._plan(t.params) for t in self.study.get_trials(deepcopy=False)}
        waiting = [t.number for t in self.study.trials if t.state == self.states.RUNNING]
        outcomes = [read_outcome(job.folder) for number, job in planned.items() if number not in waiting]
        if planned:
            print(f"{len(outcomes)} of {self.num_trials} trials are done.", file=sys.stderr)
        while waiting or len(planned) < self.num_trials:
            while len(waiting) < batch_size and len(planned) < self.num_trials:
                trial = self.study.ask(self.space)
                planned[trial.number] = self._plan(trial.params)
                waiting.append(trial.number)
            self.sweep.save()
            numbers, waiting = waiting[:batch_size], waiting[batch_size:]
            ended = self.sweep.run([planned[number] for number in numbers], launch)
            for number, outcome in zip(numbers, ended, strict=True):
                self._record_outcome(number, outcome)
            outcomes += ended
        return outcomes

    def _plan(self, params: dict[str, Any]) -> Job:
        chosen = [f"{key}={value}" for key, value in params.items()]
        return self.sweep.add([*self.fixed, *chosen], chosen)

    def _record_outcome(self, number: int, outcome: Outcome) -> None:
        """Report a score or divergence to Optuna; other failed trials stay open, to be run again later."""
        if outcome.score is not None:
            self.study.tell(number, outcome.score)
        elif outcome.state == "diverged":
            self.study.tell(number, state=self.states.FAIL)


def search_space(overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """Return the searched options as Optuna's distributions, and the options shared by all runs.

    Lists and `choice(…)` are categorical, `interval(…)` is a range of numbers, `range(…)` has steps;
    `tag(log, interval(…))` is sampled on a log scale, and `int(interval(…))` as integers.
    """
    space: dict[str, Any] = {}
    fixed = []
    for override in overrides:
        if override.key_or_group in SWEEP_OPTIONS:
            continue
        if override.is_sweep_override():
            space[override.get_key_element()] = _distribution(override)
        else:
            fixed.append(f"{override.get_key_element()}={override.get_value_element_as_str()}")
    if not space:
        raise ConfigError("There is nothing to search: give intervals or lists for options, or a sweep= with them.")
    return space, fixed


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    tags = value.tags if isinstance(value, Values) else set()
    log = "log" in tags
    if override.is_interval_sweep():
        low, high = value.start, value.end
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if override.is_range_sweep() and all(isinstance(v, int) for v in (value.start, value.stop, value.step)):
        last = value.start + (value.stop - value.start - 1) // value.step * value.step
        return IntDistribution(value.start, last, log=log, step=value.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
