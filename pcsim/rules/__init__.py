"""Rules that determine how a population responds to its input: flows, maps and wires."""

from typing import TYPE_CHECKING

from pcsim.core.renamed import names_of
from pcsim.rules.accumulator import Accumulator
from pcsim.rules.adaptation import IntrinsicSuppression
from pcsim.rules.attractor import Energy, GradedEnergy, RetrievalEnergy, Softmax, Threshold, ThresholdEnergy
from pcsim.rules.base import Flow, Leaky, Map, Rule, Wire
from pcsim.rules.circuits import PowerLaw, WilsonCowan
from pcsim.rules.gated import LSTM, SubLSTM
from pcsim.rules.horizontal import HorizontalExcitation, HorizontalInhibition
from pcsim.rules.modulation import modulated
from pcsim.rules.normalisation import DivisiveNormalisation, Organics, OrganicsPool
from pcsim.rules.predictive import (
    Blend,
    Correction,
    ErrorRelaxation,
    ErrorThrough,
    ErrorUnit,
    Mixture,
    Prediction,
    PredictionError,
    SplitError,
    UpdateRate,
)
from pcsim.rules.rate import Rate, leaky_rate
from pcsim.rules.reciprocal import Decay, Gate, Gated, GatedUpdate, Highway, ReciprocalGated
from pcsim.rules.synapses import Depletion, Facilitation, Release
from pcsim.rules.time_constants import FixedTau, LearnableTau, TimeConstant, time_constant
from pcsim.rules.wires import Sum, Switch

__all__ = [
    "LSTM",
    "Accumulator",
    "Blend",
    "Correction",
    "Decay",
    "Depletion",
    "DivisiveNormalisation",
    "Energy",
    "ErrorRelaxation",
    "ErrorThrough",
    "ErrorUnit",
    "Facilitation",
    "FixedTau",
    "Flow",
    "Gate",
    "Gated",
    "GatedUpdate",
    "GradedEnergy",
    "Highway",
    "HorizontalExcitation",
    "HorizontalInhibition",
    "IntrinsicSuppression",
    "Leaky",
    "LearnableTau",
    "Map",
    "Mixture",
    "Organics",
    "OrganicsPool",
    "PowerLaw",
    "Prediction",
    "PredictionError",
    "Rate",
    "ReciprocalGated",
    "Release",
    "RetrievalEnergy",
    "Rule",
    "Softmax",
    "SplitError",
    "SubLSTM",
    "Sum",
    "Switch",
    "Threshold",
    "ThresholdEnergy",
    "TimeConstant",
    "UpdateRate",
    "WilsonCowan",
    "Wire",
    "leaky_rate",
    "modulated",
    "time_constant",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
