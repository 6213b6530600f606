"""`ownward bench` measures, keeps what it found, and `fit` on this machine then uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ownward.cli import _calibration
from ownward.cli._app import run
from ownward.cli._fit_target import find_target
from ownward.core import BadInput, UsageError
from ownward.probe import this_machine


def test_memory_and_disk_are_measured_and_kept_for_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "store" / "calibration.json"
    assert run(["bench", "--no-engine", "--json", "--output", str(kept)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "ownward.bench/1"
    assert {row["kernel"] for row in said["memory"]} == {"read", "copy", "write"}
    assert all(row["low_bytes_per_s"] <= row["median_bytes_per_s"] <= row["high_bytes_per_s"] for row in said["memory"])
    assert {row["block_bytes"] for row in said["disk"]} >= {4096, 576 * 1024}
    assert said["page_faults"]
    assert [path.name for path in kept.parent.iterdir()] == ["calibration.json"]

    monkeypatch.setattr(_calibration, "calibration_path", lambda: kept)
    subject = find_target("this", ram=None, ssd=None)
    assert subject.host is not None
    assert subject.host.disk_reads is not None
    assert subject.host.disk_reads.bytes_per_s == said["page_faults"][-1]["bytes_per_s"]
    if subject.machine.id == "this-machine":  # not a machine with a card
        assert subject.machine.bandwidth_bytes_per_s is not None
        assert subject.machine.bandwidth_bytes_per_s.value == said["memory"][0]["median_bytes_per_s"]
        assert "ownward bench" in subject.machine.bandwidth_bytes_per_s.source


def test_machines_are_named_with_what_stands_behind_them(tmp_path: Path) -> None:
    one = find_target("RTX 4090", ram="64GB", ssd="7GB/s")
    assert one.host is not None
    assert (one.count, one.host.memory_bytes, one.host.disk_bytes_per_s) == (1, 64_000_000_000, 7e9)
    assert find_target('2x"RTX 3090"', ram=None, ssd=None).count == 2
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[machine]]\nid = "mine"\nname = "Mine"\nkind = "gpu-consumer"\nmemory_bytes = 25769803776\n'
        'bandwidth_bytes_per_s = 9e11\nbasis = "measured"\nsource = "a test"\nchecked_on = 2026-11-20\n',
        encoding="utf-8",
    )
    assert find_target(str(path), ram=None, ssd=None).machine.id == "mine"


@pytest.mark.parametrize(("ram", "ssd"), [("lots", None), (None, "7"), (None, "fast")])
def test_sizes_and_rates_that_are_none_are_refused(ram: str | None, ssd: str | None) -> None:
    with pytest.raises(UsageError):
        find_target("RTX 4090", ram=ram, ssd=ssd)


def test_a_machine_file_that_is_not_there_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such machine file"):
        find_target(str(tmp_path / "none.toml"), ram=None, ssd=None)


def test_a_calibration_of_a_busy_machine_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "calibration.json"
    facts = this_machine()
    kept.write_text(
        json.dumps(
            {
                "schema": _calibration.CALIBRATION_SCHEMA,
                "machine": facts.name,
                "measured_at": "2026-11-21T00:00:00Z",
                "busy_cores": 1.4,
                "bandwidth_bytes_per_s": 2e10,
                "page_faults": {"bytes_per_s": 5e8, "over_read": 1.4},
                "effects": {},
            }
        ),
        encoding="utf-8",
    )
    monkeypatch.setattr(_calibration, "calibration_path", lambda: kept)
    assert "1.4 cores busy" in " ".join(find_target("this", ram=None, ssd=None).notes)
