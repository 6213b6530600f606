"""`ownward top`: what a running gateway does, live in the terminal; once where it is piped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from ownward.cli._context import load_settings
from ownward.cli._output import console, example, json_option
from ownward.core import OwnwardError, UpstreamError, UpstreamUnreachable, UsageError, to_json

if TYPE_CHECKING:
    from rich.console import Console

    from ownward.reports import Frame, Look
    from ownward.upstreams import Door

SCHEMA = "ownward.top/1"
_LARGEST_BYTES = 32 << 20
_TIMEOUT_S = 5.0
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403


@click.command(epilog=example("ownward top", "ownward top --url http://127.0.0.1:8484 --once"))
@click.option("--url", default=None, help="The running gateway. [default: where `serve` listens by the settings]")
@click.option("--key-env", default=None, metavar="VAR", help="The variable that holds a key for it, if it wants one.")
@click.option(
    "--ca-file", default=None, metavar="PEM", help="Trust this authority, if the gateway's certificate is your own."
)
@click.option("--interval", "interval_s", type=float, default=2.0, show_default=True, help="Seconds between updates.")
@click.option("--window", "window_s", type=float, default=None, metavar="S",
              help="Seconds that figures cover. [default: 60; once: since the gateway began]")  # fmt: skip
@click.option("--once", is_flag=True, help="Print one page and end.")
@json_option
def top(
    *,
    url: str | None,
    key_env: str | None,
    ca_file: str | None,
    interval_s: float,
    window_s: float | None,
    once: bool,
    as_json: bool,
) -> None:
    """Show what a running gateway does: speeds, spend, queues, breakers, budgets, errors.

    It reads the gateway's /metrics and nothing else. Percentiles are read off histogram buckets. Ctrl-C ends it;
    piped, it prints one page and ends.
    """
    if not 0.1 <= interval_s <= 3600:  # noqa: PLR2004 - a tenth of a second to an hour
        raise UsageError(f"--interval is {interval_s:g}", allowed="0.1 to 3600 seconds")
    if window_s is not None and window_s < interval_s:
        raise UsageError(f"--window is {window_s:g}", allowed="At least --interval")
    source = make_source(url, key_env=key_env, ca_file=ca_file)
    screen = console()
    if once or as_json or not screen.is_terminal:
        frame = asyncio.run(source.look_once(window_s))
        if as_json:
            print(to_json({"schema": SCHEMA, "url": source.url, **_with_money(asdict(frame))}))
        else:
            from ownward.reports import render_frame

            screen.print(render_frame(frame, url=source.url))
        return
    try:
        asyncio.run(source.watch(screen, interval_s=interval_s, window_s=window_s or 60.0))
    except KeyboardInterrupt:
        sys.stdout.flush()


def _with_money(value: Any, key: str = "") -> Any:
    """Return a record with its amounts of USD as decimals, to the picodollar that they are counted in."""
    if isinstance(value, dict):
        return {name: _with_money(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_money(item, key) for item in value]
    if isinstance(value, float) and "usd" in key.split("_"):
        return Decimal(format(value, ".12f").rstrip("0").rstrip("."))
    return value


def make_source(url: str | None, *, key_env: str | None, ca_file: str | None) -> Source:
    """Return where to look.

    Raises: UsageError, if the address is no gateway's on this machine or a private network.
    """
    from ownward.config import resolve_secret
    from ownward.policy import is_loopback_address, is_private_address

    if url is None:
        server = load_settings(None).server
        scheme = "http" if server.tls_cert_file is None else "https"
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - what it listens on
        url = f"{scheme}://{f'[{here}]' if ':' in here else here}:{server.port}"
    parts = urlsplit(url.rstrip("/"))
    host = parts.hostname or ""
    is_local = host == "localhost" or is_loopback_address(host)
    if parts.scheme not in {"http", "https"} or not (is_local or is_private_address(host)):
        raise UsageError(f"--url is {url!r}", allowed="The address of a gateway here: http://127.0.0.1:8484")
    return Source(
        url=f"{parts.scheme}://{parts.netloc}",
        key=None if key_env is None else resolve_secret(key_env),
        is_local=is_local,
        ca_file=None if ca_file is None else Path(ca_file),
    )


class Source:
    """A running gateway that is looked at."""

    def __init__(self, *, url: str, key: str | None, is_local: bool, ca_file: Path | None) -> None:
        """Look at nothing yet."""
        self.url = url
        self._key = key
        self._is_local = is_local
        self._ca_file = ca_file

    async def look_once(self, window_s: float | None) -> Frame:
        """Return one picture: since the gateway began, or of the next `window_s` seconds."""
        from ownward.reports import compute_frame

        async with self._door() as door:
            before = None
            if window_s is not None:
                before = await self._look(door)
                await asyncio.sleep(window_s)
            now = await self._look(door)
        return compute_frame(now, before, at=datetime.now(UTC))

    async def watch(self, screen: Console, *, interval_s: float, window_s: float) -> None:
        """Show a picture of the last `window_s` seconds again and again; raises only if the first look fails."""
        from rich.live import Live

        from ownward.reports import compute_frame, render_frame

        async with self._door() as door:
            looks: deque[Look] = deque([await self._look(door)])
            frame, trouble = compute_frame(looks[0], None, at=datetime.now(UTC)), None
            with Live(console=screen, screen=True, auto_refresh=False) as live:
                while True:
                    rows, columns = screen.height, screen.width
                    picture = render_frame(frame, url=self.url, trouble=trouble, rows=rows, columns=columns)
                    live.update(picture, refresh=True)
                    await asyncio.sleep(interval_s)
                    try:
                        now = await self._look(door)
                    except OwnwardError as error:
                        trouble = f"No answer since {datetime.now(UTC):%H:%M:%S} UTC: {error.message}"
                        continue
                    if looks[-1].started_s != now.started_s:
                        looks.clear()
                    looks.append(now)
                    while len(looks) > 2 and now.at_s - looks[1].at_s >= window_s:  # noqa: PLR2004 - two make a window
                        looks.popleft()
                    before = looks[0] if len(looks) > 1 else None
                    frame, trouble = compute_frame(now, before, at=datetime.now(UTC)), None

    def _door(self) -> Door:
        from ownward.upstreams import Door

        return Door()

    async def _look(self, door: Door) -> Look:
        from ownward.policy import LOCAL_ONLY, Label, Place, issue_permit
        from ownward.reports import Look
        from ownward.upstreams import DIRECT, Timeouts, Way

        permit = issue_permit(
            label=LOCAL_ONLY if self._is_local else Label.parse("site"),
            place=Place(is_local=self._is_local, is_on_site=True),
            upstream="gateway",
            origin=self.url,
            body=b"",
        )
        headers = [] if self._key is None else [(b"authorization", b"Bearer " + self._key.encode())]
        timeouts = Timeouts(connect_s=_TIMEOUT_S, first_byte_s=_TIMEOUT_S, stall_s=_TIMEOUT_S)
        way: Any = DIRECT if self._ca_file is None else Way(ca_file=self._ca_file)
        try:
            response = await door.send(
                permit, method="GET", target="/metrics", headers=headers, timeouts=timeouts, way=way
            )
            async with response:
                status, body = response.status, await response.read(_LARGEST_BYTES)
        except UpstreamError as error:
            raise UpstreamUnreachable(
                error.message.replace('upstream "gateway"', "the gateway"),
                where=self.url,
                next_step="Start one with: ownward serve. Name its address, http or https, with --url, and who issued"
                " its certificate with --ca-file",
            ) from None
        if status == _UNAUTHORIZED:
            raise UsageError(
                f"the gateway at {self.url} asks for a key",
                allowed="--key-env VAR, where the variable VAR holds a key of: ownward keys create",
            )
        if status == _FORBIDDEN:
            raise UsageError(
                f"the key does not let you see what the gateway at {self.url} does",
                allowed="A key that is not scoped to workloads or tiers: ownward keys create NAME",
            )
        if status != _OK:
            raise UpstreamError(
                f"{self.url}/metrics answered {status}", next_step="Name a gateway of ownward with --url"
            )
        return Look.parse(body.decode("utf-8", "replace"), at_s=time.monotonic())
