"""Stimuli: images of digits and characters, video clips, and timelines that present them."""

from pcsim.stimuli.correlated import ou_noise
from pcsim.stimuli.cued import Cued, digit_arrays, digit_blends, spotlight
from pcsim.stimuli.curves import Contours, contours
from pcsim.stimuli.digits import (
    CONDITIONS,
    Condition,
    Scenes,
    digit_clutter,
    digit_debris,
    scenes,
)
from pcsim.stimuli.film import Film, as_timeline, oddball, read_film, read_moving_mnist
from pcsim.stimuli.glyphs import Glyphs, HandwrittenGlyphs, RenderedGlyphs
from pcsim.stimuli.memory_tasks import Trials, change_detection, delayed_match, digit_items, n_back, serial_order
from pcsim.stimuli.mnist import load_mnist
from pcsim.stimuli.moving import Moving, MovingDigits
from pcsim.stimuli.occluders import moving_bar, occluded
from pcsim.stimuli.omniglot import Characters, load_omniglot
from pcsim.stimuli.pictures import read_images
from pcsim.stimuli.pixels import IMAGENET, denormalise, normalise
from pcsim.stimuli.timeline import Timeline, blank, held, noise, presented, sequence, turns

__all__ = [
    "CONDITIONS",
    "IMAGENET",
    "Characters",
    "Condition",
    "Contours",
    "Cued",
    "Film",
    "Glyphs",
    "HandwrittenGlyphs",
    "Moving",
    "MovingDigits",
    "RenderedGlyphs",
    "Scenes",
    "Timeline",
    "Trials",
    "as_timeline",
    "blank",
    "change_detection",
    "contours",
    "delayed_match",
    "denormalise",
    "digit_arrays",
    "digit_blends",
    "digit_clutter",
    "digit_debris",
    "digit_items",
    "held",
    "load_mnist",
    "load_omniglot",
    "moving_bar",
    "n_back",
    "noise",
    "normalise",
    "occluded",
    "oddball",
    "ou_noise",
    "presented",
    "read_film",
    "read_images",
    "read_moving_mnist",
    "scenes",
    "sequence",
    "serial_order",
    "spotlight",
    "turns",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
