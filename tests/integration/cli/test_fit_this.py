"""What `fit` takes for this machine, where a driver tells of cards: how many, of which kind, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ownward.cli import _fit_target
from ownward.cli._fit_target import FitTarget, find_target
from ownward.core import UsageError

_3090 = "NVIDIA GeForce RTX 3090, 24576, 24000, 350.00, 550.1"
_3060 = "NVIDIA GeForce RTX 3060, 12288, 12000, 170.00, 550.1"


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function: this machine's subject, if its driver told so; nothing of it is measured."""

    def subject(*lines: str, ram: str | None = None) -> FitTarget:
        program = tmp_path / "nvidia-smi"
        text = "\n".join(lines)
        program.write_text(f"#!/bin/sh\ncat <<END\n{text}\nEND\n", "utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("ownward.probe._gpus._ask_nvml", lambda _today: ())
        monkeypatch.setattr("ownward.probe._gpus.read_amd_sysfs", lambda _today: ())
        monkeypatch.setattr("ownward.probe.measure_memory_bandwidth", lambda **_: None)
        monkeypatch.setattr(_fit_target, "_measure_disk", lambda _folder: None)
        return find_target("this", ram=ram, ssd=None)

    return subject


def test_equal_cards_are_counted_together(tell):
    found = tell(_3090, _3090)
    assert (found.count, found.machine.id, found.notes) == (2, "geforce-rtx-3090", ())


def test_of_unequal_cards_the_larger_is_taken_and_the_other_named(tell):
    found = tell(_3060, _3090)
    assert (found.count, found.machine.id) == (1, "geforce-rtx-3090")
    assert "RTX 3060" in found.notes[0]


def test_a_card_that_the_catalogue_does_not_know_is_named(tell):
    found = tell("NVIDIA GeForce RTX 4070 Laptop GPU, 8188, 8000, [N/A], 550.1")
    assert found.machine.kind == "cpu-platform"
    assert "RTX 4070 Laptop GPU" in found.notes[0]
    assert "machines add" in found.notes[0]


def test_a_card_in_use_is_said_to_be(tell):
    found = tell("NVIDIA GeForce RTX 3090, 24576, 200, 350.00, 550.1")
    assert "200 MiB of 24.0 GiB" in found.notes[0]


def test_memory_that_is_stated_counts_here_too(tell):
    behind = tell(_3090, ram="64GB").host
    assert behind is not None
    assert behind.memory_bytes == 64 * 10**9
    own = tell("no device", ram="4GB").machine.memory_bytes
    assert own is not None
    assert own.value == 4 * 10**9
    with pytest.raises(UsageError, match="Write it as 64GB"):
        tell(_3090, ram="64")
