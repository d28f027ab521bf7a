"""Mixture shares in PCN local and the retrofit are positive and sum to one."""

import pytest
import torch

from pcsim import WiringError
from pcsim.rules.predictive import Mixture


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.0, 0.3), (0.3, 0.0), (-0.1, 0.5), (0.7, 0.4)])
def test_mixture_refuses_invalid_shares(shares: tuple[float, float]) -> None:
    with pytest.raises(WiringError, match="positive fractions"):
        Mixture(*shares)


def test_mixture_starts_with_given_shares() -> None:
    assert torch.allclose(Mixture(0.2, 0.3).shares(), torch.tensor([0.2, 0.3, 0.5]))
    assert torch.allclose(Mixture(0.2, has_feedback=False).shares(), torch.tensor([0.2, 0.8]))
