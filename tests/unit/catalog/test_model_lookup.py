"""The releases, their names, configs and published figures."""

from __future__ import annotations

import pytest

from ownward import catalog
from ownward.core import BadInput, UnknownModel


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qwen3.5-397b-a17b", "qwen3.5-397b-a17b"),
        ("Qwen/Qwen3.6-27B", "qwen3.6-27b"),
        ("unsloth/Qwen3.6-27B-GGUF", "qwen3.6-27b"),
        ("Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("gemma-4-E2B-it", "gemma-4-e2b"),
        ("deepseek v3", "deepseek-v3"),
        ("Qwen3-235B", "qwen3-235b-a22b"),
        ("Kimi K2", "kimi-k2-instruct"),
        ("Qwen3-4B-Q4_K_M.gguf", "qwen3-4b"),
        ("unsloth/Qwen3.6-27B-MTP-GGUF", "qwen3.6-27b"),
    ],
)
def test_a_name_as_people_type_it_is_found(typed, meant):
    assert catalog.model(typed).id == meant


def test_an_unknown_name_shows_the_closest():
    with pytest.raises(UnknownModel, match=r"llama-3\.1-70b"):
        catalog.model("llama-3.1-70")


def test_a_name_of_several_releases_lists_them():
    with pytest.raises(UnknownModel, match="can mean 2 models"):
        catalog.model("mixtral")


def test_every_release_has_its_facts_and_a_config():
    for model in catalog.models():
        assert model.licence or model.id == "glm-5.2", model.id  # whose licence nobody has read
        assert model.released, model.id
        assert model.context_tokens.value >= 4096, model.id
        config = model.load_config()
        assert "num_hidden_layers" in config or "text_config" in config, model.id


def test_what_is_from_memory_is_marked_assumed():
    from_memory = catalog.model("qwen3-8b").context_tokens
    assert (from_memory.basis, "from memory" in from_memory.note) == ("assumed", True)
    assert catalog.model("qwen3.5-397b-a17b").context_tokens.basis == "datasheet"


def test_reconstructed_configs_say_so():
    assert catalog.model("kimi-k2.5").config.basis == "datasheet"
    assert catalog.model("kimi-k2.6").config.basis == "assumed"
    assert "reconstructed" in catalog.model("kimi-k2.6").config.note


def test_scores_keep_their_conditions_and_the_releases_without_config():
    own = catalog.scores("deepseek-v3")
    assert {score.benchmark for score in own} >= {"GPQA", "AIME 2024"}
    assert all(score.score.source and score.kind for score in catalog.scores())
    assert any(score.model is None for score in catalog.scores())
    assert "cannot be compared" in catalog.SCORES_WARNING


def test_checkpoints_belong_to_releases():
    known = {model.id for model in catalog.models()}
    assert {item.model for item in catalog.checkpoints()} <= {*known, None}
    assert catalog.checkpoint("DeepSeek-V3.1-NVFP4").model == "deepseek-v3.1"  # and not V3
    kimi = {item.name: item.bytes.value for item in catalog.checkpoints("kimi-k2.6") if item.bytes}
    assert kimi["moonshotai/Kimi-K2.6"] == 595148192736


def test_a_users_model_brings_its_config(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2}')
    (tmp_path / "mine.toml").write_text(
        '[[model]]\nid = "mine"\nname = "Mine"\nbasis = "assumed"\nsource = "me"\nchecked_on = 2026-11-20\n'
        'config = "config.json"\n'
    )
    assert catalog.model("mine", [tmp_path]).load_config() == {"num_hidden_layers": 2}


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "mine.toml").write_text(
        '[[model]]\nid = "mine"\nname = "Mine"\nbasis = "assumed"\nsource = "me"\nchecked_on = 2026-11-20\n'
        'config = "gone.json"\n'
    )
    with pytest.raises(BadInput, match=r"gone\.json"):
        catalog.model("mine", [tmp_path]).load_config()
