"""Labels: what is not permitted is not sent, whatever a header says, and the refusal says what to write."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import logging
from decimal import Decimal

import pytest

from ownward.dashboard import Dashboard
from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Upstream
from ownward.policy import LOCAL_ONLY, Label


def test_local_only_never_reaches_a_rented_tier_even_when_the_local_one_fails(lab, start):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as local, FakeServer() as rented:
            plan = lab.plan_of(
                lab.tier("mine", local.base_url, kind="owned"), lab.tier("theirs", rented.base_url), label=LOCAL_ONLY
            )
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 500
                assert answer.headers["x-ownward-reason"].endswith(
                    "left out: theirs not permitted; first mine/mine-1 of 1"
                )
                assert rented.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_nothing_stated_is_this_machine_alone(lab, start):
    async def main():
        async with FakeServer() as rented:
            plan = lab.plan_of(lab.tier("theirs", rented.base_url), label=None)
            async with start(plan) as running:
                answer = await running.ask(body={**lab.chat(), "model": "theirs"})
                assert answer.status == 403
                assert answer.json["error"]["code"] == "policy_refusal"
                assert 'default_label = "eu"' in answer.json["error"]["next"]
                assert "nothing states another" in answer.json["error"]["message"]
                assert rented.record.count(with_calls=False)["accepted"] == 0
                (row,) = await running.rows()
                assert (row["state"], row["status"], row["label"]) == ("refused", 403, "local_only")

    asyncio.run(main())


@pytest.mark.parametrize("label", ["local_only", "eu", "provider:fake"])
def test_a_machine_on_the_own_network_is_not_this_machine(lab, start, label):
    async def main():
        rack = lab.tier("rack", "http://10.255.255.1:9", kind="owned", engine="adopted")
        async with start(lab.plan_of(rack, label=Label.parse(label))) as running:
            answer = await running.ask(body=lab.chat())
            assert answer.status == 403
            assert 'label = "site"' in answer.json["error"]["next"]
            assert "rack is at a machine on your own network" in answer.json["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("header", ["any", "eu", "provider:fake", "eu|provider:other"])
def test_a_header_cannot_widen_a_label(lab, start, header):
    async def main():
        async with FakeServer() as rented:
            plan = lab.plan_of(lab.tier("theirs", rented.base_url), label=LOCAL_ONLY)
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat(), headers={"x-ownward-label": header})
                assert answer.status == 403
                assert '[workloads.chat] label = "eu"' in answer.json["error"]["next"]
                assert rented.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "status"), [("local_only", 403), ("us", 403), ("eu", 200), ("any", 200), ("?!", 400)]
)
def test_a_header_shrinks_a_label(lab, start, header, status):
    async def main():
        async with FakeServer() as rented, start(lab.plan_of(lab.tier("theirs", rented.base_url))) as running:
            answer = await running.ask(body=lab.chat(), headers={"x-ownward-label": header})
            assert answer.status == status

    asyncio.run(main())


@pytest.mark.parametrize("header", ["x-ownward-labels", "x_ownward_label", "X-Ownward-Lable"])
def test_a_label_under_a_misspelt_header_sends_nothing_anywhere(lab, start, header):
    async def main():
        async with FakeServer() as rented, start(lab.plan_of(lab.tier("theirs", rented.base_url))) as running:
            answer = await running.ask(body=lab.chat(), headers={header: "local_only"})
            assert (answer.status, answer.json["error"]["ownward_kind"]) == (400, "malformed_request")
            assert header.lower() in answer.json["error"]["message"]
            assert "x-ownward-label" in answer.json["error"]["allowed"]
            assert rented.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_misspelt_workload_sends_nothing_anywhere(lab, start, path):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("theirs", fake.base_url))) as running:
                asked = {**lab.chat(), "max_tokens": 5}
                answer = await running.ask(path, asked, headers={"x-ownward-workload": "chatt"})
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (404, "unknown_route")
                assert "Closest: 'chat'" in answer.json["error"]["message"]
                assert fake.record.count(with_calls=False)["accepted"] == 0
                (row,) = await running.rows()
                assert (row["state"], row["status"], row["workload"]) == ("refused", 404, "chatt")

    asyncio.run(main())


def test_a_keys_label_shrinks_too(lab, start):
    settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)

    async def main():
        async with FakeServer() as rented:
            async with start(lab.plan_of(lab.tier("theirs", rented.base_url)), settings=settings) as running:
                narrow = running.ledger.create_key("narrow", {"label": "local_only"})
                wide = running.ledger.create_key("wide", {"label": "any"})
                refused = await running.ask(body=lab.chat(), headers={"authorization": f"Bearer {narrow}"})
                served = await running.ask(body=lab.chat(), headers={"x-api-key": wide})
                assert (refused.status, served.status) == (403, 200)
                assert "shrunk by the key" in refused.json["error"]["message"]

    asyncio.run(main())


def test_of_several_tiers_only_those_that_are_permitted_are_candidates(lab, start):
    async def main():
        async with FakeServer() as us, FakeServer() as eu:
            plan = lab.plan_of(
                lab.tier("us", us.base_url, region="us"), lab.tier("eu", eu.base_url), label=Label.parse("eu")
            )
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.headers["x-ownward-tier"] == "eu"
                assert us.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_every_refusal_is_a_row_of_the_ledger(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url, capabilities=frozenset({"chat"})))
            async with start(plan) as running:
                asked = [
                    ({"model": "nobody", "messages": []}, {}, 404, "unknown_route"),
                    (b"{not json", {}, 400, "malformed_request"),
                    (lab.chat(tools=[{"type": "function"}]), {}, 400, "incapable"),
                    (lab.chat(), {"x-ownward-label": "local_only"}, 403, "policy_refusal"),
                    (lab.chat(), {"x-ownward-tier": "nowhere"}, 404, "unknown_route"),
                    (lab.chat(), {"x-ownward-task": "a b"}, 400, "malformed_request"),
                ]
                for body, headers, status, kind in asked:
                    answer = await running.ask(body=body, headers=headers)
                    assert (answer.status, answer.json["error"]["ownward_kind"]) == (status, kind)
                rows = await running.rows()
                assert {row["state"] for row in rows} == {"refused"}
                assert sorted(row["status"] for row in rows) == sorted(status for _, _, status, _ in asked)
                assert {row["attempt"] for row in rows} == {0}

    asyncio.run(main())


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_upstream_that_quotes_the_request_puts_none_of_it_into_ledger_or_log(
    lab, start, caplog, tmp_path, is_stream
):
    """Refusals quote prompts, and nothing keeps an upstream from putting one into an id."""
    words = "the patient's name"
    error = b'{"id": "%s", "error": {"message": "cannot answer %s"}}' % ((words * 20).encode(), words.encode())

    async def script(_, reader, writer):
        head = lab.STREAM_HEAD + lab.chunk(b"data: " + error + b"\n\n") + b"0\r\n\r\n"
        plain = b"HTTP/1.1 500 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        writer.write(head if is_stream else plain % (len(error), error))

    async def main():
        async with lab.Scripted(script) as upstream, start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
            answer = await running.ask(body=lab.chat(stream=is_stream))
            assert words in answer.body.decode()  # the client may know what it sent
            (row,) = await running.rows()
            assert row["upstream_request_id"] is None

    with caplog.at_level(0):
        asyncio.run(main())
    assert words not in caplog.text
    for path in tmp_path.iterdir():
        assert words.encode() not in path.read_bytes()


def test_a_client_that_leaves_while_it_is_told_an_error_is_no_fault(lab, start):
    """Under a server whose `send` waits, leaving used to end in a traceback."""

    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9"))) as running:
            gone = asyncio.Event()
            bodies = [{"type": "http.request", "body": b'{"model": "nobody"}', "more_body": False}]

            async def receive():
                if bodies:
                    return bodies.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(_):
                gone.set()
                await asyncio.sleep(0.02)

            body = b'{"model": "chat", "messages": []}'
            bodies[0]["body"] = body
            scope = {"type": "http", "method": "POST", "path": lab.CHAT, "headers": []}
            await running.server.gateway(scope, receive, send)
            assert not running.server.gateway.exchanges

    asyncio.run(main())


def test_a_redirect_to_another_place_is_told_and_not_followed(lab, start):
    async def main():
        async with FakeServer() as stranger:
            there = f"{stranger.base_url}/v1/chat/completions"
            script = lab.whole(b"{}", status=307, headers={"location": there})
            async with (
                lab.Scripted(script) as upstream,
                start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            ):
                answer = await running.ask(body=lab.chat())
                assert (answer.status, there in answer.body.decode()) == (502, False)
                assert len(upstream.heard) == 1
                assert stranger.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_no_header_of_a_client_says_where_a_request_goes(lab, start):
    """Nor who sent it, nor with which key."""
    spoofed = {
        "x-forwarded-host": "evil.example", "forwarded": "host=evil.example",
        "x-original-url": "http://evil.example/", "x-ownward-upstream": "other", "cookie": "c=secret-cookie",
        "x-forwarded-for": "203.0.113.9", "authorization": "Bearer clients-own-key", "api-key": "another-key",
    }  # fmt: skip

    async def main():
        body = b'{"id": "1", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}'
        async with lab.Scripted(lab.whole(body)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                assert (await running.ask(body=lab.chat(), headers=spoofed)).status == 200
                ((line, headers, _),) = upstream.heard
                assert line == "POST /v1/chat/completions HTTP/1.1"
                assert headers["host"] == upstream.base_url.removeprefix("http://")
                assert not set(spoofed.values()) & set(headers.values())
                assert not {"cookie", "authorization", "x-forwarded-for", "api-key"} & set(headers)

    asyncio.run(main())


async def page_of(base_url, path):
    """Return a page as a browser on this machine gets it; the pages answer under a loopback name alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    page = (await reader.read()).decode()
    writer.close()
    assert page.startswith("HTTP/1.1 200"), page[:200]
    return page


def test_no_page_and_no_export_shows_what_was_said(lab, start):
    """Overview, its JSON, metrics, models and exported rows, after requests that went well and badly."""
    pytest.importorskip("jinja2", reason="the pages are an extra")
    words, secret = "CANARY-of-the-prompt", "sk-upstream-secret"

    async def main():
        async with FakeServer(FakeOptions(reply=words, failures=(Failure.parse("500:1"),), api_key=secret)) as fake:
            tiers = tuple(
                lab.tier(name, fake.base_url, upstreams=(Upstream(name=name, url=fake.base_url, api_key_env="K"),))
                for name in ("a", "b")
            )
            plan = lab.plan_of(*tiers)
            async with start(plan, secrets={"K": secret}) as running:
                gateway = running.server.gateway
                pages = Dashboard(running.ledger, find_plan=lambda: plan, human_usd_per_hour=Decimal(0))
                gateway._mounts = (("/dashboard", pages),)
                for more in ({}, {"stream": True}, {"tools": [{"type": "function", "function": {"name": words}}]}):
                    said = lab.chat(messages=[{"role": "user", "content": words}], user=words, **more)
                    await running.ask(body=said, headers={"x-private": words})
                await running.ask(body=lab.chat(n=f"{words}"))
                rows = str(await running.rows())
                pages = [
                    await page_of(running.base_url, path)
                    for path in ("/metrics", "/v1/models", "/dashboard/", "/dashboard/overview.json", "/openapi.json")
                ]
                assert "req_" in pages[3]
                for page in (rows, *pages):
                    assert words not in page
                    assert secret not in page

    asyncio.run(main())


KEY = "sk-a/key+of=ours-0123456789"
ERROR = json.dumps({"error": {"message": f"Bearer {KEY} is wrong", "type": KEY, "code": None}}).encode()
EVENT = b"data: %b\n\n"
SPELLED_BY_PHP = ERROR.replace(b"/", rb"\/")
SPELLED_BY_NET = ERROR.replace(b"+", rb"\u002B").replace(b"=", rb"\u003d")
SPELLED_TWICE = json.dumps({"error": {"message": SPELLED_BY_PHP.decode()}}).encode()
BEGUN = EVENT % b'{"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}'


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(
    "quoted",
    [
        *((status, "application/json", ERROR) for status in (200, 400, 404, 422, 429, 500, 501)),
        (500, "text/plain", f"no: {KEY}".encode()),
        (502, "text/html", f"<html><title>{KEY}</title></html>".encode()),
        (200, "text/event-stream", EVENT % ERROR),
        (200, "text/event-stream", BEGUN + EVENT % ERROR),
        (400, "application/json", SPELLED_BY_PHP),
        (400, "application/json", SPELLED_BY_NET),
        (400, "application/json", SPELLED_TWICE),
        (200, "text/event-stream", BEGUN + EVENT % SPELLED_BY_PHP),
    ],
)
def test_an_upstream_that_quotes_our_key_in_an_error_shows_it_to_nobody(lab, start, caplog, path, quoted):
    status, kind, said = quoted

    async def quote(_body, _reader, writer):
        head = f"HTTP/1.1 {status} No\r\nx-request-id: {KEY}\r\ncontent-type: {kind}\r\n"
        writer.write(f"{head}content-length: {len(said)}\r\n\r\n".encode() + said)
        await writer.drain()

    async def main():
        caplog.set_level(logging.DEBUG)
        async with lab.Scripted(quote) as upstream:
            stated = Upstream(name="n", url=upstream.base_url, api_key_env="K")
            plan = lab.plan_of(lab.tier("a", "", upstreams=(stated,)))
            async with start(plan, secrets={"K": KEY}) as running:
                asked = {**lab.chat(max_tokens=5), "stream": kind.endswith("stream")}
                answer = await running.ask(path, asked)
                rows = await running.rows()
            assert any(KEY in headers["authorization"] for _, headers, _ in upstream.heard)
            assert b"[key hidden]" in answer.body
            for told in (
                answer.body.decode(),
                str(rows),
                caplog.text,
                *(answer.headers.values() if status > 200 else ()),
            ):
                assert KEY not in told
                assert "0123456789" not in told

    asyncio.run(main())


def test_an_upstream_whose_id_of_a_call_is_our_key_writes_it_into_no_row(lab, start):
    said = {"id": KEY, "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}

    async def main():
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as upstream:
            stated = Upstream(name="n", url=upstream.base_url, api_key_env="K")
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(stated,))), secrets={"K": KEY}) as running:
                assert (await running.ask(body=lab.chat())).status == 200
                (row,) = await running.rows()
                assert row["upstream_request_id"] is None

    asyncio.run(main())
