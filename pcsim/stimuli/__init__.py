"""What is shown when."""

from pcsim.stimuli.digits import (
    CONDITIONS,
    Condition,
    Scenes,
    digit_clutter,
    digit_debris,
    scenes,
)
from pcsim.stimuli.glyphs import Glyphs, HandwrittenGlyphs, RenderedGlyphs
from pcsim.stimuli.mnist import load_mnist
from pcsim.stimuli.timeline import Timeline, blank, held, noise, sequence, turns

__all__ = [
    "CONDITIONS",
    "Condition",
    "Glyphs",
    "HandwrittenGlyphs",
    "RenderedGlyphs",
    "Scenes",
    "Timeline",
    "blank",
    "digit_clutter",
    "digit_debris",
    "held",
    "load_mnist",
    "noise",
    "scenes",
    "sequence",
    "turns",
]
