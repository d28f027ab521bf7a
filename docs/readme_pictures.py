"""Draw the pictures of the README from the bundled networks: python docs/readme_pictures.py

`guesses.png` is written by `python -m experiments.occlusion`.
"""

from pathlib import Path

from matplotlib import pyplot
from torch.nn import functional

from pcsim import Euler, Record, models, plots, predict, simulate, stimuli
from pcsim.stimuli import Condition, MovingDigits

IMAGES = Path(__file__).parent / "images"


def falling_errors() -> None:
    """Draw the prediction errors of hierarchical predictive coding for clean and occluded digits."""
    net = models.build("predictive_coding", weights="digits")
    figure, places = pyplot.subplots(1, 2, figsize=(8.0, 3.0), sharey=True, layout="constrained")
    for ax, fragments in zip(places, (0, 10), strict=True):
        shown = stimuli.scenes(Condition(fragments=fragments, spread=0.0), 1_000_000, 0, 200).pixels()
        record = Record(errors=["e0", "e1"], every=2, initial=True)
        images = functional.avg_pool2d(shown, 2)
        run = simulate(net, images, solver=Euler(0.5), until=100.0, record=record)
        plots.error_convergence(run, ax=ax)
        ax.set_title("200 clean digits" if fragments == 0 else "the same, under 10 fragments of debris")
    figure.savefig(IMAGES / "falling_errors.png", dpi=110)
    pyplot.close(figure)


def extrapolation() -> None:
    """Animate the predictions of both PredNets, which see eight frames and continue the clip on their own."""
    frames = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5)).film(1_000_000, 0, 1, 13).sequences(13)
    predictions = {
        cell: predict(models.build("prednet", weights=f"moving-digits-{cell}"), frames, closed_loop_from=8).predictions[
            0
        ]
        for cell in ("convlstm", "subconvlstm")
    }
    first, *others = plots.animation(frames[0], predictions, 8, scale=6)
    first.save(IMAGES / "extrapolation.gif", save_all=True, append_images=others, duration=300, loop=0)


if __name__ == "__main__":
    with plots.style("screen"):
        falling_errors()
        extrapolation()
