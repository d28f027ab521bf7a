"""Decoding of runs, p-values against permutations made here, and intervals against resampling written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import Euler, Record, StimulusError, models, simulate, stimuli
from pcsim.analysis.decoding import Decoded, decode_over_time

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra analysis)")


def labelled_run(samples: int = 24, keys: tuple[str, ...] = ("l1", "l2")) -> tuple:
    torch.manual_seed(0)
    labels = torch.arange(samples) % 2
    images = 0.2 * torch.rand(samples, 1, 8, 8) + 0.5 * labels[:, None, None, None]
    net = models.leaky_rcnn((2, 3), image=(1, 8, 8))
    line = stimuli.held(images).with_labels(labels)
    return simulate(net, line, solver=Euler(dt=2.0), until=8.0, record=Record(states=keys)), labels, net, images


def test_decode_over_time_takes_run_with_labels_and_times() -> None:
    run, labels, *_ = labelled_run()
    found = decode_over_time(run, key="l2")
    expected = decode_over_time(run["l2"], labels)
    assert np.array_equal(found.probabilities, expected.probabilities)
    assert found.times.tolist() == [2.0, 4.0, 6.0, 8.0] and expected.times is None
    assert found.chance == 0.5 and found.accuracy.shape == found.times.shape
    others = torch.arange(24) // 12
    assert np.array_equal(
        decode_over_time(run, others, key="l1").probabilities, decode_over_time(run["l1"], others).probabilities
    )


def test_decode_over_time_uses_only_record_or_asks() -> None:
    run, labels, net, images = labelled_run(keys=("l2",))
    assert decode_over_time(run).accuracy.shape == (4,)
    both, *_ = labelled_run()
    with pytest.raises(StimulusError, match="recorded l1, l2"):
        decode_over_time(both)
    with pytest.raises(StimulusError, match="key='l3'"):
        decode_over_time(both, key="l3")
    plain = simulate(net, images, solver=Euler(dt=2.0), until=4.0, record=Record(states=["l2"]))
    with pytest.raises(StimulusError, match="no labels"):
        decode_over_time(plain)
    with pytest.raises(StimulusError, match="key='l2'"):
        decode_over_time(plain["l2"], labels, key="l2")


def test_decode_over_time_refuses_diverged_samples_of_run() -> None:
    run, *_ = labelled_run(keys=("l2",))
    run.values["l2"][2:, 5] = float("nan")
    with pytest.raises(StimulusError, match="1 of 24 samples diverged, such as sample 5"):
        decode_over_time(run)


def test_chance_is_share_of_largest_class() -> None:
    features, labels = np.random.default_rng(0).normal(size=(1, 30, 4)), np.repeat([0, 1], [20, 10])
    assert decode_over_time(features, labels).chance == pytest.approx(2 / 3)


def test_p_is_share_of_permutations_that_reach_accuracy() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(24) % 2
    features = generator.normal(size=(3, 24, 3))
    features[2, :, 0] += 3.0 * labels
    found = decode_over_time(features, labels, folds=3, permutations=19, seed=4)
    drawn = np.random.default_rng(4)
    reached = np.array(
        [decode_over_time(features, drawn.permutation(labels), folds=3, seed=4).accuracy for _ in range(19)]
    )
    assert np.allclose(found.p, (1 + (reached >= found.accuracy).sum(0)) / 20)
    assert np.allclose(found.p_corrected, (1 + (reached.max(1, keepdims=True) >= found.accuracy).sum(0)) / 20)
    assert found.p[2] == 1 / 20 and found.p_corrected[2] == 1 / 20 and (found.p_corrected >= found.p).all()
    assert decode_over_time(features, labels, folds=3, seed=4).p is None


def test_p_is_uniform_without_signal() -> None:
    ps = []
    for seed in range(30):
        features = np.random.default_rng(100 + seed).normal(size=(1, 20, 2))
        ps += decode_over_time(features, np.arange(20) % 2, folds=2, permutations=19, seed=seed).p.tolist()
    assert min(ps) >= 1 / 20 and 0.3 < np.mean(ps) < 0.8 and np.mean(np.array(ps) <= 0.2) < 0.5


def test_permutations_keep_groups() -> None:
    """Twins share a label: permuting samples apart would call a memorised group structure a finding."""
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(1, 16, 30)), 2, 1)
    groups = np.repeat(np.arange(16), 2)
    found = decode_over_time(features, groups % 2, folds=2, groups=groups, permutations=19)
    assert found.p[0] > 0.05
    within = decode_over_time(features, np.arange(32) % 2, folds=2, groups=groups, permutations=5)
    assert within.p[0] == 1.0, "both members of a pair are alike, so swapping their labels changes nothing"


def test_interval_matches_resampling_written_out() -> None:
    correct = np.random.default_rng(0).random((2, 50)) < [[0.5], [0.9]]
    low, high = Decoded(np.zeros((2, 50, 2)), correct).interval(draws=4_000)
    generator = np.random.default_rng(7)
    means = np.array([correct[:, generator.integers(50, size=50)].mean(1) for _ in range(4_000)])
    assert np.abs(low - np.quantile(means, 0.025, axis=0)).max() < 0.021
    assert np.abs(high - np.quantile(means, 0.975, axis=0)).max() < 0.021
    assert (low <= correct.mean(1)).all() and (correct.mean(1) <= high).all()


def test_interval_of_groups_is_wider() -> None:
    correct = np.repeat(np.random.default_rng(0).random((1, 20)) < 0.5, 5, 1)
    groups = np.repeat(np.arange(20), 5)
    samples, whole = (Decoded(np.zeros((1, 100, 2)), correct, groups=g).interval() for g in (None, groups))
    assert whole[1] - whole[0] > 1.8 * (samples[1] - samples[0]), "sqrt(5) times as wide"
