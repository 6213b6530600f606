"""Spans, where the settings ask for them: the collector's place held against the label that spans may travel under."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ownward.core import ConfigError, Fault, SystemClock

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.gateway import Watcher
    from ownward.upstreams import Door


@contextlib.asynccontextmanager
async def spans_of(settings: Settings, door: Door) -> AsyncIterator[tuple[Watcher, ...]]:
    """Yield who makes spans, nobody unless `telemetry.spans` is set; at the end what waits is exported.

    Raises: ConfigError, if the collector stands where `telemetry.label` does not let spans go; MissingExtra.
    """
    if not settings.telemetry.spans:
        yield ()
        return
    from ownward.config import resolve_span_destination
    from ownward.gateway import make_span_writer
    from ownward.policy import Label, Place, is_loopback_address, is_private_address

    destination = resolve_span_destination()
    host = urlsplit(destination.url).hostname or ""
    is_local = host == "localhost" or is_loopback_address(host)
    place = Place(is_local=is_local, is_on_site=is_private_address(host))
    label = Label.parse(settings.telemetry.label, where="telemetry.label")
    if not label.permits(place):
        fault = Fault(
            file="settings",
            key="telemetry.label",
            message=f"is {str(label)!r}, and the collector at {host!r} is {place}",
            allowed="A collector within that label; or a wider label: spans say names, counts and costs, no content",
        )
        raise ConfigError(
            [fault], next_step='Write telemetry.label = "site" or "any" in ownward.toml, if they may go there'
        )
    writer = make_span_writer(
        door, url=destination.url, headers=destination.headers, place=place, label=label, clock=SystemClock()
    )
    try:
        yield (writer,)
    finally:
        await writer.stop()
