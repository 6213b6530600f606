"""A TOML text read as tables that collect every fault with its line, instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar, cast

from ownward.core import ConfigError, Fault, OwnwardError, closest
from ownward.plan._problems import Problem, shown
from ownward.plan._values import WrongValue

MAX_FILE_BYTES: Final = 1 << 20
MAX_FAULTS: Final = 100

# Reading a key of n parts takes n² steps in tomllib, so that one long line could hold it for hours.
_PART = r"""(?:[^\s.#={},"']+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^[ \t]*\[*|[{{,])[ \t]*(?:{_PART}\.[ \t]*){{50}}", re.MULTILINE)

Path = tuple[str | int, ...]

_NOWHERE: Final[Mapping[str, str]] = {}

T = TypeVar("T")
D = TypeVar("D")


class FaultList:
    """The faults found in one text so far; knows the file's name and, once asked, the line of each key."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._text = text
        self._found: list[tuple[Path, str, str | None]] = []
        self._more = 0
        self._lines: dict[Path, int] | None = None

    def __len__(self) -> int:
        return len(self._found) + self._more

    @property
    def is_full(self) -> bool:
        """Whether so many faults are known that more would help nobody."""
        return len(self._found) >= MAX_FAULTS

    def add(self, path: Path, message: str, allowed: str | None = None) -> None:
        """Keep one fault of the key at `path`; of those beyond the first hundred, that there are more."""
        if self.is_full:
            self._more += 1
        else:
            self._found.append((path, message, allowed))

    def paths_since(self, count: int) -> tuple[Path, ...]:
        """Return the paths of the faults found after the first `count`."""
        return tuple(path for path, _, _ in self._found[count:])

    def list_faults(self) -> list[Fault]:
        """Return the faults in the order of their lines."""
        faults = [
            Fault(file=self.file, line=self.line_of(path), key=path_text(path), message=message, allowed=allowed)
            for path, message, allowed in dict.fromkeys(self._found)
        ]
        faults.sort(key=lambda fault: fault.line or 0)
        return [*faults, Fault(file=self.file, message="has more faults than these")] if self._more else faults

    def line_of(self, path: Path) -> int:
        """Return the line of the key, or of the nearest table around it where the key itself is missing."""
        if self._lines is None:
            from ownward.plan._lines import index_lines

            self._lines = index_lines(self._text)
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1

    def raise_if_any(self) -> None:
        """Raise ConfigError with all of them, or do nothing."""
        if self._found:
            raise ConfigError(self.list_faults())


def path_text(path: Path) -> str:
    """Return a path as it is written: `tiers.local.upstreams[0].url`.

    >>> path_text(("tiers", "gpt-4.1", "upstreams", 0, "url"))
    'tiers."gpt-4.1".upstreams[0].url'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part)
            text += f".{bare}" if text else bare
    return text


def parse_toml(text: str, *, file: str) -> TomlTable:
    """Return the text's top table. Numbers with a point are `Decimal`, exact as written.

    Raises: ConfigError with the line, for what is not TOML, is longer than 1 MiB or is nested past reading.
    """
    import tomllib

    text = text.removeprefix("\ufeff")
    if len(text) > MAX_FILE_BYTES or len(text.encode(errors="replace")) > MAX_FILE_BYTES:
        raise ConfigError([Fault(file=file, message=f"is longer than {MAX_FILE_BYTES} bytes, the most that is read")])
    long_key = _LONG_KEY.search(text)
    if long_key:
        line = text.count("\n", 0, long_key.start()) + 1
        raise ConfigError(
            [Fault(file=file, line=line, message="has a key of more than 50 parts, more than any key here")]
        )
    try:
        values = tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise ConfigError([Fault(file=file, message="is nested too deeply to be read")]) from None
    except (ValueError, InvalidOperation) as error:  # TOMLDecodeError is a ValueError, as is an overlong number
        raise ConfigError([_syntax_fault(str(error), file)]) from None
    return TomlTable(values, FaultList(file, text))


def read_toml_bytes(raw: bytes, *, file: str) -> str:
    """Return a file's bytes as text.

    Raises: ConfigError, if they are no UTF-8 or longer than 1 MiB.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([Fault(file=file, message=f"is longer than {MAX_FILE_BYTES} bytes, the most that is read")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = Fault(file=file, line=line, message=f"has the byte {raw[error.start]:#04x}, which is not UTF-8")
        raise ConfigError([fault]) from None


def _syntax_fault(message: str, file: str) -> Fault:
    place = re.search(r"\s*\(at line (\d+), column (\d+)\)$", message)
    if place is None:
        shape = " (at end of document)"
        return Fault(file=file, message=f"is not TOML: {message.removesuffix(shape)}", allowed="It ends too early")
    what = message[: place.start()]
    return Fault(file=file, line=int(place[1]), message=f"is not TOML: {what}, at column {place[2]}")


class TomlTable:
    """One table of a TOML text, read key by key; what is not asked for is unknown.

    A value that is missing or wrong is noted as a fault and reading goes on:
    what was returned for it must not be used, so make the object with `build`,
    which does nothing once this table has a fault.
    """

    def __init__(self, values: dict[str, Any], faults: FaultList, path: Path = ()) -> None:
        self.values = values
        self.faults = faults
        self.path = path
        self._asked: dict[str, None] = {}
        self._faults_before = len(faults)

    @property
    def is_sound(self) -> bool:
        """Whether no fault has been found since this table was opened."""
        return len(self.faults) == self._faults_before

    def has(self, key: str) -> bool:
        """Tell whether the key is written."""
        self._asked[key] = None
        return key in self.values

    def line_of(self, key: str) -> int | None:
        """Return the line where the key is written."""
        return self.faults.line_of((*self.path, key))

    def fault(self, key: str | int | None, message: str, allowed: str | None = None) -> None:
        """Note a fault of one of this table's keys, or of the table itself."""
        self.faults.add(self.path if key is None else (*self.path, key), message, allowed)

    def required(self, key: str, convert: Callable[[Any], T], *, example: str | None = None) -> T:
        """Return the converted value of a key that must be there."""
        if not self.has(key):
            self.fault(key, "is missing", f"Write {example}" if example else None)
            return cast("T", None)
        return self.optional(key, convert, cast("T", None))

    def optional(self, key: str, convert: Callable[[Any], T], default: D) -> T | D:
        """Return the converted value, or `default` where the key is not written."""
        if not self.has(key):
            return default
        try:
            return convert(self.values[key])
        except WrongValue as wrong:
            self.fault(key, str(wrong), wrong.allowed_for(key))
            return default

    def table(self, key: str) -> TomlTable | None:
        """Return the table under `key`; None where it is not written or is no table."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, dict):
            self.fault(key, f"is {shown(value)}, not a table", f"Write [{path_text((*self.path, key))}]")
            return None
        return TomlTable(value, self.faults, (*self.path, key))

    def named_tables(self, key: str) -> Iterator[tuple[str, TomlTable]]:
        """Yield the tables under `key` with their names."""
        outer = self.table(key)
        for name in outer.values if outer else ():
            inner = outer.table(name) if outer else None
            if inner is not None and not self.faults.is_full:
                yield name, inner

    def listed_tables(self, key: str) -> Iterator[TomlTable]:
        """Yield the tables of the array under `key`."""
        if not self.has(key):
            return
        entries = self.values[key]
        where = f"[[{path_text((*self.path, key))}]]"
        if not isinstance(entries, list):
            self.fault(key, f"is {shown(entries)}, not an array of tables", f"Write {where}")
            return
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield TomlTable(entry, self.faults, (*self.path, key, index))
            else:
                self.faults.add((*self.path, key, index), f"is {shown(entry)}, not a table", f"Write {where}")

    def finish(self, *, elsewhere: Mapping[str, str] = _NOWHERE) -> None:
        """Note every key that nobody asked for: where it stands, as `elsewhere` says, or the closest known one."""
        for key in self.values:
            if self.faults.is_full:
                return
            if key not in self._asked:
                if key in elsewhere:
                    self.fault(key, "is not a key of this table", f"Write it under {elsewhere[key]}")
                    continue
                near = closest(key, self._asked)
                names = near or sorted(self._asked)
                allowed = f"{'Closest' if near else 'Known'}: {', '.join(shown(name) for name in names)}"
                self.fault(key, "is not a known key", allowed)

    def build(self, make: Callable[[], T]) -> T | None:
        """Return `make()` where this table is sound; what it refuses becomes faults of this table's keys.

        A table with faults is made as well, for what else it refuses; what the
        known faults already explain is not told twice.
        """
        was_sound = self.is_sound
        known = self.faults.paths_since(self._faults_before)
        try:
            made = make()
        except ConfigError as error:
            self.add_problems((Problem(fault.key or "", fault.message, fault.allowed) for fault in error.faults), known)
        except OwnwardError as error:
            if was_sound:
                self.fault(None, error.message, error.allowed)
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:  # made from values that were refused
            if was_sound and not isinstance(error, ValueError):
                raise
            if was_sound:
                self.fault(None, str(error))
        else:
            return made if was_sound else None
        return None

    def add_problems(self, problems: Iterable[Problem], known: Iterable[Path] = ()) -> None:
        """Note problems whose keys are relative to this table, but none at, above or below a key in `known`."""
        explained = tuple(known)
        for key, message, allowed in problems:
            if self.faults.is_full:
                self.faults.add(self.path, message)
                return
            path = (*self.path, *_find_path(key, self.values))
            if not any(path[: len(other)] == other[: len(path)] for other in explained):
                self.faults.add(path, message, allowed)


def _find_path(key: str, values: Any) -> Path:
    """Return the path that `key` (`upstreams[0].url`, `headers.x-a.b`) means in `values`; names may hold dots."""
    if not key:
        return ()
    if isinstance(values, dict):
        for name in sorted(values, key=len, reverse=True):
            folded = key[: len(name)]
            if folded.lower() == name.lower() and (len(key) == len(name) or key[len(name)] in ".["):
                rest = key[len(name) :]
                return (name, *_find_path(rest.removeprefix("."), values[name]))
    indexed = re.match(r"\[(\d+)\]\.?", key)
    if indexed and isinstance(values, list) and int(indexed[1]) < len(values):
        index = int(indexed[1])
        return (index, *_find_path(key[indexed.end() :], values[index]))
    return (key,)
