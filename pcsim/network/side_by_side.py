"""Several settings of a network run as one large batch, with separate time constants and gains for each sample.

    many = batched(net, taus={"r1": [5.0, 10.0, 20.0]}, gains={"r2->r1": [0.0, 0.5, 1.0]})     3 points
    run = simulate(many.network, many.tile(images), solver=Euler(1.0), until=200.0)
    many.split(run["r1"])                               (point, time, batch, ...)

The results equal those of separate runs up to rounding, because the samples of a batch are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from pcsim.connections import Chain, Phased
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.network import variants
from pcsim.network.network import Network
from pcsim.rules.time_constants import TimeConstant, require_positive
from pcsim.stimuli.timeline import Stimulus, Timeline

Values = Mapping[str, Sequence[float] | Tensor]


class PerSampleTau(TimeConstant):
    """Time constants in ms for each sample, (n,) or (n, channel). Raises WiringError unless all are positive."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        require_positive(values, "tau")
        self.register_buffer("values", values, persistent=False)

    def forward(self) -> Tensor:
        """Return all values in ms, (n,) or (n, channel)."""
        return self.values

    @property
    def channels(self) -> int | None:
        """The number of channels with separate values in each sample, or None if one value applies to all channels."""
        return self.values.shape[1] if self.values.dim() > 1 and self.values.shape[1] > 1 else None

    def for_(self, like: Tensor) -> Tensor:
        """Return the values, reshaped to broadcast against the activity `like`, (n, channel, ...)."""
        return _beside(self.values, like)


class PerSampleGain(nn.Module):
    """y = gain x, with one gain per sample."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """y = gain x."""
        return _beside(self.values, value) * value


@dataclass(frozen=True)
class Batched:
    """A network that runs `points` settings on `batch` samples each, with methods to tile stimuli and split records."""

    network: Network
    points: int
    batch: int

    @checked(WiringError)
    def tile(self, stimulus: Stimulus) -> Stimulus:
        """Repeat a stimulus of `batch` samples for every point. Raises WiringError for other batch sizes."""
        if isinstance(stimulus, Mapping):
            return {name: self._repeated(value) for name, value in stimulus.items()}
        return self._repeated(stimulus)

    @checked(WiringError)
    def split(self, values: Tensor) -> Tensor:
        """Reshape a record (time, points * batch, ...) to (point, time, batch, ...)."""
        if values.dim() < 2 or values.shape[1] != self.points * self.batch:
            raise WiringError(
                given=f"a record of shape {tuple(values.shape)}",
                expected=f"(time, {self.points * self.batch}, ...): {self.points} points of {self.batch} samples",
                remedy="pass run[name], where run is a simulation of this network with many.tile(images)",
            )
        return rearrange(values, "time (point n) ... -> point time n ...", point=self.points)

    def _repeated(self, shown: Timeline | Tensor) -> Timeline | Tensor:
        if not isinstance(shown, Timeline):
            return self._tensor(shown)
        for epoch in shown.epochs:
            self._check(epoch.shape)
        return shown.samples(list(range(self.batch)) * self.points)

    def _tensor(self, images: Tensor) -> Tensor:
        self._check(tuple(images.shape))
        return repeat(images, "n ... -> (point n) ...", point=self.points)

    def _check(self, shape: tuple[int, ...]) -> None:
        count = shape[0] if shape else 0
        if count != self.batch:
            raise WiringError(
                given=f"{count} samples, in a tensor of shape {shape}",
                expected=f"{self.batch} samples, the batch size of the network",
                remedy=f"build the network with batched(..., batch={count})",
            )


@checked(WiringError)
def batched(network: Network, taus: Values | None = None, gains: Values | None = None, batch: Count = 1) -> Batched:
    """Build one network that runs several settings of `network`; point k uses the k-th value of each tau and gain.

    taus   population -> time constants in ms, (points,) or (points, channel). They turn a discrete network into a
           flow, in which every population with memory needs a time constant
    gains  edge -> factors that multiply the output of the edge, one per point

    Parameters are shared. Raises WiringError for unknown names, names in both dicts, or different numbers of values.
    """
    given = {**(taus or {}), **(gains or {})}
    counts = {name: len(values) for name, values in given.items()}
    if len(set(counts.values())) != 1 or set(taus or {}) & set(gains or {}):
        raise WiringError(
            given=f"taus and gains with the numbers of values {counts}",
            expected="the same number of values for each tau and gain, and at least one tau or gain",
            remedy="give every tau and gain one value per point, repeating values that do not change",
        )
    (points, *_) = counts.values()

    def spread(values: Sequence[float] | Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64).repeat_interleave(batch, 0)

    other = network.as_ode({name: PerSampleTau(spread(values)) for name, values in taus.items()}) if taus else network
    if gains:
        if unknown := set(gains) - {edge.name for edge in other.projections}:
            raise WiringError(
                given=f"gains for {', '.join(sorted(unknown))}",
                expected=f"edges of {network.name!r}: {', '.join(edge.name for edge in other.projections)}",
                remedy="pass gains={name: [0.5, 1.0]} with the name of an edge; net.describe() lists the edges",
            )
        edges = [
            replace(edge, transform=_scaled(edge.transform, PerSampleGain(spread(gains[edge.name]))))
            if edge.name in gains
            else edge
            for edge in other.projections
        ]
        other = variants.with_edges(other, edges)
    return Batched(other, points, batch)


def _scaled(transform: nn.Module | None, gain: PerSampleGain) -> nn.Module:
    if transform is None:
        return gain
    # Unlike a Sequential, a Chain passes the phase on to its parts.
    return Chain(transform, gain) if isinstance(transform, Phased) else nn.Sequential(transform, gain)


def _beside(values: Tensor, like: Tensor) -> Tensor:
    per_channel = values if values.dim() == 2 else values[:, None]
    return per_channel.to(like).reshape(*per_channel.shape, *(1,) * (like.dim() - 2))
