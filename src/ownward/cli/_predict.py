"""`ownward predict`: many cases in, one prediction a line out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ownward.cli._cases import parse_case, read_case
from ownward.cli._output import example, json_lines_option, open_input
from ownward.core import OwnwardError, to_json

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy


@click.command(epilog=example("ownward predict --cases cases.jsonl --json"))
@click.option("--cases", required=True, metavar="FILE", help="JSON Lines, one case per line; - for standard input.")
@json_lines_option
def predict(*, cases: str, as_json: bool) -> None:
    """Predict a metric for each case, with an 80% band, or say why not.

    Every case gets a line. If it cannot be answered, `refused` has the reason; a line that is no case has no id.
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
                print(f"{'?' if row['id'] is None else row['id']}: {row['refused'] or _told(row)}")


def _told(row: dict[str, Any]) -> str:
    """Return a prediction with its band in the unit that its metric is measured in."""
    unit = "ms" if row["class"].partition("/")[0].endswith("_ms") else "tok/s"
    return f"{row['value']:.4g} {unit} ({row['low80']:.4g} to {row['high80']:.4g})"


def _answer(line: bytes, where: str, anatomies: dict[str, Anatomy | OwnwardError]) -> dict[str, Any]:
    from ownward.perf import predict as predict_case

    try:
        row = parse_case(line, where)
    except OwnwardError as error:
        return _refusal(None, str(error))
    try:
        prediction = predict_case(read_case(row, where, anatomies))
    except OwnwardError as error:
        return _refusal(row["id"], str(error))
    return {
        "schema": "ownward.prediction/1",
        "id": row["id"],
        "value": prediction.value,
        "low80": prediction.low80,
        "high80": prediction.high80,
        "basis": prediction.basis,
        "class": prediction.class_,
        "memory_bytes": prediction.memory_bytes,
        "fits": prediction.fits,
        "refused": prediction.refused,
    }


def _refusal(name: object, reason: str) -> dict[str, Any]:
    return {
        "schema": "ownward.prediction/1", "id": name, "value": None, "low80": None, "high80": None, "basis": None,
        "class": "refused", "memory_bytes": None, "fits": None, "refused": reason,
    }  # fmt: skip
