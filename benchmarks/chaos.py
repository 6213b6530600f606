"""Break everything around a gateway, and the gateway itself, while requests run; then compare its ledger.

    python -m benchmarks.chaos --requests 50000        # some minutes; writes results/chaos-DATE.json
    python -m benchmarks.chaos --requests 2000 --out /dev/stdout

Real processes: three counting fakes (one stays healthy; two answer 429, 500 and garbage, stall, cut, and are killed
with SIGKILL; their calls get second ones at the others once they are late), `ownward serve`, whose plan is reloaded and
which is killed with SIGKILL twice, and this process as the clients, streaming and not, in OpenAI's and Anthropic's
dialects. What must hold:

- a request whose first byte had not been sent and whose gateway lived does not fail, as a healthy upstream is left;
- a stream that is cut ends with an error event in its client's dialect;
- every call that an upstream accepted has exactly one intent;
- a settled row says what the upstream counted, an unsettled row's bounds contain it, a failed row was charged nothing.
"""

# ruff: noqa: ASYNC110 - what happens in other processes is polled

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.light_client import is_whole, run_on_light_loop
from benchmarks.machine_facts import new_record, write_record
from benchmarks.serving import start_serving

from ownward import ledger
from ownward.engines import Cut, Failure, FakeOptions, FakeProcess, Garbage, OutputLength, Stall, run_fake
from ownward.plan import loads
from ownward.pricing import Price, Usage

FAKES = ("wild", "odd", "steady")
_LENGTHS = OutputLength.parse("2-24")
_CALM = FakeOptions(ttft_s=0.002, tpot_s=0.001, output_tokens=_LENGTHS, kept_calls=1, kept_requests=1)
MOODS: dict[str, FakeOptions] = {
    "calm": _CALM,
    "refusing": dataclasses.replace(
        _CALM, failures=(Failure.parse("500:0.2"), Failure.parse("429:0.15"), Failure.parse("503:0.1"))
    ),
    "down": dataclasses.replace(_CALM, failures=(Failure.parse("500"),)),
    "busy": dataclasses.replace(_CALM, failures=(Failure.parse("429"),), retry_after_s=1),
    "cutting": dataclasses.replace(
        _CALM, cuts=(Cut.parse("first:reset:0.1"), Cut.parse("2:close:0.1"), Cut.parse("5:reset:0.1"))
    ),
    "stalling": dataclasses.replace(_CALM, stalls=(Stall.parse("first:20:0.03"), Stall.parse("2:20:0.03"))),
    "garbled": dataclasses.replace(_CALM, garbage=(Garbage.parse("json:0.2"), Garbage.parse("sse:0.2"))),
}
_TIER = """
[tiers.{name}-{dialect}]
kind = "rented"
model = "fake-model"
provider = "fake"
region = "eu"

[tiers.{name}-{dialect}.price]
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
basis = "assumed"
source = "benchmark"
checked_on = 2026-11-21

{hedge}
[[tiers.{name}-{dialect}.upstreams]]
name = "{name}-{dialect}"
url = "{url}"
dialect = "{dialect}"
first_byte_timeout_s = {timeout_s}
stall_timeout_s = {timeout_s}
"""
_HEDGE = """
[tiers.{name}-{dialect}.hedge]
after_s = 0.1
max_fraction = 0.2
to = ["wild-{dialect}", "odd-{dialect}", "steady-{dialect}"]
"""
_WORKLOAD = """
[workloads.{dialect}]
label = "any"
match = {{ models = ["{dialect}"] }}
strategy = {{ kind = "direct", tiers = ["{first}-{dialect}"] }}
fallback = ["{second}-{dialect}", "steady-{dialect}"]
"""
_SHORT_S, _LONG_S = 0.5, 60.0
_CLIENT_S = 90.0
_ENDINGS = {"openai": b"data: [DONE]", "anthropic": b"event: message_stop"}
_ERRORS = {"openai": b'data: {"error"', "anthropic": b"event: error"}


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the clients saw; `faults` is what must not be."""

    asked: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)


class Site:
    """The processes, and the hand that breaks them."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        """Start everything and wait until the gateway accepts requests."""
        self.folder = folder
        self.rng = random.Random(seed)
        self.port = _free_port()
        self.lives = 0
        self.is_up = False
        self._order = ["wild", "odd"]
        self._ports = {name: _free_port() for name in FAKES}
        (folder / "ownward.toml").write_text("")
        self.fakes = {name: self._start_fake(name) for name in FAKES}
        self._write_plan()
        self.start_gateway()

    def _start_fake(self, name: str) -> FakeProcess:
        count_file = self.folder / f"{name}.jsonl"
        return run_fake(dataclasses.replace(_CALM, port=self._ports[name], count_file=count_file))

    def _write_plan(self) -> None:
        text = 'schema = "ownward.plan/1"\nname = "chaos"\n'
        for dialect in _ENDINGS:
            for name, fake in self.fakes.items():
                timeout_s = _LONG_S if name == "steady" else _SHORT_S
                hedge = "" if name == "steady" else _HEDGE.format(name=name, dialect=dialect)
                url = fake.base_url
                text += _TIER.format(name=name, dialect=dialect, url=url, timeout_s=timeout_s, hedge=hedge)
            text += _WORKLOAD.format(dialect=dialect, first=self._order[0], second=self._order[1])
        part = self.folder / "plan.part"
        part.write_text(text)
        part.replace(self.folder / "plan.toml")

    def start_gateway(self) -> None:
        """Start `ownward serve` on the plan and the ledger, at the same port each time."""
        self.gateway, _ = start_serving(self.folder, "--config", "ownward.toml", "--port", str(self.port))
        self.is_up = True

    def kill_gateway(self) -> None:
        """Kill it as the kernel would, and start it again."""
        self.is_up = False
        self.lives += 1
        self.gateway.kill()
        self.gateway.wait()
        self.start_gateway()

    def reload_plan(self) -> None:
        """Change the order of the tiers and have the plan read again."""
        self._order.reverse()
        self._write_plan()
        self.gateway.send_signal(signal.SIGHUP)

    def kill_fake(self, name: str) -> None:
        """Kill a fake as the kernel would, and start it again a moment later."""
        self.fakes[name].kill()
        self.fakes[name].stop()
        time.sleep(self.rng.uniform(0, 0.5))
        self.fakes[name] = self._start_fake(name)

    def break_something(self) -> str:
        """Do one thing to something and return its name."""
        name = self.rng.choice(("wild", "odd"))
        match self.rng.choice(("mood", "mood", "mood", "kill", "reload")):
            case "mood":
                mood = self.rng.choice(list(MOODS))
                self.fakes[name].set_options(MOODS[mood])
                return mood
            case "kill":
                self.kill_fake(name)
                return "killed"
            case _:
                self.reload_plan()
                return "reloaded"

    def stop(self) -> None:
        """Let the gateway drain, and stop everything."""
        if self.gateway.poll() is None:
            self.gateway.terminate()
            try:
                self.gateway.wait(60)
            except subprocess.TimeoutExpired:
                self.gateway.kill()
                self.gateway.wait()
        for fake in self.fakes.values():
            fake.stop()


async def run_clients(site: Site, seen: Seen, *, requests: int, at_once: int, kills: int) -> None:
    """Send `requests` requests, `at_once` at a time, while things break, the gateway `kills` times among them."""

    async def worker(seed: int) -> None:
        rng = random.Random(seed)
        while seen.asked < requests:
            seen.asked += 1
            await ask(site, seen, rng)

    async def breaker() -> None:
        left = [requests * (index + 1) // (kills + 1) for index in range(kills)]
        while True:
            await asyncio.sleep(site.rng.uniform(0.3, 1.5))
            if left and seen.asked >= left[0]:
                left.pop(0)
                seen.events["gateway killed"] += 1
                await asyncio.to_thread(site.kill_gateway)
            else:
                seen.events[await asyncio.to_thread(site.break_something)] += 1

    breaking = asyncio.create_task(breaker())
    await asyncio.gather(*(worker(seed) for seed in range(at_once)))
    breaking.cancel()
    await asyncio.gather(breaking, return_exceptions=True)


async def ask(site: Site, seen: Seen, rng: random.Random) -> None:
    """Send one request on a connection of its own and judge how it ended."""
    dialect = "anthropic" if rng.random() < 0.3 else "openai"
    is_stream = rng.random() < 0.6
    leaves_after_s = rng.uniform(0, 0.05) if rng.random() < 0.03 else None
    while not site.is_up:
        await asyncio.sleep(0.02)
    began = (site.lives, True)
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    except OSError:
        return _note(site, seen, began, "not connected", answer)
    try:
        writer.write(_request(dialect, rng, is_stream=is_stream))
        async with asyncio.timeout(leaves_after_s or _CLIENT_S):
            while not is_whole(answer):
                part = await reader.read(65536)
                if not part:
                    break
                answer += part
    except TimeoutError:
        end = "no end in 90 s" if leaves_after_s is None else "left"
        return _note(site, seen, began, end, answer)
    except OSError:
        pass
    finally:
        writer.close()
    return _note(site, seen, began, judge(answer, dialect, is_stream=is_stream), answer)


def _request(dialect: str, rng: random.Random, *, is_stream: bool) -> bytes:
    body = json.dumps(
        {
            "model": dialect,
            "messages": [{"role": "user", "content": "Tell me of the sea, please. " * rng.randint(1, 20)}],
            "max_tokens": rng.randint(1, 32),
            "stream": is_stream,
        }
    ).encode()
    path, more = ("/v1/messages", b"anthropic-version: 2023-06-01\r\n")
    if dialect == "openai":
        path, more = "/v1/chat/completions", b""
    head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return head.encode() + more + b"content-length: %d\r\n\r\n" % len(body) + body


def judge(answer: bytes, dialect: str, *, is_stream: bool) -> str:
    """Return how an answer ended: `whole`, `cut visibly`, `cut silently`, `no answer` or its status."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return "no answer"
    status = head.split()[1].decode()
    if status != "200":
        return f"status {status}"
    if not is_stream:
        try:
            json.loads(body)
        except ValueError:
            return "cut silently" if is_whole(answer) else "cut off"
        return "whole"
    if _ENDINGS[dialect] in body:
        return "whole"
    if _ERRORS[dialect] in body:
        return "cut visibly"
    return "cut silently" if is_whole(answer) else "cut off"


_HARMLESS = {"whole", "cut visibly", "left"}
_BY_A_KILL = {"not connected", "no answer", "cut off"}


def _note(site: Site, seen: Seen, began: tuple[int, bool], end: str, answer: bytes) -> None:
    if end in _BY_A_KILL and (began != (site.lives, True) or not site.is_up):
        end = "gateway was killed"
    seen.ends[end] += 1
    if end not in _HARMLESS and end != "gateway was killed":
        seen.faults.append(f"a client saw {end}: {answer[:800].decode('latin-1')}")


def read_calls(folder: Path, names: Sequence[str]) -> tuple[dict[tuple[str, str], dict[str, Any]], list[str]]:
    """Return each accepted call by request and attempt, and what is wrong with them.

    A call is as it ended, or, where its fake was killed, as it began.
    """
    calls: dict[tuple[str, str], dict[str, Any]] = {}
    faults = []
    for name in names:
        for line in (folder / f"{name}.jsonl").read_text().splitlines():
            call = json.loads(line)
            key = (call["request_id"], call["attempt"])
            if call["event"] == "accepted" and key in calls:
                faults.append(f"the upstreams accepted {key} twice")
            calls[key] = call
    return calls, faults


def compare(rows: list[dict[str, Any]], calls: dict[tuple[str, str], dict[str, Any]], price: Price) -> list[str]:
    """Return where the ledger and the upstreams' own count differ."""
    by_id = {(row["request_id"], str(row["attempt"])): row for row in rows}
    faults = [] if len(by_id) == len(rows) else ["an intent stands twice"]
    faults += [f"no intent for accepted call {key}" for key in calls if key not in by_id]
    for key, row in by_id.items():
        found = compare_row(row, calls.get(key), price)
        if found:
            faults.append(f"{row['state']} row {key}: {found}; {calls.get(key)}")
    return faults


def compare_row(row: dict[str, Any], call: dict[str, Any] | None, price: Price) -> str | None:
    """Return what is wrong with a row; None where it agrees with the upstream."""
    is_over = call is not None and call["event"] == "ended"
    truth = Decimal(0)
    if call is not None and is_over and call["state"] != "refused":
        usage = Usage(input_tokens=call["input_tokens"], output_tokens=call["output_tokens"])
        truth = price.compute_charge_usd(usage)
    match row["state"]:
        case "settled":
            if call is None:
                return "was never accepted"
            told = (call["reported_input_tokens"], call["reported_output_tokens"])
            if is_over and ((row["input_tokens"], row["output_tokens"]) != told or Decimal(row["charge_usd"]) != truth):
                return f"says {row['input_tokens']}, {row['output_tokens']}, {row['charge_usd']}"
        case "unsettled":
            if not Decimal(row["charge_low_usd"]) <= truth <= Decimal(row["charge_high_usd"]):
                return f"{truth} is outside {row['charge_low_usd']} to {row['charge_high_usd']}"
        case "failed":
            if truth or (call is not None and not is_over):
                return f"may have been charged {truth}"
        case "refused":
            return None
        case other:
            return f"the state {other} is left by no gateway that ended"
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run, compare, write; the exit code is 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--kills", type=int, default=2, help="of the gateway")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    record, seen, start_s = new_record("chaos"), Seen(), time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        site = Site(folder, seed=options.seed)
        try:
            run_on_light_loop(
                lambda: run_clients(site, seen, requests=options.requests, at_once=options.at_once, kills=options.kills)
            )
        finally:
            site.stop()
        calls, faults = read_calls(folder, FAKES)
        plan = loads((folder / "plan.toml").read_text(), file="plan.toml")
        price = plan.tiers["steady-openai"].price
        assert price is not None
        with ledger.open(folder / "ledger.db") as opened:
            rows = list(opened.export_rows())
            noted = list(opened.query_requests())
        faults += seen.faults + compare(rows, calls, price)
        log = (folder / "gateway.log").read_text(errors="replace")
    record |= {
        "requests": seen.asked,
        "at_once": options.at_once,
        "seed": options.seed,
        "retries": "as by default",
        "seconds": round(time.perf_counter() - start_s, 1),
        "what_was_done": dict(sorted(seen.events.items())),
        "how_requests_ended": dict(seen.ends.most_common()),
        "calls_accepted_by_upstreams": len(calls),
        "calls_cut_by_killed_upstreams": sum(call["event"] != "ended" for call in calls.values()),
        "how_calls_ended": dict(Counter(call["state"] for call in calls.values())),
        "second_calls": sum(row.is_hedge for row in noted),
        "second_calls_that_answered_first": sum(
            row.is_hedge and row.state == "settled" and not row.is_beaten for row in noted
        ),
        "beaten_calls": sum(row.is_beaten for row in noted),
        "ledger_rows": dict(Counter(row["state"] for row in rows)),
        "tracebacks_in_log": log.count("Traceback"),
        "faults_count": len(faults),
        "faults": faults[:40],
    }
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    print(json.dumps({key: value for key, value in record.items() if key != "faults"}, indent=1))
    print("\n".join(faults[:10]), file=sys.stderr)
    if log:
        print(f"the gateway's log ends: {log[-1500:]}", file=sys.stderr)
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
