"""Other packages as contenders of `experiments.speed`, on JAX and a CPU: FabricPC, ngc-learn, pcx, and JAX by hand.

None is needed by pcsim; what is not installed cannot be timed. FabricPC, ngc-learn and pcx do W1 and W2b, each with its
own nodes, cells or vodes and its own inference; JAX by hand does them and the areas as an ODE, by `lax.scan` over the
equations. All are compiled as a whole: one call makes the start values and takes all steps, channels last (pcx, whose
layers are Equinox's: channels first). As only z_1 and z_2 are asked for, XLA leaves out what else a step would compute,
such as the gradient towards z_0. pcx needs an older JAX than the others and runs in a process of its own (`Worker`).
"""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.speed.work import Areas, Contender, Result
from pcsim import PcsimError

PACKAGES = ("fabricpc", "ngclearn", "pcx", "jax")
RATE, STRIDE, PADDING = 0.1, 2, ((1, 1), (1, 1))
TRANSPOSED = ((1, 2), (1, 2))
"""padding with which a transposed convolution is the gradient of the convolution"""
numbers = itertools.count()


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    return find_spec(package) is not None


def is_comparable(image: Tensor) -> bool:
    """Whether JAX is on the same device and threads."""
    return image.device.type == "cpu" and threads_of_jax() == torch.get_num_threads()


def against(package: str, weights: list[Tensor], image: Tensor, label: Tensor, steps: int) -> Contender | None:
    """What `work.plain_relaxation` does, by a package; None where JAX is not on the same device and threads."""
    if not is_comparable(image):
        return None
    made = {"fabricpc": by_fabricpc, "ngclearn": by_ngclearn, "jax": by_jax}[package]
    of_weight, of_image = ((2, 3, 1, 0), (0, 2, 3, 1)) if image.dim() == 4 else ((1, 0), (0, 1))
    arrays = [to_jax(weight, of_weight) for weight in weights]
    return made(arrays, to_jax(image, of_image), to_jax(label, of_image), steps)


@cache
def threads_of_jax() -> int:
    """The threads of PyTorch when JAX was started, which cannot change its own later."""
    threads = torch.get_num_threads()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        os.environ["NPROC"] = "1"  # what JAX 0.10 honours; the flags of XLA leave it two threads
    import jax

    jax.devices()
    return threads


def to_jax(value: Tensor, order: tuple[int, ...]) -> Any:
    """An array with these axes."""
    import jax.numpy as jnp

    return jnp.array(value.permute(order).numpy())


def transposed(weight: Any) -> Any:
    """What carries errors back."""
    return (weight[::-1, ::-1] if weight.ndim == 4 else weight).swapaxes(-1, -2)


def answer(z1: Any, z2: Any) -> Result:
    """As the plain loop gives it."""
    found = {"r2": torch.from_dlpack(z1.block_until_ready()), "r1": torch.from_dlpack(z2.block_until_ready())}
    return {name: z.permute(0, 3, 1, 2) if z.dim() == 4 else z for name, z in found.items()}


def layers(weights: Sequence[Any], image: Any) -> list[tuple[int, ...]]:
    """Shapes of z_0 to z_3, without batch."""
    shapes = [image.shape[1:]]
    for weight in weights:
        shapes.append((*(-(-size // STRIDE) for size in shapes[-1][:-1]), weight.shape[-1]))
    return shapes


class Worker:
    """A contender that another Python computes and times, by `by_pcx.py`; on as many threads as PyTorch has now."""

    def __init__(self, python: str, weights: list[Tensor], image: Tensor, label: Tensor, steps: int) -> None:
        one = {"NPROC": "1"} if torch.get_num_threads() == 1 else {}
        self.process = subprocess.Popen(
            [python, "-P", str(Path(__file__).with_name("by_pcx.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **one},
        )
        self.python = python
        self._tell(([weight.numpy() for weight in weights], image.numpy(), label.numpy(), steps))

    def __call__(self) -> Result:
        """Return the answer of one call, as the plain loop gives it."""
        z1, z2 = self._ask(0)
        return {"r2": torch.tensor(z1), "r1": torch.tensor(z2)}

    def timed(self, calls: int) -> float:
        """Return the seconds of one call, without what the way to the other process takes."""
        return self._ask(calls)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _tell(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()

    def _ask(self, calls: int) -> Any:
        assert self.process.stdout is not None
        try:
            self._tell(calls)
            return pickle.load(self.process.stdout)  # noqa: S301 - from our own child
        except (BrokenPipeError, EOFError):
            raise PcsimError(
                given=f"{self.python}: it ended with status {self.process.wait()}, see above",
                expected="the Python of an environment with pcx 0.6.3",
                remedy="make one (docs/results/speed.md says how) and name its Python with --pcx-python",
            ) from None


def by_fabricpc(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Contender:
    """A chain of its linear or convolutional nodes, which find their gradients by autodiff."""
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
    """Rate cells, error cells and static synapses; the cells `slope` are there for their tanh'(W z) alone.

    A step advances W, mu = tanh, e = z - mu, e tanh'(W z), W^T and z in this order, so all errors are of the old z.
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
            e[k].dmu >> slope[k].j  # a rate cell multiplies its j by tanh'(z), in place
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


def by_jax(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Contender:
    """The equations of `work.relax`, as one would write them for JAX."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    axes = ("NHWC", "HWIO", "NHWC")

    def up(z: Any, w: Any) -> Any:
        if z.ndim == 2:
            return z @ w
        return lax.conv_general_dilated(z, w, (STRIDE, STRIDE), PADDING, dimension_numbers=axes)

    def down(d: Any, w: Any) -> Any:
        if d.ndim == 2:
            return d @ w.T
        back = transposed(w)
        return lax.conv_general_dilated(d, back, (1, 1), TRANSPOSED, (STRIDE, STRIDE), dimension_numbers=axes)

    @jax.jit
    def relaxed(w: Any, x: Any, y: Any) -> Any:
        def step(state: Any, _: None) -> Any:
            z1, z2 = state
            mu2, mu3 = jnp.tanh(up(z1, w[1])), jnp.tanh(up(z2, w[2]))
            e1, e2, e3 = z1 - mu1, z2 - mu2, y - mu3
            gradient1 = e1 - down(e2 * (1 - mu2**2), w[1])
            gradient2 = e2 - down(e3 * (1 - mu3**2), w[2])
            return (z1 - RATE * gradient1, z2 - RATE * gradient2), None

        mu1 = jnp.tanh(up(x, w[0]))
        return lax.scan(step, (mu1, jnp.tanh(up(mu1, w[1]))), None, length=steps)[0]

    return lambda: answer(*relaxed(list(weights), image, label))


def areas_by_jax(plain: Areas, image: Tensor, steps: int) -> Contender | None:
    """What `Areas.run` does with dt = 1 ms, by `lax.scan`; None for maps other than convolutions without bias."""
    if not is_comparable(image):
        return None
    maps = [plain.u1, plain.u2, plain.u3, plain.l1, plain.l2, plain.l3, plain.d1, plain.d2]
    known = (nn.Conv2d, nn.ConvTranspose2d)
    if any(not isinstance(one, known) or one.bias is not None for one in maps):
        return None
    import jax
    import jax.numpy as jnp
    from jax import lax

    def linear(one: Any) -> Callable[[Any, Any], Any]:
        stride, padding, kernel = one.stride, one.padding, one.kernel_size
        around, strides, spread = tuple((p, p) for p in padding), stride, (1, 1)
        if isinstance(one, nn.ConvTranspose2d):
            sides = zip(kernel, padding, one.output_padding, strict=True)
            around, strides, spread = tuple((k - 1 - p, k - 1 - p + e) for k, p, e in sides), (1, 1), stride
        axes = ("NHWC", "HWIO", "NHWC")
        return lambda z, w: lax.conv_general_dilated(z, w, strides, around, spread, dimension_numbers=axes)

    def weight(one: Any) -> Any:
        if isinstance(one, nn.ConvTranspose2d):
            return to_jax(one.weight.detach().flip(2, 3), (2, 3, 0, 1))
        return to_jax(one.weight.detach(), (2, 3, 1, 0))

    u1, u2, u3, l1, l2, l3, d1, d2 = (linear(one) for one in maps)
    weights, shown, tau = [weight(one) for one in maps], to_jax(image, (0, 2, 3, 1)), plain.taus

    @jax.jit
    def run(w: Any, x: Any) -> Any:
        first = u1(x, w[0])

        def step(state: Any, _: None) -> Any:
            r1, r2, r3 = state
            t1 = jnp.maximum(first + l1(r1, w[3]) + d1(r2, w[6]), 0)
            t2 = jnp.maximum(u2(r1, w[1]) + l2(r2, w[4]) + d2(r3, w[7]), 0)
            t3 = jnp.maximum(u3(r2, w[2]) + l3(r3, w[5]), 0)
            return (r1 + (t1 - r1) / tau[0], r2 + (t2 - r2) / tau[1], r3 + (t3 - r3) / tau[2]), None

        r1 = jnp.zeros_like(first)
        r2 = jnp.zeros_like(u2(r1, w[1]))
        return lax.scan(step, (r1, r2, jnp.zeros_like(u3(r2, w[2]))), None, length=steps)[0]

    def contender() -> Result:
        ends = zip(plain.names, run(weights, shown), strict=True)
        return {name: torch.from_dlpack(r.block_until_ready()).permute(0, 3, 1, 2) for name, r in ends}

    return contender
