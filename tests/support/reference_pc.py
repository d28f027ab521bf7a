"""Float64 NumPy references of predictive coding networks and the Hopfield network.

They were written from the papers by an author who had not seen the package, and they share no code with it. Maps are
(batch, channel, height, width), and convolution weights are (out, in, k, k). A transposed convolution with weights V is
the adjoint of the convolution with V. Every function returns one dict per step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Any]
Steps = list[dict[str, Array]]


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def chan(values: Array) -> Array:
    return np.asarray(values, np.float64).reshape(1, -1, 1, 1)


def conv2d(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Correlate with stride 1 and zero padding k // 2."""
    out, _, kh, kw = weight.shape
    batch, _, height, width = x.shape
    padded = np.zeros((batch, x.shape[1], height + kh - 1, width + kw - 1))
    padded[:, :, kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width] = x
    y = np.zeros((batch, out, height, width))
    for i in range(kh):
        for j in range(kw):
            y += np.einsum("bchw,oc->bohw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j])
    return y if bias is None else y + chan(bias)


def conv2d_t(y: Array, weight: Array, bias: Array | None = None) -> Array:
    """Apply the adjoint of `conv2d` with this weight."""
    _, out, kh, kw = weight.shape
    batch, _, height, width = y.shape
    full = np.zeros((batch, out, height + kh - 1, width + kw - 1))
    for i in range(kh):
        for j in range(kw):
            full[:, :, i : i + height, j : j + width] += np.einsum("bchw,co->bohw", y, weight[:, :, i, j])
    x = full[:, :, kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width]
    return x if bias is None else x + chan(bias)


def max_pool2(x: Array) -> Array:
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def up_bilinear(x: Array, align_corners: bool = False) -> Array:
    def matrix(n: int) -> Array:
        m = np.zeros((2 * n, n))
        for i in range(2 * n):
            at = i * (n - 1) / (2 * n - 1) if align_corners else max((i + 0.5) / 2 - 0.5, 0.0)
            low = min(int(np.floor(at)), n - 1)
            m[i, low] += 1 - (at - low)
            m[i, min(low + 1, n - 1)] += at - low
        return m

    return np.einsum("ih,jw,bchw->bcij", matrix(x.shape[2]), matrix(x.shape[3]), x)


def batch_norm(x: Array, w: Weights, training: bool, eps: float = 1e-5) -> Array:
    """Normalise each channel of maps or vectors, with the batch's mean and variance in training."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    form = (1, -1) + (1,) * (x.ndim - 2)
    mean, variance = (x.mean(axes), x.var(axes)) if training else (w["mean"], w["var"])
    scaled = (x - mean.reshape(form)) / np.sqrt(variance.reshape(form) + eps)
    return scaled * w["gamma"].reshape(form) + w["beta"].reshape(form)


def group_norm1(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> Array:
    mean, variance = x.mean(axis=(1, 2, 3), keepdims=True), x.var(axis=(1, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * chan(gamma) + chan(beta)


def pcn_global(
    w: Weights, x: Array, steps: int, pool: list[bool], align_corners: bool = False, is_normed: bool = False
) -> Steps:
    """Run algorithm 1 of Wen et al. 2018, with in-place updates in both passes; cycle 0 is the feed-forward pass.

    `w` contains FF1.., FB1.. (tied: the same arrays), a1.. and b1.. (rectified here), W and c of the readout, and g1..
    and h1.. of each layer's group norm, which follows every update of the layer, as in the authors' code of November
    2018. Pooling is part of FF, before the ReLU, and bilinear upsampling is part of FB.
    """
    top = len(pool)

    def ff(n: int, u: Array) -> Array:
        y = conv2d(u, w[f"FF{n}"])
        return max_pool2(y) if pool[n - 1] else y

    def fb(n: int, u: Array) -> Array:
        return conv2d_t(up_bilinear(u, align_corners) if pool[n - 1] else u, w[f"FB{n}"])

    def normed(n: int, u: Array) -> Array:
        return group_norm1(u, w[f"g{n}"], w[f"h{n}"]) if is_normed else u

    def row(extra: dict[str, Array]) -> dict[str, Array]:
        found = {f"r{n}": r[n] for n in range(1, top + 1)} | extra
        return found | {"readout": r[top].mean(axis=(2, 3)) @ w["W"].T + w["c"]}

    r = [x]
    for n in range(1, top + 1):
        r.append(normed(n, relu(ff(n, r[n - 1]))))
    found = [row({})]
    for _ in range(steps):
        p, e = [np.zeros(0)] * top, [np.zeros(0)] * top
        for n in range(top, 0, -1):
            p[n - 1] = fb(n, r[n])
            if n > 1:
                a = chan(relu(w[f"a{n - 1}"]))
                r[n - 1] = normed(n - 1, relu(a * p[n - 1] + (1 - a) * r[n - 1]))
        for n in range(1, top + 1):
            e[n - 1] = r[n - 1] - p[n - 1]
            r[n] = normed(n, relu(r[n] + chan(relu(w[f"b{n}"])) * ff(n, e[n - 1])))
        found.append(row({f"p{n}": p[n] for n in range(top)} | {f"e{n}": e[n] for n in range(top)}))
    return found


def pcn_local_block(w: Weights, r: Array, steps: int, chainer: bool, training: bool) -> Steps:
    """Han et al. 2018: x = BN(r), y = ReLU(FF(x)); T times p = FB(y), e = ReLU(x - p), y <- y + b FF(e).

    The output is y + BP(x). The Chainer code predicts r instead of x, and has biases and one rate |b| per block. The
    published code has rates ReLU(b0 + 1).
    """
    x = batch_norm(r, w, training)
    rate = np.abs(w["rate"]) if chainer else relu(w["rate"] + 1)
    y = relu(conv2d(x, w["FF"], w.get("ffb")))
    bypass = conv2d(x, w["BP"], w.get("bpb"))
    found = [{"x": x, "y": y, "out": y + bypass}]
    for _ in range(steps):
        p = conv2d_t(y, w["FB"], w.get("fbb"))
        e = relu((r if chainer else x) - p)
        y = y + chan(rate) * conv2d(e, w["FF"], w.get("ffb"))
        found.append({"x": x, "p": p, "e": e, "y": y, "out": y + bypass})
    return found


def pcn_local(
    w: Weights, x: Array, steps: int, pool: list[bool], chainer: bool, training: bool = False
) -> tuple[list[Steps], Array]:
    """Return the steps of every block, and the logits. Each block finishes its cycles before the next one starts.

    The head is BN, ReLU, average pooling, linear. In the Chainer code (commit 4cf5a51), it is average pooling, BN,
    linear without bias.
    """
    found = []
    r = x
    for block, is_pooled in zip(w["blocks"], pool, strict=True):
        found.append(pcn_local_block(block, r, steps, chainer, training))
        r = found[-1][-1]["out"]
        r = max_pool2(r) if is_pooled else r
    if chainer:
        return found, batch_norm(r.mean(axis=(2, 3)), w, training) @ w["W"].T
    return found, relu(batch_norm(r, w, training)).mean(axis=(2, 3)) @ w["W"].T + w["c"]


def hopfield_sums(patterns: Array) -> NDArray[np.int64]:
    """Return N W = sum_mu xi xi^T with zero diagonal, in integers (Hopfield 1982, eq. 2)."""
    xi = np.rint(patterns).astype(np.int64)
    sums = xi.T @ xi
    np.fill_diagonal(sums, 0)
    return sums


def hopfield_update(sums: NDArray[np.int64], s: Array, threshold: int, turns: NDArray[np.int64] | None) -> Array:
    """Return s after one update of all units, or of the unit in `turns` of each sample. A tie keeps the state.

    Integer fields N W s are compared with the integer N theta.
    """
    state = np.rint(s).astype(np.int64)
    field = state @ sums.T - threshold
    new = np.where(field > 0, 1, np.where(field < 0, -1, state))
    if turns is not None:
        chosen = np.arange(state.shape[1]) == turns[:, None]
        new = np.where(chosen, new, state)
    return new.astype(np.float64)
