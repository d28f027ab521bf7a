"""Settings batched in one run match separate runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import pcsim
from pcsim import RK4, Euler, ExponentialEuler, Heun, Network, Record, WiringError, batched, models, stimuli
from pcsim.solvers import Solver

TAUS = [float(tau) for tau in torch.logspace(0.5, 2.0, 64)]
NETS: dict[str, tuple[Callable[[], Network], tuple[int, ...]]] = {
    "leaky_rcnn": (lambda: models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8)), (1, 8, 8)),
    "blt": (lambda: models.blt(channels=(3, 3), image=(1, 8, 8)).as_ode(tau=10.0), (1, 8, 8)),
    "predictive_coding": (lambda: models.predictive_coding(((1, 4, 4), (6,), (3,))), (1, 4, 4)),
}
SOLVERS: dict[str, Solver] = {
    "euler": Euler(dt=1.0),
    "heun": Heun(dt=1.0),
    "rk4": RK4(dt=1.0),
    "exponential": ExponentialEuler(dt=1.0),
}


def taus_of(net: Network, taus: list[float]) -> dict[str, list[float]]:
    """Return time constants for every population with memory, in reverse order for the second one."""
    names = [name for name in net.populations if name in net.memories]
    return {name: taus if number != 1 else taus[::-1] for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("name", "solver"),
    [(name, solver) for name in NETS for solver in SOLVERS if name == "leaky_rcnn" or solver in ("euler", "rk4")],
)
def test_batched_taus_equal_separate_runs(name: str, solver: str) -> None:
    torch.manual_seed(0)
    make, shape = NETS[name]
    count = 64 if solver == "euler" and name == "leaky_rcnn" else 6
    for dtype, held in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        net, images = make().to(dtype), torch.rand(2, *shape, dtype=dtype)
        taus = taus_of(net, TAUS[:: 64 // count])
        many = batched(net, taus, batch=2)
        record = Record(states=list(taus), every=5)

        def run(network: Network, shown: object, record: Record = record) -> pcsim.Run:
            return pcsim.simulate(network, shown, solver=SOLVERS[solver], until=20.0, record=record)

        whole = run(many.network, many.tile(images))
        for point in range(many.points):
            alone = run(net.as_ode({key: values[point] for key, values in taus.items()}), images)
            for key in taus:
                side = many.split(whole[key])[point]
                assert float((side - alone[key]).abs().max()) <= held * max(1.0, float(alone[key].abs().max()))


def test_batched_gains_scale_edge() -> None:
    torch.manual_seed(0)
    net, image = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8)).double(), torch.rand(1, 1, 8, 8).double()
    (edge,) = (e.name for e in net.projections if e.kind == "top_down")
    many = batched(net, gains={edge: [1.0, 0.0, 0.5]})
    record = Record(states=["l1"])

    def run(network: Network, shown: Tensor) -> Tensor:
        done = pcsim.simulate(network, shown, solver=Euler(dt=1.0), until=30.0, record=record)
        return done[record.states[0]]

    sides = many.split(run(many.network, many.tile(image)))
    assert torch.allclose(sides[0], run(net, image), atol=1e-12)
    assert torch.allclose(sides[1], run(net.without("top_down"), image), atol=1e-12)
    assert not torch.allclose(sides[2], sides[0]) and not torch.allclose(sides[2], sides[1])


def test_batched_taus_per_channel_with_shared_timeline() -> None:
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8))
    per_channel = torch.tensor([[5.0, 10.0], [20.0, 40.0]])
    names = [name for name in net.populations if name in net.memories]
    many = batched(net, {names[0]: per_channel, names[1]: [10.0, 10.0]}, batch=2)
    film = stimuli.sequence(torch.rand(3, 2, 1, 8, 8), every=4.0)
    record = Record(states=names)
    whole = pcsim.simulate(many.network, many.tile(film), solver=Euler(dt=1.0), until=12.0, record=record)
    for point in range(2):
        alone = net.as_ode({names[0]: per_channel[point], names[1]: 10.0})
        run = pcsim.simulate(alone, film, solver=Euler(dt=1.0), until=12.0, record=record)
        assert all(torch.allclose(many.split(whole[name])[point], run[name], atol=1e-5) for name in names)


@pytest.mark.parametrize(
    ("taus", "gains", "message"),
    [
        ({"l1": [5.0, 10.0], "l2": [1.0]}, None, "the same number"),
        (None, None, "at least one"),
        ({"nobody": [5.0]}, None, "nobody"),
        ({"l1": [5.0, -1.0], "l2": [1.0, 1.0]}, None, "positive"),
        (None, {"nowhere": [1.0]}, "edges of"),
    ],
)
def test_batched_refuses_invalid_settings(taus: object, gains: object, message: str) -> None:
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8))
    with pytest.raises((WiringError, ValueError), match=message):
        batched(net, taus, gains)
    with pytest.raises(WiringError, match="batch=3"):
        batched(net, {"l1": [5.0], "l2": [5.0]}, batch=2).tile(torch.rand(3, 1, 8, 8))
