"""
The response to a surprise
==========================

A predictive coding network sees a digit for 100 ms, and then either the same digit, another one, or a blank field. A
repeated digit evokes no error, because its explanation is already active. Another digit evokes a larger error than the
first one did: the old explanation predicts pixels that are now missing. The image error responds immediately, and that
of the next layer builds up later, when the representation below it changes.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Record, models, plots, simulate, stimuli
from pcsim.training import Training, local

# %%
# A network of three layers learns 500 digits with the local rule.


def digits(seed, count):
    """Return digits (image, 256) on a grey background, which is 0."""
    pixels = stimuli.scenes("clean", seed=seed, first=0, count=count).pixels()
    return torch.nn.functional.avg_pool2d(pixels, 2).flatten(1) - 0.5


torch.manual_seed(0)
net = models.predictive_coding(((256,), (64,), (16,)), tau=(10.0, 10.0, 20.0), bias=False)
settings = Training(updates=300, batch=50, learning_rate=0.002)
local.learn(net, {"r0": digits(0, 500)}, settings, solver=Euler(dt=1.0), until=40.0)

# %%
# 50 other digits, and what follows each of them.

tests = digits(1, 50)
after = {"another digit": tests.roll(1, 0), "the same digit": tests, "blank": torch.zeros_like(tests)}
runs = {
    name: simulate(
        net,
        stimuli.held(tests, 100.0, name="digit").then(stimuli.held(second, 100.0, name="second")),
        solver=Euler(dt=0.5),
        until=200.0,
        record=Record(errors="all"),
    )
    for name, second in after.items()
}
for name, run in runs.items():
    error = run.errors["e0"].mean(1)
    late = run.times > 100.0
    print(f"{name}: largest image error {error[late].max() / error[~late].max():.2f} times that at the first onset")

# %%

with plots.style("screen"):
    figure, axes = plt.subplots(1, 2, figsize=(7.8, 3.6), layout="constrained")
    for panel, error, title in zip(axes, ("e0", "e1"), ("error of the image", "error of layer 1"), strict=True):
        for (name, run), line in zip(runs.items(), ("-", "--", ":"), strict=True):
            panel.plot(run.times, run.errors[error].mean(1), line, label=name)
        panel.axvline(100.0, color="0.6", lw=1, ls=":")
        panel.set(xlabel="time (ms)", ylabel="mean squared error", title=title, ylim=(0, None))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, title="from 100 ms on")
plt.show()
