"""
Work and precision of solvers
=============================

The plot shows the error of a run as a function of the number of evaluations of the rates of change. In a smooth
network, the error of Euler falls with the first power of the work, that of Heun with the second, and that of RK4 with
the fourth. For an error of 1 %, all are cheap. For small errors, a higher order costs far less. Rectified units and max
pooling have kinks, which lower the order of Heun and RK4.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Dopri5, Euler, Heun, models, plots, simulate
from pcsim.dynamics import check_order

# %%
# `check_order` halves dt repeatedly, in double precision, and compares with a much finer run.

torch.manual_seed(0)
net = models.predictive_coding(((64,), (32,), (16,)), tau=10.0, activation="tanh").double()
image = torch.rand(1, 64, dtype=torch.float64)
until = 40.0
orders = check_order(net, image, until=until, dt=4.0, halvings=5, solvers=(Euler, Heun, RK4))
print(orders)

# %%
# For the adaptive solver, a hook counts the evaluations.

exact = simulate(net, image, solver=RK4(dt=0.02), until=until).final.state["r1"]
adaptive = []
for rtol in (1e-2, 1e-4, 1e-6, 1e-8):
    count = []
    hook = net.flows["r1"].register_forward_hook(lambda *_, count=count: count.append(1))
    end = simulate(net, image, solver=Dopri5(dt=until, rtol=rtol, atol=rtol / 100), until=until).final.state["r1"]
    hook.remove()
    adaptive.append((len(count), float((end - exact).abs().max() / exact.abs().max())))

# %%

with plots.style("screen"):
    ax = plots.axes(6.0, 4.2)
    for (name, stages), marker in zip({"Euler": 1, "Heun": 2, "RK4": 4}.items(), "osD", strict=True):
        work = [stages * until / dt for dt in orders.dts]
        ax.loglog(work, orders.errors[name], marker=marker, label=f"{name}, measured order {orders.orders[name]:.2f}")
    ax.loglog(*zip(*adaptive, strict=True), marker="^", label="Dopri5, adaptive")
    ax.set(xlabel=f"evaluations of the rates of change in {until:g} ms", ylabel="relative error at the end")
    ax.legend()
plt.show()
