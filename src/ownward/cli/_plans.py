"""Plan files: read with limits, and written anew without losing what stood in them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ownward.cli._output import read_small_text, say, write_whole

if TYPE_CHECKING:
    from ownward.plan import Plan


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises: ConfigError, with every fault and its line; BadInput, if it cannot be read.
    """
    from ownward import plan

    text = read_small_text(path, what="A plan", next_step="Write one with: ownward plan --out plan.toml")
    return plan.loads(text, file=str(path))


def read_previous(path: Path) -> str | None:
    """Return the text of the plan that is to be written over; None where there is none.

    Raises: ConfigError, with its faults under its own name; BadInput, if it cannot be read.
    """
    from ownward import plan

    text = read_small_text(path, what="A plan") if path.is_file() else None
    if text is not None and text.strip():
        plan.loads(text, file=str(path))
    return text


def replace_plan(path: Path, text: str, *, previous: str) -> None:
    """Write a plan; name what stood in the previous one and does not any more, and keep that beside it."""
    if lost := find_lost_keys(previous, text):
        kept = path.with_name(f"{path.name}.before")
        write_whole(kept, previous)
        say(f"no longer in {path} as it was: {', '.join(lost)}; write again what you need of it, from {kept}")
    write_whole(path, text)
    say(f"wrote {path}")


# What `ownward plan` works out anew each time; and what it can only guess, so that another value is a loss.
_WORKED_OUT = frozenset({"figures", "price", "loaded_price", "created_at"})
_OF_THE_USER = frozenset({"url", "api_key_env", "label"})


def find_lost_keys(before: str, after: str) -> list[str]:
    r"""Return the keys of the plan's text `before` that are gone in `after`, and addresses and labels that changed.

    >>> find_lost_keys("[tiers.a]\nurl = 'x'\n[tiers.b]\nk = 1", "[tiers.a]\nurl = 'y'")
    ['tiers.a.url', 'tiers.b']
    """
    return list(_lost(tomllib.loads(before), tomllib.loads(after), ""))


def _lost(before: object, after: object, place: str) -> Iterator[str]:
    name = place.rpartition(".")[2]
    if name in _WORKED_OUT:
        return
    if isinstance(before, dict):
        for key, value in before.items():
            inner = f"{place}.{key}" if place else str(key)
            if isinstance(after, dict) and key in after:
                yield from _lost(value, after[key], inner)
            elif key not in _WORKED_OUT:
                yield inner
    elif isinstance(before, list) and isinstance(after, list) and any(isinstance(item, dict) for item in before):
        for index, item in enumerate(before):
            yield from _lost(item, after[index] if index < len(after) else None, f"{place}[{index}]")
    elif name in _OF_THE_USER and before != after:
        yield place
