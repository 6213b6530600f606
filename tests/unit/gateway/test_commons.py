"""What requests teach those after them, and what is forgotten when the plan or an engine is another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from ownward.core import ManualClock, UpstreamError
from ownward.gateway.app import Gateway
from ownward.gateway.placing.affinity import Prompt
from ownward.gateway.placing.breaker import Breaker
from ownward.gateway.placing.engine_address import EngineAddress
from ownward.gateway.settings import GatewaySettings
from ownward.plan import Plan, Tier, Upstream

FAILED = UpstreamError("it answered 500")


def plan_of(*names: str) -> Plan:
    upstreams = tuple(Upstream(name=name) for name in names)
    tier = Tier(name="own", kind="owned", model="m", engine="llama-server", upstreams=upstreams)
    return Plan(name="p", tiers={"own": tier}, workloads={})


def gateway_of(plan: Plan, **urls: str | None) -> Gateway:
    nobody: Any = SimpleNamespace(is_failing=False)
    return Gateway(
        plan=plan,
        ledger=nobody,
        door=nobody,
        settings=GatewaySettings(port=0, breaker_failures=3, breaker_wait_s=60),
        clock=ManualClock(),
        addresses={name: EngineAddress(url) for name, url in urls.items()},
    )


def test_an_upstream_that_is_left_alone_is_counted_once_however_often_it_fails() -> None:
    gateway = gateway_of(plan_of("a"), a="http://127.0.0.1:1")
    opened = gateway.counting.metrics.breaker_opened.values
    gateway.health.note_failure("own/a", FAILED)
    gateway.health.note_failure("own/a", FAILED)
    assert opened == {}
    for _ in range(5):
        gateway.health.note_failure("own/a", FAILED)
    assert opened == {("own", "a"): 1}


def test_a_success_forgets_failures_and_a_request_to_wait_without_a_time_is_none() -> None:
    gateway = gateway_of(plan_of("a"), a="http://127.0.0.1:1")
    gateway.health.note_failure("own/a", FAILED)
    gateway.health.note_success("own/a")
    gateway.health.note_wait("own/a", None)
    assert gateway.health.breakers == {}
    gateway.health.note_wait("own/a", 5.0)
    assert gateway.health.breakers["own/a"].asks_to_wait


def test_an_engine_that_listens_anew_has_neither_failed_nor_seen_anything() -> None:
    gateway = gateway_of(plan_of("a", "b"), a="http://127.0.0.1:1", b="http://127.0.0.1:2")
    prompt = Prompt(b"x" * 5000)
    for target in gateway.table.targets["own"]:
        gateway.prefixes.begin(target, prompt)
        for _ in range(3):
            gateway.health.note_failure(target.key, FAILED)
    gateway.set_address("a", EngineAddress("http://127.0.0.1:3"))
    first, second = gateway.table.targets["own"]
    assert first.origin == "http://127.0.0.1:3"
    assert list(gateway.health.breakers) == ["own/b"]
    _, why = gateway.prefixes.order([first], prompt, {})
    _, still = gateway.prefixes.order([second], prompt, {})
    assert (why, still) == ("", "4096 of 5000 prompt bytes in its cache")


def test_what_an_upstream_had_seen_is_forgotten_once_another_process_finds_it_down() -> None:
    gateway = gateway_of(plan_of("a", "b"), a="http://127.0.0.1:1", b="http://127.0.0.1:2")
    prompt = Prompt(b"x" * 5000)
    first, second = gateway.table.targets["own"]
    for target in (first, second):
        gateway.prefixes.begin(target, prompt)
    down = Breaker(failures=3, open_until_s=9.0, opened_s=1.0, opened=1)
    gateway.health.hear(first.key, down, 1.0)
    gateway.health.hear(second.key, Breaker(open_until_s=9.0, opened_s=1.0, asks_to_wait=True), 1.0)
    assert gateway.prefixes.order([first], prompt, {})[1] == ""
    assert gateway.prefixes.order([second], prompt, {})[1] == "4096 of 5000 prompt bytes in its cache"
    gateway.prefixes.begin(first, prompt)
    gateway.health.hear(first.key, down, 1.0)  # told again, it is no news
    assert gateway.prefixes.order([first], prompt, {})[1] == "4096 of 5000 prompt bytes in its cache"


def test_what_a_dropped_upstream_had_seen_is_forgotten_with_it() -> None:
    gateway = gateway_of(plan_of("a", "b"), a="http://127.0.0.1:1", b="http://127.0.0.1:2")
    prompt = Prompt(b"x" * 5000)
    targets = gateway.table.targets["own"]
    for target in targets:
        gateway.prefixes.begin(target, prompt)
    gateway.use(gateway_of(plan_of("b", "c"), b="http://127.0.0.1:2", c="http://127.0.0.1:4").table)
    seen = [gateway.prefixes.order([target], prompt, {})[1] for target in targets]
    assert seen == ["", "4096 of 5000 prompt bytes in its cache"]


def test_it_is_ready_once_an_upstream_can_be_used_and_until_it_drains() -> None:
    gateway = gateway_of(plan_of("a"), a=None)
    assert gateway.why_not_ready
    gateway.set_address("a", EngineAddress("http://127.0.0.1:1"))
    assert gateway.why_not_ready is None
    gateway.is_draining = True
    assert gateway.why_not_ready


def test_of_a_tier_that_the_plan_no_longer_has_nothing_is_kept_once_no_request_goes_on_by_the_older_plan() -> None:
    gateway = gateway_of(plan_of("a"), a="http://127.0.0.1:1")
    renamed = Plan(
        name="p",
        tiers={
            "new": Tier(name="new", kind="owned", model="m", engine="llama-server", upstreams=(Upstream(name="a"),))
        },
        workloads={},
    )
    older, newer = gateway.table, gateway_of(renamed, a="http://127.0.0.1:1").table
    gateway.health.note_unpaid("own/a", FAILED)
    gateway.health.note_wait("own/a", None)
    gateway.in_flight["own/a"] = 0
    under_way: Any = Mock(table=older)
    gateway.exchanges.add(under_way)
    gateway.use(newer)
    assert (set(gateway.slots), gateway.health.unpaid_upstreams) == ({"own", "new"}, 1)
    gateway.exchanges.discard(under_way)
    gateway.use(newer)
    assert (set(gateway.slots), gateway.health.unpaid_upstreams) == ({"new"}, 0)
    assert not gateway.health.busy
    assert not gateway.in_flight
