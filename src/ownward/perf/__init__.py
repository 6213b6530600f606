"""Step time: what a deployment's prefill and decode cost, from operators and measured efficiencies, with a band.

It does not know where requests come from or what anything costs.
"""

from ownward.perf._deployment import Deployment, Memory, deploy
from ownward.perf._efficiency import Efficiency, engine_family, find_efficiency
from ownward.perf._predict import METRICS, Case, Metric, Prediction, predict
from ownward.perf._step_model import StepModel
from ownward.perf._weights import WEIGHT_BITS, resident_bytes, step_read_bytes, weight_format

__all__ = [
    "METRICS",
    "WEIGHT_BITS",
    "Case",
    "Deployment",
    "Efficiency",
    "Memory",
    "Metric",
    "Prediction",
    "StepModel",
    "deploy",
    "engine_family",
    "find_efficiency",
    "predict",
    "resident_bytes",
    "step_read_bytes",
    "weight_format",
]
