"""Rows of a ledger as most tests want them: complete, and of nothing in particular."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ownward.ledger import Intent, Request, Settlement
from ownward.pricing import Usage

USAGE = Usage(input_tokens=1, output_tokens=1)


def usual_request(name: str, *, at: datetime, **changes: Any) -> Request:
    """Return a request that is a task by itself."""
    stated: dict[str, Any] = {
        "request_id": name,
        "task_id": name,
        "task_basis": "single",
        "workload": "w",
        "route": "m",
        "key_id": None,
        "label": "any",
        "dialect": "openai",
        "is_stream": False,
        "plan_sha256": None,
        "reason": "",
        "started_at": at,
    }
    return Request(**(stated | changes))


def usual_intent(name: str, *, at: datetime, high: int | None = None, **changes: Any) -> Intent:
    """Return the first call of a request, which may charge at most `high` picodollars."""
    stated: dict[str, Any] = {
        "request_id": name,
        "attempt": 1,
        "tier": "t",
        "upstream": "u",
        "model": "m",
        "price_id": None,
        "input_tokens_high": None,
        "output_tokens_high": None,
        "charge_high_picousd": high,
        "body_sha256": "",
        "started_at": at,
    }
    return Intent(**(stated | changes))


def usual_settlement(name: str, *, at: datetime, charge: int | None, **changes: Any) -> Settlement:
    """Return the settlement of a first call that was answered and charged `charge` picodollars."""
    stated: dict[str, Any] = {
        "request_id": name,
        "attempt": 1,
        "state": "settled",
        "settled_at": at,
        "usage": USAGE,
        "usage_basis": "upstream",
        "charge_picousd": charge,
    }
    return Settlement(**(stated | changes))
