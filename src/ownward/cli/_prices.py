"""`ownward prices`: what APIs charge, with source and date."""

from __future__ import annotations

from typing import Any

import click

from ownward.cli._output import at_option, emit, json_option, today
from ownward.core import MissingPrice, to_jsonable

_SHOWN = 40


@click.group(invoke_without_command=True, epilog="Example: ownward prices search claude; ownward prices show gpt-5")
@click.pass_context
def prices(ctx: click.Context) -> None:
    """Search and show API prices: input, cached input, output, context steps, batch. Unknown is an error, never 0."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@prices.command(epilog="Example: ownward prices search deepseek --at 2026-11-21")
@click.argument("words", nargs=-1, required=True)
@at_option
@json_option
def search(*, words: tuple[str, ...], at: Any, as_json: bool) -> None:
    """List the prices whose provider and model contain every word."""
    from ownward.pricing import PriceBook

    found = PriceBook.load().search(" ".join(words), at=today(at), limit=None if as_json else _SHOWN)
    emit(_payload(found), as_json=as_json, render=_table)


@prices.command(epilog="Example: ownward prices show openai/gpt-5 --at 2026-11-21")
@click.argument("model")
@click.option("--provider", default=None, help="Whose API; a maker's own unless given.")
@click.option("--mode", type=click.Choice(["standard", "batch"]), default="standard", show_default=True)
@at_option
@json_option
def show(*, model: str, provider: str | None, mode: Any, at: Any, as_json: bool) -> None:
    """Show the price of a model in force on a date."""
    from ownward.pricing import PriceBook

    price = PriceBook.load().find(model, provider=provider, at=today(at), mode=mode)
    emit(_payload([price]), as_json=as_json, render=_table)


@prices.command(epilog="Example: ownward prices hosts qwen3-235b-a22b")
@click.argument("model")
@at_option
@json_option
def hosts(*, model: str, at: Any, as_json: bool) -> None:
    """List who hosts an open model, the cheapest first."""
    from ownward.cli._subjects import find_model
    from ownward.pricing import PriceBook

    release = find_model(model)
    found = PriceBook.load().hosts(release.id, at=today(at))
    if not found:
        raise MissingPrice(f"no host of {release.name!r} is known on {today(at)}", next_step="ownward prices search")
    emit(_payload(found), as_json=as_json, render=_table)


def _payload(found: list[Any]) -> dict[str, Any]:
    return {
        "schema": "ownward.prices/1",
        "prices": [{"price_id": price.price_id, **to_jsonable(price)} for price in found],
    }


def _table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    rows = payload["prices"]
    table = Table(box=None, title=f"{len(rows)} prices, USD per million tokens", title_justify="left")
    for heading in ("provider", "model", "input", "cached", "output", "since", "source"):
        table.add_column(heading, justify="right" if heading in {"input", "cached", "output"} else "left")
    for row in rows:
        steps = "".join(f" (above {step['above_input_tokens']:,}: {_short(step['input_usd_per_mtok'])})"
                        for step in row["steps"])  # fmt: skip
        table.add_row(
            row["provider"],
            row["model"],
            _short(row["input_usd_per_mtok"]) + steps,
            _short(row["cached_input_usd_per_mtok"]),
            _short(row["output_usd_per_mtok"]),
            row["valid_from"] or "?",
            row["source"],
        )
    return table


def _short(text: str | None) -> str:
    if text is None:
        return ""
    return text.rstrip("0").rstrip(".") if "." in text else text
