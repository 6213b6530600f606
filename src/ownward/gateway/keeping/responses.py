"""Responses that clients continue: what is said before is put in front of a request, and its answer is kept.

Nothing is kept unless the settings give it a time. It stands in the ledger, so that every process and host that shares
it goes on where another answered, under a label that is never wider than that of any earlier turn.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ownward.core import LedgerError, OwnwardError
from ownward.gateway.asgi import Headers
from ownward.gateway.calling.failover import Failover
from ownward.gateway.calling.sink import Refusal
from ownward.gateway.errors import (
    BodyTooLarge,
    GapInConversation,
    Incapable,
    MalformedRequest,
    UnknownPreviousResponse,
)
from ownward.gateway.json_body import find_members, text_of, written
from ownward.gateway.keeping.conversation import Conversation, home_of, read_input, read_keepable
from ownward.ledger import KeptResponse, owner_of
from ownward.policy import ANY, LOCAL_ONLY, Label
from ownward.upstreams import EventCutter, data_of, says_too_long

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.choice import Choice, KeyScope
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import RawMembers, Response

_LOG = logging.getLogger("ownward.gateway")
_ID: Final = re.compile(r"resp_[0-9a-f]{48}")
_ID_BYTES: Final = 24
_SUCCESS: Final = 200
_ABSENT: Final = frozenset({b"", b"null"})
_FLAGS: Final = {b"": None, b"null": None, b"true": True, b"false": False}
_TOKENS: Final = re.compile(rb"(?<![\w.])[1-9][0-9]{1,7}(?=\s*(?:tokens?\b|maximum\b))")
_MOST_ROUNDS: Final = 4
_KEPT_STATES: Final = frozenset({"completed", "incomplete"})
_LAST_WORDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_HOLDS_RESPONSE: Final = b'"response"'
_LONGEST_EVENT_BYTES: Final = 64 << 20


def owner_for(key: KeyScope | None) -> str:
    """Return whose a response is that is answered to who shows `key`."""
    return owner_of(None if key is None else key.key_id)


def is_id(response_id: str) -> bool:
    """Return whether a text can be the name of a kept response."""
    return _ID.fullmatch(response_id) is not None


async def begin_keeping(exchange: Served) -> Keeping | None:
    """Return what is said before a request and becomes of its answer; None where bytes pass as they are.

    Raises: Incapable, MalformedRequest, UnknownPreviousResponse, GapInConversation, BodyTooLarge.
    """
    settings = exchange.gateway.settings
    if settings.keep_responses_s <= 0 and b'"background"' not in exchange.body:
        return None
    top = read_keepable(exchange.body)
    if _flag(top, "background"):
        raise Incapable(
            "background: a response that is computed later cannot be fetched from this gateway",
            allowed="background left out, or false",
            next_step="Wait for the answer, or ask for a stream",
            field="background",
        )
    if settings.keep_responses_s <= 0:
        return None
    if written(top, "conversation") not in _ABSENT:
        raise Incapable(
            "conversation: this gateway keeps responses, and no objects of conversations",
            allowed="conversation left out",
            next_step="Continue a response by its id: previous_response_id",
            field="conversation",
        )
    stated = _flag(top, "store")
    turns = await _find_turns(exchange, top)
    if stated is False and not turns:
        return None
    own = read_input(top)
    _refuse_references(own)
    keeping = Keeping(exchange, Conversation(turns, top, own), turns, own, stated=stated)
    exchange.body = keeping.conversation.whole
    if len(exchange.body) > settings.max_body_bytes:
        raise BodyTooLarge(limit_bytes=settings.max_body_bytes, what="the conversation that the request continues")
    return keeping


async def _find_turns(exchange: Served, top: RawMembers) -> tuple[KeptResponse, ...]:
    """Return the responses that a request continues, or none.

    Raises: MalformedRequest, UnknownPreviousResponse, GapInConversation.
    """
    if written(top, "previous_response_id") in _ABSENT:
        return ()
    previous = text_of(top, "previous_response_id")
    if previous is None:
        raise MalformedRequest("previous_response_id is not text", allowed="The id of a response")
    if not is_id(previous):
        raise UnknownPreviousResponse(previous)
    ledger, owner = exchange.gateway.ledger, owner_for(exchange.key)
    turns = await asyncio.to_thread(ledger.query_conversation, previous, owner=owner)
    if not turns:
        raise UnknownPreviousResponse(previous)
    if turns[0].previous_id is not None:
        raise GapInConversation(previous)
    return turns


def _flag(top: RawMembers, name: str) -> bool | None:
    stated = written(top, name)
    if stated not in _FLAGS:
        raise MalformedRequest(f"{name} is neither true nor false", allowed="true or false")
    return _FLAGS[stated]


def _refuse_references(own: Sequence[msgspec.Raw]) -> None:
    for index, item in enumerate(own):
        members = find_members(item) or {}
        kind = text_of(members, "type")
        if kind == "item_reference" or (kind is None and "role" not in members and "id" in members):
            raise Incapable(
                f"input[{index}]: items are not kept by themselves, so that they cannot be referred to",
                next_step="Send the item, as clients do with store: false, or continue by previous_response_id",
                field=f"input[{index}]",
            )


class Keeping:
    """The sink of one response: to the client under an id of ours, and into the ledger where it may be kept."""

    takes_hedge = True

    __slots__ = (
        "_cutter",
        "_exchange",
        "_is_overrun",
        "_late",
        "_own",
        "_refused",
        "_sending_last",
        "_stated",
        "_turns",
        "conversation",
        "keeps",
        "name",
    )

    def __init__(
        self,
        exchange: Served,
        conversation: Conversation,
        turns: Sequence[KeptResponse],
        own: Sequence[msgspec.Raw],
        *,
        stated: bool | None,
    ) -> None:
        """Begin; `stated` is what the client says of `store`, which it means where it says nothing."""
        self._exchange = exchange
        self._turns = turns
        self._own = own
        self._stated = stated
        self.conversation = conversation
        self.keeps = stated is not False
        self.name = "resp_" + secrets.token_hex(_ID_BYTES)
        self._cutter = EventCutter(_LONGEST_EVENT_BYTES)
        self._is_overrun = False
        self._sending_last: asyncio.Task[None] | None = None
        self._late: list[bytes] = []  # what came behind the last event while that was being kept
        self._refused: Refusal | None = None  # as the request is too long, while a shorter one is tried

    @property
    def label(self) -> Label | None:
        """The places that every earlier turn's data may travel to; None where there is none."""
        if not self._turns:
            return None
        return reduce(Label.meet, map(_label_of, {turn.label for turn in self._turns}))

    def decide(self, choice: Choice) -> None:
        """Keep nothing that may not travel to where the ledger is.

        Raises: Incapable, where the client insists.
        """
        if not self.keeps or self._may_be_kept(choice.label):
            return
        if self._stated:
            raise Incapable(
                f"store: the label {choice.label} does not let this response travel to the ledger,"
                " which is on another machine",
                allowed="store left out, or false; or a label any",
                field="store",
            )
        self.keeps = False

    def _may_be_kept(self, label: Label) -> bool:
        """Return whether data under `label` may travel to where the ledger is."""
        return label == ANY or self._exchange.gateway.ledger.is_on_this_machine

    def body_for(self, target: Target, _: bytes = b"") -> bytes:
        """Return the request as an upstream is asked."""
        return self.conversation.body_for(target, self._exchange.needs)

    async def carry_out(self, targets: Sequence[Target]) -> None:
        """Have the request answered; where it asks for truncation, a conversation that is too long is shortened.

        Raises: what to tell the client, if none has answered.
        """
        try:
            await self._carry_out(targets)
        finally:
            if self._sending_last is not None:
                self._sending_last.cancel()

    async def _carry_out(self, targets: Sequence[Target]) -> None:
        exchange = self._exchange
        await Failover(exchange, targets, exchange.body, self).run()
        rounds, told = 0, exchange.outcome
        while (refused := self._refused) is not None:
            self._refused = None
            rounds += 1
            if rounds > _MOST_ROUNDS or not self.conversation.shorten(_share_that_fits(refused[3])):
                await exchange.answer(*refused)
                return
            exchange.outcome = f"{told}; its oldest turns are left out, as truncation says"
            await Failover(exchange, targets, exchange.body, self).run()

    # What an attempt passes on.

    @property
    def has_begun(self) -> bool:
        """Whether anything reached the client."""
        return self._exchange.has_begun

    async def answer(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        """Keep a whole answer, then pass it on; one that says that the request is too long waits for a shorter one."""
        if self.conversation.is_shortened and says_too_long(status, body):
            self._refused = status, content_type, headers, body
            return
        if status == _SUCCESS:
            body = await self._finish(body)
        await self._exchange.answer(status, content_type, headers, body)

    async def begin(self, status: int, content_type: bytes, headers: Headers) -> None:
        """Pass the head on."""
        await self._exchange.begin(status, content_type, headers)

    async def write(self, data: bytes) -> None:
        """Pass whole events on; the one that holds the whole response once it is kept."""
        passed = await self._take(data)
        if passed:
            await self._exchange.write(passed)

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        """Return a function that writes pieces of `response` as they arrive; the last event waits until it is kept."""
        write = self._exchange.direct_writer(response)
        if write is None:
            return None

        def take(data: bytes) -> None:
            if self._sending_last is not None:
                self._late.append(data)
            elif self._is_overrun or (
                self._cutter.is_empty and data.endswith(b"\n\n") and data.find(_HOLDS_RESPONSE) < 0
            ):
                write(data)
            else:
                self._take_at_once(data, write)

        return take

    def _take_at_once(self, data: bytes, write: Callable[[bytes], None]) -> None:
        events = self._cutter.cut(data)
        for index, event in enumerate(events):
            told = self._tell_at_once(event)
            if told is None:
                self._late += events[index + 1 :]
                self._sending_last = asyncio.get_running_loop().create_task(self._send_last(event, write))
                return
            write(told)
        if self._cutter.is_overrun:  # nobody could keep it
            self._is_overrun = True
            write(self._cutter.take_rest())

    async def _send_last(self, event: bytes, write: Callable[[bytes], None]) -> None:
        write(await self._tell_last(event))

    async def _wait_for_last(self) -> bytes:
        """Wait until the last event is sent; return what came behind it."""
        if self._sending_last is not None:
            await self._sending_last
            self._sending_last = None
        late, self._late = b"".join(self._late), []
        return late

    async def end(self, data: bytes = b"") -> None:
        """Pass the rest on."""
        data = await self._wait_for_last() + data
        passed = await self._take(data) if data else b""
        rest = self._cutter.take_rest()
        if rest.strip():
            passed += await self._tell(rest + b"\n\n")
        await self._exchange.end(passed)

    async def end_broken(self, error: OwnwardError) -> None:
        """End a stream that was cut: nothing of it is kept, unless its last event had come."""
        await self._wait_for_last()
        await self._exchange.end_broken(error)

    async def _take(self, data: bytes) -> bytes:
        if self._is_overrun:
            return data
        told = b"".join([await self._tell(event) for event in self._cutter.cut(data)])
        if self._cutter.is_overrun:  # nobody could keep it
            self._is_overrun = True
            told += self._cutter.take_rest()
        return told

    async def _tell(self, event: bytes) -> bytes:
        """Return an event with the response under our name; its last one once it is kept."""
        told = self._tell_at_once(event)
        return await self._tell_last(event) if told is None else told

    def _tell_at_once(self, event: bytes) -> bytes | None:
        """Return an event with the response under our name; None of the last one, which is kept before."""
        if event.find(_HOLDS_RESPONSE) < 0:
            return event
        members, response = _response_in(event)
        if response is None:
            return event
        if text_of(members, "type") in _LAST_WORDS:
            return None
        self._name(response, is_kept=self.keeps)
        return _with_response(event, members, response)

    async def _tell_last(self, event: bytes) -> bytes:
        members, response = _response_in(event)
        return event if response is None else _with_response(event, members, await self._settle(response))

    async def _finish(self, body: bytes) -> bytes:
        response = find_members(body)
        if response is None or text_of(response, "object") != "response":
            return body
        return msgspec.json.encode(await self._settle(response))

    async def _settle(self, response: RawMembers) -> RawMembers:
        """Keep a whole response under its name; return it as the client is told, which says whether it is kept."""
        self._name(response, is_kept=True)
        is_kept = self.keeps and text_of(response, "status") in _KEPT_STATES
        if is_kept:
            is_kept = await self._keep(msgspec.json.encode(response))
        self._name(response, is_kept=is_kept)
        return response

    def _name(self, response: RawMembers, *, is_kept: bool) -> None:
        previous = self._turns[-1].response_id if self._turns else None
        response["id"] = msgspec.Raw(msgspec.json.encode(self.name))
        response["previous_response_id"] = msgspec.Raw(msgspec.json.encode(previous))
        response["store"] = msgspec.Raw(b"true" if is_kept else b"false")

    async def _keep(self, answer: bytes) -> bool:
        exchange = self._exchange
        gateway, target = exchange.gateway, exchange.target
        settings = gateway.settings
        items = b"[%b]" % b",".join([bytes(item) for item in self._own])
        if target is None or len(items) + len(answer) > settings.keep_response_bytes:
            return False
        if gateway.table is not exchange.heeded:  # what is kept is held to the plan of now as well
            await exchange.heed_new_plan()
        if not self._may_be_kept(exchange.label):
            return False
        now = gateway.clock.now()
        kept = KeptResponse(
            response_id=self.name,
            owner=owner_for(exchange.key),
            request_id=exchange.request_id,
            previous_id=self._turns[-1].response_id if self._turns else None,
            label=str(exchange.label),
            origin=home_of(target),
            items_json=items,
            answer_json=answer,
            kept_at=now,
            expires_at=now + timedelta(seconds=settings.keep_responses_s),
        )
        bounds: dict[str, Any] = {
            "most_responses": settings.keep_responses_per_key,
            "most_bytes": settings.keep_bytes_per_key,
        }
        try:
            await asyncio.to_thread(gateway.ledger.keep_response, kept, **bounds)
        except LedgerError as error:
            _LOG.error("the response of %s is not kept: %s", exchange.request_id, error)
            return False
        return True


def _response_in(event: bytes) -> tuple[RawMembers, RawMembers | None]:
    """Return an event's members, and those of the response in it, where it holds one."""
    members = find_members(data_of(event)) or {}
    return members, find_members(written(members, "response"))


def _with_response(event: bytes, members: RawMembers, response: RawMembers) -> bytes:
    members["response"] = msgspec.Raw(msgspec.json.encode(response))
    head = b"".join([line + b"\n" for line in event.splitlines() if line and not line.startswith(b"data:")])
    return b"%bdata: %b\n\n" % (head, msgspec.json.encode(members))


def _share_that_fits(refusal: bytes) -> float:
    """Return about how much of a request an upstream would take that says how long it is, and how long it may be."""
    numbers = [int(found) for found in _TOKENS.findall(refusal)]
    if len(numbers) < 2 or min(numbers) == max(numbers):  # noqa: PLR2004 - the one and the other
        return 0.5
    return min(max(min(numbers) / max(numbers), 0.02), 1.0) * 0.9


def _label_of(stated: str) -> Label:
    """Return what a kept label says; one that cannot be read allows this machine alone."""
    try:
        return Label.parse(stated)
    except OwnwardError:
        return LOCAL_ONLY
