"""Models against references written from the papers by another hand (support/reference_*.py), at every step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import reference_pc, reference_vision
from support.reference_pc import Array, Weights
from support.tolerances import EQUATIONS, NUMPY_BLT
from support.tracing import scatter, weights

import pcsim
from pcsim import Iterate, Network, Record, models, simulate, stimuli
from pcsim.connections import LocalResponseNorm, Standardise
from pcsim.models import Gate, Layer, ReciprocalCell


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def agree(
    run: pcsim.Run, row: int, expected: dict[str, Array], names: dict[str, str], tolerance: float = EQUATIONS
) -> None:
    """Compare row `row` of a run with a step of a reference; `names` maps populations to keys of the reference."""
    for name, key in names.items():
        found = array(run[name][row])
        assert found.shape == expected[key].shape, (name, row)
        assert np.abs(found - expected[key]).max() <= tolerance * max(1.0, np.abs(expected[key]).max()), (name, row)


def filled(net: Network, seed: int, scale: float) -> Network:
    """Draw every parameter from N(0, scale^2) and set random running statistics."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, scale)
    return scatter(net, 0.0)


# ---------------------------------------------------------------------- PCN global


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("tied", [False, True])
def test_pcn_global_matches_reference(tied: bool, norm: str, align_corners: bool) -> None:
    options: dict[str, Any] = {"tied": tied, "norm": norm, "align_corners": align_corners}
    net = filled(models.pcn_global((4, 5, 6), (2,), 4, image=(2, 8, 8), classes=3, **options), 1, 0.3)
    w: Weights = {}
    for n in (1, 2, 3):
        sender = "r3" if n == 3 else f"prior{n}"
        w[f"FF{n}"], w[f"FB{n}"] = weights(net, f"e{n - 1}->r{n}")[0], weights(net, f"{sender}->p{n - 1}")[0]
        rule = net.populations[f"r{n}"].rule
        w[f"b{n}"] = array(rule.rate.weight)
        if n < 3:
            w[f"a{n}"] = array(net.populations[f"prior{n}"].rule.rate.weight)
        if norm == "group":
            w[f"g{n}"], w[f"h{n}"] = array(rule.normalise.weight), array(rule.normalise.bias)
    w["W"], w["c"] = weights(net, "r3->readout")
    x = torch.randn(2, 2, 8, 8)
    record = Record(states=["r1", "r2", "r3", "p0", "p1", "p2", "e0", "e1", "e2", "readout"])
    run = simulate(net, x, solver=Iterate(), record=record)
    expected = reference_pc.pcn_global(w, array(x), 4, [False, True, False], align_corners, norm == "group")
    start = simulate(net, x, solver=Iterate(), steps=1, record=Record(states=["r1", "r2", "r3"], initial=True))
    agree(start, 0, expected[0], {name: name for name in ("r1", "r2", "r3")})
    for cycle in range(1, 5):
        agree(run, cycle - 1, expected[cycle], {name: name for name in run.values})


def test_pcn_global_layer_has_one_group_norm() -> None:
    net = models.pcn_global((4, 5, 6), (2,), 4, norm="group", image=(2, 8, 8))
    assert sum(isinstance(module, torch.nn.GroupNorm) for module in net.modules()) == 3


# ---------------------------------------------------------------------- PCN local


def local_weights(net: Network, cycles: int, chainer: bool) -> Weights:
    def normed(edge: str) -> Weights:
        (transform,) = [e.transform for e in net.projections if e.name == edge]
        norm = next(m for m in transform.modules() if hasattr(m, "running_mean"))
        names = {"gamma": norm.weight, "beta": norm.bias, "mean": norm.running_mean, "var": norm.running_var}
        return {key: array(value) for key, value in names.items()}

    blocks = []
    for n, source in ((1, "image"), (2, "out1")):
        parts = {"FF": f"x{n}->s{n}", "BP": f"x{n}->out{n}"} | ({"FB": f"y{n}->p{n}"} if cycles else {})
        block = normed(f"{source}->x{n}")
        for key, edge in parts.items():
            block[key], *bias = weights(net, edge)
            block |= {{"FF": "ffb", "BP": "bpb", "FB": "fbb"}[key]: bias[0]} if chainer else {}
        block["rate"] = array(net.populations[f"y{n}"].rule.rate.weight) if cycles else np.zeros(1)
        blocks.append(block)
    head = [p for p in weights(net, "out2->readout") if p.ndim == 2 or len(p) == 3]
    return normed("out2->readout") | {"blocks": blocks, "W": head[0]} | ({} if chainer else {"c": head[1]})


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cycles", [0, 1, 3])
@pytest.mark.parametrize("variant", ["published", "chainer"])
def test_pcn_local_matches_reference(variant: str, cycles: int, training: bool) -> None:
    chainer = variant == "chainer"
    plan = models.Architecture((4, 5), (1,))
    net = filled(models.pcn_local(plan, cycles, variant=variant, image=(3, 8, 8), classes=3), 5, 0.3).train(training)
    x = torch.randn(4, 3, 8, 8)
    w = local_weights(net, cycles, chainer)
    blocks, logits = reference_pc.pcn_local(w, array(x), cycles, [True, False], chainer, training)
    gradient = pcsim.Full() if training else None  # a run without gradients uses running statistics
    run = simulate(net, x, solver=Iterate(), record=Record(states="all"), gradient=gradient)
    for n, steps in enumerate(blocks, 1):
        first = (n - 1) * (cycles + 1)
        agree(run, first, steps[0], {f"x{n}": "x", f"s{n}": "y"})
        for t in range(1, cycles + 1):
            agree(run, first + t, steps[t], {f"{name}{n}": name for name in ("p", "e", "y")})
        agree(run, first + cycles, steps[cycles], {f"out{n}": "out"})
        assert (steps[0]["y"] == 0).any() and (steps[0]["y"] > 0).any(), "the ReLU at t = 0 must matter"
        assert cycles == 0 or (run[f"y{n}"][first] == 0).all()  # y(0) is recorded as s
    agree(run, -1, {"logits": logits}, {"readout": "logits"})


# ---------------------------------------------------------------------- BLT

BLT = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unroll", ["engineering", "biological"])
@pytest.mark.parametrize("lrn", ["state", "output"])
@pytest.mark.parametrize("name", BLT)
def test_blt_matches_reference(name: str, lrn: str, unroll: str) -> None:
    net = filled(models.build(name, channels=(6, 6), image=(1, 8, 8), classes=3, lrn=lrn, unroll=unroll), 2, 0.5)
    for module in net.modules():
        if isinstance(module, LocalResponseNorm):
            module.alpha = 0.1  # at 1e-4, rounding would hide errors in the norm
        if isinstance(module, Standardise):
            module.mean.fill_(0.4)
            module.sd.fill_(0.2)
    edges = {"b1": "image->l1", "b2": "l1->l2", "l1": "l1->l1", "l2": "l2->l2", "t1": "l2->l1"}
    known = {edge.name for edge in net.projections}
    w = {key: weights(net, edge)[0] for key, edge in edges.items() if edge in known}
    w |= {f"bias{n}": array(net.populations[f"l{n}"].rule.bias) for n in (1, 2)}
    w["wr"], w["br"] = weights(net, "l2->readout")
    frames = torch.randn(5, 2, 1, 8, 8)
    standardised = [(array(frame) - 0.4) / 0.2 for frame in frames]
    expected = reference_vision.blt(w, standardised, lrn == "state", unroll, alpha=0.1)
    shown = stimuli.sequence(frames, every=net.step_ms)
    run = simulate(net, shown, solver=Iterate(), steps=5, record=Record(states=["l1", "l2", "readout"]))
    for step in range(5):
        agree(run, step, expected[step], {name: name for name in run.values}, NUMPY_BLT)


@pytest.mark.parametrize("unroll", ["engineering", "biological"])
@pytest.mark.parametrize("name", ["blt_b", "blt_bk", "blt_bf"])
def test_blt_without_recurrence_reads_same_normalised_activity_for_both_lrn(name: str, unroll: str) -> None:
    state, output = (
        models.build(name, channels=(6, 6), image=(1, 8, 8), lrn=lrn, unroll=unroll) for lrn in ("state", "output")
    )
    with torch.no_grad():
        for one, other in zip(state.parameters(), output.parameters(), strict=True):
            other.copy_(one)
    image = 40.0 * torch.randn(2, 1, 8, 8)
    runs = [simulate(net, image, solver=Iterate(), steps=3)["readout"] for net in (state, output)]
    assert torch.equal(*runs) and not torch.equal(runs[0][-1], torch.zeros_like(runs[0][-1]))


# ---------------------------------------------------------------------- ConvRNN


def put(w: Weights, key: str, net: Network, edge: str, bias: Array | None = None) -> None:
    """Add the weights of an edge, if it exists, with its own bias or the one that the package keeps in the rule."""
    if edge not in {e.name for e in net.projections} or not (found := weights(net, edge)):
        return
    kernels = [p for p in found if p.ndim == 4]
    w |= {key + ".dw": kernels[0], key + ".pw": kernels[1]} if len(kernels) == 2 else {key: kernels[0]}
    own = [p for p in found if p.ndim == 1]
    if own or bias is not None:
        w[key + ".b"] = own[0] if own else bias


def cell_weights(net: Network, n: int, senders: list[int]) -> Weights:
    w: Weights = {}
    x, h, c, below = f"x{n}", f"h{n}", f"c{n}", f"h{n - 1}"
    for name, kind, other in ((h, "o", c), (c, "c", h)):
        bias = net.populations[name].rule.bias
        *gate, tau = [None, None] if bias is None else list(array(bias))
        put(w, f"tau_{kind}", net, f"{name}->{name}:retention", tau)
        put(w, f"gate_{kind}", net, f"{other}->{name}:gate", *gate)
        for port, key in (("retention", "tau"), ("gate", "gate")):
            put(w, f"{key}_{kind}_x", net, f"{x}->{name}:{port}")
            put(w, f"{key}_{kind}_res", net, f"{below}->{name}:{port}")
    edges = {"ff": f"{x}->{c}", "io": f"{x}->{h}", "res_proj": f"{below}->{h}", "ff_res": f"{below}->{c}"}
    for key, edge in (edges | {"co": f"{c}->{h}"}).items():
        put(w, key, net, edge)
    if senders:
        w["fb"] = np.concatenate([weights(net, f"h{sender}->f{n}")[0] for sender in senders], 1)
        if (bias := net.populations[f"f{n}"].rule.bias) is not None:
            w["fb.b"] = array(bias)
    return w


def compare_convrnn(
    net: Network,
    layers: list[Layer],
    recurrent: range,
    feedback: tuple[tuple[int, int], ...],
    settings: dict,
    unroll: str,
    head: str,
    steps: int,
) -> None:
    w: Weights = {}
    nodes = []
    for n, layer in enumerate(layers, 1):
        source = "image" if n == 1 else f"h{n - 1}"
        w[n] = {"w": weights(net, f"{source}->x{n}")[0], "b": array(net.populations[f"x{n}"].rule.bias)}
        cell = None
        if n in recurrent:
            w[n]["cell"] = cell_weights(net, n, sorted(a for a, b in feedback if b == n))
            cell = settings | {"depth": net.shape(f"c{n}")[0]}
        nodes.append({"stride": layer.stride, "pool": layer.pooled, "cell": cell})
    w["readout"] = weights(net, f"h{len(layers)}->readout")
    frames = torch.randn(steps, 2, *net.inputs["image"])
    expected = reference_vision.convrnn(w, [array(f) for f in frames], nodes, list(feedback), unroll, head)
    shown = stimuli.sequence(frames, every=net.step_ms)
    names = {name: name for name in expected[0]}
    run = simulate(net, shown, solver=Iterate(), steps=steps, record=Record(states=list(names)))
    for step in range(steps):
        agree(run, step, expected[step], names)


EVERY: dict[str, Any] = {
    "depth": 4,
    "cell_kernel": 3,
    "input_to_out_kernel": 3,
    "input_to_tau": True,
    "input_to_gate": True,
    "cell_residual": True,
    "out_residual": True,
    "residual_to_cell_tau": True,
    "residual_to_cell_gate": True,
    "residual_to_out_tau": True,
    "residual_to_out_gate": True,
    "feedback_activation": "tanh",
    "feedback_kernel": 3,
    "input_activation": "elu",
    "bias": True,
}
MEDIAN = {
    "tau": (0.9219, -0.9219, "sigmoid"),
    "gate": (0.7007, -0.7007, "tanh"),
    "out_residual": True,
    "input_act": "elu",
}
RESIDUAL = {"out_residual": True, "input_act": "elu", "act_f": "tanh"}
CELLS: dict[str, tuple[ReciprocalCell, dict[str, Any]]] = {
    "published": (ReciprocalCell(), {}),
    "median": (models.MEDIAN, MEDIAN),
    "shallow": (models.SHALLOW, {"input_act": "elu"}),
    "x straight to h": (ReciprocalCell(input_activation="tanh", cell_kernel=3, depth=4), {"input_act": "tanh"}),
    "x straight to c and h": (ReciprocalCell(input_activation="relu", bias=True), {"input_act": "relu"}),
    "c drives h": (ReciprocalCell(depth=4, cell_kernel=3, cell_to_out=True, bias=True), {"cell_to_out": True}),
    "c drives h, separable": (
        ReciprocalCell(cell_to_out=True, bias=True, separable=("gate", "tau")),
        {"cell_to_out": True},
    ),
    "c drives h, gated by x and res": (
        ReciprocalCell(**EVERY | {"cell_to_out": True, "gate": Gate(0.7, -0.7, "tanh")}),
        RESIDUAL | {"cell_to_out": True, "gate": (0.7, -0.7, "tanh")},
    ),
    **{
        f"everything, feedback to {entry}": (
            ReciprocalCell(**EVERY | {"feedback_entry": entry}),
            RESIDUAL | {"feedback_entry": entry},
        )
        for entry in ("input", "cell", "out")
    },
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unroll", ["biological", "engineering"])
@pytest.mark.parametrize("name", CELLS)
def test_reciprocal_cell_matches_reference(name: str, unroll: str) -> None:
    cell, settings = CELLS[name]
    layers = [Layer(3, True, 7), Layer(4, True), Layer(5, True)]  # 18 -> 9 -> 5, odd maps
    feedback = ((3, 2),)
    net = models.convrnn(layers, cell, feedback=feedback, image=(2, 18, 18), classes=3, unroll=unroll)
    compare_convrnn(filled(net, 3, 0.25), layers, range(2, 4), feedback, settings, unroll, "dense", 6)


@pytest.mark.usefixtures("float64")
def test_convrnn_shallow_matches_reference() -> None:
    net = filled(models.convrnn_shallow(channels=(2, 4, 8, 8, 16), image=(3, 72, 72), classes=3), 4, 0.25)
    layers = [Layer(2, True, 7, 2), *(Layer(0, True) for _ in range(4))]
    compare_convrnn(net, layers, range(3, 6), (), {"input_act": "elu"}, "biological", "conv", 9)


@pytest.mark.usefixtures("float64")
def test_convrnn_intermediate_matches_reference() -> None:
    net = filled(
        models.convrnn_intermediate(channels=(2, 4, 4, 4, 4, 8, 8, 8, 16, 16), image=(3, 72, 72), classes=3), 4, 0.1
    )
    layers = [Layer(0, n in (1, 4, 6, 7, 10), 3, 2 if n == 1 else 1) for n in range(1, 11)]
    feedback = ((8, 5), (9, 6), (10, 7), (7, 6), (10, 9))
    compare_convrnn(net, layers, range(4, 11), feedback, MEDIAN, "biological", "dense", 13)


def test_gate_without_input_has_no_bias() -> None:
    for cell, rows in ((ReciprocalCell(bias=True), 2), (ReciprocalCell(bias=True, cell_to_out=True), 1)):
        net = models.convrnn([Layer(3)], cell, recurrent=(1,), feedback=(), image=(1, 6, 6))
        assert net.populations["h1"].rule.bias.shape == (rows, 3) and net.populations["c1"].rule.bias.shape == (2, 3)
    net = models.convrnn([Layer(3)], ReciprocalCell(depth=0, bias=True), recurrent=(1,), feedback=(), image=(1, 6, 6))
    assert net.populations["h1"].rule.bias.shape == (1, 3)


# ---------------------------------------------------------------------- Hopfield


def cues_of(count: int, units: int) -> torch.Tensor:
    return 2.0 * torch.randint(0, 2, (count, units), generator=torch.Generator().manual_seed(9)).float() - 1.0


@pytest.mark.parametrize("source", ["patterns", "weights"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("units", "count", "threshold"), [(100, 4, 0), (49, 4, 0), (20, 6, 4), (50, 3, -1), (30, 3, 1)]
)
def test_hopfield_synchronous_keeps_state_at_threshold(
    units: int, count: int, threshold: int, dtype: torch.dtype, source: str
) -> None:
    """The fields are compared in integers: N W s with N theta."""
    patterns = models.random_patterns(count, units, seed=1)
    stored = {"weights": models.hebbian(patterns)} if source == "weights" else {"patterns": patterns}
    net = models.hopfield(**stored, mode="synchronous", threshold=threshold / units).to(dtype)
    cues = cues_of(200, units)
    run = simulate(net, cues, solver=Iterate(), steps=6, record=Record(states=["s", "field", "energy"]))
    sums, s, ties = reference_pc.hopfield_sums(array(patterns)), array(cues), 0
    for step in range(6):
        ties += int((s @ sums.T == threshold).sum())
        s = reference_pc.hopfield_update(sums, s, threshold, None)
        assert (array(run["s"][step]) == s).all(), step
        field = s @ sums.T / units
        assert (array(run["field"][step]) == field.astype(str(dtype).removeprefix("torch.")).astype(float)).all()
        energy = -0.5 * (s * field).sum(1) + threshold / units * s.sum(1)
        assert np.abs(array(run["energy"][step])[:, 0] - energy).max() <= 1e-5 * units
    assert ties > 20


@pytest.mark.parametrize(("units", "count", "threshold"), [(100, 4, 0), (20, 6, 4)])
def test_hopfield_asynchronous_keeps_state_at_threshold(units: int, count: int, threshold: int) -> None:
    patterns = models.random_patterns(count, units, seed=1)
    cues, turns = cues_of(50, units), stimuli.turns(units, 50, rounds=2, seed=3)
    net = models.hopfield(patterns, threshold=threshold / units)
    record = Record(states=["s", "energy"])
    run = simulate(net, {"cue": cues, "turn": turns}, solver=Iterate(), steps=2 * units, record=record)
    sums, s = reference_pc.hopfield_sums(array(patterns)), array(cues)
    order = torch.stack([turns.at(10.0 * step).argmax(1) for step in range(2 * units)])
    assert (order.reshape(2, units, 50).sort(1).values == torch.arange(units)[:, None]).all(), "once per sweep"
    for step in range(2 * units):
        s = reference_pc.hopfield_update(sums, s, threshold, order[step].numpy())
        assert (array(run["s"][step]) == s).all(), step
        energy = (-0.5 * s * (s @ sums.T) + threshold * s).sum(1) / units
        assert np.abs(array(run["energy"][step])[:, 0] - energy).max() <= 1e-5 * units


def test_hopfield_centred_fields_are_exact() -> None:
    """P N^3 W is an integer matrix when the overall mean is subtracted."""
    patterns = models.random_patterns(3, 12, seed=4)
    xi, count, units = np.rint(array(patterns)).astype(np.int64), 3, 12
    total = xi.sum()
    scaled = count * units * xi - total  # P N (xi - mean)
    sums = scaled.T @ scaled
    np.fill_diagonal(sums, 0)
    net = models.hopfield(patterns, mode="synchronous", centred=True)
    cues = cues_of(200, 12)
    run = simulate(net, cues, solver=Iterate(), steps=5, record=Record(states=["s"]))
    s, ties = array(cues), 0
    for step in range(5):
        ties += int((s @ sums.T == 0).sum())
        s = reference_pc.hopfield_update(sums, s, 0, None)
        assert (array(run["s"][step]) == s).all(), step
    assert ties > 0


# ---------------------------------------------------------------------- precision


def test_float64_patterns_and_weights_keep_float64() -> None:
    generator = torch.Generator().manual_seed(2)
    patterns = torch.randn(5, 16, dtype=torch.float64, generator=generator)
    signs = patterns.sign()
    modern = {edge.name: edge.transform for edge in models.hopfield_modern(patterns).projections}
    assert torch.equal(modern["xi->attention"].weight, patterns) and torch.equal(
        modern["attention->xi"].weight.T, patterns
    )
    graded = models.hopfield_continuous(weights=patterns @ patterns.T)
    assert torch.equal(next(graded.parameters()), patterns @ patterns.T)
    for net in (
        models.hopfield(signs),
        models.hopfield(weights=patterns.T @ patterns),
        models.hopfield_continuous(signs),
    ):
        assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert models.hebbian(signs).dtype == torch.float64 and models.hebbian(signs.float()).dtype == torch.float32
    assert next(models.hopfield(signs.long()).parameters()).dtype == torch.float32


def test_networks_converted_to_float64_keep_numbers_to_float64() -> None:
    patterns = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    cue = torch.rand(3, 9, dtype=torch.float64)
    net = models.hopfield_modern(patterns, beta=1.7).double()
    run = simulate(net, cue, solver=Iterate(), steps=1, record=Record(states=["xi", "energy"]))
    x, xi = array(patterns), array(run["xi"][0])
    free = np.log(np.exp(1.7 * xi @ x.T).sum(1)) / 1.7
    energy = -free + 0.5 * (xi**2).sum(1) + math.log(4) / 1.7 + 0.5 * (x**2).sum(1).max()
    assert np.abs(array(run["energy"][0])[:, 0] - energy).max() <= 1e-14

    norm = LocalResponseNorm(6, alpha=0.1, c=0.7, beta=0.75).double()
    value = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    expected = reference_vision.lrn(array(value), 5, 0.1, 0.75, 0.7)
    assert np.abs(array(norm(value)) - expected).max() <= 1e-14
