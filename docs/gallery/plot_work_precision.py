"""
Work and precision of solvers
=============================

The error of a run against the number of times that the rates of change were computed. On a smooth network, the error of
Euler falls with the first power of the work, that of Heun with the second, and that of RK4 with the fourth. Euler is
good enough for an error of 1 %; for 0.1 % and below, a higher order costs less.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Dopri5, Euler, Heun, models, plots, simulate
from pcsim.dynamics import check_order

# %%
# `check_order` halves dt repeatedly, in double precision, and compares with a much finer run.

torch.manual_seed(0)
net = models.leaky_rcnn((4, 8), tau=(10.0, 20.0), image=(1, 8, 8), activation="tanh")
image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
until = 60.0
orders = check_order(net, image, until=until, dt=5.0, halvings=5, solvers=(Euler, Heun, RK4))
print(orders)

# %%
# For the adaptive solver, a hook counts the evaluations.

precise = net.double()
exact = simulate(precise, image, solver=RK4(dt=0.05), until=until)["readout"][-1]
adaptive = []
for rtol in (1e-2, 1e-4, 1e-6, 1e-8):
    count = []
    hook = precise.flows["l1"].register_forward_hook(lambda *_, count=count: count.append(1))
    run = simulate(precise, image, solver=Dopri5(dt=until, rtol=rtol, atol=rtol / 100), until=until)
    hook.remove()
    error = (run["readout"][-1] - exact).abs().max() / exact.abs().max()
    adaptive.append((len(count), float(error)))

# %%

with plots.style("screen"):
    ax = plots.axes(6.0, 4.2)
    for (name, stages), marker in zip({"Euler": 1, "Heun": 2, "RK4": 4}.items(), "osD", strict=True):
        work = [stages * until / dt for dt in orders.dts]
        ax.loglog(work, orders.errors[name], marker=marker, label=f"{name}, measured order {orders.orders[name]:.2f}")
    ax.loglog(*zip(*adaptive, strict=True), marker="^", label="Dopri5, adaptive")
    ax.set(xlabel="evaluations of the rates of change in 60 ms", ylabel="relative error at 60 ms")
    ax.legend()
plt.show()
