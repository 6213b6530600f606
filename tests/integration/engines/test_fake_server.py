"""The fake upstream on a real socket: what it says, what it breaks, what it counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from ownward.engines import FakeOptions, FakeServer, parse_fake_arguments

CHAT = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}


class Wire:
    """A bare connection: bytes out, bytes in, so that nothing is mended on the way."""

    def __init__(self, server: FakeServer):
        self.port = int(server.base_url.rsplit(":", 1)[1])

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_exc: object):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, path: str, payload: Any = None, *, headers: dict[str, str] | None = None) -> None:
        body = b"" if payload is None else json.dumps(payload).encode()
        lines = [f"{'GET' if payload is None else 'POST'} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(head[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, headers, b"".join(parts)


async def call(server: FakeServer, path: str, payload: Any = None, **headers: str):
    async with Wire(server) as wire:
        wire.send(path, payload, headers={name.replace("_", "-"): value for name, value in headers.items()})
        status, seen, body = await wire.answer()
        return status, seen, body


def events(body: bytes) -> list[Any]:
    datas = [
        line[6:] for block in body.decode().split("\n\n") for line in block.split("\n") if line.startswith("data: ")
    ]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def with_server(flags: str, scenario):
    async def main():
        async with FakeServer(parse_fake_arguments(flags.split())) as server:
            async with asyncio.timeout(10):
                return await scenario(server)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "payload", "usage"),
    [
        ("/v1/chat/completions", CHAT, {"prompt_tokens": 8, "completion_tokens": 16}),
        ("/v1/completions", {"model": "m", "prompt": "one two"}, {"prompt_tokens": 6, "completion_tokens": 16}),
        ("/v1/responses", {"model": "m", "input": "one two"}, {"input_tokens": 6, "output_tokens": 16}),
        ("/v1/embeddings", {"model": "m", "input": ["one", "two"]}, {"prompt_tokens": 6, "total_tokens": 6}),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, {"input_tokens": 8, "output_tokens": 9}),
    ],
)
def test_a_plain_answer_reports_what_is_counted(path, payload, usage):
    async def scenario(server):
        status, _, body = await call(server, path, payload)
        assert status == 200
        reported = json.loads(body)["usage"]
        assert {name: reported[name] for name in usage} == usage
        totals = server.record.totals()
        assert totals["completed"] == 1
        assert totals["input_tokens"] == totals["reported_input_tokens"]
        assert totals["output_tokens"] == totals["reported_output_tokens"]

    with_server("", scenario)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 100])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_stream_says_what_the_plain_answer_says(path, chunk_tokens):
    def text_of(body):
        found = []

        def look(value):
            if isinstance(value, dict):
                for key, item in value.items():
                    if key in {"text", "content"} and isinstance(item, str):
                        found.append(item)
                    else:
                        look(item)
            elif isinstance(value, list):
                for item in value:
                    look(item)

        look(body)
        return "".join(found)

    def delta_of(event):
        if event == "[DONE]":
            return ""
        if event.get("type") == "response.output_text.delta":
            return event["delta"]
        if event.get("type") == "content_block_delta":
            return event["delta"]["text"]
        if event.get("choices"):
            choice = event["choices"][0]
            return choice.get("text", "") or choice.get("delta", {}).get("content", "")
        return ""

    async def scenario(server):
        payload = {**CHAT, "prompt": "x", "input": "x", "max_tokens": 7, "max_output_tokens": 7}
        _, _, plain = await call(server, path, payload)
        _, headers, streamed = await call(server, path, {**payload, "stream": True})
        assert headers["content-type"].startswith("text/event-stream")
        assert "".join(map(delta_of, events(streamed))) == text_of(json.loads(plain))
        assert server.record.totals()["output_tokens"] == 14

    with_server(f"--chunk-tokens {chunk_tokens}", scenario)


def usage_in(stream: list[Any]) -> list[Any]:
    return [event["usage"] for event in stream if event != "[DONE]" and event.get("usage")]


@pytest.mark.parametrize(
    ("mode", "is_asked", "place"),
    [
        ("honest", False, None),
        ("honest", True, -2),
        ("always", False, -2),
        ("missing", True, None),
        ("late", True, -1),
    ],
)
def test_usage_of_a_stream_comes_where_the_mode_says(mode, is_asked, place):
    async def scenario(server):
        payload = {**CHAT, "stream": True, "stream_options": {"include_usage": is_asked}}
        _, _, body = await call(server, "/v1/chat/completions", payload)
        seen = events(body)
        if place is None:
            assert usage_in(seen) == []
        else:
            assert seen[place]["usage"]["completion_tokens"] == 16
            assert seen[place]["choices"] == []
            assert len(usage_in(seen)) == 1

    with_server(f"--usage {mode}", scenario)


def test_running_usage_grows_with_each_event():
    async def scenario(server):
        _, _, body = await call(server, "/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 3})
        assert [usage["completion_tokens"] for usage in usage_in(events(body))] == [1, 2, 3]

    with_server("--usage running", scenario)


def test_wrong_usage_differs_from_the_truth_that_is_counted():
    async def scenario(server):
        _, _, body = await call(server, "/v1/chat/completions", CHAT)
        assert json.loads(body)["usage"]["completion_tokens"] == 33
        totals = server.record.totals()
        assert (totals["output_tokens"], totals["reported_output_tokens"]) == (16, 33)

    with_server("--usage wrong", scenario)


def test_several_choices_are_all_counted():
    async def scenario(server):
        _, _, body = await call(server, "/v1/chat/completions", {**CHAT, "n": 3, "max_tokens": 4})
        assert json.loads(body)["usage"]["completion_tokens"] == 12
        await call(server, "/v1/chat/completions", {**CHAT, "n": 2, "max_tokens": 4, "stream": True})
        assert server.record.totals()["output_tokens"] == 12 + 8

    with_server("", scenario)


def test_anthropic_counts_cached_tokens_outside_the_input():
    async def scenario(server):
        _, _, body = await call(server, "/v1/messages", {**CHAT, "max_tokens": 2})
        usage = json.loads(body)["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (4, 4)
        _, _, body = await call(server, "/v1/chat/completions", CHAT)
        assert json.loads(body)["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
        _, _, body = await call(server, "/v1/messages/count_tokens", CHAT)
        assert json.loads(body) == {"input_tokens": 8}

    with_server("--cached-fraction 0.5", scenario)


def test_an_answer_is_never_longer_than_asked_nor_its_input_than_its_bytes():
    async def scenario(server):
        _, _, body = await call(server, "/v1/chat/completions", {"model": "", "messages": [], "max_tokens": 2})
        answer = json.loads(body)
        assert answer["usage"]["completion_tokens"] == 2
        assert answer["choices"][0]["finish_reason"] == "length"
        _, _, body = await call(server, "/v1/chat/completions", {})
        assert json.loads(body)["usage"]["prompt_tokens"] == 2  # "{}" has two bytes

    with_server("--overhead-tokens 50", scenario)


def test_a_seed_makes_lengths_and_shares_repeatable():
    async def scenario(server):
        seen = []
        for _ in range(20):
            status, _, body = await call(server, "/v1/chat/completions", CHAT)
            seen.append((status, json.loads(body).get("usage", {}).get("completion_tokens")))
        return seen

    flags = "--output-tokens lognormal:20:0.8 --fail 500:0.3 --seed"
    first = with_server(f"{flags} 7", scenario)
    assert first == with_server(f"{flags} 7", scenario)
    assert first != with_server(f"{flags} 8", scenario)
    assert 0 < sum(status == 500 for status, _ in first) < 20


def test_the_first_calls_fail_in_the_order_told_and_charge_nothing():
    async def scenario(server):
        statuses = []
        for _ in range(4):
            status, headers, body = await call(server, "/v1/chat/completions", CHAT)
            statuses.append(status)
            if status == 429:
                assert headers["retry-after"] == "1.5"
                assert json.loads(body)["error"]["type"] == "rate_limit_error"
        assert statuses == [429, 429, 500, 200]
        totals = server.record.totals()
        assert (totals["accepted"], totals["refused"], totals["completed"]) == (4, 3, 1)
        assert totals["input_tokens"] == 8

    with_server("--fail 429:2 --fail 500:1 --retry-after 1.5", scenario)


def test_an_anthropic_refusal_is_in_its_own_words():
    async def scenario(server):
        status, _, body = await call(server, "/v1/messages", CHAT)
        assert status == 529
        assert json.loads(body)["error"]["type"] == "overloaded_error"

    with_server("--fail 529", scenario)


@pytest.mark.parametrize("key", ["authorization: Bearer k", "x-api-key: k"])
def test_a_key_is_asked_for_where_one_is_set(key):
    async def scenario(server):
        assert (await call(server, "/v1/chat/completions", CHAT))[0] == 401
        name, value = key.split(": ")
        assert (await call(server, "/v1/chat/completions", CHAT, **{name: value}))[0] == 200

    with_server("--api-key k", scenario)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_cut_stream_ends_without_its_end(end):
    async def scenario(server):
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", {**CHAT, "stream": True})
            got = b""
            error = None
            try:
                while data := await wire.reader.read(65536):
                    got += data
            except ConnectionResetError as reset:
                error = reset
            assert got.count(b"data: ") == 4
            assert b"[DONE]" not in got
            assert not got.endswith(b"0\r\n\r\n")
            assert (error is not None) == (end == "reset")
        (served,) = server.record.count(with_calls=True)["calls"]
        assert (served["state"], served["output_tokens"]) == ("cut", 3)  # the first event is the role

    with_server(f"--cut 4:{end}", scenario)


@pytest.mark.parametrize(("events", "reported"), [(5, 1), (4, None)])
def test_a_stream_that_is_cut_behind_its_last_event_has_reported_what_it_used(events, reported):
    async def scenario(server):
        async with Wire(server) as wire:
            asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 1}
            wire.send("/v1/chat/completions", asked)
            got = await wire.reader.read()
            assert (b"[DONE]" in got) == (reported is not None)
        (served,) = server.record.count(with_calls=True)["calls"]
        assert (served["state"], served["reported_output_tokens"]) == ("cut", reported)

    with_server(f"--cut {events}:close", scenario)


def test_a_plain_answer_is_cut_in_its_middle_and_a_first_cut_gives_no_byte():
    async def scenario(server):
        for _ in range(2):
            async with Wire(server) as wire:
                wire.send("/v1/chat/completions", CHAT)
                got = await wire.reader.read()
                if got:
                    head, _, body = got.partition(b"\r\n\r\n")
                    assert len(body) < int(head.split(b"content-length: ")[1])
        states = [served["state"] for served in server.record.count(with_calls=True)["calls"]]
        assert states == ["cut", "cut"]
        assert got != b""

    with_server("--cut first:close:1 --cut 1:close:1", scenario)


def test_a_stalled_call_that_the_client_leaves_is_counted_as_aborted_with_what_it_made():
    async def scenario(server):
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", {**CHAT, "stream": True}, headers={"x-ownward-request-id": "r1"})
            got = b""
            while got.count(b"data: ") < 4:
                got += await wire.reader.read(65536)
            assert server.record.serving == 1
        while server.record.serving:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        (served,) = server.record.count(with_calls=True)["calls"]
        assert (served["state"], served["output_tokens"], served["request_id"]) == ("aborted", 3, "r1")
        assert served["reported_output_tokens"] is None

    with_server("--stall 3:60", scenario)


def test_a_first_stall_sends_no_byte():
    async def scenario(server):
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", CHAT)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await wire.reader.read(1)

    with_server("--stall first:60", scenario)


def test_garbage_has_status_200_and_no_meaning():
    async def scenario(server):
        status, headers, body = await call(server, "/v1/chat/completions", CHAT)
        assert (status, headers["content-type"]) == (200, "application/json")
        with pytest.raises(ValueError):
            json.loads(body)
        status, headers, body = await call(server, "/v1/chat/completions", {**CHAT, "stream": True})
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert server.record.totals()["garbled"] == 2

    with_server("--garbage json:1 --garbage sse:1", scenario)


def test_split_writes_tear_events_apart_and_lose_nothing():
    async def scenario(server):
        payload = {**CHAT, "stream": True}
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", payload)
            await wire.reader.readuntil(b"\r\n\r\n")
            sizes = []
            parts = []
            while size := int(await wire.reader.readline(), 16):
                sizes.append(size)
                parts.append(await wire.reader.readexactly(size))
                await wire.reader.readexactly(2)
            assert max(sizes) == 7
            assert events(b"".join(parts))[-1] == "[DONE]"

    with_server("--split-bytes 7", scenario)


def test_pace_is_kept():
    async def scenario(server):
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 4})
            head = await wire.reader.readuntil(b"the")
            first_s = loop.time() - began
            await wire.reader.readuntil(b"[DONE]")
            whole_s = loop.time() - began
        assert head
        assert first_s >= 0.05
        assert whole_s >= 0.05 + 3 * 0.02

    with_server("--ttft 0.05 --tpot 0.02", scenario)


def test_tool_calls_and_replies_are_as_told():
    async def scenario(server):
        tools = [{"type": "function", "function": {"name": "lookup", "parameters": {}}}]
        _, _, body = await call(server, "/v1/chat/completions", {**CHAT, "tools": tools})
        (made,) = json.loads(body)["choices"][0]["message"]["tool_calls"]
        assert made["function"]["name"] == "lookup"
        assert json.loads(made["function"]["arguments"]) == {"query": "fake"}
        _, _, body = await call(server, "/v1/messages", {**CHAT, "tools": [{"name": "lookup"}], "max_tokens": 9})
        assert json.loads(body)["content"][0]["name"] == "lookup"
        assert json.loads(body)["stop_reason"] == "tool_use"
        _, _, body = await call(server, "/v1/chat/completions", CHAT)
        assert json.loads(body)["choices"][0]["message"]["content"] == "card_arrival"

    with_server("--tool-calls offered --reply card_arrival", scenario)


def test_what_arrived_can_be_read_back_byte_for_byte():
    async def scenario(server):
        await call(server, "/v1/chat/completions", {**CHAT, "unknown_field": {"a": 1}}, x_own="1")
        _, _, body = await call(server, "/requests")
        (kept,) = json.loads(body)["requests"]
        assert json.loads(kept["body"])["unknown_field"] == {"a": 1}
        assert ["x-own", "1"] in kept["headers"]
        assert (kept["target"], kept["is_body_cut"]) == ("/v1/chat/completions", False)

    with_server("", scenario)


def test_a_call_counts_only_when_its_whole_body_has_arrived():
    async def scenario(server):
        async with Wire(server) as wire:
            wire.writer.write(b'POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 100\r\n\r\n{"model"')
            await wire.writer.drain()
            await asyncio.sleep(0.02)
            assert server.record.totals()["accepted"] == 0
        await asyncio.sleep(0.02)
        assert server.record.totals()["accepted"] == 0

    with_server("", scenario)


def test_requests_in_chunks_and_one_after_the_other_on_a_connection_are_served():
    async def scenario(server):
        body = json.dumps(CHAT).encode()
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:])) + b"0\r\n\r\n"
        async with Wire(server) as wire:
            wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + chunked)
            wire.send("/v1/chat/completions", CHAT)
            assert [(await wire.answer())[0] for _ in range(2)] == [200, 200]

    with_server("", scenario)


def test_nonsense_is_refused():
    async def scenario(server):
        assert (await call(server, "/v1/nothing"))[0] == 404
        assert (await call(server, "/v1/chat/completions", [1]))[0] == 400
        async with Wire(server) as wire:
            wire.writer.write(b"hello\r\n\r\n")
            assert (await wire.reader.read()).startswith(b"HTTP/1.1 400")

    with_server("", scenario)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"max_tokens": -1}',
        b'{"max_tokens": 0}',
        b'{"max_tokens": "many"}',
        b'{"n": true}',
        b'{"n": 1000000}',
        b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_body_that_no_upstream_would_serve_is_refused_and_charges_nothing(payload):
    async def scenario(server):
        async with Wire(server) as wire:
            head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(payload)
            wire.writer.write(head + payload)
            assert (await wire.answer())[0] == 400
        totals = server.record.totals()
        assert (totals["refused"], totals["input_tokens"]) == (1, 0)

    with_server("", scenario)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("mode", ["honest", "always", "late", "running", "missing", "wrong"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_the_record_says_what_the_wire_said(path, mode, is_stream):
    def usages(value):
        if isinstance(value, dict):
            if isinstance(value.get("usage"), dict):
                yield value["usage"]
            for item in value.values():
                yield from usages(item)
        elif isinstance(value, list):
            for item in value:
                yield from usages(item)

    async def scenario(server):
        payload = {**CHAT, "prompt": "x", "input": "x", "stream": is_stream}
        _, _, body = await call(server, path, payload)
        told = list(usages(events(body) if is_stream else json.loads(body)))
        (served,) = server.record.count(with_calls=True)["calls"]
        if mode == "missing":
            assert told == []
        if told:
            outputs = [usage.get("output_tokens", usage.get("completion_tokens")) for usage in told]
            assert outputs[-1] == served["reported_output_tokens"]
            if mode != "wrong":
                assert served["reported_output_tokens"] == served["output_tokens"] == 16
        else:
            assert served["reported_output_tokens"] is None

    with_server(f"--usage {mode}", scenario)


def test_too_many_at_once_are_told_to_wait():
    async def scenario(server):
        async with Wire(server) as first, Wire(server) as second:
            first.send("/v1/chat/completions", CHAT)
            await asyncio.sleep(0.02)
            second.send("/v1/chat/completions", CHAT)
            assert (await second.answer())[0] == 429

    with_server("--max-concurrency 1 --stall first:60", scenario)


def test_the_count_file_has_each_call_before_its_answer_and_after_its_end(tmp_path):
    async def scenario(server):
        path = tmp_path / "count.jsonl"
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", CHAT, headers={"x-ownward-request-id": "r", "x-ownward-attempt": "2"})
            await wire.answer()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["event"] for line in lines] == ["accepted", "ended"]
        assert {(line["request_id"], line["attempt"]) for line in lines} == {("r", "2")}
        assert lines[1]["state"] == "completed"
        assert lines[1]["reported_output_tokens"] == 16

    with_server(f"--count-file {tmp_path / 'count.jsonl'}", scenario)


def test_a_long_stream_at_once_is_whole_and_stops_when_its_client_leaves():
    async def scenario(server):
        _, _, body = await call(server, "/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 5000})
        assert len(events(body)) == 5000 + 3
        async with Wire(server) as wire:
            wire.send("/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 500_000})
            await wire.reader.read(1000)
        while server.record.serving:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        last = server.record.count(with_calls=True)["calls"][-1]
        assert last["state"] == "aborted"
        assert 0 < last["output_tokens"] < 500_000

    with_server("--output-tokens max", scenario)


def test_hundreds_of_streams_at_once_are_all_counted():
    async def scenario(server):
        async def one():
            return await call(server, "/v1/chat/completions", {**CHAT, "stream": True})

        answers = await asyncio.gather(*(one() for _ in range(300)))
        assert all(body.endswith(b"data: [DONE]\n\n") for _, _, body in answers)
        totals = server.record.totals()
        assert (totals["completed"], totals["output_tokens"]) == (300, 300 * 16)

    with_server("--ttft 0.05 --tpot 0.01", scenario)


def test_it_can_be_told_anew_while_it_runs():
    async def scenario(server):
        server.set_options(FakeOptions(reply="changed"))
        _, _, body = await call(server, "/v1/chat/completions", CHAT)
        assert json.loads(body)["choices"][0]["message"]["content"] == "changed"
        assert (await call(server, "/reset", {}))[0] == 200
        assert server.record.totals()["accepted"] == 0

    with_server("", scenario)
