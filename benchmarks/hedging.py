"""What a second call beside a late one brings, and what it costs: two upstreams, one of which stalls now and then.

    python -m benchmarks.hedging                    # about two minutes; writes results/hedging-DATE.json
    python -m benchmarks.hedging --requests 400 --out /dev/stdout

Real processes: two counting fakes of one owned tier, `ownward serve`, and this process as the clients, which ask for
streams in an open loop. The arms differ in the tier's `hedge` alone and take turns, each with a gateway and a ledger of
its own. What must hold in each: as many intents as calls that the fakes accepted, settled rows as the fakes counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.light_client import run_on_light_loop
from benchmarks.machine_facts import new_record, write_record
from benchmarks.serving import start_serving

from ownward import ledger
from ownward.engines import FakeOptions, FakeProcess, OutputLength, Stall, run_fake
from ownward.plan import loads
from ownward.pricing import Usage

_CALM = FakeOptions(ttft_s=0.02, tpot_s=0.002, output_tokens=OutputLength.parse("8-24"))
_STALL_S = 1.0
_RARE = Stall.parse(f"first:{_STALL_S}:0.04")
_ALWAYS = Stall.parse(f"first:{_STALL_S}")
ARMS = {
    "none": ("", _RARE),
    "after 150 ms": ("hedge = { after_s = 0.15 }", _RARE),
    "after the 95th percentile": ("hedge = { after_percentile = 95 }", _RARE),
    "after that, not before 50 ms": ("hedge = { after_percentile = 95, after_s = 0.05 }", _RARE),
    "none, one upstream stalls always": ("", _ALWAYS),
    "after 150 ms, one upstream stalls always": ("hedge = { after_s = 0.15 }", _ALWAYS),
}
"""By name: the tier's hedge, at its default share of 5%, and how one of the two upstreams stalls."""

_PLAN = """
schema = "ownward.plan/1"
name = "hedging"
[tiers.own]
kind = "owned"
model = "fake-model"
engine = "adopted"
balance = "least_busy"
{hedge}
price = {{ input_usd_per_mtok = "3", output_usd_per_mtok = "15", basis = "assumed", source = "benchmark", \
checked_on = 2026-11-21 }}
upstreams = [{{ name = "odd", url = "{odd}" }}, {{ name = "steady", url = "{steady}" }}]
[workloads.chat]
strategy = {{ tiers = ["own"] }}
"""
_BODY = json.dumps(
    {
        "model": "chat",
        "stream": True,
        "max_tokens": 32,
        "messages": [{"role": "user", "content": "Tell me of the sea, and of the ships that sail on it. " * 4}],
    }
).encode()
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_FIRST_EVENT = b'"content"'


@dataclass(slots=True)
class Seen:
    """What the clients saw, and what must not be."""

    first_byte_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


async def ask(port: int, seen: Seen) -> None:
    """Ask for one stream on a connection of its own; note when its first content came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s, answer, first_s = time.perf_counter(), b"", None
    writer.write(_REQUEST)
    while part := await reader.read(65536):
        answer += part
        if first_s is None and _FIRST_EVENT in answer:
            first_s = time.perf_counter() - began_s
    writer.close()
    if first_s is None or b"data: [DONE]" not in answer or answer.count(b"[DONE]") != 1:
        seen.faults.append(f"an answer is not whole: {answer[:300].decode('latin-1')}")
    else:
        seen.first_byte_s.append(first_s)


async def run_clients(port: int, *, requests: int, per_s: float, seed: int) -> Seen:
    """Send requests at random moments, `per_s` a second on the average, whatever becomes of those before."""
    rng, seen, tasks = random.Random(seed), Seen(), []
    for _ in range(requests):
        tasks.append(asyncio.create_task(ask(port, seen)))
        await asyncio.sleep(rng.expovariate(per_s))
    await asyncio.gather(*tasks)
    return seen


def run_arm(hedge: str, stall: Stall, *, requests: int, per_s: float, seed: int) -> dict[str, Any]:
    """Return what one arm came to, in a folder of its own."""
    from dataclasses import replace

    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        odd = run_fake(replace(_CALM, stalls=(stall,), seed=seed))
        steady = run_fake(replace(_CALM, seed=seed + 1))
        try:
            text = _PLAN.format(hedge=hedge, odd=odd.base_url, steady=steady.base_url)
            (folder / "plan.toml").write_text(text)
            gateway, base_url = start_serving(folder)
            port = int(base_url.rpartition(":")[2])
            try:
                seen = run_on_light_loop(lambda: run_clients(port, requests=requests, per_s=per_s, seed=seed))
            finally:
                gateway.terminate()
                gateway.wait(60)
            calls = [call for fake in (odd, steady) for call in _calls_of(fake)]
        finally:
            odd.stop()
            steady.stop()
        plan = loads(text)
        with ledger.open(folder / "ledger.db") as opened:
            rows = list(opened.query_requests())
    return sum_up(seen, calls, rows, plan.tiers["own"].price)


def _calls_of(fake: FakeProcess) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + 10
    while fake.count()["serving"] and time.monotonic() < deadline_s:
        time.sleep(0.05)
    calls: list[dict[str, Any]] = fake.count()["calls"]
    return calls


def sum_up(seen: Seen, calls: Sequence[dict[str, Any]], rows: Sequence[Any], price: Any) -> dict[str, Any]:
    """Return an arm's figures; `faults` is empty where everything held."""
    by_id = {(call["request_id"], str(call["attempt"])): call for call in calls}
    faults = list(seen.faults)
    sent = {(row.request_id, str(row.attempt)): row for row in rows}
    faults += [f"no intent for accepted call {key}" for key in by_id if key not in sent]
    truth = {key: _charge(call, price) for key, call in by_id.items()}
    wanted = Decimal(0)
    for key, row in sent.items():
        charged = truth.get(key, Decimal(0))
        if row.state == "settled" and row.charge_usd != charged:
            faults.append(f"{key} is settled at {row.charge_usd} and was {charged}")
        elif row.state == "unsettled" and not 0 <= charged * 10**12 <= row.charge_high_picousd:
            faults.append(f"{key} is outside its bounds")
        if not row.is_beaten:
            wanted += charged
    beaten = [key for key, row in sent.items() if row.is_beaten]
    extra = sum((truth.get(key, Decimal(0)) for key in beaten), Decimal(0))
    bound = sum(sent[key].charge_high_picousd or 0 for key in beaten) / 10**12
    requests = len({row.request_id for row in rows})
    hedges = sum(row.is_hedge for row in rows)
    return {
        "requests": requests,
        "first_byte_p50_s": quantile(seen.first_byte_s, 0.5),
        "first_byte_p95_s": quantile(seen.first_byte_s, 0.95),
        "first_byte_p99_s": quantile(seen.first_byte_s, 0.99),
        "first_byte_highest_s": quantile(seen.first_byte_s, 1),
        "second_calls": hedges,
        "second_calls_fraction": round(hedges / requests, 4),
        "second_calls_that_answered_first": sum(row.is_hedge and not row.is_beaten for row in rows),
        "extra_charge_fraction": round(float(extra / wanted), 5),
        "extra_charge_bound_fraction": round(bound / float(wanted), 4),
        "calls_accepted_by_upstreams": len(by_id),
        "faults_count": len(faults),
        "faults": faults[:10],
    }


def _charge(call: dict[str, Any], price: Any) -> Decimal:
    if call["state"] == "refused":
        return Decimal(0)
    charge: Decimal = price.compute_charge_usd(
        Usage(input_tokens=call["input_tokens"], output_tokens=call["output_tokens"])
    )
    return charge


def quantile(seconds: Sequence[float], fraction: float) -> float:
    """Return the nearest rank.

    >>> quantile([3.0, 1.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(seconds)
    return round(ordered[min(int(len(ordered) * fraction), len(ordered) - 1)], 4)


_COLUMNS = (
    ("first byte p50", "first_byte_p50_s"), ("p95", "first_byte_p95_s"), ("p99", "first_byte_p99_s"),
    ("slowest", "first_byte_highest_s"),
)  # fmt: skip


def table(record: dict[str, Any]) -> str:
    """Return the arms as a table in Markdown: the first round of each."""
    heads = (
        "hedge",
        ", ".join(name for name, _ in _COLUMNS),
        "second calls",
        "of them first",
        "extra charge",
        "at most",
    )
    lines = [f"| {' | '.join(heads)} |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, rounds in record["arms"].items():
        said = rounds[0]
        times = " / ".join(f"{1000 * said[key]:,.0f}" for _, key in _COLUMNS)
        lines.append(
            f"| {name} | {times} ms | {100 * said['second_calls_fraction']:.1f}% |"
            f" {said['second_calls_that_answered_first']} of {said['second_calls']} |"
            f" {100 * said['extra_charge_fraction']:.1f}% | {100 * said['extra_charge_bound_fraction']:.0f}% |"
        )
    machine = record["machine"]
    where = f"{machine['cpu_cores']} cores of {machine['cpu']}"
    lines += ["", f"{record['measured_at']}, {where}, load average {machine['load_average_before']} before."]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write; the exit code is 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="of each arm in each round")
    parser.add_argument("--per-second", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    record = new_record("hedging")
    arms: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for number in range(options.rounds):
        for name, (hedge, stall) in ARMS.items():
            figures = run_arm(hedge, stall, requests=options.requests, per_s=options.per_second, seed=number + 1)
            arms[name].append(figures)
            print(name, {key: value for key, value in figures.items() if key != "faults"}, file=sys.stderr)
    record |= {"stall_s": _STALL_S, "stalls_fraction": 0.04, "per_second": options.per_second, "arms": arms}
    write_record(record, options.out)
    sys.exit(any(figures["faults_count"] for rounds in arms.values() for figures in rounds))


if __name__ == "__main__":
    main()
