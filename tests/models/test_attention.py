"""Attention: gains by feature and by place, their inputs, and the tuning on which feature gains are based."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.small import shown, small
from support.tolerances import EQUATIONS
from torch import Tensor

from pcsim import Euler, Iterate, Network, Record, StimulusError, WiringError, analysis, models, simulate, stimuli

ALL = Record(states="all")


def tunings(net: Network, *names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 2 * torch.rand((4, net.shape(name)[0]), generator=generator) - 1 for name in names}


def run(net: Network, **cues: Tensor) -> dict[str, Tensor]:
    given = {key: value for key, value in shown(net, 2).items() if key not in ("goal", "spotlight")}
    zeros = {key: torch.zeros(2, *shape) for key, shape in net.inputs.items()}
    return dict(simulate(net, zeros | given | cues, solver=Iterate(), steps=4, record=ALL).values)


@pytest.mark.parametrize("port", [None, "value"])
def test_attend_without_cue_is_untouched_network_bitwise(port: str | None) -> None:
    net = small("blt")
    other = models.attend(net, "l1", "l2", feature=tunings(net, "l1", "l2"), port=port)
    other = models.attend(other, "l1", place=True, strength=0.5)
    other = models.attend(other, "l2", place=True, divisive=True)
    assert set(other.inputs) == {"image", "goal", "spotlight"}
    plain, cued = run(net), run(other)
    assert all(torch.equal(cued[key], plain[key]) for key in plain)
    cues = {"goal": torch.eye(4)[:2], "spotlight": torch.ones(2, 1, *net.inputs["image"][1:])}
    assert not torch.equal(run(other, **cues)["readout"], plain["readout"])
    lesioned = run(other.without("modulatory"), **cues)
    assert all(torch.equal(lesioned[key], plain[key]) for key in plain)


@pytest.mark.usefixtures("float64")
def test_feature_gain_multiplies_slope_by_tuning() -> None:
    net = models.leaky_rcnn((3,), tau=10.0, image=(1, 8, 8)).double()
    tuning = tunings(net, *list(net.memories)[:1])
    (area,) = tuning
    cued = models.attend(net, area, feature=tuning, strength=0.5, port="value")
    image, goal = torch.rand(2, 1, 8, 8), torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    first = Record(states=[area])
    plain = simulate(net, image, solver=Euler(2.0), steps=1, record=first)[area][0]
    found = simulate(cued, {"image": image, "goal": goal}, solver=Euler(2.0), steps=1, record=first)[area][0]
    gain = 1 + 0.5 * goal.numpy() @ tuning[area].double().numpy()
    assert np.allclose(found.detach(), plain.detach().numpy() * gain[:, :, None, None], rtol=0, atol=EQUATIONS)


@pytest.mark.parametrize("divisive", [False, True])
def test_spotlight_gain_is_averaged_to_the_places_of_an_area(divisive: bool) -> None:
    net = small("blt").double()
    cued = models.attend(net, "l2", place=True, strength=2.0, divisive=divisive)
    mask = torch.rand(2, 1, *net.inputs["image"][1:], dtype=torch.float64)
    (edge,) = (edge for edge in cued.projections if edge.kind == "modulatory")
    height, width = net.shape("l2")[1:]
    blocks = mask.reshape(2, 1, height, mask.shape[2] // height, width, mask.shape[3] // width).mean((3, 5)).numpy()
    expected = 1 / (1 + 2 * blocks) - 1 if divisive else 2 * blocks
    assert np.allclose(edge.transform(mask), expected, rtol=0, atol=EQUATIONS)


def test_learned_steering_starts_at_zero_and_gets_gradient() -> None:
    net = small("blt")
    steered = models.attend(net, "l1", "l2", feature=3)
    assert steered.parameter_count == net.parameter_count + 3 * (net.shape("l1")[0] + net.shape("l2")[0])
    inputs = shown(net, 2) | {"goal": torch.eye(3)[:2]}
    found = simulate(steered, inputs, solver=Iterate(), steps=4, record=ALL)
    assert torch.equal(found["readout"], run(net)["readout"])
    weights = [edge.transform[0].weight for edge in steered.projections if edge.kind == "modulatory"]
    assert all(weight.requires_grad and not weight.any() for weight in weights)


def test_goal_can_change_during_a_run() -> None:
    net = small("blt")
    cued = models.attend(net, "l1", feature=tunings(net, "l1"))
    goal = torch.eye(4)[:2]
    late = stimuli.blank(20.0, like=goal).then(stimuli.held(goal))  # a step lasts 10 ms
    image = shown(net, 2)["image"]
    found = simulate(cued, {"image": image, "goal": late}, solver=Iterate(), steps=4, record=ALL)
    plain = run(net)
    assert torch.equal(found["l1"][:2], plain["l1"][:2]) and not torch.equal(found["l1"][2], plain["l1"][2])


@pytest.mark.parametrize(
    "options",
    [
        {"feature": None},
        {"feature": 3, "place": True},
        {"feature": {"l2": torch.zeros(4, 3)}},
        {"feature": {"l1": torch.zeros(4, 99)}},
        {"feature": 3, "divisive": True},
        {"place": True, "strength": -1.0, "divisive": True},
    ],
)
def test_attend_rejects_wrong_options(options: dict) -> None:
    with pytest.raises(WiringError):
        models.attend(small("blt"), "l1", **options)


def test_attend_rejects_unknown_and_placeless_populations_and_other_goals() -> None:
    net = small("blt")
    for attempt in (
        lambda: models.attend(net, "l9", place=True),
        lambda: models.attend(net, "readout", place=True),
        lambda: models.attend(models.attend(net, "l1", feature=3), "l2", feature=4),
    ):
        with pytest.raises(WiringError):
            attempt()


def test_tuning_is_z_score_of_class_means_scaled_to_largest() -> None:
    generator = torch.Generator().manual_seed(3)
    responses = torch.rand((2, 12, 5, 3, 3), generator=generator, dtype=torch.float64)
    responses[:, :, 4] = 0.7
    labels = torch.arange(12) % 3
    r = responses.numpy().mean(axis=(0, 3, 4))
    for label in range(3):
        z = np.zeros(5)
        for channel in range(4):
            z[channel] = (r[labels == label, channel].mean() - r[:, channel].mean()) / np.std(r[:, channel])
        found = analysis.tuning(responses, labels)[label].numpy()
        assert np.allclose(found, z / np.abs(z).max(), rtol=0, atol=EQUATIONS)
        assert found[4] == 0 and np.abs(found).max() == 1


@pytest.mark.parametrize("labels", [[0, 1], [0, 2, 2], [-1, 0, 1]])
def test_tuning_rejects_labels_without_samples(labels: list[int]) -> None:
    with pytest.raises(StimulusError, match="labels"):
        analysis.tuning(torch.rand(1, 3, 2, 4, 4), torch.tensor(labels))
