"""What one call through the outbound door costs in CPU, beside a bare socket and aiohttp's client.

    python -m benchmarks.door                      # writes benchmarks/results/door-<date>.json
    python -m benchmarks.door --peer PYTHON        # PYTHON: an interpreter that has aiohttp and uvloop

The server is a child process of its own, so that the client's CPU time is its own
alone. Each figure is the client's CPU time divided by the calls, best of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "What is the capital of France? " * 8}], "max_tokens": 16}
).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris. " * 20}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 40, "total_tokens": 110},
    }
).encode()
HEADERS = {"authorization": "Bearer sk-benchmark", "content-type": "application/json", "user-agent": "ownward"}
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"usage":null}\n\n'
CHUNKS_PER_STREAM = 200

Call = Callable[[], Awaitable[None]]


class Server(asyncio.Protocol):
    """Answers every request the same, or streams where the path says so."""

    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\nx-request-id: r\r\n"
    plain = head + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with nothing read."""
        self.transport = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.held += data
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if end and len(rest) >= len(BODY):
            self.held = rest[len(BODY) :]
            if b" /stream " in head:
                asyncio.ensure_future(self.stream())  # noqa: RUF006 - it ends with the connection
            else:
                self.transport.write(self.plain)

    async def stream(self) -> None:
        """Send one small event every fifth of a millisecond."""
        self.transport.write(self.head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(CHUNKS_PER_STREAM):
            self.transport.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
            await asyncio.sleep(0.0002)
        self.transport.write(b"0\r\n\r\n")


def use_uvloop() -> bool:
    try:
        import uvloop
    except ImportError:
        return False
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return True


def serve() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    use_uvloop()
    asyncio.run(main())


async def measure(call: Call, *, count: int, at_once: int) -> float:
    """Return the process's CPU seconds for one call, with `at_once` in flight."""

    async def worker(share: int) -> None:
        for _ in range(share):
            await call()

    await asyncio.gather(*(worker(5) for _ in range(at_once)))
    started = time.process_time()
    await asyncio.gather(*(worker(count // at_once) for _ in range(at_once)))
    return (time.process_time() - started) / (count // at_once * at_once)


async def run_door(origin: str, count: int) -> dict[str, float]:
    from ownward.policy import LOCAL_ONLY, Place, issue_permit
    from ownward.upstreams import Door, StreamTap

    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    here = Place(is_local=True)
    async with Door() as door:

        async def plain() -> None:
            permit = issue_permit(label=LOCAL_ONLY, place=here, upstream="u", origin=origin, body=BODY)
            response = await door.send(permit, method="POST", target="/plain", headers=headers, body=BODY)
            assert len(await response.read(1_000_000)) == len(ANSWER)

        async def stream(*, tapped: bool) -> None:
            permit = issue_permit(label=LOCAL_ONLY, place=here, upstream="u", origin=origin, body=BODY)
            response = await door.send(permit, method="POST", target="/stream", headers=headers, body=BODY)
            tap = StreamTap()
            async for piece in response.chunks():
                if tapped:
                    tap.feed(piece)
            assert response.bytes_received == len(CHUNK) * CHUNKS_PER_STREAM

        return await figures(plain, lambda: stream(tapped=False), lambda: stream(tapped=True), count)


async def run_aiohttp(origin: str, count: int) -> dict[str, float]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=512)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def plain() -> None:
            async with session.post(f"{origin}/plain", data=BODY, headers=HEADERS, allow_redirects=False) as response:
                assert len(await response.read()) == len(ANSWER)

        async def stream() -> None:
            size = 0
            async with session.post(f"{origin}/stream", data=BODY, headers=HEADERS) as response:
                async for piece in response.content.iter_any():
                    size += len(piece)
            assert size == len(CHUNK) * CHUNKS_PER_STREAM

        return await figures(plain, stream, None, count)


async def run_bare(origin: str, count: int) -> dict[str, float]:
    """Measure the floor: one write and one read on an asyncio protocol, nothing parsed."""
    port = int(origin.rpartition(":")[2])
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    request = (
        "\r\n".join(["POST /plain HTTP/1.1", *lines, f"content-length: {len(BODY)}"]).encode() + b"\r\n\r\n" + BODY
    )
    loop = asyncio.get_running_loop()

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.waiter, self.left = transport, None, 0

        def data_received(self, data: bytes) -> None:
            self.left -= len(data)
            if self.left <= 0 and self.waiter is not None:
                self.waiter.set_result(None)

    free: list[Bare] = []

    async def plain() -> None:
        bare = free.pop() if free else (await loop.create_connection(Bare, "127.0.0.1", port))[1]
        bare.waiter, bare.left = loop.create_future(), len(Server.plain)
        bare.transport.write(request)
        await bare.waiter
        free.append(bare)

    result = await figures(plain, None, None, count)
    for bare in free:
        bare.transport.abort()
    return result


async def figures(plain: Call, stream: Call | None, tapped: Call | None, count: int) -> dict[str, float]:
    result = {}
    for at_once in (1, 64):
        best = min([await measure(plain, count=count, at_once=at_once) for _ in range(3)])
        result[f"cpu_s_per_call_at_{at_once}"] = best
    for name, call in (("stream", stream), ("stream_tapped", tapped)):
        if call is not None:
            best = min([await measure(call, count=64, at_once=16) for _ in range(3)])
            result[f"cpu_s_per_chunk_{name}"] = best / CHUNKS_PER_STREAM
    return result


CLIENTS = {"door": run_door, "aiohttp": run_aiohttp, "bare": run_bare}


def client(name: str, origin: str, count: int, loop_name: str) -> None:
    if loop_name == "uvloop" and not use_uvloop():
        print("null")
        return
    print(json.dumps(asyncio.run(CLIENTS[name](origin, count))))


def peer_version(python: str | None) -> str | None:
    if python is None:
        return None
    command = [python, "-c", "import aiohttp; print('aiohttp', aiohttp.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="an interpreter that has aiohttp (and uvloop)")
    parser.add_argument("--count", type=int, default=6400)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == ["serve"]:
        serve()
        return
    if options.child:
        client(options.child[0], options.child[1], int(options.child[2]), options.child[3])
        return

    load_before = os.getloadavg()[0]
    command = [sys.executable, __file__, "--child", "serve"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    origin = f"http://127.0.0.1:{int(server.stdout.readline())}"
    results: dict[str, dict[str, float] | None] = {}
    try:
        for loop_name in ("asyncio", "uvloop"):
            for name in CLIENTS:
                python = options.peer if name == "aiohttp" else sys.executable
                if python is None:
                    continue
                arguments = [python, __file__, "--child", name, origin, str(options.count), loop_name]
                found = subprocess.run(arguments, capture_output=True, text=True, check=True)
                results[f"{name}/{loop_name}"] = json.loads(found.stdout)
                print(f"{name}/{loop_name}: {found.stdout.strip()}", file=sys.stderr)
    finally:
        server.stdin.close()
        server.wait(10)

    ratios = {}
    for loop_name in ("asyncio", "uvloop"):
        ours, peer = results.get(f"door/{loop_name}"), results.get(f"aiohttp/{loop_name}")
        if ours and peer:
            ratios[loop_name] = {key: round(ours[key] / peer[key], 3) for key in peer if key in ours}
    now = datetime.now(UTC)
    record = {
        "schema": "ownward.benchmark/1",
        "benchmark": "door",
        "measured_at": now.isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "load_before": load_before,
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "peer": peer_version(options.peer),
        "units": "CPU seconds of the client process; best of 3 rounds",
        "request_bytes": len(BODY),
        "answer_bytes": len(ANSWER),
        "results": results,
        "ratio_to_aiohttp": ratios,
    }
    out = options.out or Path(__file__).parent / "results" / f"door-{now.date()}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    print(out)


if __name__ == "__main__":
    main()
