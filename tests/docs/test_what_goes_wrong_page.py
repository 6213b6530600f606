"""The page of what goes wrong in gateways: every test that it names is there, and every line names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "what-goes-wrong-in-gateways.md").read_text("utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "https://" in line]
WRITTEN = frozenset(
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def test_(\w+)", file.read_text("utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip()[:40])
def test_every_line_names_tests_that_there_are(line: str) -> None:
    named = re.findall(r"`([a-z]\w+)`", line.split("|")[4])
    assert named
    assert not set(named) - WRITTEN


def test_the_page_has_a_line_for_each_thing_that_is_known_to_go_wrong() -> None:
    assert len(LINES) >= 17
