"""
A new cell in fifty lines
=========================

A rate unit with slow adaptation, written as a new rule, which knows only its own state and its summed input.
Solvers, recording, lesions and training work with it immediately. A stimulus evokes an onset transient and a lower
sustained response; after a short pause, the response to its repetition is suppressed, and after a long pause it has
recovered.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Network, Population, Projection, Record, plots, simulate, stimuli
from pcsim.rules import Flow, time_constant

# %%
# The rule. Solvers divide both rates of change by `tau`, so that of the second variable is multiplied by tau / tau_a.


class Adapting(Flow):
    """tau dr/dt = -r + [drive - b a]+;  tau_a da/dt = r - a."""

    extra = ("a",)

    def __init__(self, tau, tau_a, strength):
        super().__init__()
        self.tau, self.tau_a, self.strength = time_constant(tau), time_constant(tau_a), strength

    def forward(self, own, *, drive):
        """Return tau dr/dt and tau da/dt."""
        r, a = own["value"], own["a"]
        ratio = self.tau.for_(r) / self.tau_a.for_(r)
        return {"value": torch.relu(drive - self.strength * a) - r, "a": ratio * (r - a)}


# %%
# A network of one unit, and a protocol with two pauses.

net = Network({"drive": (1,)}, [Population("r", Adapting(10.0, 200.0, 2.0))], [Projection("drive", "r")])
on = torch.ones(1, 1)
line = stimuli.blank(50.0, like=on)
for pause in (100.0, 800.0, 50.0):
    line = line.then(stimuli.held(on, 200.0)).then(stimuli.blank(pause, like=on))
run = simulate(net, line, solver=RK4(dt=1.0), until=line.duration, record=Record(states=["r", "r.a"]))
r, times = run["r"][:, 0, 0], run.times
peaks = [r[(times > onset) & (times <= onset + 200.0)].max().item() for onset in (50.0, 350.0, 1350.0)]
print("peaks of the three responses:", [round(peak, 3) for peak in peaks])

# %%

with plots.style("screen"):
    ax = plots.axes(7.2, 3.6)
    ax.plot(times, r, label="rate r")
    ax.plot(times, run["r.a"][:, 0, 0], "--", label="adaptation a")
    for onset, peak in zip((50.0, 350.0, 1350.0), peaks, strict=True):
        ax.axvspan(onset, onset + 200.0, color="0.92", zorder=0)
        ax.text(onset, peak + 0.01, f"{100 * peak / peaks[0]:.0f} %", va="bottom")
    ax.set(xlabel="time (ms)", ylabel="activity", ylim=(0, 1.0))
    ax.legend(title="stimulus: grey")
plt.show()
