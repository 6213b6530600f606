"""Certificates: a strategy completes at least rho of what the baseline completes, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from ownward.core import BadInput, format_counted
from ownward.quality._betting import EProcess
from ownward.quality._cost import CostPerCompletedTask, compute_cost_per_completed_task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CertificateState = Literal["certified", "not_certified", "refuted"]
VOIDED_BY = ("model", "quantization", "engine", "prompt_template")
VALID_FOR = timedelta(days=30)
_LARGEST_RHO = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTask:
    """One task done by both strategies: completion from 0 to 1, cost in dollars or None where unknown."""

    task_id: str
    baseline_completion: float
    candidate_completion: float
    baseline_cost_usd: Decimal | None
    candidate_cost_usd: Decimal | None

    def __post_init__(self) -> None:
        """Refuse a completion outside [0, 1] and a negative cost."""
        for name, value in (("baseline", self.baseline_completion), ("candidate", self.candidate_completion)):
            if not 0 <= value <= 1:
                raise BadInput(f"task {self.task_id!r} has a {name} completion of {value}", allowed="0 to 1")
        for name, cost in (("baseline", self.baseline_cost_usd), ("candidate", self.candidate_cost_usd)):
            if cost is not None and not (cost.is_finite() and cost >= 0):
                raise BadInput(f"task {self.task_id!r} has a {name} cost of {cost} USD", allowed="0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A statement about past tasks, the evidence it rests on, and what ends it."""

    state: CertificateState
    baseline: str
    candidate: str
    rho: float
    confidence: float
    tasks: int
    e_value: float
    e_value_against: float
    decided_at_task: int | None
    baseline_completion_fraction: float | None
    candidate_completion_fraction: float | None
    completion_ratio: float | None
    cpct_baseline_usd: CostPerCompletedTask
    cpct_candidate_usd: CostPerCompletedTask
    issued_at: datetime
    expires_at: datetime | None
    voided_by: tuple[str, ...]
    why: str


def certify(
    tasks: Sequence[PairedTask],
    *,
    baseline: str,
    candidate: str,
    rho: float,
    confidence: float,
    issued_at: datetime,
) -> Certificate:
    """Return what `tasks` say of "candidate completes at least rho x baseline".

    z = candidate - rho * baseline per task. `certified`, if the evidence of all tasks that its mean is above zero
    has reached 1/(1 - confidence); `refuted`, if the evidence that it is below has; else `not_certified`.
    Both hold at any stopping time, so one may look after every task. The order of the tasks decides nothing: the
    evidence at its best moment would certify whoever begins with the easy ones. `decided_at_task` alone goes by it.
    Raises: BadInput, if rho or confidence is out of range.
    """
    import numpy as np

    if not 0 < rho <= _LARGEST_RHO:
        raise BadInput(f"rho is {rho}", allowed="above 0, at most 1", next_step="Write rho = 0.98 for 98%")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence is {confidence}", allowed="between 0 and 1", next_step="Write 0.95 for 95%")
    candidate_done = np.array([task.candidate_completion for task in tasks], dtype=np.float64)  # (tasks,)
    baseline_done = np.array([task.baseline_completion for task in tasks], dtype=np.float64)  # (tasks,)
    z = candidate_done - rho * baseline_done  # (tasks,), in [-rho, 1]
    threshold = -math.log1p(-confidence)
    evidence_for = EProcess(largest_loss=rho, decisive_log_value=threshold)
    evidence_for.extend(z)
    evidence_against = EProcess(largest_loss=1.0, decisive_log_value=threshold)
    evidence_against.extend(-z)
    state = _state(evidence_for, evidence_against, threshold)
    decided = {"certified": evidence_for.decided_at, "refuted": evidence_against.decided_at}.get(state)
    baseline_mean, candidate_mean = _mean(baseline_done), _mean(candidate_done)
    return Certificate(
        state=state,
        baseline=baseline,
        candidate=candidate,
        rho=rho,
        confidence=confidence,
        tasks=len(tasks),
        e_value=evidence_for.value,
        e_value_against=evidence_against.value,
        decided_at_task=decided,
        baseline_completion_fraction=baseline_mean,
        candidate_completion_fraction=candidate_mean,
        completion_ratio=candidate_mean / baseline_mean if candidate_mean is not None and baseline_mean else None,
        cpct_baseline_usd=compute_cost_per_completed_task(
            [t.baseline_cost_usd for t in tasks], baseline_done.tolist(), confidence=confidence
        ),
        cpct_candidate_usd=compute_cost_per_completed_task(
            [t.candidate_cost_usd for t in tasks], candidate_done.tolist(), confidence=confidence
        ),
        issued_at=issued_at,
        expires_at=issued_at + VALID_FOR if state == "certified" else None,
        voided_by=VOIDED_BY,
        why=_why(state, rho=rho, confidence=confidence, e_value=evidence_for.value, tasks=len(tasks)),
    )


def _state(evidence_for: EProcess, evidence_against: EProcess, threshold: float) -> CertificateState:
    if evidence_against.log_value >= threshold:
        return "refuted"
    return "certified" if evidence_for.log_value >= threshold else "not_certified"


def _why(state: CertificateState, *, rho: float, confidence: float, e_value: float, tasks: int) -> str:
    needed = 1 / (1 - confidence)
    match state:
        case "certified":
            return f"the evidence reached {e_value:.4g}, and {needed:.4g} was needed"
        case "refuted":
            return f"the evidence that it completes less than {rho:g} of the baseline reached {needed:.4g}"
        case "not_certified":
            seen = format_counted(tasks, "task")
            return f"after {seen} the evidence is {e_value:.4g} of {needed:.4g} needed: more tasks may decide"


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
