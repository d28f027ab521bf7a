"""A network as a Brain-Score subject that returns activations for images, regions and time bins.

    subject = Subject(net, {"V1": "l1", "IT": "l2"}, solver=RK4(2.0), until=200.0, prepare=prepare)
    subject.start_recording("IT", [(70, 80), (80, 90)])
    subject.look_at(stimuli)                        xarray.DataArray (presentation, neuroid, time_bin)

Brain-Score itself is not imported: benchmarks call these methods by name. Requires the `analysis` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pcsim.analysis.arguments import as_ids
from pcsim.brain.regression import steps_of
from pcsim.core.checks import Number, checked
from pcsim.core.exceptions import StimulusError, WiringError, needs_extra
from pcsim.network import Network
from pcsim.simulation.record import Record
from pcsim.simulation.simulator import simulate
from pcsim.solvers import Solver

Bin = tuple[float, float]
Bins = Annotated[Sequence[Bin], Field(examples=["[(70, 80), (80, 90)]"])]


@checked(StimulusError)
class Subject:
    """A Brain-Score subject that presents images to `network` and records from its populations.

    regions   mapping of brain regions to the populations that model them, fixed before scoring
    solver    solver for each run
    until     duration of each image in ms; by default, the network's own number of steps
    prepare   function that turns a stimulus into an image (channel, height, width) in the network's input range; a
              stimulus is a path (Brain-Score) or a value of the mapping passed to `look_at`
    latency   processing time in the eye and optic nerve before the network's time 0, in ms; one value, or one per
              region
    degrees   visual angle of an image

    The times of a flow are in ms. The steps of a discrete network last net.step_ms or follow its published timing.
    CORnet-S's published times are relative to image onset, so it needs no latency. Raises WiringError for unknown
    populations, and StimulusError if a latency is missing or not finite.
    """

    def __init__(
        self,
        network: Network,
        regions: Mapping[str, str],
        *,
        solver: Solver,
        until: float | None = None,
        prepare: Callable[[Any], Tensor | np.ndarray],
        latency: Number | Mapping[str, Number] = 0.0,
        degrees: int = 8,
        batch: int = 32,
        identifier: str | None = None,
    ) -> None:
        if unknown := sorted(set(regions.values()) - set(network.populations)):
            raise WiringError(
                given=f"regions {dict(regions)}",
                expected=f"populations of {network.name!r} ({', '.join(network.populations)}), "
                f"not {', '.join(unknown)}",
                remedy=f"pass regions={{{next(iter(regions))!r}: {next(iter(network.populations))!r}}}",
            )
        latencies = latency if isinstance(latency, Mapping) else dict.fromkeys(regions, latency)
        if not set(regions) <= set(latencies) or not np.isfinite(list(latencies.values())).all():
            raise StimulusError(
                given=f"latency={latency!r} for the regions {', '.join(regions)}",
                expected="a finite latency in ms, or one for each region",
                remedy=f"pass latency={dict.fromkeys(regions, 0.0)}",
            )
        self.network, self.regions, self.solver, self.until = network, dict(regions), solver, until
        self.identifier = identifier or network.name
        self._prepare, self._latency, self._degrees, self._batch = prepare, dict(latencies), degrees, batch
        self._recorded: tuple[str, tuple[Bin, ...]] | None = None

    def visual_degrees(self) -> int:
        """Return the visual angle of an image in degrees."""
        return self._degrees

    @checked(StimulusError)
    def start_recording(self, recording_target: str, time_bins: Bins, **_: object) -> None:
        """Select the region to record from and the time bins (from, to) in ms after image onset."""
        if recording_target not in self.regions:
            raise StimulusError(
                given=f"recording from {recording_target!r}",
                expected=f"one of {', '.join(self.regions)}",
                remedy=f"pass regions={{{recording_target!r}: 'POPULATION'}} to Subject",
            )
        bins = np.asarray(time_bins, float)
        if bins.ndim != 2 or bins.shape[1:] != (2,) or not len(bins) or not (bins[:, 0] < bins[:, 1]).all():
            raise StimulusError(
                given=f"time_bins={time_bins}",
                expected="time bins (from, to) in ms with from < to",
                remedy="pass time_bins=[(70, 80), (80, 90)]",
            )
        self._recorded = (recording_target, tuple((float(low), float(high)) for low, high in bins))

    @checked(StimulusError)
    def look_at(self, stimuli: Any, number_of_trials: int = 1) -> Any:
        """Return activations averaged over the steps in each bin: `xarray.DataArray` (presentation, neuroid, time_bin).

        stimuli           a mapping of ids to arguments of `prepare`, or a Brain-Score stimulus set with `stimulus_id`
                          and `get_stimulus(id)`
        number_of_trials  has no effect on the activations, because all trials are identical

        `regression.steps_of` assigns steps to bins, which may overlap and be in any order. If a sample diverges, its
        activations are NaN and a warning is issued. Raises StimulusError for bins outside the run, or if an id is
        missing or occurs twice.
        """
        with needs_extra("analysis", StimulusError, "look_at()"):
            import xarray

        if self._recorded is None:
            raise StimulusError(
                given="look_at() called before start_recording()",
                expected="a region and time bins",
                remedy="call start_recording first: subject.start_recording('IT', [(70, 170)])",
            )
        region, bins = self._recorded
        names, images = _images(stimuli, self._prepare)
        values = [
            self._responses(images[at : at + self._batch], region, bins) for at in range(0, len(images), self._batch)
        ]
        found = np.concatenate(values)
        units = found.shape[1]
        population = self.regions[region]
        return xarray.DataArray(
            found,
            dims=("presentation", "neuroid", "time_bin"),
            coords={
                "stimulus_id": ("presentation", names),
                "neuroid_id": ("neuroid", [f"{self.identifier}.{population}.{unit}" for unit in range(units)]),
                "neuroid_num": ("neuroid", np.arange(units)),
                "region": ("neuroid", [region] * units),
                "layer": ("neuroid", [population] * units),
                "model": ("neuroid", [self.identifier] * units),
                "time_bin_start": ("time_bin", [low for low, _ in bins]),
                "time_bin_end": ("time_bin", [high for _, high in bins]),
            },
            attrs={"identifier": self.identifier, "number_of_trials": number_of_trials},
        )

    def _responses(self, images: Sequence[Tensor], region: str, bins: Sequence[Bin]) -> np.ndarray:
        population = self.regions[region]
        record = Record(states=[population])
        run = simulate(self.network, torch.stack(list(images)), solver=self.solver, until=self.until, record=record)
        ends, rows = self._ends(population, run.times)
        flat = run[population].flatten(2)
        chosen = [torch.from_numpy(rows[steps]) for steps in steps_of(ends, bins, self._latency[region])]
        return torch.stack([flat[steps].mean(0) for steps in chosen], -1).cpu().numpy()

    def _ends(self, population: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the end times of the steps in ms, and the corresponding rows of the run."""
        network, rows = self.network, np.arange(len(times))
        if network.is_flow:
            return times, rows
        if population not in network.timing:
            return (rows + 1) * network.step_ms, rows
        first, end = network.populations[population].active or (0, len(times))
        rows = rows[int(first) : int(min(end, len(times)))]
        # The published timing specifies the starts of steps.
        return np.array([network.time_of(population, int(row)) for row in rows]) + network.timing[population][1], rows


def _images(stimuli: Any, prepare: Callable[[Any], Tensor | np.ndarray]) -> tuple[list[str], list[Tensor]]:
    if hasattr(stimuli, "get_stimulus"):
        ids = list(stimuli["stimulus_id"])
        shown: Iterable[Any] = (stimuli.get_stimulus(str(name)) for name in ids)
    elif isinstance(stimuli, Mapping):
        ids, shown = list(stimuli), stimuli.values()
    else:
        raise StimulusError(
            given=f"stimuli of type {type(stimuli).__name__}",
            expected="a mapping of ids to images, or a stimulus set with stimulus_id and get_stimulus(id)",
            remedy="pass {'first': image, ...}",
        )
    names = [str(name) for name in as_ids(ids, "stimulus_id")]
    if len(set(names)) < len(names) or not names:
        raise StimulusError(
            given=f"{len(names)} stimuli with {len(set(names))} different ids",
            expected="at least one stimulus, and a different id for each",
            remedy="present each stimulus once, because all trials are identical",
        )
    images = [torch.as_tensor(prepare(value)) for value in shown]
    if len({image.shape for image in images}) > 1:
        raise StimulusError(
            given=f"images of shapes {', '.join(sorted({str(tuple(image.shape)) for image in images}))}",
            expected="images of the same shape (channel, height, width)",
            remedy="resize them in prepare, the function passed to Subject",
        )
    return names, images


__all__ = ["Subject"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
