"""An answer held back from the client: a strategy reads it first, and may pass it on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ownward.gateway import json_body
from ownward.gateway.asgi import Headers
from ownward.gateway.calling.whole_as_stream import chat_as_stream

if TYPE_CHECKING:
    from ownward.core import OwnwardError
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import RawMembers, Response

SUCCESS = 200


class HeldAnswer:
    """The sink of one call of a strategy: it keeps the answer instead of sending it to the client."""

    takes_hedge = False

    __slots__ = ("body", "content_type", "has_begun", "headers", "status", "target", "text")

    def __init__(self) -> None:
        """Wait for it."""
        self.has_begun = False
        self.status = 0
        self.content_type = b""
        self.headers: Headers = []
        self.body = b""
        self.text: str | None = None
        self.target: Target | None = None

    def body_for(self, _target: Target, body: bytes) -> bytes:
        """Return the strategy's call as it is."""
        return body

    async def answer(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        """Take a whole answer."""
        self.status, self.content_type, self.headers, self.body = status, content_type, headers, body
        if status == SUCCESS:
            self.text = _text_in(body)

    async def begin(self, status: int, content_type: bytes, headers: Headers) -> None:
        """Note that a stream came, which nobody asked for."""
        self.has_begun = True
        self.status, self.content_type, self.headers = status, content_type, headers

    async def write(self, data: bytes) -> None:
        """Drop it: a stream was not asked for, and is no answer that could be compared."""

    def direct_writer(self, response: Response) -> None:
        """Have every piece written."""

    async def end(self, data: bytes = b"") -> None:
        """Do nothing."""

    async def end_broken(self, error: OwnwardError) -> None:
        """Do nothing."""


async def pass_on(exchange: Served, held: HeldAnswer, top: RawMembers) -> None:
    """Send an answer as it is; one that is no refusal as a stream of one piece, where the client asked for a stream."""
    exchange.target = held.target
    if not exchange.is_stream or held.status != SUCCESS:
        await exchange.answer(held.status, held.content_type, held.headers, held.body)
        return
    options = json.loads(json_body.written(top, "stream_options") or b"null") or {}
    await exchange.begin(held.status, b"text/event-stream", held.headers)
    with_usage = isinstance(options, dict) and options.get("include_usage") is True
    await exchange.end(chat_as_stream(held.body, with_usage=with_usage))


def _text_in(body: bytes) -> str | None:
    try:
        answer = json.loads(body)
        content = answer["choices"][0]["message"]["content"]
        if isinstance(content, list):  # Mistral's reasoning models answer in parts: what they thought, what they say
            content = "".join(part["text"] for part in content if part["type"] == "text") or None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return _with_whole_characters(content) if isinstance(content, str) else None


def _with_whole_characters(text: str) -> str:
    """Return a text that may be told to others: half a surrogate pair becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
