"""The screens of the catalogue as people see them: piped, 80 columns, no colour."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"

SHARED = "models show qwen3.5-397b-a17b --beside qwen3-235b-a22b --beside kimi-k2.6"
SCREENS = {
    "models-show-beside.txt": SHARED,
    "models-show-dense.txt": "models show qwen3-8b",
    "models-show-quantised.txt": "models show nvidia/Kimi-K2.6-NVFP4",
    "models-compare.txt": "models compare qwen3.5-397b-a17b kimi-k2.6 gpt-oss-20b",
    "models-licence.txt": "models licence kimi-k3",
    "models-search.txt": "models search qwen3.5",
    "models-scores.txt": "models scores kimi-k2.6",
    "machines-search.txt": "machines search rtx --kind gpu-consumer",
    "machines-show.txt": "machines show 4090",
    "machines-compare.txt": "machines compare 4090 5090 h200-sxm",
    "machines-rentals.txt": "machines rentals h100 --region eu",
    "machines-electricity.txt": "machines electricity germany",
    "prices-compare.txt": "prices compare gpt-5-mini claude-haiku-4-5 --input 2000 --output 300 --at 2026-11-21",
    "prices-show.txt": "prices show gemini-2.5-pro --at 2026-11-21",
    "prices-hosts.txt": "prices hosts qwen3-235b-a22b --at 2026-11-21",
}


@pytest.mark.parametrize(("name", "line"), SCREENS.items(), ids=list(SCREENS))
def test_a_screen_is_as_kept(name, line, shown, golden):
    golden(name, shown(line))


@pytest.mark.parametrize("line", SCREENS.values(), ids=list(SCREENS))
def test_a_screen_fits_80_columns(line, shown):
    assert max(len(row) for row in shown(line).splitlines()) <= 80


def test_the_how_to_shows_what_the_command_prints(shown):
    """Each line of its examples is a line of the real page; scripts/run_docs.py checks their order too."""
    page = (DOCS / "how-to" / "read-a-models-anatomy.md").read_text("utf-8")
    blocks = re.findall(r"```console\n\$ ownward (.*?)\n(.*?)```", page, re.DOTALL)
    assert {line for line, _ in blocks} == {SHARED}
    printed = [" ".join(row.split()) for row in shown(SHARED).splitlines()]
    for row in "".join(output for _, output in blocks).splitlines():
        assert row == "…" or " ".join(row.split()) in printed
