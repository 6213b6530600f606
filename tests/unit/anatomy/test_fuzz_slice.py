"""A seeded slice of the fuzzer: damaged files give an anatomy or one of our errors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).resolve().parents[3] / "benchmarks" / "anatomy_fuzz.py"


@pytest.mark.parametrize("seed", [1, 20261121])
def test_damaged_files_never_crash_the_reader(tmp_path: Path, seed: int) -> None:
    spec = importlib.util.spec_from_file_location("anatomy_fuzz", FUZZER)
    assert spec is not None
    assert spec.loader is not None
    fuzzer = importlib.util.module_from_spec(spec)
    sys.modules["anatomy_fuzz"] = fuzzer
    spec.loader.exec_module(fuzzer)
    report = fuzzer.fuzz(seed=seed, cases=1500, folder=tmp_path)
    assert report.failures == []
    assert report.read > 0
