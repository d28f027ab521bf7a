"""Completion of a run: diverged samples are reported, and their later values are set to NaN."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsim.core.clock import Window
from pcsim.core.exceptions import warn
from pcsim.core.state import finite
from pcsim.core.version import VERSION
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Flow, Rule
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.record import Record, Recorder
from pcsim.simulation.run import Run, Snapshot, Status
from pcsim.simulation.schedule import Schedule
from pcsim.solvers.base import Solver


def finished(
    network: Wiring,
    recorder: Recorder,
    monitor: Monitor,
    final: Snapshot,
    labels: Tensor | None,
    about: dict[str, Any],
) -> Run:
    """Return the Run with all recorded values, and warn about samples that diverged or did not settle."""
    dt, values, steps = final.clock.dt, recorder.arrays(), recorder.steps()
    checked = {monitor.names[place] for place, _ in network.memory_keys}  # for NaN and infinity, during the run
    reduced = {key for key, name in recorder.reduced.items() if name in checked}
    for key in values.keys() - reduced:
        monitor.look_at_rows(key, steps[key], values[key])
    bad, end, settled = monitor.step, final.clock.time, None
    if monitor.has_diverged:
        _blank(values, steps, bad)
        warn_of_divergence(network, monitor, dt)
    _warn_of_overflow({key: values[key] for key in sorted(reduced & values.keys())}, steps, bad)
    if monitor.settled is not None:
        settled = np.where(monitor.settled_step < 0, math.nan, monitor.settled_step * dt)
        if unsettled := int(np.isnan(settled[bad < 0]).sum()):
            warn(
                f"{unsettled} of {len(bad)} samples had not settled to within {monitor.settled.tolerance:g} by "
                f"{end:g} ms. Increase at_most or the tolerance."
            )
    return Run(
        values=values,
        times_of={key: rows * dt for key, rows in steps.items() if key in values},
        status=tuple(Status.COMPLETED if step < 0 else Status.DIVERGED for step in bad.tolist()),
        valid_until=np.where(bad < 0, end, (bad - 1) * dt),
        diverged_in=tuple("" if p < 0 else monitor.names[p] for p in monitor.population.tolist()),
        about=about,
        final=final,
        labels=labels,
        settled_at=settled,
    )


def _blank(values: dict[str, Tensor], steps: Mapping[str, np.ndarray], bad: np.ndarray) -> None:
    """Set each diverged sample to NaN from its first non-finite step onwards."""
    for sample in np.flatnonzero(bad >= 0):
        for key, value in values.items():
            late = torch.from_numpy(steps[key] >= bad[sample]).to(value.device)
            if value.requires_grad:
                gone = late.reshape(-1, *(1,) * (value.dim() - 1)) & _is_sample(value, int(sample))
                values[key] = value.masked_fill(gone, math.nan)
            elif value.is_floating_point():
                value[late, sample] = math.nan


def _warn_of_overflow(reduced: Mapping[str, Tensor], steps: Mapping[str, np.ndarray], bad: np.ndarray) -> None:
    """Warn about reductions whose result is not finite even though their inputs are."""
    for key, value in reduced.items():
        if not value.is_floating_point() or math.isfinite(value.detach().sum()):
            continue
        fine = finite(value.detach(), 2).cpu().numpy() | ((bad >= 0) & (steps[key][:, None] >= bad))
        if not fine.all():
            warn(
                f"{key!r} is NaN or infinite in {int((~fine.all(0)).sum())} of {len(bad)} samples whose states are "
                "finite. Use a reduction with smaller values, or run the network in double precision with net.double()."
            )


def warn_of_divergence(network: Wiring, monitor: Monitor, dt: float) -> None:
    """Warn about diverged samples. The message states where and when one of them diverged, and suggests a remedy."""
    bad = monitor.step
    if not monitor.has_diverged:
        return
    first = int(np.flatnonzero(bad >= 0)[0])
    spoiled = [name for name, value in network.module.named_parameters() if not bool(torch.isfinite(value).all())]
    remedy = f"{spoiled[0]} is not finite: reload or retrain it" if spoiled else "Use a smaller dt or weaker feedback"
    warn(
        f"{int((bad >= 0).sum())} of {len(bad)} samples diverged; sample {first} became non-finite in "
        f"{monitor.names[monitor.population[first]]!r} at {bad[first] * dt:g} ms. "
        f"Values after divergence are NaN. {remedy}."
    )


def _is_sample(value: Tensor, sample: int) -> Tensor:
    """Return a mask (1, batch, 1, ...) that selects one sample of `value` (time, batch, ...)."""
    own = torch.zeros(value.shape[1], dtype=torch.bool, device=value.device)
    own[sample] = True
    return own.reshape(1, -1, *(1,) * (value.dim() - 2))


def _tau_of(rule: Rule) -> float | list[Any] | None:
    """Return the time constant of a rule in ms, or None if it has none or is transformed by torch.func."""
    if not isinstance(rule, Flow):
        return None
    tau = rule.tau()
    try:
        return tau.detach().tolist() if isinstance(tau, Tensor) else tau
    except RuntimeError:
        return None


def _lesions(network: Wiring, unit: float) -> list[dict[str, Any]]:
    """Return the lesions, grouping edges that share a window. `unit` converts windows to ms."""
    windows: dict[Window, list[str]] = {}
    for edge in network.projections:
        for window in edge.lesioned:
            windows.setdefault(window, []).append(edge.name)
    return [
        {"edges": edges, "from": _finite(begin * unit), "to": _finite(end * unit)}
        for (begin, end), edges in windows.items()
    ]


def _finite(time: float) -> float | None:
    return time if math.isfinite(time) else None


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of pcsim, torch and Python."""
    return {"pcsim": VERSION, "torch": torch.__version__, "python": platform.python_version()}


def provenance(
    network: Wiring, solver: Solver, steps: int, seconds: float, schedule: Schedule, records: Sequence[Record]
) -> dict[str, Any]:
    """Return the metadata of a run as JSON types: network, solver, stimulus, device, versions and other settings.

    tau       population -> ms, a list of ms per channel, or None for a population without a time constant
    step_ms   ms per step of a discrete network; None for a flow
    record    the settings of each `Record`
    stimulus  input -> a dict for each epoch, see `Timeline.described`
    lesions   dicts with keys "edges" (names), "from" and "to" (in ms; None for a permanent lesion)
    seeds     input -> the known seeds of its stimulus
    """
    until, since = steps * schedule.dt, schedule.begin * schedule.dt
    stimulus = {name: line.described(until, since) for name, line in schedule.timelines.items()}
    seeds = {name: sorted({e["seed"] for e in epochs if "seed" in e}) for name, epochs in stimulus.items()}
    value = next(iter(schedule.first.values()))
    return {
        "network": network.name,
        "errors": list(network.errors),
        "solver": repr(solver),
        "steps": steps,
        "dt": schedule.dt,
        "step_ms": None if network.is_flow else schedule.dt,
        "tau": {name: _tau_of(population.rule) for name, population in network.populations.items()},
        "record": [record.described() for record in records],
        "stimulus": stimulus,
        "lesions": _lesions(network, 1.0 if network.is_flow else schedule.dt),
        "seeds": {name: found for name, found in seeds.items() if found},
        "device": str(value.device),
        "dtype": str(value.dtype),
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "seconds": round(seconds, 3),
        "versions": dict(versions()),
    }
