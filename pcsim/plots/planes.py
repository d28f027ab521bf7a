"""Phase planes of systems of two variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import StimulusError
from pcsim.dynamics.stability import Dynamics
from pcsim.plots.canvas import as_numbers, drawing, merged, require, tidy
from pcsim.simulation.run import Run

Limits = tuple[float, float]


@checked(StimulusError)
def phase_plane(
    dynamics: Dynamics,
    xlim: Limits,
    ylim: Limits,
    *,
    runs: Run | Sequence[Run] = (),
    points: Sequence[Tensor] = (),
    grid: Count = 200,
    ax: Axes | None = None,
    **stream: Any,
) -> Axes:
    """Draw the direction field and nullclines of a network whose state has two variables.

    dynamics  the network on a constant stimulus: `pcsim.dynamics.Dynamics(net, stimulus)`, of size 2
    xlim, ylim  ranges of the first and the second variable
    runs      runs that recorded both variables; each sample is drawn as a trajectory that starts at a circle
    points    fixed points (1, 2), as in `pcsim.dynamics.fixed_point(dynamics).state`
    grid      number of values of each variable at which rates of change are computed
    stream    passed to `ax.streamplot`

    On a nullcline, one variable does not change: x on the solid line, and y on the dashed line. For a discrete network,
    the rate of change is the next state minus the current one. Raises StimulusError unless the state and the points
    have two variables and the ranges increase.
    """
    require(
        dynamics.size == 2,
        f"a network whose state has {dynamics.size} variables",
        "two variables",
        "pass two populations of one unit each, or one unit with an additional variable",
    )
    require(
        xlim[0] < xlim[1] and ylim[0] < ylim[1] and bool(np.isfinite([*xlim, *ylim]).all()) and grid > 1,
        f"xlim={xlim}, ylim={ylim} and grid={grid}",
        "increasing finite ranges and a grid of at least 2",
        "pass xlim=(0.0, 1.0), ylim=(0.0, 1.0)",
    )
    marks = [as_numbers(point).reshape(-1) for point in points]
    require(
        all(mark.shape == (2,) for mark in marks),
        f"points with {', '.join(str(len(mark)) for mark in marks)} values",
        "two values for each point, the fixed point's state (1, 2)",
        "pass points=[pcsim.dynamics.fixed_point(dynamics).state]",
    )
    sizes = {name: value[0].numel() for name, value in dynamics.named(dynamics.start).items()}
    names = [name if n == 1 else f"{name}[{at}]" for name, n in sizes.items() for at in range(n)]
    x, y = np.linspace(*xlim, grid), np.linspace(*ylim, grid)
    states = torch.tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(dynamics.start)
    with torch.no_grad():
        change = dynamics(states) if dynamics.network.is_flow else dynamics(states) - states
    rates = change.cpu().double().numpy().reshape(grid, grid, 2)
    with drawing(ax, 4.4, 4.0) as ax:
        few = max(1, grid // 50)  # streamlines need no finer grid
        ax.streamplot(
            x[::few],
            y[::few],
            rates[::few, ::few, 0],
            rates[::few, ::few, 1],
            **merged("streamplot", {"color": "0.8", "linewidth": 0.7, "arrowsize": 0.8, "density": 1.0}, stream),
        )
        for number, (name, colour, line) in enumerate(zip(names, ("#0072b2", "#d55e00"), ("-", "--"), strict=True)):
            rate = rates[..., number]
            if rate.min() < 0 < rate.max():
                ax.contour(x, y, rate, [0.0], colors=colour, linestyles=line, linewidths=1.8)
            ax.plot(
                [], [], line, color=colour, label=f"d{name}/dt = 0" if dynamics.network.is_flow else f"{name} fixed"
            )
        for run in [runs] if isinstance(runs, Run) else runs:
            states = torch.cat(
                [run[name].flatten(2) if run[name].dim() > 2 else run[name][..., None] for name in sizes], 2
            )
            first, second = np.moveaxis(as_numbers(states), 2, 0)
            ax.plot(first, second, color="k", linewidth=1.0, label="_")
            ax.plot(first[0], second[0], "o", color="k", markersize=4, fillstyle="none", label="_")
        for mark in marks:
            ax.plot(*mark, "o", color="k", markersize=6, label="_")
        ax.set(xlim=xlim, ylim=ylim, xlabel=names[0], ylabel=names[1])
        ax.locator_params(nbins=5)
        tidy(ax)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small")
        return ax
