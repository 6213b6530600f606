"""The rows of `ownward ledger export`, as CONTRACTS promises them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from ownward.core import picousd_text
from ownward.ledger._rows import AttemptState
from ownward.ledger._store import Store
from ownward.ledger._times import iso_text, to_us

EXPORT_COLUMNS = (
    "request_id", "attempt", "task_id", "workload", "tier", "upstream", "upstream_request_id", "state",
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "usage_basis",
    "charge_usd", "charge_low_usd", "charge_high_usd", "price_id", "plan_sha256", "key_id", "label",
    "started_at", "ttft_s", "latency_s", "status",
)  # fmt: skip

_SQL = """
SELECT request_id, attempt, task_id, workload, tier, upstream, upstream_request_id, state, run_id,
  input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, usage_basis,
  charge_picousd, charge_low_picousd, charge_high_picousd, intent_charge_high_picousd,
  price_id, plan_sha256, key_id, label, started_at_us, ttft_s, latency_s, status
FROM {attempts} a{where} ORDER BY request_started_at_us, request_id, attempt"""
_SINCE = " WHERE request_started_at_us >= ?"


def export_rows(store: Store, *, live: Collection[str], since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Yield one dict an attempt, oldest first; `live` are the runs that may still settle."""
    sql, params = _SQL.format(attempts=store.attempts, where=_SINCE if since else ""), (to_us(since),) if since else ()
    for (
        request_id, attempt, task_id, workload, tier, upstream, upstream_request_id, stored_state, run_id,
        input_tokens, cached, cache_write, output_tokens, usage_basis,
        charge, low, high, intent_high,
        price_id, plan_sha256, key_id, label, started_at_us, ttft_s, latency_s, status,
    ) in store.stream(sql, params):  # fmt: skip
        state = state_of(stored_state, is_live=run_id in live)
        at_least, at_most = bounds_of(state, charge=charge, low=low, high=high, intent_high=intent_high)
        row = (
            request_id, attempt, task_id, workload, tier, upstream, upstream_request_id, state,
            input_tokens, cached, cache_write, output_tokens, usage_basis,
            picousd_text(charge), picousd_text(at_least), picousd_text(at_most), price_id, plan_sha256, key_id, label,
            iso_text(started_at_us), ttft_s, latency_s, status,
        )  # fmt: skip
        yield dict(zip(EXPORT_COLUMNS, row, strict=True))


def state_of(stored: AttemptState | None, *, is_live: bool) -> AttemptState:
    """Return the state that a reader is told: without a settlement, whether one can still come decides."""
    if stored is not None:
        return stored
    return "intent" if is_live else "unsettled"


def bounds_of(
    state: AttemptState, *, charge: int | None, low: int | None, high: int | None, intent_high: int | None
) -> tuple[int | None, int | None]:
    """Return bounds that contain the charge: those stated, else itself where it is known, else zero to the intent's.

    >>> bounds_of("settled", charge=5, low=None, high=None, intent_high=9)
    (5, 5)
    >>> bounds_of("unsettled", charge=None, low=None, high=None, intent_high=9)
    (0, 9)
    """
    if charge is not None:
        return charge if low is None else low, charge if high is None else high
    if state in {"intent", "unsettled"}:
        return low or 0, intent_high if high is None else high
    return low, high
