"""Files of a checkpoint that lies elsewhere, read a few bytes at a time by range requests through the outbound door."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from ownward.core import BadInput, FetchFailed, OwnwardError, UpstreamError
from ownward.engines.store._following import Astray, Headers, follow
from ownward.upstreams import Door, DoorLimits, Response, Timeouts

_LARGEST_JSON_BYTES = 24 * 1024**2
_LEAST_WINDOW_BYTES = 16 * 1024
_MOST_WINDOW_BYTES = 1024**2
_STATUS_OK = 200
_STATUS_PARTIAL = 206
_STATUS_RANGE_PAST_END = 416
_SHUT = (401, 403)
_ABSENT = (404, 410)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """What reading headers from afar may take, in seconds, requests and bytes.

    `request_s` bounds one request from its start to its last byte, redirects included;
    `concurrent_requests` run at once for the files of an index; `received_bytes` bounds all requests together.
    """

    connect_s: float = 10.0
    first_byte_s: float = 20.0
    stall_s: float = 15.0
    request_s: float = 60.0
    concurrent_requests: int = 8
    received_bytes: int = 128 * 1024**2


class RemoteCheckpoint:
    """The way to the files of one checkpoint: opens them, and counts what that took.

    `token` goes to `token_origin` alone, in an authorization header, and is shown nowhere.
    `on_received` is told the bytes received so far. It runs an event loop of its own: use
    it from a thread where none runs, and leave `with` to close its connections.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        token_origin: str | None = None,
        limits: RemoteLimits | None = None,
        on_received: Callable[[int], None] | None = None,
    ) -> None:
        """Open nothing yet."""
        self.limits = limits or RemoteLimits()
        self.requests = 0
        self.received_bytes = 0
        self._token: Headers = [(b"authorization", b"Bearer " + token.encode("ascii"))] if token else []
        self._token_origin = token_origin
        self._on_received = on_received
        self._runner = asyncio.Runner()
        self._door = Door(limits=DoorLimits(connections_per_origin=self.limits.concurrent_requests))

    def open(self, url: str) -> RemoteFile:
        """Return the file at an address.

        Raises: BadInput, if there is none; FetchFailed, if its server does not give it, or not by ranges.
        """
        found = self.find({url: _LEAST_WINDOW_BYTES})[0]
        if found is None:
            raise BadInput("there is no such file", where=shown_url(url), next_step="Check the address")
        return found

    def find(self, urls: Mapping[str, int]) -> list[RemoteFile | None]:
        """Return the files at these addresses, None for those that are not there; several at once.

        Each address comes with how many of its first bytes will be read, about.
        Raises: FetchFailed.
        """
        return self._run(self._find(urls))

    def read(self, url: str, *, offset: int, length: int, size: int) -> bytes:
        """Return `length` bytes from `offset` of a file of `size` bytes; raises FetchFailed."""
        part = self._run(self._range(url, offset, length))
        if part.total != size:
            raise _failed(url, f"its size changed from {size} to {part.total} bytes while it was read")
        return part.data

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _find(self, urls: Mapping[str, int]) -> list[RemoteFile | None]:
        slots = asyncio.Semaphore(self.limits.concurrent_requests)

        async def one(url: str, first_bytes: int) -> RemoteFile | None:
            async with slots:
                return await self._open(url, first_bytes)

        tasks = [asyncio.ensure_future(one(url, first_bytes)) for url, first_bytes in urls.items()]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, url: str, first_bytes: int) -> RemoteFile | None:
        try:
            if urlsplit(url).path.endswith(".json"):
                data = await self._ask(url, None, lambda response: self._whole(response, url))
                return RemoteFile(self, url, read_from=url, size=len(data), first=data)
            window = min(max(first_bytes, _LEAST_WINDOW_BYTES), _MOST_WINDOW_BYTES)
            part = await self._range(url, 0, window)
        except _NotThere:
            return None
        return RemoteFile(self, url, read_from=part.url, size=part.total, first=part.data)

    async def _range(self, url: str, offset: int, length: int) -> _Part:
        async def take(response: Response) -> _Part:
            if response.status == _STATUS_OK:
                raise _failed(
                    url,
                    "its server does not give parts of a file (it answered 200 to a range request), "
                    "and the whole is not downloaded",
                    next_step="Download it yourself and give its path, or give the address of its config.json",
                )
            if response.status != _STATUS_PARTIAL:
                raise self._refused(response, url)
            stated = _CONTENT_RANGE.fullmatch((response.header(b"content-range") or b"").decode("latin-1").strip())
            if stated is None:
                raise _failed(url, "its server does not say which part of the file it sent")
            start, end, total = (int(number) for number in stated.groups())
            if start != offset or end != min(offset + length, total) - 1:
                raise _failed(
                    url, f"its server sent bytes {start} to {end} of {total}, not {offset} to {offset + length - 1}"
                )
            data = await response.read(end + 1 - start)
            if len(data) != end + 1 - start:
                raise _failed(url, f"its server sent {len(data)} of {end + 1 - start} bytes")
            return _Part(data, total, "")

        asked = (b"range", b"bytes=%d-%d" % (offset, offset + length - 1))
        part: _Part = await self._ask(url, asked, take)
        return part

    async def _whole(self, response: Response, url: str) -> bytes:
        if response.status != _STATUS_OK:
            raise self._refused(response, url)
        stated = (response.header(b"content-length") or b"0").decode("latin-1")
        if len(stated) > 12 or (stated.isdecimal() and int(stated) > _LARGEST_JSON_BYTES):  # noqa: PLR2004 - a TB
            raise _failed(url, f"it is larger than {_LARGEST_JSON_BYTES} bytes, too large for a config or index")
        return await response.read(_LARGEST_JSON_BYTES)

    async def _ask(
        self, url: str, header: tuple[bytes, bytes] | None, take: Callable[[Response], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Return what `take` makes of the answer; every way to fail becomes one of our errors."""
        limits = self.limits
        if self.received_bytes > limits.received_bytes:
            raise _failed(url, f"the headers take more than {limits.received_bytes} bytes in all")
        self.requests += 1
        parts = urlsplit(url)
        is_trusted = self._token_origin is not None and f"{parts.scheme}://{parts.netloc}" == self._token_origin
        try:
            async with asyncio.timeout(limits.request_s):
                response, final = await follow(
                    self._door,
                    url,
                    upstream=parts.hostname or "",
                    headers=[] if header is None else [header],
                    timeouts=Timeouts(
                        connect_s=limits.connect_s, first_byte_s=limits.first_byte_s, stall_s=limits.stall_s
                    ),
                    secret=self._token if is_trusted else None,
                )
                async with response:
                    try:
                        found = await take(response)
                    finally:
                        self.received_bytes += response.bytes_received
                        if self._on_received is not None:
                            self._on_received(self.received_bytes)
        except TimeoutError:
            raise _failed(url, f"the answer took more than {limits.request_s:g} s") from None
        except Astray as error:
            raise _failed(url, str(error)) from error
        except UpstreamError as error:
            raise _failed(url, error.message) from error
        return found._replace(url=final) if isinstance(found, _Part) else found

    def _refused(self, response: Response, url: str) -> Exception:
        if response.status in _ABSENT:
            return _NotThere("is not there", where=shown_url(url))
        if response.status == _STATUS_RANGE_PAST_END:
            return BadInput("is empty", where=shown_url(url))
        if response.status in _SHUT:
            return _failed(
                url,
                f"its server answered {response.status}: the model may be gated, private or missing",
                next_step="The token sent has no access to it; ask its owners for access"
                if self._token
                else "If it is gated or private, name the variable that holds your token: "
                "OWNWARD_HUB_TOKEN_ENV=HF_TOKEN, or token_env under [hub] in ownward.toml",
            )
        return _failed(url, f"its server answered {response.status}")

    def __enter__(self) -> Self:
        """Return the checkpoint itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close every connection."""
        with self._runner:
            self._run(self._door.close())


class RemoteFile:
    """One file elsewhere: its size, its first bytes, and more of them when asked."""

    __slots__ = ("_checkpoint", "_first", "_read_from", "_url", "size")

    def __init__(self, checkpoint: RemoteCheckpoint, url: str, *, read_from: str, size: int, first: bytes) -> None:
        """Keep what its first request gave; `read_from` is where that led to."""
        self.size = size
        self._checkpoint = checkpoint
        self._url = url
        self._read_from = read_from
        self._first = first

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self._url).path.rpartition("/")[2]

    @property
    def where(self) -> str:
        """The address, without its query, which may hold a signature."""
        return shown_url(self._url)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only where the file ends.

        Raises: FetchFailed.
        """
        end = min(offset + length, self.size)
        known = self._first[offset:end]
        rest = offset + len(known)
        if rest >= end:
            return known
        return known + self._checkpoint.read(self._read_from, offset=rest, length=end - rest, size=self.size)

    def beside(self, names: Mapping[str, int]) -> list[Any]:
        """Return the files of these names in the same folder, None for those that are not there; raises FetchFailed."""
        return self._checkpoint.find({self._address_of(name): first_bytes for name, first_bytes in names.items()})

    def _address_of(self, name: str) -> str:
        parts = urlsplit(self._url)
        folder = parts.path.rpartition("/")[0]
        return urlunsplit((parts.scheme, parts.netloc, f"{folder}/{quote(name)}", "", ""))


def shown_url(url: str) -> str:
    """Return an address without its query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


class _Part(NamedTuple):
    data: bytes
    total: int
    url: str


class _NotThere(OwnwardError):
    """A file that its server does not have."""


def _failed(url: str, why: str, *, next_step: str = "Check the address, or try again later") -> FetchFailed:
    return FetchFailed(f"the checkpoint could not be read: {why}", where=shown_url(url), next_step=next_step)
