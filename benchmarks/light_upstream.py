"""An upstream that costs next to nothing: one fixed answer, or a stream at the pace it was told.

    python -m benchmarks.light_upstream            # prints its port, serves until standard input closes

It looks only for the length of a request and for `"stream": true`. `GET /pace?CHUNKS&SECONDS` sets how many events
each further stream has and the seconds between two of them (0: all at once, each in a write of its own). The words of
an event are the nanosecond in which it was sent, by the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from benchmarks.light_client import run_on_light_loop

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"The capital of France is Paris, which lies on the Seine."},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":70,"completion_tokens":14,"total_tokens":84}}'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r1\r\n"
_PLAIN = _HEAD + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_FRAME = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":'


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


_TO_TIME, _, _FROM_TIME = _event(
    _FRAME + b'[{"index":0,"delta":{"content":"%020d"},"finish_reason":null}]}' % 0
).partition(b"%020d" % 0)
_LAST = _event(_FRAME + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}')
_USAGE = _event(_FRAME + b'[],"usage":{"prompt_tokens":70,"completion_tokens":200,"total_tokens":270}}')
_DONE = _event(b"[DONE]") + b"0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_IS_STREAM = re.compile(rb'"stream": ?true')
_WANTS_USAGE = re.compile(rb'"include_usage": ?true')


class LightUpstream(asyncio.Protocol):
    """One connection; one request at a time."""

    chunks = 1
    interval_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with nothing read."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclass
        self._held = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        held = self._held + data if self._held else data
        while (end := held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(held, 0, end)
            last = end + 4 + (int(length[1]) if length else 0)
            if len(held) < last:
                break
            self._answer(held[: end + 4], held[end + 4 : last])
            held = held[last:]
        self._held = held

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /pace?"):
            chunks, seconds = head.split()[1].partition(b"?")[2].split(b"&")
            LightUpstream.chunks, LightUpstream.interval_s = int(chunks), float(seconds)
        elif _IS_STREAM.search(body):
            self._transport.write(_STREAM_HEAD)
            ending = (_LAST + _USAGE if _WANTS_USAGE.search(body) else _LAST) + _DONE
            self._stream(self.chunks, ending)
            return
        self._transport.write(_PLAIN)

    def _stream(self, left: int, ending: bytes) -> None:
        while not self._transport.is_closing():
            if not left:
                self._transport.write(ending)
                return
            self._transport.write(b"%b%020d%b" % (_TO_TIME, time.monotonic_ns(), _FROM_TIME))
            left -= 1
            if self.interval_s:
                asyncio.get_running_loop().call_later(self.interval_s, self._stream, left, ending)
                return


async def serve() -> None:
    """Print the port and serve until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(LightUpstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    gc.disable()
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def started_upstream() -> Iterator[int]:
    """Run one in a process of its own for the length of a `with` block, and yield its port."""
    command = [sys.executable, "-m", "benchmarks.light_upstream"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


if __name__ == "__main__":
    run_on_light_loop(serve)
