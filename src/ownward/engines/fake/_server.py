"""The fake upstream itself: takes requests, decides their answers, paces and breaks them as its options say."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from ownward.core import PortTaken
from ownward.engines.fake._call import ENDPOINTS, TOOL_WORDS, Call, Endpoint, default_words
from ownward.engines.fake._checks import check_thinking, ends_with_results
from ownward.engines.fake._dialects import error_body, models_body, plain_body, stream_events
from ownward.engines.fake._options import Cut, FakeOptions, Often, OutputLength, Stall
from ownward.engines.fake._record import Record, ServedCall
from ownward.engines.fake._wire import Connection, Exchange, WireRequest

_JSON = b"application/json"
_EVENT_STREAM = b"text/event-stream; charset=utf-8"
_EVENTS_IN_A_WRITE = 256
_MAX_OUTPUT_TOKENS = 1_000_000
_STATUS_OK = 200
_STATUS_BAD = 400
_STATUS_UNAUTHORIZED = 401
_STATUS_NOT_FOUND = 404
_STATUS_BUSY = 429
_STATUS_WITH_RETRY_AFTER = (429, 503, 529)
_MAX_TOKEN_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_NOT_JSON = b"<html><body>502 Bad Gateway, says a proxy with status 200</body></html>"
_NOT_EVENTS = (b"dat: {oops\n\n", b'data: {"choices": [\n\n', b"\xff\xfe: not text\n\n", b": only a comment\n\n")


class _Sometimes(Protocol):
    @property
    def often(self) -> Often: ...


S = TypeVar("S", bound=_Sometimes)


class _Chance:
    """Which call is struck by which fault: counts run down, shares are drawn by seed and serial number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._left: dict[object, int] = {}

    def pick(self, faults: Sequence[S], serial: int) -> S | None:
        """Return the first of `faults` that strikes the call `serial`."""
        for place, fault in enumerate(faults):
            often = fault.often
            if often.first is not None:
                key = (type(fault), place)
                left = self._left.get(key, often.first)
                if left > 0:
                    self._left[key] = left - 1
                    return fault
            elif (
                often.fraction is None or self.draw(serial, f"{type(fault).__name__}{place}").random() < often.fraction
            ):
                return fault
        return None

    def draw(self, serial: int, name: str) -> random.Random:
        """Return the generator of one decision about one call, whatever happens to other calls."""
        return random.Random(f"{self._seed}:{serial}:{name}")


class FakeServer:
    """A fake upstream in this event loop: for tests in one process. `run_fake` gives one in a process of its own."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        """Serve as `options` say; nothing is opened before `start`."""
        self.options = options or FakeOptions()
        self.record = Record(
            count_file=self.options.count_file,
            kept_requests=self.options.kept_requests,
            kept_calls=self.options.kept_calls,
        )
        self._chance = _Chance(self.options.seed)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self.base_url = ""

    async def start(self) -> None:
        """Listen.

        Raises: PortTaken.
        """
        loop = asyncio.get_running_loop()
        host, port = self.options.host, self.options.port
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._serve, self._connections), host, port, backlog=4096
            )
        except OSError as error:
            raise PortTaken(
                f"the fake upstream cannot listen: {error.strerror}",
                where=f"{host}:{port}",
                next_step="Choose another --port, or 0 for a free one",
            ) from error
        real_port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://{f'[{host}]' if ':' in host else host}:{real_port}"

    async def stop(self) -> None:
        """Stop listening and close every connection, whatever runs on it."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.break_off(by_reset=False)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # connection_lost runs, so that aborted calls are on the record
        self.record.close()
        self._server = None

    def set_options(self, options: FakeOptions) -> None:
        """Behave differently from the next request on; counts of faults start anew. The address stays."""
        self.options = options
        self._chance = _Chance(options.seed)

    def reset(self) -> None:
        """Forget what was counted, and begin the counts of faults anew."""
        self.record.reset()
        self._chance = _Chance(self.options.seed)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop."""
        await self.stop()

    async def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.target.partition("?")[0]
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and request.method == "POST":
            self.record.keep_request(request)
            served = self.record.accept(request, endpoint=endpoint)
            try:
                await self._answer(exchange, endpoint, served)
            finally:
                self.record.end(served, "aborted", status=None)  # counts only where nothing else ended it
            return
        status, body = self._page(request, path)
        _send(exchange, status, body)

    def _page(self, request: WireRequest, path: str) -> tuple[int, bytes]:
        match request.method, path:
            case "GET", "/v1/models":
                return _STATUS_OK, models_body(self.options.models)
            case "GET", "/health" | "/healthz":
                return _STATUS_OK, b'{"status":"ok"}'
            case "GET", "/count":
                return _STATUS_OK, json.dumps(self.record.count(with_calls="calls=0" not in request.target)).encode()
            case "GET", "/requests":
                return _STATUS_OK, json.dumps(self.record.requests()).encode()
            case "POST", "/reset":
                self.reset()
                return _STATUS_OK, b"{}"
            case _:
                known = ", ".join([*ENDPOINTS, "/v1/models", "/healthz", "/count", "/requests", "/reset"])
                return _STATUS_NOT_FOUND, error_body(None, _STATUS_NOT_FOUND, f"no {path} here; there are {known}")

    async def _answer(self, exchange: Exchange, endpoint: Endpoint, served: ServedCall) -> None:
        options, request, serial = self.options, exchange.request, served.serial
        refusal = self._refusal(request, endpoint, serial)
        if refusal is not None:
            status, message = refusal
            self._refuse(exchange, endpoint, served, status, message)
            return
        try:
            call = self._decide(request.body, endpoint, serial)
        except (ValueError, RecursionError) as error:
            self._refuse(exchange, endpoint, served, _STATUS_BAD, f"this body cannot be served: {error}")
            return
        served.input_tokens = call.input_tokens
        served.cached_input_tokens = call.cached_tokens
        stall = self._chance.pick(options.stalls, serial)
        cut = self._chance.pick(options.cuts, serial)
        if cut is not None and cut.after_chunks is None:
            self.record.end(served, "cut", status=None)
            exchange.break_off(by_reset=cut.end == "reset")
            return
        if stall is not None and stall.after_tokens is None:
            await asyncio.sleep(stall.seconds)
            stall = None
        garbage = self._chance.pick(options.garbage, serial)
        if garbage is not None:
            await asyncio.sleep(options.ttft_s)
            self.record.end(served, "garbled", status=_STATUS_OK)
            if garbage.kind == "sse":
                _send(exchange, _STATUS_OK, b"".join(_NOT_EVENTS), content_type=_EVENT_STREAM)
            else:
                _send(exchange, _STATUS_OK, _NOT_JSON)
        elif call.is_stream:
            await self._stream(exchange, call, served, stall, cut)
        else:
            await self._plain(exchange, call, served, stall, cut)

    def _refusal(self, request: WireRequest, endpoint: Endpoint, serial: int) -> tuple[int, str] | None:
        options = self.options
        if options.api_key is not None and not _bears(request, options.api_key):
            return _STATUS_UNAUTHORIZED, "no valid API key was given"
        if options.max_concurrency is not None and self.record.serving > options.max_concurrency:
            return _STATUS_BUSY, f"more than {options.max_concurrency} calls at once"
        failure = self._chance.pick(options.failures, serial)
        if failure is not None:
            return failure.status, f"the fake upstream was told to fail {endpoint} with {failure.status}"
        return None

    def _refuse(self, exchange: Exchange, endpoint: Endpoint, served: ServedCall, status: int, message: str) -> None:
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if self.options.retry_after_s is not None and status in _STATUS_WITH_RETRY_AFTER:
            headers = ((b"retry-after", b"%g" % self.options.retry_after_s),)
        self.record.end(served, "refused", status=status)
        _send(exchange, status, error_body(endpoint, status, message), headers=(*headers, *_ids(served)))

    async def _plain(
        self, exchange: Exchange, call: Call, served: ServedCall, stall: Stall | None, cut: Cut | None
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.options.ttft_s
        if call.output_tokens > 0:
            due += self.options.tpot_s * (call.output_tokens - 1)
        if stall is not None:
            due += stall.seconds
        delay = due - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        served.output_tokens = call.total_output_tokens
        body = plain_body(call)
        if cut is not None:
            head = exchange.start(_STATUS_OK, _JSON, _ids(served), len(body))
            exchange.write(head + body[: len(body) // 2])
            self.record.end(served, "cut", status=_STATUS_OK)
            exchange.break_off(by_reset=cut.end == "reset")
            return
        if call.reported is not None:
            served.reported_input_tokens, served.reported_output_tokens = call.reported
        self.record.end(served, "completed", status=_STATUS_OK)
        _send(exchange, _STATUS_OK, body, headers=_ids(served))

    async def _stream(
        self, exchange: Exchange, call: Call, served: ServedCall, stall: Stall | None, cut: Cut | None
    ) -> None:
        """Send events when they are due; those due at once go in one write."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.options.ttft_s
        tpot_s = self.options.tpot_s * max(1, self.options.chunk_tokens)
        waiting = [exchange.start(_STATUS_OK, _EVENT_STREAM, _ids(served), None)]
        produced = 0
        for sent, (event, tokens) in enumerate(stream_events(call), start=1):
            if stall is not None and stall.after_tokens is not None and tokens and produced >= stall.after_tokens:
                self._write(exchange, waiting)
                await asyncio.sleep(stall.seconds)
                due += stall.seconds
                stall = None
            if tokens:
                delay = due - loop.time()
                if delay > 0:
                    self._write(exchange, waiting)
                    await asyncio.sleep(delay)
                    await exchange.drained()
                produced += tokens
                served.output_tokens = produced
                if produced % call.choices == 0:
                    due += tpot_s
            waiting.append(event if self.options.split_bytes else exchange.chunk(event))
            if len(waiting) >= _EVENTS_IN_A_WRITE:
                self._write(exchange, waiting)
                await asyncio.sleep(0)  # others are served, and a client that left is noticed
                await exchange.drained()
            if cut is not None and cut.after_chunks is not None and sent >= cut.after_chunks:
                self._write(exchange, waiting)
                if call.reported is not None and sent == sum(1 for _ in stream_events(call)):  # all was said before
                    served.reported_input_tokens, served.reported_output_tokens = call.reported
                self.record.end(served, "cut", status=_STATUS_OK)
                exchange.break_off(by_reset=cut.end == "reset")
                return
        if call.reported is not None:
            served.reported_input_tokens, served.reported_output_tokens = call.reported
        self.record.end(served, "completed", status=_STATUS_OK)
        if self.options.split_bytes:
            self._write(exchange, waiting)
        waiting.append(b"0\r\n\r\n")
        exchange.write(b"".join(waiting))

    def _write(self, exchange: Exchange, waiting: list[bytes]) -> None:
        if not waiting:
            return
        size = self.options.split_bytes
        if size is None:
            exchange.write(b"".join(waiting))
        else:
            if waiting[0].startswith(b"HTTP/1.1 "):
                exchange.write(waiting.pop(0))
            for piece in _pieces(b"".join(waiting), size):
                exchange.write(exchange.chunk(piece))
        waiting.clear()

    def _decide(self, body: bytes, endpoint: Endpoint, serial: int) -> Call:
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004 - ValueError is what json.loads raises too
        options = self.options
        input_tokens = self._count_input(asked, body)
        limit = next((_count(asked, key) for key in _MAX_TOKEN_KEYS if asked.get(key) is not None), None)
        tool, other_tools = self._tools(asked)
        thinking = tuple(options.thinking.split()) if options.thinking and endpoint in {"chat", "messages"} else ()
        if thinking and endpoint == "messages":
            check_thinking(asked)
        words = default_words()
        if tool is not None:
            words = TOOL_WORDS
        elif options.reply is not None:
            words = tuple(options.reply.split(" "))  # line breaks stay inside a word
        if endpoint in {"embeddings", "count_tokens"}:
            wanted = 0
        elif tool is not None:
            wanted = len(words) * (1 + len(other_tools))
        elif options.reply is not None:
            wanted = len(words)
        else:
            wanted = self._draw_length(options.output_tokens, limit, serial)
        output_tokens = wanted if limit is None else min(wanted, limit)
        choices = 1 if asked.get("n") is None else _count(asked, "n")
        if output_tokens * choices > _MAX_OUTPUT_TOKENS:
            raise ValueError(f"it asks for {output_tokens * choices:,} tokens, more than {_MAX_OUTPUT_TOKENS:,}")
        stream_options = asked.get("stream_options")
        inputs = asked.get("input")
        return Call(
            serial=serial,
            endpoint=endpoint,
            model=str(asked.get("model", "")),
            created_s=int(time.time()),  # noqa: TID251 - a wire field of a fake; nothing is computed from it
            is_stream=asked.get("stream") is True and endpoint not in {"embeddings", "count_tokens"},
            wants_stream_usage=isinstance(stream_options, dict) and stream_options.get("include_usage") is True,
            usage=options.usage,
            input_tokens=input_tokens,
            cached_tokens=math.floor(input_tokens * options.cached_fraction),
            output_tokens=output_tokens,
            is_cut_by_limit=output_tokens < wanted,
            choices=choices,
            words=words,
            tool=tool,
            other_tools=other_tools,
            thinking=thinking,
            chunk_tokens=options.chunk_tokens,
            embedding_inputs=len(inputs) if isinstance(inputs, list) else 1,
            wants_base64=asked.get("encoding_format") == "base64",
        )

    def _tools(self, asked: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
        """Return the tools to call: the first offered, or all of them until the request ends with their results."""
        mode = self.options.tool_calls
        if mode == "never" or (mode == "until-results" and ends_with_results(asked)):
            return None, ()
        names = _tool_names(asked)
        return (names[0] if names else None), (names[1:] if mode == "until-results" else ())

    def _count_input(self, asked: dict[str, Any], body: bytes) -> int:
        """Return input tokens by the stated rule: at least one, never more than the body has bytes."""
        if self.options.input_token_rule == "bytes":  # noqa: S105 - a rule for tokens, no password
            tokens = len(body) // 4
        else:
            parts = (asked.get(key) for key in ("system", "instructions", "messages", "prompt", "input", "tools"))
            tokens = sum(len(text.split()) for part in parts for text in _texts(part))
        return max(1, min(tokens + self.options.overhead_tokens, len(body)))

    def _draw_length(self, length: OutputLength, limit: int | None, serial: int) -> int:
        match length.kind:
            case "fixed":
                return length.low
            case "max":
                return limit or length.low
            case "uniform":
                return self._chance.draw(serial, "length").randint(length.low, length.high)
            case "lognormal":
                drawn = self._chance.draw(serial, "length").lognormvariate(math.log(length.low), length.sigma)
                return max(1, round(drawn))


def _count(asked: dict[str, Any], key: str) -> int:
    value = asked[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} is {value!r}, not a whole number of at least 1")
    return value


def _send(
    exchange: Exchange,
    status: int,
    body: bytes,
    *,
    content_type: bytes = _JSON,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    exchange.write(exchange.start(status, content_type, headers, len(body)) + body)


def _ids(served: ServedCall) -> tuple[tuple[bytes, bytes], ...]:
    name = b"request-id" if served.endpoint in {"messages", "count_tokens"} else b"x-request-id"
    return ((name, b"fake-%d" % served.serial),)


def _bears(request: WireRequest, key: str) -> bool:
    return request.header("authorization") == f"Bearer {key}" or request.header("x-api-key") == key


def _tool_names(asked: dict[str, Any]) -> tuple[str, ...]:
    tools = asked.get("tools")
    found = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else isinstance(tool, dict) and tool.get("name")
        if isinstance(name, str):
            found.append(name)
    return tuple(found)


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings in a JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
