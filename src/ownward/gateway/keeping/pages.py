"""Kept responses read and deleted: `/v1/responses/ID` and its input items, each for its own key alone."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from ownward.gateway.errors import MalformedRequest, UnknownResponse
from ownward.gateway.keeping.conversation import list_items
from ownward.gateway.keeping.responses import is_id, owner_for

if TYPE_CHECKING:
    from ownward.gateway.commons import Commons
    from ownward.gateway.placing.choice import KeyScope
    from ownward.ledger import KeptResponse

PREFIX: Final = "/v1/responses/"
_ITEMS: Final = "/input_items"
_DEFAULT_ITEMS, _MOST_ITEMS = 20, 100
_SHOWN: Final = 32
"""Letters of what was asked for, as it is quoted."""
_UNSERVED: Final = {
    "compact": "Have the conversation summarised by a request of its own, as clients do by themselves for a provider"
    " that they do not take for OpenAI: Codex where its provider has another name",
    "input_tokens": "What a response used stands in its usage; POST /v1/messages/count_tokens counts before that",
}
"""What to do instead of operations that OpenAI's own service has at these paths."""

_CANCEL: Final = "/cancel"
_NO_CANCEL: Final = "Close the connection, which ends the call: no response is computed in the background here"

_STREAMS: Final = frozenset({"1", "true", "True"})


def methods_of(path: str) -> tuple[str, ...]:
    """Return the methods that a path takes; none where it is none of these."""
    if not path.startswith(PREFIX):
        return ()
    name = path.removeprefix(PREFIX)
    if name in _UNSERVED:
        return ()
    if name.endswith(_ITEMS):
        return ("GET",) if "/" not in name.removesuffix(_ITEMS) and name != _ITEMS else ()
    return ("GET", "DELETE") if name and "/" not in name else ()


def remedy_for(path: str) -> str | None:
    """Return what to do instead of an operation on responses that is not served; None where it is none of these."""
    if not path.startswith(PREFIX):
        return None
    return _NO_CANCEL if path.endswith(_CANCEL) else _UNSERVED.get(path.removeprefix(PREFIX))


async def answer(gateway: Commons, method: str, path: str, query: bytes, key: KeyScope | None) -> bytes:
    """Return what is told of a kept response, or that it was deleted.

    Raises: UnknownResponse, MalformedRequest.
    """
    name = path.removeprefix(PREFIX)
    response_id = name.removesuffix(_ITEMS)
    stated = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    keeps = gateway.settings.keep_responses_s > 0
    if not is_id(response_id):
        raise UnknownResponse(response_id, keeps=keeps)
    owner = owner_for(key)
    if method == "DELETE":
        if not await asyncio.to_thread(gateway.ledger.delete_response, response_id, owner=owner):
            raise UnknownResponse(response_id, keeps=keeps)
        return json.dumps({"id": response_id, "object": "response", "deleted": True}).encode()
    turns = await asyncio.to_thread(gateway.ledger.query_conversation, response_id, owner=owner)
    if not turns:
        raise UnknownResponse(response_id, keeps=keeps)
    if name.endswith(_ITEMS):
        return _page_of(turns, stated)
    if stated.get("stream", [""])[-1] in _STREAMS:
        raise MalformedRequest(
            "stream: only responses that are computed in the background can be streamed again, and none is here",
            allowed="stream left out, or false",
        )
    return turns[-1].answer_json


def _page_of(turns: tuple[KeptResponse, ...], stated: dict[str, list[str]]) -> bytes:
    """Return a page of the items that a response was computed from, the newest first unless asked otherwise."""
    limit = stated.get("limit", [str(_DEFAULT_ITEMS)])[-1]
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MOST_ITEMS):
        raise MalformedRequest(f"limit is {limit[:_SHOWN]!r}", allowed=f"1 to {_MOST_ITEMS}")
    order = stated.get("order", ["desc"])[-1]
    if order not in {"asc", "desc"}:
        raise MalformedRequest(f"order is {order[:_SHOWN]!r}", allowed="'asc' or 'desc'")
    items = list_items(turns)
    names = [json.loads(item).get("id") for item in items]
    if order == "desc":
        items, names = items[::-1], names[::-1]
    after = stated.get("after", [None])[-1]
    start = 0
    if after is not None:
        if after not in names:
            raise MalformedRequest("after names no item of this response", allowed="The id of one of its items")
        start = names.index(after) + 1
    end = start + int(limit)
    page, shown = items[start:end], names[start:end]
    told = {
        "object": "list",
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": end < len(items),
    }
    return b'%b, "data": [%b]}' % (json.dumps(told).encode()[:-1], b", ".join(page))
