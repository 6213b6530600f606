"""What two or three of the request readers and writers share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from ownward.upstreams.translation._core import File, Image, Part, Reasoning, Role, Turn
from ownward.upstreams.translation._members import Members, Report

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<more>(?:;[^;,]*)*?);base64,", re.DOTALL)
_PDF = "application/pdf"
_LONGEST_USER = 64
"""Characters of a user's name that OpenAI takes; Anthropic takes 256, and its coding agent sends more than 128."""

OPENAI_HINTS = ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "metadata")
"""Members of OpenAI requests that change nothing of what is answered: where prefixes are kept, and labels."""


def read_cache(part: Members) -> dict[str, Any] | None:
    """Take the mark that a cached prefix ends here: Anthropic's own, or OpenAI's breakpoint."""
    stated = part.take("cache_control", dict)
    breakpoint_ = part.inner("prompt_cache_breakpoint")
    if breakpoint_ is None:
        return stated
    breakpoint_.take("mode", str)
    breakpoint_.drop("ttl")
    breakpoint_.close()
    return stated or {"type": "ephemeral"}


def image_of(url: str | None, *, path: str, report: Report, cache: dict[str, Any] | None = None) -> Image | None:
    """Return the picture at an address, which may be a data URL."""
    if url is None:
        report.refuse(path, "it has no address")
        return None
    if not url.startswith("data:"):
        return Image(url=url, path=path, cache=cache)
    found = _DATA_URL.match(url)
    if found is None:
        report.refuse(path, "its data URL is not in base64")
        return None
    return Image(media_type=found["type"], data=url[found.end() :], path=path, cache=cache)


def url_of(image: Image) -> str:
    """Return a picture's address, as a data URL where it is carried along."""
    return image.url if image.url is not None else f"data:{image.media_type};base64,{image.data}"


def file_of(part: Members, *, path: str, cache: dict[str, Any] | None = None) -> File | None:
    """Take a file's members; anything but a PDF carried along is refused."""
    report = part.report
    name, data = part.take("filename", str), part.take("file_data", str)
    part.refuse("file_id", "the upstream cannot fetch a file kept by another provider")
    part.refuse("file_url", "files are carried as PDF in file_data")
    part.drop("detail")
    if data is None:
        report.refuse(path, "files are carried as PDF in file_data")
        return None
    found = _DATA_URL.match(data)
    if found is None or found["type"] != _PDF:
        report.refuse(path, f"files are carried as data URLs of the type {_PDF}")
        return None
    return File(data=data[found.end() :], name=name, path=path, cache=cache)


def file_url_of(file: File) -> str:
    """Return a PDF as a data URL."""
    return f"data:{_PDF};base64,{file.data}"


def shortened_user(user: str) -> str:
    """Return who the request is made for as OpenAI takes it: by its hash where it is long."""
    return user if len(user) <= _LONGEST_USER else hashed(user)


def hashed(user: str) -> str:
    """Return who a request is made for by a name that says nothing else of them, the same each time."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


class Turns:
    """Turns in the making: some dialects tell one of them item by item, thousands at times."""

    __slots__ = ("_last", "_whole")

    def __init__(self) -> None:
        """Begin before anything was said."""
        self._whole: list[Turn] = []
        self._last: tuple[Role, list[Part], str] | None = None

    def __bool__(self) -> bool:
        """Tell whether anything was said."""
        return self._last is not None

    def add(self, role: Role, parts: Iterable[Part], path: str) -> None:
        """Add a turn."""
        self._end()
        self._last = role, list(parts), path

    def join(self, role: Role, part: Part, path: str) -> None:
        """Add a part to the last turn, where it is of the same role; else a turn that begins with it."""
        if self._last is not None and self._last[0] == role:
            self._last[1].append(part)
        else:
            self.add(role, [part], path)

    def close(self) -> tuple[Turn, ...]:
        """Return the turns; nothing is added behind the last one."""
        self._end()
        return tuple(self._whole)

    def _end(self) -> None:
        if self._last is not None:
            role, parts, path = self._last
            self._whole.append(Turn(role=role, parts=tuple(parts), path=path))


def index_of_running_turn(turns: Iterable[Turn]) -> int:
    """Return where the turn in the making begins: behind the last thing a user said that was no tool's result."""
    begins = 0
    for index, turn in enumerate(turns):
        if turn.role == "user":
            begins = index + 1
    return begins


def may_carry(item: Reasoning, *, to_anthropic: bool, is_running: bool, report: Report) -> bool:
    """Return whether reasoning goes to an upstream; what cannot is refused, or left out where its turn is over.

    Upstreams need reasoning while a turn runs, that is between a tool's call and the answer to its result; of
    finished turns it is a help at most, and Anthropic's own service leaves it out for several models. Words that
    nobody signed it cannot take, and many a chat client sends back nothing but the words of what it signed.
    """
    is_unsigned = item.signature is None and item.redacted is None
    if to_anthropic:
        is_readable = item.signer == "anthropic"
        why = "reasoning that comes from another provider cannot be given to the upstream"
    else:
        if item.signer == "openai":
            return True
        is_readable = is_running and bool(item.text)
        why = "only the provider that wrote it can read this reasoning"
        if is_readable and item.signature:
            report.drop(f"{item.path}.signature")
    if is_readable:
        return True
    if is_running and not (to_anthropic and is_unsigned):
        report.seal(item.path, why)
    else:
        report.drop(item.path)
    return False
