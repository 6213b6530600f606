"""The values of a choice: what a request asks, by whose key, what it matches, what may serve it, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from ownward.gateway.endpoints import Endpoint
from ownward.gateway.placing.routing import Target
from ownward.plan import Budget, Workload
from ownward.policy import Label

if TYPE_CHECKING:
    from ownward.upstreams import translation

LimitsBy = Literal["window", "bucket"]
"""How a key's minute is counted: no 60 s hold more, or a minute's worth at once that refills evenly."""

UNASSIGNED = "unassigned"
"""The workload of a request that no workload of the plan accepts and that names none."""


class KeyScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a key permits; None is no restriction."""

    key_id: str
    workloads: frozenset[str] | None = None
    tiers: frozenset[str] | None = None
    label: Label | None = None
    budget: Budget | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    limits_by: LimitsBy = "bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a detector found in a request, by the detector's name, and where data with it may go."""

    name: str
    label: Label


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request states of itself; `inherited` is the label of what was said before it, where it goes on."""

    endpoint: Endpoint
    model: str
    workload: str | None = None
    tier: str | None = None
    label: Label | None = None
    key: KeyScope | None = None
    headers: Mapping[str, str] | None = None
    metadata: Mapping[str, str] | None = None
    fingerprint: str | None = None
    needs: frozenset[str] = frozenset()
    found: tuple[Found, ...] = ()
    inherited: Label | None = None
    why_untranslatable: Callable[[Target], translation.Untranslatable | None] | None = None


class Matched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The workload and the tiers that a request asks for."""

    workload: str
    declared: Workload | None
    tiers: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligible:
    """The upstreams that may have the data and can do the work, by tier in order; `reason` is what is known so far."""

    tiers: tuple[tuple[Target, ...], ...]
    reason: str
    needs_translation: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The candidates in the order they are tried, and why; `is_pinned` where the request names its one tier.

    `answer_headers` tell the client the workload and the reason. `is_last_resort`: the breakers of all candidates were
    open, and these are tried all the same; else `left_alone` are those whose breakers were.
    """

    workload: str
    label: Label
    targets: tuple[Target, ...]
    reason: str
    answer_headers: tuple[tuple[bytes, bytes], ...]
    declared: Workload | None = None
    is_pinned: bool = False
    is_last_resort: bool = False
    left_alone: tuple[Target, ...] = ()
