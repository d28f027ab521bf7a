"""Float64 NumPy references of BLT networks and of ConvRNNs with reciprocal gated cells.

They were written from the papers and the authors' published code by an author who had not seen the package, and they
share no code with it. Maps are (batch, channel, height, width). Weights are (out, in, k, k) for convolutions and (from,
to, k, k) for transposed convolutions. Every function returns one dict per step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Any]


def relu(a: Array) -> Array:
    return np.maximum(a, 0.0)


def sigmoid(a: Array) -> Array:
    return np.where(a >= 0, 1 / (1 + np.exp(-np.abs(a))), np.exp(-np.abs(a)) / (1 + np.exp(-np.abs(a))))


def elu(a: Array) -> Array:
    return np.where(a > 0, a, np.expm1(np.minimum(a, 0)))


ACT = {"relu": relu, "sigmoid": sigmoid, "elu": elu, "tanh": np.tanh, "identity": lambda a: a}


def same_pads(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding before and after n pixels."""
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 1, groups: int = 1, is_padded: bool = True
) -> Array:
    """Correlate with TensorFlow's SAME padding, or without padding."""
    kh, kw = w.shape[2:]
    if is_padded:
        x = np.pad(x, ((0, 0), (0, 0), same_pads(x.shape[2], kh, stride), same_pads(x.shape[3], kw, stride)))
    oh, ow = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    out = np.zeros((x.shape[0], w.shape[0], oh, ow))
    gi, go = x.shape[1] // groups, w.shape[0] // groups
    for a in range(kh):
        for c in range(kw):
            part = x[:, :, a : a + (oh - 1) * stride + 1 : stride, c : c + (ow - 1) * stride + 1 : stride]
            for g in range(groups):
                own = slice(g * go, (g + 1) * go)
                out[:, own] += np.einsum("bihw,oi->bohw", part[:, g * gi : (g + 1) * gi], w[own, :, a, c])
    return out if b is None else out + b[None, :, None, None]


def conv_transpose2d(x: Array, w: Array, padding: int, size: tuple[int, int]) -> Array:
    """y[2 i + a - padding] += x[i] w[a], cropped to `size`."""
    kh, kw = w.shape[2:]
    height, width = x.shape[2:]
    full = np.zeros((x.shape[0], w.shape[1], 2 * height + kh + padding, 2 * width + kw + padding))
    for a in range(kh):
        for c in range(kw):
            sent = np.einsum("bihw,io->bohw", x, w[:, :, a, c])
            full[:, :, a : a + 2 * height : 2, c : c + 2 * width : 2] += sent
    return full[:, :, padding : padding + size[0], padding : padding + size[1]]


def max_pool2(x: Array) -> Array:
    """Take the maximum of 2x2 windows with stride 2 and TensorFlow's SAME padding."""
    pads = [(0, 0), (0, 0), same_pads(x.shape[2], 2, 2), same_pads(x.shape[3], 2, 2)]
    x = np.pad(x, pads, constant_values=-np.inf)
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def resize_bilinear(x: Array, size: tuple[int, int]) -> Array:
    """Resize with aligned corners."""
    for axis, n in ((2, size[0]), (3, size[1])):
        m = x.shape[axis]
        at = np.zeros(1) if n == 1 else np.arange(n) * (m - 1) / (n - 1)
        low = np.minimum(np.floor(at).astype(int), max(m - 2, 0))
        share = (at - low).reshape([-1, 1] if axis == 2 else [-1])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, m - 1), axis) * share
    return x


def lrn(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.5, k: float = 1.0) -> Array:
    """x (k + alpha sum_{|k'-k| <= size // 2} x^2)^-beta: alpha is not divided by the window."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        out[:, c] = x[:, c] * (k + alpha * (window**2).sum(1)) ** (-beta)
    return out


def blt(w: Weights, frames: list[Array], lrn_in_state: bool, unroll: str, alpha: float) -> list[dict[str, Array]]:
    """Spoerer et al. 2017: z = Wb*pool(h below) + Wl*h(t-1) + Wt *T h above(t-1) + b; h = LRN(ReLU(z)); Wr max h + br.

    `w` contains b1, b2, l1, l2, t1, bias1, bias2, wr and br; connections without weights are absent. Lateral and
    top-down connections receive h with `lrn_in_state`, and r = ReLU(z) without. The next layer and the readout always
    receive h.
    """
    h: dict[int, Array] = {}
    r: dict[int, Array] = {}
    found = []
    for t, image in enumerate(frames):
        new_h: dict[int, Array] = {}
        new_r: dict[int, Array] = {}
        for m in (1, 2):
            source = image if m == 1 else (new_h if unroll == "engineering" else h).get(1)
            if source is None:  # biological, t = 0: no input has arrived
                z = np.zeros((len(image), len(w["bias2"]), image.shape[2] // 2, image.shape[3] // 2))
            else:
                z = conv2d(source if m == 1 else max_pool2(source), w[f"b{m}"])
            seen = h if lrn_in_state else r
            if f"l{m}" in w and t:
                z = z + conv2d(seen[m], w[f"l{m}"])
            if f"t{m}" in w and t:
                z = z + conv_transpose2d(seen[2], w[f"t{m}"], (w[f"t{m}"].shape[2] - 1) // 2, z.shape[2:])
            new_r[m] = relu(z + w[f"bias{m}"][None, :, None, None])
            new_h[m] = lrn(new_r[m], alpha=alpha)
        h, r = new_h, new_r
        kept = h if lrn_in_state else r
        found.append({"l1": kept[1], "l2": kept[2], "readout": h[2].max((2, 3)) @ w["wr"].T + w["br"]})
    return found


CELL = {
    "tau": (1.0, -1.0, "sigmoid"),
    "gate": (1.0, -1.0, "sigmoid"),
    "act_c": "elu",
    "act_o": "elu",
    "act_f": "identity",
    "input_act": "identity",
    "cell_to_out": False,
    "out_residual": False,
    "feedback_entry": "out",
}
"""settings of `rg_cell`; gates are (offset, multiplier, nonlinearity)"""


def convolved(w: Weights, key: str, x: Array) -> Array:
    """Convolve with w[key], or depthwise with w[key + ".dw"] and then with w[key + ".pw"], and add the bias if any."""
    if key + ".dw" in w:
        return conv2d(conv2d(x, w[key + ".dw"], groups=x.shape[1]), w[key + ".pw"], w.get(key + ".b"))
    return conv2d(x, w[key], w.get(key + ".b"))


def rg_cell(
    w: Weights, x: Array, res: Array, fb: Array | None, c: Array, o: Array, settings: dict[str, Any]
) -> tuple[Array, Array]:
    """Return the next c and o of the reference cell of Nayebi et al. 2018 (median_rgcell.py of the authors' code).

    The input activation is applied first, after any feedback to the input, so the rest of the cell receives the
    activated x. `w` contains ff (x to c), ff_res, tau_c, gate_c, tau_o, gate_o, io (x to o; if missing, x itself), co
    (c to o), res_proj, fb, and the optional terms (tau|gate)_(c|o)_(x|res). With `cell_to_out`, c drives o, and the
    gate of o is computed from 0.
    """
    p = CELL | settings

    def gate(kind: str, drive: Array) -> Array:
        offset, multiplier, nonlinearity = p[kind]
        return offset + multiplier * ACT[nonlinearity](drive)

    def more(key: str) -> Array:
        given = (("_x", x), ("_res", res))
        return sum((convolved(w, key + end, value) for end, value in given if key + end in w), np.zeros(1))

    def entering(entry: str) -> Array:
        if fb is None or p["feedback_entry"] != entry:
            return np.zeros(1)
        return ACT[p["act_f"]](convolved(w, "fb", fb))

    x = ACT[p["input_act"]](x + entering("input"))
    ci = convolved(w, "ff", x) if "ff" in w else x
    ci = ci + (convolved(w, "ff_res", res) if "ff_res" in w else 0.0) + entering("cell")
    keep_c, open_c = convolved(w, "tau_c", c) + more("tau_c"), convolved(w, "gate_c", o) + more("gate_c")
    new_c = ACT[p["act_c"]](gate("tau", keep_c) * c + gate("gate", open_c) * ci)
    oi = (convolved(w, "io", x) if "io" in w else x) + entering("out")
    if p["cell_to_out"]:
        oi = oi + convolved(w, "co", c)
    if p["out_residual"]:
        oi = oi + (convolved(w, "res_proj", res) if "res_proj" in w else res)
    open_o = (np.zeros_like(o) if p["cell_to_out"] else convolved(w, "gate_o", c)) + more("gate_o")
    keep_o = convolved(w, "tau_o", o) + more("tau_o")
    return new_c, ACT[p["act_o"]](gate("tau", keep_o) * o + gate("gate", open_o) * oi)


def convrnn(
    w: Weights, frames: list[Array], layers: list[dict[str, Any]], edges: list[tuple[int, int]], unroll: str, head: str
) -> list[dict[str, Array]]:
    """Run a chain of nodes with long-range feedback, as in the graphs of Nayebi et al. 2018.

    Each entry of `layers` has stride, pool and cell (None, or settings of `rg_cell` with "depth"). A node without a
    cell is ELU(conv). Layers are numbered from 1; w[n] contains w, b and cell of layer n, and w["readout"] the head. In
    biological unrolling, a node receives the image of the current step and all nodes of the previous step. In
    engineering unrolling, only feedback comes from the previous step. Feedback is resized to the cell's maps and
    concatenated in the order of the sources.
    """
    count, batch = len(layers), len(frames[0])
    maps, sent = {}, {}
    height, width = frames[0].shape[2:]
    for n, layer in enumerate(layers, 1):
        height, width = -(-height // layer["stride"]), -(-width // layer["stride"])
        maps[n] = (batch, len(w[n]["w"]), height, width)
        height, width = (-(-height // 2), -(-width // 2)) if layer["pool"] else (height, width)
        sent[n] = np.zeros((*maps[n][:2], height, width))
    c = {
        n: np.zeros((batch, layer["cell"]["depth"], *maps[n][2:])) for n, layer in enumerate(layers, 1) if layer["cell"]
    }
    o = {n: np.zeros(shape) for n, shape in maps.items()}
    found = []
    for image in frames:
        row, now = {}, {}
        for n, layer in enumerate(layers, 1):
            res = image if n == 1 else (sent if unroll == "biological" else now)[n - 1]
            x = conv2d(res, w[n]["w"], w[n]["b"], layer["stride"])
            sources = sorted(a for a, b in edges if b == n)
            fb = np.concatenate([resize_bilinear(sent[a], maps[n][2:]) for a in sources], 1) if sources else None
            if layer["cell"]:
                c[n], o[n] = rg_cell(w[n]["cell"], x, res, fb, c[n], o[n], layer["cell"])
                row[f"c{n}"] = c[n]
            else:
                o[n] = elu(x)
            row[f"h{n}"] = o[n]
            now[n] = max_pool2(o[n]) if layer["pool"] else o[n]
        last, (weight, bias) = (sent if unroll == "biological" else now)[count], w["readout"]
        if head == "conv":
            row["readout"] = conv2d(last, weight, bias, is_padded=False).mean((2, 3))
        else:
            row["readout"] = last.mean((2, 3)) @ weight.T + bias
        sent = now
        found.append(row)
    return found
