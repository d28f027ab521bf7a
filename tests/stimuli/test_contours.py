"""Two curves of dashes with two dots on the same curve or on different curves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pcsim import StimulusError, stimuli

TRIALS = stimuli.contours(0, 0, 2_000)
FIELDS = ("images", "same", "path", "scene_path", "straight", "dots", "curves")


def test_trials_depend_on_seed_and_index_alone() -> None:
    for first, count in ((0, 3), (5, 1), (6, 9)):
        part = stimuli.contours(0, first, count)
        for field in FIELDS:
            equal = np.array_equal(getattr(TRIALS, field)[first : first + count], getattr(part, field), equal_nan=True)
            assert equal, field
    assert not np.array_equal(TRIALS.images[:8], stimuli.contours(1, 0, 8).images)


def curves_of(image: np.ndarray, dot: np.ndarray) -> tuple[np.ndarray, int]:
    """Follow the dashes from a dot; return the nodes that are reached, and the number of dashes to each of them.

    Nodes are joined if both pixels between them are inked. Nothing of the generator is used.
    """
    lattice = image.shape[0] // 3
    steps = np.full((lattice, lattice), -1)
    waiting = [tuple(dot // 3)]
    steps[waiting[0]] = 0
    for node in waiting:
        for move in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            other = (node[0] + move[0], node[1] + move[1])
            if min(other) < 0 or max(other) >= lattice or steps[other] >= 0:
                continue
            pixels = [(3 * node[0] + 1 + k * move[0], 3 * node[1] + 1 + k * move[1]) for k in (1, 2)]
            if all(image[pixel] == 128 for pixel in pixels):
                steps[other] = steps[node] + 1
                waiting.append(other)
    return steps, len(waiting)


def test_following_the_dashes_gives_class_and_path() -> None:
    for n in range(200):
        image, dots = TRIALS.images[n, 0], TRIALS.dots[n]
        assert {tuple(dot) for dot in dots} == {*zip(*np.nonzero(image == 255), strict=True)}
        steps, nodes = curves_of(image, dots[0])
        assert {*zip(*np.nonzero(steps >= 0), strict=True)} == {tuple(node) for node in TRIALS.curves[n, 0] // 3}
        reached = steps[tuple(dots[1] // 3)]
        assert nodes == 12 and (reached >= 0) == TRIALS.same[n]
        if TRIALS.same[n]:
            assert reached == TRIALS.path[n] == TRIALS.scene_path[n]
        else:
            assert np.isnan(TRIALS.path[n])
        assert TRIALS.straight[n] == pytest.approx(np.linalg.norm(dots[0] - dots[1]))


def test_classes_are_balanced_and_paths_are_uniform() -> None:
    assert TRIALS.same.mean() == 0.5 and TRIALS.targets().sum(0).tolist() == [1_000, 1_000]
    counts = np.bincount(TRIALS.scene_path, minlength=11)[2:] / 4
    assert counts.sum() == 500 and ((counts - 500 / 9) ** 2 / (500 / 9)).sum() < 26.1  # chi square, 8 df, p = 0.001
    assert set(stimuli.contours(0, 0, 40, paths=(3, 7)).scene_path) == {3, 7}


def test_trials_of_a_scene_share_ink_dots_and_distances() -> None:
    images, dots = TRIALS.images[:, 0].reshape(500, 4, 24, 24), TRIALS.dots.reshape(500, 4, 2, 2)
    straight = TRIALS.straight.reshape(500, 4)
    assert np.array_equal(np.sort(straight[:, ::2], 1), np.sort(straight[:, 1::2], 1))
    for scene in dots:
        for dot in range(2):
            assert {tuple(d) for d in scene[::2, dot]} == {tuple(d) for d in scene[1::2, dot]}
    ink = np.where(images == 255, 0, images)
    assert (ink == ink[:, :1]).all()


def simple_statistics(trials: stimuli.Contours) -> np.ndarray:
    """Return properties that a shortcut could use, (n, features)."""
    ink = (trials.images[:, 0] == 128).astype(float)
    one, other = trials.dots[:, 0], trials.dots[:, 1]
    middle = (one + other) / 2
    near = ndimage.uniform_filter(ink, (0, 7, 7), mode="constant")
    rows = np.arange(len(ink))
    around = np.stack([near[rows, *one.T], near[rows, *other.T]], 1)
    parts = [
        trials.straight,
        np.abs(one - other).max(1),
        np.abs(one - other).min(1),
        ink.sum((1, 2)),
        np.linalg.norm(middle - 11.5, axis=1),
        *np.sort(np.linalg.norm(trials.dots - 11.5, axis=2), 1).T,
        *np.sort(around, 1).T,
    ]
    return np.stack(parts, 1)


def decoded(features: np.ndarray, trials: stimuli.Contours, degree: int) -> float:
    """Return the cross-validated accuracy of a logistic regression, with all trials of a scene in the same fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    steps = StandardScaler(), PolynomialFeatures(degree), StandardScaler(), LogisticRegression(C=0.1)
    model = make_pipeline(*steps)
    scene = np.arange(len(features)) // 4
    return float(cross_val_score(model, features, trials.same, groups=scene, cv=GroupKFold(5)).mean())


def test_no_shortcut_predicts_the_class() -> None:
    pytest.importorskip("sklearn")
    trials = stimuli.contours(7, 0, 4_000)
    assert abs(decoded(simple_statistics(trials), trials, 1) - 0.5) < 0.02
    assert decoded(simple_statistics(trials), trials, 2) < 0.55


@pytest.mark.parametrize(
    "options",
    [{"paths": (12,)}, {"paths": ()}, {"paths": (0,)}, {"length": 20}, {"lattice": 4}, {"distractors": -1}],
)
def test_contours_reject_wrong_options(options: dict) -> None:
    with pytest.raises(StimulusError):
        stimuli.contours(0, 0, 4, **options)
