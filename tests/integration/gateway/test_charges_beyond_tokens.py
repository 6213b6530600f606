"""What a list price does not tell the charge of is unknown, never priced as if it were plain text in standard mode."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import dataclasses
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from ownward.core import ManualClock
from ownward.plan import Budget, Match, Strategy, Workload
from ownward.policy import ANY

READ, WRITTEN = 1000, 100
OPENAI = {"prompt_tokens": READ, "completion_tokens": WRITTEN, "total_tokens": READ + WRITTEN}
ANTHROPIC = {"input_tokens": READ, "output_tokens": WRITTEN}
PLAIN = "0.004500"  # 1,000 tokens at 3 and 100 at 15 dollars a million
NOBODY = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "cache_creation": None}

TODAY = date(2026, 11, 21)
PAID = Workload(
    name="paid",
    match=Match(models=("paid",)),
    strategy=Strategy(kind="direct", tiers=("a",)),
    label=ANY,
    budget=Budget(max_usd=Decimal(10), period="day", when_spent="refuse"),
)


class Clock(ManualClock):
    """Wall time by hand, the monotonic clock of the machine."""

    def __init__(self):
        super().__init__(datetime(2026, 11, 21, 12, tzinfo=UTC))

    def monotonic_s(self):
        return asyncio.get_running_loop().time()


def heard(where):
    return {"usage": {**OPENAI, where: {"audio_tokens": 50}}}


def searched(count):
    return {"usage": {**ANTHROPIC, "server_tool_use": {"web_search_requests": count, "web_fetch_requests": 2}}}


def iterations(kind, **more):
    parts = [{"type": kind, "input_tokens": 2000, "output_tokens": 50, **NOBODY, **more}]
    return {"usage": {**ANTHROPIC, "iterations": [*parts, {"type": "message", **ANTHROPIC, **NOBODY}]}}


TOLD = {
    "nothing said": ("openai", {}, (PLAIN, PLAIN, PLAIN)),
    "default": ("openai", {"service_tier": "default"}, (PLAIN, PLAIN, PLAIN)),
    "priority": ("openai", {"service_tier": "priority"}, (None, "0.000000", None)),
    "flex": ("openai", {"service_tier": "flex"}, (None, "0.000000", PLAIN)),
    "a tier nobody knows": ("openai", {"service_tier": "scale"}, (None, "0.000000", None)),
    "sound heard": ("openai", heard("prompt_tokens_details"), (None, "0.000000", None)),
    "sound made": ("openai", heard("completion_tokens_details"), (None, "0.000000", None)),
    "pictures made": (
        "openai",
        {"usage": {**OPENAI, "completion_tokens_details": {"image_tokens": 90}}},
        (None, "0.000000", None),
    ),
    "searches of another provider": ("openai", {"usage": {**OPENAI, "num_sources_used": 4}}, (None, PLAIN, None)),
    "standard": ("anthropic", {"usage": {**ANTHROPIC, "service_tier": "standard"}}, (PLAIN, PLAIN, PLAIN)),
    "batch": ("anthropic", {"usage": {**ANTHROPIC, "service_tier": "batch"}}, (None, "0.000000", PLAIN)),
    "bought ahead": ("anthropic", {"usage": {**ANTHROPIC, "service_tier": "priority"}}, (None, "0.000000", None)),
    "fast": ("anthropic", {"usage": {**ANTHROPIC, "speed": "fast"}}, (None, "0.000000", None)),
    "pages fetched": ("anthropic", searched(0), (PLAIN, PLAIN, PLAIN)),
    "anywhere": ("anthropic", {"usage": {**ANTHROPIC, "inference_geo": "global"}}, (PLAIN, PLAIN, PLAIN)),
    "a region that the account is set to": (
        "anthropic",
        {"usage": {**ANTHROPIC, "inference_geo": "us"}},
        (None, "0.000000", None),
    ),
    "a credit": (
        "anthropic",
        {"usage": {**ANTHROPIC, "fallback_credit": {"status": {"type": "redeemed"}}}},
        (None, "0.000000", PLAIN),
    ),
    "searches": ("anthropic", searched(3), (None, PLAIN, None)),
    "another model": ("anthropic", iterations("advisor_message", model="other"), (None, PLAIN, None)),
    "a summary": ("anthropic", iterations("compaction"), ("0.011250", "0.011250", "0.011250")),
}


def answer_of(dialect, more, *, stream):
    if dialect == "anthropic":
        message = {"id": "m1", "type": "message", "role": "assistant", "stop_reason": "end_turn", **more}
        message.setdefault("usage", ANTHROPIC)
        if not stream:
            return json.dumps({**message, "content": [{"type": "text", "text": "yes"}]}).encode()
        events = [
            {"type": "message_start", "message": {**message, "content": [], "usage": {"input_tokens": READ}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "yes"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": message["usage"]},
            {"type": "message_stop"},
        ]
        return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)
    whole = {"id": "x1", "object": "chat.completion", "usage": OPENAI, **more}
    if not stream:
        choices = [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]
        return json.dumps({**whole, "choices": choices}).encode()
    usage = whole.pop("usage")
    pieces = [({"content": "yes"}, None), ({}, "stop")]
    events = [{**whole, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in pieces]
    events.append({**whole, "choices": [], "usage": usage})
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in events) + b"data: [DONE]\n\n"


def says(dialect, more):
    async def script(body, _reader, writer):
        stream = json.loads(body).get("stream") is True
        content, kind = answer_of(dialect, more, stream=stream), "text/event-stream" if stream else "application/json"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()

    return script


def tier_of(lab, url, dialect, **more):
    tier = lab.tier("a", url, **more)
    return dataclasses.replace(
        tier, upstreams=tuple(dataclasses.replace(one, dialect=dialect) for one in tier.upstreams)
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("asked_in", ["openai", "anthropic"])
@pytest.mark.parametrize("said", TOLD)
def test_what_was_served_otherwise_than_the_price_says_has_no_charge_but_bounds(lab, start, said, asked_in, stream):
    dialect, more, expected = TOLD[said]
    path = lab.CHAT if asked_in == "openai" else "/v1/messages"

    async def main():
        async with lab.Scripted(says(dialect, more)) as upstream:
            async with start(lab.plan_of(tier_of(lab, upstream.base_url, dialect))) as running:
                answer = await running.ask(path, lab.chat(max_tokens=5000, stream=stream))
                assert answer.status == 200
                (row,) = await running.rows()
        assert row["state"] == "settled"
        assert (row["charge_usd"], row["charge_low_usd"], row["charge_high_usd"])[:2] == expected[:2]
        if expected[2] is not None:
            assert row["charge_high_usd"] == expected[2]

    asyncio.run(main())


def test_a_tier_of_ones_own_is_priced_by_its_tokens_whatever_its_engine_says(lab, start):
    async def main():
        async with lab.Scripted(says("openai", {"service_tier": "priority"})) as upstream:
            tier = lab.tier("a", upstream.base_url, kind="owned", engine="adopted")
            async with start(lab.plan_of(tier)) as running:
                await running.ask(body=lab.chat(max_tokens=5000, service_tier="priority"))
                (row,) = await running.rows()
        assert row["charge_usd"] == PLAIN

    asyncio.run(main())


@pytest.mark.parametrize(
    "more",
    [
        {"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}},
        {"modalities": ["image", "text"]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}
            ]
        },
    ],
    ids=["sound made", "pictures made", "sound heard"],
)
def test_what_was_asked_for_beside_text_and_is_not_told_of_has_no_charge(lab, start, more):
    """Gemini's answers count sound among all tokens, and charge it at another rate."""

    async def main():
        async with lab.Scripted(says("openai", {})) as upstream:
            async with start(lab.plan_of(tier_of(lab, upstream.base_url, "openai"))) as running:
                assert (await running.ask(body=lab.chat(max_tokens=5000) | more)).status == 200
                (row,) = await running.rows()
        assert (row["state"], row["charge_usd"], row["charge_high_usd"]) == ("settled", None, None)
        assert row["input_tokens"] == READ

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "told", "charge"), [("flex", "flex", PLAIN), ("flex", "default", None), ("fast", "priority", PLAIN)]
)
def test_a_price_of_another_mode_is_that_modes(lab, start, mode, told, charge):
    async def main():
        async with lab.Scripted(says("openai", {"service_tier": told})) as upstream:
            price = dataclasses.replace(lab.PRICE, mode=mode)
            async with start(lab.plan_of(lab.tier("a", upstream.base_url, price=price))) as running:
                await running.ask(body=lab.chat(max_tokens=5000))
                (row,) = await running.rows()
        assert row["charge_usd"] == charge

    asyncio.run(main())


TOMORROW = TODAY + timedelta(days=1)
SPANS = {
    "from today": ({"valid_from": TODAY}, PLAIN),
    "until tomorrow": ({"valid_to": TOMORROW}, PLAIN),
    "until today": ({"valid_to": TODAY}, None),
    "from tomorrow": ({"valid_from": TOMORROW}, None),
}


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("kind", ["rented", "owned"])
def test_a_price_charges_nothing_on_days_on_which_it_does_not_hold(lab, start, caplog, span, kind):
    holds, charge = SPANS[span]

    async def main():
        async with lab.Scripted(says("openai", {})) as upstream:
            price = dataclasses.replace(lab.PRICE, **holds)
            more = {"engine": "adopted"} if kind == "owned" else {}
            tier = lab.tier("a", upstream.base_url, price=price, kind=kind, max_context_tokens=9000, **more)
            async with start(lab.plan_of(tier, workloads=(PAID,)), clock=Clock()) as running:
                assert (await running.ask(body=lab.chat(max_tokens=5000))).status == 200
                (row,) = await running.rows()
                paid = await running.ask(body=lab.chat(max_tokens=50) | {"model": "paid"})
        assert (row["state"], row["charge_usd"]) == ("settled", charge)
        assert paid.status == (403 if charge is None else 200)
        if charge is None:
            assert "write one that does under [tiers.a.price]" in paid.json["error"]["next"]
        assert ("the price of tier 'a' is not today's" in caplog.text) is (charge is None)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("openai", {"service_tier": "priority"}),
        ("openai", {"web_search_options": {}}),
        ("openai", {"plugins": [{"id": "web"}]}),
        ("openai", {"search_parameters": {"mode": "auto"}}),
        ("openai", {"enable_search": True}),
        ("openai", {"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}}),
        ("openai", {"modalities": ["image", "text"]}),
        ("openai", {"models": ["other/large"]}),
        ("openai", {"preset": "with-another-model"}),
        (
            "openai",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}],
                    }
                ]
            },
        ),
        ("anthropic", {"speed": "fast"}),
        ("anthropic", {"inference_geo": "us"}),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("anthropic", {"mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "x"}]}),
    ],
    ids=[
        "priority",
        "searches",
        "a search plugin",
        "a live search",
        "a search that is turned on",
        "sound made",
        "pictures made",
        "models to fall back to",
        "a preset",
        "sound heard",
        "fast",
        "region",
        "server tools",
        "mcp",
    ],
)
def test_no_budget_admits_a_call_that_may_be_charged_beyond_the_price(lab, start, dialect, more):
    async def main():
        async with lab.Scripted(says(dialect, {})) as upstream:
            tier = tier_of(lab, upstream.base_url, dialect, max_context_tokens=100_000)
            async with start(lab.plan_of(tier, workloads=(PAID,))) as running:
                path = lab.CHAT if dialect == "openai" else "/v1/messages"
                body = lab.chat(max_tokens=50) | {"model": "paid"}
                refused = await running.ask(path, body | more)
                assert refused.status == 403
                assert refused.json["error"]["ownward_kind"] == "unbounded_charge"
                assert "it is not known what this call" in refused.json["error"]["message"]
                assert not upstream.heard
                assert (await running.ask(path, body)).status == 200
                for plain in (
                    {"service_tier": "auto"},
                    {"search_parameters": {"mode": "off"}},
                    {"enable_search": False},
                ):
                    assert (await running.ask(path, body | plain)).status == 200

    asyncio.run(main())


def test_counts_that_no_call_has_are_no_charge(lab, start):
    """A million dollars for one answer is garbage, and what the ledger could not add up any more."""
    absurd = {"prompt_tokens": 1, "completion_tokens": 8 * 10**9, "total_tokens": 8 * 10**9 + 1}
    dear = dataclasses.replace(lab.PRICE, output_usd_per_mtok=Decimal(1200))

    async def main():
        async with lab.Scripted(says("openai", {"usage": absurd})) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url, price=dear))) as running:
                assert (await running.ask(body=lab.chat(max_tokens=100))).status == 200
                (row,) = await running.rows()
        assert (row["state"], row["output_tokens"], row["charge_usd"]) == ("unsettled", None, None)
        assert Decimal(row["charge_high_usd"]) < 1

    asyncio.run(main())
