"""Frame prediction: row t is computed before frame t is input; in closed loop, predictions replace frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pcsim
from pcsim import Euler, Iterate, Network, Population, Projection, Record, StimulusError, WiringError, models, predict
from pcsim.analysis.frames import score
from pcsim.network.variants import with_edges
from pcsim.rules import Sum, leaky_rate
from pcsim.simulation.forecasting import closed_loop, stream
from pcsim.stimuli import Film
from pcsim.training.memory import Live


def small(feedback: str = "current", cell: str = "convlstm") -> Network:
    net = models.prednet((1, 3, 4), (3, 4, 4), feedback=feedback, cell=cell, image=(1, 8, 8))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def copier() -> Network:
    """Return a network that predicts the current frame plus 0.1."""
    step = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        step.weight.fill_(1.0), step.bias.fill_(0.1)
    return Network(
        {"frame": (1, 4, 4)},
        [Population("a0", Sum()), Population("next", Sum())],
        [
            Projection("frame", "a0"),
            Projection("a0", "next", step, "prediction"),
            Projection("next", "a0", kind="prediction", delay=1, lesioned=((-float("inf"), float("inf")),)),
        ],
        readout="next",
    )


def lesioned(net: Network, opens: int) -> Network:
    """Cut the edge from the frame from step `opens` on, and the edge from the prediction until then."""
    windows = {"frame->a0": (opens, math.inf), "p0->a0": (-math.inf, opens)}
    edges = [replace(e, lesioned=(windows[e.name],)) if e.name in windows else e for e in net.projections]
    return with_edges(net, edges)


@pytest.mark.parametrize("feedback", ["current", "previous"])
@pytest.mark.parametrize("cell", ["convlstm", "subconvlstm"])
def test_predict_loops_equal_lesioned_edges(feedback: str, cell: str, float64: None) -> None:
    """test_equations compares the "closed_loop" input with NumPy, this test with lesions of the two edges."""
    net, frames = small(feedback, cell), torch.rand(2, 6, 1, 8, 8)
    line = pcsim.stimuli.as_timeline(frames)
    for opens in (None, 3):
        whole = net if opens is None else lesioned(net, opens)
        run = pcsim.simulate(whole, line, solver=Iterate(), steps=6, record=Record(states=["p0"], errors="all"))
        forecast = predict(net, frames, closed_loop_from=opens)
        assert torch.equal(forecast.predictions, run["p0"].transpose(0, 1))
        assert all(torch.equal(value, run.errors[name]) for name, value in forecast.run.errors.items())


def test_predict_row_depends_on_earlier_frames_only() -> None:
    for net in (small(), copier()):
        frames = torch.rand(1, 5, *net.inputs["frame"])
        other = frames.clone()
        other[:, 3:] = torch.rand_like(other[:, 3:])
        rows, others = predict(net, frames).predictions, predict(net, other).predictions
        assert torch.equal(rows[:, 1:4], others[:, 1:4]) and not torch.equal(rows[:, 4], others[:, 4])


def test_predict_next_frame_network_shifts_rows_by_one() -> None:
    frames = torch.rand(2, 6, 1, 4, 4)
    rows = predict(copier(), frames).predictions
    assert rows[:, 0].isnan().all()
    assert torch.allclose(rows[:, 1:], frames[:, :-1] + 0.1)
    closed = predict(copier(), frames, closed_loop_from=3, length=9).predictions
    assert torch.allclose(closed[:, 1:3], frames[:, :2] + 0.1)
    for horizon in range(1, 7):
        assert torch.allclose(closed[:, 2 + horizon], frames[:, 2] + 0.1 * horizon, atol=1e-6)


def test_predict_closed_loop_ignores_later_frames() -> None:
    net, frames = small(), torch.rand(2, 6, 1, 8, 8)
    short = predict(net, frames[:, :4], closed_loop_from=4, length=8)
    frames[:, 4:] = torch.nan
    with pytest.raises(StimulusError, match="NaN"):
        predict(net, frames, closed_loop_from=4, length=8)
    frames[:, 4:] = 0.0
    assert torch.equal(predict(net, frames, closed_loop_from=4, length=8).predictions, short.predictions)
    assert short.predictions.shape == (2, 8, 1, 8, 8) and short.closed_loop_from == 4
    assert repr(short) == "Forecast(prednet: 2 clips of 8 frames, closed loop from frame 4)"


def test_predict_encoder_forecaster_closes_loop_by_itself() -> None:
    net = models.convlstm((3,), kernel=3, input_frames=3, output_frames=2, image=(1, 8, 8), patch=2)
    frames = torch.rand(2, 5, 1, 8, 8)
    forecast = predict(net, frames)
    run = pcsim.simulate(net, pcsim.stimuli.as_timeline(frames), solver=Iterate(), steps=5)
    assert forecast.predictions[:, :3].isnan().all()
    assert torch.equal(forecast.predictions[:, 3:], run["prediction"][3:].transpose(0, 1))
    assert torch.equal(
        predict(net, frames[:, :3], closed_loop_from=3, length=5).predictions[:, 3:], forecast.predictions[:, 3:]
    )
    with pytest.raises(StimulusError, match="forecasts from frame 3 on"):
        predict(net, frames, closed_loop_from=2)


def test_predict_flow_takes_prediction_at_end_of_frame() -> None:
    frames = torch.rand(2, 4, 3, 1, 1)
    net = Network(
        {"frame": (3, 1, 1)},
        [Population("r", leaky_rate(3, 5.0, "identity")), Population("next", Sum())],
        [Projection("frame", "r"), Projection("r", "next")],
        readout="next",
    )
    rows = predict(net, frames, solver=Euler(dt=1.0), every=20.0).predictions
    settled = 1 - (1 - 1 / 5.0) ** 20
    assert rows[:, 0].isnan().all() and torch.allclose(rows[:, 1], settled * frames[:, 0], atol=1e-6)


def test_stream_equals_predict_in_constant_memory() -> None:
    net, frames = small(), torch.rand(2, 6, 1, 8, 8)
    for opens, length in ((None, 6), (3, 9)):
        whole = predict(net, frames, closed_loop_from=opens, length=length).predictions
        for row, prediction in stream(net, frames, closed_loop_from=opens, length=length):
            assert torch.equal(prediction, whole[:, row])
    assert [row for row, _ in stream(copier(), torch.rand(1, 4, 1, 4, 4))] == [1, 2, 3]
    most = []
    for length in (300, 900):
        clip = torch.rand(1, 5, 1, 8, 8)
        with Live() as live:
            for _ in stream(net, clip, closed_loop_from=5, length=length):
                pass
        most.append(live.most)
    assert most[1] <= 1.01 * most[0]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_stream_memory_constant_over_thousand_frames() -> None:
    net = pcsim.models.prednet((3, 8, 16, 32), (3, 8, 16, 32), image=(3, 128, 160)).eval()
    frames = torch.randint(0, 256, (1, 1_000, 3, 128, 160), dtype=torch.uint8)
    resident = []
    for length in (100, 1_000):
        rows = [row for row, prediction in stream(net, frames[:, :length]) if prediction.shape == (1, 3, 128, 160)]
        assert rows == list(range(length))
        resident.append(int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]))
    assert resident[1] <= 1.02 * resident[0]


def test_closed_loop_start_may_differ_per_sample() -> None:
    net, frames = small(), torch.rand(2, 6, 1, 8, 8)
    both = closed_loop(net)
    share = torch.zeros(6, 2, 1, 1, 1)
    share[2:, 0], share[4:, 1] = 1.0, 1.0
    shown = {"frame": pcsim.stimuli.as_timeline(frames), "closed_loop": pcsim.stimuli.sequence(share, 10.0)}
    run = pcsim.simulate(both, shown, solver=Iterate(), steps=6, record=Record(states=["p0"]))["p0"]
    for sample, opens in ((0, 2), (1, 4)):
        alone = predict(net, frames[sample : sample + 1], closed_loop_from=opens).predictions[0]
        assert torch.allclose(run[:, sample], alone, atol=1e-6)
    assert all(p is q for p, q in zip(net.parameters(), both.parameters(), strict=True))


WRONG: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "no batch": (lambda f: predict(small(), f[0]), StimulusError, r"clip\[None\]"),
    "a film": (lambda f: predict(small(), Film((f[0].numpy(),), 10.0)), StimulusError, r"film\.sequences\(length="),
    "0 to 255": (lambda f: predict(small(), 255 * f), StimulusError, "frames / 255"),
    "whole numbers": (lambda f: predict(small(), (255 * f).long()), StimulusError, "torch.uint8"),
    "0 to 255 to score": (lambda f: score(f, 255 * f), StimulusError, "frames / 255"),
    "too long": (lambda f: predict(small(), f, length=9), StimulusError, "pass closed_loop_from=k to present"),
    "after the end": (lambda f: predict(small(), f, closed_loop_from=7, length=9), StimulusError, "_from <= 6"),
    "before the start": (lambda f: predict(small(), f, closed_loop_from=0), StimulusError, "at least 1"),
    "nothing to predict": (lambda f: predict(small(), f, closed_loop_from=6), StimulusError, "_from < length"),
    "no predictions": (lambda f: predict(models.blt(), f), WiringError, r"such as models\.prednet\(\)"),
    "no loop": (lambda f: predict(open_only(), f, closed_loop_from=2), WiringError, "add Population"),
    "every": (lambda f: predict(small(), f, every=1.5), StimulusError, "pass every=10 or a multiple"),
}


def open_only() -> Network:
    edges = [Projection("frame", "p", nn.Conv2d(1, 1, 1))]
    return Network({"frame": (1, 8, 8)}, [Population("p", Sum())], edges, readout="p")


@pytest.mark.parametrize("case", WRONG)
def test_predict_refuses_unusable_clips_and_networks(case: str) -> None:
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call(torch.rand(1, 6, 1, 8, 8))


def test_record_states_accepts_single_name() -> None:
    run = predict(small(), torch.rand(1, 4, 1, 8, 8), record=Record(states="r1")).run
    assert set(run.keys()) == {"r1", "p0"}
