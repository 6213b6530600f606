"""The file of random weights is what it says: Qwen3.5's layers, counted by our anatomy, and weights without a mean."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from benchmarks.memory_limit import limited
from benchmarks.random_moe import Shape, write_random_moe

from ownward import anatomy

SMALL = Shape(
    layers=8, hidden=256, experts=16, expert_width=64, shared_width=64, heads=4, head_dim=64, key_heads=2,
    value_heads=4, state_dim=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("random") / "mixture.gguf"
    write_random_moe(found, SMALL, tokenizer_of=None)
    return found


def test_anatomy_finds_the_layers_and_experts(path: Path) -> None:
    model = anatomy.read(path)
    assert {layer.kind: layer.count for layer in model.layers} == {"recurrent": 6, "full_attention": 2}
    assert (model.experts, model.experts_per_tok, model.layer_count) == (16, 8, 8)
    assert model.routed_experts == 8 * 16 * 3 * 256 * 64
    assert model.unsupported == ()
    assert path.stat().st_size - model.weights_bytes() < 64 * 1024


def test_no_weight_uses_nibble_zero_and_their_mean_is_none(path: Path) -> None:
    tensor = next(item for item in gguf.GGUFReader(path).tensors if item.name == "blk.0.ffn_up_exps.weight")
    blocks = np.asarray(tensor.data).reshape(-1, 18)[:, 2:]
    nibbles = np.concatenate([blocks & 15, blocks >> 4])
    assert nibbles.min() == 1
    assert nibbles.max() == 15
    assert abs(nibbles.mean() - 8) < 0.05


def test_without_a_limit_nothing_is_limited() -> None:
    with limited(None) as limit:
        assert (limit.kind, limit.bytes, limit.procs, limit.peak_bytes) == ("none", None, None, None)
