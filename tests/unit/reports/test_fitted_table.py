"""Tables of narrow terminals: figures stay whole, names give way, and what is left out is named."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from ownward.reports import Fitted

LONG = "a-name-of-twenty-four-ch"


def shown(width: int, *, folds: dict[int, int] | None = None, names: int = 12) -> list[str]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("price", justify="right")
    table.add_column("needs", overflow="fold")
    table.add_row(LONG, "$1,234,567", "4.52 GiB of it")
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(Fitted(table, names=names, leaves_out=(2, 1), folds=folds or {}))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_with_room_for_all_nothing_is_changed() -> None:
    assert shown(80)[1].split(maxsplit=2) == [LONG, "$1,234,567", "4.52 GiB of it"]


def test_names_are_folded_before_a_column_is_left_out() -> None:
    assert [line[:14] for line in shown(40)[1:]] == ["a-name-of-tw  ", "enty-four-ch"]
    assert "$1,234,567  4.52 GiB of it" in shown(40)[1]


def test_a_column_that_may_be_folded_is_where_names_shall_not() -> None:
    assert shown(48, names=24, folds={2: 8})[1].startswith(LONG)


def test_what_there_is_no_room_for_is_named_and_figures_stay_whole() -> None:
    lines = shown(30)
    assert "$1,234,567" in lines[1]
    assert "needs" not in lines[0]
    assert " ".join(lines).endswith("no room for needs: make the terminal wider, or use --json")


def test_columns_of_things_are_left_out_from_the_last_and_no_word_is_parted() -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "GeForce RTX 4090", "H200 SXM 141GB", "B200"):
        table.add_column(heading, overflow="fold")
    table.add_row("bandwidth, GB/s", "1,008", "4,800", "8,000")
    console = Console(width=37, file=io.StringIO(), record=True)
    console.print(Fitted.of_things(table))
    text = console.export_text()
    assert "GeForce" in text
    assert "4,800" in text
    assert "8,000" not in text
    assert "no room for B200" in text
