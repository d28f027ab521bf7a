"""Runs and analysis of `experiments.routing`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcsim import Euler, Iterate, Network, Record, Simulator, stimuli
from pcsim.core import storage

from .. import base
from ..base import TEST_SEED
from .learning import NETWORKS, build, cues, fit, trials
from .options import DT, Routing
from .tasks import KEYS, TASKS, Trials
from .traffic import decoded_areas, traffic

LESIONS: dict[str, tuple[str, ...]] = {
    "intact": (),
    "no modulatory": ("modulatory",),
    "no ventral route": ("v1->ventral2",),
    "no dorsal route": ("v1->dorsal2",),
    "no top-down": ("top_down",),
}
OPENINGS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
TIMED = 120
"""number of images used for time courses"""
SWITCH, IMAGE, READ = 200.0, 300.0, 100.0
"""time of the switch, duration of the image before late cues, and time of the answer after a late cue, ms"""


def find(config: Routing) -> dict[str, Any]:
    """Train and test all networks, and analyse their answers."""
    keys = [(name, seed) for seed in config.seeds for name in NETWORKS]
    base.train_all(config, fit, keys)
    for _ in base.run_jobs(measure, [(config, *key) for key in keys], config.workers, "testing"):
        pass
    return analyse(config)


# ---------------------------------------------------------------------- tests


def measure(config: Routing, name: str, seed: int) -> None:
    """Test one network; write whether its answers are correct in each condition, and the traffic on its edges."""
    path = base.kept(config, "scores", name, seed)
    if path.exists():
        return
    network = base.trained(config, build(name), name, seed)
    shown = trials(config, name, TEST_SEED + seed, config.test_images)
    one_hot = torch.eye(cues(name))
    gates = answers(network, shown.images[: len(one_hot)], one_hot, "control" if name == "shifter" else "context")
    facts: dict[str, Any] = {"gates": gates.tolist()}
    scores = _shifter(network, shown) if name == "shifter" else _streams(network, shown)
    facts["traffic"] = traffic(name, network, shown)
    few = Trials(*(part[:TIMED] for part in (shown.images, shown.answers, shown.cued)))
    if name != "two_streams, end to end":
        facts["switches"] = {f"{tau:g}": switch(name, network, few, tau) for tau in config.taus}
        for store in config.stores:
            for onset in config.onsets:
                scores[f"late/{store:g}/{onset:g}"] = cued(name, network, few, store, onset)
    if name == "two_streams":
        facts["areas"] = decoded_areas(network, shown)
    storage.write_tensors(path, scores, {"kind": "scores", **facts})


def answers(network: Network, images: Tensor, cue: Tensor, key: str = "readout", **inputs: Tensor) -> Tensor:
    """Return the state of a population (by default, the readout) at the last step."""
    sim = Simulator(network, solver=Iterate(), record=Record(states=[key]))
    return sim({"image": images, "cue": cue, **inputs}, steps=network.steps)[key][-1].detach()


def _streams(network: Network, shown: Trials) -> dict[str, Tensor]:
    """Return whether the answers of the two streams are correct, and whether they are answers to the other task."""
    right, images, scores = shown.cues(2), shown.images, {}
    wrong = shown.cues(2, 1)
    given = {"half": 0.5 * torch.ones_like(right), "wrong": wrong, "absent": torch.zeros_like(right)}

    def score(key: str, made: Tensor) -> None:
        answer = made.argmax(-1)
        other = shown.answers.gather(1, 1 - shown.cued[:, None])[:, 0]
        scores[key] = answer == shown.targets()
        scores[f"other/{key}"] = (answer == other) & (other != shown.targets())
        for number, task in enumerate(TASKS):
            scores[f"{task}/{key}"] = scores[key][shown.cued == number]

    for lesion, edges in LESIONS.items():
        score(lesion, answers(network.without(*edges) if edges else network, images, right))
    for key, cue in given.items():
        score(f"{key} cue", answers(network, images, cue))
    imposed = network.clamped("context")
    for share in OPENINGS:
        score(f"unwanted/{share:g}", answers(imposed, images, right, context=right + share * wrong))
        score(f"wanted/{share:g}", answers(imposed, images, right, context=share * right))
    scores["incongruent"] = shown.answers[:, 0] != shown.answers[:, 1]
    return scores


def _shifter(network: Network, shown: Trials) -> dict[str, Tensor]:
    """Return whether the answers of the shifter are correct, and whether they name the digit at another place."""
    right, images, scores = shown.cues(KEYS), shown.images, {}
    opened = answers(network, images[:KEYS], torch.eye(KEYS), "control").argmax(-1)
    routes = [f"retina->route_{'abcdefghi'[number]}" for number in opened]

    def score(key: str, made: Tensor) -> None:
        answer = made.argmax(-1)
        scores[key] = answer == shown.targets()
        scores[f"other/{key}"] = (answer[:, None] == shown.answers).any(1) & ~scores[key]

    given = {"wrong": shown.cues(KEYS, 1), "half": 0.5 * (right + shown.cues(KEYS, 1)), "absent": 0.0 * right}
    for key, cue in {"intact": right, **{f"{key} cue": cue for key, cue in given.items()}}.items():
        score(key, answers(network, images, cue))
    score("no modulatory", answers(network.without("modulatory"), images, right))
    cut = torch.stack([answers(network.without(route), images, right) for route in routes])
    rows = torch.arange(len(images))
    score("own route cut", cut[shown.cued, rows])
    score("another route cut", cut[(shown.cued + 1) % KEYS, rows])
    imposed = network.clamped("control")
    windows = torch.eye(network.shape("control")[0])[opened]
    own, other = windows[shown.cued], windows[(shown.cued + 1) % KEYS]
    for share in OPENINGS:
        score(f"unwanted/{share:g}", answers(imposed, images, right, control=own + share * other))
        score(f"wanted/{share:g}", answers(imposed, images, right, control=share * own))
    return scores


# ---------------------------------------------------------------------- time


def flow(name: str, network: Network, control: float, store: float = 10.0) -> Network:
    """Return the network as an ODE, given the time constants of the control and of the first area in ms."""
    first, slow = ("retina", "goal") if name == "shifter" else ("v1", "context")
    return network.as_ode(tau={first: store, slow: control, "default": 10.0})


def switch(name: str, network: Network, shown: Trials, tau: float) -> dict[str, Any]:
    """Change the cue at 300 ms; return how often the network answers the new and the old cue at each time."""
    count = cues(name)
    before, after = shown.cues(count), shown.cues(count, 1)
    old, new = shown.targets(), shown.answers.gather(1, ((shown.cued + 1) % count)[:, None])[:, 0]
    cue = stimuli.held(before, SWITCH).then(stimuli.held(after))
    until = SWITCH + 60.0 + 4.0 * tau
    sim = Simulator(flow(name, network, tau), solver=Euler(DT), record=Record(states=["readout"]))
    run = sim({"image": shown.images, "cue": cue}, until=until)
    chosen = run["readout"].argmax(-1)[:, old != new]
    old, new = old[old != new], new[shown.targets() != new]
    times = torch.as_tensor(run.times) - SWITCH
    is_late = times > 0
    is_new = chosen == new
    changed = [float(times[is_late][row].min()) if row.any() else float("nan") for row in is_new[is_late].T]
    return {
        "times": times.tolist(),
        "new": is_new.double().mean(1).tolist(),
        "old": (chosen == old).double().mean(1).tolist(),
        "median": base.finite_or_none(torch.tensor(changed).nanmedian()),
    }


def cued(name: str, network: Network, shown: Trials, store: float, onset: float) -> Tensor:
    """Return whether the answer is correct if the cue begins `onset` ms after the end of a 300 ms image.

    The answer is the mean readout from 50 to 100 ms after the onset of the cue.
    """
    right = shown.cues(cues(name))
    image = stimuli.held(shown.images, IMAGE).then(stimuli.blank(1e4, like=shown.images))
    cue = stimuli.blank(IMAGE + onset, like=right).then(stimuli.held(right))
    sim = Simulator(flow(name, network, 20.0, store), solver=Euler(2 * DT), record=Record(states=["readout"]))
    run = sim({"image": image, "cue": cue}, until=IMAGE + onset + READ)
    readout = run["readout"][torch.as_tensor(run.times) > IMAGE + onset + READ / 2].detach()
    return readout.mean(0).argmax(-1) == shown.targets()


# ---------------------------------------------------------------------- analysis


def analyse(config: Routing) -> dict[str, Any]:
    """Compute accuracies with intervals, and collect gates, switches and traffic of all repetitions."""
    results: dict[str, Any] = {key: {} for key in ("accuracy", "gates", "switches", "traffic", "areas")}
    for name in NETWORKS:
        files = [storage.read_tensors(base.kept(config, "scores", name, seed), "scores") for seed in config.seeds]
        found = {key: [scores[key] for scores, _ in files] for key in files[0][0]}
        results["accuracy"][name] = {key: share(rows) for key, rows in found.items()}
        for key in ("gates", "switches", "traffic", "areas"):
            results[key][name] = [facts[key] for _, facts in files if key in facts]
    return results


def share(rows: list[Tensor]) -> dict[str, float]:
    """Return the fraction of true values, with a 95 % interval over repetitions and images."""
    count = min(len(row) for row in rows)
    return base.accuracy(torch.stack([row[:count] for row in rows]))
