"""Mantel tests against all permutations, and bootstrap intervals against resampling written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from pcsim import StimulusError
from pcsim.brain.similarity import compare, dissimilarity, mantel


def matrices(images: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(images, 12))
    return dissimilarity(x), dissimilarity(x + noise * generator.normal(size=x.shape))


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
@pytest.mark.parametrize(("method", "reference"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
def test_mantel_approaches_p_of_all_permutations(method: str, reference: object, alternative: str) -> None:
    one, other = matrices(6, 1.5)
    above = np.triu_indices(6, 1)
    every = np.array([reference(one[np.ix_(o, o)][above], other[above])[0] for o in permutations(range(6))])
    size = np.abs if alternative == "two-sided" else np.asarray
    exact = (size(every) >= size(every[0]) - 1e-12).mean()
    found = mantel(one, other, method, permutations=2_000, draws=10, alternative=alternative)
    assert found.correlation == pytest.approx(every[0]) == pytest.approx(compare(one, other, method))
    assert found.p == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 2_000) ** 0.5 + 1e-3)


def test_mantel_p_has_a_floor_and_is_large_without_relation() -> None:
    one, other = matrices(12, 0.1)
    assert mantel(one, other, permutations=99, draws=10).p == 1 / 100
    apart = dissimilarity(np.random.default_rng(5).normal(size=(12, 9)))
    assert mantel(one, apart, permutations=99, draws=10).p > 0.05
    assert mantel(one, other, "kendall", permutations=19, draws=10).p == 1 / 20


def test_mantel_interval_resamples_images_without_pairs_of_one_image() -> None:
    one, other = matrices(15, 1.0)
    found = mantel(one, other, "pearson", permutations=1, draws=1_500)
    generator, values = np.random.default_rng(3), []
    for _ in range(1_500):
        chosen = generator.integers(15, size=15)
        pairs = [(a, b) for k, a in enumerate(chosen) for b in chosen[k + 1 :] if a != b]
        values.append(np.corrcoef([one[p] for p in pairs], [other[p] for p in pairs])[0, 1])
    low, high = np.quantile(values, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.05) and found.high == pytest.approx(high, abs=0.03)
    assert found.low < found.correlation < found.high


def test_mantel_is_reproducible_and_undefined_for_nan() -> None:
    one, other = matrices(8, 1.0)
    assert mantel(one, other, permutations=20, draws=20) == mantel(one, other, permutations=20, draws=20)
    one[0, 3] = one[3, 0] = np.nan
    found = mantel(one, other)
    assert np.isnan([found.correlation, found.p, found.low, found.high]).all()
    with pytest.raises(StimulusError, match="same three or more images"):
        mantel(other, other[:5, :5])
