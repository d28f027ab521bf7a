"""Response latencies of populations."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcsim.analysis.arguments import is_after
from pcsim.core.checks import Axes, Finite, NonNegative, checked
from pcsim.core.exceptions import StimulusError
from pcsim.simulation.run import Run

Values = Annotated[Tensor, Axes("time, batch, ...")]


@checked(StimulusError)
def first_difference(values: Values, baseline: Values, tolerance: NonNegative = 0.0) -> Tensor:
    """Return the first row in which each sample differs from `baseline` by more than `tolerance`, or -1: (batch,).

    `values` and `baseline` have the same shape (time, batch, ...). Pairs of NaN, as in a diverged sample, are not
    counted as differences. Raises StimulusError for other shapes, or for a tolerance that is negative or NaN.
    """
    if values.shape != baseline.shape:
        raise StimulusError(
            given=f"values {tuple(values.shape)}, baseline {tuple(baseline.shape)}",
            expected="two arrays of the same shape (time, batch, ...)",
            remedy="record the same times and samples in both runs",
        )
    apart = ((values - baseline).abs().reshape(*values.shape[:2], -1) > tolerance).any(2)
    return (apart.int().argmax(0) + 1) * apart.any(0) - 1


@checked(StimulusError)
def latencies(
    run: Run, baseline: Run, onset: Finite = 0.0, tolerance: NonNegative = 0.0
) -> dict[str, NDArray[np.float64]]:
    """Return each population's response latency per sample, in ms after `onset`.

    The latency is NaN if a sample does not respond, or if it diverges before it responds.

    `run` and `baseline` are runs of the same network, with and without the stimulus onset; both record every step. A
    sample responds at the start of the first step in which the two differ. In a discrete network, or in a flow solved
    by Heun or RK4 with a dt that divides the delays, the latency is the total delay along the shortest path
    (`Network.arrivals`). With Euler, every population on the path adds one dt. Raises StimulusError if the runs differ
    in more than the stimulus, or skip steps.
    """
    dt = run.final.clock.dt
    rows = np.diff(run.times, prepend=0.0)
    if (
        run.values.keys() != baseline.values.keys()
        or run.times.shape != baseline.times.shape
        or _differ(run.times, baseline.times)
    ):
        raise StimulusError(
            given=f"{run!r} and {baseline!r}",
            expected="two runs with the same network, record, solver and duration",
            remedy="call simulate twice with the same arguments except for the stimulus",
        )
    if _differ(rows, dt):
        raise StimulusError(
            given=f"rows every {rows.max():g} ms with steps of {dt:g} ms",
            expected="runs in which every step is recorded",
            remedy="simulate both runs with Record(..., every=1)",
        )
    found: dict[str, NDArray[np.float64]] = {}
    for name, value in run.values.items():
        row = first_difference(value, baseline[name], tolerance).cpu().numpy()
        found[name] = np.where(row < 0, np.nan, run.times[row] - dt - onset)
    return found


def _differ(times: NDArray[np.float64], others: NDArray[np.float64] | float) -> bool:
    return bool((is_after(times, others) | is_after(others, times)).any())
