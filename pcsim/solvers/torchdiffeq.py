"""Solvers from the torchdiffeq package."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import SolverError
from pcsim.core.state import State
from pcsim.network.wiring import Wiring
from pcsim.solvers.base import FlowSolver, Plan, integration_failed, refuse_delays

ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = {"euler": 2.0, "midpoint": 2.0, "heun2": 2.0, "heun3": 2.512, "rk4": 2.785}
"""Fixed-step methods by their torchdiffeq names, with the largest stable dt / tau for a leak; `scipy_solver` (with
options={"solver": ...}) is adaptive."""
MULTISTEP = ("explicit_adams", "implicit_adams", "fixed_adams")
"""methods that use previous steps, which torchdiffeq replaces with Runge-Kutta steps if each dt is a separate call"""


@checked(SolverError)
@dataclass(frozen=True)
class TorchDiffEq(FlowSolver):
    """Any torchdiffeq method except the multistep (Adams) methods, called once per interval of `dt` ms.

    For a fixed-step method, `dt` is the step. For an adaptive method, it is the interval at which the state can be
    recorded and the stimulus can change, so that no step straddles a change. Adaptive methods require `rtol` and
    `atol`, and all samples of a batch share one step size. `training.Adjoint()` computes gradients with the adjoint
    method of torchdiffeq.
    """

    is_traceable: ClassVar[bool] = False
    adjoint: ClassVar[bool] = False

    method: str = "dopri5"
    rtol: Positive | None = None
    atol: Positive | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    max_evaluations: Count = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method in MULTISTEP:
            raise SolverError(
                given=f"TorchDiffEq(method={self.method!r})",
                expected="a one-step method, because every dt starts afresh, without values from previous steps",
                remedy="pass method='rk4', with which torchdiffeq would replace it, or an adaptive method",
            )
        known = (*ADAPTIVE, *FIXED, "scipy_solver")
        if self.method not in known:
            raise SolverError(
                given=f"TorchDiffEq(method={self.method!r})",
                expected=f"one of {', '.join(known)}",
                remedy="pass method='dopri5' for adaptive steps, or method='rk4' for fixed steps",
            )
        if self.method not in FIXED and (self.rtol is None or self.atol is None):
            raise SolverError(
                given=f"TorchDiffEq(method={self.method!r}, rtol={self.rtol}, atol={self.atol})",
                expected="both tolerances for an adaptive method",
                remedy="pass rtol=1e-5, atol=1e-7",
            )

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau of a fixed-step method; infinity for an adaptive one."""
        return FIXED.get(self.method, math.inf)

    def check(self, network: Wiring) -> None:
        """Also raise SolverError for conduction delays."""
        super().check(network)
        refuse_delays(self, network)

    def with_adjoint(self) -> TorchDiffEq:
        """Return the same method, with gradients computed by integrating the adjoint equation backwards."""
        return _WithAdjoint(**{each.name: getattr(self, each.name) for each in fields(self)})

    def step(self, plan: Plan, precomputed: State, state: State) -> State:
        """Integrate over one interval `dt`."""
        from torchdiffeq import odeint, odeint_adjoint

        right_hand_side = _RightHandSide(self, plan, precomputed, state)
        start = tuple(state[name] for name in plan.flow_keys)
        times = torch.tensor([0.0, self.dt], dtype=torch.float64, device=start[0].device).to(start[0].dtype)
        tolerances = {} if self.method in FIXED else {"rtol": self.rtol, "atol": self.atol}
        # Make adaptive methods stop exactly at the end; by default they overshoot and interpolate.
        step = (
            {"step_size": self.dt} if self.method in FIXED else {"step_t": times[1:]} if self.method in ADAPTIVE else {}
        )
        extra: dict[str, Any] = {"adjoint_params": tuple(plan.network.module.parameters())} if self.adjoint else {}
        integrate = odeint_adjoint if self.adjoint else odeint
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*Unexpected arguments.*")
            try:
                options = step | dict(self.options)
                ends = integrate(
                    right_hand_side, start, times, method=self.method, options=options, **tolerances, **extra
                )
            except UserWarning as reason:
                raise SolverError(
                    given=f"options {dict(self.options)} for {self.method}",
                    expected="options that this torchdiffeq method accepts",
                    remedy=f"remove the unsupported options: {reason}",
                ) from reason
            except AssertionError as reason:
                raise integration_failed(self.method, plan.network, str(reason)) from reason
        return plan.complete(
            precomputed, state, {name: value[-1] for name, value in zip(plan.flow_keys, ends, strict=True)}
        )


class _WithAdjoint(TorchDiffEq):
    """The adjoint method, restarted in every interval `dt` because a leak diverges when integrated backwards."""

    adjoint: ClassVar[bool] = True

    def check(self, network: Wiring) -> None:
        """Also raise SolverError if dt is longer than the smallest tau."""
        super().check(network)
        smallest = min(rule.tau.smallest() for rule in network.flows.values())
        if self.dt > smallest:
            raise SolverError(
                given=f"the adjoint with dt = {self.dt:g} ms and a smallest tau of {smallest:g} ms",
                expected="dt <= tau, because the gradient is inaccurate if the adjoint is integrated over several tau",
                remedy=f"pass dt={smallest:g} or less, or gradient=Checkpointed()",
            )


class _RightHandSide(torch.nn.Module):
    """The right-hand side that torchdiffeq calls, which counts its evaluations."""

    def __init__(self, solver: TorchDiffEq, plan: Plan, precomputed: State, state: State) -> None:
        super().__init__()
        self.solver, self.plan, self.precomputed, self.state = solver, plan, precomputed, state
        self.evaluations = 0

    def forward(self, time: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.evaluations += 1
        plan, solver = self.plan, self.solver
        if self.evaluations > solver.max_evaluations:
            raise integration_failed(solver.method, plan.network, f"{self.evaluations - 1} evaluations were not enough")
        precomputed = self.precomputed
        if solver.adjoint:
            # The adjoint method computes gradients only for parameters used inside the right-hand side.
            precomputed = plan.precompute({name: precomputed[name] for name in plan.network.inputs})
        rates = plan.evaluate(plan.rates(), precomputed, self.state | dict(zip(plan.flow_keys, values, strict=True)))
        return tuple(rates[name] for name in plan.flow_keys)
