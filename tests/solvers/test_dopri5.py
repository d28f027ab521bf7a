"""Dopri5 against its step-size control written out for one sample in NumPy (Hairer, Norsett & Wanner, II.4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import RK45
from support.examples import dense

from pcsim import Dopri5, Network, Population, Projection, Record, simulate
from pcsim.rules import leaky_rate

pytestmark = pytest.mark.usefixtures("float64")
Vector = NDArray[np.float64]


class Alone:
    """An integration of one sample, with the tableau of SciPy, which counts accepted and rejected steps."""

    def __init__(self, rate: Callable[[Vector], Vector], rtol: float, atol: float) -> None:
        self.rate, self.rtol, self.atol, self.accepted, self.rejected = rate, rtol, atol, 0, 0

    def size(self, x: Vector, like: Vector) -> float:
        return float(np.sqrt(np.mean((x / (self.atol + self.rtol * np.abs(like))) ** 2)))

    def first(self, x: Vector, k: Vector, dt: float) -> float:
        d0, d1 = self.size(x, x), self.size(k, x)
        h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
        d2 = self.size(self.rate(x + h0 * k) - k, x) / h0
        h1 = max(1e-6, 1e-3 * h0) if max(d1, d2) <= 1e-15 else (0.01 / max(d1, d2)) ** 0.2
        return min(100 * h0, h1, dt)

    def over(self, x: Vector, dt: float) -> Vector:
        """Integrate over one interval."""
        k = self.rate(x)
        time, h = 0.0, self.first(x, k, dt)
        while dt - time > 1e-12 * dt:
            h = min(h, dt - time)
            stages = [k]
            for row in RK45.A[1:]:
                stages.append(self.rate(x + h * np.array(stages).T @ row[: len(stages)]))
            new = x + h * np.array(stages).T @ RK45.B
            stages.append(self.rate(new))
            error = h * np.array(stages).T @ RK45.E
            ratio = float(np.sqrt(np.mean((error / (self.atol + self.rtol * np.maximum(np.abs(x), np.abs(new)))) ** 2)))
            if ratio <= 1.0:
                time, x, k = time + h, new, stages[-1]
                self.accepted += 1
            else:
                self.rejected += 1
            h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** -0.2))
        return x


def test_dopri5_equals_step_size_control_of_each_sample() -> None:
    """Populations of different sizes share one error norm; samples have their own steps, accepted or rejected."""
    torch.manual_seed(3)
    weights = {"u->a": dense(3, 4), "b->a": dense(3, 2, 8.0), "a->b": dense(2, 3, 8.0)}
    net = Network(
        {"u": (4,)},
        [
            Population("a", leaky_rate(3, 10.0, "tanh", bias=False)),
            Population("b", leaky_rate(2, 1.0, "tanh", bias=False)),
        ],
        [Projection(*name.split("->"), transform) for name, transform in weights.items()],
    )
    into, back, forth = (weight.weight.detach().numpy() for weight in weights.values())
    shown = torch.randn(6, 4) * torch.tensor([0.0, 0.01, 0.3, 1.0, 3.0, 30.0])[:, None]
    dt, steps, rtol, atol = 10.0, 4, 1e-3, 1e-5
    run = simulate(
        net, shown, solver=Dopri5(dt=dt, rtol=rtol, atol=atol), steps=steps, record=Record(states=["a", "b"])
    )
    found = torch.cat([run["a"], run["b"]], 2).numpy()

    tried = []
    for sample, drive in enumerate(shown.numpy() @ into.T):

        def rate(x: Vector, drive: Vector = drive) -> Vector:
            a, b = x[:3], x[3:]
            return np.concatenate([(np.tanh(back @ b + drive) - a) / 10.0, np.tanh(forth @ a) - b])

        alone, x = Alone(rate, rtol, atol), np.zeros(5)
        for step in range(steps):
            x = alone.over(x, dt)
            assert np.allclose(found[step, sample], x, rtol=0, atol=1e-11), (step, sample)
        tried.append((alone.accepted, alone.rejected))
    rejected = [count for _, count in tried]
    assert len(set(tried)) > 3 and min(rejected) == 0 and max(rejected) > 1, "the samples must differ in their steps"
