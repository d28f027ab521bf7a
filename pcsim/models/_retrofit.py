"""Predictive dynamics for a feed-forward network (Choksi et al. 2021, NeurIPS, "Predify").

    r_n(t) = beta F_n( r_{n-1}(t) ) + lambda p_n(t-1) + (1 - beta - lambda) r_n(t-1) - alpha grad_{r_n} eps_{n-1}(t-1)
    p_{n-1}(t) = P_n( r_n(t) ),   eps_{n-1}(t) = mean( ( p_{n-1}(t) - r_{n-1}(t) )^2 )         r_0 the image
    r_n(0) = F_n( r_{n-1}(0) )

The stages F of a trained network become areas, and a predictor P is added to each stage. The error is computed for each
sample. The reference implementation averages it over the batch, so there the dynamics of a sample depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pcsim.connections import Adjoint, up_conv
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.models._cutting import cut
from pcsim.network import Network, Population, Projection
from pcsim.network.shapes import transformed_shape
from pcsim.rules.predictive import Mixture, Prediction, PredictionError
from pcsim.rules.wires import Sum

Stages = Annotated[
    Sequence[nn.Module] | nn.Module, Field(examples=["[first, second], or a module, and nodes=['layer1', 'layer2']"])
]


@checked(WiringError)
def retrofit(
    stages: Stages,
    image: Shape,
    *,
    nodes: Sequence[str] | None = None,
    head: nn.Module | None = None,
    predictors: Sequence[nn.Module] | None = None,
    feed_forward: float = 0.33,
    feedback: float = 0.33,
    correction: float = 0.01,
    scale: Literal["mean", "receptive_field"] = "receptive_field",
    steps: Count = 5,
) -> Network:
    """Turn the stages of a feed-forward network into areas r1, r2, ..., each of which predicts the area below.

    stages      modules that compute each area from the one below (they are not copied): an nn.Sequential, or a
                list such as [nn.Sequential(net.conv1, net.bn1, net.relu), net.layer1, net.layer2]
    image       shape of the input, (channel, height, width)
    nodes       with a single module as `stages`: the nodes of its graph that become areas, as in `cut`, for example
                ["relu", "layer1", "layer2", "layer3", "layer4"] for a ResNet
    head        module that maps the last area to the readout; by default, the rest of the module that was cut, or
                the identity
    predictors  affine modules, one per stage, that map an area to the shape of the one below; by default,
                transposed convolutions between maps and dense layers otherwise
    feed_forward, feedback, correction  initial values of beta, lambda and alpha, which are learnable for each area
    scale       scaling of the gradient: "mean", as in the equation, or "receptive_field", as in PCoderN of the
                reference implementation, where 1/sqrt(C) replaces the 1/N of the mean and C is the number of predicted
                values that depend on one unit

    Call eval() on a trained network first; otherwise batch norm mixes the samples. Raises WiringError if the module
    cannot be cut at the nodes, if a predictor has the wrong shape or is not affine, or if beta, lambda or
    1 - beta - lambda is not positive.
    """
    stages, head = _stages(stages, nodes, head)
    shapes = _shapes(stages, image)
    count = len(shapes) - 1
    chosen = list(predictors or (_predictor(high, low) for low, high in pairwise(shapes)))
    if len(chosen) != count or count == 0:
        raise WiringError(
            given=f"{count} stages, {len(chosen)} predictors",
            expected="at least one stage, and a predictor for every stage",
            remedy=f"pass predictors=[...] with {count} modules, lowest first",
        )
    populations: list[Population] = [Population("readout", Sum())]
    projections: list[Projection] = []
    first: list[Population] = []
    nodes = ["image", *(f"r{area}" for area in range(1, count + 1))]
    upward = [Projection(low, high, stage, delay=0) for (low, high), stage in zip(pairwise(nodes), stages, strict=True)]
    predicting: list[Projection] = []
    for area, predictor in enumerate(chosen, 1):
        this, p, e = nodes[area], f"p{area - 1}", f"e{area - 1}"
        wires = [Population(p, Prediction()), Population(e, PredictionError())]
        rule = Mixture(feed_forward, feedback, correction, has_feedback=area < count)
        populations += [*wires, Population(this, rule)]
        first += [*wires, Population(this, Sum())]
        predicting += [
            Projection(this, p, predictor, "prediction", 0),
            Projection(p, e, kind="prediction", delay=0),
            Projection(nodes[area - 1], e, delay=0),
        ]
        pulled = Adjoint(predictor, shapes[area], _scale(predictor, shapes[area], shapes[area - 1], scale))
        projections.append(Projection(e, this, pulled, "error", 1))
        if area < count:
            projections.append(Projection(f"p{area}", this, kind="top_down", delay=1, port="prediction"))
    upward.append(Projection(nodes[-1], "readout", nn.Identity() if head is None else head, delay=0))
    plain = Network({"image": shapes[0]}, [populations[0], *first], upward + predicting, name="feed-forward pass")
    return Network(
        {"image": shapes[0]},
        populations,
        upward + predicting + projections,
        readout="readout",
        steps=steps,
        name="retrofit",
        initialiser=plain,
    ).train(any(module.training for stage in stages for module in stage.modules()))


def _stages(
    stages: Sequence[nn.Module] | nn.Module, nodes: Sequence[str] | None, head: nn.Module | None
) -> tuple[list[nn.Module], nn.Module | None]:
    """Return one module for each area, and the module after the last area."""
    if nodes is not None:
        if not isinstance(stages, nn.Module) or isinstance(stages, nn.ModuleList):
            raise WiringError(
                given=f"nodes={list(nodes)} with {len(stages)} stages",
                expected="nodes= only with a single module, which is cut into stages",
                remedy="omit nodes=, or pass the module itself",
            )
        parts, rest = cut(stages, nodes)
        return parts, rest if head is None else head
    if isinstance(stages, nn.Module) and not isinstance(stages, nn.Sequential | nn.ModuleList):
        raise WiringError(
            given=f"a {type(stages).__name__} without nodes",
            expected="nodes at which it is cut, or a sequence of stages, one for each area",
            remedy="pass nodes=[...], chosen from models.node_names(module), or a list of stages such as "
            "[nn.Sequential(net.conv1, net.relu), net.layer1]",
        )
    return list(stages), head


def _shapes(stages: Iterable[nn.Module], image: Shape) -> list[Shape]:
    """Return the shapes of the image and of the output of each stage."""
    shapes: list[Shape] = [tuple(image)]
    for stage in stages:
        try:
            shapes.append(transformed_shape(stage, shapes[-1]))
        except (RuntimeError, ValueError, IndexError, TypeError) as reason:
            raise WiringError(
                given=f"stage {len(shapes)}, which rejects activity of shape {shapes[-1]} ({reason})",
                expected="stages in order of evaluation, the first of which accepts `image`, (channel, height, width)",
                remedy="pass the image shape for which the network was built, such as image=(3, 224, 224)",
            ) from reason
    return shapes


def _predictor(high: Shape, low: Shape) -> nn.Module:
    """Build the default predictor: a transposed convolution if the map sizes allow it, otherwise a dense layer."""
    if len(high) == len(low) == 3 and low[1] % high[1] == 0 and low[1] // high[1] == low[2] // high[2]:
        stride = low[1] // high[1]
        return up_conv(high[0], low[0], max(3, 2 * stride - stride % 2), stride, bias=True)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(high), math.prod(low)), nn.Unflatten(1, low))


def _scale(predictor: nn.Module, high: Shape, low: Shape, kind: str) -> float:
    """Return the factor, 2 / N or 2 / sqrt(C), by which P^T (r - p) is multiplied."""
    if transformed_shape(predictor, high) != low:
        raise WiringError(
            given=f"a predictor that maps shape {high} to {transformed_shape(predictor, high)}",
            expected=f"output of shape {low}, the shape of the area below",
            remedy=f"change the stride or output channels of the predictor so that it returns shape {low}",
        )
    if kind == "mean":
        return 2.0 / math.prod(low)
    one = torch.zeros(1, *high)
    centre = (0, *(extent // 2 for extent in high))
    one[centre] = 1.0
    with torch.no_grad():
        reached: Tensor = predictor(one.to(_like(predictor))) != predictor(torch.zeros_like(one).to(_like(predictor)))
    return 2.0 / float(reached.sum()) ** 0.5


def _like(module: nn.Module) -> Tensor:
    return next(module.parameters(), torch.zeros(()))
