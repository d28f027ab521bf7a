"""Predictivity, ceilings and dissimilarity matrices against scikit-learn, rsatoolbox and synthetic data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pcsim import StimulusError
from pcsim.brain import regression as n
from pcsim.brain import similarity


def planted(images: int = 200, features: int = 300, neuroids: int = 12, noise: float = 1.0, repetitions: int = 20):
    """Return features, signal, and noisy responses (repetition, image, neuroid), all linear in ten latent variables."""
    generator = np.random.default_rng(0)
    latent = generator.normal(size=(images, 10))
    x = latent @ generator.normal(size=(10, features)) + 0.3 * generator.normal(size=(images, features)) + 5.0
    signal = latent @ generator.normal(size=(10, neuroids))
    signal /= signal.std(0)
    return x, signal, signal + noise * generator.normal(size=(repetitions, images, neuroids))


def test_pls_matches_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.cross_decomposition")
    x, _, repetitions = planted()
    y = repetitions.mean(0)
    splits = n.shuffled_splits(len(x), 3)
    found = n.predictivity(x, y, splits=splits)
    for (training, test), r in zip(splits, found.r, strict=True):
        model = decomposition.PLSRegression(25, scale=False, tol=1e-6).fit(x[training], y[training])
        theirs = n.pearson(model.predict(x[test]), y[test])
        assert np.abs(r - theirs).max() < 2e-3
    one = n.predictivity(x, y[:, :1], splits=splits[:1])
    model = decomposition.PLSRegression(25, scale=False).fit(x[splits[0][0]], y[splits[0][0], :1])
    assert abs(one.r[0, 0] - n.pearson(model.predict(x[splits[0][1]]).reshape(-1, 1), y[splits[0][1], :1])[0]) < 2e-3


def test_ridge_matches_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, _, repetitions = planted(80, 50)
    y = repetitions.mean(0)
    training, test = n.shuffled_splits(len(x), 1)[0]
    kernel = n.Kernel.of(x)
    k, across = kernel.centred(torch.from_numpy(training), torch.from_numpy(test))
    mean = y[training].mean(0)
    told = n.ridge(k, across, torch.from_numpy(y[training] - mean), (0.1, 1.0, 10.0)).numpy() + mean
    unit = float(k.diagonal().mean())
    centred = x[training] - x[training].mean(0)
    # Data are centred once and fitted without an intercept: neither side centres the held-out images again.
    model = linear.RidgeCV([p * unit for p in (0.1, 1.0, 10.0)], fit_intercept=False, alpha_per_target=True)
    model.fit(centred, y[training] - mean)
    assert np.abs(told - (model.predict(x[test] - x[training].mean(0)) + mean)).max() < 1e-8


def test_predictivity_unchanged_by_feature_parts_and_offset() -> None:
    x, _, repetitions = planted(60, 40)
    y, splits = repetitions.mean(0), n.shuffled_splits(60, 2)
    whole = n.predictivity(x, y, splits=splits)
    parts = n.predictivity(n.Kernel.of(iter([x[:, :7], x[:, 7:]])), y, splits=splits)
    away = n.predictivity(torch.from_numpy(x + 1e4).reshape(60, 4, 10), y, splits=splits)
    assert np.allclose(whole.r, parts.r, atol=1e-9) and np.allclose(whole.r, away.r, atol=1e-6)


def test_predictivity_and_splits_hold_out_images() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(100, 500)), generator.normal(size=(100, 30))
    for regression in ("pls", "ridge"):
        assert abs(n.predictivity(x, y, regression=regression).score) < 0.15, "noise must not be predicted"
    labels = np.arange(100) % 5
    for training, test in n.shuffled_splits(100, labels=labels):
        assert not set(training) & set(test) and len(training) + len(test) == 100
        assert np.bincount(labels[test]).tolist() == [2] * 5


def test_split_half_ceiling_matches_analytic_value() -> None:
    """A mean of R repetitions, with noise variance s^2 and signal variance 1, has the reliability 1 / (1 + s^2 / R)."""
    for noise in (0.5, 2.0):
        _, _, repetitions = planted(2_000, 20, 8, noise)
        ceiling = n.split_half_ceiling(repetitions)
        assert ceiling.shape == (10, 8)
        assert np.median(ceiling) == pytest.approx(1.0 / (1.0 + noise**2 / 20), abs=0.02)


def test_predictivity_of_perfect_model_reaches_root_of_ceiling() -> None:
    x, _, repetitions = planted(1_000, 60, 8, noise=4.0)
    score = n.predictivity(x, repetitions.mean(0))
    ceiling = n.split_half_ceiling(repetitions)
    reached = n.normalised(score, np.sqrt(ceiling))
    assert reached.ratio == pytest.approx(1.0, abs=0.03) and reached.squared == pytest.approx(reached.ratio**2)
    assert reached.neuroids == pytest.approx(1.0, abs=0.03) and 0 < score.error < 0.03


def test_best_layer_scored_on_images_not_used_to_choose() -> None:
    x, _, repetitions = planted()
    found = n.best_layer(
        {"silent": np.ones((200, 3)), "v1": x[:, :5], "it": n.Kernel.of(x)},
        repetitions.mean(0),
        labels=np.arange(200) % 4,
    )
    assert found.name == "it" and found.score.score > found.chosen_by["v1"].score
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(16):
        noise = {str(layer): generator.normal(size=(100, 20)) for layer in range(10)}
        lucky = n.best_layer(noise, generator.normal(size=(100, 3)))
        assert lucky.chosen_by[lucky.name].score == max(row.score for row in lucky.chosen_by.values())
        draws.append((lucky.chosen_by[lucky.name].score, lucky.score.score))
    chosen, other = np.mean(draws, 0)
    assert chosen > 0.2 and abs(other) < 0.1, "a layer selected by chance must not score well on other images"


def moving(neuroids: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (bin, image, feature) and responses (image, neuroid, bin), with shared or separate weights."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 120, 8))
    weights = generator.normal(size=(3, 8, neuroids))
    noise = 0.5 * generator.normal(size=(120, neuroids, 3))
    return x, np.einsum("tif,fn->int", x, weights[0]) + noise, np.einsum("tif,tfn->int", x, weights) + noise


def test_predictivity_over_time_with_shared_or_own_weights() -> None:
    x, same, other = moving()
    for weights in ("each", "shared"):
        scores = n.predictivity_over_time(list(x), same, weights=weights)
        assert len(scores) == 3 and all(0.95 < row.score for row in scores), weights
    for weights, least, most in (("each", 0.95, 1.0), ("shared", -0.2, 0.8)):
        assert all(least < row.score < most for row in n.predictivity_over_time(list(x), other, weights=weights))
    with pytest.raises(StimulusError, match="the same number of bins"):
        n.predictivity_over_time(list(x), same[..., :2])
    with pytest.raises(StimulusError, match="arrays"):
        n.predictivity_over_time([n.Kernel.of(part) for part in x], same, weights="shared")


def test_shared_weights_require_the_same_features_in_all_bins() -> None:
    x, same, _ = moving()
    folded = [x[0].reshape(120, 2, 4), x[1].reshape(120, 4, 2)]
    for features in (folded, [x[0], x[1][:, :-1]], [x[0][:, :0], x[1]], [x[0][:, :0], x[1][:, :0]]):
        with pytest.raises(StimulusError, match="the same features in all bins, at least one"):
            n.predictivity_over_time([*features, *x[2:]], same, weights="shared")


def test_predictivity_over_time_shared_matches_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.cross_decomposition")
    x, same, _ = moving()
    ((training, test),) = n.shuffled_splits(120, 1)
    model = decomposition.PLSRegression(8, scale=False)
    model.fit(x[:, training].reshape(-1, 8), same[training].transpose(2, 0, 1).reshape(-1, 6))
    found = n.predictivity_over_time(list(x), same, weights="shared", splits=[(training, test)])
    for time, row in enumerate(found):
        theirs = n.pearson(model.predict(x[time, test]), same[test, :, time])
        assert np.abs(row.r[0] - theirs).max() < 2e-3


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_dissimilarity_matches_rsatoolbox(metric: str) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(2, 15, 40))
    matrices = [similarity.dissimilarity(values, metric) for values in (x, z)]
    theirs = [rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(values), method=metric) for values in (x, z)]
    for ours, their in zip(matrices, theirs, strict=True):
        assert np.abs(similarity.upper(ours) - their.dissimilarities[0]).max() < 1e-10
    for method, name in (("spearman", "spearman"), ("pearson", "corr"), ("kendall", "kendall")):
        assert similarity.compare(*matrices, method) == pytest.approx(
            float(rsatoolbox.rdm.compare(*theirs, method=name)[0, 0]), abs=1e-10
        )


def test_dissimilarity_matches_hand_values() -> None:
    x = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 4.0, 6.0]])
    assert np.allclose(similarity.dissimilarity(x), [[0, 2, 0], [2, 0, 2], [0, 2, 0]])
    assert np.allclose(
        similarity.upper(similarity.dissimilarity(torch.from_numpy(x), "euclidean")), [8 / 3, 14 / 3, 30 / 3]
    )
    assert similarity.compare(similarity.dissimilarity(x), similarity.dissimilarity(2 * x + 1)) == pytest.approx(1.0)


def test_ceiling_of_matrices_encloses_true_matrix() -> None:
    generator = np.random.default_rng(0)
    true = similarity.dissimilarity(generator.normal(size=(20, 30)))
    noisy = [true + 0.1 * (e + e.T) for e in generator.normal(size=(8, 20, 20))]
    low, high = similarity.ceiling_of_matrices(noisy)
    model = np.mean([similarity.compare(true, matrix) for matrix in noisy])
    assert 0.3 < low <= model <= high < 1.0


def test_steps_of_assigns_steps_to_bin_they_end_in() -> None:
    bins = [(70.0, 80.0), (80.0, 100.0), (97.0, 99.0), (50.0, 80.0)]
    rows = n.steps_of([10.0, 20.0, 30.000000000000004], bins, latency=70.0)
    assert [row.tolist() for row in rows] == [[0], [1, 2], [2], [0]]
    coarse = n.steps_of([140.0, 190.0, 240.0], [(90.0, 100.0), (130.0, 145.0), (190.0, 200.0)])
    assert [row.tolist() for row in coarse] == [[0], [0], [2]], "a bin must get the step that spans it or ends in it"
    assert n.steps_of([50.0], [(0.0, 10.0)])[0].tolist() == [0]
    for beyond in ((50.0, 70.0), (100.0, 110.0)):
        with pytest.raises(StimulusError, match="bins after 70 and up to 100 ms"):
            n.steps_of([10.0, 20.0, 30.0], [beyond], latency=70.0)
    with pytest.raises(StimulusError, match="increasing"):
        n.steps_of([10.0, 10.0], bins)


def test_predictivity_of_constant_features_is_nan() -> None:
    """Before an image arrives, activations are constant, exactly or up to rounding."""
    _, _, repetitions = planted(60, 4)
    for features in (np.zeros((60, 3)), np.full((60, 3), 0.1)):
        score = n.predictivity(features, repetitions.mean(0))
        assert np.isnan(score.r).all() and np.isnan(score.score) and "nan" in repr(score)
        reached = n.normalised(score, n.split_half_ceiling(repetitions))
        assert np.isnan([reached.ratio, reached.neuroids]).all()
    assert np.isnan(n.pearson(np.full((9, 1), 1 / 3), np.random.default_rng(0).normal(size=(9, 1)))).all()
    some = n.Predictivity(np.array([[0.5, np.nan, 0.7], [0.1, np.nan, 0.9]]))
    assert some.score == pytest.approx(0.55) and repr(some).endswith("2 splits, 3 neuroids)")


def test_regression_and_similarity_reject_invalid_arguments() -> None:
    x = np.zeros((5, 3))
    with pytest.raises(StimulusError, match="same images"):
        n.predictivity(x, np.zeros((4, 2)))
    with pytest.raises(StimulusError, match="with NaN"):
        n.predictivity(x, np.full((5, 2), np.nan))
    with pytest.raises(StimulusError, match="finite features"):
        n.Kernel.of(np.full((5, 2), np.inf))
    with pytest.raises(StimulusError, match="2 or more repetitions"):
        n.split_half_ceiling(x)
    with pytest.raises(StimulusError, match="hold out more"):
        n.predictivity(np.zeros((40, 3)), np.zeros((40, 2)))
    with pytest.raises(StimulusError, match="one of 'pls', 'ridge'"):
        n.predictivity(x, np.zeros((5, 2)), regression="lasso")
    for layers in ({"it": np.zeros((6, 3))}, [x]):
        with pytest.raises(StimulusError, match="features of the same images|a dict"):
            n.best_layer(layers, np.zeros((5, 2)))
    score = n.Predictivity(np.ones((10, 3)))
    for wrong in (np.ones((3, 10)), np.ones(3)):
        with pytest.raises(StimulusError, match="one at a time"):
            n.normalised(score, wrong)
    for matrices in ((np.zeros((3, 3)), np.zeros((4, 4))), (np.zeros((3, 5)), np.zeros((3, 5)))):
        with pytest.raises(StimulusError, match=r"similarity|dissimilarity"):
            similarity.compare(*matrices)
    with pytest.raises(StimulusError, match="nanmean"):
        similarity.dissimilarity(np.full((3, 4), np.nan))
    with pytest.raises(StimulusError, match="one of 'correlation', 'euclidean'"):
        similarity.dissimilarity(x, "cosine")
    with pytest.raises(StimulusError, match="'spearman', 'pearson', 'kendall'"):
        similarity.compare(np.zeros((3, 3)), np.zeros((3, 3)), "cosine")


STREAM = """
import resource
import numpy as np
from pcsim.brain import regression

responses = np.random.default_rng(0).normal(size=(1_000, 20))
scores = []
for time in range(18):
    generator = np.random.default_rng(time)
    parts = (generator.normal(size=(1_000, 5_000)).astype(np.float32) for _ in range(10))
    scores.append(regression.predictivity(regression.Kernel.of(parts), responses).score)
assert len(scores) == 18 and all(abs(score) < 0.2 for score in scores)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_kernel_streams_50_000_features_under_4_gb() -> None:
    done = subprocess.run([sys.executable, "-c", STREAM], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4.0, "peak memory in GB"
