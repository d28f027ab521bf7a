"""Local learning rules: how the weight of a projection changes with pre- and postsynaptic activity.

    Hebb          dw = eta <post pre>                                        Hebb 1949
    Oja           dw = eta ( <post pre> - alpha <post^2> w )                 Oja 1982 eq. 3
    BCM           dw = eta <post (post - theta) pre>,  theta = E[post^2]     Bienenstock, Cooper & Munro 1982;
                                                                             Intrator & Cooper 1992
    ThreeFactor   e <- decay e + post pre,  dw = eta <(R - b) e>             Fremaux & Gerstner 2016
    Vogels        dw = eta <(post - rho) pre>                                Vogels et al. 2011, in terms of rates
    PredictiveCoding  dw = eta <e f(r)>                                      Rao & Ballard 1999 eq. 9

<...> is the mean over samples and, for a convolution, over positions. w is the weight. If the signs of the weights are
fixed (`connections.signed`), w is their absolute value, which stays at or above 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Finite, NonNegative, Positive, checked
from pcsim.core.exceptions import TrainingError, WiringError
from pcsim.network import Network, Projection
from pcsim.rules.predictive import ErrorThrough
from pcsim.training.synapses import Synapses

_Decay = Annotated[float, Field(ge=0, lt=1)]
_Slow = Annotated[float, Field(ge=1)]


@dataclass(frozen=True)
class Activity:
    """The activities at one time, in the shapes of the weight's input and output, and the reward (batch,), if any."""

    pre: Tensor
    post: Tensor
    reward: Tensor | None = None


class LocalRule(ABC):
    """Base class for local learning rules. Subclass it to add a rule; `rate` is the learning rate eta."""

    rate: float
    traces: tuple[str, ...] = ()
    """state variables that are per sample; a new trial starts without them"""

    def post_of(self, network: Network, edge: Projection) -> str:
        """Return the name of the population whose value is the postsynaptic activity: by default the target."""
        return edge.target

    def check(self, edge: Projection, synapses: Synapses) -> None:  # noqa: B027
        """Raise WiringError if the rule does not apply to a projection."""

    @abstractmethod
    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return dw / eta in the shape of the weight, and the next state of the rule.

        state  the rule's own variables; empty before the first update
        """


@checked(TrainingError)
@dataclass(frozen=True)
class Hebb(LocalRule):
    """dw = eta <post pre>. Weights grow without bound, so limit the number of updates or use `Oja`."""

    rate: Positive

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """<post pre>; the rule has no state."""
        return synapses.products(activity.post, activity.pre), {}


@checked(TrainingError)
@dataclass(frozen=True)
class Oja(LocalRule):
    """dw = eta ( <post pre> - alpha <post^2> w ), separately for every unit of the target.

    For a linear unit, w converges to the first eigenvector of <pre pre^T>, with norm 1 / sqrt(alpha).
    Source: Oja 1982 eq. 3 (alpha = 1).
    """

    rate: Positive
    alpha: Positive = 1.0

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """<post pre> - alpha <post^2> w; the rule has no state."""
        decay = self.alpha * synapses.along_weight(synapses.means(activity.post.square()))
        return synapses.products(activity.post, activity.pre) - decay * synapses.strength, {}


@checked(TrainingError)
@dataclass(frozen=True)
class BCM(LocalRule):
    """dw = eta <post (post - theta) pre>, with a sliding threshold theta for every unit of the target.

    tau_theta  time constant of the threshold in updates: theta <- theta + (target - theta) / tau_theta, after the
               weights have changed. None uses the target of the batch itself, which must then contain all stimuli
    target     "mean square" <post^2> (Intrator & Cooper 1992) or "squared mean" <post>^2 / scale (Bienenstock, Cooper &
               Munro 1982)
    start      theta before the first update
    """

    rate: Positive
    tau_theta: _Slow | None = 10.0
    target: Literal["mean square", "squared mean"] = "mean square"
    scale: Positive = 1.0
    start: NonNegative = 0.0

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """<post (post - theta) pre>; the state is theta, (units,)."""
        post = activity.post
        is_square = self.target == "mean square"
        target = synapses.means(post.square()) if is_square else synapses.means(post).square() / self.scale
        theta = target if self.tau_theta is None else state.get("theta", torch.full_like(target, self.start))
        following = theta + (target - theta) / (self.tau_theta or 1.0)
        threshold = synapses.along_activity(theta, post)
        return synapses.products(post * (post - threshold), activity.pre), {"theta": following}


@checked(TrainingError)
@dataclass(frozen=True)
class ThreeFactor(LocalRule):
    """e <- decay e + post pre;  dw = eta <(R - b) e>: the reward R gates the stored eligibility trace e.

    decay     factor by which the trace of each sample falls from one update to the next, exp(-interval / tau)
    baseline  expected reward b: a number, or "running" for the mean of past rewards, so that R - b is a reward
              prediction error. b changes after the weights
    tau_reward  time constant of the running mean, in rewarded updates

    Without a reward, only the trace changes. With decay=0, baseline=0 and R=1, this is Hebb's rule.
    Source: Fremaux & Gerstner 2016.
    """

    rate: Positive
    decay: _Decay = 0.9
    baseline: Finite | Literal["running"] = "running"
    tau_reward: _Slow = 10.0
    traces: tuple[str, ...] = field(default=("eligibility",), init=False, repr=False)

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """<(R - b) e>; the state is the eligibility e (batch, *weight) and, for "running", the expected reward b."""
        products = synapses.products_of_samples(activity.post, activity.pre)
        before = state.get("eligibility")
        if before is not None and len(before) != len(products):
            raise TrainingError(
                given=f"a batch of {len(products)} for an eligibility trace of {len(before)} samples",
                expected="the same samples throughout a trial",
                remedy="call start_trial() before the first update of a new batch",
            )
        eligibility = products if before is None else self.decay * before + products
        following = {**state, "eligibility": eligibility}
        if (reward := activity.reward) is None:
            return torch.zeros_like(products[0]), following
        expected = reward.new_tensor(0.0 if self.baseline == "running" else self.baseline)
        if self.baseline == "running":
            expected = state.get("expected", expected)
            following["expected"] = expected + (reward.mean() - expected) / self.tau_reward
        return torch.einsum("b,b...->...", reward - expected, eligibility) / len(reward), following


@checked(TrainingError)
@dataclass(frozen=True)
class Vogels(LocalRule):
    """dw = eta <(post - rho) pre>, where w is the strength of an inhibitory projection that balances excitation.

    At equilibrium, the mean rate of each postsynaptic unit is `target` = rho; with enough inhibitory units, this holds
    for every pattern of inhibition. Raises WiringError unless the projection is inhibitory.
    Source: Vogels et al. 2011, whose rule for spikes has this mean drift.
    """

    rate: Positive
    target: NonNegative = 5.0

    def check(self, edge: Projection, synapses: Synapses) -> None:
        """Raise WiringError unless the projection is inhibitory."""
        if synapses.sign != -1:
            raise WiringError(
                given=f"Vogels for {edge.name!r}, which is " + ("excitatory" if synapses.sign else "of either sign"),
                expected="an inhibitory projection",
                remedy=f"build it with Projection({edge.source!r}, {edge.target!r}, connections.signed(layer, -1))",
            )

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """<(post - rho) pre>; the rule has no state."""
        return synapses.products(activity.post - self.target, activity.pre), {}


@checked(TrainingError)
@dataclass(frozen=True)
class PredictiveCoding(LocalRule):
    """dw = eta e f(r)^T, the mean over samples and the sum over positions, for a projection that predicts.

    e is the error of the prediction that the projection targets, already divided by its variance. This is minus
    `local_gradient`, which `learn` passes to an optimiser; biases do not change. Raises WiringError for a projection
    whose target is not a prediction. Apply the rule to values after relaxation.
    Source: Rao & Ballard 1999 eq. 9; Whittington & Bogacz 2017 eq. 2.19.
    """

    rate: Positive

    def post_of(self, network: Network, edge: Projection) -> str:
        """Return the name of the prediction error, or of the error passed through f' if the prediction is f(W r)."""
        fed = [e.target for e in network.projections if e.source == edge.target and e.port in (None, "prediction")]
        fed = [e for e in fed if e in network.populations]
        through = [name for name in fed if isinstance(network.populations[name].rule, ErrorThrough)]
        errors = [name for name in fed if name in network.errors]
        if not errors:
            raise WiringError(
                given=f"PredictiveCoding for {edge.name!r}, whose target is not an input of a prediction error",
                expected="a projection to a prediction, such as 'r1->p0'",
                remedy="use another rule, such as local.Hebb(rate=1e-3)",
            )
        return (through or errors)[0]

    def change(
        self, synapses: Synapses, activity: Activity, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum over positions of <e f(r)>; the rule has no state."""
        return synapses.sum_over_positions(activity.post, activity.pre), {}
