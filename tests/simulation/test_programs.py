"""Programs reuse memory without changing a value: random steps against the same operations run one by one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pcsim.simulation.program import RECORDED, Program, Trace

Tensors = dict[str, Tensor]
SIZE = 4


def halves_swapped(x: Tensor, y: Tensor, _: Tensor) -> Tensor:
    above, below = x.split(2)
    return torch.cat([below + above, above * y[2:]])


# Functions of three square matrices: views, operations that can overwrite an operand, and operations that cannot.
OPERATIONS: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    lambda x, y, _: x + y,
    lambda x, y, _: x - y,
    lambda x, y, _: y - x.tanh(),
    lambda x, y, _: x * y,
    lambda x, *_: x.t(),
    lambda x, *_: x.t() * x,
    lambda x, *_: x.tanh() - x.tanh().t(),
    lambda x, y, _: (x + y).t() - (x + y),
    lambda x, *_: x.sigmoid(),
    lambda x, *_: 1.0 - x,
    lambda x, *_: -x,
    lambda x, *_: x.flip(0),
    lambda x, *_: x.reshape(-1).neg().view(SIZE, SIZE),
    lambda x, *_: x.double().tanh().float(),
    lambda x, y, _: x[1:2].expand(SIZE, SIZE) + y,
    lambda x, y, _: torch.cat([x[:2].abs(), y[2:]]),
    lambda x, y, z: torch.lerp(x, y, z.sigmoid()),
    lambda x, y, z: torch.addcmul(x, y, z),
    lambda x, y, z: torch.addcmul(y.tanh(), x, y.tanh()),
    lambda x, y, _: 0.3 * torch.mm(x, y),
    lambda x, y, z: torch.addmm(x, y, z, alpha=0.2),
    lambda x, *_: 0.2 * torch.mm(x, x.t()),
    lambda x, y, _: functional.linear(x.reshape(2, 2, SIZE), y).view(SIZE, SIZE).tanh(),
    halves_swapped,
]


def random_step(seed: int, recorded: bool) -> Callable[[Tensors, Tensors], Tensors]:
    """Return a step of twelve random operations on two fixed and three moving matrices."""

    def step(fixed: Tensors, moving: Tensors) -> Tensors:
        drawn = random.Random(seed)
        values = [*fixed.values(), *moving.values()]
        for _ in range(12):
            values.append(drawn.choice(OPERATIONS)(*drawn.choices(values[-6:] + values[:5], k=3)))
        # A new state may be a state of the step before, and the same tensor as a row.
        after = {name: value.contiguous() for name, value in zip(moving, drawn.sample(values[2:], 3), strict=True)}
        after["a"] = after["a"].clamp(-2.0, 2.0)
        return after | (
            {RECORDED + n: v for n, v in zip("pq", drawn.sample(values, 2), strict=True)} if recorded else {}
        )

    return step


def forms(values: Tensors) -> dict[str, object]:
    return {name: (value.dtype, value.shape, value.stride()) for name, value in values.items()}


@pytest.mark.parametrize("seed", range(45))
def test_program_bitwise_equals_operations_one_by_one(seed: int) -> None:
    torch.manual_seed(seed)
    count = 20 if seed % 3 == 2 else 3  # long programs run in inference mode
    fixed = {name: torch.randn(SIZE, SIZE) for name in "wu"}
    moving = {name: torch.randn(SIZE, SIZE) for name in "abc"}
    kept = {name: value.clone() for name, value in (fixed | moving).items()}
    drawn = random.Random(seed)
    due = (*(drawn.random() < 0.5 for _ in range(count - 1)), True)

    plain, rows, state = random_step(seed, False), [], dict(moving)
    for wanted in due:
        made = random_step(seed, True)(fixed, state)
        state = plain(fixed, state)
        rows += [{name: made[RECORDED + name] for name in "pq"}] if wanted else []

    program = Program(Trace(plain, fixed, moving), Trace(random_step(seed, True), fixed, moving), due)
    given = program.given(fixed)
    first, first_rows = program.run(given, moving)
    later = program.run(given, {name: value + 1.0 for name, value in moving.items()})[0]
    for found, expected in zip([first, *first_rows], [state, *rows], strict=True):
        assert found.keys() == expected.keys() and forms(found) == forms(expected)
        assert all(torch.equal(found[name].nan_to_num(9.0), expected[name].nan_to_num(9.0)) for name in found)
    assert all(torch.equal(value, kept[name]) for name, value in (fixed | moving).items())
    assert not any(value.is_inference() for value in (first | later).values())


class Storages(TorchDispatchMode):
    """Keep every result, so that no memory is freed, and count the separate buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Tensor] = []

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        self.results.append(result)
        return result

    @property
    def count(self) -> int:
        return len({result.untyped_storage().data_ptr() for result in self.results})


@pytest.mark.parametrize(
    ("step", "buffers"),
    [
        (lambda x: x.tanh().neg().exp().sigmoid().mul(0.5), 1),  # each value overwrites the one before
        (lambda x: torch.mm(x.tanh(), x).neg(), 2),  # a product cannot overwrite its factor
        (lambda x: torch.mm(torch.mm(torch.mm(torch.mm(x, x), x), x), x), 2),  # but the factor of an earlier product
        (lambda x: (x.tanh() + x.exp()) * x.neg(), 2),
        (lambda x: (lambda y: torch.mm(y, y) + y)(x.tanh()), 2),  # y is still read after the product
    ],
)
def test_program_keeps_as_few_buffers_as_values_in_use(step: Callable[[Tensor], Tensor], buffers: int) -> None:
    def once(_: Tensors, moving: Tensors) -> Tensors:
        return {"x": step(moving["x"])}

    moving = {"x": torch.rand(SIZE, SIZE)}
    trace = Trace(once, {}, moving)
    program = Program(trace, trace, (False,))
    with Storages() as used:
        state, _ = program.run((), moving)
    assert used.count == buffers and torch.equal(state["x"], step(moving["x"]))


def test_program_keeps_operations_that_differ_in_sign_of_zero() -> None:
    def step(_: Tensors, moving: Tensors) -> Tensors:
        return {"x": moving["x"]}

    def recording(_: Tensors, moving: Tensors) -> Tensors:
        return {"x": moving["x"], RECORDED + "p": moving["x"] * 0.0, RECORDED + "n": moving["x"] * -0.0}

    moving = {"x": torch.ones(3)}
    _, (row,) = Program(Trace(step, {}, moving), Trace(recording, {}, moving), (True,)).run((), moving)
    assert not row["p"].signbit().any() and row["n"].signbit().all()
