"""`ownward keys`: the keys that clients of the gateway use."""

from __future__ import annotations

from typing import Any

import click

from ownward.cli._context import open_ledger
from ownward.cli._output import emit, example, json_option, ledger_option, say
from ownward.core import UnknownName, UsageError, to_jsonable

_LONGEST_NAME = 128
_A_LIMIT = click.IntRange(min=1, max=10**12)


@click.group()
def keys() -> None:
    """Create, list and revoke client keys. A key's secret is shown once and stored only as a hash."""


@keys.command(epilog=example("ownward keys create ben --label eu --workload support"))
@click.argument("name")
@click.option("--label", default=None, help="Narrows where this key's requests may travel, such as local_only or eu.")
@click.option("--workload", "workloads", multiple=True, help="A workload it may use; repeatable. All unless given.")
@click.option("--budget", default=None, help="The most it may be charged in a period, such as 5.00/day (UTC).")
@click.option("--tier", "tiers", multiple=True, help="A tier it may use; repeatable. All unless given.")
@click.option("--requests-per-minute", type=_A_LIMIT, default=None, help="The most requests in a minute.")
@click.option("--tokens-per-minute", type=_A_LIMIT, default=None, help="Input and output together.")
@click.option(
    "--limits-by",
    type=click.Choice(["bucket", "window"]),
    default="bucket",
    show_default=True,
    help="Bucket: refilled evenly, up to twice as much in a minute after idleness. Window: no 60 s ever hold more.",
)
@ledger_option
@json_option
def create(
    *,
    name: str,
    label: str | None,
    workloads: tuple[str, ...],
    budget: str | None,
    tiers: tuple[str, ...],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    limits_by: str,
    ledger_target: str | None,
    as_json: bool,
) -> None:
    """Create a key called NAME and print its secret, this once."""
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UsageError(
            f"a key cannot be called {name[:_LONGEST_NAME]!r}",
            allowed=f"1 to {_LONGEST_NAME} printable characters",
            next_step="Name who or what will use it: ownward keys create ben",
        )
    scopes: dict[str, Any] = {}
    if label is not None:
        from ownward.policy import Label

        scopes["label"] = str(Label.parse(label))
    if workloads:
        scopes["workloads"] = list(workloads)
    if tiers:
        scopes["tiers"] = list(tiers)
    if requests_per_minute is not None:
        scopes["requests_per_minute"] = requests_per_minute
    if tokens_per_minute is not None:
        scopes["tokens_per_minute"] = tokens_per_minute
    if limits_by != "bucket":
        if requests_per_minute is None and tokens_per_minute is None:
            raise UsageError(
                "--limits-by says how limits are counted, but no limit is stated",
                next_step="State --requests-per-minute or --tokens-per-minute too",
            )
        scopes["limits_by"] = limits_by
    if budget is not None:
        from ownward.plan import Budget

        Budget.parse(budget)
        scopes["budget"] = budget
    with open_ledger(ledger_target) as opened:
        secret = opened.create_key(name, scopes)
        key = opened.verify_key(secret)
    assert key is not None  # it was made a moment ago
    payload = {"schema": "ownward.key/1", "key_id": key.key_id, "name": name, "scopes": scopes, "secret": secret}
    if not as_json:
        say(f"{key.key_id} ({name}). Keep the secret, it is not shown again:")
    emit(payload, as_json=as_json, render=lambda _: secret)


@keys.command("list", epilog=example("ownward keys list"))
@ledger_option
@json_option
def list_(*, ledger_target: str | None, as_json: bool) -> None:
    """List all keys, revoked ones too, without secrets."""
    with open_ledger(ledger_target, is_read_only=True) as opened:
        found = opened.list_keys()
    rows = [
        {"key_id": key.key_id, "name": key.name, "scopes": to_jsonable(key.scopes),
         "created_at": to_jsonable(key.created_at), "revoked_at": to_jsonable(key.revoked_at)}
        for key in found
    ]  # fmt: skip
    emit({"schema": "ownward.keys/1", "keys": rows}, as_json=as_json, render=_table)


@keys.command(epilog=example("ownward keys revoke key_01JD8K5"))
@click.argument("key_id")
@ledger_option
@json_option
def revoke(*, key_id: str, ledger_target: str | None, as_json: bool) -> None:
    """Revoke a key for good."""
    if key_id.startswith("ow-"):
        raise UsageError(
            "a key is revoked by its id, but this is its secret", next_step="See the ids with: ownward keys list"
        )
    with open_ledger(ledger_target, is_read_only=True) as opened:
        known = [key.key_id for key in opened.list_keys()]
    if key_id not in known:
        raise UnknownName(key_id, known, what="key", see="ownward keys list")
    with open_ledger(ledger_target) as opened:
        opened.revoke_key(key_id)
    payload = {"schema": "ownward.key/1", "key_id": key_id, "revoked": True}
    emit(payload, as_json=as_json, render=lambda _: f"{key_id} is revoked")


def _table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    from ownward.reports import Fitted

    if not payload["keys"]:
        return "no keys yet. Make one with: ownward keys create NAME"
    table = Table(box=None)
    for heading in ("key", "name", "scopes", "created", "revoked"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"created", "revoked"})
    for row in payload["keys"]:
        scopes = "; ".join(
            f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in row["scopes"].items()
        )
        table.add_row(row["key_id"], row["name"], scopes or "all", _day(row["created_at"]), _day(row["revoked_at"]))
    widest = len(payload["keys"][0]["key_id"])  # what `revoke` takes, in one piece
    return Fitted(table, names=widest, folds={1: 10, 2: 10}, leaves_out=(3, 2))


def _day(moment: str | None) -> str:
    return "" if moment is None else moment[:10]
