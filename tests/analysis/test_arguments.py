"""Arguments of analyses: axes by name, masks that are not bool, ids that are missing, times up to rounding, and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from pcsim import StimulusError, analysis
from pcsim.analysis import convergence, decoding
from pcsim.analysis.arguments import as_ids, as_mask, as_times, is_after

NAN = math.nan
LOGITS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SPOILED = LOGITS.clone()
SPOILED[1, 2] = NAN
TARGETS = torch.nn.functional.one_hot(torch.arange(4), 5)
RIGHT = np.array([[1, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.parametrize("kind", [bool, int, float, np.uint8, np.int8])
def test_masks_of_any_type_count_alike(kind: type) -> None:
    right, other = RIGHT.astype(kind), np.ones_like(RIGHT).astype(kind)
    assert analysis.error_rate(right).mean == 3 / 8
    assert analysis.mcnemar(right, other) == binomtest(0, 3, 0.5).pvalue
    (pair,) = analysis.compare_pairs({"a": right, "b": other})
    assert pair.difference == 3 / 8 and pair.p == 0.25
    assert analysis.accuracy_over_time(torch.from_numpy(right)).tolist() == [0.75, 0.5]
    assert analysis.error_rate(torch.from_numpy(right)).mean == 3 / 8


@pytest.mark.parametrize(
    "wrong", [[[1, 2]], [[-1, 1]], [[0.5, 1.0]], [[1.0, NAN]], [["right", "wrong"]], [[None, True]]]
)
def test_values_that_are_no_mask_are_rejected(wrong: list) -> None:
    for call in (analysis.error_rate, lambda x: analysis.mcnemar(x, x), lambda x: analysis.compare_pairs({"a": x})):
        with pytest.raises(StimulusError, match="other than 0 and 1"):
            call(np.array(wrong))


def test_targets_of_any_type_count_alike() -> None:
    for kind in (torch.bool, torch.uint8, torch.int64, torch.float64):
        assert torch.equal(
            analysis.correct_choices(LOGITS, TARGETS.to(kind)), analysis.correct_choices(LOGITS, TARGETS.float())
        )
        assert torch.equal(analysis.hit_rate(LOGITS, TARGETS.to(kind)), analysis.hit_rate(LOGITS, TARGETS.float()))
    for wrong in (TARGETS * 0.5, 2 * TARGETS - 1, TARGETS * 0, torch.arange(4), TARGETS[:1], TARGETS * NAN):
        for measure in (analysis.correct_choices, analysis.hit_rate):
            with pytest.raises(StimulusError, match="one_hot"):
                measure(LOGITS, wrong)


def test_nan_logits_are_no_answer() -> None:
    """A sample that diverged has NaN from some step on; argmax would call that the first class."""
    spoiled = torch.full((3, 4, 5), NAN)
    assert not analysis.correct_choices(spoiled, TARGETS).any() and analysis.hit_rate(spoiled, TARGETS).isnan().all()
    known = torch.ones(3, 4, dtype=torch.bool)
    known[1, 2] = False
    correct, hits = analysis.correct_choices(SPOILED, TARGETS), analysis.hit_rate(SPOILED, TARGETS)
    assert torch.equal(correct[known], analysis.correct_choices(LOGITS, TARGETS)[known]) and not correct[1, 2]
    assert torch.equal(hits.isnan(), ~known) and torch.equal(hits[known], analysis.hit_rate(LOGITS, TARGETS)[known])
    times = analysis.decision_times([1.0, 2.0, 3.0], SPOILED)
    assert times.isnan().tolist() == [False, False, True, False]
    assert torch.equal(times[[0, 1, 3]], analysis.decision_times([1.0, 2.0, 3.0], LOGITS)[[0, 1, 3]])
    for call in (
        lambda: analysis.decode(SPOILED, "max_confidence"),
        lambda: analysis.decode(SPOILED),
        lambda: analysis.reaction_times(SPOILED, 0.5),
        lambda: analysis.entropy_threshold(SPOILED, 1.0),
        lambda: analysis.reaction_times(LOGITS, NAN),
        lambda: analysis.answer_steps(LOGITS, "threshold", NAN),
    ):
        with pytest.raises(StimulusError, match=r"in 1 of 4 samples \[2\]|threshold=nan"):
            call()
    assert torch.equal(analysis.answer_steps(SPOILED, first=2), analysis.answer_steps(LOGITS, first=2))


def test_state_change_of_diverged_sample_is_nan() -> None:
    """A sample at rest has a change of 0, and a diverged one must not look as if it were at rest."""
    values = torch.ones(3, 2, 4)
    values[2, 1] = NAN
    assert analysis.state_change(values)[:, 0].tolist() == [0.0, 0.0]
    assert analysis.state_change(values)[1, 1].isnan()
    assert np.isnan(convergence.rate_of_change([0.0, 1.0, 2.0], values)).tolist() == [[False, False], [False, True]]


def test_labelled_features_are_decoded_by_axis_name() -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("sklearn")
    labels = np.arange(40) % 2
    x = np.random.default_rng(0).normal(size=(40, 6, 2)) + labels[:, None, None]
    recorded = xarray.DataArray(x, dims=("presentation", "neuroid", "time_bin"))
    expected = decoding.decode_over_time(np.moveaxis(x, -1, 0), labels).probabilities
    for dims in (("neuroid", "presentation", "time_bin"), ("time_bin", "presentation", "neuroid")):
        assert np.array_equal(decoding.decode_over_time(recorded.transpose(*dims), labels).probabilities, expected)
    with pytest.raises(StimulusError, match="array.rename"):
        decoding.decode_over_time(recorded.rename(presentation="trial"), labels)


def test_decoding_ignores_silent_units_and_names_units_without_data() -> None:
    pytest.importorskip("sklearn")
    labels = np.arange(40) % 2
    x = np.random.default_rng(0).normal(size=(2, 40, 4)) + labels[:, None]
    silent = np.insert(x, 2, 0.1, axis=2)
    expected = decoding.decode_over_time(x, labels).probabilities
    assert np.allclose(decoding.decode_over_time(silent, labels).probabilities, expected, atol=1e-4)
    silent[:, :, 2] = NAN
    with pytest.raises(StimulusError, match=r"in 1 units \[2\]"):
        decoding.decode_over_time(silent, labels)


def test_decoding_rejects_groups_that_cannot_be_kept_together() -> None:
    pytest.importorskip("sklearn")
    features, labels = np.random.default_rng(0).normal(size=(1, 20, 3)), np.arange(20) % 2
    for groups, message in (
        (np.where(labels, NAN, 1.0), "groups with 10 of 20 missing"),
        (["a", None] * 10, "missing"),
        (np.arange(19), r"shape \(19,\)"),
        (labels, "2 groups for 5 folds"),
    ):
        with pytest.raises(StimulusError, match=message):
            decoding.decode_over_time(features, labels, groups=groups)
    with pytest.raises(StimulusError, match="1 of 2 classes"):
        decoding.decode_over_time(features, labels, groups=labels, folds=2)


def test_times_are_compared_up_to_rounding() -> None:
    assert not is_after(0.1 + 0.2, 0.3) and not is_after(0.3, 0.1 + 0.2) and is_after(0.31, 0.3)
    with pytest.raises(StimulusError, match="increasing"):
        as_times([0.1, 0.3, 0.1 + 0.2])
    times = np.cumsum(np.full(40, 0.1))  # differs from multiples of 0.1 by rounding, above and below
    curve = 2.0 + 3.0 * np.exp(-times / 0.7) + 0.01 * np.sin(50 * times)
    assert all(
        convergence.fit_rate(times, curve, start=start) == convergence.fit_rate(times, curve, start=float(times[row]))
        for row, start in enumerate(np.arange(1, 30) / 10)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda t: convergence.settling_time(t, np.arange(4.0)),
        lambda t: convergence.decay_time(t, np.arange(4.0)),
        lambda t: convergence.half_life(t, np.arange(4.0)),
        lambda t: convergence.overshoot(t, np.arange(4.0)),
        lambda t: convergence.crossings(t, np.arange(4.0)),
        lambda t: convergence.ending(t, np.arange(4.0)),
        lambda t: convergence.summary(t, np.arange(4.0)),
        lambda t: convergence.fit_rate(t, np.arange(4.0)),
        lambda t: convergence.rate_of_change(t, torch.ones(4, 2, 3)),
        lambda t: analysis.decision_times(t, torch.ones(4, 2, 3)),
    ],
)
@pytest.mark.parametrize(
    "times", [[0.0, 2.0, 1.0, 3.0], [0.0, 1.0, 1.0, 2.0], [0.0, NAN, 2.0, 3.0], [0.0, 1.0], [3.0, 2.0, 1.0, 0.0]]
)
def test_times_out_of_order_are_rejected(call: Callable, times: list[float]) -> None:
    with pytest.raises(StimulusError, match=r"increasing times"):
        call(times)


def test_labelled_curves_are_measured_by_axis_name() -> None:
    xarray = pytest.importorskip("xarray")
    times = np.arange(0.0, 100.0)
    curves = xarray.DataArray(np.exp(-times[:, None] / [5.0, 10.0]), dims=("time", "sample"))
    assert np.array_equal(convergence.half_life(times, curves.T), convergence.half_life(times, curves.values))


def test_states_of_different_samples_are_rejected() -> None:
    for states in ([torch.ones(3, 2, 4), torch.ones(3, 1, 4)], [torch.ones(3, 2, 4), torch.ones(1, 2, 4)], []):
        for measure in (convergence.distance_from_end, lambda *s: convergence.rate_of_change([0.0, 1.0, 2.0], *s)):
            with pytest.raises(StimulusError, match="same times and samples"):
                measure(*states)


@pytest.mark.parametrize("missing", [NAN, None, "", " ", "nan", np.datetime64("NaT")])
def test_missing_ids_are_rejected(missing: object) -> None:
    with pytest.raises(StimulusError, match="1 of 3 missing"):
        as_ids(np.array(["a", missing, "b"], object), "names")
    assert as_ids(["nancy", "None of these", "b"], "names").tolist() == ["nancy", "None of these", "b"]


def test_ids_of_several_types_or_apart_by_rounding_are_rejected() -> None:
    with pytest.raises(StimulusError, match="several types"):
        as_ids(np.array(["a", 1], object), "names")
    with pytest.raises(StimulusError, match=r"np\.round\(contrast, 6\)"):
        as_ids([0.3, 0.1 + 0.2], "contrast")
    assert as_ids([0.3, 0.3, 0.4], "contrast").tolist() == [0.3, 0.3, 0.4]


def test_estimates_reject_nan_and_wrong_shapes() -> None:
    for values in ([1.0, NAN], [], np.ones((2, 3)), [1.0, math.inf]):
        with pytest.raises(StimulusError, match="isfinite"):
            analysis.estimate(values)
    with pytest.raises(StimulusError, match=r"correct\[None\]"):
        analysis.error_rate(np.array([1, 0]))
    with pytest.raises(StimulusError, match="same images"):
        analysis.mcnemar(np.ones(3, bool), np.ones(1, bool))
    assert as_mask([True, False], "x").tolist() == [True, False]
    assert np.isnan(analysis.statistics.spearman_brown(-1.0)) and analysis.statistics.spearman_brown(0.5) == 2 / 3
