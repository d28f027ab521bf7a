"""
The heat map of a sweep
=======================

The map shows how much of an image a predictive coding network has not explained after 20 ms, for 25 pairs of time
constants. Each cell is one point of a sweep, which runs locally or on a cluster with the same code, keeps finished
points when it is interrupted, and repeats none of them when it is restarted. The time constant of the layer next to the
image matters most.
"""

import tempfile
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Record, models, plots, simulate
from pcsim.sweeps import Sweep, grid

# %%
# The sweep's function receives a configuration and returns numbers.


@dataclass(frozen=True)
class Setting:
    """Time constants of the two layers in ms, and the seed of the weights."""

    lower: float = 10.0
    upper: float = 10.0
    seed: int = 0


def settle(setting):
    """Return the error of the image after 20 ms, as a percentage of the initial error."""
    torch.manual_seed(setting.seed)
    net = models.predictive_coding(((64,), (32,), (16,)), tau=(10.0, setting.lower, setting.upper))
    record = Record(errors="all", initial=True)
    run = simulate(net, torch.rand(4, 64), solver=Euler(dt=0.5), until=20.0, record=record)
    return {"left": 100 * float((run.errors["e0"][-1] / run.errors["e0"][0]).mean())}


taus = [5.0, 10.0, 20.0, 40.0, 80.0]
table = Sweep(settle, Setting(), grid({"lower": taus, "upper": taus}), tempfile.mkdtemp()).run()
left = table.over("left", "lower", "upper")[:, :, 0]
print(f"error left (%): {left[0].min():.0f} to {left[0].max():.0f} if the lower layer is fastest")
print(f"error left (%): {left[:, 0].min():.0f} to {left[:, 0].max():.0f} if the upper layer is fastest")

# %%

ax = plots.heatmap(table, "lower", "upper", "left", label="image error left after 20 ms (%)", numbers=".0f")
ax.set(xlabel="time constant of the lower layer (ms)", ylabel="time constant of the upper layer (ms)")
plt.show()
