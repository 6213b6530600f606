"""Tables of a terminal that is narrow at times: figures are whole, and what tells least is left out first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Column, Table
    from rich.text import Text

_SHORTEST_NAME: Final = 12


class Fitted:
    """A table without the columns that there is no room for, and a line that names those.

    The first column holds names and gives way first, until it is `names` wide. `folds` says to what width other columns
    may be folded, by their indexes; `leaves_out` which may be left out, in that order.
    """

    def __init__(
        self,
        table: Table,
        *,
        leaves_out: Sequence[int],
        names: int = _SHORTEST_NAME,
        folds: Mapping[int, int] = MappingProxyType({}),
        tells: bool = True,
    ) -> None:
        """Take a table whose rows are all there."""
        self._table = table
        self._leaves_out = leaves_out
        self._names = names
        self._folds = folds
        self._tells = tells

    @classmethod
    def of_things(cls, table: Table) -> Fitted:
        """Return a table with a column for each thing, as many of them as there is room for without parting a word."""
        folds = {
            index: max(len(word) for cell in (column.header, "?", *column.cells) for word in str(cell).split())
            for index, column in enumerate(table.columns)
        }
        return cls(table, names=_natural_width(table.columns[0]), folds=folds, leaves_out=range(len(folds) - 1, 1, -1))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        """Yield the table with the columns that there is room for."""
        from copy import copy

        from rich.text import Text

        table = self._table
        gap = table.padding[1] + table.padding[3]
        widths = [_natural_width(column) for column in table.columns]
        least = [min(width, self._folds.get(index, width)) for index, width in enumerate(widths)]
        shortest = min(widths[0], self._names)
        shown = list(range(len(widths)))
        leaves_out = iter(self._leaves_out)
        while True:
            gaps = gap * (len(shown) - (not table.pad_edge))
            room = options.max_width - gaps - sum(least[index] for index in shown[1:])
            if room >= shortest or (left := next(leaves_out, None)) is None:
                break
            shown.remove(left)
        fitted = copy(table)
        fitted.columns = [replace(table.columns[of], _index=index) for index, of in enumerate(shown)]
        folded = sum(widths[index] - least[index] for index in shown[1:])
        first = max(min(widths[0], max(shortest, room - folded), room), 1)
        fitted.columns[0].width = first
        for index, column in zip(shown[1:], fitted.columns[1:], strict=True):
            column.width = min(widths[index], least[index] + max(room - first, 0))
            room -= column.width - least[index]
        yield fitted
        lost = [" ".join(str(column.header).split()) for at, column in enumerate(table.columns) if at not in shown]
        if lost and self._tells:
            yield Text(f"no room for {', '.join(filter(None, lost))}: make the terminal wider, or use --json")


class FittingTable:
    """Columns of which the first `texts` are words and the others figures; `leaves_out` are indexes, in that order."""

    def __init__(self, columns: Sequence[str], *, texts: int, leaves_out: Sequence[int]) -> None:
        """Begin without rows."""
        from rich.table import Table

        self._leaves_out = leaves_out
        self._table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
        for index, heading in enumerate(columns):
            justify = "left" if index < texts else "right"
            self._table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]

    def add_row(self, *cells: str | Text) -> None:
        """Add a row of as many cells as there are columns."""
        self._table.add_row(*cells)

    def __rich__(self) -> Fitted:
        """Return the table with the columns that there is room for."""
        return Fitted(self._table, leaves_out=self._leaves_out, tells=False)


def _natural_width(column: Column) -> int:
    from rich.cells import cell_len

    cells = [column.header, *column.cells]
    widest = max((cell_len(line) for cell in cells for line in str(cell).splitlines()), default=0)
    return min(widest, column.max_width or widest)
