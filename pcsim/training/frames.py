"""Training networks to predict frames.

    errors   sum_l w_l / (T - 1) sum_{t >= 1} mean E_l(t),   w_0 = 1, w_l = `above`             Lotter et al. 2017
    pixels   1 / (T - 1) sum_{t >= 1} mean |x_t - p_t| / 2  or  (x_t - p_t)^2,   x_t the true frame

Frame 0 is in no loss: its prediction has no input. The errors of layers compare predictions with the input, so once the
input is the network's own prediction, only a loss on pixels is informative.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm.auto import tqdm

from pcsim.analysis.frames import is_dead
from pcsim.core.exceptions import PcsimWarning, TrainingError
from pcsim.network import Network
from pcsim.simulation.forecasting import SHARE, closed_loop, rows_of
from pcsim.simulation.record import Record
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Iterate
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.film import Frames, as_timeline
from pcsim.stimuli.random import uniform
from pcsim.stimuli.timeline import Timeline, sequence
from pcsim.training.gradients import Checkpointed, Full, Truncated
from pcsim.training.settings import Training
from pcsim.training.updates import CHECK_EVERY, optimise

Clip = Callable[[int], Frames]
"""index -> (time, channel, height, width), 8-bit or from 0 to 1"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Goal:
    """The goal of training on clips: the loss, and which frames are shown."""

    loss: Literal["errors", "absolute", "squared"] = "errors"
    """errors of the layers, as for PredNet, or absolute or squared errors of the pixels"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors above layer 0: 0 is the paper's L_0, 0.1 its L_all"""
    closed_loop_from: Annotated[int | None, Field(gt=0)] = None
    """the first frame that is not shown, for a loss on pixels: the paper's fine-tuning"""
    own: Literal["never", "step", "linear", "inverse_sigmoid"] = "never"
    """growth of the chance that the input is the network's own prediction instead of a frame, from 0 to 1 over the
    updates, drawn for each clip and frame (Bengio et al. 2015); step: from 0 to 1 in the middle"""
    steepness: Annotated[float, Field(gt=0)] = 20.0
    """steepness of inverse_sigmoid, 1 / (1 + exp(steepness (1/2 - share of the updates done)))"""

    def chance(self, done: float) -> float:
        """Return the chance that the input is its own prediction, when the share `done` of the updates is done."""
        if self.own == "linear":
            return done
        if self.own == "inverse_sigmoid":
            return 1.0 / (1.0 + math.exp(self.steepness * (0.5 - done)))
        return float(self.own == "step" and done >= 0.5)

    @property
    def is_closed(self) -> bool:
        """True if the input ever is the network's own prediction."""
        return self.closed_loop_from is not None or self.own != "never"


def train_to_predict(
    network: Network,
    clip: Clip,
    count: int,
    settings: Training,
    goal: Goal | None = None,
    *,
    checkpoint: str | Path | None = None,
    every: int = 200,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Train in place to predict the frames of clips 0 to count - 1; returns the mean loss of every 20 updates.

    clip      makes each clip when it is needed: `lambda i: film.draw(0, i, 1, length=10)[0]`
    settings  as for `training.train`; of its gradients Full(), Checkpointed() and Truncated(span) (for long clips)
    Raises TrainingError for a goal that does not fit the network; warns if its predictions become all zero, or the same
    for every frame.

        train_to_predict(net, lambda i: film.draw(0, i, 1, 10)[0], 1_000, Training(updates=500, batch=8))
    """
    goal = goal or Goal()
    _check(network, goal, settings)
    acting = (closed_loop(network) if goal.is_closed else network).train()
    sim = Simulator(acting, solver=Iterate(), record=Record(), gradient=settings.gradient)
    device = next(network.parameters()).device
    warned: set[str] = set()

    def gradient(chosen: Tensor, update: int) -> Tensor:
        frames = as_pixels(torch.from_numpy(np.stack([clip(int(index)) for index in chosen])).to(device))
        share = _share(goal, settings, update, chosen, frames.shape[1]).to(device)
        total, predictions = torch.zeros((), device=device), []
        for loss, rows in _losses(sim, network, frames, share, goal):
            loss.backward()
            total = total + loss.detach()
            predictions += rows
        if (update + 1) % CHECK_EVERY == 0:
            why = is_dead(torch.stack(predictions, 1), goal.closed_loop_from)
            if why and why not in warned:
                warnings.warn(f"{network.name!r} after {update + 1} updates: {why}.", PcsimWarning, stacklevel=2)
                warned.add(why)
        return total

    return optimise(network, count, settings, gradient, checkpoint=checkpoint, every=every, bar=bar)


def _losses(
    sim: Simulator, network: Network, frames: Tensor, share: Tensor, goal: Goal
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Yield the parts of the loss (one, or one for each truncated span), with the predictions that each scores."""
    lead, begins = rows_of(network)
    length = frames.shape[1]
    shown: dict[str, Timeline | Tensor] = {next(iter(network.inputs)): as_timeline(frames, network.step_ms)}
    if goal.is_closed:
        shown[SHARE] = sequence(share, network.step_ms)
    weights = {name: 1.0 if level == 0 else goal.above for level, name in enumerate(network.errors)}
    watched = [network.readout or "", *(weights if goal.loss == "errors" else ())]
    first = max(1, begins)
    for moments in sim.windows(shown, length, watched):
        parts, rows = [], []
        for clock, values in moments:
            row = clock.step - 1 + lead
            if not first <= row < length:
                continue
            predicted = values[network.readout or ""]
            rows.append(predicted.detach())
            if goal.loss == "errors":
                parts += [weight * values[name].mean() for name, weight in weights.items() if weight]
            else:
                off = predicted - frames[:, row]
                parts.append(0.5 * off.abs().mean() if goal.loss == "absolute" else off.square().mean())
        if parts:
            yield torch.stack(parts).sum() / (length - first), rows


def _share(goal: Goal, settings: Training, update: int, chosen: Tensor, length: int) -> Tensor:
    """Return 1 where the input is the network's own prediction, (time, n, 1, 1, 1), by seed, update and index."""
    chance = goal.chance(update / settings.updates)
    drawn = np.concatenate([uniform(settings.seed, f"own {update}", int(i), 1, length) for i in chosen])
    share = torch.from_numpy((drawn < chance).astype(np.float32)).T.reshape(length, -1, 1, 1, 1)
    share[0] = 0.0
    if goal.closed_loop_from is not None:
        share[goal.closed_loop_from :] = 1.0
    return share


def _check(network: Network, goal: Goal, settings: Training) -> None:
    if not isinstance(settings.gradient, Full | Checkpointed | Truncated) or network.is_flow:
        raise TrainingError(
            given=f"gradient={settings.gradient!r} for {network.name!r}",
            expected="a discrete network, and gradient Full(), Checkpointed() or Truncated(span)",
            remedy="write Training(gradient=Checkpointed()), which is exact and takes little memory",
        )
    if goal.loss == "errors" and (goal.is_closed or not network.errors):
        raise TrainingError(
            given=f"{goal} for {network.name!r} with errors {', '.join(network.errors) or 'none'}",
            expected="a network with prediction errors in open loop: its errors compare predictions with the input",
            remedy="write Goal(loss='absolute', ...)",
        )
