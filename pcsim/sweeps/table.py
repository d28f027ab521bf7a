"""Tables of the points and results of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim.core.checks import checked
from pcsim.core.exceptions import SweepError, needs_extra

Point = dict[str, Any]
"""a point: dotted name -> value that replaces the value in the base configuration"""


@checked(SweepError)
@dataclass(frozen=True, repr=False)
class Table:
    """The results of a sweep, with one row per point.

    table["tau"] or table["settling"] returns a column: an array with one row per point, or a list if the values differ
    in shape. `where` selects rows, `over` arranges a column by axes, and `to_xarray` returns a labelled dataset.
    """

    points: Sequence[Point]
    results: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"Table({len(self)} points: {', '.join(self.axes)}; {', '.join(self.columns)})"

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
        if any(name not in row for row in rows) or not rows:
            raise SweepError(
                given=f"table[{name!r}]",
                expected=f"one of {', '.join((*self.axes, *self.columns))}, present in every row",
                remedy="use one of these names; sweep.run() computes missing rows",
            )
        values = [row[name] for row in rows]
        alike = len({np.shape(value) for value in values}) == 1
        return np.array(values) if alike else values

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
        return Table([self.points[at] for at in chosen], [self.results[at] for at in chosen])

    @checked(SweepError)
    def over(self, column: str, *axes: str) -> NDArray[Any]:
        """Return a column arranged by axes, as an array of shape (first axis, ..., repeats, *shape of a value).

        The values of each axis are ordered as in `values`. Points that differ only in other axes are repeats. Missing
        points and repeats are NaN.
        """
        self._require_axes(*axes)
        cells: dict[tuple, list[NDArray[Any]]] = {}
        for point, value in zip(self.points, self[column], strict=True):
            cells.setdefault(tuple(point[axis] for axis in axes), []).append(np.asarray(value, float))
        repeats = max(len(found) for found in cells.values())
        (shape, *others) = {value.shape for found in cells.values() for value in found}
        if others:
            raise SweepError(
                given=f"{column!r} with arrays of shapes {shape}, {others[0]}",
                expected="one shape for all points",
                remedy=f"return arrays of the same shape from every point, or use the list table[{column!r}]",
            )
        known = [list(self.values(axis)) for axis in axes]
        spread = np.full((*(len(values) for values in known), repeats, *shape), math.nan)
        for values, found in cells.items():
            at = tuple(axis.index(value) for axis, value in zip(known, values, strict=True))
            spread[at][: len(found)] = found
        return spread

    @checked(SweepError)
    def values(self, axis: str) -> list[Any]:
        """Return the distinct values of an axis, in increasing order if they can be sorted."""
        self._require_axes(axis)
        found = list(dict.fromkeys(point[axis] for point in self.points))
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
        """Return an `xarray.Dataset` with dimension `point` and axes as coordinates. Requires the extra `analysis`."""
        with needs_extra("analysis", SweepError, "to_xarray()"):
            import xarray

        coords = {axis: ("point", self[axis]) for axis in self.axes}
        data = {}
        for column in self.columns:
            values = np.asarray(self[column])
            data[column] = (("point", *(f"{column}_{n}" for n in range(values.ndim - 1))), values)
        return xarray.Dataset(data, coords)
