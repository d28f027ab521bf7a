"""Every plot draws where it is told, returns what its number of panels implies, and leaves no figure behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from support.examples import dense, leaky_net, linear_pc

import pcsim
from pcsim import Euler, Record, models, plots, simulate, stimuli
from pcsim.dynamics.stability import Dynamics
from pcsim.sweeps import Table


def _run() -> pcsim.Run:
    record = Record(states=["r"], errors="all", initial=True)
    return simulate(linear_pc(dense(4, 2)), torch.randn(6, 4), solver=Euler(1.0), until=5.0, record=record)


def _clip() -> torch.Tensor:
    return torch.rand(4, 1, 6, 6)


def _table() -> Table:
    return Table([{"a": a, "b": b} for a in (1, 2) for b in (1, 2)], [{"v": float(n)} for n in range(4)])


ERRORS = {"e0": np.random.default_rng(0).random((5, 3)) + 0.1}
CURVES = {"A": {"clean": ([0.0, 10.0], [0.1, 0.8])}}
CASES: Mapping[str, tuple[Callable[[], dict[str, Any]], type, dict[str, Any]]] = {
    "accuracy_by_cycles": (lambda: {"curves": {"T": [[0.2, 0.3]]}, "cycles": {"T": 2}}, Figure, {"linewidth": 3}),
    "activity": (lambda: {"runs": _run(), "keys": "r"}, Axes, {"linewidth": 3}),
    "compare": (lambda: {"runs": _run()}, Figure, {"linewidth": 3}),
    "decoding_over_time": (lambda: {"curves": CURVES, "chance": {"A": 0.1}}, Figure, {"linewidth": 3}),
    "error_convergence": (lambda: {"runs": _run()}, Axes, {"linewidth": 3}),
    "errors_over_frames": (lambda: {"errors": ERRORS}, Axes, {"linewidth": 3}),
    "forecast": (lambda: {"frames": (clip := _clip()), "predictions": {"net": clip}}, Figure, {"cmap": "viridis"}),
    "heatmap": (lambda: {"table": _table(), "x": "a", "y": "b", "value": "v"}, Axes, {"cmap": "magma"}),
    "matrix": (lambda: {"values": np.ones((3, 3)) - np.eye(3)}, Axes, {"cmap": "magma"}),
    "network": (lambda: {"net": models.blt(channels=(2, 2))}, Axes, {"linewidth": 3}),
    "phase_plane": (
        lambda: {"dynamics": Dynamics(leaky_net(2), torch.ones(1, 2)), "xlim": (-1.0, 1.0), "ylim": (-1.0, 1.0)},
        Axes,
        {"linewidth": 3},
    ),
    "receptive_fields": (lambda: {"weights": torch.randn(4, 3, 3)}, Axes, {"cmap": "magma"}),
    "search_progress": (
        lambda: {"scores": [0.1, 0.2, 0.3], "complete": [True, True, True], "random": 1},
        Axes,
        {"markersize": 3},
    ),
    "stimulus": (lambda: {"timeline": stimuli.held(torch.rand(1, 1, 4, 4))}, Axes, {"cmap": "magma"}),
    "surprise": (lambda: {"errors": {"standard": ERRORS, "surprise": ERRORS}, "at": 2}, Figure, {"linewidth": 3}),
    "tau_maps": (
        lambda: {"maps": {"correct": {"net": np.array([[0.1, 0.4]])}}, "low": [5.0], "high": [5.0, 10.0]},
        Figure,
        {"cmap": "magma"},
    ),
    "unit_map": (lambda: {"run": _run(), "key": "r"}, Axes, {"cmap": "magma"}),
}
OTHERS = {"animation", "axes", "explore", "export_page", "style"}
"""functions that draw no matplotlib figure of data"""


def test_every_plot_has_a_case() -> None:
    assert set(plots.__all__) - OTHERS == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_without_ax_a_plot_opens_one_pyplot_figure(name: str) -> None:
    arguments, kind, _ = CASES[name]
    drawn = getattr(plots, name)(**arguments())
    assert isinstance(drawn, kind)
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [figure]
    figure.canvas.draw()


@pytest.mark.parametrize("name", CASES)
def test_with_ax_a_plot_stays_in_its_place(name: str) -> None:
    arguments, kind, _ = CASES[name]
    figure, (left, right) = pyplot.subplots(1, 2, layout="constrained", figsize=(9, 4))
    drawn = getattr(plots, name)(**arguments(), ax=right)
    assert (drawn is right) if kind is Axes else (drawn is figure)
    assert pyplot.get_fignums() == [figure.number]
    assert not left.lines and not left.patches and not left.images
    assert left in figure.axes and (kind is Axes or right not in figure.axes)
    figure.canvas.draw()


@pytest.mark.parametrize("name", CASES)
def test_keywords_reach_the_main_artist(name: str) -> None:
    arguments, _, ((word, value),) = (*CASES[name][:2], CASES[name][2].items())
    drawn = getattr(plots, name)(**arguments(), **{word: value})
    axes = drawn.axes if isinstance(drawn, Figure) else [drawn]
    artists = [
        artist
        for ax in axes
        for artist in (*ax.lines, *ax.images, *ax.collections, *ax.patches, *(a.images[0] for a in ax.child_axes))
    ]
    found = [getattr(artist, f"get_{word}")() for artist in artists if hasattr(artist, f"get_{word}")]
    assert any(getattr(each, "name", np.max(each)) == value for each in found), found


def test_aliases_of_keywords_work() -> None:
    ax = plots.activity(_run(), "r", lw=4, c="k", samples="each")
    assert {(line.get_linewidth(), line.get_color()) for line in ax.lines} == {(4, "k")}


@pytest.mark.parametrize("name", CASES)
def test_misspelt_keywords_are_refused_with_a_suggestion(name: str) -> None:
    arguments, _, ((word, value),) = (*CASES[name][:2], CASES[name][2].items())
    with pytest.raises(pcsim.StimulusError, match=f"did you mean '{word}'"):
        getattr(plots, name)(**arguments(), **{f"{word}{word[-1]}": value})
    assert not pyplot.get_fignums()


def test_norm_replaces_limits() -> None:
    weights = torch.randn(4, 3, 3)
    shown = plots.receptive_fields(weights, norm=Normalize(-9.0, 9.0)).images[0]
    assert shown.get_clim() == (-9.0, 9.0)


def test_panels_need_axes_in_a_grid() -> None:
    figure = pyplot.figure()
    free = figure.add_axes((0.1, 0.1, 0.4, 0.4))
    with pytest.raises(pcsim.StimulusError, match="plt.subplots"):
        plots.compare(_run(), ax=free)
    assert free in figure.axes, "a refused plot must not remove the axes"


def test_paper_style_keeps_text_as_text(tmp_path: Path) -> None:
    before = dict(rcParams)
    with plots.style("paper", columns=2):
        ax = plots.activity(_run(), "r")
        assert np.isclose(ax.figure.get_figwidth() * 25.4, 183.0)
        assert ax.xaxis.label.get_fontsize() == 7
        ax.figure.savefig(tmp_path / "figure.svg")
        ax.figure.savefig(tmp_path / "figure.pdf")
    assert ">time (ms)</text>" in (tmp_path / "figure.svg").read_text()
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Subtype /Type0" in content or b"/Type42" in content or b"/FontFile2" in content
    assert b"/Subtype /Type3" not in content, "type 3 fonts cannot be edited"
    assert dict(rcParams) == before
    with pytest.raises(pcsim.StimulusError, match="columns=1"), plots.style("paper", columns=3):
        pass


def test_palette_is_distinct_for_red_green_colour_blindness() -> None:
    """Neighbouring colours differ after projection onto the two channels that remain in deuteranopia (Vienot 1999)."""
    shown = [tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)) for colour in plots.canvas.PALETTE]
    linear = np.power(shown, 2.2)
    cones = (
        linear @ np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]).T
    )
    seen = np.stack([cones[:, 0], cones[:, 2]], 1)  # medium cones are missing
    for first in range(6):
        for second in range(first):
            assert np.linalg.norm(np.log(seen[first] + 0.5) - np.log(seen[second] + 0.5)) > 0.1, (first, second)
