"""
A masking protocol, and a network that is not masked
====================================================

A digit is shown for 20 ms, followed by a blank interval and a pattern mask. In people, such a mask erases a digit that
a blank field would leave visible, perhaps because it interrupts recurrent processing. This network does not show the
effect: it was trained with images that stay, and forgets the digit faster when only a blank field follows. A protocol
takes a few lines; whether a model shows the effect must be tested.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Record, models, plots, simulate, stimuli

# %%
# The protocol, and a control without the mask. Each mask consists of fragments of digits.

scenes = stimuli.scenes("debris-light", seed=1, first=0, count=80)
truth = torch.from_numpy(scenes.identities[:, 0])
images = scenes.pixels()
masks = stimuli.scenes("debris-heavy", seed=2, first=0, count=80).pixels()
digit = stimuli.held(images, 20.0, name="digit").then(stimuli.blank(10.0, like=images, level=0.5, name="interval"))
protocols = {
    "mask": digit.then(stimuli.held(masks, 70.0, name="mask")),
    "blank": digit.then(stimuli.blank(70.0, like=images, level=0.5)),
}
print(protocols["mask"])

# %%

net = models.build("blt", weights="debris-light").as_ode(tau=20.0)
record = Record(states=["readout"])
runs = {name: simulate(net, line, solver=Euler(dt=5.0), until=100.0, record=record) for name, line in protocols.items()}
correct = {name: 100 * (run["readout"].argmax(-1) == truth).float().mean(1) for name, run in runs.items()}
for name, rates in correct.items():
    best = rates.argmax()
    print(f"{name}: best {rates[best]:.0f} % correct at {runs[name].times[best]:g} ms, last {rates[-1]:.0f} %")

# %%

with plots.style("screen"):
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.0, 5.0), layout="constrained", height_ratios=(1, 2))
    plots.stimulus(protocols["mask"], ax=above)
    for (name, rates), line in zip(correct.items(), ("-", "--"), strict=True):
        below.plot(runs[name].times, rates, line, marker="o", ms=3, label=f"{name} from 30 ms on")
    below.axhline(10, color="0.6", lw=1, ls=":")
    below.axvspan(0.0, 20.0, color="0.92", zorder=0, label="digit")
    below.set(xlabel="time (ms)", ylabel="correct (%)", ylim=(0, 100), xlim=(0, 100))
    below.legend()
plt.show()
