"""Curves of runs show the values, intervals, units, stimuli and lesions of the runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy import stats
from support.examples import dense, leaky_net, linear_pc
from support.small import SMALL

import pcsim
from pcsim import Euler, Iterate, Record, Run, models, plots, simulate


def _flow(batch: int = 7, **about: object) -> Run:
    net = leaky_net(4)
    record = Record(states=["r"], reduce={"r": ["norm", "mean"]}, initial=True)
    run = simulate(net, torch.randn(batch, 4), solver=Euler(dt=1.0), until=20.0, record=record)
    return replace(run, about=run.about | about)


def _errors(batch: int = 6, **options: object) -> Run:
    record = Record(errors="all", relative=True, initial=True)
    return simulate(linear_pc(dense(6, 3)), torch.randn(batch, 6), solver=Euler(dt=1.0), until=20.0, record=record)


def _band(ax: Axes, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of a band at each time."""
    corners = ax.collections[index].get_paths()[0].vertices
    times = np.unique(corners[:, 0])
    ends = [corners[corners[:, 0] == time, 1] for time in times]
    return np.array([end.min() for end in ends]), np.array([end.max() for end in ends])


def test_activity_is_median_and_quartiles_of_root_mean_square() -> None:
    run = _flow()
    ax = plots.activity(run, "r")
    low, middle, high = np.quantile(run["r"].square().mean(2).sqrt().double().numpy(), [0.25, 0.5, 0.75], axis=1)
    assert np.allclose(ax.lines[0].get_ydata(), middle, atol=1e-6)
    assert np.allclose(_band(ax), (low, high), atol=1e-6)
    assert ax.get_xlabel() == "time (ms)" and ax.get_ylabel() == "activity\n(root mean square over units)"
    assert ax.get_legend().get_title().get_text() == "median, quartiles, n = 7"


@pytest.mark.parametrize("how", ["sd", "sem", "ci95"])
def test_bands_around_the_mean(how: str) -> None:
    run = _flow()
    ax = plots.activity(run, "r.norm", samples=how)
    values = run["r.norm"].double().numpy()
    half = {
        "sd": values.std(1, ddof=1),
        "sem": stats.sem(values, axis=1),
        "ci95": np.array([stats.ttest_1samp(row, 0).confidence_interval(0.95).high - row.mean() for row in values]),
    }[how]
    assert np.allclose(ax.lines[0].get_ydata(), values.mean(1))
    assert np.allclose(_band(ax), (values.mean(1) - half, values.mean(1) + half), equal_nan=True)


def test_few_samples_are_drawn_each() -> None:
    run = _flow(3)
    ax = plots.activity(run, "r.norm")
    drawn = np.stack([line.get_ydata() for line in ax.lines], 1)
    assert np.allclose(drawn, run["r.norm"]) and not ax.collections
    assert len({line.get_color() for line in ax.lines}) == 1
    assert ax.get_legend().get_title().get_text() == "each sample, n = 3"


def test_samples_with_different_onsets_are_drawn_each() -> None:
    stimulus = {"u": [{"from": 0.0, "to": 20.0, "name": "image", "kind": "held", "onset": [0.0, 5.0, 0, 0, 0, 0, 0]}]}
    assert len(plots.activity(_flow(stimulus=stimulus), "r.norm").lines) == 7
    assert len(plots.activity(_flow(), "r.norm").lines) == 1


def test_groups_are_summarised_separately() -> None:
    run, kinds = _flow(), ["a", "b", "a", "a", "b", "b", "b"]
    ax = plots.activity(run, "r.norm", groups=kinds, samples="quartiles")
    for line, chosen in zip(ax.lines, ([0, 2, 3], [1, 4, 5, 6]), strict=True):
        assert np.allclose(line.get_ydata(), np.median(run["r.norm"][:, chosen], axis=1))
    assert [line.get_label() for line in ax.lines] == ["r.norm, a (n = 3)", "r.norm, b (n = 4)"]
    ax = plots.activity(run, "r.norm", groups=["a", *"bbbbbb"], samples="quartiles")
    assert len(ax.lines) == 2 and len(ax.collections) == 1, "a small group must not change how others are drawn"
    assert np.allclose(ax.lines[1].get_ydata(), np.median(run["r.norm"][:, 1:], axis=1))
    with pytest.raises(pcsim.StimulusError, match="groups of shape"):
        plots.activity(run, "r.norm", groups=kinds[:3])


def test_activity_refuses_several_quantities_and_compare_draws_them() -> None:
    run = _flow()
    with pytest.raises(pcsim.StimulusError, match="plots.compare"):
        plots.activity(run)
    assert not pyplot.get_fignums(), "a refused plot must not leave a figure"
    figure = plots.compare({"intact": run, "other": _flow()})
    assert [ax.get_title() for ax in figure.axes] == ["r", "r.norm", "r.mean"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["activity\n(root mean square over units)", "norm", "mean"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["intact", "other"]
    assert not any(ax.get_legend() for ax in figure.axes)


def test_discrete_networks_are_drawn_over_steps() -> None:
    net = models.blt(channels=(2, 2))
    record = Record(states=["readout"], initial=False)
    run = simulate(net, torch.rand(5, 1, 32, 32), solver=Iterate(), record=record)
    ax = plots.activity(run, "readout")
    assert ax.get_xlabel() == "step" and ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    ax = plots.activity(run, "readout", unit="ms")
    assert ax.get_xlabel() == "time (ms)" and ax.lines[0].get_xdata().tolist() == [10, 20, 30, 40]
    with pytest.raises(pcsim.StimulusError, match="unit='ms'"):
        plots.activity(_flow(), "r", unit="step")


def test_diverged_samples_are_left_out_of_summaries() -> None:
    run = _flow()
    values = run["r.norm"].clone()
    values[5:, 0] = torch.nan
    run.values["r.norm"] = values
    ax = plots.activity(run, "r.norm", samples="sem")
    rest = run["r.norm"][10, 1:].double().numpy()
    assert np.isclose(ax.lines[0].get_ydata()[10], rest.mean())
    assert np.isclose(_band(ax)[1][10] - rest.mean(), stats.sem(rest))


def test_error_convergence_absolute_and_relative() -> None:
    run = _errors()
    values = run.errors["e"].double().numpy()
    (line,) = plots.error_convergence(run).get_lines()
    assert np.allclose(line.get_ydata(), np.median(values, axis=1))
    ax = plots.error_convergence(run, relative_to="start", samples="each")
    assert np.allclose(np.stack([line.get_ydata() for line in ax.lines], 1), values / values[0])
    assert ax.get_ylabel() == "prediction error / error at 0 ms" and ax.get_yscale() == "log"
    ax = plots.error_convergence(run, relative_to="activity")
    assert np.allclose(ax.lines[0].get_ydata(), np.median(run.relative_errors["e"], axis=1))
    late = simulate(
        linear_pc(dense(6, 3)), torch.randn(5, 6), solver=Euler(1.0), until=5.0, record=Record(errors="all")
    )
    assert plots.error_convergence(late, relative_to="start").get_ylabel() == "prediction error / error at 1 ms"
    pcn = models.build("pcn_global", **SMALL["pcn_global"])
    discrete = simulate(pcn, torch.rand(5, *pcn.inputs["image"]), solver=Iterate(), record=Record(errors="all"))
    ax = plots.error_convergence(discrete, "e0", relative_to="start")
    assert ax.get_ylabel() == "prediction error / error at step 1" and ax.lines[0].get_ydata()[0] == 1.0
    with pytest.raises(pcsim.StimulusError, match="Record\\(errors='all'\\)"):
        plots.error_convergence(_flow())
    with pytest.raises(pcsim.StimulusError, match="errors of x"):
        plots.error_convergence(run, "x")


def test_error_of_zero_is_drawn_on_a_linear_axis() -> None:
    run = _errors()
    run.values["e.mean_square"] = torch.zeros_like(run.values["e.mean_square"])
    assert plots.error_convergence(run).get_yscale() == "linear"


def test_bars_show_stimulus_and_lesions_in_units_of_the_axis() -> None:
    stimulus = {
        "u": [
            {"from": 0.0, "to": 5.0, "name": "blank", "kind": "blank"},
            {"from": 5.0, "to": 20.0, "name": "image", "kind": "held"},
        ]
    }
    lesions = [{"edges": ["r->r"], "from": 10.0, "to": 15.0}, {"edges": ["u->r"], "from": None, "to": None}]
    run = _flow(stimulus=stimulus, lesions=lesions)
    ax = plots.activity(run, "r.norm")
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 5), (5, 15), (10, 5)]
    assert not plots.activity(run, "r.norm", bars=False).patches
    both = plots.activity({"intact": replace(run, about=run.about | {"lesions": []}), "cut": run}, "r.norm")
    assert [(bar.get_x(), bar.get_width()) for bar in both.patches] == [(0, 5), (5, 15), (10, 5)]
    assert [text.get_text() for text in both.texts] == ["blank", "image", "lesion (cut)"]
    discrete = replace(run, about=run.about | {"step_ms": 5.0})
    bars = plots.activity(discrete, "r.norm").patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 1), (1, 3), (2, 1)]


def test_align_shifts_each_sample_to_its_onset() -> None:
    stimulus = {
        "u": [
            {
                "from": 0.0,
                "to": 6.0,
                "name": "blank",
                "kind": "blank",
                "onsets": [0.0] * 7,
                "offsets": [4.0, 6.0] + [5.0] * 5,
            },
            {"from": 4.0, "to": 20.0, "name": "image", "kind": "held", "onsets": [4.0, 6.0] + [5.0] * 5},
        ]
    }
    run = _flow(stimulus=stimulus)
    ax = plots.activity(run, "r.norm", align="image", samples="each")
    values = run["r.norm"].double().numpy()
    for sample, onset in enumerate([4, 6, 5, 5, 5, 5, 5]):
        times, drawn = ax.lines[sample].get_xdata(), ax.lines[sample].get_ydata()
        kept = np.isfinite(drawn)
        assert np.allclose(times[kept], run.times - onset) and np.allclose(drawn[kept], values[:, sample])
    assert ax.get_xlabel() == "time after onset of image (ms)" and not ax.patches
    assert not plots.activity(run, "r.norm").patches, "bars of samples with different onsets would overlap"
    middle = plots.activity(run, "r.norm", align="image", samples="sem").lines[0]
    at_onset = [values[onset, sample] for sample, onset in enumerate([4, 6, 5, 5, 5, 5, 5])]
    assert np.isclose(middle.get_ydata()[list(middle.get_xdata()).index(0.0)], np.mean(at_onset))
    with pytest.raises(pcsim.StimulusError, match="an epoch of the stimulus: blank, image"):
        plots.activity(run, "r.norm", align="mask")
    rare = replace(run, times_of={"r.norm": run.times_of["r.norm"][::5]}, values={"r.norm": run["r.norm"][::5]})
    with pytest.raises(pcsim.StimulusError, match="every=1"):
        plots.activity(rare, "r.norm", align="image")


def test_single_unit_keeps_its_sign() -> None:
    run = _flow()
    run.values["r"] = -run["r"][..., :1].abs()
    ax = plots.activity(run, "r", samples="each")
    assert np.allclose(np.stack([line.get_ydata() for line in ax.lines], 1), run["r"][..., 0])
    assert ax.get_ylabel() == "activity"


def test_unit_map_shows_each_unit_at_its_time() -> None:
    run = _flow()
    ax = plots.unit_map(run, "r", sample=2)
    (mesh,) = ax.collections
    assert np.allclose(mesh.get_array(), run["r"][:, 2].T)
    edges = mesh.get_coordinates()[0, :, 0]
    assert np.allclose(edges[1:], run.times), "a row holds the values at the end of its interval"
    with pytest.raises(pcsim.StimulusError, match="states="):
        plots.unit_map(run, "r.norm")
    with pytest.raises(pcsim.StimulusError, match="sample=7"):
        plots.unit_map(run, "r", sample=7)
