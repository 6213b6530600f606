"""What the note of a measured row says against its columns: depth, back end, device, a run without drafting."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_CONTEXT = re.compile(r"\bctx (\d+)")
_FEWEST_SIZES = 3
_BACKEND = re.compile(r"\b(?:vulkan|rocm|hip)\b(?![/:])", re.IGNORECASE)
_GRAPHICS = re.compile(r"(?:uses|on) (Radeon \d+M)\b")
_PLAIN = re.compile(r"\bAR baseline\b|\(no MTP\)")
# What a page says where its rows only point to it: columns of all of them, and of single ones by their value. That
# discussion: "Q8_0", "Xeon Gold 6138 x2", and a second table, whose first line are 12.90 and 60.10, of another model.
_OTHER = {"model": "Qwen3-30B-A3B", "pair": "qwen330ba3b@xeonscalable"}
_PAGES: dict[str, tuple[dict[str, str], dict[str, dict[str, str]]]] = {
    "github:ikawrakow/ik_llama.cpp github-data/discussions/385": (
        {"quantization_weights": "Q8_0", "hardware": "CPU 2x Xeon Gold 6138"},
        {"12.9": _OTHER, "60.1": _OTHER},
    )
}
# What rows of a sweep over context share; neither the rate nor the run's details.
_QUESTION = ("source", "model", "engine", "quantization_weights", "kv_dtype", "hardware", "n_devices", "parallelism",
             "batch_or_concurrency", "prompt_tokens", "output_tokens", "metric")  # fmt: skip


def as_noted(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows with their columns as their notes have them; a column that is stated is never overruled."""
    sizes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        found = _CONTEXT.search(row.get("note", ""))
        if found and not row.get("context_depth"):
            sizes[_asked(row)].add(found[1])
    return [_changed(row, is_swept=len(sizes[_asked(row)]) >= _FEWEST_SIZES) for row in rows]


def _asked(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in _QUESTION)


def _changed(row: dict[str, str], *, is_swept: bool) -> dict[str, str]:
    note = row.get("note", "")
    changed = dict(row)
    of_all, of_one = _PAGES.get(row.get("source", ""), ({}, {}))
    changed.update(of_all | of_one.get(row["value"], {}))
    size = _CONTEXT.search(note)
    if is_swept and size and not row.get("context_depth"):
        used = sum(int(float(row[name] or 0)) for name in ("prompt_tokens", "output_tokens"))
        changed["context_depth"] = str(max(int(size[1]) - used, 0))
    backend = _BACKEND.search(note)
    if backend and not _BACKEND.search(row["engine"]):
        changed["engine"] = f"{row['engine']} {backend[0].lower()}"
    graphics = _GRAPHICS.search(note)
    if graphics and row["hardware"].startswith("CPU "):
        changed["hardware"] = graphics[1]
    if _PLAIN.search(note):
        changed["parallelism"] = re.sub(r"spec\S*", "", row["parallelism"])
    return changed
