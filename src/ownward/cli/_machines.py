"""`ownward machines`: the catalogue of devices, what renting and power cost, with every figure's source."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._additions import add_table, fact_options, slug_of
from ownward.cli._lookup import catalog_files
from ownward.cli._numbers import ABOVE_ZERO
from ownward.cli._output import emit, example, json_option
from ownward.core import UsageError, format_bytes, format_counted, format_usd, parse_bandwidth, parse_bytes, to_jsonable

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from ownward.catalog import Comparison, Machine

_KINDS = (
    "gpu-consumer", "gpu-workstation", "gpu-datacenter", "soc-unified", "asic", "tpu", "cpu-platform", "storage",
)  # fmt: skip
_SHOWN_RENTALS = 40
_LEAST_MEMORY_GB = Decimal("0.1")  # as the catalogue has it
_SORTS = ("memory", "bandwidth", "compute", "watts", "price", "name")


@click.group(
    invoke_without_command=True, epilog=example("ownward machines search rtx", "ownward machines show 'RTX 4090'")
)
@click.pass_context
def machines(ctx: click.Context) -> None:
    """Search, show and compare machines; list rents and electricity; add your own.

    Memory, bandwidth, compute, power, price, each with its source. Without a subcommand, lists them all.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(search, words=(), kind=None, sort="memory", as_json=False)


@machines.command(epilog=example("ownward machines search rtx --kind gpu-consumer --sort bandwidth"))
@click.argument("words", nargs=-1)
@click.option("--kind", type=click.Choice(_KINDS), default=None, help="Only machines of this kind.")
@click.option("--sort", type=click.Choice(_SORTS), default="memory", show_default=True, help="What comes first.")
@json_option
def search(*, words: tuple[str, ...], kind: str | None, sort: str, as_json: bool) -> None:
    """List machines, the largest memory first.

    Every word is in the name. Of equal memories the faster comes first.
    """
    from ownward import catalog

    found = catalog.search_machines(" ".join(words), catalog_files())
    wanted = sorted((item for item in found if kind in (None, item.kind)), key=_ORDERS[sort])
    emit(
        to_jsonable(catalog.list_machines(wanted)),
        as_json=as_json,
        render=lambda shown: _listed(shown["machines"]),
    )


@machines.command(epilog=example("ownward machines show 'RTX 4090' --json"))
@click.argument("name")
@json_option
def show(*, name: str, as_json: bool) -> None:
    """Show a machine, every figure with its source."""
    from ownward import catalog

    machine = catalog.machine(name, catalog_files())
    payload = {
        "schema": "ownward.machine/1",
        **to_jsonable(machine),
        "usable_memory": to_jsonable(machine.usable_memory),
    }
    emit(payload, as_json=as_json, render=lambda _: _facts(machine))


@machines.command(epilog=example("ownward machines compare 'RTX 4090' 'RTX 5090' h200"))
@click.argument("names", nargs=-1, required=True, metavar="MACHINE MACHINE...")
@json_option
def compare(*, names: tuple[str, ...], as_json: bool) -> None:
    """Put machines side by side, figure by figure."""
    from ownward import catalog

    found = [catalog.machine(name, catalog_files()) for name in names]
    compared = catalog.compare(found)
    payload = {**to_jsonable(catalog.list_machines(found)), "comparison": to_jsonable(compared)}
    emit(payload, as_json=as_json, render=lambda _: _side_by_side(compared))


@machines.command(epilog=example("ownward machines rentals h100 --region eu"))
@click.argument("gpu", default="")
@click.option("--provider", default="", help="Only offers of providers whose name contains this.")
@click.option("--region", default="", help="Only offers in regions whose name contains this.")
@json_option
def rentals(*, gpu: str, provider: str, region: str, as_json: bool) -> None:
    """List instances for rent, the cheapest first.

    GPU is a catalogue name, or part of the provider's name for it.
    """
    from ownward import catalog

    found = catalog.rentals(gpu, provider=provider, region=region, extra=catalog_files())
    rows = [{**to_jsonable(offer), "usd_per_gpu_hour": to_jsonable(offer.usd_per_gpu_hour)} for offer in found]
    emit({"schema": "ownward.rentals/1", "rentals": rows}, as_json=as_json, render=_offers)


@machines.command(epilog=example("ownward machines electricity germany --customer business"))
@click.argument("place", default="")
@click.option(
    "--customer",
    type=click.Choice(["business", "commercial", "household"]),
    default=None,
    help="Only what such customers pay.",
)
@json_option
def electricity(*, place: str, customer: str | None, as_json: bool) -> None:
    """List prices of electricity and its carbon.

    Averages by country or region, to start from: your own tariff is better.
    """
    from ownward import catalog

    found = catalog.electricity(place, customer=customer or "", extra=catalog_files())
    carbon = catalog.carbon(place, extra=catalog_files()) if place else ()
    payload = {
        "schema": "ownward.electricity/1",
        "prices": [{**to_jsonable(item), "usd_per_kwh": to_jsonable(item.usd_per_kwh)} for item in found],
        "carbon": to_jsonable(carbon),
    }
    emit(payload, as_json=as_json, render=_tariffs)


@machines.command(
    epilog=example(
        "ownward machines add --name 'our Spark' --kind soc-unified --memory 128GB --bandwidth 273GB/s"
        " --basis datasheet --source 'the vendor page' --checked-on 2026-11-20"
    )
)
@click.option("--name", required=True, help="What you call it; its id is made from it.")
@click.option("--kind", required=True, type=click.Choice(_KINDS), help="What sort of machine it is.")
@click.option("--memory", metavar="SIZE", help="What the box says, such as 64GB.")
@click.option("--memory-bytes", metavar="SIZE", help="What a driver shows, such as 24564MiB or 25757220864.")
@click.option("--bandwidth", metavar="RATE", help="Bandwidth of its memory, such as 273GB/s.")
@click.option("--bf16-tflops", type=ABOVE_ZERO, help="BF16 rate, TFLOP/s, dense.")
@click.option("--fp16-tflops", type=ABOVE_ZERO, help="FP16 rate, dense.")
@click.option("--fp8-tflops", type=ABOVE_ZERO, help="FP8 rate, dense.")
@click.option("--fp4-tflops", type=ABOVE_ZERO, help="FP4 rate, dense.")
@click.option("--int8-tops", type=ABOVE_ZERO, help="INT8 rate, TOP/s, dense.")
@click.option("--watts", type=ABOVE_ZERO, help="Power at full load.")
@click.option("--price-usd", metavar="USD", help="What it costs; --price-kind says which sort of price.")
@click.option("--price-kind", help="launch_msrp, list, used, … as you would call it.")
@click.option("--vendor", default=None, help="Who makes it.")
@click.option("--note", default=None, help="A remark that show prints.")
@fact_options
@json_option
def add(
    *, name: str, kind: str, basis: str, source: str, checked_on: date, replace: bool, as_json: bool, **stated: Any
) -> None:
    """Add a machine of your own.

    It is written into the catalogue folder, for every command that takes a machine. What you do not know, leave out:
    unknown stays unknown. Single figures get a source of their own in the file.
    """
    from ownward import catalog

    machine_id = slug_of(name)
    if stated["price_usd"] is not None and stated["price_kind"] is None:
        raise UsageError("--price-usd without --price-kind", allowed="Say which sort: launch_msrp, list, used, …")
    table = {
        "id": machine_id,
        "name": name,
        "kind": kind,
        "vendor": stated["vendor"],
        "basis": basis,
        "source": source,
        "checked_on": checked_on,
        "memory_label": _read("--memory", stated["memory"], _as_label),
        "memory_bytes": _read("--memory-bytes", stated["memory_bytes"], parse_bytes),
        "bandwidth_bytes_per_s": _read("--bandwidth", stated["bandwidth"], parse_bandwidth),
        "bf16_flop_per_s": _tera(stated["bf16_tflops"]),
        "fp16_flop_per_s": _tera(stated["fp16_tflops"]),
        "fp8_flop_per_s": _tera(stated["fp8_tflops"]),
        "fp4_flop_per_s": _tera(stated["fp4_tflops"]),
        "int8_op_per_s": _tera(stated["int8_tops"]),
        "tdp_watts": stated["watts"],
        "price_usd": stated["price_usd"],
        "price_kind": stated["price_kind"],
        "note": stated["note"],
    }

    def check(text: str, path: Path) -> Machine:
        return catalog.machine_from_toml(text, file=str(path))

    path = add_table("machine", machine_id, table, identify=lambda row: row.get("id"), check=check, replace=replace)
    payload = {"schema": "ownward.added/1", "kind": "machine", "id": machine_id, "path": str(path)}
    emit(payload, as_json=as_json, render=lambda _: f"see it with: ownward machines show {machine_id}")


def _read(flag: str, text: str | None, parse: Callable[[str], Any]) -> Any:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{flag} is {text!r}: {error}") from error


def _as_label(text: str) -> str:
    size = parse_bytes(text)
    unit = 1024**3 if "i" in text.lower() else 10**9
    number = Decimal(size) / unit
    if number < _LEAST_MEMORY_GB:
        message = f"{size:,} bytes are less than any machine has; write what the box says, such as 64GB"
        raise ValueError(message)
    return f"{number.normalize():f} GB"


def _tera(number: float | None) -> float | None:
    return None if number is None else number * 1e12


def _rank(value: float | Decimal | None) -> float:
    """Return what sorts the largest first and the unknown last."""
    return 0.0 if value is None else -float(value)


def _value(fact: Any) -> Any:
    return None if fact is None else fact.value


def _by_use(machine: Machine) -> tuple[Any, ...]:
    return (
        machine.kind in {"cpu-platform", "storage"},
        _rank(_value(machine.usable_memory)),
        _rank(_value(machine.bandwidth_bytes_per_s)),
        machine.id,
    )


_ORDERS: dict[str, Callable[[Machine], Any]] = {
    "memory": _by_use,
    "bandwidth": lambda item: (_rank(_value(item.bandwidth_bytes_per_s)), item.id),
    "compute": lambda item: (_rank(_value(item.bf16_flop_per_s)), item.id),
    "watts": lambda item: (-_rank(_value(item.tdp_watts)) or float("inf"), item.id),
    "price": lambda item: (-_rank(_value(item.price_usd)) or float("inf"), item.id),
    "name": lambda item: item.id,
}


def _listed(rows: list[dict[str, Any]]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward.reports import Fitted

    table = _table(["memory", "GB/s", "BF16\nTFLOP/s", "W", "price"], first="id")
    table.add_column("price\nis", no_wrap=True)
    for row in rows:
        price = row["price_usd"]
        table.add_row(
            row["id"],
            (row["memory_label"] or "?").replace(" ", ""),
            _scaled(row["bandwidth_bytes_per_s"], 1e9),
            _scaled(row["bf16_flop_per_s"], 1e12),
            _scaled(row["tdp_watts"], 1),
            "?" if price is None else _dollars(price),
            (row["price_kind"] or "").partition("_")[0]
            + (f" {row['priced_memory_gb']}GB" if row["priced_memory_gb"] else ""),
        )
    return Group(
        Fitted(table, names=24, leaves_out=(6, 4, 3)),
        Text(
            f"{format_counted(len(rows), 'machine')}; ? is not known, nothing is guessed."
            " Dense rates; prices as dated in show."
        ),
    )


def _side_by_side(compared: Comparison) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward.reports import Fitted

    table = _table([])
    for name in compared.names:
        table.add_column(name, justify="right", overflow="fold")
    for line in compared.lines:
        shown = ["?" if fact is None else _shown(line.name, fact.value) for fact in line.facts]
        table.add_row(_HEADINGS.get(line.name, line.name), *shown)
    table.add_row("weakest basis", *(basis or "?" for basis in compared.bases))
    return Group(
        Fitted.of_things(table), Text("Dense rates. Sources of every figure: ownward machines show NAME, or --json")
    )


def _facts(machine: Machine) -> Any:
    from rich.console import Group
    from rich.text import Text

    sources: dict[str, int] = {}
    table = _table([""], first="")
    table.add_column("basis")
    table.add_column("from")
    facts = dict(machine.facts)
    if machine.memory_bytes is None and machine.usable_memory is not None:
        facts["usable_memory"] = machine.usable_memory
    for name, fact in facts.items():
        number = sources.setdefault(f"{fact.source} ({fact.checked_on})", len(sources) + 1)
        remark = f"  {fact.note}" if fact.note else ""
        table.add_row(_HEADINGS.get(name, name), _shown(name, fact.value), fact.basis, f"[{number}]{remark}")
    kind = " ".join(part for part in (machine.price_kind, machine.price_dated) if part)
    of_size = "" if machine.priced_memory_gb is None else f", of {machine.priced_memory_gb} GB; this size has none here"
    notes = [f"The price is: {kind}{of_size}."] if kind and machine.price_usd is not None else []
    notes += [f"Note: {machine.note}."] if machine.note else []
    listed = [Text(f"[{number}] {source}") for source, number in sources.items()]
    head = Text(f"{machine.name} ({machine.kind}), id {machine.id}", style="bold")
    return Group(head, table, *(Text(note) for note in notes), *listed)


def _offers(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward.reports import Fitted

    rows = payload["rentals"]
    table = _table(["$/GPU h", "$/h", "spot $/h"], first="instance")
    table.add_column("provider, region", overflow="fold")
    table.add_column("GPU", overflow="fold")
    for row in rows[:_SHOWN_RENTALS]:
        place = ", ".join(part for part in (row["provider"], row["region"]) if part)
        table.add_row(
            row["instance"],
            _hourly(row["usd_per_gpu_hour"]),
            _hourly(row["on_demand_usd_per_hour"]),
            _hourly(row["spot_usd_per_hour"]),
            place,
            f"{row['count']} x {row['gpu']}",
        )
    rest = len(rows) - _SHOWN_RENTALS
    more = f"{rest} more with --json. " if rest > 0 else ""
    dated = "Prices are for the whole instance; --json says when each was read, and some sources are a year old."
    fitted = Fitted(table, names=16, folds={4: 17, 5: 17}, leaves_out=(3, 2))
    return Group(fitted, Text(f"{more}{dated}" if rows else "no offer is known"))


def _tariffs(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    table = _table(["a kWh", "of"], first="place")
    table.add_column("customer")
    for row in payload["prices"]:
        place = ", ".join(part for part in (row["country"], row["region"]) if part)
        price = Decimal(row["price_per_kwh"]["value"])
        table.add_row(place, f"{price.normalize():f} {row['currency']}", row["dated"], row["customer"])
    lines = [
        f"{item['country']}: {item['gco2e_per_kwh']['value']:g} g CO2e a kWh ({item['dated']})"
        for item in payload["carbon"]
    ]
    if not payload["prices"]:
        return Group(*(Text(line) for line in ["no price is known there", *lines]))
    lines.append("Averages to start from. State your own tariff: economics.usd_per_kwh in ownward.toml.")
    return Group(table, *(Text(line) for line in lines))


_HEADINGS = {
    "memory_label": "memory on the box",
    "memory_bytes": "driver shows",
    "usable_memory": "taken as usable",
    "bandwidth_bytes_per_s": "bandwidth, GB/s",
    "bf16_flop_per_s": "BF16, TFLOP/s",
    "fp16_flop_per_s": "FP16, TFLOP/s",
    "fp8_flop_per_s": "FP8, TFLOP/s",
    "fp4_flop_per_s": "FP4, TFLOP/s",
    "int8_op_per_s": "INT8, TOP/s",
    "tdp_watts": "power, W",
    "price_usd": "price",
    "launched": "launched",
}


def _shown(name: str, value: Any) -> str:
    if name in {"memory_bytes", "usable_memory"}:
        return format_bytes(value)
    if name == "price_usd":
        return _dollars(value)
    if name.endswith(("_flop_per_s", "_op_per_s")):
        return _scaled(value, 1e12)
    if name == "bandwidth_bytes_per_s":
        return _scaled(value, 1e9)
    return _scaled(value, 1) if isinstance(value, int | float) else str(value)


def _scaled(value: float | None, unit: float) -> str:
    if value is None:
        return "?"
    scaled = value / unit
    return f"{scaled:,.0f}" if scaled >= 100 or scaled == int(scaled) else f"{scaled:.1f}"  # noqa: PLR2004


def _dollars(price: Decimal | str) -> str:
    return format_usd(Decimal(price)).removesuffix(".00")


def _hourly(price: Any) -> str:
    stated = price["value"] if isinstance(price, dict) else price
    return "" if stated is None else f"{Decimal(stated):.2f}"


def _table(headings: list[str], *, first: str = "") -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
