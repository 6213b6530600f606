"""A mixture with Qwen3.5's layers runs in the engine child, however its weights are held, and says the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from benchmarks.moe_engine import measure
from benchmarks.random_moe import Shape, write_random_moe

from ownward.engines import EMBEDDED_MODEL, fetch

pytestmark = pytest.mark.engine

SMALL = Shape(
    layers=4, hidden=512, experts=16, expert_width=128, shared_width=128, heads=4, head_dim=64, key_heads=4,
    value_heads=4, state_dim=64,
)  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "mapped": {"no_extra_bufts": True, "warmup": False},
    "mapped, with a copy": {"no_extra_bufts": False},
    "read, repacked in place": {"use_mmap": False, "no_extra_bufts": False},
}


def test_every_way_to_hold_weights_decodes(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = tmp_path / "mixture.gguf"
    write_random_moe(path, SMALL, tokenizer_of=fetch(EMBEDDED_MODEL, cache_dir=tmp_path / "store"))

    async def run(options: dict[str, Any]) -> dict[str, Any]:
        shape = {"slots": 1, "context_tokens": 256, "threads": 1, "prompt_cache_bytes": 0}
        return await measure(
            {
                "path": str(path), "options": {**shape, **options}, "warm_tokens": 2, "round_s": 0.1, "least_tokens": 8,
                "most_tokens": 8, "rounds": 1, "prompt_tokens": 16,
            }
        )  # fmt: skip

    found = {name: asyncio.run(run(options)) for name, options in WAYS.items()}
    for name, one in found.items():
        assert one["rounds"][0]["steps"] == 8, name
        assert one["rounds"][0]["text"], name
    mapped, copied, read = (one["memory"]["RssAnon"] for one in found.values())
    assert mapped < copied
    assert found["mapped"]["memory"]["RssFile"] > found["read, repacked in place"]["memory"]["RssFile"]
    assert read < copied + path.stat().st_size
