"""Videos and their predictions: rows of frames, animations, and error curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from einops import rearrange, repeat
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import as_numbers, drawing, merged, panels, require, tidy, whole
from pcsim.stimuli.film import as_frames
from pcsim.stimuli.pixels import as_pixels

OWN = "#d55e00"


@checked(StimulusError)
def forecast(
    frames: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    closed_loop_from: int | None = None,
    rate: Positive | None = None,
    *,
    ax: Axes | None = None,
    **image: Any,
) -> Figure:
    """Draw a clip (time, channel, height, width), with a row of predictions and a row of errors for each network.

    Errors are prediction - frame, averaged over channels: red where the prediction is too bright, blue where it is too
    dark. From `closed_loop_from` on, each network's input is its own prediction, which has a coloured border. With
    `rate`, in frames per second, columns are labelled in ms. `image` is passed to the `ax.imshow` of frames and
    predictions. Raises StimulusError if predictions have the wrong shape, or if `closed_loop_from` is outside the clip.
    """
    true, predicted = _one_clip(frames, predictions, closed_loop_from)
    rows: list[tuple[str, NDArray[Any], bool]] = [("frame", true, False)]
    for name, clip in predicted.items():
        rows += [(name, clip, False), ("error", (clip - true).mean(1), True)]
    length, height, width = len(true), true.shape[2], true.shape[3]
    side = min(1.0, 14.0 / length)
    size = (length * side + 1.2, len(rows) * (side * height / width + 0.06) + 0.7)
    with panels(ax, len(rows), length, *size) as (picture, grid):
        for (name, values, is_error), line in zip(rows, grid, strict=True):
            for step, panel in enumerate(line):
                _show(panel, values[step], is_error, {} if is_error else image)
                if closed_loop_from is not None and step >= closed_loop_from and name != "frame":
                    for spine in panel.spines.values():
                        spine.set(visible=True, color=OWN, linewidth=1.5)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
        for step, panel in enumerate(grid[0]):
            when = f"{step}" if rate is None else f"{1000 * step / rate:g}"
            is_own = closed_loop_from is not None and step >= closed_loop_from
            panel.set_title(when, fontsize="small", color=OWN if is_own else "black")
        unit = "frame" if rate is None else "time (ms)"
        loop = "" if closed_loop_from is None else "; framed: the input is the network's own prediction"
        picture.suptitle(unit + loop, fontsize="small")
        return whole(picture)


def _one_clip(
    frames: ArrayLike, predictions: Mapping[str, ArrayLike], closed_loop_from: int | None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    true = as_pixels(as_frames(as_numbers(frames)[None]))[0].double().numpy()
    predicted = {name: as_numbers(clip).astype(float) for name, clip in predictions.items()}
    shapes = [true.shape, *(clip.shape for clip in predicted.values())]
    if len(set(shapes)) > 1 or (closed_loop_from is not None and not 0 < closed_loop_from < len(true)):
        raise StimulusError(
            given=f"clips of shapes {', '.join(map(str, shapes))}, closed_loop_from={closed_loop_from}",
            expected=f"frames and predictions of the same shape, and closed_loop_from between 1 and {len(true) - 1}",
            remedy="pass the frames and closed_loop_from that you passed to predict",
        )
    return true, predicted


def _show(ax: Axes, value: NDArray[Any], is_error: bool, style: Mapping[str, Any]) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if np.isnan(value).all():
        ax.imshow(np.full(value.shape[-2:], 0.93), cmap="gray", vmin=0, vmax=1)
        ax.text(0.5, 0.5, "none", ha="center", va="center", fontsize=7, color="0.5", transform=ax.transAxes)
    elif is_error:
        ax.imshow(value, cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    else:
        image = rearrange(value.clip(0, 1), "channel height width -> height width channel")
        ax.imshow(
            image if image.shape[2] == 3 else image[..., 0],
            **merged("imshow", {"cmap": "gray", "vmin": 0, "vmax": 1}, style),
        )


@checked(StimulusError)
def errors_over_frames(
    errors: Mapping[str, ArrayLike], closed_loop_from: int | None = None, *, ax: Axes | None = None, **line: Any
) -> Axes:
    """Draw the mean squared prediction error of each layer, (time,) or (time, n), on a log scale against frames.

    A line marks `closed_loop_from`. Bands show the standard error over clips. Frame 0 is omitted, because it is
    predicted before there is any input. `line` is passed to `ax.plot`.
    """
    with drawing(ax, 5.0, 3.4) as ax:
        for number, (name, values) in enumerate(errors.items()):
            _mean_and_error(ax, np.asarray(values, float), name, merged("plot", {"color": f"C{number}"}, line))
        if closed_loop_from is not None:
            _event(ax, closed_loop_from, "closed loop", OWN)
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="frame", ylabel="mean squared prediction error")
        ax.legend(frameon=False, fontsize="small")
        tidy(ax)
        return ax


@checked(StimulusError)
def surprise(errors: Mapping[str, Mapping[str, ArrayLike]], at: int, *, ax: Axes | None = None, **line: Any) -> Figure:
    """Draw the prediction errors around a surprise at frame `at`, with one panel per layer.

    errors[kind][layer] is (time, n). The first kind is the baseline without a surprise. Bands show the standard error
    over clips. Frame 0 is omitted. `line` is passed to `ax.plot`.
    """
    first: Mapping[str, ArrayLike] = next(iter(errors.values()), {})
    require(
        bool(first) and all(set(layers) == set(first) for layers in errors.values()),
        f"errors of {', '.join(f'{kind}: {list(layers)}' for kind, layers in errors.items()) or 'nothing'}",
        "the errors of the same layers for every kind",
        "pass {'standard': forecast.run.errors, 'surprise': other.run.errors}",
    )
    with panels(ax, 1, len(first), 1.0 + 2.9 * len(first), 3.2) as (figure, (row,)):
        for panel, layer in zip(row, first, strict=True):
            for kind, layers in errors.items():
                style: dict[str, Any] = (
                    {"color": "0.4", "ls": "--"} if layers is first else {"color": _next_colour(panel)}
                )
                _mean_and_error(panel, np.asarray(layers[layer], float), kind, merged("plot", style, line))
            _event(panel, at, "surprise" if panel is row[0] else "", "0.3")
            panel.set(title=layer, xlabel="frame")
            panel.set_ylim(0, 1.1 * panel.get_ylim()[1])  # room for the label above the curves
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            tidy(panel)
        row[0].set_ylabel("mean squared prediction error")
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(errors), frameon=False, fontsize="small")
        return whole(figure)


def _next_colour(ax: Axes) -> str:
    return ("#d55e00", "#0072b2", "#cc79a7", "#e69f00")[(len(ax.lines) - 1) % 4]


def _mean_and_error(ax: Axes, values: NDArray[Any], label: str, style: Mapping[str, Any]) -> None:
    """Draw the mean over samples of values (time,) or (time, n) from frame 1 onwards, with a standard-error band."""
    require(
        values.ndim > 0 and len(values) > 1 and values.size > 0,
        f"errors of shape {values.shape}",
        "(time,) or (time, n), with at least two frames",
        "pass forecast.run.errors",
    )
    over = values[1:].reshape(len(values) - 1, -1)
    frames, mean = np.arange(1, len(values)), over.mean(1)
    ax.plot(frames, np.where(mean > 0, mean, np.nan), **{"marker": "o", "markersize": 3, "label": label, **style})
    if over.shape[1] > 1:
        spread = over.std(1, ddof=1) / np.sqrt(over.shape[1])
        low = np.where(mean - spread > 0, mean - spread, np.nan)
        ax.fill_between(frames, low, mean + spread, color=style["color"], alpha=0.2, lw=0)


def _event(ax: Axes, frame: int, label: str, colour: str) -> None:
    ax.axvline(frame - 0.5, color=colour, ls=":")
    ax.text(frame - 0.4, 0.98, label, color=colour, fontsize=8, va="top", transform=ax.get_xaxis_transform())


@checked(StimulusError)
def animation(
    frames: ArrayLike, predictions: Mapping[str, ArrayLike], closed_loop_from: int | None = None, scale: Count = 3
) -> list[Image.Image]:
    """Draw one image per frame of a clip (time, channel, height, width), with each network's prediction beside it.

    The frame number is printed below. A coloured border marks predictions in closed loop. To write a GIF:

        first, *others = animation(frames, {"PredNet": predictions}, closed_loop_from=10)
        first.save("film.gif", save_all=True, append_images=others, duration=100, loop=0)

    Raises StimulusError in the same cases as `forecast`.
    """
    true, predicted = _one_clip(frames, predictions, closed_loop_from)
    films = {"frame": true, **predicted}
    font = ImageFont.load_default(size=12)
    pages = []
    for step in range(len(true)):
        tiles = []
        for name, film in films.items():
            own = closed_loop_from is not None and step >= closed_loop_from and name != "frame"
            tiles.append(_tile(film[step], scale, own))
        gap = np.full((tiles[0].shape[0], 6, 3), 255, np.uint8)
        strip = np.concatenate([part for tile in tiles for part in (gap, tile)] + [gap], 1)
        page = Image.new("RGB", (strip.shape[1], strip.shape[0] + 40), "white")
        page.paste(Image.fromarray(strip), (0, 20))
        draw = ImageDraw.Draw(page)
        for number, name in enumerate(films):
            left = 6 + number * (tiles[0].shape[1] + 6)
            draw.text((left + tiles[0].shape[1] / 2, 10), name, fill="black", font=font, anchor="mm")
        is_own = closed_loop_from is not None and step >= closed_loop_from
        text = f"{step}  extrapolated" if is_own else f"{step}"
        draw.text((8, page.height - 10), text, fill=OWN if is_own else "black", font=font, anchor="lm")
        pages.append(page)
    return pages


def _tile(value: NDArray[Any], scale: int, own: bool) -> NDArray[np.uint8]:
    """Return an enlarged frame (height, width, 3) with a 3-pixel border."""
    levels = np.rint(255 * np.nan_to_num(value, nan=0.9).clip(0, 1)).astype(np.uint8)
    coloured = np.broadcast_to(levels, (3, *levels.shape[1:]))
    image = repeat(coloured, "colour y x -> (y a) (x b) colour", a=scale, b=scale)
    colour = (213, 94, 0) if own else (0, 0, 0)
    framed = np.full((image.shape[0] + 6, image.shape[1] + 6, 3), colour, np.uint8)
    framed[3:-3, 3:-3] = image
    return framed
