"""Values whose sum or square overflows are finite: they are accepted, recorded and never reported as diverged."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import pcsim
from pcsim import (
    Euler,
    Full,
    Iterate,
    Network,
    PcsimWarning,
    Population,
    Projection,
    Record,
    Simulator,
    Status,
    StimulusError,
    rollout,
    simulate,
)
from pcsim.core.state import finite
from pcsim.rules import PredictionError, Rate, leaky_rate
from pcsim.simulation.record import REDUCTIONS, relative_square
from pcsim.training import Checkpointed

# The sum over 4096 units overflows, and for the last two also the square of a single value.
LEVELS = [(torch.float16, 1_000.0), (torch.bfloat16, 2e37), (torch.float32, 2e37)]
SHAPE = (4, 32, 32)


def network(is_flow: bool) -> Network:
    """Return two populations that take the value of the image in one step."""
    rule = (lambda: leaky_rate(4, 1.0, "identity", bias=False)) if is_flow else lambda: Rate(4, "identity", bias=False)
    return Network(
        {"u": SHAPE}, [Population("a", rule()), Population("b", rule())], [Projection("u", "a"), Projection("a", "b")]
    )


def image(dtype: torch.dtype, level: float) -> Tensor:
    """Return a sample with this level everywhere, one with both signs, and one of zeros."""
    shown = torch.full((3, *SHAPE), level, dtype=dtype)
    shown[1, ::2] = -level
    shown[2] = 0.0
    return shown


@pytest.mark.parametrize(("dtype", "level"), LEVELS)
@pytest.mark.parametrize("is_flow", [True, False])
def test_large_finite_values_never_count_as_diverged(is_flow: bool, dtype: torch.dtype, level: float) -> None:
    net, shown = network(is_flow).to(dtype), image(dtype, level)
    solver = Euler(dt=1.0) if is_flow else Iterate()
    options = {"solver": solver, "record": Record(states=["a", "b"], reduce={"a": "max_space"})}
    initial = {"b": shown.clone()}
    runs = [
        simulate(net, shown, steps=5, initial=initial, **options),
        Simulator(net, **options)(shown, steps=40, initial=initial),
        simulate(net, shown, steps=5, initial=initial, gradient=Full(), **options),
        simulate(net, shown, steps=5, initial=initial, gradient=Checkpointed(2), **options),
    ]
    for run in runs:
        assert run.status == (Status.COMPLETED,) * 3
        assert torch.equal(run["a"][-1], shown) and torch.equal(run["b"][-1], shown)
        assert torch.equal(run["a.max_space"][-1], shown.amax((2, 3)))
    *_, (_, values) = rollout(net, shown, solver, 5)
    assert torch.equal(values["b"], shown)


@pytest.mark.parametrize("is_flow", [True, False])
def test_overflow_of_a_reduction_is_reported_and_is_no_divergence(is_flow: bool) -> None:
    net, shown = network(is_flow), image(torch.float32, 2e37)
    record = Record(reduce={"a": ["norm", "mean"]})
    with pytest.warns(PcsimWarning) as given:
        run = simulate(net, shown, solver=Euler(dt=1.0) if is_flow else Iterate(), steps=5, record=record)
    assert [str(each.message)[:41] for each in given] == [
        "'a.mean' is NaN or infinite in 2 of 3 sam",
        "'a.norm' is NaN or infinite in 2 of 3 sam",
    ]
    assert run.status == (Status.COMPLETED,) * 3 and run["a.norm"][-1].tolist() == [math.inf, math.inf, 0.0]


def test_reduction_that_is_undefined_is_no_divergence() -> None:
    def entropy(value: Tensor) -> Tensor:
        return -(value * value.log()).flatten(1).sum(1)

    with pytest.warns(PcsimWarning, match="'a.entropy' is NaN or infinite in 2 of 3 samples whose states are finite"):
        run = simulate(
            network(False), image(torch.float32, 1.0) - 0.5, solver=Iterate(), steps=2,
            record=Record(states=["b"], reduce={"a": entropy}),
        )  # fmt: skip
    assert run.status == (Status.COMPLETED,) * 3 and torch.isfinite(run["b"]).all()


@pytest.mark.parametrize("spoiled", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(("dtype", "level"), LEVELS)
def test_one_nonfinite_value_among_large_ones_is_found(dtype: torch.dtype, level: float, spoiled: float) -> None:
    shown = image(dtype, level)
    assert finite(shown).tolist() == [True, True, True]
    shown[1, 2, 31, 31] = spoiled
    assert finite(shown).tolist() == [True, False, True]
    with pytest.raises(StimulusError, match="NaN or infinite"):
        simulate(network(False).to(dtype), shown, solver=Iterate(), steps=1)
    edge = nn.Hardtanh(-math.inf, math.inf)
    edge.forward = lambda value: torch.where(value == value[1, 2, 31, 31], spoiled, value)
    net = Network({"u": SHAPE}, [Population("a", Rate(4, "identity", bias=False))], [Projection("u", "a", edge)])
    shown = image(dtype, level)
    shown[1, 2, 31, 31] = level / 2
    with pytest.warns(PcsimWarning, match="1 of 3 samples diverged; sample 1 became non-finite in 'a'"):
        run = simulate(net.to(dtype), shown, solver=Iterate(), steps=3, record=Record(states=["a"]))
    assert [status is Status.COMPLETED for status in run.status] == [True, False, True]


@pytest.mark.parametrize(
    ("dtype", "level", "units"),
    [(torch.float16, 100.0, 40_000), (torch.float32, 1e16, 40_000), (torch.float32, 1e-18, 9)],
)
def test_reductions_of_large_and_small_values(dtype: torch.dtype, level: float, units: int) -> None:
    """Squares of norms do not overflow if the result does not."""
    value = torch.full((2, units), level, dtype=dtype)
    exact = float(value[0, 0])
    found = {name: float(REDUCTIONS[name](value)[1]) for name in ("norm", "mean", "mean_square")}
    assert found["norm"] == pytest.approx(exact * math.sqrt(units), rel=1e-3)
    assert found["mean"] == pytest.approx(exact, rel=1e-3)
    assert found["mean_square"] == pytest.approx(exact**2, rel=1e-3, abs=1e-44)
    if dtype is torch.float32 and level > 1.0:
        assert relative_square(value / 2, value).tolist() == [0.25, 0.25]


def test_error_of_large_float16_image_is_recorded() -> None:
    net = Network({"x": (3, 64, 64)}, [Population("e", PredictionError())], [Projection("x", "e")]).half()
    shown = torch.full((1, 3, 64, 64), 10.0, dtype=torch.float16)
    run = simulate(net, shown, solver=Iterate(), steps=2, record=Record(errors="all"))
    assert run.status == (Status.COMPLETED,) and run.errors["e"].tolist() == [[100.0], [100.0]]


def test_gradient_of_large_finite_values_is_finite() -> None:
    net = pcsim.Network({"u": (64,)}, [Population("a", Rate(64, "tanh"))], [Projection("u", "a", nn.Linear(64, 64))])
    with torch.no_grad():
        net.transforms["u_to_a"].weight.fill_(1e-38)
    run = simulate(net, torch.full((2, 64), 2e37), solver=Iterate(), steps=2, gradient=Full())
    run["a"][-1].sum().backward()
    assert run.status == (Status.COMPLETED,) * 2
    assert torch.isfinite(net.transforms["u_to_a"].bias.grad).all()
