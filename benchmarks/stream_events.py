"""What an event of a stream costs in our own code, from the upstream's bytes to the client's, by dialects.

    python -m benchmarks.stream_events               # a minute; writes results/stream_events-DATE.json

A gateway runs in this process, with a ledger, an upstream and a client on loopback. In the middle of a stream the
upstream's connection is handed further events, and what goes to the client is counted and dropped: so neither the
kernel nor the event loop is in the figure, and it says more of the code than of the machine's load. `at_once` is how
many events come with one read. Processor time, the least and the median of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from benchmarks.contenders import CHAT
from benchmarks.light_client import run_on_light_loop
from benchmarks.machine_facts import new_record, write_record

from ownward import ledger, plan
from ownward.gateway import GatewayServer, GatewaySettings
from ownward.gateway.listening.connection import HttpConnection
from ownward.upstreams import Door
from ownward.upstreams._connection import Connection

WORDS = (" word", " the", ",", " Paris", ".", "\n\n", " caf\u00e9", ' "x"')
KINDS = {
    "chat": (CHAT, "chat"),
    "chat, may be continued": (CHAT, "chat"),
    "chat, arguments of a call": (CHAT, "calls"),
    "responses": ("/v1/responses", "responses"),
    "responses, kept": ("/v1/responses", "responses"),
    "messages": ("/v1/messages", "messages"),
    "chat told as messages": ("/v1/messages", "chat"),
    "chat told as responses": ("/v1/responses", "chat"),
    "chat told as messages, arguments of a call": ("/v1/messages", "calls"),
    "messages told as chat": (CHAT, "messages"),
    "messages told as responses": ("/v1/responses", "messages"),
}
EVENTS = 1000

_PLAN = """
schema = "ownward.plan/1"
name = "benchmark"
default_label = "any"

[tiers.own]
kind = "owned"
model = "bench"
engine = "adopted"
max_output_tokens = 4096
capabilities = ["chat", "continuation", "tools", {more}]

[[tiers.own.upstreams]]
name = "light"
url = "http://127.0.0.1:{port}"
dialect = "{dialect}"

[workloads.bench]
label = "any"
continues_streams = {continues}
strategy = {{ kind = "direct", tiers = ["own"] }}
"""


def chunk(name: str, data: dict[str, Any]) -> bytes:
    """Return one event, in a chunk of its own."""
    head = f"event: {name}\n" if name else ""
    event = f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def make_event(upstream: str, words: str, number: int = 0) -> bytes:
    """Return what an upstream says with some words; `number` is the event's, where the dialect numbers them."""
    if upstream == "responses":
        name = "response.output_text.delta"
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        told = {"delta": words, "logprobs": [], "obfuscation": "aB3xY"[: number % 5]}
        return chunk(name, {"type": name, "sequence_number": 4 + number, **place, **told})
    if upstream == "messages":
        name = "content_block_delta"
        return chunk(name, {"type": name, "index": 0, "delta": {"type": "text_delta", "text": words}})
    calls = {"tool_calls": [{"index": 0, "function": {"arguments": words}}]}
    delta = calls if upstream == "calls" else {"content": words}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "bench"}
    return chunk("", {**frame, "choices": [choice]})


def make_beginning(upstream: str) -> bytes:
    """Return how its stream begins."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    if upstream == "chat":
        return head + make_event(upstream, "Hello")
    if upstream == "calls":
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
        begun = {"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": None}
        return head + chunk("", {"id": "c1", "choices": [begun]}) + make_event(upstream, '{"a": "')
    if upstream == "responses":
        response = {"id": "resp_1", "status": "in_progress"}
        begun = {"type": "response.created", "sequence_number": 0, "response": response}
        return head + chunk("response.created", begun)
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "bench", "content": []}
    start = {"type": "message_start", "message": {**message, "usage": {"input_tokens": 70, "output_tokens": 1}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return head + chunk("message_start", start) + chunk("content_block_start", block)


class Upstream(asyncio.Protocol):
    """Begins a stream and says nothing more."""

    def __init__(self, beginning: bytes) -> None:
        """Keep the beginning."""
        self._beginning = beginning

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - one request, in one piece
        """Answer."""
        self._transport.write(self._beginning)


class Sink:
    """Stands for the client's transport: counts what is written."""

    def __init__(self, transport: Any) -> None:
        """Begin with nothing written."""
        self._transport = transport
        self.written = 0

    def write(self, data: bytes) -> None:
        """Count."""
        self.written += len(data)

    def __getattr__(self, name: str) -> Any:
        """Be the transport in everything else."""
        return getattr(self._transport, name)


def all_of(kind: type[Any]) -> list[Any]:
    """Return all objects of a kind."""
    return [each for each in gc.get_objects() if type(each) is kind]


def new_one(kind: type[Any], before: list[Any]) -> Any:
    """Return the object of a kind that is not among those from before."""
    (found,) = [each for each in all_of(kind) if not any(each is other for other in before)]
    return found


async def measure(name: str, *, at_once: int, rounds: int) -> dict[str, Any]:
    """Return what an event costs."""
    path, upstream = KINDS[name]
    before = [*all_of(HttpConnection), *all_of(Connection)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(make_beginning(upstream)), "127.0.0.1", 0)
    text = _PLAN.format(
        port=server.sockets[0].getsockname()[1],
        dialect="anthropic" if upstream == "messages" else "openai",
        more='"responses"' if upstream == "responses" else '"streaming"',
        continues="true" if "continued" in name else "false",
    )
    with tempfile.TemporaryDirectory() as folder, ledger.open(Path(folder) / "ledger.db") as opened:
        async with (
            Door() as door,
            GatewayServer(
                plan=plan.loads(text, file="benchmark"),
                ledger=opened,
                door=door,
                settings=GatewaySettings(port=0, drain_s=0, keep_responses_s=60 if "kept" in name else 0),
            ) as gateway,
        ):
            asked: dict[str, Any] = {"model": "bench", "stream": True}
            asked |= {"input": "hi"} if path.endswith("responses") else {"messages": [{"role": "user", "content": "x"}]}
            asked |= {"max_tokens": 99} if path == "/v1/messages" else {}
            body = json.dumps(asked).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.base_url.rpartition(":")[2]))
            writer.write(
                b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)) + body
            )
            answer = await reader.readuntil(b"data: ")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode() + (await reader.read(2000)).decode())
            await asyncio.sleep(0.05)
            client = new_one(HttpConnection, before)
            sink = client._transport = Sink(client._transport)  # noqa: SLF001 - where what is written would leave
            times_s = await feed(new_one(Connection, before).data_received, upstream, at_once=at_once, rounds=rounds)
            writer.close()
    server.close()
    gc.collect()
    return {
        "stream": name,
        "at_once": at_once,
        "ns_an_event_least": round(min(times_s) * 1e9),
        "ns_an_event_median": round(statistics.median(times_s) * 1e9),
        "bytes_an_event": round(sink.written / EVENTS / (rounds + 1)),
    }


async def feed(receive: Callable[[bytes], None], upstream: str, *, at_once: int, rounds: int) -> list[float]:
    """Return the processor seconds an event of each round; the first round warms up and is left out."""
    events = [make_event(upstream, WORDS[index % len(WORDS)], index) for index in range(EVENTS)]
    reads = [b"".join(events[at : at + at_once]) for at in range(0, EVENTS, at_once)]
    found = []
    for _ in range(rounds + 1):
        started_s = time.process_time()
        for read in reads:
            receive(read)
        found.append((time.process_time() - started_s) / EVENTS)
        await asyncio.sleep(0)
    return found[1:]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", default="", help="streams whose name holds this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record, rows = new_record("stream_events"), []
    for name in [kind for kind in KINDS if options.only in kind]:
        for at_once in (1, 10):
            rows.append(run_on_light_loop(lambda name=name, n=at_once: measure(name, at_once=n, rounds=options.rounds)))  # type: ignore[misc]
            print(json.dumps(rows[-1]), flush=True)
    print(f"written to {write_record({**record, 'rows': rows}, options.out)}", file=sys.stderr)


if __name__ == "__main__":
    main()
