"""Cut a module into stages at named nodes of its graph, traced with torch.fx."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import fx, nn

from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError

SUFFIX = re.compile(r"_\d+$")


class Cut(NamedTuple):
    """A module cut into parts that call the modules of the original, without copying them."""

    stages: list[nn.Module]
    """one module for each node, from the previous node (or the image) to this node"""
    head: nn.Module
    """the module from the last node to the output"""


@checked(WiringError)
def node_names(module: nn.Module) -> list[str]:
    """Return the names of the nodes of a module at which `cut` and `retrofit` can cut it, in order of evaluation.

    Names are those of torchvision's `get_graph_node_names`: the path of a module ("layer1.0.relu"), or the path of the
    module that calls a function, followed by the name of the function ("layer1.0.add"). Repeated names end in _1, _2,
    ... A node is left out if a branch, such as a skip connection, bypasses it.
    """
    traced = _Traced(module)
    return [traced.names[node] for node in traced.order if traced.bypass(node) is None]


@checked(WiringError)
def cut(module: nn.Module, nodes: Sequence[str]) -> Cut:
    """Cut a module in evaluation mode at named nodes. Together, the parts return exactly what the module returns.

    nodes  names as in `node_names`, in order of evaluation; the name of a module that calls others ("layer1") refers
           to its last node

    Branches and skip connections inside a part are preserved. Raises WiringError for a module that torch.fx cannot
    trace, for unknown names, and for nodes that a branch bypasses.

        stages, head = models.cut(resnet, ["relu", "layer1", "layer2", "layer3", "layer4"])
    """
    if module.training:
        raise WiringError(
            given=f"a {type(module).__name__} in training mode",
            expected="a module in evaluation mode, because tracing records flags such as those of functional dropout",
            remedy="pass module.eval()",
        )
    traced = _Traced(module)
    ends = [traced.find(name) for name in nodes]
    places = [traced.order.index(node) for node in ends]
    if not ends or any(later <= earlier for earlier, later in pairwise(places)):
        raise WiringError(
            given=f"nodes {', '.join(map(repr, nodes)) or '(none)'}",
            expected="at least one node, in order of evaluation, without repetition",
            remedy="pass nodes="
            + repr([traced.names[traced.order[place]] for place in sorted(set(places))] or traced.cuttable()[-3:]),
        )
    for node in ends:
        if (found := traced.bypass(node)) is not None:
            reader, source = found
            raise WiringError(
                given=f"the node {traced.names[node]!r}, which {reader!r} bypasses by using {source!r}",
                expected="nodes that no branch bypasses",
                remedy=f"cut at {traced.near(node)}; models.node_names(module) lists all possible nodes",
            )
    starts = [traced.image, *ends]
    parts = [traced.part(start, end) for start, end in zip(starts, [*ends, traced.result], strict=True)]
    return Cut(parts[:-1], parts[-1])


class _Tracer(fx.Tracer):
    """A tracer that names nodes by the path of their module, and records untraceable modules as single calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[fx.Node, str] = {}
        self._path, self._repeats = "", dict[str, int]()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a call to a module."""
        outer, self._path = self._path, self.path_of_module(m)
        before, repeats = list(self.graph.nodes), dict(self._repeats)
        try:
            if self.is_leaf_module(m, self._path):
                return self.create_proxy("call_module", self._path, args, kwargs)
            try:
                return forward(*args, **kwargs)
            except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError):
                for node in reversed(list(self.graph.nodes)[len(before) :]):
                    self.graph.erase_node(node)
                    self.names.pop(node, None)
                self._repeats = repeats
                return self.create_proxy("call_module", self._path, args, kwargs)
        finally:
            self._path = outer

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **options: Any) -> fx.Proxy:
        """Create and name a node."""
        proxy = super().create_proxy(kind, target, args, kwargs, *others, **options)
        own = [] if kind == "call_module" else [SUFFIX.sub("", str(proxy.node))]
        name = ".".join([self._path] * bool(self._path) + own)
        self._repeats[name] = self._repeats.get(name, -1) + 1
        self.names[proxy.node] = f"{name}_{self._repeats[name]}" if self._repeats[name] else name
        return proxy


class _Traced:
    """The graph of a module with one input and one output."""

    def __init__(self, module: nn.Module) -> None:
        self._module, tracer = module, _Tracer()
        parameters = list(inspect.signature(module.forward).parameters.values())[1:]
        optional = {each.name: each.default for each in parameters if each.default is not each.empty}
        try:
            graph = tracer.trace(module, optional or None)
        except (
            fx.proxy.TraceError,
            TypeError,
            RuntimeError,
            ValueError,
            AttributeError,
            NotImplementedError,
        ) as reason:
            raise WiringError(
                given=f"a {type(module).__name__} whose forward method torch.fx cannot trace ({_short(reason)})",
                expected="a forward method without control flow that depends on the values or shapes of tensors",
                remedy="pass a list of stages, such as [nn.Sequential(net.conv1, net.relu), net.layer1], or move the "
                "control flow into a submodule, which is then called as a whole",
            ) from reason
        self.image, *others = (node for node in graph.nodes if node.op == "placeholder")
        (self.result,) = (node for node in graph.nodes if node.op == "output")
        everything = list(graph.nodes)
        self._place = {node: place for place, node in enumerate(everything)}
        self._depending = {self.image}
        for node in everything:
            if not self._depending.isdisjoint(node.all_input_nodes):
                self._depending.add(node)
        needed = self._behind(self.result)
        self.names = {**tracer.names, self.image: "the image", self.result: "the output"}
        self.order = [
            node
            for node in everything
            if node in needed and node in self._depending and node in tracer.names and node is not self.image
        ]
        if not isinstance(self.result.args[0], fx.Node) or any(node in needed and node.users for node in others):
            raise WiringError(
                given=f"a {type(module).__name__} with several inputs or outputs",
                expected="a module that maps one tensor, the image, to another",
                remedy="pass a module whose forward method takes images and returns a tensor",
            )

    def find(self, name: str) -> fx.Node:
        """Return the node with the given name, or the last node of the module at that path."""
        named = [node for node in self.order if self.names[node] == name]
        inside = [node for node in self.order if self.names[node].startswith(f"{name}.")]
        if not named and not inside:
            known = [self.names[node] for node in self.order]
            paths = {".".join(each.split(".")[:end]) for each in known for end in range(1, each.count(".") + 1)}
            near = difflib.get_close_matches(name, [*known, *sorted(paths)], 3, 0.5) or self.cuttable()[-3:]
            raise WiringError(
                given=f"the node {name!r}",
                expected=f"a node of the {type(self._module).__name__}, such as {', '.join(map(repr, near))}",
                remedy=f"use {near[0]!r}; models.node_names(module) lists the nodes at which it can be cut",
            )
        return (named or inside)[-1]

    def bypass(self, node: fx.Node) -> tuple[str, str] | None:
        """Return the names of a later node and an earlier node that feeds it without passing `node`, or None."""
        place = self._place[node]
        for later in [*self.order, self.result]:
            if self._place[later] > place:
                for source in later.all_input_nodes:
                    if source in self._depending and self._place[source] < place:
                        return self.names[later], self.names[source]
        return None

    def cuttable(self) -> list[str]:
        """Return the names of the nodes at which the module can be cut."""
        return [self.names[node] for node in self.order if self.bypass(node) is None]

    def near(self, node: fx.Node) -> str:
        """Return the names of the nodes before and after `node` at which the module can be cut."""
        possible = [each for each in self.order if self.bypass(each) is None]
        before = [each for each in possible if self._place[each] < self._place[node]][-1:]
        after = [each for each in possible if self._place[each] > self._place[node]][:1]
        return " or ".join(repr(self.names[each]) for each in before + after) or "another node"

    def part(self, start: fx.Node, end: fx.Node) -> nn.Module:
        """Return the module that computes `end` from `start`, using the modules of the original."""
        if end is self.result:
            end = end.args[0]
        if end is start:
            return nn.Identity()
        graph = fx.Graph()
        made = {start: graph.placeholder("value")}
        for node in sorted(self._behind(end, start), key=self._place.__getitem__):
            made[node] = graph.node_copy(node, made.__getitem__)
        graph.output(made[end])
        part = fx.GraphModule(self._module, graph, f"{type(self._module).__name__}Part")
        for container in part.modules():  # new containers, so that the original modules keep their paths
            if type(container) is nn.Module:
                container.training = self._module.training
        return part

    def _behind(self, end: fx.Node, start: fx.Node | None = None) -> set[fx.Node]:
        """Return `end` and the nodes from which it is computed, except `start` and those before it."""
        found, waiting = set[fx.Node](), [end]
        while waiting:
            node = waiting.pop()
            if node not in found and node is not start:
                found.add(node)
                waiting += node.all_input_nodes
        return found


def _short(reason: Exception) -> str:
    return " ".join(str(reason).split())[:200]
