"""What the head of a request states. A client writes each of its heads alike: on a kept connection it is read once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from ownward.gateway.asgi import REMEMBERED, Scope
from ownward.gateway.headers import (
    check_known,
    check_stated_once,
    headers_for_upstream,
    label_in,
    name_in,
    read_headers,
    task_in,
    usd_in,
)
from ownward.gateway.holding.keys import digest_in
from ownward.ledger import TaskBasis
from ownward.policy import Label


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
        self._passed: dict[tuple[str, bool], list[tuple[bytes, bytes]]] = {}

    @property
    def key_digest(self) -> bytes:
        """By what a key is remembered; empty where the request has none."""
        if self._key_digest is None:
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
        check_known(headers)
        if len(headers) != len(self._listed):
            check_stated_once(self._listed)
        return Own(
            task=task_in(headers),
            workload=name_in(headers, b"x-ownward-workload"),
            tier=name_in(headers, b"x-ownward-tier"),
            label=label_in(headers, self._listed),
            task_budget_usd=usd_in(headers, b"x-ownward-task-budget"),
        )

    def passed_to(self, dialect: str, *, is_translated: bool) -> list[tuple[bytes, bytes]]:
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
