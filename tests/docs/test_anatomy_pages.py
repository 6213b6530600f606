"""The anatomy pages list what is there, and their numbers are the ones that the code gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ownward import anatomy
from ownward.anatomy.architectures import ARCHITECTURES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_reference_lists_every_architecture() -> None:
    text = (DOCS / "reference" / "anatomy.md").read_text()
    listed = text.partition("<!-- architectures -->")[2].partition("<!-- /architectures -->")[0]
    assert re.findall(r"\w+", listed) == sorted(ARCHITECTURES)


def test_the_reference_names_every_scheme_and_method() -> None:
    text = (DOCS / "reference" / "anatomy.md").read_text()
    ranges = {"mlx_4bit", "mlx_5bit", "mlx_6bit"}
    assert [name for name in anatomy.SCHEMES if f"`{name}`" not in text and name not in ranges] == []
    methods = [name for name in vars(anatomy.Anatomy) if name.endswith(("_bytes", "_flop", "_token", "_experts"))]
    assert [name for name in methods if f"`{name}" not in text and not name.startswith("_")] == []


def test_the_page_s_table_of_reads_is_computed(shared_data: Path) -> None:
    found = anatomy.read(shared_data / "model-configs" / "Qwen3.5-397B-A17B.json")
    text = (DOCS / "explanation" / "anatomy.md").read_text()
    batches = (1, 8, 32, 64, 256)
    experts = " | ".join(str(round(found.expected_distinct_experts(batch))) for batch in batches)
    read = " | ".join(f"{found.step_bytes(batch, quantization='bf16') / 1e9:.0f} GB" for batch in batches)
    assert f"| {experts} |" in text
    assert f"| {read} |" in text
    assert f"{found.total_live_params:,}" in text
    assert f"{found.checkpoint_params_exact:,}" in text
    assert f"{found.weights_bytes('bf16') / 1e9:.0f} GB" in text


def test_the_results_quoted_are_the_results_kept() -> None:
    text = (DOCS / "reference" / "anatomy.md").read_text()
    results = DOCS.parent / "benchmarks" / "results"
    oracle = json.loads((max(results.glob("anatomy_oracle-*.json"))).read_text())
    fuzz = json.loads((max(results.glob("anatomy_fuzz-*.json"))).read_text())
    agree, differ = oracle["agree"], oracle["differ"]
    assert f"{agree} configs agree with transformers {oracle['transformers']} and {differ} differ" in text
    assert f"{fuzz['cases']}\ndamaged files" in text
    assert fuzz["failures_total"] == fuzz["slower_than_100_ms"] == differ == 0
    assert fuzz["memory_growth_bytes"] < 50e6
