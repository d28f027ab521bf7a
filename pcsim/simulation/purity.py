"""Properties of modules: whether they are pure, and whether they write to their arguments.

Layers of torch.nn and pcsim are recognised by their types. Nothing is assumed about user-defined modules: they are
called at every step and checked for in-place writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as _torch_module

from pcsim.connections import Function
from pcsim.core.exceptions import WiringError
from pcsim.rules import Rule

# Layers without memory, random numbers or side effects in any mode
_PURE = {"activation", "container", "conv", "flatten", "linear", "padding", "pixelshuffle", "pooling", "upsampling"}
# Layers that draw random numbers or update statistics, but only in training mode
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
    """Return whether global module hooks are registered."""
    return any(getattr(_torch_module, hooks, None) for hooks in _GLOBAL_HOOKS)


def _has_hooks(module: nn.Module) -> bool:
    """Return whether hooks are registered on the module itself."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def has_spectators(module: nn.Module) -> bool:
    """Return whether a user's hook is registered; hooks of torch.nn.utils (weight_norm, prune) are ignored."""
    hooks = (hook for kind in HOOKS for hook in getattr(module, kind).values())
    return any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)


@dataclass(frozen=True)
class Nature:
    """Properties of a module and the modules inside it.

    is_known     all of them are layers of torch.nn or pcsim with the standard `forward` of their type
    is_pure      all of them return the same result for the same value at every step
    is_watched   a hook is registered on one of them, or globally
    is_compiled  one of them was compiled with `module.compile()`
    writes       one of them has `inplace=True`
    """

    is_known: bool
    is_pure: bool
    is_watched: bool
    is_compiled: bool
    writes: bool

    @property
    def is_constant(self) -> bool:
        """True if the module is pure and has no hooks."""
        return self.is_pure and not self.is_watched

    @property
    def is_plain(self) -> bool:
        """True if the layer's function can be called instead of the module."""
        return self.is_known and not (self.is_watched or self.is_compiled or self.writes)


def walked(module: nn.Module) -> list[nn.Module]:
    """Return a module and all modules inside it. Every run calls it, so it must be faster than `modules()`."""
    known = {module}
    waiting = [module]
    for part in waiting:
        for child in part._modules.values():
            if child is not None and child not in known:
                known.add(child)
                waiting.append(child)
    return waiting


def nature(module: nn.Module, is_watched: bool = False) -> Nature:
    """Return the properties of a module; `is_watched` is True if global hooks are registered."""
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
    """Properties of a class of modules.

    learns  whether it draws random numbers or updates running statistics, but only in training mode
    """

    is_known: bool
    is_pure: bool
    learns: bool


@lru_cache
def _kind(layer: type[nn.Module]) -> _Kind:
    home = layer.__module__
    room, _, family = home.rpartition(".")
    is_ours = home.startswith("pcsim.") and not issubclass(layer, Function)  # a function may do anything
    is_torchs = room == "torch.nn.modules"
    learns = is_torchs and (family in _PURE_IN_EVALUATION or issubclass(layer, _RANDOM_IN_TRAINING))
    is_pure = is_ours or (is_torchs and (learns or family in _PURE) and not issubclass(layer, _RANDOM))
    return _Kind(is_ours or home.startswith("torch.nn."), is_pure, learns)


def guarded(module: nn.Module, what: str, known: Nature) -> Callable[..., Any]:
    """Return the module as a function that cannot modify values used elsewhere.

    A module with `inplace=True` receives copies. For a user-defined module that writes to its arguments, the function
    raises WiringError.
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
        if isinstance(reason, TypeError) and isinstance(module, Rule):
            _require_ports(module, what, values, ports)
        reason.add_note(f"in {what}, a {type(module).__name__}")
        raise
    if isinstance(module, Rule):
        _require_variables(module, what, values, made)
    if any(value._version != version for value, version in zip(given, before, strict=True)):
        raise WiringError(
            given=f"{what}, a {type(module).__name__} that modifies its arguments in place",
            expected="a module that returns a new tensor, because its argument may be recorded or used elsewhere",
            remedy="replace value.relu_() with value.relu() and value += x with value + x, or call value.clone() first",
        )
    return made


def _require_ports(rule: Rule, what: str, values: tuple[Any, ...], ports: dict[str, Tensor]) -> None:
    try:
        inspect.signature(rule.forward).bind(*values, **ports)
    except TypeError as reason:
        raise WiringError(
            given=f"{what}, a {type(rule).__name__} whose forward cannot be called with its ports ({reason})",
            expected=f"forward({'own, ' * bool(values)}*, {', '.join(ports)})",
            remedy="use the same names for the arguments of forward and for the rule's `ports`",
        ) from reason


def _require_variables(rule: Rule, what: str, values: tuple[Any, ...], made: Any) -> None:
    """Raise WiringError unless a rule returned its variables in the correct shapes."""
    names = {"value", *rule.extra}
    found = made if isinstance(made, dict) else {"value": made}
    is_mixed = isinstance(made, dict) != bool(rule.extra)
    if is_mixed or set(found) != names or not all(isinstance(value, Tensor) for value in found.values()):
        raise WiringError(
            given=f"{what}, a {type(rule).__name__} with extra = {rule.extra}, which returned "
            + (f"a dict of {', '.join(map(repr, made))}" if isinstance(made, dict) else f"a {type(made).__name__}"),
            expected=f"a dict with a tensor for each of {', '.join(sorted(names))}" if rule.extra else "a tensor",
            remedy="list every variable other than the value in `extra`, and return all variables"
            if rule.extra or isinstance(made, dict)
            else "return a tensor (batch, ...)",
        )
    own = values[0] if values and isinstance(values[0], dict) else {"value": values[0]} if values else {}
    for name in own:
        if name in found and found[name].shape != own[name].shape:
            raise WiringError(
                given=f"{what}, a {type(rule).__name__} that returned {name!r} of shape {tuple(found[name].shape)}",
                expected=f"the shape of its own {name!r}, {tuple(own[name].shape)}",
                remedy="return one value per unit; declare other shapes in the rule's `shapes` method",
            )
