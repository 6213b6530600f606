"""What happens when an upstream refuses, breaks, stalls or lies: before the first byte, and after it."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json

import openai
import pytest

from ownward.core import UpstreamUnreachable
from ownward.engines import Cut, Failure, FakeOptions, FakeServer, Garbage, Stall
from ownward.gateway import GatewaySettings
from ownward.plan import Upstream


def two_tiers(lab, first, second):
    return lab.plan_of(lab.tier("a", first.base_url), lab.tier("b", second.base_url))


@pytest.mark.parametrize(
    ("faults", "state"),
    [
        ({"failures": (Failure.parse("500"),)}, "failed"),
        ({"failures": (Failure.parse("429"),)}, "failed"),
        ({"failures": (Failure.parse("503"),)}, "failed"),
        ({"failures": (Failure.parse("504"),)}, "unsettled"),
        ({"cuts": (Cut.parse("first"),)}, "unsettled"),
        ({"garbage": (Garbage.parse("json"), Garbage.parse("sse"))}, "unsettled"),
    ],
    ids=["500", "429", "503", "504", "cut", "garbage"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_failure_before_the_first_byte_moves_on_to_the_next_upstream(lab, start, faults, state, stream):
    async def main():
        async with FakeServer(FakeOptions(**faults)) as bad, FakeServer(FakeOptions()) as good:
            async with start(two_tiers(lab, bad, good)) as running:
                answer = await running.ask(body=lab.chat(stream=stream))
                assert answer.status == 200
                assert (answer.headers["x-ownward-tier"], answer.headers["x-ownward-attempts"]) == ("b", "2")
                first, second = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (first["state"], first["tier"]) == (state, "a")
                assert (second["state"], second["tier"]) == ("settled", "b")
                if state == "unsettled":
                    assert float(first["charge_low_usd"]) == 0
                    assert float(first["charge_high_usd"]) > 0

    asyncio.run(main())


def test_a_refused_connection_moves_on_and_is_charged_nothing(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as good:
            plan = lab.plan_of(lab.tier("a", "http://127.0.0.1:9"), lab.tier("b", good.base_url))
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.headers["x-ownward-tier"] == "b"
                first, _ = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (first["state"], first["charge_usd"]) == ("failed", "0.000000")

    asyncio.run(main())


def test_a_stall_before_the_first_byte_moves_on_within_the_upstreams_time(lab, start):
    async def main():
        async with FakeServer(FakeOptions(stalls=(Stall.parse("first:5"),))) as slow, FakeServer() as good:
            slow_tier = lab.tier(
                "a", "", upstreams=(lab.Upstream(name="a-1", url=slow.base_url, first_byte_timeout_s=0.1),)
            )
            async with start(lab.plan_of(slow_tier, lab.tier("b", good.base_url))) as running:
                answer = await asyncio.wait_for(running.ask(body=lab.chat()), 3)
                assert answer.headers["x-ownward-tier"] == "b"
                first, _ = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert first["state"] == "unsettled"

    asyncio.run(main())


@pytest.mark.parametrize("status", [404, 405, 407, 408, 409, 410, 413, 421, 425])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_says_nothing_of_the_request_is_tried_elsewhere(lab, start, status, stream):
    """A lock, a retired model, a proxy that takes no more than a megabyte: another upstream may answer."""

    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse(str(status)),))) as bad, FakeServer() as good:
            async with start(two_tiers(lab, bad, good)) as running:
                answer = await running.ask(body=lab.chat(stream=stream))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                first, _ = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (first["state"], first["status"]) == ("unsettled" if status == 408 else "failed", status)
            async with start(lab.plan_of(lab.tier("a", bad.base_url))) as running:
                assert (await running.ask(body=lab.chat(stream=stream))).status == status

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_wrong_is_not_tried_elsewhere(lab, start, status):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse(str(status)),))) as bad, FakeServer() as good:
            async with start(two_tiers(lab, bad, good)) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["x-ownward-attempts"]) == (status, "1")
                assert good.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_after_the_first_byte_nothing_is_tried_again_and_the_cut_is_visible(lab, start):
    async def main():
        async with FakeServer(FakeOptions(cuts=(Cut.parse("3"),))) as bad, FakeServer() as good:
            async with start(two_tiers(lab, bad, good)) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.status == 200
                assert b"[DONE]" not in answer.body
                last = answer.body.rstrip().rsplit(b"data: ", 1)[1]
                assert "broke after" in json.loads(last)["error"]["message"]
                assert good.record.count(with_calls=False)["accepted"] == 0
                (row,) = await running.rows()
                assert (row["state"], row["charge_usd"]) == ("unsettled", None)
                (call,) = bad.record.count(with_calls=True)["calls"]
                assert call["state"] == "cut"

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/completions"])
def test_a_cut_stream_ends_with_an_error_event_of_its_own_dialect(lab, start, path):
    body = {
        "/v1/messages": lab.chat(stream=True, max_tokens=20),
        "/v1/responses": {"model": "chat", "input": "hi", "stream": True},
        "/v1/completions": {"model": "chat", "prompt": "hi", "stream": True},
    }[path]

    async def main():
        async with FakeServer(FakeOptions(cuts=(Cut.parse("4"),))) as bad:
            owned = lab.tier("a", bad.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(owned)) as running:
                answer = await running.ask(path, body)
                *_, event = answer.body.rstrip().split(b"\n\n")
                content = json.loads(event.split(b"data: ", 1)[1])
                if path == "/v1/completions":
                    assert "error" in content
                else:
                    assert event.lstrip().startswith(b"event: error\n")
                    assert content["type"] == "error"
                if path == "/v1/responses":  # Codex passes over the error, and reads of the response that failed
                    failed = json.loads(answer.body.split(b"event: response.failed\ndata: ")[1].split(b"\n\n")[0])
                    assert failed["response"]["status"] == "failed"
                    assert failed["response"]["error"] == {"code": "server_error", "message": content["message"]}
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_an_answer_without_usage_is_unsettled_and_nothing_is_invented(lab, start):
    async def main():
        async with FakeServer(FakeOptions(usage="missing")) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                for stream in (False, True):
                    answer = await running.ask(body=lab.chat(stream=stream))
                    assert answer.status == 200
                for row in await running.rows():
                    assert (row["state"], row["output_tokens"]) == ("unsettled", None)
                    truth = 3e-6 * 6 + 15e-6 * 16
                    assert float(row["charge_low_usd"]) <= truth <= float(row["charge_high_usd"])

    asyncio.run(main())


def test_without_a_price_the_charge_is_unknown_and_not_zero(lab, start):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url, price=None))) as running:
                await running.ask(body=lab.chat())
                (row,) = await running.rows()
                assert (row["state"], row["output_tokens"]) == ("settled", 16)
                assert row["charge_usd"] is None
                assert row["charge_high_usd"] is None

    asyncio.run(main())


def test_when_all_upstreams_fail_the_client_learns_it_with_the_last_ones_words(lab, start):
    async def main():
        options = FakeOptions(failures=(Failure.parse("429"),), retry_after_s=7)
        async with FakeServer(options) as a, FakeServer(options) as b, start(two_tiers(lab, a, b)) as running:
            answer = await running.ask(body=lab.chat())
            assert (answer.status, answer.headers["retry-after"]) == (429, "7")
            assert answer.headers["x-ownward-attempts"] == "2"

    asyncio.run(main())


def test_an_upstream_that_rejects_our_key_is_the_operators_fault_not_the_clients(lab, start):
    async def main():
        async with FakeServer(FakeOptions(api_key="right")) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 502
                assert "does not accept this gateway's key" in answer.json["error"]["message"]

    asyncio.run(main())


def test_an_upstream_that_keeps_failing_is_left_alone_and_then_probed(lab, start):
    settings = GatewaySettings(port=0, breaker_failures=2, breaker_wait_s=0.2, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500:2"),))) as flaky, FakeServer() as good:
            async with start(two_tiers(lab, flaky, good), settings=settings) as running:
                tiers = [(await running.ask(body=lab.chat())).headers["x-ownward-tier"] for _ in range(4)]
                assert tiers == ["b", "b", "b", "b"]
                assert flaky.record.count(with_calls=False)["accepted"] == 2
                await asyncio.sleep(0.25)
                probe = await running.ask(body=lab.chat())
                assert probe.headers["x-ownward-tier"] == "a"
                assert (await running.ask(body=lab.chat())).headers["x-ownward-tier"] == "a"

    asyncio.run(main())


def test_with_every_upstream_down_the_refusal_is_at_once_and_says_when_to_come_back(lab, start, monkeypatch):
    monkeypatch.setattr("ownward.gateway.placing.breaker.EARLY_PROBE_S", 30)
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=30, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as bad:
            async with start(lab.plan_of(lab.tier("a", bad.base_url)), settings=settings) as running:
                assert (await running.ask(body=lab.chat())).status == 500
                answer = await running.ask(body=lab.chat())
                assert answer.status == 503
                assert 1 <= int(answer.headers["retry-after"]) <= 30
                assert bad.record.count(with_calls=False)["accepted"] == 1
                assert sorted(row["state"] for row in await running.rows()) == ["failed", "refused"]

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "failures"), [(429, 1), (500, 2)])
def test_an_upstream_that_is_back_serves_everybody_and_not_one_after_the_other(lab, start, status, failures, stream):
    """The first answer takes as long as a model's do; who comes meanwhile is not refused for it."""
    left = failures

    async def script(_body, _reader, writer):
        nonlocal left
        left -= 1
        if left >= 0:
            writer.write(
                b"HTTP/1.1 %d No\r\nretry-after: 1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
                % status
            )
            return
        if stream:
            writer.write(lab.STREAM_HEAD + lab.chunk(b'data: {"id":"x","choices":[{"delta":{"content":"a"}}]}\n\n'))
        await asyncio.sleep(1.5)
        if stream:
            writer.write(lab.chunk(b'data: {"id":"x","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'))
            writer.write(lab.chunk(b"data: [DONE]\n\n") + lab.chunk(b""))
        else:
            said = b'{"id":"x","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said) + said
            )

    async def main():
        async with lab.Scripted(script) as only:
            settings = GatewaySettings(port=0, drain_s=2, breaker_failures=2)
            async with start(lab.plan_of(lab.tier("a", only.base_url)), settings=settings) as running:
                for _ in range(failures):
                    assert (await running.ask(body=lab.chat())).status == status
                assert (await running.ask(body=lab.chat())).status in {429, 503}, "it is left alone"
                await asyncio.sleep(1.05)
                answers = await asyncio.gather(*(running.ask(body=lab.chat(stream=stream)) for _ in range(8)))
                assert [answer.status for answer in answers] == [200] * 8

    asyncio.run(main())


def test_the_only_upstream_is_tried_again_at_once_however_long_it_is_to_be_left_alone(lab, start):
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.1, failures=(Failure.parse("500:1"),))) as weak:
            async with start(lab.plan_of(lab.tier("a", weak.base_url)), settings=settings) as running:
                assert (await running.ask(body=lab.chat())).status == 500
                refused = await running.ask(body=lab.chat())
                assert (refused.status, refused.headers["retry-after"]) == (503, "1")
                await asyncio.sleep(0.3)
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(5)))
                assert sorted(answer.status for answer in answers) == [200, 503, 503, 503, 503], "one probe at a time"
                assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())


def test_a_dead_upstream_under_load_is_not_hammered_though_nothing_else_is_left(lab, start):
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60, drain_s=1)

    async def main():
        loop = asyncio.get_running_loop()
        async with FakeServer(FakeOptions(failures=(Failure.parse("503"),))) as dead:
            async with start(lab.plan_of(lab.tier("a", dead.base_url)), settings=settings) as running:
                began_s, statuses = loop.time(), []
                while loop.time() < began_s + 1.0:
                    answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(8)))
                    statuses += [answer.status for answer in answers]
                asked = dead.record.count(with_calls=False)["accepted"]
                assert set(statuses) == {503}
                assert 1 < asked <= 8 + (loop.time() - began_s) / 0.25, "eight before it was known"

    asyncio.run(main())


def test_what_went_down_while_a_request_waited_for_its_turn_is_asked_where_nothing_else_is_left(lab, start):
    """And answers, as it is back by then: the request that waited has not been sent to anybody yet."""
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60, drain_s=1)

    async def main():
        failing = FakeOptions(ttft_s=0.2, failures=(Failure.parse("500:1"),))
        async with FakeServer(failing) as only:
            plan = lab.plan_of(lab.tier("a", only.base_url, max_concurrency=1))
            async with start(plan, settings=settings) as running:
                running.server.gateway.slots["a"].in_use = 1
                waiting = asyncio.create_task(running.ask(body=lab.chat()))
                await asyncio.sleep(0.2)
                assert running.server.gateway.slots["a"].waiting == 1
                running.server.gateway.health.note_failure("a/a-1", UpstreamUnreachable("no route"))
                only.set_options(FakeOptions())
                await asyncio.sleep(0.3)
                running.server.gateway.slots["a"].release()
                assert (await waiting).status == 200

    asyncio.run(main())


def test_a_request_with_another_candidate_does_not_try_what_failed(lab, start, monkeypatch):
    monkeypatch.setattr("ownward.gateway.placing.breaker.EARLY_PROBE_S", 0.0)
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as bad, FakeServer() as good:
            async with start(two_tiers(lab, bad, good), settings=settings) as running:
                tiers = [(await running.ask(body=lab.chat())).headers["x-ownward-attempts"] for _ in range(3)]
                assert tiers == ["2", "1", "1"]

    asyncio.run(main())


def test_a_stall_between_two_chunks_ends_the_stream_within_the_upstreams_time(lab, start):
    async def script(_, reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'))
        await writer.drain()
        await asyncio.sleep(30)

    async def main():
        async with lab.Scripted(script) as upstream:
            ups = (Upstream(name="u", url=upstream.base_url, stall_timeout_s=0.2),)
            async with start(lab.plan_of(lab.tier("a", "", upstreams=ups))) as running:
                began_s = asyncio.get_running_loop().time()
                answer = await running.ask(body=lab.chat(stream=True))
                assert asyncio.get_running_loop().time() - began_s < 2
                assert b'"ownward_kind": "broken_stream"' in answer.body
                assert b"[DONE]" not in answer.body
                (row,) = await running.rows()
                assert row["state"] == "unsettled"
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'ownward_attempts_total{workload="chat",tier="a",upstream="u",state="unsettled"} 1' in metrics

    asyncio.run(main())


def test_all_attempts_together_end_at_the_deadline(lab, start):
    settings = GatewaySettings(port=0, deadline_s=0.4, drain_s=1)

    async def main():
        slow = FakeOptions(ttft_s=0.3, failures=(Failure.parse("500"),))
        async with FakeServer(slow) as one, FakeServer(FakeOptions(ttft_s=5)) as two, FakeServer() as three:
            plan = lab.plan_of(
                *(lab.tier(name, fake.base_url) for name, fake in zip("abc", (one, two, three), strict=True))
            )
            async with start(plan, settings=settings) as running:
                began_s = asyncio.get_running_loop().time()
                answer = await running.ask(body=lab.chat())
                assert asyncio.get_running_loop().time() - began_s < 2
                assert answer.status in {500, 504}
                assert three.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("failure", ["500", "429", "cut", "dead", "stream"])
def test_an_upstream_that_fails_under_hundreds_of_requests_fails_none_of_them(lab, start, failure):
    """The budget of retries keeps failing upstreams from being hit harder; the next one is well."""

    async def script(_body, _reader, writer):
        await asyncio.sleep(0.3)
        if failure == "cut":
            writer.transport.abort()
            return
        if failure == "stream":
            writer.write(lab.STREAM_HEAD + lab.chunk(b'data: {"error": {"message": "no"}}\n\n'))
            return
        writer.write(
            b"HTTP/1.1 %b No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}" % failure.encode()
        )

    async def main():
        async with lab.Scripted(script) as bad, FakeServer() as good:
            url = "http://127.0.0.1:9" if failure == "dead" else bad.base_url
            plan = lab.plan_of(lab.tier("a", url), lab.tier("b", good.base_url))
            async with start(plan) as running:
                body = lab.chat(stream=failure == "stream", max_tokens=5)
                answers = await asyncio.gather(*(running.ask(body=body) for _ in range(150)))
                assert [answer.status for answer in answers] == [200] * 150

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_last_one_dies_an_upstream_that_was_left_alone_is_looked_at_again(lab, start, stream):
    """It may have been back for long: while others served nobody looked."""
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500:1"),))) as back, FakeServer() as other:
            async with start(two_tiers(lab, back, other), settings=settings) as running:
                assert (await running.ask(body=lab.chat())).headers["x-ownward-tier"] == "b"
                other.set_options(FakeOptions(failures=(Failure.parse("500"),)))
                answer = await running.ask(body=lab.chat(stream=stream))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "a")

    asyncio.run(main())


@pytest.mark.parametrize("failure", ["500", "429"])
def test_retries_to_what_fails_too_add_a_fifth_to_the_load_by_default(lab, start, failure):
    settings = GatewaySettings(port=0, retry_burst=1, breaker_failures=1000, drain_s=1)
    assert settings.retry_fraction == 0.2

    async def main():
        failing = FakeOptions(failures=(Failure.parse(failure),))
        async with FakeServer(failing) as bad, FakeServer(failing) as worse:
            async with start(two_tiers(lab, bad, worse), settings=settings) as running:
                for _ in range(21):
                    await running.ask(body=lab.chat())
                asked = worse.record.count(with_calls=False)["accepted"]
                assert asked in {5, 6}, "once while it was well, one of the purse, and one for each five requests"

    asyncio.run(main())


def test_what_an_upstream_does_not_offer_is_no_sign_of_ill_health(lab, start):
    settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=30, drain_s=1)

    async def main():
        async with lab.Scripted(lab.whole(b'{"error":{"message":"no embeddings here"}}', status=501)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=settings) as running:
                for _ in range(3):
                    answer = await running.ask("/v1/embeddings", {"model": "chat", "input": "x"})
                    assert (answer.status, answer.json["error"]["message"]) == (501, "no embeddings here")

    asyncio.run(main())


def test_requests_that_a_server_cannot_read_do_not_shut_out_the_others(lab, start):
    """llama.cpp says 500 to a picture that its model cannot see; the next request is served all the same."""
    words = b'{"error":{"code":500,"message":"image input is not supported - hint: ...","type":"server_error"}}'
    settings = GatewaySettings(port=0, breaker_failures=2, breaker_wait_s=30, drain_s=1)

    async def main():
        async with lab.Scripted(lab.whole(words, status=500)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=settings) as running:
                for _ in range(4):
                    answer = await running.ask(body=lab.chat())
                    assert (answer.status, answer.json["error"]["message"][:11]) == (500, "image input")
                    assert answer.headers["x-should-retry"] == "false"

    asyncio.run(main())


def test_clients_do_not_try_again_what_a_server_cannot_read(lab, start):
    words = b'{"error":{"code":500,"message":"Failed to parse tools: Unsupported tool type","type":"server_error"}}'

    async def main():
        async with (
            lab.Scripted(lab.whole(words, status=500)) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=2) as client,
        ):
            with pytest.raises(openai.InternalServerError, match="Unsupported tool type"):
                await client.chat.completions.create(**lab.chat())
            assert len(upstream.heard) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("stated", "of_tier", "tokens"),
    [
        ({"max_tokens": 100}, {}, 100),
        ({"max_tokens": 100, "n": 3}, {}, 300),
        ({"max_tokens": 5000}, {"max_output_tokens": 400}, 400),
        ({}, {"max_output_tokens": 400}, 400),
        ({}, {"max_context_tokens": 2000}, 2000),
        ({"n": 2}, {}, 2 * 131_072),
    ],
)
def test_the_bound_on_output_is_the_requests_else_the_tiers_else_a_stated_assumption(
    lab, start, stated, of_tier, tokens
):
    async def main():
        async with FakeServer(FakeOptions(usage="missing")) as fake:
            bounded = lab.tier("a", fake.base_url, **of_tier)
            async with start(lab.plan_of(bounded)) as running:
                await running.ask(body=lab.chat(**stated))
                (row,) = await running.rows()
                for_output = tokens * 15e-6
                assert for_output < float(row["charge_high_usd"]) < for_output + 0.01

    asyncio.run(main())


def test_tokens_beyond_what_can_be_counted_leave_the_charge_without_a_bound(lab, start):
    """A million dollars a call: above that the ledger's whole numbers could not hold the sum of a few."""

    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}

    async def main():
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                assert (await running.ask(body=lab.chat(n=100_000, max_tokens=9_000_000_000))).status == 200
                (row,) = await running.rows()
                assert (row["state"], row["charge_high_usd"]) == ("unsettled", None)

    asyncio.run(main())


def test_a_request_that_met_a_connection_being_closed_is_asked_once_more(lab, start):
    """A server that ends a kept connection as it is used again (a restart, a short keep-alive) has read nothing."""

    async def main():
        seen: dict[int, int] = {}

        async def once_a_connection(_body, _reader, writer):
            port = writer.get_extra_info("peername")[1]
            seen[port] = seen.get(port, 0) + 1
            if seen[port] > 1:
                writer.transport.abort()
                return
            said = b'{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said))
            writer.write(said)
            await writer.drain()

        async with lab.Scripted(once_a_connection) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answers = [await running.ask(body=lab.chat()) for _ in range(3)]
                assert [answer.status for answer in answers] == [200, 200, 200]
                assert [answer.headers["x-ownward-attempts"] for answer in answers] == ["1", "2", "1"]
                states = sorted((row["attempt"], row["state"]) for row in await running.rows())
                assert states == [(1, "settled"), (1, "settled"), (1, "unsettled"), (2, "settled")]

    asyncio.run(main())


def test_a_fresh_connection_that_is_closed_without_an_answer_is_not_asked_again(lab, start):
    async def main():
        async def closes(_body, _reader, writer):
            writer.close()

        async with lab.Scripted(closes) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["x-ownward-attempts"]) == (502, "1")

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 500])
def test_a_whole_answer_that_comes_in_drips_ends_at_the_deadline_and_not_when_its_upstream_likes(lab, start, status):
    settings = GatewaySettings(port=0, deadline_s=0.4, drain_s=1)

    async def drip(body, reader, writer):
        writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" % status)
        for _ in range(1000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def main():
        async with lab.Scripted(drip) as slow:
            async with start(lab.plan_of(lab.tier("a", slow.base_url)), settings=settings) as running:
                answer = await asyncio.wait_for(running.ask(body=lab.chat()), 3)
                assert answer.status == (504 if status == 200 else 502)
                if status == 200:
                    assert answer.json["error"]["ownward_kind"] == "upstream_timeout"
                    assert "until the deadline" in answer.json["error"]["message"]
                await asyncio.wait_for(slow.lost.wait(), 2)
                (row,) = await running.rows()
                assert row["state"] == ("unsettled" if status == 200 else "failed")

    asyncio.run(main())


def test_an_error_whose_words_come_in_drips_holds_nobody_from_the_next_upstream(lab, start, monkeypatch):
    monkeypatch.setattr("ownward.gateway.calling.refused_call._MOST_BODY_S", 0.2)

    async def drip(body, reader, writer):
        writer.write(b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def main():
        async with lab.Scripted(drip) as slow, FakeServer() as other:
            async with start(two_tiers(lab, slow, other)) as running:
                answer = await asyncio.wait_for(running.ask(body=lab.chat()), 3)
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                await asyncio.wait_for(slow.lost.wait(), 2)

    asyncio.run(main())
