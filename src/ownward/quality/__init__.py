"""Graders, e-processes and certificates: whether a strategy completes what the baseline completes.

It does not know who ran the tasks, or what a model is.
"""

from ownward.quality._betting import DriftAlarm, EProcess, lower_confidence_bound
from ownward.quality._certificate import (
    VALID_FOR,
    VOIDED_BY,
    Certificate,
    CertificateState,
    PairedTask,
    certify,
)
from ownward.quality._cost import CostPerCompletedTask, compute_cost_per_completed_task
from ownward.quality._graders import (
    ExactMatch,
    Grade,
    Grader,
    JsonSchema,
    LabelSet,
    NumberMatch,
    RegexMatch,
    Slots,
    ToolCalls,
    find_json_object,
)
from ownward.quality._outcomes import OutcomeTable, read_outcome_rows, read_outcomes
from ownward.quality._wording import last_number

__all__ = [
    "VALID_FOR",
    "VOIDED_BY",
    "Certificate",
    "CertificateState",
    "CostPerCompletedTask",
    "DriftAlarm",
    "EProcess",
    "ExactMatch",
    "Grade",
    "Grader",
    "JsonSchema",
    "LabelSet",
    "NumberMatch",
    "OutcomeTable",
    "PairedTask",
    "RegexMatch",
    "Slots",
    "ToolCalls",
    "certify",
    "compute_cost_per_completed_task",
    "find_json_object",
    "last_number",
    "lower_confidence_bound",
    "read_outcome_rows",
    "read_outcomes",
]
