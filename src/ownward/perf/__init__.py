"""Step time: what a deployment's prefill and decode cost, from operators and measured efficiencies, with a band.

It does not know where requests come from or what anything costs.
"""

from ownward.perf._case import METRICS, Case, Metric
from ownward.perf._deploy import deploy, usual_host_bytes_per_s
from ownward.perf._deployment import Deployment, Memory
from ownward.perf._disaggregation import serve_disaggregated, transfer_s
from ownward.perf._efficiency import (
    LEVELS,
    PRIORS,
    Coefficients,
    Efficiency,
    coefficient,
    find_efficiency,
    level_keys,
    load_coefficients,
)
from ownward.perf._formats import (
    FORMATS,
    NATIVE,
    WEIGHT_BITS,
    WeightBytes,
    resident_bytes,
    weight_bytes,
    weight_format,
)
from ownward.perf._load import Load
from ownward.perf._machine_names import NamedMachine, machine_named
from ownward.perf._network import Network, read_network
from ownward.perf._parallel import communication_s, hot_rank_factor, passing_s
from ownward.perf._predict import (
    Prediction,
    calibration_class,
    compute_value,
    deploy_case,
    predict,
    predict_deployed,
    with_usual_parallelism,
    without_repeated_depth,
)
from ownward.perf._scenarios import Limits, serve_within, usual_limits, usual_prompt_tokens
from ownward.perf._serving import Served, serve_arrivals, serve_together
from ownward.perf._step_model import StepModel
from ownward.perf._streaming import (
    ROUTED_LOCALITY,
    UNIFORM_LOCALITY,
    DiskReads,
    Streamed,
    predict_streamed,
    stream_decode,
    stream_prefill,
)
from ownward.perf._traits import Traits, device_family, engine_family, traits_of
from ownward.perf._usual import usual_input_tokens

__all__ = [
    "FORMATS",
    "LEVELS",
    "METRICS",
    "NATIVE",
    "PRIORS",
    "ROUTED_LOCALITY",
    "UNIFORM_LOCALITY",
    "WEIGHT_BITS",
    "Case",
    "Coefficients",
    "Deployment",
    "DiskReads",
    "Efficiency",
    "Limits",
    "Load",
    "Memory",
    "Metric",
    "NamedMachine",
    "Network",
    "Prediction",
    "Served",
    "StepModel",
    "Streamed",
    "Traits",
    "WeightBytes",
    "calibration_class",
    "coefficient",
    "communication_s",
    "compute_value",
    "deploy",
    "deploy_case",
    "device_family",
    "engine_family",
    "find_efficiency",
    "hot_rank_factor",
    "level_keys",
    "load_coefficients",
    "machine_named",
    "passing_s",
    "predict",
    "predict_deployed",
    "predict_streamed",
    "read_network",
    "resident_bytes",
    "serve_arrivals",
    "serve_disaggregated",
    "serve_together",
    "serve_within",
    "stream_decode",
    "stream_prefill",
    "traits_of",
    "transfer_s",
    "usual_host_bytes_per_s",
    "usual_input_tokens",
    "usual_limits",
    "usual_prompt_tokens",
    "weight_bytes",
    "weight_format",
    "with_usual_parallelism",
    "without_repeated_depth",
]
