"""Edges whose transform is a function or a number, and time constants that match the channels of a population."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcsim
from pcsim import Euler, Iterate, Network, Population, Projection, Record, StorageError, WiringError, models, simulate
from pcsim.connections import Function, Gain
from pcsim.rules import Flow, Leaky, LearnableTau, Rate, Sum, time_constant

WEIGHT = torch.ones(3)
LAYER = nn.Linear(3, 3)


def doubled(value: Tensor) -> Tensor:
    return 2.0 * value


def through_layer(value: Tensor) -> Tensor:
    return LAYER(value)


def net(transform: Any, shape: tuple[int, ...] = (3,)) -> Network:
    return Network({"u": shape}, [Population("a", Sum())], [Projection("u", "a", transform)], steps=1)


def answer(network: Network, images: Tensor) -> Tensor:
    return simulate(network, images, solver=Iterate(), record=Record(states=["a"]))["a"][-1]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (0.5, lambda x: x / 2),
        (-2, lambda x: -2 * x),
        (doubled, lambda x: 2 * x),
        (torch.tanh, torch.tanh),
        (lambda x: x.relu()[:, :2], lambda x: x.clamp(min=0)[:, :2]),
        (functools.partial(torch.mul, other=3.0), lambda x: 3 * x),
        (nn.functional.softplus, lambda x: torch.log1p(x.exp())),
    ],
)
def test_function_or_number_as_transform(transform: Any, expected: Callable[[Tensor], Tensor]) -> None:
    images = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    network = net(transform)
    assert network.shape("a") == tuple(expected(images).shape[1:])
    assert torch.allclose(answer(network, images), expected(images))
    assert torch.equal(answer(copy.deepcopy(network), images), answer(network, images))


def test_gain_equals_module_that_scales() -> None:
    images = torch.rand(2, 1, 8, 8)
    edges = [Projection("u", "a", nn.Identity()), Projection("a", "a", 0.5, "lateral", 1)]
    network = Network({"u": (1, 8, 8)}, [Population("a", Leaky(Sum(), 10.0))], edges)
    run = simulate(network, images, solver=Euler(dt=1.0), until=400.0, record=Record(states=["a"]))
    assert torch.allclose(run["a"][-1], 2.0 * images, atol=1e-5), "the fixed point of r = u + r / 2 is 2 u"
    assert "gain 0.5" in network.describe() and isinstance(network.projections[1].transform, Gain)


def test_function_is_called_at_every_step() -> None:
    calls = []
    network = net(lambda x: x + len(calls))
    calls += [1, 2, 3]
    assert answer(network, torch.zeros(1, 3)).tolist() == [[3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: LAYER(x), "LAYER (a Linear)"),
        (lambda x: x * WEIGHT, "WEIGHT (a Tensor)"),
        (lambda x: through_layer(x), "LAYER (a Linear)"),
        (lambda x, w=WEIGHT: x * w, "default 0 (a Tensor)"),
        (LAYER.forward, "its object (a Linear)"),
        (functools.partial(torch.mul, other=WEIGHT), "(a Tensor)"),
        (functools.partial(through_layer), "LAYER (a Linear)"),
    ],
)
def test_function_with_state_refused(function: Any, named: str) -> None:
    with pytest.raises(WiringError) as caught:
        net(function)
    assert named in str(caught.value) and "pass the module itself" in caught.value.remedy


def test_function_that_is_not_a_transform_refused() -> None:
    for wrong, message in (
        (nn.ReLU, r"the class ReLU"),
        ("relu", "transform='relu'"),
        (True, "transform=True"),
        (None, "transform=None"),
        (math.nan, "gain=nan"),
        (lambda x: x.mean(), r"returns shape \(\)"),
        (lambda x: x.sum(0, keepdim=True), r"returns shape \(1, 3\) for 2 samples"),
        (lambda x: 3.0, "returns a float"),
        (lambda x: x @ torch.ones(4, 4, device=x.device), "which the transform rejects"),
    ):
        with pytest.raises(WiringError, match=message):
            net(wrong)


def test_function_that_writes_in_place_refused() -> None:
    with pytest.raises(WiringError, match="in place"):
        answer(net(lambda x: x.add_(1.0)), torch.zeros(1, 3))


def test_function_pickled_by_name_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = pickle.loads(pickle.dumps(net(torch.tanh)))  # noqa: S301 - written here
    assert torch.equal(answer(loaded, torch.ones(1, 3)), torch.ones(1, 3).tanh())
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(StorageError, match="top level of a module"):
        pickle.dumps(net(lambda x: -x))


def test_lambda_stored_by_cloudpickle() -> None:
    pytest.importorskip("cloudpickle")
    loaded = pickle.loads(pickle.dumps(net(lambda x: -x)))  # noqa: S301 - written here
    assert isinstance(loaded.projections[0].transform, Function)
    assert answer(loaded, torch.ones(1, 3)).tolist() == [[-1.0, -1.0, -1.0]]


def test_saved_network_recognises_its_functions(tmp_path: Path) -> None:
    def scaled(gain: float) -> Callable[[Tensor], Tensor]:
        return lambda x: gain * x

    for number, (own, other) in enumerate(
        (
            (0.5, 0.25),
            (lambda x: x.relu(), lambda x: x.abs()),
            (lambda x: 2 * x, lambda x: 3 * x),
            (scaled(2.0), scaled(3.0)),
            (torch.tanh, torch.sigmoid),
        )
    ):
        path = tmp_path / f"{number}.pcsim"
        net(own).save(path)
        assert pcsim.load(path, into=net(own)).shape("a") == (3,)
        with pytest.raises(StorageError, match="edge 'u->a': transform"):
            pcsim.load(path, into=net(other))


def test_function_with_unassigned_variable_refused() -> None:
    def build() -> Network:
        made = net(lambda x: later * x)
        later = 2.0
        return made

    with pytest.raises(WiringError, match="without a value"):
        build()


# ---------------------------------------------------------------------- time constants


class Own(Flow):
    """tau dr/dt = drive - r, written by a user."""

    def __init__(self, tau: Any) -> None:
        super().__init__()
        self.tau = time_constant(tau)

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        return drive - own


def flow(rule: Flow, **edge: Any) -> Network:
    return Network({"u": (8, 1, 1)}, [Population("a", rule)], [Projection("u", "a"), Projection("a", "a", **edge)])


@pytest.mark.parametrize("tau", [torch.full((7,), 10.0), [5.0] * 7, LearnableTau(7, 5.0, 10.0)])
@pytest.mark.parametrize("rule", [Own, lambda tau: Leaky(Rate(8), tau)])
def test_seven_taus_for_eight_channels_refused_when_built(rule: Callable[[Any], Flow], tau: Any) -> None:
    with pytest.raises(WiringError, match="7 time constants for population 'a', which has 8 channels"):
        flow(rule(tau))


def test_seven_taus_refused_by_model_and_as_ode() -> None:
    seven = torch.full((7,), 10.0)
    with pytest.raises(WiringError, match="7 time constants for population 'l1', which has 8 channels"):
        models.leaky_rcnn((8, 4), tau=(seven, 10.0), image=(1, 8, 8))
    with pytest.raises(WiringError, match="population 'l2', which has 8 channels"):
        models.blt((4, 8), image=(1, 8, 8)).as_ode(tau={"l1": 10.0, "l2": [10.0] * 7})


def test_as_many_taus_as_channels_or_one_accepted() -> None:
    for tau in (10.0, [10.0] * 8, LearnableTau(8, 5.0, 10.0), LearnableTau(1, 5.0, 10.0)):
        run = simulate(flow(Own(tau)), torch.ones(1, 8, 1, 1), solver=Euler(dt=1.0), until=3.0)
        assert bool(torch.isfinite(run.final.state["a"]).all())


def test_tau_with_axes_of_maps_refused() -> None:
    with pytest.raises(WiringError, match=r"shape \(8, 1, 1\)"):
        time_constant(torch.ones(8, 1, 1))
    with pytest.raises(WiringError, match=r"shape \(0,\)"):
        time_constant([])


def test_several_delays_of_an_edge_refused() -> None:
    with pytest.raises(WiringError, match="8 delays"):
        flow(Own(10.0), delay_ms=torch.full((8,), 4.0))


def test_remedy_for_a_flow_without_tau_helps() -> None:
    class Untimed(Flow):
        def __init__(self) -> None:
            super().__init__()
            self.tau = 10.0  # type: ignore[assignment]

    with pytest.raises(WiringError) as caught:
        flow(Untimed())
    assert "self.tau = pcsim.rules.time_constant(tau)" in caught.value.remedy
    assert pcsim.rules.time_constant is time_constant


def test_describe_shows_tau_of_own_flow() -> None:
    assert "Own, tau 12.5 ms" in flow(Own(12.5)).describe()
    assert models.leaky_rcnn((2, 3), image=(1, 8, 8)).describe().count("tau") == 2


# ---------------------------------------------------------------------- as_ode of some areas


def taus(network: Network) -> dict[str, float]:
    return {name: rule.tau() for name, rule in network.rules.items() if isinstance(rule, Flow)}


def test_as_ode_of_some_areas_of_a_flow_keeps_the_others() -> None:
    network = models.leaky_rcnn((2, 3, 4), tau=(10.0, 20.0, 30.0), image=(1, 8, 8))
    assert taus(network.as_ode(tau={"l2": 5.0})) == {"l1": 10.0, "l2": 5.0, "l3": 30.0}
    assert taus(network.as_ode(tau={"l2": 5.0, "default": 7.0})) == {"l1": 7.0, "l2": 5.0, "l3": 7.0}
    assert taus(network) == {"l1": 10.0, "l2": 20.0, "l3": 30.0}


def test_as_ode_of_some_areas_of_a_discrete_network_needs_default() -> None:
    network = models.blt((2, 3), image=(1, 8, 8))
    with pytest.raises(WiringError, match="l1, but not for l2") as caught:
        network.as_ode(tau={"l1": 10.0})
    assert caught.value.remedy == "pass tau={'l1': 10.0, 'default': 20.0}"
    assert taus(network.as_ode(tau={"l1": 10.0, "default": 20.0})) == {"l1": 10.0, "l2": 20.0}


@pytest.mark.parametrize("tau", [{"l9": 1.0}, {"l9": 1.0, "default": 2.0}, {}, (1.0,), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("build", [models.blt, models.leaky_rcnn])
def test_as_ode_refuses_unknown_areas_and_wrong_counts(build: Callable[..., Network], tau: Any) -> None:
    with pytest.raises(WiringError, match="time constants"):
        build((2, 3), image=(1, 8, 8)).as_ode(tau=tau)


def test_population_called_default_is_meant_by_its_name() -> None:
    populations = [Population("default", Leaky(Sum(), 10.0)), Population("b", Leaky(Sum(), 20.0))]
    network = Network({"u": (3,)}, populations, [Projection("u", "default"), Projection("u", "b")])
    assert taus(network.as_ode(tau={"default": 5.0})) == {"default": 5.0, "b": 20.0}


def test_leaky_rcnn_default_tau_doubles_from_area_to_area() -> None:
    assert taus(models.leaky_rcnn()) == {"l1": 10.0, "l2": 20.0, "l3": 40.0}
    assert taus(models.leaky_rcnn((2, 3), image=(1, 8, 8))) == {"l1": 10.0, "l2": 20.0}
    assert taus(models.leaky_rcnn((2,) * 4, image=(1, 8, 8))) == {"l1": 10.0, "l2": 20.0, "l3": 40.0, "l4": 80.0}
