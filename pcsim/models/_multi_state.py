"""Weight-shared residual networks and multi-state networks (Liao & Poggio 2016, arXiv 1604.03640).

    h_i(t) = h_i(t-1) + sum_j K_ij( h_j(t-1) ),   h_1(0) = pre-net(image),   readout = post-net(h_S(t))
    K = conv( ReLU( BN_t( conv( ReLU( BN_t( . ) ) ) ) ) )

With one state, this recurrent network equals a residual network whose T - 1 blocks share their weights. With several
states of decreasing resolution, any set of transitions between them is possible. Each step has a separate batch
norm, with its own statistics, weights and biases. A step updates all states simultaneously, so in a chain of S states
the image reaches the top after S - 1 transitions. A transition starts once the image has reached its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from pcsim.connections import Chain, GlobalMeanPool, PerStep, Standardise, StepNorm, conv, up_conv
from pcsim.core.checks import Count, Counts
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.network.parts import Kind
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum

Norm = Literal["step", "shared", "none"]
Adjacency = str | Sequence[Sequence[float]]
ADJACENCIES: dict[str, tuple[int, ...] | None] = {
    "feed-forward": (0, 1),
    "feedback": (-1, 0, 1),
    "full": None,
}
"""offsets from the source to the target of a transition: 0 is the same state, 1 the next one; None allows all"""


@register(paper="Liao & Poggio 2016")
def multi_state(
    channels: Counts = (16, 32, 64),
    adjacency: Adjacency = "feedback",
    *,
    steps: Count = 6,
    shared: bool = True,
    norm: Norm = "step",
    given: Literal["first", "every"] = "first",
    stride: Count = 1,
    image: tuple[Count, Count, Count] = (3, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a network of states of decreasing resolution with transitions between them.

    channels   number of channels in each state; each state has half the resolution of the previous one
    adjacency  "feed-forward", "feedback" (neighbouring states), "full", or a matrix whose entry (i, j) is 1 if state i
               receives input from state j
    shared     use the same convolutions in every step; False gives an ordinary residual network
    norm       "step": one batch norm per step; "shared": one for all steps; "none": no normalisation
    given      "first": the image is the input only in the first step; "every": it is the input in every step
    stride     stride of the pre-net, a 3x3 convolution

    Raises WiringError for an invalid option, too few steps, or an image that cannot be halved often enough.
    """
    reads = _matrix(adjacency, len(channels))
    needed = max(_reached(reads)) + 2
    if needed == math.inf:
        raise WiringError(
            given=f"adjacency {adjacency!r}",
            expected="transitions that carry the image from the first state to every other state",
            remedy="pass adjacency='feed-forward', or connect each unreached state to one that the image reaches",
        )
    if steps < needed:
        raise WiringError(
            given=f"steps={steps}",
            expected=f"at least {needed:g} steps (enough to reach every state, plus one)",
            remedy=f"pass steps={needed:g}",
        )
    multiple = stride * 2 ** (len(channels) - 1)
    if image[1] % multiple or image[2] % multiple:
        raise WiringError(
            given=f"an image of {image[1]}x{image[2]} for {len(channels)} states",
            expected=f"a height and width divisible by {multiple}",
            remedy="crop or pad the images, or use fewer states",
        )
    height, width = image[1] // stride, image[2] // stride
    names = [f"h{n}" for n in range(1, len(channels) + 1)]
    shapes = [(count, height >> n, width >> n) for n, count in enumerate(channels)]
    populations = [
        Population(name, Rate(shape[0], "identity", bias=False), shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    entry = nn.Sequential(Standardise(), conv(image[0], channels[0], 3, stride))
    projections = [Projection("image", "h1", entry, active=(0, 1) if given == "first" else None)]
    projections += [Projection(name, name, nn.Identity(), "lateral", 1, name=f"{name}->{name}:stays") for name in names]
    projections += _transitions(names, channels, reads, steps, shared, norm)
    last = channels[-1]
    after = _norms(norm if shared or norm == "none" else "step", steps, True)
    head = Chain(*after(last), nn.ReLU(), GlobalMeanPool(), nn.Linear(last, classes))
    return Network(
        {"image": image},
        [*populations, Population("readout", Sum())],
        [*projections, Projection(names[-1], "readout", head)],
        readout="readout",
        steps=steps,
        name="multi_state" if len(channels) > 1 else "shared_resnet",
    )


@register(paper="Liao & Poggio 2016")
def shared_resnet(
    channels: Count = 64,
    steps: Count = 10,
    *,
    shared: bool = True,
    norm: Norm = "step",
    given: Literal["first", "every"] = "first",
    stride: Count = 1,
    image: tuple[Count, Count, Count] = (3, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a one-state network with steps - 1 weight-shared residual blocks. Options are those of `multi_state`."""
    return multi_state(
        (channels,),
        "full",
        steps=steps,
        shared=shared,
        norm=norm,
        given=given,
        stride=stride,
        image=image,
        classes=classes,
    )


def _matrix(adjacency: Adjacency, states: int) -> list[list[bool]]:
    if isinstance(adjacency, str) and adjacency in ADJACENCIES:
        upward = ADJACENCIES[adjacency]
        return [[upward is None or i - j in upward for j in range(states)] for i in range(states)]
    rows = [] if isinstance(adjacency, str) else [[bool(entry) for entry in row] for row in adjacency]
    entries = {entry for row in adjacency for entry in row} if not isinstance(adjacency, str) else set()
    if [len(row) for row in rows] != [states] * states or not entries <= {0, 1}:
        raise WiringError(
            given=f"adjacency {adjacency!r} for {states} states",
            expected=f"one of {', '.join(ADJACENCIES)}, or {states} rows of {states} zeros and ones",
            remedy="set entry (i, j) to 1 if state i receives input from state j, and to 0 otherwise",
        )
    return rows


def _transitions(
    names: Sequence[str],
    channels: Sequence[int],
    reads: Sequence[Sequence[bool]],
    steps: int,
    shared: bool,
    norm: Norm,
) -> list[Projection]:
    """Build K_ij for each pair of states in which state i receives input from state j."""
    reached = _reached(reads)
    edges: list[Projection] = []
    for i, target in enumerate(names):
        for j, source in enumerate(names):
            if not reads[i][j]:
                continue
            kind: Kind = "lateral" if i == j else "bottom_up" if i > j else "top_down"
            begin = int(reached[j]) + 1
            norms = _norms(norm, steps - begin, shared)
            made = [_transition(channels[j], channels[i], i - j, norms) for _ in range(1 if shared else steps - begin)]
            transform = made[0] if shared else PerStep(made)
            edges.append(Projection(source, target, transform, kind, 1, active=(begin, math.inf)))
    return edges


def _reached(reads: Sequence[Sequence[bool]]) -> list[float]:
    """Return the number of transitions after which the image first reaches each state."""
    found = [0.0, *(math.inf for _ in reads[1:])]
    for _ in reads:
        found = [
            min(at, *(found[j] + 1 for j, does in enumerate(row) if does), math.inf)
            for at, row in zip(found, reads, strict=True)
        ]
    return found


def _norms(norm: Norm, steps: int, shared: bool) -> Callable[[int], list[nn.Module]]:
    """Return a function that builds the norm, if any, for a given number of channels."""

    def make(channels: Count) -> list[nn.Module]:
        if norm == "none":
            return []
        return [StepNorm(channels, steps) if norm == "step" and shared else nn.BatchNorm2d(channels)]

    return make


def _transition(channels: int, out: int, upward: int, norms: Callable[[int], list[nn.Module]]) -> Chain | nn.Sequential:
    """Build K: norm, ReLU and 3x3 convolution, twice. The first convolution divides the map size by 2^upward."""
    first: nn.Module = conv(channels, out, 3, 2**upward) if upward >= 0 else up_conv(channels, out, 3, 2**-upward)
    parts = [*norms(channels), nn.ReLU(), first, *norms(out), nn.ReLU(), conv(out, out)]
    return Chain(*parts) if any(isinstance(part, StepNorm) for part in parts) else nn.Sequential(*parts)
