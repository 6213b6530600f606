"""The head of a request: what it states is read once for all requests that have the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ownward import gateway
from ownward.gateway.asgi import REMEMBERED
from ownward.gateway.errors import MalformedRequest
from ownward.gateway.head import Head, head_of
from ownward.plan import Tier, Upstream

STATED = [
    (b"authorization", b"Bearer good"),
    (b"content-length", b"5"),
    (b"accept", b"a"),
    (b"x-ownward-task", b"t"),
    (b"x-ownward-task-budget", b"0.50"),
    (b"x-ownward-tier", b"near"),
    (b"x-ownward-workload", b"w"),
    (b"x-ownward-label", b"eu"),
]


def test_a_head_states_what_its_headers_do() -> None:
    own = Head(STATED).read_own()
    assert (own.task, own.workload, own.tier) == (("t", "explicit"), "w", "near")
    assert (str(own.label), str(own.task_budget_usd)) == ("eu", "0.50")
    nothing = Head([]).read_own()
    assert (nothing.task, nothing.workload, nothing.tier, nothing.label, nothing.task_budget_usd) == (None,) * 5


def test_requests_of_one_head_share_what_was_read_of_it_and_none_of_the_bodys_length() -> None:
    remembered: dict[Any, Any] = {}
    first = head_of({"headers": STATED, REMEMBERED: remembered})
    longer = [(b"content-length", b"99") if name == b"content-length" else (name, value) for name, value in STATED]
    second = head_of({"headers": longer, REMEMBERED: remembered})
    assert second is first
    assert b"content-length" not in first.headers
    assert first.read_own() is second.read_own()
    assert first.key_digest == Head(STATED).key_digest != Head([]).key_digest == b""
    assert dict(first.passed_to("openai", is_translated=False)) == {b"accept": b"a"}
    assert (b"anthropic-version", b"2023-06-01") in first.passed_to("anthropic", is_translated=False)
    assert dict(first.passed_to("openai", is_translated=False)) == {b"accept": b"a"}


def test_a_head_that_nobody_remembers_is_its_requests_own() -> None:
    assert head_of({"headers": STATED}) is not head_of({"headers": STATED})
    assert head_of({"headers": STATED}).headers[b"content-length"] == b"5"


@pytest.mark.parametrize(
    "wrong",
    [
        (b"x-ownward-labels", b"eu"),
        (b"x-ownward-task", b"other"),
        (b"x-ownward-tier", b"a b"),
        (b"x-ownward-label", b"?"),
    ],
)
def test_a_head_that_is_refused_is_refused_each_time(wrong: tuple[bytes, bytes]) -> None:
    remembered: dict[Any, Any] = {}
    for _ in range(2):
        with pytest.raises(MalformedRequest):
            head_of({"headers": [*STATED, wrong], REMEMBERED: remembered}).read_own()


def test_whatever_a_plan_may_call_a_tier_or_workload_can_be_named_by_a_header() -> None:
    name = "m-1.5:free/x_y@2024+lora"
    Tier(name=name, kind="rented", model="m", upstreams=(Upstream(name=name, url="https://a.example"),))
    own = Head([(b"x-ownward-tier", name.encode()), (b"x-ownward-workload", name.encode())]).read_own()
    assert (own.tier, own.workload) == (name, name)


@pytest.mark.parametrize("value", [b"", b" a", b"a b", b"-a", b"a" * 129, b"a\x00"])
def test_a_name_in_a_header_is_a_name(value: bytes) -> None:
    with pytest.raises(MalformedRequest, match="x-ownward-task is not a name"):
        Head([(b"x-ownward-task", value)]).read_own()


@pytest.mark.parametrize("name", [b"x-ownward-tier", b"x-ownward-workload", b"x-ownward-task-budget", b"x-task-id"])
def test_a_header_of_ours_that_says_two_things_is_refused(name: bytes) -> None:
    Head([(name, b"1"), (b"accept", b"a"), (b"accept", b"b"), (name, b"1")]).read_own()
    with pytest.raises(MalformedRequest, match=name.decode()):
        Head([(name, b"1"), (name, b"2")]).read_own()


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_header_with_two_keys_is_refused_and_neither_is_told(name: bytes) -> None:
    assert Head([(name, b"Bearer one"), (name, b"Bearer one")]).key_digest
    head = Head([(name, b"Bearer one"), (b"accept", b"a"), (name, b"Bearer two")])
    for _ in range(2):
        with pytest.raises(MalformedRequest, match=f"{name.decode()} stands twice") as refused:
            head.key_digest  # noqa: B018 - it is read, and raises
        assert "one" not in str(refused.value)
        assert "two" not in str(refused.value)
    assert Head([(b"authorization", b"Bearer one"), (b"x-api-key", b"two")]).key_digest


@pytest.mark.parametrize("name", [b"x-ownward-labels", b"x-ownward_label", b"x_ownward_label", b"x-ownward-"])
def test_a_header_spelt_like_ours_is_refused_since_its_label_would_not_hold(name: bytes) -> None:
    with pytest.raises(MalformedRequest, match=name.decode()) as refused:
        Head([(b"accept", b"a"), (name, b"eu")]).read_own()
    assert "x-ownward-label" in str(refused.value.allowed)


def test_what_a_gateway_sends_on_and_answers_is_known_where_it_comes_in() -> None:
    sources = Path(gateway.__file__).parent.rglob("*.py")
    written = {name for source in sources for name in re.findall(rb'b"(x-ownward-[a-z-]*[a-z])"', source.read_bytes())}
    said = written - dict(STATED).keys()
    assert {b"x-ownward-attempt", b"x-ownward-left-out", b"x-ownward-upstream"} < said
    Head([(name, b"1") for name in (*said, b"x-task-id", b"x-owner")]).read_own()


def test_of_several_labels_in_headers_all_hold() -> None:
    listed = [(b"x-ownward-label", b"eu"), (b"x-ownward-label", b"any"), (b"x-ownward-label", b"eu|us")]
    assert str(Head(listed).read_own().label) == "eu"
