"""Training and sweeps of `experiments.time_constants`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pcsim.sweeps import Sweep, Table, grid

from .. import base, flows
from .measures import Setting, border, fixed_solvers, precision, respond, settle
from .options import TimeConstants

ADAPTIVE = ("Dopri5", "torchdiffeq dopri8")
PRECISE_IMAGES, BORDER_IMAGES = 4, 2
TOGETHER = 5
"""number of pairs of time constants simulated in one run"""


def find(config: TimeConstants) -> dict[str, Any]:
    """Train all networks, then run the sweeps."""
    # The longest training starts first; in the meantime, another worker can train two of the other networks.
    order = sorted(config.networks, key=lambda name: name != "pcn_global")
    base.train_all(config, fit, [(name,) for name in order])
    tables = {name: sweep.run(config.where) for name, sweep in sweeps(config).items()}
    return gather(config, tables) | {"points": {name: len(table) for name, table in tables.items()}}


def fit(config: TimeConstants, name: flows.Name) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    return flows.fit(config, name, config.recipe)


def sweeps(config: TimeConstants) -> dict[str, Sweep]:
    """Return the four sweeps: time constants, dt and solver, stability limits, and solver errors."""
    setting = Setting(
        config.recipe,
        config.networks[0],
        config.until,
        config.images,
        config.fragments,
        dt=config.dt,
        seed=config.seed,
        folder=config.out,
    )
    reading = replace(setting, until=config.read, images=config.read_images)
    bounding = replace(reading, images=BORDER_IMAGES)
    precise = replace(setting, until=40.0, images=PRECISE_IMAGES, steps=config.precise)
    steps = [
        point
        for name in config.networks
        for point in grid({"network": [name], "solver": fixed_solvers(name), "dt": config.dts})
    ]
    networks: dict[str | tuple[str, ...], Any] = {"network": config.networks}
    folder = config.out / "sweep"
    return {
        "settling": Sweep(
            settle,
            setting,
            grid({**networks, "low": config.taus, "high": config.taus}),
            folder,
            together=TOGETHER,
        ),
        "solvers": Sweep(respond, reading, steps, folder),
        "borders": Sweep(border, bounding, grid({**networks, "image": range(BORDER_IMAGES)}), folder),
        "precision": Sweep(precision, precise, grid(networks), folder),
    }


def gather(config: TimeConstants, tables: dict[str, Table]) -> dict[str, Any]:
    """Collect the numbers for all figures, by network."""
    networks: dict[str, Any] = {}
    for name in config.networks:
        settling, solvers = tables["settling"].where(network=name), tables["solvers"].where(network=name)
        borders, precise = tables["borders"].where(network=name), tables["precision"].where(network=name)
        fixed, times = list(fixed_solvers(name)), settling.results[0]["times"]
        curve = "error" if "error" in settling.columns else "change"
        at = int(np.searchsorted(times, config.deadline + 1e-9)) - 1
        # Samples that never settle or decide are treated as later than all other samples.
        settled, decided = (
            np.nan_to_num(settling.over(column, "low", "high")[:, :, 0], nan=np.inf)
            for column in ("settled", "decided")
        )
        networks[name] = {
            "times": times.tolist(),
            "curve": curve,
            "curves": base.finite_or_none(settling.over(curve, "low", "high")[:, :, 0]),
            "correct": base.finite_or_none(settling.over("correct", "low", "high")[:, :, 0]),
            "settling": base.finite_or_none(np.median(settled, axis=-1)),
            "deciding": base.finite_or_none(np.median(decided, axis=-1)),
            "accuracy": base.finite_or_none(settling.over("correct", "low", "high")[:, :, 0, at]),
            "by_dt": {
                solver: base.finite_or_none(solvers.where(solver=solver).over("correct", "dt")[:, 0])
                for solver in fixed
            },
            "ends": {solver: list(solvers.where(solver=solver)["end"]) for solver in fixed},
            "borders": {solver: float(np.min(borders[solver])) for solver in ("Euler", "Heun", "RK4")},
            "precision": {
                solver: {key: base.finite_or_none(precise[f"{solver} {key}"][0]) for key in ("evaluations", "error")}
                for solver in (*fixed, *ADAPTIVE)
            },
        }
    return {"networks": networks}
