"""
The stability border of a solver
================================

The left panel shows the eigenvalues of a random recurrent network at its fixed point, multiplied by dt, in the complex
plane. A solver stays at the fixed point while all of them lie inside its stability region. With dt 5 % below the
border, a small perturbation dies out; with dt 5 % above, it grows, although the network itself is stable. Oscillatory
modes, far from the real axis, limit dt more than the time constant does.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from pcsim import RK4, Euler, Network, Population, Projection, Record, connections, plots, rules, simulate
from pcsim.dynamics import stability

# %%
# Rate units with random weights, whose large antisymmetric part makes activity oscillate.

torch.manual_seed(0)
units, tau = 100, 20.0
weights = torch.randn(units, units, dtype=torch.float64) / units**0.5
weights = 0.4 * (weights + weights.T) / 2 + 3.0 * (weights - weights.T) / 2
lateral = connections.ScaledLinear(weights, 1)
net = Network(
    {"input": (units,)},
    [Population("r", rules.leaky_rate(units, tau, "tanh", bias=False))],
    [Projection("input", "r"), Projection("r", "r", lateral, "lateral")],
).double()
shown = torch.zeros(1, units, dtype=torch.float64)
dynamics = stability.Dynamics(net, shown)
point = stability.fixed_point(dynamics).state
values = stability.eigenvalues(dynamics, point)

# %%
# The borders, and runs from a small perturbation on both sides of them.

borders = {solver.__name__: stability.largest_stable_dt(values, solver) for solver in (Euler, RK4)}
kick = {"r": point + 1e-6 * torch.randn(1, units, dtype=torch.float64)}
runs = {}
for solver in (Euler, RK4):
    for side in (0.95, 1.05):
        dt = side * borders[solver.__name__]
        record = Record(states=["r"])
        run = simulate(net, shown, solver=solver(dt), steps=500, initial=kick, record=record)
        runs[solver.__name__, side] = (run["r"] - point).norm(dim=2)[:, 0]
    leak = solver(1.0).stability_limit * tau
    print(f"{solver.__name__}: dt up to {borders[solver.__name__]:.2f} ms; the leak alone allows {leak:.1f} ms")

# %%

x, y = np.meshgrid(np.linspace(-3.2, 0.8, 300), np.linspace(-3.2, 3.2, 300))
z = x + 1j * y
growth = {"Euler": abs(1 + z), "RK4": abs(1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24)}
with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.8), layout="constrained")
    for (name, border), colour in zip(borders.items(), ("#0072b2", "#d55e00"), strict=True):
        left.contour(x, y, growth[name], [1.0], colors=colour)
        label = f"{name}, dt = {border:.2f} ms"
        left.plot(border * values.real, border * values.imag, ".", ms=4, color=colour, label=label)
        for side, line in ((0.95, "-"), (1.05, "--")):
            right.semilogy(runs[name, side], line, color=colour, label=f"{name}, {side} of the border")
    left.set(xlabel="real part of dt λ", ylabel="imaginary part of dt λ", aspect="equal", ylim=(-3.2, 4.8))
    left.legend(loc="upper left", fontsize="small")
    right.set(xlabel="step", ylabel="distance from the fixed point", ylim=(1e-9, 1e6))
    right.legend(fontsize="small", loc="upper right")
plt.show()
