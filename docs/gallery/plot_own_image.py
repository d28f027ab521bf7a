"""
Your own image, with an occluder
================================

A picture file becomes a stimulus in one line. Here, the script draws a digit; replace it with your own file. A trained
network reads the digit, first intact and then behind grey bars that cover more and more of it. What is covered matters
more than how much: with 30 % covered, the network is certain but wrong. A probability near 1 does not mean that the
answer is right.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image, ImageDraw

from pcsim import Iterate, models, plots, simulate, stimuli

# %%
# Any folder of pictures: PNG, JPEG, TIFF.

folder = Path(tempfile.mkdtemp())
page = Image.new("L", (320, 320), 128)
stroke = [(205, 75), (120, 75), (115, 150), (180, 150), (210, 185), (190, 240), (110, 240)]  # a 5
for grey, width in ((255, 50), (0, 30)):  # the light outline of the digits of the training
    ImageDraw.Draw(page).line(stroke, fill=grey, width=width, joint="curve")
page.save(folder / "five.png")
images, names = stimuli.read_images(folder, size=32, channels=1)

# %%

net = models.build("blt", weights="debris-light")
shares = (0.0, 0.15, 0.3, 0.45)
shown = {share: stimuli.occluded(images, share, seed=0) for share in shares}
answers = {share: simulate(net, image, solver=Iterate())["readout"].softmax(-1)[:, 0] for share, image in shown.items()}
for share, probabilities in answers.items():
    print(f"{100 * share:.0f} % covered: read as {probabilities[-1].argmax()} (p = {probabilities[-1].max():.2f})")

# %%

with plots.style("screen"):
    figure, axes = plt.subplots(2, 4, figsize=(7.2, 4.0), layout="constrained", sharey="row")
    for (above, below), (share, probabilities) in zip(axes.T, answers.items(), strict=True):
        above.imshow(shown[share][0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        above.set_title(f"{100 * share:.0f} % covered", fontsize="medium")
        above.axis("off")
        steps = range(1, len(probabilities) + 1)
        for digit in range(10):
            style = {"color": "#d55e00", "lw": 2.5} if digit == 5 else {"color": "0.65", "lw": 1}
            below.plot(steps, probabilities[:, digit], **style)
        below.set(xlabel="step", xticks=steps, ylim=(0, 1))
    axes[1, 0].set_ylabel("probability of each digit")
plt.show()
