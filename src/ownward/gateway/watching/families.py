"""Every metric of a gateway: its name, what it means, and the names of its labels.

What is counted as it happens is counted in `metrics`; what is read when somebody looks, in `gauges`.
"""

from __future__ import annotations

from ownward.gateway.watching.exposition import Family, Kind

_CALL = ("workload", "tier", "upstream")


def _counter(name: str, text: str, *labels: str) -> Family:
    return _family("counter", name, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return _family("gauge", name, text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return _family("histogram", name, text, labels)


def _family(kind: Kind, name: str, text: str, labels: tuple[str, ...]) -> Family:
    return Family(name=name, kind=kind, labels=labels, help=text)


REQUESTS = _counter(
    "ownward_requests_total",
    "Requests that are over, by how they ended.",
    "endpoint",
    "workload",
    "tier",
    "outcome",
    "status",
)
REQUEST_SECONDS = _histogram(
    "ownward_request_seconds",
    "From a request's head to the end of its answer, queues and retries included.",
    "workload",
    "tier",
)
ERRORS = _counter("ownward_errors_total", "Errors told to clients, by their ownward_kind.", "workload", "tier", "kind")
DISCONNECTS = _counter("ownward_client_disconnects_total", "Clients that left early.", "tier")
ATTEMPTS = _counter(
    "ownward_attempts_total", "Calls to upstreams, by the state of their row on the ledger.", *_CALL, "state"
)
RETRIES = _counter("ownward_retries_total", "Calls after the first of a request.", *_CALL)
HEDGES = _counter(
    "ownward_hedges_total",
    "Second calls beside one that was late, by whether their answer came first (won) or not (lost).",
    *_CALL,
    "result",
)
BEATEN = _counter(
    "ownward_beaten_calls_total",
    "Calls cancelled since another call of their request answered first; none of them is a failure.",
    *_CALL,
)
BEATEN_USD = _counter(
    "ownward_beaten_usd_total",
    "Upper bounds in USD of calls cancelled since another answered first; part of the unsettled ones.",
    *_CALL,
)
TOKENS = _counter(
    "ownward_tokens_total",
    "Tokens that upstreams reported; cached_input and cache_write are part of input.",
    *_CALL,
    "kind",
)
CHARGES = _counter("ownward_charge_usd_total", "Settled charges in USD.", *_CALL)
UNSETTLED_CHARGES = _counter(
    "ownward_unsettled_usd_total", "Upper bounds in USD of calls whose charge stayed open.", *_CALL
)
UNPRICED = _counter(
    "ownward_unpriced_calls_total",
    "Settled calls whose charge is not known: their tier states no price, or none for what was served.",
    *_CALL,
)
TTFT = _histogram(
    "ownward_ttft_seconds", "From dispatch to the first token of a streamed answer, at the gateway.", *_CALL
)
TPOT = _histogram(
    "ownward_tpot_seconds", "From the first token to the end of a stream, over its output tokens less one.", *_CALL
)
LATENCY = _histogram("ownward_latency_seconds", "From dispatch to the end of a settled answer, at the gateway.", *_CALL)
QUEUE_SECONDS = _histogram(
    "ownward_queue_seconds", "How long calls that had to wait for a place in their tier waited.", "tier"
)
OVER_BUDGET = _counter(
    "ownward_over_budget_total",
    "Calls that a budget did not admit; keys and tasks have no name of their own.",
    "kind",
    "name",
)
OVER_LIMIT = _counter(
    "ownward_over_limit_total", "Calls that a key's limit of requests or tokens did not admit.", "kind"
)
DETECTED = _counter(
    "ownward_detected_total", "Requests in which a detector found personal data, by the detector.", "kind"
)
BREAKER_OPENED = _counter(
    "ownward_breaker_opened_total", "Times that an upstream was left alone after failing.", "tier", "upstream"
)

CALL_FAILURES = _counter(
    "ownward_call_failures_total",
    "Calls that failed at an upstream, by their ownward_kind, also where another served the request.",
    "tier",
    "upstream",
    "kind",
)

COUNTED = (
    REQUESTS, REQUEST_SECONDS, ERRORS, DISCONNECTS, ATTEMPTS, RETRIES, HEDGES, TOKENS, CHARGES, UNSETTLED_CHARGES,
    BEATEN, BEATEN_USD, UNPRICED, TTFT, TPOT, LATENCY, QUEUE_SECONDS, OVER_BUDGET, OVER_LIMIT, DETECTED, BREAKER_OPENED,
    CALL_FAILURES,
)  # fmt: skip

IN_FLIGHT = _gauge("ownward_requests_in_flight", "Requests being served or waiting.")
SLOTS = _gauge("ownward_slots_in_use", "Calls running on a tier.", "tier")
QUEUE = _gauge("ownward_queue_requests", "Requests that wait for a place in a tier.", "tier")
CALLS_IN_FLIGHT = _gauge("ownward_calls_in_flight", "Calls running at an upstream.", "tier", "upstream")
BREAKER = _gauge("ownward_breaker_state", "0 closed, 1 half-open, 2 open.", "tier", "upstream")
UNPAID = _gauge("ownward_upstream_unpaid", "1 while it is left alone as its account has no credit.", "tier", "upstream")
USABLE = _gauge("ownward_upstream_usable", "0 where its engine is down or its key is missing.", "tier", "upstream")
BUDGET_LIMIT = _gauge("ownward_budget_limit_usd", "A workload's or tier's budget in its period.", "kind", "name")
BUDGET_SPENT = _gauge(
    "ownward_budget_spent_usd",
    "Charges of the period's settled calls: upper bounds where a charge is not known.",
    "kind",
    "name",
)
BUDGET_RESERVED = _gauge(
    "ownward_budget_reserved_usd", "Upper bounds of calls in flight and unsettled.", "kind", "name"
)
BUDGET_LEFT = _gauge(
    "ownward_budget_left_usd",
    "What is neither spent nor reserved; below 0 where unsettled calls and a lowered budget exceed it.",
    "kind",
    "name",
)
LEDGER_QUEUE = _gauge("ownward_ledger_queue_entries", "Rows waiting to be committed.")
LEDGER_FAILING = _gauge(
    "ownward_ledger_failing", "1 where the last rows could not be committed: requests are refused until rows can be."
)
STREAM_REST = _gauge(
    "ownward_stream_rest_seconds",
    "How long quick streams rest between two readings now; 0: each event goes on at once.",
)
START_TIME = _gauge("process_start_time_seconds", "When this gateway began, seconds since 1970.")
UPTIME = _gauge("ownward_uptime_seconds", "How long this gateway has run, by a clock that nobody sets.")
CPU_SECONDS = _counter("process_cpu_seconds_total", "CPU that this process has used, all threads.")
RESIDENT_BYTES = _gauge("process_resident_memory_bytes", "Memory of this process; Linux only.")

READ = (
    IN_FLIGHT, SLOTS, QUEUE, CALLS_IN_FLIGHT, BREAKER, UNPAID, USABLE, BUDGET_LIMIT, BUDGET_SPENT, BUDGET_RESERVED,
    BUDGET_LEFT, LEDGER_QUEUE, LEDGER_FAILING, STREAM_REST, START_TIME, UPTIME, CPU_SECONDS,
    RESIDENT_BYTES,
)  # fmt: skip
