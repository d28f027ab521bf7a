"""Selectivity of units and feature maps."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from pcsim.analysis.arguments import as_array, as_labels
from pcsim.core.checks import Axes, checked
from pcsim.core.exceptions import StimulusError


@checked(StimulusError)
def tuning(responses: Annotated[Tensor, Axes("time, sample, channel, ...")], labels: Tensor) -> Tensor:
    """z_ck = (mean of r_k over class c - mean of r_k) / sd of r_k;  tuning_ck = z_ck / max_k |z_ck|, in [-1, 1].

    r_k is the response of channel k to a sample, averaged over time and positions. Return (classes, channels) in
    float64; channels with a constant response have a tuning of 0.

    responses  (time, sample, channel, ...), such as run["l1"], or run["l1"][-1:] for the last step
    labels     (sample,), integers from 0; each class up to the largest label must occur

    Raises StimulusError if the labels do not match the samples, or for responses that are not finite.
    Source: tuning values of Lindsay & Miller 2018, scaled to [-1, 1].
    """
    known = as_labels(as_array(labels))
    values = as_array(responses)
    means = values.mean(axis=(0, *range(3, values.ndim)))  # (sample, channel)
    counts = np.bincount(known) if len(known) and known.min() >= 0 else np.zeros(1)
    if len(known) != len(means) or not counts.all() or not np.isfinite(means).all():
        raise StimulusError(
            given=f"responses {values.shape} and labels {known.shape} of {len(counts)} classes, "
            f"with {int(counts.min())} to {int(counts.max())} samples",
            expected="finite responses (time, sample, channel, ...), one label per sample, and samples of each class",
            remedy="pass run['l1'] and the labels of its stimulus, with at least one sample of each class",
        )
    deviations = means - means.mean(0)
    spread = deviations.std(0)
    constant = spread <= 1e-12 * np.abs(means).max(0)
    z = np.stack([deviations[known == label].mean(0) for label in range(len(counts))])
    z = np.where(constant, 0.0, z / np.where(constant, 1.0, spread))
    largest = np.abs(z).max(1, keepdims=True)
    return torch.from_numpy(z / np.where(largest > 0, largest, 1.0))


@checked(StimulusError)
def population_angle(rates: Annotated[Tensor, Axes("time, sample, unit")]) -> Tensor:
    """psi = arg sum_i r_i exp(i theta_i), theta_i = 360 i / n: the population vector of a ring of units, in degrees.

    rates  (time, sample, unit), such as run["r"]

    Return angles from 0 to 360, (time, sample), in the dtype of the rates; NaN where the vector is 0. Source:
    Georgopoulos, Schwartz & Kettner 1986.
    """
    angles = 2.0 * torch.pi / rates.shape[-1] * torch.arange(rates.shape[-1], device=rates.device).to(rates)
    x, y = (rates * angles.cos()).sum(-1), (rates * angles.sin()).sum(-1)
    missing = torch.hypot(x, y) <= 1e-6 * rates.abs().sum(-1)
    return torch.rad2deg(torch.atan2(y, x)).remainder(360.0).masked_fill(missing, torch.nan)
