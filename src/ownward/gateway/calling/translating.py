"""A request translated for an upstream that does not speak the client's dialect, and its answer translated back.

`ownward.upstreams.translation` knows the dialects; the first request that needs it loads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec

from ownward.core import BrokenStream
from ownward.gateway.endpoints import CHAT, COUNT_CHATS, COUNT_TOKENS, MESSAGES, RESPONSES, Endpoint
from ownward.gateway.errors import Incapable, UntranslatedAnswer
from ownward.upstreams import UNREADABLE

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import translation

_ASSUMED_MAX_TOKENS = 4096
"""Anthropic's dialect demands a limit on the answer, and OpenAI's clients rarely state one. Where the plan states none
for the tier either, this is sent, which every model of that dialect allows; an answer that reaches it says `length`."""

_DIALECTS: dict[str, translation.UpstreamDialect] = {
    CHAT.path: "chat",
    COUNT_CHATS.path: "chat",
    RESPONSES.path: "responses",
    MESSAGES.path: "messages",
}
_NEWER_LIMIT_PROVIDERS = frozenset({"azure", "openai"})
_NEWER_LIMIT_HOSTS = ("api.openai.com", ".openai.azure.com")


STEPWISE_FROM_BYTES = 16 * 1024
"""From this length on other requests are served between a translation's steps: shorter ones take a few milliseconds at
most, longer ones have taken 150."""

_T = TypeVar("_T")
_Found: TypeAlias = "translation.Translation | translation.Untranslatable"


class RequestTranslations:
    """The translations of one request, each made once."""

    __slots__ = ("_body_for", "_client", "_endpoint", "_found", "_needs", "_request_id", "_system_first", "_unread")

    def __init__(
        self,
        endpoint: Endpoint,
        body_for: Callable[[Target], bytes],
        needs: frozenset[str] = frozenset(),
        *,
        request_id: str = "",
        system_first: Collection[str] = (),
    ) -> None:
        """Translate nothing yet; `needs` are the capabilities that the request asks for.

        An answer that has no id is called by `request_id`; `system_first` holds the keys of the targets that refused
        system messages behind others.
        `body_for` gives the request as a target is asked, the same object whenever it is the same.
        """
        self._endpoint = endpoint
        self._needs = needs
        self._request_id = request_id
        self._client: translation.Dialect = endpoint.splices_as  # type: ignore[assignment]  # only those that cross come here
        self._body_for = body_for
        self._system_first = system_first
        self._unread: set[str] = set()  # the targets that could not read what is sealed in this request
        # With the body that it is of, so that no later one takes its place in memory.
        self._found: dict[tuple[str, translation.Limits, int], tuple[bytes, _Found]] = {}

    async def prepare(self, target: Target) -> None:
        """Translate the request ahead of `why_untranslatable`; others are served between the steps of a long one."""
        body = self._body_for(target)
        await _made(self._steps(target, body), body)

    def why_untranslatable(self, target: Target) -> translation.Untranslatable | None:
        """Return what in the request cannot be translated; None where all of it can."""
        from ownward.upstreams import translation

        found = translation.done(self._steps(target, self._body_for(target)))
        return found if isinstance(found, translation.Untranslatable) else None

    async def translate(self, target: Target, body: bytes) -> TranslatedCall:
        """Return the request in the dialect of `target`; `body` may be another than the client's own.

        A tier that cannot read the reasoning of the running turn stands behind one that can, and is asked without it.
        Others are served between the steps of a long one.
        Raises: Incapable.
        """
        from ownward.upstreams import translation

        found = await _made(self._steps(target, body), body)
        if isinstance(found, translation.Untranslatable) and found.is_of_seals:
            found = await _made(self._steps(target, body, forgets=True), body)
        if isinstance(found, translation.Untranslatable):
            raise Incapable(
                f"tier {target.tier.name!r} is asked in another dialect, which has no words for {found.message}",
                next_step=f"Leave out {', '.join(found.fields[:6])}, or ask a tier that speaks your dialect",
                field=found.fields[0],
            )
        is_count = self._endpoint is COUNT_TOKENS
        has_limit = target.tier.max_output_tokens is not None
        return TranslatedCall(
            found, target.name, has_limit=has_limit, key=target.key, unread=self._unread, is_count=is_count
        )

    def _steps(self, target: Target, body: bytes, *, forgets: bool = False) -> translation.Steps[_Found]:
        from ownward.upstreams import translation

        instead = target.substitute(self._endpoint, self._needs)
        assert instead is not None
        limits = translation.Limits(
            max_output_tokens=target.tier.max_output_tokens or _ASSUMED_MAX_TOKENS,
            limit_name="max_completion_tokens" if takes_newer_limit(target) else "max_tokens",
            is_mistral=_is_mistral(target),
            goes_on=target.quirks.continues_answers == "by itself",
            reads_seals=target.key not in self._unread,
            takes_later_system=self._client == "messages" or target.key not in self._system_first,
            forgets=forgets,
        )
        key = (instead.path, limits, id(body))
        is_usual = body is self._body_for(target)
        if is_usual and key in self._found:
            return self._found[key][1]
        found: _Found
        try:
            found = yield from translation.translate_in_steps(
                body,
                client=self._client,
                upstream=_DIALECTS[instead.path],
                limits=limits,
                answer_id=self._request_id,
            )
        except translation.Untranslatable as error:
            found = error.with_traceback(None)  # whose frames hold the whole request, and this one the error
        if is_usual:
            self._found[key] = body, found
        return found


async def _made(steps: translation.Steps[_T], body: bytes) -> _T:
    """Return what the steps are for; where the body is long, others are served between them."""
    is_long = len(body) >= STEPWISE_FROM_BYTES
    while True:
        try:
            next(steps)
        except StopIteration as over:
            made: _T = over.value
            return made
        if is_long:
            await asyncio.sleep(0)


def _broken(error: translation.UntranslatableAnswer) -> BrokenStream:
    told = f"{error.message}, which the client's dialect has no words for"
    return BrokenStream(told, next_step=error.next_step)


def takes_newer_limit(target: Target) -> bool:
    """Return whether the upstream is OpenAI's own service, whose newer models do not know `max_tokens`."""
    host = urlsplit(target.origin).hostname or ""
    return target.tier.provider in _NEWER_LIMIT_PROVIDERS or host.endswith(_NEWER_LIMIT_HOSTS)


def _is_mistral(target: Target) -> bool:
    """Return whether the upstream is Mistral's own service, which refuses members that are none of its own."""
    return target.tier.provider == "mistral" or (urlsplit(target.origin).hostname or "").endswith(".mistral.ai")


class _Count(msgspec.Struct):
    input_tokens: int


class TranslatedCall:
    """One call made in another dialect: its request, and its answer, which is translated back."""

    __slots__ = ("_has_limit", "_is_count", "_key", "_stream", "_translation", "_unknown", "_unread", "_upstream")

    def __init__(
        self,
        made: translation.Translation,
        upstream: str,
        *,
        has_limit: bool,
        key: str,
        unread: set[str],
        is_count: bool,
    ) -> None:
        """Begin before anything was sent; `has_limit`: the plan states how long an answer of the tier may be.

        `unread` holds the keys of the targets that could not read what is sealed in the request. `is_count`: its
        tokens are counted alone.
        """
        self._is_count = is_count
        self._has_limit = has_limit
        self._key = key
        self._unread = unread
        self._unknown: tuple[str, ...] = ()
        self._translation = made
        self._upstream = upstream
        self._stream: translation.StreamTranslator | None = None

    @property
    def body(self) -> bytes:
        """The request in the upstream's dialect."""
        return self._translation.body

    @property
    def direction(self) -> str:
        """From which dialect to which."""
        return f"{self._translation.client} to {self._translation.upstream}"

    @property
    def assumed_max_tokens(self) -> int | None:
        """The limit that was sent because neither the request nor the plan states one."""
        stated = self._translation.asked.max_tokens is not None or self._has_limit
        return None if stated or self._translation.upstream != "messages" else _ASSUMED_MAX_TOKENS

    @property
    def spared(self) -> tuple[str, ...]:
        """What of the upstream's request can be spared where its model does not know it.

        Models that never think take no effort, whether a client states one, as coding agents do to every model, or
        wants no thinking, which is told as an effort of `none`; nor do they seal any. Summaries are for verified
        organisations.
        """
        asked = self._translation.asked
        has_effort = asked.effort is not None or (asked.thinking is not None and asked.thinking.kind == "disabled")
        match self._translation.upstream:
            case "chat":
                return ("reasoning_effort",) if has_effort else ()
            case "responses":
                return ("include", "reasoning.summary", *(["reasoning.effort"] if has_effort else []))
            case "messages":
                return ()

    def note_left_out(self, member: str) -> None:
        """Note what the target is asked without, as its model does not know it; an effort that was stated is named."""
        asked = self._translation.asked
        if member in {"reasoning_effort", "reasoning.effort"} and asked.effort not in {None, "none"}:
            self._unknown = (asked.place("effort"),)

    def is_refused_for_system(self, status: int, body: bytes) -> bool:
        """Return whether it was refused for a system message behind others, and could be told in another way.

        Clients of messages are told so, and say it in another way themselves.
        """
        from ownward.upstreams import translation

        made = self._translation
        is_ours = made.client != "messages" and made.has_later_system
        return is_ours and translation.refuses_later_system(status, body)

    def leave_seals_out(self) -> bool:
        """Have the target asked without sealed reasoning, which it cannot read; return whether it was asked with it."""
        if self._key in self._unread or self._translation.upstream != "responses":
            return False
        self._unread.add(self._key)
        return True

    @property
    def dropped(self) -> tuple[str, ...]:
        """The hints that were left out, as the client calls them."""
        return self._translation.dropped + self._unknown

    def answer(self, body: bytes, *, now_s: float) -> bytes:
        """Return a whole answer in the client's dialect.

        Raises: UntranslatedAnswer.
        """
        from ownward.upstreams import translation

        try:
            if self._is_count:
                return msgspec.json.encode(msgspec.json.decode(body, type=_Count))
            return self._translation.answer(body, now_s=int(now_s))
        except UNREADABLE:
            raise UntranslatedAnswer(
                self._upstream, translation.UntranslatableAnswer("the upstream's count is none")
            ) from None
        except translation.UntranslatableAnswer as error:
            raise UntranslatedAnswer(self._upstream, error) from None

    def answer_as_stream(self, body: bytes, *, now_s: float) -> bytes:
        """Return a whole answer as a whole stream in the client's dialect.

        Raises: UntranslatedAnswer.
        """
        from ownward.upstreams import translation

        try:
            return self._translation.answer_as_stream(body, now_s=int(now_s))
        except translation.UntranslatableAnswer as error:
            raise UntranslatedAnswer(self._upstream, error) from None

    def answer_without_a_word(self, *, now_s: float, is_stream: bool) -> tuple[bytes, bytes]:
        """Return an answer whose limit was reached before its first word: content type and body."""
        choice = {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
        body = msgspec.json.encode({"model": self._translation.asked.model, "choices": [choice]})
        if is_stream:
            return b"text/event-stream", self.answer_as_stream(body, now_s=now_s)
        return b"application/json", self.answer(body, now_s=now_s)

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return an upstream's refusal in the client's dialect."""
        return self._translation.error(status, body)

    @property
    def sequence_number(self) -> int | None:
        """The number that the client's dialect gives to the next event of its stream, where it numbers them."""
        return None if self._stream is None else self._stream.sequence_number

    @property
    def begun_response(self) -> dict[str, Any] | None:
        """The response as it is told where its stream breaks, where the client's dialect has one."""
        return None if self._stream is None else self._stream.begun_response

    def begin_stream(self, *, now_s: float) -> None:
        """Make ready for a stream."""
        self._stream = self._translation.stream(now_s=int(now_s))

    def feed(self, data: bytes) -> bytes:
        """Return what the client is told of the next bytes.

        Raises: BrokenStream.
        """
        from ownward.upstreams import translation

        assert self._stream is not None
        try:
            return self._stream.feed(data)
        except translation.UntranslatableAnswer as error:
            raise _broken(error) from None

    def finish(self) -> bytes:
        """Return what is left to tell once the upstream's stream is whole.

        Raises: BrokenStream.
        """
        from ownward.upstreams import translation

        assert self._stream is not None
        try:
            return self._stream.finish()
        except translation.UntranslatableAnswer as error:
            raise _broken(error) from None
