"""The training loop, with checkpoints from which training resumes exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from pcsim.core import storage
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import StorageError, TrainingError, warn
from pcsim.core.nested import flatten_nested, restore_nested
from pcsim.core.progress import tqdm
from pcsim.network import Network
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.training import distributed
from pcsim.training.batches import Batches, Drawn, seeded
from pcsim.training.progress import Callback, History, Progress, Validation
from pcsim.training.settings import Training
from pcsim.training.stepper import Scheduler, Stepper

CHECK_EVERY = 20
EXPLODED = 100
GradientOf = Callable[[Any, int], Tensor]
"""a function (batch, update number) -> loss, which adds the batch's gradient to every parameter's `grad`"""


@dataclass
class _State:
    """State that changes during training, other than the weights, optimiser and batches."""

    done: int = 0
    history: History = field(default_factory=History)
    recent: list[Tensor] = field(default_factory=list)
    """losses since the last mean"""
    best: dict[str, Tensor] = field(default_factory=dict)
    """weights with the lowest validation loss, if they are kept"""


@dataclass(frozen=True)
class _Checks:
    """Validation and callbacks after an update."""

    validate: Callable[[int], Validation] | None
    every: int | None
    keep: str
    callbacks: Sequence[Callback]


@checked(TrainingError)
def optimise(
    network: Network,
    count: Count | Batches,
    settings: Training,
    gradient: GradientOf,
    *,
    checkpoint: str | Path | None = None,
    every: Count = 200,
    until: Count | None = None,
    scheduler: Scheduler | None = None,
    scaler: GradScaler | None = None,
    validate: Callable[[int], Validation] | None = None,
    validate_every: Count | None = None,
    keep: Literal["last", "best"] = "last",
    callbacks: Callback | Sequence[Callback] = (),
    bar: Callable[..., tqdm] = tqdm,
) -> History:
    """Run the training loop, and return the mean loss of every 20 updates, with the validation scores.

    count     number of samples from which batches of indices are drawn
    gradient  receives a batch and the update number, adds to every parameter's `grad` and returns the loss to report
    scaler    with precision="float16", the scaler that `gradient` applies to the loss before calling backward()
    validate  function that scores the network; it receives the number of completed updates
    The other arguments are the same as for `train`. Under torchrun, each process handles its own shard of every batch
    (`pcsim.training.distributed`). Random numbers drawn in an update are determined by the seed and the update.
    """
    batches = count if isinstance(count, Batches) else Drawn(count, settings)
    stepper = Stepper(network, settings, scheduler, scaler)
    called = [callbacks] if callable(callbacks) else callbacks
    checks = _Checks(validate, validate_every or batches.per_epoch, keep, called)
    _require_validation(checks, stepper)
    end = settings.updates if until is None else min(until, settings.updates)
    path = None if checkpoint is None else storage.full_path(checkpoint)
    state = _resume(path, network, stepper, batches, settings, keep)
    distributed.broadcast(trained_tensors(network).values())
    network.train()
    device = next(network.parameters()).device
    with bar(total=end, initial=state.done, unit="update") as progress:
        while state.done < end and state.history.stopped is None:
            rate = stepper.prepare(state.done)
            with seeded(settings.seed, state.done, device):
                batch = batches.take(state.done)
                state.recent.append(_shared_gradient(network, stepper, gradient(batch, state.done)))
            stepper.step()
            state.done += 1
            progress.update()
            _after_update(network, stepper, batches, settings, checks, state, rate)
            is_last = state.done == end or state.history.stopped is not None
            is_saved = path is not None and (state.done % every == 0 or is_last)
            if state.done % CHECK_EVERY == 0 or is_last or is_saved:
                progress.set_postfix(loss=f"{_means(state, settings)[-1]:.3f}", **_postfix(state))
            if path is not None and is_saved:
                if distributed.rank() == 0:
                    _save(path, network, stepper, batches, settings, state)
                distributed.barrier()
    if state.best:
        load_tensors(network, state.best, "the best weights")
    network.eval()
    return _means(state, settings)


def _shared_gradient(network: Network, stepper: Stepper, loss: Tensor) -> Tensor:
    """Average the gradient over all processes, and return the average loss."""
    loss = loss.detach().clone()
    if distributed.size() > 1:
        for parameter in stepper.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        statistics = [tensor for name, tensor in network.named_buffers() if "running" in name]
        distributed.all_reduce_mean([loss, *(p.grad for p in stepper.parameters if p.grad is not None), *statistics])
    return loss


def _after_update(
    network: Network,
    stepper: Stepper,
    batches: Batches,
    settings: Training,
    checks: _Checks,
    state: _State,
    rate: float,
) -> None:
    """Store the mean loss of every 20 updates, validate the network, and call the callbacks."""
    history, loss, scored = state.history, state.recent[-1], None
    if state.done % CHECK_EVERY == 0:
        history.append(_checked_mean(state.recent, history, state.done, settings))
        state.recent.clear()
    is_last = state.done == settings.updates
    if checks.validate is not None and checks.every and (state.done % checks.every == 0 or is_last):
        with seeded(settings.seed, -1, loss.device):
            scored = checks.validate(state.done)
        history.validation.append(scored)
        stepper.validated(scored.loss)
        if checks.keep == "best" and history.best is scored:
            state.best = {name: tensor.detach().clone() for name, tensor in trained_tensors(network).items()}
        network.train()
    if checks.callbacks:
        record = Progress(network, state.done, settings.updates, batches.per_epoch, rate, history, scored, loss)
        for callback in checks.callbacks:
            callback(record)
        is_stopped = torch.tensor(float(history.stopped is not None), device=loss.device)
        distributed.all_reduce_mean([is_stopped])
        if is_stopped > 0 and history.stopped is None:
            history.stopped = "stopped by a callback of another process"
        network.train()


def _means(state: _State, settings: Training) -> History:
    """Return the history, including the mean loss since the last entry."""
    if not state.recent:
        return state.history
    mean = _checked_mean(state.recent, state.history, state.done, settings)
    history = History([*state.history, mean])
    history.validation, history.stopped = state.history.validation, state.history.stopped
    return history


def _postfix(state: _State) -> dict[str, str]:
    scores = state.history.validation
    return {"validation": f"{scores[-1].loss:.3f}", "accuracy": f"{scores[-1].accuracy:.3f}"} if scores else {}


def _require_validation(checks: _Checks, stepper: Stepper) -> None:
    """Raise TrainingError if validation is needed but missing, or if its interval is unknown."""
    wants = "a ReduceLROnPlateau" if stepper.needs_validation else "keep='best'" if checks.keep == "best" else None
    if checks.validate is None and wants:
        raise TrainingError(
            given=f"{wants} without validation images",
            expected="images on which the network is scored during training",
            remedy="pass validation=(images, targets)",
        )
    if checks.validate is not None and checks.every is None:
        raise TrainingError(
            given="validation with a DataLoader of unknown length",
            expected="the number of updates between validations",
            remedy="pass validate_every=500",
        )


def _checked_mean(losses: list[Tensor], history: list[float], update: int, settings: Training) -> float:
    mean = float(torch.stack(losses).mean())
    beginning = history[0] if history else float(losses[0])
    if not mean <= EXPLODED * beginning:
        raise TrainingError(
            given=f"a mean loss of {mean:.4g} up to update {update}, compared with {beginning:.4g} at the start",
            expected=f"a finite loss, at most {EXPLODED} times the initial loss",
            remedy=f"lower the learning rate to {settings.learning_rate / 10:g}, or adjust clip (now {settings.clip})",
        )
    return mean


def _save(path: Path, network: Network, stepper: Stepper, batches: Batches, settings: Training, state: _State) -> None:
    weights = {f"network/{name}": tensor for name, tensor in trained_tensors(network).items()}
    best = {f"best/{name}": tensor for name, tensor in state.best.items()}
    moments, skeletons = stepper.state()
    position, batch_skeleton = flatten_nested(batches.position(), "batches")
    facts = {
        "kind": "training",
        "network": network.name,
        "settings": asdict(settings),
        "scheduler_class": type(stepper.scheduler).__name__,
        "done": state.done,
        "history": list(state.history),
        "validation": [asdict(one) for one in state.history.validation],
        "stopped": state.history.stopped,
        "batches": batch_skeleton,
        **skeletons,
    }
    recent = {"recent": torch.stack(state.recent)} if state.recent else {}
    storage.write_tensors(path, weights | best | moments | position | recent, facts)


def _resume(
    path: Path | None, network: Network, stepper: Stepper, batches: Batches, settings: Training, keep: str
) -> _State:
    if path is None or not path.exists():
        return _State()
    tensors, facts = storage.read_tensors(path, "training")
    with storage.content_of(path, "a training checkpoint", "delete this file and train again"):
        name, theirs, done = facts["network"], dict(facts["settings"]), int(facts["done"])
    if name != network.name or theirs | {"updates": settings.updates} != asdict(settings) or settings.updates < done:
        mine = asdict(settings)
        differing = [key for key in mine if theirs.get(key) != mine[key] and (key != "updates" or mine[key] < done)]
        there, here = (", ".join(f"{k}={each.get(k)!r}" for k in differing) for each in (theirs, mine))
        raise StorageError(
            given=f"{path}, a checkpoint of {name!r} after {done} updates" + (there and f" with {there}"),
            expected=f"a checkpoint of {network.name!r}" + (here and f" with {here}"),
            remedy="use another folder, or the settings with which training was started; only updates may increase",
        )
    is_longer = settings.updates != theirs["updates"]
    if is_longer and stepper.scheduler is None and settings.schedule in ("cosine", "linear") and done:
        warn(
            f"Training continues from update {done} with a {settings.schedule} schedule over {settings.updates} "
            f"updates; the earlier updates followed one over {theirs['updates']}, so the rate jumps to "
            f"{settings.rate(done):g}. With schedule='constant' or 'exponential', the result equals that of a single "
            "training run."
        )
    best = storage.under("best/", tensors) if keep == "best" else {}
    schedule, ours = facts.get("scheduler_class", "NoneType"), type(stepper.scheduler).__name__
    if schedule != ours or (keep == "best" and not best and facts.get("validation")):
        raise StorageError(
            given=f"{path}, a checkpoint with scheduler {schedule} and {'' if best else 'no '}best weights",
            expected=f"a checkpoint with scheduler {ours}" + ", and the best weights so far" * (keep == "best"),
            remedy="use another path, or the scheduler and keep= with which training was started",
        )
    load_tensors(network, storage.under("network/", tensors), str(path))
    with storage.content_of(path, "a training checkpoint", "delete this file and train again"):
        stepper.load(tensors, facts)
        history = History([float(loss) for loss in facts["history"]])
        history.validation = [Validation(**one) for one in facts["validation"]]
        history.stopped = None if is_longer else facts["stopped"]
        recent = list(tensors["recent"]) if "recent" in tensors else list[Tensor]()
        position = restore_nested(tensors, facts["batches"])
    batches.resume(position, done)
    device = next(network.parameters()).device
    return _State(done, history, [loss.to(device) for loss in recent], {n: t.to(device) for n, t in best.items()})
