"""Weights from an address, through the one outbound door: resumed where a break left them, verified at the end."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from ownward.core import FetchFailed, UpstreamError
from ownward.engines.store._copying import compute_file_sha256, wrong_bytes
from ownward.engines.store._following import Astray, Headers, follow
from ownward.engines.store._weights import Progress, WebSource, Weights
from ownward.upstreams import Door, Response, Timeouts

_TRIES = 5
_TIMEOUTS = Timeouts(connect_s=15, first_byte_s=60, stall_s=60)
_STATUS_OK = 200
_STATUS_PARTIAL = 206
_STATUS_RANGE_PAST_END = 416


def fetch_from_web(weights: Weights, source: WebSource, *, part: Path, target: Path, progress: Progress | None) -> None:
    """Write the weights to `target`, going on from `part` where it exists.

    Runs an event loop of its own: call it from a thread where one runs already.
    Raises: FetchFailed; `part` stays, unless its bytes are wrong.
    """
    download(source.url, name=weights.id, size=weights.bytes, part=part, progress=progress)
    sha256 = compute_file_sha256(part)
    if part.stat().st_size != weights.bytes or sha256 != weights.sha256:
        size = part.stat().st_size
        part.unlink()
        raise wrong_bytes(weights, size, sha256)
    part.replace(target)


def download(
    url: str, *, name: str, size: int, part: Path, progress: Progress | None, secret: Headers | None = None
) -> None:
    """Write an address's `size` bytes to `part`, going on where it ends; nothing is verified.

    Runs an event loop of its own. `secret` headers go to the address's own origin alone.
    Raises: FetchFailed; what had come stays in `part`.
    """
    asyncio.run(_Download(url=url, name=name, size=size, part=part, progress=progress, secret=secret).run())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Download:
    """One file on its way."""

    url: str
    name: str
    size: int
    part: Path
    progress: Progress | None
    secret: Headers | None

    async def run(self) -> None:
        part = self.part
        part.touch()
        async with Door() as door:
            for tries_left in range(_TRIES - 1, -1, -1):
                before = part.stat().st_size
                if before >= self.size:
                    return
                try:
                    await self._fetch_rest(door)
                except UpstreamError as error:
                    has_grown = part.stat().st_size > before
                    if not (tries_left and has_grown):
                        raise self._failed(str(error)) from error
        if part.stat().st_size < self.size:
            raise self._failed("the answer ended early")

    async def _fetch_rest(self, door: Door) -> None:
        start = self.part.stat().st_size
        try:
            response, _ = await follow(
                door,
                self.url,
                upstream=f"weights of {self.name}",
                headers=[(b"range", b"bytes=%d-" % start)] if start else [],
                timeouts=_TIMEOUTS,
                secret=self.secret,
            )
        except Astray as error:
            raise self._failed(str(error)) from error
        async with response:
            if response.status == _STATUS_RANGE_PAST_END:
                return
            if response.status not in {_STATUS_OK, _STATUS_PARTIAL}:
                raise self._failed(f"it answered {response.status}")
            if response.status == _STATUS_OK or not _begins_at(response, start):
                if response.status == _STATUS_PARTIAL:
                    raise self._failed("it answered with a different range from the one requested")
                start = 0
            with self.part.open("r+b") as file:
                file.truncate(start)
                file.seek(start)
                done = start
                async for chunk in response.chunks():
                    done += len(chunk)
                    if done > self.size:
                        raise self._failed(f"it sends more than the {self.size:,} bytes expected")
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress(done, self.size)

    def _failed(self, why: str) -> FetchFailed:
        kept = self.part.stat().st_size if self.part.exists() else 0
        return FetchFailed(
            f"{self.name} could not be fetched from {self.url}: {why}",
            next_step=f"Try again; {kept:,} of {self.size:,} bytes are kept" if kept else "Try again later",
        )


def _begins_at(response: Response, start: int) -> bool:
    value = (response.header(b"content-range") or b"").decode("latin-1")
    match = re.match(r"bytes (\d+)-", value)
    return match is not None and int(match[1]) == start
