"""Valid arguments for every public callable: name -> a function that returns (callable, {argument: value}).

Positional arguments that have no name are under "*".
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from support.examples import leaky_net, linear_pc, two_layers
from support.small import SMALL
from support.swept import Setting, measure
from torch import nn
from torch.utils.data import TensorDataset

import pcsim
from pcsim import (
    Euler,
    Iterate,
    Network,
    Population,
    Projection,
    Record,
    analysis,
    brain,
    connections,
    dynamics,
    models,
    plots,
    rules,
    solvers,
    stimuli,
    sweeps,
    training,
)
from pcsim.dynamics.stability import Dynamics
from pcsim.models import weights

Call = tuple[Callable[..., Any], dict[str, Any]]
FOLDER = Path(tempfile.mkdtemp(prefix="pcsim-fuzz-"))
DIGITS = models.blt(channels=(2, 2), image=(1, 8, 8), classes=3).eval()
RNG = np.random.default_rng(0)


def pictures() -> Path:
    """Return a folder with two pictures."""
    folder = FOLDER / "pictures"
    folder.mkdir(exist_ok=True)
    for name, level in (("a1.png", 50), ("a2.png", 200)):
        Image.new("L", (6, 5), level).save(folder / name)
    return folder


def image(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(numbers(*shape)).float()


def classes(count: int, of: int = 3) -> torch.Tensor:
    return torch.eye(of)[torch.arange(count) % of]


def clip(count: int = 2, length: int = 6, side: int = 16) -> torch.Tensor:
    return tensor(count, length, 1, side, side)


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 4, 3, padding=1)


def backbone() -> nn.Module:
    return nn.Sequential(conv(), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()


@lru_cache
def run() -> pcsim.Run:
    return pcsim.simulate(DIGITS, image(), solver=Iterate(), steps=4, record=Record(states="all"))


@lru_cache
def error_run() -> pcsim.Run:
    return pcsim.simulate(net_pc(), {"x": tensor(2, 4)}, solver=Euler(1.0), until=5.0, record=Record(errors="all"))


@lru_cache
def net_pc() -> Network:
    torch.manual_seed(0)
    return linear_pc(nn.Linear(3, 4, bias=False))


@lru_cache
def flow() -> Network:
    torch.manual_seed(0)
    return leaky_net(4)


@lru_cache
def network() -> Network:
    torch.manual_seed(0)
    return two_layers(4)


@lru_cache
def prednet() -> Network:
    return models.prednet((1, 2), image=(1, 16, 16))


@lru_cache
def point_dynamics() -> Any:
    return dynamics.stability.Dynamics(flow(), tensor(1, 4))


def film() -> stimuli.Film:
    return stimuli.Film(tuple(numbers(6, 1, 16, 16).astype(np.float32) for _ in range(3)), 10.0)


def timeline() -> stimuli.Timeline:
    return stimuli.held(image(), 10.0)


@lru_cache
def recorded() -> Any:
    return brain.recordings.labelled(
        numbers(12, 4, 2),
        presentation_stimulus_id=np.array([f"i{i % 6}" for i in range(12)]),
        presentation_object=np.array([f"o{i % 3}" for i in range(12)]),
        neuroid_region=np.array(["IT"] * 4),
        time_bin_start=np.array([70, 80]),
    )


def prepared(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float32)


def subject() -> Any:
    return brain.subject.Subject(DIGITS, {"IT": "l2"}, solver=Iterate(), prepare=prepared)


def recording_subject() -> Any:
    made = subject()
    made.start_recording("IT", [(0, 20), (20, 40)])
    return made


def sweep() -> sweeps.Sweep:
    return sweeps.Sweep(measure, Setting(), [{"seed": 0}, {"seed": 1}], FOLDER / "sweep")


def swept() -> sweeps.Table:
    return sweeps.Table([{"seed": 0, "tau": 1.0}, {"seed": 1, "tau": 1.0}], [{"r": 1.0}, {"r": 2.0}])


def no_bar(values: Any = (), **_: Any) -> Any:
    return _Bar()


class _Bar:
    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def images_for_training() -> dict[str, Any]:
    return {
        "network": models.blt(channels=(2, 2), image=(1, 8, 8), classes=3),
        "images": image(4),
        "targets": classes(4),
        "settings": training.Training(updates=1, batch=2),
    }


def saved_run() -> Path:
    path = FOLDER / "saved.run"
    if not path.exists():
        run().save(path)
    return path


def saved_network() -> Path:
    path = FOLDER / "net.pcsim"
    if not path.exists():
        DIGITS.save(path)
    return path


def moving_mnist() -> Path:
    path = FOLDER / "mnist_test_seq.npy"
    if not path.exists():
        np.save(path, np.zeros((20, 3, 64, 64), np.uint8))
    return path


def shown_film() -> np.ndarray:
    return numbers(6, 16, 16)


def score(config: Any, number: int, stage: int) -> float:
    return float(config["x"])


def propose(trial: Any) -> dict[str, float]:
    return {"x": trial.suggest_float("x", 0.0, 1.0)}


def square(value: float) -> float:
    return value * value


def build_of_width(width: int) -> Network:
    return models.blt(channels=(width, width), image=(1, 8, 8))


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2.0 * x


def bins() -> list[tuple[int, int]]:
    return [(0, 20), (20, 40)]


def logits() -> torch.Tensor:
    return tensor(5, 4, 3)


def correct() -> torch.Tensor:
    return torch.tensor([[True, False, True, True], [False, False, True, True]])


def decay() -> np.ndarray:
    return 1.0 + np.exp(-np.arange(20.0) / 5.0)[:, None] * np.array([1.0, -0.5])


def error_message() -> dict[str, Any]:
    return {"given": "a", "expected": "b", "remedy": "c"}


def site() -> dict[str, Any]:
    return {
        "layer": 2,
        "channels": 4,
        "size": (8, 8),
        "source": "h1",
        "source_channels": 3,
        "entry": list,
        "stride": 1,
        "delay": 0,
    }


def rule_ports() -> dict[str, Any]:
    return {"*": (tensor(2, 3, 4, 4),)}


def times() -> np.ndarray:
    return np.arange(20.0)


SOLVED = {"solver": Euler(1.0)}


MADE_BY_PCSIM = {
    *(f"{name}Error" for name in ("Pcsim", "Record", "Solver", "Stimulus", "Storage", "Sweep", "Training", "Wiring")),
    *(
        "solvers.FlowSolver",
        "models.published.Source",
        "PcsimWarning",
        "Status",
        "Clock",
        "Snapshot",
        "Run",
        "Forecast",
        "Batched",
        "analysis.convergence.Ending",
    ),
    *("analysis.Comparison", "analysis.Estimate", "analysis.convergence.Fit", "analysis.convergence.Convergence"),
    *(
        "analysis.decoding.Decoded",
        "analysis.decoding.DecodedAcross",
        "analysis.frames.Scored",
        "brain.regression.Normalised",
        "brain.regression.BestLayer",
        "brain.similarity.Similarity",
    ),
    *("training.Validation", "training.Progress", "training.History", "training.local.Activity"),
    *("dynamics.Orders", "dynamics.stability.FixedPoint", "sweeps.Trial", "sweeps.executors.Outcome"),
    *("stimuli.Condition", "stimuli.Contours", "stimuli.Cued", "stimuli.Scenes", "stimuli.Moving", "stimuli.Trials"),
}
"""results, exceptions and enumerations, which are not built by hand, and conditions, which are checked by `scenes`"""


def entries() -> dict[str, Callable[[], Call]]:
    """Return the whole table, by dotted name below pcsim."""
    return {
        name: (lambda call=call, arguments=arguments: (call, arguments()))
        for part in (_core(), _simulation(), _models(), _rules(), _stimuli(), _training(), _analysis(), _rest())
        for name, (call, arguments) in part.items()
    }


Part = dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]]


def _core() -> Part:
    errors = ("Pcsim", "Record", "Solver", "Stimulus", "Storage", "Sweep", "Training", "Wiring")
    return {
        **{f"{name}Error": (getattr(pcsim, f"{name}Error"), error_message) for name in errors},
        "PcsimWarning": (pcsim.PcsimWarning, lambda: {"*": ("text",)}),
        "Clock": (pcsim.Clock, lambda: {"dt": 1.0, "step": 3}),
        "Clock.tick": (pcsim.Clock(1.0).tick, lambda: {"steps": 2}),
        "Status": (pcsim.Status, lambda: {"*": (next(iter(pcsim.Status)).value,)}),
        **{
            name: (getattr(solvers, name), lambda: {"dt": 1.0}) for name in ("Euler", "Heun", "RK4", "ExponentialEuler")
        },
        "Iterate": (Iterate, dict),
        "Dopri5": (pcsim.Dopri5, lambda: {"dt": 1.0, "rtol": 1e-4, "atol": 1e-6, "max_evaluations": 1000}),
        "TorchDiffEq": (
            pcsim.TorchDiffEq,
            lambda: {"dt": 1.0, "method": "dopri5", "rtol": 1e-4, "atol": 1e-6, "options": {}, "max_evaluations": 1000},
        ),
        **{name: (getattr(connections, name.split(".")[1]), arguments) for name, arguments in _connections().items()},
    }


def _connections() -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        "connections.channels_last": lambda: {"module": conv()},
        "connections.draw": lambda: {"weight": torch.zeros(3, 4), "initialise": nn.init.kaiming_uniform_},
        "connections.conv": lambda: {"channels": 3, "out": 4, "kernel": 3, "stride": 1, "bias": True},
        "connections.same_conv": lambda: {
            "channels": 3,
            "out": 4,
            "kernel": 3,
            "stride": 1,
            "bias": False,
            "separable": True,
        },
        "connections.up_conv": lambda: {"channels": 3, "out": 4, "kernel": 3, "stride": 2, "bias": True},
        "connections.pool": lambda: {"size": 2},
        "connections.Gain": lambda: {"gain": 0.5},
        "connections.Opening": lambda: {"gate": 1},
        "connections.Window": lambda: {"top": 1, "left": 0, "height": 2, "width": 3},
        "connections.Function": lambda: {"function": torch.tanh},
        "connections.GlobalMaxPool": dict,
        "connections.GlobalMeanPool": dict,
        "connections.HalfSquare": lambda: {"factor": 1.0},
        "connections.Activation": lambda: {"name": "relu", "gain": 1.0},
        "connections.Standardise": lambda: {"mean": 0.0, "sd": 1.0},
        "connections.ScaledLinear": lambda: {"weight": tensor(3, 4), "divisor": 3},
        "connections.LocalResponseNorm": lambda: {"channels": 4, "n": 5, "alpha": 1e-4, "beta": 0.5, "c": 1.0},
        "connections.Phased": dict,
        "connections.Chain": lambda: {"*": (conv(), nn.ReLU())},
        "connections.PerStep": lambda: {"transforms": [conv(), conv()]},
        "connections.StepNorm": lambda: {"channels": 3, "steps": 2, "momentum": 0.1, "eps": 1e-5, "scale": 1.0},
        "connections.Strided": lambda: {"convolution": conv(), "stride": 2},
        "connections.Resize": lambda: {"size": (4, 4), "corners": True},
        "connections.Tied": lambda: {"forward_map": conv()},
        "connections.Adjoint": lambda: {"forward_map": conv(), "shape": (3, 6, 6), "scale": 1.0},
        "connections.Signed": lambda: {"layer": conv(), "sign": -1, "form": "absolute"},
        "connections.Symmetric": lambda: {"layer": nn.Conv2d(3, 3, 3, padding=1, bias=False)},
        "connections.signed": lambda: {"module": nn.Sequential(nn.ReLU(), conv()), "sign": -1, "form": "softplus"},
        "connections.summary": lambda: {"transform": conv()},
    }


def _simulation() -> Part:
    net, rate = network(), flow()
    shown = lambda: tensor(2, 4)  # noqa: E731
    continued = pcsim.simulate(rate, shown(), solver=Euler(1.0), steps=2)
    return {
        "Network": (
            Network,
            lambda: {
                "inputs": {"u": (2,)},
                "populations": [Population("a", rules.Rate(2)), Population("b", rules.Sum())],
                "projections": [Projection("u", "a"), Projection("a", "b")],
                "readout": "b",
                "steps": 3,
                "step_ms": 10.0,
                "timing": {"a": (10.0, 10.0)},
                "name": "small",
                "initialiser": None,
            },
        ),
        "Population": (
            Population,
            lambda: {"name": "a", "rule": rules.Rate(2), "shape": (2,), "active": (0, 5), "starts_from": None},
        ),
        "Projection": (
            Projection,
            lambda: {
                "source": "u",
                "target": "a",
                "transform": nn.Identity(),
                "kind": "bottom_up",
                "delay": 1,
                "port": "drive",
                "before": "zeros",
                "active": (0, 5),
                "delay_ms": None,
                "lesioned": ((0, 2),),
                "compute_dtype": torch.bfloat16,
                "name": "x",
            },
        ),
        "Network.__call__": (net, lambda: {"inputs": shown()}),
        "Network.as_ode": (net.as_ode, lambda: {"tau": 10.0, "step_ms": 5.0}),
        "Network.as_ode by name": (net.as_ode, lambda: {"tau": {"a": 10.0, "b": tensor(4) + 1}, "step_ms": 5.0}),
        "Network.as_ode in order": (net.as_ode, lambda: {"tau": (10.0, 5.0), "step_ms": 5.0}),
        "Network.clamped": (net.clamped, lambda: {"*": ("a",)}),
        "Network.extended": (
            net.extended,
            lambda: {
                "populations": [pcsim.Population("new", rules.Sum())],
                "projections": [pcsim.Projection("a", "new")],
                "inputs": {"v": (3,)},
                "readout": "new",
            },
        ),
        "Network.without": (net.without, lambda: {"*": ("a->b",), "during": (1, 3)}),
        "Network.autocast": (net.autocast, lambda: {"dtype": torch.bfloat16}),
        "Network.describe": (net.describe, dict),
        "Network.shape": (net.shape, lambda: {"name": "a"}),
        "Network.time_of": (net.time_of, lambda: {"name": "a", "step": 1}),
        "batched": (
            pcsim.batched,
            lambda: {"network": rate, "taus": {"r": [5.0, 10.0]}, "gains": {"r->r": [1.0, 0.5]}, "batch": 2},
        ),
        "Batched": (pcsim.Batched, lambda: {"network": rate, "points": 2, "batch": 3}),
        "Batched.tile": (pcsim.Batched(rate, 2, 3).tile, lambda: {"stimulus": tensor(3, 4)}),
        "Batched.split": (pcsim.Batched(rate, 2, 3).split, lambda: {"values": tensor(5, 6, 4)}),
        "simulate": (
            pcsim.simulate,
            lambda: {
                "network": DIGITS,
                "stimulus": image(),
                "solver": Iterate(),
                "until": None,
                "steps": 4,
                "record": Record(states=["l1"], every=2),
                "initial": None,
                "start": None,
                "gradient": None,
                "compile": False,
                "progress": False,
            },
        ),
        "simulate a flow": (
            pcsim.simulate,
            lambda: {
                "network": rate,
                "stimulus": shown(),
                "solver": Euler(1.0),
                "until": 5.0,
                "record": Record(states="all", at=[1.0, 3.0]),
                "initial": {"r": tensor(2, 4)},
            },
        ),
        "simulate on": (
            pcsim.simulate,
            lambda: {
                "network": rate,
                "stimulus": shown(),
                "solver": Euler(1.0),
                "until": 5.0,
                "start": continued.final,
            },
        ),
        "simulate until settled": (
            pcsim.simulate,
            lambda: {"network": rate, "stimulus": timeline_of(shown()), **SOLVED, "until": pcsim.Settled(1e-2, 30.0)},
        ),
        "Simulator": (
            pcsim.Simulator,
            lambda: (
                {"network": rate, "solver": Euler(1.0), "record": Record(states=["r"]), "gradient": None}
                | {"compile": False}
            ),
        ),
        "Simulator.__call__": (pcsim.Simulator(rate, solver=Euler(1.0)), lambda: {"stimulus": shown(), "until": 5.0}),
        "rollout": (
            lambda **given: list(pcsim.rollout(**given)),
            lambda: (
                {"network": rate, "stimulus": shown(), "solver": Euler(1.0), "steps": 3, "names": ["r"]}
                | {"initial": None, "start": None}
            ),
        ),
        "initial_state": (pcsim.initial_state, lambda: {"network": rate, "inputs": shown()}),
        "predict": (
            pcsim.predict,
            lambda: (
                {"network": prednet(), "frames": clip(), "closed_loop_from": 3, "length": 7, "solver": Iterate()}
                | {"every": 10.0, "record": None, "compile": False, "progress": False}
            ),
        ),
        "Forecast": (pcsim.Forecast, lambda: {"predictions": clip(), "closed_loop_from": 3, "run": run()}),
        "Full": (pcsim.Full, dict),
        "Record": (
            Record,
            lambda: (
                {"states": ["l1"], "errors": "all", "relative": True, "reduce": {"l1": ["mean", "norm"]}}
                | {"every": 2, "at": None, "initial": True}
            ),
        ),
        "Record at": (Record, lambda: {"states": "all", "at": [1.0, 2.0]}),
        "Settled": (pcsim.Settled, lambda: {"tolerance": 1e-3, "at_most": 100.0, "every": 10}),
        "Snapshot": (pcsim.Snapshot, lambda: {"clock": pcsim.Clock(1.0, 2), "state": {"r": shown()}, "spoken": ("r",)}),
        "Run": (pcsim.Run, lambda: {each.name: getattr(run(), each.name) for each in dataclasses.fields(pcsim.Run)}),
        "Run.__getitem__": (run().__getitem__, lambda: {"key": "l1"}),
        "Network.save": (DIGITS.save, lambda: {"path": FOLDER / "kept.pcsim", "overwrite": True}),
        "load": (
            pcsim.load,
            lambda: {"path": saved_network(), "into": models.blt(channels=(2, 2), image=(1, 8, 8), classes=3)},
        ),
        "Run.save": (run().save, lambda: {"path": FOLDER / "kept.run", "overwrite": True}),
        "Run.load": (pcsim.Run.load, lambda: {"path": saved_run()}),
        "Run.to_xarray": (run().to_xarray, dict),
    }


def timeline_of(images: torch.Tensor) -> stimuli.Timeline:
    return stimuli.held(images)


def _models() -> Part:
    built: Part = {}
    for name, options in SMALL.items():
        model, _, variant = name.partition("/")
        built[f"models.{model}" + (f" {variant}" if variant else "")] = (
            getattr(models, model),
            lambda options=options: dict(options),
        )
    patterns = lambda: torch.where(tensor(3, 8) > 0.5, 1.0, -1.0)  # noqa: E731
    stages = lambda: [nn.Sequential(nn.Conv2d(1, 3, 3, 1, 1), nn.ReLU()), nn.Conv2d(3, 4, 3, 2, 1)]  # noqa: E731
    return built | {
        "models.Architecture": (models.Architecture, lambda: {"channels": (3, 4), "pooled": (1,), "stem": 3}),
        "models.Gate": (models.Gate, lambda: {"offset": 1.0, "factor": -1.0, "nonlinearity": "tanh"}),
        "models.Layer": (models.Layer, lambda: {"channels": 3, "pooled": True, "kernel": 3, "stride": 1}),
        "models.ReciprocalCell": (
            models.ReciprocalCell,
            lambda: {
                each.name: getattr(models.MEDIAN, each.name) for each in dataclasses.fields(models.ReciprocalCell)
            },
        ),
        "models.Site": (models.Site, site),
        "models.Site.conv": (models.Site(**site()).conv, lambda: {"channels": 3, "out": 4, "kernel": 3}),
        "models.Site.residual": (
            models.Site(**site()).residual,
            lambda: {"target": "h2", "port": "drive", "out": 4, "kernel": 3, "separable": True},
        ),
        "models.available": (models.available, dict),
        "models.build": (
            models.build,
            lambda: {"name": "blt", "channels": (2, 2), "image": (1, 8, 8), "weights": None},
        ),
        "models.ring_weights": (
            models.ring_weights,
            lambda: {"units": 8, "inhibition": 8.0, "excitation": 8.0, "shift": 5.0},
        ),
        "models.hebbian": (models.hebbian, lambda: {"patterns": patterns(), "centred": True}),
        "models.hopfield of patterns": (
            models.hopfield,
            lambda: {"patterns": patterns(), "mode": "synchronous", "threshold": 0.0, "centred": False},
        ),
        "models.hopfield of weights": (models.hopfield, lambda: {"weights": models.hebbian(patterns())}),
        "models.hopfield_continuous of patterns": (
            models.hopfield_continuous,
            lambda: {"patterns": patterns(), "tau": 10.0, "gain": 4.0, "drive": True},
        ),
        "models.hopfield_modern of patterns": (models.hopfield_modern, lambda: {"patterns": patterns(), "beta": 1.0}),
        "models.interneuron_area": (
            models.interneuron_area,
            lambda: (
                {"name": "v1", "channels": (4, 1, 1, 1), "tau": (20.0, 10.0, 15.0, 15.0), "kernel": 1}
                | {"weights": {("e", "pv"): 1.0, ("pv", "e"): 0.5}}
            ),
        ),
        "models.laminar_hierarchy": (
            models.laminar_hierarchy,
            lambda: (
                {"inputs": ["u"], "areas": {"v1": (4,)}, "links": [("u", "v1", nn.Linear(6, 4), nn.Linear(4, 6))]}
                | {"tau": {"v1": 10.0}, "tau_l4": 5.0, "tau_l23": None, "activation": "tanh", "precision": 2.0}
            ),
        ),
        "models.synapses": (
            models.synapses,
            lambda: (
                {"source": "v1", "name": "y", "utilisation": 0.5, "tau_depletion": 800.0}
                | {"tau_facilitation": 500.0, "peak_hz": 100.0}
            ),
        ),
        "models.with_decision": (
            models.with_decision,
            lambda: (
                {"net": DIGITS, "kind": "lca", "tau": 50.0, "leak": 0.2, "inhibition": 0.4, "gate": 0.1}
                | {"source": "readout", "name": "decision"}
            ),
        ),
        "models.attend": (
            models.attend,
            lambda: (
                {"net": DIGITS, "*": ("l1",), "feature": {"l1": tensor(3, DIGITS.shape("l1")[0])}, "place": False}
                | {"strength": 0.5, "divisive": False, "port": "value"}
            ),
        ),
        "models.with_evidence": (models.with_evidence, lambda: {"net": DIGITS, "name": "evidence"}),
        "models.with_noise": (models.with_noise, lambda: {"net": DIGITS, "*": ("l1", "readout")}),
        "models.matched": (models.matched, lambda: {"build": build_of_width, "parameters": 3000, "largest": 40}),
        "models.paper": (models.paper, lambda: {"name": "blt"}),
        "models.random_patterns": (models.random_patterns, lambda: {"count": 3, "units": 8, "seed": 1}),
        "models.register": (models.register, lambda: {"paper": "X et al. 2000"}),
        "models.retrofit": (
            models.retrofit,
            lambda: (
                {"stages": stages(), "image": (1, 8, 8), "head": None, "predictors": None, "feed_forward": 0.33}
                | {"feedback": 0.33, "correction": 0.01, "scale": "mean", "steps": 3}
            ),
        ),
        **{
            f"models.published.{name}": (getattr(models.published, name), lambda build=build: {"network": build()})
            for name, build in (
                ("libilab_pcn", partial(models.pcn_global, (4, 5), (2,), 2, image=(2, 8, 8), classes=3)),
                ("libilab_local", partial(models.pcn_local, models.Architecture((4, 5), (1,)), 2, image=(2, 8, 8))),
                ("zcrwind_prednet", partial(models.prednet, (1, 2), image=(1, 16, 16))),
                ("cornet", partial(models.cornet_z, (4, 4, 8, 8), image=(2, 32, 32), classes=3)),
            )
        },
        "models.published.torchvision_resnet": (
            models.published.torchvision_resnet,
            lambda: {"network": models.resnet18((2, 2, 2, 2), image=(1, 32, 32), classes=3)},
        ),
        "models.cut": (models.cut, lambda: {"module": backbone(), "nodes": ["0", "2"]}),
        "models.node_names": (models.node_names, lambda: {"module": backbone()}),
        "models.retrofit by nodes": (
            models.retrofit,
            lambda: {"stages": backbone(), "image": (3, 8, 8), "nodes": ["0", "2"]},
        ),
        "models.published.load": (
            models.published.load,
            lambda: {"network": prednet(), "tensors": {"a": tensor(3)}, "naming": models.published.zcrwind_prednet},
        ),
        "models.weights.build": (weights.build, lambda: {"name": "blt", "channels": (2, 2), "image": (1, 8, 8)}),
        "models.weights.available": (weights.available, dict),
        "models.weights.pretrained": (weights.pretrained, lambda: _included()),
        "models.weights.about": (weights.about, lambda: _included()),
        "models.weights.card": (weights.card, lambda: _included()),
        "models.weights.cards": (weights.cards, dict),
    }


def _included() -> dict[str, str]:
    model, (name, *_) = next(iter(weights.available().items()))
    return {"model": model, "weights": name}


def _rules() -> Part:
    channels = lambda: {"channels": 3}  # noqa: E731
    rate = lambda: {"rate": rules.UpdateRate(3, 0.5), "activation": "relu", "normalise": nn.BatchNorm2d(3)}  # noqa: E731
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "LSTM": lambda: {"channels": 3, "peephole": "full", "size": (4, 4), "gate": "sigmoid", "forget": 1.0},
        "Blend": rate,
        "Correction": rate,
        "Accumulator": lambda: {"rate": 0.1, "leak": 0.2, "gate": 0.5, "floor": 0.0},
        "Depletion": lambda: {"utilisation": 0.5, "tau": 800.0, "peak_hz": 100.0},
        "DivisiveNormalisation": lambda: {"sigma": 0.1, "power": 2.0},
        "Facilitation": lambda: {"utilisation": 0.15, "tau": 1500.0, "peak_hz": 100.0},
        "HorizontalExcitation": lambda: {"channels": 3, "activation": "tanh"},
        "HorizontalInhibition": lambda: {"channels": 3, "activation": "relu"},
        "IntrinsicSuppression": lambda: {"channels": 3, "alpha": 0.96, "beta": 0.7},
        "PowerLaw": lambda: {"gain": 0.04, "power": 2.0},
        "Release": lambda: {"utilisation": 0.5},
        "WilsonCowan": lambda: {"slope": 1.3, "threshold": 4.0, "refractory": 1.0},
        "ErrorRelaxation": lambda: {"tau": 10.0, "activation": "tanh"},
        "ErrorThrough": lambda: {"activation": "tanh"},
        "FixedTau": lambda: {"tau": [10.0, 20.0, 30.0]},
        "Gate": lambda: {"offset": 1.0, "factor": -1.0, "nonlinearity": "tanh"},
        "Gated": lambda: {"bias": 3},
        "GatedUpdate": lambda: {"channels": 3, "activation": "tanh", "kept": 1.0},
        "GradedEnergy": lambda: {"gain": 4.0},
        "Highway": lambda: {"channels": 3, "activation": "relu", "kept": 1.0},
        "Leaky": lambda: {"rule": rules.Rate(3), "tau": tensor(3) + 1.0},
        "LearnableTau": lambda: {"channels": 3, "minimum": 1.0, "span": 4.0, "start": 2.0},
        "Mixture": lambda: {"feed_forward": 0.3, "feedback": 0.3, "correction": 0.01, "has_feedback": True},
        "Prediction": lambda: {"activation": "relu", "channels": 3, "ceiling": 1.0},
        "PredictionError": lambda: {"precision": 2.0, "activation": "relu"},
        "Rate": lambda: {"channels": 3, "activation": "relu", "bias": True, "normalise": nn.BatchNorm2d(3)},
        "ReciprocalGated": lambda: {
            "channels": 3,
            "activation": "elu",
            "gate": models.Gate(),
            "retention": models.Gate(),
            "bias": True,
        },
        "RetrievalEnergy": lambda: {"beta": 1.0, "largest_norm": 2.0},
        "Softmax": lambda: {"beta": 1.0},
        "SubLSTM": lambda: {"channels": 3, "fixed_forget": True, "forget": 0.5},
        "Sum": lambda: {"activation": "relu", "channels": 3},
        "Threshold": lambda: {"threshold": 0.5, "synchronous": True},
        "ThresholdEnergy": lambda: {"threshold": 0.5},
        "UpdateRate": lambda: {"channels": 3, "start": 0.5, "offset": 0.1, "form": "absolute"},
        "modulated": lambda: {"rule": rules.Rate(3), "port": "value"},
        "leaky_rate": lambda: {"channels": 3, "tau": 10.0, "activation": "relu", "bias": True},
        "time_constant": lambda: {"tau": 10.0},
        **dict.fromkeys(("Decay", "Energy", "ErrorUnit", "Flow", "Map", "Rule", "SplitError", "Switch", "Wire"), dict),
        **dict.fromkeys(("Organics", "OrganicsPool"), dict),
    }
    del channels
    return {f"rules.{name}": (getattr(rules, name), given) for name, given in arguments.items()}


def _stimuli() -> Part:
    ids = lambda: {"ids": np.array([1, 2, 3])}  # noqa: E731
    glyphs, letters = stimuli.RenderedGlyphs(), _characters()
    scenes = lambda: {"condition": stimuli.Condition(2, 3), "seed": 0, "first": 0, "count": 2, "glyphs": None}  # noqa: E731
    drawn = lambda: {"seed": 0, "first": 0, "count": 2, "length": 3}  # noqa: E731
    return {
        "stimuli.Characters": (
            stimuli.Characters,
            lambda: {each.name: getattr(letters, each.name) for each in dataclasses.fields(stimuli.Characters)},
        ),
        "stimuli.Characters.of": (letters.of, lambda: {"alphabet": "Greek"}),
        "stimuli.Characters.pixels": (letters.pixels, lambda: {"side": 16}),
        "stimuli.Condition": (stimuli.Condition, lambda: {"digits": 2, "fragments": 3, "noise": 0.1, "spread": 0.5}),
        "stimuli.Film": (stimuli.Film, lambda: {"clips": film().clips, "rate": 10.0, "name": "x"}),
        "stimuli.Film.fitted": (film().fitted, lambda: {"size": (8, 8), "multiple": 1, "how": "crop"}),
        "stimuli.Film.fitted multiple": (film().fitted, lambda: {"multiple": 8, "how": "pad"}),
        "stimuli.Film.grey": (film().grey, dict),
        "stimuli.Film.every": (film().every, lambda: {"frames": 2}),
        "stimuli.Film.split": (film().split, lambda: {"share": 0.4, "by": "clip"}),
        "stimuli.Film.draw": (film().draw, drawn),
        "stimuli.Film.sequences": (film().sequences, lambda: {"length": 3}),
        "stimuli.HandwrittenGlyphs": (stimuli.HandwrittenGlyphs, lambda: {"split": "train", "folder": FOLDER}),
        "stimuli.RenderedGlyphs": (stimuli.RenderedGlyphs, dict),
        "stimuli.RenderedGlyphs.faces": (glyphs.faces, ids),
        "stimuli.RenderedGlyphs.patches": (glyphs.patches, ids),
        "stimuli.RenderedGlyphs.glyphs": (glyphs.glyphs, ids),
        "stimuli.RenderedGlyphs.of_class": (glyphs.of_class, lambda: {"digit": 3}),
        "stimuli.Moving": (
            stimuli.Moving,
            lambda: {each.name: getattr(_moving(), each.name) for each in dataclasses.fields(stimuli.Moving)},
        ),
        "stimuli.MovingDigits": (
            stimuli.MovingDigits,
            lambda: {"digits": 2, "size": 64, "side": 28, "speed": (3.0, 5.0), "bars": 1, "width": 8, "rate": 10.0},
        ),
        "stimuli.MovingDigits.draw": (stimuli.MovingDigits(1, 32, 14).draw, lambda: drawn() | {"glyphs": None}),
        "stimuli.MovingDigits.film": (stimuli.MovingDigits(1, 32, 14).film, lambda: drawn() | {"glyphs": None}),
        "stimuli.Contours": (
            stimuli.Contours,
            lambda: {each.name: getattr(_contours(), each.name) for each in dataclasses.fields(stimuli.Contours)},
        ),
        "stimuli.Cued": (
            stimuli.Cued,
            lambda: {each.name: getattr(_cued(), each.name) for each in dataclasses.fields(stimuli.Cued)},
        ),
        "stimuli.Trials": (
            stimuli.Trials,
            lambda: {each.name: getattr(_trials(), each.name) for each in dataclasses.fields(stimuli.Trials)},
        ),
        "stimuli.Trials.timeline": (_trials().timeline, lambda: {"items": torch.eye(3)}),
        "stimuli.Trials.targets": (_trials().targets, lambda: {"times": np.array([10.0, 20.0])}),
        "stimuli.Trials.span": (_trials().span, lambda: {"name": "delay"}),
        "stimuli.delayed_match": (
            stimuli.delayed_match,
            lambda: (
                {"seed": 0, "first": 0, "count": 2, "items": 4, "sample": 50.0, "delay": 300.0, "test": 50.0}
                | {"distractors": 1, "distractor": 50.0}
            ),
        ),
        "stimuli.n_back": (
            stimuli.n_back,
            lambda: {"seed": 0, "first": 0, "count": 2, "n": 2, "items": 4, "length": 5, "item": 50.0, "gap": 50.0},
        ),
        "stimuli.change_detection": (
            stimuli.change_detection,
            lambda: (
                {"seed": 0, "first": 0, "count": 2, "places": 3, "shown": 2, "items": 4}
                | {"sample": 50.0, "delay": 300.0, "test": 50.0}
            ),
        ),
        "stimuli.serial_order": (
            stimuli.serial_order,
            lambda: (
                {"seed": 0, "first": 0, "count": 2, "items": 3, "length": 2, "element": 50.0}
                | {"stretch": (1.0, 2.0), "gap": 10.0, "answer": 50.0}
            ),
        ),
        "stimuli.digit_items": (stimuli.digit_items, lambda: {"count": 3, "glyphs": None}),
        "stimuli.Scenes": (
            stimuli.Scenes,
            lambda: {each.name: getattr(_scenes(), each.name) for each in dataclasses.fields(stimuli.Scenes)},
        ),
        "stimuli.Timeline": (stimuli.Timeline, lambda: {"epochs": timeline().epochs, "labels": torch.tensor([0, 1])}),
        "stimuli.Timeline.change_times": (timeline().change_times, lambda: {"until": 20.0}),
        "stimuli.Timeline.at": (timeline().at, lambda: {"time": 3.0}),
        "stimuli.Timeline.then": (timeline().then, lambda: {"other": timeline()}),
        "stimuli.Timeline.mapped": (timeline().mapped, lambda: {"function": doubled}),
        "stimuli.Timeline.with_labels": (timeline().with_labels, lambda: {"labels": torch.tensor([0, 1])}),
        "stimuli.as_timeline": (stimuli.as_timeline, lambda: {"frames": clip(), "every": 10.0}),
        "stimuli.blank": (stimuli.blank, lambda: {"duration": 10.0, "like": image(), "level": 0.5}),
        "stimuli.contours": (
            stimuli.contours,
            lambda: (
                {"seed": 0, "first": 0, "count": 4, "paths": (1, 2), "length": 3, "lattice": 5} | {"distractors": 2}
            ),
        ),
        "stimuli.digit_arrays": (
            stimuli.digit_arrays,
            lambda: {"seed": 0, "first": 0, "count": 2, "rows": 2, "columns": 2, "cell": 24, "glyphs": None},
        ),
        "stimuli.digit_blends": (
            stimuli.digit_blends,
            lambda: {"seed": 0, "first": 0, "count": 2, "digits": 2, "spread": 0.5, "glyphs": None},
        ),
        "stimuli.spotlight": (
            stimuli.spotlight,
            lambda: {"centres": torch.tensor([[4.0, 12.0]]), "size": (16, 16), "sd": 4.0},
        ),
        "stimuli.digit_clutter": (
            stimuli.digit_clutter,
            lambda: {"digits": 3, "seed": 0, "batch": 2, "glyphs": None},
        ),
        "stimuli.digit_debris": (
            stimuli.digit_debris,
            lambda: {"fragments": 10, "seed": 0, "batch": 2, "glyphs": None},
        ),
        "stimuli.held": (stimuli.held, lambda: {"images": image(), "duration": 10.0}),
        "stimuli.load_mnist": (stimuli.load_mnist, lambda: {"split": "train", "folder": FOLDER}),
        "stimuli.load_omniglot": (stimuli.load_omniglot, lambda: {"part": "small1", "folder": FOLDER}),
        "stimuli.noise": (
            stimuli.noise,
            lambda: {"images": image(), "sd": 0.1, "duration": 20.0, "every": 10.0, "seed": 0, "first": 0},
        ),
        "stimuli.moving_bar": (
            stimuli.moving_bar,
            lambda: {"images": image(), "width": 2, "every": 10.0, "level": 0.5, "name": "bar"},
        ),
        "stimuli.occluded": (
            stimuli.occluded,
            lambda: {
                "images": image(),
                "share": 0.3,
                "pattern": "blocks",
                "level": 0.5,
                "seed": 0,
                "first": 0,
            },
        ),
        "stimuli.ou_noise": (
            stimuli.ou_noise,
            lambda: (
                {"images": image(), "sd": 0.1, "tau": 20.0, "duration": 20.0, "every": 10.0, "seed": 0, "first": 0}
                | {"method": "exact"}
            ),
        ),
        "stimuli.normalise": (
            stimuli.normalise,
            lambda: {"images": tensor(2, 3, 8, 8), "mean": [0.5, 0.4, 0.4], "std": [0.2, 0.2, 0.2]},
        ),
        "stimuli.denormalise": (
            stimuli.denormalise,
            lambda: {"images": tensor(2, 3, 8, 8), "mean": [0.5, 0.4, 0.4], "std": [0.2, 0.2, 0.2]},
        ),
        "stimuli.presented": (
            stimuli.presented,
            lambda: (
                {"images": image(), "duration": 20.0, "onset": torch.tensor([5.0, 0.0])}
                | {"contrast": torch.tensor([0.2, 1.0]), "background": 0.5, "name": "face"}
            ),
        ),
        "stimuli.oddball": (stimuli.oddball, lambda: {"frames": clip(), "at": 4, "how": "reverse"}),
        "stimuli.read_film": (stimuli.read_film, lambda: {"source": shown_film(), "rate": 10.0, "name": "x"}),
        "stimuli.read_images": (
            stimuli.read_images,
            lambda: {
                "source": pictures(),
                "size": (4, 4),
                "channels": 1,
                "fit": "crop",
                "background": 0.5,
            },
        ),
        "stimuli.read_moving_mnist": (stimuli.read_moving_mnist, lambda: {"path": moving_mnist()}),
        "stimuli.scenes": (stimuli.scenes, scenes),
        "stimuli.scenes by name": (stimuli.scenes, lambda: scenes() | {"condition": next(iter(stimuli.CONDITIONS))}),
        "stimuli.sequence": (stimuli.sequence, lambda: {"frames": tensor(3, 2, 1, 8, 8), "every": 10.0}),
        "stimuli.turns": (
            stimuli.turns,
            lambda: {"units": 4, "batch": 2, "rounds": 2, "seed": 0, "first": 0, "every": 10.0},
        ),
    }


@lru_cache
def _characters() -> stimuli.Characters:
    images = (numbers(4, 105, 105) > 0.5).astype(np.uint8)
    return stimuli.Characters(images, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), ("Greek", "Latin"))


@lru_cache
def _moving() -> stimuli.Moving:
    return stimuli.MovingDigits(1, 32, 14).draw(0, 0, 1, 2)


@lru_cache
def _contours() -> stimuli.Contours:
    return stimuli.contours(0, 0, 4, paths=(1, 2), length=3, lattice=5)


@lru_cache
def _cued() -> stimuli.Cued:
    return stimuli.digit_arrays(0, 0, 2)


@lru_cache
def _trials() -> stimuli.Trials:
    return stimuli.delayed_match(0, 0, 2, items=3)


def _scenes() -> stimuli.Scenes:
    return stimuli.scenes(stimuli.Condition(1), 0, 0, 2)


def _training() -> Part:
    settings = training.Training(updates=1, batch=2)
    through = lambda: images_for_training() | {"solver": Iterate(), "steps": 4}  # noqa: E731
    pc = lambda: {"network": net_pc(), "shown": {"x": tensor(4, 4)}, "solver": Euler(1.0), "until": 3.0}  # noqa: E731
    values = lambda: training.local.relax(**pc())  # noqa: E731
    fields = {each.name: getattr(settings, each.name) for each in dataclasses.fields(settings)}
    adjoint_net = flow_with_readout()
    return {
        "training.Adjoint": (training.Adjoint, lambda: {"tolerance": 0.01}),
        "training.Checkpointed": (training.Checkpointed, lambda: {"span": 3}),
        "training.Full": (training.Full, dict),
        "training.Implicit": (training.Implicit, lambda: {"tolerance": 1e-4, "iterations": 100}),
        "training.Truncated": (training.Truncated, lambda: {"span": 3}),
        "training.Training": (training.Training, lambda: dict(fields)),
        "training.Training.rate": (settings.rate, lambda: {"update": 0}),
        "training.evaluate": (
            training.evaluate,
            lambda: {"network": DIGITS, "images": image(), "solver": Iterate(), "steps": 4, "batch": 2, "bar": None},
        ),
        "training.loss_at_step": (
            training.loss_at_step,
            lambda: {"logits": tensor(4, 3), "targets": classes(4), "kind": "softmax"},
        ),
        "training.loss_over_time": (training.loss_over_time, through),
        "training.losses_over_time": (lambda **given: list(training.losses_over_time(**given)), through),
        "training.memory_of_update": (training.memory_of_update, through),
        "training.published_settings": (training.published_settings, lambda: {"loss": "sigmoid", "seed": 3}),
        "training.require_adjoint": (
            training.require_adjoint,
            lambda: (
                {"network": adjoint_net, "images": tensor(2, 4), "targets": classes(2)}
                | {"settings": training.Training(updates=1, gradient=training.Adjoint(0.5), over_time="last")}
                | {"solver": pcsim.TorchDiffEq(1.0, "rk4"), "steps": 3}
            ),
        ),
        "training.train": (
            training.train,
            lambda: (
                # Without `until`, the default settings (None) would be 2,000 updates.
                through()
                | {"checkpoint": None, "every": 200, "until": 20, "bar": no_bar, "epochs": None, "updates": None}
                | {"validation": (image(2), classes(2)), "validate_every": 1, "keep": "best", "callbacks": ()}
            ),
        ),
        "training.train dataset": (
            training.train,
            lambda: {
                "network": models.blt(channels=(2, 2), image=(1, 8, 8), classes=3),
                "images": TensorDataset(image(4), torch.tensor([0, 1, 2, 0])),
                "settings": training.Training(batch=2, precision="bfloat16"),
                "epochs": 1,
                "bar": no_bar,
            },
        ),
        "training.score": (
            training.score,
            lambda: {"network": DIGITS, "images": image(), "targets": classes(2), "steps": 4, "batch": 2},
        ),
        "training.optimise": (
            training.optimise,
            lambda: (
                {"network": models.blt(channels=(2, 2), image=(1, 8, 8)), "count": 4, "settings": settings}
                | {"gradient": no_gradient, "checkpoint": None, "every": 200, "until": None, "bar": no_bar}
            ),
        ),
        "training.local.relax": (training.local.relax, pc),
        "training.local.Relaxation": (
            training.local.Relaxation,
            lambda: {"network": net_pc(), "solver": Euler(1.0), "until": 3.0},
        ),
        "training.local.local_gradient": (
            training.local.local_gradient,
            lambda: {"network": net_pc(), "values": values()},
        ),
        "training.local.learn": (
            training.local.learn,
            lambda: pc() | {"settings": settings, "checkpoint": None, "every": 200, "bar": no_bar},
        ),
        **_local_rules(),
        "training.frames.Goal": (
            training.frames.Goal,
            lambda: {"loss": "absolute", "above": 0.1, "closed_loop_from": 3, "own": "linear", "steepness": 20.0},
        ),
        "training.frames.Goal.chance": (training.frames.Goal(own="linear").chance, lambda: {"done": 0.5}),
        "training.frames.train_to_predict": (
            training.frames.train_to_predict,
            lambda: (
                {"network": models.prednet((1, 2), image=(1, 16, 16)), "clip": one_clip, "count": 2}
                | {"settings": settings, "goal": training.frames.Goal("absolute"), "checkpoint": None, "every": 200}
                | {"bar": no_bar}
            ),
        ),
        "training.distributed.rank": (training.distributed.rank, dict),
        "training.distributed.size": (training.distributed.size, dict),
        "training.distributed.process_group": (training.distributed.process_group, dict),
        "training.distributed.barrier": (training.distributed.barrier, dict),
        "training.distributed.broadcast": (training.distributed.broadcast, lambda: {"tensors": [tensor(3)]}),
        "training.distributed.shard": (training.distributed.shard, lambda: {"chosen": torch.arange(4)}),
        "training.distributed.all_reduce_mean": (
            training.distributed.all_reduce_mean,
            lambda: {"tensors": [tensor(3)]},
        ),
    }


def plastic() -> training.local.Plasticity:
    """Return a plasticity with two rules, one of which needs a reward."""
    torch.manual_seed(0)
    rules = {"u->a": training.local.Oja(0.01), "a->b": training.local.ThreeFactor(0.01)}
    edges = [Projection("u", "a", nn.Linear(3, 4)), Projection("a", "b", nn.Linear(4, 2))]
    net = Network({"u": (3,)}, [Population("a", pcsim.rules.Rate(4)), Population("b", pcsim.rules.Rate(2))], edges)
    return training.local.Plasticity(net, rules)


def _local_rules() -> Part:
    local, made = training.local, plastic()
    run = pcsim.simulate(made.network, tensor(2, 3), solver=Iterate(), steps=4, record=made.record())
    data = {"shown": {"u": tensor(6, 3)}, "solver": Iterate(), "until": 20.0, "updates": 2, "batch": 2, "seed": 1}
    return {
        "training.local.Hebb": (local.Hebb, lambda: {"rate": 0.1}),
        "training.local.Oja": (local.Oja, lambda: {"rate": 0.1, "alpha": 2.0}),
        "training.local.BCM": (
            local.BCM,
            lambda: {"rate": 0.1, "tau_theta": 5.0, "target": "mean square", "scale": 1.0, "start": 0.5},
        ),
        "training.local.ThreeFactor": (
            local.ThreeFactor,
            lambda: {"rate": 0.1, "decay": 0.5, "baseline": "running", "tau_reward": 5.0},
        ),
        "training.local.Vogels": (local.Vogels, lambda: {"rate": 0.1, "target": 2.0}),
        "training.local.PredictiveCoding": (local.PredictiveCoding, lambda: {"rate": 0.1}),
        "training.local.Plasticity": (local.Plasticity, lambda: {"network": made.network, "rules": made.rules}),
        "training.local.Plasticity.record": (made.record, lambda: {"every": 2, "at": None}),
        "training.local.Plasticity.values": (made.values, lambda: {"run": run, "row": -1}),
        "training.local.Plasticity.start_trial": (made.start_trial, dict),
        "training.local.Plasticity.step": (
            lambda **given: plastic().step(**given),
            lambda: {"values": {"u": tensor(2, 3), "a": tensor(2, 4), "b": tensor(2, 2)}, "reward": tensor(2)},
        ),
        "training.local.Plasticity.follow": (
            made.follow,
            lambda: {"run": run, "reward": tensor(2), "at": [20.0, 40.0]},
        ),
        "training.local.Plasticity.learn": (
            lambda **given: plastic().learn(**given),
            lambda: data | {"reward": None, "at": [10.0, 20.0], "checkpoint": None, "every": 5, "bar": no_bar},
        ),
    }


def no_gradient(chosen: torch.Tensor, update: int) -> torch.Tensor:
    return torch.zeros(())


def one_clip(index: int) -> np.ndarray:
    return numbers(4, 1, 16, 16).astype(np.float32)


@lru_cache
def flow_with_readout() -> Network:
    torch.manual_seed(0)
    return Network(
        {"u": (4,)},
        [Population("r", rules.leaky_rate(4, 10.0, "tanh")), Population("y", rules.Sum())],
        [Projection("u", "r", nn.Linear(4, 4)), Projection("r", "y", nn.Linear(4, 3))],
        readout="y",
    )


def _analysis() -> Part:
    frames, convergence = analysis.frames, analysis.convergence
    two = lambda: {"predicted": clip(), "true": clip() * 0.9}  # noqa: E731
    curve = lambda: {"times": times(), "curves": decay()}  # noqa: E731
    states = lambda: {"*": (tensor(20, 2, 3), tensor(20, 2, 4))}  # noqa: E731
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "Comparison": lambda: {"first": "a", "second": "b", "difference": 0.1, "p": 0.1, "q": 0.2},
        "Estimate": lambda: {"mean": 0.1, "low": 0.0, "high": 0.2},
        "accuracy_over_time": lambda: {"correct": correct()},
        "answer_steps": lambda: {"logits": logits(), "decoder": "threshold", "threshold": 0.9, "first": 1},
        "compare_pairs": lambda: {"correct": {"a": correct().numpy(), "b": ~correct().numpy()}},
        "correct_choices": lambda: {"logits": logits(), "targets": classes(4)},
        "cumulative": lambda: {"logits": logits()},
        "bound_crossings": lambda: {"times": np.arange(5.0), "evidence": logits(), "bound": 0.5},
        "decision_times": lambda: {"times": np.arange(5.0), "logits": logits()},
        "decode": lambda: {"logits": logits(), "decoder": "threshold", "threshold": 0.9, "first": 1},
        "entropy": lambda: {"logits": logits()},
        "entropy_threshold": lambda: {"logits": logits(), "mean_step": 2.0, "cumulated": True, "first": 1},
        "evidential_uncertainty": lambda: {"log_alpha": logits().abs()},
        "error_rate": lambda: {"correct": correct().numpy(), "draws": 50, "seed": 0},
        "estimate": lambda: {"values": numbers(10), "draws": 50, "seed": 0},
        "hit_rate": lambda: {"logits": logits(), "targets": classes(4)},
        "mcnemar": lambda: {"first": correct()[0].numpy(), "second": correct()[1].numpy()},
        "rank_correlation": lambda: {
            "first": numbers(10),
            "second": numbers(10)[::-1],
            "control": np.arange(10.0),
            "groups": np.arange(10) // 2,
            "draws": 20,
            "seed": 0,
        },
        "reaction_times": lambda: {"logits": logits(), "threshold": 0.5, "cumulated": True, "first": 1},
        "state_change": lambda: {"values": tensor(5, 2, 3)},
        "population_angle": lambda: {"rates": tensor(2, 3, 8)},
        "tuning": lambda: {"responses": tensor(2, 4, 3), "labels": torch.tensor([0, 1, 0, 1])},
        "uncertainty_area": lambda: {"times": np.arange(5.0), "log_alpha": logits().abs()},
        "convergence.Ending": lambda: {"*": (next(iter(convergence.Ending)).value,)},
        "convergence.Fit": lambda: {"rate": 0.1, "low": 0.0, "high": 0.2, "end": 1.0, "amplitude": 1.0},
        "convergence.settling_time": lambda: curve() | {"share": 0.05},
        "convergence.rate_of_change": lambda: {"*": (times(), tensor(20, 2, 3))},
        "convergence.distance_from_end": states,
        "convergence.state_change": lambda: {"values": tensor(5, 2, 3)},
        "convergence.decay_time": lambda: curve() | {"share": 0.05},
        "convergence.half_life": curve,
        "convergence.overshoot": curve,
        "convergence.crossings": lambda: curve() | {"share": 0.01},
        "convergence.ending": curve,
        "convergence.fit_rate": lambda: {"times": times(), "curve": decay()[:, 0], "start": 0.0},
        "convergence.Convergence": lambda: (
            dict.fromkeys(("settling", "half_life", "overshoot", "crossings"), analysis.Estimate(1.0, 0.0, 2.0))
            | {"endings": {"settled": 1}}
        ),
        "convergence.summary": lambda: curve() | {"share": 0.05},
        "decoding.Decoded": lambda: {"probabilities": numbers(12, 3), "correct": numbers(12, 3) > 0.5},
        "decoding.DecodedAcross": lambda: {"correct": numbers(2, 2, 12) > 0.5, "chance": 0.5},
        "decoding.decode_across_time": lambda: {
            "features": numbers(2, 12, 4),
            "labels": np.arange(12) % 2,
            "decoder": "logistic",
            "penalty": 1.0,
            "folds": 2,
            "groups": None,
            "seed": 0,
        },
        "decoding.decode_over_time": lambda: {
            "features": numbers(2, 12, 4),
            "labels": np.arange(12) % 2,
            "decoder": "logistic",
            "penalty": 1.0,
            "folds": 2,
            "groups": None,
            "seed": 0,
            "permutations": 1,
        },
        "frames.mse": two,
        "frames.mae": two,
        "frames.psnr": two,
        "frames.ssim": lambda: two() | {"window": "gaussian"},
        "frames.copy_last": lambda: {"frames": clip(), "closed_loop_from": 3},
        "frames.continue_linearly": lambda: {"frames": clip(), "closed_loop_from": 3},
        "frames.training_mean": lambda: {"frames": clip(), "training": clip()},
        "frames.Scored": lambda: {"rows": {"a": {"mse": tensor(2, 6)}}, "horizon": torch.arange(6), "begins": 1},
        "frames.score": lambda: {
            "predictions": clip(),
            "frames": clip() * 0.9,
            "closed_loop_from": 3,
            "training": None,
            "scores": ("mse", "psnr"),
        },
        "frames.is_dead": lambda: {"predictions": clip(), "closed_loop_from": 3, "tolerance": 1e-4},
    }
    del frames
    return {f"analysis.{name}": (_found(analysis, name), given) for name, given in arguments.items()}


def _found(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _rest() -> Part:
    return {
        **{f"brain.{name}": (_found(brain, name), given) for name, given in _brain().items()},
        "brain.subject.Subject.start_recording": (
            subject().start_recording,
            lambda: {"recording_target": "IT", "time_bins": bins()},
        ),
        "brain.subject.Subject.look_at": (
            recording_subject().look_at,
            lambda: {"stimuli": {"a": image()[0], "b": image()[1]}, "number_of_trials": 1},
        ),
        **{f"dynamics.{name}": (_found(dynamics, name), given) for name, given in _dynamics().items()},
        **{f"sweeps.{name}": (_found(sweeps, name), given) for name, given in _sweeps().items()},
        "sweeps.Sweep.path": (sweep().path, lambda: {"id_": sweep().ids[0]}),
        "sweeps.Sweep.run": (sweep().run, lambda: {"where": "here", "tries": 2, "progress": False}),
        "sweeps.Sweep.merge": (sweep().merge, lambda: {"folder": FOLDER / "elsewhere"}),
        "sweeps.Search.run": (
            sweeps.Search(score, propose, FOLDER / "search run", count=2).run,
            lambda: {"where": "here", "at_once": 1, "tries": 2, "progress": False},
        ),
        "sweeps.Table.where": (swept().where, lambda: {"seed": 0}),
        "sweeps.Table.over": (swept().over, lambda: {"*": ("r", "seed")}),
        "sweeps.Table.values": (swept().values, lambda: {"axis": "seed"}),
        "sweeps.Table.to_xarray": (swept().to_xarray, dict),
        **{f"plots.{name}": (_found(plots, name), given) for name, given in _plots().items()},
    }


def _brain() -> dict[str, Callable[[], dict[str, Any]]]:
    matrix = lambda: np.corrcoef(numbers(5, 7))  # noqa: E731
    responses = lambda: numbers(60, 3)  # noqa: E731
    fitted = lambda: {"k": tensor(10, 10).double(), "across": tensor(4, 10).double(), "y": tensor(10, 3).double()}  # noqa: E731
    return {
        "first_difference": lambda: {"values": tensor(5, 2, 3), "baseline": tensor(5, 2, 3) * 0.5, "tolerance": 0.0},
        "latencies": lambda: {"run": run(), "baseline": run(), "onset": 0.0, "tolerance": 0.0},
        "object_solution.image_d_prime": lambda: {"probabilities": numbers(6, 3), "labels": np.arange(6) % 3},
        "object_solution.solution_times": lambda: {
            "times": np.arange(5.0),
            "i1": numbers(5, 6),
            "thresholds": numbers(6),
            "last": "record",
        },
        "object_solution.rank_correlation": lambda: {"predicted": numbers(6), "measured": numbers(6), "ceiling": 1.0},
        "object_solution.control_and_challenge": lambda: {
            "reference": numbers(6),
            "model": numbers(6) * 0.9,
            "alike": 0.4,
            "behind": 1.5,
        },
        "object_solution.split_half_reliability": lambda: {"first": numbers(4, 6), "second": numbers(4, 6) + 0.1},
        "recordings.load": lambda: {"path": FOLDER / "none.nc"},
        "recordings.labelled": lambda: {
            "responses": numbers(6, 4),
            "presentation_stimulus_id": np.array(list("abcdef")),
            "neuroid_region": np.array(["IT"] * 4),
        },
        "recordings.images_of": lambda: {"recorded": recorded(), "by": "stimulus_id"},
        "recordings.of_images": lambda: {"recorded": recorded(), "coordinate": "object", "by": None},
        "recordings.repetitions": lambda: {"recorded": recorded(), "by": None},
        "regression.Kernel": lambda: {"products": tensor(6, 6).double()},
        "regression.Kernel.of": lambda: {"features": numbers(6, 4)},
        "regression.pls": lambda: fitted() | {"components": 2},
        "regression.ridge": lambda: fitted() | {"penalties": [0.1, 1.0]},
        "regression.Predictivity": lambda: {"r": numbers(2, 3)},
        "regression.predictivity": lambda: {
            "features": numbers(60, 5),
            "responses": responses(),
            "regression": "ridge",
            "splits": None,
            "labels": np.arange(60) % 2,
            "seed": 1,
        },
        "regression.predictivity_over_time": lambda: {
            "features": [numbers(60, 5), numbers(60, 5)],
            "responses": numbers(60, 3, 2),
            "weights": "shared",
            "regression": "ridge",
            "splits": None,
            "labels": None,
            "seed": 1,
        },
        "regression.shuffled_splits": lambda: {"count": 60, "splits": 2, "test": 0.1, "labels": None, "seed": 1},
        "regression.pearson": lambda: {"first": numbers(6, 3), "second": numbers(6, 3) * 0.5},
        "regression.split_half_ceiling": lambda: {"repetitions": numbers(6, 10, 3), "splits": 2, "seed": 1},
        "regression.Normalised": lambda: {"ratio": 0.5, "squared": 0.25, "neuroids": 0.5},
        "regression.normalised": lambda: {
            "score": brain.regression.Predictivity(numbers(2, 3)),
            "ceiling": numbers(2, 3),
        },
        "regression.BestLayer": lambda: {
            "name": "l1",
            "score": brain.regression.Predictivity(numbers(2, 3)),
            "chosen_by": {"l1": brain.regression.Predictivity(numbers(2, 3))},
        },
        "regression.best_layer": lambda: {
            "layers": {"a": numbers(60, 5), "b": numbers(60, 4)},
            "responses": responses(),
            "share": 0.5,
            "regression": "ridge",
            "labels": None,
            "seed": 1,
        },
        "regression.steps_of": lambda: {"times": np.arange(5.0), "bins": [(0, 2), (2, 4)], "latency": 0.0},
        "similarity.dissimilarity": lambda: {"responses": numbers(6, 4), "metric": "euclidean"},
        "similarity.upper": lambda: {"matrix": matrix()},
        "similarity.compare": lambda: {"first": matrix(), "second": matrix() * 0.5, "method": "spearman"},
        "similarity.mantel": lambda: {
            "first": matrix(),
            "second": matrix() * 0.5,
            "method": "spearman",
            "permutations": 3,
            "draws": 3,
            "alternative": "greater",
            "seed": 0,
        },
        "similarity.ceiling_of_matrices": lambda: {"matrices": np.stack([matrix(), matrix() * 0.9, matrix() * 0.8])},
        "subject.Subject": lambda: {
            "network": DIGITS,
            "regions": {"IT": "l2"},
            "solver": Iterate(),
            "until": None,
            "prepare": prepared,
            "latency": {"IT": 10.0},
            "degrees": 8,
            "batch": 2,
            "identifier": "x",
        },
    }


def _dynamics() -> dict[str, Callable[[], dict[str, Any]]]:
    at = lambda: {"dynamics": point_dynamics(), "x": point_dynamics().start}  # noqa: E731
    return {
        "Orders": lambda: {
            "dts": (1.0, 0.5),
            "errors": {"Euler": (0.1, 0.05)},
            "orders": {"Euler": 1.0},
            "halving": {"Euler": (2.0,)},
        },
        "check_order": lambda: {
            "network": flow(),
            "stimulus": tensor(1, 4),
            "until": 4.0,
            "dt": 2.0,
            "halvings": 2,
            "solvers": (Euler, pcsim.Heun),
        },
        "largest_eigenvalue": lambda: {"operator": doubled, "shape": (3,), "iterations": 20, "seed": 0},
        "stability.largest_eigenvalue": lambda: {"operator": doubled, "shape": (3,), "iterations": 20, "seed": 0},
        "stability.Dynamics": lambda: {"network": flow(), "stimulus": tensor(1, 4), "at": 0.0},
        "stability.eigenvalues": lambda: at() | {"count": 2, "which": "leading"},
        "stability.is_stable": at,
        "stability.largest_stable_dt": lambda: {"values": np.array([-0.1 + 0.1j, -0.2]), "solver": Euler},
        "stability.FixedPoint": lambda: {"state": tensor(1, 4), "residual": 0.0, "evaluations": 3},
        "stability.fixed_point": lambda: {
            "dynamics": point_dynamics(),
            "start": point_dynamics().start,
            "method": "anderson",
            "tolerance": 1e-4,
            "iterations": 100,
        },
        "stability.lyapunov_exponent": lambda: {
            "dynamics": point_dynamics(),
            "solver": Euler(1.0),
            "steps": 5,
            "settle": 1,
            "start": point_dynamics().start,
            "seed": 0,
        },
    }


def _sweeps() -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        "Search": lambda: {
            "score": score,
            "propose": propose,
            "folder": FOLDER / "search",
            "count": 3,
            "stages": 1,
            "random": 1,
            "keep": 0.5,
            "seed": 0,
        },
        "Sweep": lambda: {
            "function": measure,
            "base": Setting(),
            "points": [{"seed": 0}, {"tau.0": 5.0}],
            "folder": FOLDER / "sweep",
            "together": 1,
        },
        "Table": lambda: {"points": [{"a": 1}, {"a": 2}], "results": [{"r": 1.0}, {"r": 2.0}]},
        "Trial": lambda: {"number": 1, "config": {}, "parameters": {"x": 0.5}, "values": (0.1,), "state": "complete"},
        "changed": lambda: {"config": Setting(), "values": {"solver.dt": 0.5, "tau.0": 20}},
        "grid": lambda: {"axes": {"a": [1, 2], ("b", "c"): [(1, 2), (3, 4)]}},
        "sample": lambda: {"ranges": {"a": (0.1, 1.0, "log"), "b": (0, 1)}, "count": 3, "seed": 0, "how": "random"},
        "executors.Outcome": lambda: {"arguments": (1,), "result": 1, "reason": None},
        "executors.completed": lambda: {
            "executor": sweeps.executors.SerialExecutor(),
            "function": square,
            "calls": [(1,), (2,)],
            "tries": 2,
        },
        "executors.one_thread": dict,
        "executors.SerialExecutor": dict,
        "executors.Processes": lambda: {"workers": 1, "prepare": None, "with_": ()},
        "executors.executor_named": lambda: {"name": "here", "folder": FOLDER},
    }


def _plots() -> dict[str, Callable[[], dict[str, Any]]]:
    shown = lambda: {"frames": clip()[0], "predictions": {"net": clip()[1]}, "closed_loop_from": 3}  # noqa: E731
    curve = (np.arange(4.0), numbers(4))
    return {
        "accuracy_by_cycles": lambda: {"curves": {"a": [numbers(3)]}, "cycles": {"a": 3}, "unit": "cycle"},
        "activity": lambda: {"runs": run(), "keys": ["l1"], "samples": "each", "units": "mean", "ax": plots.axes()},
        "animation": lambda: shown() | {"scale": 1},
        "axes": lambda: {"width": 3.0, "height": 2.0},
        "compare": lambda: {"runs": {"a": run()}, "keys": ["l1"], "samples": "sem", "units": "rms", "bars": False},
        "decoding_over_time": lambda: {"curves": {"a": {"clean": curve}}, "chance": {"a": 0.1}},
        "error_convergence": lambda: {"runs": error_run(), "relative_to": "none", "unit": "ms", "ax": None},
        "errors_over_frames": lambda: {"errors": {"a": numbers(6, 2)}, "closed_loop_from": 3, "ax": None},
        "explore": lambda: {
            "curves": {1.0: {2.0: {"a": curve}}, 2.0: {2.0: {"a": curve}}},
            "moved": "tau",
            "coloured": "gain",
            "title": "x",
            "log": True,
        },
        "export_page": lambda: {
            "net": models.blt(channels=(2, 2), image=(1, 4, 4)),
            "path": FOLDER / "page.html",
            "images": torch.rand(2, 1, 4, 4),
            "labels": torch.tensor([1, 2]),
            "solver": Euler(dt=5.0),
            "until": 20.0,
            "continuous": True,
            "about": {"seed": "0"},
        },
        "forecast": lambda: shown() | {"rate": 10.0},
        "heatmap": lambda: {
            "table": sweeps.Table([{"a": a, "b": b} for a in (1, 2) for b in (1, 2)], [{"v": 0.5}] * 4),
            "x": "a",
            "y": "b",
            "value": "v",
            "repeats": "mean",
            "label": "value",
            "numbers": ".2f",
        },
        "matrix": lambda: {"values": np.ones((3, 3)) - np.eye(3), "labels": ["a", "a", "b"], "ranked": True},
        "network": lambda: {"net": models.blt(channels=(2, 2)), "shapes": True, "legend": False},
        "phase_plane": lambda: {
            "dynamics": Dynamics(leaky_net(2), torch.ones(1, 2)),
            "xlim": (-1.0, 1.0),
            "ylim": (-1.0, 1.0),
            "points": [torch.zeros(1, 2)],
            "grid": 20,
        },
        "receptive_fields": lambda: {
            "weights": numbers(4, 6),
            "shape": (2, 3),
            "columns": 2,
            "most": 3,
            "each": False,
        },
        "search_progress": lambda: {
            "scores": numbers(6),
            "complete": numbers(6) > 0.3,
            "random": 2,
            "window": 3,
            "label": "score",
            "scale": 1.0,
            "ax": None,
        },
        "stimulus": lambda: {"timeline": stimuli.held(image()), "until": 50.0, "sample": 0, "most": 4},
        "style": lambda: {"name": "paper", "columns": 1},
        "surprise": lambda: {"errors": {"a": {"l1": numbers(6, 2)}, "b": {"l1": numbers(6, 2)}}, "at": 3},
        "tau_maps": lambda: {
            "maps": {"time (ms)": {"a": numbers(2, 3) + 1}},
            "low": (5.0, 10.0),
            "high": (5.0, 10.0, 20.0),
            "beyond": "none",
        },
        "unit_map": lambda: {"run": run(), "key": "l1", "sample": 0},
    }
