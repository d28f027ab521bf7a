"""JavaScript statements that fill an array with the result of an operator, by the operator's name in a trace.

Arguments are named as in torch's schemas. Any batch size works, although a page runs one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pcsim.core.exceptions import WiringError
from pcsim.plots.page.expressions import Value, dense, number, over, strides_of

Scratch = Callable[[int, str], str]
"""a function that declares an array of a given length and type, and returns its name"""
Kernel = Callable[[Value, Mapping[str, Any], Scratch], str]
UNROLLED = 25
"""the largest number of convolution taps that are unrolled"""


# ---------------------------------------------------------------------- products


def _matrix_product(out: Value, left: Value, right: Value, first: str, factor: str = "") -> str:
    """out[m, n] = first + factor sum_k left[m, k] right[k, n], skipping zeros in `left`."""
    (rows, inner), columns = left.shape[-2:], right.shape[-1]
    return (
        f"for (let m = 0; m < {rows}; m++) {{ for (let n = 0; n < {columns}; n++) "
        f"{out.name}[p + m * {columns} + n] = {first}; "
        f"for (let k = 0; k < {inner}; k++) {{ const x = {factor}{left.name}[q + m * {inner} + k]; "
        f"if (x !== 0) for (let n = 0; n < {columns}; n++) "
        f"{out.name}[p + m * {columns} + n] += x * {right.name}[r + k * {columns} + n]; }} }}"
    )


def _mm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    return f"const p = 0, q = 0, r = 0; {_matrix_product(out, given['self'], given['mat2'], '0')}"


def _bmm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    left, right = given["self"], given["mat2"]
    sizes = [math.prod(value.shape[1:]) for value in (out, left, right)]
    starts = f"const p = b * {sizes[0]}, q = b * {sizes[1]}, r = b * {sizes[2]};"
    return f"for (let b = 0; b < {out.shape[0]}; b++) {{ {starts} {_matrix_product(out, left, right, '0')} }}"


def _addmm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    bias, beta, alpha = given["self"], given["beta"], given["alpha"]
    step, row = [0, 0, *strides_of(bias.shape)][-1], [0, 0, *strides_of(bias.shape)][-2]
    read = bias.name if bias.is_number else f"{bias.name}[{row} * m + {step} * n]"
    first = read if beta == 1 else f"{number(beta)} * {read}"
    factor = "" if alpha == 1 else f"{number(alpha)} * "
    return f"const p = 0, q = 0, r = 0; {_matrix_product(out, given['mat1'], given['mat2'], first, factor)}"


def _convolution(out: Value, given: Mapping[str, Any], scratch: Scratch) -> str:
    if len(out.shape) != 4:
        raise WiringError(
            given=f"a convolution over {len(out.shape) - 2} axes",
            expected="2-d convolutions of maps (batch, channel, height, width)",
            remedy="reshape the values to maps with a height of 1, and use nn.Conv2d",
        )
    spans = given["weight"].shape[2:]
    reach = [dilation * (span - 1) for dilation, span in zip(given["dilation"], spans, strict=True)]
    is_spread = max(given["stride"]) == 1 and all(p <= r for p, r in zip(given["padding"], reach, strict=True))
    return (_spread if given["transposed"] or is_spread else _gathered)(out, given, scratch)


def _gathered(out: Value, given: Mapping[str, Any], scratch: Scratch) -> str:
    """A strided convolution: for each pair of maps, all taps at a pixel are summed and added to the result."""
    image, weight = given["input"], given["weight"]
    batch, channels, height, width = image.shape
    _, maps, rows, columns = out.shape
    _, inner, *spans = weight.shape
    (sy, sx), (py, px), (dy, dx) = given["stride"], given["padding"], given["dilation"]
    wide, high = width + 2 * px, height + 2 * py
    frame, taps = scratch(batch * channels * high * wide, "Float32Array"), math.prod(spans)
    terms = [f"{weight.name}[k + {y * spans[1] + x}] * {frame}[s + {y * dy * wide + x * dx}]" for y, x in _taps(spans)]
    add = f"a += {' + '.join(terms)};"
    if taps > UNROLLED:
        add = (
            f"for (let u = 0; u < {spans[0]}; u++) for (let v = 0; v < {spans[1]}; v++) "
            f"a += {weight.name}[k + u * {spans[1]} + v] * {frame}[s + u * {dy * wide} + v * {dx}];"
        )
    return (
        f"for (let c = 0; c < {batch * channels}; c++) for (let y = 0; y < {height}; y++) "
        f"for (let x = 0, s = (c * {height} + y) * {width}, t = (c * {high} + y + {py}) * {wide} + {px}; "
        f"x < {width}; x++) {frame}[t + x] = {image.name}[s + x]; "
        f"for (let b = 0; b < {batch}; b++) for (let o = 0; o < {maps}; o++) {{ "
        f"const p = (b * {maps} + o) * {rows * columns}; {out.name}.fill({_bias_of(given)}, p, p + {rows * columns}); "
        f"for (let c = 0; c < {inner}; c++) {{ const k = (o * {inner} + c) * {taps}, "
        f"q = (b * {channels} + Math.floor(o / {maps // given['groups']}) * {inner} + c) * {high * wide}; "
        f"for (let y = 0; y < {rows}; y++) {{ let s = q + y * {sy * wide}, t = p + y * {columns}; "
        f"for (let x = 0; x < {columns}; x++, s += {sx}, t++) {{ let a = 0; {add} {out.name}[t] += a; }} }} }} }}"
    )


def _spread(out: Value, given: Mapping[str, Any], scratch: Scratch) -> str:
    """A transposed or unstrided convolution: each pixel adds its window to a frame, which is cropped at the end.

    Pixels that are 0, as most are after rectification, are skipped.
    """
    image, weight = given["input"], given["weight"]
    batch, channels, height, width = image.shape
    _, maps, rows, columns = out.shape
    spans = weight.shape[2:]
    (py, px), (dy, dx) = given["padding"], given["dilation"]
    count, groups = math.prod(spans), given["groups"]
    if given["transposed"]:
        (sy, sx), (top, left), each = given["stride"], (py, px), weight.shape[1]
        place, order = f"(c * {each} + e) * {count}", list(range(count))
    else:
        (sy, sx), top, left, each = (1, 1), (spans[0] - 1) * dy - py, (spans[1] - 1) * dx - px, maps // groups
        place, order = f"(o * {channels // groups} + c % {channels // groups}) * {count}", list(range(count))[::-1]
    high = max(rows + top, (height - 1) * sy + (spans[0] - 1) * dy + 1)
    wide = max(columns + left, (width - 1) * sx + (spans[1] - 1) * dx + 1)
    frame, at, pixel = (
        scratch(size, kind)
        for size, kind in (
            (maps * high * wide, "Float32Array"), (height * width, "Int32Array"), (height * width, "Float32Array"),
        )
    )  # fmt: skip
    if count <= UNROLLED:
        read = "const " + ", ".join(f"w{n} = {weight.name}[k + {tap}]" for n, tap in enumerate(order)) + "; "
        places = [y * dy * wide + x * dx for y, x in _taps(spans)]
        add = " ".join(f"{frame}[t + {step}] += w{n} * a;" for n, step in enumerate(places))
    else:
        read, tap = "", f"u * {spans[1]} + v" if given["transposed"] else f"{count - 1} - u * {spans[1]} - v"
        add = (
            f"for (let u = 0; u < {spans[0]}; u++) for (let v = 0; v < {spans[1]}; v++) "
            f"{frame}[t + u * {dy * wide} + v * {dx}] += {weight.name}[k + {tap}] * a;"
        )
    skip = "if (w0 === 0) continue; " if count == 1 else ""
    return (
        f"for (let b = 0; b < {batch}; b++) {{ {frame}.fill(0); "
        f"for (let c = 0; c < {channels}; c++) {{ let n = 0; "
        f"for (let y = 0, s = (b * {channels} + c) * {height * width}; y < {height}; y++) "
        f"for (let x = 0; x < {width}; x++, s++) {{ const a = {image.name}[s]; "
        f"if (a !== 0) {{ {at}[n] = y * {sy * wide} + x * {sx}; {pixel}[n++] = a; }} }} "
        f"for (let e = 0; e < {each}; e++) {{ const o = Math.floor(c / {channels // groups}) * {each} + e, "
        f"k = {place}, p = o * {high * wide}; {read}{skip}"
        f"for (let j = 0; j < n; j++) {{ const a = {pixel}[j], t = p + {at}[j]; {add} }} }} }} "
        f"for (let o = 0; o < {maps}; o++) {{ const z = {_bias_of(given)}; for (let y = 0; y < {rows}; y++) "
        f"for (let x = 0, t = ((b * {maps} + o) * {rows} + y) * {columns}, "
        f"s = (o * {high} + y + {top}) * {wide} + {left}; x < {columns}; x++) "
        f"{out.name}[t + x] = {frame}[s + x] + z; }} }}"
    )


def _taps(spans: Sequence[int]) -> list[tuple[int, int]]:
    return [(y, x) for y in range(spans[0]) for x in range(spans[1])]


def _bias_of(given: Mapping[str, Any]) -> str:
    return "0" if given["bias"] is None else _read(given["bias"], "o")


# ---------------------------------------------------------------------- pooling and reductions


def _windows(out: Value, given: Mapping[str, Any], first: str, add: str, end: str) -> str:
    """Reduce windows: a starts from `first`, `add` updates it with {x}, and `end` is the result."""
    image = given["self"]
    height, width = image.shape[-2:]
    rows, columns = out.shape[-2:]
    down, across = _pair(given["kernel_size"])
    (sy, sx), (py, px) = _pair(given["stride"] or given["kernel_size"]), _pair(given["padding"])
    dy, dx = _pair(given.get("dilation", 1))
    item = f"{image.name}[(c * {height} + p) * {width} + q]"
    return (
        f"for (let c = 0; c < {out.size // (rows * columns)}; c++) for (let y = 0; y < {rows}; y++) "
        f"for (let x = 0; x < {columns}; x++) {{ let a = {first}, n = 0; "
        f"for (let u = 0; u < {down}; u++) {{ const p = y * {sy} - {py} + u * {dy}; "
        f"if (p >= 0 && p < {height}) for (let v = 0; v < {across}; v++) {{ const q = x * {sx} - {px} + v * {dx}; "
        f"if (q >= 0 && q < {width}) {{ n++; {add.format(x=item)} }} }} }} "
        f"{out.name}[(c * {rows} + y) * {columns} + x] = {end}; }}"
    )


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[0], values[-1]


def _max_pool(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    return _windows(out, given, "-Infinity", "a = Math.max(a, {x});", "a")


def _mean_pool(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    _require(not given["ceil_mode"], "average pooling with ceil_mode=True", "ceil_mode=False")
    count = given["divisor_override"] or math.prod(_pair(given["kernel_size"]))
    is_full = given["count_include_pad"] or given["divisor_override"] or _pair(given["padding"]) == (0, 0)
    return _windows(out, given, "0", "a += {x};", f"a / {count}" if is_full else "a / n")


def _require(holds: Any, given: str, expected: str) -> None:
    if not holds:
        raise WiringError(given=given, expected=expected, remedy=f"build the network with {expected}")


def _reduced(first: str, add: str, end: str = "a") -> Kernel:
    """Return an emitter that reduces axes; {x} in `add` is an element, and {n} in `end` the number of elements."""

    def emit(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
        value = given["self"]
        axes = given.get("dim")
        axes = [axes] if isinstance(axes, int) else axes
        away = sorted({axis % len(value.shape) for axis in axes}) if axes else list(range(len(value.shape)))
        kept = [d for d in range(len(value.shape)) if d not in away]
        strides = dense(value.shape)
        at = " + ".join([f"{strides[d]} * i{n}" for n, d in enumerate(kept)] or ["0"])
        inner = " + ".join(["q", *(f"{strides[d]} * j{n}" for n, d in enumerate(away))])
        lengths = [value.shape[d] for d in kept]
        place = " + ".join([f"{step} * i{n}" for n, step in enumerate(dense(tuple(lengths)))] or ["0"])
        sums = over([value.shape[d] for d in away], add.format(x=f"{value.name}[{inner}]"), "j")
        count = math.prod(value.shape[d] for d in away)
        return over(lengths, f"const q = {at}; let a = {first}; {sums} {out.name}[{place}] = {end.format(n=count)};")

    return emit


def _softmax(is_log: bool) -> Kernel:
    def emit(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
        value = given["self"]
        axis = given["dim"] % len(value.shape)
        step, count = dense(value.shape)[axis], value.shape[axis]
        item = f"{value.name}[q + j * {step}]"
        loop = f"for (let j = 0; j < {count}; j++)"
        end = f"{item} - m - Math.log(s)" if is_log else f"Math.exp({item} - m) / s"
        outer = [length for d, length in enumerate(value.shape) if d != axis]
        places = [stride for d, stride in enumerate(dense(value.shape)) if d != axis]
        start = " + ".join([f"{stride} * i{n}" for n, stride in enumerate(places)] or ["0"])
        return over(
            outer,
            f"const q = {start}; let m = -Infinity, s = 0; {loop} m = Math.max(m, {item}); "
            f"{loop} s += Math.exp({item} - m); {loop} {out.name}[q + j * {step}] = {end};",
        )

    return emit


# ---------------------------------------------------------------------- norms


def _standardised(out: Value, value: Value, groups: int, size: int, eps: float, after: str) -> str:
    """Standardise `groups` runs of `size` elements; `after` transforms y, given the index t."""
    return (
        f"for (let g = 0; g < {groups}; g++) {{ let m = 0, s = 0; const q = g * {size}; "
        f"for (let t = q; t < q + {size}; t++) m += {value.name}[t]; m /= {size}; "
        f"for (let t = q; t < q + {size}; t++) {{ const d = {value.name}[t] - m; s += d * d; }} "
        f"const r = 1 / Math.sqrt(s / {size} + {number(eps)}); "
        f"for (let t = q; t < q + {size}; t++) {{ const y = ({value.name}[t] - m) * r; {out.name}[t] = {after}; }} }}"
    )


def _affine(weight: Value | None, bias: Value | None, place: str) -> str:
    scaled = "y" if weight is None else f"y * {_read(weight, place)}"
    return scaled if bias is None else f"{scaled} + {_read(bias, place)}"


def _read(value: Value, place: str) -> str:
    return value.name if value.is_number else f"{value.name}[{place}]"


def _group_norm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    value, groups, channels, pixels = given["input"], given["group"], given["C"], given["HxW"]
    place = f"Math.floor(t / {pixels}) % {channels}"
    after = _affine(given["weight"], given["bias"], place)
    size = channels // groups * pixels
    return _standardised(out, value, given["N"] * groups, size, given["eps"], after)


def _layer_norm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    size = math.prod(given["normalized_shape"])
    after = _affine(given["weight"], given["bias"], "t - q")
    return _standardised(out, given["input"], out.size // size, size, given["eps"], after)


def _batch_norm(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    _require(not given["training"], "batch norm in training mode", "batch norm in evaluation mode")
    pixels, channels = math.prod(out.shape[2:]), out.shape[1]
    mean, spread = _read(given["running_mean"], "c"), _read(given["running_var"], "c")
    after = _affine(given["weight"], given["bias"], "c")
    return (
        f"for (let g = 0; g < {out.shape[0] * channels}; g++) {{ const c = g % {channels}, q = g * {pixels}, "
        f"m = {mean}, r = 1 / Math.sqrt({spread} + {number(given['eps'])}); "
        f"for (let t = q; t < q + {pixels}; t++) {{ const y = ({given['input'].name}[t] - m) * r; "
        f"{out.name}[t] = {after}; }} }}"
    )


# ---------------------------------------------------------------------- joining


def _joined(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    axis = given["dim"] % len(out.shape)
    after = math.prod(out.shape[axis + 1 :])
    begin, lines = 0, []
    for part in given["tensors"]:
        if len(part.shape) != len(out.shape):
            continue  # torch's exception for empty vectors
        run = part.shape[axis] * after
        to = f"b * {out.shape[axis] * after} + {begin}"
        read = part.name if part.is_number else f"{part.name}[b * {run} + j]"
        lines.append(
            f"for (let b = 0; b < {math.prod(out.shape[:axis])}; b++) for (let j = 0; j < {run}; j++) "
            f"{out.name}[{to} + j] = {read};"
        )
        begin += run
    return " ".join(lines)


def _padded(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    value, pad = given["self"], given["pad"]
    begins = [0] * len(value.shape)
    for n in range(len(pad) // 2):
        begins[-1 - n] = pad[2 * n]
    inside = " && ".join(f"i{d} >= {begin} && i{d} < {begin + value.shape[d]}" for d, begin in enumerate(begins))
    place = " + ".join(f"{stride} * (i{d} - {begins[d]})" for d, stride in enumerate(dense(value.shape)))
    to = " + ".join(f"{stride} * i{d}" for d, stride in enumerate(dense(out.shape)))
    return over(out.shape, f"{out.name}[{to}] = ({inside}) ? {value.name}[{place}] : {number(given['value'])};")


def _nearest(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    value = given["self"]
    (height, width), (rows, columns) = value.shape[-2:], out.shape[-2:]
    down, across = _scale(height, rows, given["scales_h"]), _scale(width, columns, given["scales_w"])
    return (
        f"for (let c = 0; c < {out.size // (rows * columns)}; c++) for (let y = 0; y < {rows}; y++) {{ "
        f"const p = Math.min(Math.floor(y * {number(down)}), {height - 1}); for (let x = 0; x < {columns}; x++) "
        f"{out.name}[(c * {rows} + y) * {columns} + x] = {value.name}[(c * {height} + p) * {width} + "
        f"Math.min(Math.floor(x * {number(across)}), {width - 1})]; }}"
    )


def _bilinear(out: Value, given: Mapping[str, Any], _scratch: Scratch) -> str:
    value, is_aligned = given["self"], given["align_corners"]
    (height, width), (rows, columns) = value.shape[-2:], out.shape[-2:]

    def place(index: str, size: int, made: int, scale: float | None) -> str:
        if is_aligned:
            return f"{index} * {number((size - 1) / (made - 1) if made > 1 else 0)}"
        return f"Math.max(0, ({index} + 0.5) * {number(_scale(size, made, scale))} - 0.5)"

    def at(y: str, x: str) -> str:
        return f"{value.name}[(c * {height} + {y}) * {width} + {x}]"

    return (
        f"for (let c = 0; c < {out.size // (rows * columns)}; c++) for (let y = 0; y < {rows}; y++) {{ "
        f"const v = {place('y', height, rows, given['scales_h'])}, p = Math.min(Math.floor(v), {height - 1}), "
        f"q = Math.min(p + 1, {height - 1}), f = v - p; for (let x = 0; x < {columns}; x++) {{ "
        f"const u = {place('x', width, columns, given['scales_w'])}, r = Math.min(Math.floor(u), {width - 1}), "
        f"s = Math.min(r + 1, {width - 1}), g = u - r; {out.name}[(c * {rows} + y) * {columns} + x] = "
        f"(1 - f) * ((1 - g) * {at('p', 'r')} + g * {at('p', 's')}) + f * ((1 - g) * {at('q', 'r')} + "
        f"g * {at('q', 's')}); }} }}"
    )


def _scale(size: int, made: int, scale: float | None) -> float:
    return 1 / scale if scale else size / made


KERNELS: dict[str, Kernel] = {
    "mm": _mm,
    "bmm": _bmm,
    "addmm": _addmm,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _mean_pool,
    "sum": _reduced("0", "a += {x};"),
    "mean": _reduced("0", "a += {x};", "a / {n}"),
    "amax": _reduced("-Infinity", "a = Math.max(a, {x});"),
    "amin": _reduced("Infinity", "a = Math.min(a, {x});"),
    "_softmax": _softmax(False),
    "_log_softmax": _softmax(True),
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "native_batch_norm": _batch_norm,
    "cat": _joined,
    "constant_pad_nd": _padded,
    "upsample_nearest2d": _nearest,
    "upsample_bilinear2d": _bilinear,
}
"""operator -> statements that fill the result"""
