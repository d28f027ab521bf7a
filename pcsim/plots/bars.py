"""Bars below a time axis that show stimuli and temporary lesions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D, ScaledTranslation, blended_transform_factory

from pcsim.simulation.run import Run

Bar = tuple[float, float, str, str]
"""begin, end, label and colour of a bar"""
LESION = "#d55e00"
BLANK = "0.85"
"""grey of bars for blank stimuli"""
_HEIGHT = 6.0
"""height of a row of bars below the axis, in points"""


def draw_bars(ax: Axes, named: Mapping[str, Run], in_steps: bool) -> None:
    """Draw the stimuli and lesions of runs as bars between the axis and its labels; identical rows are drawn once."""
    rows: list[list[Bar]] = []
    for name, run in named.items():
        scale = 1.0 / run.about["step_ms"] if in_steps else 1.0
        for row in (*_stimulus_bars(run, scale), _lesion_bars(run, scale, name)):
            if row and row not in rows:
                rows.append(row)
    if not rows:
        return
    left, right = ax.get_xlim()
    for number, row in enumerate(rows):
        for begin, end, label, colour in row:
            begin, end = (float(np.clip(time, left, right)) for time in (begin, end))
            if end > begin:
                _bar(ax, begin, end, label, colour, number)
    ax.set_xlim(left, right)
    ax.tick_params(axis="x", direction="in", pad=3.5 + (_HEIGHT + 1.0) * len(rows))


def _stimulus_bars(run: Run, scale: float) -> Iterator[list[Bar]]:
    """Yield a row of bars for each input whose stimulus changes or ends during the run, unless samples differ."""
    for epochs in run.about.get("stimulus", {}).values():
        if any("onsets" in epoch for epoch in epochs):
            continue  # epochs of different samples overlap
        if len(epochs) > 1 or (epochs and epochs[0]["to"] < run.final.clock.time):
            greys = tones(epochs)
            yield [(scale * e["from"], scale * e["to"], e["name"], greys[e["name"]]) for e in epochs]


def _lesion_bars(run: Run, scale: float, name: str) -> list[Bar]:
    """Return a row of bars for the temporary lesions of a run."""
    cuts = [cut for cut in run.about.get("lesions", ()) if cut["from"] is not None or cut["to"] is not None]
    ends = [run.final.clock.time if cut["to"] is None else cut["to"] for cut in cuts]
    label = f"lesion ({name})" if name else "lesion"
    return [(scale * (cut["from"] or 0.0), scale * end, label, LESION) for cut, end in zip(cuts, ends, strict=True)]


def tones(epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a shade of grey for each name: light for blanks, dark for stimuli."""
    names = list(dict.fromkeys(epoch["name"] for epoch in epochs))
    dark = iter(("0.35", "0.55", "0.45", "0.65"))
    blanks = {epoch["name"] for epoch in epochs if epoch.get("kind") == "blank"}
    return {name: BLANK if name in blanks else next(dark, "0.5") for name in names}


def _bar(ax: Axes, begin: float, end: float, name: str, colour: str, row: int) -> None:
    """Draw a bar with its height in points, so that it does not depend on the size of the axes."""
    figure = cast(Figure, ax.get_figure(root=True))
    corner = ScaledTranslation(0, 0, cast(Affine2D, ax.transAxes))
    points = Affine2D().scale(1 / 72) + figure.dpi_scale_trans + corner
    place = blended_transform_factory(ax.transData, points)
    bottom = -(row + 1) * (_HEIGHT + 1.0)
    bar = Rectangle((begin, bottom), end - begin, _HEIGHT, transform=place, color=colour, linewidth=0, clip_on=False)
    ax.add_artist(bar)
    width = ax.get_position().width * figure.get_figwidth() * 72 * (end - begin) / np.ptp(ax.get_xlim())
    if width > 3.2 * len(name):  # a letter of 5 points is about 3 points wide
        centre = (begin + end) / 2, bottom + _HEIGHT / 2
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 5, "transform": place}
        ax.text(*centre, name, color="0.2" if colour == BLANK else "white", **style)
