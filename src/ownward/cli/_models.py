"""`ownward models`: the catalogue of releases, and any model's anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._additions import add_table, fact_options, slug_of
from ownward.cli._counting import count_with_transformers
from ownward.cli._lookup import catalog_files, find_anatomy, find_model, find_release, is_path
from ownward.cli._output import emit, example, json_option, say
from ownward.cli._remote import is_remote_name
from ownward.core import BadInput, UnknownModel, UsageError, format_count, format_counted, to_jsonable

if TYPE_CHECKING:
    from datetime import date

    from ownward.catalog import Model

_GIGA = 10**9


@click.group(
    invoke_without_command=True, epilog=example("ownward models search qwen 27b", "ownward models show gpt-oss-20b")
)
@click.pass_context
def models(ctx: click.Context) -> None:
    """Search the catalogue of releases, show a model's anatomy, pull weights, add your own.

    Without a subcommand, lists every release.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(search, words=(), as_json=False)


@models.command(epilog=example("ownward models search qwen 27b"))
@click.argument("words", nargs=-1)
@json_option
def search(*, words: tuple[str, ...], as_json: bool) -> None:
    """List releases, the newest first.

    A release is listed if every word is in its name, family or maker.
    """
    from ownward import catalog

    found = catalog.search_models(" ".join(words), catalog_files())
    newest = sorted(found, key=lambda item: item.released.value if item.released else "", reverse=True)
    payload = to_jsonable(catalog.list_models(newest))
    emit(payload, as_json=as_json, render=_listed)


@models.command(epilog=example("ownward models show qwen3.5-397b-a17b --beside qwen3-235b-a22b --beside kimi-k2.6"))
@click.argument("model")
@click.option(
    "--beside", "others", multiple=True, metavar="MODEL", help="Another model in the same tables; repeatable."
)
@click.option(
    "--with-transformers", is_flag=True, help="Count a config.json of any architecture with transformers' own model."
)
@json_option
def show(*, model: str, others: tuple[str, ...], with_transformers: bool, as_json: bool) -> None:
    """Show what a model is made of.

    MODEL is a config.json, GGUF, safetensors file or index, a folder, or a catalogue name. Of a checkpoint
    elsewhere (hf:org/name, hf:org/name@revision/file.gguf, an https address) the headers alone are read.
    Counts are exact: what is resident, what one token and a whole batch read, what the cache holds, beside other
    models where asked. A catalogue name adds its licence, known files and published scores.
    """
    from ownward.anatomy import as_contract
    from ownward.reports import compute_anatomy_page

    anatomy = count_with_transformers(model) if with_transformers else find_anatomy(model, may_fetch=True)
    if anatomy.counted_by is not None:
        say(f"counted by {anatomy.counted_by}; not known from parameters alone: {', '.join(anatomy.unsupported)}")
    page = compute_anatomy_page(anatomy, [find_anatomy(name, may_fetch=True) for name in others])
    release = _release_of(model)
    payload = {**as_contract(anatomy), **page.as_record(), "release": None if release is None else _known(release)}
    emit(payload, as_json=as_json, render=lambda _: _page(page, release))


@models.command(epilog=example("ownward models compare qwen3-30b-a3b gpt-oss-20b gemma-4-26b-a4b"))
@click.argument("names", nargs=-1, required=True, metavar="MODEL MODEL...")
@json_option
def compare(*, names: tuple[str, ...], as_json: bool) -> None:
    """Put models side by side.

    Sizes, reads, cache, context, licence. Names or paths.
    """
    if len(names) < 2:  # noqa: PLR2004 - two is what side by side means
        raise UsageError("one model alone cannot be compared", allowed="Two or more names or paths")
    rows = [_compared(name) for name in names]
    payload = {"schema": "ownward.model-comparison/1", "models": rows}
    emit(payload, as_json=as_json, render=_side_by_side)


@models.command(epilog=example("ownward models licence kimi-k2.6", "ownward models licence llama-3.1-community"))
@click.argument("name", required=False)
@json_option
def licence(*, name: str | None, as_json: bool) -> None:
    """Show a licence: gist, thresholds, clause.

    NAME is a release or the id of a licence; without it, all are shown. The text itself always goes before the gist.
    """
    from rich.console import Group

    from ownward import catalog
    from ownward.reports import render_licence

    if name is None:
        found = catalog.licences(catalog_files())
        release = None
    else:
        release, one = _licence_called(name)
        found = (one,)
    payload = {
        "schema": "ownward.licences/1",
        "release": None if release is None else release.id,
        "licences": to_jsonable(found),
    }
    emit(
        payload,
        as_json=as_json,
        render=lambda _: Group(*(part for item in found for part in (*render_licence(item, release), ""))),
    )


@models.command(epilog=example("ownward models scores glm-5"))
@click.argument("model")
@json_option
def scores(*, model: str, as_json: bool) -> None:
    """List the published scores of a release.

    With conditions and sources: those of different makers cannot be compared.
    """
    from rich.console import Group

    from ownward import catalog
    from ownward.reports import render_scores

    release = find_model(model)
    found = catalog.scores(release.id, catalog_files())
    payload = {
        "schema": "ownward.scores/1",
        "model": release.id,
        "warning": catalog.SCORES_WARNING,
        "scores": to_jsonable(found),
    }
    if not found and not as_json:
        say(f"no published score of {release.name} is known")
        return
    emit(payload, as_json=as_json, render=lambda _: Group(*render_scores(found, warning=catalog.SCORES_WARNING)))


@models.command(epilog=example("ownward models pull hf:ggml-org/gpt-oss-20b-GGUF/gpt-oss-20b-mxfp4.gguf"))
@click.argument("model", default="smollm2-135m-instruct")
@json_option
def pull(*, model: str, as_json: bool) -> None:
    """Fetch a model's weights into the store.

    MODEL is smollm2-135m-instruct, which is embedded; a GGUF file on a hub (hf:org/name/file.gguf, with all its parts);
    or a checkpoint of safetensors (hf:org/name), as a folder. hf:org/name@revision pins what a branch means today.

    Every file is verified by the hash that is published for it; a broken download goes on where it stopped, and a
    second call fetches nothing.
    """
    from ownward.cli._weights import fetch_weights

    path = fetch_weights(model)
    size = path.stat().st_size if path.is_file() else sum(item.stat().st_size for item in path.rglob("*"))
    payload = {"schema": "ownward.pull/1", "model": model, "path": str(path), "bytes": size}
    if not as_json:
        say(f"{model} is here, verified:")
    emit(payload, as_json=as_json, render=lambda _: str(path))


@models.command(
    epilog=example(
        "ownward models add ./our-tune/config.json --name 'Our tune' --licence apache-2.0 --basis counted"
        " --source 'our own training run' --checked-on 2026-11-20"
    )
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What you call it; its id is made from it.")
@click.option("--licence", "licence_id", default=None, help="An id of: ownward models licence")
@click.option(
    "--context",
    "context_tokens",
    type=click.IntRange(min=1),
    default=None,
    help="Context length, if not as in its config.",
)
@click.option("--family", default=None, help="The line of models it belongs to, such as Qwen3.")
@click.option("--note", default=None, help="A remark of yours.")
@fact_options
@json_option
def add(
    *, path: Path, name: str, licence_id: str | None, context_tokens: int | None, family: str | None, note: str | None,
    basis: str, source: str, checked_on: date, replace: bool, as_json: bool,
) -> None:  # fmt: skip
    """Add a model of your own by its config.

    PATH is a config.json or a folder that holds one; it is copied into the catalogue folder.

    A config whose architecture we cannot count is refused, and nothing is written.
    """
    from ownward import anatomy, catalog

    config = path / "config.json" if path.is_dir() else path
    if config.suffix != ".json":
        raise BadInput(f"{str(path)!r} is not a config.json", next_step=f"See it with: ownward models show {path}")
    counted = anatomy.read(config)
    if licence_id is not None:
        catalog.licence(licence_id, catalog_files())
    model_id = slug_of(name)
    copies = {f"configs/{model_id}/{item.name}": item.read_bytes() for item in _config_files(config)}
    table = {
        "id": model_id,
        "name": name,
        "family": family,
        "basis": basis,
        "source": source,
        "checked_on": checked_on,
        "licence": licence_id,
        "context_tokens": context_tokens or counted.max_context_tokens,
        "config": f"configs/{model_id}/{config.name}",
        "note": note,
    }

    def check(text: str, file: Path) -> None:
        facts = catalog.FactFile(text, file=str(file), kinds=("model",))
        facts.check()

    written = add_table(
        "model", model_id, table, identify=lambda row: row.get("id"), check=check, replace=replace, beside=copies
    )
    payload = {"schema": "ownward.added/1", "kind": "model", "id": model_id, "path": str(written)}
    emit(payload, as_json=as_json, render=lambda _: f"see it with: ownward models show {model_id}")


def _config_files(config: Path) -> list[Path]:
    """Return a config and, where it is there, the file that keeps its quantisation."""
    beside = [config.with_name(f"{config.stem}.hf_quant_config.json"), config.with_name("hf_quant_config.json")]
    return [config, *[item for item in beside if item.is_file() and item != config]]


def _release_of(name: str) -> Model | None:
    """Return the release that a name belongs to; None for a path, whatever it is called."""
    return None if is_path(name) or is_remote_name(name) else find_release(name)


def _licence_called(name: str) -> tuple[Model | None, Any]:
    from ownward import catalog

    try:
        release = find_model(name)
    except UnknownModel:
        known = {item.id: item for item in catalog.licences(catalog_files())}
        if name in known:
            return None, known[name]
        raise
    if release.licence is None:
        raise BadInput(f"the licence of {release.name!r} is not known", next_step="Read the release's own text")
    return release, catalog.licence(release.licence.value, catalog_files())


def _known(release: Model) -> dict[str, Any]:
    """Return what the catalogue knows of a release, as JSON carries it."""
    from ownward import catalog

    terms = None if release.licence is None else catalog.licence(release.licence.value, catalog_files())
    stated: dict[str, Any] = to_jsonable(catalog.list_models([release]).models[0])
    return {
        **stated,
        "licence_terms": to_jsonable(terms),
        "checkpoints": [
            {"name": item.name, "quantisation": item.quantisation, "bytes": to_jsonable(item.bytes)}
            for item in catalog.checkpoints(release.id, catalog_files())
        ],
        "scores": to_jsonable(catalog.scores(release.id, catalog_files())),
        "scores_warning": catalog.SCORES_WARNING,
    }


def _page(page: Any, release: Model | None) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ownward import catalog
    from ownward.reports import (
        render_anatomy_page,
        render_checkpoints,
        render_licence,
        render_release,
        render_scores,
    )

    head = page.anatomy.name if release is None else render_release(release, name=page.anatomy.name)
    parts: list[Any] = [Text(head, style="bold"), *render_anatomy_page(page)]
    if release is None:
        return Group(*parts)
    if release.licence is not None:
        terms = catalog.licence(release.licence.value, catalog_files())
        parts += ["", *render_licence(terms, release)]
    if files := catalog.checkpoints(release.id, catalog_files()):
        parts += ["", render_checkpoints(files, live_params=page.anatomy.total_live_params)]
    if published := catalog.scores(release.id, catalog_files()):
        see = f"ownward models scores {release.id}"
        parts += ["", *render_scores(published, warning=catalog.SCORES_WARNING, see=see)]
    return Group(*parts)


def _listed(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ownward.reports import Fitted

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("id", "size", "active", "context", "released"):
        is_number = heading in {"size", "active", "context"}
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=heading != "id", overflow="fold")
    table.add_column("licence", overflow="fold")
    for row in payload["models"]:
        table.add_row(
            row["id"],
            _stated(row["stated_total"]),
            _stated(row["stated_active"]) if row["stated_active"] else "",
            format_count(row["context_tokens"]),
            (row["released"] or "?")[:7],
            row["licence"] or "?",
        )
    releases = format_counted(len(payload["models"]), "release")
    note = f"{releases}; sizes as their makers state them. Exact counts: ownward models show ID"
    return Group(Fitted(table, names=32, folds={5: 12}, leaves_out=(5, 4)), Text(note))  # an id is copied, so whole


def _stated(text: str | None) -> str:
    """Return a maker's own word for a size, without remarks: `403,397,928,944 (HF; "397B")` is 397B."""
    if not text:
        return "?"
    quoted = text.partition('"')[2].partition('"')[0]
    first = quoted or text.split(maxsplit=1)[0].rstrip(",;")
    digits = first.replace(",", "")
    return format_count(int(digits)) if digits.isdecimal() else first


def _compared(name: str) -> dict[str, Any]:
    """Return the figures of one model of a comparison; what its tensors do not tell is None."""
    anatomy = find_anatomy(name, may_fetch=True)
    release = _release_of(name)
    tells_active, tells_cache = "active" not in anatomy.unsupported, "cache" not in anatomy.unsupported
    return {
        "name": anatomy.name,
        "release": None if release is None else release.id,
        "released": None if release is None or release.released is None else release.released.value,
        "licence": None if release is None or release.licence is None else release.licence.value,
        "architecture": anatomy.architecture,
        "modalities": list(anatomy.modalities),
        "total_live_params": anatomy.total_live_params,
        "active_excl_input_embedding": anatomy.active_excl_input_embedding if tells_active else None,
        "experts": anatomy.experts,
        "experts_per_tok": anatomy.experts_per_tok if tells_active else None,
        "layers": [{"kind": part.kind, "count": part.count} for part in anatomy.layers],
        "max_context_tokens": anatomy.max_context_tokens,
        "by_weights": {
            label: {
                "resident_bytes": anatomy.weights_bytes(scheme),
                "step_bytes_1": round(anatomy.step_bytes(1, quantization=scheme)) if tells_active else None,
                "step_bytes_64": round(anatomy.step_bytes(64, quantization=scheme)) if tells_active else None,
            }
            for label, scheme in (("bf16", "bf16"), ("q4_k_m", "q4_k_m"))
        },
        "sequence_bytes_4k": anatomy.kv_bytes(4096) if tells_cache else None,
        "sequence_bytes_32k": anatomy.kv_bytes(32_768) if tells_cache else None,
        "sequence_bytes_128k": anatomy.kv_bytes(131_072) if tells_cache else None,
    }


def _side_by_side(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    from ownward.reports import Fitted

    rows = payload["models"]
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(row["name"], justify="right", overflow="fold")
    table.add_row("parameters", *(format_count(row["total_live_params"]) for row in rows))
    table.add_row("one token uses", *(format_count(row["active_excl_input_embedding"]) for row in rows))
    table.add_row(
        "experts",
        *(f"{row['experts_per_tok'] or '?'} of {row['experts']}" if row["experts"] else "dense" for row in rows),
    )
    for label, title in (("bf16", "BF16"), ("q4_k_m", "Q4_K_M")):
        table.add_row(f"{title}, GB", style="bold")
        for key, shown in (
            ("resident_bytes", "resident"),
            ("step_bytes_1", "read at batch 1"),
            ("step_bytes_64", "read at batch 64"),
        ):
            table.add_row(f"  {shown}", *(_gigabytes(row["by_weights"][label][key]) for row in rows))
    table.add_row("a sequence, GB", style="bold")
    for size in ("4k", "32k", "128k"):
        table.add_row(f"  {size.upper()} of context", *(_gigabytes(row[f"sequence_bytes_{size}"]) for row in rows))
    table.add_row(
        "context limit",
        *("?" if row["max_context_tokens"] is None else f"{row['max_context_tokens']:,}" for row in rows),
    )
    table.add_row("modalities", *(", ".join(row["modalities"]) for row in rows))
    table.add_row("released", *(row["released"] or "?" for row in rows))
    table.add_row("licence", *(row["licence"] or "?" for row in rows))
    return Fitted.of_things(table)


def _gigabytes(size: float | None) -> str:
    if size is None:
        return "?"
    value = size / _GIGA
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"  # noqa: PLR2004
