"""What is known of a module: whether it only computes, and whether it writes on what it reads.

Known are the layers of torch.nn and of pcsim, by their types. Of a module of one's own nothing is assumed: it is called
in every step, and watched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


def has_hooks(module: nn.Module) -> bool:
    """Tell whether anyone wants to see the calls of a module, of one inside, or of all modules."""
    return has_global_hooks() or any(getattr(each, hooks, None) for each in module.modules() for hooks in HOOKS)


def is_constant(transform: nn.Module) -> bool:
    """Tell whether a transform makes the same of the same value at every step, and nobody watches it do so."""
    return not has_hooks(transform) and all(_is_pure(each) for each in transform.modules())


def _is_known(module: nn.Module) -> bool:
    """Tell whether a module is a layer of torch.nn or of pcsim, and computes as its type does."""
    return type(module).__module__.startswith(("torch.nn.", "pcsim.")) and "forward" not in vars(module)


def _is_pure(module: nn.Module) -> bool:
    if not _is_known(module):
        return False
    home = type(module).__module__
    if home.startswith("pcsim."):
        # Our norms of each step learn statistics.
        return not (module.training and hasattr(module, "running_mean"))
    room, _, layer = home.rpartition(".")
    if room != "torch.nn.modules":
        return False
    if isinstance(module, _RANDOM) or (module.training and isinstance(module, _RANDOM_IN_TRAINING)):
        return False
    return layer in _PURE or (layer in _PURE_IN_EVALUATION and not module.training)


def guarded(module: nn.Module, what: str) -> Callable[..., Any]:
    """Return the module such that it cannot write on what others read.

    One that says so (`inplace=True`) gets a copy; one of a user's own is refused when it does.
    """
    parts = list(module.modules())
    if any(getattr(part, "inplace", False) is True for part in parts):
        return partial(_on_copies, module)
    if all(_is_known(part) for part in parts):
        return module
    return partial(_watched, module, what)


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
    made = module(*values, **ports)
    if any(value._version != version for value, version in zip(given, before, strict=True)):
        raise WiringError(
            given=f"{what}, a {type(module).__name__} that writes in place on what it is given",
            expected="a new tensor: others read the same value, and it is recorded",
            remedy="write value.relu() for value.relu_(), value + x for value += x; or clone what it is given first",
        )
    return made
