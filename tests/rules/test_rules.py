"""Rules and transforms against their equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import pcsim
from pcsim import WiringError, rules
from pcsim.connections import GlobalMaxPool, LocalResponseNorm, Standardise, Tied, conv, up_conv
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import Regime

pytestmark = pytest.mark.usefixtures("float64")


def test_rate_adds_bias_before_nonlinearity() -> None:
    rule = rules.Rate(2, "relu")
    with torch.no_grad():
        rule.bias.copy_(torch.tensor([-1.0, 2.0]))
    drive = torch.tensor([[[[0.5]], [[-1.5]]]])
    assert rule(torch.full((1, 2, 1, 1), 9.0), drive=drive).flatten().tolist() == [0.0, 0.5]


def test_leaky_rate_is_map_minus_state_over_tau() -> None:
    rule = rules.leaky_rate(2, torch.tensor([5.0, 20.0]), "identity", bias=False)
    net = pcsim.Network({"u": (2, 1, 1)}, [pcsim.Population("r", rule)], [pcsim.Projection("u", "r")])
    plan = Plan(net.wiring(), Regime(), pcsim.Heun(dt=1.0))
    held = plan.precompute({"u": torch.full((1, 2, 1, 1), 11.0)})
    rates = plan.evaluate(plan.rates(), held, {"r": torch.ones(1, 2, 1, 1)})
    assert torch.allclose(rates["r"].flatten(), torch.tensor([2.0, 0.5]))


def test_prediction_error_is_precision_times_difference() -> None:
    error = rules.PredictionError(precision=2.0)(target=torch.tensor([3.0]), prediction=torch.tensor([1.0]))
    assert error.item() == 4.0


def test_error_relaxation_is_drive_minus_error() -> None:
    push = rules.ErrorRelaxation(10.0)(torch.zeros(1), drive=torch.tensor([3.0]), error=torch.tensor([1.0]))
    assert push.item() == 2.0


def test_learnable_tau_is_sigmoid_between_bounds() -> None:
    tau = rules.LearnableTau(1, minimum=2.0, span=10.0)
    with torch.no_grad():
        tau.xi.fill_(0.7)
    assert tau().item() == pytest.approx(2.0 + 10.0 / (1.0 + math.exp(-0.7)))


@pytest.mark.parametrize("bad", [0.0, -3.0, float("nan"), float("inf")])
def test_time_constant_refuses_nonpositive_and_nonfinite(bad: float) -> None:
    with pytest.raises(WiringError, match="positive, finite|a number"):
        rules.time_constant(bad)


def test_unknown_activation_refused_with_known_ones() -> None:
    with pytest.raises(WiringError, match="softplus"):
        rules.Rate(2, "rleu")


@pytest.mark.parametrize(("n", "alpha", "beta"), [(5, 0.1, 0.5), (3, 0.5, 0.75), (4, 1.0, 1.0), (13, 0.1, 0.75)])
def test_local_response_norm_sums_over_clipped_window(n: int, alpha: float, beta: float) -> None:
    x = torch.randn(2, 9, 3, 4)
    expected = np.empty(x.shape)
    for k in range(9):
        window = x.numpy()[:, max(0, k - n // 2) : min(8, k + n // 2) + 1]
        expected[:, k] = x.numpy()[:, k] / (1.0 + alpha * (window**2).sum(1)) ** beta
    assert np.allclose(LocalResponseNorm(9, n, alpha, beta)(x).numpy(), expected, rtol=1e-12)


def test_local_response_norm_equals_torch_with_alpha_times_n() -> None:
    x = torch.randn(2, 9, 3, 4)
    theirs = nn.LocalResponseNorm(size=5, alpha=5 * 0.1, beta=0.5, k=1.0)(x)
    assert torch.allclose(LocalResponseNorm(9, 5, 0.1, 0.5)(x), theirs, rtol=1e-10)


def test_standardise_uses_mean_and_sd_of_training_set() -> None:
    images, transform = torch.rand(50, 1, 4, 4) * 3 + 1, Standardise()
    transform.fit(images)
    shown = transform(images)
    assert shown.mean().item() == pytest.approx(0.0, abs=1e-12) and shown.std().item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_standardise_built_in_single_precision_is_exact_after_double(dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    transform, pixels = Standardise(0.485, 0.229), [0.0, 0.1, 0.9]
    assert transform(torch.tensor(pixels, dtype=dtype)).dtype == dtype
    shown = transform.double()(torch.tensor(pixels, dtype=torch.float64))
    assert shown.tolist() == pytest.approx([(pixel - 0.485) / 0.229 for pixel in pixels], rel=1e-15)


@pytest.mark.parametrize("forward", [nn.Linear(4, 7), conv(3, 5), conv(2, 4, 3, stride=2), conv(2, 4, 5, stride=1)])
def test_tied_is_transpose(forward: nn.Module) -> None:
    forward = forward.double()
    x = torch.randn(1, *((4,) if isinstance(forward, nn.Linear) else (forward.in_channels, 6, 6)))
    y = torch.randn_like(forward(x))
    bias = forward.bias
    image = forward(x) if bias is None else forward(x) - bias
    assert (image * y).sum().item() == pytest.approx((x * Tied(forward)(y)).sum().item(), rel=1e-10)


def test_tied_refuses_named_padding() -> None:
    with pytest.raises(WiringError, match="numeric zero padding"):
        Tied(nn.Conv2d(1, 1, 3, padding="same"))(torch.zeros(1, 1, 4, 4))


def test_global_max_pool_keeps_largest_of_map() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(GlobalMaxPool()(x), x.flatten(2).max(2).values)


def test_rules_and_transforms_pass_gradcheck() -> None:
    drive = torch.randn(2, 6, 3, 3, requires_grad=True)
    own = torch.randn(2, 6, 3, 3, requires_grad=True)
    norm = LocalResponseNorm(6, alpha=0.1)
    assert torch.autograd.gradcheck(norm, (drive,))
    tau = rules.LearnableTau(6, 1.0, 5.0)
    leaky = rules.leaky_rate(6, tau, "tanh")
    assert torch.autograd.gradcheck(lambda o, d: leaky(o, drive=d), (own, drive))
    assert torch.autograd.gradcheck(up_conv(6, 2), (drive,))


def test_switch_takes_stimulus_at_a_share_of_one_half() -> None:
    share = torch.tensor([0.0, 0.5, math.nextafter(0.5, 1.0), 1.0])[:, None]
    made = rules.Switch()(given=torch.zeros(4, 1), own=torch.ones(4, 1), share=share)
    assert made.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_learnable_tau_starts_in_the_middle_by_default() -> None:
    assert rules.LearnableTau(3, minimum=2.0, span=6.0)().tolist() == pytest.approx([5.0] * 3)


@pytest.mark.parametrize("tau", [10.0, [5.0, 20.0]])
def test_fixed_time_constants_are_not_in_the_state_dict(tau: float | list[float]) -> None:
    rule = pcsim.rules.leaky_rate(2, torch.tensor(tau) if isinstance(tau, list) else tau, bias=False)
    assert not rule.state_dict()
    assert torch.equal(torch.as_tensor(rule.tau()), torch.as_tensor(tau))


class Own(rules.Flow):
    """A flow of a user, which returns what a test chooses."""

    def __init__(self, made: object, extra: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.tau, self.extra, self.made = rules.time_constant(10.0), extra, made

    def forward(self, own: object, *, drive: torch.Tensor) -> object:
        return self.made(drive)


class Renamed(Own):
    def forward(self, own: object, *, excitation: torch.Tensor) -> object:
        return excitation


def run_of(rule: rules.Rule) -> torch.Tensor:
    net = pcsim.Network({"x": (3,)}, [pcsim.Population("r", rule)], [pcsim.Projection("x", "r")])
    return pcsim.simulate(net, torch.rand(2, 3), solver=pcsim.RK4(1.0), until=2.0, record=pcsim.Record(states=["r"]))[
        "r"
    ]


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        (Own(lambda drive: drive, ("i",)), "returned a Tensor"),
        (Own(lambda drive: {"value": drive}, ("i",)), "returned a dict of 'value'"),
        (Own(lambda drive: {"value": drive, "j": drive}, ("i",)), "returned a dict of 'value', 'j'"),
        (Own(lambda drive: {"value": drive}), "returned a dict of 'value'"),
        (Own(lambda drive: None), "returned a NoneType"),
        (Own(lambda drive: torch.stack([drive, drive])), r"'value' of shape \(2, 2, 3\)"),
        (Own(lambda drive: {"value": drive, "i": drive[:1]}, ("i",)), r"'i' of shape \(1, 3\)"),
        (Renamed(None), "missing a required argument: 'excitation'"),
    ],
)
def test_rule_that_returns_something_else_is_named(rule: rules.Rule, given: str) -> None:
    with pytest.raises(WiringError, match=f"the rule of 'r', a .*{given}"):
        run_of(rule)


def test_rule_with_its_declared_variables_runs() -> None:
    assert run_of(Own(lambda drive: {"value": drive, "i": -drive}, ("i",))).shape == (2, 2, 3)


def test_type_error_inside_a_rule_is_not_blamed_on_its_ports() -> None:
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        run_of(Own(lambda drive: drive + "a"))
    assert "in the rule of 'r', a Own" in caught.value.__notes__
