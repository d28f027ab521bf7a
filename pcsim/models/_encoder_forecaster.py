"""Sequence models: ConvLSTM, subLSTM and subConvLSTM.

    ConvLSTM (Shi et al. 2015)      i, f, o = s(.), z = tanh(.), c <- f c + i z, h = o tanh(c), with peepholes
    subLSTM (Costa et al. 2017)     i, o, z, f = s(.), c <- f c + z - i, h = s(c) - o
    subConvLSTM                     the convolutional version of subLSTM

The two convolutional models are encoder-forecasters. The encoder receives the input frames. The forecaster starts from
the encoder's h and c, receives no other input, and predicts the output frames with a 1x1 convolution of all its layers.
As published, frames are cut into patches whose pixels become channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from pcsim.connections import conv
from pcsim.core.checks import Count, Counts
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.base import Rule
from pcsim.rules.gated import LSTM, Peephole, SubLSTM
from pcsim.rules.predictive import Prediction
from pcsim.rules.wires import Sum


@register(paper="Shi et al. 2015")
def convlstm(
    channels: Counts = (128, 64, 64),
    *,
    peephole: Peephole = "channel",
    gate: str = "sigmoid",
    kernel: Count = 5,
    input_kernel: Count | None = None,
    input_frames: Count = 10,
    output_frames: Count = 10,
    image: tuple[Count, Count, Count] = (1, 64, 64),
    patch: Count = 4,
) -> Network:
    """Build a ConvLSTM encoder-forecaster.

    The paper's equations have one peephole weight per channel and position ("full"), but the parameter counts of all
    five networks in its table imply one per channel, which is the default here.

    channels      number of channels in each layer, lowest first
    kernel        kernel size of the state-to-state convolutions
    input_kernel  kernel size of the input-to-state convolutions; by default, equal to `kernel`
    input_frames, output_frames  numbers of input and output frames, each of which takes one step
    patch         side length of the patches that become channels

    Raises WiringError if `patch` does not divide the image size.
    """
    at = (image[1] // patch, image[2] // patch) if peephole == "full" else None
    rules = [lambda maps=maps: LSTM(maps, peephole, at, gate) for maps in channels]
    return _forecaster(
        "convlstm", channels, rules, 4, kernel, input_kernel or kernel, input_frames, output_frames, image, patch
    )


@register(paper="convolutional version of Costa et al. 2017")
def subconvlstm(
    channels: Counts = (128, 64, 64),
    *,
    fixed_forget: bool = False,
    kernel: Count = 5,
    input_kernel: Count | None = None,
    input_frames: Count = 10,
    output_frames: Count = 10,
    image: tuple[Count, Count, Count] = (1, 64, 64),
    patch: Count = 4,
) -> Network:
    """Build a subConvLSTM encoder-forecaster, a `convlstm` with subtractive gates. No results are published for it.

    With `fixed_forget`, one learned factor per channel replaces the forget gate. The other options are those of
    `convlstm`.
    """
    rules = [lambda maps=maps: SubLSTM(maps, fixed_forget) for maps in channels]
    gates = 3 if fixed_forget else 4
    return _forecaster(
        "subconvlstm", channels, rules, gates, kernel, input_kernel or kernel, input_frames, output_frames, image, patch
    )


@register(paper="Costa et al. 2017")
def sublstm(
    units: Count = 50,
    inputs: Count = 1,
    *,
    layers: Count = 1,
    fixed_forget: bool = False,
    forget: float = 0.0,
    steps: Count = 784,
    classes: Count = 10,
) -> Network:
    """Build a subLSTM for sequences of vectors with `inputs` elements; the defaults suit MNIST pixel by pixel.

    fixed_forget  build a fix-subLSTM, whose forget factors are learned but constant in time
    forget        initial bias of the forget gate; the published value is 0, but 1 works better

    Weights are drawn uniformly between -1/sqrt(units) and 1/sqrt(units).
    """
    gates = (3 if fixed_forget else 4) * units
    names = ["input", *(f"h{layer}" for layer in range(1, layers + 1))]
    populations = [Population(name, SubLSTM(units, fixed_forget, forget)) for name in names[1:]]
    projections = []
    for below, name in pairwise(names):
        up = nn.Linear(inputs if below == "input" else units, gates, bias=False)
        across = nn.Linear(units, gates, bias=False)
        for linear in (up, across):
            nn.init.uniform_(linear.weight, -(units**-0.5), units**-0.5)
        projections += [Projection(below, name, up), Projection(name, name, across, "lateral", 1)]
    return Network(
        {"input": (inputs,)},
        [*populations, Population("readout", Sum())],
        [*projections, Projection(names[-1], "readout", nn.Linear(units, classes))],
        readout="readout",
        steps=steps,
        name="sublstm",
    )


def _forecaster(
    name: str,
    channels: Sequence[int],
    rules: Sequence[Callable[[], Rule]],
    gates: int,
    kernel: int,
    input_kernel: int,
    input_frames: int,
    output_frames: int,
    image: tuple[int, int, int],
    patch: int,
) -> Network:
    if image[1] % patch or image[2] % patch:
        fitting = max(side for side in range(1, patch) if image[1] % side == image[2] % side == 0)
        raise WiringError(
            given=f"image={image}, patch={patch}",
            expected="a height and width divisible by `patch`",
            remedy=f"pass patch={fitting}, or crop or pad the frames",
        )
    maps, height, width = image[0] * patch**2, image[1] // patch, image[2] // patch
    populations = [Population("frame", Sum()), Population("forecast", Prediction("sigmoid", maps))]
    projections = [Projection("image", "frame", nn.PixelUnshuffle(patch))]
    below = ("frame", "")
    fewer = maps
    for layer, (count, rule) in enumerate(zip(channels, rules, strict=True), 1):
        encoder, forecaster = f"encoder{layer}", f"forecaster{layer}"
        shape = (count, height, width)
        populations += [
            Population(encoder, rule(), shape, active=(0, input_frames)),
            Population(
                forecaster, rule(), shape, active=(input_frames, input_frames + output_frames), starts_from=encoder
            ),
        ]
        for source, target in zip(below, (encoder, forecaster), strict=True):
            if source:
                projections.append(Projection(source, target, conv(fewer, gates * count, input_kernel)))
            projections.append(Projection(target, target, conv(count, gates * count, kernel), "lateral", 1))
        projections.append(Projection(forecaster, "forecast", conv(count, maps, 1), "prediction"))
        below, fewer = (encoder, forecaster), count
    populations.append(Population("prediction", Sum()))
    projections.append(Projection("forecast", "prediction", nn.PixelShuffle(patch), "prediction"))
    return Network(
        {"image": image}, populations, projections, readout="prediction", steps=input_frames + output_frames, name=name
    )
