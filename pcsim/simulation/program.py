"""Straight-line programs: the tensor operations of a function, traced once and replayed without its Python code.

    result = function(fixed, moving)        dicts of tensors: `fixed` is constant, `moving` changes from step to step

`Trace` records the tensor operations of one step, and `Program` unrolls any number of steps. Values that depend on
`fixed` alone (parameters, a static image and anything derived from them) are precomputed. Duplicate operations are
computed once, unused operations are removed, and an operation may overwrite an operand that is no longer needed. The
remaining operations and operands are unchanged, so results are bitwise identical.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import Node

Tensors = dict[str, Tensor]
Function = Callable[[Tensors, Tensors], Tensors]

# Elementwise operations whose out= argument may be one of their operands.
INTO = frozenset({"add", "sub", "mul", "div", "neg", "abs", "exp", "sqrt", "rsqrt", "square", "tanh", "sigmoid"})
INTO |= {"lerp", "addcmul", "addcdiv"}
OUT = INTO | {"mm", "addmm", "bmm"}
# torch functions equivalent to the operators of the same name, with half the overhead of a call through torch.ops.
DIRECT = OUT | {"rsub", "relu", "convolution", "cat", "clamp_min", "clamp_max", "isfinite"}
# Operator name in a trace -> the corresponding function, for the kernels in `kernels`.
KERNELS = {"_slow_conv2d_forward": "thnn_conv2d", "slow_conv_transpose2d": "slow_conv_transpose2d"}

LONG = 16
"""minimum number of steps of a program that runs in inference mode"""


class UntraceableError(Exception):
    """Raised for a function that reads tensor values or writes to its arguments: it can be run, but not replayed."""


class Trace:
    """A record of the tensor operations of `function(fixed, moving)` for the given tensors.

    instead  operator -> a function with the same arguments whose operations are recorded in place of the operator

    Raises UntraceableError if the function cannot be traced.
    """

    def __init__(
        self,
        function: Function,
        fixed: Tensors,
        moving: Tensors,
        instead: Mapping[Any, Callable[..., Any]] | None = None,
    ) -> None:
        self.fixed, self.moving = tuple(fixed), tuple(moving)
        self.results: tuple[str, ...] = ()

        def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
            count = len(self.fixed)
            result = function(
                dict(zip(self.fixed, tensors[:count], strict=True)),
                dict(zip(self.moving, tensors[count:], strict=True)),
            )
            self.results = tuple(result)
            return tuple(result.values())

        # Use separate tensor objects: the state may contain the same tensor as the inputs.
        tensors = [tensor.detach() for tensor in (*fixed.values(), *moving.values())]
        module = _traced(flat, tensors, instead)
        if _has_writes(module.graph):
            # The function writes to tensors that it created: replace in-place operations with out-of-place operations.
            module = _traced(torch.func.functionalize(module), tensors, None)
        if _has_writes(module.graph):
            raise UntraceableError("it writes to its own tensors in place")
        self.graph = module.graph
        ends = results_of(self.graph)
        self.forms: Tensors = dict(zip(self.results, (end.meta["val"] for end in ends), strict=True))
        """name -> a fake tensor with the shape, type and layout of the result"""
        held = [cast(str, node.target) for node in self.graph.nodes if node.op == "get_attr"]
        self.constants = {f"{name} of {id(self)}": getattr(module, name) for name in held}

    def equals(self, other: Trace) -> bool:
        """Return whether both traces have the same operations and constants."""
        mine, theirs = self.constants.values(), other.constants.values()
        return str(self.graph) == str(other.graph) and all(map(torch.equal, mine, theirs))

    def onto(self, graph: fx.Graph, given: dict[str, Node]) -> dict[str, Node]:
        """Append the operations to `graph`, with the nodes `given` as inputs; return the result nodes by name."""
        names = iter((*self.fixed, *self.moving))
        known = {
            node: given[next(names) if node.op == "placeholder" else f"{node.target} of {id(self)}"]
            for node in self.graph.nodes
            if node.op in ("placeholder", "get_attr")
        }
        return dict(zip(self.results, inlined(graph, self.graph, known), strict=True))

    def placeholders(self, graph: fx.Graph, names: Sequence[str]) -> dict[str, Node]:
        """Add placeholders to `graph` for fixed tensors, moving tensors or constants; return them by name."""
        shapes = dict(zip((*self.fixed, *self.moving), (n.meta["val"] for n in self.graph.nodes), strict=False))
        made: dict[str, Node] = {}
        for name in names:
            made[name] = graph.placeholder(f"given_{len(graph.nodes)}")
            made[name].meta["val"] = shapes.get(name)
        return made


def _traced(
    function: Callable[..., Any], tensors: Sequence[Tensor], instead: Mapping[Any, Callable[..., Any]] | None
) -> fx.GraphModule:
    """Trace a function with these tensors. Raises UntraceableError if it cannot be traced."""
    try:
        # This is a private part of torch. If it is missing, steps are run one at a time.
        from torch.fx.experimental.proxy_tensor import make_fx

        # Trace real tensors: some kernels depend on the layout, and fake tensors may have layouts that never occur.
        with torch.no_grad(), torch.random.fork_rng():
            return make_fx(function, dict(instead or {}), "real")(*tensors)
    except Exception as reason:  # a step-by-step run will raise the exception again
        raise UntraceableError("; ".join([str(reason), *getattr(reason, "__notes__", [])])) from reason


def _has_writes(graph: fx.Graph) -> bool:
    return any(schema.is_mutable for node in graph.nodes if (schema := _schema(node)))


def results_of(graph: fx.Graph) -> tuple[Node, ...]:
    """Return the output nodes of a graph."""
    return cast(tuple[Node, ...], next(iter(reversed(graph.nodes))).args[0])


def inlined(graph: fx.Graph, part: fx.Graph, known: Mapping[Node, Node]) -> list[Node]:
    """Append the operations of `part` to `graph`, with the nodes `known` as its inputs; return its results."""
    nodes = dict(known)
    for node in part.nodes:
        if node not in nodes and node.op != "output":
            nodes[node] = graph.node_copy(node, nodes.__getitem__)
    return [nodes[end] for end in results_of(part)]


def inputs_of(graph: fx.Graph, traces: Sequence[Trace]) -> dict[str, Node]:
    """Add placeholders to `graph` for the fixed tensors and constants of all traces; return them by name."""
    fixed: dict[str, Node] = {}
    for trace in traces:
        fixed |= trace.placeholders(graph, [name for name in (*trace.fixed, *trace.constants) if name not in fixed])
    return fixed


RECORDED = "recorded "
"""prefix of the names of results that are only recorded, not passed to the next step"""


class Program:
    """A program of len(due) steps, which records values after each step for which `due` is True.

    unrecorded, recording  traces of one step, without and with recording; results except "recorded ..." match `moving`
    compiled  whether to compile the steps on the first run; this is faster, but results then agree only up to rounding

    `given(fixed)` precomputes the values that depend on `fixed` alone. `run` takes these values and `moving`, and
    returns the values of `moving` after the last step and the recorded rows.
    """

    def __init__(self, unrecorded: Trace, recording: Trace, due: Sequence[bool], compiled: bool = False) -> None:
        graph = fx.Graph()
        self.takes, self.gives = unrecorded.moving, unrecorded.results
        self.notes = tuple(name for name in recording.results if name.startswith(RECORDED))
        self._names = tuple(name.removeprefix(RECORDED) for name in self.notes)
        self.is_long, self.rows = len(due) >= LONG, sum(due)
        self.constants = unrecorded.constants | recording.constants
        fixed = inputs_of(graph, (unrecorded, recording))
        self.fixed = tuple(fixed)
        state = unrecorded.placeholders(graph, self.takes)
        rows: list[Node] = []
        for note in due:
            made = (recording if note else unrecorded).onto(graph, fixed | state)
            state = {name: made[name] for name in self.gives}
            rows += [made[name] for name in self.notes] if note else []
        graph.output((*(state[name] for name in self.gives), *rows))
        deduplicate(graph)
        before, self.body = split(graph, set(fixed.values()))
        self._before = callable_of(before)
        self.is_compiled, self.runs = compiled, 0
        self._run = _compiled(self.body) if compiled else callable_of(_reusing(self.body))

    def given(self, fixed: Tensors) -> tuple[Tensor, ...]:
        """Precompute, from `fixed`, the values needed at each step."""
        known = fixed | self.constants
        with torch.no_grad():
            return self._before(*(known[name] for name in self.fixed))

    def run(self, given: tuple[Tensor, ...], moving: Tensors) -> tuple[Tensors, list[Tensors]]:
        """Return the values of `moving` after the last step, and the recorded rows."""
        # Inference mode makes small operations 10 % faster. Cloning its results is a cheap way to get normal tensors.
        inference = self.is_long and not self.is_compiled
        with torch.inference_mode(inference), torch.no_grad():
            made = self._run(*given, *[moving[name] for name in self.takes])
        self.runs += 1
        if inference or (self.is_compiled and made[0].is_cuda):  # the next run of a CUDA graph overwrites its results
            made = (*(value.clone() for value in made[: len(self.gives)]), *made[len(self.gives) :])
        width, first = len(self._names), len(self.gives)
        rows = [dict(zip(self._names, made[first + row * width :], strict=False)) for row in range(self.rows)]
        return dict(zip(self.gives, made, strict=False)), rows


def _schema(node: Node) -> torch._C.FunctionSchema | None:
    return node.target._schema if isinstance(node.target, torch._ops.OpOverload) else None


def _is_pure(node: Node) -> bool:
    """Return whether identical calls to an operation can be merged (not if it draws random numbers)."""
    if isinstance(node.target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded not in node.target.tags
    return node.op == "call_function"


def deduplicate(graph: fx.Graph) -> None:
    """Merge duplicate operations with the same operands, and remove unused operations."""
    first: dict[object, Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and _is_pure(node):
            same = first.setdefault(_frozen((node.target, node.args, node.kwargs)), node)
            if same is not node:
                node.replace_all_uses_with(same)
                graph.erase_node(node)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and _is_pure(node) and not node.users:
            graph.erase_node(node)


def _frozen(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_frozen(inner) for inner in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(inner)) for key, inner in value.items())
    # Compare types and representations, because in Python 0.0 == -0.0 and 1 == 1.0 == True.
    return value if isinstance(value, Node) else (type(value), repr(value))


def split(graph: fx.Graph, fixed: set[Node]) -> tuple[fx.Graph, fx.Graph]:
    """Split `graph` into a part that depends only on the `fixed` placeholders, and a part that uses its results."""
    steady = set(fixed)
    for node in graph.nodes:
        if node.op == "call_function" and _is_pure(node) and all(source in steady for source in node.all_input_nodes):
            steady.add(node)
    needed = [node for node in graph.nodes if node in steady and any(user not in steady for user in node.users)]
    before, body = fx.Graph(), fx.Graph()
    nodes = {node: before.node_copy(node) for node in graph.nodes if node in fixed}
    for node in graph.nodes:
        if node in steady and node not in fixed:
            nodes[node] = before.node_copy(node, nodes.__getitem__)
    before.output(tuple(nodes[node] for node in needed))
    nodes = {}
    for node in needed:
        nodes[node] = body.placeholder(f"held_{len(nodes)}")
        nodes[node].meta = dict(node.meta)
    for node in graph.nodes:
        if node not in steady:
            nodes[node] = body.node_copy(node, nodes.__getitem__)
    return before, body


def _owner(node: Node, owners: dict[Node, Node]) -> Node:
    """Return the node that owns the memory of `node`'s value."""
    schema = _schema(node)
    source = node.args[0] if node.args else None
    if not isinstance(source, Node):
        return node
    if node.target is operator.getitem:
        return owners[source] if owners[source] is not source else node
    is_view = schema is not None and (
        any(result.alias_info for result in schema.returns) or node.target is torch.ops.aten._unsafe_view.default
    )
    return owners[source] if is_view else node


def _reusing(graph: fx.Graph) -> fx.Graph:
    """Return the graph with results written to free buffers of the same layout, preferably an operand's."""
    result = fx.Graph()
    nodes: dict[Node, Node] = {}
    for node in graph.nodes:
        nodes[node] = result.node_copy(node, nodes.__getitem__)
    order = {node: position for position, node in enumerate(result.nodes)}
    owners: dict[Node, Node] = {}
    last: dict[Node, int] = {}
    lying: dict[Node, list[Node]] = defaultdict(list)
    for node in result.nodes:
        owners[node] = owner = _owner(node, owners)
        lying[owner].append(node)
        last[owner] = max(last.get(owner, 0), *(order[user] for user in node.users), 0)
    spare: dict[object, list[Node]] = defaultdict(list)

    def ends_with(operand: Node, node: Node) -> bool:
        """Return whether `operand` fills a buffer of this graph that is not used after `node`."""
        own = owners[operand]
        return own.op != "placeholder" and last[own] == order[node] and _size(operand) == _size(own)

    for node in result.nodes:
        name, form = _name(node), _form(node)
        operands = node.all_input_nodes
        if name in OUT and owners[node] is node:
            ending = (operand for operand in operands if ends_with(operand, node) and _form(operand) == form)
            alone = (o for o in ending if sum(owners[other] is owners[o] for other in operands) == 1)
            over = next(alone, None) if name in INTO else None
            if over is None and spare[form]:
                over = spare[form].pop()
            if over is not None:
                own = owners[over]
                owners.update(dict.fromkeys(lying[node], own))
                lying[own] += lying.pop(node)
                last[own] = last[node]
                _write_over(node, over, name)
        for own in {owners[operand] for operand in operands if ends_with(operand, node)} - {owners[node]}:
            spare[_form(own)].append(own)
    return result


def _name(node: Node) -> str:
    """Return the name of an operation, such as "add" for aten.add.Tensor."""
    schema = _schema(node)
    return schema.name.removeprefix("aten::") if schema else ""


def _size(node: Node) -> int | None:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else None


def _form(node: Node) -> object:
    value = node.meta.get("val")
    return (value.shape, value.stride(), value.dtype, value.device) if isinstance(value, Tensor) else None


def _write_over(node: Node, operand: Node, name: str) -> None:
    if node.args[0] is operand:
        node.op, node.target = "call_method", f"{name}_"
    else:
        node.target, node.kwargs = getattr(torch, name), {**node.kwargs, "out": operand}


def callable_of(graph: fx.Graph) -> Callable[..., tuple[Tensor, ...]]:
    """Return the graph as a plain Python function."""
    for node in graph.nodes:
        if (name := _name(node)) in DIRECT:
            node.target = getattr(torch, name)
        elif name in KERNELS:
            node.target = getattr(torch._C._nn, KERNELS[name])
    return fx.GraphModule({}, graph).forward


def _compiled(graph: fx.Graph) -> Callable[..., tuple[Tensor, ...]]:
    """Return a function that is compiled on its first call: to C++ on a CPU, or to a CUDA graph on a GPU."""
    from torch import _inductor as inductor

    ready: Callable[..., tuple[Tensor, ...]] | None = None

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal ready
        if ready is None:
            options = {"triton.cudagraphs": True} if tensors[0].is_cuda else {"cpp_wrapper": True}
            # torch.compile would trace the graph again and check its inputs at every call.
            for node in graph.nodes:
                node.meta.clear()  # the traces have metadata from different fake-tensor modes
            ready = inductor.compile(fx.GraphModule({}, graph), list(tensors), options=options)
        return ready(*tensors)

    return run
