"""What an answer says of itself: who made it, how it ended and on which terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from ownward.upstreams._pieces import GAVE_UP
from ownward.upstreams.terms import NO_TERMS, Terms

_ID = re.compile(r"[A-Za-z0-9_.:/=+-]{1,128}")
_ID_HEADERS = frozenset({b"x-request-id", b"request-id"})
_LONGEST_MESSAGE = 500

Dialect = Literal["openai", "anthropic"]


class ReadAnswer:
    """What was read of one answer so far.

    `is_complete`: it is whole, by its dialect's own last word. `content_events` counts the events of a stream that
    carried content: about one token each with most engines. `terms`: how it was served, where that bears on its charge.
    """

    __slots__ = (
        "content_events",
        "error",
        "finish_reason",
        "has_content",
        "is_complete",
        "terms",
        "upstream_request_id",
    )

    def __init__(self) -> None:
        """Start before the first byte."""
        self.content_events = 0
        self.error: str | None = None
        self.finish_reason: str | None = None
        self.has_content = False
        self.is_complete = False
        self.terms: Terms = NO_TERMS
        self.upstream_request_id: str | None = None

    @property
    def has_given_up(self) -> bool:
        """Whether the upstream says that it gave the answer up before it was whole."""
        return self.finish_reason is not None and self.finish_reason.lower() in GAVE_UP

    def _note_error(self, error: object) -> None:
        if isinstance(error, Mapping):
            error = error.get("message") or error.get("type") or error.get("code") or "an error without words"
        self.error = str(error)[:_LONGEST_MESSAGE]


def id_in(value: object) -> str | None:
    """Return an answer's id, which the ledger keeps; what has not the form of one may be anything, even the request."""
    return value if isinstance(value, str) and _ID.fullmatch(value) is not None else None


def id_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the id that the headers of an answer state, also of one that was refused or cut; None where they do not.

    >>> id_in_headers([(b"date", b"today"), (b"x-request-id", b"req-7")])
    'req-7'
    """
    for name, value in headers:
        if name in _ID_HEADERS:
            return id_in(value.decode("latin-1"))
    return None
