"""What every command shares: the --json switch, dates, files, and where text and progress go."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar

import click

from ownward.core import BadInput, UsageError, parse_duration, to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

F = TypeVar("F", bound=Callable[..., Any])

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LARGEST_SMALL_BYTES = 1 << 20
_EXAMPLE_COLUMNS = 74
_WORDS = re.compile(r"--\S+ (?!-)(?:'[^']*'|\S+)|'[^']*'|\S+")  # a flag together with its value

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object (see the reference).")
json_lines_option = click.option("--json", "as_json", is_flag=True, help="Print JSON Lines (see the reference).")
ledger_option = click.option(
    "--ledger", "ledger_target", metavar="PATH", help="The ledger: a file, or a postgresql:// address. [config]"
)
last_option = click.option("--last", default=None, metavar="DURATION", help="Only requests of the last 30m, 24h, 7d, …")
at_option = click.option(
    "--at", "at", metavar="DATE", callback=lambda _c, _p, value: parse_date(value), help="Prices and facts as of DATE."
)


def example(*commands: str) -> str:
    r"""Return the end of a help text: commands that can be copied, in lines that a shell reads as one.

    >>> example("ownward keys list")
    '\x08\nExample:\n  ownward keys list'
    """
    lines = ["\b\nExample:"]
    for command in commands:
        line = " "
        for word in _WORDS.findall(command):
            if len(line) + 1 + len(word) > _EXAMPLE_COLUMNS:
                lines.append(f"{line} \\")
                line = "   "
            line += f" {word}"
        lines.append(line)
    return "\n".join(lines)


def since_last(text: str) -> datetime:
    """Return the moment that lies as long ago as `text` (30m, 24h, 7d) says.

    Raises: UsageError.
    """
    try:
        return datetime.now(UTC) - timedelta(seconds=abs(parse_duration(text)))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--last: {error}", allowed="30m, 24h, 7d") from None


def parse_date(text: str | None) -> date | None:
    """Return the date that `text` (YYYY-MM-DD) names, or None for None.

    Raises: UsageError.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--at is {text!r}, not a date", allowed="Write it as 2026-11-21") from error


def today(at: date | None) -> date:
    """Return `at`, or the current UTC date where none is given."""
    return at if at is not None else datetime.now(UTC).date()


def console() -> Console:
    """Return the console of standard output: plain and 80 columns wide where that is no terminal."""
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=False)
    if out.width < 1:  # COLUMNS=0, as where nobody knows: it would print nothing
        out.width = 80
    return out


def emit(payload: dict[str, Any], *, as_json: bool, render: Callable[[dict[str, Any]], RenderableType | str]) -> None:
    """Print `payload` as JSON, or what `render` makes of it for people."""
    if as_json:
        print(to_json(payload))
    else:
        console().print(render(payload))


def say(message: str) -> None:
    """Print a line for people on standard error, where progress and messages go; what cannot be read stops nothing."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(label: str, *, total: float | None, unit: str = "bytes") -> Iterator[Callable[[float], None]]:
    """Show progress on standard error and yield a function that takes the amount done so far."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    amount: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(label, total=total)

        def advance(done: float) -> None:
            bar.update(task, completed=done)

        yield advance


@contextlib.contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a file (gzip unpacked, `-` for standard input) as bytes.

    Raises: BadInput, if it cannot be read.
    """
    if path == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as opened:
        with _telling_why(path):
            raw = opened.enter_context(Path(path).open("rb"))
            is_gzip = raw.peek(2)[:2] == b"\x1f\x8b"  # a pipe, as of `<(zcat log.gz)`, cannot be read again
        yield io.BufferedReader(_Unpacked(path, raw)) if is_gzip else raw


@contextlib.contextmanager
def _telling_why(path: str) -> Iterator[None]:
    """Turn what the system or the format says against reading a file into an error that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"cannot read {path!r}: {reason}", next_step="Check the path and its permissions") from error


class _Unpacked(io.RawIOBase):
    """A gzip file's content; a broken file is an error that names it, at the read that comes upon it."""

    def __init__(self, path: str, packed: BinaryIO) -> None:
        self._path = path
        self._content = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        with _telling_why(self._path):
            return self._content.readinto(buffer)


@contextlib.contextmanager
def open_text_input(path: str) -> Iterator[TextIO]:
    """Open a file as UTF-8 text, as `open_input` does; bytes that are none are shown as replacement signs.

    Raises: BadInput, if it cannot be read.
    """
    with open_input(path) as raw, as_text(raw) as text:
        yield text


@contextlib.contextmanager
def as_text(raw: BinaryIO) -> Iterator[TextIO]:
    """Read bytes as UTF-8 text; bytes that are none are shown as replacement signs."""
    text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace")
    try:
        yield text
    finally:
        text.detach()


def read_small_text(path: Path, *, what: str, next_step: str = "Check the path and its permissions") -> str:
    """Return the text of a file that people write by hand; `what` it should be, with its article.

    Raises: BadInput, if it cannot be read, is no UTF-8 text, or larger than 1 MiB.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST_SMALL_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read {str(path)!r}: {error.strerror}", next_step=next_step) from error
    if len(raw) > _LARGEST_SMALL_BYTES:
        raise BadInput(f"{str(path)!r} is larger than 1 MiB", allowed=f"{what} is a small text file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{str(path)!r} is not UTF-8 text: byte {error.start}", allowed=what) from error


def write_whole(path: Path, text: str | Iterable[str]) -> None:
    """Write `text`, or its parts as they come, to `path`, as `writing_whole` does.

    Raises: BadInput, if it cannot be written.
    """
    with writing_whole(path) as stream:
        stream.writelines((text,) if isinstance(text, str) else text)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[TextIO]:
    """Open `path` so that a reader sees the old file or the new one, never half; after an error it is the old one.

    A link stays one, and what is no file (/dev/null, a pipe) stays what it is: it is written as the text comes.
    Raises: BadInput, if it cannot be written.
    """
    part = None
    try:
        part = _part_of(path)
        with (part or path).open("w", encoding="utf-8") as stream:
            yield stream
        if part is not None:
            part.replace(path.resolve())
    except BaseException as error:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def writable_file(_context: click.Context, _parameter: click.Parameter, stated: str | None) -> str | None:
    """Return the file that an option names, once it is known that it can be written: no work is done for nothing.

    Raises: BadInput.
    """
    if stated is not None:
        require_writable(Path(stated))
    return stated


def require_writable(path: Path) -> None:
    """Raise BadInput, if `writing_whole` would for this path."""
    try:
        part = _part_of(path)
        if part is not None and not part.exists():
            part.touch()
            part.unlink()
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise _unwritable(path, error) from error


def _part_of(path: Path) -> Path | None:
    """Return where a file is written until it is whole; None for what is no file."""
    if not path.is_file() and path.exists():
        return None
    target = path.resolve()
    return target.with_name(f".{target.name}.part")


def _unwritable(path: Path, error: OSError) -> BadInput:
    return BadInput(
        f"cannot write {str(path)!r}: {error.strerror}",
        next_step="Free some space, or name another place"
        if error.errno in _DISK_FULL
        else "Check the path: its folder has to exist, and you have to be allowed to write there",
    )
