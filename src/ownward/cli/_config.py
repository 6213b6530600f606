"""`ownward config`: every setting, and where its value comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._context import load_settings
from ownward.cli._output import emit, example, json_option
from ownward.core import ConfigError, Fault, format_counted, to_jsonable

if TYPE_CHECKING:
    from ownward.plan import Plan


@click.group()
def config() -> None:
    """Show the settings in effect, or check a plan."""


@config.command(epilog=example("ownward config show --json"))
@click.option("--config", "config_file", metavar="FILE", default=None, help="Read this file instead of ownward.toml.")
@json_option
def show(*, config_file: str | None, as_json: bool) -> None:
    """Show every setting, its value and its origin.

    The origin is a flag, the environment, a file and line, or the default.
    """
    from ownward import config as settings_room

    settings = load_settings(config_file)
    payload = {"schema": settings_room.SCHEMA, **to_jsonable(settings_room.as_record(settings))}
    emit(payload, as_json=as_json, render=lambda _: _table(settings_room.effective(settings)))


@config.command(epilog=example("ownward config check plan.toml"))
@click.argument("plan_file", default="plan.toml")
@json_option
def check(*, plan_file: str, as_json: bool) -> None:
    """Read a plan and list what it leaves unknown.

    Faults are shown all at once, with their lines.
    """
    from ownward.cli._plans import read_plan

    plan = read_plan(Path(plan_file))
    _refuse_judges(plan)
    gaps = [{"where": gap.where, "message": gap.message} for gap in plan.gaps()]
    payload = {
        "schema": "ownward.plan-check/1",
        "plan_sha256": plan.sha256,
        "tiers": sorted(plan.tiers),
        "workloads": sorted(plan.workloads),
        "gaps": gaps,
    }
    emit(payload, as_json=as_json, render=_checked)


def _refuse_judges(plan: Plan) -> None:
    """Compile the judges of its strategies, as `serve` would.

    Raises: ConfigError, with all that cannot be used; MissingExtra, if one needs what is not installed.
    """
    from ownward import strategies

    faults: list[Fault] = []
    for name, workload in plan.workloads.items():
        try:
            strategies.judge_for(workload.strategy.judge_options, file=f"workload {name!r}")
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)


def _checked(payload: dict[str, Any]) -> str:
    tiers, workloads = (format_counted(len(payload[f"{one}s"]), one) for one in ("tier", "workload"))
    lines = [f"{tiers}, {workloads}, no faults"]
    lines += [f"open: {gap['where']}: {gap['message']}" for gap in payload["gaps"]]
    return "\n".join(lines)


def _table(rows: Any) -> Any:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("key", "value", "origin", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        value = "" if row.value is None else str(row.value)
        if isinstance(row.value, bool):
            value = value.lower()  # as the file takes it
        table.add_row(row.key, f"{value} {row.unit}".strip() if value else "", row.origin, row.doc)
    return table
