"""Uncertainty of Dirichlet readouts, and rank correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pcsim import StimulusError, analysis


def test_uncertainty_is_one_without_evidence_and_falls_with_it() -> None:
    alpha = torch.tensor([[[1.0, 1.0, 1.0], [3.0, 1.0, 2.0]]], dtype=torch.float64)
    assert torch.allclose(analysis.evidential_uncertainty(alpha.log()), torch.tensor([[1.0, 0.5]]).double())


def test_uncertainty_area_matches_closed_form() -> None:
    """For alpha = exp(t / tau) in both classes, u = exp(-t / tau) and xi = tau (1 - exp(-T / tau))."""
    times = np.linspace(0.0, 100.0, 2_001)
    taus = torch.tensor([10.0, 50.0], dtype=torch.float64)
    log_alpha = (torch.from_numpy(times)[:, None] / taus)[..., None].expand(-1, -1, 2)
    expected = taus * (1 - torch.exp(-100.0 / taus))
    assert torch.allclose(analysis.uncertainty_area(times, log_alpha), expected, rtol=1e-5)
    uneven = np.array([0.0, 1.0, 5.0])
    assert analysis.uncertainty_area(uneven, torch.zeros(3, 4, 2)).tolist() == [5.0] * 4


def test_uncertainty_rejects_logits() -> None:
    with pytest.raises(StimulusError, match="at least 1"):
        analysis.evidential_uncertainty(torch.tensor([[[-2.0, 1.0]]]))
    with pytest.raises(StimulusError):
        analysis.uncertainty_area([0.0, 0.0], torch.zeros(2, 1, 2))


def test_rank_correlation_matches_scipy_and_partial_formula() -> None:
    draw = np.random.default_rng(0)
    z = draw.normal(size=80)
    x, y = z + draw.normal(size=80), z + draw.normal(size=80)
    x[:20] = np.round(x[:20])  # ties
    found = analysis.rank_correlation(x, y, draws=200)
    assert (
        found.mean == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12) and found.low < found.mean < found.high
    )
    inverse = np.linalg.inv(stats.spearmanr(np.stack([x, y, z], 1)).statistic)
    partial = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert analysis.rank_correlation(x, y, z, draws=50).mean == pytest.approx(partial, abs=1e-12)


def test_rank_correlation_interval_covers_and_respects_groups() -> None:
    draw = np.random.default_rng(1)
    hits, rho = 0, 6 / math.pi * math.asin(0.6 / 2)  # Spearman's correlation of normal pairs with correlation 0.6
    for seed in range(60):
        x = draw.normal(size=60)
        found = analysis.rank_correlation(x, 0.6 * x + 0.8 * draw.normal(size=60), draws=200, seed=seed)
        hits += found.low <= rho <= found.high
    assert hits >= 50  # 57 expected
    x, y = draw.normal(size=40), draw.normal(size=40)
    single = analysis.rank_correlation(x, y, draws=400)
    copies = analysis.rank_correlation(np.repeat(x, 4), np.repeat(y, 4), groups=np.repeat(np.arange(40), 4), draws=400)
    assert copies.high - copies.low == pytest.approx(single.high - single.low, rel=0.02)


def test_rank_correlation_of_constants_is_nan_and_bad_input_is_rejected() -> None:
    assert math.isnan(analysis.rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).mean)
    for arguments in (([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0]), ([1.0] * 3, [1.0] * 4)):
        with pytest.raises(StimulusError):
            analysis.rank_correlation(*arguments)
