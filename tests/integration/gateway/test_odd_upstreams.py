"""Upstreams that answer what was not asked for, or what is no answer: the next one is asked, or the client is told."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ownward.gateway.calling import relaying
from ownward.plan import Upstream

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
WHOLE = {
    "id": "x1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


def event(delta, finish_reason=None, **more):
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return b"data: " + json.dumps({"id": "x1", "choices": choices, **more}).encode() + b"\n\n"


LAST = b"data: " + json.dumps({"id": "x1", "choices": [], "usage": USAGE}).encode() + b"\n\n"
CHOICELESS = json.dumps({**WHOLE, "choices": []}).encode()
EVENTS = event({"content": "hello"}) + event({}, "stop") + LAST


def said(body, *, content_type="text/event-stream", status=200):
    """Return the script of an upstream that always says this, whatever it is asked."""

    async def script(_body, _reader, writer):
        head = f"HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return script


def good(stream):
    return said(EVENTS + b"data: [DONE]\n\n") if stream else said(json.dumps(WHOLE).encode(), content_type="a/json")


@pytest.mark.parametrize(
    ("stream", "script", "state"),
    [
        (False, said(EVENTS + b"data: [DONE]\n\n"), "settled"),
        (False, said(EVENTS[:-2]), "settled"),
        (False, said(EVENTS[:60]), "unsettled"),
        (True, said(b"data: {garbage\n\n"), "unsettled"),
        (True, said(b"data: [1, 2]\n\n"), "unsettled"),
        (True, said(b": wait\n\ndata: <html>\n\n"), "unsettled"),
        (False, said(b"{}", content_type="application/json"), "unsettled"),
        (False, said(b'{"detail": "not here"}', content_type="application/json"), "unsettled"),
        (False, said(b'{"type": "message", "content": []}', content_type="application/json"), "unsettled"),
        (False, said(b"x", content_type="text/plain", status=999), "unsettled"),
        (True, said(b"x", content_type="text/plain", status=777), "unsettled"),
        (False, said(CHOICELESS, content_type="application/json"), "settled"),
        (True, said(CHOICELESS, content_type="application/json"), "settled"),
        (True, said(LAST + b"data: [DONE]\n\n"), "settled"),
        (True, said(event({"role": "assistant", "content": ""}, "error") + LAST + b"data: [DONE]\n\n"), "settled"),
        (True, said(event({"role": "assistant"}, "abort")), "unsettled"),
    ],
    ids=[
        "a stream for a whole",
        "a stream for a whole, without its last line feeds",
        "a cut stream for a whole",
        "garbage",
        "a list",
        "a page after a comment",
        "an empty object",
        "an object of a web framework",
        "an answer of the other dialect",
        "999",
        "777",
        "no choice",
        "no choice, whole for a stream",
        "a stream of nothing but usage",
        "a stream that is given up as it begins",
        "a stream that is given up as it begins, without usage",
    ],
)
def test_an_answer_that_is_none_moves_on_to_the_next_upstream(lab, start, stream, script, state):
    async def main():
        async with lab.Scripted(script) as odd, lab.Scripted(good(stream)) as fine:
            plan = lab.plan_of(lab.tier("a", odd.base_url), lab.tier("b", fine.base_url))
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat(stream=stream))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert b"hello" in answer.body
                first, second = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (first["state"], second["state"]) == (state, "settled")
                if state == "settled":
                    assert first["output_tokens"] == 2

    asyncio.run(main())


def test_an_answer_without_a_choice_is_passed_on_where_nobody_else_is_left(lab, start):
    async def main():
        async with lab.Scripted(said(CHOICELESS, content_type="application/json")) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.body) == (200, CHOICELESS)
                answer = await running.ask(body=lab.chat(stream=True))
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (502, "broken_stream")
                assert [row["state"] for row in await running.rows()] == ["settled", "settled"]

    asyncio.run(main())


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_was_given_up_is_asked_for_elsewhere_and_is_passed_on_where_nobody_else_is_left(
    lab, start, reason
):
    """vLLM aborts what runs when it is stopped, and answers 200; OpenRouter tells of a provider's failure so."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hal"}, "finish_reason": reason}
    body = json.dumps({**WHOLE, "choices": [choice]}).encode()

    async def main():
        async with lab.Scripted(said(body, content_type="application/json")) as odd, lab.Scripted(good(False)) as fine:
            tiers = lab.tier("a", odd.base_url), lab.tier("b", fine.base_url)
            async with start(lab.plan_of(*tiers)) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert answer.json == WHOLE
                rows = await running.rows()
                assert [(row["state"], row["output_tokens"]) for row in rows] == [("settled", 2), ("settled", 2)]
            async with start(lab.plan_of(tiers[0])) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.body) == (200, body)

    asyncio.run(main())


def test_a_stream_that_ends_cleanly_without_done_is_whole(lab, start):
    async def main():
        async with lab.Scripted(said(EVENTS)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.body == event({"content": "hello"}) + event({}, "stop")
                (row,) = await running.rows()
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 10, 2)

    asyncio.run(main())


def test_a_stream_that_ends_before_its_finish_reason_is_broken(lab, start):
    async def main():
        async with lab.Scripted(said(event({"content": "hello"}) + LAST)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert b'"error"' in answer.body
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_a_stream_that_turns_into_garbage_ends_with_an_error_event(lab, start):
    async def script(_body, _reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        writer.write(event({"content": "hello"}))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"data: {oops\n\n" + EVENTS + b"data: [DONE]\n\n")
        writer.close()

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                first, last = [json.loads(part[6:]) for part in answer.body.split(b"\n\n") if part]
                assert first["choices"][0]["delta"]["content"] == "hello"
                assert "not JSON" in last["error"]["message"]
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/chat/completions", b"not JSON"), ("/v1/messages", b"not a JSON object")]
)
def test_garbage_in_the_piece_that_makes_a_stream_whole_ends_it_with_an_error(lab, start, path, said):
    """The upstream's answer is then over by HTTP's own account, and its last word was read."""

    async def script(_body, _reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(event({"content": "hello"})))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(lab.chunk(b"data: {oops\n\n" + EVENTS + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(path, body=lab.chat(stream=True, max_tokens=5))
                assert b"hello" in answer.body
                assert b"error" in answer.body.split(b"\n\n")[-2]
                assert said in answer.body
                assert b"[DONE]" not in answer.body
                assert b"message_stop" not in answer.body
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_a_byte_order_mark_before_a_stream_is_skipped(lab, start):
    async def main():
        async with lab.Scripted(said(b"\xef\xbb\xbf" + EVENTS + b"data: [DONE]\n\n")) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.body.startswith(b"data: ")
                (row,) = await running.rows()
                assert row["state"] == "settled"

    asyncio.run(main())


@pytest.mark.parametrize("count", [10**30, 2**63, 2**41, -1, "10", 2.5, True])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_count_that_is_none_leaves_the_charge_open_and_the_ledger_whole(lab, start, count, stream):
    usage = {"prompt_tokens": count, "completion_tokens": 2}
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    body = event({"content": "hello"}, "stop") + last if stream else json.dumps({**WHOLE, "usage": usage}).encode()
    script = said(body, content_type="text/event-stream" if stream else "application/json")

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=stream))
                assert answer.status == 200
                (row,) = await running.rows()
                assert (row["state"], row["status"]) == ("unsettled", 200)

    asyncio.run(main())


@pytest.mark.parametrize("asks_usage", [False, True])
def test_a_whole_answer_is_told_as_the_stream_that_was_asked_for(lab, start, asks_usage):
    async def main():
        async with lab.Scripted(said(json.dumps(WHOLE).encode(), content_type="application/json")) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                options = {"stream_options": {"include_usage": True}} if asks_usage else {}
                answer = await running.ask(body=lab.chat(stream=True, **options))
                assert answer.headers["content-type"] == "text/event-stream"
                parts = [part[6:] for part in answer.body.split(b"\n\n") if part]
                assert parts.pop() == b"[DONE]"
                told = [json.loads(part) for part in parts]
                assert told[0]["choices"][0]["delta"]["content"] == "hello"
                assert told[1]["choices"][0]["finish_reason"] == "stop"
                assert [item.get("usage") for item in told[2:]] == ([USAGE] if asks_usage else [])
                (row,) = await running.rows()
                assert (row["state"], row["output_tokens"]) == ("settled", 2)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_upstream_that_gives_every_answer_the_same_id_loses_no_row(lab, start, stream):
    async def main():
        async with lab.Scripted(good(stream)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                for _ in range(5):
                    assert (await running.ask(body=lab.chat(stream=stream))).status == 200
                rows = await running.rows()
                assert [row["state"] for row in rows] == ["settled"] * 5
                assert {row["upstream_request_id"] for row in rows} == {"x1"}
                assert len({row["request_id"] for row in rows}) == 5

    asyncio.run(main())


HALF = b'data: {"id":"x1","choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n'
NO_NUMBER = b'data: {"id":"x1","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"p":-Infinity}}]}\n\n'


@pytest.mark.parametrize("odd", [HALF, NO_NUMBER], ids=["half a surrogate pair", "-Infinity"])
def test_an_event_that_clients_can_read_passes_though_our_own_decoder_refuses_it(lab, start, odd):
    """An engine that cuts an emoji between two events must not cost the client its answer."""

    async def main():
        stream = event({"content": "hello"}) + odd + event({}, "stop")
        async with lab.Scripted(said(stream + LAST + b"data: [DONE]\n\n")) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.body == stream + b"data: [DONE]\n\n"
                (row,) = await running.rows()
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 10, 2)

    asyncio.run(main())


def test_a_whole_answer_with_half_a_surrogate_pair_passes(lab, start):
    async def main():
        body = json.dumps(WHOLE).replace("hello", "\\ud83d").encode()
        async with lab.Scripted(said(body, content_type="application/json")) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.body) == (200, body)
                (row,) = await running.rows()
                assert (row["state"], row["output_tokens"]) == ("settled", 2)

    asyncio.run(main())


def packed(body, *, content_type, coding="gzip"):
    return said(gzip.compress(body), content_type=f"{content_type}\r\ncontent-encoding: {coding}")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_packed_though_nobody_asked_for_it_is_unpacked(lab, start, stream):
    async def main():
        body = EVENTS + b"data: [DONE]\n\n" if stream else json.dumps(WHOLE).encode()
        content_type = "text/event-stream" if stream else "application/json"
        async with lab.Scripted(packed(body, content_type=content_type)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=stream))
                assert answer.status == 200
                assert answer.body == body.replace(LAST, b"")
                assert "content-encoding" not in answer.headers
                (row,) = await running.rows()
                assert (row["state"], row["output_tokens"]) == ("settled", 2)

    asyncio.run(main())


def test_an_answer_packed_in_a_way_nobody_reads_here_is_refused_by_name(lab, start):
    async def main():
        script = packed(json.dumps(WHOLE).encode(), content_type="application/json", coding="br")
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 502
                assert "content-encoding" in answer.json["error"]["message"]

    asyncio.run(main())


def test_an_error_that_is_told_with_status_200_keeps_its_words(lab, start):
    async def main():
        said_no = said(b'{"error": {"message": "the model is not loaded"}}', content_type="application/json")
        async with lab.Scripted(said_no) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 502
                assert "the model is not loaded" in answer.json["error"]["message"]

    asyncio.run(main())


def test_a_page_with_which_a_proxy_refuses_is_told_as_an_error_of_the_clients_dialect(lab, start):
    async def main():
        page = b"<html><title>413 Request Entity Too Large</title></html>"
        async with lab.Scripted(said(page, content_type="text/html", status=413)) as proxy:
            async with start(lab.plan_of(lab.tier("a", proxy.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["content-type"]) == (413, "application/json")
                assert "413 Request Entity Too Large" in answer.json["error"]["message"]

    asyncio.run(main())


def test_a_redirect_is_not_followed_and_says_what_to_write(lab, start):
    async def main():
        elsewhere = said(b"", content_type="text/plain\r\nlocation: http://127.0.0.1:1/", status=307)
        async with lab.Scripted(elsewhere) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 502
                assert "redirects are not followed" in answer.json["error"]["message"]
                assert "url in the plan" in answer.json["error"]["next"]

    asyncio.run(main())


@pytest.mark.parametrize("status", [404, 429, 500])
def test_the_last_refusal_is_passed_on_with_the_headers_that_clients_read(lab, start, status):
    """SDKs take an error's id and whether to try again from headers."""

    async def main():
        named = (
            "application/json\r\nx-request-id: up-7\r\nx-should-retry: false\r\nset-cookie: a=b\r\nretry-after-ms: 9"
        )
        async with lab.Scripted(said(b'{"error": {"message": "no"}}', content_type=named, status=status)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.json["error"]["message"]) == (status, "no")
                assert answer.headers["x-request-id"] == "up-7"
                assert answer.headers["x-should-retry"] == "false"
                assert answer.headers["retry-after-ms"] == "9"
                assert "set-cookie" not in answer.headers

    asyncio.run(main())


def test_an_upstream_that_asks_to_wait_until_a_date_is_left_alone_until_then(lab, start):
    async def main():
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
        waits = said(
            b'{"error": {"message": "no"}}', content_type=f"application/json\r\nretry-after: {until}", status=429
        )
        async with lab.Scripted(waits) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                first = await running.ask(body=lab.chat())
                assert (first.status, first.headers["retry-after"]) == (429, until)
                second = await running.ask(body=lab.chat())
                assert (second.status, second.json["error"]["ownward_kind"]) == (429, "rate_limited")
                assert 35 <= int(second.headers["retry-after"]) <= 40

    asyncio.run(main())


def test_a_stream_that_breaks_off_after_comments_alone_is_asked_for_elsewhere(lab, start):
    """OpenRouter says `: OPENROUTER PROCESSING` before it knows whether there will be an answer."""

    async def main():
        failed = b': PROCESSING\n\n: PROCESSING\n\ndata: {"error": {"message": "no provider"}}\n\n'
        for broken in (failed, b": PROCESSING\n\n: PROC"):
            async with lab.Scripted(said(broken)) as odd, lab.Scripted(good(stream=True)) as fine:
                plan = lab.plan_of(lab.tier("a", odd.base_url), lab.tier("b", fine.base_url))
                async with start(plan) as running:
                    answer = await running.ask(body=lab.chat(stream=True))
                    assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                    assert b"PROC" not in answer.body
                    assert b"hello" in answer.body

    asyncio.run(main())


def dies_after(beginning):
    """Return the script of an upstream whose connection dies after these bytes of a stream."""

    async def script(_body, _reader, writer):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n" % (len(beginning), beginning))
        await writer.drain()
        writer.transport.abort()

    return script


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(
    "beginning", [b"data: {", EVENTS[:40], b": wait\n\n" + EVENTS[:40]], ids=["a brace", "half", "half after a comment"]
)
def test_a_stream_that_dies_in_its_first_event_is_asked_for_elsewhere(lab, start, beginning, path):
    async def main():
        async with lab.Scripted(dies_after(beginning)) as odd, lab.Scripted(good(stream=True)) as fine:
            plan = lab.plan_of(lab.tier("a", odd.base_url), lab.tier("b", fine.base_url))
            async with start(plan) as running:
                answer = await running.ask(path, lab.chat(stream=True, max_tokens=50))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert b"hello" in answer.body
                assert b"error" not in answer.body
                first, second = await running.rows()
        assert (first["state"], second["state"]) == ("unsettled", "settled")

    asyncio.run(main())


def test_the_head_goes_on_where_half_of_a_first_event_waits_long_for_the_other(lab, start, monkeypatch):
    """Half an event is of no use to anybody, and would be in the way of an error."""
    monkeypatch.setattr(relaying, "_BEGINNING_HELD_S", 0.05)
    goes_on = asyncio.Event()

    async def slow(_body, _reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENTS[:40])
        await writer.drain()
        await goes_on.wait()
        writer.write(EVENTS[40:] + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def main():
        async with lab.Scripted(slow) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                async with lab.Client(running.base_url) as client:
                    body = lab.chat(stream=True, stream_options={"include_usage": True})
                    await client.send("/v1/chat/completions", body)
                    answer = await asyncio.wait_for(client.head(), 5)
                    goes_on.set()
                    assert (await client.rest(answer)).body == EVENTS + b"data: [DONE]\n\n"

    asyncio.run(main())


@pytest.mark.parametrize("ends_by", ["a cut", "an end"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_stream_that_is_cut_in_an_event_ends_with_whole_events(lab, start, path, ends_by):
    """A reader that is given half an event fails at that, and never sees the error behind it."""
    first, second = {
        "/v1/chat/completions": (event({"content": "hello"}), event({"content": "you"})),
        "/v1/messages": [
            b"event: %b\ndata: %b\n\n" % (said["type"].encode(), json.dumps(said).encode())
            for said in (
                {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
            )
        ],
        "/v1/responses": [
            b"event: response.output_text.delta\ndata: "
            + json.dumps({"type": kind, "delta": "hello"}).encode()
            + b"\n\n"
            for kind in ["response.output_text.delta"] * 2
        ],
    }[path]

    async def script(_body, _reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(b": a sign of life\n") + lab.chunk(first))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(lab.chunk(second[:40]) + (b"0\r\n\r\n" if ends_by == "an end" else b""))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def main():
        async with lab.Scripted(script) as upstream:
            dialect = "anthropic" if path == "/v1/messages" else "openai"
            speaks = Upstream(name="n", url=upstream.base_url, dialect=dialect)
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(speaks,)))) as running:
                asked = {"input": "x"} if path == "/v1/responses" else {"messages": [], "max_tokens": 5}
                usage = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
                answer = await running.ask(path, {"model": "chat", "stream": True, **asked, **usage})
                assert answer.body.startswith(b": a sign of life\n" + first)
                lines = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
                assert len([json.loads(line) for line in lines]) == 2
                assert b"broke" in lines[-1]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream"])
def test_a_stream_that_is_announced_as_something_else_is_passed_on_as_the_stream_it_is(lab, start, content_type, path):
    async def main():
        script = said(EVENTS + b"data: [DONE]\n\n", content_type=content_type)
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(path, lab.chat(stream=True, max_tokens=50))
                assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
                assert b"hello" in answer.body
                (row,) = await running.rows()
        assert (row["state"], row["output_tokens"]) == ("settled", 2)

    asyncio.run(main())


def test_comments_go_on_where_the_first_event_takes_long(lab, start, monkeypatch):
    """Clients with a short patience live on them."""
    monkeypatch.setattr(relaying, "_BEGINNING_HELD_S", 0.05)

    async def slow(_body, _reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: wait\n\n")
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.write(EVENTS + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def main():
        async with lab.Scripted(slow) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.body.startswith(b": wait\n\ndata: ")
                assert answer.body.endswith(b"data: [DONE]\n\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("text/plain", b"CUDA out\nof memory\x07", "It says: CUDA out of memory"),
        ("text/html", b"<html><head><title>502 Bad\nGateway</title></head>lots</html>", "It says: 502 Bad Gateway"),
        ("text/html", b"<html>lots</html>", None),
        ("image/png", b"\x89PNG", None),
        ("text/plain", b"", None),
    ],
)
def test_the_words_of_an_error_that_is_no_json_reach_the_client_and_not_the_ledger(
    lab, start, content_type, body, words
):
    async def main():
        async with lab.Scripted(said(body, content_type=content_type, status=500)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.json["error"]["allowed"]) == (502, words)
                (row,) = await running.rows()
                assert "CUDA" not in json.dumps(row, default=str)

    asyncio.run(main())


def test_a_page_that_says_when_to_come_back_is_obeyed_by_the_client(lab, start):
    async def main():
        busy = said(b"<html></html>", content_type="text/html\r\nretry-after: 3", status=503)
        async with lab.Scripted(busy) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["retry-after"]) == (502, "3")

    asyncio.run(main())


def test_an_account_without_credit_is_the_operators_fault_and_the_next_upstream_is_asked(lab, start):
    async def main():
        unpaid = said(b'{"error": {"message": "Insufficient Balance"}}', content_type="application/json", status=402)
        async with lab.Scripted(unpaid) as poor, lab.Scripted(good(stream=False)) as fine:
            plan = lab.plan_of(lab.tier("a", poor.base_url), lab.tier("b", fine.base_url))
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
            async with start(lab.plan_of(lab.tier("a", poor.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (502, "upstream_unpaid")
                assert "no credit left" in answer.json["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_an_upstream_that_refuses_to_be_asked_for_usage_is_asked_without_it(lab, start, path):
    """Mistral's service refuses members that it does not know, and tells usage in the last piece all the same."""

    async def strict(body, reader, writer):
        if b"stream_options" in body:
            no = b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}'
            await said(no, content_type="application/json", status=422)(body, reader, writer)
        else:
            ends = event({}, "stop", usage=USAGE)
            await said(event({"content": "hello"}) + ends + b"data: [DONE]\n\n")(body, reader, writer)

    async def main():
        async with lab.Scripted(strict) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                first = [running.ask(path, lab.chat(stream=True)) for _ in range(3)]
                assert [answer.status for answer in await asyncio.gather(*first)] == [200, 200, 200]
                later = await running.ask(path, lab.chat(stream=True))
                assert (later.status, later.headers["x-ownward-attempts"]) == (200, "1")
                assert b"hello" in later.body
                assert b"error" not in later.body
                rows = await running.rows()
                assert {row["output_tokens"] for row in rows if row["state"] == "settled"} == {2}
                assert sum(row["state"] == "settled" for row in rows) == 4
                asked = lab.chat(stream=True, stream_options={"include_usage": True})
                refused = await running.ask(body=asked)
                assert refused.status == 422, "what the client itself asks for is the upstream's to refuse"

    asyncio.run(main())
