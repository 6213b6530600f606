"""`ownward predict`: many cases in, one prediction a line out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._output import json_option, open_input
from ownward.cli._subjects import find_anatomy, machine_of_case
from ownward.core import BadInput, OwnwardError, to_json

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.perf import Located

_KNOWN = frozenset(
    {"id", "model", "machine", "machines_count", "engine", "weights", "kv_type", "tensor_parallel", "pipeline_parallel",
     "expert_parallel", "cpu_offload", "speculative", "concurrency", "input_tokens", "output_tokens", "context_depth",
     "metric", "attention_data_parallel", "prompt_chunk_tokens"}
)  # fmt: skip
_WHOLE = ("prompt_chunk_tokens", "machines_count", "input_tokens", "output_tokens", "context_depth")
_DEGREES = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
# A load of "max", "server" or "peak over 1..1024": as many at once on each device as fill it.
_SATURATED = 1024


@click.command(epilog="Example: ownward predict --cases cases.jsonl --json")
@click.option("--cases", required=True, metavar="FILE", help="JSON Lines, one case a line; - for standard input.")
@json_option
def predict(*, cases: str, as_json: bool) -> None:
    """Predict a metric for each case, with an 80% band, or say why not.

    Every case gets a line: one that cannot be answered has its reason in `refused`.
    """
    anatomies: dict[str, Anatomy | OwnwardError] = {}
    with open_input(cases) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = _answer(line, f"{cases}:{number}", anatomies)
            if as_json:
                print(to_json(row))
            else:
                print(f"{row['id']}: {row['refused'] or _told(row)}")


def _told(row: dict[str, Any]) -> str:
    """Return a prediction with its band in the unit that its metric is measured in."""
    unit = "ms" if row["class"].partition("/")[0].endswith("_ms") else "tok/s"
    return f"{row['value']:.4g} {unit} ({row['low80']:.4g} to {row['high80']:.4g})"


def _answer(line: bytes, where: str, anatomies: dict[str, Anatomy | OwnwardError]) -> dict[str, Any]:
    from ownward.perf import Case, usual_input_tokens
    from ownward.perf import predict as predict_case

    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where=where) from error
    if not isinstance(row, dict) or "id" not in row:
        raise BadInput("a case is an object with an id", where=where)
    unknown = sorted(row.keys() - _KNOWN)
    name = str(row["id"])
    try:
        if unknown:
            raise BadInput(f"unknown field {unknown[0]!r}", where=where, allowed=", ".join(sorted(_KNOWN)))
        given = {
            key: value for key, value in row.items() if value is not None and key not in {"model", "machine", "id"}
        }
        for key in _WHOLE:
            if key in given:
                given[key] = int(given[key])
        for key in _DEGREES:
            if key in given:
                given[key] = _degree(given[key])
        if "attention_data_parallel" in given:
            given["attention_data_parallel"] = _is_set(given["attention_data_parallel"])
        for key in ("cpu_offload", "speculative"):
            if key in given:
                given[key] = given[key] if _says_how(given[key]) else _is_set(given[key])
        given.update(_load(given.pop("concurrency", None), given.get("machines_count", 1)))
        given.setdefault("input_tokens", usual_input_tokens(str(given.get("metric", ""))))
        located = _locate(row.get("machine"), where)
        case = Case(
            id=name,
            anatomy=_anatomy(row.get("model"), where, anatomies),
            machine=located.machine,
            host_bytes_per_s=located.host_bytes_per_s,
            **given,
        )
        prediction = predict_case(case)
    except OwnwardError as error:
        return _refusal(name, str(error))
    except (TypeError, ValueError) as error:
        return _refusal(name, f"a field has the wrong type: {error}")
    return {
        "schema": "ownward.prediction/1",
        "id": name,
        "value": prediction.value,
        "low80": prediction.low80,
        "high80": prediction.high80,
        "basis": prediction.basis,
        "class": prediction.class_,
        "memory_bytes": prediction.memory_bytes,
        "fits": prediction.fits,
        "refused": prediction.refused,
    }


def _anatomy(model: object, where: str, anatomies: dict[str, Anatomy | OwnwardError]) -> Anatomy:
    if not isinstance(model, str):
        raise BadInput(f"model is {model!r}", where=where, allowed="a path or a catalogue name")
    if model not in anatomies:
        try:
            anatomies[model] = find_anatomy(model)
        except OwnwardError as error:
            anatomies[model] = error
    found = anatomies[model]
    if isinstance(found, OwnwardError):
        raise found
    return found


def _locate(given: object, where: str) -> Located:
    """Return the machine of a case; a text may be what people write beside a measurement.

    Raises: UnknownMachine, BadInput.
    """
    from ownward.core import UnknownMachine
    from ownward.perf import Located, locate

    try:
        return Located(machine=machine_of_case(given, where))
    except UnknownMachine:
        if not isinstance(given, str):
            raise
        return locate(given)


def _load(given: object, devices: int) -> dict[str, Any]:
    """Return the load of a case: users at a time, or arrivals a second."""
    if given is None or given == "":
        return {}
    text = str(given)
    rate = re.search(r"(\d+(?:\.\d+)?) ?req/s", text)
    if rate is not None:
        return {"arrivals_per_s": float(rate[1])}
    if re.search(r"max|server|peak|offline", text, re.IGNORECASE):
        return {"concurrency": _SATURATED * max(devices, 1)}
    return {"concurrency": int(float(text))}


def _degree(given: object) -> int | None:
    digits = re.search(r"\d+", str(given))
    degree = int(digits[0]) if digits else int(_is_set(given))
    return degree or None


def _says_how(given: object) -> bool:
    return isinstance(given, str) and any(letter.isdigit() or letter == ":" for letter in given) and len(given) > 1


def _is_set(value: object) -> bool:
    return value not in (False, 0, "", "0", "false", "no", "none", "None")


def _refusal(name: str, reason: str) -> dict[str, Any]:
    return {
        "schema": "ownward.prediction/1", "id": name, "value": None, "low80": None, "high80": None, "basis": None,
        "class": "refused", "memory_bytes": None, "fits": None, "refused": reason,
    }  # fmt: skip
