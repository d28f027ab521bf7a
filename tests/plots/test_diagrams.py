"""Wiring diagrams show every population and edge, with kinds, delays and lesions, and no edge behind a box."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch
from support.examples import dense, linear_pc
from support.small import small
from torch import nn

import pcsim
from pcsim import Network, Population, Projection, models, plots
from pcsim.plots.routes import HIGH, WIDE, laid_out
from pcsim.rules import LearnableTau, Rate, leaky_rate


@pytest.mark.parametrize("name", models.available())
def test_no_edge_crosses_a_population(name: str) -> None:
    net = small(name)
    layout = laid_out(net, net.projections)
    assert len(set(layout.places.values())) == len(net.inputs) + len(net.populations)
    for edge in net.projections:
        route = layout.routes[edge.name]
        for box, (x, y) in layout.places.items():
            points = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(route)])
            inside = (abs(points[:, 0] - x) < WIDE - 1e-9) & (abs(points[:, 1] - y) < HIGH - 1e-9)
            assert not inside.any(), f"{edge.name} crosses {box}"
        for end, place in ((route[0], edge.source), (route[-1], edge.target)):
            away = abs(end - np.array(layout.places[place])) - [WIDE, HIGH]
            assert np.isclose(away.max(), 0.0), f"{edge.name} must end at the border of {place}"


def test_parallel_edges_keep_apart() -> None:
    net = models.blt(channels=(2, 2))
    layout = laid_out(net, net.projections)
    up, down = layout.routes["l1->l2"], layout.routes["l2->l1"]
    assert abs(up[0, 0] - down[-1, 0]) > 0.2 and abs(up[-1, 0] - down[0, 0]) > 0.2
    assert np.sign(up[0, 0] - down[-1, 0]) == np.sign(up[-1, 0] - down[0, 0]), "they must not cross"


def test_network_distinguishes_kinds_without_colour() -> None:
    styles = [(str(line), head) for _, line, head, _ in plots.diagrams.STYLES.values()]
    assert len(set(styles)) == len(styles)
    ax = plots.network(models.blt(channels=(2, 2)))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["bottom-up", "lateral", "top-down"]
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == len(models.blt(channels=(2, 2)).projections)
    assert {"l1\n2x32x32", "readout\n10"} <= {text.get_text() for text in ax.texts}
    assert "l1" in {text.get_text() for text in plots.network(models.blt(channels=(2, 2)), shapes=False).texts}


def test_network_labels_delays_in_ms_of_a_flow_and_in_steps_of_a_map() -> None:
    def chain(**delay: object) -> list[str]:
        is_flow = "delay_ms" in delay
        rule = leaky_rate(2, 10.0) if is_flow else Rate(2)
        net = Network(
            {"u": (2,)},
            [Population("a", rule), Population("b", leaky_rate(2, 10.0) if is_flow else Rate(2))],
            [Projection("u", "a"), Projection("a", "b", dense(2, 2), **delay)],
        )
        return [text.get_text() for text in plots.network(net).texts if "\n" not in text.get_text()]

    assert chain(delay_ms=12.0) == ["12 ms"]
    assert chain(delay_ms=LearnableTau(1, minimum=2.0, span=10.0)) == ["7 ms"]
    assert chain(delay=3) == ["3"]
    assert chain(delay=0) == []


def test_network_marks_lesions_with_their_window() -> None:
    ax = plots.network(models.blt(channels=(2, 2)).without("top_down", during=(2, 4)))
    assert "1\ncut 2-4" in {text.get_text() for text in ax.texts}
    assert ax.get_legend().get_texts()[-1].get_text() == "lesioned"
    assert sum(line.get_marker() == "x" for line in ax.lines) == 1


def test_network_fits_a_small_panel_and_twelve_areas() -> None:
    names = [f"v{n}" for n in range(1, 13)]
    edges = [Projection("u", "v1")]
    edges += [Projection(low, high, nn.Identity()) for low, high in pairwise(names)]
    edges += [
        Projection(high, low, nn.Identity(), kind="top_down", delay=1, name=f"{high}->{low}")
        for at, low in enumerate(names)
        for high in names[at + 1 : at + 5]
    ]
    deep = Network({"u": (3,)}, [Population(name, Rate(3)) for name in names], edges)
    layout = laid_out(deep, deep.projections)
    lanes = [(route[1, 0], *sorted(route[1:3, 1])) for route in layout.routes.values() if len(route) == 4]
    for number, (x, low, high) in enumerate(lanes):
        shared = [other for other in lanes[:number] if abs(other[0] - x) < 0.1 and other[1] < high and other[2] > low]
        assert not shared, "long edges must not lie on each other"
    for ax in (plots.network(deep), plots.network(deep, legend=False, ax=pyplot.subplots(figsize=(2, 3))[1])):
        ax.figure.canvas.draw()
        renderer = ax.figure.canvas.get_renderer()
        for name in names:
            text = next(text for text in ax.texts if text.get_text().startswith(f"{name}\n"))
            box = ax.transData.transform([(0, 0), (2 * WIDE, 2 * HIGH)])
            assert text.get_window_extent(renderer).width <= 1.1 * (box[1] - box[0])[0]


def test_network_draws_what_sets_the_initial_state() -> None:
    ax = plots.network(models.pcn_global((4, 4, 4), (), image=(1, 4, 4)))
    place = {text.get_text().split("\n")[0]: text.get_position() for text in ax.texts if "\n" in text.get_text()}
    assert place["r1"][1] == place["e1"][1] == place["p1"][1] < place["r2"][1] < place["readout"][1]
    assert place["r1"][0] == place["r2"][0] == place["r3"][0] and place["image"][1] < place["e0"][1]
    assert len(plots.network(linear_pc(dense(6, 3))).texts) >= 4


def test_network_widths_set_the_line_width_of_their_edges_only() -> None:
    net = models.blt(channels=(2, 2))
    edges = [edge.name for edge in net.projections]
    first, second = (plots.network(net, widths=each) for each in ({}, {"l1->l2": 5.0, "l2->l1": 0.0}))
    plain, changed = (
        [patch.get_linewidth() for patch in ax.patches if isinstance(patch, FancyArrowPatch)] for ax in (first, second)
    )
    for name, before, after in zip(edges, plain, changed, strict=True):
        assert after == {"l1->l2": 5.0, "l2->l1": 0.2}.get(name, before)
    with pytest.raises(pcsim.StimulusError, match="l1->l9"):
        plots.network(net, widths={"l1->l9": 1.0})


def test_edge_keywords_reach_the_arrows() -> None:
    ax = plots.network(models.blt(channels=(2, 2)), linewidth=4.0)
    assert {patch.get_linewidth() for patch in ax.patches if isinstance(patch, FancyArrowPatch)} == {4.0}
    with pytest.raises(pcsim.StimulusError):
        plots.network(torch.nn.Linear(2, 2))
