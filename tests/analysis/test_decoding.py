"""Decoding over time against scikit-learn, and solution times against planted ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcsim import StimulusError
from pcsim.analysis import decoding as d
from pcsim.brain import object_solution


def planted(images: int = 300, units: int = 40, classes: int = 6, noise: float = 0.7) -> tuple[np.ndarray, ...]:
    """Features (time, image, unit) in which each image's class shows from a latency of its own on; times, latencies."""
    generator = np.random.default_rng(0)
    labels, times = np.arange(images) % classes, np.arange(0.0, 200.0, 10.0)
    latency = generator.uniform(40.0, 140.0, images)
    patterns = generator.normal(size=(classes, units))
    shown = 1.0 / (1.0 + np.exp(-(times[:, None] - latency) / 12.0))
    drawn = generator.normal(size=(len(times), images, units))
    return shown[:, :, None] * patterns[labels] + noise * drawn, labels, times, latency


def test_decoders_are_those_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    svm = pytest.importorskip("sklearn.svm")
    features, labels, _, _ = planted(120, 12, 3)
    x = torch.from_numpy(features[8])
    weights, bias = d.fit_decoder(x, torch.from_numpy(labels), 3, "logistic", penalty=2.0)
    theirs = linear.LogisticRegression(C=0.5, tol=1e-8, max_iter=5_000).fit(features[8], labels)
    assert np.allclose(torch.softmax(x @ weights + bias, 1).numpy(), theirs.predict_proba(features[8]), atol=1e-4)
    # liblinear penalises the bias as well: with features about their mean, and a large scaling, hardly.
    weights, bias = d.fit_decoder(x, torch.from_numpy(labels), 3, "svm", penalty=2.0)
    theirs = svm.LinearSVC(C=0.5, intercept_scaling=100.0, tol=1e-10, max_iter=200_000).fit(features[8], labels)
    assert np.allclose((x @ weights + bias).numpy(), theirs.decision_function(features[8]), atol=5e-3)


@pytest.mark.parametrize("decoder", ["logistic", "svm"])
def test_a_class_is_decoded_from_when_it_shows(decoder: str) -> None:
    features, labels, _, _ = planted()
    found = d.decode_over_time(features[[0, 8, 19]], labels, decoder=decoder, penalty=10.0)
    before, middle, after = found.accuracy
    assert abs(before - 1 / 6) < 0.08 and 0.3 < middle < after and after > 0.95
    assert found.probabilities.shape == (3, 300, 6) and np.allclose(found.probabilities.sum(-1), 1.0)


def test_samples_are_decoded_by_decoders_that_never_saw_them() -> None:
    """Noise with as many features as samples: a decoder that has seen a sample names it, another guesses."""
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(1, 60, 100)), np.arange(60) % 3
    assert d.decode_over_time(features, labels, penalty=1e-3).accuracy[0] < 0.6
    groups = np.tile(np.arange(30), 2)
    twins = np.concatenate([features[:, :30], features[:, :30]], 1)
    apart, together = (
        d.decode_over_time(twins, labels[np.tile(np.arange(30), 2)], penalty=1e-3, groups=g).accuracy[0]
        for g in (None, groups)
    )
    assert together < 0.6 < 0.8 < apart, "a twin in training tells what its sample is"
    shared = d.stratified_folds(labels[groups], 5, groups=groups)
    assert np.array_equal(shared[:30], shared[30:]) and set(np.bincount(shared)) == {12}
    with pytest.raises(StimulusError, match="several classes"):
        d.stratified_folds(np.array([0, 1, 0, 1]), 2, groups=[0, 0, 1, 1])
    fold = d.stratified_folds(labels, 4)
    assert set(np.bincount(fold)) == {15} and all(set(np.bincount(fold[labels == c])) == {5} for c in range(3))


def test_solution_times_follow_planted_latencies() -> None:
    features, labels, times, latency = planted(noise=0.3)
    found = d.decode_over_time(features, labels, penalty=10.0)
    i1 = object_solution.image_d_prime(found.probabilities, labels)
    for last in ("record", "previous"):
        solved = object_solution.solution_times(times, i1, 2.0, last)
        assert np.isfinite(solved).mean() > 0.9
        assert object_solution.rank_correlation(solved, latency) > 0.85, last


def test_d_prime_by_hand() -> None:
    """Two images of two classes: hits and false alarms written out."""
    from scipy.stats import norm

    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]])
    found = object_solution.image_d_prime(p, [0, 1, 0, 1])
    alarm = {0: np.mean([0.4, 0.1]), 1: np.mean([0.2, 0.3])}
    expected = [norm.ppf(hit) - norm.ppf(alarm[truth]) for hit, truth in ((0.8, 0), (0.6, 1), (0.7, 0), (0.9, 1))]
    assert np.allclose(found, expected)
    sure = object_solution.image_d_prime(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0])
    assert (sure == 5.0).all(), "clipped"
    over_time = object_solution.image_d_prime(np.stack([p, p[:, ::-1]]), [0, 1, 0, 1])
    assert np.allclose(over_time[0], expected) and np.allclose(over_time[1], -np.array(expected))


def test_solution_times_by_hand() -> None:
    times = np.array([70.0, 80.0, 90.0, 100.0])
    rising, dipping = [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.5, 2.0]
    i1 = np.array([rising, dipping, [3.0] * 4, [0.0] * 4, [math.nan, math.nan, 1.0, 2.0]]).T
    record = object_solution.solution_times(times, i1, 1.5)
    # From (80, 1) to (100, 2) of the record; from (90, 0.5) of the bin before.
    assert record[:3].tolist() == [85.0, 90.0, 70.0] and np.isnan(record[3]) and record[4] == 95.0
    previous = object_solution.solution_times(times, i1, 1.5, "previous")
    assert previous[1] == pytest.approx(90 + 10 * 1.0 / 1.5) and previous[0] == 85.0
    each = object_solution.solution_times(times, i1[:, :2], [0.5, 5.0])
    assert each[0] == 75.0 and np.isnan(each[1])


def test_ranks_are_of_images_where_both_are_defined() -> None:
    a, b = [1.0, 2.0, math.nan, 4.0, 3.0], [10.0, 20.0, 5.0, 40.0, math.nan]
    assert object_solution.rank_correlation(a, b) == pytest.approx(1.0)
    assert object_solution.rank_correlation(a, b, 0.5) == pytest.approx(2.0)
    assert np.isnan(object_solution.rank_correlation([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]))
    control, challenge = object_solution.control_and_challenge([2.0, 3.0, 2.0], [1.8, 1.0, 1.0])
    assert control.tolist() == [True, False, False] and challenge.tolist() == [False, True, False]
    assert object_solution.split_half_reliability(b[:2] + b[3:4], a[:2] + a[3:4]) == pytest.approx(1.0)


def test_what_cannot_be_decoded_is_refused() -> None:
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
    with pytest.raises(StimulusError, match="logistic or svm"):
        d.decode_over_time(features, [0, 1] * 3, folds=2, penalty=0.0)
    with pytest.raises(StimulusError, match="n, class"):
        object_solution.image_d_prime(np.ones((4, 2)), [0, 1, 2, 0])
    with pytest.raises(StimulusError, match="record or previous"):
        object_solution.solution_times([0.0, 1.0], np.zeros((3, 2)), 1.0)
