"""One line of `ownward predict --cases` as a case: every field read as what it is, or refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ownward.cli._lookup import find_anatomy, find_machines
from ownward.core import BadInput, OwnwardError, UnknownMachine

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.perf import Case, NamedMachine

# A load of "max" or "peak over 1..1024": as many at once on each device as fill it.
_SATURATED: Final = 1024
_MOST_TOKENS: Final = 10**9
_MOST_DEVICES: Final = 100_000
_LONGEST_TEXT: Final = 4_000
_NO: Final = frozenset({"", "0", "false", "no", "none"})
_YES: Final = frozenset({"1", "true", "yes"})


def parse_case(line: bytes, where: str) -> Mapping[str, Any]:
    """Return the object of a line.

    Raises: BadInput, where it is not a JSON object with an id.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where=where) from error
    if not isinstance(row, dict) or row.get("id") is None:
        raise BadInput("a case is an object with an id", where=where)
    return row


def read_case(row: Mapping[str, Any], where: str, anatomies: dict[str, Anatomy | OwnwardError]) -> Case:
    """Return the case that an object states; `anatomies` keeps what was read of models for the next lines.

    Fields that are null or left out are what `ownward.perf.Case` takes for them.
    Raises: BadInput, UnknownMachine and whatever reading a model raises.
    """
    from ownward.perf import Case, usual_input_tokens

    unknown = sorted(row.keys() - _KNOWN)
    if unknown:
        raise BadInput(f"unknown field {unknown[0]!r}", where=where, allowed=f"Known: {', '.join(sorted(_KNOWN))}")
    given = {
        name: reader(row[name], name, where)
        for name, reader in _READERS.items()
        if row.get(name) is not None and row[name] != ""
    }
    machine, nodes = _nodes(row.get("machine"))
    located, count = _locate(machine, where)
    given.setdefault("nodes", nodes)
    given.setdefault("machines_count", count * given["nodes"] if nodes > 1 else count)
    if row.get("network") not in (None, ""):
        from ownward.perf import read_network

        each = max(given["machines_count"] // max(given["nodes"], 1), 1)
        given["network"] = read_network(_text_or_number(row["network"], where), devices_per_node=each)
    anatomy = _anatomy(row.get("model"), where, anatomies)
    given = _load(row.get("concurrency"), given["machines_count"], anatomy, where) | given
    given.setdefault("input_tokens", usual_input_tokens(str(given.get("metric", ""))))
    return Case(
        id=str(row["id"]),
        anatomy=anatomy,
        machine=located.machine,
        host_bytes_per_s=located.host_bytes_per_s,
        slow_host=located.slow_host,
        **given,
    )


def _anatomy(model: object, where: str, anatomies: dict[str, Anatomy | OwnwardError]) -> Anatomy:
    if not isinstance(model, str) or not 0 < len(model) <= _LONGEST_TEXT:
        raise BadInput(f"model is {_shown(model)}", where=where, allowed="a path or a catalogue name")
    if model not in anatomies:
        try:
            anatomies[model] = find_anatomy(model)
        except OwnwardError as error:
            anatomies[model] = error
    found = anatomies[model]
    if isinstance(found, OwnwardError):
        raise found
    return found


def _locate(given: object, where: str) -> tuple[NamedMachine, int]:
    """Return the machine of a case and how many; a text may be what people write beside a measurement."""
    from ownward import catalog
    from ownward.perf import NamedMachine, machine_named

    if isinstance(given, Mapping):
        return NamedMachine(machine=catalog.machine_from_mapping(given)), 1
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_TEXT:
        raise BadInput(
            f"machine is {_shown(given)}", where=where, allowed="a name, or an object with a machine's columns"
        )
    try:
        count, machine = find_machines(given)
    except UnknownMachine:
        return machine_named(given), 1
    return NamedMachine(machine=machine), count


def _nodes(given: object) -> tuple[object, int]:
    """Return the machine of one node, and how many nodes: `2x8x"H200"` are two of eight."""
    found = re.fullmatch(r"(\d{1,4})x(\d+x.+)", given.strip()) if isinstance(given, str) else None
    return (found[2], max(int(found[1]), 1)) if found else (given, 1)


def _text_or_number(given: object, where: str) -> str | float:
    number = _number(given)
    return _text(given, "network", where) if number is None else number


def _load(given: object, devices: int, anatomy: Anatomy, where: str) -> dict[str, Any]:
    """Return the load of a case: users at a time, arrivals a second, or as many as keep a scenario's limits."""
    from ownward.perf import usual_limits, usual_prompt_tokens

    if given is None or given == "":
        return {}
    if isinstance(given, str):
        rate = re.search(r"(\d+(?:\.\d+)?) ?req/s", given)
        if rate is not None and float(rate[1]) > 0:
            return {"arrivals_per_s": float(rate[1])}
        filling: dict[str, Any] = {"concurrency": _SATURATED * max(devices, 1)}
        scenario = re.search(r"server|interactive|max|offline", given, re.IGNORECASE)
        prompt = usual_prompt_tokens(anatomy) if scenario else None
        if prompt is not None:
            filling["input_tokens"] = prompt
        if scenario is not None and scenario[0].lower() in {"server", "interactive"}:
            return filling | {"limits": usual_limits(scenario[0].lower(), anatomy)}
        if scenario is not None or "peak" in given.lower():
            return filling | {"requests": 0}
    try:
        return {"concurrency": _whole(given, "concurrency", where)}
    except BadInput as error:
        error.allowed = "users at a time, `max`, `server`, `interactive`, or a rate such as `open-loop 4 req/s`"
        raise


def _whole(given: object, name: str, where: str, most: int = _MOST_TOKENS) -> int:
    """Return a count; a mean that is no whole number is rounded."""
    number = _number(given)
    if number is None or not 0 <= number <= most:
        raise BadInput(f"{name} is {_shown(given)}", where=where, allowed=f"a number from 0 to {most:,}")
    return round(number)


def _devices(given: object, name: str, where: str) -> int:
    return _whole(given, name, where, _MOST_DEVICES)


def _degree(given: object, name: str, where: str) -> int | None:
    """Return a degree of parallelism from 4, `4` or `TP4`; true is 1 and tells only that there is one."""
    if given is True:
        return 1
    digits = re.search(r"\d+", given) if isinstance(given, str) else None
    if isinstance(given, str) and digits is None:
        return 1 if _flag(given, name, where) else None
    return _devices(digits[0] if digits else given or 0, name, where) or None


def _degree_or_true(given: object, name: str, where: str) -> int | None:
    """Return a degree of parallelism, or True where only that there is one is told."""
    degree = _degree(given, name, where)
    return True if degree and (given is True or (isinstance(given, str) and not re.search(r"\d", given))) else degree


def _flag(given: object, name: str, where: str) -> bool:
    said = given.strip().lower() if isinstance(given, str) else str(int(given)) if given in (0, 1) else None
    if said in _NO:
        return False
    if said in _YES:
        return True
    raise BadInput(f"{name} is {_shown(given)}", where=where, allowed="true or false")


def _flag_or_text(given: object, name: str, where: str) -> bool | str:
    """Return whether there is something, or a text that says how, as `mtp-3` and `gpu_experts=30%` do."""
    if isinstance(given, str):
        said = given.strip().lower()
        if said in _NO:
            return False
        if any(letter.isdigit() or letter == ":" for letter in said) and len(said) > 1:
            return _text(given, name, where)
        return True
    return _flag(given, name, where)


def _text(given: object, name: str, where: str) -> str:
    if not isinstance(given, str) or len(given) > _LONGEST_TEXT:
        raise BadInput(f"{name} is {_shown(given)}", where=where, allowed=f"a text of at most {_LONGEST_TEXT} letters")
    return given


def _number(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 -- what fits in a line of an error


_READERS: Final[Mapping[str, Callable[[object, str, str], Any]]] = {
    "machines_count": _devices,
    "engine": _text,
    "weights": _text,
    "kv_type": _text,
    "tensor_parallel": _degree,
    "pipeline_parallel": _degree,
    "expert_parallel": _degree_or_true,
    "cpu_offload": _flag_or_text,
    "speculative": _flag_or_text,
    "input_tokens": _whole,
    "output_tokens": _whole,
    "context_depth": _whole,
    "metric": _text,
    "attention_data_parallel": _flag,
    "prompt_chunk_tokens": _whole,
    "requests": _whole,
    "unequal_lengths": _flag,
    "nodes": _devices,
    "prefill_replicas": _devices,
}
_KNOWN: Final = _READERS.keys() | {"id", "model", "machine", "concurrency", "network"}
