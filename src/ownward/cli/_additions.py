"""Writing facts of the user's own into the catalogue folder: checked first, and written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

import click

from ownward.cli._lookup import catalog_folder
from ownward.cli._output import say, write_whole
from ownward.core import BadInput, Basis, UsageError

F = TypeVar("F", bound=Callable[..., Any])


class _Keyed(Protocol):
    def get(self, key: str, /) -> Any: ...


_HEAD = "# Written by `ownward {command}`. Edit it as you like: docs/how-to/add-your-own-machine-model-price.md\n"


def fact_options(command: F) -> F:
    """Add what every stated fact needs: its basis, its source, the day it was checked; and --replace."""
    options = (
        click.option("--basis", required=True, type=click.Choice(get_args(Basis)), help="What the figures rest on."),
        click.option("--source", required=True, help="Where they are from: a page, a receipt, your own benchmark."),
        click.option(
            "--checked-on",
            required=True,
            metavar="DATE",
            callback=lambda _c, _p, value: parse_day("--checked-on", value),
            help="The day you checked them, such as 2026-11-21.",
        ),
        click.option("--replace", is_flag=True, help="Replace what you added before under the same name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def parse_day(flag: str, text: str | None) -> date | None:
    """Return the day that the value of `flag` names, None for None.

    Raises: UsageError.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{flag} is {text!r}, not a date", allowed="Write it as 2026-11-21") from error


def slug_of(*words: str | None) -> str:
    """Return words as an id and part of a file name.

    >>> slug_of("My 3090, capped", None)
    'my-3090-capped'
    """
    joined = "-".join(word for word in words if word)
    return re.sub(r"[^a-z0-9.]+", "-", joined.lower().replace("+", " plus ")).strip("-.")


def add_table(
    kind: str,
    name: str,
    table: Mapping[str, Any],
    *,
    identify: Callable[[_Keyed], object],
    check: Callable[[str, Path], object],
    replace: bool,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write one `[[kind]]` table to a file of its own in the catalogue folder and return the path.

    `identify` returns what tells a table of this kind from another; `check` gets the text and the path before
    anything is written and raises what is wrong with it; `beside` are further files by path below the folder.
    Raises: BadInput, if the name is taken; ConfigError, for a fault in it or in a file that is there already.
    """
    if not name:
        raise UsageError(
            "the name has no letter or digit to make an id from", allowed="a to z, 0 to 9, and others besides"
        )
    folder = catalog_folder()
    path = folder / f"{kind}-{name}.toml"
    stated = {key: value for key, value in table.items() if value is not None and value != ()}
    text = _text_of(kind, stated)
    try:
        contents = {folder / relative: content.decode("utf-8") for relative, content in (beside or {}).items()}
        text.encode("utf-8")
    except UnicodeError as error:
        raise BadInput(f"what is to be written cannot be encoded as UTF-8: {error}") from error
    check(text, path)
    _refuse_taken(kind, identify, identify(stated), path, replace=replace)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, content in contents.items():
            is_new = not target.exists()
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, content)
            written += [target] if is_new else []
        write_whole(path, text)
    except (OSError, BadInput) as error:
        for target in written:
            target.unlink(missing_ok=True)
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    say(f"written, and checked: {path}")
    return path


def _text_of(kind: str, stated: Mapping[str, Any]) -> str:
    import tomlkit

    document = tomlkit.document()
    rows = tomlkit.aot()
    row = tomlkit.table()
    for key, value in stated.items():
        row.add(key, list(value) if isinstance(value, tuple) else value)
    rows.append(row)
    document.add(kind, rows)
    return _HEAD.format(command=f"{kind}s add") + tomlkit.dumps(document)


def _refuse_taken(
    kind: str, identify: Callable[[_Keyed], object], wanted: object, path: Path, *, replace: bool
) -> None:
    for other in sorted(path.parent.glob("*.toml")):
        if wanted in _identities(kind, identify, other) and other != path:
            raise BadInput(
                f"the same {kind} is already in {str(other)!r}", next_step="Edit that file, or remove the entry from it"
            )
    if path.exists() and not replace:
        raise BadInput(f"{str(path)!r} already exists", next_step="Overwrite it with --replace, or give another name")


def _identities(kind: str, identify: Callable[[_Keyed], object], file: Path) -> list[object]:
    from ownward import catalog

    return catalog.read_tables([file], kind, lambda table, _folder: identify(_Raw(table)))


class _Raw:
    """A table read from a file, asked in the way of a mapping."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, key: str, /) -> Any:
        """Return what stands under a key, None for nothing."""
        return self._table.raw(key)
