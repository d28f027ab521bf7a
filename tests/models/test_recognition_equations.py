"""Models of object recognition against float64 NumPy implementations of their papers; see test_equations.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.plain import (
    Array,
    array,
    batch_norm,
    conv,
    conv_transpose,
    elu,
    group_norm,
    max_pool,
    max_pool3,
    per_channel,
    relu,
    resize,
    same_conv,
    sigmoid,
)
from support.small import CORNET, PLAIN_CONVRNN, shown
from support.tolerances import EQUATIONS
from support.tracing import Trace, agree, norms, scatter, weights
from torch import nn

from pcsim import Iterate, Network, Record, models, simulate

pytestmark = pytest.mark.usefixtures("float64")


def at(norm: tuple[Array, ...], step: int) -> list[Array]:
    """Return the mean, variance, weight and bias of one step."""
    return [values[step] for values in norm]


@pytest.mark.parametrize("iterations", [2, 0])
def test_grcnn_matches_numpy(iterations: int) -> None:
    net = scatter(models.grcnn((4, 5), iterations, stem=3, size=8, classes=3))
    image = shown(net, 3)["image"]
    (w,) = weights(net, "image->features")
    held = {name: np.zeros((3, *net.shape(name))) for name in net.populations}
    trace: Trace = {name: [] for name in net.populations}
    held["features"] = relu(conv(array(image), w) + per_channel(array(net.populations["features"].rule.bias)))
    for layer, source in ((1, "features"), (2, "x1")):
        f, g, m, x = (f"{name}{layer}" for name in "fgmx")
        u = max_pool(held[source])
        held[f] = batch_norm(conv(u, weights(net, f"{source}->{f}")[0]), *norms(net, f"{source}->{f}")[0])
        if iterations:
            held[g] = batch_norm(conv(u, weights(net, f"{source}->{g}")[0]), *norms(net, f"{source}->{g}")[0])
        recurrent, gate = f"{x}->{m}", f"{x}->{m}:gate"
        for t in range(iterations + 1):
            if t > 0:
                r = batch_norm(conv(held[x], weights(net, recurrent)[0]), *at(norms(net, recurrent)[0], t - 1))
                open_ = held[g] + batch_norm(conv(held[x], weights(net, gate)[0]), *at(norms(net, gate)[0], t - 1))
                held[m] = sigmoid(open_) * r
                held[x] = relu(held[f] + batch_norm(held[m], *at(norms(net, f"{m}->{x}")[0], t - 1)))
            else:
                held[x] = relu(held[f])
            for name, value in held.items():
                trace[name].append(value)
    agree(net, trace, {"image": image})


@pytest.mark.parametrize("name", ["rcnn_sat_b", "rcnn_sat_bl"])
def test_rcnn_sat_matches_numpy(name: str) -> None:
    net = scatter(models.build(name, maps=(4, 5), kernels=(3, 1), steps=4, size=8, channels=2, classes=3))
    image = shown(net, 3)["image"]
    trace: Trace = {population: [] for population in net.populations}
    h = [np.zeros((3, *net.shape(f"h{n}"))) for n in (1, 2)]
    linear, bias = weights(net, "h2->readout")
    for t in range(4):
        below = 2.0 * array(image) - 1.0
        for n, source in ((1, "image"), (2, "h1")):
            z = conv(below if n == 1 else max_pool(below), weights(net, f"{source}->z{n}")[0])
            if name.endswith("l") and t > 0:
                z = z + conv(h[n - 1], weights(net, f"h{n}->z{n}")[0])
            mean, variance, weight, offset = at(norms(net, f"z{n}->h{n}")[0], t)
            h[n - 1] = below = relu(batch_norm(z, mean, variance, weight, offset, eps=1e-3))
            trace[f"z{n}"].append(z)
            trace[f"h{n}"].append(below)
        trace["readout"].append(below.mean((2, 3)) @ linear.T + bias)
    agree(net, trace, {"image": image}, list(net.populations))


# ---------------------------------------------------------------------- ConvRNN


Own = dict[str, Array]
Step = Callable[[Network, int, Array, Array, Own], Own]
"""(network, layer, x, res, previous values of the layer's populations) -> their new values"""


def w(net: Network, edge: str) -> Array:
    (found,) = weights(net, edge)
    return found


def recurrent(net: Network, n: int, target: str, port: str, x: Array, own: Array) -> Array:
    return same_conv(x, w(net, f"x{n}->{target}:{port}")) + same_conv(own, w(net, f"{target}->{target}:{port}"))


def biases(net: Network, population: str) -> list[Array]:
    return [per_channel(row) for row in array(net.populations[population].rule.bias)]


def reciprocal(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    """Apply Nayebi et al. 2018, eq. 4 and 5."""
    h, c = own[f"h{n}"], own[f"c{n}"]
    wch, whh = w(net, f"c{n}->h{n}:gate"), w(net, f"h{n}->h{n}:retention")
    whc, wcc = w(net, f"h{n}->c{n}:gate"), w(net, f"c{n}->c{n}:retention")
    return {
        f"h{n}": elu((1 - sigmoid(same_conv(c, wch))) * (x + own[f"f{n}"]) + (1 - sigmoid(same_conv(h, whh))) * h),
        f"c{n}": elu((1 - sigmoid(same_conv(h, whc))) * x + (1 - sigmoid(same_conv(c, wcc))) * c),
    }


def time_decay(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    s = net.populations[f"s{n}"].rule.kept.item() * own[f"s{n}"] + x
    return {f"s{n}": s, f"h{n}": elu(s)}


def simple_rnn(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    z = same_conv(x, w(net, f"x{n}->z{n}")) + same_conv(own[f"h{n}"], w(net, f"h{n}->z{n}"))
    return {f"z{n}": z, f"h{n}": elu(group_norm(z, 1, *weights(net, f"z{n}->h{n}")))}


def gru(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    h, target = own[f"h{n}"], f"h{n}"
    reset = same_conv(x, w(net, f"x{n}->r{n}:gate")) + same_conv(h, w(net, f"h{n}->r{n}:gate"))
    r = sigmoid(reset + per_channel(array(net.populations[f"r{n}"].rule.bias))) * h
    candidate = same_conv(x, w(net, f"x{n}->{target}:candidate")) + same_conv(r, w(net, f"r{n}->{target}:candidate"))
    b, b_u = biases(net, target)
    u = sigmoid(recurrent(net, n, target, "update", x, h) + b_u)
    return {f"r{n}": r, target: u * h + (1 - u) * np.tanh(candidate + b)}


def ugrnn(net: Network, n: int, x: Array, res: Array, own: Own, target: str = "h") -> Own:
    target = f"{target}{n}"
    b, b_u = biases(net, target)
    u = sigmoid(recurrent(net, n, target, "update", x, own[target]) + b_u)
    candidate = np.tanh(recurrent(net, n, target, "candidate", x, own[target]) + b)
    return {target: u * own[target] + (1 - u) * candidate}


def intersection(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    s, h = f"s{n}", f"h{n}"
    b, b_u = biases(net, h)

    def arriving(port: str) -> Array:
        return same_conv(x, w(net, f"x{n}->{h}:{port}")) + same_conv(own[s], w(net, f"{s}->{h}:{port}"))

    v = sigmoid(arriving("update") + b_u)
    return ugrnn(net, n, x, res, own, "s") | {h: v * x + (1 - v) * relu(arriving("candidate") + b)}


def lstm(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    bias = per_channel(array(net.populations[f"h{n}"].rule.bias))
    i, f, o, z = np.split(recurrent(net, n, f"h{n}", "gates", x, own[f"h{n}"]) + bias, 4, axis=1)
    c = sigmoid(f) * own[f"h{n}.c"] + sigmoid(i) * np.tanh(z)
    return {f"h{n}": sigmoid(o) * np.tanh(c), f"h{n}.c": c}


def none(net: Network, n: int, x: Array, res: Array, own: Own) -> Own:
    return {f"h{n}": elu(x)}


@pytest.mark.parametrize("unroll", ["biological", "engineering"])
@pytest.mark.parametrize(
    ("cell", "step"),
    [
        ("reciprocal", reciprocal),
        ("time_decay", time_decay),
        ("simple_rnn", simple_rnn),
        ("gru", gru),
        ("ugrnn", ugrnn),
        ("intersection", intersection),
        ("lstm", lstm),
        ("none", none),
    ],
    ids=["reciprocal", "time_decay", "simple_rnn", "gru", "ugrnn", "intersection", "lstm", "none"],
)
def test_convrnn_matches_numpy(cell: object, step: Step, unroll: str) -> None:
    net = scatter(models.convrnn(**PLAIN_CONVRNN | {"cell": cell, "unroll": unroll}))
    enters_out = cell == "reciprocal"
    image = shown(net, 2)["image"]
    old: Own = {name: np.zeros((2, *net.shape(name))) for name in net.populations}
    old |= {f"h{n}.c": old[f"h{n}"] for n in (2, 3)}
    trace: Trace = {name: [] for name in net.populations}
    for _ in range(7):
        new: Own = {}
        for n in (1, 2, 3):
            below = old if unroll == "biological" else new
            res = array(image) if n == 1 else max_pool(below[f"h{n - 1}"])
            x = same_conv(res, w(net, f"h{n - 1}->x{n}" if n > 1 else "image->x1"))
            x = x + per_channel(array(net.populations[f"x{n}"].rule.bias))
            feedback = np.zeros(1)
            if n == 2:
                new["f2"] = feedback = conv(resize(old["h3"], (8, 8)), weights(net, "h3->f2")[0])
                x = x if enters_out else x + feedback
            new[f"x{n}"] = x
            entering = feedback if enters_out else np.zeros(1)
            new |= {"h1": elu(x)} if n == 1 else step(net, n, x, res, old | {f"f{n}": entering})
        last = (old if unroll == "biological" else new)["h3"]
        linear, bias = weights(net, "h3->readout")
        new["readout"] = last.mean((2, 3)) @ linear.T + bias
        for name in trace:
            trace[name].append(new[name])
        old = new
    agree(net, trace, {"image": image}, list(net.populations))


def test_convrnn_shallow_readout_is_mean_of_convolution() -> None:
    net = scatter(models.convrnn_shallow(width=2, steps=8, image=(2, 96, 96), classes=3))
    image = shown(net, 2)["image"]
    run = simulate(net, image, solver=Iterate(), steps=8, record=Record(states=["h5", "readout"]))
    top = np.pad(array(run["h5"][-2]), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)  # 3 -> 2, SAME
    weight, bias = weights(net, "h5->readout")
    expected = conv(max_pool(top), weight, bias, padding=0).mean((2, 3))
    assert np.abs(array(run["readout"][-1]) - expected).max() <= EQUATIONS


# ---------------------------------------------------------------------- CORnet


def test_cornet_z_matches_numpy() -> None:
    net = scatter(models.cornet_z(**CORNET))
    image = shown(net, 2)["image"]
    trace: Trace = {}
    value, source = array(image), "image"
    for area in ("v1", "v2", "v4", "it"):
        weight, bias = weights(net, f"{source}->{area}")
        stride, padding = (2, 3) if area == "v1" else (1, 1)
        value = max_pool3(relu(conv(value, weight, bias, stride, padding)))
        trace[area] = [value] * 4
        source = area
    linear, bias = weights(net, "it->readout")
    trace["readout"] = [value.mean((2, 3)) @ linear.T + bias] * 4
    agree(net, trace, {"image": image}, list(net.populations))


@pytest.mark.parametrize("name", ["cornet_r", "cornet_rt"])
def test_cornet_r_and_rt_match_numpy(name: str) -> None:
    """As in the published code, areas receive `outputs` of the previous step (RT) or of the current step (R)."""
    net = scatter(models.build(name, **CORNET | {"groups": 2}))
    image = shown(net, 2)["image"]
    areas = ("v1", "v2", "v4", "it")
    state = {area: np.zeros((2, *net.shape(area))) for area in areas}
    outputs = {"image": array(image)}
    trace: Trace = {name: [] for name in net.populations}
    for t in range(5):
        latest = dict(outputs)
        for area, source in zip(areas, ("image", *areas), strict=False):
            if t == 0 and area != "v1":
                given = np.zeros((2, *net.shape(area)))
            else:
                weight, bias, scale, shift = weights(net, f"{source}->u_{area}")
                read = outputs if name == "cornet_r" else latest
                entry = conv(read[source], weight, bias, 4 if area == "v1" else 2, 3 if area == "v1" else 1)
                given = relu(group_norm(entry, 2, scale, shift))
            weight, scale, shift = weights(net, f"u_{area}->{area}")
            trace[f"u_{area}"].append(given + state[area])
            state[area] = relu(group_norm(conv(given + state[area], weight), 2, scale, shift))
            outputs = outputs | {area: state[area]}
            trace[area].append(state[area])
        linear, bias = weights(net, "it->readout")
        trace["readout"].append(state["it"].mean((2, 3)) @ linear.T + bias)
    agree(net, trace, {"image": image}, list(net.populations))


def test_cornet_s_matches_numpy() -> None:
    times = (2, 3, 1)
    net = scatter(models.cornet_s((3, 4, 5, 6), times, image=(2, 32, 32), classes=3, scale=2))
    image = shown(net, 2)["image"]
    held = {name: np.zeros((2, *net.shape(name))) for name in net.populations}
    trace: Trace = {name: [] for name in net.populations}

    def keep() -> None:
        for name, value in held.items():
            trace[name].append(value)

    value = batch_norm(conv(array(image), weights(net, "image->stem")[0], None, 2, 3), *norms(net, "image->stem")[0])
    held["stem"] = max_pool3(relu(value))
    held["v1"] = relu(batch_norm(conv(held["stem"], weights(net, "stem->v1")[0]), *norms(net, "stem->v1")[0]))
    keep()
    for area, source, repeats in zip(("v2", "v4", "it"), ("v1", "v2", "v4"), times, strict=True):
        into, first, wide, deep = (f"{name}_{area}" for name in ("in", "first", "wide", "deep"))
        conv1, conv2 = weights(net, f"{into}->{first}")[0], weights(net, f"{first}->{deep}")[0]
        conv3 = weights(net, f"{deep}->{area}")[0]
        norm3 = norms(net, f"{deep}->{area}")[0]
        x = held[into] = conv(held[source], weights(net, f"{source}->{into}")[0])
        for t in range(repeats):
            if t == 0:
                edge = f"{into}->{area}"
                skip = batch_norm(conv(x, weights(net, edge)[0], None, 2, 0), *norms(net, edge)[0])
                held[first] = relu(batch_norm(conv(x, conv1), *norms(net, f"{into}->{first}")[0]))
                inner = conv(held[first], conv2, None, 2, 1)
                held[deep] = relu(batch_norm(inner, *norms(net, f"{first}->{deep}")[0]))
            else:
                skip = x
                held[wide] = relu(batch_norm(conv(x, conv1), *at(norms(net, f"{area}->{wide}")[0], t - 1)))
                held[deep] = relu(batch_norm(conv(held[wide], conv2), *at(norms(net, f"{wide}->{deep}")[0], t - 1)))
            x = held[area] = relu(batch_norm(conv(held[deep], conv3), *at(norm3, t)) + skip)
            if area == "it" and t == repeats - 1:
                linear, bias = weights(net, "it->readout")
                held["readout"] = x.mean((2, 3)) @ linear.T + bias
            keep()
    agree(net, trace, {"image": image}, list(net.populations))


def test_cornet_s_repeats_share_convolutions_not_norms() -> None:
    net = models.cornet_s((3, 4, 5, 6), (3, 2, 2), image=(2, 32, 32), classes=3)
    transforms = {edge.name: edge.transform for edge in net.projections}
    conv2 = next(transforms["first_v2->deep_v2"].parameters())
    assert conv2 is next(transforms["wide_v2->deep_v2"].parameters())
    assert norms(net, "wide_v2->deep_v2")[0][2].shape == (2, 16)


# ---------------------------------------------------------------------- residual networks


def test_resnet18_matches_numpy() -> None:
    net = scatter(models.resnet18(**CORNET))
    image = shown(net, 2)["image"]
    stem = conv(array(image), weights(net, "image->h0")[0], None, 2, 3)
    value = max_pool3(relu(batch_norm(stem, *norms(net, "image->h0")[0])))
    trace: Trace = {"h0": [value] * 4}
    for n in range(1, 9):
        edge = f"h{n - 1}->h{n}"
        first, second = norms(net, edge)
        weight = [p for p in weights(net, edge) if p.ndim == 4]
        stride = 2 if n in (3, 5, 7) else 1
        path = relu(batch_norm(conv(value, weight[0], None, stride), *first))
        path = batch_norm(conv(path, weight[1]), *second)
        skip = norms(net, f"{edge}:skip")
        if skip:
            value = batch_norm(conv(value, weights(net, f"{edge}:skip")[0], None, stride, 0), *skip[0])
        value = relu(path + value)
        trace[f"h{n}"] = [value] * 4
    agree(net, trace, {"image": image}, list(trace))


@pytest.mark.parametrize("norm", ["step", "shared", "none"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("adjacency", ["feed-forward", "feedback", "full", [[0, 1], [1, 0]]])
@pytest.mark.parametrize("given", ["first", "every"])
def test_multi_state_matches_numpy(norm: str, shared: bool, adjacency: object, given: str) -> None:
    net = scatter(
        models.multi_state(
            (3, 4), adjacency, steps=5, norm=norm, shared=shared, given=given, image=(2, 8, 8), classes=3
        )
    )
    image = shown(net, 2)["image"]
    matrix = {"feed-forward": [[1, 0], [1, 1]], "feedback": [[1, 1], [1, 1]], "full": [[1, 1], [1, 1]]}
    reads = matrix.get(adjacency) if isinstance(adjacency, str) else adjacency

    def transition(edge: str, value: Array, step: int, up: int) -> Array:
        (transform,) = [e.transform for e in net.projections if e.name == edge]
        kernels = [array(p) for p in transform.parameters() if p.dim() == 4]
        found = norms(net, edge)
        if not shared:
            kernels, found = kernels[2 * step : 2 * step + 2], found[2 * step : 2 * step + 2]

        def normed(value: Array, which: int) -> Array:
            if norm == "none":
                return value
            own = at(found[which], step) if norm == "step" and shared else found[which]
            return batch_norm(value, *own)

        value = relu(normed(value, 0))
        value = conv_transpose(value, kernels[0], 2) if up < 0 else conv(value, kernels[0], None, 2**up)
        return conv(relu(normed(value, 1)), kernels[1])

    h = [np.zeros((2, *net.shape(name))) for name in ("h1", "h2")]
    trace: Trace = {"h1": [], "h2": []}
    for t in range(5):
        new = list(h)
        for i in (0, 1):
            for j in (0, 1):
                if reads[i][j] and t > j:  # state 2 is reached after one transition
                    new[i] = new[i] + transition(f"h{j + 1}->h{i + 1}", h[j], t - 1 - j, i - j)
        if t == 0 or given == "every":
            new[0] = new[0] + conv(array(image), weights(net, "image->h1")[0])
        h = new
        trace["h1"].append(h[0])
        trace["h2"].append(h[1])
    agree(net, trace, {"image": image})


def test_shared_resnet_matches_tied_residual_blocks() -> None:
    net = scatter(models.shared_resnet(6, steps=7, norm="none", image=(2, 8, 8), classes=3))
    image = shown(net, 3)["image"]
    transforms = {edge.name: edge.transform for edge in net.projections}
    block = nn.Sequential(*list(transforms["h1->h1"].children()))
    with torch.no_grad():
        value = transforms["image->h1"](image)
        for _ in range(6):
            value = value + block(value)
        expected = transforms["h1->readout"](value)
    run = simulate(net, image, solver=Iterate())
    assert (run["readout"][-1] - expected).abs().max() < 1e-12
