"""Ask the endpoint for everything its own OpenAPI document allows, and for what it does not: no answer may be a fault.

    python -m benchmarks.endpoint_fuzz --cases 20000 --seed 1

schemathesis draws requests from `/openapi.json`, valid and broken ones; a real gateway answers on loopback, in front
of a fake upstream that is well, and of one that fails. Every answer must have a status, a content type and a shape
that the document states; 500 and above are only where an upstream fails, and never a fault of the gateway's own. No
answer and no log line holds a traceback. The result is written to benchmarks/results/endpoint_fuzz-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import schemathesis
from benchmarks.machine_facts import new_record, write_record
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from ownward import ledger
from ownward.engines import Cut, Failure, FakeOptions, FakeServer, Garbage
from ownward.gateway import GatewayServer, GatewaySettings
from ownward.plan import loads
from ownward.upstreams import Door

PLAN = """
schema = "ownward.plan/1"
name = "fuzzed"
default_label = "any"

[tiers.near]
kind = "owned"
model = "near-model"
engine = "llama-server"
[[tiers.near.upstreams]]
name = "near"
url = "NEAR"
first_byte_timeout_s = 2
stall_timeout_s = 1

[tiers.shaky]
kind = "rented"
model = "shaky-model"
[[tiers.shaky.upstreams]]
name = "shaky"
url = "SHAKY"
first_byte_timeout_s = 2
stall_timeout_s = 1

[workloads.chat]
label = "any"
match = { models = ["chat"] }
strategy = { kind = "direct", tiers = ["near"] }

[workloads.risky]
label = "any"
match = { models = ["risky"] }
strategy = { kind = "direct", tiers = ["shaky"] }

[workloads.careful]
label = "any"
match = { models = ["careful"] }
strategy = { kind = "vote", tiers = ["near"], options = { samples = 2, number = true } }
"""
NAMES = ("chat", "chat", "risky", "careful", "near", "near-model", None)
CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "unsupported_method", "allow_header_conformance",
)  # fmt: skip


_KEPT_ID = re.compile(rb"resp_[0-9a-f]{48}")


class Fault(AssertionError):
    """An answer that must not be."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Yield the address of a gateway that runs in a thread of its own, with its upstreams."""
    ready, addresses = threading.Event(), [""]
    loop_of: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    shaky = FakeOptions(
        failures=(Failure.parse("500:0.2"), Failure.parse("429:0.2")),
        cuts=(Cut.parse("2:close:0.2"),),
        garbage=(Garbage.parse("json:0.1"),),
    )

    async def main(folder: Path) -> None:
        ended = asyncio.Event()
        opened = ledger.open(folder / "ledger.db")
        async with FakeServer(FakeOptions(reply="it is 42")) as near, FakeServer(shaky) as failing, Door() as door:
            plan = loads(PLAN.replace("NEAR", near.base_url).replace("SHAKY", failing.base_url), file="plan.toml")
            settings = GatewaySettings(
                port=0, drain_s=1, breaker_wait_s=0.001, breaker_longest_wait_s=0.001, keep_responses_s=3600
            )
            async with GatewayServer(plan=plan, ledger=opened, door=door, settings=settings) as server:
                addresses[0] = server.base_url
                loop_of.append((asyncio.get_running_loop(), ended))
                ready.set()
                await ended.wait()
        opened.close()

    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(target=lambda: asyncio.run(main(Path(folder))))
        thread.start()
        if not ready.wait(20):
            raise RuntimeError("the gateway did not start")
        try:
            yield addresses[0]
        finally:
            loop, ended = loop_of[0]
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)


class _Log(logging.Handler):
    """Counts what must not be logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(logging.Formatter().format(record))


def fuzz(cases: int, *, first_seed: int) -> Counter[str]:
    """Return how many answers had which status; raises Fault, or what schemathesis found."""
    counts: Counter[str] = Counter()
    log = _Log()
    logging.getLogger().addHandler(log)
    try:
        with serving() as base_url, _quiet():
            document = _fetch(base_url)
            schema = schemathesis.openapi.from_dict(document)
            operations = [found.ok() for found in schema.get_all_operations()]
            kept: list[str] = []
            weights = [6 if operation.method == "post" else 1 for operation in operations]
            each = cases / sum(weights)
            for operation, weight in zip(operations, weights, strict=True):
                for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                    most = max(4, round(each * weight / 2))
                    _fuzz_one(operation, mode, base_url, counts, kept, most=most, at=first_seed)
    finally:
        logging.getLogger().removeHandler(log)
    if log.lines:
        raise Fault(f"{len(log.lines)} errors were logged, the first: {log.lines[0][:2000]}")
    return counts


def _name_kept(case: Any, number: int, kept: list[str]) -> None:
    """Have about two of three cases that can name a response name one that was kept, which may be deleted by now."""
    if not kept or number % 3 == 0:
        return
    if isinstance(case.path_parameters, dict) and "response" in case.path_parameters:
        case.path_parameters["response"] = kept[number % len(kept)]
    elif case.operation.path == "/v1/responses" and isinstance(case.body, dict) and number % 3 == 1:
        case.body["previous_response_id"] = kept[number % len(kept)]


def _fuzz_one(
    operation: Any, mode: Any, base_url: str, counts: Counter[str], kept: list[str], *, most: int, at: int
) -> None:
    faults: list[str] = []
    checks = schemathesis.checks.CHECKS.get_by_names(list(CHECKS))

    @settings(
        max_examples=most, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,), print_blob=False,
    )  # fmt: skip
    @seed(at)
    @given(
        case=operation.as_strategy(generation_mode=mode), name=st.sampled_from(NAMES), number=st.integers(0, 1 << 20)
    )
    def ask(case: Any, name: str | None, number: int) -> None:
        _name_kept(case, number, kept)
        if name is not None and isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = name
            if case.headers:
                for header in ("x-ownward-tier", "x-ownward-workload"):
                    case.headers.pop(header, None)
        answer = case.call(base_url=base_url, timeout=20)
        counts[f"{answer.status_code}"] += 1
        counts["requests"] += 1
        if (found := _KEPT_ID.search(answer.content)) is not None and operation.path == "/v1/responses":
            kept.append(found[0].decode())
        if "{response}" in operation.path:
            counts[f"{operation.label} answered {answer.status_code}"] += 1
        what = f"{operation.label} answered {answer.status_code}: {answer.content[:600]!r}"
        if answer.status_code >= 500 and name != "risky":
            faults.append(what)
        if operation.path != "/openapi.json" and any(
            word in answer.content for word in (b"Traceback", b"Exception", b"internal_error")
        ):
            faults.append(what)
        try:
            case.validate_response(answer, checks=checks)
        except Exception as error:  # noqa: BLE001 - told at the end: upstreams fail by chance, and would not again
            faults.append(f"{what}: {error}")

    try:
        ask()
    except Exception as error:
        if "no examples" in str(error).lower() or "Unsatisfiable" in type(error).__name__:
            counts[f"nothing {mode.value} to ask of {operation.label}"] += 1
            return
        raise
    if faults:
        raise Fault(f"{len(faults)} of {operation.label}, the first: {faults[0]}")


def _fetch(base_url: str) -> dict[str, Any]:
    import requests  # noqa: TID251 - a client of the gateway, not the gateway

    answer = requests.get(f"{base_url}/openapi.json", timeout=10)
    found: dict[str, Any] = answer.json()
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Ask, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record, start_s, fault = new_record("endpoint_fuzz"), time.perf_counter(), None
    counts: Counter[str] = Counter()
    try:
        counts = fuzz(options.cases, first_seed=options.seed)
    except Exception as error:  # noqa: BLE001 - whatever did not hold is the result
        fault = f"{type(error).__name__}: {error}"
    record |= {
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start_s, 1),
        "answers": dict(sorted(counts.items())),
        "what_did_not_hold": fault,
    }
    print(json.dumps(record, indent=1))
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)
    sys.exit(1 if fault else 0)


if __name__ == "__main__":
    main()
