"""The ring attractor against NumPy, and against the closed forms of its bump: shape, position, speed and diffusion."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.tolerances import EQUATIONS

from pcsim import RK4, Euler, Record, StimulusError, WiringError, analysis, models, simulate, stimuli

pytestmark = pytest.mark.usefixtures("float64")
J1, J0, UNITS = 6.0, 7.0, 128


def half_width(cosine: float) -> float:
    """Return theta_c in radians, the root of J_1 (theta_c - sin(2 theta_c) / 2) = 2 pi, by Newton's method."""
    width = 1.0
    for _ in range(50):
        width -= (width - math.sin(2 * width) / 2 - 2 * math.pi / cosine) / (1 - math.cos(2 * width))
    return width


def amplitude(width: float, inhibition: float, background: float) -> float:
    return -background / (math.cos(width) - inhibition * (math.sin(width) - width * math.cos(width)) / math.pi)


def bump(position: float, cosine: float = J1, units: int = UNITS) -> torch.Tensor:
    """Return the predicted bump (1, unit) at a position in degrees, for I = 1."""
    width = half_width(cosine)
    angles = 2 * np.pi / units * np.arange(units) - math.radians(position)
    rates = amplitude(width, J0, 1.0) * np.maximum(np.cos(angles) - math.cos(width), 0.0)
    return torch.from_numpy(rates)[None]


def ring(shift: float = 0.0, units: int = UNITS) -> object:
    return models.bump_attractor(units, inhibition=J0, excitation=J1, shift=shift)


def test_ring_follows_equation_for_4_steps() -> None:
    net = models.bump_attractor(7, inhibition=5.0, excitation=6.0, background=0.3, shift=20.0, tau=10.0)
    generator = np.random.default_rng(0)
    drive, r = generator.normal(size=7), generator.random(7)
    run = simulate(net, torch.from_numpy(drive)[None], solver=Euler(2.0), steps=4, initial={"r": torch.tensor(r)[None]})
    angles = 2 * np.pi * np.arange(7) / 7
    for row in range(4):
        total = [
            0.3 - 5.0 * r.mean() + 6.0 * np.mean(r * np.cos(angles[i] - angles - np.radians(20.0))) + drive[i]
            for i in range(7)
        ]
        r = r + 2.0 / 10.0 * (-r + np.maximum(total, 0.0))
        assert np.abs(run["r"][row, 0].detach().numpy() - r).max() < EQUATIONS


@pytest.mark.parametrize("units", [64, 128])
@pytest.mark.parametrize("position", [0.0, 1.5, 77.3, 200.1])
def test_bump_has_predicted_shape_and_does_not_drift(position: float, units: int) -> None:
    """It stays where it is if that is the position of a unit, or midway, and otherwise within half the spacing."""
    spacing = 360.0 / units
    start = round(2 * position / spacing) * spacing / 2 if position < 2 else position
    rest, record = bump(start, units=units), Record(["r"], every=500)
    run = simulate(
        ring(units=units), torch.zeros(1, units), solver=RK4(2.0), until=4_000.0, initial={"r": rest}, record=record
    )
    angles = analysis.population_angle(run["r"].detach())[:, 0]
    drift = (angles - start + 180.0).remainder(360.0) - 180.0
    assert drift.abs().max() < (1e-6 if position < 2 else spacing / 2)
    expected = bump(float(angles[-1]), units=units)
    assert torch.allclose(run["r"][-1].detach(), expected, rtol=0, atol=5e-4 * float(expected.max()))


def test_bump_forms_at_transient_cue_and_follows_later_cue() -> None:
    cue = 0.5 * bump(120.0) / bump(120.0).max()
    line = stimuli.held(cue, 100.0).then(stimuli.blank(900.0, like=cue))
    run = simulate(ring(), line, solver=RK4(2.0), record=Record(["r"], every=50))
    assert (analysis.population_angle(run["r"].detach())[1:] - 120.0).abs().max() < 180.0 / UNITS
    later = line.then(stimuli.held(4.0 * bump(210.0) / bump(210.0).max(), 200.0))
    moved = analysis.population_angle(simulate(ring(), later, solver=RK4(2.0))["r"].detach())[-1]
    assert 180.0 < moved < 215.0, "a strong distractor overwrites the memory"
    cut = ring().without("lateral", during=(200.0, 400.0))
    faded = simulate(cut, line, solver=RK4(2.0), record=Record(["r"], every=50))["r"].detach()
    assert faded[3, 0].std() < 1e-6, "the bump is in the lateral edges"


@pytest.mark.parametrize("shift", [10.0, -25.0])
def test_bump_moves_at_tan_of_shift_over_tau(shift: float) -> None:
    start = bump(90.0, J1 * math.cos(math.radians(shift)))
    run = simulate(ring(shift), torch.zeros(1, UNITS), solver=RK4(0.5), until=400.0, initial={"r": start})
    angles = np.unwrap(analysis.population_angle(run["r"].detach())[:, 0].numpy(), period=360.0)
    speed = (angles[-1] - angles[399]) / (run.times[-1] - run.times[399])
    assert speed == pytest.approx(math.degrees(math.tan(math.radians(shift)) / 10.0), rel=2e-3)


def test_bump_diffuses_as_predicted() -> None:
    """Ornstein-Uhlenbeck noise with sd s and a short time constant tau_n is like white noise of density 2 s^2 tau_n."""
    samples, until, sd, tau_n, units = 600, 600.0, 0.04, 2.0, 64
    noise = stimuli.ou_noise(torch.zeros(samples, units), sd, tau_n, until, every=1.0, seed=0)
    start = bump(180.0, units=units).expand(samples, -1)
    run = simulate(
        ring(units=units), noise, solver=Euler(1.0), until=until, initial={"r": start}, record=Record(["r"], every=50)
    )
    found = analysis.population_angle(run["r"].detach()).deg2rad().var(1)
    level = 2 * sd**2 * tau_n * J1 / (10.0**2 * units * amplitude(half_width(J1), J0, 1.0) ** 2)
    slope = (found[-1] - found[1]) / (run.times[-1] - run.times[1])
    assert slope == pytest.approx(level, rel=0.15)  # the standard error of a variance of 600 samples is 6 %
    half = found[5] / found[-1]
    assert 0.4 < half < 0.6, "variance grows linearly with time"


def test_population_angle_is_circular_mean_weighted_by_rate() -> None:
    rates = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    found = analysis.population_angle(rates)[0]
    assert torch.allclose(found[:2], torch.tensor([90.0, 315.0])) and found[2:].isnan().all()
    with pytest.raises(StimulusError):
        analysis.population_angle(torch.zeros(3))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: models.bump_attractor(2),
        lambda: models.bump_attractor(excitation=1.9),
        lambda: models.bump_attractor(shift=80.0),
        lambda: models.bump_attractor(inhibition=2.0),
        lambda: models.bump_attractor(background=0.0),
    ],
)
def test_rings_without_bump_are_refused(attempt: object) -> None:
    with pytest.raises(WiringError):
        attempt()
