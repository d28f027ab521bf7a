"""Curves of runs over time, with the stimulus and lesions below the axis."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pcsim.core.checks import Labels, checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.bars import draw_bars
from pcsim.plots.canvas import as_numbers, drawing, merged, panels, plain_logs, require, tidy, whole
from pcsim.simulation.run import Run

Runs = Run | Mapping[str, Run]
Samples = Literal["each", "quartiles", "sd", "sem", "ci95"]
Units = Literal["rms", "mean", "max"]
BANDS: dict[Samples, str] = {
    "each": "each sample",
    "quartiles": "median, quartiles",
    "sd": "mean, SD",
    "sem": "mean, SEM",
    "ci95": "mean, 95 % CI",
}
FEW = 5
"""with fewer samples, each one is drawn, because quartiles or errors of so few samples are not informative"""
UNITS: dict[Units, tuple[Callable[..., NDArray[Any]], str]] = {
    "rms": (lambda value, axis: np.sqrt(np.mean(value**2, axis)), "root mean square"),
    "mean": (np.mean, "mean"),
    "max": (np.max, "maximum"),
}


@checked(StimulusError)
def activity(
    runs: Runs,
    keys: str | Sequence[str] | None = None,
    *,
    samples: Samples | None = None,
    units: Units = "rms",
    groups: Labels | None = None,
    unit: Literal["ms", "step"] | None = None,
    align: str | None = None,
    bars: bool = True,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Draw recorded values over time, with one line for each run, key and group of samples.

    runs     a run, or runs by name
    keys     one or more recorded keys of the same quantity; by default, all recorded keys
    samples  "each" draws every sample; "quartiles" the median with a band between the quartiles; "sd", "sem" and "ci95"
             the mean with a band of one standard deviation, one standard error, or the 95 % confidence interval of the
             mean (Student's t). By default "quartiles", or "each" if there are fewer than 5 samples or if samples
             differ in onset, contrast or duration. The title of the legend states the choice.
    units    reduction of populations that were recorded unit by unit: "rms" (root mean square), "mean" or "max"
    groups   (batch,): kind of each sample; samples of different kinds are summarised separately
    unit     unit of the time axis: by default "step" if all runs are of discrete networks, and otherwise "ms"
    align    name of an epoch of the stimulus, such as "image", whose onset in each sample becomes time 0
    bars     if True, bars below the axis show the stimuli and the temporary lesions of the runs
    line     passed to `ax.plot`

    Raises StimulusError for keys of several quantities, such as "v1" and "v1.norm"; `compare` draws a panel for each.
    """
    named = _named(runs)
    chosen = _keys(named, keys)
    quantities = {_quantity(key) for key in chosen}
    require(
        len(quantities) == 1,
        f"keys of {len(quantities)} quantities: {', '.join(chosen)}",
        "keys of one quantity, because they share an axis",
        f"pass keys={[key for key in chosen if _quantity(key) == _quantity(chosen[0])]}, "
        "or use plots.compare(runs), which draws a panel for each key",
    )
    with drawing(ax) as ax:
        how = samples or _default_samples(named)
        in_steps = _in_steps(named, unit)
        for name, run in named.items():
            for key in chosen:
                times, values = _times(run, key, in_steps), _over_units(as_numbers(run[key]), units)
                if align is not None:
                    times, values = _aligned(times, values, _onsets(run, align, in_steps))
                _curves(ax, times, values, _label(name, key, len(chosen)), how, groups, line)
        (quantity,) = quantities
        has_units = any(run[key][0, 0].numel() > 1 for run in named.values() for key in chosen)
        over = f"\n({UNITS[units][1]} over units)" if has_units else ""
        ax.set_ylabel((quantity or "activity") + over, multialignment="center")
        _finish(ax, named, in_steps, how, bars and align is None)
        if align is not None:
            ax.set_xlabel(f"step after onset of {align}" if in_steps else f"time after onset of {align} (ms)")
        return ax


@checked(StimulusError)
def error_convergence(
    runs: Runs,
    errors: str | Sequence[str] | None = None,
    *,
    relative_to: Literal["none", "start", "activity"] = "none",
    samples: Samples | None = None,
    groups: Labels | None = None,
    unit: Literal["ms", "step"] | None = None,
    bars: bool = True,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Draw the prediction errors of each population over time on a logarithmic axis.

    errors       populations whose errors are drawn; by default all that were recorded
    relative_to  "none" draws mean squared errors; "start" divides the error of each sample by its error in the first
                 recorded row, whose time is stated in the axis label (0 ms with Record(initial=True)); "activity"
                 draws the sum of e^2 divided by that of the predicted activity, which requires Record(relative=True)

    The other arguments are as in `activity`. Errors of 0 are not visible on the logarithmic axis. Raises
    StimulusError if the runs did not record the values to be drawn.
    """
    named = _named(runs)
    found = {name: run.relative_errors if relative_to == "activity" else run.errors for name, run in named.items()}
    require(
        all(found.values()),
        "a run without prediction errors",
        "a run that recorded the errors of a predictive network",
        "run simulate(..., record=Record(errors='all'))",
    )
    known = list(dict.fromkeys(error for each in found.values() for error in each))
    chosen = [errors] if isinstance(errors, str) else list(errors or known)
    missing = [error for error in chosen if any(error not in each for each in found.values())]
    require(
        not missing,
        f"errors of {', '.join(missing)}",
        f"errors that every run recorded: {', '.join(known)}",
        f"pass errors={[error for error in known if all(error in each for each in found.values())]}",
    )
    kind = "relative" if relative_to == "activity" else "mean_square"
    with drawing(ax) as ax:
        how, in_steps = samples or _default_samples(named), _in_steps(named, unit)
        starts: set[str] = set()
        for name, run in named.items():
            for error in chosen:
                times, values = _times(run, f"{error}.{kind}", in_steps), as_numbers(found[name][error]).astype(float)
                if relative_to == "start":
                    values, first = _over_start(values, error), f"{times[0]:g}"
                    starts.add(f"step {first}" if in_steps else f"{first} ms")
                _curves(ax, times, values, _label(name, error, len(chosen)), how, groups, line)
        ax.set_ylabel(
            {
                "none": "mean squared prediction error",
                "start": f"prediction error / error at {' or '.join(sorted(starts))}",
                "activity": "prediction error / predicted activity",
            }[relative_to]
        )
        if any(np.any(np.asarray(drawn.get_ydata(), float) > 0) for drawn in ax.lines):
            ax.set_yscale("log", nonpositive="mask")
            plain_logs(ax)
        _finish(ax, named, in_steps, how, bars)
        return ax


@checked(StimulusError)
def compare(
    runs: Runs,
    keys: str | Sequence[str] | None = None,
    *,
    samples: Samples | None = None,
    units: Units = "rms",
    groups: Labels | None = None,
    unit: Literal["ms", "step"] | None = None,
    align: str | None = None,
    bars: bool = True,
    ax: Axes | None = None,
    **line: Any,
) -> Figure:
    """Draw recorded values over time, with one panel per key and one line per run.

    The arguments are as in `activity`, but keys may refer to different quantities. With `ax`, the panels take the place
    of these axes.
    """
    named = _named(runs)
    chosen = _keys(named, keys)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with panels(ax, rows, columns, 0.6 + 3.0 * columns, 0.6 + 2.3 * rows) as (figure, grid):
        for panel, key in zip(grid.flat, chosen, strict=False):
            options: dict[str, Any] = {"samples": samples, "units": units, "groups": groups, "unit": unit}
            activity(named, key, align=align, bars=bars, ax=panel, **options, **line).set_title(key)
            panel.yaxis.label.set_fontsize("small")
        for panel in grid.flat[len(chosen) :]:
            panel.remove()
        if len(named) > 1:
            _share_legend(figure, list(grid.flat[: len(chosen)]))
        return whole(figure)


@checked(StimulusError)
def unit_map(run: Run, key: str, sample: int = 0, *, ax: Axes | None = None, **image: Any) -> Axes:
    """Draw the activity of every unit of one sample, with units as rows and time as columns.

    key     a population that was recorded unit by unit; units are ordered by channel, row and column
    sample  index in the batch
    image   passed to `ax.pcolormesh`
    """
    values = as_numbers(run[key]).astype(float)
    require(
        values.ndim > 2 and -values.shape[1] <= sample < values.shape[1],
        f"values of shape {values.shape} and sample={sample}",
        "(time, batch, ...), recorded unit by unit, and the index of a sample",
        f"run simulate(..., record=Record(states=[{key.split('.')[0]!r}]))",
    )
    in_steps = _in_steps({"": run}, None)
    times, rows = _times(run, key, in_steps), values[:, sample].reshape(len(values), -1)
    widths = np.diff(times)
    first = widths[0] if len(widths) else times[0] or 1.0
    edges = np.concatenate([[times[0] - first], times])  # a row holds the values at the end of its interval
    with drawing(ax) as ax:
        drawn = ax.pcolormesh(
            edges, np.arange(rows.shape[1] + 1), rows.T, **merged("pcolormesh", {"cmap": "viridis"}, image)
        )
        ax.figure.colorbar(drawn, ax=ax, label="activity")
        ax.set(xlabel="step" if in_steps else "time (ms)", ylabel=f"unit of {key}", title=f"sample {sample}")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        return ax


def _named(runs: Runs) -> dict[str, Run]:
    named = {"": runs} if isinstance(runs, Run) else dict(runs)
    require(bool(named), "no runs", "a run or a dict of runs by name", "pass {'intact': run, 'lesioned': other}")
    return named


def _first(named: Mapping[str, Run]) -> Run:
    return next(iter(named.values()))


def _label(run: str, key: str, keys: int) -> str:
    """Return the label of a curve: the run and, if there are several keys or the run has no name, the key."""
    return ", ".join(part for part in (run, key if keys > 1 or not run else "") if part)


def _keys(named: Mapping[str, Run], keys: str | Sequence[str] | None) -> list[str]:
    known = [key for key in _first(named).values if all(key in run for run in named.values())]
    chosen = [keys] if isinstance(keys, str) else list(known if keys is None else keys)
    for run in named.values():
        for key in chosen:
            run[key]  # raises RecordError for a key that was not recorded
    require(
        bool(chosen),
        "runs that recorded no common key",
        "a key that every run recorded",
        "run all with the same record=Record(states=[...])",
    )
    return chosen


def _quantity(key: str) -> str:
    """Return the name of the quantity stored under a key such as "v1.norm", or "" for the state of a population."""
    population, _, kind = key.rpartition(".")
    if not population:
        return ""
    return {"mean_square": "mean square", "max_space": "maximum over space"}.get(kind, kind)


def _default_samples(named: Mapping[str, Run]) -> Samples:
    if min(len(run.status) for run in named.values()) < FEW or any(_samples_differ(run) for run in named.values()):
        return "each"
    return "quartiles"


def _samples_differ(run: Run) -> bool:
    """Return whether samples differ in the onset, contrast or duration of the stimulus."""
    return any(
        isinstance(value, list) and len(set(value)) > 1
        for epochs in run.about.get("stimulus", {}).values()
        for epoch in epochs
        for value in epoch.values()
    )


def _in_steps(named: Mapping[str, Run], unit: str | None) -> bool:
    discrete = [bool(run.about.get("step_ms")) for run in named.values()]
    require(
        unit != "step" or all(discrete),
        "unit='step' for a flow",
        "runs of discrete networks, whose time advances in steps",
        "pass unit='ms'",
    )
    return all(discrete) if unit is None else unit == "step"


def _times(run: Run, key: str, in_steps: bool) -> NDArray[np.float64]:
    return run.times_of[key] / run.about["step_ms"] if in_steps else run.times_of[key]


def _over_units(value: NDArray[Any], units: Units) -> NDArray[np.float64]:
    """Reduce values (time, batch, ...) to (time, batch). A single unit keeps its sign."""
    if value.ndim == 2 or value[0, 0].size == 1:
        return value.reshape(value.shape[:2]).astype(float)
    return UNITS[units][0](value.astype(float), axis=tuple(range(2, value.ndim)))


def _onsets(run: Run, name: str, in_steps: bool) -> NDArray[np.float64]:
    """Return the onset of the first epoch called `name` in each sample, (batch,)."""
    epochs = [epoch for each in run.about.get("stimulus", {}).values() for epoch in each]
    found = [epoch for epoch in epochs if epoch["name"] == name]
    known = ", ".join(dict.fromkeys(epoch["name"] for epoch in epochs))
    require(bool(found), f"align={name!r}", f"an epoch of the stimulus: {known or 'none'}", "pass one of these names")
    onsets = np.asarray(found[0].get("onsets", [found[0]["from"]] * len(run.status)), float)
    return onsets / run.about["step_ms"] if in_steps else onsets


def _aligned(
    times: NDArray[np.float64], values: NDArray[np.float64], onsets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times and values (time, batch) relative to the onset in each sample, padded with NaN."""
    steps = np.diff(times)
    every = float(steps[0]) if len(steps) else 1.0
    shifts = (onsets - times[0]) / every
    require(
        np.allclose(steps, every) and np.allclose(shifts, shifts.round(), atol=1e-6),
        f"rows every {every:g} from {times[0]:g} on, and onsets {', '.join(f'{o:g}' for o in sorted(set(onsets)))}",
        "rows at regular intervals that fall on every onset",
        "run simulate(..., record=Record(..., every=1))",
    )
    rows = shifts.round().astype(int)
    first, last = -rows.max(), len(times) - rows.min()
    shifted = np.full((last - first, values.shape[1]), np.nan)
    for sample, row in enumerate(rows):
        shifted[-row - first : len(times) - row - first, sample] = values[:, sample]
    return every * np.arange(first, last), shifted


def _over_start(values: NDArray[np.float64], error: str) -> NDArray[np.float64]:
    require(
        bool((values[0] > 0).all()),
        f"errors of {error!r} that are {values[0].min():g} in the first row",
        "errors above 0 in the first row",
        "leave this population out with errors=[...], or pass relative_to='none'",
    )
    return values / values[0]


def _curves(
    ax: Axes,
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    how: Samples,
    groups: Labels | None,
    line: Mapping[str, Any],
) -> None:
    """Draw values (time, batch), with a line for each group."""
    kinds = np.zeros(values.shape[1], int) if groups is None else as_numbers(cast(Any, groups))
    require(
        kinds.shape == values.shape[1:],
        f"groups of shape {kinds.shape} for {values.shape[1]} samples",
        "one group for each sample",
        "pass groups=labels, (batch,)",
    )
    for kind in dict.fromkeys(kinds.tolist()):
        own = values[:, kinds == kind]
        shown: Samples = "each" if own.shape[1] < 3 else how  # one or two samples cannot be summarised
        name = label if groups is None else f"{label}, {kind}" if label else f"{kind}"
        name += f" (n = {own.shape[1]})" if groups is not None and shown != "each" else ""
        _curve(ax, times, own, name, shown, line)


def _curve(
    ax: Axes,
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    how: Samples,
    line: Mapping[str, Any],
) -> None:
    style = {"marker": "o", "markersize": 3} if len(times) < 2 else {}
    if how == "each":
        (first, *others) = ax.plot(times, values, **{**merged("plot", {**style, "alpha": 0.8}, line), "label": "_"})
        first.set_label(label)
        for other in others:
            other.set_color(first.get_color())
        return
    middle, low, high = _summary(values, how)
    (drawn,) = ax.plot(times, middle, **{**merged("plot", style, line), "label": label})
    ax.fill_between(times, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def _summary(values: NDArray[np.float64], how: Samples) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the centre of values (time, batch) and both ends of the band, ignoring samples that diverged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a finite value, or with one, are NaN
        if how == "quartiles":
            low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=1)
            return middle, low, high
        count = np.isfinite(values).sum(1)
        require(
            values.shape[1] > 1,
            f"samples={how!r} of one sample",
            "at least two samples",
            "pass samples='each'",
        )
        mean, spread = np.nanmean(values, 1), np.nanstd(values, 1, ddof=1)
        if how != "sd":
            spread = spread / np.sqrt(count)
        if how == "ci95":
            from scipy.stats import t

            spread = spread * t.ppf(0.975, count - 1)
        return mean, mean - spread, mean + spread


def _finish(ax: Axes, named: Mapping[str, Run], in_steps: bool, how: Samples, bars: bool) -> None:
    ax.set_xlabel("step" if in_steps else "time (ms)")
    if in_steps:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(ax)
    count = {len(run.status) for run in named.values()}
    note = "" if count == {1} else f"{BANDS[how]}, n = {', '.join(map(str, sorted(count)))}"
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > 1 or any(labels):
        legend = ax.legend(handles, labels, title=note or None, title_fontsize="small", fontsize="small")
        legend.get_frame().set(alpha=0.8, linewidth=0)  # curves below it remain visible, and the text readable
        legend.set_alignment("left")
    if bars:
        draw_bars(ax, named, in_steps)


def _share_legend(figure: Figure | SubFigure, shown: Sequence[Axes]) -> None:
    """Replace the legends of the panels with a single legend above them."""
    handles, labels = shown[0].get_legend_handles_labels()
    legend = shown[0].get_legend()
    title = legend.get_title().get_text() if legend else ""
    for panel in shown:
        if (own := panel.get_legend()) is not None:
            own.remove()
    figure.legend(
        handles, labels, title=title or None, loc="outside upper center", ncols=min(4, len(labels)), frameon=False,
        fontsize="small", title_fontsize="small",
    )  # fmt: skip
