"""Report page of `experiments.occlusion`, built from its results and test images."""

from __future__ import annotations

from typing import Any

from pcsim import models, plots
from pcsim.analysis import Estimate
from pcsim.training import CHECK_EVERY

from ..report import Picture, Report, Table, counted
from . import figures
from .options import Occlusion
from .science import SHOWN, test_scenes


def report(config: Occlusion, results: dict[str, Any]) -> Report:
    """Build the report page."""
    return Report(
        f"Recurrent networks and occlusion: trained on {config.task}",
        summary(results["config"]),
        pictures(config, results),
        [error_table(results), pair_table(results)],
    )


def pictures(config: Occlusion, results: dict[str, Any]) -> list[Picture]:
    """Return all figures for which results exist."""
    chance = results["chance"]
    by_model = {
        model: {condition: Estimate(**row[model]) for condition, row in results["error"].items()}
        for model in results["parameters"]
    }
    shown = test_scenes(config, config.task, SHOWN)
    images, targets = shown.pixels()[:, 0].numpy(), shown.targets().numpy()
    found = [
        Picture(
            "errors",
            figures.error_by_condition(by_model, chance),
            f"Error of each network in each test condition after training on {config.task}. Bars are 95 % bootstrap "
            "intervals over repetitions and images; grey lines mark chance. In clutter, an answer is correct only if "
            "it contains all digits.",
            ("error", "chance"),
        ),
        Picture(
            "accuracy_over_time",
            figures.accuracy_over_time(results["accuracy_over_time"], chance),
            "Accuracy at each time step. Step 0 is a feed-forward pass. Networks without recurrence have "
            "only this step and are drawn as dashed lines. Grey lines: chance.",
            ("accuracy_over_time", "chance"),
        ),
        Picture(
            "guesses",
            figures.guesses(images, results["guesses"], targets),
            f"The first {len(images)} test images (not selected), and the probability that each network assigns to "
            "each digit at each step. Red triangles mark the digits that are present.",
            ("guesses",),
        ),
    ]
    if results["lesions_at_test"]:
        sentence = "Error of the trained networks after connections are cut at test time, without retraining."
        drawn = figures.lesions(results["lesions_at_test"])
        found.append(Picture("lesions", drawn, sentence, ("lesions_at_test",)))
    if results["settling"]:
        sentence = (
            "Relative change of the state of area l2 at each step (median over images), for clean and occluded "
            "images. The run continues beyond the number of steps used in training."
        )
        drawn = figures.state_change(results["settling"], results["trained_steps"] - 1)
        found.append(Picture("settling", drawn, sentence, ("settling", "trained_steps")))
    if results["loss_per_step"]:
        sentence = f"Training loss per time step (mean over {CHECK_EVERY} updates) in the first repetition."
        curves = figures.training_curves(results["loss_per_step"], CHECK_EVERY)
        found.append(Picture("training", curves, sentence, ("loss_per_step",)))
    circuit = plots.network(models.build(config.models[-1], width=config.width))
    found.append(Picture("network", circuit, "The network as a graph. Numbers next to edges are delays in steps.", ()))
    return found


def summary(config: dict[str, Any]) -> str:
    """Return a short description of how the networks were trained and tested."""
    tested = f"Tested on {config['test_images']:,} images in each condition."
    if config["pretrained"]:
        return f"Networks with the weights that ship with pcsim. {tested}"
    return (
        f"{len(config['models'])} networks, {counted(config['repetitions'], 'repetition')}, "
        f"{config['images']:,} training images ({config['digits']} digits), "
        f"{config['training']['updates']:,} updates with batches of {config['training']['batch']}. {tested}"
    )


def error_table(results: dict[str, Any]) -> Table:
    """Return the table of errors, with a row per network and a column per condition."""
    rows = []
    for model, parameters in results["parameters"].items():
        cells = [row[model] for row in results["error"].values()]
        errors = (f"{100 * e['mean']:.1f} [{100 * e['low']:.1f}, {100 * e['high']:.1f}]" for e in cells)
        rows.append((model, f"{parameters:,}", *errors))
    return Table("Error (%), with 95 % intervals", ("network", "parameters", *results["error"]), rows)


def pair_table(results: dict[str, Any]) -> Table:
    """Return the table of pairwise tests between networks in the training condition."""
    task = results["config"]["task"]
    rows = [
        (
            f"{pair['first']} - {pair['second']}",
            f"{100 * pair['difference']:+.1f}",
            format_p_value(pair["p"]),
            format_p_value(pair["q"]),
            "yes" if pair["significant"] else "no",
        )
        for pair in results["mcnemar"][task]
    ]
    head = ("pair", "difference (points)", "p", "q (FDR)", "significant")
    return Table(f"Pairs of networks on {task}: McNemar tests, false discovery rate 0.05", head, rows)


def format_p_value(p: float) -> str:
    """Format a p-value with two significant digits; write "< 1e-300" for values that underflow to zero."""
    return f"{p:.2g}" if p > 0 else "< 1e-300"
