"""A compiled function that contains a loop over any number of steps.

    (state, rows) = loop.run(given, state, gap)          `rows` times: `gap` unrecorded steps, then a recorded step

A single step and the loop over time are compiled to C++ once, within seconds. On a GPU, steps are instead unrolled
into a CUDA graph (`program.Program`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import Node

from pcsim.simulation.program import (
    RECORDED,
    Tensors,
    Trace,
    callable_of,
    deduplicate,
    inlined,
    inputs_of,
    results_of,
    split,
)

ATEN = torch.ops.aten


class Loop:
    """A loop that records `rows` rows, each after the number of unrecorded steps passed to `run`.

    With rows=0, it takes only unrecorded steps. If the steps cannot be compiled, the first run raises the compiler's
    exception.

    has_gap  whether unrecorded steps precede each row
    """

    def __init__(self, unrecorded: Trace, recording: Trace, rows: int, has_gap: bool = True) -> None:
        self.rows, self.has_gap, self.takes, self.runs = rows, has_gap, unrecorded.moving, 0
        self._recorded = [name for name in recording.results if name.startswith(RECORDED)]
        self._names = tuple(name.removeprefix(RECORDED) for name in self._recorded)
        self.constants = unrecorded.constants | recording.constants
        graph = fx.Graph()
        fixed = inputs_of(graph, (unrecorded, recording))
        self.fixed = tuple(fixed)
        state = unrecorded.placeholders(graph, self.takes)
        plain, recorded = (trace.onto(graph, fixed | state) for trace in (unrecorded, recording))
        ends = [plain[name] for name in self.takes] + [recorded[name] for name in (*self.takes, *self._recorded)]
        graph.output(tuple(ends))
        deduplicate(graph)
        before, body = split(graph, set(fixed.values()))
        self._before = callable_of(before)
        count = len(self.takes)
        self._precomputed = sum(node.op == "placeholder" for node in body.nodes) - count
        self._step, self._last = (_part(body, slice(0, count), count), _part(body, slice(count, None), count))
        self._strides: list[tuple[int, ...]] | None = None
        self._run: Callable[..., Sequence[Tensor]] | None = None

    def given(self, fixed: Tensors) -> tuple[Tensor, ...]:
        """Precompute, from `fixed`, the values needed at each step.

        Matrices are made contiguous for fast multiplication.
        """
        known = fixed | self.constants
        with torch.no_grad():
            made = self._before(*(known[name] for name in self.fixed))
            return tuple(value.contiguous() if value.dim() == 2 else value for value in made)

    def run(self, given: tuple[Tensor, ...], moving: Tensors, gap: int) -> tuple[Tensors, list[Tensors]]:
        """Return the values of `moving` after the last step, and the recorded rows."""
        state = [moving[name] for name in self.takes]
        if self._strides is None:
            self._strides = [_strides(value) for value in state]
        # The steps preserve this layout.
        pairs = zip(state, self._strides, strict=True)
        state = [v if v.stride() == wanted else v.clone(memory_format=_layout(v)) for v, wanted in pairs]
        arguments = [torch.tensor(gap), *given, *state]
        with torch.no_grad():
            if self._run is None:
                self._run = _compiled(self._whole(), arguments)
            made = self._run(*arguments)
        self.runs += 1
        recorded = [value.unbind() for value in made[len(self.takes) :]]
        rows = [dict(zip(self._names, values, strict=True)) for values in zip(*recorded, strict=True)]
        return dict(zip(self.takes, made, strict=False)), rows or [{} for _ in range(self.rows)]

    def _whole(self) -> fx.GraphModule:
        """Build the module (gap, *precomputed, *state) -> (*state, *rows)."""
        graph = fx.Graph()
        gap, precomputed, state = self._placeholders(graph)
        if not self.rows:
            graph.output(tuple(self._loop(graph, gap, precomputed, state)))
            return fx.GraphModule(self._modules(), graph)
        if self.rows == 1:
            ends, last = self._row(graph, gap, precomputed, state), len(self.takes)
            rows = [graph.call_function(ATEN.unsqueeze.default, (value, 0)) for value in ends[last:]]
            graph.output((*ends[:last], *rows))
            return fx.GraphModule(self._modules(), graph)
        inner = fx.Graph()
        moved = [inner.placeholder(f"state_{n}") for n in range(len(self.takes))]
        inner.placeholder("row")
        inner_gap, inner_precomputed = (
            inner.placeholder("gap"),
            [inner.placeholder(f"precomputed_{n}") for n in range(self._precomputed)],
        )
        inner.output(tuple(self._row(inner, inner_gap, inner_precomputed, moved)))
        counter = graph.call_function(ATEN.zeros.default, ([self.rows],))
        arguments = (graph.get_attr("row"), tuple(state), (counter,), (gap, *precomputed))
        made = graph.call_function(torch.ops.higher_order.scan, arguments)
        results = range(len(self.takes) + len(self._recorded))
        graph.output(tuple(graph.call_function(operator.getitem, (made, n)) for n in results))
        return fx.GraphModule({"row": fx.GraphModule(self._modules(), inner)}, graph)

    def _row(self, graph: fx.Graph, gap: Node, precomputed: Sequence[Node], state: Sequence[Node]) -> list[Node]:
        """Append the steps of one row to a graph; return the state after them and the recorded values."""
        moved = self._loop(graph, gap, precomputed, state) if self.has_gap else state
        return _inlined(graph, self._last, [*precomputed, *moved])

    def _loop(self, graph: fx.Graph, gap: Node, precomputed: Sequence[Node], state: Sequence[Node]) -> list[Node]:
        """Append a loop of `gap` unrecorded steps to a graph; return the state after them."""
        zero = graph.call_function(ATEN.zeros_like.default, (gap,))
        arguments = (graph.get_attr("goes_on"), graph.get_attr("step"), (zero, *state), (gap, *precomputed))
        made = graph.call_function(torch.ops.higher_order.while_loop, arguments)
        return [graph.call_function(operator.getitem, (made, n + 1)) for n in range(len(state))]

    def _modules(self) -> dict[str, fx.GraphModule]:
        """Return the functions of the inner loop: its condition, and a single step."""
        test, step = fx.Graph(), fx.Graph()
        done = test.placeholder("done")
        gap, *_ = self._placeholders(test, state_first=True)
        test.output(test.call_function(ATEN.lt.Tensor, (done, gap)))
        done = step.placeholder("done")
        _, precomputed, state = self._placeholders(step, state_first=True)
        after = _inlined(step, self._step, [*precomputed, *state])
        step.output((step.call_function(ATEN.add.Tensor, (done, 1)), *after))
        return {"goes_on": fx.GraphModule({}, test), "step": fx.GraphModule({}, step)}

    def _placeholders(self, graph: fx.Graph, state_first: bool = False) -> tuple[Node, list[Node], list[Node]]:
        state: list[Node] = []
        if state_first:
            state = [graph.placeholder(f"state_{n}") for n in range(len(self.takes))]
        gap = graph.placeholder("gap")
        precomputed = [graph.placeholder(f"precomputed_{n}") for n in range(self._precomputed)]
        return gap, precomputed, state or [graph.placeholder(f"state_{n}") for n in range(len(self.takes))]


def _part(body: fx.Graph, results: slice, states: int) -> fx.Graph:
    """Return a graph with all placeholders and some results, as separate tensors. States keep their layout."""
    part = fx.Graph()
    ends = results_of(body)[results]
    needed, waiting = set(ends), list(ends)
    while waiting:
        fresh = set(waiting.pop().all_input_nodes) - needed
        needed |= fresh
        waiting += fresh
    nodes = {n: part.node_copy(n) for n in body.nodes if n.op == "placeholder"}
    for node in body.nodes:
        if node in needed and node not in nodes:
            nodes[node] = part.node_copy(node, nodes.__getitem__)
    made, seen = [], set[Node]()
    for place, end in enumerate(ends):
        value, node = end.meta["val"], nodes[end]
        is_laid_out = value.stride() == _strides(value)
        if not is_laid_out or node.op == "placeholder" or node in seen or place >= states:
            node = part.call_function(ATEN.clone.default, (node,), {"memory_format": _layout(value)})
        seen.add(nodes[end])
        made.append(node)
    part.output(tuple(made))
    for node in part.nodes:
        node.meta.clear()  # the traces have metadata from different fake-tensor modes
    return part


def _inlined(graph: fx.Graph, part: fx.Graph, arguments: Sequence[Node]) -> list[Node]:
    """Append a part to a graph, with `arguments` in place of its placeholders; return its results."""
    placeholders = [node for node in part.nodes if node.op == "placeholder"]
    return inlined(graph, part, dict(zip(placeholders, arguments, strict=True)))


def _layout(value: Tensor) -> torch.memory_format:
    return torch.channels_last if value.dim() == 4 else torch.contiguous_format


def _strides(value: Tensor) -> tuple[int, ...]:
    """Return the strides of a state in a loop, which preserves them even for axes of length 1."""
    return torch.empty(value.shape, device="meta").to(memory_format=_layout(value)).stride()


def _compiled(module: fx.GraphModule, arguments: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Compile a graph to a single C++ function."""
    from torch import _inductor as inductor
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # Loops require a fake-tensor mode that provides symbols for values known only at run time.
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with mode:
        # Fake arguments with separate memory: loops reject arguments that share memory, such as a weight and a view
        # of it. Sharing is harmless here, as no argument is written to.
        fake: Any = [
            torch.empty_strided(given.shape, given.stride(), dtype=given.dtype, device=given.device)
            for given in arguments
        ]
    with tracing(TracingContext(mode)):
        made: Any = inductor.compile(module, fake, options={"cpp_wrapper": True})
    return cast(Callable[..., Sequence[Tensor]], made)
