"""A stream that was cut and goes on at another upstream, where the workload's plan allows it.

What the client has is given to the next upstream as the beginning of the assistant's answer. Only engines that go on
with such a beginning are asked: others would answer anew. A stream of anything but plain text ends with an error event.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ownward.core import OwnwardError
from ownward.gateway import json_body
from ownward.gateway.asgi import Headers
from ownward.gateway.needs import JSON_MODE, JSON_SCHEMA, LOGPROBS, MULTIPLE_CHOICES, TOOLS
from ownward.upstreams import EventCutter, Stencil, data_of

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import Response

_PLAIN: Final = frozenset({"role", "content", "refusal"})
_DONE: Final = b"[DONE]"
_MOST_TOKENS: Final = ("max_tokens", "max_completion_tokens")

_LONGEST_EVENT_BYTES: Final = 8 << 20
_LONGEST_TEXT: Final = 8 << 20  # characters

BARRED: Final = frozenset({TOOLS, JSON_SCHEMA, JSON_MODE, LOGPROBS, MULTIPLE_CHOICES})
"""What a request may not need for its stream to be continued: what constrains an answer holds from its beginning."""


class Continuing:
    """Passes a stream on event by event, keeps its text, and joins what follows a cut to it."""

    takes_hedge = True

    def __init__(self, exchange: Served) -> None:
        """Begin; nothing is passed on yet."""
        self._exchange = exchange
        self._cutter = EventCutter(_LONGEST_EVENT_BYTES)
        self._is_blind = False  # behind an event that was too long to be read
        self._first: dict[str, Any] = {}
        self._is_plain = True
        self._is_finished = False
        self._cuts = 0
        self._text: list[str] = []
        self._text_length = 0
        self._stencil = Stencil()  # of an event that says words and nothing else

    @property
    def has_begun(self) -> bool:
        """Whether no other upstream can be asked: not while all that was passed on is text."""
        return self._exchange.has_begun and not (self._is_plain and not self._is_finished)

    def can_take(self, target: Target) -> bool:
        """Return whether a target may be asked: once something was passed on, only one that can go on with it."""
        return not self._text or can_continue(target)

    def body_for(self, target: Target, body: bytes) -> bytes:
        """Return the request as it is sent to a target: with the text that the client has, where there is some."""
        if not self._text:
            return body
        request = json.loads(body)
        messages, text = list(request["messages"]), "".join(self._text)
        last = messages[-1] if messages else None
        if isinstance(last, dict) and last.get("role") == "assistant" and isinstance(last.get("content"), str):
            messages[-1] = last | {"content": last["content"] + text}  # the client had begun the answer itself
        else:
            messages.append({"role": "assistant", "content": text})
        request["messages"] = messages
        for name in _MOST_TOKENS:
            if isinstance(request.get(name), int):
                request[name] = max(1, request[name] - len(self._text))  # about one piece for each token
        if target.quirks.continues_answers == "when told":
            request |= {"continue_final_message": True, "add_generation_prompt": False}
        return json_body.write(request)

    # What an attempt passes on.

    async def answer(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        """Pass a whole answer on; one that follows a cut is no stream and ends it."""
        if self._exchange.has_begun:
            await self._exchange.end(b"\n\ndata: " + body + b"\n\n")
            return
        await self._exchange.answer(status, content_type, headers, body)

    async def begin(self, status: int, content_type: bytes, headers: Headers) -> None:
        """Pass the head on; say in the stream itself that it goes on."""
        self._cutter, self._is_blind = EventCutter(_LONGEST_EVENT_BYTES), False
        if not self._exchange.has_begun:
            await self._exchange.begin(status, content_type, headers)
            return
        target = self._exchange.target
        assert target is not None
        self._cuts += 1
        characters = sum(map(len, self._text))
        self._exchange.call_note = f"it went on with an answer that was cut after {characters} characters"
        where = target.key.encode("ascii", "replace")
        await self._exchange.write(b": ownward: the stream was cut and goes on at %b\n\n" % where)

    async def write(self, data: bytes) -> None:
        """Pass whole events on; what is not whole waits for its rest."""
        passed = self._pass(data)
        if passed:
            await self._exchange.write(passed)

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        """Return how pieces of `response` go on at once, their text kept."""
        write = self._exchange.direct_writer(response)
        if write is None:
            return None

        def take(data: bytes) -> None:
            passed = self._pass(data)
            if passed:
                write(passed)

        return take

    async def end(self, data: bytes = b"") -> None:
        """End the stream with the rest."""
        await self._exchange.end(self._pass(data) + self._cutter.take_rest())

    async def end_broken(self, error: OwnwardError) -> None:
        """End the stream with an error event."""
        await self._exchange.end_broken(error)

    def _pass(self, data: bytes) -> bytes:
        if self._is_blind:
            return data
        cutter = self._cutter
        if cutter.is_empty and not self._cuts:
            words = self._stencil.words_in(data)
            if words is not None:
                self._keep(words)
                return data
        passed = [self._take(event.replace(b"\r\n", b"\n").removesuffix(b"\n\n")) for event in cutter.cut(data)]
        if cutter.is_overrun:
            self._is_blind, self._is_plain = True, False
            passed.append(cutter.take_rest())
        return b"".join(passed)

    def _keep(self, words: str) -> None:
        """Keep text for whoever goes on with it; with more than any model would, nobody does."""
        self._text_length += len(words)
        if self._text_length > _LONGEST_TEXT:
            self._is_plain = False
        else:
            self._text.append(words)

    def _take(self, event: bytes) -> bytes:
        """Return an event as it is passed on, and keep its text."""
        if not self._cuts:
            words = self._stencil.words_in(event + b"\n\n")
            if words is not None:
                self._keep(words)
                return event + b"\n\n"
        data = data_of(event).strip()
        if not data or data == _DONE:
            return event + b"\n\n"
        try:
            chunk = json.loads(data)
            choices = chunk["choices"]
        except (ValueError, TypeError, KeyError):
            self._is_plain = False
            return event + b"\n\n"
        joined = self._cuts > 0
        for choice in choices:
            self._note(choice)
            if joined and isinstance(choice.get("delta"), dict):
                choice["delta"].pop("role", None)
        if not joined:
            self._first = self._first or {name: chunk[name] for name in ("id", "created", "model") if name in chunk}
            words = _words_in(choices)
            if words is not None:
                self._stencil.cut(event + b"\n\n", words, _read_words)
            return event + b"\n\n"
        return b"data: " + json_body.write(chunk | self._first) + b"\n\n"

    def _note(self, choice: Any) -> None:
        delta = choice.get("delta") or {}
        if choice.get("index") or any(value for name, value in delta.items() if name not in _PLAIN):
            self._is_plain = False
        if delta.get("refusal"):
            self._is_plain = False
        if choice.get("finish_reason"):  # some servers write an empty text where null belongs
            self._is_finished = True
        content = delta.get("content")
        if isinstance(content, str) and content:
            self._keep(content)


def _words_in(choices: Any) -> str | None:
    """Return the text of an event that says nothing else; None of any other."""
    if len(choices) != 1 or choices[0].get("index") or choices[0].get("finish_reason") is not None:
        return None
    delta = choices[0].get("delta") or {}
    content = delta.get("content")
    is_alone = not any(value for name, value in delta.items() if name not in {"role", "content"})
    return content if is_alone and isinstance(content, str) and content else None


def _read_words(event: bytes) -> str | None:
    return _words_in(json.loads(data_of(event))["choices"])


def can_continue(target: Target) -> bool:
    """Return whether an upstream goes on with the beginning of an answer: by its engine, or as the plan states."""
    return target.quirks.continues_answers is not None or "continuation" in target.tier.capabilities
