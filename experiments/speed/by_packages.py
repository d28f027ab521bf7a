"""FabricPC and ngc-learn implementations of W1 and W2b in `experiments.speed`, built from the packages' components."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from .arrays import PADDING, RATE, STRIDE, TRANSPOSED, answer, layers, transposed
from .work import Contender

numbers = itertools.count()


def by_fabricpc(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Contender:
    """Build a chain of linear or convolutional FabricPC nodes, which compute their gradients by autodiff."""
    import jax
    from fabricpc.core.activations import TanhActivation
    from fabricpc.core.inference import InferenceSGD, run_inference
    from fabricpc.core.topology import Edge
    from fabricpc.core.types import GraphParams, NodeParams
    from fabricpc.graph_assembly import TaskMap, graph
    from fabricpc.graph_initialization.state_initializer import initialize_graph_state
    from fabricpc.nodes import ConvNode, IdentityNode, Linear

    kind, options = Linear, {"activation": TanhActivation(), "use_bias": False}
    if image.ndim == 4:
        kind = ConvNode
        options |= {"kernel_size": weights[0].shape[:2], "stride": (STRIDE, STRIDE), "padding": PADDING}
    first, *shapes = layers(weights, image)
    nodes = [IdentityNode(first, "z0"), *(kind(shape, f"z{k}", **options) for k, shape in enumerate(shapes, 1))]
    edges = [Edge(one, other) for one, other in itertools.pairwise(nodes)]
    rule = InferenceSGD(eta_infer=RATE, infer_steps=steps)
    structure = graph(nodes, edges, TaskMap(x=nodes[0], y=nodes[-1]), rule)
    of_node = {"z0": NodeParams({}, {})}
    for k, weight in enumerate(weights, 1):
        of_node[f"z{k}"] = NodeParams({structure.nodes[f"z{k}"].node_info.in_edges[0]: weight}, {})

    @jax.jit
    def relaxed(params: Any, clamps: Any) -> Any:
        start = initialize_graph_state(structure, len(image), jax.random.key(0), clamps, params=params)
        state = run_inference(params, start, clamps, structure)
        return state.nodes["z1"].z_latent, state.nodes["z2"].z_latent

    return lambda: answer(*relaxed(GraphParams(of_node), {"z0": image, "z3": label}))


def by_ngclearn(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Contender:
    """Build a network of rate cells, error cells and static synapses. The `slope` cells only compute tanh'(W z).

    Each step updates W, mu = tanh, e = z - mu, e tanh'(W z), W^T and z in this order, so all errors use the old z.
    """
    import jax
    import jax.numpy as jnp
    from ngclearn import Context, MethodProcess
    from ngclearn.components import GaussianErrorCell, RateCell, StaticConvSynapse, StaticDeconvSynapse, StaticSynapse

    shapes, batch = layers(weights, image), len(image)

    def cell(kind: Callable, name: str, k: int, **options: Any) -> Any:
        shape = shapes[k] if image.ndim == 4 else None
        return kind(f"{name}{k}", n_units=shapes[k][-1], batch_size=batch, shape=shape, **options)

    def synapse(name: str, k: int, weight: Any, source: int) -> Any:
        if image.ndim == 2:
            return StaticSynapse(f"{name}{k}", weight.shape, weight_init=lambda *_: weight, batch_size=batch)
        kind, padding = (StaticConvSynapse, PADDING) if source < k else (StaticDeconvSynapse, TRANSPOSED)
        options = {"filter_init": lambda *_: weight, "stride": STRIDE, "padding": padding, "batch_size": batch}
        return kind(f"{name}{k}", weight.shape, shapes[source][:2], **options)

    with Context(f"relaxation{next(numbers)}"):
        z = {k: cell(RateCell, "z", k, tau_m=1 / RATE) for k in (1, 2)}
        w = {k: synapse("w", k, weights[k - 1], k - 1) for k in (1, 2, 3)}
        mu = {k: cell(RateCell, "mu", k, tau_m=0.0, act_fx="tanh") for k in (1, 2, 3)}
        e = {k: cell(GaussianErrorCell, "e", k) for k in (1, 2, 3)}
        slope = {k: cell(RateCell, "slope", k, tau_m=1.0, act_fx="tanh") for k in (2, 3)}
        back = {k: synapse("back", k, transposed(weights[k - 1]), k) for k in (2, 3)}
        for k in (1, 2, 3):
            w[k].outputs >> mu[k].j
            mu[k].zF >> e[k].mu
        for k in (2, 3):
            z[k - 1].z >> e[k - 1].target
            z[k - 1].z >> w[k].inputs
            w[k].outputs >> slope[k].z
            e[k].dmu >> slope[k].j  # a rate cell multiplies its j by tanh'(z) in place
            slope[k].j >> back[k].inputs
            back[k].outputs >> z[k - 1].j
            e[k - 1].dtarget >> z[k - 1].j_td
        w[1].inputs.set(image)
        e[3].target.set(label)
        cells = [one for part in (w, mu, e, slope, back, z) for one in part.values()]
        ahead = {k: MethodProcess(f"ahead{k}") >> w[k].advance_state >> mu[k].advance_state for k in (1, 2)}
        step = MethodProcess("step")
        for one in cells:
            step >> one.advance_state

    times = jnp.array(step.pack_rows(steps, dt=1.0))
    given = {own.root: own.get() for one in cells for _, own in one.compartments if not own.targeted}

    @jax.jit
    def relaxed(state: dict[str, Any]) -> Any:
        for k in (1, 2):
            state, _ = ahead[k].run.compiled(state, (1.0,))
            state = {**state, z[k].z.root: state[mu[k].zF.root]}
        state, _ = step.scan(times, state, store_state=False, store_results=False)
        return state[z[1].z.root], state[z[2].z.root]

    return lambda: answer(*relaxed(given))
