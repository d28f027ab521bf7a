"""What is known of a module: whether it only computes, and whether it writes on what it reads.

Known are the layers of torch.nn and of pcsim, by their types. Of a module of one's own nothing is assumed: it is called
in every step, and watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as _torch_module

from pcsim.core.exceptions import WiringError

# Layers without memory, random numbers or effects, in any mode ...
_PURE = {"activation", "container", "conv", "flatten", "linear", "padding", "pixelshuffle", "pooling", "upsampling"}
# ... and those that draw or learn statistics in training mode only.
_PURE_IN_EVALUATION = {"batchnorm", "dropout", "instancenorm", "normalization"}
_RANDOM_IN_TRAINING = (nn.RReLU, nn.MultiheadAttention)
_RANDOM = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def has_global_hooks() -> bool:
    """Tell whether anyone wants to see the calls of all modules."""
    return any(getattr(_torch_module, hooks, None) for hooks in _GLOBAL_HOOKS)


def _has_hooks(module: nn.Module) -> bool:
    """Tell whether anyone wants to see the calls of a module itself."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def has_spectators(module: nn.Module) -> bool:
    """Tell whether someone looks on. The hooks of torch.nn.utils (weight_norm, prune) are part of what it computes."""
    hooks = (hook for kind in HOOKS for hook in getattr(module, kind).values())
    return any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)


@dataclass(frozen=True)
class Nature:
    """What is known of a module, with all that is inside of it.

    is_known     only layers of torch.nn and of pcsim, which compute as their types do
    is_pure      they make the same of the same value at every step
    is_watched   someone wants to see the calls of one, or of all modules
    is_compiled  one was given to `module.compile()`
    writes       one says that it works in place
    """

    is_known: bool
    is_pure: bool
    is_watched: bool
    is_compiled: bool
    writes: bool

    @property
    def is_constant(self) -> bool:
        """Whether it makes the same of the same value at every step, and nobody watches it do so."""
        return self.is_pure and not self.is_watched

    @property
    def is_plain(self) -> bool:
        """Whether calling what it computes is as good as calling the module."""
        return self.is_known and not (self.is_watched or self.is_compiled or self.writes)


def walked(module: nn.Module) -> list[nn.Module]:
    """Return a module and all that is inside of it: `modules()` without names and checks, which every run pays."""
    known = {module}
    waiting = [module]
    for part in waiting:
        for child in part._modules.values():
            if child is not None and child not in known:
                known.add(child)
                waiting.append(child)
    return waiting


def nature(module: nn.Module, is_watched: bool = False) -> Nature:
    """Return what is known of a module; `is_watched` says whether someone wants to see the calls of all modules."""
    is_known = is_pure = True
    is_compiled = writes = False
    for part in walked(module):
        own, kind = vars(part), _kind(type(part))  # type: ignore[arg-type]  # a class is hashable
        is_known = is_known and kind.is_known and "forward" not in own
        is_pure = is_pure and kind.is_pure and not (part.training and (kind.learns or "running_mean" in part._buffers))
        is_watched = is_watched or _has_hooks(part)
        is_compiled = is_compiled or part._compiled_call_impl is not None
        writes = writes or own.get("inplace", getattr(type(part), "inplace", None)) is True
    return Nature(is_known, is_known and is_pure, is_watched, is_compiled, writes)


@dataclass(frozen=True)
class _Kind:
    """What a class of modules is known for. `learns`: it draws or learns statistics, in training mode only."""

    is_known: bool
    is_pure: bool
    learns: bool


@lru_cache
def _kind(layer: type[nn.Module]) -> _Kind:
    home = layer.__module__
    room, _, family = home.rpartition(".")
    is_ours, is_torchs = home.startswith("pcsim."), room == "torch.nn.modules"
    learns = is_torchs and (family in _PURE_IN_EVALUATION or issubclass(layer, _RANDOM_IN_TRAINING))
    is_pure = is_ours or (is_torchs and (learns or family in _PURE) and not issubclass(layer, _RANDOM))
    return _Kind(home.startswith(("torch.nn.", "pcsim.")), is_pure, learns)


def guarded(module: nn.Module, what: str, known: Nature) -> Callable[..., Any]:
    """Return the module such that it cannot write on what others read.

    One that says so (`inplace=True`) gets a copy; one of a user's own is refused when it does.
    """
    if known.writes:
        return partial(_on_copies, module)
    return module if known.is_known else partial(_watched, module, what)


def _on_copies(module: nn.Module, *values: Any, **ports: Tensor) -> Any:
    return module(*(_copy(value) for value in values), **{port: value.clone() for port, value in ports.items()})


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner.clone() for name, inner in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


def _watched(module: nn.Module, what: str, *values: Any, **ports: Tensor) -> Any:
    given = [*ports.values()]
    for value in values:
        given += value.values() if isinstance(value, dict) else [value] if isinstance(value, Tensor) else []
    before = [value._version for value in given]
    try:
        made = module(*values, **ports)
    except Exception as reason:
        reason.add_note(f"in {what}, a {type(module).__name__}")
        raise
    if any(value._version != version for value, version in zip(given, before, strict=True)):
        raise WiringError(
            given=f"{what}, a {type(module).__name__} that writes in place on what it is given",
            expected="a new tensor: others read the same value, and it is recorded",
            remedy="write value.relu() for value.relu_(), value + x for value += x; or clone what it is given first",
        )
    return made
