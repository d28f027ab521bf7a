"""Shared checks of array arguments: named axes, masks, ids, labels, and times (compared up to rounding)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.exceptions import StimulusError


@runtime_checkable
class Run(Protocol):
    """The parts of a `pcsim.Run` that an analysis reads: records, their times in ms, and the labels of the stimulus."""

    values: dict[str, Tensor]
    times_of: dict[str, NDArray[np.float64]]
    labels: Tensor | None


ROUNDING = 1e-6
"""largest difference in ms between times that are treated as equal, such as 0.1 + 0.2 and 0.3"""
MISSING = ("", "nan", "NaN", "None", "NaT", "<NA>")
"""strings that NumPy, xarray and pandas use for missing values"""


def is_after(times: ArrayLike, others: ArrayLike) -> NDArray[np.bool_]:
    """Return True where `times` are later than `others` by more than rounding error."""
    return np.asarray(times, float) > np.asarray(others, float) + ROUNDING


def as_times(times: ArrayLike, rows: int | None = None) -> NDArray[np.float64]:
    """Return `times` (time,) as floats.

    Raises StimulusError unless the times are finite and increasing, with one for each of `rows`.
    """
    at = np.asarray(times, float)
    if (
        at.ndim != 1
        or not len(at)
        or rows not in (None, len(at))
        or not np.isfinite(at).all()
        or not is_after(at[1:], at[:-1]).all()
    ):
        raise StimulusError(
            given=f"times {at.shape}: {np.array2string(at, threshold=8)}"
            + ("" if rows is None else f", for {rows} rows"),
            expected="finite, increasing times (time,), one for each row",
            remedy="pass run.times, or sort both: k = np.argsort(times); times, values = times[k], values[k]",
        )
    return at


def recorded(run: Run, key: str | None) -> str:
    """Return the key of one of a run's records, by default the only one. Raises StimulusError for unknown keys."""
    known = ", ".join(run.values) or "none, because nothing was recorded"
    if key is None and len(run.values) == 1:
        return next(iter(run.values))
    if key is None or key not in run.values:
        raise StimulusError(
            given=f"key={key!r} for a run that recorded {known}",
            expected="the key of one record",
            remedy=f"pass key={next(iter(run.values), 'l2')!r}",
        )
    return key


def as_array(values: Any, *axes: str, more: bool = False) -> NDArray[Any]:
    """Return an array with the given axes. Labelled arrays (xarray) are transposed by name.

    axes  accepted names for each axis, such as "image presentation"
    more  accept additional axes after these

    Raises StimulusError for a labelled array with other axes.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    dims = getattr(values, "dims", None)
    if not isinstance(dims, tuple):
        return np.asarray(values)
    order = [next((dim for dim in dims if dim in names.split()), None) for names in axes]
    others = [dim for dim in dims if dim not in order]
    if None in order or (others and not more):
        wanted = ", ".join(names.replace(" ", " or ") for names in axes) + (", ..." if more else "")
        raise StimulusError(
            given=f"an array with the axes ({', '.join(map(str, dims))})",
            expected=f"the axes ({wanted}), in any order",
            remedy="rename its axes with array.rename(OLD='NEW'), or pass array.values in the expected order",
        )
    return np.asarray(values.transpose(*order, *others).values)


def as_mask(values: Any, name: str) -> NDArray[np.bool_]:
    """Return a Boolean array. Raises StimulusError for values other than True and False, or 1 and 0."""
    mask = as_array(values) if isinstance(values, Tensor) else np.asarray(values)
    if mask.dtype.kind not in "biuf" or not ((mask == 0) | (mask == 1)).all():
        raise StimulusError(
            given=f"{name} {mask.shape} of type {mask.dtype} with values other than 0 and 1",
            expected="True or False (or 1 or 0) for each entry",
            remedy=f"compare first, as in {name} = answers == labels",
        )
    return mask == 1


def as_labels(labels: ArrayLike) -> NDArray[np.int64]:
    """Return integer labels (n,). Raises StimulusError for labels of other types or shapes."""
    known = np.asarray(labels)
    if known.dtype.kind not in "iub" or known.ndim != 1:
        raise StimulusError(
            given=f"labels {known.shape} of type {known.dtype}",
            expected="integers (n,), starting at 0",
            remedy="convert them to integers: names, labels = np.unique(labels, return_inverse=True)",
        )
    return known.astype(np.int64)


def as_ids(values: ArrayLike, name: str, count: int | None = None) -> NDArray[Any]:
    """Return ids (n,) of a single type.

    Raises StimulusError if an id is missing (NaN, None or blank) or if the number of ids differs from `count`. Floats
    that differ only by rounding are also rejected, because they would be treated as different ids.
    """
    ids = np.asarray(values)
    if ids.ndim != 1 or count not in (None, len(ids)):
        raise StimulusError(
            given=f"{name} of shape {ids.shape}",
            expected="one value for each " + ("entry" if count is None else f"of {count} entries"),
            remedy=f"pass {name} as a 1-D array in the order of the data",
        )
    missing = np.flatnonzero([value is None or value != value or str(value).strip() in MISSING for value in ids])
    if len(missing):
        raise StimulusError(
            given=f"{name} with {len(missing)} of {len(ids)} missing (NaN, None or blank), "
            f"the first at index {missing[0]}",
            expected="a value for each entry",
            remedy=f"leave these entries out, as in np.delete(values, {missing[:5].tolist()}, axis=0), or fill them in",
        )
    try:
        known = np.unique(ids)
    except TypeError as reason:
        raise StimulusError(
            given=f"{name} of several types ({reason})",
            expected="values of one type",
            remedy=f"convert them to strings, as in {name} = [str(value) for value in {name}]",
        ) from reason
    if ids.dtype.kind == "f" and np.isclose(known[1:], known[:-1], rtol=1e-9, atol=0.0).any():
        raise StimulusError(
            given=f"{name} with floats that differ only by rounding",
            expected="exactly the same value wherever an id occurs",
            remedy=f"round them, as in {name} = np.round({name}, 6)",
        )
    return ids
