"""Known user mistakes: each raises a message with the given value, the requirement and a remedy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.examples import leaky_net
from torch import nn

import pcsim
from pcsim import (
    RK4,
    Euler,
    ExponentialEuler,
    Heun,
    Iterate,
    Network,
    PcsimError,
    Population,
    Projection,
    Record,
    TorchDiffEq,
    analysis,
    models,
    plots,
    simulate,
    stimuli,
)
from pcsim.connections import StepNorm
from pcsim.models import ReciprocalCell
from pcsim.rules import ErrorRelaxation, Flow, LearnableTau, Rate, Sum, leaky_rate
from pcsim.training import Adjoint, Training, train

IMAGE = torch.rand(2, 1, 32, 32)


def blt() -> Network:
    return models.blt(channels=(2, 2))


def flow() -> Network:
    return leaky_net(4)


def spoiled(value: float) -> torch.Tensor:
    image = IMAGE.clone()
    image[1, 0, 3, 3] = value
    return image


def run_every(every: int) -> pcsim.Run:
    return simulate(blt(), IMAGE, solver=Iterate(), steps=4, record=Record(states=["l1"], every=every))


def only_absolute_errors() -> pcsim.Run:
    net = models.pcn_global((4, 5), (), 3, image=(1, 6, 6))
    return simulate(net, torch.rand(2, 1, 6, 6), solver=Iterate(), record=Record(errors="all"))


class Untimed(Flow):
    """A flow whose author forgot the time constant."""

    def forward(self, own: torch.Tensor, *, drive: torch.Tensor) -> torch.Tensor:
        return drive - own


def two(first: str, second: str) -> Network:
    return Network({"u": (2,)}, [Population(first, Rate(2)), Population(second, Rate(2))], [Projection("u", first)])


def wired(active: tuple[float, float] | None = None, **edge: object) -> Network:
    """Return a flow with a wire s between the input and its population."""
    populations = [Population("s", Sum(), active=active), Population("a", leaky_rate(2, 5.0))]
    return Network({"u": (2,)}, populations, [Projection("u", "s"), Projection("s", "a", **edge)])


def one(rule: object, **edge: object) -> Network:
    return Network({"u": (2,)}, [Population("a", rule)], [Projection("u", "a", **edge)])


CASES: dict[str, tuple[Callable[[], object], str, str]] = {  # mistake -> (attempt, words of message, words of remedy)
    "unknown model": (lambda: models.build("btl"), "model 'btl'", "did you mean"),
    "unknown option": (lambda: models.build("blt", kernel=3), "blt option 'kernel'", "such as 'channels'"),
    "unknown unrolling": (lambda: models.blt(unroll="bio"), "unroll='bio'", "unroll='engineering'"),
    "channel count": (lambda: simulate(blt(), torch.rand(2, 3, 32, 32), solver=Iterate()), "(2, 3, 32, 32)", "resize"),
    "image size": (lambda: simulate(blt(), torch.rand(2, 1, 28, 28), solver=Iterate()), "(batch, 1, 32, 32)", "pad"),
    "missing batch": (lambda: simulate(blt(), IMAGE[0], solver=Iterate()), "(1, 32, 32)", "add the missing axis"),
    "integer input": (lambda: simulate(blt(), (IMAGE * 255).byte(), solver=Iterate()), "torch.uint8", "/ 255"),
    "NaN input": (lambda: simulate(blt(), spoiled(float("nan")), solver=Iterate()), "NaN or infinite", "nan_to_num"),
    "infinite input": (lambda: simulate(blt(), spoiled(float("inf")), solver=Iterate()), "NaN or infinite", "to_num"),
    "tau zero": (lambda: leaky_rate(2, 0.0), "tau = 0.0", "tau > 0"),
    "tau negative": (lambda: models.leaky_rcnn(tau=(10.0, -5.0, 20.0)), "-5.0", "tau > 0"),
    "tau of relaxation": (lambda: ErrorRelaxation(-1.0), "-1.0", "tau > 0"),
    "as_ode tau": (lambda: blt().as_ode(tau=-2.0), "-2.0", "tau > 0"),
    "too few taus": (lambda: blt().as_ode(tau=(1.0,)), "one for each of l1, l2", "a dict by name"),
    "learnable start": (lambda: LearnableTau(2, 1.0, 4.0, start=9.0), "initial value of 9", "the middle of the range"),
    "flow without tau": (
        lambda: one(Untimed()),
        "without a time constant: a",
        "self.tau = pcsim.rules.time_constant(tau)",
    ),
    "channels of a rule": (
        lambda: Network({"u": (3,)}, [Population("a", Rate(2))], [Projection("u", "a")]),
        "'a' with Rate(2) that receives 3 channels",
        "channels=3",
    ),
    "channels of a readout": (lambda: one(Sum(channels=7)), "Sum(7) that receives 2", "channels=2"),
    "NumPy images": (lambda: simulate(blt(), IMAGE.numpy(), solver=Iterate()), "a ndarray", "torch.from_numpy"),
    "solver by name": (lambda: simulate(flow(), torch.rand(1, 4), solver="rk4", until=4.0), "'rk4'", "Euler, Heun"),
    "solver class": (lambda: simulate(flow(), torch.rand(1, 4), solver=RK4, until=4.0), "RK4", "Euler, Heun"),
    "errors of a state": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=Record(errors=["l1"])),
        "errors l1",
        "pass states=['l1']",
    ),
    "record too rarely": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=Record(states=["l1"], every=9)),
        "every=9",
        "or less, or run more steps",
    ),
    "floating-point labels": (
        lambda: train(blt(), IMAGE, torch.tensor([1.0, 2.0]), Training(updates=1)),
        "targets of shape (2,)",
        "labels.long()",
    ),
    "labels from 1": (
        lambda: train(blt(), IMAGE, torch.tensor([1, 10]), Training(updates=1)),
        "labels from 1 to 10",
        "subtract the first label",
    ),
    "too few targets": (lambda: train(blt(), IMAGE, torch.eye(10)[:1], Training(updates=1)), "2 images", "one_hot"),
    "no images": (lambda: stimuli.digit_debris(batch=0), "batch=0", "batch=64"),
    "no errors to plot": (
        lambda: plots.error_convergence(simulate(blt(), IMAGE, solver=Iterate())),
        "without prediction errors",
        "errors='all'",
    ),
    "dt zero": (lambda: Euler(dt=0.0), "dt=0.0", "tenth of the smallest tau"),
    "dt negative": (lambda: RK4(dt=-1.0), "dt=-1.0", "tenth"),
    "dt not a number": (lambda: Heun(dt=float("nan")), "dt=nan", "tenth"),
    "dt does not divide": (
        lambda: simulate(flow(), torch.rand(1, 4), solver=Euler(dt=3.0), until=10.0),
        "until = 10 ms with dt = 3 ms",
        "dt = 2.5 ms",
    ),
    "change between steps": (
        lambda: simulate(
            flow(), stimuli.held(torch.rand(1, 4), 5.0).then(stimuli.held(torch.rand(1, 4), 7.0)), solver=Euler(dt=2.0)
        ),
        "at 5 ms and dt = 2 ms",
        "use dt = 1 ms",
    ),
    "lesion between steps": (
        lambda: simulate(
            flow().without("lateral", during=(1.0, 4.0)), torch.rand(1, 4), solver=Euler(dt=2.0), until=8.0
        ),
        "at 1 ms and dt = 2 ms",
        "use dt = 1 ms",
    ),
    "Euler at the border": (
        lambda: simulate(flow(), torch.rand(1, 4), solver=Euler(dt=20.0), until=40.0),
        "20 ms, 2 times the tau of 'r'",
        "ExponentialEuler",
    ),
    "Heun beyond the border": (
        lambda: simulate(flow(), torch.rand(1, 4), solver=Heun(dt=25.0), until=50.0),
        "less than 2 tau",
        "well below 20 ms",
    ),
    "RK4 beyond the border": (
        lambda: simulate(flow(), torch.rand(1, 4), solver=RK4(dt=28.0), until=56.0),
        "less than 2.785 tau",
        "well below 27.85",
    ),
    "map under RK4": (lambda: simulate(blt(), IMAGE, solver=RK4(dt=1.0), steps=4), "(maps)", "Iterate()"),
    "map under torchdiffeq": (
        lambda: simulate(blt(), IMAGE, solver=TorchDiffEq(dt=1.0, method="rk4"), until=4.0),
        "(maps)",
        "as_ode(tau=...)",
    ),
    "flow under Iterate": (lambda: simulate(flow(), torch.rand(1, 4), solver=Iterate(), steps=4), "(flows)", "Euler"),
    "flow and map": (
        lambda: Network(
            {"u": (2,)},
            [Population("a", Rate(2)), Population("b", leaky_rate(2, 1.0))],
            [Projection("u", "a"), Projection("a", "b")],
        ),
        "flows (b) and maps (a)",
        "Leaky",
    ),
    "no leak under ExponentialEuler": (
        lambda: simulate(
            Network({"u": (2,)}, [Population("a", ErrorRelaxation(5.0))], [Projection("u", "a")]),
            torch.rand(1, 2),
            solver=ExponentialEuler(dt=1.0),
            until=1.0,
        ),
        "ExponentialEuler for a",
        "use Euler",
    ),
    "zero-delay cycle": (
        lambda: Network({"u": (2,)}, [Population("a", Rate(2))], [Projection("u", "a"), Projection("a", "a")]),
        "a -> a",
        "delay=1",
    ),
    "duplicate name": (lambda: two("a", "a"), "'a', which occurs 2 times", "rename"),
    "name of an input": (lambda: two("u", "b"), "'u', which occurs 2 times", "rename"),
    "name with a dot": (lambda: two("a.b", "c"), "'a.b'", "rename"),
    "unknown source": (
        lambda: Network({"u": (2,)}, [Population("a", Sum())], [Projection("v", "a")]),
        "edge v->a",
        "add the missing population",
    ),
    "unknown kind": (lambda: one(Rate(2), kind="feedback"), "kind='feedback'", "kind='bottom_up'"),
    "unknown port": (lambda: one(Rate(2), port="gate"), "port 'gate'", "port='drive'"),
    "negative delay": (lambda: one(Rate(2), delay=-1), "delay=-1", "delay=0"),
    "delay in a flow": (lambda: one(leaky_rate(2, 1.0), delay=2), "delay=2 in a flow", "delay_ms"),
    "delay in ms of steps": (lambda: one(Rate(2), delay_ms=3.0), "delay_ms=3.0", "make the network a flow"),
    "both kinds of delay": (
        lambda: one(leaky_rate(2, 1.0), delay=0, delay_ms=3.0),
        "delay=0",
        "remove delay=0",
    ),
    "no delay in ms": (lambda: one(leaky_rate(2, 1.0), delay_ms=0.0), "0.0", "tau > 0"),
    "learnable delay of an input": (
        lambda: one(leaky_rate(2, 1.0), delay_ms=LearnableTau(1, 1.0, 2.0)),
        "learnable delay",
        "rules.Leaky",
    ),
    "step beyond the delay": (
        lambda: simulate(one(leaky_rate(2, 5.0), delay_ms=1.0), torch.rand(1, 2), solver=RK4(dt=2.0), until=4.0),
        "a conduction delay of 1 ms",
        "dt=1 or less, or use Euler",
    ),
    "delay under torchdiffeq": (
        lambda: simulate(
            one(leaky_rate(2, 5.0), delay_ms=1.0),
            torch.rand(1, 2),
            solver=TorchDiffEq(dt=1.0, method="rk4"),
            until=4.0,
        ),
        "conduction delays",
        "pcsim.RK4(dt=1.0)",
    ),
    "edge never active": (lambda: one(Rate(2), active=(3, 3)), "edge u->a active in (3, 3)", "math.inf"),
    "step lost in a Sequential": (
        lambda: one(Rate(2), transform=nn.Sequential(StepNorm(2, 3))),
        "a Sequential with a part",
        "connections.Chain",
    ),
    "steps of unknown length": (
        lambda: models.shared_resnet(2, 3, image=(1, 4, 4)).as_ode({"h1": 5.0}),
        "several time constants",
        "step_ms=10.0",
    ),
    "unknown cell": (lambda: models.convrnn(cell="gruu"), "cell 'gruu'", "did you mean 'gru'?"),
    "feedback upwards": (lambda: models.convrnn(feedback=[(1, 2)]), "((1, 2),)", "recurrent=(3,)"),
    "cell that nothing drives": (
        lambda: models.convrnn(cell=ReciprocalCell(input_to_cell=False)),
        "without any input",
        "depth=0",
    ),
    "cell of another depth": (lambda: models.convrnn(cell=ReciprocalCell(depth=3)), "3 channels of c", "cell_kernel"),
    "feedback into no cell": (
        lambda: models.convrnn(cell=ReciprocalCell(depth=0, feedback_entry="cell")),
        "feedback_entry='cell'",
        "'out'",
    ),
    "adjacency of another size": (
        lambda: models.multi_state((2, 3), [[1]], image=(1, 8, 8)),
        "adjacency [[1]] for 2 states",
        "entry (i, j)",
    ),
    "state never reached": (
        lambda: models.multi_state((2, 3), [[1, 0], [0, 1]], image=(1, 8, 8)),
        "adjacency [[1, 0], [0, 1]]",
        "each unreached state",
    ),
    "maps without kernels": (
        lambda: models.rcnn_sat_b((2, 3)),
        "2 entries in channels, 7 in kernels",
        "kernels=(7, 5)",
    ),
    "image too small for Gated RCNN": (lambda: models.grcnn(image=(1, 12, 12)), "images of 12x12", "image=(1, 16, 16)"),
    "size out of reach": (
        lambda: models.matched(lambda width: models.blt_b(channels=(width, width)), 10**9, largest=4),
        "1,000,000,000 parameters",
        "largest",
    ),
    "unknown decoder": (lambda: analysis.decode(torch.rand(2, 3, 4), "best"), "'best'", "decoder='last'"),
    "latency of other rows": (
        lambda: pcsim.brain.latencies(*(run_every(2) for _ in range(2))),
        "rows every 20 ms",
        "every=1",
    ),
    "latency of other runs": (
        lambda: pcsim.brain.latencies(run_every(1), run_every(2)),
        "Run(",
        "the same arguments except for the stimulus",
    ),
    "weighted adjacency": (
        lambda: models.multi_state((2, 3), [[1, 0], [0.5, 1]], image=(1, 8, 8)),
        "0.5",
        "to 1 if",
    ),
    "groups that do not divide": (lambda: models.cornet_rt((4, 4, 8, 8), image=(3, 32, 32)), "groups=32", "groups=4"),
    "layers as numbers": (lambda: models.convrnn([8, 8, 16]), "layers", "Layer(8, pooled=True)"),
    "tensor that learns as a delay": (
        lambda: one(leaky_rate(2, 1.0), delay_ms=nn.Parameter(torch.tensor(3.0))),
        "a tensor with a gradient",
        "LearnableTau",
    ),
    "time outside the window": (
        lambda: models.cornet_s((2, 2, 2, 2), image=(1, 32, 32)).time_of("it", 0),
        "step 0 of 'it'",
        "is constant",
    ),
    "record as a list": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=["l1"]),
        "record=['l1']",
        "Record(states",
    ),
    "blind readout": (
        lambda: train(models.convrnn(steps=3), IMAGE, torch.eye(10)[:2], Training(updates=1)),
        "3 steps of 'convrnn', whose readout first depends on the image in step 3",
        "pass steps=4 or more",
    ),
    "lists to train": (
        lambda: train(blt(), IMAGE.tolist(), torch.eye(10)[:2], Training(updates=1)),
        "images=",
        "a Dataset or a DataLoader",
    ),
    "reaction time beyond the run": (
        lambda: analysis.entropy_threshold(torch.rand(8, 3, 4), 50.0),
        "a mean of step 50",
        "run the model for more steps",
    ),
    "first step beyond the run": (lambda: analysis.decode(torch.rand(2, 3, 4), first=2), "first=2", "pass first=0"),
    "nested state dict": (
        lambda: models.published.load(models.cornet_z((2, 2, 2, 2)), {"state_dict": {}}, models.published.cornet),
        "state_dict",
        '["state_dict"]',
    ),
    "relative errors that were not kept": (
        lambda: only_absolute_errors().relative_errors,
        "recorded e0.mean_square, e1.mean_square",
        "relative=True",
    ),
    "unequal batches": (
        lambda: simulate(
            models.predictive_coding(((4,), (3,), (2,)), clamped=("r0", "r2")),
            {"r0": torch.rand(3, 4), "r2": torch.rand(2, 2)},
            solver=Euler(dt=1.0),
            until=2.0,
        ),
        "3 samples for input 'r0', 2 samples for input 'r2'",
        "repeat the smaller input",
    ),
    "empty window": (
        lambda: Network({"u": (2,)}, [Population("a", leaky_rate(2, 1.0), active=(3, 3))], [Projection("u", "a")]),
        "'a' active in (3, 3)",
        "math.inf",
    ),
    "copy of nothing": (
        lambda: Network(
            {"u": (2,)}, [Population("a", Rate(2), active=(1, 3), starts_from="b")], [Projection("u", "a")]
        ),
        "'a' that starts from 'b'",
        "the same variables and shapes",
    ),
    "copy at the very start": (
        lambda: Network(
            {"u": (2,)},
            [Population("b", Rate(2)), Population("a", Rate(2), active=(0, 3), starts_from="b")],
            [Projection("u", "a"), Projection("u", "b")],
        ),
        "active in (0, 3)",
        "active=(from, to)",
    ),
    "copy without a window": (
        lambda: Network(
            {"u": (2,)},
            [Population("b", Rate(2)), Population("a", Rate(2), starts_from="b")],
            [Projection("u", "a"), Projection("u", "b")],
        ),
        "active in None",
        "active=(from, to)",
    ),
    "copy of another shape": (
        lambda: Network(
            {"u": (2,)},
            [Population("b", Rate(3)), Population("a", Rate(2), active=(1, 3), starts_from="b")],
            [Projection("u", "a"), Projection("u", "b", nn.Linear(2, 3))],
        ),
        "starts from 'b'",
        "the same variables and shapes",
    ),
    "window between steps": (
        lambda: Network({"u": (2,)}, [Population("a", Rate(2), active=(0.5, 2))], [Projection("u", "a")]),
        "'a' with the window (0.5, 2",
        "in steps, such as (5, 10)",
    ),
    "window of a wire in a flow": (lambda: wired(active=(1.0, 3.0)), "'s', a wire in a flow", "rules.Leaky"),
    "delay in ms of a wire": (lambda: wired(delay_ms=3.0), "s->a with a delay in ms", "rules.Leaky"),
    "delay of a wire in a flow": (lambda: wired(delay=1), "s->a with delay=1 in a flow", "delay_ms"),
    "unknown readout": (
        lambda: Network({"u": (2,)}, [Population("a", Sum())], [Projection("u", "a")], readout="y"),
        "readout='y'",
        "readout=None",
    ),
    "same edge twice": (
        lambda: Network({"u": (2,)}, [Population("a", Sum())], [Projection("u", "a"), Projection("u", "a")]),
        "two projections",
        "name=",
    ),
    "unknown lesion": (lambda: blt().without("feedback"), "lesion of 'feedback'", "feedback is 'top_down'"),
    "lesion backwards": (lambda: blt().without("lateral", during=(5.0, 1.0)), "(5.0, 1.0)", "swap"),
    "unknown record": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=Record(states=["v9"])),
        "'v9'",
        "another of these names",
    ),
    "unknown reduction": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=Record(reduce={"l1": "median"})),
        "'median'",
        "pass reduce={'l1': 'mean_square'}",
    ),
    "record never": (
        lambda: simulate(blt(), IMAGE, solver=Iterate(), record=Record(states=["l1"], every=0)),
        "every=0",
        "every=1",
    ),
    "key not recorded": (lambda: simulate(blt(), IMAGE, solver=Iterate())["l1"], "run['l1']", "Record(states"),
    "no end": (lambda: simulate(flow(), torch.rand(1, 4), solver=Euler(dt=1.0)), "no end", "until"),
    "unknown method": (lambda: TorchDiffEq(dt=1.0, method="rk5"), "'rk5'", "method='dopri5'"),
    "adaptive without tolerances": (lambda: TorchDiffEq(dt=1.0, method="dopri5"), "rtol=None", "rtol=1e-5"),
    "misspelt torchdiffeq option": (
        lambda: simulate(
            flow(),
            torch.rand(1, 4),
            solver=TorchDiffEq(dt=1.0, method="dopri5", rtol=1e-3, atol=1e-3, options={"max_stepps": 3}),
            until=1.0,
        ),
        "max_stepps",
        "",
    ),
    "adjoint over several tau": (
        lambda: simulate(
            flow(),
            torch.rand(1, 4),
            solver=TorchDiffEq(dt=20.0, method="dopri5", rtol=1e-3, atol=1e-3),
            until=20.0,
            gradient=Adjoint(),
        ),
        "adjoint with dt = 20 ms",
        "dt=10 or less",
    ),
    "step cap": (
        lambda: simulate(
            flow(),
            torch.rand(1, 4),
            solver=TorchDiffEq(dt=10.0, method="dopri5", rtol=1e-9, atol=1e-12, max_evaluations=20),
            until=10.0,
        ),
        "20 evaluations were not enough",
        "increase rtol",
    ),
    "damaged run": (lambda: pcsim.Run.load(Path(__file__)), "not a pcsim file", "pass another path"),
    "missing run": (lambda: pcsim.Run.load("nowhere.run"), "does not exist", "check the path"),
    "missing MNIST": (lambda: stimuli.load_mnist("train", Path("nowhere")), "nowhere", "four idx files"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistake_raises_message_with_value_and_remedy(case: str) -> None:
    attempt, said, remedy = CASES[case]
    with pytest.raises(PcsimError) as caught:
        attempt()
    text = str(caught.value)
    assert text.startswith("given: ") and "\nexpected: " in text and "\nremedy: " in text
    assert said in text and remedy in caught.value.remedy


def test_exception_keeps_message_when_copied() -> None:
    original = pcsim.SolverError(given="a", expected="b", remedy="c")
    arrived = copy.copy(original)  # copy uses the same protocol as pickle
    assert type(arrived) is pcsim.SolverError
    assert str(arrived) == str(original) and arrived.remedy == "c"


def test_messages_survive_optimised_python() -> None:
    """User input must not be checked by `assert`, which `python -O` removes."""
    import subprocess
    import sys

    here = Path(__file__).parent
    code = f"""
import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]
import test_bad_input as t
for name, case in t.CASES.items():
    try: case[0]()
    except t.PcsimError: continue
    sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
