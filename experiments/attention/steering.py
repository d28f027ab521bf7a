"""Learned steering, and cues that come early or late, in `experiments.attention`.

The weights of the network are frozen, and only the weights W from the goal to the gains are trained (Konkle & Alvarez
2023). The task is to name the cued digit if it is in the blend, and otherwise either of the digits in the blend. It
cannot be solved without the image, because a cue does not reveal whether its digit is present.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Full, Iterate, Network, Record, Simulator, models, stimuli
from pcsim.core import storage
from pcsim.stimuli import Cued, Timeline, blank, held

from .. import base
from ..base import TEST_SEED
from ..report import counted
from .measures import AREAS, WEIGHTS, detection, reader, readouts, tuning
from .options import Attention

REGIMES = {"valid cues": ("valid",), "valid and foil cues": ("valid", "foil")}
"""cues with which W is trained, in equal proportions"""
CUES = ("valid", "invalid", "foil")
LESIONS = {"no modulatory": ("modulatory",), "no top-down": ("top_down",), "no lateral": ("lateral",)}
CONDITIONS = (
    *("no cue", "valid cues", "tuning like valid cues", "valid and foil cues", "tuning like valid and foil cues"),
    *("mean of all cues", *LESIONS),
)
"""rows of the results; the last rows are for W trained with valid and foil cues"""
BEFORE, AFTER, BRIEF = 2, 8, 2
"""numbers of steps before and after image onset, and duration of a brief cue in steps"""
HALVINGS = 6


def steer(config: Attention, seed: int) -> None:
    """Train W in each regime, and write the readouts of steered networks and of tuning gains with the same accuracy."""
    path = base.kept(config, "steering", seed)
    if path.exists():
        return
    blends = stimuli.digit_blends(TEST_SEED + seed, 0, config.images)
    net = models.build(config.model, weights=WEIGHTS)
    found = {name: blends.labels(cast(Any, cue)) for name, cue in (("blend", "valid"), ("foil", "foil"))}
    found |= {"other": blends.labels("invalid")}
    tuned, strength = tuning(config, net, seed), {}
    for regime, kinds in REGIMES.items():
        steered = trained(config, kinds, seed)
        made = answers(steered, blends)
        strength[regime] = matched(config, net, tuned, blends, accuracy(made["valid"], blends))
        gains = models.attend(net, *AREAS["all"], feature=tuned, strength=strength[regime], port="value")
        found |= named(regime, made) | named(f"tuning like {regime}", answers(gains, blends))
    for name, goal in (("no cue", "absent"), ("mean of all cues", "neutral")):
        (same,) = answers(steered, blends, (goal,)).values()
        found |= named(name, dict.fromkeys(CUES, same))
    for lesion, edges in LESIONS.items():
        if {edge.kind for edge in steered.projections}.issuperset(edges):
            found |= named(lesion, answers(steered.without(*edges), blends))
    fixed = models.attend(net, *AREAS["all"], feature=tuned, strength=config.strengths[-1], port="value")
    for name, cued in (("tuning", fixed), ("steering", steered)):
        found |= named(f"time/{name}", timed(config, cued, blends))
    contents = {key: value.contiguous() for key, value in found.items()}
    storage.write_tensors(path, contents, {"kind": "steering", "strength": strength})


def trained(config: Attention, kinds: tuple[str, ...], seed: int) -> Network:
    """Return the network after training W with the given kinds of cues. All other weights are frozen."""
    net = models.attend(
        models.build(config.model, weights=WEIGHTS), *AREAS["all"], feature=stimuli.cued.CLASSES, port="value"
    )
    weights = [edge.weight for edge in goal_weights(net)]
    net.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    blends = stimuli.digit_blends(seed, 0, config.steering_images)
    images = blends.pixels()
    goals = {kind: blends.goals(cast(Any, kind)) for kind in kinds}
    either = functional.one_hot(torch.from_numpy(blends.identities), stimuli.cued.CLASSES).sum(1) / 2
    targets = {kind: goals[kind] if kind == "valid" else either for kind in kinds}
    sim = Simulator(net.train(), solver=Iterate(), gradient=Full(), record=Record(states=["readout"]))

    def loss_of(rows: Tensor, update: int) -> Tensor:
        kind = kinds[update % len(kinds)]
        made = sim({"image": images[rows], "goal": goals[kind][rows]})["readout"]
        return functional.cross_entropy(made.flatten(0, 1), targets[kind][rows].repeat(len(made), 1))

    base.minimise(
        loss_of,
        [{"params": weights, "lr": config.learning_rate}],
        updates=config.updates,
        items=config.steering_images,
        batch=config.batch,
        seed=seed,
        title="steering",
    )
    return net.eval().requires_grad_(False)


def goal_weights(net: Network) -> list[Any]:
    """Return the linear maps from the goal to the gains."""
    return [cast(Any, transform)[0] for name, transform in net.transforms.items() if name.startswith("goal_to_")]


def answers(net: Network, blends: Cued, cues: tuple[str, ...] = CUES) -> dict[str, Tensor]:
    """Return the readout of blends at every step, (time, n, classes), for each cue."""
    sim = reader(net)
    return {cue: readouts(sim, {"image": blends.pixels(), "goal": blends.goals(cast(Any, cue))}) for cue in cues}


def matched(config: Attention, net: Network, tuned: dict[str, Tensor], blends: Cued, wanted: float) -> float:
    """Return the strength at which tuning gains reach the accuracy `wanted` for valid cues, or the last strength."""
    low, high = 0.0, config.strengths[-1]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        gains = models.attend(net, *AREAS["all"], feature=tuned, strength=middle, port="value")
        reached = accuracy(answers(gains, blends, ("valid",))["valid"], blends)
        low, high = (low, middle) if reached >= wanted else (middle, high)
    return high


def accuracy(readout: Tensor, blends: Cued) -> float:
    """Return the fraction of blends whose target is named at the last step."""
    return (readout[-1].argmax(-1) == blends.labels()).double().mean().item()


def named(name: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `name` prefixed to their keys."""
    return {f"{name}/{key}": value for key, value in found.items()}


def courses(config: Attention) -> dict[str, tuple[int, int, int]]:
    """Return when the cue begins and ends in each time course, and how long the screen is grey before the image.

    Steps are counted from image onset.
    """
    late = {f"{counted(delay, 'step')} later": (delay, AFTER, 0) for delay in config.cue_delays}
    return {
        "no cue": (0, 0, 0),
        "from image onset": (0, AFTER, 0),
        **late,
        f"for the first {BRIEF} steps": (0, BRIEF, 0),
        "grey before, no cue": (0, 0, BEFORE),
        "grey before, cue until image onset": (-BEFORE, 0, BEFORE),
        "grey before, cue throughout": (-BEFORE, AFTER, BEFORE),
    }


def timed(config: Attention, net: Network, blends: Cued) -> dict[str, Tensor]:
    """Return the readouts of blends for each time course of a valid cue."""
    images, goal, step, sim = blends.pixels(), blends.goals("valid"), net.step_ms, reader(net)
    found = {}
    for name, (start, stop, grey) in courses(config).items():
        before = blank(grey * step, like=images, level=stimuli.glyphs.GREY / 255.0) if grey else None
        wait = blank((grey + start) * step, like=goal) if grey + start else None
        cue = held(goal, (stop - start) * step) if stop > start else None
        given = {"image": joined(before, held(images)), "goal": joined(wait, cue, blank(math.inf, like=goal))}
        found[name] = readouts(sim, given, grey + AFTER)
    return found


def joined(*parts: Timeline | None) -> Timeline:
    """Return one timeline that joins all parts other than None."""
    return reduce(Timeline.then, [part for part in parts if part is not None])


# ---------------------------------------------------------------------- analysis


def analyse(config: Attention) -> dict[str, Any]:
    """Compute the answers to valid and foil cues, the detection of the cued digit, and accuracies over time."""
    read = [storage.read_tensors(base.kept(config, "steering", seed), "steering") for seed in config.seeds]
    sets = [tensors for tensors, _ in read]
    rows, over_time = {}, {}
    for name in (name for name in CONDITIONS if f"{name}/valid" in sets[0]):
        by_cue = {cue: torch.stack([s[f"{name}/{cue}"][-1].argmax(-1) for s in sets]) for cue in CUES}
        target, other, foil = (torch.stack([s[key] for s in sets]) for key in ("blend", "other", "foil"))
        hits = by_cue["valid"] == target
        rows[name] = {
            "valid": base.accuracy(hits),
            "both": base.accuracy(hits & (by_cue["invalid"] == other)),
            "foil named": base.accuracy(by_cue["foil"] == foil),
            "in the image": base.accuracy((by_cue["foil"] == target) | (by_cue["foil"] == other)),
            "detection": [detection(s[f"{name}/valid"], s[f"{name}/foil"], s) for s in sets],
        }
    for key in (f"{kind}/{when}" for kind in ("tuning", "steering") for when in courses(config)):
        correct = torch.stack([s[f"time/{key}"].argmax(-1) == s["blend"] for s in sets])
        over_time[key] = correct.double().mean((0, 2)).tolist()
    strengths = {regime: [about["strength"][regime] for _, about in read] for regime in REGIMES}
    return {"answers": rows, "cue_times": over_time, "matched_strength": strengths}
