"""Heat maps, dissimilarities, receptive fields and phase planes show the values that they receive."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from support.examples import dense
from torch import nn

import pcsim
from pcsim import Euler, Network, Population, Projection, Record, plots, simulate
from pcsim.dynamics import stability
from pcsim.rules import leaky_rate
from pcsim.sweeps import Table


def _table(seeds: int = 1) -> Table:
    points = [
        {"tau": tau, "dt": dt, "seed": seed} for tau in (5.0, 10.0, 20.0) for dt in (0.5, 1.0) for seed in range(seeds)
    ]
    rows = [{"error": p["tau"] * p["dt"] + p["seed"] if p["tau"] * p["dt"] < 20 else math.nan} for p in points]
    return Table(points, rows)


def test_heatmap_places_values_by_parameters() -> None:
    ax = plots.heatmap(_table(), "tau", "dt", "error")
    shown = ax.images[0].get_array()
    assert np.allclose(shown[0], [2.5, 5.0, 10.0]) and np.allclose(shown[1, :2], [5.0, 10.0]) and shown.mask[1, 2]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["5", "10", "20"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.5", "1"]
    assert ax.get_xlabel() == "tau" and ax.get_ylabel() == "dt"
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written[(0, 0)] == "2.5" and written[(2, 1)] == "x"


@pytest.mark.parametrize("numbers", [".2f ", "d", ".2q"])
def test_heatmap_refuses_unknown_format(numbers: str) -> None:
    with pytest.raises(pcsim.StimulusError, match="numbers="):
        plots.heatmap(_table(), "tau", "dt", "error", numbers=numbers)


def test_heatmap_asks_how_repeats_are_combined() -> None:
    with pytest.raises(pcsim.StimulusError, match="repeats='mean'"):
        plots.heatmap(_table(3), "tau", "dt", "error")
    ax = plots.heatmap(_table(3), "tau", "dt", "error", repeats="max")
    assert np.isclose(ax.images[0].get_array()[0, 0], 4.5)
    assert ax.figure.axes[1].get_ylabel() == "error (max of 3)"
    curves = Table([{"a": 0, "b": 0}], [{"curve": np.zeros(3)}])
    with pytest.raises(pcsim.StimulusError, match="one number for each point"):
        plots.heatmap(curves, "a", "b", "curve")


def test_matrix_draws_square_and_condensed_matrices() -> None:
    vector = pdist(np.random.default_rng(0).normal(size=(6, 4)))
    ax = plots.matrix(vector, ["face"] * 2 + ["house"] * 4)
    assert np.allclose(ax.images[0].get_array(), squareform(vector))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["face", "house"]
    assert list(ax.get_xticks()) == [0.5, 3.5]
    ranked = plots.matrix(squareform(vector), ranked=True).images[0].get_array()
    assert np.allclose(ranked, squareform((rankdata(vector) - 1) / 14))
    for wrong in (vector[:5], np.arange(9.0).reshape(3, 3), np.zeros((2, 3))):
        with pytest.raises(pcsim.StimulusError):
            plots.matrix(wrong)
    with pytest.raises(pcsim.StimulusError, match="labels of shape"):
        plots.matrix(vector, ["face"])


def test_receptive_fields_keep_sign_and_place() -> None:
    weights = torch.tensor([[[2.0, -4.0]], [[0.5, 0.0]], [[-1.0, 1.0]]])
    ax = plots.receptive_fields(weights, columns=2)
    tiled = ax.images[0].get_array()
    assert tiled.shape == (5, 7)
    assert np.allclose(tiled[1, 1:3], [0.5, -1.0]) and np.allclose(tiled[1, 4:6], [1.0, 0.0])
    assert np.allclose(tiled[3, 1:3], [-1.0, 1.0]) and tiled.mask[3, 4]
    shared = plots.receptive_fields(weights.flatten(1), shape=(1, 2), columns=2, each=False).images[0]
    assert np.allclose(shared.get_array()[1, 1:3], [2.0, -4.0]) and shared.get_clim() == (-4.0, 4.0)
    colour = plots.receptive_fields(torch.tensor([[[[1.0]], [[-1.0]], [[0.0]]]])).images[0].get_array()
    assert np.allclose(colour[1, 1], [1.0, 0.0, 0.5])
    assert plots.receptive_fields(weights, most=2).get_title() == "2 of 3 units"
    with pytest.raises(pcsim.StimulusError, match="flatten"):
        plots.receptive_fields(torch.zeros(2, 5, 3, 3))


def _oscillator() -> Network:
    """Return tau dx/dt = -x + 2 y, tau dy/dt = -y - 2 x + u."""
    edges = [
        Projection("u", "y", nn.Identity()),
        Projection("y", "x", _weight(2.0)),
        Projection("x", "y", _weight(-2.0), name="back"),
    ]
    rate = {"tau": 10.0, "activation": "identity", "bias": False}
    return Network({"u": (1,)}, [Population("x", leaky_rate(1, **rate)), Population("y", leaky_rate(1, **rate))], edges)


def _weight(value: float) -> nn.Linear:
    linear = dense(1, 1)
    nn.init.constant_(linear.weight, value)
    return linear


def test_phase_plane_draws_nullclines_at_zero_rates() -> None:
    net, stimulus = _oscillator(), torch.tensor([[1.0]])
    run = simulate(net, stimulus, solver=Euler(1.0), until=50.0, record=Record(states=["x", "y"], initial=True))
    fixed = torch.tensor([[0.4, 0.2]])
    ax = plots.phase_plane(stability.Dynamics(net, stimulus), (-1.0, 1.0), (-1.0, 1.0), runs=run, points=[fixed])
    first, second = (c for c in ax.collections if type(c).__name__ == "QuadContourSet")
    x, y = np.concatenate([path.vertices for path in first.get_paths()]).T
    assert np.allclose(x, 2 * y, atol=1e-6), "dx/dt = 0 where x = 2 y"
    x, y = np.concatenate([path.vertices for path in second.get_paths()]).T
    assert np.allclose(y, 1 - 2 * x, atol=1e-6), "dy/dt = 0 where y = 1 - 2 x"
    trajectory = next(line for line in ax.lines if len(line.get_xdata()) == len(run.times))
    assert np.allclose(trajectory.get_xdata(), run["x"].flatten()) and np.allclose(
        trajectory.get_ydata(), run["y"].flatten()
    )
    assert [list(line.get_xdata()) for line in ax.lines][-1] == pytest.approx([0.4])
    assert ax.get_xlabel() == "x" and ax.get_ylabel() == "y"


def test_phase_plane_refuses_other_sizes_and_ranges() -> None:
    three = Network({"u": (3,)}, [Population("r", leaky_rate(3, 10.0))], [Projection("u", "r")])
    with pytest.raises(pcsim.StimulusError, match="3 variables"):
        plots.phase_plane(stability.Dynamics(three, torch.zeros(1, 3)), (0.0, 1.0), (0.0, 1.0))
    with pytest.raises(pcsim.StimulusError, match="increasing"):
        plots.phase_plane(stability.Dynamics(_oscillator(), torch.zeros(1, 1)), (1.0, 0.0), (0.0, 1.0))
    for wrong in (torch.zeros(1, 0), torch.zeros(2, 2)):
        with pytest.raises(pcsim.StimulusError, match="two values for each point"):
            plots.phase_plane(
                stability.Dynamics(_oscillator(), torch.zeros(1, 1)), (0.0, 1.0), (0.0, 1.0), points=[wrong]
            )
    assert not pyplot.get_fignums()
