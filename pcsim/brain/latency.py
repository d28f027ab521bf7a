"""Response latencies of areas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.exceptions import StimulusError
from pcsim.simulation.run import Run


def first_difference(values: Tensor, baseline: Tensor, tolerance: float = 0.0) -> Tensor:
    """Return the first row in which a sample's value differs anywhere by more than `tolerance`, else -1: (batch,).

    values, baseline (time, batch, ...).
    """
    apart = ((values - baseline).abs().flatten(2) > tolerance).any(2)
    return (apart.int().argmax(0) + 1) * apart.any(0) - 1


def latencies(run: Run, baseline: Run, onset: float = 0.0, tolerance: float = 0.0) -> dict[str, NDArray[np.float64]]:
    """Return population -> ms from `onset` to the beginning of the step of its first response, per sample (NaN: none).

    run, baseline  runs of one network with and without the onset, every step recorded; a response is any
    difference between them. In a discrete network, and in a flow under Heun or RK4 whose dt divides the delays, this
    is the shortest path of delays (`Network.arrivals`); under Euler every population on the way adds one dt.
    Raises StimulusError for runs that differ in more than the stimulus, or that skip steps.
    """
    dt = run.final.clock.dt
    rows = np.diff(run.times, prepend=0.0)
    if run.values.keys() != baseline.values.keys() or run.times.tolist() != baseline.times.tolist():
        raise StimulusError(
            given=f"{run!r} and {baseline!r}",
            expected="the same network, record, solver and end",
            remedy="call simulate twice with the same arguments except the stimulus",
        )
    if not np.allclose(rows, dt):
        raise StimulusError(
            given=f"rows every {rows.max():g} ms of steps of {dt:g} ms",
            expected="every step recorded",
            remedy="simulate both with Record(..., every=1)",
        )
    found: dict[str, NDArray[np.float64]] = {}
    for name, value in run.values.items():
        row = first_difference(value, baseline[name], tolerance).cpu().numpy()
        found[name] = np.where(row < 0, np.nan, run.times[row] - dt - onset)
    return found
