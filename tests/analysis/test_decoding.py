"""Decoding over time against its equations, and solution times against the known latencies of synthetic data."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from pcsim import StimulusError
from pcsim.analysis import decoding as d
from pcsim.brain import object_solution

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra analysis)")


def planted(images: int = 300, units: int = 40, classes: int = 6, noise: float = 0.7) -> tuple[np.ndarray, ...]:
    """Return features (time, image, unit) that reveal an image's class after its latency, labels, times, latencies."""
    generator = np.random.default_rng(0)
    labels, times = np.arange(images) % classes, np.arange(0.0, 200.0, 10.0)
    latency = generator.uniform(40.0, 140.0, images)
    patterns = generator.normal(size=(classes, units))
    shown = 1.0 / (1.0 + np.exp(-(times[:, None] - latency) / 12.0))
    drawn = generator.normal(size=(len(times), images, units))
    return shown[:, :, None] * patterns[labels] + noise * drawn, labels, times, latency


def fitted_by_torch(x: torch.Tensor, y: np.ndarray, decoder: str, penalty: float) -> torch.Tensor:
    """Return margins (n, class) on z-scored features, from minimising the documented objective with L-BFGS."""
    z = (x - x.mean(0)) / x.std(0, correction=0)
    weights = torch.zeros(x.shape[1], int(y.max()) + 1, dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(weights.shape[1], dtype=x.dtype, requires_grad=True)
    targets = torch.from_numpy(y)
    signs = 2.0 * torch.nn.functional.one_hot(targets).double() - 1.0
    descent = torch.optim.LBFGS([weights, bias], max_iter=2_000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        descent.zero_grad()
        margins = z @ weights + bias
        if decoder == "logistic":
            loss = torch.nn.functional.cross_entropy(margins, targets, reduction="sum")
        else:
            loss = torch.relu(1.0 - signs * margins).square().sum()
        loss = loss + 0.5 * penalty * weights.square().sum()
        loss.backward()
        return loss

    descent.step(closure)
    return (z @ weights + bias).detach()


@pytest.mark.parametrize(("decoder", "off"), [("logistic", 1e-4), ("svm", 5e-3)])
def test_decoder_minimises_documented_objective(decoder: str, off: float) -> None:
    features, labels, _, _ = planted(120, 12, 3)
    x = features[8]
    ours = d._probabilities(d._pipeline(decoder, 2.0).fit(x, labels), x)
    expected = torch.softmax(fitted_by_torch(torch.from_numpy(x), labels, decoder, 2.0), 1).numpy()
    assert np.allclose(ours, expected, atol=off)


@pytest.mark.parametrize("decoder", ["logistic", "svm"])
def test_decode_over_time_handles_two_classes(decoder: str) -> None:
    features, labels, _, _ = planted(100, 20, 2)
    found = d.decode_over_time(features[[0, 19]], labels, decoder=decoder)
    assert found.probabilities.shape == (2, 100, 2) and np.allclose(found.probabilities.sum(-1), 1.0)
    assert found.accuracy[1] > 0.95


@pytest.mark.parametrize("decoder", ["logistic", "svm"])
def test_decode_over_time_accuracy_rises_with_signal(decoder: str) -> None:
    features, labels, _, _ = planted()
    found = d.decode_over_time(features[[0, 8, 19]], labels, decoder=decoder, penalty=10.0)
    before, middle, after = found.accuracy
    assert abs(before - 1 / 6) < 0.08 and 0.3 < middle < after and after > 0.95
    assert found.probabilities.shape == (3, 300, 6) and np.allclose(found.probabilities.sum(-1), 1.0)


def test_decode_over_time_holds_out_samples_and_groups() -> None:
    """On noise with more features than samples, a decoder memorises its training samples and guesses on all others."""
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(1, 60, 100)), np.arange(60) % 3
    assert d.decode_over_time(features, labels, penalty=1e-3).accuracy[0] < 0.6
    groups = np.tile(np.arange(30), 2)
    twins = np.concatenate([features[:, :30], features[:, :30]], 1)
    apart, together = (
        d.decode_over_time(twins, labels[np.tile(np.arange(30), 2)], penalty=1e-3, groups=g).accuracy[0]
        for g in (None, groups)
    )
    assert together < 0.6 < 0.8 < apart, "a copy in the training set must reveal the class"
    for training, test in d._splits(labels[groups], 5, 0, groups):
        assert not set(groups[training]) & set(groups[test]) and len(test) == 12
    tested = [test for _, test in d._splits(labels, 4, 0, None)]
    assert sorted(np.concatenate(tested)) == list(range(60))
    assert all(set(np.bincount(labels[test])) == {5} for test in tested), "folds must be stratified"


def test_decode_over_time_without_scikit_learn_names_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(StimulusError, match=r"pcsim\[analysis\]"):
        d.decode_over_time(np.zeros((1, 4, 2)), [0, 1, 0, 1], folds=2)


def test_solution_times_follow_planted_latencies() -> None:
    features, labels, times, latency = planted(noise=0.3)
    found = d.decode_over_time(features, labels, penalty=10.0)
    i1 = object_solution.image_d_prime(found.probabilities, labels)
    for last in ("record", "previous"):
        solved = object_solution.solution_times(times, i1, 2.0, last)
        assert np.isfinite(solved).mean() > 0.9
        assert object_solution.rank_correlation(solved, latency) > 0.85, last


def test_image_d_prime_matches_hand_calculation() -> None:
    """Two images in each of two classes, with hit and false-alarm rates written out."""
    from scipy.stats import norm

    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]])
    found = object_solution.image_d_prime(p, [0, 1, 0, 1])
    alarm = {0: np.mean([0.4, 0.1]), 1: np.mean([0.2, 0.3])}
    expected = [norm.ppf(hit) - norm.ppf(alarm[truth]) for hit, truth in ((0.8, 0), (0.6, 1), (0.7, 0), (0.9, 1))]
    assert np.allclose(found, expected)
    sure = object_solution.image_d_prime(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0])
    assert (sure == 5.0).all(), "d' must be clipped at 5"
    over_time = object_solution.image_d_prime(np.stack([p, p[:, ::-1]]), [0, 1, 0, 1])
    assert np.allclose(over_time[0], expected) and np.allclose(over_time[1], -np.array(expected))


def test_solution_times_match_hand_interpolation() -> None:
    times = np.array([70.0, 80.0, 90.0, 100.0])
    rising, dipping = [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.5, 2.0]
    i1 = np.array([rising, dipping, [3.0] * 4, [0.0] * 4, [math.nan, math.nan, 1.0, 2.0]]).T
    record = object_solution.solution_times(times, i1, 1.5)
    # Interpolated from (80, 1) to (100, 2), and from (90, 0.5) in the preceding bin.
    assert record[:3].tolist() == [85.0, 90.0, 70.0] and np.isnan(record[3]) and record[4] == 95.0
    previous = object_solution.solution_times(times, i1, 1.5, "previous")
    assert previous[1] == pytest.approx(90 + 10 * 1.0 / 1.5) and previous[0] == 85.0
    each = object_solution.solution_times(times, i1[:, :2], [0.5, 5.0])
    assert each[0] == 75.0 and np.isnan(each[1])


def test_rank_correlation_uses_images_defined_in_both() -> None:
    a, b = [1.0, 2.0, math.nan, 4.0, 3.0], [10.0, 20.0, 5.0, 40.0, math.nan]
    assert object_solution.rank_correlation(a, b) == pytest.approx(1.0)
    assert object_solution.rank_correlation(a, b, 0.5) == pytest.approx(2.0)
    assert np.isnan(object_solution.rank_correlation([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]))
    control, challenge = object_solution.control_and_challenge([2.0, 3.0, 2.0], [1.8, 1.0, 1.0])
    assert control.tolist() == [True, False, False] and challenge.tolist() == [False, True, False]
    assert object_solution.split_half_reliability(b[:2] + b[3:4], a[:2] + a[3:4]) == pytest.approx(1.0)


def test_decoding_rejects_invalid_arguments() -> None:
    features = np.zeros((2, 6, 3))
    for labels in ([0, 1, 0, 1], [0, 0, 0, 0, 0, 0], [0, 2, 0, 2, 0, 2], [0, 0, 0, 0, 0, 1]):
        with pytest.raises(StimulusError, match="n labels 0, 1"):
            d.decode_over_time(features, labels, folds=2)
    spoiled = features.copy()
    spoiled[1, 3, 0] = np.nan
    with pytest.raises(StimulusError, match="nanmean"):
        d.decode_over_time(spoiled, [0, 1] * 3, folds=2)
    for labels in (["cat", "dog"] * 3, [0.0, 1.0] * 3):
        with pytest.raises(StimulusError, match="return_inverse"):
            d.decode_over_time(features, labels, folds=2)
    with pytest.raises(StimulusError, match="one number"):
        object_solution.solution_times([0.0, 1.0], np.zeros((2, 3)), [1.0, 2.0])
    with pytest.raises(StimulusError, match="penalty"):
        d.decode_over_time(features, [0, 1] * 3, folds=2, penalty=0.0)
    with pytest.raises(StimulusError, match="n, class"):
        object_solution.image_d_prime(np.ones((4, 2)), [0, 1, 2, 0])
    with pytest.raises(StimulusError, match=r"i1 \(time, n\)"):
        object_solution.solution_times([0.0, 1.0], np.zeros((3, 2)), 1.0)
