"""Tables of the points and results of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim.core.checks import checked
from pcsim.core.exceptions import SweepError, needs_extra

Point = dict[str, Any]
"""a point: dotted name -> value that replaces the value in the base configuration"""
FAILURE = "failure"
"""variable of `to_xarray` that contains each failed point's exception"""


@checked(SweepError)
@dataclass(frozen=True, repr=False)
class Table:
    """The results of a sweep, with one row per point.

    table["tau"] or table["settling"] returns a column: an array with one row per point, or a list if the values differ
    in shape. `where` selects rows, `over` arranges a column by axes, and `to_xarray` returns a labelled dataset.

    failures  row -> the exception that the point raised. In the columns of such a point, numbers are NaN and strings
              are empty.
    """

    points: Sequence[Point]
    results: Sequence[dict[str, Any]]
    failures: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"Table({len(self)} points{failed}: {', '.join(self.axes)}; {', '.join(self.columns)})"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parameters that vary in the sweep."""
        return tuple(dict.fromkeys(name for point in self.points for name in point))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the results."""
        return tuple(dict.fromkeys(name for result in self.results for name in result))

    def __getitem__(self, name: str) -> NDArray[Any] | list[Any]:
        rows = self.points if name in self.axes else self.results
        known = [row for at, row in enumerate(rows) if name in row or at not in self.failures]
        if any(name not in row for row in known) or not known:
            raise SweepError(
                given=f"table[{name!r}]",
                expected=f"one of {', '.join((*self.axes, *self.columns))}, present in every row",
                remedy="use one of these names; sweep.run() computes missing rows",
            )
        shapes = {np.shape(row[name]) for row in known}
        nothing = "" if isinstance(known[0][name], str) else np.full(next(iter(shapes)), math.nan)
        values = [row.get(name, nothing if len(shapes) == 1 else math.nan) for row in rows]
        return np.array(values) if len(shapes) == 1 else values

    @checked(SweepError)
    def where(self, **values: Any) -> Table:
        """Return the rows with the given values. Write dots as double underscores: `where(solver__dt=0.5)`."""
        wanted = {name.replace("__", "."): value for name, value in values.items()}
        if unknown := set(wanted) - set(self.axes):
            raise SweepError(
                given=f"where({', '.join(sorted(unknown))})",
                expected=", ".join(self.axes),
                remedy="write dots as double underscores: table.where(solver__dt=0.5)",
            )
        chosen = [
            at
            for at, point in enumerate(self.points)
            if all(np.array_equal(np.asarray(point.get(n)), np.asarray(v)) for n, v in wanted.items())
        ]
        failures = {row: self.failures[at] for row, at in enumerate(chosen) if at in self.failures}
        return Table([self.points[at] for at in chosen], [self.results[at] for at in chosen], failures)

    @checked(SweepError)
    def over(self, column: str, *axes: str) -> NDArray[Any]:
        """Return a column arranged by axes, as an array of shape (first axis, ..., repeats, *shape of a value).

        The values of each axis are ordered as in `values`. Points that differ only in other axes are repeats. Missing
        points, missing repeats and failed points are NaN.
        """
        self._require_axes(*axes)
        cells: dict[tuple, list[NDArray[Any]]] = {}
        for point, value in zip(self.points, self[column], strict=True):
            if isinstance(value, str):
                raise SweepError(
                    given=f"{column!r}, a column of strings",
                    expected="a column of numbers",
                    remedy=f"use table[{column!r}] or table.to_xarray()",
                )
            cells.setdefault(tuple(_key(point[axis]) for axis in axes), []).append(np.asarray(value, float))
        repeats = max(len(found) for found in cells.values())
        (shape, *others) = {value.shape for found in cells.values() for value in found}
        if others:
            raise SweepError(
                given=f"{column!r} with arrays of shapes {shape}, {others[0]}",
                expected="one shape for all points",
                remedy=f"return arrays of the same shape from every point, or use the list table[{column!r}]",
            )
        known = [list(map(_key, self.values(axis))) for axis in axes]
        spread = np.full((*(len(values) for values in known), repeats, *shape), math.nan)
        for values, found in cells.items():
            at = tuple(axis.index(value) for axis, value in zip(known, values, strict=True))
            spread[at][: len(found)] = found
        return spread

    @checked(SweepError)
    def values(self, axis: str) -> list[Any]:
        """Return the distinct values of an axis, in increasing order if they can be sorted."""
        self._require_axes(axis)
        found = list({_key(point[axis]): point[axis] for point in self.points}.values())
        try:
            return sorted(found)
        except TypeError:
            return found

    def _require_axes(self, *axes: str) -> None:
        if unknown := [axis for axis in axes if not all(axis in point for point in self.points)]:
            raise SweepError(
                given=f"the axis {unknown[0]!r}",
                expected=f"one of {', '.join(self.axes)}, present in every point",
                remedy=f"use {next(iter(self.axes), 'an axis of the sweep')!r} or another of these names",
            )

    def to_xarray(self) -> Any:
        """Return an `xarray.Dataset` with one dimension per axis; requires the `analysis` extra.

        Names that always change together share the dimension of the first name; the other names become coordinates. For
        missing or failed points, values are NaN or empty strings; `failure` contains the exceptions. The dimensions of
        an array "curve" are curve_0, curve_1, ... If arrays differ in length along curve_0, they are padded with NaN,
        and curve_0_length contains the lengths. Raises SweepError if two points have the same values on all axes.
        """
        with needs_extra("analysis", SweepError, "to_xarray()"):
            import xarray

        self._require_axes(*self.axes)
        groups = self._groups()
        order = {axis: {_key(value): at for at, value in enumerate(self.values(axis))} for axis in groups}
        cells = [tuple(order[axis][_key(point[axis])] for axis in groups) for point in self.points]
        if len(set(cells)) < len(cells):
            raise SweepError(
                given="two points with the same values on all axes",
                expected="points that differ",
                remedy="build tables with Sweep.table(), whose points always differ",
            )
        data: dict[str, Any] = {}
        for column in self.columns:
            found = {cell: row[column] for cell, row in zip(cells, self.results, strict=True) if column in row}
            data |= _spread(column, found, {axis: len(places) for axis, places in order.items()})
        if self.failures:
            texts = {cell: self.failures.get(row, "") for row, cell in enumerate(cells)}
            data |= _spread(FAILURE, texts, {axis: len(places) for axis, places in order.items()})
        coords: dict[str, Any] = {}
        for axis, others in groups.items():
            rows = {order[axis][_key(point[axis])]: point for point in self.points}
            coords |= {name: (axis, _labels([rows[at][name] for at in sorted(rows)])) for name in (axis, *others)}
        return xarray.Dataset(data, coords)

    def _groups(self) -> dict[str, list[str]]:
        """Return the axes that need a dimension, each with the names that always change with it."""
        groups: dict[str, list[str]] = {}
        for axis in self.axes:
            for first, others in groups.items():
                pairs = {(_key(point[first]), _key(point[axis])) for point in self.points}
                if 1 < len(pairs) == len(self.values(first)) == len(self.values(axis)):
                    others.append(axis)
                    break
            else:
                groups[axis] = []
        return groups


def _key(value: Any) -> Any:
    """Return a hashable equivalent of a value: lists and arrays become tuples."""
    return tuple(map(_key, value)) if isinstance(value, list | tuple | np.ndarray) else value


def _labels(values: Sequence[Any]) -> NDArray[Any]:
    """Return the values as coordinates: unchanged if they are numbers or strings, otherwise as text."""
    kinds = {str if isinstance(value, str) else float for value in values if isinstance(value, str | int | float)}
    is_plain = len(kinds) == 1 and all(isinstance(value, str | int | float) for value in values)
    return np.array(values if is_plain else [str(value) for value in values])


def _spread(column: str, cells: Mapping[tuple[int, ...], Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the variables of a column: its values over all axes, and the lengths of ragged arrays."""
    arrays = {cell: np.asarray(value) for cell, value in cells.items()}
    shapes = [array.shape for array in arrays.values()]
    if other := [shape for shape in shapes if len(shape) != len(shapes[0])]:
        raise SweepError(
            given=f"{column!r} with arrays of shapes {shapes[0]} and {other[0]}",
            expected="arrays with the same number of dimensions",
            remedy=f"return such arrays from every point, or use the list table[{column!r}]",
        )
    inner = [max(lengths) for lengths in zip(*shapes, strict=True)]
    kind = np.result_type(*arrays.values())
    is_complete = len(arrays) == math.prod(sizes.values()) and len(set(shapes)) == 1
    if not is_complete and kind.kind not in "USfc":
        kind = np.dtype(float)  # integers and booleans cannot be NaN
    nothing = "" if kind.kind in "US" else math.nan if kind.kind in "fc" else 0
    full = np.full((*sizes.values(), *inner), nothing, kind)
    for cell, array in arrays.items():
        full[cell + tuple(map(slice, array.shape))] = array
    variables: dict[str, Any] = {column: ((*sizes, *(f"{column}_{n}" for n in range(len(inner)))), full)}
    for n, lengths in enumerate(zip(*shapes, strict=True)):
        if len(set(lengths)) > 1:
            counts = np.zeros(tuple(sizes.values()), int)
            for cell, length in zip(arrays, lengths, strict=True):
                counts[cell] = length
            variables[f"{column}_{n}_length"] = (tuple(sizes), counts)
    return variables
