"""Quick streams under load: read now and then, the same bytes for everybody, and nobody late who must not be."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import itertools
import json
import random
import re
import statistics
import sys
import time
from dataclasses import replace

import pytest

from ownward.engines import Cut, FakeOptions, FakeServer, OutputLength, Stall
from ownward.gateway import GatewaySettings
from ownward.plan import Capture
from ownward.upstreams import gathering

LONGEST_S = 0.05
_OWN = re.compile(rb'"(id|item_id|response_id|created_at|created|completed_at)": ?("[^"]*"|[\d.]+)')


@pytest.fixture
def loaded(monkeypatch):
    """Have any load count as a heavy one."""
    monkeypatch.setattr(gathering, "BEGINS_PER_S", 1.0)
    monkeypatch.setattr(gathering, "FULL_PER_S", 2.0)


def settings(longest_s=LONGEST_S, **more):
    return GatewaySettings(port=0, drain_s=2, gather_stream_s=longest_s, **more)


def words(count):
    return OutputLength.parse(str(count))


async def stream_of(lab, start, options, *, longest_s=LONGEST_S, path=None, body=None):
    async with FakeServer(options) as fake:
        plan = lab.plan_of(lab.tier("a", fake.base_url))
        async with start(plan, settings=settings(longest_s)) as running:
            answer = await lab.ask(running.base_url, path or lab.CHAT, body or lab.chat(stream=True))
            return answer, await running.rows()


@pytest.mark.usefixtures("loaded")
def test_a_quick_stream_under_load_arrives_whole_in_few_pieces(lab, start):
    async def main():
        gathered, (row,) = await stream_of(lab, start, FakeOptions(tpot_s=0.004, output_tokens=words(150)))
        assert gathered.body.count(b"data: {") >= 150
        assert gathered.body.endswith(b"data: [DONE]\n\n")
        assert len(gathered.pieces) < 75
        assert (row["state"], row["output_tokens"]) == ("settled", 150)

    asyncio.run(main())


def test_a_quick_stream_of_a_process_with_little_to_do_goes_on_piece_by_piece(lab, start):
    async def main():
        answer, _ = await stream_of(lab, start, FakeOptions(tpot_s=0.004, output_tokens=words(100)))
        assert len(answer.pieces) > 60  # a busy machine lets some come together; resting would leave ten

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_a_stream_as_slow_as_people_read_goes_on_piece_by_piece_under_any_load(lab, start):
    async def main():
        answer, _ = await stream_of(lab, start, FakeOptions(tpot_s=0.03, output_tokens=words(30)))
        assert len(answer.pieces) >= 28  # the last words and the end come together

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_the_first_token_is_not_late_though_other_events_came_quickly_before_it(lab, start):
    async def script(_, reader, writer):
        writer.write(lab.STREAM_HEAD)
        for number in range(60):  # comments and roles, and then the word that is waited for
            choice = {"index": 0, "delta": {"role": "assistant", "content": "" if number < 59 else "first"}}
            writer.write(lab.chunk(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"))
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.5)
        writer.close()

    async def main():
        loop = asyncio.get_running_loop()
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=settings(1.0)) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(stream=True))
                    began_s = loop.time()
                    await client.reader.readuntil(b"first")
                    assert loop.time() - began_s < 0.4

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("events", [1, 70])
def test_a_quick_stream_that_is_cut_says_so_and_nothing_before_it_is_lost(lab, start, events):
    async def main():
        options = FakeOptions(tpot_s=0.002, output_tokens=words(90), cuts=(Cut.parse(str(events)),))
        answer, (row,) = await stream_of(lab, start, options)
        assert len(re.findall(rb'"content": ?"', answer.body)) >= events
        assert b'"error"' in answer.body
        assert row["state"] == "unsettled"

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_a_stream_that_stalls_while_it_rests_is_given_up_in_time(lab, start):
    async def main():
        options = FakeOptions(tpot_s=0.002, output_tokens=words(90), stalls=(Stall.parse("70:30"),))
        async with FakeServer(options) as fake:
            tier = lab.tier("a", fake.base_url)
            tier = replace(tier, upstreams=(replace(tier.upstreams[0], stall_timeout_s=0.3),))
            async with start(lab.plan_of(tier), settings=settings(0.1)) as running:
                answer = await asyncio.wait_for(running.ask(body=lab.chat(stream=True)), 3)
                assert b"sent no further byte within" in answer.body

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_a_client_that_leaves_while_its_stream_rests_takes_the_upstream_call_with_it_within_100_ms(lab, start):
    async def main():
        loop = asyncio.get_running_loop()
        async with FakeServer(FakeOptions(tpot_s=0.002, output_tokens=words(4000))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings(1.0)) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(stream=True))
                    await client.head()
                    while running.server.gateway.gathering.rest_s < 1.0:
                        await client.piece()
                    await asyncio.sleep(0.1)  # it rests for up to a second
                left_s = loop.time()
                while not fake.record.count(with_calls=False)["aborted"]:
                    assert loop.time() - left_s < 0.1
                    await asyncio.sleep(0.002)

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_a_gateway_that_stops_lets_streams_that_rest_end(lab, start):
    async def main():
        async with FakeServer(FakeOptions(tpot_s=0.003, output_tokens=words(200))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings()) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(stream=True))
                    answer = await client.head()
                    await asyncio.sleep(0.3)
                    stopping = asyncio.create_task(running.server.stop())
                    await client.rest(answer)
                    assert answer.body.endswith(b"data: [DONE]\n\n")
                    await stopping

    asyncio.run(main())


KINDS = {
    "passed": ("/v1/chat/completions", {}, {}),
    "messages": ("/v1/messages", {}, {}),
    "responses": ("/v1/responses", {}, {}),
    "continued": ("/v1/chat/completions", {"continues_streams": True}, {}),
    "captured": ("/v1/chat/completions", {"capture": Capture(sample_fraction=1.0, retention_s=60)}, {}),
    "kept": ("/v1/responses", {}, {"keep_responses_s": 60.0}),
}


def events_of(pieces):
    """Return an upstream's chat stream with so many words."""
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for number in range(pieces):
        choice = {"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}
        yield b"data: " + json.dumps({**frame, "choices": [choice]}).encode() + b"\n\n"
    yield b"data: " + json.dumps({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
    yield (
        b"\n\ndata: "
        + json.dumps({**frame, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
    )
    yield b"\n\ndata: [DONE]\n\n"


def events_of_a_response(pieces):
    """Return an upstream's stream of a response with so many words."""
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": []}
    text = {"type": "output_text", "text": "".join(f"w{number} " for number in range(pieces)), "annotations": []}
    said = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    place = {"item_id": "m1", "output_index": 0, "content_index": 0}
    events = [{"type": "response.created", "response": {**response, "status": "in_progress"}}]
    events += [{"type": "response.output_text.delta", **place, "delta": f"w{number} "} for number in range(pieces)]
    whole = {**response, "status": "completed", "output": [said], "usage": usage}
    events.append({"type": "response.completed", "response": whole})
    for number, event in enumerate(events):
        data = json.dumps({**event, "sequence_number": number})
        yield f"event: {event['type']}\ndata: {data}\n\n".encode()


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_client_gets_the_same_words_however_the_stream_is_cut_and_read(lab, start, kind, seed):
    path, of_workload, of_gateway = KINDS[kind]

    async def script(body, reader, writer):
        rng = random.Random(seed)
        stream = b"".join((events_of_a_response if b'"input"' in body else events_of)(150))
        writer.write(lab.STREAM_HEAD)
        while stream:
            size = rng.choice((1, 7, 60, 170, 200, 400, 900))
            part, stream = stream[:size], stream[size:]
            writer.write(lab.chunk(part))
            await writer.drain()
            await asyncio.sleep(rng.choice((0, 0.001, 0.003)))
        writer.write(b"0\r\n\r\n")

    body = {"model": "chat", "stream": True}
    body |= {"input": "hi"} if path.endswith("responses") else {"messages": [{"role": "user", "content": "x"}]}
    body |= {"max_tokens": 99} if kind == "messages" else {}
    body |= {"store": True} if kind == "kept" else {}

    async def told(longest_s):
        async with lab.Scripted(script) as upstream:
            tier = lab.tier("a", upstream.base_url, kind="owned", engine="vllm")
            plan = lab.plan_of(tier)
            plan = replace(plan, workloads={"chat": replace(plan.workloads["chat"], **of_workload)})
            async with start(plan, settings=settings(longest_s, **of_gateway)) as running:
                answer = await lab.ask(running.base_url, path, body)
                assert answer.status == 200, answer.body
                return answer

    async def main():
        gathered, at_once = await told(LONGEST_S), await told(0)
        if kind != "kept":  # told event by event, in one write
            assert len(gathered.pieces) < len(at_once.pieces)
        plain = [_OWN.sub(b"", one.body) for one in (gathered, at_once)]
        assert plain[0] == plain[1]

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_times_on_the_ledger_are_those_of_the_client(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.1, tpot_s=0.004, output_tokens=words(100))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings()) as running:
                loop = asyncio.get_running_loop()
                async with lab.Client(running.base_url) as client:
                    began_s = loop.time()
                    await client.send(lab.CHAT, lab.chat(stream=True))
                    answer = await client.head()
                    while not re.search(rb'"content": ?"[^"]', await client.reader.readline()):
                        pass
                    first_s = loop.time() - began_s
                    while b"[DONE]" not in await client.reader.readline():
                        pass
                    last_s = loop.time() - began_s
                assert answer.status == 200
                (row,) = await running.rows()
                assert row["ttft_s"] == pytest.approx(first_s, abs=0.03)
                assert row["latency_s"] == pytest.approx(last_s, abs=0.03)

    asyncio.run(main())


@pytest.mark.usefixtures("loaded")
def test_the_gauge_says_how_long_streams_rest_and_falls_once_nothing_comes(lab, start):
    async def gauge(lab, running):
        text = (await lab.ask(running.base_url, "/metrics")).body.decode()
        return float(re.search(r"^ownward_stream_rest_seconds (\S+)$", text, re.MULTILINE)[1])

    async def main():
        async with FakeServer(FakeOptions(tpot_s=0.004, output_tokens=words(150))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings()) as running:
                assert await gauge(lab, running) == 0
                asked = asyncio.create_task(running.ask(body=lab.chat(stream=True)))
                await asyncio.sleep(0.3)
                assert await gauge(lab, running) == LONGEST_S
                await asked
                for _ in itertools.repeat(None, 30):
                    await asyncio.sleep(0.1)
                    if await gauge(lab, running) == 0:
                        break
                else:
                    pytest.fail("streams still rest though none is there")

    asyncio.run(main())


PLAN = """
schema = "ownward.plan/1"
name = "t"
default_label = "any"
[tiers.a]
kind = "owned"
model = "m"
engine = "adopted"
[[tiers.a.upstreams]]
name = "u"
url = "{url}"
[workloads.chat]
match = {{ models = ["chat"] }}
strategy = {{ kind = "direct", tiers = ["a"] }}
"""


def test_a_process_as_it_is_started_passes_on_each_event_at_once_while_its_load_is_light(lab, tmp_path):
    streams, events = 8, 100
    delays_s = []

    async def script(_, reader, writer):
        writer.write(lab.STREAM_HEAD)
        for _ in range(events):
            choice = {"index": 0, "delta": {"content": str(time.monotonic_ns())}, "finish_reason": None}
            writer.write(lab.chunk(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"))
            await asyncio.sleep(0.01)
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        writer.write(lab.chunk(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"))
        writer.write(lab.chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def read(base_url):
        pieces = 0
        async with lab.Client(base_url) as client:
            await client.send(lab.CHAT, lab.chat(stream=True))
            await client.head()
            while piece := await client.piece():
                pieces += 1
                now_ns = time.monotonic_ns()
                delays_s.extend((now_ns - int(sent)) * 1e-9 for sent in re.findall(rb'"content": ?"(\d+)"', piece))
        return pieces

    async def main():
        async with lab.Scripted(script) as upstream:
            (tmp_path / "plan.toml").write_text(PLAN.format(url=upstream.base_url))
            flags = ["--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ownward", "serve", *flags, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                ready = tmp_path / "r.json"
                while not (ready.exists() and ready.read_text()):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                base_url = json.loads(ready.read_text())["base_url"]
                pieces = await asyncio.gather(*(read(base_url) for _ in range(streams)))
            finally:
                process.terminate()
                await process.wait()
            assert len(delays_s) == streams * events
            assert statistics.median(delays_s) < 0.01  # 1 ms on a machine with nothing else to do
            # Events that a busy machine let come together are read together; a rest would halve the pieces.
            assert sum(pieces) > 0.7 * streams * events

    asyncio.run(main())
