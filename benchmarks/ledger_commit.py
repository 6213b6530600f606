"""What a durable intent costs: latency, requests and CPU, for both settings of durability, and the bulk rates.

    python -m benchmarks.ledger_commit [--seconds 3] [--folder DIR] [--postgres postgresql://...]

Writes benchmarks/results/ledger_commit-DATE.json. The folder decides which disk is measured. With an address, begin and
settle are measured there too, in a database that is empty and may be thrown away; its server's own CPU is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import psutil

from ownward import ledger
from ownward.ledger import Durability, Intent, Request, Settlement, TrafficRow
from ownward.pricing import Usage

RESULTS = Path(__file__).parent / "results"
CLIENTS = (1, 64)
IMPORTED_ROWS = 200_000
USAGE = Usage(input_tokens=900, output_tokens=200, cached_input_tokens=512)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to be measured")
    parser.add_argument("--postgres", help="the address of an empty database")
    arguments = parser.parse_args()
    now = datetime.now(UTC)
    figures: dict[str, Any] = {
        "schema": "ownward.benchmark/1",
        "benchmark": "ledger_commit",
        "measured_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": machine_facts(arguments.folder),
        "begin_and_settle": [],
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures["machine"]["fsync_s"] = measure_fsync(Path(folder) / "probe")
        for durability in get_args(Durability):
            for clients in CLIENTS:
                path = Path(folder) / f"{durability}-{clients}.db"
                row = measure_commits(path, durability, clients, arguments.seconds)
                figures["begin_and_settle"].append(row)
                print(json.dumps(row))
        if arguments.postgres:
            for clients in CLIENTS:
                row = {"store": "postgresql"} | measure_commits(
                    arguments.postgres, "process", clients, arguments.seconds
                )
                figures["begin_and_settle"].append(row)
                print(json.dumps(row))
        figures["bulk"] = measure_bulk(Path(folder) / "bulk.db")
        print(json.dumps(figures["bulk"]))
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"ledger_commit-{now.date()}.json"
    result.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {result}")


def machine_facts(folder: Path) -> dict[str, Any]:
    """Return what the figures hang on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    mounts = [part for part in psutil.disk_partitions(all=True) if str(folder).startswith(part.mountpoint)]
    return {
        "cpu": cpu,
        "cpu_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "file_system": max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else None,
        "load_average_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def measure_fsync(path: Path) -> float:
    """Return the median seconds of one 4 KiB write and flush: the floor of a commit that survives power loss."""
    times = []
    with path.open("wb") as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_commits(path: Path | str, durability: Durability, clients: int, seconds: float) -> dict[str, Any]:
    """Return rates and latencies of `begin` with `clients` at once, each settling before its next."""
    begin_s: list[float] = []
    prefix = f"{time.time_ns()}"

    async def client(book: ledger.Ledger, name: int, until: float) -> None:
        count = 0
        while (start := time.perf_counter()) < until:
            request, intent = records(f"{prefix}-{name}-{count}")
            await book.begin(request, intent)
            begin_s.append(time.perf_counter() - start)
            book.settle(settlement(request.request_id))
            count += 1

    async def run(book: ledger.Ledger) -> float:
        start = time.perf_counter()
        await asyncio.gather(*(client(book, name, start + seconds) for name in range(clients)))
        await book.flush()
        return time.perf_counter() - start

    with ledger.open(path, durability=durability) as book:
        cpu = time.process_time()
        wall_s = asyncio.run(run(book))
        cpu = time.process_time() - cpu
        commits = book.commit_count
    begin_s.sort()
    return {
        "durability": durability,
        "clients": clients,
        "requests": len(begin_s),
        "requests_per_s": round(len(begin_s) / wall_s),
        "begin_p50_s": round(begin_s[len(begin_s) // 2], 6),
        "begin_p99_s": round(begin_s[int(len(begin_s) * 0.99)], 6),
        "cpu_per_request_s": round(cpu / len(begin_s), 7),
        "requests_per_commit": round(len(begin_s) / commits, 2),
    }


def measure_bulk(path: Path) -> dict[str, Any]:
    """Return rows per second of importing, importing the same again, and reading for planning."""
    day = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    rows = [
        TrafficRow(
            source_row_id=f"row-{number}",
            started_at=datetime.fromtimestamp(day + number, UTC),
            input_tokens=number % 4096,
            output_tokens=number % 512,
            cached_input_tokens=0,
            workload=f"workload-{number % 10}",
            session=None,
            model="m",
        )
        for number in range(IMPORTED_ROWS)
    ]
    figures: dict[str, Any] = {"rows": IMPORTED_ROWS}
    with ledger.open(path) as book:
        for name in ("import_rows_per_s", "import_again_rows_per_s"):
            start = time.perf_counter()
            book.import_traffic(rows, "benchmark")
            figures[name] = round(IMPORTED_ROWS / (time.perf_counter() - start))
        start = time.perf_counter()
        assert len(book.query_traffic()) == IMPORTED_ROWS
        figures["query_traffic_rows_per_s"] = round(IMPORTED_ROWS / (time.perf_counter() - start))
    return figures


def records(name: str) -> tuple[Request, Intent]:
    """Return a request and its intent as the gateway writes them."""
    now = datetime.now(UTC)
    request = Request(
        request_id=name,
        task_id=name,
        task_basis="single",
        workload="support",
        route="gpt-4o",
        key_id="key_01",
        label="any",
        dialect="openai",
        is_stream=True,
        plan_sha256="f" * 64,
        reason="first healthy tier of the plan",
        started_at=now,
    )
    intent = Intent(
        request_id=name,
        attempt=1,
        tier="cloud",
        upstream="rented-a",
        model="gpt-4o",
        price_id="0123456789abcdef",
        input_tokens_high=4000,
        output_tokens_high=1000,
        charge_high_picousd=10**10,
        body_sha256="0" * 64,
        started_at=now,
    )
    return request, intent


def settlement(request_id: str) -> Settlement:
    """Return a settlement as the gateway writes it."""
    return Settlement(
        request_id=request_id,
        attempt=1,
        state="settled",
        settled_at=datetime.now(UTC),
        usage=USAGE,
        usage_basis="upstream",
        charge_picousd=10**9,
        upstream_request_id="chatcmpl-0123456789",
        ttft_s=0.2,
        latency_s=1.2,
        status=200,
    )


if __name__ == "__main__":
    main()
