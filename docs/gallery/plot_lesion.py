"""
Feedback lesioned at 50 ms
==========================

A trained network runs in continuous time on digits under debris. At 50 ms, a lesion removes its top-down connections.
Until then, the two runs are bitwise identical. Area l1, which loses an input, deviates immediately; area l2 follows a
few milliseconds later, because it is affected only indirectly, but eventually deviates further.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Record, models, plots, simulate, stimuli

# %%
# The network was trained for four steps. As an ODE with tau = 25 ms, these take 100 ms.

scenes = stimuli.scenes("debris-light", seed=1, first=0, count=80)
truth = torch.from_numpy(scenes.identities[:, 0])
net = models.build("blt", weights="debris-light").as_ode(tau=25.0)
variants = {"intact": net, "no top-down from 50 ms on": net.without("top_down", during=(50.0, 100.0))}
record = Record(states=["l1", "l2", "readout"])
runs = {
    name: simulate(variant, scenes.pixels(), solver=RK4(dt=5.0), until=100.0, record=record)
    for name, variant in variants.items()
}
intact, lesioned = runs.values()

# %%
# Distance between the two runs, relative to the size of the intact response, averaged over images.

times = intact.times
distances = {
    area: 100 * ((lesioned[area] - intact[area]).flatten(2).norm(dim=2) / intact[area].flatten(2).norm(dim=2)).mean(1)
    for area in ("l1", "l2")
}
for area, distance in distances.items():
    print(f"{area}: {distance[times == 50.0].item():.0f} % at 50 ms, {distance[times == 55.0].item():.2f} % at 55 ms")
for name, run in runs.items():
    correct = 100 * (run["readout"][-1].argmax(-1) == truth).float().mean()
    print(f"{name}: {correct:.0f} % of {len(truth)} digits correct at 100 ms")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
    for area, distance in distances.items():
        left.plot(times, distance, label=area)
    left.set(xlabel="time (ms)", ylabel="distance from the intact run (%)", ylim=(0, None))
    left.legend()
    for (name, run), line in zip(runs.items(), ("-", "--"), strict=True):
        right.plot(times, 100 * (run["readout"].argmax(-1) == truth).float().mean(1), line, label=name)
    right.set(xlabel="time (ms)", ylabel="correct (%)", ylim=(0, 100))
    right.legend(loc="lower right")
    for panel in (left, right):
        panel.axvline(50.0, color="0.6", lw=1, ls=":")
plt.show()
