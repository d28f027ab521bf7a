"""
Conduction delays set the order of responses
============================================

In a network of three areas, every connection has a delay in ms. Each area responds once the signal has arrived along
the fastest path from the image; for V4, this is the path through V2, not the direct but slower connection from V1.
Feedback returns to V1 only after a full loop, so cutting it leaves the first part of the V1 response exactly as it was.
Feedback can explain a difference in the late part of a response, but not in the early part.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import RK4, Network, Population, Projection, Record, plots, rules, simulate
from pcsim.brain import latencies

# %%

torch.manual_seed(0)


def weights(gain):
    """Return a linear map with random weights."""
    linear = torch.nn.Linear(32, 32, bias=False)
    torch.nn.init.normal_(linear.weight, std=gain / 32**0.5)
    return linear


net = Network(
    {"image": (32,)},
    [Population(area, rules.leaky_rate(32, tau=10.0, bias=False), (32,)) for area in ("V1", "V2", "V4")],
    [
        Projection("image", "V1", delay_ms=40.0),
        Projection("V1", "V2", weights(1.0), delay_ms=10.0),
        Projection("V2", "V4", weights(1.0), delay_ms=12.0),
        Projection("V1", "V4", weights(1.0), delay_ms=30.0),
        Projection("V4", "V1", weights(0.8), kind="top_down", delay_ms=20.0),
    ],
)
image, blank = torch.rand(10, 32), torch.zeros(10, 32)
record = Record(states=["V1", "V2", "V4"])
cut = net.without("top_down")
intact, lesioned, rest = (
    simulate(variant, shown, solver=RK4(dt=1.0), until=160.0, record=record)
    for variant, shown in ((net, image), (cut, image), (net, blank))
)
measured = latencies(intact, rest)
feedback = latencies(intact, lesioned)["V1"].min()
print("first response (ms), from the graph:", net.arrivals)
print("first response (ms), measured:", {area: float(times.mean()) for area, times in measured.items()})
print(f"first effect of feedback in V1: {feedback:g} ms")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    for area in ("V1", "V2", "V4"):
        (curve,) = left.plot(intact.times, intact[area].norm(dim=2).mean(1), label=area)
        left.axvline(measured[area].mean(), color=curve.get_color(), lw=1, ls=":")
    left.set(xlabel="time (ms)", ylabel="activity (norm)", title="first responses (dotted)")
    left.legend()
    right.plot(intact.times, intact["V1"].norm(dim=2).mean(1), label="intact")
    right.plot(lesioned.times, lesioned["V1"].norm(dim=2).mean(1), "--", label="no feedback")
    right.axvline(feedback, color="0.4", lw=1, ls=":")
    right.set(xlabel="time (ms)", ylabel="activity of V1 (norm)", title="return of feedback (dotted)")
    right.legend(loc="lower right")
plt.show()
