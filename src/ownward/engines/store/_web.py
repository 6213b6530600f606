"""Weights from an address, through the one outbound door: resumed where a break left them, verified at the end."""

# ruff: noqa: ASYNC240 - this event loop runs nothing but the download whose file it looks at

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from ownward.core import FetchFailed, UpstreamError
from ownward.engines.store._copying import compute_file_sha256, wrong_bytes
from ownward.engines.store._following import Astray, follow
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
    asyncio.run(_fetch(weights, source, part=part, progress=progress))
    sha256 = compute_file_sha256(part)
    if part.stat().st_size != weights.bytes or sha256 != weights.sha256:
        size = part.stat().st_size
        part.unlink()
        raise wrong_bytes(weights, size, sha256)
    part.replace(target)


async def _fetch(weights: Weights, source: WebSource, *, part: Path, progress: Progress | None) -> None:
    part.touch()
    async with Door() as door:
        for tries_left in range(_TRIES - 1, -1, -1):
            before = part.stat().st_size
            if before >= weights.bytes:
                return
            try:
                await _fetch_rest(door, weights, source, part=part, progress=progress)
            except UpstreamError as error:
                has_grown = part.stat().st_size > before
                if not (tries_left and has_grown):
                    raise _failed(weights, source, str(error), part) from error
    if part.stat().st_size < weights.bytes:
        raise _failed(weights, source, "the answer ended early", part)


async def _fetch_rest(
    door: Door, weights: Weights, source: WebSource, *, part: Path, progress: Progress | None
) -> None:
    start = part.stat().st_size
    try:
        response, _ = await follow(
            door,
            source.url,
            upstream=f"weights of {weights.id}",
            headers=[(b"range", b"bytes=%d-" % start)] if start else [],
            timeouts=_TIMEOUTS,
        )
    except Astray as error:
        raise _failed(weights, source, str(error), part) from error
    async with response:
        if response.status == _STATUS_RANGE_PAST_END:
            return
        if response.status not in {_STATUS_OK, _STATUS_PARTIAL}:
            raise _failed(weights, source, f"it answered {response.status}", part)
        if response.status == _STATUS_OK or not _begins_at(response, start):
            if response.status == _STATUS_PARTIAL:
                raise _failed(weights, source, "it answered another range than was asked for", part)
            start = 0
        with part.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            done = start
            async for chunk in response.chunks():
                done += len(chunk)
                if done > weights.bytes:
                    raise _failed(weights, source, f"it sends more than the {weights.bytes:,} bytes expected", part)
                file.write(chunk)
                if progress is not None:
                    progress(done, weights.bytes)


def _begins_at(response: Response, start: int) -> bool:
    value = (response.header(b"content-range") or b"").decode("latin-1")
    match = re.match(r"bytes (\d+)-", value)
    return match is not None and int(match[1]) == start


def _failed(weights: Weights, source: WebSource, why: str, part: Path) -> FetchFailed:
    kept = part.stat().st_size if part.exists() else 0
    return FetchFailed(
        f"{weights.id} could not be fetched from {source.url}: {why}",
        next_step=f"Try again; {kept:,} of {weights.bytes:,} bytes are kept" if kept else "Try again later",
    )
