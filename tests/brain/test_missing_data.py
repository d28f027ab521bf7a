"""Silent electrodes, missing trials, and sessions that saw different images: NaN for these neuroids, nothing else."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from pcsim import PcsimWarning, StimulusError
from pcsim.brain import first_difference, object_solution, similarity
from pcsim.brain import regression as n

NAN = math.nan
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(100, 6))
Y = X @ GENERATOR.normal(size=(6, 5)) + 0.5 * GENERATOR.normal(size=(100, 5))
EACH = Y + GENERATOR.normal(size=(6, 100, 5))
OTHERS = [0, 1, 3, 4]
SPLITS = n.shuffled_splits(100, 4, 0.3)
SILENT = {"without data": NAN, "constant": 0.1, "never fires": 0.0}


def named(call: object) -> np.ndarray:
    """Return the result of a call that warns about neuroid 2."""
    with pytest.warns(PcsimWarning, match=r"for 1 of 5 neuroids: 2\."):
        return call()


@pytest.mark.parametrize("value", SILENT.values(), ids=SILENT)
def test_silent_electrode_keeps_others_ceilings(value: float) -> None:
    each = EACH.copy()
    each[:, :, 2] = value
    found = named(lambda: n.split_half_ceiling(each))
    assert np.array_equal(found[:, OTHERS], n.split_half_ceiling(EACH)[:, OTHERS]) and np.isnan(found[:, 2]).all()


@pytest.mark.parametrize("value", SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("regression", ["pls", "ridge"])
def test_silent_electrode_keeps_others_predictivity(value: float, regression: str) -> None:
    y = Y.copy()
    y[:, 2] = value
    found = named(lambda: n.predictivity(X, y, regression=regression, splits=SPLITS))
    alone = n.predictivity(X, Y[:, OTHERS], regression=regression, splits=SPLITS)
    assert np.allclose(found.r[:, OTHERS], alone.r, atol=1e-9) and np.isnan(found.r[:, 2]).all()
    assert found.score == pytest.approx(alone.score)
    assert np.allclose(n.pearson(y, Y)[OTHERS], 1.0) and np.isnan(n.pearson(y, Y)[2])


@pytest.mark.parametrize("weights", ["each", "shared"])
def test_electrode_silent_in_one_bin_keeps_other_bins(weights: str) -> None:
    y = np.stack([Y, Y], -1)
    y[:, 2, 1] = NAN
    first, second = named(lambda: n.predictivity_over_time([X, X], y, weights=weights, splits=SPLITS))
    assert np.isfinite(first.r).all() and np.isfinite(second.r[:, OTHERS]).all() and np.isnan(second.r[:, 2]).all()


def test_ceiling_of_unequal_repetitions_matches_scipy() -> None:
    """Halves of an image contain equal numbers of its repetitions; images with fewer than two are left out."""
    each = EACH.copy()
    each[4:, :40, 1] = NAN
    each[1:, 40:45, 1] = NAN
    each[:, 45:50, 1] = NAN
    found = n.split_half_ceiling(each, splits=3, seed=4)
    generator = np.random.default_rng(4)
    for split in found:
        halves = np.full((2, 100, 5), NAN)
        order = generator.permutation(6)
        for image in range(100):
            for neuroid in range(5):
                trials = [each[k, image, neuroid] for k in order if not np.isnan(each[k, image, neuroid])]
                if half := len(trials) // 2:
                    halves[:, image, neuroid] = np.mean(trials[:half]), np.mean(trials[half : 2 * half])
        for neuroid in range(5):
            known = np.isfinite(halves[0, :, neuroid])
            r = pearsonr(*halves[:, known, neuroid]).statistic
            assert split[neuroid] == pytest.approx(2 * r / (1 + r), abs=1e-12)


def test_ceiling_of_sessions_with_other_images_equals_ceiling_of_each() -> None:
    each = np.full((6, 100, 5), NAN)
    each[:, :50, :2], each[:, 40:, 2:] = EACH[:, :50, :2], EACH[:, 40:, 2:]
    found = n.split_half_ceiling(each)
    assert np.allclose(found[:, :2], n.split_half_ceiling(EACH[:, :50, :2]))
    assert np.allclose(found[:, 2:], n.split_half_ceiling(EACH[:, 40:, 2:]))
    # The same sessions as blocks of trials, one after the other.
    blocks = np.full((12, 100, 5), NAN)
    blocks[:6, :, :2], blocks[6:, :, 2:] = each[:, :, :2], each[:, :, 2:]
    assert np.allclose(
        np.median(n.split_half_ceiling(blocks, 50), 0), np.median(n.split_half_ceiling(each, 50), 0), atol=0.02
    )


def test_predictivity_of_sessions_matches_scikit_learn() -> None:
    """Neuroids that saw the same images are fitted together, and tested on held-out images that they saw."""
    decomposition = pytest.importorskip("sklearn.cross_decomposition")
    sessions = {(0, 1): np.arange(100) < 70, (2, 3, 4): np.arange(100) >= 40}
    y = np.full_like(Y, NAN)
    for neuroids, shown in sessions.items():
        y[np.ix_(shown, neuroids)] = Y[np.ix_(shown, neuroids)]
    found = n.predictivity(X, y, splits=SPLITS)
    for r, (training, test) in zip(found.r, SPLITS, strict=True):
        for neuroids, shown in sessions.items():
            known, held = training[shown[training]], test[shown[test]]
            model = decomposition.PLSRegression(6, scale=False).fit(X[known], Y[np.ix_(known, neuroids)])
            predicted = model.predict(X[held])
            expected = [pearsonr(predicted[:, k], Y[held, unit]).statistic for k, unit in enumerate(neuroids)]
            assert np.allclose(r[list(neuroids)], expected, atol=2e-3)


def test_neuroid_with_few_images_is_nan_and_named() -> None:
    y, each = Y.copy(), EACH.copy()
    y[4:, 2] = each[1:, 4:, 2] = NAN
    assert np.isnan(named(lambda: n.predictivity(X, y, splits=SPLITS)).r[:, 2]).all()
    assert np.isnan(named(lambda: n.split_half_ceiling(each))[:, 2]).all()


def test_normalised_uses_neuroids_with_score_and_ceiling() -> None:
    """A neuroid without a ceiling must not count in the numerator only."""
    score = n.Predictivity(np.array([[0.9, 0.2, 0.4, NAN]]))
    found = n.normalised(score, np.array([[NAN, 0.5, 0.8, 0.1]]))
    assert found.ratio == pytest.approx(0.3 / 0.65) and found.neuroids == pytest.approx((0.2 / 0.5 + 0.4 / 0.8) / 2)
    negative = n.normalised(n.Predictivity(np.array([[0.5, 0.4]])), np.array([[-0.2, 0.8]]))
    assert negative.neuroids == pytest.approx(0.5)
    for ceiling in (np.zeros((1, 4)), -np.ones((1, 4)), np.full((1, 4), NAN)):
        found = n.normalised(score, ceiling)
        assert np.isnan([found.ratio, found.squared, found.neuroids]).all()


def test_recordings_without_any_repetition_or_response_are_rejected() -> None:
    once = EACH.copy()
    once[1:] = NAN
    for each in (once, EACH[:1], EACH[:, :4], np.where(EACH > 2, np.inf, EACH), EACH * NAN):
        with pytest.raises(StimulusError, match="2 or more repetitions"):
            n.split_half_ceiling(each)
    for y in (Y * NAN, np.where(Y > 2, np.inf, Y)):
        with pytest.raises(StimulusError, match="with NaN or infinite"):
            n.predictivity(X, y)
    kernel = n.Kernel.of(X).products
    for fit in (n.pls, n.ridge):
        with pytest.raises(StimulusError, match="predictivity"):
            fit(kernel, kernel, torch.from_numpy(np.where(Y > 2, NAN, Y)))
    with pytest.raises(StimulusError, match="scores are all NaN"):
        n.best_layer({"silent": np.ones((100, 3))}, Y)


def test_splits_of_masks_equal_splits_of_indices() -> None:
    training = np.arange(100) < 80
    found = n.predictivity(X, Y, splits=[(training, ~training)])
    assert np.array_equal(found.r, n.predictivity(X, Y, splits=[(np.arange(80), np.arange(80, 100))]).r)
    for training, test, message in (
        ((np.arange(100) < 80).astype(int), (np.arange(100) >= 80).astype(int), "occurs twice"),
        (np.arange(100), np.arange(80, 100), "held out and trained on"),
        (np.arange(90), np.arange(90, 101), "do not match 100 images"),
    ):
        with pytest.raises(StimulusError, match=message):
            n.predictivity(X, Y, splits=[(training, test)])


def test_splits_reject_labels_that_are_missing_or_too_few() -> None:
    for labels, message in (
        ([0.0, NAN] * 10, "10 of 20 missing"),
        (["cat", np.nan] * 10, "10 of 20 missing"),
        (range(20), "only 1 member"),
        ([0, 1], r"shape \(2,\)"),
    ):
        with pytest.raises(StimulusError, match=message):
            n.shuffled_splits(20, labels=np.array(labels))


def test_labelled_responses_are_compared_by_axis_name() -> None:
    xarray = pytest.importorskip("xarray")
    y = xarray.DataArray(Y, dims=("presentation", "neuroid"))
    x = xarray.DataArray(X.reshape(100, 3, 2), dims=("image", "channel", "width"))
    each = xarray.DataArray(EACH, dims=("repetition", "image", "neuroid"))
    expected = n.predictivity(X, Y, splits=SPLITS).r
    assert np.allclose(n.predictivity(x.transpose("channel", "image", "width"), y.T, splits=SPLITS).r, expected)
    (over_time,) = n.predictivity_over_time([x], y.expand_dims("time_bin"), splits=SPLITS)
    assert np.allclose(over_time.r, expected)
    assert np.array_equal(n.split_half_ceiling(each.T), n.split_half_ceiling(EACH))
    assert np.allclose(similarity.dissimilarity(y.T), similarity.dissimilarity(Y))
    for call in (
        lambda: n.predictivity(X, y.rename(presentation="trial")),
        lambda: similarity.dissimilarity(y.rename(presentation="trial")),
        lambda: n.Kernel.of(y.rename(presentation="trial")),
    ):
        with pytest.raises(StimulusError, match=r"axes \(trial, neuroid\)"):
            call()


def test_arrays_of_other_images_are_rejected() -> None:
    for call in (
        lambda: n.pearson(Y[:, 0], Y[:, :1]),
        lambda: n.Kernel.of([X, X[:50]]),
        lambda: n.Kernel.of(X[:, 0]),
        lambda: n.predictivity_over_time([X[:50]], Y[..., None], weights="shared"),
        lambda: object_solution.rank_correlation([1.0, 2.0, 3.0], [1.0]),
        lambda: object_solution.control_and_challenge([1.0, 2.0], [1.0]),
        lambda: first_difference(torch.ones(3, 2, 1), torch.ones(3, 1, 1)),
        lambda: similarity.upper(np.zeros((3, 5))),
    ):
        with pytest.raises(StimulusError):
            call()


def test_bins_may_overlap_and_are_found_up_to_rounding() -> None:
    times = [0.1, 0.2, 0.1 + 0.2, 0.4]
    rows = n.steps_of(times, [(0.2, 0.3), (0.1 + 0.2, 0.4), (0.1, 0.1 + 0.2), (0.0, 0.1)])
    assert [row.tolist() for row in rows] == [[2], [3], [1, 2], [0]]
    for bins in ([(30, 10)], [(10, 10)], [(NAN, 10)], [10, 20], (10, 20), [(10, 20, 30)]):
        with pytest.raises(StimulusError, match=r"\(70\.0, 80\.0\)"):
            n.steps_of([10.0, 20.0, 30.0], bins)
    for given, latency in (([10.0, 30.0, 20.0], 0.0), ([10.0, NAN], 0.0), ([10.0, 20.0], NAN)):
        with pytest.raises(StimulusError, match="increasing"):
            n.steps_of(given, [(10, 20)], latency)


def test_solution_times_do_not_depend_on_order_of_bins() -> None:
    times, i1 = np.arange(0.0, 40.0, 10.0), np.array([[0.0, 0.0], [0.2, NAN], [1.0, 0.4], [2.0, 0.6]])
    for order in ([0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]):
        found = object_solution.solution_times(times[order], i1[order], [0.5, 0.5])
        assert found.tolist() == pytest.approx([13.75, 25.0])
    assert np.isnan(object_solution.solution_times(times, i1, [0.5, NAN])).tolist() == [False, True]
    for wrong in ([0.0, 10.0, 10.0, 20.0], [0.0, NAN, 20.0, 30.0], [0.1, 0.1 + 0.2, 0.3, 0.4]):
        with pytest.raises(StimulusError, match="increasing"):
            object_solution.solution_times(wrong, i1, 0.5)


def test_object_solution_has_no_answer_for_nan() -> None:
    p = np.full((4, 2), 0.5)
    for wrong, labels in (
        (np.where(np.eye(4, 2), NAN, p), [0, 1, 0, 1]),
        (-p, [0, 1, 0, 1]),
        (p, [0.0, 1.0, 0.5, 1.0]),
    ):
        with pytest.raises(StimulusError):
            object_solution.image_d_prime(wrong, labels)
    control, challenge = object_solution.control_and_challenge([NAN, 2.0], [1.0, 2.0])
    assert control.tolist() == [False, True] and not challenge.any()
    assert np.isnan(object_solution.rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert np.isnan(object_solution.split_half_reliability([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]))
    for ceiling in (0.0, NAN, -1.0):
        with pytest.raises(StimulusError, match="ceiling above 0"):
            object_solution.rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ceiling)


def test_dissimilarity_of_silent_image_is_nan_up_to_rounding() -> None:
    """The mean of three values of 0.1 is not 0.1 in floating point, so the pattern seems to vary by 1e-17."""
    x = np.vstack([np.full(3, 0.1), GENERATOR.normal(size=(3, 3))])
    found = similarity.dissimilarity(x)
    assert np.isnan(found[0, 1:]).all() and np.isnan(found[1:, 0]).all()
    assert np.allclose(found[1:, 1:], 1.0 - np.corrcoef(x[1:]), atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(similarity.compare(found, found)) and np.isnan(similarity.compare(np.zeros((4, 4)), found))
    spoiled = X.copy()
    spoiled[7, 3] = NAN
    with pytest.raises(StimulusError, match=r"in units \[3\]"):
        similarity.dissimilarity(spoiled)


def test_ceiling_of_matrices_names_subjects_without_data() -> None:
    good = [similarity.dissimilarity(GENERATOR.normal(size=(6, 8))) for _ in range(3)]
    for spoiled in (np.full((6, 6), NAN), np.zeros((6, 6))):
        with pytest.raises(StimulusError, match=r"np\.delete\(matrices, \[1\], axis=0\)"):
            similarity.ceiling_of_matrices([good[0], spoiled, good[1]])
    with pytest.raises(StimulusError, match="two or more subjects"):
        similarity.ceiling_of_matrices(good[:1])
    with pytest.raises(StimulusError, match="matrix.T"):
        similarity.compare(np.arange(9.0).reshape(3, 3), good[0][:3, :3])


def test_first_difference_ignores_nan() -> None:
    values, baseline = torch.zeros(4, 3, 2), torch.zeros(4, 3, 2)
    values[1:, 0] = NAN  # diverges before it responds
    values[1, 1], values[2:, 1] = 1.0, NAN  # responds, then diverges
    assert first_difference(values, baseline).tolist() == [-1, 1, -1]
    for tolerance in (NAN, -1.0):
        with pytest.raises(StimulusError, match="at least 0"):
            first_difference(values, baseline, tolerance)
