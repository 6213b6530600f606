"""Reading data files of facts: every value with basis, source and day, every fault with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args

from ownward.core import Basis, ConfigError, Fault, Sourced, closest

T = TypeVar("T")

_PROVENANCE = ("basis", "source", "checked_on", "note")
_BASES = get_args(Basis)


class FactFile:
    """One TOML file of `[[kind]]` tables and the faults found in it.

    A fact is `key = value`, with basis, source and checked_on from its table or
    from the file's `[defaults]`, or `key = { value = …, basis = …, source = …,
    checked_on = …, note = … }`, each part replacing the inherited one.
    """

    def __init__(self, text: str, *, file: str, kinds: Iterable[str]) -> None:
        """Parse `text`; `kinds` are the tables that may stand in it.

        Raises: ConfigError, if it is not TOML.
        """
        import tomllib

        self.file = file
        self.faults: list[Fault] = []
        self._lines = text.splitlines()
        try:
            self._data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            fault = Fault(file=file, line=int(line[1]) if line else None, message=f"is not TOML: {error}")
            raise ConfigError([fault]) from error
        defaults = self._data.get("defaults", {})
        self.defaults: dict[str, Any] = defaults if isinstance(defaults, dict) else {}
        if defaults is not self.defaults:
            self.add_fault("defaults is not a table", line=self._line_of("defaults"), allowed="Write [defaults]")
        known = ("defaults", *kinds)
        for key in self._data:
            if key not in known:
                near = closest(key, known)
                self.add_fault(
                    f"[[{key}]] is not a table of the catalogue",
                    line=self._line_of(rf"\[\[?\s*{re.escape(key)}\b|{re.escape(key)}\s*="),
                    allowed=f"Closest: {near[0]!r}" if near else f"One of {', '.join(known)}",
                )

    def tables(self, kind: str) -> list[FactTable]:
        """Return the `[[kind]]` tables in the order written."""
        found = self._data.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
            line = self._line_of(rf"\[?\s*{re.escape(kind)}\b")
            self.add_fault(f"{kind} is not a list of tables", allowed=f"Write [[{kind}]] for each", line=line)
            return []
        return [FactTable(self, kind, index, table) for index, table in enumerate(found)]

    def add_fault(self, message: str, *, line: int | None, key: str | None = None, allowed: str | None = None) -> None:
        """Keep a fault for `check`."""
        self.faults.append(Fault(file=self.file, line=line, key=key, message=message, allowed=allowed))

    def check(self) -> None:
        """Raise ConfigError with all faults, if there are any."""
        if self.faults:
            raise ConfigError(self.faults, next_step="The format stands in docs/reference/catalog.md")

    def line_of_key(self, kind: str, index: int, key: str | None) -> int | None:
        """Return where `key` of the `index`-th `[[kind]]` table stands, or the table's own line."""
        header = re.compile(rf"\s*\[\[\s*{re.escape(kind)}\s*\]\]")
        starts = [number for number, line in enumerate(self._lines, start=1) if header.match(line)]
        if index >= len(starts):
            return None
        if key is None:
            return starts[index]
        wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        for number in range(starts[index] + 1, len(self._lines) + 1):
            line = self._lines[number - 1]
            if wanted.match(line):
                return number
            if re.match(r"\s*\[\[", line):
                break
        return starts[index]

    def _line_of(self, pattern: str) -> int | None:
        wanted = re.compile(rf"\s*(?:{pattern})")
        return next((number for number, line in enumerate(self._lines, start=1) if wanted.match(line)), None)


class FactTable:
    """One table: typed access that notes what was asked for, so that unknown keys can be named."""

    def __init__(self, file: FactFile, kind: str, index: int, data: Mapping[str, Any]) -> None:
        """Keep the table and what it inherits."""
        self._file = file
        self._kind = kind
        self._index = index
        self._data = data
        self._asked: set[str] = set(_PROVENANCE)
        self._inherited = {part: data.get(part, file.defaults.get(part)) for part in _PROVENANCE[:3]}

    def fact(self, key: str, convert: Callable[[Any], T]) -> Sourced[T] | None:
        """Return the fact under `key`, None where it is not stated, and note a fault where it lacks its source."""
        self._asked.add(key)
        if key not in self._data:
            return None
        return self._sourced(key, self._data[key], convert)

    def need_fact(self, key: str, convert: Callable[[Any], T], otherwise: T) -> Sourced[T]:
        """Return the fact under `key`; a fault, and `otherwise` in its place, where it is not stated."""
        found = self.fact(key, convert)
        if found is None:
            if key not in self._data:
                self.fault(key, "is not stated", allowed="Every one needs it")
            return Sourced(value=otherwise, basis="assumed", source="a fault", checked_on=date(1970, 1, 1))
        return found

    def text(self, key: str, default: str = "") -> str:
        """Return plain text that is a name and no fact."""
        self._asked.add(key)
        value = self._data.get(key, default)
        if not isinstance(value, str):
            self.fault(key, f"is {value!r}", allowed="A text")
            return default
        return value

    def need_text(self, key: str) -> str:
        """Return plain text, and note a fault where it is missing or empty."""
        value = self.text(key)
        if not value.strip():
            self.fault(key, "is not stated", allowed=f"Every [[{self._kind}]] needs it")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of names."""
        self._asked.add(key)
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(key, f"is {value!r}", allowed='A list of texts, such as ["one", "two"]')
            return ()
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Return a yes or no, no where it is not stated."""
        self._asked.add(key)
        value = self._data.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, f"is {value!r}", allowed="true or false")
            return False
        return value

    def raw(self, key: str) -> Any:
        """Return what stands under `key`, None where nothing does."""
        self._asked.add(key)
        return self._data.get(key)

    def fault(self, key: str | None, message: str, *, allowed: str | None = None) -> None:
        """Note a fault of this table at the line of `key`."""
        line = self._file.line_of_key(self._kind, self._index, key)
        self._file.add_fault(message, line=line, key=self._path(key), allowed=allowed)

    def close(self) -> None:
        """Note a fault for every key that was never asked for."""
        for key in self._data:
            if key not in self._asked:
                near = closest(key, sorted(self._asked))
                known = f"Closest: {near[0]!r}" if near else f"Known: {', '.join(sorted(self._asked))}"
                self.fault(key, "is not a key here", allowed=known)

    def provenance(self) -> tuple[Basis, str, date] | None:
        """Return the table's own basis, source and day, or None with a fault where one is missing."""
        return self._checked(None, self._inherited)

    def _path(self, key: str | None) -> str:
        name = self._data.get("id") or self._data.get("name")
        at = f"{self._kind}[{name!r}]" if isinstance(name, str) else f"{self._kind}[{self._index}]"
        return at if key is None else f"{at}.{key}"

    def _sourced(self, key: str, stated: Any, convert: Callable[[Any], T]) -> Sourced[T] | None:
        parts, value, note = self._inherited, stated, ""
        if isinstance(stated, dict):
            unknown = set(stated) - {"value", *_PROVENANCE}
            if unknown or "value" not in stated:
                self.fault(key, f"has the parts {sorted(stated)}", allowed=f"value, {', '.join(_PROVENANCE)}")
                return None
            parts = {part: stated.get(part, inherited) for part, inherited in self._inherited.items()}
            value, note = stated["value"], str(stated.get("note", ""))
        where_from = self._checked(key, parts)
        if where_from is None:
            return None
        try:
            converted = convert(value)
        except (TypeError, ValueError, ArithmeticError) as error:
            self.fault(key, f"is {value!r}", allowed=str(error) or None)
            return None
        basis, source, checked_on = where_from
        return Sourced(value=converted, basis=basis, source=source, checked_on=checked_on, note=note)

    def _checked(self, key: str | None, parts: Mapping[str, Any]) -> tuple[Basis, str, date] | None:
        basis, source, checked_on = parts["basis"], parts["source"], parts["checked_on"]
        missing = [
            part
            for part, is_right in (
                ("basis", basis in _BASES),
                ("source", isinstance(source, str) and bool(source.strip())),
                ("checked_on", type(checked_on) is date),
            )
            if not is_right
        ]
        if missing:
            self.fault(
                key,
                f"has no valid {' and no valid '.join(missing)}",
                allowed=f"A fact needs basis ({', '.join(_BASES)}), source (a text) and checked_on (a date), "
                "with it, in its table or in [defaults]",
            )
            return None
        return basis, source, checked_on


def as_positive(value: Any) -> float:
    """Return a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("A number above 0")
    return float(value)


def as_count(value: Any) -> int:
    """Return a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("A whole number above 0")
    return value


def as_text(value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("A text that is not empty")
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError("A list of texts")
    return tuple(value)


def as_money(value: Any) -> Decimal:
    """Return an amount of 0 or more, exact: from a decimal text, an integer, or a float as it is spelled."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('An amount such as "0.15" or 0.15')  # noqa: TRY004 - the caller turns it into a fault
    amount = Decimal(str(value))
    if not amount.is_finite() or amount < 0:
        raise ValueError("An amount of 0 or more")
    return amount


def toml_files(paths: Iterable[Path]) -> list[Path]:
    """Return the TOML files that `paths` (files, or folders searched one level deep) stand for, sorted in each."""
    found: list[Path] = []
    for path in paths:
        found.extend(sorted(path.glob("*.toml")) if path.is_dir() else [path])
    return found
