"""
Object solution times of clean and occluded digits
==================================================

A trained recurrent network in continuous time sees the same digits clean and under debris. An image counts as solved
when its d' against the other digits reaches 2. Occluded digits are solved later, as in monkeys (Kar et al. 2019). A
delay alone does not show that recurrence is needed: in any leaky network, weaker evidence reaches a criterion later.
"""

import matplotlib.pyplot as plt
import numpy as np

from pcsim import Euler, models, plots, simulate, stimuli
from pcsim.analysis import estimate
from pcsim.brain import object_solution

# %%

net = models.build("blt", weights="debris-light").as_ode(tau=10.0)  # ms
solved, curves = {}, {}
for condition in ("clean", "debris-light"):
    scenes = stimuli.scenes(condition, seed=1, first=0, count=150)
    digits = scenes.identities[:, 0]
    run = simulate(net, scenes.pixels(), solver=Euler(dt=2.0), until=40.0)
    probabilities = run["readout"].softmax(-1)  # (time, image, digit)
    curves[condition] = 100 * (probabilities.argmax(-1).numpy() == digits).mean(1)
    i1 = object_solution.image_d_prime(probabilities, digits)
    solved[condition] = object_solution.solution_times(run.times, i1, thresholds=2.0)
delay = solved["debris-light"] - solved["clean"]
both = np.isfinite(delay)
mean = estimate(delay[both])
for condition, times in solved.items():
    print(f"{condition}: {100 * np.isfinite(times).mean():.0f} % solved, median {np.nanmedian(times):.1f} ms")
print(f"delay per image: {mean.mean:.1f} ms [{mean.low:.1f}, {mean.high:.1f}] (95 % over {both.sum()} images)")

# %%

with plots.style("screen"):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    for condition, line in zip(curves, ("-", "--"), strict=True):
        left.plot(run.times, curves[condition], line, label=condition)
    left.axhline(10, color="0.6", lw=1, ls=":")
    left.text(40, 11, "chance", ha="right", va="bottom", color="0.4")
    left.set(xlabel="time (ms)", ylabel="correct (%)", ylim=(0, 103))
    left.legend(loc="center right")
    right.plot([0, 20], [0, 20], color="0.6", lw=1)
    right.plot(solved["clean"], solved["debris-light"], "o", ms=4, alpha=0.5)
    right.set(
        xlabel="solved, clean (ms)", ylabel="solved, under debris (ms)", xlim=(0, 20), ylim=(0, 20), aspect="equal"
    )
plt.show()
