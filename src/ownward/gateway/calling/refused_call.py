"""A call that its upstream answered with an error status: what it cost, what it says of the upstream, who is told.

What the words of a refusal mean is read in `refusals`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ownward.core import BrokenStream, OwnwardError, RateLimited, UpstreamError, UpstreamRefused
from ownward.gateway.calling.refusals import (
    asks_for_less,
    cannot_read_reasoning,
    cannot_unseal,
    find_unknown,
    find_unknown_betas,
    is_of_request,
    is_unpaid,
    misses_reasoning,
    ran_out_before_a_word,
    wait_of,
)
from ownward.gateway.calling.sink import Refusal, Retry
from ownward.gateway.calling.unread_reasoning import with_reasoning_stated, without_reasoning
from ownward.gateway.endpoints import CHAT, COUNT_CHATS
from ownward.gateway.errors import UpstreamCredentials, UpstreamUnpaid
from ownward.gateway.headers import NO_BETAS
from ownward.upstreams import Response, Spliced, WholeAnswer

if TYPE_CHECKING:
    from ownward.gateway.asgi import Headers
    from ownward.gateway.calling.attempt import Attempt
    from ownward.gateway.calling.translating import TranslatedCall

_MOST_BODY_BYTES = 1 << 20
_MOST_BODY_S = 5.0  # another upstream may be waiting to be asked

_SUCCESS = 200
_ERRORS = 400
_CREDENTIALS = frozenset({401, 403})
"""Statuses that are about our key and not about the request."""
_NOT_FOUND = 404
_RATE_LIMITED = 429
_SERVER_FAULTS = 500
_NOT_IMPLEMENTED = 501  # says something of the request, not of the upstream's health
_RETRIED = frozenset({401, 403, 404, 405, 407, 408, 409, 410, 413, 421, 425, 429})
"""Statuses that are about this upstream (its address, limits, a lock, the moment): another one may answer."""
_OF_THE_BODY = frozenset({400, 422})
_LAST_STATUS = 599
_MAY_HAVE_WORKED = frozenset({408, 504, 522, 524})
"""Statuses of a proxy that gave up waiting: the upstream behind it may have done the work and charged for it."""

_MOST_BETAS = 64  # that a target is known to refuse: clients make them up
_NO_USE = (b"x-should-retry", b"false")
_LONGEST_WORDS = 300
_TITLE = re.compile(rb"<title>([^<]{1,400})</title>", re.IGNORECASE)


class RefusedCall:
    """An attempt that was answered with a status other than those of success."""

    __slots__ = ("_attempt", "_gateway", "_response", "_said", "_spliced", "_status", "_target")

    def __init__(
        self, attempt: Attempt, response: Response, spliced: Spliced, said: tuple[int, bytes] | None = None
    ) -> None:
        """Begin, with the head read; `said` are status and body where the head told a success."""
        self._attempt = attempt
        self._gateway = attempt.exchange.gateway
        self._target = attempt.target
        self._response = response
        self._spliced = spliced
        self._said = said
        self._status = response.status if said is None else said[0]

    async def run(self) -> None:
        """Settle what it cost, learn what it says of the upstream, and tell the client, if it is of the request.

        Raises: Retry, if another upstream may do better; BrokenStream, if its status is none.
        """
        gateway, key, status = self._gateway, self._target.key, self._status
        if status > _LAST_STATUS:
            raise BrokenStream(f"upstream {self._target.name!r} answered with the status {status}, which is none")
        body = await self._read()
        self._settle(body)
        if is_unpaid(status, body):
            unpaid = self._unpaid("no credit left, or reached a limit on its spending")
            gateway.health.note_unpaid(key, unpaid)
            raise Retry(unpaid)
        if asks_for_less(status, body):
            too_little = self._unpaid("too little credit for this request")
            gateway.health.note_success(key)
            gateway.counting.call_failed(key, too_little.kind)
            raise Retry(too_little)
        wait_s = wait_of(self._response, body, now=gateway.clock.now())
        error = self._error(wait_s)
        self._learn(error, wait_s, body)
        refusal = self._refusal(body)
        translated = self._attempt.translated
        if translated is not None and translated.is_refused_for_system(status, body):
            gateway.learned.refuses_later_system.add(key)
            raise Retry(error, answer=refusal, asks_again=True)
        if status == _NOT_FOUND and self._attempt.endpoint is COUNT_CHATS:
            gateway.learned.counts_no_chats.add(key)
            raise Retry(error, answer=refusal, asks_again=True)
        if status in _CREDENTIALS:
            raise Retry(error)
        if status >= _SERVER_FAULTS or status in _RETRIED or status < _ERRORS:
            content_type = refusal[1]
            if content_type.startswith(b"application/json") and status >= _ERRORS and body:
                raise Retry(error, answer=refusal)
            raise Retry(self._error(wait_s, words=_find_words(content_type, body)))
        again = self._asks_again(body, error, refusal) if status in _OF_THE_BODY else None
        if again is not None:
            raise again
        if translated is not None and ran_out_before_a_word(status, body):
            await self._end_without_a_word(translated, refusal[2])
            return
        await self._attempt.sink.answer(*refusal)

    async def _end_without_a_word(self, translated: TranslatedCall, headers: Headers) -> None:
        sink, is_stream = self._attempt.sink, self._spliced.is_stream
        now_s = self._gateway.clock.now().timestamp()
        kind, told = translated.answer_without_a_word(now_s=now_s, is_stream=is_stream)
        if is_stream:
            await sink.begin(_SUCCESS, kind, headers)
            await sink.end(told)
        else:
            await sink.answer(_SUCCESS, kind, headers, told)

    def _asks_again(self, body: bytes, error: OwnwardError, refusal: Refusal) -> Retry | None:
        """Return what has the same upstream asked without what it refused, where that can be spared; else None."""
        attempt, learned, key = self._attempt, self._gateway.learned, self._target.key
        translated, rest = attempt.translated, None
        unknown = find_unknown(body, attempt.spared)
        if b"stream_options" in body and self._adds_stream_options():
            # Some servers (Mistral's) refuse members that they do not know, and tell usage in streams all the same.
            learned.refuses_stream_options.add(key)
        elif unknown is not None:
            learned.refuses_members.add((key, unknown))
        elif (betas := find_unknown_betas(self._status, body)) - attempt.without_betas:
            known = learned.refuses_betas.get(key, NO_BETAS)
            learned.refuses_betas[key] = betas | known if len(known) < _MOST_BETAS else betas
            attempt.exchange.add_reason(f"{self._target.name} has not all of anthropic-beta: asked without")
        elif misses_reasoning(self._status, body):
            if attempt.endpoint is not CHAT or with_reasoning_stated(attempt.body) is None:
                return None
            learned.demands_reasoning.add(key)
            attempt.exchange.add_reason(f"{self._target.name} demands what was thought: told as empty where unknown")
        elif translated is None and cannot_read_reasoning(self._status, body):
            rest = without_reasoning(attempt.body, attempt.endpoint)
            if rest is None:
                return None
            attempt.exchange.add_reason(f"{self._target.name} cannot read what was thought elsewhere: asked without")
        elif translated is None or not (cannot_unseal(self._status, body) and translated.leave_seals_out()):
            return None
        return Retry(error, answer=refusal, asks_again=True, body=rest)

    async def _read(self) -> bytes:
        """Return the body, without our key where it quotes it; empty where it is too long, or comes too slowly."""
        if self._said is not None:
            return self._target.hide_key(self._said[1])
        try:
            body = await self._attempt.read_rest(_MOST_BODY_BYTES, most_s=_MOST_BODY_S)
        except UpstreamError:
            return b""
        return self._target.hide_key(body)

    def _settle(self, body: bytes) -> None:
        entry, status = self._attempt.entry, self._status
        answer = entry.answer = WholeAnswer(self._attempt.endpoint.dialect, body)
        if answer.usage is not None:
            entry.settle_by_answer(status)
        elif status in _MAY_HAVE_WORKED:
            entry.settle_unsettled(f"it answered {status}", status=status)
        else:
            entry.settle_failed(f"it answered {status}", status=status)

    def _learn(self, error: OwnwardError, wait_s: float | None, body: bytes) -> None:
        gateway, key, status = self._gateway, self._target.key, self._status
        if status == _RATE_LIMITED:
            gateway.health.note_wait(key, wait_s)
        elif status in _CREDENTIALS or (
            status >= _SERVER_FAULTS and status != _NOT_IMPLEMENTED and not is_of_request(status, body)
        ):
            gateway.health.note_failure(key, error)
        else:
            gateway.health.note_success(key)

    def _refusal(self, body: bytes) -> Refusal:
        """Return the upstream's own words, in the client's dialect."""
        attempt, hide_key = self._attempt, self._target.hide_key
        headers = [(name, hide_key(value)) for name, value in attempt.headers_for_client()]
        if is_of_request(self._status, body):
            headers.append(_NO_USE)  # clients of OpenAI's and Anthropic's try a 500 again else
        if attempt.translated is None:
            as_message = self._as_messages_error(body) if attempt.endpoint.dialect == "anthropic" else None
            if as_message is not None:
                return as_message[0], b"application/json", headers, as_message[1]
            stated = None if self._said is not None else self._response.header(b"content-type")
            content_type = stated or b"application/json"
            return self._status, hide_key(content_type), headers, body
        status, told = attempt.translated.error(self._status, body)
        return status, b"application/json", headers, told

    def _as_messages_error(self, body: bytes) -> tuple[int, bytes] | None:
        """Return the refusal in Anthropic's form where an engine that serves messages has its own; else None."""
        from ownward.upstreams import translation

        return translation.as_messages_error(self._status, body)

    def _adds_stream_options(self) -> bool:
        """Return whether `stream_options` were added here and not stated by the client."""
        spliced = self._spliced
        return spliced.adds_usage or (self._attempt.translated is not None and spliced.asked_usage)

    def _unpaid(self, left: str) -> UpstreamUnpaid:
        variable = self._target.upstream.api_key_env
        return UpstreamUnpaid(
            f"the account at upstream {self._target.name!r} has {left}: it answered {self._status}",
            next_step=f"See to the credit of the account behind {variable}" if variable else "See to its credit",
        )

    def _error(self, wait_s: float | None, *, words: str | None = None) -> OwnwardError:
        """Return what to say of it; `words` are the upstream's own, which are for the client alone."""
        name, status = self._target.name, self._status
        said = f"It says: {words}" if words else None
        variable = self._target.upstream.api_key_env
        if status in _CREDENTIALS:
            return UpstreamCredentials(
                f"upstream {name!r} does not accept this gateway's key: it answered {status}",
                next_step=f"Check the environment variable {variable}" if variable else "Name its key in api_key_env",
            )
        if status == _RATE_LIMITED:
            asks = "" if wait_s is None else f" and asks to wait {wait_s:g} s"
            return RateLimited(f"upstream {name!r} answered 429{asks}", retry_after_s=wait_s)
        if status < _ERRORS:
            return UpstreamError(
                f"upstream {name!r} answered {status}, and redirects are not followed",
                next_step="Write the address that it answers at as the upstream's url in the plan",
            )
        if status >= _SERVER_FAULTS:
            fault = UpstreamError(f"upstream {name!r} answered {status}", allowed=said)
            fault.retry_after_s = wait_s
            return fault
        return UpstreamRefused(f"upstream {name!r} answered {status}", status=status, allowed=said)


def _find_words(content_type: bytes, body: bytes) -> str | None:
    """Return what an error says that is not JSON: the first words of a text, the title of a page."""
    if content_type.startswith(b"text/html"):
        found = _TITLE.search(body)
        body = found[1] if found is not None else b""
    elif not content_type.startswith(b"text/"):
        return None
    words = " ".join(body[: 4 * _LONGEST_WORDS].decode("utf-8", "replace").split())
    return "".join(sign for sign in words if sign.isprintable())[:_LONGEST_WORDS] or None
