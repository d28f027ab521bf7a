"""Arguments are checked against their annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pcsim import Euler, PcsimError, SolverError, WiringError
from pcsim.core.checks import Axes, Count, Positive, Share, Whole, checked, shown
from pcsim.core.exceptions import warn
from pcsim.solvers import Solver

if TYPE_CHECKING:
    from nowhere import Unknown


@checked(WiringError)
def take(
    count: Count = 3,
    *rest: str,
    word: Literal["one", "two"] = "one",
    share: Share = 0.5,
    tau: Positive | None = None,
    flag: bool = False,
    images: Tensor | None = None,
    logits: Annotated[Tensor, Axes("time, batch, ...")] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    sizes: Iterable[int] = (),
    table: Mapping[str, float] = {},
    values: ArrayLike = 0.0,
    pixels: NDArray[np.uint8] | None = None,
    path: str | Path = "",
    solver: Solver | None = None,
    kind: type[Solver] = Solver,
    apply: Callable[..., Any] = abs,
    later: Unknown = None,
) -> int:
    return count


ACCEPTED: list[dict[str, Any]] = [
    {"count": 1},
    {"count": np.int64(2)},
    {"word": "two"},
    {"share": 0},
    {"share": np.float32(1.0)},
    {"tau": 5},
    {"tau": None},
    {"flag": np.bool_(True)},
    {"images": torch.zeros(1)},
    {"logits": torch.zeros(2, 3, 4, 5)},
    {"pairs": [[1, 2], (3, 4)]},
    {"sizes": range(3)},
    {"table": {"a": 1, "b": 2.5}},
    {"values": [[1, 2], [3, 4]]},
    {"values": torch.ones(3, requires_grad=True)},
    {"pixels": np.zeros(3, np.uint8)},
    {"path": Path("x")},
    {"solver": Euler(1.0)},
    {"kind": Euler},
    {"apply": nn.ReLU()},
    {"later": object()},
]
REFUSED: list[tuple[dict[str, Any], str, str]] = [  # argument, words of what is expected, words of the remedy
    ({"count": 0}, "a whole number, at least 1", "count=3"),
    ({"count": -1}, "at least 1", "count=3"),
    ({"count": True}, "a whole number", "count=3"),
    ({"count": 2.0}, "a whole number", "count=2"),
    ({"count": "4"}, "a whole number", "count=4"),
    ({"count": None}, "a whole number", "count=3"),
    ({"count": math.nan}, "a whole number", "count=3"),
    ({"count": torch.tensor(3)}, "a whole number", "count.tolist()"),
    ({"word": "One"}, "one of 'one', 'two'", "word='one'"),
    ({"word": "twoo"}, "one of 'one', 'two'", "word='two'"),
    ({"word": ["one"]}, "one of 'one', 'two'", "word='one'"),
    ({"share": 1.5}, "at most 1", "share=0.5"),
    ({"share": math.nan}, "a number", "share=0.5"),
    ({"tau": 0.0}, "above 0", "omit"),
    ({"tau": math.inf}, "finite", "omit"),
    ({"tau": 1j}, "a number", "omit"),
    ({"flag": 1}, "True or False", "flag=False"),
    ({"flag": "False"}, "True or False", "flag=False"),
    ({"images": np.zeros(3)}, "a Tensor", "torch.from_numpy(images)"),
    ({"logits": torch.zeros(3)}, "the axes (time, batch, ...)", "logits"),
    ({"logits": torch.zeros(3, 4, dtype=torch.long)}, "floating-point", "logits"),
    ({"logits": torch.zeros(3, 0)}, "the axes", "logits"),
    ({"pairs": [(1, 2, 3)]}, "a whole number, a whole number", "pairs=()"),
    ({"pairs": "12"}, "a sequence", "pairs=()"),
    ({"pairs": ((i, i) for i in range(2))}, "a sequence", "pairs=()"),
    ({"sizes": [1, "2"]}, "a whole number", "sizes=()"),
    ({"table": {"a": "1"}}, "a dict that maps a string to a number", "table"),
    ({"table": {1: 1.0}}, "a dict that maps a string to a number", "table"),
    ({"table": [("a", 1.0)]}, "a dict", "table"),
    ({"values": [[1, 2], [3]]}, "numbers", "values"),
    ({"values": "text"}, "numbers", "values"),
    ({"values": 1j}, "numbers", "values"),
    ({"pixels": np.zeros(3)}, "an array of uint8", "pixels"),
    ({"path": 3}, "a string or a pathlib.Path", "path"),
    ({"solver": "Euler"}, "Dopri5, Euler, ExponentialEuler, Heun", "solver"),
    ({"solver": Euler}, "a Solver", "solver"),
    ({"kind": Euler(1.0)}, "a subclass of Solver", "kind"),
    ({"apply": "abs"}, "a function", "apply"),
    ({"wrod": "one"}, "the arguments", "'word' instead of 'wrod'"),
    ({"WORD": "one"}, "the arguments", "'word' instead of 'WORD'"),
    ({"zzz": "one"}, "the arguments", "remove 'zzz'; help(take)"),
]


@pytest.mark.parametrize("arguments", ACCEPTED, ids=range(len(ACCEPTED)))
def test_fitting_argument_is_passed_on(arguments: dict[str, Any]) -> None:
    assert take(**arguments) == arguments.get("count", 3)


@pytest.mark.parametrize(("arguments", "expected", "remedy"), REFUSED, ids=range(len(REFUSED)))
def test_unfitting_argument_is_refused(arguments: dict[str, Any], expected: str, remedy: str) -> None:
    with pytest.raises(WiringError) as caught:
        take(**arguments)
    assert expected in caught.value.expected
    assert remedy in caught.value.remedy
    assert next(iter(arguments)) in caught.value.given


def test_whole_number_is_passed_on_as_float_where_a_float_is_annotated() -> None:
    @checked(WiringError)
    def kept(share: Share = 0.5, count: int | float = 1, tau: Positive | None = None) -> tuple[object, ...]:
        return share, count, tau

    assert [type(value) for value in kept(1, 2, np.int64(3))] == [float, int, float]


def test_positional_and_surplus_arguments_are_checked() -> None:
    assert take(2, "a", "b") == 2
    with pytest.raises(WiringError, match="rest=5"):
        take(2, "a", 5)  # type: ignore[arg-type]


@checked(SolverError)
def pair_of(pairs: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    return pairs


@checked(SolverError)
@dataclass(frozen=True)
class Setting:
    step: Positive
    start: Whole = 0


@dataclass(frozen=True)
class Inherited(Setting):
    more: float = 1.0


def test_class_is_checked_and_its_messages_name_it() -> None:
    assert Setting(1.0, np.int64(2)) == Setting(1, 2)
    assert type(Setting(1.0, np.int64(2)).start) is int  # NumPy scalars become Python numbers
    assert [type(size) for size in pair_of(pairs=[(np.uint8(1), 2)])[0]] == [int, int]
    with pytest.raises(SolverError, match="step=-1.0 for Setting"):
        Setting(-1)
    with pytest.raises(SolverError, match="missing a required argument: 'step'"):
        Setting()  # type: ignore[call-arg]
    assert Inherited(-1.0).step == -1.0  # a dataclass that inherits has a constructor of its own


def test_function_keeps_its_name_signature_and_exceptions() -> None:
    import inspect

    assert take.__name__ == "take" and "word" in inspect.signature(take).parameters

    @checked(WiringError)
    def fails(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        fails(1)


def test_warning_points_to_the_caller() -> None:
    with pytest.warns(UserWarning, match="odd") as caught:
        warn("odd")
    assert caught[0].filename == __file__


def test_unfitting_argument_is_a_pcsim_exception() -> None:
    assert issubclass(WiringError, PcsimError)


def test_message_shows_arrays_in_containers_by_shape() -> None:
    """A printed array would displace everything else in the message."""
    array = np.zeros((1, 2, 3))
    text = "a ndarray of shape (1, 2, 3) and type float64"
    assert shown({"image": array, 1: 2}) == f"{{'image': {text}, 1: 2}}"
    assert shown({"image": array, 1: [array]}).startswith(f"{{'image': {text}, 1: [a ndarray of")
    assert shown([array]) == f"[{text}]" and shown((array,)) == f"({text},)"
    assert shown((1, "a")) == "(1, 'a')" and shown(()) == "()" and shown({}) == "{}" and shown([]) == "[]"
    assert shown([0] * 1_000).endswith("0, ...") and len(shown([0] * 1_000)) == 100


def test_excess_positional_arguments_name_those_to_pass_by_name() -> None:
    @checked(WiringError)
    def plot(x: float, *, width: float = 1.0, height: float = 1.0) -> float:
        return x * width * height

    with pytest.raises(WiringError, match="too many positional arguments") as caught:
        plot(1.0, 2.0)
    assert caught.value.remedy == "pass width, height by name, for example width=..."
