"""The simulation loop: recorded values and times, and failures."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.examples import chain, dense, leaky_net, linear_pc, two_layers
from support.small import small
from torch import nn

import pcsim
from pcsim import RK4, Euler, Iterate, Network, PcsimWarning, Population, Projection, Record, Status, simulate
from pcsim.rules import Rate
from pcsim.stimuli import blank, held, noise, sequence


def test_recorded_error_is_state_less_prediction_per_sample() -> None:
    weights = dense(6, 3)
    shown = torch.randn(4, 6)
    record = Record(states=["r", "e"], errors="all", reduce={"e": ["norm", "max_space"], "r": "mean_square"})
    run = simulate(linear_pc(weights), shown, solver=Euler(dt=1.0), until=5.0, record=record)
    error = shown - run["r"] @ weights.weight.T
    assert torch.allclose(run["e"], error, atol=1e-6)
    assert torch.allclose(run.errors["e"], error.square().mean(2), atol=1e-6)
    assert set(run.errors) == {"e"}
    assert torch.allclose(run["e.norm"], error.norm(dim=2), atol=1e-6)


def test_max_space_keeps_channels() -> None:
    net = pcsim.models.blt_b(channels=(3, 3))
    run = simulate(
        net, torch.rand(2, 1, 32, 32), solver=Iterate(), record=Record(states=["l2"], reduce={"l2": "max_space"})
    )
    assert torch.equal(run["l2.max_space"], run["l2"].amax((-2, -1)))


@settings(max_examples=25, deadline=None)
@given(every=st.integers(1, 7), steps=st.integers(1, 40))
def test_record_every_is_slice_of_all_rows(every: int, steps: int) -> None:
    assume(every <= steps)
    torch.manual_seed(0)
    net, shown = leaky_net(4), torch.randn(2, 4)
    whole = simulate(net, shown, solver=Euler(dt=1.0), until=float(steps), record=Record(states=["r"]))
    part = simulate(net, shown, solver=Euler(dt=1.0), until=float(steps), record=Record(states=["r"], every=every))
    assert torch.equal(part["r"], whole["r"][every - 1 :: every])
    assert np.array_equal(part.times, whole.times[every - 1 :: every])


@pytest.mark.parametrize("net", [two_layers(), two_layers().as_ode(tau=4.0), chain((0, 3, 2))])
def test_run_continued_from_file_equals_single_run(net: Network, tmp_path: Path) -> None:
    shown = torch.randn(3, *net.inputs["u"])
    solver = Euler(dt=1.0) if net.is_flow else Iterate()
    record = Record(states="all")
    whole = simulate(net, shown, solver=solver, steps=9, record=record)
    simulate(net, shown, solver=solver, steps=4, record=record).save(tmp_path / "first.run")
    first = pcsim.Run.load(tmp_path / "first.run")
    second = simulate(net, shown, solver=solver, steps=9, record=record, start=first.final)
    for name in net.populations:
        assert torch.equal(torch.cat([first[name], second[name]]), whole[name])
    assert np.array_equal(np.concatenate([first.times, second.times]), whole.times)


def test_run_save_and_load_round_trip(tmp_path: Path) -> None:
    shown = pcsim.stimuli.digit_debris(batch=3)
    run = simulate(pcsim.models.blt(channels=(2, 2)), shown, solver=Iterate())
    run.save(tmp_path / "run")
    back = pcsim.Run.load(tmp_path / "run")
    assert torch.equal(back["readout"], run["readout"]) and back.times.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert back.status == run.status and back.about == run.about and torch.equal(back.labels, run.labels)


def test_to_xarray_labels_axes_and_times() -> None:
    shown = pcsim.stimuli.digit_debris(batch=3)
    run = simulate(
        pcsim.models.blt(channels=(2, 2)),
        shown,
        solver=Iterate(),
        record=Record(states=["l2", "readout"], reduce={"l1": "norm"}),
    )
    data = run.to_xarray()
    assert data["l2"].dims == ("time", "sample", "l2_channel", "l2_height", "l2_width")
    assert data["l1.norm"].dims == ("time", "sample")
    assert data.time.values.tolist() == [10.0, 20.0, 30.0, 40.0] and data.time.attrs["units"] == "ms"


class Poison(nn.Module):
    """Turn one sample into NaN at one step, and otherwise return the input."""

    def __init__(self, sample: int, step: int) -> None:
        super().__init__()
        self.sample, self.step, self.calls = sample, step, -1

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if value.device.type == "meta":
            return value
        self.calls += 1
        if self.calls != self.step:
            return value
        poisoned = value.clone()
        poisoned[self.sample] = float("nan")
        return poisoned


@settings(max_examples=20, deadline=None)
@given(sample=st.integers(0, 4), step=st.integers(0, 39), area=st.sampled_from(["a", "b"]))
def test_diverged_sample_is_named_and_leaves_others_unchanged(sample: int, step: int, area: str) -> None:
    torch.manual_seed(0)
    transforms = {name: (dense(3, 3), dense(3, 3)) for name in "ab"}

    def build(poisoned: bool) -> Network:
        edges = []
        for source, name in (("u", "a"), ("a", "b")):
            within: nn.Module = transforms[name][1]
            if poisoned and name == area:
                within = nn.Sequential(within, Poison(sample, step))
            edges += [
                Projection(source, name, transforms[name][0], delay=1 if name == "b" else 0),
                Projection(name, name, within, kind="lateral", delay=1),
            ]
        return Network({"u": (3,)}, [Population("a", Rate(3, "tanh")), Population("b", Rate(3, "tanh"))], edges)

    shown, record = torch.randn(5, 3), Record(states="all")
    clean = simulate(build(False), shown, solver=Iterate(), steps=45, record=record)
    with pytest.warns(PcsimWarning, match=f"sample {sample} became non-finite in '{area}'"):
        run = simulate(build(True), shown, solver=Iterate(), steps=45, record=record)
    others = [i for i in range(5) if i != sample]
    at = step + 1  # a lateral edge first transmits at step 1
    assert run.status[sample] is Status.DIVERGED and all(run.status[i] is Status.COMPLETED for i in others)
    assert run.diverged_in[sample] == area and run.valid_until[sample] == 10.0 * at
    for name in "ab":
        assert torch.equal(run[name][:, others], clean[name][:, others])
        assert torch.isnan(run[name][at:, sample]).all()
        assert torch.equal(run[name][:at, sample], clean[name][:at, sample])


def test_divergence_stops_run_early_with_nan() -> None:
    net = leaky_net(4, activation="identity", scale=40.0)
    with pytest.warns(PcsimWarning, match="smaller dt"):
        run = simulate(net, torch.randn(2, 4), solver=Euler(dt=5.0), until=5.0 * 3000, record=Record(states=["r"]))
    assert all(status is Status.DIVERGED for status in run.status)
    assert len(run.times) < 3000 and torch.isnan(run["r"][-1]).all()


def test_non_finite_weight_is_named_in_warning() -> None:
    net = leaky_net(4)
    (name, weight), *_ = net.named_parameters()
    with torch.no_grad():
        weight.fill_(torch.nan)
    with pytest.warns(PcsimWarning, match=f"{name} is not finite"):
        simulate(net, torch.randn(2, 4), solver=Euler(dt=1.0), until=5.0)


def test_user_exception_propagates_unchanged() -> None:
    class Picky(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            if value.device.type != "meta":
                raise KeyError("my own reason")
            return value

    net = Network({"u": (2,)}, [Population("a", Rate(2))], [Projection("u", "a", Picky())])
    with pytest.raises(KeyError, match="my own reason"):
        simulate(net, torch.zeros(1, 2), solver=Iterate(), steps=1)


def test_stimulus_changes_on_time_with_every_solver() -> None:
    first, second = torch.randn(2, 4), torch.randn(2, 4)
    line = held(first, 6.0).then(blank(2.0, like=first)).then(held(second, 4.0))
    net = leaky_net(4)
    for solver in (Euler(dt=1.0), RK4(dt=2.0), pcsim.TorchDiffEq(dt=2.0, method="dopri5", rtol=1e-6, atol=1e-8)):
        run = simulate(net, line, solver=solver, record=Record(states=["r"]))
        assert run.times[-1] == 12.0
        part = simulate(net, first, solver=solver, until=6.0, record=Record(states=["r"]))
        assert torch.equal(run["r"][: len(part.times)], part["r"])
        later = simulate(
            net, torch.zeros_like(first), solver=solver, until=8.0, record=Record(states=["r"]), start=part.final
        )
        assert torch.allclose(run["r"][len(part.times) : len(part.times) + len(later.times)], later["r"], atol=1e-6)


def test_sequence_shows_each_frame_for_its_duration() -> None:
    frames = torch.arange(3.0).view(3, 1, 1, 1, 1)
    line = sequence(frames, every=0.3)
    assert [line.at(k * 0.1).item() for k in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.allclose(line.change_times(0.9), [0.3, 0.6])


def test_noise_depends_on_seed_and_index_not_batch() -> None:
    images = torch.zeros(6, 1, 4, 4)
    line = noise(images, sd=0.5, duration=30.0, every=10.0, seed=3)
    assert torch.equal(line.at(0.0), line.at(9.0)) and not torch.equal(line.at(0.0), line.at(10.0))
    part = noise(images[2:5], sd=0.5, duration=30.0, every=10.0, seed=3, first=2)
    assert torch.equal(part.at(12.0), line.at(12.0)[2:5])
    many = noise(torch.zeros(400, 1, 10, 10), sd=0.5, duration=1.0, every=1.0, seed=1).at(0.0)
    assert many.mean().item() == pytest.approx(0, abs=0.01) and many.std().item() == pytest.approx(0.5, rel=0.02)


def test_simulate_takes_two_inputs_by_name() -> None:
    net = Network(
        {"left": (2,), "right": (2,)},
        [Population("a", Rate(2, "identity", bias=False))],
        [Projection("left", "a"), Projection("right", "a")],
    )
    shown = {"left": torch.ones(1, 2), "right": torch.full((1, 2), 2.0)}
    run = simulate(net, shown, solver=Iterate(), steps=1, record=Record(states=["a"]))
    assert run["a"].flatten().tolist() == [3.0, 3.0]
    with pytest.raises(pcsim.StimulusError, match="left, right"):
        simulate(net, torch.ones(1, 2), solver=Iterate(), steps=1)


def test_run_repr() -> None:
    run = simulate(leaky_net(2), torch.zeros(3, 2), solver=Euler(dt=1.0), until=5.0, record=Record(states="r"))
    assert repr(run) == "Run(network: 5 ms, 3 samples, 0 diverged; r (5, 3, 2))"


def test_run_times_do_not_drift() -> None:
    run = simulate(
        leaky_net(2), torch.zeros(1, 2), solver=Euler(dt=0.1), until=1000.0, record=Record(states=["r"], every=1000)
    )
    assert np.array_equal(run.times, 100.0 * np.arange(1, 11))


def test_run_about_records_provenance() -> None:
    run = simulate(leaky_net(2), torch.zeros(1, 2), solver=Euler(dt=1.0), until=3.0)
    assert {"network", "solver", "steps", "device", "dtype", "threads", "versions"} <= run.about.keys()
    assert run.about["solver"] == "Euler(dt=1.0)"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="memory is read from /proc")
def test_simulate_memory_constant_over_100k_steps() -> None:
    net = pcsim.models.leaky_rcnn((2, 2), tau=(10.0, 20.0), image=(1, 8, 8))
    image, solver = torch.rand(1, 1, 8, 8), pcsim.Euler(dt=1.0)
    record = Record(states=["readout"], errors="all", every=1_000)
    peaks = []
    for steps in (10_000, 100_000):
        # Graphs of an earlier trace are cycles: garbage of the first run is not memory of the second.
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        whole = simulate(net, image, solver=solver, until=float(steps), record=record)
        assert whole.times.tolist() == [1_000.0 * n for n in range(1, steps // 1_000 + 1)]
        peaks.append(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))
    assert peaks[1] <= 1.01 * peaks[0]
    run, parts = None, []
    for end in range(10_000, 100_001, 10_000):
        run = simulate(net, image, solver=solver, until=float(end), record=record, start=run.final if run else None)
        parts.append(run["readout"])
    assert torch.equal(torch.cat(parts), whole["readout"])


def test_network_without_inputs_is_refused() -> None:
    edge = Projection("r", "r", dense(3, 3), delay=1)
    net = Network({}, [Population("r", Rate(3), shape=(3,))], [edge])
    attempts = (
        lambda: simulate(net, {}, solver=Iterate(), steps=3),
        lambda: pcsim.Simulator(net, solver=Iterate())({}, steps=3),
        lambda: pcsim.initial_state(net, {}),
        lambda: list(pcsim.rollout(net, {}, solver=Iterate(), steps=3)),
        lambda: pcsim.dynamics.stability.Dynamics(net, {}),
    )
    for attempt in attempts:
        with pytest.raises(pcsim.StimulusError, match="a network without inputs"):
            attempt()


def test_8_bit_images_converted_to_float_are_warned_about() -> None:
    net, pixels = small("leaky_rcnn"), torch.randint(0, 256, (2, 1, 8, 8))
    pixels[0, 0, 0, 0] = 255
    for images in (pixels.float(), {"image": pixels.double()}, held(pixels.float())):
        with pytest.warns(PcsimWarning, match="whole numbers up to 255, like 8-bit images.*pass images / 255"):
            simulate(net, images, solver=Euler(dt=2.0), steps=1)
    quiet = (pixels / 255, pixels + 0.5, pixels.clamp(max=127).float(), 1_000.0 * pixels)
    for images in quiet:  # warnings are failures
        simulate(net, images, solver=Euler(dt=2.0), steps=1)
    nothing = blank(4.0, like=pixels.float())
    with pytest.warns(PcsimWarning, match="8-bit"):
        simulate(net, nothing.then(held(pixels.float())), solver=Euler(dt=2.0), until=8.0)
