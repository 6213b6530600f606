"""A stream into rows: lines, CSV records and JSON objects, one at a time and within limits."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ownward.core import BadInput, MissingExtra, format_bytes
from ownward.traffic.limits import Limits
from ownward.traffic.records import BadRow

_CHUNK_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 1 << 18  # what a format is told by
PARQUET_MAGIC = b"PAR1"
_GZIP_MAGIC = b"\x1f\x8b"
_WINDOW_BITS_GZIP = 31
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_OTHER_MAGICS = (
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"\xfd7zXZ\x00", "xz", "xz -d"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"PK\x03\x04", "zip", "unzip"),
)
_PAGE_FIELDS = frozenset(
    {
        *("data", "object", "meta", "total", "error", "count", "links", "pagination"),
        *("has_more", "first_id", "last_id", "next_page", "next", "cursor"),
        *("page", "page_size", "total_pages", "limit", "offset"),
    }
)
_DELIMITERS = ",;\t|"  # in order of trial


@dataclass(slots=True)
class Row:
    """One record of a file by field name, with its line (from 1) and, once the reading has counted it, its number."""

    line: int
    fields: Mapping[str, Any] = field(repr=False)
    number: int = -1

    def compute_digest(self) -> str:
        """Return `row-` and a short hash of the line number and the fields, for rows that have no id."""
        told = json.dumps([self.line, self.fields], sort_keys=True, default=str)
        return f"row-{hashlib.sha256(told.encode(errors='replace')).hexdigest()[:24]}"


class _GzipStream(io.RawIOBase):
    """The plain bytes of a gzip stream of one or more members, up to a limit."""

    def __init__(self, stream: BinaryIO, head: bytes, limit_bytes: int) -> None:
        super().__init__()
        self._stream = stream
        self._pending = head
        self._left = limit_bytes
        self._expander = zlib.decompressobj(_WINDOW_BITS_GZIP)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._expander.eof:  # perhaps another member; zeros are padding
                self._pending = self._expander.unused_data.lstrip(b"\0")
                if not self._pending and not self._refill():
                    return 0
                self._expander = zlib.decompressobj(_WINDOW_BITS_GZIP)
            try:
                plain = self._expander.decompress(self._pending, len(buffer))
            except zlib.error as error:
                raise BadInput(f"the gzip stream is damaged ({error})") from None
            self._pending = self._expander.unconsumed_tail
            if plain:
                break
            if not self._expander.eof and not self._pending and not self._refill():
                raise BadInput("the gzip stream ends before it is complete")
        self._left -= len(plain)
        if self._left < 0:
            raise BadInput("the file expands to more bytes than the limit", allowed="Limits.max_expanded_bytes says so")
        buffer[: len(plain)] = plain
        return len(plain)

    def _refill(self) -> bool:
        self._pending = self._stream.read(_CHUNK_BYTES)
        return bool(self._pending)


class _Utf8Stream(io.RawIOBase):
    """The bytes of a UTF-16 stream as UTF-8; what is no UTF-16 becomes replacement signs."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            data = self._stream.read(_CHUNK_BYTES)
            self._pending = memoryview(self._decoder.decode(data, final=not data).encode(errors="replace"))
            if not data:
                break
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the stream they came from."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        super().__init__()
        self._head = memoryview(head)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            size = min(len(buffer), len(self._head))
            buffer[:size] = self._head[:size]
            self._head = self._head[size:]
            return size
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def plain(stream: BinaryIO, limits: Limits) -> io.BufferedReader:
    """Return the stream with gzip expanded and UTF-16 as UTF-8, where its first bytes say so; it need not seek.

    Raises: BadInput, where they say that it is compressed in another way.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    for magic, name, command in _OTHER_MAGICS:
        if head.startswith(magic):
            raise BadInput(
                f"the file is compressed with {name}", allowed="Plain, or gzip", next_step=f"Expand it: {command}"
            )
    raw = _GzipStream(stream, head, limits.max_expanded_bytes) if head[:2] == _GZIP_MAGIC else _Joined(head, stream)
    found: io.BufferedReader = io.BufferedReader(raw, buffer_size=_BUFFER_BYTES)
    if found.peek(2)[:2] in _UTF16_BOMS:
        return io.BufferedReader(_Utf8Stream(found), buffer_size=_BUFFER_BYTES)
    return found


def delimiter(header: str) -> str:
    """Return what separates the names of a CSV header: a comma, else the semicolon, tab or bar that does."""
    return next((sign for sign in _DELIMITERS if sign in header), ",")


def lines(stream: BinaryIO, limits: Limits) -> Iterator[tuple[int, str] | BadRow]:
    """Yield each line with its number; too long a line, or one that is not UTF-8, is a bad row."""
    line = 0
    while raw := stream.readline(limits.max_line_bytes + 1):
        line += 1
        if len(raw) > limits.max_line_bytes:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(_CHUNK_BYTES)
            yield BadRow(line=line, why=f"the line is longer than {format_bytes(limits.max_line_bytes)}")
            continue
        if line == 1:
            raw = raw.removeprefix(_BOM)
        try:
            yield line, raw.decode()
        except UnicodeDecodeError:
            yield BadRow(line=line, why="the line is not UTF-8")


def csv_rows(stream: io.BufferedReader, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield one row a CSV record by the names in the first one; a quoted field may span lines."""
    bad: list[BadRow] = []
    at = 0

    def feed() -> Iterator[str]:
        nonlocal at
        for found in lines(stream, limits):
            if isinstance(found, BadRow):
                bad.append(found)
            else:
                at = found[0]
                yield found[1]

    # The csv module has one limit a process; it is only ever raised, so that no other reader is cut short.
    csv.field_size_limit(max(csv.field_size_limit(), limits.max_line_bytes))
    header = stream.peek(_HEAD_BYTES).partition(b"\n")[0].decode(errors="replace")
    records = csv.reader(feed(), delimiter=delimiter(header))
    names: list[str] | None = None
    start = 1
    while True:
        try:
            record = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            yield BadRow(line=start, why=f"not a CSV record ({error})")
            start = at + 1
            continue
        yield from bad
        bad.clear()
        line, start = start, at + 1
        if not record:
            continue
        if names is None:
            names = [name.strip() for name in record]
        elif len(record) != len(names):
            yield BadRow(line=at, why=f"{len(record)} fields where the header has {len(names)}")
        else:
            yield Row(max(line, 1), dict(zip(names, record, strict=True)))
    yield from bad


def json_rows(reader: io.BufferedReader, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield one row a JSON object: of JSON Lines, of an array, or of the list in a `{"data": [...]}` document."""
    head = reader.peek(64).removeprefix(_BOM).lstrip()
    if head[:1] == b"[" or _is_document(reader):
        yield from _document_rows(reader, limits)
        return
    for found in lines(reader, limits):
        if isinstance(found, BadRow):
            yield found
        elif found[1].strip():
            yield from _objects(*found)


def read_parquet(stream: BinaryIO, limits: Limits | None = None, *, name: str = "") -> Iterator[Mapping[str, Any]]:
    """Yield the records of a Parquet file by column.

    Raises: MissingExtra, where pyarrow is not installed; BadInput, where the file is damaged or too large.
    """
    try:
        from pyarrow import ArrowInvalid, parquet  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise MissingExtra(needed_for="reading Parquet", package="pyarrow", extra="parquet") from None
    most_bytes, where = (limits or Limits()).max_document_bytes, name or None
    whole = io.BytesIO(stream.read(most_bytes + 1))  # Parquet is read from its end
    if whole.getbuffer().nbytes > most_bytes:
        raise BadInput(f"the Parquet file is larger than {format_bytes(most_bytes)}", where=where)
    try:
        for batch in parquet.ParquetFile(whole).iter_batches(batch_size=8192):
            yield from batch.to_pylist()
    except ArrowInvalid as error:
        raise BadInput(f"the Parquet file cannot be read ({error})", where=where) from None


def members(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the records of a page as APIs answer it, `{"data": [...]}`; None for a record, which has other fields."""
    data = value.get("data")
    is_page = isinstance(data, list) and value.keys() <= _PAGE_FIELDS and all(isinstance(one, dict) for one in data)
    return data if is_page else None


def _objects(line: int, found: str) -> Iterator[Row | BadRow]:
    try:
        value = json.loads(found)
    except (ValueError, RecursionError) as error:
        yield BadRow(line=line, why=f"not JSON ({_reason(error)})")
        return
    if not isinstance(value, dict):
        yield BadRow(line=line, why=f"a {type(value).__name__}, not an object")
        return
    page = members(value)
    yield from (Row(line, value),) if page is None else (Row(line, one) for one in page)


def _is_document(reader: io.BufferedReader) -> bool:
    # one pretty-printed object has nothing but its brace on line one; a compact one is a line like any other
    first, newline, _ = reader.peek(4096).removeprefix(_BOM).lstrip().partition(b"\n")
    return bool(newline) and first.strip() == b"{"


def _document_rows(reader: io.BufferedReader, limits: Limits) -> Iterator[Row | BadRow]:
    raw = reader.read(limits.max_document_bytes + 1)
    if len(raw) > limits.max_document_bytes:
        raise BadInput(
            f"the JSON document is larger than {format_bytes(limits.max_document_bytes)}",
            next_step="Write it as JSON Lines, one record per line, which is read in a stream",
        )
    try:
        value = json.loads(raw.removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the file is not one JSON document ({_reason(error)})") from None
    if isinstance(value, dict):
        page = members(value)
        value = [value] if page is None else page
    for index, item in enumerate(value, start=1):
        if isinstance(item, dict):
            yield Row(index, item)
        else:
            yield BadRow(line=index, why=f"a {type(item).__name__}, not an object")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
