"""What is known of a release beside its anatomy: who may use it for what, its files, its published scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ownward.catalog import Checkpoint, Licence, Model, Score

_GIGA = 10**9
_SCORES_SHOWN = 8
_MEASURES = {
    "monthly_active_users": "{:,} monthly active users",
    "monthly_revenue_usd": "{:,} USD of monthly revenue",
    "annual_revenue_usd": "{:,} USD of yearly revenue",
}


def render_release(release: Model, *, name: str) -> str:
    """Return a release's name, maker, date and hub id in one line, and the checkpoint where `name` is one of it."""
    known = (release.maker, release.released and release.released.value, release.hub_id and release.hub_id.value)
    line = " · ".join(str(part) for part in (release.name, *known) if part)
    return line if name == release.name else f"{name}, a checkpoint of\n{line}"


def render_licence(licence: Licence, release: Model | None = None) -> list[Any]:
    """Return the gist of a licence with every threshold and what the statement rests on."""
    from rich.table import Table
    from rich.text import Text

    head = f"Licence: {licence.name} ({licence.id}); commercial use: {licence.commercial.value}"
    limits = Table.grid(padding=(0, 1))
    for limit in licence.limits:
        who = f" ({limit.business})" if limit.business else ""
        verb = "not allowed without more: " if limit.blocks else ""
        threshold = f"above {_MEASURES[limit.measure].format(limit.above)}" if limit.above else "at any size"
        limits.add_row("  -", Text(f"{threshold}{who}: {verb}{limit.then}"))
    if licence.excluded_regions:
        limits.add_row("  -", Text(f"not licensed in: {', '.join(licence.excluded_regions)}"))
    clause = f", {licence.clause}" if licence.clause else ""
    rests = f"({licence.gist.basis}: {licence.gist.source}{clause}; {licence.gist.checked_on})"
    parts: list[Any] = [Text(head, style="bold"), Text(licence.gist.value)]
    parts += [limits] if limits.row_count else []
    parts.append(Text(rests))
    if release is not None and release.licence is not None and release.licence.basis == "assumed":
        parts.append(Text("Whether the release carries this licence was not checked: read the release's own text."))
    return parts


def render_checkpoints(found: Sequence[Checkpoint], *, live_params: int | None) -> Table:
    """Return the known files of a release with their sizes and bits for each live parameter."""
    from rich.table import Table

    table = Table(box=None, title="Known checkpoints", title_justify="left", title_style="bold", pad_edge=False)
    for heading in ("", "quantisation", "GB", "bits/param"):
        table.add_column(heading, justify="right" if heading in {"GB", "bits/param"} else "left", overflow="fold")
    for item in sorted(found, key=lambda item: -(item.bytes.value if item.bytes else 0)):
        size = None if item.bytes is None else item.bytes.value
        bits = f"{8 * size / live_params:.2f}" if size and live_params else "?"
        gigabytes = "?" if size is None else f"{size / _GIGA:,.1f}"
        table.add_row(f"  {item.name}", item.quantisation, gigabytes + ("~" if item.is_rounded else ""), bits)
    if any(item.is_rounded for item in found):
        table.caption = "~ rounded by its source"
        table.caption_justify = "left"
    return table


def render_scores(found: Sequence[Score], *, warning: str, see: str | None = None) -> list[Any]:
    """Return published scores with who measured them, and the warning that goes with them.

    With `see`, the command that lists them all, only the first few, without conditions and sources.
    """
    from rich.padding import Padding
    from rich.text import Text

    parts: list[Any] = [Text("Published scores", style="bold")]
    shown = found if see is None else found[:_SCORES_SHOWN]
    width = max((len(item.benchmark) for item in shown), default=0)
    for item in shown:
        parts.append(Text(f"  {item.benchmark:{width}}  {_score(item):>7}  {item.kind}"))
        if see is None:
            detail = "; ".join(part for part in (item.conditions, item.score.source) if part)
            parts.append(Padding(Text(detail, style="dim"), (0, 0, 0, 6)))
    if len(found) > len(shown):
        parts.append(Text(f"  {len(found) - len(shown)} more, and all conditions: {see}"))
    return [*parts, Text(warning)]


def _score(item: Score) -> str:
    return f"{item.score.value:g}" + (" %" if item.metric == "%" else "")
