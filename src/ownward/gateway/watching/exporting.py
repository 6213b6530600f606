"""Batches of spans on their way to the collector: through the outbound door, tried again where OTLP says so.

While one is tried again those behind it wait in the SDK's queue, which drops the oldest spans once it is full.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from datetime import datetime
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ownward.core import OwnwardError, UpstreamError
from ownward.gateway.headers import read_retry_after
from ownward.policy import Label, Place, issue_permit
from ownward.upstreams import Door, Timeouts

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_LOG = logging.getLogger("ownward.gateway")
_TIMEOUT_S: Final = 5.0
_OK: Final = range(200, 300)
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Source: OTLP specification 1.x, OTLP/HTTP, "Retryable response codes"; nor is a connection that fails the end."""

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_KEPT_S: Final = 300.0
"""For so long the collector's own exporters try again, too (`retry_on_failure.max_elapsed_time`)."""

LAST_S: Final = 3.0
"""How long what waits at the end may take."""


class DoorExporter(SpanExporter):
    """Hands spans from the SDK's thread to the event loop, which sends them through the door."""

    def __init__(
        self,
        door: Door,
        *,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        place: Place,
        label: Label,
        now: Callable[[], datetime],
    ) -> None:
        """Send from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._door, self._place, self._label, self._now = door, place, label, now
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        self._origin, self._target = f"{scheme}://{authority}", slash + path
        self._headers = [(b"content-type", b"application/x-protobuf"), *headers]
        self._jitter = random.Random()
        self._has_told = False
        self._ending = threading.Event()
        self._is_over = False
        self._sending: Future[tuple[int, float | None]] | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Return once the collector has them, refuses them for good, or has not taken them for too long."""
        body = encode_spans(spans).SerializeToString()
        gives_up_s = time.monotonic() + _KEPT_S
        pause_s = _FIRST_PAUSE_S
        while not self._is_over:
            is_last = self._ending.is_set()
            why, asked_s = self._send_once(body)
            if why is None:
                self._has_told = False
                return SpanExportResult.SUCCESS
            self._tell(why, is_final=asked_s is None)
            left_s = gives_up_s - time.monotonic()
            if asked_s is None or is_last or left_s <= 0:
                break
            self._ending.wait(min(left_s, max(asked_s, pause_s * self._jitter.uniform(0.8, 1.2))))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return SpanExportResult.FAILURE

    def hurry(self) -> None:
        """Have what waits tried once more, and nothing any more after a moment; called on the event loop."""
        self._ending.set()
        self._loop.call_later(LAST_S, self._end)

    def _end(self) -> None:
        self._is_over = True
        if self._sending is not None:
            self._sending.cancel()

    def _send_once(self, body: bytes) -> tuple[str | None, float | None]:
        """Return why the collector did not take it, None where it did, and how long to wait before it is asked again.

        None there: it will never take it.
        """
        try:
            self._sending = asyncio.run_coroutine_threadsafe(self._send(body), self._loop)
            status, asked_s = self._sending.result(2 * _TIMEOUT_S)
        except UpstreamError as error:
            return error.message, 0.0 if error.is_retryable else None
        except (TimeoutError, CancelledError):
            return "it did not answer in time", 0.0
        except (OwnwardError, RuntimeError) as error:  # the door lets them not go there; the event loop has ended
            return str(error), None
        if status in _OK:
            return None, None
        return f"it answered {status}", (asked_s or 0.0) if status in _AGAIN else None

    async def _send(self, body: bytes) -> tuple[int, float | None]:
        permit = issue_permit(
            label=self._label, place=self._place, upstream="telemetry", origin=self._origin, body=body
        )
        timeouts = Timeouts(connect_s=_TIMEOUT_S, first_byte_s=_TIMEOUT_S, stall_s=_TIMEOUT_S)
        response = await self._door.send(
            permit, method="POST", target=self._target, headers=self._headers, body=body, timeouts=timeouts
        )
        async with response:
            await response.read(1 << 20)
            stated = response.header(b"retry-after")
            return response.status, None if stated is None else read_retry_after(stated, now=self._now())

    def _tell(self, why: str, *, is_final: bool) -> None:
        if not self._has_told:  # once, and again after it worked: a collector that is down is no news
            goes_on = "they are dropped" if is_final else "they are sent again, as many as can wait"
            _LOG.warning("spans were not taken by the collector at %s: %s; %s", self._origin, why, goes_on)
            self._has_told = True
