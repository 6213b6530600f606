"""Responses that clients continue, with OpenAI's own client: over every dialect, within bounds, gone when deleted."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from datetime import UTC, datetime

import openai
import pytest

from leftovers import none_alive, resting_collector
from ownward import ledger
from ownward.core import LedgerError, ManualClock
from ownward.engines import Cut, Failure, FakeOptions, FakeServer, Stall
from ownward.gateway import GatewaySettings
from ownward.gateway.exchange import Exchange
from ownward.gateway.keeping.bodies import delete_expired
from ownward.gateway.keeping.responses import Keeping
from ownward.plan import Match, Strategy, Upstream, Workload
from ownward.policy import ANY, LOCAL_ONLY, Label

RESPONSES = "/v1/responses"
DAY_S = 86_400
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOOL = {
    "type": "function",
    "name": "look_up",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}


class Clock(ManualClock):
    """Wall time by hand, the monotonic clock of the machine."""

    def monotonic_s(self) -> float:
        return time.monotonic()


def keeping(**more):
    return GatewaySettings(port=0, drain_s=2, keep_responses_s=DAY_S, **more)


def three_tiers(lab, fakes):
    """Return tiers that serve responses themselves, chats alone, and messages alone."""
    native, chat, messages = fakes
    return (
        lab.tier("native", native.base_url),
        lab.tier("owned", chat.base_url, kind="owned", engine="llama-server"),
        lab.tier(
            "messages",
            messages.base_url,
            upstreams=(Upstream(name="m", url=messages.base_url, dialect="anthropic"),),
            max_output_tokens=64,
        ),
    )


class Served:
    """A gateway in a thread of its own with its three upstreams, and a client of OpenAI's."""

    def __init__(self, loop, running, fakes):
        self.loop, self.running, self.fakes = (
            loop,
            running,
            dict(zip(("native", "owned", "messages"), fakes, strict=True)),
        )
        self.client = openai.OpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0)

    def create(self, tier="native", **more):
        return self.client.responses.create(model="chat", extra_headers={"x-ownward-tier": tier}, **more)

    def heard(self, tier="native"):
        return json.loads(self.fakes[tier].record.requests()["requests"][-1]["body"])

    def rows(self):
        return asyncio.run_coroutine_threadsafe(self.running.rows(), self.loop).result(10)


@pytest.fixture
def served(lab, start):
    """Serve three fakes with the options given."""
    ends = []

    def serve(**options):
        ready, end, kept = threading.Event(), asyncio.Event(), []

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                fakes = [await stack.enter_async_context(FakeServer(FakeOptions(**options))) for _ in range(3)]
                tiers = three_tiers(lab, fakes)
                async with start(lab.plan_of(*tiers), settings=keeping()) as running:
                    kept.append(Served(asyncio.get_running_loop(), running, fakes))
                    ready.set()
                    await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert ready.wait(10)
        ends.append((kept[0], end, thread))
        return kept[0]

    yield serve
    for place, end, thread in ends:
        place.client.close()
        place.loop.call_soon_threadsafe(end.set)
        thread.join(10)


def said(response, kind):
    return [item for item in response if item["type"] == kind]


# The real client.


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_a_conversation_goes_on_at_any_tier_that_another_began(served, is_streamed):
    place = served(reply="a b c")

    def ask(tier, **more):
        if not is_streamed:
            return place.create(tier, **more)
        with place.client.responses.stream(model="chat", extra_headers={"x-ownward-tier": tier}, **more) as stream:
            return stream.get_final_response()

    previous = None
    for number, tier in enumerate(("native", "owned", "messages", "native", "owned")):
        asked = {"input": f"question {number}", "instructions": f"be {number}"}
        answer = ask(tier, **asked, **({"previous_response_id": previous} if previous else {}))
        assert answer.output_text == "a b c"
        assert answer.previous_response_id == previous
        assert answer.store is True
        previous = answer.id
        heard = json.dumps(place.heard(tier))
        assert [f"question {n}" in heard for n in range(number + 1)] == [True] * (number + 1)
        assert heard.count("a b c") == number
        assert [f"be {n}" in heard for n in range(number)] == [False] * number  # instructions are not inherited
        assert "previous_response_id" not in heard
    used = [row["input_tokens"] for row in place.rows()]
    assert used[3] > 3 * used[0]  # what was said before is input, and counted as such
    assert used[4] > 2 * used[1]


def test_it_is_retrieved_listed_and_deleted(served):
    place = served(reply="a b c")
    first = place.create(input="one")
    second = place.create(
        "owned",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "two"}]}],
        previous_response_id=first.id,
    )
    again = place.client.responses.retrieve(second.id)
    assert again.model_dump() == second.model_dump()
    listed = place.client.responses.input_items.list(second.id, order="asc")
    texts = [item.content[0].text for item in listed.data]
    assert (texts, [item.role for item in listed.data]) == (["one", "a b c", "two"], ["user", "assistant", "user"])
    ids = [item.id for item in listed.data]
    assert len(set(ids)) == 3
    assert [item.id for item in place.client.responses.input_items.list(second.id)] == ids[::-1]
    assert [item.id for item in place.client.responses.input_items.list(second.id, limit=1, order="asc")] == ids
    place.client.responses.delete(first.id)
    for gone in (lambda: place.client.responses.retrieve(first.id), lambda: place.client.responses.delete(first.id)):
        with pytest.raises(openai.NotFoundError):
            gone()
    assert place.client.responses.retrieve(second.id).id == second.id
    with pytest.raises(openai.BadRequestError, match="is gone"):
        place.create(input="three", previous_response_id=second.id)


@pytest.mark.parametrize("tier", ["owned", "messages"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_a_tool_loop_sends_only_what_the_tool_gave(served, tier, is_streamed):
    place = served(reply="done", tool_calls="until-results", thinking="let me think")

    def ask(**more):
        asked = {"extra_headers": {"x-ownward-tier": tier}, "model": "chat", "tools": [TOOL], **more}
        if not is_streamed:
            return place.client.responses.create(**asked)
        with place.client.responses.stream(**asked) as stream:
            return stream.get_final_response()

    first = ask(input="what is it?")
    (call,) = [item for item in first.output if item.type == "function_call"]
    second = ask(
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "it is this"}],
        previous_response_id=first.id,
    )
    assert second.output_text == "done"
    listed = place.client.responses.input_items.list(second.id, order="asc")
    kinds = [item.type for item in listed]
    assert kinds[0] == "message"
    assert kinds[-2:] == ["function_call", "function_call_output"]


def test_errors_say_what_openai_says(served):
    place = served()
    with pytest.raises(openai.BadRequestError) as unknown:
        place.create(input="x", previous_response_id="resp_" + "0" * 48)
    assert (unknown.value.code, unknown.value.param) == ("previous_response_not_found", "previous_response_id")
    with pytest.raises(openai.BadRequestError, match="background"):
        place.create(input="x", background=True)
    with pytest.raises(openai.BadRequestError, match="conversation"):
        place.create(input="x", conversation="conv_1")
    with pytest.raises(openai.BadRequestError, match="referred to"):
        place.create(input=[{"type": "item_reference", "id": "msg_1"}])
    with pytest.raises(openai.NotFoundError):
        place.client.responses.retrieve("resp_unknown")


def test_store_false_keeps_nothing_and_passes_as_it_came(served):
    place = served()
    kept = place.create(input="one")
    apart = place.create(input="two", store=False, previous_response_id=kept.id)
    assert (apart.store, apart.previous_response_id) == (False, kept.id)
    with pytest.raises(openai.NotFoundError):
        place.client.responses.retrieve(apart.id)
    with pytest.raises(openai.BadRequestError):
        place.create(input="three", previous_response_id=apart.id)
    place.create(input="four", store=False)
    assert place.heard() == {"model": "native-model", "input": "four", "store": False}


# Bounds, faults and time.


def asked(text="hi", **more):
    return {"model": "chat", "input": text, **more}


def events_of(answer):
    payloads = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(payload) for payload in payloads]


def test_nothing_is_kept_unless_the_settings_say_so(lab, start):
    async def main():
        async with FakeServer() as fake:
            owned = lab.tier("owned", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(lab.tier("a", fake.base_url), owned)) as running:
                answer = await running.ask(RESPONSES, asked())
                assert json.loads(fake.record.requests()["requests"][-1]["body"]) == {
                    "model": "a-model",
                    "input": "hi",
                }
                told = await running.ask(f"{RESPONSES}/{answer.json['id']}")
                assert (told.status, "keep_responses_s" in told.body.decode()) == (404, True)
                refused = await running.ask(RESPONSES, asked(store=True), headers={"x-ownward-tier": "owned"})
                assert (refused.status, refused.json["error"]["param"]) == (400, "store")
                for tier in ("a", "owned"):
                    refused = await running.ask(RESPONSES, asked(background=True), headers={"x-ownward-tier": tier})
                    assert (refused.status, refused.json["error"]["param"]) == (400, "background")

    asyncio.run(main())


def test_a_cut_stream_is_not_kept_and_a_whole_one_is_there_before_its_end_is_told(lab, start):
    async def main():
        cutting = FakeOptions(cuts=(Cut.parse("4::1"),), reply="a b c d")
        async with FakeServer(cutting) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=keeping()) as running:
                broken = await running.ask(RESPONSES, asked(stream=True))
                events = events_of(broken)
                assert events[-1]["type"] == "error"
                name = events[0]["response"]["id"]
                assert (await running.ask(f"{RESPONSES}/{name}")).status == 404
                async with lab.Client(running.base_url) as client:
                    await client.send(RESPONSES, asked(stream=True))
                    await client.head()
                    told = b""
                    while b"response.completed" not in told:
                        told += await client.piece()
                    name = events_of(lab.Answer(200, {}, told))[0]["response"]["id"]
                    found = await running.ask(f"{RESPONSES}/{name}")
                    assert (found.status, found.json["status"]) == (200, "completed")

    asyncio.run(main())


def test_an_answer_that_cannot_be_kept_is_told_all_the_same_and_says_so(lab, start, monkeypatch, caplog):
    async def main():
        async with FakeServer(FakeOptions(reply="word " * 50)) as fake:
            settings = keeping(keep_response_bytes=700)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                large = await running.ask(RESPONSES, asked())
                assert (large.status, large.json["store"]) == (200, False)

                def fail(*_, **__):
                    raise LedgerError("the disk is full")

                monkeypatch.setattr(running.ledger, "keep_response", fail)
                for stream in (False, True):
                    unkept = await running.ask(RESPONSES, asked(stream=stream, max_output_tokens=2))
                    last = events_of(unkept)[-1]["response"] if stream else unkept.json
                    assert (unkept.status, last["store"]) == (200, False)
                    assert last["status"] == "incomplete"
        assert "the disk is full" in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize("status", ["failed", "in_progress", "cancelled"])
def test_what_is_no_answer_yet_or_none_at_all_is_not_kept(lab, start, status):
    async def main():
        body = json.loads(response_with(SAID)) | {"status": status}
        async with lab.Scripted(lab.whole(json.dumps(body).encode())) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=keeping()) as running:
                answer = await running.ask(RESPONSES, asked())
                assert (answer.status, answer.json["store"]) == (200, False)
                assert (await running.ask(f"{RESPONSES}/{answer.json['id']}")).status == 404

    asyncio.run(main())


def test_a_request_that_is_not_to_be_kept_passes_byte_for_byte(lab, start):
    async def main():
        async with lab.Scripted(lab.whole(response_with(SAID))) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=keeping()) as running:
                sent = b'{ "input":"x" ,"store":  false, "x":1.50, "model": "chat"}'
                answer = await running.ask(RESPONSES, sent)
                assert upstream.heard[0][2] == sent.replace(b'"chat"', b'"a-model"')
                assert answer.body == response_with(SAID)

    asyncio.run(main())


def numbered(kind, number, **fields):
    data = {"type": kind, "sequence_number": number, **fields}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


WHOLE_STREAM = b"".join(
    [
        numbered("response.created", 0, response={"id": "resp_of_theirs", "status": "in_progress"}),
        b": alive\n\n",
        *(numbered("response.output_text.delta", 1 + n, delta=f" word {n}", item_id="m") for n in range(20)),
        numbered("response.output_text.delta", 21, delta='"response" in words', item_id="m"),
        numbered("response.completed", 22, response={"id": "resp_of_theirs", "status": "completed", "output": []}),
    ]
)
BEHIND = b": behind the last word\n\n"


@pytest.mark.parametrize("piece_bytes", [1, 7, 61, 100_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_kept_stream_takes_the_quick_way_and_is_told_as_on_the_slow_one(
    lab, start, monkeypatch, piece_bytes, line_end
):
    stream = (WHOLE_STREAM + BEHIND).replace(b"\n", line_end)
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]

    async def script(body, reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(b": begins\n\n" + numbered("response.in_progress", 0)))
        await asyncio.sleep(0.05)
        for piece in pieces:
            writer.write(lab.chunk(piece))
            await asyncio.sleep(0)
        writer.write(lab.chunk(b""))

    written = []
    write = Keeping.write

    def count(self, data):
        written.append(data)
        return write(self, data)

    async def told():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=keeping()) as running:
                answer = await running.ask(RESPONSES, asked(stream=True))
                name = re.search(rb"resp_[0-9a-f]{48}", answer.body)[0]
                assert (await running.ask(f"{RESPONSES}/{name.decode()}")).json["status"] == "completed"
                return answer.body.replace(name, b"NAME")

    monkeypatch.setattr(Keeping, "write", count)
    quick = asyncio.run(told())
    assert len(written) == 1, "no task for a piece after the first"
    monkeypatch.setattr(Keeping, "direct_writer", lambda self, response: None)
    assert asyncio.run(told()) == quick
    assert len(written) > 1
    assert b"resp_of_theirs" not in quick
    assert quick.endswith(BEHIND.replace(b"\n", line_end))


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_last_word_of_a_kept_stream_is_told_when_it_comes_and_not_when_the_upstream_ends(lab, start, is_cut):
    gate = asyncio.Event()

    async def script(body, reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(WHOLE_STREAM[:300]))
        await asyncio.sleep(0.05)
        writer.write(lab.chunk(WHOLE_STREAM[300:]))
        await gate.wait()
        writer.write(b"" if is_cut else lab.chunk(BEHIND) + lab.chunk(b""))
        writer.close()

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=keeping()) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(RESPONSES, asked(stream=True))
                    answer = await client.head()
                    told = b""
                    while b"response.completed" not in told:
                        told += await asyncio.wait_for(client.piece(), 5)
                    gate.set()
                    rest = (await client.rest(answer)).body
                    assert rest == (b"" if is_cut else BEHIND)

    asyncio.run(main())


def test_a_stream_that_is_kept_stops_waiting_for_its_prompt_at_its_first_token(lab, start):
    async def main():
        slow = FakeOptions(reply="a b c d", stalls=(Stall.parse("2:0.5"),))
        async with FakeServer(slow) as one, FakeServer(slow) as two:
            urls = (one.base_url, two.base_url)
            upstreams = tuple(Upstream(name=f"u{n}", url=url) for n, url in enumerate(urls))
            owned = lab.tier("own", one.base_url, kind="owned", engine="llama-server", upstreams=upstreams)
            async with start(lab.plan_of(owned), settings=keeping()) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(RESPONSES, asked("long " * 5000, stream=True))
                    answer = await client.head()
                    await client.piece()
                    prefixes = running.server.gateway.prefixes
                    assert sum(one.waiting_bytes for one in prefixes._upstreams.values()) == 0
                    assert (await client.rest(answer)).status == 200

    asyncio.run(main())


def test_time_and_shares_are_bounds_and_what_goes_on_stays(lab, start, tmp_path):
    async def main():
        clock = Clock(START)
        async with FakeServer() as fake:
            opened = ledger.open(tmp_path / "timed.db", clock=clock)
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            settings = keeping(keep_responses_per_key=3)
            async with start(plan, clock=clock, ledger=opened, settings=settings) as running:
                names = []
                for number in range(4):
                    names.append((await running.ask(RESPONSES, asked(str(number)))).json["id"])
                    clock.advance(60)
                statuses = [(await running.ask(f"{RESPONSES}/{name}")).status for name in names]
                assert statuses == [404, 200, 200, 200]
                clock.advance(DAY_S - 600)
                later = await running.ask(RESPONSES, asked("on", previous_response_id=names[3]))
                clock.advance(1200)
                assert await asyncio.to_thread(opened.delete_expired_bodies) == 1
                await delete_expired(running.server.gateway)
                listed = await running.ask(f"{RESPONSES}/{later.json['id']}/input_items?order=asc")
                assert len(listed.json["data"]) == 3
                rows = opened._writer.run(lambda connection: connection.rows("SELECT response_id FROM kept_responses"))
                assert {name for (name,) in rows} == {names[3], later.json["id"]}

    asyncio.run(main())


def test_it_survives_a_restart_and_goes_on_at_another_gateway_of_the_ledger(lab, start, tmp_path):
    async def main():
        async with FakeServer(FakeOptions(reply="a b c")) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            async with start(plan, settings=keeping()) as running:
                first = (await running.ask(RESPONSES, asked("one"))).json["id"]
            async with start(plan, settings=keeping()) as running:
                beside = ledger.open(tmp_path / "ledger.db")
                async with start(plan, settings=keeping(), ledger=beside) as other:
                    second = await other.ask(RESPONSES, asked("two", previous_response_id=first))
                    third = await running.ask(RESPONSES, asked("three", previous_response_id=second.json["id"]))
                    assert third.status == 200
                    heard = json.loads(fake.record.requests()["requests"][-1]["body"])["input"]
                    assert [item["content"] for item in heard[::2]] == ["one", "two", "three"]
                    sent = [json.loads(one["body"]) for one in fake.record.requests()["requests"]]
                    assert [body["store"] for body in sent] == [False] * 3  # the provider is asked to keep nothing

    asyncio.run(main())


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_only_the_key_that_was_answered_reads_continues_and_deletes(lab, start, method):
    async def main():
        async with FakeServer() as fake:
            settings = keeping(requires_keys=True)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                mine, theirs = (
                    {"authorization": f"Bearer {running.ledger.create_key(name)}"} for name in ("mine", "theirs")
                )
                name = (await running.ask(RESPONSES, asked(), headers=mine)).json["id"]
                path = f"{RESPONSES}/{name}"
                other = await running.ask(path, method=method, headers=theirs)
                none = await running.ask(f"{RESPONSES}/resp_{'0' * 48}", method=method, headers=theirs)
                assert other.status == none.status == 404
                assert other.body.replace(name.encode(), b"") == none.body.replace(b"resp_" + b"0" * 48, b"")
                assert (await running.ask(path, method=method)).status == 401
                continued = await running.ask(RESPONSES, asked(previous_response_id=name), headers=theirs)
                assert continued.json["error"]["code"] == "previous_response_not_found"
                assert (await running.ask(f"{path}/input_items", headers=theirs)).status == 404
                assert (await running.ask(path, method=method, headers=mine)).status == 200

    asyncio.run(main())


# Where the data may go.


def test_a_conversation_never_travels_further_than_its_strictest_turn(lab, start):
    async def main():
        async with FakeServer() as far, FakeServer() as near:
            tiers = (lab.tier("far", far.base_url), lab.tier("near", near.base_url, kind="owned", engine="adopted"))
            workloads = tuple(
                Workload(name=name, match=Match(models=(name,)), strategy=Strategy(kind="direct", tiers=("far",)),
                         fallback=("near",), label=ANY, detect=detect)
                for name, detect in (("open", ()), ("watched", ("email",)))
            )  # fmt: skip
            async with start(lab.plan_of(*tiers, workloads=workloads), settings=keeping()) as running:

                async def ask(model, text, previous=None, **headers):
                    body = {"model": model, "input": text, **({"previous_response_id": previous} if previous else {})}
                    return await running.ask(RESPONSES, body, headers=headers)

                first = await ask("open", "one")
                assert first.headers["x-ownward-tier"] == "far"
                shut = await ask("open", "SECRET", first.json["id"], **{"x-ownward-label": "local_only"})
                found = await ask("watched", "SECRET from ada@example.org")
                for begun in (shut, found):
                    assert begun.headers["x-ownward-tier"] == "near"
                    later = await ask("open", "three", begun.json["id"])
                    again = await ask("open", "four", later.json["id"])
                    assert [one.headers["x-ownward-tier"] for one in (later, again)] == ["near", "near"]
                    assert "shrunk by an earlier turn" in later.headers["x-ownward-reason"]
                refused = await ask("open", "x", shut.json["id"], **{"x-ownward-tier": "far"})
                assert refused.status == 403
                branch = await ask("open", "beside", first.json["id"])
                assert branch.headers["x-ownward-tier"] == "far"
                assert "SECRET" not in json.dumps(far.record.requests())
                labels = {row["request_id"]: row["label"] for row in await running.rows()}
                assert labels[later.headers["x-ownward-request-id"]] == "local_only"

    asyncio.run(main())


def test_a_ledger_elsewhere_keeps_only_what_may_travel_anywhere(lab, start, monkeypatch):
    monkeypatch.setattr(ledger.Ledger, "is_on_this_machine", property(lambda self: False))

    async def main():
        async with FakeServer() as fake:
            here = lab.tier("a", fake.base_url, kind="owned", engine="adopted")
            async with start(lab.plan_of(here), settings=keeping()) as running:
                shut = {"x-ownward-label": "local_only"}
                unkept = await running.ask(RESPONSES, asked(), headers=shut)
                assert (unkept.status, unkept.json["store"]) == (200, False)
                refused = await running.ask(RESPONSES, asked(store=True), headers=shut)
                assert (refused.status, refused.json["error"]["param"]) == (400, "store")
                kept = await running.ask(RESPONSES, asked(store=True))
                assert kept.json["store"] is True
                rows = running.ledger._writer.run(lambda c: c.rows("SELECT response_id FROM kept_responses"))
                assert rows == [(kept.json["id"],)]

    asyncio.run(main())


def test_a_label_that_shrinks_while_the_answer_comes_is_heeded(lab, start, monkeypatch):
    monkeypatch.setattr(ledger.Ledger, "is_on_this_machine", property(lambda self: False))

    async def main():
        slow = FakeOptions(reply="a b", stalls=(Stall.parse("first:0.3"),))
        async with FakeServer(slow) as fake:
            here = lab.tier("a", fake.base_url, kind="owned", engine="adopted")
            async with start(lab.plan_of(here), settings=keeping()) as running:
                asking = asyncio.create_task(running.ask(RESPONSES, asked()))
                await asyncio.sleep(0.15)
                (exchange,) = running.server.gateway.exchanges
                exchange.label = LOCAL_ONLY
                assert (await asking).json["store"] is False
                assert running.ledger.query_kept()[1].count == 0

    asyncio.run(main())


def response_with(*output):
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": output, "usage": usage}
    return json.dumps(body).encode()


SEALED = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "SEALED"}
BARE = {"id": "rs_2", "type": "reasoning", "summary": [{"type": "summary_text", "text": "BARE"}]}
SAID = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "said", "annotations": []}]}  # fmt: skip


def test_reasoning_goes_back_to_who_wrote_it_and_to_nobody_else(lab, start):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            writer = await stack.enter_async_context(lab.Scripted(lab.whole(response_with(SEALED, BARE, SAID))))
            other = await stack.enter_async_context(lab.Scripted(lab.whole(response_with(SAID))))
            chat = await stack.enter_async_context(FakeServer())
            owned = lab.tier("chat", chat.base_url, kind="owned", engine="llama-server")
            plan = lab.plan_of(lab.tier("writer", writer.base_url), lab.tier("other", other.base_url), owned)
            async with start(plan, settings=keeping()) as running:
                first = await running.ask(RESPONSES, asked("one"))
                assert first.json["id"] != "resp_1"
                on = asked("two", previous_response_id=first.json["id"])
                for tier in ("writer", "other", "chat"):
                    answer = await running.ask(RESPONSES, on, headers={"x-ownward-tier": tier})
                    assert answer.status == 200, answer.body
                assert json.loads(writer.heard[1][2])["input"][1:3] == [SEALED, SAID]
                heard = json.loads(other.heard[0][2])["input"]
                assert heard[1] == {name: value for name, value in SAID.items() if name != "id"}
                assert "SEALED" not in (told := chat.record.requests()["requests"][-1]["body"])
                assert "BARE" not in told

    asyncio.run(main())


def test_a_retry_elsewhere_is_told_what_that_upstream_can_read(lab, start):
    async def main():
        async with lab.Scripted(lab.whole(response_with(SEALED, SAID))) as writer, FakeServer() as chat:
            owned = lab.tier("chat", chat.base_url, kind="owned", engine="llama-server")
            plan = lab.plan_of(lab.tier("writer", writer.base_url), owned)
            async with start(plan, settings=keeping()) as running:
                first = await running.ask(RESPONSES, asked("one"))
                writer._script = lab.whole(b"{}", status=500)
                second = await running.ask(RESPONSES, asked("two", previous_response_id=first.json["id"]))
                assert (second.status, second.headers["x-ownward-attempts"]) == (200, "2")
                assert "SEALED" in writer.heard[1][2].decode()
                assert "SEALED" not in chat.record.requests()["requests"][-1]["body"]
                assert second.json["previous_response_id"] == first.json["id"]

    asyncio.run(main())


def test_a_conversation_comes_back_to_the_cache_that_holds_its_beginning(lab, start):
    async def main():
        async with FakeServer() as one, FakeServer() as two:
            urls = (one.base_url, two.base_url)
            upstreams = tuple(Upstream(name=f"u{n}", url=url) for n, url in enumerate(urls))
            owned = lab.tier("own", one.base_url, kind="owned", engine="llama-server", upstreams=upstreams)
            async with start(lab.plan_of(owned), settings=keeping()) as running:
                begun = [
                    await running.ask(RESPONSES, asked(f"{number} " + "long beginning " * 1000)) for number in range(4)
                ]
                assert len({answer.headers["x-ownward-upstream"] for answer in begun}) == 2
                for answer in begun:
                    body = asked("on", previous_response_id=answer.json["id"], stream=True)
                    later = await running.ask(RESPONSES, body)
                    assert later.headers["x-ownward-upstream"] == answer.headers["x-ownward-upstream"]

    asyncio.run(main())


def too_long(most_bytes, message, answer):
    """Return an upstream that takes no request of more than so many bytes, and says so in some words."""

    async def script(body, reader, writer):
        if len(body) > most_bytes:
            said = json.dumps({"error": {"message": message % len(body), "type": "invalid_request_error"}}).encode()
            writer.write(b"HTTP/1.1 400 Said\r\ncontent-type: application/json\r\n")
        else:
            said = answer
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(said), said))
        await writer.drain()

    return script


CHAT_ANSWER = json.dumps(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
     "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
     "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}
).encode()  # fmt: skip
WORDS = [
    "request (%d tokens) exceeds the available context size (1200 tokens), try increasing it",
    "This model's maximum context length is 1200 tokens. However, you requested %d tokens",
    "Your input exceeds the context window of this model. (%d)",
]


@pytest.mark.parametrize("engine", ["llama-server", None], ids=["translated", "responses"])
@pytest.mark.parametrize("words", WORDS)
def test_truncation_leaves_the_oldest_turns_out_where_an_upstream_says_it_is_too_long(lab, start, words, engine):
    async def main():
        answer = CHAT_ANSWER if engine else response_with(SAID)
        async with lab.Scripted(too_long(1200, words, answer)) as upstream:
            stated = {"kind": "owned", "engine": engine} if engine else {}
            async with start(lab.plan_of(lab.tier("a", upstream.base_url, **stated)), settings=keeping()) as running:
                previous = None
                for number in range(12):
                    more = {"previous_response_id": previous} if previous else {}
                    body = asked(f"TURN{number} " + "x" * 150, truncation="auto", **more)
                    answered = await running.ask(RESPONSES, body)
                    assert answered.status == 200, answered.body
                    previous = answered.json["id"]
                heard = upstream.heard[-1][2].decode()
                assert "TURN11" in heard
                assert "TURN10" in heard
                assert "TURN0 " not in heard
                assert "oldest turns are left out" in answered.headers["x-ownward-reason"]
                refused = await running.ask(RESPONSES, asked("y", previous_response_id=previous))
                assert refused.status == 400  # unless it is asked for, nothing is left out
                hopeless = asked("x" * 2000, previous_response_id=previous, truncation="auto")
                assert (await running.ask(RESPONSES, hopeless)).status == 400
                listed = await running.ask(f"{RESPONSES}/{previous}/input_items?limit=100")
                assert len(listed.json["data"]) == 23  # what is kept is whole
                states = {row["state"] for row in await running.rows()}
                assert states == {"settled", "failed"}

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call"])
def test_truncation_never_parts_a_result_from_its_call(kind):
    from ownward.gateway.keeping.conversation import _newest

    def raw(**item):
        import msgspec

        return msgspec.Raw(json.dumps(item).encode())

    user, call = raw(role="user", content="x" * 50), raw(type=kind, call_id="1", name="f", arguments="{}")
    result = raw(type=f"{kind}_output", call_id="1", output="r")
    said = raw(type="message", role="assistant", content="a")
    items = [user, said, user, call]
    assert _newest(items, [result], 0) == [user, call]
    assert _newest(items, [user], 0) == []
    assert _newest(items, [user], 173) == [user, call]
    assert _newest(items, [user], 10_000) == items
    assert _newest([call], [result], 0) == [call]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("engine", ["llama-server", "adopted"], ids=["translated", "passed through"])
def test_nothing_of_a_request_outlives_it(lab, start, stream, engine):
    async def main():
        async with FakeServer() as fake:
            tier = lab.tier("a", fake.base_url, kind="owned", engine=engine)
            async with start(lab.plan_of(tier), settings=keeping()) as running:
                await running.ask(RESPONSES, asked())
                with resting_collector():
                    for _ in range(10):
                        assert (await running.ask(RESPONSES, asked(stream=stream))).status == 200
                    await none_alive(Exchange, Keeping)

    asyncio.run(main())


def test_an_upstream_that_refuses_is_heard_and_nothing_is_kept(lab, start):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("400"),))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=keeping()) as running:
                assert (await running.ask(RESPONSES, asked())).status == 400
                rows = running.ledger._writer.run(lambda c: c.rows("SELECT response_id FROM kept_responses"))
                assert rows == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 400), ("limit=101", 400), ("limit=x", 400), ("order=up", 400), ("after=msg_none", 400), ("", 200)],
)
def test_pages_of_input_items_are_what_was_asked_for(lab, start, query, status):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=keeping()) as running:
                name = (await running.ask(RESPONSES, asked())).json["id"]
                assert (await running.ask(f"{RESPONSES}/{name}/input_items?{query}")).status == status
                assert (await running.ask(f"{RESPONSES}/{name}?stream=true")).status == 400

    asyncio.run(main())


def test_a_conversation_may_not_outgrow_the_largest_request(lab, start):
    async def main():
        async with FakeServer() as fake:
            settings = keeping(max_body_bytes=2000)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                first = await running.ask(RESPONSES, asked("x" * 1500))
                more = await running.ask(RESPONSES, asked("y" * 1500, previous_response_id=first.json["id"]))
                assert (more.status, "conversation" in more.body.decode()) == (413, True)

    asyncio.run(main())


def test_a_label_that_cannot_be_read_allows_this_machine_alone():
    from ownward.gateway.keeping.responses import _label_of

    assert _label_of("?!") == LOCAL_ONLY
    assert _label_of("eu") == Label.parse("eu")


@pytest.mark.parametrize(("before", "then"), [(ANY, LOCAL_ONLY), (LOCAL_ONLY, ANY)], ids=["narrower", "wider"])
def test_a_response_is_kept_under_what_both_plans_allow_where_one_was_loaded_while_it_was_made(
    lab, start, before, then
):
    async def main():
        async with FakeServer(FakeOptions(stalls=(Stall.parse("first:0.5"),))) as near:
            tier = lab.tier("near", near.base_url, kind="owned", engine="adopted")
            async with start(lab.plan_of(tier, label=before), settings=keeping()) as running:
                asked = asyncio.create_task(running.ask(RESPONSES, {"model": "chat", "input": "one"}))
                while not near.record.count(with_calls=False)["accepted"]:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.005)
                await running.server.reload(lab.plan_of(tier, label=then))
                answer = await asyncio.wait_for(asked, 3)
                assert answer.json["store"] is True
                (kept,) = running.ledger.query_conversation(answer.json["id"], owner=ledger.owner_of(None))
                assert kept.label == str(LOCAL_ONLY)

    asyncio.run(main())
