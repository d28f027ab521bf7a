"""
Dissimilarities over time
=========================

For each time step, a matrix shows how differently a trained network represents 50 digits under debris (1 - correlation
of the activity in area l2), sorted by digit. As recurrence acts, dark blocks appear along the diagonal: the
representations of images of the same digit become similar, although different debris covers each image.
"""

import matplotlib.pyplot as plt
import numpy as np

from pcsim import Iterate, Record, models, plots, simulate, stimuli
from pcsim.brain import similarity

# %%

scenes = stimuli.scenes("debris-light", seed=1, first=0, count=150)
order = np.concatenate([np.flatnonzero(scenes.identities[:, 0] == digit)[:5] for digit in range(10)])
digits = scenes.identities[order, 0]  # five images of each digit
net = models.build("blt", weights="debris-light")
record = Record(reduce={"l2": "max_space"})
run = simulate(net, scenes.pixels()[order], solver=Iterate(), record=record)
matrices = [similarity.dissimilarity(step) for step in run["l2.max_space"]]

# %%
# Spearman's correlation with an ideal matrix, in which only images of the same digit are alike.

ideal = (digits[:, None] != digits).astype(float)
found = [similarity.compare(matrix, ideal) for matrix in matrices]
print("correlation with the ideal matrix:", [round(value, 2) for value in found])

# %%

with plots.style("screen"):
    figure, axes = plt.subplots(2, 2, figsize=(7.0, 6.2), layout="constrained")
    for step, (panel, matrix) in enumerate(zip(axes.flat, matrices, strict=True)):
        plots.matrix(matrix, digits, vmin=0, vmax=np.max(matrices), ax=panel)
        panel.set_title(f"step {step + 1}: correlation with ideal {found[step]:.2f}", fontsize="medium")
plt.show()
