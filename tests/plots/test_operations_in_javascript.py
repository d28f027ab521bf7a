"""Every emitter against torch, with random shapes and values, in node or a browser."""

# ruff: noqa: E501 - a case is a line
from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.javascript import browser, evaluate, shutil
from torch import Tensor
from torch.nn import functional as F

from pcsim import WiringError
from pcsim.core.state import State
from pcsim.plots.page.javascript import Constants, decompositions, name_of, program, supported
from pcsim.plots.page.lowering import Lowered, traced

aten = torch.ops.aten
A, B, C = (2, 3, 5, 4), (3, 1, 1), (1, 5, 1)


def conv(stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, **more: Any) -> Callable[..., Tensor]:
    return lambda x, w, *b: F.conv2d(x, w, *b, stride=stride, padding=padding, dilation=dilation, groups=groups)


def up(**options: Any) -> Callable[..., Tensor]:
    return lambda x, w, *b: F.conv_transpose2d(x, w, *b, **options)


CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "add": (lambda x, y: torch.add(x, y, alpha=0.3) + 1.5, (A, B)),
    "sub": (lambda x, y: torch.sub(x, y, alpha=-2), (A, C)),
    "rsub": (lambda x: torch.rsub(x, 1.0, alpha=0.5), (A,)),
    "mul": (lambda x, y: x * y * -0.7, (B, A)),
    "div": (lambda x, y: x / y + torch.div(x, y, rounding_mode="floor") + torch.div(x, 0.3, rounding_mode="trunc"), (A, A)),
    "pow": (lambda x: x**2 + x.abs() ** -0.75 + x**3, (A,)),
    "clamp": (lambda x: x.clamp(-0.5) + x.clamp(max=0.5) + x.clamp(-0.1, 0.2), (A,)),
    "clamp_min": (lambda x: aten.clamp_min(x, -0.1), (A,)),
    "clamp_max": (lambda x: aten.clamp_max(x, 0.1), (A,)),
    "hardtanh": (lambda x: aten.hardtanh(x, -0.2, 0.4), (A,)),
    "maximum": (lambda x, y: torch.maximum(x, y), (A, C)),
    "minimum": (lambda x, y: torch.minimum(x, y), (A, B)),
    "reciprocal": (lambda x: (x.abs() + 1).reciprocal(), (A,)),
    "square": (lambda x: aten.square(x), (A,)),
    "sqrt": (lambda x: x.abs().sqrt(), (A,)),
    "rsqrt": (lambda x: (x.abs() + 0.1).rsqrt(), (A,)),
    "exp": (lambda x: x.exp() - x.expm1() + (-x).exp(), (A,)),
    "log": (lambda x: (x.abs() + 0.1).log() + x.abs().log1p(), (A,)),
    "tanh": (lambda x: x.tanh() + x.sigmoid() + x.cos() + x.sin(), (A,)),
    "rounding": (lambda x: (5 * x).floor() + (3 * x).ceil() + x.sign(), (A,)),
    "relu": (lambda x: x.relu() + F.leaky_relu(x, 0.1) + F.elu(x, 0.7) + F.softplus(30 * x) + F.silu(x), (A,)),
    "hardsigmoid": (lambda x: aten.hardsigmoid(4 * x), (A,)),
    "lerp": (lambda x, y, w: torch.lerp(x, y, w) + torch.lerp(x, y, 0.7), (A, A, B)),
    "addcmul": (lambda x, y, z: torch.addcmul(x, y, z, value=0.2) + torch.addcdiv(x, y, z.abs() + 1), (A, B, C)),
    "where": (lambda x, y: torch.where(x > y, x, 0.0) + (x >= 0).to(x) * 2 + (y < x) * (x <= y + 1), (A, B)),
    "equal": (lambda x: (x.sign() == 1).to(x) + (x.sign() != 1).to(x) * 3, (A,)),
    "logic": (lambda x, y: ((x > 0).logical_and(y > 0)).to(x) + 2 * ((x > 0).logical_or((y > 0).logical_not())), (A, B)),
    "backward": (lambda x, y: aten.threshold_backward(x, y, 0.0) + aten.sigmoid_backward(x, y) + aten.tanh_backward(x, y), (A, A)),
    "views": (lambda x: x.reshape(6, 20)[None].flatten().unsqueeze(0).squeeze(0).clone().detach() * 1, (A,)),
    "permute": (lambda x: x.permute(2, 0, 3, 1) + 0, (A,)),
    "transpose": (lambda x: x.transpose(1, 3).reshape(2, -1).t() + 0, (A,)),
    "expand": (lambda x: x.expand(2, 3, 5, 4) + x[0, 0, 0], (B,)),
    "slice": (lambda x: x[:, 1:, ::2, -3:-1] + x[:, 1:, ::2, 1:3], (A,)),
    "select": (lambda x: x[:, 1] + x[:, -1], (A,)),
    "fills": (lambda x: torch.zeros_like(x) + torch.ones_like(x) * x.new_full((3, 1, 1), 2.5) + x.new_ones(4) + x.new_zeros(4) + torch.full_like(x, -1), (A,)),
    "mm": (lambda x, y: x @ y, ((3, 5), (5, 4))),
    "bmm": (lambda x, y: torch.bmm(x, y), ((2, 3, 5), (2, 5, 4))),
    "addmm": (lambda b, x, y: torch.addmm(b, x, y) + torch.addmm(b, x, y, beta=0.5, alpha=-2), ((4,), (3, 5), (5, 4))),
    "linear": (lambda x, w, b: F.linear(x, w, b), ((1, 5), (7, 5), (7,))),
    "conv same": (conv(padding=1), ((2, 3, 6, 7), (4, 3, 3, 3), (4,))),
    "conv 1x1": (conv(), ((1, 3, 6, 7), (4, 3, 1, 1), (4,))),
    "conv wide": (conv(padding=3), ((1, 2, 8, 9), (3, 2, 7, 7))),
    "conv valid": (conv(), ((1, 2, 8, 9), (3, 2, 3, 5), (3,))),
    "conv padded beyond": (conv(padding=(2, 3)), ((1, 2, 5, 4), (3, 2, 1, 3))),
    "conv stride": (conv(stride=2, padding=(1, 0)), ((2, 3, 7, 8), (4, 3, 3, 3), (4,))),
    "conv stride wide": (conv(stride=(2, 3), padding=3), ((1, 2, 9, 9), (3, 2, 7, 7))),
    "conv groups": (conv(padding=1, groups=3), ((2, 6, 5, 5), (9, 2, 3, 3))),
    "conv depthwise dilated": (conv(padding=2, dilation=2, groups=4), ((1, 4, 6, 6), (4, 1, 3, 3))),
    "up": (up(stride=2, padding=1, output_padding=1), ((2, 4, 4, 5), (4, 3, 3, 3), (3,))),
    "up wide": (up(stride=3, padding=2), ((1, 2, 4, 5), (2, 3, 7, 7))),
    "up groups": (up(stride=2, groups=2, dilation=2), ((1, 4, 4, 5), (4, 3, 2, 2))),
    "up beyond": (up(stride=2, output_padding=1), ((1, 2, 3, 3), (2, 2, 1, 1))),
    "max pool": (lambda x: F.max_pool2d(x, 2) + F.max_pool2d(x, 3, 2, 1)[..., :2, :2], ((2, 3, 4, 4),)),
    "max pool ceil": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), ((2, 3, 6, 5),)),
    "split": (lambda x: torch.cat([part * (n + 1) for n, part in enumerate(x.split([1, 2], 1))], 1), ((2, 3, 4),)),
    "mean pool": (lambda x: F.avg_pool2d(x, 2) + F.avg_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ((2, 3, 4, 4),)),
    "reductions": (lambda x: x.sum((1, 3)) + x.mean((1, -1)) + x.amax((1, 3)) + x.amin((-3, 3)) + x.sum() + x.mean(), (A,)),
    "kept axes": (lambda x: x.sum(1, keepdim=True) + x.amax(2, keepdim=True), (A,)),
    "softmax": (lambda x: x.softmax(1) + x.log_softmax(-1) + x.softmax(0), (A,)),
    "group norm": (lambda x, w, b: F.group_norm(x, 2, w, b) + F.group_norm(x, 4), ((2, 4, 3, 3), (4,), (4,))),
    "layer norm": (lambda x, w, b: F.layer_norm(x, (5, 4), w, b), (A, (5, 4), (5, 4))),
    "batch norm": (lambda x, m, v, w: F.batch_norm(x, m, v.abs() + 0.5, w, w), (A, (3,), (3,), (3,))),
    "cat": (lambda x, y: torch.cat([x, y, x], 1), (A, (2, 1, 5, 4))),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), (A,)),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, size=(10, 8)), (A,)),
    "bilinear": (lambda x: F.interpolate(x, (9, 7), mode="bilinear", align_corners=True) + F.interpolate(x, (9, 7), mode="bilinear"), (A,)),
    "bilinear scale": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (A,)),
    "logsigmoid (decomposed)": (lambda x: F.logsigmoid(x), (A,)),
}  # fmt: skip
pytestmark = pytest.mark.skipif(
    not shutil.which("node") and browser() is None, reason="neither node nor a browser is on the PATH"
)


def lowered(functions: dict[str, Callable[..., Any]], tensors: dict[str, list[Tensor]]) -> Lowered:
    given = {f"state {name} {n}": tensor for name, each in tensors.items() for n, tensor in enumerate(each)}

    def all_of(_: State, moving: State) -> State:
        return {
            name: function(*(moving[f"state {name} {n}"] for n in range(len(tensors[name]))))
            for name, function in functions.items()
        }

    return traced(all_of, {}, given, decompositions(), "a test")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, list[float]], set[str]]:
    """Return the results of torch and of JavaScript for each case, and the operations used."""
    tensors = {name: [torch.randn(shape) for shape in shapes] for name, (_, shapes) in CASES.items()}
    for name in CASES:
        if name.startswith(("conv", "up")):
            tensors[name][0][..., 0] = 0.0  # pixels that are left out
    functions = {name: function for name, (function, _) in CASES.items()}
    wanted = {name: function(*tensors[name]) for name, function in functions.items()}
    made, constants = lowered(functions, tensors), Constants()
    code = program(made, constants)
    given = {f"state {name} {n}": each.flatten().tolist() for name in CASES for n, each in enumerate(tensors[name])}
    kept = [torch.frombuffer(bytearray(b64decode(each)), dtype=torch.float32).tolist() for each in constants.stored]
    script = (
        f"(() => {{ const given = {json.dumps(given)}, made = ({code})({json.dumps(kept)}.map((c) => "
        "new Float32Array(c))); for (const key in given) made.takes[key].set(given[key]); "
        "for (let n = 0; n < 2; n++) for (const f of [...made.early, ...made.late]) f(); "  # twice: nothing is left over
        "return Object.fromEntries(Object.entries(made.gives).map(([key, value]) => [key, Array.from(value)])); })()"
    )
    used = {name_of(node.target) for node in made.graph.nodes if node.op == "call_function"}
    return wanted, evaluate(script, tmp_path_factory.mktemp("js")), used


@pytest.mark.parametrize("name", CASES)
def test_operation_equals_torch(
    name: str, computed: tuple[dict[str, Tensor], dict[str, list[float]], set[str]]
) -> None:
    wanted, found, _ = computed
    assert len(found[name]) == wanted[name].numel()
    np.testing.assert_allclose(found[name], wanted[name].double().flatten().numpy(), rtol=2e-5, atol=2e-6)


def test_every_emitter_is_tested(computed: tuple[object, object, set[str]]) -> None:
    assert supported() <= computed[2]


def test_matrix_and_its_transpose_are_stored_once(tmp_path: Path) -> None:
    constants, matrix = Constants(), torch.randn(3, 4)
    one, other = constants.expression(matrix), constants.expression(matrix.t())
    assert (one, other, len(constants.stored)) == ("C[0]", "transposed(C[0], 3, 4)", 1)
    assert constants.expression(matrix.t().contiguous().t()) == "C[0]"


def test_unknown_operation_is_refused_by_name() -> None:
    with pytest.raises(WiringError, match="uses cumsum"):
        program(lowered({"x": lambda x: x.cumsum(1)}, {"x": [torch.randn(2, 3)]}), Constants())
