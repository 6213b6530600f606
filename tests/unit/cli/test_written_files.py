"""Files that commands write: whole or not at all, and what is no file stays what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ownward.cli import run
from ownward.cli._output import require_writable, write_whole, writing_whole
from ownward.core import BadInput
from ownward.demo import claim_folder


def test_what_an_error_ends_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    there = tmp_path / "rows.jsonl"
    there.write_text("old")
    with pytest.raises(KeyError), writing_whole(there) as stream:
        stream.write({"half": "new"}["whole"])
    assert there.read_text() == "old"
    assert list(tmp_path.iterdir()) == [there]


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path):
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    write_whole(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_stays_a_pipe_and_is_written(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "told")
        assert os.read(reader, 100) == b"told"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", ["nowhere/file", "file/below", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("old")
    with pytest.raises(BadInput, match="cannot write"):
        write_whole(tmp_path / place, "new")
    assert (tmp_path / "file").read_text() == "old"


EARLY = [
    ["fit", "--machine", "RTX 4090", "--html"],
    ["plan", "--ledger", "no-ledger.db", "--out"],
    ["simulate", "--trace", "no-trace.jsonl", "--model", "qwen3-0.6b", "--machine", "RTX 4090", "--per-request"],
    ["bench", "--output"],
]


@pytest.mark.parametrize("command", EARLY, ids=lambda words: words[0])
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
):
    """Before anything is read, computed or measured: the ledger and the trace that are named are not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ownward.probe.this_machine", lambda **_: pytest.fail("measured"))
    (tmp_path / "file").touch()
    assert run([*command, str(tmp_path / "file" / "page.out"), "--json"]) == 2
    assert "cannot write" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_asking_whether_a_file_can_be_written_leaves_no_trace(tmp_path: Path):
    (tmp_path / "there").write_text("old")
    require_writable(tmp_path / "there")
    require_writable(tmp_path / "new")
    require_writable(Path(os.devnull))
    assert (tmp_path / "there").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_folder_that_is_a_file_is_told_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OWNWARD_ENGINE_CACHE_DIR", str(tmp_path / "file"))
    assert run(["models", "pull", "--json"]) == 2
    assert "Not a directory" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize("name", ["ledger.db", "plan.toml"])
def test_the_demo_writes_over_no_ledger_or_plan_that_it_did_not_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    (tmp_path / name).write_text("mine")
    assert run(["demo", "--out", str(tmp_path), "--json"]) == 2
    assert "--out" in json.loads(capsys.readouterr().out)["error"]["next"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_folder_that_a_demo_made_is_taken_again_and_a_file_is_no_folder(tmp_path: Path):
    claim_folder(tmp_path / "demo")
    (tmp_path / "demo" / "ledger.db").touch()
    claim_folder(tmp_path / "demo")
    with pytest.raises(BadInput, match="cannot write into"):
        claim_folder(tmp_path / "demo" / "ledger.db")
