"""
Time constants and settling
===========================

The plots show how long two reciprocally connected areas take to settle, for eight time constants of the upper area. The
lower area keeps its time constant of 10 ms. Its first response does not change, but it waits for feedback: the slower
the upper area, the later the lower area settles. A time constant measured in one area need not be a property of that
area.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Record, batched, models, plots, simulate, stimuli
from pcsim.analysis import convergence

# %%
# All time constants run in one batch.

torch.manual_seed(0)
net = models.leaky_rcnn((8, 16), tau=(10.0, 20.0), image=(1, 16, 16))
image = torch.nn.functional.avg_pool2d(stimuli.scenes("clean", seed=0, first=0, count=1).pixels(), 2)
taus = [5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0]
many = batched(net, taus={"l1": [10.0] * len(taus), "l2": taus}, batch=1)
record = Record(states=["l1", "l2"], initial=True)
run = simulate(many.network, many.tile(image), solver=RK4(dt=1.0), until=800.0, record=record)

# %%
# A response has settled when less than 5 % of its total change is left.

settled = {}
for area in ("l1", "l2"):
    left = (run[area] - run[area][-1]).flatten(2).norm(dim=2)
    settled[area] = convergence.decay_time(run.times_of[area], left)
    print(f"{area} settles after {settled[area][0]:.0f} ms (tau of l2: {taus[0]:g}) to {settled[area][-1]:.0f} ms")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
    distance = (run["l1"] - run["l1"][-1]).flatten(2).norm(dim=2)
    for column, colour in ((0, "0.75"), (3, "0.5"), (7, "0.1")):
        share = 100 * distance[:, column] / distance[0, column]
        left.semilogy(run.times_of["l1"], share, color=colour, label=f"tau of l2: {taus[column]:g} ms")
    left.axhline(5, color="0.6", lw=1, ls=":")
    left.set(xlabel="time (ms)", ylabel="distance of l1 from its end (%)", ylim=(1, 120), xlim=(0, 300))
    left.legend()
    for area, marker in (("l1", "o"), ("l2", "s")):
        right.plot(taus, settled[area], marker=marker, label=area)
    right.set(xlabel="tau of l2 (ms)", ylabel="settling time (ms)", ylim=(0, None))
    right.legend()
plt.show()
