"""The catalogue as rows for tables and JSON, and things side by side."""

from __future__ import annotations

import json

import pytest

from ownward import catalog
from ownward.core import UnknownModel, UsageError, to_json


def test_machines_are_json_with_their_weakest_basis():
    found = json.loads(to_json(catalog.list_machines([catalog.machine("RTX 4090"), catalog.machine("MI455X")])))
    assert found["schema"] == "ownward.machines/1"
    card, announced = found["machines"]
    assert card["bandwidth_bytes_per_s"] == 1.008e12
    assert card["price_usd"] == "1599.000000"
    assert announced["basis"] == "assumed"
    assert announced["price_usd"] is None


def test_models_are_json_with_null_for_unknown():
    found = json.loads(to_json(catalog.list_models(catalog.search_models("qwen 397b"))))
    assert found["schema"] == "ownward.models/1"
    assert [row["id"] for row in found["models"]] == ["qwen3.5-397b-a17b"]
    assert found["models"][0]["modalities"] == ["text", "image"]


def test_a_comparison_keeps_sources_and_marks_differences():
    side_by_side = catalog.compare([catalog.machine("RTX 4090"), catalog.machine("RTX 3090")])
    lines = {line.name: line for line in side_by_side.lines}
    assert side_by_side.ids == ("geforce-rtx-4090", "geforce-rtx-3090")
    assert lines["fp8_flop_per_s"].facts[1] is None
    assert lines["bandwidth_bytes_per_s"].differs
    assert not lines["memory_label"].differs
    assert all(fact is None or fact.source for line in side_by_side.lines for fact in line.facts)


def test_a_comparison_needs_two_of_one_kind():
    with pytest.raises(UsageError):
        catalog.compare([catalog.machine("RTX 4090")])
    with pytest.raises(UsageError):
        catalog.compare([catalog.machine("RTX 4090"), catalog.model("phi-4")])


def test_search_finds_by_any_word_of_a_name():
    assert {item.id for item in catalog.search_machines("rtx pro 6000")} == {
        "rtx-pro-6000-blackwell-max-q",
        "rtx-pro-6000-blackwell-server",
        "rtx-pro-6000-blackwell-workstation",
    }
    assert catalog.search_machines("nothing like it") == ()
    assert len(catalog.search_machines()) == len(catalog.machines())


def test_a_quantised_checkpoint_has_its_own_config():
    config = catalog.load_config("nvidia/Qwen3.5-397B-A17B-NVFP4")
    assert "quantization_config" in config
    assert "quantization_config" not in catalog.load_config("qwen3.5-397b-a17b")
    assert catalog.checkpoint("Qwen3-32B-FP8").model == "qwen3-32b"
    with pytest.raises(UnknownModel, match="no checkpoint"):
        catalog.checkpoint("Qwen3-33B-FP8")
