"""Models against independent float64 NumPy implementations of the papers' equations.

Compares every named population at every step. Weights are looked up by edge name, so that weights on the wrong edge are
detected too.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from support.plain import (
    Array,
    array,
    bilinear_up,
    conv,
    conv_transpose,
    group_norm,
    hard_sigmoid,
    max_pool,
    max_pool3,
    nearest_up,
    per_channel,
    relu,
    sigmoid,
)
from support.small import shown
from support.tolerances import EQUATIONS
from support.tracing import Trace, agree, weights

import pcsim
from pcsim import Euler, Iterate, Network, Record, models, simulate, stimuli
from pcsim.simulation.forecasting import closed_loop

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_pcn_global_synchronous_matches_numpy(tied: bool, norm: str) -> None:
    """All layers are updated from the previous cycle; test_references.py has the published order."""
    net = models.pcn_global((4, 5, 6), (2,), 4, tied=tied, order="synchronous", norm=norm, image=(2, 8, 8), classes=3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "rate" in name or "normalise" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))  # negative rates too, which are rectified
    x = shown(net, 3)["image"]
    up_weight = [weights(net, f"e{layer}->r{layer + 1}")[0] for layer in range(3)]
    down_weight = [weights(net, f"r{layer + 1}->p{layer}")[0] for layer in range(3)]
    b = [relu(array(net.populations[f"r{n}"].rule.rate.weight)) for n in (1, 2, 3)]
    a = [relu(array(net.populations[f"prior{n}"].rule.rate.weight)) for n in (1, 2)]

    def ff(layer: int, value: Array) -> Array:
        value = conv(value, up_weight[layer])
        return max_pool(value) if layer == 1 else value

    def fb(layer: int, value: Array) -> Array:
        return conv_transpose(bilinear_up(value) if layer == 1 else value, down_weight[layer])

    def normed(population: str, value: Array) -> Array:
        if norm == "none":
            return value
        module = net.populations[population].rule.normalise
        return group_norm(value, 1, array(module.weight), array(module.bias))

    r = [array(x)]
    for layer in range(3):
        r.append(normed(f"r{layer + 1}", relu(ff(layer, r[layer]))))
    trace: Trace = {name: [] for name in net.populations}
    for _ in range(4):
        p: list[Array] = [np.zeros(0)] * 3
        old = list(r)
        prior = list(r)
        for layer in (3, 2, 1):
            p[layer - 1] = fb(layer - 1, old[layer])
            if layer > 1:
                rate = per_channel(a[layer - 2])
                blended = relu(rate * p[layer - 1] + (1 - rate) * r[layer - 1])
                prior[layer - 1] = normed(f"prior{layer - 1}", blended)
        for layer in (1, 2, 3):
            e = old[layer - 1] - p[layer - 1]
            r[layer] = normed(f"r{layer}", relu(prior[layer] + per_channel(b[layer - 1]) * ff(layer - 1, e)))
            trace[f"e{layer - 1}"].append(e)
            trace[f"p{layer - 1}"].append(p[layer - 1])
            trace[f"r{layer}"].append(r[layer])
        for layer in (1, 2):
            trace[f"prior{layer}"].append(prior[layer])
    agree(net, trace, {"image": x})


@pytest.mark.parametrize(("alpha", "iterations"), [(0.001, 2), (0.1, 2), (0.1, 0)])
def test_rcnn_matches_numpy(alpha: float, iterations: int) -> None:
    """Each layer completes its iterations before the next starts; alpha = 0.1 exposes a wrong norm convention."""
    net = models.rcnn((16, 16), iterations, lrn=(alpha, 0.75), image=(2, 8, 8), classes=3).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    image = shown(net, 3)["image"]
    held: dict[str, Array] = {name: np.zeros((3, *net.shape(name))) for name in net.populations}
    trace: Trace = {name: [] for name in net.populations}

    def lrn(x: Array) -> Array:
        squares = np.zeros_like(x)
        for k in range(16):
            squares[:, k] = (x[:, max(0, k - 1) : k + 2] ** 2).sum(1)  # N = 16 / 8 + 1 = 3
        return x * (1 + alpha / 3 * squares) ** -0.75

    bias = per_channel(array(net.populations["features"].rule.bias))
    held["features"] = relu(conv(array(image), weights(net, "image->features")[0]) + bias)
    for layer, source in ((1, "features"), (2, "x1")):
        u, x = f"u{layer}", f"x{layer}"
        held[u] = conv(max_pool3(held[source]), weights(net, f"{source}->{u}")[0])
        for _ in range(iterations + 1):
            drive = held[u] + conv(held[x], weights(net, f"{x}->{x}")[0])
            held[x] = lrn(relu(drive + per_channel(array(net.populations[x].rule.bias))))
            if layer == 2:
                weight, shift = weights(net, "x2->readout")
                held["readout"] = held["x2"].max((2, 3)) @ weight.T + shift
            for name in trace:
                trace[name].append(held[name])
    agree(net, trace, {"image": image})
    run = simulate(net, image, solver=Iterate(), record=Record(states=["readout"]))
    assert np.abs(array(run["readout"][-1]) - held["readout"]).max() <= EQUATIONS


@pytest.mark.parametrize("cell", ["none", "channel", "full", "subconvlstm"])
@pytest.mark.parametrize(("feedback", "opens"), [("current", 3), ("previous", 3), ("current", 99)])
def test_prednet_matches_numpy(cell: str, feedback: str, opens: int) -> None:
    options = {"cell": cell} if cell == "subconvlstm" else {"peephole": cell}
    net = models.prednet((2, 3, 4), (3, 4, 5), feedback=feedback, image=(2, 8, 8), **options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    frames = torch.rand(6, 2, 2, 8, 8)
    r = [np.zeros((2, n, 8 >> k, 8 >> k)) for k, n in enumerate((3, 4, 5))]
    c = [value.copy() for value in r]
    e = [np.zeros((2, 2 * n, 8 >> k, 8 >> k)) for k, n in enumerate((2, 3, 4))]
    p0 = np.zeros((2, 2, 8, 8))
    trace: Trace = {name: [] for name in net.populations}
    for step, frame in enumerate(frames):
        for k in (2, 1, 0):
            given = [(f"r{k}->r{k}", r[k]), (f"e{k}->r{k}", e[k])]
            if k < 2:
                given.append((f"r{k + 1}->r{k}", nearest_up(r[k + 1])))
            rule = net.populations[f"r{k}"].rule
            z = per_channel(array(rule.bias)) + sum(conv(value, weights(net, edge)[0]) for edge, value in given)
            if cell == "subconvlstm":
                i, o, z, f = (sigmoid(gate) for gate in np.split(z, 4, 1))
                c[k] = f * c[k] + z - i
                r[k] = sigmoid(c[k]) - o
            else:
                look = np.zeros(3) if rule.peephole is None else array(rule.peephole)
                look = [per_channel(w) if w.ndim == 1 else w for w in look]
                i, f, o, z = np.split(z, 4, 1)
                i, f = hard_sigmoid(i + look[0] * c[k]), hard_sigmoid(f + look[1] * c[k])
                c[k] = f * c[k] + i * np.tanh(z)
                r[k] = hard_sigmoid(o + look[2] * c[k]) * np.tanh(c[k])
        target = array(frame)
        for k in range(3):
            bias = per_channel(array(net.populations[f"p{k}"].rule.bias))
            p = relu(conv(r[k], weights(net, f"r{k}->p{k}")[0]) + bias)
            if k == 0:
                p = np.minimum(p, 1.0)
                if step >= opens:
                    target = p if feedback == "current" else p0
                p0 = p
            trace[f"a{k}"].append(target)
            e[k] = np.concatenate([relu(p - target), relu(target - p)], 1)
            trace[f"p{k}"].append(p)
            trace[f"e{k}"].append(e[k])
            trace[f"r{k}"].append(r[k].copy())
            if k < 2:
                target = max_pool(relu(conv(e[k], *weights(net, f"e{k}->a{k + 1}"))))
    sees_itself = (torch.arange(6) >= opens).to(frames).reshape(6, 1, 1, 1, 1).expand(6, 2, 1, 1, 1)
    given = {"frame": stimuli.sequence(frames, every=10.0), "closed_loop": stimuli.sequence(sees_itself, every=10.0)}
    agree(closed_loop(net), trace, given)
    if feedback == "current" and opens == 3:
        assert all((value == 0).all() for value in trace["e0"][3:]), "in a closed loop predictions must serve as frames"


@pytest.mark.parametrize("peephole", ["none", "channel", "full"])
def test_convlstm_matches_numpy(peephole: str) -> None:
    net = models.convlstm((4, 3), peephole=peephole, kernel=3, input_frames=3, output_frames=3, image=(1, 16, 16))
    forecaster(net, False)


@pytest.mark.parametrize("fixed", [False, True])
def test_subconvlstm_matches_numpy(fixed: bool) -> None:
    net = models.subconvlstm((4, 3), fixed_forget=fixed, kernel=3, input_frames=3, output_frames=3, image=(1, 16, 16))
    forecaster(net, True)


def forecaster(net: Network, subtractive: bool) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    frames = torch.rand(6, 2, 1, 16, 16)
    names = ["encoder1", "encoder2", "forecaster1", "forecaster2"]
    h = {name: np.zeros((2, *net.shape(name))) for name in names}
    c = {name: value.copy() for name, value in h.items()}
    trace: Trace = {name: [] for name in names}
    trace["forecast"] = []
    for step, frame in enumerate(frames):
        # Patches of 4 x 4 become channels: channel 4 u + v holds pixel (u, v) of every patch.
        cut = array(frame).reshape(2, 4, 4, 4, 4).transpose(0, 2, 4, 1, 3).reshape(2, 16, 4, 4)
        if step == 3:
            for layer in ("1", "2"):
                h["forecaster" + layer], c["forecaster" + layer] = h["encoder" + layer], c["encoder" + layer]
        part = "encoder" if step < 3 else "forecaster"
        below = cut if step < 3 else None
        for layer in ("1", "2"):
            name = part + layer
            rule = net.populations[name].rule
            z = per_channel(array(rule.bias)) + conv(h[name], weights(net, f"{name}->{name}")[0])
            source = "frame" if layer == "1" else part + "1"
            if below is not None:
                z = z + conv(below, weights(net, f"{source}->{name}")[0])
            h[name], c[name] = cell_step(rule, z, c[name], subtractive)
            below = h[name]
        for name in names:
            trace[name].append(h[name])
        bias = per_channel(array(net.populations["forecast"].rule.bias))
        parts = [conv(h[f"forecaster{k}"], weights(net, f"forecaster{k}->forecast")[0]) for k in (1, 2)]
        trace["forecast"].append(sigmoid(bias + parts[0] + parts[1]))
    agree(net, trace, {"image": stimuli.sequence(frames, every=10.0)}, list(trace))
    run = simulate(net, stimuli.sequence(frames, every=10.0), solver=Iterate(), steps=6)
    picture = trace["forecast"][-1].reshape(2, 4, 4, 4, 4).transpose(0, 3, 1, 4, 2).reshape(2, 1, 16, 16)
    assert np.abs(array(run["prediction"][-1]) - picture).max() <= EQUATIONS


def cell_step(rule: torch.nn.Module, z: Array, c: Array, subtractive: bool) -> tuple[Array, Array]:
    """Return the next h and c, from the stacked gates."""
    if subtractive:
        i, o, z, *rest = (sigmoid(part) for part in np.split(z, 3 if rule.kept is not None else 4, 1))
        f = rest[0] if rest else per_channel(np.clip(array(rule.kept), 0.0, 1.0))
        c = f * c + z - i
        return sigmoid(c) - o, c
    look = [np.zeros(1)] * 3 if rule.peephole is None else list(array(rule.peephole))
    look = [per_channel(w) if w.ndim == 1 else w for w in look]
    i, f, o, z = np.split(z, 4, 1)
    c = sigmoid(f + look[1] * c) * c + sigmoid(i + look[0] * c) * np.tanh(z)
    return sigmoid(o + look[2] * c) * np.tanh(c), c


@pytest.mark.parametrize("fixed", [False, True])
def test_sublstm_matches_numpy(fixed: bool) -> None:
    net = models.sublstm(5, 3, layers=2, fixed_forget=fixed, steps=5, classes=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = shown(net, 3)["input"]
    h, c = [np.zeros((3, 5))] * 2, [np.zeros((3, 5))] * 2
    trace: Trace = {"h1": [], "h2": [], "readout": []}
    for _ in range(5):
        below, source = array(x), "input"
        for k in (0, 1):
            name = f"h{k + 1}"
            rule = net.populations[name].rule
            z = array(rule.bias) + below @ weights(net, f"{source}->{name}")[0].T
            gates = sigmoid(z + h[k] @ weights(net, f"{name}->{name}")[0].T)
            i, o, z = gates[:, :5], gates[:, 5:10], gates[:, 10:15]
            f = np.clip(array(rule.kept), 0, 1) if fixed else gates[:, 15:]
            c[k] = f * c[k] + z - i
            h[k] = sigmoid(c[k]) - o
            trace[name].append(h[k])
            below, source = h[k], name
        weight, bias = weights(net, "h2->readout")
        trace["readout"].append(below @ weight.T + bias)
    agree(net, trace, {"input": x}, list(trace))


def test_hopfield_continuous_matches_numpy() -> None:
    patterns = models.random_patterns(3, 20)
    w = array(models.hebbian(patterns))
    cue, current = torch.randn(4, 20), 0.3 * torch.randn(4, 20)
    net = models.hopfield_continuous(patterns, tau=10.0, gain=3.0, drive=True)
    record = Record(states=["u", "v", "field", "energy"])
    run = simulate(net, {"cue": cue, "current": current}, solver=Euler(dt=2.0), until=20.0, record=record)
    u, drive = array(cue), array(current)
    nodes, quadrature = np.polynomial.legendre.leggauss(100)
    for step in range(10):
        u = u + 0.2 * (-u + np.tanh(3.0 * u) @ w + drive)
        v = np.tanh(3.0 * u)
        y = 3.0 * u[..., None] * (nodes + 1) / 2  # the integral of artanh(x) dx with x = tanh(y), by Gauss-Legendre
        integral = (y / np.cosh(y) ** 2 * quadrature).sum(-1) * 3.0 * u / 2
        energy = -0.5 * np.einsum("bi,ij,bj->b", v, w, v) - (drive * v).sum(1) + integral.sum(1) / 3.0
        assert np.abs(array(run["u"][step]) - u).max() <= EQUATIONS
        assert np.abs(array(run["v"][step]) - v).max() <= EQUATIONS
        assert np.abs(array(run["field"][step]) - v @ w).max() <= EQUATIONS
        assert np.abs(array(run["energy"][step])[:, 0] - energy).max() <= EQUATIONS


def test_hopfield_modern_matches_numpy() -> None:
    patterns, cue = torch.randn(5, 20), torch.randn(3, 20)
    x, xi = array(patterns).T, array(cue)
    trace: Trace = {name: [] for name in ("attention", "xi", "match", "energy")}
    for _ in range(4):
        p = np.exp(0.7 * xi @ x)
        p /= p.sum(1, keepdims=True)
        xi = p @ x.T
        match = xi @ x
        largest = np.linalg.norm(x, axis=0).max()
        energy = -np.log(np.exp(0.7 * match).sum(1)) / 0.7 + 0.5 * (xi**2).sum(1)
        energy += np.log(5) / 0.7 + 0.5 * largest**2
        for name, value in (("attention", p), ("xi", xi), ("match", match), ("energy", energy[:, None])):
            trace[name].append(value)
    agree(models.hopfield_modern(patterns, beta=0.7), trace, {"cue": cue})


@pytest.mark.parametrize("scale", ["mean", "receptive_field"])
def test_retrofit_matches_numpy(scale: str) -> None:
    stages = [
        torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.ReLU()),
        torch.nn.Sequential(torch.nn.MaxPool2d(2), torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU()),
    ]
    net = models.retrofit(stages, (2, 8, 8), correction=0.5, scale=scale)
    image = shown(net, 3)["image"]
    first, second = (weights(net, edge) for edge in ("image->r1", "r1->r2"))
    back = [weights(net, edge) for edge in ("r1->p0", "r2->p1")]

    def forward(k: int, value: Array) -> Array:
        return relu(conv(value, *first)) if k == 1 else relu(conv(max_pool(value), *second))

    def predict(k: int, value: Array) -> Array:  # kernel 3, stride 1, and kernel 4, stride 2, padding 1
        if k == 1:
            return conv_transpose(value, back[0][0], bias=back[0][1])
        full = np.zeros((3, 3, 10, 10))
        for u in range(4):
            for v in range(4):
                full[:, :, u : u + 8 : 2, v : v + 8 : 2] += np.einsum("co,bcij->boij", back[1][0][:, :, u, v], value)
        return full[:, :, 1:9, 1:9] + per_channel(back[1][1])

    def pull_back(k: int, error: Array) -> Array:
        """2 P^T error, divided by N or by the square root of the receptive field size (9 * 2 and 16 * 3)."""
        if k == 1:
            return 2 * conv(error, back[0][0]) / (128 if scale == "mean" else np.sqrt(9 * 2))
        return 2 * conv(error, back[1][0], stride=2, padding=1) / (192 if scale == "mean" else np.sqrt(16 * 3))

    x = array(image)
    r = [x, forward(1, x)]
    r.append(forward(2, r[1]))
    p = [predict(1, r[1]), predict(2, r[2])]
    e = [x - p[0], r[1] - p[1]]
    trace: Trace = {name: [] for name in ("r1", "r2", "p0", "p1", "e0", "e1")}
    for _ in range(4):
        mixture = 0.33 * forward(1, x) + 0.33 * p[1] + 0.34 * r[1] + 0.5 * pull_back(1, e[0])
        r[1] = mixture
        r[2] = 0.33 * forward(2, r[1]) + 0.67 * r[2] + 0.5 * pull_back(2, e[1])
        p = [predict(1, r[1]), predict(2, r[2])]
        e = [x - p[0], r[1] - p[1]]
        for name, value in zip(trace, (r[1], r[2], *p, *e), strict=True):
            trace[name].append(value)
    agree(net, trace, {"image": image})


@pytest.mark.parametrize("nonlinearity", ["inside", "outside"])
@pytest.mark.parametrize("activation", ["identity", "tanh", "sigmoid", "softplus", "relu"])
def test_predictive_coding_matches_numpy(activation: str, nonlinearity: str) -> None:
    functions = {
        "identity": (lambda x: x, np.ones_like),
        "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
        "sigmoid": (sigmoid, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
        "softplus": (lambda x: np.log1p(np.exp(x)), sigmoid),
        "relu": (relu, lambda x: (x > 0).astype(float)),
    }
    is_stuck = activation == "relu" and nonlinearity == "inside"
    with pytest.warns(pcsim.PcsimWarning, match="'r3' that start at 0 never move") if is_stuck else nullcontext():
        net = models.predictive_coding(
            ((2, 8, 8), (3, 4, 4), (6,), (4,)),
            tau=(10.0, 20.0, 5.0, 10.0),
            activation=activation,
            nonlinearity=nonlinearity,
            precision=(1.0, 0.5, 2.0),
        )
    inner, outer = (functions[activation], functions["identity"])[:: 1 if nonlinearity == "inside" else -1]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = shown(net, 3)["r0"]
    passed = "d" if "d0" in net.populations else "e"
    up = [weights(net, f"{passed}{k}->r{k + 1}")[0] for k in range(3)]
    bias = [array(net.populations[f"p{k}"].rule.bias) for k in range(3)]
    pi = (1.0, 0.5, 2.0)

    def ascend(k: int, e: Array) -> Array:
        return conv(e, up[0], stride=2) if k == 0 else e.reshape(3, -1) @ up[k].T

    def descend(k: int, r: Array) -> Array:
        if k == 0:
            return conv_transpose(inner[0](r), up[0], stride=2) + per_channel(bias[0])
        p = (inner[0](r) @ up[k]).reshape(3, *net.shape(f"r{k}"))
        return p + (per_channel(bias[k]) if p.ndim == 4 else bias[k])

    r = [array(x), *(np.zeros((3, *net.shape(f"r{k}"))) for k in (1, 2, 3))]
    names = list(net.populations)
    run = simulate(net, x, solver=Euler(dt=1.0), until=6.0, record=Record(states=names))

    def errors() -> tuple[list[Array], list[Array], list[Array]]:
        drives = [descend(k, r[k + 1]) for k in range(3)]
        p = [outer[0](drive) for drive in drives]
        e = [pi[k] * (r[k] - p[k]) for k in range(3)]
        return p, e, [outer[1](drive) * error for drive, error in zip(drives, e, strict=True)]

    for step in range(6):
        _, e, d = errors()
        own = [*e, 0.0]
        rates = [inner[1](r[k]) * ascend(k - 1, d[k - 1]) - own[k] for k in (1, 2, 3)]
        r[1:] = [r[k] + rates[k - 1] / tau for k, tau in ((1, 20.0), (2, 5.0), (3, 10.0))]
        p, e, d = errors()
        energy = sum((e[k] ** 2).reshape(3, -1).sum(1) / (2 * pi[k]) for k in range(3))
        expected = {f"r{k}": r[k] for k in (1, 2, 3)} | {f"p{k}": p[k] for k in range(3)}
        expected |= {f"e{k}": e[k] for k in range(3)} | {"energy": energy[:, None]}
        expected |= {f"d{k}": d[k] for k in range(3)}
        for name in names:
            assert np.abs(array(run[name][step]) - expected[name]).max() <= EQUATIONS, (name, step)


def test_order_of_pcn_global_and_prednet_follows_delays(capsys: pytest.CaptureFixture[str]) -> None:
    """The papers' algorithms: PCN blends from the top down, then corrects from the bottom up. PredNet updates R from
    the top down, then computes predictions and errors from the bottom up."""
    pcn = models.pcn_global((4, 4, 4), (), image=(1, 4, 4))
    prednet = models.prednet((1, 2, 3), image=(1, 8, 8))
    with capsys.disabled():
        print(f"\nPCN global: {' '.join(pcn.order)}\nPredNet:    {' '.join(prednet.order)}")

    def before(net: Network, *names: str) -> bool:
        places = [net.order.index(name) for name in names]
        return places == sorted(places)

    assert before(pcn, "p2", "prior2", "p1", "prior1", "p0", "e0", "r1", "e1", "r2", "e2", "r3", "readout")
    assert before(prednet, "r2", "r1", "r0", "p0", "e0", "a1", "e1", "a2", "e2")
    assert all(before(prednet, f"r{k}", f"p{k}", f"e{k}") and before(prednet, f"a{k}", f"e{k}") for k in range(3))
    shuffled = pcsim.Network(
        prednet.inputs,
        list(prednet.populations.values())[::-1],
        prednet.projections[::-1],
    )
    assert before(shuffled, "r2", "r1", "r0", "p0", "e0", "a1", "e1", "a2", "e2"), (
        "the order of declaration must not matter"
    )
