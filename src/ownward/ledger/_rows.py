"""What is read: frozen rows, and columns where there are many."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from ownward.core import picousd_to_usd
from ownward.ledger._notes import says_beaten, says_hedge
from ownward.ledger._records import Outcome, TaskBasis, UsageBasis

AttemptState: TypeAlias = Literal["intent", "settled", "unsettled", "failed", "refused"]
SpendKey: TypeAlias = Literal["workload", "tier", "upstream", "model", "route", "key_id", "plan_sha256", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt with the request it belongs to and its newest settlement.

    Attempt 0 is a request that was refused before any dispatch. Money is in picodollars;
    `charge_low_picousd` and `charge_high_picousd` contain the truth, where they are known.
    """

    request_id: str
    attempt: int
    task_id: str
    workload: str
    route: str
    key_id: str | None
    label: str
    dialect: str
    is_stream: bool
    plan_sha256: str | None
    reason: str
    tier: str | None
    upstream: str | None
    model: str | None
    price_id: str | None
    state: AttemptState
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    usage_basis: UsageBasis | None
    charge_picousd: int | None
    charge_low_picousd: int | None
    charge_high_picousd: int | None
    upstream_request_id: str | None
    ttft_s: float | None
    latency_s: float | None
    status: int | None
    error: str | None
    started_at: datetime
    settled_at: datetime | None

    @property
    def is_hedge(self) -> bool:
        """Whether it was a second call, sent since the first was late."""
        return says_hedge(self.error)

    @property
    def is_beaten(self) -> bool:
        """Whether it was cancelled since another call of its request had answered first."""
        return says_beaten(self.error)

    @property
    def charge_usd(self) -> Decimal | None:
        """The charge in dollars; None, if it is not known."""
        return None if self.charge_picousd is None else picousd_to_usd(self.charge_picousd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What attempts have cost: a sum of what is known, the bounds of it, and how many are not bounded.

    `low` and `high` add the settled charges and the bounds of all others.
    `unpriced_attempts` have no known charge although they are settled (no price is known, or what is to be priced is
    not); `unbounded_attempts`, settled or not, have neither a charge nor an upper bound: with any, `high` is no bound.
    """

    settled_picousd: int
    low_picousd: int
    high_picousd: int
    unsettled_attempts: int
    unpriced_attempts: int
    unbounded_attempts: int

    @property
    def settled_usd(self) -> Decimal:
        """The sum of the settled charges, in dollars."""
        return picousd_to_usd(self.settled_picousd)

    @property
    def low_usd(self) -> Decimal:
        """The least it can have cost, in dollars."""
        return picousd_to_usd(self.low_picousd)

    @property
    def high_usd(self) -> Decimal | None:
        """The most it can have cost, in dollars; None, if some attempt has no known bound."""
        if self.unbounded_attempts:
            return None
        return picousd_to_usd(self.high_picousd)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """The sums of one group of attempts, such as a workload on a tier.

    `unsettled_attempts` counts those in flight too. Token sums are over settled attempts.
    """

    group: Mapping[str, str | None]
    requests: int
    attempts: int
    settled_attempts: int
    failed_attempts: int
    refused_requests: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    spend: Spend


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task: all its attempts' cost, and the outcome that counts, if any is known."""

    task_id: str
    basis: TaskBasis
    workload: str
    started_at: datetime
    requests: int
    attempts: int
    spend: Spend
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """A column of texts as codes into a list of names; code -1 is unknown."""

    codes: array[int]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def value(self, row: int) -> str | None:
        """Return one row's text; None, if it is unknown."""
        code = self.codes[row]
        return None if code < 0 else self.names[code]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficColumns:
    """Requests for planning, in order of arrival: imported ones and those this ledger settled.

    Columns are `array`s, which numpy reads without a copy (`numpy.frombuffer`).
    `arrival_s` counts from `first_arrival_at` for rows with a wall clock, and is
    the source's own for the others. Where `cached_is_known` is 0, the source does
    not say how many input tokens were cached and `cached_input_tokens` is 0. `cache_write_tokens` are inside
    `input_tokens` too, 0 where the source says nothing of them, and `cache_write_1h_tokens` inside these.
    `charge_usd` is what all of them were charged, None where that is not known of one.
    """

    first_arrival_at: datetime | None
    arrival_s: array[float]
    input_tokens: array[int]
    cached_input_tokens: array[int]
    cached_is_known: array[int]
    cache_write_tokens: array[int]
    cache_write_1h_tokens: array[int]
    output_tokens: array[int]
    charge_usd: Decimal | None
    workload: TextColumn
    session: TextColumn
    model: TextColumn

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.arrival_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRow:
    """A workload that the ledger has traffic of, or has been told of."""

    workload: str
    own_requests: int
    imported_requests: int
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """When the logs that hold a workload's requests end.

    A log is an imported source, or all that this ledger served itself. `ends_at` is the time of the last request of any
    workload in them, `ends_s` the same where they have no wall clock.
    """

    ends_at: datetime | None
    ends_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """A certificate as it was recorded."""

    certificate_id: int
    workload: str | None
    state: str | None
    expires_at: datetime | None
    recorded_at: datetime
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRow:
    """A captured body, kept until `expires_at`."""

    request_id: str
    attempt: int | None
    kind: str
    content: bytes
    captured_at: datetime
    expires_at: datetime
