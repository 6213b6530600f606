"""Every model of the data folder, counted: parameters by role, cache, FLOP, and the bytes of published files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ownward import anatomy

# No figures: names of things, and how the data was made.
PROSE = {"model", "method", "layer_pattern", "check", "mismatch_note"}

# Two pairs of releases have configs of the same shape and different figures in this column: the
# data counts router biases in it where it knows the published element count, and not elsewhere.
SAME_CONFIG_TWO_FIGURES = {("GLM-4.6", "weight_bytes_bf16"), ("Kimi-K2.6", "weight_bytes_bf16")}

MLX = {
    "4bit": "mlx_4bit",
    "5bit": "mlx_5bit",
    "6bit": "mlx_6bit",
    "8bit": "mlx_8bit",
    "bf16": "mlx_bf16",
    "4bit-mxfp4": "mlx_mxfp4",
    "MXFP4-Q8": "mlx_mxfp4_q8",
}
# Rows that a model's config and the file's label do not settle between them, with what they turned out to be.
UNLABELLED = {
    "mlx-community--DeepSeek-V3.2-8bit": "groups of 32 instead of 64: read exactly from its own config",
    "mlx-community--Kimi-K2.6-mlx-DQ3_K_M-q8": "bits chosen by tensor, listed only in its own config",
    "mlx-community--gpt-oss-20b-MXFP4-Q8": "0.4% below what 8 bits in groups of 64 would take",
}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as stream:
        return list(csv.DictReader(stream))


def test_every_figure_of_every_model_is_exact(shared_data: Path) -> None:
    folder = shared_data / "model-configs"
    wrong = []
    counted = 0
    for row in rows(folder, "ground_truth.csv"):
        got = anatomy.as_contract(anatomy.read(folder / f"{row['model']}.json"))
        for column, text in row.items():
            if column in PROSE or not text or (row["model"], column) in SAME_CONFIG_TWO_FIGURES:
                continue
            wanted: Any = text == "True" if text in {"True", "False"} else float(text)
            counted += 1
            if got[column] != wanted:
                wrong.append((row["model"], column, got[column], text))
    assert wrong == []
    assert counted > 2000


def test_a_figure_has_one_name_in_python_and_in_json(shared_data: Path) -> None:
    folder = shared_data / "model-configs"
    found = anatomy.read(folder / "gpt-oss-20b.json")
    columns = rows(folder, "ground_truth.csv")[0].keys() - PROSE
    told = anatomy.as_contract(found)
    assert {column: getattr(found, column) for column in columns} == {column: told[column] for column in columns}


def test_the_two_figures_left_out_differ_by_router_biases_alone(shared_data: Path) -> None:
    folder = shared_data / "model-configs"
    truth = {row["model"]: row for row in rows(folder, "ground_truth.csv")}
    for model, column in SAME_CONFIG_TWO_FIGURES:
        found = anatomy.read(folder / f"{model}.json")
        assert 2 * found.checkpoint_params_exact == int(truth[model][column])


@pytest.mark.parametrize("quantisation", sorted(MLX))
def test_published_conversions_have_the_bytes_predicted(shared_data: Path, quantisation: str) -> None:
    folder = shared_data / "model-configs"
    wrong = []
    for row in rows(folder, "checkpoint_bytes.csv"):
        if "rounded" in row["reliability"] or row["quantisation"] != quantisation or row["checkpoint"] in UNLABELLED:
            continue
        got = anatomy.read(folder / f"{row['model']}.json").weights_bytes(MLX[quantisation])
        if abs(got / int(row["bytes"]) - 1) > 0.001:
            wrong.append((row["checkpoint"], got, row["bytes"]))
    assert wrong == []


def test_kimi_k2_6_as_published_is_met_to_the_byte(shared_data: Path) -> None:
    """Experts in 4 bits with 16-bit scales and the shape of each pack, everything else at 16 bits."""
    assert anatomy.read(shared_data / "model-configs" / "Kimi-K2.6.json").weights_bytes() == 595_148_192_736


def test_gpt_oss_as_published_is_met_to_the_byte(shared_data: Path) -> None:
    """MXFP4 experts; `total_size` of the published index is 13,761,264,768."""
    assert anatomy.read(shared_data / "model-configs" / "gpt-oss-20b.json").weights_bytes() == 13_761_264_768


def test_kimi_k3_as_published_is_within_a_tenth_of_a_percent(shared_data: Path) -> None:
    """1.561 TB: the maps into and out of the experts' latent space stay at 16 bits."""
    assert anatomy.read(shared_data / "model-configs" / "Kimi-K3.json").weights_bytes() == pytest.approx(
        1.561e12, rel=0.001
    )


def test_glm_5_in_16_bits_is_met_to_the_byte(shared_data: Path) -> None:
    """Router biases are kept at 32 bits, and the conversion drops the draft layer."""
    found = anatomy.read(shared_data / "model-configs" / "GLM-5.json")
    assert found.weights_bytes("mlx_bf16") == 1_487_822_475_264


def test_deepseek_v4_in_mlx_is_within_a_tenth_of_a_percent(shared_data: Path) -> None:
    found = anatomy.read(shared_data / "model-configs" / "DeepSeek-V4-Flash.json")
    assert found.weights_bytes("mlx_mxfp4_q8") == pytest.approx(155_095_760_030, rel=0.001)


def test_a_conversion_with_its_own_group_size_is_read_from_its_config(shared_data: Path) -> None:
    config = json.loads((shared_data / "model-configs" / "DeepSeek-V3.2.json").read_text())
    del config["quantization_config"]
    found = anatomy.from_config({**config, "quantization": {"bits": 8, "group_size": 32}})
    assert found.weights_bytes() == pytest.approx(755_957_120_916, rel=0.001)


QUANTISED = {
    "Qwen--Qwen3-30B-A3B-FP8": ("fp8", 8.17),
    "Qwen--Qwen3-32B-FP8": ("fp8", 8.38),
    "nvidia--DeepSeek-V3.1-NVFP4": ("modelopt", 4.79),
    "nvidia--Gemma-4-31B-IT-NVFP4": ("modelopt", 8.35),
    "nvidia--Kimi-K2.6-NVFP4": ("modelopt", 4.64),
    "nvidia--Llama-3.1-70B-Instruct-FP8": ("modelopt", 8.24),
    "nvidia--MiniMax-M2.5-NVFP4": ("modelopt", 4.70),
    "nvidia--Qwen3.5-397B-A17B-NVFP4": ("modelopt", 4.98),
    "nvidia--Qwen3.6-27B-NVFP4": ("modelopt", 6.31),
    "sgl-project--DeepSeek-V4-Flash-FP8": ("fp8", 8.03),
    "zai-org--GLM-5-FP8": ("fp8", 8.02),
}


@pytest.mark.parametrize("name", sorted(QUANTISED))
def test_quantised_checkpoints_are_recognised_with_what_stays_finer(shared_data: Path, name: str) -> None:
    found = anatomy.read(shared_data / "model-configs" / "quantised" / f"{name}.json")
    method, bits = QUANTISED[name]
    assert found.quantization == method
    assert 8 * found.weights_bytes() / found.checkpoint_params_exact == pytest.approx(bits, abs=0.01)
