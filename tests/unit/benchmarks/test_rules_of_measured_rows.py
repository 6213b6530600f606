"""What a row's columns and note mean, rule by rule, and what bands are made of."""

import csv
from pathlib import Path

from benchmarks.measured_rows import GROUPS, MeasuredRow, load_rows
from scripts.fit_efficiencies import Bands, without

_ROW = {
    "source": "page", "model": "Qwen3-8B", "engine": "llama.cpp", "quantization_weights": "Q4_K_M", "kv_dtype": "",
    "hardware": "RTX 4090 24GB", "n_devices": "1", "parallelism": "", "batch_or_concurrency": "1",
    "prompt_tokens": "512", "output_tokens": "128", "metric": "decode_tok_s_per_user", "value": "100", "date": "2026",
    "note": "", "context_depth": "", "tier": "C", "pair": "qwen38b@rtx4090",
}  # fmt: skip


def _load(folder: Path, *changes: dict[str, str]) -> list[MeasuredRow]:
    path = folder / "measured.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(_ROW))
        writer.writeheader()
        writer.writerows({**_ROW, **change} for change in changes)
    return list(load_rows(path, ["Qwen3-8B"]))


def test_a_sweep_over_context_sizes_was_measured_at_those_depths(tmp_path: Path) -> None:
    rows = _load(tmp_path, *({"note": f"ctx {size}"} for size in (4096, 8192, 16384)))
    assert [row.question["context_depth"] for row in rows] == [3456, 7552, 15744]


def test_a_context_size_that_is_not_swept_is_only_room(tmp_path: Path) -> None:
    rows = _load(tmp_path, {"note": "ctx 262144"}, {"note": "ctx 131072"})
    assert [row.question["context_depth"] for row in rows] == [0, 0]


def test_a_depth_that_is_stated_is_believed(tmp_path: Path) -> None:
    rows = _load(tmp_path, *({"note": f"ctx {size}", "context_depth": "64"} for size in (4096, 8192, 16384)))
    assert [row.question["context_depth"] for row in rows] == [64, 64, 64]


def test_a_back_end_in_the_note_is_added_to_the_engine_and_one_in_the_engine_stays(tmp_path: Path) -> None:
    told, stated = _load(
        tmp_path, {"note": "lane: ggml-vulkan-b9870"}, {"engine": "llama.cpp rocm-7.2", "note": "vulkan"}
    )
    assert told.question["engine"] == "llama.cpp vulkan"
    assert stated.question["engine"] == "llama.cpp rocm-7.2"


def test_a_run_whose_note_denies_drafting_did_not_draft(tmp_path: Path) -> None:
    plain, drafted = _load(
        tmp_path, {"parallelism": "spec", "note": "Standard autoregressive (no MTP)"}, {"parallelism": "spec"}
    )
    assert not plain.question["speculative"]
    assert drafted.question["speculative"]


def test_a_graphics_unit_filed_under_its_processor_is_the_device(tmp_path: Path) -> None:
    (row,) = _load(tmp_path, {"hardware": "CPU AMD Ryzen 7 8745H", "note": "Actually uses Radeon 780M iGPU"})
    assert row.hardware == "Radeon 780M"
    assert not row.question["on_cpu"]


def test_where_experts_lie_is_read_from_the_share_its_placing_or_llama_cpp_s_flags(tmp_path: Path) -> None:
    rows = _load(
        tmp_path,
        {"parallelism": "TP4 gpu_experts=30% frequency"},
        {"parallelism": "CPU experts + GPU attention", "note": "model 211.03 GiB; -ot exps=CPU"},
        {"parallelism": "CPU experts + GPU attention"},
        {},
    )
    assert [row.question["cpu_offload"] for row in rows] == [
        "gpu_experts=30% frequency", "gpu_experts=0%", True, False,
    ]  # fmt: skip


def test_a_heading_of_another_engine_and_a_percentile_stand_apart(tmp_path: Path) -> None:
    rows = _load(
        tmp_path,
        {"engine": "vLLM", "note": 'section "2. Quantization in MindIE"; cmd: --enable-prefix-caching'},
        {"engine": "vLLM", "note": 'section "2. Quantization in vLLM"; cmd: '},
        {"engine": "vLLM", "note": "P99; 300 requests"},
        {"engine": "vLLM", "note": "Mean; 300 requests"},
    )
    assert [bool(row.apart) for row in rows] == [True, False, True, False]


def test_a_row_that_only_points_to_its_page_is_read_by_it(tmp_path: Path) -> None:
    page = {
        "source": "github:ikawrakow/ik_llama.cpp github-data/discussions/385", "model": "Qwen3-235B-A22B",
        "quantization_weights": "see discussion", "hardware": "CPU Intel Xeon Scalable (discussion 385)",
    }  # fmt: skip
    first, other = _load(tmp_path, {**page, "value": "2.41"}, {**page, "value": "12.9"})
    assert first.question["weights"] == other.question["weights"] == "Q8_0"
    assert "6138" in first.hardware
    assert first.pair != other.pair


def test_a_class_of_one_pair_borrows_from_the_class_that_holds_it() -> None:
    wide = [("m/e/one/wide", f"w{n}", sign * 0.5) for n in range(20) for sign in (-1, 1)]
    bands = Bands([*wide, ("m/e/one/narrow", "n", 0.0)])
    assert bands["m/e/one/narrow"][2] > 0.1


def test_a_class_of_many_pairs_hardly_borrows() -> None:
    wide = [("m/e/one/wide", f"w{n}", sign * 0.5) for n in range(20) for sign in (-1, 1)]
    narrow = [("m/e/one/narrow", f"n{n}", sign * 0.1) for n in range(400) for sign in (-1, 1)]
    bands = Bands([*wide, *narrow])
    assert bands["m/e/one/narrow"][2] < 0.15


def test_the_pair_that_is_asked_about_has_no_part_in_its_band() -> None:
    rows = [("m/e", "a", 0.1), ("m/e", "b", -0.1), ("m/e", "c", 3.0)]
    assert Bands(without(rows, ["a", "b", "c"], "c"))["m"][2] < 0.2


def test_what_is_left_out_with_a_row_is_its_pair_its_model_its_machine_or_its_page(tmp_path: Path) -> None:
    (row,) = _load(tmp_path, {})
    assert [row.group(kind) for kind in GROUPS] == ["qwen38b@rtx4090", "qwen38b", "rtx4090", "page"]
