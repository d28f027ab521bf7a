"""
Units learn the time scales of their task
=========================================

Sixteen leaky units report a fast (6 ms) and a slow (60 ms) running average of two noisy inputs. Their time constants
start near 20 ms and are learned together with the weights. Some move to the fast time scale of the task, and the others
slow down towards the slow one. If the time constants stay fixed and only the weights are learned, the error remains
larger.
"""

import math

import matplotlib.pyplot as plt
import torch

from pcsim import Euler, Full, Network, Population, Projection, Record, Simulator, plots, stimuli
from pcsim.connections import conv
from pcsim.rules import LearnableTau, Sum, leaky_rate

# %%

scales, every, units = torch.tensor([6.0, 60.0]), 2.0, 16


def draw(seed, frames=80, batch=12):
    """Return noise and its running averages, both (frame, batch, stream), averages with unit variance."""
    noise = torch.randn(frames, batch, 2, generator=torch.Generator().manual_seed(seed))
    share, average, rows = 1 - torch.exp(-every / scales), torch.zeros(batch, 2), []
    for frame in noise:
        average = average + share * (frame - average)
        rows.append(average)
    return noise, torch.stack(rows) / (share / (2 - share)).sqrt()


def train(is_learned):
    """Return the time constants before and after training, and the error of each update."""
    torch.manual_seed(0)
    tau = LearnableTau(units, minimum=2.0, span=198.0, start=20.0)
    with torch.no_grad():
        tau.xi.add_(torch.randn(units), alpha=math.log(1.5))
    tau.xi.requires_grad_(is_learned)
    net = Network(
        {"noise": (2, 1, 1)},
        [Population("r", leaky_rate(units, tau, "identity"), (units, 1, 1)), Population("y", Sum(), (2, 1, 1))],
        [Projection("noise", "r", conv(2, units, 1, bias=True)), Projection("r", "y", conv(units, 2, 1, bias=True))],
    )
    sim = Simulator(net, solver=Euler(dt=every), record=Record(states=["y"]), gradient=Full())
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.03)
    before, errors = tau().tolist(), []
    for update in range(120):
        noise, wanted = draw(update)
        error = (
            (sim(stimuli.sequence(noise[..., None, None], every=every))["y"][..., 0, 0] - wanted)[20:].square().mean()
        )
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    return before, tau().tolist(), errors


before, after, learned = train(True)
_, _, fixed = train(False)
for name, errors in {"learned": learned, "fixed": fixed}.items():
    print(f"{name} time constants: error {sum(errors[-20:]) / 20:.2g} of the variance (mean of the last 20 updates)")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
    left.plot([0, 1], [before, after], color="#0072b2", marker="o", ms=4, lw=0.8)
    for scale in scales.tolist():
        left.axhline(scale, color="#d55e00", ls="--")
    left.set(
        yscale="log", ylabel="time constant (ms)", xticks=[0, 1], xticklabels=["before", "after"], xlim=(-0.3, 1.3)
    )
    left.set_yticks([2, 6, 20, 60, 200], ["2", "6", "20", "60", "200"])
    right.semilogy(learned, label="learned")
    right.semilogy(fixed, "--", label="fixed")
    right.set(xlabel="update", ylabel="squared error / variance")
    right.legend(title="time constants")
plt.show()
