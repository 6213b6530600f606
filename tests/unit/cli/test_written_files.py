"""Files that commands write: whole or not at all, and what is no file stays what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ownward.cli._output import write_whole, writing_whole
from ownward.core import BadInput


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
