"""The pages name everything that there is, nothing that there is not, and lead where they say."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ownward import config
from ownward.cli._app import COMMANDS, _ownward
from ownward.core import errors
from ownward.gateway import errors as gateway_errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Decisions and the log tell what was so on a day; they may name what is gone.
LIVING = [page for page in PAGES if page.parent.name != "decisions" and page.name not in {"CHANGELOG.md", "log.md"}]
SETTINGS = {row.key for row in config.effective(config.load(environ={"HOME": "/nowhere"}))}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def walk(command: click.Command, path: tuple[str, ...]) -> dict[tuple[str, ...], click.Command]:
    found = {path: command}
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            found |= walk(inner, (*path, name))
    return found


ALL_COMMANDS = walk(_ownward, ("ownward",))


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_link_leads_somewhere(page: Path):
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path).resolve() if path else page
        if not led_to.exists() or (anchor and anchor not in anchors_of(led_to)):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_each_command_that_a_page_names_exists_with_its_options(page: Path):
    text = re.sub(r"\\\n>? *", " ", text_of(page))
    code = re.findall(r"`(ownward [^`\n]+)`", text) + re.findall(r"^(?:\$ )?(ownward [^\n]+)$", text, re.MULTILINE)
    wrong = []
    for line in code:
        try:
            words = shlex.split(line.partition(" | ")[0].partition(" > ")[0].partition("; ")[0], comments=True)
        except ValueError:
            continue  # a line of prose in a generated help text
        path: tuple[str, ...] = ("ownward",)
        for word in words[1:]:
            if (*path, word) not in ALL_COMMANDS:
                break
            path = (*path, word)
        command = ALL_COMMANDS[path]
        rest = words[len(path) :]
        if isinstance(command, click.Group) and rest and re.fullmatch(r"\w[a-z-]+", rest[0]) and path == ("ownward",):
            wrong.append(line)
        known = {option for item in command.params for option in [*item.opts, *item.secondary_opts]} | {"--help", "-h"}
        if path[1:] == ("engines", "run", "fake"):
            continue  # its flags are the fake's own; another test looks at them
        if path == ("ownward",):
            known.add("--version")
        wrong += [f"{line}: {word}" for word in rest if re.match(r"--[a-z]", word) and word.split("=")[0] not in known]
    assert wrong == []


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_each_command_is_in_the_reference(path: tuple[str, ...]):
    assert len(path) == 1 or re.search(rf"^#+ {' '.join(path)}$", text_of(REFERENCE / "cli.md"), re.MULTILINE)


def test_the_reference_lists_the_commands_in_the_order_of_the_help():
    headings = re.findall(r"^## ownward (\w+)$", text_of(REFERENCE / "cli.md"), re.MULTILINE)
    assert headings == list(COMMANDS)


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_each_setting_is_in_the_reference(key: str):
    section, _, name = key.partition(".")
    part = text_of(REFERENCE / "configuration.md").partition(f"## `[{section}]`")[2].partition("\n## ")[0]
    assert f"| `{name}` |" in part


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_each_setting_that_a_page_names_exists(page: Path):
    sections = {key.partition(".")[0] for key in SETTINGS}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", text_of(page)))
    assert sorted(named - SETTINGS) == []


def test_each_error_is_in_the_reference():
    kinds = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        for name, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.OwnwardError) and item is not errors.OwnwardError
    }
    page = text_of(REFERENCE / "errors.md")
    assert len(kinds) > 20
    assert sorted(kind for kind in kinds if f"| `{kind}` |" not in page) == []


def test_each_schema_that_the_code_prints_is_in_the_reference():
    page = text_of(REFERENCE / "cli.md")
    printed = {
        schema
        for source in (ROOT / "src").rglob("*.py")
        for schema in re.findall(r"\"(ownward\.[a-z_-]+/\d+)\"", source.read_text("utf-8"))
    }
    listed = set(re.findall(r"`(ownward\.[a-z_-]+/\d+)`", page))
    assert len(printed) > 20
    assert sorted(printed - listed) == []
    assert sorted(listed - printed) == []


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_each_name_of_the_package_that_a_page_states_exists(page: Path):
    text = re.sub(r"ownward\.[a-z_-]+/\d", "", text_of(page))  # schemas
    wrong = []
    for name in set(re.findall(r"`(ownward(?:\.\w+)+)", text)):
        if name.endswith((".toml", ".db", ".example")):
            continue
        module, *rest = name.split(".")
        found: object = importlib.import_module(module)
        for part in rest:
            try:
                found = getattr(found, part)
            except AttributeError:
                try:
                    found = importlib.import_module(f"{getattr(found, '__name__', '')}.{part}")
                except ImportError:
                    wrong.append(name)
                    break
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_program_of_ours_that_a_page_names_is_run_as_a_module_that_exists(page: Path):
    """They import each other, which works from the root with `-m` alone."""
    text = text_of(page)
    assert re.findall(r"python3? (?:benchmarks|scripts)/\S+", text) == []
    named = {name.rstrip(".") for name in re.findall(r"python3? -m ((?:benchmarks|scripts)\.[\w.]+)", text)}
    folders = {name: ROOT.joinpath(*name.split(".")) for name in named}
    assert [
        n
        for n, path in folders.items()
        if n != "benchmarks.NAME" and not (path.with_suffix(".py").exists() or path.is_dir())
    ] == []


def kinds_of(base: type[errors.OwnwardError]) -> dict[str, type[errors.OwnwardError]]:
    found = {re.sub(r"(?<!^)(?=[A-Z])", "_", base.__name__).lower(): base}
    for kind in base.__subclasses__():
        found |= kinds_of(kind)
    return found


def test_each_refusal_of_the_gateway_is_in_its_table_with_its_status():
    part = text_of(REFERENCE / "gateway.md").partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", part, re.MULTILINE)
    told = {kind: status for kinds, status in rows for kind in re.findall(r"`(\w+)`", kinds)}
    kinds = {kind: found.status for kind, found in kinds_of(gateway_errors.Rejected).items() if kind != "rejected"}
    assert {kind: status for kind, status in kinds.items() if str(status) not in told.get(kind, "")} == {}


def test_each_page_is_in_the_index():
    index = text_of(DOCS / "README.md")
    pages = [page for page in DOCS.rglob("*.md") if page.parent.name != "decisions" and page.name != "README.md"]
    assert sorted(name_of(page) for page in pages if f"({page.relative_to(DOCS)})" not in index) == []


def test_the_table_of_rooms_gives_names_that_exist():
    table = re.findall(r"^\| `(ownward\.\w+)` \|.*\| ([^|]+) \|$", text_of(REFERENCE / "python.md"), re.MULTILINE)
    assert len(table) > 10
    for room, begin in table:
        exported = importlib.import_module(room).__all__
        named = {text.strip("`").split("(")[0].split(".")[0] for text in re.findall(r"`[A-Za-z][^`]*`", begin)}
        assert sorted(named - set(exported)) == [], room


def test_the_generated_parts_are_fresh():
    command = [sys.executable, "-m", "scripts.generate_docs", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_speaks_of_nothing_but_the_project(page: Path):
    assert re.findall(r"/work/|\.\./shared|/tmp/|issue #?\d|\bTODO\b", text_of(page)) == []
