"""Pictures show the numbers they were given."""

from __future__ import annotations

import numpy as np
import torch
from examples import dense, linear_pc

import pcsim
from pcsim import Euler, Record, plots, simulate
from pcsim.analysis import Estimate


def test_the_network_is_drawn_with_its_kinds_told_apart() -> None:
    ax = plots.network(pcsim.models.blt().without("top_down"))
    words = {text.get_text() for text in ax.texts}
    assert "l1\n32x32x32" in words and "readout\n10" in words
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["bottom-up", "lateral", "top-down", "lesioned"]
    arrows = [patch for patch in ax.patches if isinstance(patch, plots.FancyArrowPatch)]
    assert len(arrows) == 6
    assert sum(arrow.get_linestyle() == ":" for arrow in arrows) == 1


def test_every_population_of_a_predictive_net_is_drawn_once_at_its_own_place() -> None:
    ax = plots.network(linear_pc(dense(6, 3)))
    places = [(round(t.get_position()[0], 3), round(t.get_position()[1], 3)) for t in ax.texts if "\n" in t.get_text()]
    assert len(places) == len(set(places)) == 4


def test_error_convergence_draws_the_median() -> None:
    run = simulate(
        linear_pc(dense(6, 3)), torch.randn(5, 6), solver=Euler(dt=1.0), until=20.0, record=Record(errors="all")
    )
    ax = plots.error_convergence(run)
    (line,) = ax.get_lines()
    assert np.allclose(line.get_ydata(), np.median(run.errors["e"].numpy(), axis=1))
    assert ax.get_xlabel() == "time (ms)"


def test_error_by_condition_places_intervals() -> None:
    estimates = {
        m: {c: Estimate(v, v - 0.1, v + 0.2) for c, v in (("clean", 0.2), ("heavy", 0.6))} for m in ("B", "BL")
    }
    ax = plots.error_by_condition(estimates, {"clean": 0.9, "heavy": 0.9})
    heights = [
        line.get_ydata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o"
    ]
    assert np.allclose(heights, 20.0)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["clean", "heavy"]


def test_curves_panels_and_guesses_have_one_of_each() -> None:
    curves = {"clean": {"B": [0.5], "BL": [0.4, 0.6, 0.7]}, "heavy": {"B": [0.2], "BL": [0.1, 0.2, 0.3]}}
    figure = plots.accuracy_over_time(curves, {"clean": 0.9, "heavy": 0.9})
    assert [panel.get_title() for panel in figure.axes] == ["clean", "heavy"]
    figure = plots.state_change({"BL": {"clean": [0.5, 0.1], "heavy": [0.6, 0.3]}}, trained=1)
    assert len(figure.axes[0].get_lines()) == 3
    images, targets = np.zeros((3, 8, 8)), np.eye(10)[:3]
    figure = plots.guesses(images, {"B": np.full((1, 3, 10), 0.1), "BL": np.full((4, 3, 10), 0.1)}, targets)
    assert len(figure.axes) == 3 * 3 + 1
    figure = plots.lesions({"light": {"BLT": {"intact": 0.3, "neither": 0.8}}})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["intact", "neither"]
    ax = plots.training_curves({"B": [2.0, 1.0]}, every=20)
    assert ax.get_lines()[0].get_xdata().tolist() == [20, 40]
