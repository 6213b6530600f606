"""Which files are written through memory: only those whose file system overwrites what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ownward.ledger import _in_place
from ownward.ledger._in_place import find_file_system, map_in_place

LINE = "36 35 {device} / {place} rw,noatime shared:1 master:2 - {kind} /dev/root rw,errors=continue\n"


def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *kinds: str, file: int) -> None:
    """Have a file's device mounted as these kinds, among others."""
    device = os.fstat(file).st_dev
    named = f"{os.major(device)}:{os.minor(device)}"
    lines = [LINE.format(device="999:1", place="/other", kind="btrfs"), "odd\n"]
    lines += [LINE.format(device=named, place=f"/{number}", kind=kind) for number, kind in enumerate(kinds)]
    mounts = tmp_path / "mountinfo"
    mounts.write_text("".join(lines))
    monkeypatch.setattr(_in_place, "_MOUNTS", mounts)


@pytest.fixture
def file(tmp_path: Path):
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.pwrite(opened, bytes(5000), 0)
    yield opened
    os.close(opened)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells by /proc what is mounted")
def test_the_kind_of_file_system_is_what_the_system_says(file: int, tmp_path: Path) -> None:
    told = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    kind = find_file_system(file)
    if kind is None:
        assert told.startswith(("overlay", "btrfs"))  # whose files have devices of their own
    else:
        assert kind[:3] == told[:3]  # it calls all of ext2 to ext4 `ext2/ext3`


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_what_is_overwritten_in_its_place_is_written_through_memory(
    kind: str, file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, tmp_path, kind, kind, file=file)
    memory = map_in_place(file, 5000)
    assert memory is not None
    memory[4998:5000] = b"ab"
    assert os.pread(file, 9, 4997) == b"\0ab"
    memory.close()
    os.pwrite(file, b"c", 0)  # it is open still


@pytest.mark.parametrize("kinds", [["btrfs"], ["zfs"], ["nfs4"], ["overlay"], ["fuse.sshfs"], [], ["ext4", "btrfs"]])
def test_what_may_need_new_room_or_is_not_known_is_not(
    kinds: list[str], file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, tmp_path, *kinds, file=file)
    assert map_in_place(file, 5000) is None


def test_nothing_is_mapped_where_nobody_says_what_is_mounted(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_in_place, "_MOUNTS", tmp_path / "nothing")
    assert find_file_system(file) is None
    assert map_in_place(file, 5000) is None


def test_a_file_that_cannot_be_mapped_is_not(file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, tmp_path, "ext4", file=file)
    assert map_in_place(file, 5001) is None  # longer than it is
