"""Tensor operations as JavaScript: each operation of a traced program becomes a loop over typed arrays.

Arrays are Float32Arrays in the order of the tensor's axes, regardless of torch's memory format; booleans are 0 and 1.
Shapes are known when the code is written, so loops have constant bounds. An operation without an emitter is rejected.
"""

from __future__ import annotations

import base64
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import Node

from pcsim.core.exceptions import WiringError
from pcsim.plots.page.expressions import COPIES, POINTWISE, Shape, Value, number, over, strides_of
from pcsim.plots.page.kernels import KERNELS
from pcsim.plots.page.lowering import GATE, SHOWN, TAU, Lowered

ALIASES = frozenset({"view", "_unsafe_view", "unsqueeze", "squeeze", "detach", "alias", "clone", "_to_copy"})
"""operations whose result has the same values in the same order"""
FILLS = {"zeros_like": 0, "ones_like": 1, "new_zeros": 0, "new_ones": 1, "full_like": None, "new_full": None}
FIRST_OF = frozenset({"max_pool2d_with_indices", "native_batch_norm", "native_group_norm", "native_layer_norm"})
"""operations for which only the first result can be used"""
SPLIT = "split_with_sizes"


class Constants:
    """The tensors that all programs of a page share, stored once; the transpose of a stored matrix is not stored."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self._known: dict[bytes, str] = {}

    def expression(self, value: Tensor) -> str:
        """Return the JavaScript expression of a tensor."""
        array = value.detach().float().contiguous()
        content = array.numpy().tobytes()
        key = str(tuple(array.shape)).encode() + content
        if key not in self._known:
            turned = array.t().contiguous() if array.dim() == 2 else array
            other = str(tuple(turned.shape)).encode() + turned.numpy().tobytes()
            if array.dim() == 2 and other in self._known:
                self._known[key] = f"transposed({self._known[other]}, {array.shape[1]}, {array.shape[0]})"
            else:
                self._known[key] = f"C[{len(self.stored)}]"
                self.stored.append(base64.b64encode(content).decode())
        return self._known[key]


def supported() -> frozenset[str]:
    """Return the names of the operations that can be written."""
    return frozenset((*POINTWISE, *KERNELS, *COPIES, *ALIASES, *FILLS, SPLIT, "getitem"))


@lru_cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return torch's decompositions of operators without an emitter into simpler operators.

    Losses, log-sigmoids and others are thus traced as sums, products and exponentials.
    """
    from torch._decomp import core_aten_decompositions

    known = supported()
    return {op: made for op, made in core_aten_decompositions().items() if name_of(op) not in known}


def name_of(target: Any) -> str:
    """Return the name of an operator without its overload, such as "add" for aten.add.Tensor."""
    if target is operator.getitem:
        return "getitem"
    return cast(str, target._schema.name).removeprefix("aten::") if hasattr(target, "_schema") else str(target)


@dataclass
class _Written:
    """State kept while a program is being written."""

    names: dict[Node, Value]
    declared: list[str]
    early: list[str]
    late: list[str]


def program(lowered: Lowered, constants: Constants) -> str:
    """Return a JavaScript expression: a function (C) -> {takes, gives, early, late}.

    takes, gives  name -> Float32Array
    early         functions to call after a change of the images or time constants
    late          functions to call in every step
    """
    _require_known(lowered.graph)
    nodes = list(lowered.graph.nodes)
    places = [node for node in nodes if node.op == "placeholder"]
    held = places[: len(lowered.constants)]
    takes = dict(zip(lowered.takes, places[len(held) :], strict=True))
    written = _Written({}, [], [], [])
    for node, value in zip(held, lowered.constants, strict=True):
        shape = tuple(value.shape)
        if value.numel() == 1:
            written.names[node] = Value(number(value.item()), shape, is_number=True)
        else:
            written.names[node] = _declared(written, shape, constants.expression(value))
    moving = set()
    for name, node in takes.items():
        written.names[node] = _declared(written, tuple(node.meta["val"].shape))
        if not name.startswith((SHOWN, TAU)):
            moving.add(node)
    gates = {node for name, node in takes.items() if name.startswith(GATE)}
    guards = _guards(nodes, gates)
    for node in nodes:
        if node.op != "call_function":
            continue
        if any(source in moving for source in node.all_input_nodes):
            moving.add(node)
        body = _operation(node, written, gates)
        if body:
            guard = f"if (!{written.names[guards[node]].name}[0]) return; " if node in guards else ""
            is_late = node in moving
            (written.late if is_late else written.early).append(f"() => {{ {guard if is_late else ''}{body} }}")
    (ends,) = [node.args[0] for node in nodes if node.op == "output"]
    results = dict(zip(lowered.gives, (_array(written, written.names[cast(Node, end)]) for end in ends), strict=True))
    listed = "\n".join(f"  const {line};" for line in written.declared)
    return (
        "(C) => {\n"
        f"{listed}\n"
        f"  return {{\n    takes: {{{_table({name: written.names[node].name for name, node in takes.items()})}}},\n"
        f"    gives: {{{_table(results)}}},\n"
        f"    early: [\n      {_lines(written.early)}],\n    late: [\n      {_lines(written.late)}] }};\n}}"
    )


def _table(names: dict[str, str]) -> str:
    return ", ".join(f'"{key}": {name}' for key, name in names.items())


def _lines(functions: Sequence[str]) -> str:
    return ",\n      ".join(functions)


def _declared(written: _Written, shape: Shape, content: str = "") -> Value:
    name = f"v{len(written.declared)}"
    written.declared.append(f"{name} = {content or f'new Float32Array({math.prod(shape)})'}")
    return Value(name, shape)


def _array(written: _Written, value: Value) -> str:
    """Return the name of an array that contains this value, which may be a number."""
    if not value.is_number:
        return value.name
    return _declared(written, value.shape, f"new Float32Array([{value.name}])").name


def _guards(nodes: Sequence[Node], gates: set[Node]) -> dict[Node, Node]:
    """Map each operation that is needed only while one gate is open to that gate."""
    found: dict[Node, Node] = {}
    for node in reversed(nodes):
        if node.op != "call_function" or not node.users:
            continue
        passed = {
            user.args[0] if name_of(user.target) == "where" and user.args[1] is node else found.get(user)
            for user in node.users
            if user.op == "call_function"
        }
        is_result = any(user.op == "output" for user in node.users)
        if len(passed) == 1 and not is_result and (gate := passed.pop()) in gates:
            found[node] = cast(Node, gate)
    return found


def _operation(node: Node, written: _Written, gates: set[Node]) -> str:
    """Return the statements of one operation, and name its result."""
    name, shown = name_of(node.target), node.meta["val"]
    if name == "getitem":
        return _part(node, written)
    if name == SPLIT:
        written.names[node] = written.names[cast(Node, node.args[0])]
        return ""
    result: Tensor = shown[0] if isinstance(shown, tuple | list) else shown
    shape = tuple(result.shape)
    if name in ALIASES:
        source = written.names[cast(Node, node.args[0])]
        written.names[node] = Value(source.name, shape, source.is_number)
        return ""
    arguments = _arguments(node, written)
    out = written.names[node] = _declared(written, shape)
    if name in FILLS:
        fill = FILLS[name]
        return f"{out.name}.fill({number(arguments['fill_value'] if fill is None else fill)});"
    if name == "where" and node.args[0] in gates and not cast(Value, arguments["self"]).is_number:
        value, other = cast(Value, arguments["self"]), cast(Value, arguments["other"])
        if value.shape == shape and other.is_number:
            gate = cast(Value, arguments["condition"]).name
            return f"if ({gate}[0]) {out.name}.set({value.name}); else {out.name}.fill({other.name});"
    if name in POINTWISE:
        operands = [value for value in arguments.values() if isinstance(value, Value)]
        terms = {key: _term(value, shape, operands) for key, value in arguments.items()}
        flat = all(value.is_number or value.shape == shape or value.size == 1 for value in operands)
        line = f"{{i}} = {POINTWISE[name](**terms)};"
        if flat:
            return f"for (let i = 0; i < {out.size}; i++) {line.replace('{i}', f'{out.name}[i]')}"
        return over(shape, line.replace("{i}", f"{out.name}[{_index(shape, shape)}]"))
    if name in COPIES:
        source = cast(Value, arguments["self"])
        return _copied(out, source, COPIES[name](source.shape, shape, arguments))
    return KERNELS[name](out, arguments, lambda size, kind: _declared(written, (size,), f"new {kind}({size})").name)


def _part(node: Node, written: _Written) -> str:
    """Return the statements that select one result of an operation with several results."""
    source, number_of_part = cast(tuple[Node, int], node.args)
    value = written.names[node] = written.names[source]
    if name_of(source.target) != SPLIT:
        return ""
    given = _arguments(source, written)
    begin = sum(given["split_sizes"][:number_of_part])
    out = written.names[node] = _declared(written, tuple(node.meta["val"].shape))
    return _copied(out, value, COPIES["slice"](value.shape, out.shape, {**given, "start": begin, "step": 1}))


def _copied(out: Value, source: Value, layout: tuple[int, list[int]]) -> str:
    offset, strides = layout
    place = " + ".join([str(offset), *(f"{stride} * i{d}" for d, stride in enumerate(strides) if stride)])
    return over(out.shape, f"{out.name}[{_index(out.shape, out.shape)}] = {_at(source, place)};")


def _arguments(node: Node, written: _Written) -> dict[str, Any]:
    """Return the arguments of an operator by name, with its defaults; tensors become `Value`s."""

    def known(value: Any) -> Any:
        if isinstance(value, Node):
            return written.names[value]
        return [known(inner) for inner in value] if isinstance(value, list | tuple) else value

    schema = cast(Any, node.target)._schema.arguments
    given = dict(zip((argument.name for argument in schema), node.args, strict=False)) | dict(node.kwargs)
    return {a.name: known(given[a.name]) if a.name in given else a.default_value for a in schema}


def _term(value: Any, shape: Shape, operands: Sequence[Value]) -> Any:
    """Return an operand of a pointwise operation as an expression; other arguments are unchanged."""
    if not isinstance(value, Value):
        return value
    if value.is_number:
        return value.name
    if value.size == 1:
        return f"{value.name}[0]"
    flat = all(other.is_number or other.shape == shape or other.size == 1 for other in operands)
    return f"{value.name}[i]" if flat else f"{value.name}[{_index(value.shape, shape)}]"


def _index(shape: Shape, over_shape: Shape) -> str:
    """Return the flat index into an array of `shape`, broadcast against loops i0, i1, ... over `over_shape`."""
    skipped = len(over_shape) - len(shape)
    strides = strides_of(shape)
    terms = [f"{step} * i{skipped + d}" if step > 1 else f"i{skipped + d}" for d, step in enumerate(strides) if step]
    return " + ".join(terms) or "0"


def _at(value: Value, place: str) -> str:
    return value.name if value.is_number else f"{value.name}[{place}]"


def _require_known(graph: fx.Graph) -> None:
    """Raise WiringError if an operation cannot be written."""
    known = supported()
    unknown: dict[str, None] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name = name_of(node.target)
        if name == "getitem" and (made := name_of(cast(Node, node.args[0]).target)) != SPLIT:
            name = name if node.args[1] == 0 and made in FIRST_OF else f"result {node.args[1]} of {made}"
        if name not in known:
            unknown[name] = None
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16, torch.complex64):
            unknown[f"{name} in {str(value.dtype).removeprefix('torch.')}"] = None
    if unknown:
        raise WiringError(
            given=f"a network whose step uses {', '.join(unknown)}",
            expected="operations that a page can run: convolutions, pooling, matrix products, norms, sums, copies and "
            "pointwise functions",
            remedy="replace the module that uses it, or remove its edge with net.without(...); docs/export_page.md "
            "lists the operations",
        )
