"""The house: rooms say what they are for, list what they offer, and load what they need and no more."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ownward

SOURCE = Path(ownward.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 500
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_what_it_does_not_know(room: str) -> None:
    docstring = importlib.import_module(f"ownward.{room}").__doc__ or ""
    first, _, rest = docstring.strip().partition("\n\n")
    assert first.endswith(".")
    assert any(word in rest for word in (" not ", "never", "nothing", "no I/O")), rest


@pytest.mark.parametrize("room", ROOMS)
def test_all_lists_exactly_what_a_room_offers(room: str) -> None:
    module = importlib.import_module(f"ownward.{room}")
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for outer in tree.body
        for node in (outer.body if isinstance(outer, ast.If) else [outer])  # what is loaded when asked for
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ownward.")
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert set(module.__all__) == imported | {name for name in defined if not name.startswith("_")}
    assert all(hasattr(module, name) for name in module.__all__)


def test_rooms_import_only_what_others_list() -> None:
    """`from ownward.ROOM import name` from another room, never `from ownward.ROOM._file`."""
    faults = []
    for path in FILES:
        room = path.relative_to(SOURCE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ownward."):
                parts = node.module.split(".")
                if parts[1] != room and len(parts) > 2:
                    faults.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.module}")
    assert faults == []


def test_no_file_has_grown_past_what_one_reason_needs() -> None:
    lengths = {path.relative_to(SOURCE): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_gateway_loads_nothing_that_decides() -> None:
    loaded = _modules_after("import ownward.gateway")
    unwanted = {"ownward.planner", "ownward.simulation", "ownward.perf", "ownward.anatomy", "ownward.economics"}
    assert not loaded & (unwanted | {"numpy", "rich", "starlette", "jinja2", "httpx", "model_prices"})


def test_screens_load_no_numpy_to_show_what_was_counted() -> None:
    """It is 0.15 s of a command's time: for figures that are worked out over columns alone."""
    assert "numpy" not in _modules_after("import ownward.reports, ownward.economics")


def test_importing_ownward_loads_no_room() -> None:
    assert not {name for name in _modules_after("import ownward") if name.startswith("ownward.")}


def test_rooms_are_reached_from_the_package() -> None:
    loaded = _modules_after("import ownward; assert callable(ownward.anatomy.read)")
    assert "ownward.anatomy" in loaded
    with pytest.raises(AttributeError):
        _ = ownward.no_such_room
