"""What is written: frozen records that check their own invariants before they reach the database.

Those of the hot path are msgspec's structs: a frozen dataclass of their size takes ten times as long to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn, get_args

import msgspec

from ownward.core import LedgerError
from ownward.pricing import Usage

TaskBasis = Literal["explicit", "inferred", "single"]
SettlementState = Literal["settled", "unsettled", "failed", "refused"]
UsageBasis = Literal["upstream", "counted", "estimated"]
OutcomeSource = Literal["human", "verifier", "user", "system"]

OUTCOME_PRECEDENCE: tuple[OutcomeSource, ...] = get_args(OutcomeSource)


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request as a client sent it, before it went anywhere."""

    request_id: str
    task_id: str
    task_basis: TaskBasis
    workload: str
    route: str  # the model name that the client asked for
    key_id: str | None
    label: str
    dialect: str
    is_stream: bool
    plan_sha256: str | None
    reason: str  # why it went where it went
    started_at: datetime

    def __post_init__(self) -> None:
        """Refuse an empty id."""
        if not (self.request_id and self.task_id):
            _require_text(self.request_id, "request_id")
            _require_text(self.task_id, "task_id")


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that is about to be dispatched, with the most that it can cost.

    `charge_high_picousd` is None where no price is known: unknown, never zero.
    """

    request_id: str
    attempt: int
    tier: str
    upstream: str
    model: str
    price_id: str | None
    input_tokens_high: int | None
    output_tokens_high: int | None
    charge_high_picousd: int | None
    body_sha256: str
    started_at: datetime

    def __post_init__(self) -> None:
        """Refuse an attempt below 1 and a negative bound."""
        if not self.request_id:
            _require_text(self.request_id, "request_id")
        if self.attempt < 1:
            raise LedgerError(
                f"attempt {self.attempt} of request {self.request_id!r} cannot be begun",
                allowed="Attempts count from 1; 0 is kept for requests refused before any dispatch",
            )
        if (
            (self.input_tokens_high or 0) < 0
            or (self.output_tokens_high or 0) < 0
            or (self.charge_high_picousd or 0) < 0
        ):
            _refuse_negative(self, "input_tokens_high", "output_tokens_high", "charge_high_picousd")


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one attempt.

    `settled`: the tokens are known. `unsettled`: the upstream may have charged,
    within the bounds. `failed` and `refused`: it certainly charged nothing, so
    that the charge is a known zero. Money is in picodollars (1e-12 USD).
    """

    request_id: str
    attempt: int
    state: SettlementState
    settled_at: datetime
    usage: Usage | None = None
    usage_basis: UsageBasis | None = None
    charge_picousd: int | None = None
    charge_low_picousd: int | None = None
    charge_high_picousd: int | None = None
    upstream_request_id: str | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    status: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be true of the state."""
        charge, low, high = self.charge_picousd, self.charge_low_picousd, self.charge_high_picousd
        if (charge or 0) < 0 or (low or 0) < 0 or (high or 0) < 0:
            _refuse_negative(self, "charge_picousd", "charge_low_picousd", "charge_high_picousd")
        if low is not None and high is not None and low > high:
            raise LedgerError(
                f"{self._where} has the bounds {low} to {high} picodollars", allowed="low is at most high"
            )
        if self.state == "settled":
            if self.usage is None or self.usage_basis is None:
                raise LedgerError(
                    f"{self._where} is settled but its usage is not known",
                    allowed="A settled attempt has its tokens and their basis",
                    next_step="Record it as unsettled with bounds, or estimate the tokens and say so in usage_basis",
                )
        elif self.state == "unsettled":
            if charge is not None:
                raise LedgerError(
                    f"{self._where} is unsettled but states one charge", allowed="Unsettled attempts have bounds"
                )
        elif self.state not in {"failed", "refused"}:
            raise LedgerError(
                f"{self._where} has the state {self.state!r}", allowed=f"One of {', '.join(get_args(SettlementState))}"
            )
        elif charge or low or high:
            raise LedgerError(
                f"{self._where} is {self.state} but states a charge",
                allowed="A failed or refused attempt was certainly not charged",
                next_step="Record it as unsettled with bounds where a charge is possible",
            )

    @property
    def _where(self) -> str:
        return f"settlement of attempt {self.attempt} of request {self.request_id!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a task was completed, and who says so.

    Sources rank human, verifier, user, system; the newest word of the highest rank counts.
    """

    task_id: str
    completed: bool
    source: OutcomeSource
    recorded_at: datetime
    score: float | None = None
    human_minutes: float | None = None
    comment: str = ""

    def __post_init__(self) -> None:
        """Refuse an unknown source."""
        _require_text(self.task_id, "task_id")
        if self.source not in OUTCOME_PRECEDENCE:
            raise LedgerError(
                f"the outcome of task {self.task_id!r} has the source {self.source!r}",
                allowed=f"One of {', '.join(OUTCOME_PRECEDENCE)}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRow:
    """One past request from elsewhere, as a reader understood it.

    `cached_input_tokens` are counted inside `input_tokens`; None where the source does
    not say. So are `cache_write_tokens`, beside them, and inside these `cache_write_1h_tokens`. Without
    `source_row_id`, rows of equal content are told apart by their count.
    """

    input_tokens: int
    output_tokens: int
    started_at: datetime | None = None
    arrival_s: float | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    workload: str | None = None
    session: str | None = None
    model: str | None = None
    charge_usd: Decimal | None = None
    completed: bool | None = None
    source_row_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCount:
    """How many rows of one import were new and how many the ledger had already."""

    imported: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A client's key as the ledger knows it: by hash, never by secret."""

    key_id: str
    name: str
    scopes: Mapping[str, Any]
    created_at: datetime
    revoked_at: datetime | None
    secret_hash: str = field(repr=False)


def _require_text(value: str, name: str) -> None:
    if not value:
        raise LedgerError(f"{name} is empty", allowed=f"{name} is a text of at least one character")


def _refuse_negative(record: Intent | Settlement, *names: str) -> NoReturn:
    name = next(name for name in names if (getattr(record, name) or 0) < 0)
    raise LedgerError(
        f"{name} of request {record.request_id!r} is {getattr(record, name)}",
        allowed=f"{name} is 0 or more, or unknown",
    )
