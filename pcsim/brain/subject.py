"""A network as a subject of Brain-Score: activations for images, regions and time bins, as its benchmarks expect.

    subject = Subject(net, {"V1": "l1", "IT": "l2"}, solver=RK4(2.0), until=200.0, prepare=prepare)
    subject.start_recording("IT", [(70, 80), (80, 90)])
    subject.look_at(stimuli)                        xarray.DataArray (presentation, neuroid, time_bin)

Nothing of Brain-Score is imported: a benchmark calls these methods by their names. Needs the extra `analysis`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsim.brain.regression import steps_of
from pcsim.core.exceptions import StimulusError, WiringError, needs_extra
from pcsim.network import Network
from pcsim.simulation.record import Record
from pcsim.simulation.simulator import simulate
from pcsim.solvers import Solver

Bin = tuple[float, float]


class Subject:
    """`network` as a subject that looks at images.

    regions   region -> population that models it, a commitment made before it is scored
    solver, until  solver of each run, and ms for which an image is held; None: the network's own number of steps
    prepare   an item of `stimuli` -> an image (channel, height, width) in the network's own scale; the item is a path
              for Brain-Score, or a value of the mapping
    latency   ms of eye and optic nerve before the network's time 0, for all regions or for each
    degrees   visual angle that an image fills

    A flow's steps are in ms. A step of a discrete network lasts net.step_ms, or follows its published timing (that of
    CORnet-S counts from image onset: no latency).

    Raises WiringError for unknown populations.
    """

    def __init__(
        self,
        network: Network,
        regions: Mapping[str, str],
        *,
        solver: Solver,
        until: float | None = None,
        prepare: Callable[[Any], Tensor | np.ndarray],
        latency: float | Mapping[str, float] = 0.0,
        degrees: int = 8,
        batch: int = 32,
        identifier: str | None = None,
    ) -> None:
        if unknown := sorted(set(regions.values()) - set(network.populations)):
            raise WiringError(
                given=f"regions {dict(regions)}",
                expected=f"populations of {network.name!r}, not {', '.join(unknown)}: {', '.join(network.populations)}",
                remedy=f"write regions={{{next(iter(regions))!r}: {next(iter(network.populations))!r}}}",
            )
        self.network, self.regions, self.solver, self.until = network, dict(regions), solver, until
        self.identifier = identifier or network.name
        self._prepare, self._latency, self._degrees, self._batch = prepare, latency, degrees, batch
        self._recorded: tuple[str, tuple[Bin, ...]] | None = None

    def visual_degrees(self) -> int:
        """Return the visual angle that an image fills, in degrees."""
        return self._degrees

    def start_recording(self, recording_target: str, time_bins: Sequence[Bin], **_: object) -> None:
        """Set the region to record from, and the bins (from, to) in ms after image onset."""
        if recording_target not in self.regions:
            raise StimulusError(
                given=f"recording from {recording_target!r}",
                expected=f"one of {', '.join(self.regions)}",
                remedy=f"write Subject(..., regions={{{recording_target!r}: 'POPULATION'}})",
            )
        bins = np.asarray(time_bins, float)
        if bins.ndim != 2 or bins.shape[1:] != (2,) or not len(bins) or not (bins[:, 0] < bins[:, 1]).all():
            raise StimulusError(
                given=f"time_bins={time_bins}",
                expected="bins (from, to) in ms, from before to",
                remedy="write time_bins=[(70, 80), (80, 90)]",
            )
        self._recorded = (recording_target, tuple((float(low), float(high)) for low, high in bins))

    def look_at(self, stimuli: Any, number_of_trials: int = 1) -> Any:
        """Return an `xarray.DataArray` (presentation, neuroid, time_bin) of activations, means over the steps in a bin.

        stimuli  a mapping of ids to what `prepare` takes, or a stimulus set of Brain-Score (`stimulus_id` and
                 `get_stimulus(id)`). All trials are the same, so `number_of_trials` changes nothing

        `regression.steps_of` chooses the steps. Raises StimulusError for bins outside of the run.
        """
        with needs_extra("analysis", StimulusError, "look_at()"):
            import xarray

        if self._recorded is None:
            raise StimulusError(
                given="look_at before start_recording",
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
        latency = self._latency[region] if isinstance(self._latency, Mapping) else self._latency
        ends, rows = self._ends(population, run.times)
        flat = run[population].flatten(2)
        chosen = [torch.from_numpy(rows[steps]) for steps in steps_of(ends, bins, latency)]
        return torch.stack([flat[steps].mean(0) for steps in chosen], -1).cpu().numpy()

    def _ends(self, population: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return when steps end, in ms, and which rows of the run they are."""
        network, rows = self.network, np.arange(len(times))
        if network.is_flow:
            return times, rows
        if population not in network.timing:
            return (rows + 1) * network.step_ms, rows
        first, end = network.populations[population].active or (0, len(times))
        rows = rows[int(first) : int(min(end, len(times)))]
        # The timing is that of the beginnings of steps.
        return np.array([network.time_of(population, int(row)) for row in rows]) + network.timing[population][1], rows


def _images(stimuli: Any, prepare: Callable[[Any], Tensor | np.ndarray]) -> tuple[list[str], list[Tensor]]:
    if hasattr(stimuli, "get_stimulus"):
        names = [str(name) for name in stimuli["stimulus_id"]]
        return names, [torch.as_tensor(prepare(stimuli.get_stimulus(name))) for name in names]
    if not isinstance(stimuli, Mapping):
        raise StimulusError(
            given=f"stimuli of type {type(stimuli).__name__}",
            expected="a mapping of ids to images, or a stimulus set with stimulus_id and get_stimulus(id)",
            remedy="write {'first': image, ...}",
        )
    return [str(name) for name in stimuli], [torch.as_tensor(prepare(value)) for value in stimuli.values()]
