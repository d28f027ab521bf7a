"""Trials of the routing experiment, and what the edges of its networks are said to carry."""

from __future__ import annotations

import numpy as np
import torch

from experiments.routing import tasks
from experiments.routing.traffic import information, signals, traffic
from pcsim import Network, models


def with_gates(net: Network) -> Network:
    """Return the network with gates of exactly (1, 0) for the first cue and (0, 1) for the second."""
    with torch.no_grad():
        next(e.transform for e in net.projections if e.name == "cue->context").weight.copy_(20 * torch.eye(2) - 10)
    return net


def test_trials_have_a_digit_at_one_place_and_a_scrambled_digit_at_another() -> None:
    shown = tasks.streams(3, 40)
    cells = shown.images.reshape(40, 2, 20, 2, 20).transpose(2, 3).reshape(40, 4, 400)
    assert ((cells.abs().amax(-1) > 0.1).sum(1) == 2).all()
    assert (cells[torch.arange(40), shown.answers[:, 1]].abs().amax(-1) > 0.1).all()
    assert torch.equal(shown.cues(2).argmax(1), shown.cued)
    assert torch.equal(shown.targets(), shown.answers[torch.arange(40), shown.cued])
    assert set(np.unique(shown.answers)) == {0, 1, 2, 3}


def test_arrays_answer_with_the_digit_at_the_cued_place() -> None:
    shown = tasks.arrays(5, 12)
    assert shown.answers.shape == (12, 4) and all(len(set(row.tolist())) == 4 for row in shown.answers)
    assert torch.equal(shown.targets(), shown.answers[torch.arange(12), shown.cues(4).argmax(1)])
    assert float(shown.images.median()) == 0


def test_closed_route_carries_nothing_and_open_route_its_drive() -> None:
    torch.manual_seed(0)
    net, shown = with_gates(models.two_streams(feedback=False)), tasks.streams(3, 40)
    what, where = (signals(net, shown, torch.eye(2)[number]) for number in range(2))
    assert not what["v1->dorsal2"].any() and not where["v1->ventral2"].any()
    opened = signals(net.without("modulatory"), shown, torch.zeros(2))
    assert torch.equal(what["v1->ventral2"], opened["v1->ventral2"])
    found = traffic("two_streams", net, shown)
    assert found["0"]["v1->dorsal2"]["drive"] == 0 and found["0"]["v1->ventral2"]["drive"] == 1
    assert found["0"]["image->v1"]["drive"] == 1 and "cue->context" not in found["0"]


def test_information_is_one_for_labels_and_near_zero_for_noise() -> None:
    labels = torch.arange(4).repeat(25)
    one_hot = torch.eye(4)[labels]
    assert information(one_hot, 0.01, labels) == 1.0 and information(0 * one_hot, 1.0, labels) < 0.25
