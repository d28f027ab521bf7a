"""Regression with image-by-image kernels X X^T: partial least squares and ridge regression.

The size of a kernel depends only on the number of images, and features can be passed in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.arguments import as_array
from pcsim.core.checks import Axes, Count, checked
from pcsim.core.exceptions import StimulusError

RIDGE = tuple(10.0**power for power in range(-3, 7))
"""ridge penalties to try, relative to the mean of the kernel's diagonal"""
CHUNK = 4_096

Matrix = Annotated[Tensor, Axes("row, column")]


@checked(StimulusError)
@dataclass(frozen=True)
class Kernel:
    """The kernel X X^T of features X that are centred over images; `products` is the matrix (image, image)."""

    products: Tensor

    @classmethod
    @checked(StimulusError)
    def of(cls, features: Iterable[ArrayLike | Tensor] | ArrayLike | Tensor) -> Kernel:
        """Compute the kernel of features (image, ...), or of an iterable of feature blocks (image, block).

        Raises StimulusError for features that are not finite, or blocks with different numbers of images.
        """
        whole = isinstance(features, Tensor | np.ndarray) or hasattr(features, "dims") or np.isscalar(features)
        parts = [features] if whole else cast(Iterable[ArrayLike | Tensor], features)
        products: Tensor | None = None
        for part in parts:
            given = part if isinstance(part, Tensor) else as_array(part, "image presentation sample", more=True)
            x = torch.as_tensor(given).detach()
            if x.dim() < 2 or (products is not None and len(products) != len(x)):
                raise StimulusError(
                    given=f"features {tuple(x.shape)}"
                    + (f" after a block of {len(products)} images" if products is not None else ""),
                    expected="features (image, ...), with the same number of images in each block",
                    remedy="pass an array (image, feature), such as features[:, None] for a single feature",
                )
            x = x.flatten(1)
            for columns in x.split(CHUNK, 1):
                wide = columns.double()
                # Features are centred first, because products of values far from zero lose precision.
                wide = wide - wide.mean(0)
                products = wide @ wide.T if products is None else products.addmm_(wide, wide.T)
        if products is None or not bool(torch.isfinite(products).all()):
            raise StimulusError(
                given="no features, or features with NaN or infinite values",
                expected="finite features (image, ...)",
                remedy="pass np.nan_to_num(features), or leave out the affected images",
            )
        return cls(products)

    def __len__(self) -> int:
        return len(self.products)

    def of_images(self, chosen: NDArray[np.int64]) -> Kernel:
        """Return the kernel restricted to the images with indices `chosen`."""
        at = torch.from_numpy(chosen)
        return Kernel(self.products[at][:, at])

    def centred(self, training: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training kernel (n, n) and the other-by-training kernel (m, n), centred by the training mean."""
        k = self.products[training][:, training]
        across = self.products[others][:, training]
        mean, total = k.mean(0), k.mean()
        return k - mean - mean[:, None] + total, across - mean - across.mean(1, keepdim=True) + total


@checked(StimulusError)
def pls(k: Matrix, across: Matrix, y: Matrix, components: Count = 25) -> Tensor:
    """Predict responses (m, neuroid) to other images by partial least squares (PLS2, centred but not scaled).

    w = X^T Y q, q the leading eigenvector of Y^T X X^T Y;  t = X w;  X and Y are deflated by t     for each component
    Y' = across U ( T^T K U )^-1 T^T Y,  U = Y q                                                   for the prediction

    `k` (n, n) and `across` (m, n) come from `Kernel.centred`; `y` (n, neuroid) is centred. Source: Rosipal & Trejo
    2001, with weights as in scikit-learn's PLSRegression(scale=False). Raises StimulusError for NaN or infinite values.
    """
    _require_fitting(k, across, y)
    left, rest, whole = k.clone(), y.clone(), k.diagonal().sum()
    scores, weights = [], []
    for _ in range(min(components, len(k) - 1)):
        u = rest @ torch.linalg.eigh(rest.T @ left @ rest)[1][:, -1] if y.shape[1] > 1 else rest[:, 0]
        t = left @ u
        size = t.norm()
        if not size > 1e-10 * whole * u.norm():
            break  # without remaining variance, more components would only fit rounding errors
        t = t / size
        scores.append(t)
        weights.append(u)
        left = left - torch.outer(t, t @ left)
        left = left - torch.outer(left @ t, t)
        rest = rest - torch.outer(t, t @ rest)
    if not scores:
        return torch.zeros(len(across), y.shape[1], dtype=y.dtype)
    t, u = torch.stack(scores, 1), torch.stack(weights, 1)
    return across @ u @ torch.linalg.solve(t.T @ k @ u, t.T @ y)


@checked(StimulusError)
def ridge(k: Matrix, across: Matrix, y: Matrix, penalties: Sequence[float] = RIDGE) -> Tensor:
    """Predict responses (m, neuroid) to other images by ridge regression, using one penalty per neuroid.

    Y' = across A,  A = ( K + lambda I )^-1 Y,  leave-one-out residual of image i: A_i / (K + lambda I)^-1_ii
    `penalties` are values of lambda relative to the mean of K's diagonal. For each neuroid, the penalty with the
    smallest mean squared residual is used. Raises StimulusError for NaN or infinite values.
    """
    _require_fitting(k, across, y)
    values, vectors = torch.linalg.eigh(k)
    turned, unit = vectors.T @ y, k.diagonal().mean()
    best = torch.full((y.shape[1],), math.inf, dtype=y.dtype)
    dual = torch.zeros_like(y)
    for penalty in penalties:
        inverse = 1.0 / (values.clamp_min(0.0) + penalty * unit)
        a = vectors @ (inverse[:, None] * turned)
        loo = (a / (vectors.square() @ inverse)[:, None]).square().mean(0)
        better = loo < best
        best, dual = torch.where(better, loo, best), torch.where(better, a, dual)
    return across @ dual


def _require_fitting(k: Tensor, across: Tensor, y: Tensor) -> None:
    if k.shape != (len(y), len(y)) or across.shape[1] != len(y) or not k.dtype == across.dtype == y.dtype:
        raise StimulusError(
            given=f"k {tuple(k.shape)}, across {tuple(across.shape)} and y {tuple(y.shape)} of types "
            f"{k.dtype}, {across.dtype} and {y.dtype}",
            expected="k (n, n), across (m, n) and y (n, neuroid), all of the same type",
            remedy="pass kernel.centred(training, others), and y.double()",
        )
    if not all(bool(torch.isfinite(values).all()) for values in (k, across, y)):
        raise StimulusError(
            given=f"kernels and responses {tuple(y.shape)} with NaN or infinite values",
            expected="finite responses (image, neuroid)",
            remedy="call predictivity(features, responses), which ignores missing responses",
        )
