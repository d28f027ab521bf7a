"""Mixture shares in PCN local and the retrofit are positive and sum to one."""

import pytest
import torch

from pcsim import WiringError
from pcsim.rules.predictive import Mixture


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.7, 0.3), (0.3, 0.7), (0.41, 0.59), (0.0, 0.3), (0.3, 0.0), (-0.1, 0.5), (0.7, 0.4)]
)
def test_mixture_refuses_invalid_shares(shares: tuple[float, float]) -> None:
    with pytest.raises(WiringError, match="positive fractions"):
        Mixture(*shares)


@pytest.mark.parametrize("feed_forward", [1.0, 1.2, 0.0, -0.1])
def test_mixture_without_feedback_refuses_invalid_share(feed_forward: float) -> None:
    with pytest.raises(WiringError, match="positive fractions"):
        Mixture(feed_forward, has_feedback=False)


def test_mixture_without_feedback_ignores_its_share() -> None:
    assert torch.allclose(Mixture(0.6, 0.9, has_feedback=False).shares(), torch.tensor([0.6, 0.4]))


@pytest.mark.parametrize("has_feedback", [True, False])
def test_mixture_adds_each_port_with_its_share(has_feedback: bool) -> None:
    rule = Mixture(0.25, 0.5, 0.125, has_feedback)
    own, drive, prediction, error = (torch.tensor([[value]]) for value in (1.0, 10.0, 100.0, 1000.0))
    expected = 0.25 * 10 + 0.5 * 100 + 0.25 * 1 + 125 if has_feedback else 0.25 * 10 + 0.75 * 1 + 125
    assert rule(own, drive=drive, prediction=prediction, error=error).item() == pytest.approx(expected)


def test_mixture_starts_with_given_shares() -> None:
    assert torch.allclose(Mixture(0.2, 0.3).shares(), torch.tensor([0.2, 0.3, 0.5]))
    assert torch.allclose(Mixture(0.2, has_feedback=False).shares(), torch.tensor([0.2, 0.8]))
