"""The fake's options as flags of a command line: the table, reading and writing."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ownward.core import UsageError
from ownward.engines.fake._options import FakeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeFlag:
    """One flag: the field of `FakeOptions` it sets, its name, and how its text becomes a value."""

    field: str
    flag: str
    help: str
    parse: Callable[[str], Any] | None  # None: a switch without a value
    is_repeatable: bool
    choices: tuple[str, ...] | None
    default: Any


def _build_flag(entry: dataclasses.Field[Any]) -> FakeFlag:
    about = entry.metadata
    default = entry.default
    is_repeatable = isinstance(default, tuple)
    parse: Callable[[str], Any] | None = about.get("parse")
    if parse is None and not isinstance(default, bool):
        parse = str if is_repeatable or default is None else type(default)
    name = about.get("flag", entry.name.replace("_", "-"))
    return FakeFlag(
        field=entry.name,
        flag=f"--{name}",
        help=about["help"],
        parse=parse,
        is_repeatable=is_repeatable,
        choices=about.get("choices"),
        default=default,
    )


FAKE_FLAGS: tuple[FakeFlag, ...] = tuple(_build_flag(entry) for entry in dataclasses.fields(FakeOptions))


def _metavar(flag: FakeFlag) -> str | None:
    if flag.choices is not None:
        return None
    if flag.field.endswith("_s"):
        return "SECONDS"
    named: dict[object, str] = {int: "N", float: "SHARE", str: "TEXT", Path: "FILE"}
    return named.get(flag.parse, "WHAT")


def _shown(default: object) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next_step="See every flag with: ownward engines run fake --help")


def parse_fake_arguments(arguments: Sequence[str]) -> FakeOptions:
    """Return the options that a command line means.

    Raises: UsageError.

    >>> parse_fake_arguments(["--fail", "429:3", "--ttft", "0.2"]).ttft_s
    0.2
    """
    parser = _Parser(prog="ownward engines run fake", allow_abbrev=False, description="A fake upstream for tests.")
    for flag in FAKE_FLAGS:
        text = (
            flag.help if flag.parse is None or not str(flag.default or "") else f"{flag.help} [{_shown(flag.default)}]"
        )
        extra: dict[str, Any] = {"dest": flag.field, "help": text, "default": argparse.SUPPRESS}
        if flag.parse is None:
            extra["action"] = "store_true"
        else:
            extra |= {"type": flag.parse, "choices": flag.choices, "metavar": _metavar(flag)}
            extra["action"] = "append" if flag.is_repeatable else "store"
        parser.add_argument(flag.flag, **extra)
    given: dict[str, Any] = vars(parser.parse_args(list(arguments)))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return FakeOptions(**values)


def write_fake_arguments(options: FakeOptions) -> list[str]:
    """Return the command line that means `options`; what is left at its default is left out."""
    arguments: list[str] = []
    for flag in FAKE_FLAGS:
        value = getattr(options, flag.field)
        if value == flag.default:
            continue
        if flag.parse is None:
            arguments.append(flag.flag)
        else:
            for item in value if flag.is_repeatable else (value,):
                arguments.append(f"{flag.flag}={item}")  # noqa: PERF401 - two loops read better than one comprehension
    return arguments
