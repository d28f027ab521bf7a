"""
Receptive fields learned by prediction
======================================

Predictive coding learns these weights from patches of digits, as in Rao & Ballard (1999). Without a prior on activity
(left), every rotation of the units predicts equally well, and individual fields look like noise. With a sparse prior
(right), which favours explanations by few active units, the fields become localised and oriented, like those of simple
cells. Prediction alone does not give simple cells; prediction with a sparse prior does.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Network, Population, Projection, plots, stimuli
from pcsim.connections import Tied
from pcsim.rules import ErrorRelaxation, Prediction, PredictionError
from pcsim.training import Training, local

# %%
# Patches of 8 x 8 pixels, without their mean, from 400 rendered digits. Use your own images (image, 1, height, width).

pictures = stimuli.scenes("clean", seed=0, first=0, count=400).pixels()
patches = torch.nn.functional.unfold(pictures, 8, stride=4).transpose(1, 2).reshape(-1, 64)
patches = patches - patches.mean(1, keepdim=True)
patches = patches[patches.std(1) > 0.05]
patches = patches / patches.std()


class SparseRelaxation(ErrorRelaxation):
    """tau dr/dt = drive - sparsity r / (s^2 + r^2): the prior is log(s^2 + r^2), with heavy tails."""

    def __init__(self, tau, sparsity, scale=0.3):
        super().__init__(tau)
        self.sparsity, self.scale = sparsity, scale

    def forward(self, own, *, drive, error):
        """Return tau dr/dt."""
        return super().forward(own, drive=drive, error=error) - self.sparsity * own / (self.scale**2 + own.square())


def learn(sparsity, units=36):
    """Return the fields (unit, pixel) that predictive coding learns."""
    torch.manual_seed(0)
    weights = torch.nn.Linear(units, 64, bias=False)  # from causes to pixels
    net = Network(
        {"x": (64,)},
        [
            Population("r", SparseRelaxation(10.0, sparsity), (units,)),
            Population("p", Prediction()),
            Population("e", PredictionError()),
        ],
        [
            Projection("r", "p", weights, kind="prediction"),
            Projection("p", "e", kind="prediction"),
            Projection("x", "e"),
            Projection("e", "r", Tied(weights)),
        ],
    )
    settings = Training(updates=600, batch=100, learning_rate=0.01, weight_decay=0.1)
    local.learn(net, {"x": patches}, settings, solver=Euler(dt=0.5), until=20.0)
    return weights.weight.detach().T


fields = {"no prior": learn(0.0), "sparse prior": learn(0.8)}


def extent(weights):
    """Return the share of the patch over which the weights of a unit are spread, averaged over units."""
    squares = weights.square()
    return float((squares.sum(1).square() / (64 * squares.square().sum(1))).mean())


# %%

with plots.style("screen"):
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 4.4), layout="constrained")
    for panel, (name, weights) in zip(axes, fields.items(), strict=True):
        plots.receptive_fields(weights, shape=(8, 8), ax=panel)
        panel.set_title(f"{name}\nmean extent {100 * extent(weights):.0f} % of the patch")
plt.show()
