"""Transforms for edges: convolutions, pooling, norms, and linear maps that share weights.

Any `torch.nn.Module` can serve as a transform. Those defined here are shared by several models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pcsim.connections.functions import Function, Gain
from pcsim.core.checks import Axes, Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, units
from pcsim.rules.base import activation_named

Made = TypeVar("Made", bound=nn.Module)


@checked(WiringError)
def channels_last(module: Made) -> Made:
    """Convert the convolution weights of a module in place to the faster channels_last format, and return the module.

    pcsim applies this only to modules that it builds; user-provided modules keep their layout.
    """
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


@checked(WiringError)
def draw(
    weight: Annotated[Tensor, Axes("out, in, ...")],
    initialise: Callable[..., Tensor],
    *arguments: float,
    **options: str,
) -> None:
    """Initialise a weight with a `torch.nn.init` function, regardless of its memory format."""
    plain = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        weight.copy_(initialise(plain, *arguments, **options))


@checked(WiringError)
def conv(channels: Count, out: Count, kernel: Count = 3, stride: Count = 1, bias: bool = False) -> nn.Conv2d:
    """Build a convolution with zero padding of kernel // 2, which preserves the size or divides it by `stride`."""
    return channels_last(nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=bias))


@checked(WiringError)
def same_conv(
    channels: Count, out: Count, kernel: Count = 3, stride: Count = 1, bias: bool = False, separable: bool = False
) -> nn.Module:
    """Build a convolution with TensorFlow's SAME padding, which puts any odd pixel at the right and bottom.

    The output size is the input size divided by `stride`.

    separable  if True, use a depthwise convolution followed by a 1x1 convolution that mixes the channels
    """
    extra = max(kernel - stride, 0)
    before, after = extra // 2, extra - extra // 2
    first, groups = (channels, channels) if separable else (out, 1)
    spatial = nn.Conv2d(
        channels,
        first,
        kernel,
        stride,
        padding=before if before == after else 0,
        groups=groups,
        bias=bias and not separable,
    )
    parts: list[nn.Module] = [] if before == after else [nn.ZeroPad2d((before, after, before, after))]
    parts += [spatial, nn.Conv2d(channels, out, 1, bias=bias)] if separable else [spatial]
    return channels_last(nn.Sequential(*parts) if len(parts) > 1 else spatial)


@checked(WiringError)
def up_conv(
    channels: Count, out: Count, kernel: Count = 3, stride: Count = 2, bias: bool = False
) -> nn.ConvTranspose2d:
    """Build a transposed convolution that multiplies the size by exactly `stride`, for any kernel size."""
    padding = (kernel - stride + 1) // 2
    extra = stride - kernel + 2 * padding
    return channels_last(nn.ConvTranspose2d(channels, out, kernel, stride, padding, output_padding=extra, bias=bias))


@checked(WiringError)
def pool(size: Count = 2) -> nn.MaxPool2d:
    """Build a max-pooling layer with windows of size x size and a stride of `size`."""
    return nn.MaxPool2d(size)


class GlobalMaxPool(nn.Module):
    """y[c] = max over height and width of x[c]; (batch, channel, height, width) -> (batch, channel)."""

    def forward(self, value: Tensor) -> Tensor:
        """y[c] = max over height and width of x[c]."""
        return value.amax((-2, -1))


class GlobalMeanPool(nn.Module):
    """y[c] = mean over height and width of x[c]; (batch, channel, height, width) -> (batch, channel)."""

    def forward(self, value: Tensor) -> Tensor:
        """y[c] = mean over height and width of x[c]."""
        return value.mean((-2, -1))


@checked(WiringError)
class HalfSquare(nn.Module):
    """y = 1/2 factor sum x^2, an energy term summed over all axes except the batch; (batch, ...) -> (batch, 1)."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, value: Tensor) -> Tensor:
        """y = 1/2 factor sum x^2, (batch, 1)."""
        return 0.5 * self.factor * value.square().sum(units(value))[:, None]


@checked(WiringError)
class Activation(nn.Module):
    """y = f(gain x), where f is the pointwise nonlinearity `name`, for edges that apply f to the source's value."""

    def __init__(self, name: str, gain: float = 1.0) -> None:
        super().__init__()
        self.name, self.function, self.gain = name, activation_named(name), gain

    def forward(self, value: Tensor) -> Tensor:
        """y = f(gain x)."""
        return self.function(value if self.gain == 1.0 else self.gain * value)


@checked(WiringError)
class ScaledLinear(nn.Module):
    """y = K x / n, with fixed weights K (out, in): a linear map whose weights are integers divided by n.

    If K is an integer matrix and each entry of x is -1 or 1, the sums are exact below 2^24 in float32 and 2^53 in
    float64, so y is correctly rounded. This would not hold if the weights K / n were rounded first.
    """

    def __init__(self, weight: Annotated[Tensor, Axes("out, in")], divisor: Count) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.divisor, (self.out_features, self.in_features) = divisor, weight.shape

    def forward(self, value: Tensor) -> Tensor:
        """y = K x / n, (batch, in) -> (batch, out)."""
        return functional.linear(value, self.weight) / self.divisor


@checked(WiringError)
class Standardise(nn.Module):
    """y = (x - mean) / sd, with the pixel mean and sd of a training set stored as buffers; by default the identity."""

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: float = 0.0, sd: float = 1.0) -> None:
        super().__init__()
        # Stored in float64, because float32 would round the values of a network that is later converted with
        # `.double()`. The result has the dtype of the images, because these buffers are 0-dimensional.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("sd", torch.tensor(sd, dtype=torch.float64))

    def fit(self, images: Tensor) -> None:
        """Set mean and sd to the mean and standard deviation of all pixels in `images`."""
        self.mean.copy_(images.double().mean())
        self.sd.copy_(images.double().std())

    def forward(self, value: Tensor) -> Tensor:
        """y = (x - mean) / sd."""
        return (value - self.mean) / self.sd


@checked(WiringError)
class LocalResponseNorm(nn.Module):
    """y_k = x_k ( c + alpha sum_{|k'-k| <= n//2} x_k'^2 )^-beta, with the window clipped at the first and last channel.

    Unlike torch's operator, this norm does not divide alpha by n, so torch's alpha is n times this one. TensorFlow's
    operator takes the radius n//2. The window sum is computed as a 1x1 convolution with a banded matrix. On a CPU, its
    forward and backward passes are several times faster than the 3-d average pooling of torch's operator.
    Source: Krizhevsky et al. 2012 section 3.3; constants from Spoerer et al. 2017.
    """

    band: Tensor

    def __init__(self, channels: Count, n: Count = 5, alpha: float = 1e-4, beta: float = 0.5, c: float = 1.0) -> None:
        super().__init__()
        index = torch.arange(channels, device="cpu")  # setting up arithmetic on the meta device takes torch a second
        band = ((index[:, None] - index).abs() <= n // 2).to(torch.get_default_dtype())[:, :, None, None]
        self.register_buffer("band", band.to(torch.get_default_device()), persistent=False)
        # Python numbers instead of buffers, which would remain rounded to float32 after `.double()`.
        self.alpha, self.beta, self.c = alpha, beta, c

    def forward(self, value: Tensor) -> Tensor:
        """y_k = x_k (c + alpha sum_k' x_k'^2)^-beta; (batch, channel, height, width) -> the same shape."""
        scale = functional.conv2d(value.square(), self.alpha * self.band, self.band.new_full((len(self.band),), self.c))
        # A general power would take longer than the convolution.
        return value * (torch.rsqrt(scale) if self.beta == 0.5 else scale**-self.beta)


class Phased(nn.Module):
    """A transform that may differ from step to step, with the interface `forward(value, phase)`.

    `phase` is the number of steps since the start of the run, or since the edge's window opened, if it has one.
    `phases` is the number of distinct phases, the last of which applies to all later steps. If `phases` is None, the
    transform may differ at every step.
    """

    phases: int | None = None

    def forward(self, value: Tensor, phase: int = 0) -> Tensor:
        """Return the output of the transform at step `phase`."""
        raise NotImplementedError


@checked(WiringError)
class Chain(Phased):
    """A sequence of transforms like `nn.Sequential`, except that some of them may be `Phased`."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        known = [part.phases for part in parts if isinstance(part, Phased)]
        self.phases = max([1, *(count for count in known if count is not None)]) if None not in known else None

    def forward(self, value: Tensor, phase: int = 0) -> Tensor:
        """Apply the transforms in order and return the output of the last one."""
        for part in self.parts:
            value = part(value, phase) if isinstance(part, Phased) else part(value)
        return value


@checked(WiringError)
class PerStep(Phased):
    """A separate transform for each step, without weight sharing over time."""

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.phases = len(self.transforms)

    def forward(self, value: Tensor, phase: int = 0) -> Tensor:
        """Apply the transform for step `phase`, or the last transform if this step has none of its own."""
        return self.transforms[min(phase, len(self.transforms) - 1)](value)


@checked(WiringError)
class StepNorm(Phased):
    """y = weight_t (x - mean_t) / sqrt(var_t + 1e-5) + bias_t: batch norm with separate statistics, weight and bias
    for each of `steps` steps, stacked as (step, channel).

    Training mode uses the mean and variance of the batch and updates the running statistics; evaluation mode uses
    the running statistics.
    Source: Liao & Poggio 2016 ("time-specific batch norm"); Cooijmans et al. 2017 section 3.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: Count, steps: Count, momentum: float = 0.1, eps: float = 1e-5, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.momentum, self.eps, self.phases = momentum, eps, steps
        self.weight = nn.Parameter(torch.full((steps, channels), scale))
        self.bias = nn.Parameter(torch.zeros(steps, channels))
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))

    def forward(self, value: Tensor, phase: int = 0) -> Tensor:
        """y = weight_t (x - mean_t) / sqrt(var_t + eps) + bias_t; (batch, channel, ...) -> the same shape."""
        t = min(phase, len(self.weight) - 1)
        mean, variance = self.running_mean[t], self.running_var[t]
        return functional.batch_norm(
            value, mean, variance, self.weight[t], self.bias[t], self.training, self.momentum, self.eps
        )


def _numeric_padding(convolution: nn.Conv2d, what: str) -> tuple[int, int]:
    """Return the padding of a zero-padded convolution. Raises WiringError unless the padding is numeric."""
    if not isinstance(convolution.padding, tuple) or convolution.padding_mode != "zeros":
        raise WiringError(
            given=f"a convolution with padding={convolution.padding!r}, "
            f"padding_mode={convolution.padding_mode!r} {what}",
            expected="numeric zero padding, such as padding=1",
            remedy="build it with connections.conv(channels, out), or transpose affine maps with connections.Adjoint",
        )
    return cast(tuple[int, int], convolution.padding)


@checked(WiringError)
class Strided(nn.Module):
    """A convolution that shares its weights with `convolution` but has a different stride.

    Raises WiringError unless the convolution uses numeric zero padding.
    """

    def __init__(self, convolution: nn.Conv2d, stride: Count) -> None:
        super().__init__()
        _numeric_padding(convolution, "whose stride is to be changed")
        self.convolution, self.stride = convolution, stride

    def forward(self, value: Tensor) -> Tensor:
        """Convolve `value` with the new stride, which divides the height and width by about `stride`."""
        return self.with_weight(value, self.convolution.weight, self.convolution.bias)

    def with_weight(self, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the output of the convolution with the given weight and bias instead of its own."""
        owner = self.convolution
        padding = cast(tuple[int, int], owner.padding)
        return functional.conv2d(value, weight, bias, self.stride, padding, owner.dilation, owner.groups)


@checked(WiringError)
class Resize(nn.Module):
    """Bilinear interpolation to `size` (height, width), with aligned corners unless `corners` is False."""

    def __init__(self, size: tuple[Count, Count], corners: bool = True) -> None:
        super().__init__()
        self.size, self.corners = size, corners

    def forward(self, value: Tensor) -> Tensor:
        """Interpolate to (batch, channel, *size)."""
        return functional.interpolate(value, self.size, mode="bilinear", align_corners=self.corners)


@checked(WiringError, forward_map=None)
class Tied(nn.Module):
    """The transpose of a linear map: y = W^T x for `Linear`, the transposed convolution for `Conv2d`.

    The weight is shared with `forward_map`, so training either map changes both. The bias is not used. Stride, dilation
    and groups are taken from the convolution. Raises WiringError for other modules, and for convolutions without
    numeric zero padding.
    """

    def __init__(self, forward_map: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        if not isinstance(forward_map, nn.Linear | nn.Conv2d):
            raise WiringError(
                given=f"a {type(forward_map).__name__} to transpose",
                expected="a Linear or a Conv2d",
                remedy="use connections.Adjoint(module, shape), which transposes any affine map",
            )
        if isinstance(forward_map, nn.Conv2d):
            _numeric_padding(forward_map, "to be transposed")
        self.forward_map = forward_map

    @property
    def extra(self) -> tuple[int, int]:
        """The output padding (rows, columns) for which a transposed convolution multiplies the size by its stride."""
        owner = cast(nn.Conv2d, self.forward_map)
        padding = cast(tuple[int, int], owner.padding)
        spans = (d * (k - 1) + 1 for d, k in zip(owner.dilation, owner.kernel_size, strict=True))
        rows, columns = (max(0, s - k + 2 * p) for s, k, p in zip(owner.stride, spans, padding, strict=True))
        return rows, columns

    def forward(self, value: Tensor) -> Tensor:
        """y = W^T x; for a strided convolution the result is `stride` times as large as `value`."""
        return self.with_weight(value, self.forward_map.weight)

    def with_weight(self, value: Tensor, weight: Tensor) -> Tensor:
        """Return y = W^T x for the given weight W, which replaces that of the forward map."""
        owner = self.forward_map
        if isinstance(owner, nn.Linear):
            return functional.linear(value, weight.t())
        padding = cast(tuple[int, int], owner.padding)
        return functional.conv_transpose2d(
            value, weight, None, owner.stride, padding, self.extra, owner.groups, owner.dilation
        )


@checked(WiringError)
class Adjoint(nn.Module):
    """y = scale J^T x, the transpose of an affine `forward_map` with Jacobian J and inputs of shape `shape`.

    For `Linear` and `Conv2d`, `Tied` is faster. Raises WiringError unless `forward_map` is affine.
    """

    def __init__(self, forward_map: nn.Module, shape: Shape, scale: float = 1.0) -> None:
        super().__init__()
        self.forward_map, self.shape, self.scale = forward_map, shape, scale
        like = next(forward_map.parameters(), torch.zeros(()))
        one, other = (torch.randn(1, *shape, dtype=like.dtype, device=like.device) for _ in range(2))
        try:
            with torch.no_grad():
                origin, first, second, both = (forward_map(x) for x in (0 * one, one, other, one + other))
        except RuntimeError as reason:
            raise WiringError(
                given=f"{summary(forward_map)} with an input of shape {shape}: {str(reason).splitlines()[0]}",
                expected="an input shape that the module accepts, such as (channel, height, width)",
                remedy="pass the module's input shape",
            ) from reason
        if not torch.allclose(both + origin, first + second, rtol=1e-3, atol=1e-4):
            raise WiringError(
                given=f"{summary(forward_map)}, which is not affine",
                expected="an affine map (linear, possibly with a bias), whose transpose does not depend on its input",
                remedy="remove nonlinearities and normalisation from the module",
            )

    def forward(self, value: Tensor) -> Tensor:
        """y = scale J^T x; maps the output shape of `forward_map` to (batch, *shape)."""
        origin = value.new_zeros((value.shape[0], *self.shape))
        pulled_back = torch.func.vjp(self.forward_map, origin)[1]
        return self.scale * pulled_back(value)[0]


@checked(WiringError)
def summary(transform: nn.Module) -> str:
    """Return a short description of a transform for the wiring table, such as "pool 2, conv 3x3 32>64"."""
    if isinstance(transform, nn.Sequential | Chain):
        parts = transform if isinstance(transform, nn.Sequential) else transform.parts
        return ", ".join(text for part in parts if (text := summary(part)))
    if isinstance(transform, PerStep):
        return f"per-step ({len(transform.transforms)} steps) {summary(transform.transforms[0])}"
    if isinstance(transform, StepNorm):
        return f"per-step ({len(transform.weight)} steps) batch norm"
    if isinstance(transform, nn.BatchNorm2d | nn.GroupNorm | nn.ReLU | nn.ELU):
        return {"BatchNorm2d": "batch norm", "GroupNorm": "group norm"}.get(name := type(transform).__name__, name)
    if isinstance(transform, Strided):
        return f"{summary(transform.convolution)} at /{transform.stride}"
    if isinstance(transform, Resize):
        return f"resize to {transform.size[0]}x{transform.size[1]}"
    if isinstance(transform, nn.Identity):
        return ""
    if isinstance(transform, nn.Conv2d | nn.ConvTranspose2d):
        word = "conv" if isinstance(transform, nn.Conv2d) else "up-conv"
        kernel = "x".join(map(str, transform.kernel_size))
        stride = f" /{transform.stride[0]}" if transform.stride[0] > 1 else ""
        return f"{word} {kernel} {transform.in_channels}>{transform.out_channels}{stride}"
    if isinstance(transform, nn.Linear | ScaledLinear):
        return f"linear {transform.in_features}>{transform.out_features}"
    if isinstance(transform, nn.MaxPool2d):
        return f"max pool {transform.kernel_size}"
    if isinstance(transform, nn.Upsample):
        return f"{transform.mode} up {transform.scale_factor:g}"
    if isinstance(transform, Gain):
        return f"gain {transform.gain:g}"
    if isinstance(transform, Function):
        return "function" if transform.name == "<lambda>" else transform.name
    if isinstance(transform, Activation):
        return "" if transform.name == "identity" else transform.name
    if isinstance(transform, Tied | Adjoint):
        return f"transpose of {summary(transform.forward_map)}"
    if isinstance(transform, fx.GraphModule):  # a part of a module that was cut
        steps = [node for node in transform.graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
        ends = [str(node.target) if node.op == "call_module" else node.name for node in (steps[0], steps[-1])]
        return " to ".join(dict.fromkeys(ends))
    describe = getattr(transform, "describe", None)
    return str(describe()) if callable(describe) else type(transform).__name__
