"""Shipped weights: which there are, and what they can do. Their scores: tests/experiments/test_reproduce.py."""

from __future__ import annotations

import pytest
import torch

from pcsim import Iterate, WiringError, models, simulate, stimuli

SHIPPED = [(model, name) for model, names in models.weights.available().items() for name in names]


def test_weights_available_for_six_models_and_two_tasks() -> None:
    six = {"blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt"}
    for task in ("debris-light", "clutter-light"):
        assert {model for model, name in SHIPPED if name == task} == six


def test_weights_for_debris_classify_clean_digits() -> None:
    shown = stimuli.digit_debris(fragments=0, batch=50)
    answers = simulate(models.build("blt", weights="debris-light"), shown, solver=Iterate())["readout"][-1].argmax(-1)
    assert (answers == shown.labels).double().mean() > 0.95
    assert torch.is_grad_enabled()


def test_builder_given_weights_names_the_call_that_loads_them() -> None:
    with pytest.raises(WiringError, match=r"models\.build\('blt', weights='debris-light'\)"):
        models.blt(weights="debris-light")
