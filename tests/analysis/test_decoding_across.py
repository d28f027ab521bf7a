"""Cross-temporal decoding of planted persistent and dynamic codes, and its folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import StimulusError
from pcsim.analysis.decoding import DecodedAcross, decode_across_time, decode_over_time

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra analysis)")


def planted(is_persistent: bool, times: int = 4, samples: int = 120, units: int = 30) -> tuple[np.ndarray, ...]:
    """Return features (time, sample, unit) whose class patterns are the same at all times, or new at each."""
    generator = np.random.default_rng(0)
    labels = np.arange(samples) % 3
    patterns = generator.normal(size=(1 if is_persistent else times, 3, units))
    patterns = np.broadcast_to(patterns, (times, 3, units))
    return patterns[:, labels] + 0.5 * generator.normal(size=(times, samples, units)), labels


def test_persistent_code_generalises_and_dynamic_code_does_not() -> None:
    persistent, dynamic = (decode_across_time(*planted(kind)) for kind in (True, False))
    assert persistent.accuracy.min() > 0.95 and persistent.stability > 0.97
    assert dynamic.accuracy.diagonal().min() > 0.95
    assert abs(dynamic.stability) < 0.25 and dynamic.accuracy.shape == (4, 4)


def test_diagonal_is_decoding_over_time_and_others_are_written_out() -> None:
    features, labels = planted(False)
    features = features + 2.0 * np.random.default_rng(1).normal(size=features.shape)
    options = {"folds": 3, "penalty": 5.0, "seed": 2}
    found = decode_across_time(features, labels, **options)
    assert np.array_equal(found.correct[range(4), range(4)], decode_over_time(features, labels, **options).correct)
    expected = np.empty((4, 4, len(labels)), bool)
    for training, test in sklearn.model_selection.StratifiedKFold(3, shuffle=True, random_state=2).split(
        labels, labels
    ):
        for one in range(4):
            mean, sd = features[one, training].mean(0), features[one, training].std(0)
            model = sklearn.linear_model.LogisticRegression(C=0.2, tol=1e-8, max_iter=5_000)
            model.fit((features[one, training] - mean) / sd, labels[training])
            for other in range(4):
                expected[one, other, test] = model.predict((features[other, test] - mean) / sd) == labels[test]
    assert (found.correct != expected).mean() < 0.002
    assert found.stability == pytest.approx(
        (found.accuracy[~np.eye(4, dtype=bool)].mean() - 1 / 3) / (found.accuracy.diagonal().mean() - 1 / 3)
    )


def test_folds_are_held_out_at_all_times() -> None:
    """If a sample's noise is the same at all times, a decoder that was fitted to it at another time would know it."""
    generator = np.random.default_rng(0)
    noise, labels = generator.normal(size=(1, 60, 100)), np.arange(60) % 3
    assert decode_across_time(np.repeat(noise, 3, 0), labels, penalty=1e-3).accuracy.max() < 0.6
    twins, groups = np.repeat(np.concatenate([noise, noise], 1), 2, 0), np.tile(np.arange(60), 2)
    both = np.tile(labels, 2)
    assert decode_across_time(twins, both, penalty=1e-3, groups=groups).accuracy.max() < 0.6
    assert decode_across_time(twins, both, penalty=1e-3).accuracy.min() > 0.8, "a copy reveals the class"


def test_stability_is_unknown_without_accuracy_or_other_times() -> None:
    features, labels = planted(True)
    assert np.isnan(decode_across_time(features[:1], labels).stability)
    chance = DecodedAcross(np.tile([True, False], (2, 2, 5)), 0.5)
    assert np.isnan(chance.stability) and chance.accuracy.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_decode_across_time_checks_its_arguments() -> None:
    features, labels = planted(True)
    assert np.array_equal(
        decode_across_time(torch.from_numpy(features), labels).correct, decode_across_time(features, labels).correct
    )
    for wrong in (features[:, :50], np.full_like(features, np.nan), features[0]):
        with pytest.raises(StimulusError):
            decode_across_time(wrong, labels)
    with pytest.raises(StimulusError, match="key='l2'"):
        decode_across_time(features, labels, key="l2")
