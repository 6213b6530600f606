"""The pages on engines name every flag, option, state and edge that there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ownward.engines import FAKE_FLAGS, TRANSITIONS, EngineOptions, FakeFlag, parse_fake_arguments
from ownward.engines.fake._call import ENDPOINTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
FAKE_PAGE = (DOCS / "how-to" / "test-against-the-fake-upstream.md").read_text()
ENGINE_PAGE = (DOCS / "reference" / "engines.md").read_text()


@pytest.mark.parametrize("flag", FAKE_FLAGS, ids=lambda flag: flag.flag)
def test_each_flag_of_the_fake_is_on_its_page_with_its_help(flag: FakeFlag):
    assert re.search(rf"^\| `{flag.flag}` \|.*\| {re.escape(flag.help)} \|$", FAKE_PAGE, re.MULTILINE)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_each_page_of_the_fake_is_named(path: str):
    assert path.removeprefix("/v1") in FAKE_PAGE


def test_the_fakes_commands_on_the_page_have_a_meaning():
    commands = re.findall(r"^\$ ownward engines run fake (.*)$", FAKE_PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        parse_fake_arguments(command.split())


def test_the_python_example_on_the_page_runs():
    (example,) = re.findall(r"```python\n(.*?)```", FAKE_PAGE, re.DOTALL)
    exec(compile(example, "how-to", "exec"), {})


@pytest.mark.parametrize("field", dataclasses.fields(EngineOptions), ids=lambda field: field.name)
def test_each_option_of_the_embedded_engine_is_described(field: dataclasses.Field):
    assert f"`{field.name}`" in ENGINE_PAGE


def test_the_table_of_states_is_the_table_of_the_code():
    section = ENGINE_PAGE.partition("## States")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted((before.value, after.value) for before, after in TRANSITIONS)
