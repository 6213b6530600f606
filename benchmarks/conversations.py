"""What it costs to keep responses and to continue them: CPU and time of a request, by how many turns stand before it.

    python -m benchmarks.conversations                # some minutes
    python -m benchmarks.conversations --requests 100

A gateway and an upstream with one fixed answer share a process and a loop, so that the upstream's own cost (the first
row, whose bytes pass) is in every row. Each turn says 2 KB and is answered 2 KB. Rows take turns, request by request,
so that a busy machine touches all of them alike. The result is written to benchmarks/results/conversations-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import new_record, write_record

from ownward import ledger
from ownward.gateway import GatewayServer, GatewaySettings
from ownward.plan import loads
from ownward.upstreams import Door

TURNS = (1, 10, 100)
_TEXT = "words and more " * 136
_PLAN = """
schema = "ownward.plan/1"
name = "conversations"
default_label = "any"
[tiers.a]
kind = "rented"
model = "a"
[[tiers.a.upstreams]]
name = "a"
url = "URL"
"""


def _answer() -> bytes:
    part = {"type": "output_text", "text": _TEXT, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "a", "output": [item],
            "usage": {"input_tokens": 500, "output_tokens": 500, "total_tokens": 1000}}  # fmt: skip
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


ANSWER = _answer()


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await _read(reader)
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
        writer.close()


class Client:
    """One kept connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, **more: Any) -> str:
        """Return the id of the response to one turn."""
        body = json.dumps({"model": "a", "input": _TEXT, **more}).encode()
        head = b"POST /v1/responses HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._writer.write(head + body)
        return str(json.loads(await _read(self._reader))["id"])


async def measure(folder: Path, requests: int) -> dict[str, dict[str, float]]:
    """Return the medians of each row: CPU and time of a request, in seconds."""
    upstream = await asyncio.start_server(_serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    settings = GatewaySettings(port=0, drain_s=1, keep_responses_s=3600, keep_responses_per_key=1_000_000,
                               keep_bytes_per_key=1 << 40)  # fmt: skip
    samples: dict[str, list[tuple[float, float]]] = {}
    with ledger.open(folder / "ledger.db") as opened:
        async with (
            Door() as door,
            GatewayServer(plan=loads(_PLAN.replace("URL", url), file="plan.toml"), ledger=opened, door=door,
                          settings=settings) as server,
        ):  # fmt: skip
            host, port = server.base_url.removeprefix("http://").split(":")
            client = Client(*await asyncio.open_connection(host, int(port)))
            rows: dict[str, dict[str, Any]] = {"passed, not kept": {"store": False}, "kept, begins": {}}
            for turns in TURNS:
                previous = None
                for _ in range(turns):
                    previous = await client.ask(**({"previous_response_id": previous} if previous else {}))
                rows[f"kept, continues {turns}"] = {"previous_response_id": previous}
                history = [{"role": role, "content": _TEXT} for role in ("user", "assistant")] * turns
                rows[f"passed, its client sends {turns}"] = {
                    "store": False, "input": [*history, {"role": "user", "content": _TEXT}],
                }  # fmt: skip
            for number in range(requests + 5):
                for name, more in rows.items():
                    cpu_s, wall_s = time.process_time(), time.perf_counter()
                    await client.ask(**more)
                    if number >= 5:  # the first ones warm up
                        samples.setdefault(name, []).append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
    upstream.close()
    return {
        name: {
            "cpu_s_p50": statistics.median(cpu_s for cpu_s, _ in found),
            "latency_s_p50": statistics.median(wall_s for _, wall_s in found),
        }
        for name, found in samples.items()
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = new_record("conversations")
    with tempfile.TemporaryDirectory() as folder:
        record |= {"requests_per_row": options.requests, "rows": asyncio.run(measure(Path(folder), options.requests))}
    print(json.dumps(record["rows"], indent=1))
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)


if __name__ == "__main__":
    main()
