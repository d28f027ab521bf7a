"""
Hierarchical predictive coding settles on an explanation
========================================================

Three layers explain a digit, after learning from 500 digits with the local rule. At first, nothing is predicted, and
the error of the image is large. As it falls, the error of the layer above rises, because its activity is not yet
predicted by the top layer. This trade-off lowers the energy, the sum of both squared errors, at all times.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Record, models, plots, simulate, stimuli
from pcsim.training import Training, local

# %%
# Learning alternates between relaxation for 40 ms and a change of the weights that uses only the two activities that a
# weight connects.

torch.manual_seed(0)
pixels = stimuli.scenes("clean", seed=0, first=0, count=500).pixels()
images = torch.nn.functional.avg_pool2d(pixels, 2).flatten(1) - 0.5  # (image, 256); the grey background is 0
net = models.predictive_coding(((256,), (64,), (16,)), tau=(10.0, 10.0, 20.0), bias=False)
settings = Training(updates=300, batch=50, learning_rate=0.002)
local.learn(net, {"r0": images}, settings, solver=Euler(dt=1.0), until=40.0)

# %%
# The digits below were not used for learning.

tests = torch.nn.functional.avg_pool2d(stimuli.scenes("clean", seed=1, first=0, count=50).pixels(), 2).flatten(1) - 0.5
record = Record(states=["p0", "energy"], errors="all", initial=True)
run = simulate(net, tests, solver=Euler(dt=0.5), until=80.0, record=record)
energy = run["energy"][:, :, 0]
print(f"largest rise of the energy in a step: {max(0.0, float(energy.diff(dim=0).max())):.0e} (rounding)")
print(f"error of the image left at the end: {100 * (run.errors['e0'][-1] / run.errors['e0'][0]).mean():.0f} %")

# %%

times = (0.0, 1.0, 2.0, 5.0, 80.0)
with plots.style("screen"):
    figure = plt.figure(figsize=(7.2, 4.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.2))
    shown = {"image": tests[0], **{f"{at:g} ms": run["p0"][run.times_of["p0"] == at][0, 0] for at in times}}
    for panel, (title, values) in zip(above.subplots(1, 6), shown.items(), strict=True):
        panel.imshow(values.reshape(16, 16).numpy(), cmap="gray", vmin=-0.5, vmax=0.5)
        panel.set_title(title, fontsize="medium")
        panel.axis("off")
    left, right = below.subplots(1, 2)
    plots.error_convergence(run, ax=left)
    plots.activity(run, "energy", ax=right).set(ylabel="energy", ylim=(0, None))
plt.show()
