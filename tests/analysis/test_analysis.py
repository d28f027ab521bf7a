"""Statistics of answers against manual counts, closed forms and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcsim import analysis
from pcsim.brain import first_difference


def test_correct_choices_require_all_k_digits() -> None:
    targets = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    logits = torch.tensor([[[9.0, 8, 1, 0], [9.0, 1, 8, 0]], [[9.0, 1, 8, 0], [0.0, 1, 8, 9]]])
    assert analysis.correct_choices(logits, targets).tolist() == [[True, False], [False, True]]
    assert analysis.hit_rate(logits, targets).tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert analysis.accuracy_over_time(analysis.correct_choices(logits, targets)).tolist() == [0.5, 0.5]


def test_correct_choices_of_single_digit_equal_argmax() -> None:
    logits, classes = torch.randn(3, 50, 10), torch.randint(10, (50,))
    targets = torch.nn.functional.one_hot(classes, 10).float()
    assert torch.equal(analysis.correct_choices(logits, targets), logits.argmax(-1) == classes)


def test_mcnemar_equals_binomial_of_discordant_images() -> None:
    first = np.array([1] * 8 + [0] * 2 + [1] * 90, bool)
    second = np.array([0] * 8 + [1] * 2 + [1] * 90, bool)
    # two-sided binomial of 2 in 10: 2 (1 + 10 + 45) / 1024
    assert analysis.mcnemar(first, second) == pytest.approx(112 / 1024)
    assert analysis.mcnemar(first, first) == 1.0


def test_estimate_interval_matches_standard_error() -> None:
    drawn = np.random.default_rng(0).normal(2.0, 3.0, 400)
    found = analysis.estimate(drawn)
    assert found.mean == pytest.approx(drawn.mean())
    half = 1.96 * drawn.std(ddof=1) / 20.0
    assert found.low == pytest.approx(drawn.mean() - half, abs=0.02) and found.high == pytest.approx(
        drawn.mean() + half, abs=0.02
    )


def test_mcnemar_rejects_true_null_at_its_level() -> None:
    generator = np.random.default_rng(0)
    ps = [analysis.mcnemar(*(generator.random((2, 300)) < 0.7)) for _ in range(400)]
    assert np.mean(np.array(ps) < 0.05) <= 0.06


def test_compare_pairs_adjusts_p_values_jointly() -> None:
    generator = np.random.default_rng(1)
    base = generator.random((2, 500)) < 0.5
    correct = {
        "a": base,
        "b": base ^ (generator.random((2, 500)) < 0.02),
        "c": base | (generator.random((2, 500)) < 0.3),
    }
    pairs = analysis.compare_pairs(correct)
    assert [(p.first, p.second) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(p.q >= p.p for p in pairs) and pairs[1].significant and not pairs[0].significant
    assert pairs[1].difference == pytest.approx(correct["c"].mean() - base.mean())
    assert max(p.q for p in pairs) == pytest.approx(max(p.p for p in pairs))
    assert analysis.compare_pairs({"a": base}) == []


def test_error_rate_interval_has_nominal_coverage() -> None:
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        estimate = analysis.error_rate(generator.random((1, 200)) < 0.7, draws=300)
        covered.append(estimate.low <= 0.3 <= estimate.high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_error_rate_interval_widens_with_unlike_repetitions() -> None:
    generator = np.random.default_rng(3)
    alike = generator.random((4, 1000)) < 0.7
    unlike = np.stack([generator.random(1000) < p for p in (0.5, 0.6, 0.8, 0.9)])
    first, second = analysis.error_rate(alike), analysis.error_rate(unlike)
    assert second.high - second.low > 3 * (first.high - first.low)


def test_state_change_is_relative_step() -> None:
    values = torch.zeros(4, 2, 3)
    values[1, 0], values[2, 0], values[3, 0] = (
        torch.tensor([3.0, 4, 0]),
        torch.tensor([3.0, 4, 0]),
        torch.tensor([6.0, 8, 0]),
    )
    assert torch.allclose(analysis.state_change(values), torch.tensor([[1.0, 0], [0, 0], [0.5, 0]]))


def test_answer_steps_follow_decoder_rule() -> None:
    """Three samples over three steps: confident early and then unsure, confident late, never confident."""
    confidence = torch.tensor([[0.95, 0.4, 0.5], [0.97, 0.6, 0.6], [0.5, 0.92, 0.55]])
    logits = torch.stack([torch.log(confidence), torch.log1p(-confidence)], -1)
    assert analysis.answer_steps(logits).tolist() == [2, 2, 2]
    assert analysis.answer_steps(logits, "max_confidence").tolist() == [1, 2, 1]
    assert analysis.answer_steps(logits, "threshold").tolist() == [0, 2, 1]
    assert torch.equal(analysis.decode(logits, "threshold"), torch.stack([logits[0, 0], logits[2, 1], logits[1, 2]]))


def test_reaction_times_are_entropy_threshold_crossings() -> None:
    from scipy.stats import entropy

    logits = torch.randn(6, 40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = entropy(torch.softmax(logits.cumsum(0), -1).numpy(), axis=-1)
    assert np.allclose(analysis.entropy(analysis.cumulative(logits)).numpy(), expected, atol=1e-12)
    times = analysis.reaction_times(logits, 0.8)
    for sample, step in enumerate(times.tolist()):
        below = np.flatnonzero(expected[:, sample] < 0.8)
        assert step == (below[0] if len(below) else 5)
    assert analysis.reaction_times(logits, 0.0).tolist() == [5] * 40
    assert analysis.reaction_times(logits, 10.0).tolist() == [0] * 40


def test_decision_times_are_start_of_final_answer() -> None:
    answers = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2], [0, 0, 2, 2], [0, 0, 2, 1]])
    logits = torch.nn.functional.one_hot(answers, 3).float()
    assert analysis.decision_times([5.0, 10.0, 20.0, 40.0], logits).tolist() == [5.0, 20.0, 20.0, 40.0]


@pytest.mark.parametrize("wanted", [0.3, 2.0, 4.5])
def test_entropy_threshold_gives_wanted_mean_reaction_time(wanted: float) -> None:
    logits = torch.randn(8, 200, 10, generator=torch.Generator().manual_seed(1))
    threshold = analysis.entropy_threshold(logits, wanted)
    found = analysis.reaction_times(logits, threshold).double().mean().item()
    others = [analysis.reaction_times(logits, t).double().mean().item() for t in np.linspace(0.01, 2.4, 200)]
    assert abs(found - wanted) <= min(abs(other - wanted) for other in others) + 1e-9


def test_first_difference_per_sample_and_minus_one_if_none() -> None:
    values = torch.zeros(5, 3, 2)
    values[2:, 0, 1] = 1.0
    values[4, 1] = 0.3
    baseline = torch.zeros_like(values)
    assert first_difference(values, baseline).tolist() == [2, 4, -1]
    assert first_difference(values, baseline, tolerance=0.5).tolist() == [2, -1, -1]


def test_probability_of_exactly_one_half_reaches_threshold() -> None:
    """Two equal logits have a probability of 1/2 and an entropy of ln 2, which is not below ln 2."""
    logits = torch.tensor([[[0.0, 1.0]], [[3.0, 3.0]], [[0.0, 5.0]]], dtype=torch.float64).flip(2)[[1, 0, 2]]
    assert analysis.answer_steps(logits, "threshold", 0.5).tolist() == [0]
    assert analysis.answer_steps(logits, "threshold", math.nextafter(0.5, 1.0)).tolist() == [1]
    ln_2 = float(analysis.entropy(logits)[0, 0])
    assert ln_2 == pytest.approx(math.log(2.0))
    assert analysis.reaction_times(logits, ln_2, cumulated=False).tolist() == [1]
    assert analysis.reaction_times(logits, math.nextafter(ln_2, 1.0), cumulated=False).tolist() == [0]


def test_hit_rate_of_one_half_is_not_correct_and_ties_go_to_first_class() -> None:
    targets = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    logits = torch.tensor([[[5.0, 1.0, 4.0, 0.0], [2.0, 2.0, 2.0, 2.0]], [[5.0, 4.0, 4.0, 0.0], [0.0, 1.0, 1.0, 1.0]]])
    assert analysis.hit_rate(logits, targets).tolist() == [[0.5, 0.0], [1.0, 0.5]]
    correct = analysis.correct_choices(logits, targets)
    assert correct.tolist() == [[False, False], [True, False]]
    assert analysis.accuracy_over_time(correct).tolist() == [0.0, 0.5]


def test_entropy_threshold_of_the_last_step_lies_below_every_entropy() -> None:
    logits = torch.randn(5, 40, 10, generator=torch.Generator().manual_seed(3))
    threshold = analysis.entropy_threshold(logits, mean_step=4.0)
    assert (analysis.reaction_times(logits, threshold) == 4).all() and threshold > 0.0
    assert (analysis.reaction_times(logits, analysis.entropy_threshold(logits, mean_step=0.0)) == 0).all()
