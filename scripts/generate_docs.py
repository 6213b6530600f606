"""Write the generated parts of the docs: command line, configuration keys, ledger schema, errors, claims computed.

Usage: python -m scripts.generate_docs [--check]
Each part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->` in a page of docs/reference
or docs/explanation.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click

from scripts.published_claims import claims_tables
from scripts.translation_table import translation_tables

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
EXPLANATION = ROOT / "docs" / "explanation"


def main() -> int:
    """Fill every marked part, or with --check report the stale ones and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    parts = {
        "cli": cli_help,
        "errors": error_list,
        "configuration": configuration_keys,
        "ledger-schema": ledger_schema,
        "metrics": metrics_table,
        "translation": translation_tables,
        "published-claims": claims_tables,
    }
    seen: set[str] = set()
    stale: list[str] = []
    for page in sorted([*REFERENCE.glob("*.md"), *EXPLANATION.glob("*.md")]):
        before = page.read_text(encoding="utf-8")
        after = _fill(before, parts, seen)
        if after == before:
            continue
        if is_check:
            stale.append(page.name)
            sys.stderr.writelines(
                difflib.unified_diff(
                    before.splitlines(keepends=True), after.splitlines(keepends=True), page.name, "fresh", n=1
                )
            )
        else:
            page.write_text(after, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")
    missing = sorted(set(parts) - seen)
    for name in missing:
        print(f"no page of docs/reference or docs/explanation has the generated part {name!r}", file=sys.stderr)
    if stale:
        print(f"stale: {', '.join(stale)}. Run: make docs", file=sys.stderr)
    return 1 if stale or missing else 0


def cli_help() -> str:
    """Return the help of every command and subcommand."""
    from ownward.cli._app import COMMANDS, _ownward

    root = click.Context(_ownward, info_name="ownward", max_content_width=100, terminal_width=100)
    sections = []
    for name in COMMANDS:
        command = _ownward.get_command(root, name)
        assert command is not None
        sections.extend(_help_of(command, name, root))
    return "\n\n".join(sections)


def _help_of(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    sections = [f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            inner = command.get_command(context, sub)
            assert inner is not None
            sections.extend(_help_of(inner, sub, context))
    return sections


def metrics_table() -> str:
    """Return every metric of the gateway with its labels."""
    from ownward.gateway.watching.families import COUNTED, READ

    rows = ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for family in (*COUNTED, *READ):
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows)


def error_list() -> str:
    """Return every error class with its kind and exit code."""
    from ownward.core import errors

    classes = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.OwnwardError) and item is not errors.OwnwardError
    ]
    rows = ["| kind | exit code | means |", "|---|---|---|"]
    for item in sorted(classes, key=lambda entry: (entry.exit_code, entry.__name__)):
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", item.__name__).lower()
        meaning = (inspect.getdoc(item) or "").splitlines()[0]
        rows.append(f"| `{kind}` | {item.exit_code} | {meaning} |")
    return "\n".join(rows)


def configuration_keys() -> str:
    """Return the table of settings."""
    from ownward import config

    return config.reference_markdown()


def ledger_schema() -> str:
    """Return the ledger's SQL."""
    from ownward import ledger

    return f"```sql\n{ledger.schema_text()}\n```"


def _fill(text: str, parts: dict[str, Callable[[], str]], seen: set[str]) -> str:
    for name, make in parts.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if pattern.search(text):
            seen.add(name)
            body = make().strip() + "\n"
            text = pattern.sub(lambda match, body=body: match[1] + body + match[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    sys.exit(main())
