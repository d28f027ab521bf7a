"""Figures of experiments show the values that they receive."""

from __future__ import annotations

import numpy as np

from experiments import attractors, convergence, learned_time_constants, local_learning, pcn_cycles
from experiments.cell_search.page import choice_effects
from experiments.extrapolation.page import horizon
from experiments.object_solution_time import figures as solving
from experiments.occlusion import figures as occlusion
from experiments.time_constants import figures as time_constants
from pcsim.analysis import Estimate


def test_error_by_condition_places_intervals() -> None:
    estimates = {
        m: {c: Estimate(v, v - 0.1, v + 0.2) for c, v in (("clean", 0.2), ("heavy", 0.6))} for m in ("B", "BL")
    }
    ax = occlusion.error_by_condition(estimates, {"clean": 0.9, "heavy": 0.9})
    heights = [
        line.get_ydata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o"
    ]
    assert np.allclose(heights, 20.0)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["clean", "heavy"]


def test_occlusion_figures_draw_each_curve_and_panel() -> None:
    curves = {"clean": {"B": [0.5], "BL": [0.4, 0.6, 0.7]}, "heavy": {"B": [0.2], "BL": [0.1, 0.2, 0.3]}}
    figure = occlusion.accuracy_over_time(curves, {"clean": 0.9, "heavy": 0.9})
    assert [panel.get_title() for panel in figure.axes] == ["clean", "heavy"]
    figure = occlusion.state_change({"BL": {"clean": [0.5, 0.1], "heavy": [0.6, 0.3]}}, trained=1)
    assert len(figure.axes[0].get_lines()) == 3
    images, targets = np.zeros((3, 8, 8)), np.eye(10)[:3]
    figure = occlusion.guesses(images, {"B": np.full((1, 3, 10), 0.1), "BL": np.full((4, 3, 10), 0.1)}, targets)
    assert len(figure.axes) == 3 * 3 + 1
    figure = occlusion.lesions({"light": {"BLT": {"intact": 0.3, "neither": 0.8}}})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["intact", "neither"]
    ax = occlusion.training_curves({"B": [2.0, 1.0]}, every=20)
    assert ax.get_lines()[0].get_xdata().tolist() == [20, 40]


def test_accuracy_by_dt_marks_stability_limit() -> None:
    figure = time_constants.accuracy_by_dt({"net": {"Euler": ([0.5, 3.0], [0.9, np.nan])}}, {"net": {"Euler": 1.5}})
    accuracy, crosses, border, _ = figure.axes[0].get_lines()
    assert accuracy.get_ydata()[0] == 90.0 and crosses.get_xdata().tolist() == [3.0] and border.get_xdata()[0] == 1.5
    figure = time_constants.work_precision({"net": {"RK4": ([4, 8], [1e-3, 1e-4])}})
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [4, 8]


def test_settling_figure_marks_settling_time() -> None:
    row = {"times": [0.0, 10.0], "median": [4.0, 2.0], "quartiles": [[3.0, 1.0], [5.0, 3.0]]}
    curves = {"clean": {"error": {"e0": {**row, "settling": 5.0}, "e1": {**row, "settling": None}}}}
    figure = convergence.settling(curves)
    first, mark, second = figure.axes[0].get_lines()
    assert first.get_ydata().tolist() == second.get_ydata().tolist() == [4.0, 2.0]
    assert mark.get_xydata().tolist() == [[5.0, 3.0]]
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 5.0)
    figure = learned_time_constants.tau_histograms([20.0, 20.0], [5.0, 80.0], [6.0], {"learned": [1.0, 0.1]}, every=20)
    assert figure.axes[1].get_lines()[0].get_xdata().tolist() == [20, 40]


def test_curves_by_tau_and_by_ratio_show_values() -> None:
    times, fall = np.arange(1.0, 5.0), np.exp(-np.arange(4.0))
    curves = {"net": {"lower area": {5.0: (times, fall), 20.0: (times, 2 * fall)}, "upper area": {5.0: (times, fall)}}}
    figure = time_constants.curves_by_tau(curves, {"net": "error"})
    lower, upper, bar = figure.axes
    assert [line.get_ydata()[0] for line in lower.get_lines()] == [1.0, 2.0] and len(upper.get_lines()) == 1
    assert [text.get_text() for text in bar.get_yticklabels()] == ["5", "20"]
    ax = time_constants.by_ratio({"net": ([0.5, 2.0], [10.0, np.inf])}, 20.0, "ms")
    assert ax.get_lines()[0].get_xdata().tolist() == [0.5]


def test_choice_effects_show_differences() -> None:
    ax = choice_effects({"all": {"a": (0.1, 0.0, 0.3), "b": (-0.2, -0.3, -0.1)}}, "points", scale=100.0)
    (bars,) = ax.containers
    assert np.allclose(bars.lines[0].get_ydata(), [10, -20]) and len(ax.get_xticklabels()) == 2


def test_solution_times_and_similarities_show_values() -> None:
    found = {"A": {"intact": {"clean": [10.0, np.nan], "occluded": [20.0, 30.0]}}, "B": {"intact": {}}}
    means = {"A": {"intact": {"clean": (10.0, 9.0, 11.0), "occluded": (25.0, 20.0, 30.0)}}, "B": {"intact": {}}}
    first, second = solving.solution_times(found, means).axes
    words = [text.get_text() for text in first.texts]
    assert words == ["50 %", "100 %"] and "undefined" in second.texts[0].get_text()
    assert sorted(line.get_ydata()[0] for line in first.get_lines() if line.get_marker() == "D") == [10.0, 25.0]
    figure = solving.similarities(
        {"human": {"l1": {"untrained": 0.1, "trained": 0.2}}}, {"human": {"pixels": 0.15}}, {"human": (0.4, 0.6)}
    )
    assert [bar.get_height() for bar in figure.axes[0].patches[:2]] == [0.1, 0.2]


def test_cycle_learning_and_attractor_figures_show_values() -> None:
    figure = pcn_cycles.errors_over_cycles(
        {"a": {"e0": [1.0, 0.5], "e1": [2.0, 1.0]}, "b": {"e0": [1.0, 3.0]}}, trained=1
    )
    assert [panel.get_title() for panel in figure.axes] == ["a", "b"]
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_lines()[0].get_ydata().tolist() == [1.0, 3.0]
    ax = local_learning.learning_curves({"local": [[(0, 0.1), (10, 0.9)]]})
    assert np.allclose(ax.get_lines()[0].get_ydata(), [90.0, 10.0]) and ax.get_ylabel() == "error (%)"
    ax = local_learning.alignment_curves([([1.0, 0.1], [0.9, 0.99])])
    assert np.allclose(ax.get_lines()[0].get_ydata(), [0.1, 0.01])
    figure = attractors.completion([0.0, 0.5], {"binary": [[1.0, 0.5]]}, {"binary": [[0.0, 3.0]]})
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [100.0, 50.0]
    ax = attractors.capacity([0.1, 0.2], [[1.0, 0.4], [1.0, 0.6]])
    assert np.allclose(ax.get_lines()[0].get_ydata(), [1.0, 0.5])


def test_horizon_draws_dashed_baselines_and_seed_band() -> None:
    ax = horizon({"net": [[0.1, 0.2], [0.3, 0.4]], "linear": [[0.5, 0.6]]}, "mse", every_ms=100.0)
    net, linear = ax.get_lines()
    assert np.allclose(net.get_ydata(), [0.2, 0.3]) and net.get_linestyle() == "-" and len(ax.collections) == 1
    assert linear.get_linestyle() == "--" and ax.get_xlabel() == "frames ahead (of 100 ms)"
