"""Training of frame prediction: losses against formulas, schedules, resuming, warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pcsim
from pcsim import Iterate, Network, PcsimWarning, Record, TrainingError, models, predict, stimuli
from pcsim.training import Checkpointed, Full, Gradient, Implicit, Training, Truncated
from pcsim.training.frames import Goal, train_to_predict


def small(bias: float = 0.2) -> Network:
    torch.manual_seed(1)
    net = models.prednet((1, 4), (4, 4), size=(8, 8))
    with torch.no_grad():
        net.populations["p0"].rule.bias.fill_(bias)
    return net


def drifting(index: int) -> np.ndarray:
    """Return clips of a bright column that moves by a pixel per frame."""
    frames = np.full((6, 1, 8, 8), 30, np.uint8)
    for step in range(6):
        frames[step, :, :, (index + step) % 8] = 220
    return frames


ONE = Training(updates=1, batch=3, learning_rate=1e-9, clip=None)


def clips(count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.stack([drifting(i) for i in range(count)])) / 255.0


@pytest.mark.parametrize("above", [0.0, 0.1])
@pytest.mark.parametrize("gradient", [Full(), Checkpointed(2), Truncated(2)])
def test_error_loss_equals_formula(above: float, gradient: Gradient) -> None:
    settings = Training(updates=1, batch=3, learning_rate=1e-9, clip=None, gradient=gradient)
    (told,) = train_to_predict(small(), drifting, 3, settings, Goal(above=above))
    record = Record(states=["e0", "e1"])
    run = pcsim.simulate(small(), stimuli.as_timeline(clips()), solver=Iterate(), steps=6, record=record)
    expected = (run["e0"][1:].mean() + above * run["e1"][1:].mean()).item()
    assert told == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["absolute", "squared"])
@pytest.mark.parametrize("opens", [None, 3])
def test_pixel_loss_equals_formula(loss: str, opens: int | None) -> None:
    goal = Goal(loss=loss, closed_loop_from=opens)
    (told,) = train_to_predict(small(), drifting, 3, ONE, goal)
    off = (predict(small(), clips(), closed_loop_from=opens).predictions - clips())[:, 1:]
    assert told == pytest.approx(
        (0.5 * off.abs().mean() if loss == "absolute" else off.square().mean()).item(), rel=1e-5
    )


def test_forecaster_loss_covers_forecast_frames_only() -> None:
    torch.manual_seed(0)
    net = models.convlstm((3,), kernel=3, input_frames=4, output_frames=2, image=(1, 8, 8), patch=2)
    (told,) = train_to_predict(net, drifting, 3, ONE, Goal(loss="squared"))
    off = predict(net, clips()).predictions[:, 4:] - clips()[:, 4:]
    assert told == pytest.approx(off.square().mean().item(), rel=1e-5)


def test_checkpointed_equals_full_and_truncated_differs() -> None:
    found = []
    for gradient in (Full(), Checkpointed(2), Truncated(2)):
        net = small()
        settings = Training(
            updates=1,
            batch=3,
            optimiser="sgd",
            momentum=0,
            learning_rate=1.0,
            clip=None,
            schedule="constant",
            gradient=gradient,
        )
        before = torch.cat([p.detach().flatten() for p in net.parameters()])
        train_to_predict(net, drifting, 3, settings)
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]) - before)
    assert torch.allclose(found[0], found[1], atol=1e-7)
    assert float((found[2] - found[0]).norm() / found[0].norm()) > 0.01


def test_train_to_predict_beats_copying_last_frame() -> None:
    net = small()
    history = train_to_predict(net, drifting, 8, Training(updates=150, batch=4, learning_rate=5e-3))
    assert history[-1] < 0.5 * history[0]
    scored = pcsim.analysis.frames.score(predict(net, clips(8)).predictions, clips(8), scores=("mse",))
    assert scored.one_step() < 0.5 * scored.one_step("copy last frame")


@pytest.mark.parametrize("own", ["never", "step", "linear", "inverse_sigmoid"])
def test_goal_chance_follows_schedule(own: str) -> None:
    goal = Goal(loss="absolute", own=own)
    chances = [goal.chance(done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    expected = {
        "never": [0, 0, 0, 0, 0],
        "step": [0, 0, 1, 1, 1],
        "linear": [0, 0.25, 0.5, 0.75, 1],
        "inverse_sigmoid": [4.5e-5, 0.0067, 0.5, 0.9933, 1],
    }[own]
    assert chances == pytest.approx(expected, abs=1e-4)


def test_goal_step_schedule_closes_loop_in_second_half() -> None:
    whole = Goal(loss="absolute", closed_loop_from=1)
    (told,) = train_to_predict(small(), drifting, 3, ONE, whole)
    (other,) = train_to_predict(small(), drifting, 3, ONE, Goal(loss="absolute"))
    assert told != other
    settings = Training(updates=2, batch=3, learning_rate=1e-9, clip=None)
    stepped = train_to_predict(small(), drifting, 3, settings, Goal(loss="absolute", own="step"))
    assert stepped == [pytest.approx((told + other) / 2, rel=1e-5)], "update 2 of 2 must be in the second half"


def test_train_to_predict_resumes_bitwise(tmp_path: Path) -> None:
    settings, goal = Training(updates=40, batch=2), Goal(loss="absolute", own="linear")
    whole, halves = small(), small()
    history = train_to_predict(whole, drifting, 8, settings, goal, checkpoint=tmp_path / "whole")

    class Killed(Exception):
        pass

    seen = 0

    def dying(index: int) -> np.ndarray:
        nonlocal seen
        seen += 1
        if seen > 2 * 30:
            raise Killed
        return drifting(index)

    with pytest.raises(Killed):
        train_to_predict(halves, dying, 8, settings, goal, checkpoint=tmp_path / "half", every=20)
    again = small()
    assert train_to_predict(again, drifting, 8, settings, goal, checkpoint=tmp_path / "half", every=20) == history
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


def test_train_to_predict_warns_of_all_zero_prediction() -> None:
    with pytest.warns(PcsimWarning, match="all pixels are 0"):
        train_to_predict(small(bias=-50.0), drifting, 4, Training(updates=20, batch=2))


def test_train_to_predict_warns_of_static_closed_loop() -> None:
    net = small()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "r0_to_p0" in name:
                parameter.zero_()
    settings = Training(updates=20, batch=2, learning_rate=1e-9)
    with pytest.warns(PcsimWarning, match="all frames are the same"):
        train_to_predict(net, drifting, 4, settings, Goal(loss="absolute", closed_loop_from=3))


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "errors of its own frames": (lambda: train_to_predict(small(), drifting, 3, ONE, Goal(closed_loop_from=3)), "abs"),
    "no errors": (lambda: train_to_predict(forecaster(), drifting, 3, ONE), "errors none"),
    "implicit": (
        lambda: train_to_predict(small(), drifting, 3, Training(gradient=Implicit())),
        r"Checkpointed\(\)\), which is exact",
    ),
    "flow": (lambda: train_to_predict(small().as_ode(tau=10.0), drifting, 3, ONE), r"(?s)is a flow.*as_ode"),
    "no span": (lambda: train_to_predict(small(), drifting, 3, Training(gradient=Truncated(0))), "span=0"),
}


def forecaster() -> Network:
    return models.convlstm((3,), kernel=3, input_frames=4, output_frames=2, image=(1, 8, 8), patch=2)


@pytest.mark.parametrize("case", WRONG)
def test_train_to_predict_refuses_invalid_settings(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(TrainingError, match=message):
        call()
