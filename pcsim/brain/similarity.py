"""Representational similarity: dissimilarity matrices between images, and comparisons of these matrices.

    compare(dissimilarity(run["l2"][-1]), dissimilarity(responses))         both (image, ...) for the same images

Source: Kriegeskorte et al. 2008.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError

Array = NDArray[np.float64]
Metric = Literal["correlation", "euclidean"]


@checked(StimulusError)
def dissimilarity(responses: ArrayLike | Tensor, metric: Metric = "correlation") -> Array:
    """Return the dissimilarity matrix (image, image) of responses (image, ...), with 0 on the diagonal.

    correlation  1 - Pearson's r between the responses to two images
    euclidean    squared distance divided by the number of units

    If all units respond equally to an image, its correlations are undefined and therefore NaN. Raises StimulusError for
    responses that are not finite.
    """
    x = np.asarray(responses.detach().cpu() if isinstance(responses, Tensor) else responses, float)
    x = x.reshape(len(x), -1)
    if not np.isfinite(x).all():
        raise StimulusError(
            given=f"responses {x.shape} with NaN or infinite values",
            expected="finite responses (image, ...)",
            remedy="skip missing repetitions by averaging with np.nanmean(repetitions, 0)",
        )
    if metric == "correlation":
        centred = x - x.mean(1, keepdims=True)
        size = np.linalg.norm(centred, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            patterns = centred / size
        matrix = 1.0 - patterns @ patterns.T
    elif metric == "euclidean":
        squares = (x**2).sum(1)
        matrix = np.maximum(squares[:, None] + squares - 2.0 * x @ x.T, 0.0) / x.shape[1]
    else:
        raise StimulusError(
            given=f"metric={metric!r}", expected="correlation or euclidean", remedy="pass metric='correlation'"
        )
    np.fill_diagonal(matrix, 0.0)
    return matrix


@checked(StimulusError)
def upper(matrix: ArrayLike) -> Array:
    """Return the entries above the diagonal, row by row."""
    square = np.asarray(matrix, float)
    return square[np.triu_indices(len(square), 1)]


@checked(StimulusError)
def compare(
    first: ArrayLike, second: ArrayLike, method: Literal["spearman", "pearson", "kendall"] = "spearman"
) -> float:
    """Return the correlation of the upper triangles of two dissimilarity matrices; NaN if either contains NaN.

    "kendall" is tau-b. Raises StimulusError for matrices that are not square or differ in size.
    """
    from scipy import stats

    shapes = np.shape(first), np.shape(second)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or len(set(shapes[0])) != 1:
        raise StimulusError(
            given=f"matrices of shapes {shapes[0]} and {shapes[1]}",
            expected="two matrices (image, image) for the same images",
            remedy="call compare(dissimilarity(responses), dissimilarity(others)) with the same images",
        )
    correlate = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}
    if method not in correlate:
        raise StimulusError(given=f"method={method!r}", expected=", ".join(correlate), remedy="pass method='spearman'")
    return float(correlate[method](upper(first), upper(second)).statistic)


@checked(StimulusError)
def ceiling_of_matrices(matrices: ArrayLike) -> tuple[float, float]:
    """Return the noise ceiling (low, high) of Spearman correlations with subjects' `matrices` (subject, image, image).

    high  mean correlation of each subject with the average ranks of all subjects; no model can exceed it
    low   mean correlation of each subject with the average ranks of the other subjects

    Source: Nili et al. 2014.
    """
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(upper(matrix)) for matrix in np.asarray(matrices, float)])
    high = np.mean([np.corrcoef(row, ranks.mean(0))[0, 1] for row in ranks])
    others = [np.delete(ranks, number, 0).mean(0) for number in range(len(ranks))]
    low = np.mean([np.corrcoef(row, rankdata(other))[0, 1] for row, other in zip(ranks, others, strict=True)])
    return float(low), float(high)
