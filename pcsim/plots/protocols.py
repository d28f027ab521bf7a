"""Drawings of timelines that show what is presented when."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import NDArray

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.bars import tones
from pcsim.plots.canvas import as_numbers, drawing, merged, require
from pcsim.stimuli.timeline import Timeline

_BAR, _PICTURES = 0.14, 0.42
"""top of the bars and bottom of the pictures, as fractions of the height of the axes"""


@checked(StimulusError)
def stimulus(
    timeline: Timeline,
    until: Positive | None = None,
    *,
    sample: int = 0,
    most: Count = 8,
    ax: Axes | None = None,
    **image: Any,
) -> Axes:
    """Draw a timeline: a bar for each epoch, and pictures of one sample above their times.

    until   end of the time axis in ms; by default the end of the timeline. A final epoch without an end is then drawn
            with the mean length of the others, or with 100 ms if it is the only epoch
    sample  index in the batch; if onsets or durations differ between samples, the bars show those of this sample
    most    maximum number of pictures: the first of each epoch, and then further frames at even intervals
    image   passed to the `ax.imshow` of the pictures

    All pictures share one grey scale. Frames without height and width are drawn as a row of units.
    """
    count = len(timeline.at(0.0))
    require(
        -count <= sample < count,
        f"sample={sample} of a timeline with {count} samples",
        f"an index below {count}",
        "pass sample=0",
    )
    end = until or _end(timeline)
    spans = _spans(timeline, end, sample % count)
    times = _times(spans, most)
    pictures = [as_numbers(timeline.at(time)[sample]).astype(float) for time in times]
    low = min(0.0, *(float(np.nanmin(each)) for each in pictures))
    high = max(1.0, *(float(np.nanmax(each)) for each in pictures))
    limits = {"vmin": low, "vmax": high}
    style = merged("imshow", {"cmap": "gray", "interpolation": "nearest", **limits}, image)
    with drawing(ax, max(4.0, 1.1 * len(times)), 1.9) as ax:
        ax.set(xlim=(0.0, end), ylim=(0.0, 1.0), xlabel="time (ms)", yticks=[])
        ax.spines[["top", "right", "left"]].set_visible(False)
        greys = tones([facts for _, _, facts in spans])
        for begin, stop, facts in spans:
            bar = Rectangle((begin, 0.0), stop - begin, _BAR, color=greys[facts["name"]], ec="white", linewidth=1)
            ax.add_patch(bar)
            ax.text((begin + stop) / 2, _BAR + 0.03, facts["name"], ha="center", va="bottom", fontsize="small")
        for slot, (time, picture) in enumerate(zip(times, pictures, strict=True)):
            width = 1.0 / len(times)
            place = ax.inset_axes(((slot + 0.04) * width, _PICTURES, 0.92 * width, 1.0 - _PICTURES))
            place.imshow(_as_image(picture, low, high), **style)
            place.set(xticks=[], yticks=[])
            ends: dict[str, Any] = {
                "xyA": (time, _BAR),
                "coordsA": ax.transData,
                "xyB": (0.5, 0.0),
                "coordsB": place.transAxes,
            }
            ax.add_artist(ConnectionPatch(**ends, color="0.6", linewidth=0.7))
        return ax


def _end(timeline: Timeline) -> float:
    if math.isfinite(timeline.duration):
        return timeline.duration
    start = max((facts["from"] for facts in timeline.described()), default=0.0)
    return start * (1 + 1 / max(1, len(timeline.epochs) - 1)) if start else 100.0


def _spans(timeline: Timeline, end: float, sample: int) -> list[tuple[float, float, dict[str, Any]]]:
    """Return the start, end and description of each epoch of a sample."""
    spans = []
    for facts in timeline.described(end):
        begin = facts["onsets"][sample] if "onsets" in facts else facts["from"]
        stop = facts["offsets"][sample] if "offsets" in facts else facts["to"]
        if begin < stop:
            spans.append((begin, stop, facts))
    return spans


def _times(spans: list[tuple[float, float, dict[str, Any]]], most: int) -> list[float]:
    """Return at most `most` times: the start of each epoch, followed by the starts of further frames."""
    firsts = [begin for begin, _, _ in spans][:most]
    frames = [
        begin + number * facts["every"]
        for begin, stop, facts in spans
        if "every" in facts
        for number in range(1, math.ceil((stop - begin) / facts["every"] * (1 - 1e-9)))
    ]
    room = most - len(firsts)
    chosen = (
        [frames[at] for at in np.unique(np.linspace(0, len(frames) - 1, room).round().astype(int))] if frames else []
    )
    return sorted({*firsts, *(chosen if room else [])})


def _as_image(picture: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return a frame as an image (height, width), or (height, width, 3) for three channels."""
    if picture.ndim == 1:
        return picture[None]
    if picture.ndim == 3 and len(picture) == 3:
        return (rearrange(picture, "channel y x -> y x channel") - low) / (high - low)
    return picture.mean(0) if picture.ndim == 3 else picture
