"""The training loop, with checkpoints from which training resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pcsim.core import storage
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import StorageError, TrainingError
from pcsim.network import Network
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.training import distributed
from pcsim.training.settings import Training

CHECK_EVERY = 20
EXPLODED = 100
GradientOf = Callable[[Tensor, int], Tensor]
"""a function (batch indices, update number) -> loss, which adds the batch's gradient to every parameter's `grad`"""


@checked(TrainingError)
def optimise(
    network: Network,
    count: Count,
    settings: Training,
    gradient: GradientOf,
    *,
    checkpoint: str | Path | None = None,
    every: Count = 200,
    until: Count | None = None,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Run the training loop, and return the mean loss of every 20 updates.

    count     number of samples from which batches are drawn
    gradient  adds to every parameter's `grad` and returns the loss to report
    The other arguments are those of `train`. Under torchrun each process handles its own shard of every batch
    (`pcsim.training.distributed`).
    """
    optimiser = _optimiser(network, settings)
    end = settings.updates if until is None else min(until, settings.updates)
    if end % CHECK_EVERY and end < settings.updates:
        raise TrainingError(
            given=f"until={until}",
            expected=f"a multiple of {CHECK_EVERY}, or all updates",
            remedy=f"pass until={-(-end // CHECK_EVERY) * CHECK_EVERY}",
        )
    path = None if checkpoint is None else storage.full_path(checkpoint)
    done, history = _resume(path, network, optimiser, settings)
    distributed.broadcast(trained_tensors(network).values())
    network.train()
    recent: list[Tensor] = []
    with bar(total=end, initial=done, unit="update") as progress:
        for update in range(done, end):
            optimiser.param_groups[0]["lr"] = settings.rate(update)
            optimiser.zero_grad(set_to_none=True)
            recent.append(_shared_gradient(network, gradient, batch_of(count, settings, update), update))
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimiser.step()
            progress.update()
            last = update + 1 == end
            if (update + 1) % CHECK_EVERY == 0 or last:
                history.append(_checked_mean(recent, history, update, settings))
                recent.clear()
                progress.set_postfix(loss=f"{history[-1]:.3f}")
            if path is not None and ((update + 1) % every == 0 or last) and not recent:
                if distributed.rank() == 0:
                    _save(path, network, optimiser, settings, update + 1, history)
                distributed.barrier()
    network.eval()
    return history


def _shared_gradient(network: Network, gradient: GradientOf, chosen: Tensor, update: int) -> Tensor:
    """Compute the gradient of a batch, averaged over all processes, and return the loss."""
    loss = gradient(distributed.shard(chosen), update).clone()
    if distributed.size() > 1:
        trained = [p for p in network.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        statistics = [tensor for name, tensor in network.named_buffers() if "running" in name]
        distributed.all_reduce_mean([loss, *(p.grad for p in trained if p.grad is not None), *statistics])
    return loss


def _optimiser(network: Network, settings: Training) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def batch_of(count: int, settings: Training, update: int) -> Tensor:
    """Return the batch indices of an update. The order changes in every epoch and is determined by the seed."""
    per_epoch = max(1, count // settings.batch)
    epoch, position = divmod(update, per_epoch)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)[position * settings.batch : (position + 1) * settings.batch]


def _checked_mean(losses: list[Tensor], history: list[float], update: int, settings: Training) -> float:
    mean = float(torch.stack(losses).mean())
    beginning = history[0] if history else float(losses[0])
    if not mean <= EXPLODED * beginning:
        raise TrainingError(
            given=f"a mean loss of {mean:.4g} up to update {update + 1}, compared with {beginning:.4g} at the start",
            expected=f"a finite loss, at most {EXPLODED} times the initial loss",
            remedy=f"lower the learning rate to {settings.learning_rate / 10:g}, or adjust clip (now {settings.clip})",
        )
    return mean


def _save(
    path: Path, network: Network, optimiser: torch.optim.Optimizer, settings: Training, done: int, history: list[float]
) -> None:
    state, skeleton = storage.flatten_nested(optimiser.state_dict(), "optimiser")
    weights = {f"network/{name}": tensor for name, tensor in trained_tensors(network).items()}
    facts = {
        "kind": "training",
        "network": network.name,
        "settings": asdict(settings),
        "done": done,
        "history": history,
        "optimiser": skeleton,
    }
    storage.write_tensors(path, weights | state, facts)


def _resume(
    path: Path | None, network: Network, optimiser: torch.optim.Optimizer, settings: Training
) -> tuple[int, list[float]]:
    if path is None or not path.exists():
        return 0, []
    tensors, facts = storage.read_tensors(path, "training")
    theirs = facts.get("network"), facts.get("settings")
    if theirs != (network.name, asdict(settings)):
        raise StorageError(
            given=f"{path}, a checkpoint of {theirs[0]!r} with {theirs[1]}",
            expected=f"a checkpoint of {network.name!r} with {asdict(settings)}",
            remedy="use another folder, or the settings with which training was started",
        )
    load_tensors(network, storage.under("network/", tensors), str(path))
    with storage.content_of(path, "a training checkpoint", "delete this file and train again"):
        optimiser.load_state_dict(storage.restore_nested(tensors, facts["optimiser"]))
        for parameter, kept in optimiser.state.items():
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Files store contiguous tensors, but resuming exactly requires the memory layout of the parameters.
                    kept[name] = torch.empty_like(parameter).copy_(value)
        return int(facts["done"]), [float(loss) for loss in facts["history"]]
