"""What a gateway costs: CPU, latency and memory of ours beside nginx, TensorZero, LiteLLM and no gateway at all.

    python -m benchmarks.gateway                     # about 25 minutes; makes the others' environments on first use
    python -m benchmarks.gateway --only ownward,nginx --rounds 3 --soak 0 --open-streams 0
    python -m benchmarks.gateway --streams-only      # what events cost and how late they come; about 10 minutes

Measures five rounds of each, then 5,000 open streams, and our memory over a million requests in a gateway of its own
(`--soak-only`: that alone, into the newest record). How late an event comes
is its time from the upstream's `write` to the client that has read it: the upstream asked directly shows how much of it
is the upstream's and the client's own.

Needs two cores: the gateway has one for itself, the upstream and the load share the other. Contenders take turns
within each round and are held still (SIGSTOP) while others run. Needs `wrk` and `nginx` (Debian packages). Writes
results/gateway-DATE.json, puts its tables into docs/reference/benchmarks.md and prints them. CPU is the processor time
of the gateway's processes, kernel included, by their own clocks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import (
    Contender,
    prepare_peer,
    start_direct,
    start_litellm,
    start_nginx,
    start_ownward,
    start_pipe,
    start_tensorzero,
)
from benchmarks.light_client import (
    OneConnection,
    StreamsSeen,
    run_on_light_loop,
    run_open_loop,
    run_streams,
    run_wrk,
    times_due,
    times_of_waiting_alone,
)
from benchmarks.light_upstream import started_upstream
from benchmarks.machine_facts import RESULTS, new_record, write_record

_AT_ONCE = "ownward (each event at once)"
NAMES = ("direct", "nginx", "uvloop pipe", "ownward", _AT_ONCE, "TensorZero", "LiteLLM")
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"
AIMS = {
    "cpu_us_per_request_at_64": "at most 200",
    "added_p50_ms_at_1": "at most 0.4",
    "open_loop_p99_ms": "at most twice nginx's",
    "open_loop_even_p99_ms": "at most twice nginx's",
    "cpu_us_per_streamed_chunk": "at most 10",
    "added_first_byte_p50_ms": "at most 0.5",
    "memory_after_bytes": "under 80 MB and flat",
    "start_s": "under 1",
    "open_streams": "5,000",
}
_FIRST_EVENT = b"data: {"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Streams that run at once, each with so many events a second."""

    streams: int
    per_s: int
    seconds: float = 4.0

    @property
    def chunks(self) -> int:
        """How many events each stream has."""
        return round(self.per_s * self.seconds)

    def __str__(self) -> str:
        """Return it as a heading."""
        return f"{self.streams:,} streams x {self.per_s}/s"

    def figure(self, what: str) -> str:
        """Return the name of a figure that is of it."""
        return f"{what}_of_{self.streams}_streams_at_{self.per_s}_per_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is asked of each contender in each round."""

    closed_s: float = 3.0
    single_requests: int = 2000
    open_per_s: float = 500.0
    open_requests: int = 3000
    streams: int = 64
    chunks: int = 200
    """Of each stream whose events come as fast as they go."""
    paces: tuple[Pace, ...] = (
        Pace(streams=64, per_s=200),
        Pace(streams=64, per_s=500),
        Pace(streams=1000, per_s=30, seconds=8.0),
        Pace(streams=8, per_s=100),
    )
    """The first is what the aim is of."""
    first_byte_streams: int = 200
    rest_s: float = 3.0
    """Between the closed loop and what follows: what it left to be done (ours moves its log) is no part of that."""
    slow_below_per_s: float = 600.0
    """A contender slower than this at 64 connections gets a tenth of the requests and no open loop."""


@dataclass(slots=True)
class Measured:
    """One contender and its figures, one value a round."""

    contender: Contender
    rounds: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, **figures: float | None) -> None:
        """Keep figures of a round."""
        for name, value in figures.items():
            if value is not None:
                self.rounds.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Return the median over the rounds; None where it was not measured."""
        values = self.rounds.get(name)
        return statistics.median(values) if values else None


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(NAMES), help="contenders, with commas between them")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "ownward-bench-peers")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the ledger is written")
    parser.add_argument("--gateway-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    parser.add_argument(
        "--streams-only", action="store_true", help="nothing but what events cost and how late they are"
    )
    parser.add_argument("--open-streams", type=int, default=5000, help="0 leaves this out")
    parser.add_argument(
        "--soak", type=int, default=1_000_000, help="requests over which our memory is watched; 0: none"
    )
    parser.add_argument("--soak-only", action="store_true", help="nothing but that, into the newest record")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    only = {"direct", *options.only.split(",")}
    if options.streams_only:
        options.soak = options.open_streams = 0
    if unknown := only - set(NAMES):
        parser.error(f"no contender {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    os.sched_setaffinity(0, {options.load_core})
    sizes = Sizes()
    if options.soak_only:
        with started_upstream() as upstream:
            renew_soak(soak_alone(upstream, options))
        return
    record = new_record("gateway")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        upstream = stack.enter_context(started_upstream())
        measured = []
        for contender in start_all(only, upstream, Path(folder), options.gateway_core, options.peers):
            stack.callback(contender.stop)
            contender.pause()
            measured.append(Measured(contender))
        for index in range(options.rounds):
            for each in measured:
                with alone(each.contender):
                    if options.streams_only:
                        measure_paces(each, upstream, sizes.paces)
                    else:
                        cores = {"load_core": options.load_core, "gateway_core": options.gateway_core}
                        measure_round(each, upstream, sizes, seed=index, **cores)
            print(f"round {index + 1} of {options.rounds}: load {os.getloadavg()[0]:.2f}", file=sys.stderr)
        measure_at_the_end(measured, upstream, record, options)
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    record |= {
        "method": {
            "gateway_core": options.gateway_core,
            "load_core": options.load_core,
            "rounds": options.rounds,
            "ledger_folder": os.fspath(options.folder),
            **{name: getattr(sizes, name) for name in Sizes.__dataclass_fields__ if name != "paces"},
            "paces": [str(pace) for pace in sizes.paces],
        },
        "aims_for_ownward": AIMS,
        "results": summarise(measured),
    }
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)
    tell(record, sizes.paces, options)


def measure_at_the_end(
    measured: Sequence[Measured], upstream: int, record: dict[str, Any], options: argparse.Namespace
) -> None:
    """Measure what is measured once."""
    for each in measured:
        if each.contender.process is not None:
            each.add(memory_after_bytes=float(each.contender.memory_bytes()))
    if options.soak and any(each.contender.name == "ownward" for each in measured):
        record["soak"] = soak_alone(upstream, options)
    for each in measured:
        if options.open_streams and each.contender.name in {"ownward", "nginx"}:
            with alone(each.contender):
                measure_open_streams(each, upstream, options.open_streams)


def tell(record: dict[str, Any], paces: Sequence[Pace], options: argparse.Namespace) -> None:
    """Print the tables, and put them into the page unless the record went elsewhere."""
    tables = {"gateway": table(record), "gateway streams": table_of_streams(record, paces)}
    if options.streams_only:
        del tables["gateway"]
    for mark, text in tables.items():
        if options.out is None:
            put_into_page(text, mark)
        print(text)


def start_all(only: set[str], upstream: int, folder: Path, core: int, peers: Path) -> Iterator[Contender]:
    """Start each contender in turn; one that is not installed is named and left out."""
    for name in NAMES:
        if name not in only:
            continue
        own = folder / name
        own.mkdir()
        try:
            match name:
                case "direct":
                    yield start_direct(upstream)
                case "nginx":
                    yield start_nginx(upstream, own, core)
                case "uvloop pipe":
                    yield start_pipe(upstream, own, core)
                case "ownward":
                    yield start_ownward(upstream, own, core)
                case _ if name == _AT_ONCE:
                    yield start_ownward(upstream, own, core, name=name, settings="gather_stream_s = 0\n")
                case "TensorZero":
                    yield start_tensorzero(upstream, own, core, prepare_peer(peers, "tensorzero", "tensorzero"))
                case _:
                    yield start_litellm(upstream, own, core, prepare_peer(peers, "litellm", "litellm[proxy]"))
        except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


@contextlib.contextmanager
def alone(contender: Contender) -> Iterator[None]:
    """Let one contender run, and hold it still afterwards; no garbage is collected here meanwhile."""
    contender.go_on()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        contender.pause()


def set_pace(upstream: int, *, chunks: int, interval_s: float) -> None:
    """Tell the upstream how further streams go."""
    connection = OneConnection(upstream)
    connection.ask(f"GET /pace?{chunks}&{interval_s} HTTP/1.1\r\n\r\n".encode())
    connection.close()


def measure_round(
    measured: Measured, upstream: int, sizes: Sizes, *, seed: int, load_core: int, gateway_core: int
) -> None:
    """Measure everything once."""
    contender, address = measured.contender, measured.contender.address
    run_wrk(address, connections=64, seconds=1, cores=str(load_core))  # warm
    before_s = contender.cpu_s()
    closed = run_wrk(address, connections=64, seconds=sizes.closed_s, cores=str(load_core))
    used_s = contender.cpu_s() - before_s
    if closed["status_errors"] or closed["socket_errors"]:
        measured.notes.append(f"errors at 64 connections: {closed}")
    per_s = closed["requests"] / (closed["duration_us"] / 1e6)
    is_gateway = contender.process is not None
    measured.add(
        cpu_us_per_request_at_64=used_s / closed["requests"] * 1e6 if is_gateway else None,
        requests_per_s_at_64=per_s,
        p50_ms_at_64=closed["p50_us"] / 1e3,
        p99_ms_at_64=closed["p99_us"] / 1e3,
    )
    share = 10 if per_s < sizes.slow_below_per_s else 1
    time.sleep(sizes.rest_s)
    measure_single(measured, requests=sizes.single_requests // share)
    if share == 1:
        measure_open_loop(measured, sizes, seed=seed)
        measure_open_loop(measured, sizes, seed=seed, figures="open_loop_even", is_even=True)
        with kept_awake(gateway_core):
            measure_open_loop(measured, sizes, seed=seed, figures="open_loop_awake")
    else:
        measured.notes.append(f"no open loop at {sizes.open_per_s:g}/s: it serves {per_s:.0f}/s")
    streams = max(8, sizes.streams // share)
    measure_paces(measured, upstream, sizes.paces, share=share)
    cpu_us, _ = run_paced(measured, upstream, streams=streams, chunks=sizes.chunks, interval_s=0.0)
    measured.add(cpu_us_per_chunk_at_once=cpu_us)
    measure_first_byte(measured, upstream, streams=max(10, sizes.first_byte_streams // share))


def measure_single(measured: Measured, *, requests: int) -> None:
    """Measure latency where one request follows the other on one connection."""
    connection, request = OneConnection(measured.contender.address.port), measured.contender.address.request()
    for _ in range(requests // 10):
        connection.ask(request)
    times_s = [connection.ask(request)[0] for _ in range(requests)]
    connection.close()
    measured.add(p50_ms_at_1=_at(times_s, 0.5) * 1e3, p99_ms_at_1=_at(times_s, 0.99) * 1e3)


def measure_open_loop(
    measured: Measured, sizes: Sizes, *, seed: int, figures: str = "open_loop", is_even: bool = False
) -> None:
    """Measure latency where requests come at random or even times, whatever became of those before them."""
    contender = measured.contender
    due: dict[str, Any] = {"per_s": sizes.open_per_s, "requests": sizes.open_requests, "seed": seed, "is_even": is_even}
    before_s = contender.cpu_s()
    times_s, failed = run_on_light_loop(lambda: run_open_loop(contender.address, **due))
    cpu_s = (contender.cpu_s() - before_s) / sizes.open_requests if contender.process else None
    alone_s = None if cpu_s is None else times_of_waiting_alone(times_due(**due), cpu_s=cpu_s)
    measured.add(
        **{
            f"{figures}_p50_ms": _at(times_s, 0.5) * 1e3,
            f"{figures}_p99_ms": _at(times_s, 0.99) * 1e3,
            f"{figures}_cpu_us_per_request": None if cpu_s is None else cpu_s * 1e6,
            f"{figures}_waiting_alone_p99_ms": None if alone_s is None else _at(alone_s, 0.99) * 1e3,
        }
    )
    if failed:
        measured.notes.append(f"{failed} of {sizes.open_requests} failed in the open loop")


@contextlib.contextmanager
def kept_awake(core: int) -> Iterator[None]:
    """Keep a core from sleeping by a process that has it only while nobody else wants it.

    A core that sleeps between requests, above all a virtual one, wakes late and with cold caches; servers that are to
    answer quickly at their slowest are set up not to (`idle=poll`). What is left then is the contender's own.
    """
    spin = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        f"while os.getppid() == {os.getpid()}: sum(range(10000))"
    )
    with subprocess.Popen([sys.executable, "-c", spin]) as spinning:
        try:
            time.sleep(0.2)
            yield
        finally:
            spinning.kill()


def measure_paces(measured: Measured, upstream: int, paces: Sequence[Pace], *, share: int = 1) -> None:
    """Measure what an event costs and how late it comes at each pace; a slow contender has fewer streams."""
    for number, pace in enumerate(paces):
        cpu_us, delays_s = run_paced(
            measured,
            upstream,
            streams=max(8, pace.streams // share),
            chunks=pace.chunks,
            interval_s=1 / pace.per_s,
        )
        measured.add(**{pace.figure("cpu_us_per_chunk"): cpu_us})
        if number == 0:
            measured.add(cpu_us_per_streamed_chunk=cpu_us)
        for name, at in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
            measured.add(**{pace.figure(f"event_delay_{name}_ms"): _at(delays_s, at) * 1e3 if delays_s else None})


def run_paced(
    measured: Measured, upstream: int, *, streams: int, chunks: int, interval_s: float
) -> tuple[float | None, Sequence[float]]:
    """Return the CPU in us by the event of streams that run at once, their requests counted in, and the delays."""
    contender = measured.contender
    set_pace(upstream, chunks=chunks, interval_s=interval_s)
    seen = StreamsSeen()
    before_s = contender.cpu_s()
    run_on_light_loop(lambda: run_streams(contender.address, streams=streams, seen=seen))
    used_s = contender.cpu_s() - before_s
    if seen.whole != streams or seen.events < streams * chunks:
        what = f"{seen.asked} asked, {seen.whole} whole, {seen.events} events"
        measured.notes.append(f"streams: {what} of {streams} with {chunks} events each")
    if len(seen.delays_s) < 0.9 * streams * chunks:
        measured.notes.append(f"only {len(seen.delays_s)} of {streams * chunks} events said when they were sent")
    return (used_s / (streams * chunks) * 1e6 if contender.process is not None else None), seen.delays_s


def measure_first_byte(measured: Measured, upstream: int, *, streams: int) -> None:
    """Measure the time to the first event, one stream at a time."""
    set_pace(upstream, chunks=8, interval_s=0.0)
    connection = OneConnection(measured.contender.address.port)
    request = measured.contender.address.request(is_stream=True)
    connection.ask(request, until=_FIRST_EVENT)
    times_s = [connection.ask(request, until=_FIRST_EVENT)[0] for _ in range(streams)]
    connection.close()
    measured.add(first_byte_p50_ms=_at(times_s, 0.5) * 1e3, first_byte_p99_ms=_at(times_s, 0.99) * 1e3)


def measure_open_streams(measured: Measured, upstream: int, streams: int) -> None:
    """Hold `streams` streams open at once, one event a second each; every one must come whole."""
    contender, seen, peaks, chunks = measured.contender, StreamsSeen(), [0], 20
    set_pace(upstream, chunks=chunks, interval_s=1.0)
    before_s, before_bytes = contender.cpu_s(), contender.memory_bytes()

    async def watch() -> None:
        while True:
            peaks.append(contender.memory_bytes())
            await asyncio.sleep(0.5)

    async def run() -> None:
        watcher = asyncio.create_task(watch())
        try:
            await run_streams(contender.address, streams=streams, seen=seen)
        except TimeoutError:
            measured.notes.append("open streams: not all were over after five minutes")
        finally:
            watcher.cancel()

    run_on_light_loop(run)
    used_s = contender.cpu_s() - before_s
    measured.add(
        open_streams=float(seen.most_open),
        open_streams_whole=float(seen.whole),
        open_streams_cpu_us_per_chunk=used_s / max(1, seen.events) * 1e6,
        memory_at_open_streams_bytes=float(max(peaks)),
        memory_per_open_stream_bytes=(max(peaks) - before_bytes) / streams,
    )


def soak_alone(upstream: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return resident memory over many plain requests, of a gateway that has served nothing else."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        contender = start_ownward(upstream, Path(folder), options.gateway_core)
        try:
            at_start = contender.memory_bytes()
            found = soak(Measured(contender), options.soak, load_core=options.load_core)
        finally:
            contender.stop()
    return {"memory_at_start_bytes": at_start, **found}


def renew_soak(found: dict[str, Any]) -> None:
    """Put a soak into the newest record, dated by itself."""
    path = max(RESULTS.glob("gateway-[0-9]*.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["soak"] = {"measured_at": new_record("gateway")["measured_at"], **found}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def soak(measured: Measured, requests: int, *, load_core: int) -> dict[str, Any]:
    """Return resident memory while `requests` requests pass at 64 connections."""
    contender, done, rows = measured.contender, 0, []
    cpu_s, start_s = contender.cpu_s(), time.perf_counter()
    while done < requests:
        found = run_wrk(contender.address, connections=64, seconds=10, cores=str(load_core))
        done += found["requests"]
        rows.append({"requests": done, "memory_bytes": contender.memory_bytes(), "p99_us": found["p99_us"]})
        print(rows[-1], file=sys.stderr)
    ledger = [path.stat().st_size for path in (contender.folder or Path()).glob("ledger.db*")]
    return {
        "requests": done,
        "cpu_us_per_request": round((contender.cpu_s() - cpu_s) / done * 1e6, 1),
        "requests_per_s": round(done / (time.perf_counter() - start_s)),
        "ledger_bytes": sum(ledger),
        "memory": rows,
    }


def _at(times_s: Sequence[float], share: float) -> float:
    ordered = sorted(times_s)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summarise(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return each contender's medians with the lowest and highest round, and what it adds to the direct way."""
    direct = next(each for each in measured if each.contender.process is None)
    rows = []
    for each in measured:
        for name in ("p50_ms_at_1", "p99_ms_at_1", "first_byte_p50_ms"):
            if each is not direct:
                pairs = zip(each.rounds.get(name, ()), direct.rounds.get(name, ()), strict=False)
                each.rounds[f"added_{name}"] = [there - here for there, here in pairs]
        contender = each.contender
        rows.append(
            {
                "name": contender.name,
                "version": contender.version,
                "does": contender.does,
                "start_s": None if contender.start_s is None else round(contender.start_s, 3),
                "memory_at_start_bytes": contender.memory_at_start_bytes,
                "notes": sorted(set(each.notes)),
                **{
                    name: {
                        "median": round(statistics.median(values), 4),
                        "lowest": round(min(values), 4),
                        "highest": round(max(values), 4),
                    }
                    for name, values in each.rounds.items()
                    if values
                },
            }
        )
    return rows


_COMPARED = frozenset(
    {
        "cpu_us_per_request_at_64",
        "open_loop_p99_ms",
        "open_loop_even_p99_ms",
        "cpu_us_per_streamed_chunk",
        "cpu_us_per_chunk_at_once",
    }
)
_COLUMNS = (
    ("CPU us a request, 64 conn.", "cpu_us_per_request_at_64", 1.0, "{:,.0f}"),
    ("requests/s, 64 conn.", "requests_per_s_at_64", 1.0, "{:,.0f}"),
    ("added p50 ms, 1 conn.", "added_p50_ms_at_1", 1.0, "{:.2f}"),
    ("added p99 ms", "added_p99_ms_at_1", 1.0, "{:.2f}"),
    ("p99 ms at 500/s open", "open_loop_p99_ms", 1.0, "{:.2f}"),
    ("CPU us a request there", "open_loop_cpu_us_per_request", 1.0, "{:.0f}"),
    ("p99 ms by that alone", "open_loop_waiting_alone_p99_ms", 1.0, "{:.2f}"),
    ("p99 ms at 500/s, evenly", "open_loop_even_p99_ms", 1.0, "{:.2f}"),
    ("CPU us a chunk", "cpu_us_per_streamed_chunk", 1.0, "{:.1f}"),
    ("where many come at once", "cpu_us_per_chunk_at_once", 1.0, "{:.1f}"),
    ("added first byte ms", "added_first_byte_p50_ms", 1.0, "{:.2f}"),
    ("memory MB, start", "memory_at_start_bytes", 1e-6, "{:.0f}"),
    ("memory MB, after", "memory_after_bytes", 1e-6, "{:.0f}"),
    ("start s", "start_s", 1.0, "{:.2f}"),
    ("open streams", "open_streams", 1.0, "{:,.0f}"),
)


def table(record: dict[str, Any]) -> str:
    """Return the results as a Markdown table: medians, and in brackets the lowest and highest round."""
    measured = {name for row in record["results"] for name in row}
    columns = [column for column in _COLUMNS if column[1] in measured]  # older records have fewer figures
    lines = ["| | " + " | ".join(title for title, *_ in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    nginx = next((row for row in record["results"] if row["name"] == "nginx"), None)
    for row in record["results"]:
        cells = [_cell(row.get(name), scale, form) + _times(row, nginx, name) for _, name, scale, form in columns]
        lines.append(f"| {row['name']} {row['version']} | " + " | ".join(cells) + " |")
    lines.append(f"\n{_signature(record)}")
    return "\n".join(lines)


def table_of_streams(record: dict[str, Any], paces: Sequence[Pace]) -> str:
    """Return what events cost and how late they come as a Markdown table: medians, lowest and highest of CPU."""
    lines = ["| | " + " | ".join(f"{pace}: CPU us an event | p50 ms late | p99" for pace in paces) + " |"]
    lines.append("| --- |" + " ---: |" * 3 * len(paces))
    for row in record["results"]:
        cells = []
        for pace in paces:
            cells.append(_cell(row.get(pace.figure("cpu_us_per_chunk")), 1.0, "{:.1f}"))
            for name in ("p50", "p99"):
                found = row.get(pace.figure(f"event_delay_{name}_ms"))
                cells.append("" if found is None else f"{found['median']:.1f}")
        lines.append(f"| {row['name']} {row['version']} | " + " | ".join(cells) + " |")
    lines.append(f"\n{_signature(record)}")
    return "\n".join(lines)


def _signature(record: dict[str, Any]) -> str:
    machine = record["machine"]
    load = f"{machine['load_average_before']} to {machine['load_average_after']}"
    return f"{record['measured_at']}, {machine['cpu_cores']} cores of {machine['cpu']}, load average {load}."


def _times(row: dict[str, Any], nginx: dict[str, Any] | None, name: str) -> str:
    """Return how many times nginx's figure a row's is, for our own row and the figures that compare."""
    if row["name"] != "ownward" or nginx is None or name not in _COMPARED:
        return ""
    ours, theirs = row.get(name), nginx.get(name)
    return f"; {ours['median'] / theirs['median']:.1f}x nginx" if ours and theirs and theirs["median"] > 0 else ""


def put_into_page(table_text: str, mark: str, page: Path = PAGE) -> None:
    """Put a table where the page has the last one."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    page.write_text(f"{before}{begin}{table_text}\n{end}{after}", encoding="utf-8")


def _cell(figure: dict[str, float] | float | None, scale: float, form: str) -> str:
    if figure is None:
        return ""
    if not isinstance(figure, dict):
        return form.format(figure * scale)
    median, lowest, highest = (form.format(figure[name] * scale) for name in ("median", "lowest", "highest"))
    return median if lowest == highest else f"{median} ({lowest} to {highest})"


if __name__ == "__main__":
    main()
