"""Kill a gateway with SIGKILL under 200 concurrent streams, again and again, and compare its ledger with the upstream.

    python -m benchmarks.kill --rounds 50 --streams 200

Real processes: a counting fake upstream, a gateway, and this one as the clients. Prints one JSON object.
What must hold: every call the upstream accepted has exactly one intent; settled rows equal what the upstream
reported; unsettled rows' bounds contain what it charges; nothing else is listed as charged; nothing stays running.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.serving import wait_until_ready

from ownward import ledger
from ownward.engines import FakeOptions, FakeProcess, OutputLength, run_fake
from ownward.plan import Plan, loads
from ownward.pricing import Usage

PLAN = """
schema = "ownward.plan/1"
name = "kill"
default_label = "any"

[tiers.metered]
kind = "rented"
model = "fake-model"
provider = "fake"
region = "eu"

[tiers.metered.price]
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
basis = "assumed"
source = "benchmark"
checked_on = 2026-11-21

[[tiers.metered.upstreams]]
name = "counting"
url = "{url}"

[workloads.chat]
label = "any"
strategy = {{ kind = "direct", tiers = ["metered"] }}
"""

GATEWAY = """
import pathlib, sys
from ownward import ledger, plan
from ownward.gateway import GatewaySettings, serve_app
folder = pathlib.Path(sys.argv[1])
with ledger.open(folder / "ledger.db") as opened:
    serve_app(
        plan=plan.loads((folder / "plan.toml").read_text(), file="plan.toml"),
        ledger=opened,
        settings=GatewaySettings(port=0, ready_file=folder / "ready.json"),
    )
"""

BODY = json.dumps(
    {
        "model": "chat",
        "stream": True,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Tell me of the sea, and of the ships that sail on it. " * 4}],
    }
).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
) + BODY

READY_S = 30.0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What one round showed; `faults` is empty where everything held."""

    killed_after_s: float
    accepted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run_round(folder: Path, *, seed: int, streams: int = 200, longest_s: float = 2.0) -> Verdict:
    """Run one round in an empty folder and return what was found."""
    rng = random.Random(seed)
    verdict = Verdict(killed_after_s=rng.uniform(0.02, longest_s))
    options = FakeOptions(
        ttft_s=0.05, tpot_s=0.04, output_tokens=OutputLength.parse("2-24"), count_file=folder / "count.jsonl", seed=seed
    )
    with run_fake(options) as fake:
        (folder / "plan.toml").write_text(PLAN.format(url=fake.base_url))
        gateway = start_gateway(folder)
        try:
            base_url = wait_until_ready(folder / "ready.json", gateway)
            is_at_work = functools.partial(has_lines, folder / "count.jsonl")
            asyncio.run(
                load_and_kill(base_url, gateway.pid, streams=streams, after_s=verdict.killed_after_s, begun=is_at_work)
            )
        finally:
            gateway.kill()
            gateway.wait()
        wait_until_idle(fake)
        calls = fake.count()["calls"]
    plan = loads((folder / "plan.toml").read_text(), file="plan.toml")
    with ledger.open(folder / "ledger.db") as opened:
        rows = list(opened.export_rows())
    compare(verdict, calls, rows, plan)
    return verdict


def start_gateway(folder: Path) -> subprocess.Popen[bytes]:
    """Start a gateway of its own on `folder`'s plan and ledger."""
    return subprocess.Popen([sys.executable, "-c", GATEWAY, str(folder)], start_new_session=True)


def wait_until_idle(fake: FakeProcess) -> None:
    """Wait until the upstream has noticed that its caller is gone."""
    deadline = time.monotonic() + READY_S
    while fake.count(with_calls=False)["serving"] and time.monotonic() < deadline:
        time.sleep(0.02)


def has_lines(file: Path) -> bool:
    """Return whether anything was written to a file."""
    return file.exists() and file.stat().st_size > 0


async def load_and_kill(base_url: str, pid: int, *, streams: int, after_s: float, begun: Callable[[], bool]) -> None:
    """Keep `streams` requests running, and kill the gateway `after_s` seconds after the upstream has begun its work."""
    host, port = base_url.removeprefix("http://").split(":")
    clients = [asyncio.create_task(_ask_until_cut(host, int(port))) for _ in range(streams)]
    deadline = time.monotonic() + READY_S
    while not begun() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's file can only be looked at
        await asyncio.sleep(0.01)
    await asyncio.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*clients)


async def _ask_until_cut(host: str, port: int) -> None:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return
    try:
        while True:
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"0\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


def compare(verdict: Verdict, calls: list[dict[str, Any]], rows: list[dict[str, Any]], plan: Plan) -> None:
    """Hold the ledger's rows against the upstream's own count."""
    price = plan.tiers["metered"].price
    assert price is not None
    verdict.accepted = len(calls)
    verdict.states = Counter(row["state"] for row in rows)
    by_id = {(row["request_id"], str(row["attempt"])): row for row in rows}
    served = {(call["request_id"], call["attempt"]): call for call in calls}
    faults = verdict.faults
    if len(by_id) != len(rows):
        faults.append("an intent stands twice")
    if len(served) != len(calls):
        faults.append("the upstream was called twice for one attempt")
    faults += [f"no intent for accepted call {key}" for key in served if key not in by_id]
    for key, row in by_id.items():
        call = served.get(key)
        truth = Decimal(0)
        if call is not None:
            usage = Usage(input_tokens=call["input_tokens"], output_tokens=call["output_tokens"])
            truth = price.compute_charge_usd(usage)
        faults += _compare_row(row, call, truth)


def _compare_row(row: dict[str, Any], call: dict[str, Any] | None, truth: Decimal) -> list[str]:
    name = f"{row['state']} row {row['request_id']}"
    match row["state"]:
        case "settled":
            if call is None or call["state"] != "completed":
                return [f"{name} is no completed call of the upstream"]
            reported = (call["reported_input_tokens"], call["reported_output_tokens"])
            if (row["input_tokens"], row["output_tokens"]) != reported or Decimal(row["charge_usd"]) != truth:
                return [f"{name} says {row}, the upstream {call}"]
        case "unsettled":
            if not Decimal(row["charge_low_usd"]) <= truth <= Decimal(row["charge_high_usd"]):
                return [f"{name}: {truth} is outside {row['charge_low_usd']} to {row['charge_high_usd']}"]
        case "failed":
            if call is not None:
                return [f"{name} was accepted by the upstream"]
        case other:
            return [f"{name}: a dead gateway leaves no row in the state {other}"]
    return []


def main() -> None:
    """Run the rounds and print what they showed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    totals: Counter[str] = Counter()
    faults: list[str] = []
    for index in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            verdict = run_round(Path(folder), seed=arguments.seed + index, streams=arguments.streams)
        totals.update(verdict.states)
        totals["accepted"] += verdict.accepted
        faults += verdict.faults
        print(f"round {index}: killed after {verdict.killed_after_s:.2f} s, {dict(verdict.states)}", file=sys.stderr)
    record = {"schema": "ownward.kill_benchmark/1", "rounds": arguments.rounds, "streams": arguments.streams}
    print(json.dumps({**record, **totals, "faults": faults}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
