"""Plots show the values that they receive."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcsim
from pcsim import plots


def test_tau_maps_show_values() -> None:
    maps = {"settling (ms)": {"net": np.array([[7.0, np.inf]])}, "correct": {"net": np.array([[0.25, 1.0]])}}
    figure = plots.tau_maps(maps, [5.0], [5.0, 20.0], "later")
    assert [text.get_text() for text in figure.axes[0].texts] == ["7", "later"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["25", "100"]


def test_search_progress_draws_mean_and_best() -> None:
    scores = [0.2, np.nan, 0.5, 0.3, 0.9, 0.4]
    complete = [True, False, True, True, False, True]
    ax = plots.search_progress(scores, complete, random=2, window=2, label="correct (%)", scale=100.0)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["trial"].get_xdata().tolist() == [0, 2, 3, 5], "x must be the trial number"
    assert lines["pruned"].get_ydata().tolist() == [90.0]
    assert np.allclose(lines["mean of the last 2"].get_ydata(), [20, 20, 50, 40, 60, 65])
    assert np.allclose(lines["best so far"].get_ydata(), [20, 20, 50, 50, 50, 50]), "a pruned trial must not be best"
    assert ax.get_ylabel() == "correct (%)"
    ax = plots.search_progress([-3.0, -1.0], [True, True], random=1)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert ax.get_ylabel() == "score" and "pruned" not in lines
    assert lines["mean of the last 2"].get_ydata().tolist() == [-3, -2]


def test_decoding_over_time_shows_values_and_one_legend() -> None:
    curves = {name: {"clean": ([0, 10], [0.1, 0.8]), "occluded": ([0, 10], [0.1, 0.5])} for name in ("A", "B")}
    figure = plots.decoding_over_time(curves, {"A": 0.1, "B": 0.1})
    assert np.allclose(figure.axes[1].get_lines()[1].get_ydata(), [10, 50])
    assert figure.axes[0].get_legend() and not figure.axes[1].get_legend(), "panels must share one legend"


def test_explore_shows_curves_of_slider_value() -> None:
    pytest.importorskip("plotly")
    times = [1.0, 2.0]
    curves = {
        low: {high: {"error": (times, [low, high]), "correct": (times, [0.0, 1.0])} for high in (5.0, 20.0)}
        for low in (10.0, 40.0, 80.0)
    }
    figure = plots.explore(curves, "tau of V1", "tau of V2")
    assert len(figure.data) == 3 * 2 * 2 and [list(line.y) for line in figure.data[4:7:2]] == [
        [40.0, 5.0],
        [40.0, 20.0],
    ]
    assert [line.visible for line in figure.data] == [True] * 4 + [False] * 8
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log" and figure.layout.yaxis2.type is None
    assert 10.0 ** figure.layout.yaxis.range[0] < 5.0 and 10.0 ** figure.layout.yaxis.range[1] > 80.0
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["10", "40", "80"]
    assert list(steps[1].args[0]["visible"]) == [False] * 4 + [True] * 4 + [False] * 4
    assert "tau of V1 40<br>tau of V2 20" in figure.data[6].hovertemplate
    with pytest.raises(pcsim.PcsimError, match="average over samples"):
        plots.explore({5.0: {5.0: {"error": (times, np.zeros((2, 3)))}}}, "low", "high")


def test_forecast_draws_frames_and_marks_closed_loop() -> None:
    clip = torch.rand(5, 1, 8, 8)
    picture = plots.forecast(clip, {"net": clip + 0.25}, closed_loop_from=3, rate=10.0)
    rows = np.array(picture.axes).reshape(3, 5)
    assert [ax.get_title() for ax in rows[0]] == ["0", "100", "200", "300", "400"]
    assert [ax.get_ylabel() for ax in rows[:, 0]] == ["frame", "net", "error"]
    assert [[ax.spines["top"].get_visible() for ax in row] for row in rows] == [
        [False] * 5,
        *[[False] * 3 + [True] * 2] * 2,
    ]
    assert np.allclose(rows[2, 1].images[0].get_array(), 0.25)
    bytes_ = (255 * clip).byte()
    assert np.allclose(plots.forecast(bytes_, {}).axes[0].images[0].get_array(), bytes_[0, 0] / 255)
    for wrong in ({"closed_loop_from": 5}, {"closed_loop_from": 0}, {"predictions": {"net": clip[:4]}}):
        for draw in (plots.forecast, plots.animation):
            with pytest.raises(pcsim.StimulusError, match="closed_loop_from"):
                draw(**{"frames": clip, "predictions": {"net": clip}} | wrong)
    assert len(plots.animation(clip, {"net": clip}, closed_loop_from=3)) == 5


def test_accuracy_by_cycles_shows_values() -> None:
    figure = plots.accuracy_by_cycles({"T=0": [[0.5], [0.7]], "T=2": [[0.2, 0.8, 0.3]] * 2}, {"T=0": 0, "T=2": 2})
    left, right = figure.axes
    assert [line.get_ydata().tolist() for line in left.get_lines()] == [[50.0, 70.0], [80.0, 80.0]]
    assert right.get_lines()[-1].get_xdata().tolist() == [2]
