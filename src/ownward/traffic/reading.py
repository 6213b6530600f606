"""A file into records: the format found by content, bad rows listed, duplicates counted."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ownward.core import BadInput, UnknownName, closest
from ownward.traffic import _rows
from ownward.traffic._aggregates import AGGREGATES
from ownward.traffic._bailian import BAILIAN
from ownward.traffic._chat_logs import BATCH_INPUT, BATCH_OUTPUT, CHAT, LOGGED
from ownward.traffic._format import Container, Context, Converter, CountTokens, Format
from ownward.traffic._gateway_logs import (
    HELICONE,
    LANGFUSE,
    LANGSMITH,
    LITELLM,
    OPENROUTER,
    OPENROUTER_GENERATION,
    PORTKEY,
)
from ownward.traffic._rows import Row
from ownward.traffic._servegen import SERVEGEN
from ownward.traffic._sessions import CLAUDE_CODE, OTEL
from ownward.traffic._tables import AZURE, BURSTGPT, FLAT, GENERIC, MOONCAKE
from ownward.traffic._values import BadValue
from ownward.traffic.limits import Limits
from ownward.traffic.records import BadRow, TrafficRecord

# In order of trial: the particular before the general.
FORMATS: tuple[Format, ...] = (
    *AGGREGATES,
    CLAUDE_CODE,
    OTEL,
    LITELLM,
    LANGFUSE,
    LANGSMITH,
    HELICONE,
    PORTKEY,
    OPENROUTER,
    OPENROUTER_GENERATION,
    AZURE,
    BURSTGPT,
    BAILIAN,
    MOONCAKE,
    SERVEGEN,
    GENERIC,
    BATCH_OUTPUT,
    BATCH_INPUT,
    LOGGED,
    CHAT,
    FLAT,
)

_GZIP_MAGIC = b"\x1f\x8b"
_DETECT_ROWS = 64
_MAX_DEPTH = 64  # deeper rows are no request of anyone's
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What a file's first bytes say: the container (`csv`, `json` or `parquet`) and the format in it by name.

    The format is None for Parquet, whose column names stand at its end.
    """

    format: str | None
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCount:
    """What came of a reading: rows read into records, duplicates left out, bad rows with the first of them."""

    format: str
    read: int
    duplicates: int
    bad_total: int
    bad: tuple[BadRow, ...]


class Reading:
    """An iterator over the records of one file; its counts are complete once it is exhausted."""

    def __init__(self, rows: Iterable[Row | BadRow], converter: Converter, format_name: str, limits: Limits) -> None:
        """Read nothing yet."""
        self._rows = rows
        self._converter = converter
        self._format = format_name
        self._limits = limits
        self._bad: list[BadRow] = []
        self._bad_total = 0
        self._read = 0
        self._duplicates = 0
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[TrafficRecord]:
        """Yield the records in the file's order, each source id once."""
        line = 0
        for number, row in enumerate(self._rows):
            line = row.line
            if isinstance(row, BadRow):
                self._note(row)
                continue
            row.number = number
            try:
                records = list(self._converter.convert(row))
            except BadValue as error:
                self._note(BadRow(line=line, why=str(error)))
                continue
            except BadInput as error:
                self._note(BadRow(line=line, why=error.message))
                continue
            yield from self._first_seen(records)
        yield from self._first_seen(self._converter.finish())

    @property
    def count(self) -> ReadCount:
        """The counts so far."""
        return ReadCount(
            format=self._format,
            read=self._read,
            duplicates=self._duplicates + self._converter.repeats,
            bad_total=self._bad_total,
            bad=tuple(self._bad),
        )

    def _first_seen(self, records: Iterable[TrafficRecord]) -> Iterator[TrafficRecord]:
        for record in records:
            key = hash(record.source_row_id)
            if key in self._seen:
                self._duplicates += 1
                continue
            self._seen.add(key)
            self._read += 1
            if self._read > self._limits.max_rows:
                raise BadInput(f"the file has more than {self._limits.max_rows} requests", allowed="Limits.max_rows")
            yield record

    def _note(self, row: BadRow) -> None:
        self._bad_total += 1
        if len(self._bad) < self._limits.max_bad_kept:
            self._bad.append(row)


def detect(first_bytes: bytes, name: str = "") -> Detected:
    """Return the format and container of a file by its first bytes (plain, not compressed; a MiB is plenty).

    The name only serves messages. A row cut off by the end of the bytes still counts.
    Raises: BadInput, naming the formats read, where none is recognised, and with
    the reason, where an aggregated export is.
    """
    if first_bytes[:2] == _GZIP_MAGIC:
        raise BadInput(f"{name or 'the file'} is gzip", next_step="Give the first bytes of what it expands to")
    if first_bytes[:4] == _rows.PARQUET_MAGIC:
        return Detected(format=None, container="parquet")
    head = first_bytes.removeprefix(b"\xef\xbb\xbf").lstrip()
    container: Container = "json" if head[:1] in {b"{", b"["} else "csv"
    samples = _json_samples(head) if container == "json" else _csv_samples(head)
    return Detected(format=_recognise(samples, container, name).name, container=container)


def read(
    stream: BinaryIO,
    *,
    name: str = "",
    format: str | None = None,  # noqa: A002 - the word users know
    limits: Limits | None = None,
    count_tokens: CountTokens | None = None,
    lengths: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Reading:
    """Return the reading of an open binary stream, plain or gzip; the stream need not seek and stays open.

    `count_tokens` counts the text of rows that tell no usage; without it such
    counts are a quarter of the characters and marked `estimated`. `lengths` and
    `seed` are for ServeGen's statistics, whose requests are drawn.
    Raises: BadInput, as `detect` does; UnknownName, for a format that we do not read;
    MissingExtra, for Parquet without pyarrow.
    """
    bounds = limits or Limits()
    source = _rows.plain(stream, bounds)
    head = source.peek(_HEAD_BYTES)
    if not head.strip():
        raise BadInput("the file is empty", where=name or None)
    found = detect(head, name) if format is None else Detected(format=format, container=_container(head))
    rows: Iterator[Row | BadRow]
    match found.container:
        case "csv":
            rows = _rows.csv_rows(source, bounds)
        case "json":
            rows = _rows.json_rows(source, bounds)
        case "parquet":
            records = _rows.read_parquet(source, bounds, name=name)
            rows = (Row(line, fields) for line, fields in enumerate(records, start=1))
    if found.format is None:
        first = next(rows, None)
        samples = [first.fields] if isinstance(first, Row) else []
        chosen = _recognise(samples, "json", name)
        rows = itertools.chain([first] if first else [], rows)
    else:
        chosen = find_format(found.format)
    if chosen.refusal or chosen.start is None:
        raise BadInput(f"this is {chosen.title}: {chosen.refusal}", where=name or None)
    return Reading(rows, chosen.start(Context(count_tokens, lengths=lengths, seed=seed)), chosen.name, bounds)


def find_format(name: str) -> Format:
    """Return the format of that name.

    Raises: UnknownName, with the closest.
    """
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise UnknownName(name, [known.name for known in FORMATS], what="import format")


def _container(head: bytes) -> str:
    if head[:4] == _rows.PARQUET_MAGIC:
        return "parquet"
    return "json" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["} else "csv"


def _recognise(samples: Sequence[Mapping[str, Any]], container: Container, name: str) -> Format:
    for candidate in FORMATS:
        if container in candidate.containers and any(candidate.recognises(sample) for sample in samples):
            if candidate.refusal:
                raise BadInput(f"this is {candidate.title}: {candidate.refusal}", where=name or None)
            return candidate
    raise _unrecognised(name, samples)


def _csv_samples(head: bytes) -> list[Mapping[str, Any]]:
    text = head.decode(errors="replace")
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=_rows.delimiter(text.partition("\n")[0])), [])
    except csv.Error:
        return []
    return [{name.strip(): "" for name in names}]


def _json_samples(head: bytes) -> list[Mapping[str, Any]]:
    text = head.decode(errors="ignore")
    samples: list[Any] = []
    if text.startswith("["):
        whole = _parse_cut_off(text)
        samples = whole if isinstance(whole, list) else []
    else:
        first = _parse_cut_off(text) if "\n" not in text or text.partition("\n")[0].strip() == "{" else None
        samples = [first] if first is not None else [_parse_cut_off(one) for one in text.split("\n", _DETECT_ROWS)]
    found = [sample for sample in samples[:_DETECT_ROWS] if isinstance(sample, dict)]
    return found + [one for sample in found for one in (_rows.members(sample) or [])[:_DETECT_ROWS]]


def _parse_cut_off(text: str) -> Any:
    """Return the JSON value of a text that may be cut off: up to its last complete member, then closed."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    closers: list[str] = []
    safe, safe_closers = 0, ""
    in_string = is_escaped = False
    for position, character in enumerate(text):
        if in_string:
            in_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
            if len(closers) > _MAX_DEPTH:
                break
            safe, safe_closers = position + 1, "".join(reversed(closers))
        elif character in "}]":
            if not closers or closers.pop() != character:
                break
            if not closers:
                safe, safe_closers = position + 1, ""
                break
        elif character == ",":
            safe, safe_closers = position, "".join(reversed(closers))
    try:
        return json.loads(text[:safe] + safe_closers)
    except (ValueError, RecursionError):
        return None


def _unrecognised(name: str, samples: Sequence[Mapping[str, Any]]) -> BadInput:
    seen = sorted({str(key) for sample in samples for key in sample})[:12]
    near = closest(" ".join(seen), [known.name for known in FORMATS])
    listed = "; ".join(f"{known.name}: {known.title}" for known in FORMATS if not known.refusal)
    shown = f"its fields are {', '.join(repr(key) for key in seen)}" if seen else "it is not CSV, JSON or Parquet"
    return BadInput(
        f"the format is not one that we know: {shown}",
        where=name or None,
        allowed=f"We read {listed}",
        next_step=f"{f'Name it with --format {near[0]}, or write' if near else 'Write'} one row per request (CSV,"
        " JSON Lines) with started_at, input_tokens, output_tokens and, where known, cached_input_tokens, model,"
        " workload, charge_usd",
    )
