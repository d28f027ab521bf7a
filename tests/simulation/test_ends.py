"""Ends of runs: `until`, `steps`, the network's default number of steps, `Settled`."""

from __future__ import annotations

import math

import pytest
import torch
from support.examples import leaky_net

from pcsim import (
    Euler,
    Iterate,
    Network,
    Population,
    Record,
    RecordError,
    Settled,
    SolverError,
    models,
    simulate,
    stimuli,
)
from pcsim.network import Projection
from pcsim.rules import Sum


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": 0.0},
        {"tolerance": math.inf},
        {"tolerance": -1.0},
        {"at_most": 0.0},
        {"at_most": math.inf},
        {"every": 0},
    ],
)
def test_settled_refuses_invalid_settings(wrong: dict) -> None:
    with pytest.raises(SolverError, match="Settled"):
        Settled(**{"tolerance": 1e-3, "at_most": 100.0, "every": 1} | wrong)


def test_settled_accepts_short_and_long_limits() -> None:
    assert Settled(1e-9, at_most=0.5, every=1).at_most == 0.5 and Settled(0.9, at_most=1e9).every == 10


def test_settled_can_check_every_step() -> None:
    run = simulate(leaky_net(3), torch.ones(2, 3), solver=Euler(1.0), until=Settled(0.5, at_most=50.0, every=1))
    assert (run.settled_at > 0).all() and run.times[-1] < 50.0


def test_settled_waits_for_last_stimulus_change() -> None:
    net = leaky_net(3)
    zero, one = (torch.full((1, 3), value) for value in (0.0, 1.0))
    shown = stimuli.held(zero, 60.0).then(stimuli.held(one, 400.0))
    run = simulate(net, shown, solver=Euler(1.0), until=Settled(1e-3, at_most=400.0, every=1))
    assert run.settled_at[0] > 60.0 and run["r"][-1].abs().max() > 0.1, "the run must not settle before the change"


def test_simulate_refuses_run_without_end() -> None:
    for net in (
        leaky_net(3),
        Network({"u": (3,)}, [Population("y", Sum())], [Projection("u", "y", torch.nn.Identity())]),
    ):
        solver = Euler(1.0) if net.is_flow else Iterate()
        with pytest.raises(SolverError, match="no end"):
            simulate(net, torch.ones(1, 3), solver=solver)


def test_discrete_model_runs_default_number_of_steps() -> None:
    run = simulate(models.blt(channels=(2, 2), image=(1, 8, 8)), torch.rand(1, 1, 8, 8), solver=Iterate())
    assert len(run.times) == 4


def test_record_refuses_at_combined_with_every() -> None:
    with pytest.raises(RecordError, match="no `every`"):
        record = Record(states=["r"], at=[10.0], every=2)
        simulate(leaky_net(3), torch.ones(1, 3), solver=Euler(1.0), until=20.0, record=record)
