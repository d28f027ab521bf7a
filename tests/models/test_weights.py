"""Shipped weights: complete, small, and consistent with the stored error."""

from __future__ import annotations

import pytest
import torch

from pcsim import Iterate, models, simulate, stimuli
from pcsim.analysis import correct_choices
from pcsim.training import evaluate

SHIPPED = [(model, name) for model, names in models.weights.available().items() for name in names]


def test_weights_available_for_six_models_and_two_tasks() -> None:
    six = {"blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt"}
    for task in ("debris-light", "clutter-light"):
        assert {model for model, name in SHIPPED if name == task} == six


@pytest.mark.parametrize(("model", "name"), SHIPPED)
def test_weights_error_matches_stored_facts(model: str, name: str) -> None:
    path = models.weights.FOLDER / f"{model}.{name}.safetensors"
    assert len(path.read_bytes()) < 200_000
    facts = models.weights.about(model, name)
    net = models.build(model, weights=name)
    shown = stimuli.scenes(name, seed=2_000_000, first=0, count=250)  # unlike any training or test image
    error = 1 - correct_choices(evaluate(net, shown.pixels()), shown.targets())[-1].double().mean().item()
    spread = (facts["error"][name] * (1 - facts["error"][name]) / 250) ** 0.5
    assert error == pytest.approx(facts["error"][name], abs=4 * spread + 0.01)
    assert facts["trained_with"]["task"] == name


def test_weights_for_debris_classify_clean_digits() -> None:
    shown = stimuli.digit_debris(fragments=0, batch=50)
    answers = simulate(models.build("blt", weights="debris-light"), shown, solver=Iterate())["readout"][-1].argmax(-1)
    assert (answers == shown.labels).double().mean() > 0.95
    assert torch.is_grad_enabled()
