"""Write the demo's data from the public data sets, by rules that pick no favourites.

Usage: python -m scripts.build_demo_data DATA_FOLDER [--check]
DATA_FOLDER holds tasks/ (Banking77, Restaurant8K) and traces/ (Azure LLM inference 2023, code).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "src" / "ownward" / "demo" / "data"
SEED = 20261121
EVERY_NTH_INTENT = 7
INTENT_TASKS = 24
SLOT_TASKS = 16
SLOTS = ("date", "first_name", "last_name", "people", "time")
FEWEST_WORDS = 5
# Made up for the prompt: no row of the data set.
SLOT_SHOTS = {
    "A table for 4 on Friday at 7 pm, name is Ann Lee": {
        "date": "Friday", "first_name": "Ann", "last_name": "Lee", "people": "4", "time": "7 pm",
    },
    "we are six people": {"people": "six"},
    "Can I come at 8:30 tomorrow?": {"date": "tomorrow", "time": "8:30"},
    "My name is Bob Stone and I want to cancel": {"first_name": "Bob", "last_name": "Stone"},
}  # fmt: skip


def main() -> int:
    """Write the files, or with --check compare them and return 1 where one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    files = {
        "intents.jsonl": _lines(_intents(arguments.folder / "tasks")),
        "slots.jsonl": _lines(_slots(arguments.folder / "tasks")),
        "azure_llm_2023_code.csv.gz": (arguments.folder / "traces" / "azure_llm_2023_code.csv.gz").read_bytes(),
    }
    stale = [name for name, content in files.items() if not _is_same(OUT / name, content)]
    if arguments.check:
        for name in stale:
            print(f"{OUT / name} is stale: run python -m scripts.build_demo_data {arguments.folder}", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (OUT / name).write_bytes(files[name])
    print(f"wrote {len(stale)} of {len(files)} files to {OUT}")
    return 0


def _intents(folder: Path) -> list[dict[str, Any]]:
    """Banking77: every seventh intent of the alphabet, one training example each, test messages by seed."""
    train, test = (_csv(folder / f"banking77_{part}.csv.gz") for part in ("train", "test"))
    labels = sorted({row["category"] for row in train})[::EVERY_NTH_INTENT]
    examples = {label: next(row["text"] for row in train if row["category"] == label) for label in labels}
    system = f"Classify the customer's message into one of these intents: {', '.join(labels)}"
    shots = [turn for label in labels for turn in _turns(" ".join(examples[label].split()), label)]
    pool = [row for row in test if row["category"] in labels]
    chosen = random.Random(SEED).sample(pool, INTENT_TASKS)
    return [
        {
            "task_id": f"intents-{index:03d}",
            "messages": [
                {"role": "system", "content": system},
                *shots,
                {"role": "user", "content": row["text"].strip()},
            ],
            "max_tokens": 24,
            "expected": row["category"],
            "grader": {"kind": "label", "labels": labels},
        }
        for index, row in enumerate(chosen)
    ]


def _slots(folder: Path) -> list[dict[str, Any]]:
    """Restaurant8K: messages of at least five words that fill a slot, by seed."""
    with gzip.open(folder / "restaurant8k_test.json.gz", "rt", encoding="utf-8") as stream:
        rows = json.load(stream)
    wanted: dict[str, dict[str, str]] = {}
    for row in rows:
        text = row["userInput"]["text"]
        found = wanted.setdefault(text, {})
        for label in row.get("labels", []):
            span = label.get("valueSpan", {})
            found[label["slot"]] = text[span.get("startIndex", 0) : span.get("endIndex", len(text))]
    pool = [(text, slots) for text, slots in sorted(wanted.items()) if slots and len(text.split()) >= FEWEST_WORDS]
    chosen = random.Random(SEED).sample(pool, SLOT_TASKS)
    system = (
        f"Extract the booking details from the guest's message as JSON with the keys {', '.join(SLOTS)}. "
        "Copy values word for word; null for what is not said."
    )
    shots = [
        turn
        for text, found in SLOT_SHOTS.items()
        for turn in _turns(text, json.dumps({slot: found.get(slot) for slot in SLOTS}))
    ]
    schema = {
        "type": "object",
        "properties": {slot: {"type": ["string", "null"]} for slot in SLOTS},
        "required": list(SLOTS),
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "booking", "schema": schema}}
    return [
        {
            "task_id": f"slots-{index:03d}",
            "messages": [{"role": "system", "content": system}, *shots, {"role": "user", "content": text}],
            "max_tokens": 72,
            "extra": {"response_format": response_format},
            "expected": slots,
            "grader": {"kind": "slots", "names": list(SLOTS)},
        }
        for index, (text, slots) in enumerate(chosen)
    ]


def _turns(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def _csv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(io.StringIO(stream.read())))


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _is_same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


if __name__ == "__main__":
    sys.exit(main())
