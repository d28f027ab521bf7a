"""Drive and information on each edge of a network under each cue."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Iterate, Network, Record, Simulator
from pcsim.analysis.decoding import decode_over_time

from .options import DT
from .tasks import TASKS, Trials

AREAS = ("v1", "ventral2", "ventral3", "dorsal2", "dorsal3")
TIMES = (10.0, 20.0, 30.0, 50.0, 80.0, 120.0)
NOISE = 1.0
"""sd of the noise added before decoding, relative to the sd of the signal under the stronger cue"""
SIDE = 5
"""height and width to which signals are averaged before decoding"""


def traffic(name: str, network: Network, shown: Trials) -> dict[str, Any]:
    """Return the drive on each edge under each cue, and the decoded digit and place.

    "drive" is the standard deviation over images (root mean square over units), relative to the cue under which it is
    largest or, for the routes of the shifter, to the largest route. "digit" and "place" are the accuracies of decoding
    from the signal of an edge with added noise, from chance (0) to perfect (1). For the shifter, only the drive is
    returned.
    """
    count = network.inputs["cue"][0]
    sent = [signals(network, shown, torch.eye(count)[number]) for number in range(count)]
    found: dict[str, Any] = {str(number): {} for number in range(count)}
    spreads = {edge: [spread(each[edge]) for each in sent] for edge in sent[0]}
    for edge, sizes in spreads.items():
        largest = max(max(each) for other, each in spreads.items() if _group(other) == _group(edge))
        if largest == 0:  # an edge that does not depend on the image
            continue
        for number, each in enumerate(sent):
            row = found[str(number)][edge] = {"drive": sizes[number] / largest}
            if name != "shifter":
                for column, label in enumerate(("digit", "place")):
                    row[label] = information(each[edge], NOISE * max(sizes), shown.answers[:, column])
    return found


def _group(edge: str) -> str:
    """Return the name of an edge, which is the same for all parallel routes of the shifter."""
    return re.sub(r"route_\w", "route", edge)


def signals(network: Network, shown: Trials, cue: Tensor) -> dict[str, Tensor]:
    """Return the values that each edge delivers at the last step, after its gate: {edge: (n, ...)}."""
    given = {"image": shown.images, "cue": cue.expand(len(shown.images), -1)}
    run = Simulator(network, solver=Iterate(), record=Record(states="all"))(given, steps=network.steps)
    values = given | {name: value[-1] for name, value in run.values.items()}
    with torch.no_grad():
        sent = {edge.name: edge.transform(values[edge.source]) for edge in network.projections}
        for edge in network.projections:
            if edge.kind == "modulatory" and not edge.lesioned:
                for other in network.incoming[edge.target]:
                    if other.kind != "modulatory":
                        gain = sent[edge.name]
                        sent[other.name] = sent[other.name] * (1 + gain.reshape(len(gain), 1, 1, 1))
    return {edge.name: sent[edge.name] for edge in network.projections if edge.kind != "modulatory"}


def spread(signal: Tensor) -> float:
    """Return the standard deviation of a signal over images, as the root mean square over units."""
    return float(pooled(signal).var(0).mean().sqrt())


def pooled(signal: Tensor) -> Tensor:
    """Average-pool a signal's maps to at most 5 x 5 positions; (n, ...) -> (n, features), in float64."""
    if signal.dim() == 4 and signal.shape[-1] > SIDE:
        signal = functional.adaptive_avg_pool2d(signal, SIDE)
    return signal.flatten(1).double()


def information(signal: Tensor, noise: float, labels: Tensor) -> float:
    """Return (accuracy - chance) / (1 - chance) for decoding labels from a signal with noise of the given sd."""
    values, generator = pooled(signal), torch.Generator().manual_seed(0)
    noisy = values + noise * torch.randn(values.shape, generator=generator, dtype=torch.float64)
    decoded = decode_over_time(noisy[None], labels.numpy(), folds=2, penalty=100.0)
    return max(0.0, (float(decoded.accuracy[0]) - decoded.chance) / (1 - decoded.chance))


def decoded_areas(network: Network, shown: Trials) -> dict[str, Any]:
    """Return the information about digit and place in each area over time from image onset, under each cue."""
    sim = Simulator(network.as_ode(tau=10.0), solver=Euler(DT), record=Record(states=AREAS, at=TIMES))
    given = {"image": shown.images}
    runs = [sim(given | {"cue": cue.expand(len(shown.images), -1)}, until=TIMES[-1]) for cue in torch.eye(2)]
    noise = {area: NOISE * max(spread(run[area][-1]) for run in runs) for area in AREAS}
    found: dict[str, Any] = {}
    for task, run in zip(TASKS, runs, strict=True):
        for column, label in enumerate(("digit", "place")):
            found[f"{task}/{label}"] = {
                area: [information(value, noise[area], shown.answers[:, column]) for value in run[area]]
                for area in AREAS
            }
    return found
