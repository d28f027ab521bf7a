"""
Why the error of a predictive coding network falls, or rises
============================================================

In a linear layer whose feedback weights are tied to its feed-forward weights W, each cycle multiplies the error along
an eigenvector of W Wᵀ by 1 - bλ, where b is the update rate. If all factors are between -1 and 1, the error falls. Just
above b = 2 / λmax, the error falls at first, because most of it lies in other directions, and then grows in the few
whose factor has passed -1, with alternating sign. Deeper rectified networks have no such guarantee at any rate.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import Iterate, Record, models, plots, simulate, stimuli
from pcsim.dynamics import stability

# %%
# One layer of a network with global loops (PCN), linear, with tied weights. With b = 1, the eigenvalues of one cycle
# are 1 - λ, and automatic differentiation gives them.

image = stimuli.scenes("clean", seed=0, first=0, count=1).pixels()[:, :, 8:24, 8:24].double()


def layer(rate):
    """Return the layer with update rate b, always with the same weights."""
    torch.manual_seed(0)
    options = {"tied": True, "activation": "identity", "rates": (0.0, rate), "image": (1, 16, 16)}
    return models.pcn_global((3,), (), **options).double()


dynamics = stability.Dynamics(layer(1.0), image)
lambdas = 1.0 - stability.eigenvalues(dynamics, dynamics.start).real
lambdas = lambdas[lambdas > 1e-9]  # the others are directions of the representation that the image does not determine
runs = {
    share: simulate(layer(share / lambdas.max()), image, solver=Iterate(), steps=60, record=Record(errors="all"))
    for share in (0.5, 1.8, 2.1)
}
for share, run in runs.items():
    error = run.errors["e0"][:, 0] / run.errors["e0"][0, 0]
    print(f"b = {share} / λmax: lowest error {error.min():.2g} in cycle {error.argmin() + 1}, last {error[-1]:.2g}")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.6), layout="constrained")
    for share, run in runs.items():
        error = run.errors["e0"][:, 0]
        left.semilogy(range(1, 61), error / error[0], label=f"b = {share} / λmax")
        right.plot(lambdas / lambdas.max(), 1.0 - share * lambdas / lambdas.max(), ".", ms=4)
    left.set(xlabel="cycle", ylabel="squared error / error in cycle 1")
    left.legend()
    right.axhspan(-1, 1, color="0.92", zorder=0, label="error falls")
    right.set(xlabel="eigenvalue λ / λmax", ylabel="factor of the error per cycle, 1 - bλ")
    right.legend(loc="upper right")
plt.show()
