"""Rules that determine how a population responds to its input: flows, maps and wires."""

from typing import TYPE_CHECKING

from pcsim.core.renamed import names_of
from pcsim.rules.attractor import Energy, GradedEnergy, RetrievalEnergy, Softmax, Threshold, ThresholdEnergy
from pcsim.rules.base import Flow, Leaky, Map, Rule, Wire
from pcsim.rules.gated import LSTM, SubLSTM
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
from pcsim.rules.time_constants import FixedTau, LearnableTau, TimeConstant, time_constant
from pcsim.rules.wires import Sum, Switch

__all__ = [
    "LSTM",
    "Blend",
    "Correction",
    "Decay",
    "Energy",
    "ErrorRelaxation",
    "ErrorThrough",
    "ErrorUnit",
    "FixedTau",
    "Flow",
    "Gate",
    "Gated",
    "GatedUpdate",
    "GradedEnergy",
    "Highway",
    "Leaky",
    "LearnableTau",
    "Map",
    "Mixture",
    "Prediction",
    "PredictionError",
    "Rate",
    "ReciprocalGated",
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
    "Wire",
    "leaky_rate",
    "time_constant",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
