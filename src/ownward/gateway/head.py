"""What the head of a request states. A client writes each of its heads alike: on a kept connection it is read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import reduce

import msgspec

from ownward.core import OwnwardError
from ownward.gateway.asgi import REMEMBERED, Headers, Scope
from ownward.gateway.errors import MalformedRequest
from ownward.gateway.headers import headers_for_upstream, read_headers
from ownward.gateway.holding.keys import digest_in
from ownward.ledger import TaskBasis
from ownward.policy import Label

_STATED_ONCE = frozenset(
    {b"x-ownward-task", b"x-ownward-task-budget", b"x-ownward-tier", b"x-ownward-workload", b"x-task-id"}
)
_KEYS = frozenset({b"authorization", b"x-api-key"})
_OURS = (b"x-ownward", b"x_ownward")
_READ_HERE = (*sorted(_STATED_ONCE - {b"x-task-id"}), b"x-ownward-label")
_SAID_BY_US = (b"request-id", b"attempt", b"attempts", b"upstream", b"hedge", b"reason", b"translated", b"assumed",
               b"left-out", b"total-input-tokens", b"total-output-tokens")  # fmt: skip
_KNOWN = frozenset(_READ_HERE).union([b"x-ownward-" + name for name in _SAID_BY_US])
"""What a gateway of ours sends on or answers changes nothing where it comes in."""
_LONGEST_SHOWN = 64

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,127}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_USD = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,12})?")
_NO_TRACE = b"0" * 32


class Own(msgspec.Struct, frozen=True, gc=False):
    """What our own headers state; None where they do not."""

    task: tuple[str, TaskBasis] | None
    workload: str | None
    tier: str | None
    label: Label | None
    task_budget_usd: Decimal | None


class Head:
    """The headers of a request by their names, the body's length perhaps left out, and what was read of them so far."""

    __slots__ = ("_key_digest", "_listed", "_own", "_passed", "headers")

    def __init__(self, listed: Sequence[tuple[bytes, bytes]]) -> None:
        """Sort them by name."""
        self.headers = read_headers(listed)
        self._listed = listed
        self._key_digest: bytes | None = None
        self._own: Own | None = None
        self._passed: dict[tuple[str, bool], Headers] = {}

    @property
    def key_digest(self) -> bytes:
        """By what a key is remembered; empty where the request has none.

        Raises: MalformedRequest.
        """
        if self._key_digest is None:
            if len(self.headers) != len(self._listed):
                check_one_key(self._listed)
            self._key_digest = digest_in(self.headers)
        return self._key_digest

    def read_own(self) -> Own:
        """Return what our own headers state.

        Raises: MalformedRequest.
        """
        own = self._own
        if own is None:
            own = self._own = self._read_own()
        return own

    def _read_own(self) -> Own:
        headers = self.headers
        _check_known(headers)
        if len(headers) != len(self._listed):
            _check_stated_once(self._listed, _STATED_ONCE)
        return Own(
            task=_task_in(headers),
            workload=_name_in(headers, b"x-ownward-workload"),
            tier=_name_in(headers, b"x-ownward-tier"),
            label=_label_in(headers, self._listed),
            task_budget_usd=_usd_in(headers, b"x-ownward-task-budget"),
        )

    def passed_to(self, dialect: str, *, is_translated: bool) -> Headers:
        """Return the headers that an upstream may see; see `headers_for_upstream`."""
        passed = self._passed.get((dialect, is_translated))
        if passed is None:
            passed = headers_for_upstream(self.headers, dialect=dialect, is_translated=is_translated)
            self._passed[dialect, is_translated] = passed
        return passed


def head_of(scope: Scope) -> Head:
    """Return the head of a request: that of the one before, where it is the same."""
    remembered = scope.get(REMEMBERED)
    if remembered is None:
        return Head(scope["headers"])
    head: Head | None = remembered.get(Head)
    if head is None:
        head = remembered[Head] = Head([header for header in scope["headers"] if header[0] != b"content-length"])
    return head


def _name_in(headers: Mapping[bytes, bytes], header: bytes) -> str | None:
    """Return a name that a header states, or None.

    Raises: MalformedRequest, if it is no name.
    """
    value = headers.get(header)
    if value is None:
        return None
    if _NAME.fullmatch(value) is None:
        raise MalformedRequest(
            f"the header {header.decode()} is not a name",
            allowed="1 to 128 letters, digits and _ . : @ / + -, starting with a letter or digit",
        )
    return value.decode("ascii")


def _check_known(headers: Iterable[bytes]) -> None:
    """Refuse a header that is spelt like ours and is none: what it was to shrink or to name would go anywhere.

    Raises: MalformedRequest.
    """
    if b" ".join(headers).find(b"ownward") < 0:
        return
    for name in headers:
        if name.startswith(_OURS) and name not in _KNOWN:
            raise MalformedRequest(
                f"there is no header {name[:_LONGEST_SHOWN].decode('latin-1')}",
                allowed=f"One of {', '.join(known.decode() for known in _READ_HERE)}",
                next_step="Spell it so, or leave it out: what it was to say would hold for nothing",
            )


def check_one_key(listed: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse two keys in one header: who stands before us may look at the other one.

    Raises: MalformedRequest.
    """
    _check_stated_once(listed, _KEYS)


def _check_stated_once(listed: Sequence[tuple[bytes, bytes]], names: frozenset[bytes]) -> None:
    """Refuse headers of ours that stand twice and say different things: who stands before us may have added one.

    Of labels all hold, so that they may.
    Raises: MalformedRequest.
    """
    found: dict[bytes, bytes] = {}
    for name, value in listed:
        if name in names and found.setdefault(name, value) != value:
            raise MalformedRequest(
                f"the header {name.decode()} stands twice, with different values",
                allowed="One value",
                next_step="Send it once; what stands between may have added the other",
            )


def _label_in(headers: Mapping[bytes, bytes], listed: Sequence[tuple[bytes, bytes]]) -> Label | None:
    """Return the label that a request asks to be shrunk to, or None; of several, what all of them allow.

    Raises: MalformedRequest, if it is no label.
    """
    if b"x-ownward-label" not in headers:
        return None
    stated = [value.decode("latin-1") for name, value in listed if name == b"x-ownward-label"]
    try:
        return reduce(Label.meet, map(Label.parse, stated))
    except OwnwardError as error:
        raise MalformedRequest(
            "the header x-ownward-label is not a label", allowed=error.allowed, next_step=error.next_step
        ) from None


def _usd_in(headers: Mapping[bytes, bytes], header: bytes) -> Decimal | None:
    """Return the dollars that a header states, or None.

    Raises: MalformedRequest, if it is no amount above zero.
    """
    value = headers.get(header)
    if value is None:
        return None
    if _USD.fullmatch(value) is None or not Decimal(value.decode("ascii")):
        raise MalformedRequest(
            f"the header {header.decode()} is not an amount", allowed="Dollars above 0 in digits, such as 0.50"
        )
    return Decimal(value.decode("ascii"))


def _task_in(headers: Mapping[bytes, bytes]) -> tuple[str, TaskBasis] | None:
    """Return the task a request belongs to: stated by a header, or inferred from its trace; None where it is alone.

    Raises: MalformedRequest, if it is no name.
    """
    stated = _name_in(headers, b"x-ownward-task") or _name_in(headers, b"x-task-id")
    if stated is not None:
        return stated, "explicit"
    traceparent = headers.get(b"traceparent")
    if traceparent is not None:
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is not None and found[1] != _NO_TRACE:
            return "trace_" + found[1].decode("ascii"), "inferred"
    return None
