"""One line of the log for each request: where it went and why, what it took and cost. No body, no header, no key.

How lines are written is the business of whoever sets up logging; the fields travel as `record.request`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ownward.core import picousd_to_usd, usd_text
from ownward.gateway.watching.metrics import Outcome

if TYPE_CHECKING:
    from ownward.gateway.watching.watched import Watched

LOGGER = logging.getLogger("ownward.requests")
_LONGEST_NAME = 128
_SERVER_FAULTS = 500


class RequestLog:
    """Writes a line when a request is over: a warning where it broke or was answered 5xx, else at level info."""

    def request_ended(self, exchange: Watched, *, outcome: Outcome, latency_s: float) -> None:
        """Write the line, if its level is asked for."""
        level = logging.WARNING if outcome == "broken" or exchange.status >= _SERVER_FAULTS else logging.INFO
        if LOGGER.isEnabledFor(level):
            fields = fields_of(exchange, outcome=outcome, latency_s=latency_s)
            LOGGER.log(level, "%s", _Sentence(fields), extra={"request": fields})


class _Sentence:
    """The line as a person reads it, made only where somebody wants it so."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        said = self._fields
        where = " ".join(filter(None, (said["workload"], said["tier"])))
        parts = [f"{said['request_id']} {where} {said['status']} {said['outcome']} in {said['latency_s']:.3f} s"]
        if said["error"]:
            parts.append(said["error"])
        if said["attempts"] > 1:
            parts.append(f"{said['attempts']} calls")
        if said["hedge"]:
            parts.append(f"hedge {said['hedge']}")
        if said["output_tokens"] is not None:
            parts.append(f"{said['input_tokens']} + {said['output_tokens']} tokens")
        if said["charge_usd"] is not None:
            parts.append(f"{said['charge_usd']} USD")
        return ", ".join(parts)


def fields_of(exchange: Watched, *, outcome: Outcome, latency_s: float) -> dict[str, Any]:
    """Return what is said of a request; unknown is None.

    Tokens and charge are sums over its settled calls, the charge if it is known of all; `ttft_s` and `tpot_s` are
    those of the call that answered.
    What a client names itself, as the task and a workload of its own, has the form of a name or is left out.
    """
    settled = [call for call in exchange.calls if call.usage is not None]
    charges = [call.charge_picousd for call in settled]
    known = [charge for charge in charges if charge is not None]
    answering = next((call for call in reversed(exchange.calls) if not call.is_beaten), None)
    choice, target = exchange.choice, exchange.target
    usages = [call.usage for call in settled if call.usage is not None]
    return {
        "request_id": exchange.request_id,
        "task_id": exchange.task_id,
        "endpoint": exchange.endpoint.path,
        "is_stream": exchange.is_stream,
        "key_id": None if exchange.key is None else exchange.key.key_id,
        "route": None if choice is None else exchange.route[:_LONGEST_NAME],
        "workload": exchange.workload,
        "label": str(exchange.label),
        "tier": None if target is None else target.tier.name,
        "upstream": None if target is None else target.name,
        "reason": None if choice is None else choice.reason + exchange.outcome,
        "outcome": outcome,
        "status": exchange.status,
        "error": exchange.error_kind,
        "attempts": exchange.attempts,
        "hedge": exchange.hedge,
        "input_tokens": sum(usage.input_tokens for usage in usages) if usages else None,
        "cached_input_tokens": sum(usage.cached_input_tokens for usage in usages) if usages else None,
        "output_tokens": sum(usage.output_tokens for usage in usages) if usages else None,
        "charge_usd": usd_text(picousd_to_usd(sum(known))) if known and None not in charges else None,
        "queue_s": round(exchange.queue_s, 6),
        "ttft_s": None if answering is None or answering.ttft_s is None else round(answering.ttft_s, 6),
        "tpot_s": None if answering is None or answering.tpot_s is None else round(answering.tpot_s, 6),
        "latency_s": round(latency_s, 6),
        "plan_sha256": exchange.table.plan_sha256,
    }
