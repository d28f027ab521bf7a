"""Inputs of `initial_state` are checked and converted like those of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pcsim import Iterate, Network, Record, StimulusError, initial_state, models, simulate, stimuli

IMAGE = torch.rand(2, 2, 8, 8)


def started() -> Network:
    return models.pcn_global((4, 5), (2,), 2, image=(2, 8, 8), classes=3)


def two_inputs() -> Network:
    return models.predictive_coding(((4,), (8,), (6,)), clamped=("r2",), start="predictions").clamped("r0")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_initial_state_has_type_of_network(kind: torch.dtype) -> None:
    net = started().to(kind).eval()
    state = initial_state(net, IMAGE)
    assert {value.dtype for value in state.values()} == {kind}
    from_timeline = initial_state(net, stimuli.held(IMAGE))
    assert all(torch.equal(value, from_timeline[key]) for key, value in state.items())


def test_initial_state_is_where_a_run_starts() -> None:
    net = started().eval()
    run = simulate(net, IMAGE, solver=Iterate(), steps=1, record=Record(states=["r1"]))
    again = simulate(
        net, IMAGE, solver=Iterate(), steps=1, record=Record(states=["r1"]), initial=initial_state(net, IMAGE)
    )
    assert torch.equal(run["r1"], again["r1"])


@pytest.mark.parametrize(
    ("net", "inputs", "message"),
    [
        (started, {"photo": IMAGE}, "photo"),
        (started, torch.rand(2, 3, 8, 8), r"\(2, 3, 8, 8\)"),
        (started, torch.rand(2, 8, 8), r"\(2, 8, 8\)"),
        (started, (255 * IMAGE).to(torch.uint8), "uint8"),
        (started, torch.full((2, 2, 8, 8), torch.nan), "NaN"),
        (two_inputs, {"r0": torch.rand(2, 4), "r2": torch.rand(3, 6)}, "2 samples for input 'r0', 3 samples"),
        (two_inputs, {"r0": torch.rand(2, 4)}, "one stimulus|stimuli for r0"),
        (two_inputs, torch.rand(2, 4), "unnamed"),
    ],
)
def test_initial_state_refuses_inputs_that_a_run_refuses(net: Any, inputs: Any, message: str) -> None:
    with pytest.raises(StimulusError, match=message):
        initial_state(net(), inputs)
