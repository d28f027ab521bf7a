"""Points of a sweep: all combinations of values, or samples of ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Literal

import numpy as np

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import SweepError

Point = dict[str, Any]
"""a point: the values to change, by dotted name"""
Axes = Mapping[str | tuple[str, ...], Iterable[Any]]


@checked(SweepError)
def grid(axes: Axes) -> list[Point]:
    """Return all combinations; the last axis varies fastest. Names in a tuple change together, with tuples as values.

    grid({("tau.low", "tau.high"): [(5.0, 10.0), (10.0, 20.0)], "seed": range(3)})
    """
    return [_point(zip(axes, values, strict=True)) for values in product(*(list(values) for values in axes.values()))]


@checked(SweepError)
def sample(
    ranges: Mapping[str | tuple[str, ...], tuple],
    count: Count,
    seed: Whole = 0,
    how: Literal["random", "latin_hypercube"] = "latin_hypercube",
) -> list[Point]:
    """Draw `count` points from ranges (low, high) or (low, high, "log"); names in a tuple share one value.

    latin_hypercube  divides each range into `count` equal parts (in log space with "log") and samples each part once
    Raises SweepError for an invalid range.
    """
    from scipy.stats import qmc

    for name, ends in ranges.items():
        low, high, *scale = ends if _is_range(ends) else (0.0, 0.0)
        if not low < high or scale not in ([], ["log"]) or (scale and low <= 0):
            raise SweepError(
                given=f"{name}: {ranges[name]}",
                expected='(low, high) with low < high, or (low, high, "log") with low > 0',
                remedy=f"write {{{name!r}: (1.0, 100.0, 'log')}}",
            )
    if how == "latin_hypercube":
        shares = qmc.LatinHypercube(len(ranges), rng=np.random.default_rng(seed)).random(count)
    else:
        shares = np.random.default_rng(seed).random((count, len(ranges)))
    return [
        _point((names, _within(share, *ends)) for share, (names, ends) in zip(row, ranges.items(), strict=True))
        for row in shares
    ]


def _is_range(ends: tuple) -> bool:
    return len(ends) >= 2 and all(isinstance(end, int | float) and math.isfinite(end) for end in ends[:2])


def _point(pairs: Iterable[tuple[str | tuple[str, ...], Any]]) -> Point:
    point: Point = {}
    for names_, value in pairs:
        if isinstance(names_, str):
            point[names_] = value
        else:
            if isinstance(value, list | np.ndarray):
                raise SweepError(
                    given=f"{value!r} for {', '.join(names_)}",
                    expected="a tuple with one value for each name, or a single value for all",
                    remedy=f"write tuple({value!r})",
                )
            values = value if isinstance(value, tuple) else (value,) * len(names_)
            if len(values) != len(names_):
                raise SweepError(
                    given=f"{value} for {', '.join(names_)}",
                    expected=f"{len(names_)} values, one for each name",
                    remedy=f"write {{{names_}: [{tuple(range(len(names_)))}]}}",
                )
            point |= dict(zip(names_, values, strict=True))
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in point.items()}


def _within(share: float, low: float, high: float, scale: str = "") -> float:
    return float(low * (high / low) ** share) if scale else float(low + share * (high - low))
