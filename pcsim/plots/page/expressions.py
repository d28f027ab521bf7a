"""JavaScript expressions and copies for operators, by the operator's name in a trace.

    POINTWISE  an expression of the operands
    COPIES     the offset and the strides with which a result reads its source

Arguments are named as in torch's schemas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor in JavaScript: the name of its array, or a literal if it is a constant with a single value."""

    name: str
    shape: Shape
    is_number: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def number(value: float) -> str:
    """Return a number as a JavaScript expression that can be an operand."""
    value = float(value)
    if math.isinf(value) or math.isnan(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "(-Infinity)")
    text = repr(value).removesuffix(".0")
    return f"({text})" if text.startswith("-") else text


def strides_of(shape: Shape) -> list[int]:
    """Return the strides of an array of `shape`, with 0 for axes of length 1, which broadcast."""
    return [0 if length == 1 else math.prod(shape[d + 1 :]) for d, length in enumerate(shape)]


def over(shape: Sequence[int], body: str, name: str = "i") -> str:
    """Return loops over i0, i1, ... around `body`."""
    heads = "".join(
        f"for (let {name}{d} = 0; {name}{d} < {n}; {name}{d}++) " if n != 1 else f"{{ const {name}{d} = 0; "
        for d, n in enumerate(shape)
    )
    return f"{heads}{{ {body} }}" + " }" * sum(n == 1 for n in shape)


# ---------------------------------------------------------------------- pointwise


def _s(value: Any) -> str:
    """Return an operand: an expression, or a number."""
    return value if isinstance(value, str) else number(value)


def _scaled(factor: Any, value: Any) -> str:
    return _s(value) if factor == 1 else f"{_s(factor)} * {_s(value)}"


def _divided(*, self: Any, other: Any, rounding_mode: Any = None) -> str:
    quotient = f"{_s(self)} / {_s(other)}"
    return {None: quotient, "floor": f"Math.floor({quotient})", "trunc": f"Math.trunc({quotient})"}[rounding_mode]


def _power(*, self: Any, exponent: Any) -> str:
    if exponent == 2:
        return f"{self} * {self}"
    return f"Math.pow({_s(self)}, {_s(exponent)})"


def _clamped(*, self: Any, min: Any = None, max: Any = None) -> str:  # noqa: A002
    low = self if min is None else f"Math.max({self}, {_s(min)})"
    return low if max is None else f"Math.min({low}, {_s(max)})"


def _sigmoid(x: str) -> str:
    return f"1 / (1 + Math.exp(-{x}))"


def _compared(sign: str) -> Callable[..., str]:
    return lambda *, self, other: f"({_s(self)} {sign} {_s(other)}) ? 1 : 0"


def _called(name: str) -> Callable[..., str]:
    return lambda *, self, **_: f"Math.{name}({_s(self)})"


POINTWISE: dict[str, Callable[..., str]] = {
    "add": lambda *, self, other, alpha=1: f"{_s(self)} + {_scaled(alpha, other)}",
    "sub": lambda *, self, other, alpha=1: f"{_s(self)} - {_scaled(alpha, other)}",
    "rsub": lambda *, self, other, alpha=1: f"{_s(other)} - {_scaled(alpha, self)}",
    "mul": lambda *, self, other: f"{_s(self)} * {_s(other)}",
    "div": _divided,
    "pow": _power,
    "clamp": _clamped,
    "clamp_min": _clamped,
    "clamp_max": _clamped,
    "hardtanh": lambda *, self, min_val, max_val: _clamped(self=self, min=min_val, max=max_val),
    "maximum": lambda *, self, other: f"Math.max({self}, {other})",
    "minimum": lambda *, self, other: f"Math.min({self}, {other})",
    "neg": lambda *, self: f"-{_s(self)}",
    "reciprocal": lambda *, self: f"1 / {_s(self)}",
    "sqrt": _called("sqrt"),
    "rsqrt": lambda *, self: f"1 / Math.sqrt({_s(self)})",
    "sigmoid": lambda *, self: _sigmoid(_s(self)),
    "relu": lambda *, self: f"Math.max({_s(self)}, 0)",
    "silu": lambda *, self: f"{self} * ({_sigmoid(self)})",
    "leaky_relu": lambda *, self, negative_slope: f"{self} > 0 ? {self} : {number(negative_slope)} * {self}",
    "elu": lambda *, self, alpha, scale, input_scale: (
        f"{self} > 0 ? {number(scale)} * {self} : {number(alpha * scale)} * Math.expm1({number(input_scale)} * {self})"
    ),
    "softplus": lambda *, self, beta, threshold: (
        f"{number(beta)} * {self} > {number(threshold)} ? {self} : "
        f"Math.log1p(Math.exp({number(beta)} * {self})) / {number(beta)}"
    ),
    "hardsigmoid": lambda *, self: f"Math.min(Math.max({self} + 3, 0), 6) / 6",
    "lerp": lambda *, self, end, weight: f"{_s(self)} + {_s(weight)} * ({_s(end)} - {_s(self)})",
    "addcmul": lambda *, self, tensor1, tensor2, value=1: f"{_s(self)} + {_scaled(value, tensor1)} * {_s(tensor2)}",
    "addcdiv": lambda *, self, tensor1, tensor2, value=1: f"{_s(self)} + {_scaled(value, tensor1)} / {_s(tensor2)}",
    "where": lambda *, condition, self, other: f"{_s(condition)} ? {_s(self)} : {_s(other)}",
    "gt": _compared(">"),
    "ge": _compared(">="),
    "lt": _compared("<"),
    "le": _compared("<="),
    "eq": _compared("==="),
    "ne": _compared("!=="),
    "logical_and": lambda *, self, other: f"({_s(self)} && {_s(other)}) ? 1 : 0",
    "logical_or": lambda *, self, other: f"({_s(self)} || {_s(other)}) ? 1 : 0",
    "logical_not": lambda *, self: f"{_s(self)} ? 0 : 1",
    "sign": _called("sign"),
    "threshold_backward": lambda *, grad_output, self, threshold: f"{self} > {number(threshold)} ? {grad_output} : 0",
    "sigmoid_backward": lambda *, grad_output, output: f"{grad_output} * {output} * (1 - {output})",
    "tanh_backward": lambda *, grad_output, output: f"{grad_output} * (1 - {output} * {output})",
    **{name: _called(name) for name in ("abs", "exp", "expm1", "log", "log1p", "tanh", "cos", "sin", "floor", "ceil")},
}
"""operator -> an expression of its operands"""


# ---------------------------------------------------------------------- copies

Layout = tuple[int, list[int]]


def dense(shape: Shape) -> list[int]:
    """Return the strides of an array of `shape`."""
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def _permuted(shape: Shape, _made: Shape, given: Mapping[str, Any]) -> Layout:
    return 0, [dense(shape)[d] for d in given["dims"]]


def _transposed(shape: Shape, _made: Shape, given: Mapping[str, Any]) -> Layout:
    strides = dense(shape)
    if len(shape) > 1:
        one, other = given.get("dim0", 0), given.get("dim1", 1)
        strides[one], strides[other] = strides[other], strides[one]
    return 0, strides


def _expanded(shape: Shape, made: Shape, _given: Mapping[str, Any]) -> Layout:
    return 0, [0] * (len(made) - len(shape)) + strides_of(shape)


def _sliced(shape: Shape, _made: Shape, given: Mapping[str, Any]) -> Layout:
    strides, dim = dense(shape), given["dim"] % len(shape)
    begin = given["start"] or 0
    begin = max(0, begin + shape[dim]) if begin < 0 else min(begin, shape[dim])
    offset = begin * strides[dim]
    strides[dim] *= given["step"]
    return offset, strides


def _selected(shape: Shape, _made: Shape, given: Mapping[str, Any]) -> Layout:
    strides, dim = dense(shape), given["dim"] % len(shape)
    return given["index"] % shape[dim] * strides.pop(dim), strides


COPIES: dict[str, Callable[[Shape, Shape, Mapping[str, Any]], Layout]] = {
    "permute": _permuted,
    "transpose": _transposed,
    "t": _transposed,
    "expand": _expanded,
    "slice": _sliced,
    "select": _selected,
}
"""operator -> a function (shape of the source, shape of the result, arguments) -> offset and strides in the source"""
