"""`ownward fit`: will it run here, in which format, how fast, at what cost; and what to buy for a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._fit_commands import context_of, launch_commands
from ownward.cli._fit_record import fit_record
from ownward.cli._fit_releases import Releases
from ownward.cli._fit_target import THIS, FitTarget, find_host, find_target, with_stated
from ownward.cli._lookup import catalog_files, find_anatomy, find_checkpoint, is_path
from ownward.cli._numbers import ABOVE_ZERO, MOST
from ownward.cli._output import at_option, console, example, json_option, say, today, writable_file, write_whole
from ownward.cli._serving_choice import needs_of, room_for
from ownward.core import InfeasiblePlan, OwnwardError, UsageError, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ownward.anatomy import Anatomy
    from ownward.catalog import Model
    from ownward.economics import Assumptions
    from ownward.engines import Room, ServingChoice
    from ownward.planner import FitOption, Merit, Nearest, StoredAs
    from ownward.reports import FitLine, FitReport

NOTHING_FITS = InfeasiblePlan.exit_code
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _NamedModels:
    """The models that were named, or the whole catalogue; of those that are files, by name, kind and path."""

    anatomies: tuple[Anatomy, ...]
    stored_as: dict[str, StoredAs]
    sources: dict[str, str]
    is_catalogue: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names; none for the catalogue."""
        return () if self.is_catalogue else tuple(dict.fromkeys(anatomy.name for anatomy in self.anatomies))


@dataclass(frozen=True, slots=True, kw_only=True)
class _FitArguments:
    """What `planner.fit` and `planner.advise` both take besides models and machine."""

    engine: str | None
    formats: tuple[str, ...]
    context_tokens: int
    concurrency: int
    kv_type: str
    assumptions: Assumptions

    def as_keywords(self) -> dict[str, Any]:
        """Return them as keywords."""
        return {name: getattr(self, name) for name in self.__slots__}


@click.command(epilog=example("ownward fit qwen3-30b-a3b --machine 'RTX 4090' --context 16384"))
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--machine",
    "machine_name",
    default=None,
    metavar="M",
    help='A catalogue name, 2x"RTX 3090", a file, or `this`. [default: this]',
)
@click.option("--ram", metavar="SIZE", help="Free memory of the host behind a card, such as 64GB.")
@click.option("--ssd", metavar="RATE", help="Read rate of the disk behind it, such as 7GB/s.")
@click.option("--watts", type=ABOVE_ZERO, help="Power of each device at work, if you know.")
@click.option("--price", metavar="USD", help="What each device costs you, instead of the catalogue's price.")
@click.option("--budget", metavar="USD", help="Ask what to buy for this much, instead of naming --machine.")
@click.option("--host-price", metavar="USD", help="With --budget: price of the computer around a card. [default: 800]")
@click.option(
    "--engine",
    type=click.Choice(["llama.cpp", "vllm"]),
    default=None,
    help="Chosen by the kind of machine unless given.",
)
@click.option(
    "--weights", multiple=True, help="Weight formats to try, such as q4_k_m; all of the engine's unless given."
)
@click.option(
    "--context",
    "context_tokens",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Tokens each sequence holds.",
)
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at a time.")
@click.option(
    "--kv-type",
    type=click.Choice(["bf16", "fp8", "q8_0", "q4_0"]),
    default="bf16",
    show_default=True,
    help="Format of the cache.",
)
@click.option(
    "--html",
    "html_file",
    metavar="FILE",
    callback=writable_file,
    help="Write the answer as one self-contained HTML page.",
)
@at_option
@json_option
def fit(
    *,
    models: tuple[str, ...],
    machine_name: str | None,
    ram: str | None,
    ssd: str | None,
    watts: float | None,
    price: str | None,
    budget: str | None,
    host_price: str | None,
    engine: str | None,
    weights: tuple[str, ...],
    context_tokens: int,
    concurrency: int,
    kv_type: str,
    html_file: str | None,
    at: Any,
    as_json: bool,
) -> int:
    """Rank the ways to run MODELs on a machine; without a MODEL, the best of the catalogue for it.

    Memory is counted, tensor by tensor; speeds are predictions with an 80% band. A MODEL is a name of the catalogue, a
    file (config.json, GGUF, safetensors, an index) or a checkpoint elsewhere, hf:org/name. Exit code 3: nothing fits.
    """
    from ownward.cli._assumptions import assumptions_from
    from ownward.cli._context import load_settings
    from ownward.perf import weight_format

    if budget is not None and machine_name is not None:
        raise UsageError("--budget and --machine cannot be used together", next_step="Leave one of them out")
    if budget is None and host_price is not None:
        raise UsageError("--host-price goes with --budget")
    if budget is not None and (watts is not None or price is not None):
        raise UsageError("--watts and --price are of one machine, and --budget asks about many")
    day = today(at)
    releases = Releases(day)
    named = _find_models(models)
    arguments = _FitArguments(
        engine=engine,
        formats=tuple(weight_format(name) for name in weights),
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_type=kv_type,
        assumptions=assumptions_from(load_settings(), at=day),
    )
    if budget is not None:
        report = _report_on_budget(
            named,
            arguments,
            releases,
            budget_usd=_parse_usd(budget, "--budget"),
            host_usd=None if host_price is None else _parse_usd(host_price, "--host-price"),
            host=find_host(ram=ram, ssd=ssd),
        )
    else:
        target = find_target(machine_name or THIS, ram=ram, ssd=ssd)
        own_price = None if price is None else _parse_usd(price, "--price")
        report = _report_on_machine(
            named, arguments, releases, with_stated(target, watts=watts, price_usd=own_price, at=day)
        )
    if html_file is not None:
        from ownward.reports import write_fit_page

        write_whole(Path(html_file), write_fit_page(report))
        say(f"wrote {html_file}")

    if as_json:
        print(to_json(fit_record(report)))
    else:
        from ownward.reports import render_fit

        console().print(render_fit(report), crop=False)  # a command is copied whole, however long a path in it
    return 0 if report.fitting else NOTHING_FITS


def _find_models(names: Sequence[str]) -> _NamedModels:
    """Return the models that were named, or every one of the catalogue that can be read."""
    from ownward import catalog
    from ownward.cli._remote import is_remote_name

    stored_as: dict[str, StoredAs] = {}
    sources: dict[str, str] = {}
    found: list[Anatomy] = []
    if not names:
        everything = _readable(catalog.models(catalog_files()))
        return _NamedModels(anatomies=tuple(everything), stored_as={}, sources={}, is_catalogue=True)
    for name in dict.fromkeys(names):
        anatomy = find_anatomy(name, may_fetch=True)
        is_file = is_path(name) or is_remote_name(name)
        if any(other.name == anatomy.name for other in found):
            if not is_file:  # the same release in other words
                continue
            anatomy = replace(anatomy, name=name)  # what is kept of each is kept by its name
        found.append(anatomy)
        published = None if is_file else find_checkpoint(name)
        if is_file or (published is not None and published.config_path is not None):
            is_gguf = name.endswith(".gguf") or (Path(name).is_dir() and not [*Path(name).glob("*.json")])
            stored_as[anatomy.name] = "gguf" if is_gguf else "checkpoint"
            sources[anatomy.name] = name if is_file else published.name if published else name
    return _NamedModels(anatomies=tuple(found), stored_as=stored_as, sources=sources, is_catalogue=False)


def _report_on_machine(
    named: _NamedModels, arguments: _FitArguments, releases: Releases, target: FitTarget
) -> FitReport:
    from ownward import catalog
    from ownward.planner import compute_curves, find_nearest
    from ownward.planner import fit as fit_models
    from ownward.reports import FitReport

    merits = releases.merits(named.anatomies) if named.is_catalogue else None
    options = fit_models(
        named.anatomies,
        machine=target.machine,
        machines_count=target.count,
        host=target.host,
        coefficients=target.coefficients,
        merits=_worth_by_name(merits),
        stored_as=named.stored_as,
        at=releases.at,
        **arguments.as_keywords(),
    )
    if not options:
        raise _no_answer(named.anatomies[0], target, arguments)
    nearest: tuple[Nearest, ...] = ()
    if all(option.fits is False for option in options) and not named.is_catalogue:
        others = _relatives(options[0].model, releases)
        nearest = find_nearest(
            options,
            machines=[item for item in catalog.machines(catalog_files()) if item.kind.startswith(("gpu-", "soc-"))],
            others=others,
            merits=_worth_by_name(releases.merits(others)),
        )
    rooms: dict[str | None, Room] = {}
    lines = tuple(
        _make_line(
            option,
            named,
            releases,
            curves=compute_curves(option) if not number else None,
            threads=target.threads,
            serving=_choose_serving(option, named, target, rooms),
            merits=merits,
        )
        for number, option in enumerate(options)
    )
    return FitReport(
        models=named.names,
        machine=target.machine,
        machines_count=target.count,
        host=target.host,
        context_tokens=arguments.context_tokens,
        concurrency=arguments.concurrency,
        lines=lines,
        is_ranking=named.is_catalogue,
        nearest=nearest,
        notes=(*target.notes, *_note_shorter_contexts(options, arguments), *_note_other_kv_types(options, arguments)),
        at=releases.at,
    )


def _report_on_budget(
    named: _NamedModels,
    arguments: _FitArguments,
    releases: Releases,
    *,
    budget_usd: Decimal,
    host_usd: Decimal | None,
    host: Any,
) -> FitReport:
    from ownward import catalog
    from ownward.planner import HOST_USD, advise, compute_curves
    from ownward.reports import FitReport

    merits = releases.merits(named.anatomies) if named.is_catalogue else None
    advice = advise(
        named.anatomies,
        machines=catalog.machines(catalog_files()),
        budget_usd=budget_usd,
        host_usd=HOST_USD if host_usd is None else host_usd,
        host=host,
        merits=_worth_by_name(merits),
        at=releases.at,
        **arguments.as_keywords(),
    )
    return FitReport(
        models=named.names,
        machine=None,
        machines_count=1,
        host=host,
        context_tokens=arguments.context_tokens,
        concurrency=arguments.concurrency,
        lines=tuple(
            _make_line(
                purchase.option,
                named,
                releases,
                curves=compute_curves(purchase.option) if purchase is advice.best else None,
                threads=None,
                merits=merits,
            )
            for purchase in advice.purchases
        ),
        is_ranking=named.is_catalogue,
        advice=advice,
        at=releases.at,
    )


def _choose_serving(
    option: FitOption, named: _NamedModels, target: FitTarget, rooms: dict[str | None, Room]
) -> ServingChoice | None:
    """Return how llama.cpp would hold the weights, as `serve` chooses; None on a card, where nothing is chosen.

    On this machine with the memory that is free now, on another with all that an engine may use. `rooms` keeps
    what was found.
    """
    from ownward.engines import Room, Stated, choose_serving

    if option.engine != "llama.cpp" or not option.deployment.machine.is_whole_computer or option.fits is False:
        return None
    source = named.sources.get(option.model)
    file = source if source is not None and Path(source).is_file() else None
    if not target.is_this:
        room = Room(memory_bytes=option.usable_bytes)
    else:
        room = rooms[file] if file in rooms else rooms.setdefault(file, room_for(Path(file or ".")))
    needs = needs_of(option.deployment.anatomy, option.deployment.weights)
    if option.deployment.machine.kind != "cpu-platform":  # a GPU computes, for which nothing is repacked
        needs = replace(needs, repackable_bytes=0)
    return choose_serving(needs, room, Stated(slots=option.concurrency, context_tokens=context_of(option)))


def _make_line(
    option: FitOption,
    named: _NamedModels,
    releases: Releases,
    *,
    curves: Any,
    threads: int | None,
    serving: ServingChoice | None = None,
    merits: Mapping[str, Merit] | None = None,
) -> FitLine:
    from ownward.reports import FitLine

    source = named.sources.get(option.model)
    return FitLine(
        option=option,
        facts=releases.facts(option.model),
        commands=launch_commands(
            option, releases.release(option.model), source=source, threads=threads, serving=serving
        ),
        curves=curves,
        serving=serving,
        rests_on=None if merits is None else merits[option.model].rests_on,
    )


def _note_shorter_contexts(options: Sequence[FitOption], arguments: _FitArguments) -> list[str]:
    """Return which of the named models were made for less context than was asked for, and so answered for less."""
    made_for: dict[int, dict[str, None]] = {}
    for option in options:
        if option.context_tokens < arguments.context_tokens:
            made_for.setdefault(option.context_tokens, {})[option.model] = None
    if sum(map(len, made_for.values())) > _SHOWN:
        count = sum(map(len, made_for.values()))
        return [f"{count} models were made for less than {arguments.context_tokens:,} tokens: answered for theirs"]
    return [
        f"{', '.join(models)} {'was' if len(models) == 1 else 'were'} made for {tokens:,} tokens of context:"
        " answered for that"
        for tokens, models in made_for.items()
    ]


def _note_other_kv_types(options: Sequence[FitOption], arguments: _FitArguments) -> list[str]:
    """Return which engines have no cache of the type that was asked for, and what they are answered with."""
    others = {option.engine: option.kv_type for option in options if option.kv_type != arguments.kv_type}
    return [
        f"{engine} has no cache in {arguments.kv_type}: answered for {kv_type}" for engine, kv_type in others.items()
    ]


def _worth_by_name(merits: Mapping[str, Merit] | None) -> dict[str, float] | None:
    return None if merits is None else {name: merit.worth for name, merit in merits.items()}


def _relatives(model: str, releases: Releases) -> list[Anatomy]:
    """Return the other models of a model's family; all of the catalogue where it has none there."""
    from ownward import catalog

    release = releases.release(model)
    family = None if release is None else release.family
    return _readable(item for item in catalog.models(catalog_files()) if family in {None, item.family})


def _readable(releases: Iterable[Model]) -> list[Anatomy]:
    """Return the anatomies of releases; one whose architecture cannot be read is not proposed, and left out."""
    found = []
    for release in releases:
        try:
            found.append(find_anatomy(release.id))
        except OwnwardError:
            continue
    return found


def _no_answer(anatomy: Anatomy, target: FitTarget, arguments: _FitArguments) -> OwnwardError:
    """Return why nothing can be said of a model on a machine."""
    from ownward.perf import deploy
    from ownward.planner import default_engine, stored_as_of

    weights = arguments.formats[0] if arguments.formats else "bf16"
    reason = deploy(
        anatomy,
        machine=target.machine,
        machines_count=target.count,
        engine=arguments.engine or default_engine(target.machine, stored_as_of(weights)),
        weights=weights,
        kv_type=arguments.kv_type,
    )
    is_of_the_machine = target.machine.bandwidth_bytes_per_s is None
    return InfeasiblePlan(
        reason if isinstance(reason, str) else f"no weight format of {anatomy.name} can be placed",
        next_step="State the machine in a file: ownward machines add --help" if is_of_the_machine else None,
    )


def _parse_usd(text: str, flag: str) -> Decimal:
    try:
        amount = Decimal(text.strip().removeprefix("$").replace(",", ""))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= MOST:
        raise UsageError(f"{flag} is {text!r}, not an amount", allowed="Dollars, such as 3000, up to a billion")
    return amount
