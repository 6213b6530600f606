"""What the next upstream is asked once a stream was cut: to go on with the text that the client has."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from ownward.gateway.calling.continuing import Continuing
from ownward.gateway.placing.engine_quirks import quirks_of


class Client:
    """The request's own sink, which takes everything."""

    def __init__(self) -> None:
        self.has_begun = False
        self.call_note: str | None = None
        self.written = 0

    async def begin(self, *head: object) -> None:
        self.has_begun = True

    async def write(self, data: bytes) -> None:
        self.written += len(data)


def target_of(engine: str) -> Any:
    return SimpleNamespace(quirks=quirks_of(engine), tier=SimpleNamespace(capabilities=frozenset()))


def after(*pieces: str, delta: dict[str, Any] | None = None, finish_reason: str | None = None) -> Continuing:
    """Return a stream that passed these pieces of text on, and then was cut."""
    client: Any = Client()
    continuing = Continuing(client)

    async def main() -> None:
        await continuing.begin(200, b"text/event-stream", [])
        for piece in pieces:
            chunk = {"choices": [{"index": 0, "delta": delta or {"content": piece}, "finish_reason": finish_reason}]}
            await continuing.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    asyncio.run(main())
    return continuing


def asked(continuing: Continuing, engine: str = "llama-server", **body: Any) -> dict[str, Any]:
    body.setdefault("messages", [{"role": "user", "content": "Go"}])
    found: dict[str, Any] = json.loads(continuing.body_for(target_of(engine), json.dumps(body).encode()))
    return found


def test_the_text_that_was_passed_on_is_the_beginning_of_the_answer() -> None:
    assert asked(after("One ", "two"))["messages"] == [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "One two"},
    ]


def test_an_answer_that_the_client_had_begun_itself_stays_one_message() -> None:
    begun = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Zero ", "name": "a"}]
    assert asked(after("one"), messages=begun)["messages"] == [
        begun[0],
        {"role": "assistant", "content": "Zero one", "name": "a"},
    ]


def test_what_is_left_of_the_limit_is_asked_for_and_never_nothing() -> None:
    assert asked(after("a", "b"), max_tokens=10)["max_tokens"] == 8
    assert asked(after("a", "b"), max_completion_tokens=2)["max_completion_tokens"] == 1


@pytest.mark.parametrize(("engine", "is_told"), [("llama-server", False), ("embedded", False), ("vllm", True)])
def test_engines_that_go_on_only_when_told_are_told(engine: str, is_told: bool) -> None:
    assert asked(after("a"), engine).get("continue_final_message", False) is is_told


def test_before_any_text_the_request_is_as_it_came_and_anyone_may_be_asked() -> None:
    continuing = after()
    assert continuing.body_for(target_of("ollama"), b"{}") == b"{}"
    assert continuing.can_take(target_of("ollama"))
    assert not after("a").can_take(target_of("ollama"))


@pytest.mark.parametrize("delta", [{"tool_calls": [{"index": 0}]}, {"reasoning_content": "hm"}, {"refusal": "no"}])
def test_a_stream_of_anything_but_text_is_not_continued(delta: dict[str, Any]) -> None:
    assert not after("a").has_begun
    assert after("a", delta=delta).has_begun


def test_a_stream_with_an_empty_text_in_the_place_of_a_reason_is_continued() -> None:
    continuing = after("One ", finish_reason="")
    assert not continuing.has_begun
    assert asked(continuing)["messages"][-1]["content"] == "One "
    assert after("One ", finish_reason="stop").has_begun


def test_an_event_without_end_is_passed_on_and_not_held() -> None:
    client: Any = Client()
    continuing = Continuing(client)

    async def main() -> None:
        await continuing.begin(200, b"text/event-stream", [])
        await continuing.write(b"data: ")
        for _ in range(12):
            await continuing.write(b"a" * (1 << 20))

    asyncio.run(main())
    assert client.written == 12 * (1 << 20) + 6
    assert continuing.has_begun, "so that nobody is asked to go on with it"


def test_more_text_than_any_model_writes_is_passed_on_and_not_kept() -> None:
    assert not after("a" * (1 << 20)).has_begun
    assert after(*["a" * (1 << 20)] * 9).has_begun
