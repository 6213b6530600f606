"""Whatever clients and upstreams say: it is put together unchanged, listed with ids, and sealed words go home only."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ownward.gateway.errors import MalformedRequest
from ownward.gateway.keeping.conversation import Conversation, list_items, read_input, read_keepable
from ownward.ledger import KeptResponse

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOMES = ("tier:a", "https://b.example")

words = st.text(max_size=8) | st.sampled_from(("message", "reasoning", "function_call", "\x00", '"'))
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
items = st.one_of(
    st.dictionaries(st.text(max_size=8), anything, max_size=3),
    st.fixed_dictionaries(
        {"type": words | anything},
        optional={"id": words, "role": anything, "content": anything, "call_id": words, "encrypted_content": anything},
    ),
)
turns = st.lists(st.tuples(st.lists(items, max_size=3), st.lists(items | anything, max_size=3) | anything), max_size=3)
sealed = st.fixed_dictionaries({"type": st.just("reasoning"), "encrypted_content": st.just("SEALED")})


def kept(number: int, stated: Any, output: Any, *, origin: str = HOMES[0]) -> KeptResponse:
    answer = {"id": f"resp_{number}", "object": "response", "output": output}
    return KeptResponse(
        response_id=f"resp_{number}",
        owner="",
        request_id="r",
        previous_id=None,
        label="any",
        origin=origin,
        items_json=json.dumps(stated).encode(),
        answer_json=json.dumps(answer).encode(),
        kept_at=NOW,
        expires_at=NOW,
    )


def target(home: str, *, is_native: bool) -> Any:
    return SimpleNamespace(
        tier=SimpleNamespace(kind="owned" if home.startswith("tier:") else "rented", name=home.removeprefix("tier:")),
        origin=home,
        substitute=lambda *_: None if is_native else object(),
    )


def answered(output: Any) -> list[Any]:
    """Return what of an answer can be gone on with: objects."""
    listed = output if isinstance(output, list) else []
    return [item for item in listed if isinstance(item, dict)]


@given(turns, st.lists(items, max_size=3) | words, anything)
def test_what_was_said_is_put_together_unchanged(before: list[tuple[Any, Any]], stated: Any, other: Any) -> None:
    top = read_keepable(json.dumps({"other": other, "input": stated, "previous_response_id": "x"}).encode())
    said = [kept(number, *turn) for number, turn in enumerate(before)]
    whole = json.loads(Conversation(said, top, read_input(top)).whole)
    assert whole["store"] is False
    assert json.dumps(whole["other"]) == json.dumps(other)
    assert "previous_response_id" not in whole
    expected = stated
    if before:
        own = stated if isinstance(stated, list) else [{"type": "message", "role": "user", "content": stated}]
        expected = [item for asked, output in before for item in [*asked, *answered(output)]] + own * bool(stated)
    assert json.dumps(whole["input"]) == json.dumps(expected)


@given(st.text(max_size=4) | st.sampled_from(("\ud800", "\udfff x")), st.integers(0, 3))
def test_half_a_surrogate_pair_is_refused_or_carried_and_never_a_fault(half: str, place: int) -> None:
    stated: Any = [
        half,
        [{"type": half, "content": half}],
        [{half: 1}],
        [{"role": "user", "content": [{"text": half}]}],
    ][place]
    try:
        top = read_keepable(json.dumps({"input": stated, "x": half}).encode())
        own = read_input(top)
    except MalformedRequest:
        return
    items = b"[" + b",".join(bytes(item) for item in own) + b"]"
    turn = dataclasses.replace(kept(0, [], [{"type": half}]), items_json=items)
    assert json.loads(Conversation([turn], top, own).whole)["x"] == half
    assert len(list_items([turn])) == len(own)


@given(turns, st.sampled_from(HOMES), st.booleans())
def test_every_upstream_is_told_what_clients_said(before: list[tuple[Any, Any]], home: str, is_native: bool) -> None:
    said = [kept(number, *turn, origin=HOMES[number % 2]) for number, turn in enumerate(before)]
    conversation = Conversation(said, {}, [])
    told = json.loads(conversation.body_for(target(home, is_native=is_native), frozenset()))
    left = [json.dumps(item) for item in told.get("input", [])]
    for asked, _ in before:
        for item in asked:
            left.remove(json.dumps(item))


@given(
    st.lists(st.tuples(sealed, st.sampled_from(HOMES)), min_size=1, max_size=4), st.sampled_from(HOMES), st.booleans()
)
def test_sealed_words_go_home_and_nowhere_else(before: list[tuple[Any, str]], home: str, is_native: bool) -> None:
    said = [kept(number, [], [item], origin=origin) for number, (item, origin) in enumerate(before)]
    told = Conversation(said, {}, []).body_for(target(home, is_native=is_native), frozenset())
    assert told.count(b"SEALED") == sum(origin == home for _, origin in before)


@given(turns)
def test_everything_before_an_answer_is_listed_with_an_id(before: list[tuple[Any, Any]]) -> None:
    said = [kept(number, *turn) for number, turn in enumerate(before)]
    listed = [json.loads(item) for item in list_items(said)]
    stated = [item for asked, _ in before for item in asked]
    stated += [item for _, output in before[:-1] for item in answered(output)]
    assert len(listed) == len(stated)
    for item, output in zip(listed, [item for asked, _ in before[:1] for item in asked], strict=False):
        assert item["id"] == output.get("id", item["id"])
