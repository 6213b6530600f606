"""Output kept as files: `pytest tests/golden --rewrite-golden` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ownward.cli import run

FILES = Path(__file__).resolve().parent / "files"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="Write the golden files anew.")


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with no settings and no files of the user's: output piped, 80 columns."""
    for name in ("COLUMNS", "OWNWARD_CONFIG", "OWNWARD_CATALOG_FOLDER", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shown(at_home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What a command line prints, without trailing blanks."""

    def show(line: str) -> str:
        assert at_home.is_dir()
        assert run(line.split()) == 0
        text = capsys.readouterr().out
        return "\n".join(row.rstrip() for row in text.splitlines()) + "\n"

    return show


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of this name."""

    def compare(name: str, text: str) -> None:
        path = FILES / name
        if request.config.getoption("--rewrite-golden", default=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        assert path.is_file(), f"{name} is missing: run pytest tests/golden --rewrite-golden"
        assert text == path.read_text("utf-8")

    return compare
