"""A table of a terminal that is narrow at times: figures are whole, and what tells least is left out first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

_SHORTEST_NAME: Final = 12
"""What the first column, of names, is shortened to before another is left out."""


class FittingTable:
    """Columns of which the first `texts` are words and the others figures; `leaves_out` are indexes, in that order."""

    def __init__(self, columns: Sequence[str], *, texts: int, leaves_out: Sequence[int]) -> None:
        """Begin without rows."""
        self._columns = columns
        self._texts = texts
        self._leaves_out = leaves_out
        self._rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row of as many cells as there are columns."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Yield the table with the columns that there is room for."""
        from rich.cells import cell_len

        widths = [
            max(cell_len(str(cell)) for cell in column) for column in zip(self._columns, *self._rows, strict=True)
        ]
        shown = list(range(len(widths)))
        leaves_out = iter(self._leaves_out)
        while True:
            others = sum(widths[index] + 1 for index in shown[1:])
            room = options.max_width - others
            if room >= min(widths[0], _SHORTEST_NAME) or (left := next(leaves_out, None)) is None:
                break
            shown.remove(left)
        yield self._table_of(shown, first_width=max(min(widths[0], room), 1))

    def _table_of(self, shown: Sequence[int], *, first_width: int) -> Table:
        from rich.table import Table

        table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
        for index in shown:
            table.add_column(
                self._columns[index],
                justify="left" if index < self._texts else "right",
                no_wrap=True,
                overflow="ellipsis",
                width=None if index else first_width,
            )
        for row in self._rows:
            table.add_row(*(row[index] for index in shown))
        return table
