"""Representational similarity: dissimilarity matrices of images, and comparisons between matrices.

    compare(dissimilarity(run["l2"][-1]), dissimilarity(responses))         both (image, ...) for the same images

Source: Kriegeskorte et al. 2008.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.arguments import as_array
from pcsim.analysis.statistics import centred, correlation
from pcsim.core.checks import Axes, Count, Whole, checked
from pcsim.core.exceptions import StimulusError

Array = NDArray[np.float64]
Metric = Literal["correlation", "euclidean"]
Method = Literal["spearman", "pearson", "kendall"]


@checked(StimulusError)
def dissimilarity(
    responses: Annotated[ArrayLike | Tensor, Axes("image, ...", is_float=False)], metric: Metric = "correlation"
) -> Array:
    """Return the dissimilarity matrix (image, image) of responses (image, ...), with 0 on the diagonal.

    correlation  1 - r, where r is Pearson's correlation between the responses to two images
    euclidean    squared distance divided by the number of units

    If all units respond equally to an image, its correlations are undefined and set to NaN. Units that respond
    equally to all images are included, because patterns are compared across units. Raises StimulusError for responses
    that are not finite.
    """
    x = as_array(responses, "image presentation sample", more=True).astype(float)
    x = x.reshape(len(x), -1)
    spoiled = np.flatnonzero(~np.isfinite(x).all(0))
    if len(spoiled):
        raise StimulusError(
            given=f"responses {x.shape} with NaN or infinite values in units {spoiled[:5].tolist()}"
            + (f" and {len(spoiled) - 5} more" if len(spoiled) > 5 else ""),
            expected="finite responses (image, ...)",
            remedy="average over the available repetitions with np.nanmean(repetitions, 0), and leave out units "
            "without data: responses[:, np.isfinite(responses).all(0)]",
        )
    if metric == "correlation":
        away, size = centred(x.T)
        patterns = (away / size).T
        matrix = 1.0 - patterns @ patterns.T
    else:
        squares = (x**2).sum(1)
        matrix = np.maximum(squares[:, None] + squares - 2.0 * x @ x.T, 0.0) / x.shape[1]
    np.fill_diagonal(matrix, 0.0)
    return matrix


@checked(StimulusError)
def upper(matrix: ArrayLike) -> Array:
    """Return the entries above the diagonal, row by row. Raises StimulusError for a matrix that is not symmetric."""
    square = np.asarray(matrix, float)
    if square.ndim != 2 or square.shape[0] != square.shape[1]:
        raise StimulusError(
            given=f"a matrix of shape {square.shape}",
            expected="a dissimilarity matrix (image, image)",
            remedy="pass dissimilarity(responses)",
        )
    if not np.allclose(square, square.T, rtol=1e-5, atol=1e-8, equal_nan=True):
        raise StimulusError(
            given="a matrix that is not symmetric",
            expected="the same dissimilarity above and below the diagonal for each pair of images",
            remedy="average both directions: (matrix + matrix.T) / 2",
        )
    return square[np.triu_indices(len(square), 1)]


@checked(StimulusError)
def compare(first: ArrayLike, second: ArrayLike, method: Method = "spearman") -> float:
    """Return the correlation of the upper triangles of two dissimilarity matrices.

    The result is NaN if either triangle contains NaN or does not vary. "kendall" is tau-b. Raises StimulusError for
    matrices that are not symmetric, differ in size or have fewer than three images.
    """
    if np.shape(first) != np.shape(second) or len(np.shape(first)) != 2 or len(np.asarray(first)) < 3:
        raise StimulusError(
            given=f"matrices of shapes {np.shape(first)} and {np.shape(second)}",
            expected="two matrices (image, image) for the same three or more images",
            remedy="call compare(dissimilarity(responses), dissimilarity(others)) with the same images",
        )
    return correlation(upper(first), upper(second), method)


@dataclass(frozen=True)
class Similarity:
    """The correlation of two dissimilarity matrices, its p-value, and its 95 % interval from `low` to `high`."""

    correlation: float
    p: float
    low: float
    high: float


@checked(StimulusError)
def mantel(
    first: ArrayLike,
    second: ArrayLike,
    method: Method = "spearman",
    *,
    permutations: Count = 1_000,
    draws: Count = 1_000,
    alternative: Literal["greater", "two-sided"] = "greater",
    seed: Whole = 0,
) -> Similarity:
    """Compare two dissimilarity matrices with a Mantel test and a bootstrap interval over images.

    permutations  number m of random permutations of the images of `first`. p = (b + 1) / (m + 1), where b permutations
                  reach at least the observed correlation, or |correlation| if "two-sided" (Mantel 1967; Phipson &
                  Smyth 2010)
    draws         number of bootstrap samples of the images, with replacement; pairs of the same image are left out
                  (Nili et al. 2014). The interval contains the central 95 % of their correlations

    The other arguments and errors are those of `compare`. All results are NaN if a matrix contains NaN or does not
    vary.

        similarity.mantel(dissimilarity(run["l2"][-1]), dissimilarity(recording))
    """
    found = compare(first, second, method)
    if math.isnan(found):
        return Similarity(*[math.nan] * 4)
    one, other = np.asarray(first, float), np.asarray(second, float)
    generator, images = np.random.default_rng(seed), len(one)
    theirs, above = upper(other), np.triu_indices(images, 1)
    size = abs if alternative == "two-sided" else float
    count = 0
    for _ in range(permutations):
        order = generator.permutation(images)
        count += size(correlation(one[np.ix_(order, order)][above], theirs, method)) >= size(found) - 1e-12
    resampled = np.empty(draws)
    for draw in range(draws):
        chosen = generator.integers(images, size=images)
        differ = chosen[above[0]] != chosen[above[1]]
        pairs = chosen[above[0]][differ], chosen[above[1]][differ]
        resampled[draw] = correlation(one[pairs], other[pairs], method) if differ.sum() > 1 else math.nan
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Similarity(found, (count + 1) / (permutations + 1), float(low), float(high))


@checked(StimulusError)
def ceiling_of_matrices(
    matrices: Annotated[ArrayLike, Axes("subject, image, image", is_float=False)],
) -> tuple[float, float]:
    """Return the noise ceiling (low, high) for Spearman correlations with subjects' `matrices` (subject, image, image).

    high  mean correlation of each subject with the average ranks of all subjects; no model can exceed it
    low   mean correlation of each subject with the average ranks of the other subjects

    Source: Nili et al. 2014. Raises StimulusError for fewer than two subjects, or if a subject's matrix contains NaN or
    does not vary.
    """
    from scipy.stats import rankdata

    triangles = [upper(matrix) for matrix in matrices]  # type: ignore[union-attr]
    undefined = [number for number, triangle in enumerate(triangles) if np.isnan(centred(triangle)[1])]
    if len(triangles) < 2 or undefined or len({len(triangle) for triangle in triangles}) != 1:
        raise StimulusError(
            given=f"{len(triangles)} matrices"
            + (f", of which {undefined} contain NaN or do not vary" if undefined else ""),
            expected="finite matrices (subject, image, image) of two or more subjects for the same images",
            remedy=f"leave out these subjects, as in np.delete(matrices, {undefined}, axis=0), or the images with NaN",
        )
    ranks = np.stack([rankdata(triangle) for triangle in triangles])
    high = np.mean([np.corrcoef(row, ranks.mean(0))[0, 1] for row in ranks])
    others = [np.delete(ranks, number, 0).mean(0) for number in range(len(ranks))]
    low = np.mean([np.corrcoef(row, rankdata(other))[0, 1] for row, other in zip(ranks, others, strict=True)])
    return float(low), float(high)


__all__ = ["Similarity", "ceiling_of_matrices", "compare", "dissimilarity", "mantel", "upper"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
