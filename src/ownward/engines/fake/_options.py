"""What the fake upstream shall do: answers, pace and faults, as values that read and print as flags."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ownward.core import UsageError

UsageMode = Literal["honest", "always", "missing", "wrong", "late", "running"]
CutEnd = Literal["close", "reset"]
GarbageKind = Literal["json", "sse"]
ToolMode = Literal["never", "offered", "until-results"]
TokenRule = Literal["words", "bytes"]

T = TypeVar("T")

_HTTP_STATUS_FIRST = 400
_HTTP_STATUS_LAST = 599
_MAX_PORT = 65535
_MOST_KEPT = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Often:
    """Which calls a fault strikes: the first `first`, a seeded `fraction`, or (both None) every one."""

    first: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        """Refuse a negative count and a share outside 0 to 1."""
        if self.first is not None and self.first < 0:
            raise ValueError(f"a count of {self.first}")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"a share of {self.fraction}")

    @classmethod
    def parse(cls, text: str) -> Often:
        """Return the meaning of `3` (the first three), `0.1` (a tenth) or nothing (all).

        Raises: ValueError.

        >>> Often.parse("3"), Often.parse("0.1")
        (Often(first=3, fraction=None), Often(first=None, fraction=0.1))
        """
        if not text:
            return cls()
        try:
            return cls(first=int(text))
        except ValueError:
            return cls(fraction=float(text))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.first is not None:
            return str(self.first)
        return "" if self.fraction is None else repr(float(self.fraction))


ALWAYS = Often()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error answer in place of a result; the call is charged nothing."""

    status: int
    often: Often = ALWAYS

    def __post_init__(self) -> None:
        """Refuse what is no error status."""
        if not _HTTP_STATUS_FIRST <= self.status <= _HTTP_STATUS_LAST:
            raise ValueError(f"status {self.status}")

    @classmethod
    def parse(cls, text: str) -> Failure:
        """Return the meaning of `429:3`, `500:0.1` or `503`.

        Raises: UsageError.

        >>> Failure.parse("429:3").often.first
        3
        """
        status, _, often = text.partition(":")
        allowed = "write STATUS, STATUS:COUNT or STATUS:SHARE, such as 429:3 or 500:0.1"
        return _checked("fail", text, allowed, lambda: cls(status=int(status), often=Often.parse(often)))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.status}:{self.often}".rstrip(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A pause: before the first byte of the answer (`after_tokens` None) or after so many tokens of a stream."""

    after_tokens: int | None
    seconds: float
    often: Often = ALWAYS

    def __post_init__(self) -> None:
        """Refuse what lies before the start or never ends."""
        if not 0 <= self.seconds < math.inf or (self.after_tokens or 0) < 0:
            raise ValueError(f"{self.seconds} s after {self.after_tokens}")

    @classmethod
    def parse(cls, text: str) -> Stall:
        """Return the meaning of `first:30`, `5:30` or `5:30:0.1`.

        Raises: UsageError.

        >>> Stall.parse("first:30").after_tokens is None
        True
        """
        after, _, rest = text.partition(":")
        seconds, _, often = rest.partition(":")
        return _checked(
            "stall",
            text,
            "write WHEN:SECONDS[:COUNT or SHARE], WHEN being `first` or a number of tokens, such as first:30 or 5:30",
            lambda: cls(
                after_tokens=None if after == "first" else int(after),
                seconds=float(seconds),
                often=Often.parse(often),
            ),
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        after = "first" if self.after_tokens is None else self.after_tokens
        return f"{after}:{self.seconds}:{self.often}".rstrip(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The connection ends: before any answer (`after_chunks` None) or after so many events of a stream.

    A plain answer is cut in the middle of its body.
    """

    after_chunks: int | None
    end: CutEnd = "close"
    often: Often = ALWAYS

    def __post_init__(self) -> None:
        """Refuse a cut before the start."""
        if (self.after_chunks or 0) < 0:
            raise ValueError(f"after {self.after_chunks} events")

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Return the meaning of `5`, `first`, `5:reset` or `5:close:0.1`.

        Raises: UsageError.

        >>> Cut.parse("5:reset").end
        'reset'
        """
        after, _, rest = text.partition(":")
        end, _, often = rest.partition(":")
        return _checked(
            "cut",
            text,
            "write AFTER[:close or reset[:COUNT or SHARE]], AFTER being `first` or a number of events, such as 5:reset",
            lambda: cls(
                after_chunks=None if after == "first" else int(after),
                end=_cut_end(end),
                often=Often.parse(often),
            ),
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        after = "first" if self.after_chunks is None else self.after_chunks
        return f"{after}:{self.end}:{self.often}".rstrip(":")


def _cut_end(text: str) -> CutEnd:
    match text:
        case "" | "close":
            return "close"
        case "reset":
            return "reset"
        case _:
            raise ValueError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """Status 200 with a body that is not what it claims: no JSON, or a stream that is no event stream."""

    kind: GarbageKind
    often: Often = ALWAYS

    @classmethod
    def parse(cls, text: str) -> Garbage:
        """Return the meaning of `json`, `sse` or `json:2`.

        Raises: UsageError.

        >>> Garbage.parse("sse:0.5").often.fraction
        0.5
        """
        kind, _, often = text.partition(":")
        return _checked(
            "garbage",
            text,
            "write json or sse, and after a colon a COUNT or SHARE, such as json:2",
            lambda: cls(kind=_garbage_kind(kind), often=Often.parse(often)),
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.kind}:{self.often}".rstrip(":")


def _garbage_kind(text: str) -> GarbageKind:
    match text:
        case "json":
            return "json"
        case "sse":
            return "sse"
        case _:
            raise ValueError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLength:
    """How many tokens an answer wants to have; a request's own limit still cuts it.

    `fixed` is `low` tokens; `max` is the request's limit (`low` where it states none);
    `uniform` is `low` to `high`; `lognormal` has the median `low` and the sigma `sigma`.
    """

    kind: Literal["fixed", "max", "uniform", "lognormal"]
    low: int
    high: int = 0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        """Refuse lengths below one token."""
        if self.low < 1 or (self.kind == "uniform" and self.high < self.low) or self.sigma < 0:
            raise ValueError(f"{self.kind} of {self.low}, {self.high}, {self.sigma}")

    @classmethod
    def parse(cls, text: str) -> OutputLength:
        """Return the meaning of `16`, `max`, `8-64` or `lognormal:200:0.8`.

        Raises: UsageError.

        >>> OutputLength.parse("8-64").high
        64
        """
        return _checked(
            "output-tokens",
            text,
            "write a number, max, LOW-HIGH or lognormal:MEDIAN:SIGMA, such as 16 or 8-64",
            lambda: cls._parse(text),
        )

    @classmethod
    def _parse(cls, text: str) -> OutputLength:
        if text == "max":
            return cls(kind="max", low=256)
        if text.startswith("lognormal:"):
            _, median, sigma = text.split(":")
            return cls(kind="lognormal", low=int(median), sigma=float(sigma))
        if "-" in text:
            low, high = text.split("-")
            return cls(kind="uniform", low=int(low), high=int(high))
        return cls(kind="fixed", low=int(text))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        match self.kind:
            case "fixed":
                return str(self.low)
            case "max":
                return "max"
            case "uniform":
                return f"{self.low}-{self.high}"
            case "lognormal":
                return f"lognormal:{self.low}:{self.sigma}"


def _checked(flag: str, text: str, allowed: str, build: Callable[[], T]) -> T:
    try:
        return build()
    except ValueError as error:
        raise UsageError(f"--{flag} is {text!r}, which has no meaning", allowed=allowed) from error


def _flag(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeOptions:
    """Everything the fake upstream can be told; every field is a flag of `ownward engines run fake`."""

    host: str = field(default="127.0.0.1", metadata=_flag("address to listen on"))
    port: int = field(default=0, metadata=_flag("port to listen on; 0 takes a free one and prints it"))
    models: tuple[str, ...] = field(
        default=("fake-model",), metadata=_flag("a model it lists; any model is answered (repeatable)", flag="model")
    )
    ttft_s: float = field(default=0.0, metadata=_flag("seconds from the whole request to the first token", flag="ttft"))
    tpot_s: float = field(default=0.0, metadata=_flag("seconds from one token to the next", flag="tpot"))
    output_tokens: OutputLength = field(
        default=OutputLength(kind="fixed", low=16),
        metadata=_flag("tokens of an answer: 16, max, 8-64, lognormal:200:0.8", parse=OutputLength.parse),
    )
    reply: str | None = field(
        default=None, metadata=_flag("answer with this text, one token a word, in place of --output-tokens", parse=str)
    )
    chunk_tokens: int = field(default=1, metadata=_flag("tokens in one event of a stream"))
    split_bytes: int | None = field(
        default=None, metadata=_flag("write streams in pieces of so many bytes, whatever they tear apart", parse=int)
    )
    seed: int = field(default=0, metadata=_flag("seed of every share and length"))
    failures: tuple[Failure, ...] = field(
        default=(),
        metadata=_flag(
            "error answers: 429:3 the first three, 500:0.1 a tenth (repeatable)", flag="fail", parse=Failure.parse
        ),
    )
    retry_after_s: float | None = field(
        default=None, metadata=_flag("Retry-After seconds of a 429 or 503", flag="retry-after", parse=float)
    )
    stalls: tuple[Stall, ...] = field(
        default=(),
        metadata=_flag(
            "pauses: first:30 before any byte, 5:30 after five tokens (repeatable)", flag="stall", parse=Stall.parse
        ),
    )
    cuts: tuple[Cut, ...] = field(
        default=(),
        metadata=_flag(
            "broken answers: 5 closes after five events, 5:reset, first (repeatable)", flag="cut", parse=Cut.parse
        ),
    )
    garbage: tuple[Garbage, ...] = field(
        default=(),
        metadata=_flag(
            "answers that are not JSON or not an event stream: json, sse:0.1 (repeatable)", parse=Garbage.parse
        ),
    )
    usage: UsageMode = field(
        default="honest",
        metadata=_flag(
            "token counts: honest (in a stream only if asked), always, missing, wrong, late (after [DONE]), running"
            " (in every event)",
            choices=("honest", "always", "missing", "wrong", "late", "running"),
        ),
    )
    input_token_rule: TokenRule = field(
        default="words",
        metadata=_flag(
            "count input as whitespace words, or as one token in four bytes",
            flag="input-tokens",
            choices=("words", "bytes"),
        ),
    )
    overhead_tokens: int = field(default=4, metadata=_flag("input tokens added to the words of each request"))
    cached_fraction: float = field(default=0.0, metadata=_flag("share of the input that is reported as cached"))
    tool_calls: ToolMode = field(
        default="never",
        metadata=_flag(
            "offered calls the first tool that a request offers; until-results calls all of them, and answers in words"
            " once a request ends with their results",
            choices=("never", "offered", "until-results"),
        ),
    )
    thinking: str | None = field(
        default=None,
        metadata=_flag(
            "think this before an answer to chat or messages; messages carry it signed, and are refused where they"
            " come back without it while a tool runs",
            parse=str,
        ),
    )
    api_key: str | None = field(default=None, metadata=_flag("refuse requests without this key (401)", parse=str))
    max_concurrency: int | None = field(
        default=None, metadata=_flag("answer 429 while so many calls are being served", parse=int)
    )
    kept_requests: int = field(default=1000, metadata=_flag("requests kept for GET /requests, newest last"))
    kept_calls: int = field(default=100_000, metadata=_flag("calls kept one by one for GET /count"))
    count_file: Path | None = field(
        default=None, metadata=_flag("append each call's acceptance and end here, before it is answered", parse=Path)
    )
    ready_file: Path | None = field(
        default=None, metadata=_flag("write the real address here once listening", parse=Path)
    )
    exit_with_parent: bool = field(default=False, metadata=_flag("leave when standard input closes"))

    def __post_init__(self) -> None:
        """Refuse values that have no meaning.

        Raises: UsageError.
        """
        faults = [
            (not 0 <= self.port <= _MAX_PORT, "port", self.port, "a port is 0 to 65535"),
            (not 0 <= self.ttft_s < math.inf, "ttft", self.ttft_s, "seconds, not negative"),
            (not 0 <= self.tpot_s < math.inf, "tpot", self.tpot_s, "seconds, not negative"),
            (self.chunk_tokens < 1, "chunk-tokens", self.chunk_tokens, "at least 1"),
            (self.split_bytes is not None and self.split_bytes < 1, "split-bytes", self.split_bytes, "at least 1"),
            (not 0 <= self.cached_fraction <= 1, "cached-fraction", self.cached_fraction, "a share from 0 to 1"),
            (self.overhead_tokens < 0, "overhead-tokens", self.overhead_tokens, "at least 0"),
            (not 0 <= self.kept_requests <= _MOST_KEPT, "kept-requests", self.kept_requests, f"0 to {_MOST_KEPT:,}"),
            (not 0 <= self.kept_calls <= _MOST_KEPT, "kept-calls", self.kept_calls, f"0 to {_MOST_KEPT:,}"),
        ]
        for is_wrong, flag, value, allowed in faults:
            if is_wrong:
                raise UsageError(f"--{flag} is {value}", allowed=allowed)
