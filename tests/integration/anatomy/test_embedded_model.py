"""The embedded model's own file, where the store has it: read by us and by the package that defines the format."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import pytest

from ownward import anatomy, engines

SMOLLM2_135M = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


def weights_cache() -> Path:
    """The store that the engine tests use, else the user's own."""
    stated = os.environ.get("OWNWARD_CACHE_DIR")
    return Path(stated) if stated else Path.home() / ".cache" / "ownward"


@pytest.fixture
def weights() -> Path:
    found = engines.find(engines.EMBEDDED_MODEL, cache_dir=weights_cache())
    if found is None:
        pytest.skip("the embedded model is not in the store; `ownward models pull` fetches it")
    return found


def test_its_header_agrees_with_the_package_and_with_its_config(weights: Path) -> None:
    found = anatomy.read(weights)
    theirs = gguf.GGUFReader(weights).tensors
    assert found.checkpoint_params_exact == sum(int(tensor.n_elements) for tensor in theirs)
    assert found.weights_bytes() == sum(int(tensor.n_bytes) for tensor in theirs)
    drawn = anatomy.as_contract(anatomy.from_config(SMOLLM2_135M))
    read = anatomy.as_contract(found)
    apart = {"name", "quantization", "weights_bytes", "weights_bytes_by_type"}
    assert {key: read[key] for key in read if key not in apart} == {
        key: drawn[key] for key in drawn if key not in apart
    }
