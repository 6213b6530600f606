"""The pages over a real ledger: what they show, what they escape, whom they answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ownward import ledger
from ownward.dashboard import Dashboard
from ownward.ledger import Intent, Ledger, Outcome, Request, Served, Settlement
from ownward.plan import loads
from ownward.pricing import Usage

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
PLAN = """
schema = "ownward.plan/1"
name = "{name}"
baseline = "api"
[tiers.api]
kind = "rented"
model = "m"
provider = "p"
upstreams = [{{ name = "u", url = "https://api.example.com/v1" }}]
price = {{ input_usd_per_mtok = "{usd}", output_usd_per_mtok = "{usd}", basis = "assumed", source = "s", \
checked_on = 2026-11-21 }}
"""
HOSTILE = "<script>alert('workload')</script>"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Ledger]:
    with ledger.open(tmp_path / "ledger.db") as made:
        asyncio.run(_fill(made))
        yield made


async def _fill(made: Ledger) -> None:
    for index, workload in enumerate(("support", HOSTILE)):
        request = Request(
            request_id=f"req_{index}", task_id=f"task_{index}", task_basis="explicit", workload=workload, route="r",
            key_id=None, label="local_only", dialect="openai", is_stream=False, plan_sha256=None, reason="first",
            started_at=NOW,
        )  # fmt: skip
        intent = Intent(
            request_id=f"req_{index}", attempt=1, tier="small", upstream="box", model="m", price_id=None,
            input_tokens_high=100, output_tokens_high=100, charge_high_picousd=None, body_sha256="0" * 64,
            started_at=NOW,
        )  # fmt: skip
        await made.begin(request, intent)
        made.settle(
            Settlement(
                request_id=f"req_{index}", attempt=1, state="settled", settled_at=NOW, usage_basis="upstream",
                usage=Usage(input_tokens=12, output_tokens=3), charge_picousd=2_000_000, latency_s=0.5, ttft_s=0.1,
            )
        )  # fmt: skip
    await made.flush()
    await asyncio.to_thread(
        made.record_outcome, Outcome(task_id="task_0", completed=True, source="verifier", recorded_at=NOW)
    )


def get(
    opened: Ledger, path: str, host: str = "127.0.0.1:8484", *, app: Dashboard | None = None
) -> tuple[int, dict[str, str], str]:
    """Ask the application as a server would."""
    if app is None:
        app = Dashboard(opened, find_plan=lambda: None, human_usd_per_hour=Decimal(0))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", host.encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8484),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:]).decode()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_overview_shows_workloads_costs_and_what_is_unknown(opened: Ledger) -> None:
    status, headers, page = get(opened, "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "support" in page
    assert "1/1 (100%)" in page
    assert "$0.00000200" in page
    assert "Not known" in page


def test_a_call_that_was_refused_or_failed_says_why(opened: Ledger) -> None:
    """The reason of the choice is not what somebody looks for there."""
    told = {"request_id": "req_9", "task_id": "task_9", "task_basis": "explicit", "workload": "mail", "route": "r"}
    rest = {"key_id": None, "label": "local_only", "dialect": "openai", "is_stream": False, "plan_sha256": None}
    asked = Request(**told, **rest, reason="", started_at=NOW)  # type: ignore[arg-type]
    opened.refuse(asked, reason="the label permits none of its tiers", status=403)
    opened.flush_blocking()
    assert "the label permits none of its tiers" in get(opened, "/")[2]


def test_what_a_client_names_is_escaped(opened: Ledger) -> None:
    _, headers, page = get(opened, "/")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in headers["content-security-policy"]


def test_the_page_needs_nothing_from_elsewhere_and_reads_aloud(opened: Ledger) -> None:
    """No script, no address of another host; a language, a title, headings in order, headers on every table."""
    _, _, text = get(opened, "/")
    page = _Page()
    page.feed(text)
    names = [name for name, _ in page.tags]
    assert "script" not in names
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert not (attributes.get(key) or "").startswith(("http:", "https:", "//"))
    assert dict(page.tags)["html"]["lang"] == "en"
    assert names.count("h1") == 1
    assert "title" in names
    assert all(attributes.get("scope") in {"col", "row"} for name, attributes in page.tags if name == "th")


def test_the_same_figures_are_there_as_json(opened: Ledger) -> None:
    _, _, body = get(opened, "/overview.json")
    record = json.loads(body)
    assert record["schema"] == "ownward.overview/1"
    assert record["workloads"][-1]["tiers"][0]["cost_usd"] == "0.000002"


def test_what_people_worked_on_a_task_costs_as_much_as_in_a_report(opened: Ledger) -> None:
    opened.record_outcome(
        Outcome(task_id="task_0", completed=True, source="human", human_minutes=30.0, recorded_at=NOW)
    )
    app = Dashboard(opened, find_plan=lambda: None, human_usd_per_hour=Decimal(60))
    record = json.loads(get(opened, "/overview.json", app=app)[2])
    assert record["workloads"][-1]["tiers"][0]["cpct"]["usd"] == "30.000002"


def test_the_pages_go_by_the_plan_in_force(opened: Ledger) -> None:
    """Also once another one is loaded: its name, its baseline and its prices."""
    in_force = [PLAN.format(name="before", usd="1"), PLAN.format(name="after", usd="10")]
    plans = [loads(text, file="plan.toml") for text in in_force]
    app = Dashboard(opened, find_plan=lambda: plans[0], human_usd_per_hour=Decimal(0))

    async def main() -> None:
        for name, usd in (("before", "0.000030"), ("after", "0.000300")):
            assert f"plan “{name}”" in (await answer(app, "/"))
            assert json.loads(await answer(app, "/overview.json"))["baseline_usd"] == usd
            plans.pop(0)

    asyncio.run(main())


def test_another_host_name_is_not_answered(opened: Ledger) -> None:
    """A page of another site whose name was pointed at this machine cannot read it."""
    status, _, _ = get(opened, "/", host="evil.example")
    assert status == 400


def test_who_asks_while_the_ledger_is_looked_through_shares_that_look(
    opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over millions of calls a look takes a minute, and an impatient reader reloads."""
    query, looks = opened.query_served, []
    has_begun, may_go_on = threading.Event(), threading.Event()

    def query_served(**asked: Any) -> list[Served]:
        looks.append(asked)
        has_begun.set()
        assert may_go_on.wait(10)
        return query(**asked)

    monkeypatch.setattr(opened, "query_served", query_served)

    async def main() -> list[int]:
        app = Dashboard(opened, find_plan=lambda: None, human_usd_per_hour=Decimal(0))
        asking = [asyncio.ensure_future(ask(app, path)) for path in ("/", "/overview.json", "/")]
        assert await asyncio.to_thread(has_begun.wait, 10)
        asking[0].cancel()  # who leaves takes nothing from the others
        await asyncio.sleep(0.01)
        may_go_on.set()
        return [await one for one in asking[1:]] + [await ask(app, "/")]

    assert asyncio.run(main()) == [200, 200, 200]
    assert len(looks) == 2


async def ask(app: Any, path: str) -> int:
    return (await _exchange(app, path))[0]


async def answer(app: Any, path: str) -> str:
    return (await _exchange(app, path))[1]


async def _exchange(app: Any, path: str) -> tuple[int, str]:
    statuses: list[int] = []
    parts: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        parts.append(message.get("body", b""))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"host", b"127.0.0.1:8484")]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return statuses[0], b"".join(parts).decode()


def test_a_call_says_its_day_and_what_may_scroll_can_be_reached_by_key(opened: Ledger) -> None:
    """A gateway may have served its newest call weeks ago; a table wider than a phone is scrolled by its section."""
    _, _, page = get(opened, "/")
    assert ">2026-11-21 09:30:00</time>" in page
    assert page.count("<section") == page.count('<section tabindex="0" aria-labelledby=')
