"""Search space of `experiments.cell_search`: reciprocal gated cells and feedback projections."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import combinations
from typing import Any, Literal

from pcsim import Network, models
from pcsim.models import Gate, Layer, ReciprocalCell

from .. import flows

LAYERS = 4
RECURRENT = (2, 3, 4)
EDGES = tuple((high, low) for low, high in combinations(RECURRENT, 2))
"""optional feedback projections of a candidate, (from, to)"""
STEPS, MINIMAL = LAYERS + 4, LAYERS + 2
"""numbers of steps in normal and minimal unrolling; the image needs five steps to reach the readout"""
SEPARABLE: tuple[Literal["tau", "gate", "input"], ...] = ("tau", "gate", "input")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A point in the search space: a cell, its depth (channels of c per layer channel), and feedback projections."""

    cell: ReciprocalCell | None
    """recurrent cell, or None for a network without recurrence"""
    depth: float = 1.0
    feedback: tuple[tuple[int, int], ...] = ()
    steps: int = STEPS

    def network(self, width: int) -> Network:
        """Build a network of four layers with `width` maps each and cells in the upper three layers."""
        layers = [Layer(width, True), Layer(width), Layer(width, True), Layer(width)]
        cell: ReciprocalCell | str = "none"
        if self.cell is not None:
            cell = dataclasses.replace(self.cell, depth=math.ceil(self.depth * width))
        image = (1, flows.SIDE, flows.SIDE)
        return models.convrnn(layers, cell, recurrent=RECURRENT, feedback=self.feedback, steps=self.steps, image=image)


def propose(trial: Any) -> Candidate:
    """Sample a candidate from the part of the published search space that is known.

    Kernel sizes do not exceed 5, because the maps are small. Layer norm, initial scale and weight decay are not varied.
    """
    kernel, flag = partial(trial.suggest_int, low=1, high=5), partial(trial.suggest_categorical, choices=(False, True))
    activation = partial(trial.suggest_categorical, choices=("identity", "elu", "relu", "tanh"))
    depth = trial.suggest_categorical("depth", (0.0, 0.5, 1.0, 2.0))
    out_kernel = trial.suggest_int("input_to_out_kernel", 0, 5)
    chosen: dict[str, Any] = {name: gate(trial, name) for name in ("tau", "gate")}
    chosen |= {name: kernel(name) for name in ("tau_kernel", "gate_kernel")}
    names = ["input_to_tau", "input_to_gate", "out_residual", "residual_to_out_tau", "residual_to_out_gate", "bias"]
    if depth:
        chosen |= {"input_to_cell": flag("input_to_cell"), "cell_kernel": kernel("cell_kernel")}
        chosen["cell_activation"] = activation("cell_activation")
        # The cell state c needs at least one input.
        chosen["cell_residual"] = flag("cell_residual") if chosen["input_to_cell"] else True
        names += ["cell_to_out", "residual_to_cell_tau", "residual_to_cell_gate"]
    chosen |= {name: flag(name) for name in names}
    chosen |= {name: activation(name) for name in ("input_activation", "out_activation")}
    separable: list[Literal["tau", "gate", "input", "feedback"]] = []
    separable += [name for name in SEPARABLE if flag(f"{name}_separable")]
    feedback = tuple((high, low) for high, low in EDGES if flag(edge_name(high, low)))
    if feedback:
        chosen |= {
            "feedback_kernel": kernel("feedback_kernel"),
            "feedback_activation": activation("feedback_activation"),
        }
        entries = ("input", "cell", "out") if depth else ("input", "out")
        chosen["feedback_entry"] = trial.suggest_categorical(f"feedback_entry_of_{len(entries)}", entries)
        separable += ["feedback"] if flag("feedback_separable") else []
    cell = ReciprocalCell(input_to_out_kernel=out_kernel or None, separable=tuple(separable), **chosen)
    return Candidate(cell, depth, feedback)


def gate(trial: Any, name: str) -> Gate:
    """g = a (1 - s(.)). The factor is the negative of the offset, as in the released networks."""
    size = trial.suggest_float(f"{name}_offset", 0.2, 1.0)
    return Gate(size, -size, trial.suggest_categorical(f"{name}_nonlinearity", ("sigmoid", "tanh")))


def edge_name(high: int, low: int) -> str:
    """Return the name of the search parameter for a feedback projection."""
    return f"{high} to {low}"
