"""`ownward models`: the catalogue of releases, and any model's anatomy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ownward.cli._output import emit, json_option, say
from ownward.cli._subjects import find_anatomy, find_model, value_of
from ownward.core import UnknownModel, format_bytes, format_count, to_jsonable

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy


@click.group(invoke_without_command=True, epilog="Example: ownward models qwen3.5; ownward models show ./config.json")
@click.pass_context
def models(ctx: click.Context) -> None:
    """Search the catalogue of releases, show a model's anatomy, pull weights.

    Without a subcommand, lists every release.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(search, words=(), as_json=False)


@models.command(epilog="Example: ownward models search qwen moe")
@click.argument("words", nargs=-1)
@json_option
def search(*, words: tuple[str, ...], as_json: bool) -> None:
    """List the releases whose name, family or maker contains every word."""
    from ownward import catalog

    found = catalog.search_models(" ".join(words))
    payload = {"schema": "ownward.models/1", "models": [_row(item) for item in found]}
    emit(payload, as_json=as_json, render=_table)


@models.command(epilog="Example: ownward models show qwen3.5-397b-a17b --json")
@click.argument("model")
@json_option
def show(*, model: str, as_json: bool) -> None:
    """Show what MODEL is: a config.json, GGUF, safetensors file or index, or a catalogue name.

    Counts are exact: what is resident, what one token reads, what the cache holds.
    """
    from ownward.anatomy import as_contract

    anatomy = find_anatomy(model)
    payload = as_contract(anatomy)
    try:
        payload["release"] = _row(find_model(model))
    except UnknownModel:
        payload["release"] = None
    emit(payload, as_json=as_json, render=lambda _: _page(anatomy))


@models.command(epilog="Example: ownward models pull smollm2-135m-instruct")
@click.argument("model", default="smollm2-135m-instruct")
@json_option
def pull(*, model: str, as_json: bool) -> None:
    """Fetch a model's weights into the store, verified; a second call fetches nothing."""
    from ownward.cli._weights import fetch_weights

    path = fetch_weights(model)
    payload = {"schema": "ownward.pull/1", "model": model, "path": str(path), "bytes": path.stat().st_size}
    if not as_json:
        say(f"{model} is here, verified:")
    emit(payload, as_json=as_json, render=lambda _: str(path))


def _row(item: Any) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "family": item.family,
        "maker": item.maker,
        "released": value_of(item.released),
        "context_tokens": value_of(item.context_tokens),
        "stated_total": value_of(item.stated_total),
        "stated_active": value_of(item.stated_active),
        "licence": to_jsonable(item.licence),
        "hub_id": value_of(item.hub_id),
    }


def _table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, title=f"{len(payload['models'])} releases", title_justify="left")
    for heading in ("id", "stated size", "active", "context", "released", "licence"):
        table.add_column(heading, overflow="fold")
    for row in payload["models"]:
        licence = row["licence"]["value"] if row["licence"] else "?"
        table.add_row(
            row["id"],
            row["stated_total"] or "?",
            row["stated_active"] or "",
            format_count(row["context_tokens"]),
            row["released"] or "?",
            licence,
        )
    return table


def _page(anatomy: Anatomy) -> Any:
    from rich.console import Group
    from rich.table import Table

    head = Table(box=None, show_header=False, title=anatomy.name, title_justify="left", title_style="bold")
    head.add_column()
    head.add_column(justify="right")
    head.add_column(style="dim")
    shape = f"{anatomy.layer_count} layers: " + ", ".join(f"{part.count} {part.kind}" for part in anatomy.layers)
    head.add_row("architecture", anatomy.architecture, shape)
    head.add_row("parameters", format_count(anatomy.total_live_params), f"{anatomy.total_live_params:,}")
    head.add_row(
        "used for one token",
        format_count(anatomy.active_excl_input_embedding),
        f"{anatomy.experts_per_tok} of {anatomy.experts} experts a layer" if anatomy.experts else "dense",
    )
    head.add_row("resident in BF16", format_bytes(2 * anatomy.total_live_params), "all of it must live somewhere")
    head.add_row("read for one token in BF16", format_bytes(2 * anatomy.active_excl_input_embedding), "at batch 1")
    head.add_row("cache a token, 16 bit", format_bytes(anatomy.kv_bytes_per_token_bf16), "grows with context")
    if anatomy.window_tokens:
        head.add_row(
            "cache in windows", format_bytes(anatomy.window_kv_bytes_per_slot_bf16 * anatomy.window_tokens),
            f"at most, {anatomy.window_tokens:,} tokens",
        )  # fmt: skip
    if anatomy.recurrent_state_bytes_per_seq:
        head.add_row("state a sequence", format_bytes(anatomy.recurrent_state_bytes_per_seq), "whatever the context")
    head.add_row("context", format_count(anatomy.max_context_tokens), ", ".join(anatomy.modalities))
    parts = Table(box=None, title="where the parameters are", title_justify="left")
    parts.add_column("role")
    parts.add_column("parameters", justify="right")
    parts.add_column("share", justify="right")
    for role, count in anatomy.params_by_role.items():
        if count:
            parts.add_row(role.value.replace("_", " "), f"{count:,}", f"{100 * count / anatomy.total_live_params:.1f}%")
    return Group(head, "", parts)
