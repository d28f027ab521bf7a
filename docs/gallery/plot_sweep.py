"""
The heat map of a sweep
=======================

How long a predictive coding network takes to explain an image, for 25 pairs of time constants. Each cell is one point
of a sweep, which runs here or on a cluster with the same code, keeps what is finished when it is interrupted, and
repeats nothing when it is started again. The time constant of the layer next to the image matters most.
"""

import tempfile
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Record, models, plots, simulate
from pcsim.analysis import convergence
from pcsim.sweeps import Sweep, grid

# %%
# The function of the sweep receives a configuration and returns numbers.


@dataclass(frozen=True)
class Setting:
    lower: float = 10.0
    upper: float = 10.0
    seed: int = 0


def settle(setting):
    torch.manual_seed(setting.seed)
    net = models.predictive_coding(((64,), (32,), (16,)), tau=(10.0, setting.lower, setting.upper))
    run = simulate(net, torch.rand(4, 64), solver=Euler(dt=0.5), until=1000.0, record=Record(errors="all", initial=True))
    return {"settling": convergence.settling_time(run.times, run.errors["e0"].numpy()).mean()}


taus = [5.0, 10.0, 20.0, 40.0, 80.0]
table = Sweep(settle, Setting(), grid({"lower": taus, "upper": taus}), tempfile.mkdtemp()).run()
times = table.over("settling", "lower", "upper")[:, :, 0]
print(f"80 instead of 5 ms: {(times[-1] / times[0]).mean():.1f} times as long (lower), {(times[:, -1] / times[:, 0]).mean():.1f} (upper)")

# %%

ax = plots.heatmap(table, "lower", "upper", "settling", label="settling time of the image error (ms)", numbers=".0f")
ax.set(xlabel="time constant of the lower layer (ms)", ylabel="time constant of the upper layer (ms)")
plt.show()
