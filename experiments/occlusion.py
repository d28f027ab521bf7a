"""Do recurrent networks see through occlusion? (Spoerer, McClure & Kriegeskorte 2017)

Trains networks with bottom-up (B), lateral (L) and top-down (T) connections on digits under debris (or on
clutter), tests them clean, under more debris, in clutter and in noise, and lesions their recurrence.

    python -m experiments.occlusion                       B, BF, BL, BLT at half width, under 8 minutes on 2 cores
    python -m experiments.occlusion --preset standard     all six at the published width, three seeds, under 2 hours
    python -m experiments.occlusion --pretrained          the whole report from weights that ship with pcsim
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from tqdm.auto import tqdm

from experiments import common, occlusion_report
from pcsim import Iterate, Network, Record, Simulator, models, stimuli
from pcsim.analysis import compare_pairs, correct_choices, error_rate, hit_rate, state_change
from pcsim.core import storage
from pcsim.training import Training, evaluate, published_settings, train

DEBRIS = ("debris-light", "debris-moderate", "debris-heavy")
CLUTTER = ("clutter-light", "clutter-moderate", "clutter-heavy")
LESIONS = {"no lateral": ("lateral",), "no top-down": ("top_down",), "neither": ("lateral", "top_down")}
TEST_SEED = 1_000_000
SHOWN = 8
SETTLING_IMAGES, SETTLING_STEPS = 100, 12


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Occlusion:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/occlusion")
    """folder for everything that comes out"""
    seed: int = 0
    """of the first repetition; repetitions use seed, seed + 1, ..."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run"""
    models: tuple[str, ...] = ("blt_b", "blt_bf", "blt_bl", "blt")
    """networks to compare"""
    task: Literal[
        "debris-light", "debris-moderate", "debris-heavy", "clutter-light", "clutter-moderate", "clutter-heavy"
    ] = "debris-light"
    """what they are trained on"""
    width: Annotated[int, Field(gt=0)] = 16
    """feature maps of B (the published networks have 32; BF has twice as many)"""
    unroll: Literal["engineering", "biological"] = "engineering"
    """whether a step is a feed-forward sweep, or one connection"""
    repetitions: Annotated[int, Field(gt=0)] = 1
    """how many times to train each network, with other weights and images"""
    images: Annotated[int, Field(gt=0)] = 8_000
    """training images"""
    test_images: Annotated[int, Field(gt=0)] = 2_000
    """test images of each condition"""
    training: Training = Training()
    """how to train; its loss and seed are set by the task and the repetition"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """what is drawn: a font's digits, or MNIST"""
    mnist: Path | None = None
    """folder with the idx files of MNIST (else PCSIM_MNIST, else a download)"""
    pretrained: bool = False
    """take the weights that ship with pcsim instead of training"""
    checkpoint_every: Annotated[int, Field(gt=0)] = 100
    """updates between checkpoints"""
    workers: Annotated[int, Field(gt=0)] = 2
    """processes that train side by side; results do not depend on it"""

    @property
    def seeds(self) -> range:
        """Of the repetitions."""
        return range(self.seed, self.seed + self.repetitions)


SIX = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
PRESETS = {
    "smoke": Occlusion(
        out=Path("results/occlusion-smoke"),
        models=("blt_b", "blt"),
        width=4,
        images=400,
        test_images=200,
        training=Training(updates=60),
        checkpoint_every=20,
        workers=1,
    ),
    "quick": Occlusion(),
    "standard": Occlusion(
        out=Path("results/occlusion-standard"),
        models=SIX,
        width=32,
        repetitions=3,
        images=40_000,
        test_images=2_000,
        training=Training(updates=4_000),
    ),
    "pretrained": Occlusion(
        out=Path("results/occlusion-pretrained"), models=SIX, width=32, test_images=300, pretrained=True
    ),
    "paper": Occlusion(
        out=Path("results/occlusion-paper"),
        models=SIX,
        width=32,
        repetitions=5,
        images=100_000,
        test_images=10_000,
        training=published_settings(),
        workers=1,
    ),
}


def run(config: Occlusion) -> None:
    """The whole experiment: train, test, analyse, draw, report. Resumes in its folder."""
    begun = time.perf_counter()
    check(config)
    common.claim(config.out, config)
    jobs = [(config, model, seed) for seed in config.seeds for model in config.models[::-1]]
    if not config.pretrained:
        for job, curve in common.run_jobs(fit, jobs, config.workers, "training"):
            tqdm.write(f"trained {label(job[1])}, repetition {job[2]}: loss {curve[0]:.2f} -> {curve[-1]:.2f}")
        common.leave_the_rest_to_the_first()
    for _ in common.run_jobs(score, jobs, config.workers, "testing"):
        pass
    results = analyse(config)
    results |= common.environment(common.pick_device(config.device))
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    if not config.pretrained:
        export(config, results)
    shown = test_scenes(config, config.task, SHOWN)
    images, targets = shown.pixels()[:, 0].numpy(), shown.targets().numpy()
    occlusion_report.write(results, config.out, images, targets, models.build(config.models[-1], width=config.width))


def check(config: Occlusion) -> None:
    """Refuse what would only fail after hours of training."""
    for model in config.models:
        models.build(model, width=config.width, unroll=config.unroll)
        if config.pretrained:
            models.build(model, weights=config.task)
    glyphs(config, "test")


# ---------------------------------------------------------------------- train and test


def settings_for(config: Occlusion, repetition: int) -> Training:
    """The training of one repetition: its own order of images, and the loss that the task asks for."""
    loss: Literal["softmax", "sigmoid"] = "sigmoid" if config.task in CLUTTER else "softmax"
    return dataclasses.replace(config.training, loss=loss, seed=repetition)


def options_for(config: Occlusion) -> dict[str, Any]:
    """How the networks are built."""
    return {"width": config.width, "unroll": config.unroll}


def fit(config: Occlusion, model: str, repetition: int) -> list[float]:
    """Train one network, or go on with it; its checkpoint is in the folder of the run. Returns the loss curve."""
    path = file_of(config, "training", model, repetition)
    seed = hashlib.sha256(f"{model} {repetition}".encode()).digest()[:4]
    torch.manual_seed(int.from_bytes(seed))
    network = models.build(model, **options_for(config)).to(common.pick_device(config.device))
    shown = stimuli.scenes(config.task, repetition, 0, config.images, glyphs(config, "train"))
    bar = common.job_bar(f"{label(model)} {repetition}")
    settings = settings_for(config, repetition)
    images = torch.from_numpy(shown.images)
    every = config.checkpoint_every
    return train(network, images, shown.targets(), settings, checkpoint=path, every=every, bar=bar)


def trained(config: Occlusion, model: str, repetition: int) -> Network:
    """The network after training."""
    device = common.pick_device(config.device)
    if config.pretrained:
        return models.build(model, weights=config.task).to(device)
    network = models.build(model, **options_for(config))
    return common.trained(network, file_of(config, "training", model, repetition), config.device)


def score(config: Occlusion, model: str, repetition: int) -> None:
    """Test one network in every condition, whole and lesioned, and keep which images it got right at every step."""
    path = file_of(config, "scores", model, repetition)
    if path.exists():
        return
    network = trained(config, model, repetition)
    tensors: dict[str, torch.Tensor] = {}
    for condition in test_conditions(config.task):
        shown = test_scenes(config, condition, config.test_images)
        images, targets = shown.pixels(), shown.targets()
        logits = evaluate(network, images)
        tensors[f"{condition}/intact"] = correct_choices(logits, targets)
        tensors[f"{condition}/hits"] = hit_rate(logits[-1:], targets)[0]
        for name, kinds in LESIONS.items() if condition in lesion_conditions(config.task) else ():
            if {edge.kind for edge in network.projections}.issuperset(kinds):
                tensors[f"{condition}/{name}"] = correct_choices(evaluate(network.without(*kinds), images), targets)
    tensors |= settling(config, network)
    shown = test_scenes(config, config.task, SHOWN)
    tensors["guesses"] = probabilities(config, evaluate(network, shown.pixels()))
    storage.write_tensors(path, {k: v.contiguous() for k, v in tensors.items()}, {"kind": "scores"})


def settling(config: Occlusion, network: Network) -> dict[str, torch.Tensor]:
    """Relative change of the top area's state per step, long past the steps of training; {} for one-step networks."""
    if network.steps == 1:
        return {}
    sim, changes = Simulator(network, solver=Iterate(), record=Record(states=["l2"])), {}
    for condition in settling_conditions(config):
        states = sim(test_scenes(config, condition, SETTLING_IMAGES).pixels(), steps=SETTLING_STEPS)["l2"]
        changes[f"settling/{condition}"] = state_change(states.cpu()).median(1).values
    return changes


def settling_conditions(config: Occlusion) -> tuple[str, ...]:
    """Clean images beside those that lesions are tested on."""
    return tuple(dict.fromkeys(("clean", *lesion_conditions(config.task))))


def probabilities(config: Occlusion, logits: torch.Tensor) -> torch.Tensor:
    """What the read-out says of each digit."""
    return logits.sigmoid() if config.task in CLUTTER else logits.softmax(-1)


def test_conditions(task: str) -> tuple[str, ...]:
    """What a network trained on `task` is tested on."""
    if task in CLUTTER:
        return ("clean", *CLUTTER, "debris-light", "noise")
    return ("clean", *DEBRIS, "clutter-light", "noise")


def lesion_conditions(task: str) -> tuple[str, str]:
    """The trained condition, and the hardest of its kind."""
    hardest = CLUTTER[-1] if task in CLUTTER else DEBRIS[-1]
    return (task, hardest) if task != hardest else ("clean", task)


def test_scenes(config: Occlusion, condition: str, count: int) -> stimuli.Scenes:
    """The first test images, the same for every network and repetition; training never draws with this seed."""
    return stimuli.scenes(condition, TEST_SEED, 0, min(count, config.test_images), glyphs(config, "test"))


def file_of(config: Occlusion, kind: str, model: str, repetition: int) -> Path:
    """Where the training or the scores of one network are kept."""
    return config.out / kind / f"{model}-{repetition}.safetensors"


def glyphs(config: Occlusion, split: str) -> stimuli.Glyphs | None:
    """What digits are drawn with: None for the rendered ones."""
    return handwritten(split, config.mnist) if config.digits == "handwritten" else None


@cache
def handwritten(split: str, folder: Path | None) -> stimuli.Glyphs:
    """MNIST, read and unpacked once in a process."""
    return stimuli.HandwrittenGlyphs(split, folder)


def label(model: str) -> str:
    """The name a paper gives it: blt_bf is BF."""
    return model.removeprefix("blt_").upper()


def export(config: Occlusion, results: dict) -> None:
    """The networks of the first repetition as small files that `pcsim.models.weights.load` opens."""
    for model in config.models:
        errors = {c: by_model[label(model)][0] for c, by_model in results["error_by_repetition"].items()}
        models.weights.save(
            trained(config, model, config.seed),
            config.out / "weights" / f"{model}.{config.task}.safetensors",
            model,
            options_for(config),
            trained_with=results["config"],
            error=errors,
        )


# ---------------------------------------------------------------------- analyse


def analyse(config: Occlusion) -> dict[str, Any]:
    """Every number of the tables and figures, from the scores alone."""
    scores = {
        label(model): [storage.read_tensors(file_of(config, "scores", model, r), "scores")[0] for r in config.seeds]
        for model in config.models
    }
    results: dict[str, Any] = {"config": common.recorded(config)}
    results["parameters"] = {label(m): count_parameters(config, m) for m in config.models}
    results["trained_steps"] = max(models.build(m).steps or 1 for m in config.models)
    per_condition: dict[str, Any] = {
        key: {} for key in ("chance", "error", "error_by_repetition", "hit_rate", "mcnemar", "accuracy_over_time")
    }
    for condition in test_conditions(config.task):
        correct = {model: torch.stack([s[f"{condition}/intact"] for s in rows]) for model, rows in scores.items()}
        final = {model: value[:, -1].numpy() for model, value in correct.items()}
        hits = {model: torch.stack([s[f"{condition}/hits"] for s in rows]) for model, rows in scores.items()}
        numbers = (
            1 - 1 / math.comb(10, stimuli.CONDITIONS[condition].digits),
            {model: vars(error_rate(value)) for model, value in final.items()},
            {model: (1 - value.mean(1)).tolist() for model, value in final.items()},
            {model: value.double().mean().item() for model, value in hits.items()},
            [vars(pair) | {"significant": pair.significant} for pair in compare_pairs(final)],
            {model: value.double().mean((0, 2)).tolist() for model, value in correct.items()},
        )
        for key, value in zip(per_condition, numbers, strict=True):
            per_condition[key][condition] = value
    results |= per_condition
    results["lesions_at_test"] = lesion_costs(config, scores)
    results["settling"] = {
        model: {
            c: torch.stack([s[f"settling/{c}"] for s in rows]).mean(0).tolist() for c in settling_conditions(config)
        }
        for model, rows in scores.items()
        if f"settling/{config.task}" in rows[0]
    }
    results["loss_per_step"] = {} if config.pretrained else loss_curves(config)
    results["guesses"] = {model: rows[0]["guesses"].tolist() for model, rows in scores.items()}
    return results


def lesion_costs(config: Occlusion, scores: dict[str, list[dict[str, torch.Tensor]]]) -> dict[str, Any]:
    """Final error with and without connections: condition, network, lesion; {} if nothing is recurrent."""
    costs: dict[str, Any] = {}
    for condition in lesion_conditions(config.task):
        for model, rows in scores.items():
            kinds = [name for name in LESIONS if f"{condition}/{name}" in rows[0]]
            for name in ("intact", *kinds) if kinds else ():
                correct = torch.stack([s[f"{condition}/{name}"][-1] for s in rows])
                costs.setdefault(condition, {}).setdefault(model, {})[name] = 1 - correct.double().mean().item()
    return costs


def count_parameters(config: Occlusion, model: str) -> int:
    """Learnable parameters."""
    width = models.weights.about(model, config.task)["options"]["width"] if config.pretrained else config.width
    return models.build(model, width=width).parameter_count


def loss_curves(config: Occlusion) -> dict[str, list[float]]:
    """Loss of the first repetition, divided by the number of steps it was summed over."""
    curves = {}
    for model in config.models:
        _, facts = storage.read_tensors(file_of(config, "training", model, config.seed), "training")
        summed = models.build(model, **options_for(config)).steps if config.training.over_time == "sum" else 1
        curves[label(model)] = [value / (summed or 1) for value in facts["history"]]
    return curves


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__), {"--pretrained": "pretrained"}))
