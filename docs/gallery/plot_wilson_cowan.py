"""
Wilson-Cowan: a limit cycle between two nullclines
==================================================

The plots show the activity of excitatory (E) and inhibitory (I) cells of a cortical column, for two input strengths.
With weak input, the nullclines cross on the left, falling branch of the E nullcline: the fixed point is stable, and
activity settles. With stronger input, they cross on the rising branch: the fixed point is unstable, and E and I
oscillate, with I lagging E.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Record, models, plots, simulate
from pcsim.dynamics import stability

# %%
# The parameters are those of Wilson & Cowan (1972, figure 11), whose input P = 1.25 gives the oscillation.

net = models.wilson_cowan().double()
record = Record(states=["e", "i"], initial=True)
figure, axes = plt.subplots(2, 2, figsize=(7.6, 6.2), layout="constrained", height_ratios=(2, 1))
for column, p in enumerate((1.0, 1.25)):
    drive = {"p": torch.full((1, 1), p, dtype=torch.float64), "q": torch.zeros(1, 1, dtype=torch.float64)}
    run = simulate(net, drive, solver=RK4(dt=0.5), until=200.0, record=record)
    dynamics = stability.Dynamics(net, drive)
    point = stability.fixed_point(dynamics, method="newton_krylov").state
    kind = "stable" if stability.is_stable(dynamics, point) else "unstable"
    leading = stability.eigenvalues(dynamics, point)[0]
    print(f"P = {p}: {kind} fixed point, eigenvalue {leading.real:.3f} ± {abs(leading.imag):.3f}i per ms")
    panel = plots.phase_plane(dynamics, (0.0, 0.5), (0.0, 0.5), runs=run, points=[point], ax=axes[0, column])
    panel.set_title(f"P = {p}: {kind} fixed point", pad=28)
    axes[1, column].plot(run.times_of["e"], run["e"][:, 0, 0], color="#0072b2", label="E")
    axes[1, column].plot(run.times_of["i"], run["i"][:, 0, 0], "--", color="#d55e00", label="I")
    axes[1, column].set(xlabel="time (ms)", ylabel="activity", ylim=(0, 0.5))
axes[1, 0].legend(loc="upper right", ncols=2, frameon=False)
plt.show()
