"""Shared code of all experiments: options, resumable output folders, parallel jobs such as training, and results.

An experiment is a module with a docstring, `PRESETS` (name -> options) and a function `run(config)` that calls

    conduct(config, find, report)      find(config) -> numbers;   report(config, results) -> `report.Report`

The module contains only options, computations and figures. `main()` and `pcsim run` run it as a program.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
import tyro
from numpy.typing import ArrayLike
from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim import Network, plots
from pcsim.analysis import error_rate
from pcsim.core import storage
from pcsim.core.checks import shown
from pcsim.core.command_line import program
from pcsim.core.exceptions import StorageError
from pcsim.core.progress import tqdm
from pcsim.core.version import VERSION
from pcsim.network.weights import load_tensors
from pcsim.sweeps.executors import Processes, completed, one_thread
from pcsim.training import Training, distributed, train

from .report import Report, publish

OPTIONS = ConfigDict(extra="forbid", allow_inf_nan=False)
"""pydantic configuration of the option dataclasses; unknown options and non-finite numbers raise an error"""
TEST_SEED = 1_000_000
"""seed of the test images, never used in training"""
Count = Annotated[int, Field(gt=0, lt=2**31)]
Item = TypeVar("Item")
Some = Annotated[tuple[Item, ...], Field(min_length=1)]
"""one or more values"""
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, config=OPTIONS)
class Options:
    """Options common to all experiments."""

    out: Path = Path("results")
    """output folder"""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """random seed of weights and stimuli; repetitions use seed, seed + 1, ..."""
    smoke: tyro.conf.Suppress[bool] = False
    """True if the run only tests that the program works; set by the preset and stated in the report"""

    @field_validator("*")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        """Expand `~`, which the shell does not expand in --out=~/results."""
        return storage.full_path(value) if isinstance(value, Path) else value


@dataclass(frozen=True, config=OPTIONS)
class Parallel(Options):
    """Options of an experiment that runs its jobs in parallel processes."""

    workers: Count = 2
    """number of parallel processes; does not affect the results"""


@dataclass(frozen=True, config=OPTIONS)
class Repeated(Parallel):
    """Options of an experiment that can run several repetitions."""

    repetitions: Count = 1
    """number of repetitions, each with different weights and stimuli"""

    @property
    def seeds(self) -> range:
        """The seed of each repetition."""
        return range(self.seed, self.seed + self.repetitions)


Config = TypeVar("Config", bound=Options)


# ---------------------------------------------------------------------- command-line program


def main(module: ModuleType | None = None) -> None:
    """Run an experiment as a command-line program, `python -m experiments.NAME`.

    The exit statuses are listed in `pcsim.core.command_line`. To resume a program that was stopped, run the same
    command again.

    module  experiment module, by default `__main__`
    """
    started = sys.modules["__main__"]
    name = started.__spec__.name.removesuffix(".__main__") if started.__spec__ else "experiments"
    with program():
        start(module or started, None, f"python -m {name}")


def start(experiment: Any, arguments: Sequence[str] | None, command: str) -> None:
    """Run an experiment with command-line arguments, by default those of this process.

    experiment  module with PRESETS and run(config); its optional FLAGS dict maps each flag to the preset it selects
    command     what the user typed before the arguments, as shown in the help and in messages
    """
    description = re.sub(r"python -m (pcsim\.)?experiments\.\w+", command, experiment.__doc__ or "")
    with distributed.process_group():
        config = parse(experiment.PRESETS, arguments, description, getattr(experiment, "FLAGS", {}), command)
        experiment.run(config)


def parse(
    presets: Mapping[str, Config],
    arguments: Sequence[str] | None,
    description: str,
    flags: Mapping[str, str] = {},
    command: str | None = None,
) -> Config:
    """Parse command-line arguments: `--preset NAME` selects the defaults, and other options override them.

    Prints a message and exits with status 2 if a preset or option is unknown, or a value is empty or out of range.
    """
    first = argparse.ArgumentParser(prog=command, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="quick", choices=list(presets))
    given = sys.argv[1:] if arguments is None else list(arguments)
    words = [word for each in given for word in (each.split("=", 1) if each.startswith("--") else [each])]
    if "" in words:  # usually an unset shell variable; as a path it would mean the current folder
        print(
            f"{' '.join(words[: words.index('')][-1:])} '': an empty value; pass a value or omit the option",
            file=sys.stderr,
        )
        raise SystemExit(2)
    for flag, preset in flags.items():
        if flag in given:
            given = ["--preset", preset, *(option for option in given if option != flag)]
    chosen, rest = first.parse_known_args(given)

    def choose(preset: str, config: Config) -> Config:  # noqa: ARG001 - shown in the help
        return config

    size = "size of the experiment, which sets the defaults of the other options"
    choose.__annotations__ = {
        "preset": Annotated[Literal[tuple(presets)], tyro.conf.arg(help=size)],
        "config": Annotated[type(presets[chosen.preset]), tyro.conf.arg(name="")],
    }
    choose.__defaults__ = (chosen.preset, presets[chosen.preset])
    try:
        return tyro.cli(choose, args=rest, prog=command, description=description)
    except ValidationError as reason:
        # A wrong value can have further errors, such as a tuple that is too short without it: only the first is shown.
        for name, wrong in {wrong["loc"][0]: wrong for wrong in reversed(reason.errors())}.items():
            option = str(name).replace("_", "-")
            print(f"{command}: error: --{option} {shown(wrong['input'])}: {wrong['msg']}", file=sys.stderr)
        raise SystemExit(2) from None


def conduct(
    config: Config,
    find: Callable[[Config], dict[str, Any]],
    report: Callable[[Config, dict[str, Any]], Report],
    check: Callable[[Config], object] = lambda _: None,
) -> None:
    """Claim the output folder, compute the results, and write `results.json` and the report; resume if interrupted.

    check  function that is called before anything is written, and raises an error if the configuration would fail later
    """
    begun = time.perf_counter()
    device = device_of(config)
    check(config)
    claim(config.out, config)
    results = {"config": recorded(config)} | environment(device) | find(config)
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    with plots.style("screen"):  # colours for colour-blind readers
        publish(config.out, report(config, results), results, caution(config))


def caution(config: Options) -> str:
    """Return what a reader should know before interpreting the numbers, or an empty string."""
    if config.smoke:
        return "Smoke test: the networks and test sets are too small for their numbers to mean anything."
    if getattr(config, "repetitions", None) == 1:
        return (
            f"One seed ({config.seed}): other seeds give other numbers, and intervals do not include these differences."
        )
    return ""


# ---------------------------------------------------------------------- output folder


def claim(folder: Path, config: object) -> None:
    """Reserve `folder` for this configuration, or resume the run in it. Raises StorageError if it holds another's."""
    mine = recorded(config)
    path = folder / "config.json"
    if distributed.rank() == 0:
        storage.remove_partials(storage.make_folder(folder))
        if not path.exists():
            storage.write_json(path, mine)
    distributed.barrier()
    theirs = storage.read_json(path)
    if theirs != mine:
        changed = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        raise StorageError(
            given=f"{folder}, created with "
            + ", ".join(f"{key}={theirs.get(key)!r} (now {mine.get(key)!r})" for key in sorted(changed)),
            expected="the same configuration as in its config.json",
            remedy="pass a different --out, delete the folder, or pass the old values to resume",
        )


def recorded(config: object) -> dict[str, Any]:
    """Return the options that affect the results, excluding paths, workers and checkpoint intervals."""
    elsewhere = ("out", "mnist", "neural", "omniglot", "where", "workers", "checkpoint_every", "pcx_python")
    return {key: value for key, value in storage.plain(config).items() if key not in elsewhere}


def kept(config: Options, kind: str, *key: object, suffix: str = "safetensors") -> Path:
    """Return the path of a training checkpoint or other intermediate result in the output folder."""
    return config.out / kind / f"{'-'.join(map(str, key)).replace(' ', '-')}.{suffix}"


def once(path: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Load results from a JSON file. If the file does not exist, compute the results and write the file first."""
    if not path.exists():
        storage.write_json(path, find())
    return storage.read_json(path)


def environment(device: torch.device) -> dict[str, Any]:
    """Return the package versions, device and number of threads, all of which can affect the results."""
    packages = ("torch", "numpy", "torchdiffeq", "scipy")
    return {
        "versions": {"pcsim": VERSION}
        | {name: version(name) for name in packages}
        | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {os.cpu_count()} cores",
        "threads_per_job": 1,
    }


# ---------------------------------------------------------------------- training and other jobs


def device_of(config: Options) -> torch.device:
    """Return the configured device (the CPU by default). Raises StorageError if "cuda" is requested without a GPU."""
    name = getattr(config, "device", "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise StorageError(given="--device cuda", expected="a CUDA device", remedy="pass --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    config: Options, network: Network, images: Tensor, targets: Tensor, settings: Training, *key: object, **options: Any
) -> list[float]:
    """Train a network in place, or resume its training; return the loss curve. `key` identifies the checkpoint.

    options  keyword arguments of `pcsim.training.train`: steps, solver, until
    """
    every, bar = getattr(config, "checkpoint_every", 200), job_bar(" ".join(map(str, key)))
    path = kept(config, "training", *key)
    network.to(device_of(config))
    return train(network, images, targets, settings, checkpoint=path, every=every, bar=bar, **options)


def train_all(config: Options, fit_one: Callable[..., Sequence[float]], keys: Sequence[tuple]) -> None:
    """Call fit_one(config, *key) for every key, in parallel. Under torchrun, only the first process continues."""
    for job, curve in run_jobs(fit_one, [(config, *key) for key in keys], getattr(config, "workers", 1), "training"):
        words = " ".join(str(part) for part in job[1:])
        tqdm.write(f"trained {words}: loss {curve[0]:.3g} -> {curve[-1]:.3g}")
    distributed.barrier()
    if distributed.rank() > 0:
        raise SystemExit(0)


def trained(config: Options, network: Network, *key: object) -> Network:
    """Load the trained weights from the output folder into the network, and return it in evaluation mode."""
    path = kept(config, "training", *key)
    tensors, _ = storage.read_tensors(path, "training")
    load_tensors(network, storage.under("network/", tensors), str(path))
    return network.to(device_of(config)).eval()


def minimise(
    loss_of: Callable[[Tensor, int], Tensor],
    groups: list[dict[str, Any]],
    *,
    updates: int,
    items: int,
    batch: int,
    seed: int,
    title: str,
) -> list[float]:
    """Minimise a loss with Adam and a cosine schedule that decays to 0; return the loss curve.

    Use it for networks with several inputs, which `pcsim.training.train` does not accept.

    loss_of  called with the indices of a random batch of the `items`, drawn with replacement, and the update
    groups   parameters and their learning rates, as for `torch.optim.Adam`
    """
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    generator, losses = torch.Generator().manual_seed(seed), []
    for update in job_bar(f"{title} {seed}")(range(updates)):
        loss = loss_of(torch.randint(items, (batch,), generator=generator), update)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def run_jobs(function: Callable[..., Any], jobs: Sequence[tuple], workers: int, title: str) -> Iterator[tuple]:
    """Yield (job, function(*job)) as the jobs finish.

    Jobs run in `workers` processes, or in the current process if `workers` is 1. In both cases, each job uses one
    thread, so its result does not depend on `workers`.
    """
    if workers <= 1 or len(jobs) <= 1 or distributed.size() > 1:
        with one_thread():
            for job in tqdm(jobs, desc=title, disable=None):
                yield job, function(*job)
        return
    context = multiprocessing.get_context("spawn")
    lock = context.RLock()
    tqdm.set_lock(lock)
    with Processes(min(workers, len(jobs)), _take_a_line, (lock, context.Value("i", 0))) as executor:
        for done in tqdm(completed(executor, function, jobs), total=len(jobs), desc=title, disable=None):
            if done.reason is not None:
                raise done.reason
            yield done.arguments, done.result


_slot = 0


def _take_a_line(lock: Any, counter: Any) -> None:
    """Reserve a terminal line for the progress bars of a new process."""
    global _slot
    tqdm.set_lock(lock)
    with counter.get_lock():
        counter.value += 1
        _slot = counter.value


def job_bar(description: str) -> Callable[..., tqdm]:
    """Return a function that creates a job's progress bar on the terminal line of its worker."""

    def make(*arguments: Any, **options: Any) -> tqdm:
        return tqdm(*arguments, desc=description, position=_slot, leave=False, disable=None, **options)

    return make


# ---------------------------------------------------------------------- numbers and JSON


def accuracy(correct: ArrayLike) -> dict[str, float]:
    """Return the fraction of True values (repetition, image), with a 95 % interval over repetitions and images."""
    error = error_rate(np.asarray(correct))
    return {"mean": 1 - error.mean, "low": 1 - error.high, "high": 1 - error.low}


def finite_or_none(values: Any) -> Any:
    """Convert a number or an array to JSON values (nested lists), with None in place of non-finite values."""
    array = np.asarray(values, float)
    return [finite_or_none(inner) for inner in array] if array.ndim else float(array) if np.isfinite(array) else None


def finite_or_nan(values: Sequence[float | None]) -> list[float]:
    """Convert numbers loaded from JSON, with NaN in place of None."""
    return [math.nan if value is None else value for value in values]
