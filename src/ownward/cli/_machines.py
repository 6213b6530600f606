"""`ownward machines`: the catalogue of devices, with every figure's source."""

from __future__ import annotations

from typing import Any

import click

from ownward.cli._output import emit, json_option
from ownward.cli._subjects import value_of
from ownward.core import format_bytes, format_usd, to_jsonable


@click.group(
    invoke_without_command=True, epilog="Example: ownward machines search rtx; ownward machines show 'RTX 4090'"
)
@click.pass_context
def machines(ctx: click.Context) -> None:
    """Search and show machines: memory, bandwidth, compute, power, price, each with its source.

    Without a subcommand, lists them all.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(search, words=(), as_json=False)


@machines.command(epilog="Example: ownward machines search h100")
@click.argument("words", nargs=-1)
@json_option
def search(*, words: tuple[str, ...], as_json: bool) -> None:
    """List the machines whose name contains every word."""
    from ownward import catalog

    payload = {
        "schema": "ownward.machines/1",
        "machines": [_row(item) for item in catalog.search_machines(" ".join(words))],
    }
    emit(payload, as_json=as_json, render=lambda shown: _compared(shown["machines"]))


@machines.command(epilog="Example: ownward machines show 'RTX 4090' --json")
@click.argument("name")
@json_option
def show(*, name: str, as_json: bool) -> None:
    """Show one machine, each figure with its basis, source and date."""
    from ownward import catalog

    machine = catalog.machine(name)
    payload = {"schema": "ownward.machine/1", **to_jsonable(machine)}
    emit(payload, as_json=as_json, render=lambda _: _facts(machine))


@machines.command(epilog="Example: ownward machines compare 'RTX 4090' 'RTX 5090' h200")
@click.argument("names", nargs=-1, required=True)
@json_option
def compare(*, names: tuple[str, ...], as_json: bool) -> None:
    """Put machines side by side."""
    from ownward import catalog

    payload = {"schema": "ownward.machines/1", "machines": [_row(catalog.machine(name)) for name in names]}
    emit(payload, as_json=as_json, render=lambda shown: _compared(shown["machines"]))


def _row(machine: Any) -> dict[str, Any]:
    return {
        "id": machine.id,
        "name": machine.name,
        "kind": machine.kind,
        "memory_label": value_of(machine.memory_label),
        "memory_bytes": value_of(machine.memory_bytes),
        "usable_memory_bytes": value_of(machine.usable_memory),
        "bandwidth_bytes_per_s": value_of(machine.bandwidth_bytes_per_s),
        "bf16_flop_per_s": value_of(machine.bf16_flop_per_s),
        "fp8_flop_per_s": value_of(machine.fp8_flop_per_s),
        "tdp_watts": value_of(machine.tdp_watts),
        "price_usd": to_jsonable(value_of(machine.price_usd)),
        "price_kind": machine.price_kind,
        "price_dated": machine.price_dated,
    }


def _compared(rows: list[dict[str, Any]]) -> Any:
    from decimal import Decimal

    from rich.table import Table

    table = Table(box=None, title=f"{len(rows)} machines", title_justify="left")
    for heading, justify in (
        ("id", "left"), ("memory", "right"), ("GB/s", "right"), ("BF16 TFLOP/s", "right"), ("W", "right"),
        ("price", "right"), ("price is", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        bandwidth, compute, watts = row["bandwidth_bytes_per_s"], row["bf16_flop_per_s"], row["tdp_watts"]
        price = row["price_usd"]
        table.add_row(
            row["id"],
            row["memory_label"] or "?",
            f"{bandwidth / 1e9:,.0f}" if bandwidth else "?",
            f"{compute / 1e12:,.0f}" if compute else "?",
            f"{watts:,.0f}" if watts else "?",
            format_usd(Decimal(price)).removesuffix(".00") if price else "?",
            " ".join(part for part in (row["price_kind"], row["price_dated"]) if part),
        )
    table.caption = "? is not known: nothing is guessed"
    return table


def _facts(machine: Any) -> Any:
    from rich.table import Table

    table = Table(box=None, title=f"{machine.name} ({machine.kind})", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("basis")
    table.add_column("source", overflow="fold")
    for name, fact in machine.facts.items():
        shown = format_bytes(fact.value) if name == "memory_bytes" else f"{fact.value:,}" if not isinstance(
            fact.value, str
        ) else fact.value  # fmt: skip
        table.add_row(name, shown, fact.basis, f"{fact.source} ({fact.checked_on})")
    table.caption = machine.note or None
    return table
