"""Small configurations of every registered model, and inputs for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pcsim import Euler, Iterate, Network, models
from pcsim.models import CELLS, MEDIAN, Architecture, Gate, Layer, ReciprocalCell
from pcsim.solvers import Solver

PLAIN_CONVRNN = {"layers": (Layer(4, True), Layer(4, True), Layer(5)), "image": (1, 16, 16), "classes": 3}
EVERY_EDGE = ReciprocalCell(
    depth=3,
    tau=Gate(0.8, -0.6),
    gate=Gate(0.7, -0.7, "tanh"),
    cell_kernel=2,
    input_to_out_kernel=3,
    input_to_tau=True,
    input_to_gate=True,
    cell_residual=True,
    out_residual=True,
    residual_to_cell_tau=True,
    residual_to_cell_gate=True,
    residual_to_out_tau=True,
    residual_to_out_gate=True,
    separable=("tau", "gate", "input", "feedback"),
    input_activation="relu",
    cell_activation="tanh",
    feedback_activation="elu",
    feedback_kernel=3,
    bias=True,
)
"""All optional edges of the reciprocal cell except cell_to_out, which replaces a gate."""
CORNET = {"channels": (4, 4, 8, 8), "image": (2, 32, 32), "classes": 3}

# Keys are names of registered models, or "model/variant".
SMALL: dict[str, dict[str, Any]] = {
    **{
        name: {"channels": (3, 3), "image": (1, 8, 8)}
        for name in ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
    },
    "leaky_rcnn": {"channels": (3, 4), "tau": (10.0, 10.0), "image": (1, 8, 8)},
    "rcnn": {"channels": (4, 4, 4, 4), "iterations": 2, "image": (1, 8, 8), "classes": 3},
    "grcnn": {"channels": (4, 5), "iterations": 2, "stem": 3, "image": (1, 8, 8), "classes": 3},
    **{
        f"rcnn_sat_{kind}": {"channels": (4, 5), "kernels": (3, 1), "steps": steps, "image": (1, 8, 8), "classes": 3}
        for kind, steps in (("b", 1), ("bk", 1), ("bf", 1), ("bd", 1), ("bl", 4))
    },
    "shared_resnet": {"channels": 4, "steps": 4, "image": (1, 8, 8), "classes": 3},
    "multi_state": {"channels": (3, 4), "steps": 4, "image": (1, 8, 8), "classes": 3},
    "multi_state/unshared": {
        "channels": (3, 4, 4),
        "adjacency": "full",
        "shared": False,
        "steps": 4,
        "image": (1, 8, 8),
        "classes": 3,
    },
    "convrnn": PLAIN_CONVRNN,
    **{f"convrnn/{cell}": PLAIN_CONVRNN | {"cell": cell} for cell in CELLS if cell != "reciprocal"},
    "convrnn/every_edge": PLAIN_CONVRNN | {"cell": EVERY_EDGE, "unroll": "engineering"},
    "convrnn_shallow": {"channels": (2, 4, 8, 8, 16), "steps": 8, "image": (2, 96, 96), "classes": 3},
    "convrnn_intermediate": {
        "cell": dataclasses.replace(MEDIAN, depth=3),
        "channels": (2, 4, 4, 4, 4, 8, 8, 8, 16, 16),
        "image": (2, 64, 64),
        "classes": 3,
        "steps": 12,
    },
    "cornet_z": CORNET,
    "cornet_r": CORNET | {"groups": 2},
    "cornet_rt": CORNET | {"groups": 2},
    "cornet_s": CORNET | {"channels": (3, 4, 5, 6), "iterations": (2, 3, 1), "scale": 2},
    "resnet18": CORNET,
    "resnet34": CORNET | {"channels": (2, 3, 4, 5)},
    "convlstm": {"channels": (4, 3), "kernel": 3, "input_frames": 3, "output_frames": 3, "image": (1, 16, 16)},
    "subconvlstm": {"channels": (4, 3), "kernel": 3, "input_frames": 3, "output_frames": 3, "image": (1, 16, 16)},
    "sublstm": {"units": 5, "inputs": 3, "layers": 2, "steps": 5, "classes": 3},
    "pcn_global": {"channels": (4, 5, 6), "pooled": (2,), "cycles": 4, "image": (2, 8, 8), "classes": 3},
    "pcn_local": {"architecture": Architecture((4, 5), (1,)), "cycles": 3, "image": (2, 8, 8), "classes": 3},
    "prednet": {"channels": (1, 4, 5), "image": (1, 16, 16)},
    "prednet_kitti": {"channels": (3, 4, 5), "image": (3, 16, 24)},
    "predictive_coding": {"layers": ((2, 8, 8), (4, 4, 4), (6,), (3,)), "activation": "tanh"},
    "predictive_coding/outside": {
        "layers": ((4, 4, 4), (2, 8, 8), (3,)),
        "activation": "sigmoid",
        "nonlinearity": "outside",
    },
    "ei_rcnn": {"channels": (2, 3), "inhibitory": 1, "image": (1, 8, 8), "classes": 3, "steps": 4},
    "wilson_cowan": {},
    "ssn": {},
    "ssn/ring": {"units": 6},
    "interneurons": {"channels": (4, 2, 3, 2), "image": (1, 4, 4)},
    "intrinsic_suppression": {"channels": (3, 4), "image": (1, 8, 8), "classes": 3},
    "delayed_normalisation": {"channels": 3, "image": (1, 4, 4), "tau": (10.0, 20.0)},
    "delayed_normalisation/biphasic": {
        "channels": 3,
        "image": (1, 4, 4),
        "undershoot": 0.5,
        "pooled": True,
        "power": 1.5,
    },
    "organics": {"units": 4},
    "dynamic_synapses": {"units": 3, "tau_facilitation": 500.0},
    "bump_attractor": {"units": 8},
    "laminar": {"layers": ((2, 8, 8), (4, 4, 4), (6,), (3,)), "activation": "tanh"},
    "laminar/leaky": {"layers": ((2, 8, 8), (4, 4, 4), (6,)), "tau_l4": 8.0, "tau_l23": 10.0},
    "hgru": {"channels": 4, "kernel": 3, "filters": 3, "steps": 4, "image": (1, 8, 8)},
    "hgru/norm": {
        "channels": 4,
        "kernel": 3,
        "filters": 3,
        "steps": 4,
        "image": (1, 8, 8),
        "norm": True,
        "symmetric": False,
    },
    "two_streams": {"channels": (3, 4, 5), "image": (1, 16, 16), "keys": 3},
    "two_streams/feedforward": {"channels": (3, 4, 5), "image": (1, 16, 16), "feedback": False},
    "shifter": {"channels": (3, 4), "image": (2, 8, 10), "window": 5, "grid": (2, 3), "places": 3, "classes": 3},
    "hopfield": {"units": 20, "count": 2},
    "hopfield_continuous": {"units": 20, "count": 2},
    "hopfield_modern": {"units": 20, "count": 3},
}

PUBLISHED_COUNTS = {  # for default settings, if the count is published or follows from published code
    "blt_b": 9_898,
    "blt_bk": 26_794,
    "blt_bf": 38_218,
    "blt_bl": 28_330,
    "blt_bt": 19_114,
    "blt": 37_546,
    "rcnn": 672_202,
    "rcnn_sat_b": 11_037_768,
    "rcnn_sat_bk": 39_796_040,
    "rcnn_sat_bf": 40_006_824,
    "rcnn_sat_bd": 28_819_848,
    "rcnn_sat_bl": 28_870_920,
    "convrnn_intermediate": 15_445_800,
    "cornet_z": 2_071_656,
    "cornet_r": 5_208_936,
    "cornet_rt": 5_208_936,
    "cornet_s": 53_416_616,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "convlstm": 7_585_296,
    "pcn_global": 4_653_450,
    "pcn_local": 9_898_192,
    "prednet_kitti": 6_915_948,
}


def small(name: str) -> Network:
    """Return a small network with randomly perturbed weights, because zeros could hide errors."""
    net = models.build(name.split("/")[0], **SMALL[name])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(0.1 * noise)
    return net.eval()


def shown(net: Network, batch: int, seed: int = 2) -> dict[str, Tensor]:
    """Return random samples from U(0, 1), which differ between inputs."""
    generator = torch.Generator().manual_seed(seed)
    like = torch.zeros(())
    return {
        name: torch.stack([torch.rand(shape, generator=generator, dtype=like.dtype) for _ in range(batch)])
        for name, shape in net.inputs.items()
    }


def stepping(net: Network) -> tuple[Solver, int]:
    """Return a suitable solver and number of steps."""
    return (Euler(dt=2.0), 8) if net.is_flow else (Iterate(), min(net.steps or 8, 12))
