"""
Hopfield completion, and the landscape that it descends
=======================================================

Above, a binary network that stores four letters completes a cue in which a fifth of the pixels are flipped. One
randomly chosen unit is updated at a time, and the energy never rises. Below, the whole landscape of a network of two
graded units that excite each other: from every start, the state runs downhill into one of two valleys, the memories.
The ridge between them separates the cues that end in one memory from those that end in the other.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pcsim import RK4, Iterate, Record, models, plots, simulate, stimuli

# %%
# Letters of 16 x 16 pixels as patterns of -1 and 1.

font = ImageFont.load_default(size=15)
pages = [Image.new("L", (16, 16)) for _ in "ALTX"]
for page, letter in zip(pages, "ALTX", strict=True):
    ImageDraw.Draw(page).text((8, 8), letter, fill=255, font=font, anchor="mm")
patterns = torch.from_numpy(np.stack([np.where(np.asarray(page) > 100, 1.0, -1.0).ravel() for page in pages])).float()
flipped = torch.rand(patterns.shape, generator=torch.Generator().manual_seed(0)) < 0.2
cue = torch.where(flipped, -patterns, patterns)[:1]
turns = stimuli.turns(units=256, batch=1, rounds=3, seed=0)
record = Record(states=["s", "energy"])
weights = (torch.linalg.pinv(patterns) @ patterns).fill_diagonal_(0.0)  # letters overlap too much for Hebb's rule
letters = models.hopfield(weights=weights)
binary = simulate(letters, {"cue": cue, "turn": turns}, solver=Iterate(), steps=768, record=record)
wrong = [int((state != patterns[0]).sum()) for state in (cue, binary["s"][-1])]
print(f"wrong pixels: {wrong[0]} in the cue, {wrong[1]} at the end")
print(f"largest rise of the energy: {binary['energy'].diff(dim=0).max():.1e}")

# %%
# Two graded units: the energy of every state, and the paths from 16 starting points.

pair = models.hopfield_continuous(weights=torch.tensor([[0.0, 1.0], [1.0, 0.0]]), tau=10.0, gain=2.0)
record = Record(states=["v", "energy"], initial=True)
levels = torch.linspace(-0.98, 0.98, 99)
states = torch.cartesian_prod(levels, levels)  # v, from which u = artanh(v) / gain
landscape = simulate(pair, torch.atanh(states) / 2.0, solver=RK4(dt=1.0), until=1.0, record=record)["energy"][0]
starts = torch.cartesian_prod(*[torch.tensor([-0.9, -0.35, 0.3, 0.8])] * 2)
paths = simulate(pair, torch.atanh(starts) / 2.0, solver=RK4(dt=1.0), until=200.0, record=record)["v"]

# %%

with plots.style("screen"):
    figure = plt.figure(figsize=(7.2, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.3))
    rows = {"cue": cue[0], "after 100 updates": binary["s"][99, 0], "after 768": binary["s"][-1, 0]}
    *panels, curve = above.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    for panel, (title, state) in zip(panels, rows.items(), strict=True):
        panel.imshow(state.reshape(16, 16).numpy(), cmap="gray")
        panel.set_title(title, fontsize="medium")
        panel.axis("off")
    curve.plot(binary["energy"][:, 0, 0])
    curve.set(xlabel="update", ylabel="energy")
    ax = below.subplots()
    grid = landscape.reshape(99, 99).T.numpy()
    shown = ax.contourf(levels.numpy(), levels.numpy(), grid, 25, cmap="viridis")
    below.colorbar(shown, ax=ax, label="energy")
    ax.plot(paths[:, :, 0].numpy(), paths[:, :, 1].numpy(), "w", lw=1)
    ax.plot(*starts.T.numpy(), "o", ms=4, color="w")
    ax.plot(*paths[-1].T.numpy(), "*", ms=12, color="#d55e00")
    ax.set(
        xlabel="activity of unit 1", ylabel="activity of unit 2", aspect="equal", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06)
    )
    ax.set_title("paths from start (dot) to end (star)", fontsize="medium")
plt.show()
