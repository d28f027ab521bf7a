"""Searches over configurations proposed by Optuna, in stages so that poor trials can be pruned (`sweep` extra).

    def propose(trial): return Cell(kernel=trial.suggest_int("kernel", 1, 5), gate=trial.suggest_float("gate", 0, 1))
    def score(cell, number, stage): ...        runs trial `number` to the end of a stage; larger scores are better

    search = Search(score, propose, folder, count=120, stages=3)
    trials = search.run("processes:2", at_once=2)

The first third of the trials is random; the others are sampled as in Bergstra et al. 2011 (tree-structured Parzen
estimators, independent for each parameter). Results are written only by the process that calls `run`, in a journal that
Optuna's own tools can read. A search can therefore be killed at any time, and the next run resumes unfinished trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import SweepError, needs_extra
from pcsim.core.progress import resumable, tqdm
from pcsim.core.storage import full_path, make_folder
from pcsim.sweeps.executors import SupportsSubmit, completed, executor_named
from pcsim.sweeps.journal import Journal
from pcsim.sweeps.lock import locked

Propose = Callable[[Any], Any]
"""a function of an optuna.Trial that builds a configuration with suggest_int(), suggest_float(), ..."""
Score = Callable[[Any, int, int], float]
"""a function (configuration, trial number, stage from 0) -> score at the end of the stage, or NaN if there is none"""
State = Literal["complete", "pruned", "failed", "running"]
NAME = "search"


@dataclass(frozen=True)
class Trial:
    """A trial of a search.

    parameters  the suggested values by name
    values      the score at the end of each completed stage
    state       complete; pruned (stopped after one of its stages); failed (no score); or running (possibly interrupted)
    """

    number: int
    config: Any
    parameters: dict[str, Any]
    values: tuple[float, ...]
    state: State

    @property
    def score(self) -> float:
        """The score at the end of the last completed stage, or NaN if there is none."""
        return self.values[-1] if self.values else math.nan


@checked(SweepError)
class Search:
    """A search with `count` trials, whose configurations come from `propose` and whose results are stored in `folder`.

    score   a function at the top level of a module (or a partial of one), because other processes may run it. An
            interrupted trial repeats its current stage, so save checkpoints under the trial number
    stages  number of stages per trial; between stages a trial is pruned unless it is among the best fraction `keep` of
            completed trials at that stage
    random  number of initial trials, drawn at random and never pruned; by default a third of `count`
    seed    seed of the sampler; the proposed configurations depend on the seed and on the results known at that time

    Raises SweepError if Optuna is missing, or if the folder contains a search with other settings or function names.
    The code of functions is not compared, so use another folder after changing a function.
    """

    def __init__(
        self,
        score: Score,
        propose: Propose,
        folder: Path | str,
        *,
        count: Count,
        stages: Count = 1,
        random: Count | None = None,
        keep: Annotated[float, Field(gt=0, le=1)] = 0.5,
        seed: Whole = 0,
    ) -> None:
        self.score, self.propose, self.folder = score, propose, full_path(folder)
        self.count, self.stages, self.keep, self.seed = count, stages, keep, seed
        self.random = max(1, count // 3) if random is None else random
        if self.random > count:
            raise SweepError(
                given=f"{count} trials, {self.random} of them random",
                expected="random <= count",
                remedy=f"pass random={max(1, count // 3)}",
            )

    def __repr__(self) -> str:
        return f"Search({self.count} trials, {self.folder})"

    @property
    def journal(self) -> Path:
        """The file that stores all trials, readable by `optuna.storages.journal.JournalFileBackend`."""
        return self.folder / "journal.log"

    @checked(SweepError)
    def run(
        self, where: str | SupportsSubmit = "here", *, at_once: Count = 1, tries: Count = 5, progress: bool = True
    ) -> list[Trial]:
        """Run the missing trials, `at_once` of them at a time, and return all trials.

        where  as in `Sweep.run`: "here", "processes:2", "dask", "slurm:...", or any executor with submit()

        If `score` raises an exception, the other trials still run. A SweepError at the end reports the failed trials,
        which the next run() retries.
        """
        with locked(self.folder / "search.lock") as is_ours:
            if not is_ours:
                raise SweepError(
                    given=f"{self.folder}, in which another process is running a search",
                    expected="only one process per search at a time; other processes can only call trials()",
                    remedy="wait for it to finish, or use another folder; to run trials in parallel, pass at_once=4",
                )
            return self._run(where, at_once, tries, progress)

    def _run(self, where: str | SupportsSubmit, at_once: int, tries: int, progress: bool) -> list[Trial]:
        Journal(self.journal).cut_off_half_a_line()
        study = self._study()
        calls: list[tuple] = []
        begun = self._interrupted(study)
        running = {trial.number: trial for trial in begun}
        failures: list[tuple[int, Exception]] = []

        def go_on(trial: Any) -> bool:
            """Schedule the next stage of a trial; return False if the trial is complete or pruned."""
            config, stage = self.propose(trial), self._judge(study, trial)
            if stage is not None:
                calls.append((config, trial.number, stage))
            return stage is not None

        def begin() -> None:
            """Resume an interrupted trial, or start a new one."""
            while begun:
                if go_on(begun.pop(0)):
                    return
            if len(study.trials) < self.count:
                trial = study.ask()
                running[trial.number] = trial
                go_on(trial)

        for _ in range(at_once):
            begin()
        opened = executor_named(where, self.folder) if isinstance(where, str) else nullcontext(where)
        bar = tqdm(total=self.count, initial=self._ended(study), unit="trial", disable=not progress or None)
        with resumable(lambda: f"{self._ended(study)} of {self.count} trials"), opened as executor, bar:
            for (_, number, stage), value, reason in completed(executor, self.score, calls, tries):
                trial = running[number]
                if reason is None:
                    try:
                        trial.report(float(value), stage)
                    except (TypeError, ValueError):
                        reason = TypeError(f"the score {value!r} is not a number")
                if reason is not None:
                    failures.append((number, reason))
                if reason is not None or not go_on(trial):
                    begin()
                bar.update(self._ended(study) - bar.n)
        if failures:
            (first, reason), *_ = failures
            raise SweepError(
                given=f"{len(failures)} of {self.count} trials without a score, the first being trial {first}: "
                f"{type(reason).__name__}: {reason}",
                expected="a score from each trial, or NaN",
                remedy="fix the cause and call run() again; finished trials are kept",
            ) from reason
        return self.trials()

    def trials(self) -> list[Trial]:
        """Return all trials started so far, ordered by number, even while another process runs the search."""
        found = []
        for kept in self._study().trials:
            values = tuple(value for _, value in sorted(kept.intermediate_values.items()))
            state: State = "running"
            if kept.state.is_finished():
                state = (
                    "complete" if kept.state.name == "COMPLETE" else "failed" if math.isnan(values[-1]) else "pruned"
                )
            # If the search was killed while proposing a trial, its parameters are missing until the search resumes.
            config = self.propose(kept) if state != "running" or values else None
            found.append(Trial(kept.number, config, dict(kept.params), values, state))
        return found

    def _study(self) -> Any:
        with needs_extra("sweep", SweepError, "a search"):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        make_folder(self.folder)
        storage = optuna.storages.JournalStorage(cast(Any, Journal(self.journal)))
        pruner = optuna.pruners.PercentilePruner(100.0 * self.keep, n_startup_trials=1)
        # create_study would write to the journal even if the study exists and is only being read.
        if NAME not in optuna.get_all_study_names(storage):
            optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
        sampler = _sampler(self.seed, self.random)
        study = optuna.load_study(study_name=NAME, storage=storage, pruner=pruner, sampler=sampler)
        mine: dict[str, Any] = {"stages": self.stages, "random": self.random, "keep": self.keep, "seed": self.seed}
        mine |= {"score": _name_of(self.score), "propose": _name_of(self.propose)}
        theirs = study.user_attrs.get("settings", mine)
        if theirs != mine or len(study.trials) > self.count:
            differing = [name for name in mine if theirs.get(name) != mine[name]]
            raise SweepError(
                given=f"{self.folder}, a search with {_listed(theirs, differing)}{len(study.trials)} trials",
                expected=f"a search with {_listed(mine, differing)}up to {self.count} trials",
                remedy="use another folder, or the settings with which the search was started; to add trials, pass "
                f"random={theirs.get('random')} with the larger count",
            )
        if not study.user_attrs:
            study.set_user_attr("settings", mine)
        return study

    def _interrupted(self, study: Any) -> list[Any]:
        from optuna.trial import Trial as Live
        from optuna.trial import TrialState

        return [Live(study, kept._trial_id) for kept in study.get_trials(False, (TrialState.RUNNING,))]

    def _judge(self, study: Any, trial: Any) -> int | None:
        """Return the next stage of a trial; if the trial has ended, report it to the study and return None."""
        from optuna.trial import TrialState

        values = study.trials[trial.number].intermediate_values
        if not values:
            return 0
        last = values[max(values)]
        if math.isnan(last) or (len(values) < self.stages and trial.number >= self.random and trial.should_prune()):
            # Optuna's sampler ignores failed trials. Report a trial without a score as pruned, so it counts as poor.
            study.tell(trial.number, state=TrialState.PRUNED)
        elif len(values) == self.stages:
            study.tell(trial.number, last)
        else:
            return len(values)
        return None

    def _ended(self, study: Any) -> int:
        return sum(kept.state.is_finished() for kept in study.trials)


def _sampler(seed: int, random: int) -> Any:
    """Return a sampler whose draws depend only on the seed, trial, parameter and results of other trials.

    Draws from Optuna's own samplers also depend on earlier draws, which are unknown when a search is resumed.
    """
    from optuna.samplers import BaseSampler, RandomSampler, TPESampler

    class ByParameter(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            of_parameter = np.random.SeedSequence([seed, trial.number, *param_name.encode()])
            drawn = int(of_parameter.generate_state(1)[0])
            sampler = (
                RandomSampler(drawn)
                if trial.number < random
                else TPESampler(n_startup_trials=1, multivariate=False, constant_liar=False, seed=drawn)
            )
            return sampler.sample_independent(study, trial, param_name, param_distribution)

    return ByParameter()


def _name_of(function: Callable[..., Any]) -> str:
    """Return a function's or partial's name without the module name, which differs if the module runs as a script."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


def _listed(settings: dict[str, Any], names: list[str]) -> str:
    return "".join(f"{name}={settings.get(name)}, " for name in names)
