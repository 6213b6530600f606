"""`ownward prices`: what APIs charge, with source and date."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._additions import add_table, fact_options, parse_day, slug_of
from ownward.cli._lookup import find_model, load_price_book
from ownward.cli._output import at_option, emit, example, json_option, today
from ownward.core import MissingPrice, StalePrice, UnknownModel, UsageError, format_counted, format_usd, to_jsonable

if TYPE_CHECKING:
    from pathlib import Path

    from ownward.pricing import Price, PriceBook, PriceStep

_SHOWN = 40
_REQUESTS = 1000
_MODES = ("standard", "batch", "fast", "flex", "thinking", "ultrafast")

_mode_option = click.option(
    "--mode", type=click.Choice(_MODES), default="standard", show_default=True, help="How the provider processes it."
)


@click.group(invoke_without_command=True, epilog=example("ownward prices search claude", "ownward prices show gpt-5"))
@click.pass_context
def prices(ctx: click.Context) -> None:
    """Search, show and compare API prices: input, cached input, output, context steps, modes; add your own.

    Unknown is an error, never 0.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@prices.command(epilog=example("ownward prices search deepseek --at 2026-11-21"))
@click.argument("words", nargs=-1, required=True)
@at_option
@json_option
def search(*, words: tuple[str, ...], at: Any, as_json: bool) -> None:
    """List prices: your own, makers', then hosts'.

    Every word is in the provider's or the model's name.
    """
    listed = load_price_book().search(" ".join(words), at=today(at))
    found = list({price.price_id: price for price in listed}.values())  # several names can mean one price
    emit(_payload(found), as_json=as_json, render=lambda _: _table(found[:_SHOWN], cut=len(found) > _SHOWN))


@prices.command(epilog=example("ownward prices show openai/gpt-5 --at 2026-11-21"))
@click.argument("model")
@click.option("--provider", default=None, help="Whose API; the maker's own unless given.")
@click.option(
    "--mode", type=click.Choice(_MODES), default=None, help="Only this mode; all that are known unless given."
)
@at_option
@json_option
def show(*, model: str, provider: str | None, mode: Any, at: Any, as_json: bool) -> None:
    """Show what a model costs on a date.

    Every mode known, steps by length, cache rates, source.
    """
    book = load_price_book()
    found = [book.find(model, provider=provider, at=today(at), mode=mode or "standard")]
    for other in _MODES[1:] if mode is None else ():
        try:
            price = book.find(found[0].model, provider=found[0].provider, at=today(at), mode=other)  # type: ignore[arg-type]
        except (MissingPrice, StalePrice):
            continue
        found += [price] if price.provider == found[0].provider else []
    emit(_payload(found), as_json=as_json, render=lambda _: _sheet(found))


@prices.command(
    epilog=example("ownward prices compare gpt-5-mini claude-haiku-4-5 --input 2000 --output 300 --cached 0")
)
@click.argument("models", nargs=-1, required=True, metavar="[PROVIDER/]MODEL...")
@click.option("--input", "input_tokens", type=click.IntRange(min=0), default=3000, show_default=True,
              help="Input tokens of one request, cached and written ones included.")  # fmt: skip
@click.option("--output", "output_tokens", type=click.IntRange(min=0), default=1000, show_default=True,
              help="Output tokens of one request, thinking included.")  # fmt: skip
@click.option("--cached", "cached_tokens", type=click.IntRange(min=0), default=0, show_default=True,
              help="Input tokens read from the provider's cache.")  # fmt: skip
@click.option("--cache-write", "written_tokens", type=click.IntRange(min=0), default=0, show_default=True,
              help="Input tokens written to it.")  # fmt: skip
@_mode_option
@at_option
@json_option
def compare(
    *,
    models: tuple[str, ...],
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int,
    written_tokens: int,
    mode: Any,
    at: Any,
    as_json: bool,
) -> None:
    """Compare what 1,000 requests cost.

    The same request at each of the models, the cheapest first.
    """
    import msgspec

    from ownward.pricing import Usage

    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached_tokens,
        cache_write_tokens=written_tokens,
    )
    book = load_price_book()
    charged = [(price.compute_charge_usd(usage), price) for price in
               (book.find(model, at=today(at), mode=mode) for model in models)]  # fmt: skip
    charged.sort(key=lambda pair: (pair[0], pair[1].provider, pair[1].model))
    payload = {
        "schema": "ownward.price-comparison/1",
        "at": to_jsonable(today(at)),
        "usage": msgspec.structs.asdict(usage),
        "prices": [
            {
                "usd_per_1000_requests": to_jsonable(_REQUESTS * charge),
                "usd_per_request": to_jsonable(charge),
                "rates": _rates(price, usage.input_tokens),
                **_row(price),
            }
            for charge, price in charged
        ],
    }
    emit(payload, as_json=as_json, render=lambda _: _compared(charged, usage))


@prices.command(epilog=example("ownward prices hosts qwen3-235b-a22b"))
@click.argument("model")
@at_option
@json_option
def hosts(*, model: str, at: Any, as_json: bool) -> None:
    """List who hosts an open model.

    The cheapest first, for three input tokens to one output token.
    """
    release = find_model(model)
    try:
        found = load_price_book().hosts(release.id, at=today(at))
    except UnknownModel:  # a model of the user's own, which no table of hosts names
        found = []
    if not found:
        raise MissingPrice(
            f"no host of {release.name!r} is known on {today(at)}",
            next_step="Search all prices with: ownward prices search NAME",
        )
    emit(_payload(found), as_json=as_json, render=lambda _: _table(found))


@prices.command(epilog=example("ownward prices history deepseek-chat --provider deepseek"))
@click.argument("model")
@click.option("--provider", default=None, help="Whose API; the maker's own unless given.")
@at_option
@json_option
def history(*, model: str, provider: str | None, at: Any, as_json: bool) -> None:
    """List what a model has cost over time.

    As far back as prices are known.
    """
    found = _history(load_price_book(), model, provider, today(at))
    emit(_payload(found), as_json=as_json, render=lambda _: _dated(found))


@prices.command(
    epilog=example(
        "ownward prices add --provider our-reseller --model gpt-4o --input 2.00 --output 8.00"
        " --basis 'price page' --source 'contract, annex B' --checked-on 2026-11-20"
    )
)
@click.option("--provider", required=True, help="Who charges it.")
@click.option("--model", required=True, help="The name its API knows.")
@click.option("--input", "input_rate", required=True, metavar="USD", help="Per million input tokens.")
@click.option("--output", "output_rate", required=True, metavar="USD", help="Per million output tokens.")
@click.option(
    "--cached", "cached_rate", metavar="USD", help="Per million cached input tokens; the input price unless given."
)
@click.option("--cache-write", "write_rate", metavar="USD", help="Per million written to the cache.")
@click.option("--per-request", "request_rate", metavar="USD", help="Per request, on top.")
@_mode_option
@click.option("--valid-from", metavar="DATE", default=None, help="The first day it holds.")
@click.option("--valid-to", metavar="DATE", default=None, help="The first day it no longer holds.")
@click.option("--free", is_flag=True, help="It costs nothing; a price of 0 needs this.")
@click.option("--note", default=None, help="A remark that show prints.")
@fact_options
@json_option
def add(
    *, provider: str, model: str, mode: str, free: bool, note: str | None, basis: str, source: str, checked_on: date,
    replace: bool, as_json: bool, **stated: Any,
) -> None:  # fmt: skip
    """Add a price of your own.

    It is written into the catalogue folder and goes before every other price of the same name.

    Steps by length are written in the file by hand: steps = [{ above_input_tokens = …, … }].
    """
    from ownward.pricing import prices_from_toml

    valid_from = parse_day("--valid-from", stated["valid_from"])
    table = {
        "provider": provider,
        "model": model,
        "input_usd_per_mtok": _usd("--input", stated["input_rate"]),
        "output_usd_per_mtok": _usd("--output", stated["output_rate"]),
        "cached_input_usd_per_mtok": _usd("--cached", stated["cached_rate"]),
        "cache_write_usd_per_mtok": _usd("--cache-write", stated["write_rate"]),
        "usd_per_request": _usd("--per-request", stated["request_rate"]),
        "mode": None if mode == "standard" else mode,
        "valid_from": valid_from,
        "valid_to": parse_day("--valid-to", stated["valid_to"]),
        "free": free or None,
        "basis": basis,
        "source": source,
        "checked_on": checked_on,
        "note": note,
    }
    name = slug_of(provider, model, table["mode"], None if valid_from is None else valid_from.isoformat())  # type: ignore[arg-type]

    def check(text: str, path: Path) -> object:
        return prices_from_toml(text, file=str(path))

    path = add_table("price", name, table, identify=_identity, check=check, replace=replace)
    payload = {"schema": "ownward.added/1", "kind": "price", "id": f"{provider}/{model}", "path": str(path)}
    emit(payload, as_json=as_json, render=lambda _: f"see it with: ownward prices show {provider}/{model}")


def _identity(row: Any) -> object:
    """Return what tells one stated price from another: a later one of the same model is another price."""
    return (
        str(row.get("provider")).lower(),
        str(row.get("model")).lower(),
        row.get("mode") or "standard",
        row.get("period") or None,
        row.get("valid_from"),
    )


def _usd(flag: str, text: str | None) -> str | None:
    """Return an amount as the text that a price file keeps, every digit of it."""
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"{flag} is {text!r}, not an amount", allowed="USD per million tokens, such as 0.15")
    return format(amount, "f")


def _history(book: PriceBook, model: str, provider: str | None, day: date) -> list[Price]:
    """Return the standard prices of a model up to `day`, oldest first: dated rows, or found by stepping back."""
    newest = book.find(model, provider=provider, at=day)
    found = {price.price_id: price for price in book.history(newest.model, provider=newest.provider)}
    found[newest.price_id] = newest
    price = newest
    while price.valid_from is not None:
        try:
            price = book.find(newest.model, provider=newest.provider, at=price.valid_from - timedelta(days=1))
        except (MissingPrice, StalePrice):
            break
        if price.price_id in found:
            break
        found[price.price_id] = price
    return sorted(found.values(), key=lambda known: known.valid_from or date.min)


def _row(price: Price) -> dict[str, Any]:
    return {"price_id": price.price_id, **to_jsonable(price)}


def _payload(found: list[Price]) -> dict[str, Any]:
    return {"schema": "ownward.prices/1", "prices": [_row(price) for price in found]}


def _rates(price: Price, input_tokens: int) -> dict[str, Any]:
    at = price.rates_for(input_tokens)
    return {
        name: to_jsonable(getattr(at, name))
        for name in (
            "input_usd_per_mtok",
            "cached_input_usd_per_mtok",
            "cache_write_usd_per_mtok",
            "output_usd_per_mtok",
        )
    }


def _table(found: list[Price], *, cut: bool = False) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward.reports import Fitted

    table = _new_table("model", ("input", "cached", "output"))
    table.add_column("since", no_wrap=True)
    table.add_column("source", overflow="fold")
    for price in found:
        steps = "+" if price.steps else ""
        table.add_row(
            f"{price.provider}/{price.model}",
            _short(price.input_usd_per_mtok) + steps,
            _short(price.cached_input_usd_per_mtok),
            _short(price.output_usd_per_mtok) + steps,
            "?" if price.valid_from is None else str(price.valid_from)[:7],
            _site(price.source),
        )
    notes = [f"{format_counted(len(found), 'price')}, USD per million tokens; sources in full: --json"]
    if any(price.steps for price in found):
        notes.append("+ more for long inputs: ownward prices show MODEL")
    if cut:
        notes.append(f"There are more than the {_SHOWN} shown: add a word, or see them all with --json")
    return Group(Fitted(table, names=24, leaves_out=(5, 4, 2)), *(Text(note) for note in notes))


def _sheet(found: list[Price]) -> Any:
    from rich.console import Group
    from rich.text import Text

    first = found[0]
    table = _new_table("USD per million tokens", ("input", "cached", "write", "output"))
    for price in found:
        label = price.mode if price.period is None else f"{price.mode}, {price.period.replace('_', ' ')}"
        holders: tuple[Price | PriceStep, ...] = (price, *price.steps)
        for at in holders:
            above = getattr(at, "above_input_tokens", None)
            table.add_row(
                f"  {label}" if above is None else f"    inputs above {above:,} tokens",
                _short(at.input_usd_per_mtok),
                _short(at.cached_input_usd_per_mtok),
                _short(at.cache_write_usd_per_mtok),
                _short(at.output_usd_per_mtok),
            )
    until = "" if first.valid_to is None else f", until {first.valid_to}"
    lines = [
        f"from {first.valid_from or '?'}{until}; read {first.checked_on} ({first.basis})",
        f"source: {first.source}",
    ]
    lines += [f"note: {first.note}"] if first.note else []
    lines += [f"plus {format_usd(first.usd_per_request)} for each request"] if first.usd_per_request else []
    if first.cached_input_usd_per_mtok is None:
        lines.append("no cached price is known: cached tokens are charged as input")
    head = Text(f"{first.model} at {first.provider}", style="bold")
    return Group(head, table, *(Text(line) for line in lines))


def _compared(charged: list[tuple[Decimal, Price]], usage: Any) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward.reports import Fitted

    table = _new_table("model", ("input", "cached", "output", "$ per 1,000\nrequests", "times"))
    table.add_column("since", no_wrap=True)
    lowest = next((charge for charge, _ in charged if charge), None)
    for charge, price in charged:
        at = price.rates_for(usage.input_tokens)
        table.add_row(
            f"{price.provider}/{price.model}",
            _short(at.input_usd_per_mtok),
            _short(at.cached_input_usd_per_mtok),
            _short(at.output_usd_per_mtok),
            format_usd(_REQUESTS * charge),
            "" if lowest is None else f"{charge / lowest:.2f}",
            "?" if price.valid_from is None else str(price.valid_from)[:7],
        )
    cached = f", {usage.cached_input_tokens:,} of them cached" if usage.cached_input_tokens else ""
    written = f", {usage.cache_write_tokens:,} written to the cache" if usage.cache_write_tokens else ""
    request = f"A request: {usage.input_tokens:,} tokens in{cached}{written}, {usage.output_tokens:,} out."
    notes = [f"{request} Rates are USD per million tokens at that length."]
    if usage.cached_input_tokens and any(price.cached_input_usd_per_mtok is None for _, price in charged):
        notes.append("Where no cached price is known, cached tokens are charged as input.")
    notes.append("Models count tokens differently and answer at different lengths: measure on your own tasks.")
    return Group(Fitted(table, names=24, leaves_out=(6, 2, 5)), *(Text(note) for note in notes))


def _dated(found: list[Price]) -> Any:
    from rich.console import Group
    from rich.text import Text

    table = _new_table("from", ("input", "cached", "output"))
    table.add_column("source", overflow="fold")
    for price in found:
        table.add_row(
            str(price.valid_from or "as far as known"),
            _short(price.input_usd_per_mtok),
            _short(price.cached_input_usd_per_mtok),
            _short(price.output_usd_per_mtok),
            _site(price.source),
        )
    newest = found[-1]
    return Group(Text(f"{newest.model} at {newest.provider}, USD per million tokens", style="bold"), table)


def _new_table(first: str, numbers: tuple[str, ...]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _site(source: str) -> str:
    """Return where a price was read, short enough for a column.

    >>> _site("https://github.com/sst/models.dev/commit/e60ca76 (via model-prices)"), _site("contract, annex B")
    ('models.dev', 'contract, annex B')
    """
    address = source.partition("://")[2]
    if not address:
        return source
    if "models.dev" in address:
        return "models.dev"
    return address.partition("/")[0].removeprefix("www.").removeprefix("docs.").removeprefix("console.")


def _short(rate: Decimal | None) -> str:
    if rate is None:
        return ""
    text = format(rate, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
