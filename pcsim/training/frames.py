"""Training of networks that predict frames, with one of two losses:

    errors   sum_l w_l / (T - 1) sum_{t >= 1} mean E_l(t),   w_0 = 1, w_l = `above`             Lotter et al. 2017
    pixels   1 / (T - 1) sum_{t >= 1} mean |x_t - p_t| / 2  or  (x_t - p_t)^2,   x_t the frame, p_t its prediction

Both losses exclude frame 0, which is predicted before there is any input. The errors of the layers compare predictions
with the input, so in closed loop, where the input is the network's own prediction, only a pixel loss is informative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim.analysis.frames import is_dead
from pcsim.core.checks import Count, Share, checked
from pcsim.core.exceptions import TrainingError, warn
from pcsim.core.progress import tqdm
from pcsim.network import Network
from pcsim.simulation.forecasting import SHARE, closed_loop, rows_of
from pcsim.simulation.record import Record
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Iterate
from pcsim.stimuli.film import Frames, as_timeline
from pcsim.stimuli.pixels import as_pixels
from pcsim.stimuli.random import uniform
from pcsim.stimuli.timeline import Timeline, sequence
from pcsim.training.gradients import Checkpointed, Full, Truncated
from pcsim.training.settings import Training
from pcsim.training.stepper import scaler_of
from pcsim.training.updates import CHECK_EVERY, optimise

Clip = Callable[[int], Frames]
"""a function index -> clip (time, channel, height, width), 8-bit or with values in [0, 1]"""


@checked(TrainingError)
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Goal:
    """The training objective: the loss, and the frames that the network receives as input."""

    loss: Literal["errors", "absolute", "squared"] = "errors"
    """prediction errors of the layers, as in PredNet, or absolute or squared pixel errors"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors above layer 0: 0 gives L_0 of Lotter et al. 2017, and 0.1 gives L_all"""
    closed_loop_from: Annotated[int | None, Field(gt=0)] = None
    """first frame replaced with the network's own prediction, as in the paper's fine-tuning; requires a pixel loss"""
    own: Literal["never", "step", "linear", "inverse_sigmoid"] = "never"
    """schedule on which the probability that the network's own prediction replaces a frame rises from 0 to 1 during
    training (Bengio et al. 2015), drawn separately for each frame of each clip. step: jumps from 0 to 1 halfway"""
    steepness: Annotated[float, Field(gt=0)] = 20.0
    """steepness of inverse_sigmoid, 1 / (1 + exp(steepness (1/2 - fraction of updates completed)))"""

    @checked(TrainingError)
    def chance(self, done: Share) -> float:
        """Return the probability of using the network's own prediction after a fraction `done` of the updates."""
        if self.own == "linear":
            return done
        if self.own == "inverse_sigmoid":
            return 1.0 / (1.0 + math.exp(self.steepness * (0.5 - done)))
        return float(self.own == "step" and done >= 0.5)

    @property
    def is_closed(self) -> bool:
        """True if the network ever receives its own prediction as input."""
        return self.closed_loop_from is not None or self.own != "never"


@checked(TrainingError)
def train_to_predict(
    network: Network,
    clip: Clip,
    count: Count,
    settings: Training,
    goal: Goal | None = None,
    *,
    checkpoint: str | Path | None = None,
    every: Count = 200,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Train a network in place to predict the frames of clips 0 to count - 1; return the mean loss of every 20 updates.

    clip      generates each clip on demand: `lambda i: film.draw(0, i, 1, length=10)[0]`
    settings  as for `training.train`, with gradient Full(), Checkpointed() or, for long clips, Truncated(span)
    Raises TrainingError if the goal is incompatible with the network. Warns if the predictions become zero, or
    identical for all frames.

        train_to_predict(net, lambda i: film.draw(0, i, 1, 10)[0], 1_000, Training(updates=500, batch=8))
    """
    goal = goal or Goal()
    _check(network, goal, settings)
    scaler = scaler_of(network, settings)
    acting = (closed_loop(network) if goal.is_closed else network).train()
    if settings.precision != "float32":
        acting = acting.autocast(getattr(torch, settings.precision))
    sim = Simulator(acting, solver=Iterate(), record=Record(), gradient=settings.gradient)
    device = next(network.parameters()).device
    warned: set[str] = set()

    def gradient(chosen: Tensor, update: int) -> Tensor:
        frames = as_pixels(torch.from_numpy(np.stack([clip(int(index)) for index in chosen])).to(device))
        share = _share(goal, settings, update, chosen, frames.shape[1]).to(device)
        total, predictions = torch.zeros((), device=device), []
        for loss, rows in _losses(sim, network, frames, share, goal):
            (loss if scaler is None else scaler.scale(loss)).backward()
            total = total + loss.detach()
            predictions += rows
        if (update + 1) % CHECK_EVERY == 0:
            why = is_dead(torch.stack(predictions, 1), goal.closed_loop_from)
            if why and why not in warned:
                warn(f"{network.name!r} after {update + 1} updates: {why}.")
                warned.add(why)
        return total

    return optimise(network, count, settings, gradient, checkpoint=checkpoint, every=every, scaler=scaler, bar=bar)


def _losses(
    sim: Simulator, network: Network, frames: Tensor, share: Tensor, goal: Goal
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Yield the loss as one term, or one per truncated span, each with the predictions from which it is computed."""
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
    """Return a mask (time, n, 1, 1, 1) that is 1 where the network's own prediction replaces the frame.

    The mask is determined by the seed, the update and the clip indices.
    """
    chance = goal.chance(update / settings.updates)
    drawn = np.concatenate([uniform(settings.seed, f"own {update}", int(i), 1, length) for i in chosen])
    share = torch.from_numpy((drawn < chance).astype(np.float32)).T.reshape(length, -1, 1, 1, 1)
    share[0] = 0.0
    if goal.closed_loop_from is not None:
        share[goal.closed_loop_from :] = 1.0
    return share


def _check(network: Network, goal: Goal, settings: Training) -> None:
    if network.is_flow:
        raise TrainingError(
            given=f"{network.name!r}, which is a flow",
            expected="a discrete network, in which each step processes one frame",
            remedy="train the discrete network, then call net.as_ode(tau=...) on it",
        )
    if not isinstance(settings.gradient, Full | Checkpointed | Truncated):
        raise TrainingError(
            given=f"gradient={settings.gradient!r} for frame prediction",
            expected="Full(), Checkpointed() or Truncated(span) as the gradient",
            remedy="pass Training(gradient=Checkpointed()), which is exact and needs little memory",
        )
    if goal.loss == "errors" and (goal.is_closed or not network.errors):
        raise TrainingError(
            given=f"{goal} for {network.name!r} with errors {', '.join(network.errors) or 'none'}",
            expected="a network with prediction errors, in open loop, because errors compare predictions with inputs",
            remedy="pass Goal(loss='absolute', ...)",
        )


__all__ = ["Goal", "train_to_predict"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
