"""
Seeing through occlusion
========================

The curves show the probability that a recurrent network assigns to each digit at each time step, for digits under
debris. The images are the first four that the network misreads in the first step, before any recurrent signal has
arrived, and reads correctly in the last. Recurrence changes the answer while the image stays the same.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Iterate, models, plots, simulate, stimuli

# %%
# A network with bottom-up, lateral and top-down connections, trained with debris, and the control without recurrence.

scenes = stimuli.scenes("debris-light", seed=1, first=0, count=300)
truth = torch.from_numpy(scenes.identities[:, 0])
answers = {
    name: simulate(models.build(model, weights="debris-light"), scenes.pixels(), solver=Iterate())["readout"]
    for name, model in {"recurrent (BLT)": "blt", "feed-forward (B)": "blt_b"}.items()
}
correct = {name: 100 * (logits.argmax(-1) == truth).float().mean(1) for name, logits in answers.items()}
for name, rates in correct.items():
    print(f"{name}: correct in each step (%): {[round(float(rate)) for rate in rates]}")

# %%
# The digit in the image is orange; the other nine are grey.

probabilities = answers["recurrent (BLT)"].softmax(-1)
choices = probabilities.argmax(-1)
revised = ((choices[0] != truth) & (choices[-1] == truth)).nonzero().flatten()[:4].tolist()
with plots.style("screen"):
    figure, axes = plt.subplots(2, 4, figsize=(7.2, 4.0), layout="constrained", sharey="row", height_ratios=(1, 1.2))
    for column, image in enumerate(revised):
        axes[0, column].imshow(scenes.images[image, 0], cmap="gray", vmin=0, vmax=255)
        axes[0, column].axis("off")
        steps = range(1, len(probabilities) + 1)
        for digit in range(10):
            is_true = digit == truth[image]
            style = {"color": "#d55e00", "lw": 2.5, "zorder": 3} if is_true else {"color": "0.65", "lw": 1}
            axes[1, column].plot(steps, probabilities[:, image, digit], **style)
        axes[1, column].set(xlabel="step", xticks=steps, ylim=(0, 1))
        first = int(choices[0, image])
        axes[0, column].set_title(f"{truth[image]}, first read as {first}")
    axes[1, 0].set_ylabel("probability of each digit")
plt.show()
