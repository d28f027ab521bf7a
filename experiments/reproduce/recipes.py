"""The recipes for the networks whose weights ship with pcsim."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pcsim.stimuli import MovingDigits
from pcsim.training import Training

from .digits import SIDE, Digits, LocalRule, Occlusion, Supervised
from .moving import Frames
from .recipe import Recipe

OCCLUDED = "accuracy, 5 fragments"
"""headline of networks trained on `CENTRED`"""
CENTRED = Digits(fragments=5, spread=0.0, side=16)
DEBRIS = Digits(fragments=10)
MOVING = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
FAMILY = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
TASKS: dict[Literal["debris-light", "clutter-light"], str] = {
    "debris-light": "digits at random positions under 10 fragments of debris, 32x32 pixels",
    "clutter-light": "three overlapping digits, all of which it names, 32x32 pixels",
}


def _prednet(cell: str) -> Frames:
    return Frames(
        model="prednet",
        options={"channels": (1, 8, 8), "representations": (8, 8, 8), "cell": cell, "image": (1, 28, 28)},
        task="moving digits: one 14x14 digit in frames of 28x28 pixels, 8 input frames, then 5 of its own predictions",
        moving=MOVING,
        clips=5_000,
        input_frames=8,
        horizon=5,
        training=Training(updates=700, batch=6, learning_rate=4e-3),
        closing=Training(updates=200, batch=6, learning_rate=1e-3),
        headline="MSE of the next frame",
    )


RECIPES: dict[str, Recipe] = {
    "predictive_coding.digits": LocalRule(
        model="predictive_coding",
        options={
            "layers": ((1, 16, 16), (64,), (10,)),
            "clamped": ("r0",),
            "tau": (1.0, 10.0, 20.0),
            "activation": "tanh",
        },
        task="centred digits under 5 fragments of debris, 16x16 pixels, with the digit at the top (local rule)",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=1_500, batch=50),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        dt=0.5,
        relax=30.0,
        until=200.0,
        grey=0.5,
        page={"readout": "r2", "spread": 0.0, "fragments": 5, "dt": 0.5, "until": 200.0},
    ),
    "pcn_global.digits": Supervised(
        model="pcn_global",
        options={
            "channels": (16, 32),
            "pooled": (1, 2),
            "cycles": 4,
            "tied": True,
            "norm": "group",
            "rates": (0.0, 0.3),
            "image": (1, 16, 16),
        },
        task="centred digits under 5 fragments of debris, 16x16 pixels, with the prediction error in the loss",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=600, batch=32, learning_rate=5e-3, clip=5.0, over_time="mean", reconstruction=0.3),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        page={"spread": 0.0, "fragments": 5},
    ),
    "leaky_rcnn.digits": Supervised(
        model="leaky_rcnn",
        options={"channels": (8, 16, 32), "tau": (10.0, 20.0, 40.0), "image": (1, 16, 16)},
        task="centred digits under 5 fragments of debris, 16x16 pixels",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=500, batch=32, learning_rate=5e-3, over_time="mean"),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        page={"spread": 0.0, "fragments": 5},
        dt=10.0,
        test_dt=2.0,
        until=200.0,
    ),
    "cornet_s.digits": Supervised(
        model="cornet_s",
        options={"channels": (16, 24, 32, 48), "image": (1, 32, 32), "classes": 10, "scale": 2},
        task="centred digits under 5 fragments of debris, 32x32 pixels",
        digits=dataclasses.replace(CENTRED, side=SIDE),
        images=10_000,
        training=Training(updates=1_200, batch=32, learning_rate=3e-3, over_time="last"),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        page={"spread": 0.0, "fragments": 5},
    ),
    "prednet.moving-digits-convlstm": _prednet("convlstm"),
    "prednet.moving-digits-subconvlstm": _prednet("subconvlstm"),
    **{
        f"{model}.{weights}": Occlusion(model=model, weights=weights, task=task, headline=f"accuracy, {weights}")
        for weights, task in TASKS.items()
        for model in FAMILY
    },
}
"""model.weights -> recipe"""
