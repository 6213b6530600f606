"""Changes written into a plan's file so that a person's comments, order and spelling survive.

Values are compared as plans, not as text: `"30s"` stays where the plan says 30
seconds. The result is read back, so that a change that did not take is noticed.
"""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence
from typing import Any, TypeGuard

from ownward.core import ConfigError
from ownward.plan._lines import comments_of
from ownward.plan._plan import Plan
from ownward.plan._read import loads
from ownward.plan._write import Table, as_table, write_entries, write_value

# A second pass states what the file left to a default that has changed with the first.
_MAX_PASSES = 3


def rewrite(plan: Plan, previous_text: str, new_text: str) -> str:
    """Return `previous_text` with what differs from `plan` changed.

    Where the file's form does not let a change be made in place, return
    `new_text` with the old comments kept below it.
    Raises: ConfigError, if `previous_text` is no plan.
    """
    before = loads(previous_text)
    if before == plan:
        return previous_text
    text = previous_text.removeprefix("\ufeff").replace("\r\n", "\n")
    for _ in range(_MAX_PASSES):
        try:
            text = _change(text, as_table(before), as_table(plan))
            before = loads(text)
        except ConfigError:
            break
        if before == plan:
            break
    changed = text if before == plan else _with_comments(new_text, previous_text)
    return changed.replace("\n", "\r\n") if "\r\n" in previous_text else changed


def _with_comments(new_text: str, previous_text: str) -> str:
    comments = [comment for comment in comments_of(previous_text) if comment not in new_text]
    if not comments:
        return new_text
    lines = ["", "# Comments of the file before, which could not be kept in their places:", *comments]
    return new_text + "\n".join(lines) + "\n"


def _change(text: str, before: Table, after: Table) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    document = tomlkit.parse(text)
    try:
        _change_table(document, before, after, ())
        return document.as_string()
    except (TOMLKitError, KeyError, ValueError, IndexError, AttributeError, TypeError):
        return text  # tomlkit stumbles over some valid orders of tables; the caller sees that nothing changed


def _change_table(target: MutableMapping[str, Any], before: Table, after: Table, path: tuple[str, ...]) -> None:
    """Bring `target` from `before` to `after`; keys that it leaves to their defaults stay unwritten."""
    names = {_folded(path, key): key for key in target}
    for key in before:
        if key not in after and _folded(path, key) in names:
            del target[names[_folded(path, key)]]
    for key, value in after.items():
        written = names.get(_folded(path, key))
        if written is None:
            if before.get(key) != value:
                target[key] = _item(key, value, (*path, key))
            continue
        old = before.get(key)
        if old == value and type(old) is type(value):
            continue
        current = target[written]
        if isinstance(value, dict) and isinstance(old, dict) and isinstance(current, MutableMapping):
            _change_table(current, old, value, (*path, key))
        elif _is_table_list(value) and _is_table_list(old) and isinstance(current, MutableSequence):
            _change_list(current, old, value, (*path, key))
        else:
            target[written] = _item(key, value, (*path, key))


def _change_list(target: MutableSequence[Any], before: list[Table], after: list[Table], path: tuple[str, ...]) -> None:
    """Bring an array of tables from `before` to `after`, taking entries of one name for the same entry."""
    mark = "name" if path[-1] == "upstreams" else "above_input_tokens"
    wanted = [entry[mark] for entry in after]
    for index in range(len(before) - 1, -1, -1):
        if before[index][mark] not in wanted:
            del target[index]
    kept = [entry for entry in before if entry[mark] in wanted]
    if [entry[mark] for entry in kept] != wanted[: len(kept)]:
        message = "the order has changed"
        raise ValueError(message)
    for index, entry in enumerate(after):
        if index < len(kept):
            _change_table(target[index], kept[index], entry, path)
        else:
            target.append(_entry(entry, path, is_inline=not hasattr(target, "body")))


def _is_table_list(value: object) -> TypeGuard[list[Table]]:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _folded(path: tuple[str, ...], key: str) -> str:
    return key.lower() if path[-1:] == ("headers",) else key


def _item(key: str, value: Any, path: tuple[str, ...]) -> Any:
    """Return one value as tomlkit's own, in the spelling of a new file."""
    import tomlkit

    if isinstance(value, dict | list):
        holder: Any = tomlkit.parse("".join(write_entries({key: value}, path[:-1])))
        for part in path:
            holder = holder[part]
        return holder
    return tomlkit.value(write_value(value))


def _entry(entry: Table, path: tuple[str, ...], *, is_inline: bool) -> Any:
    import tomlkit

    if is_inline:
        return tomlkit.value(write_value(entry))
    holder: Any = tomlkit.parse("".join(write_entries({path[-1]: [entry]}, path[:-1])))
    for part in path:
        holder = holder[part]
    return holder[0]
