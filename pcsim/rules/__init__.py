"""How one population responds to what arrives: flow, map and wire rules."""

from pcsim.rules.base import Flow, Map, Relaxed, Rule, Wire
from pcsim.rules.predictive import ErrorRelaxation, Prediction, PredictionError
from pcsim.rules.rate import Rate, leaky_rate
from pcsim.rules.time_constants import FixedTau, LearnableTau, TimeConstant, time_constant
from pcsim.rules.wires import Sum

__all__ = [
    "ErrorRelaxation",
    "FixedTau",
    "Flow",
    "LearnableTau",
    "Map",
    "Prediction",
    "PredictionError",
    "Rate",
    "Relaxed",
    "Rule",
    "Sum",
    "TimeConstant",
    "Wire",
    "leaky_rate",
    "time_constant",
]
