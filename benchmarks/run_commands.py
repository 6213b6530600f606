"""What the command in a measured row's note says of a run, and which rows of a page share a command.

A page shows a command once and results under it; the rows that were cut out of it name the engine of whatever stood
nearest. The command is what ran.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

_STARTS = (("vllm serve ", "vLLM"), ("sglang.launch_server ", "SGLang"), ("trtllm-serve ", "TensorRT-LLM"))
_WEIGHTS = (
    (r"fp8", "FP8"), (r"nvfp4|fp4", "NVFP4"), (r"awq|gptq|int4|w4a16", "INT4"), (r"w8a8|int8", "INT8"),
)  # fmt: skip
_RUNS = re.compile("|".join(re.escape(start) for start, _ in _STARTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The last server that a note starts: its engine, and the flags behind it; None is what it does not say."""

    engine: str
    weights: str | None
    tensor_parallel: int
    pipeline_parallel: int
    text: str
    is_own: bool = True
    """False where the page shows fewer commands than results, so that this one is only the nearest."""


def last_command(note: str) -> Command | None:
    """Return the last server that the command of a note starts; None where it starts none.

    >>> found = last_command("cmd: vllm serve Qwen/Qwen3-14B vllm serve Qwen/Qwen3-14B-FP8 -tp 2")
    >>> found.engine, found.weights, found.tensor_parallel
    ('vLLM', 'FP8', 2)
    """
    starts = list(_RUNS.finditer(note))
    if not starts:
        return None
    text = note[starts[-1].start() :]
    engine = next(engine for start, engine in _STARTS if text.startswith(start))
    named = re.search(r"(?:--model(?:-path)?[ =]|serve )(\S+)", text)
    model = named[1].lower() if named else ""
    return Command(
        engine=engine,
        weights=next((weights for pattern, weights in _WEIGHTS if re.search(pattern, model)), None),
        tensor_parallel=_degree(r"-tp|--tp|--tp[-_]size|--tensor-parallel-size", text),
        pipeline_parallel=_degree(r"-pp|--pp[-_]size|--pipeline-parallel-size", text),
        text=text,
    )


def commands_of(rows: Sequence[dict[str, str]]) -> list[Command | None]:
    """Return the command of each row: its own, or the one that stands above it under the same heading.

    Where a heading compares two commands, the first of two results of a load is the first command's. A page whose
    first command of a heading is missing in its rows tells nothing of those after it.
    """
    found: list[Command | None] = []
    above: dict[tuple[str, ...], list[Command]] = defaultdict(list)
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    for row in rows:
        note = row.get("note", "")
        heading = re.search(r'section "([^"]*)"', note)
        command = last_command(note.partition("cmd:")[2])
        if heading is None:
            found.append(command)
            continue
        under = (row.get("source", ""), heading[1], row["metric"])
        load = (*under, row["batch_or_concurrency"], row["prompt_tokens"])
        if command is not None:
            above[under].append(command)
        elif note.rstrip().endswith("cmd:") and above[under]:
            which = seen[load]
            command = replace(above[under][min(which, len(above[under]) - 1)], is_own=which < len(above[under]))
        seen[load] += 1
        found.append(command)
    return found


def _degree(flags: str, text: str) -> int:
    found = re.search(rf"(?:^|\s)(?:{flags})[ =](\d+)", text)
    return int(found[1]) if found else 1
