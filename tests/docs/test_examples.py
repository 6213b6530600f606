"""Every example of the README and the docs runs, and prints what the page shows; what does not run is listed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if "```" in page.read_text("utf-8")]

# Every block that is not run, by page, with the reason that stands above it.
NOT_RUN = {
    "README.md": ["the demo is a test of its own"],
    "docs/explanation/larger-than-memory.md": ["changes a disk's settings"],
    "docs/how-to/cut-slow-answers-short.md": ["needs two servers of a model", "a part of a plan"],
    "docs/how-to/look-at-a-checkpoint-without-downloading-it.md": [
        "needs a hub; tests/integration/engines runs a server that counts",
        "needs the extra, half a gigabyte and more",
    ],
    "docs/how-to/put-it-in-front-of-your-programs.md": ["settings of another program"],
    "docs/how-to/use-postgres.md": ["needs a PostgreSQL server; tests/integration/ledger runs one"],
    "docs/reference/anatomy.md": ["a form with file names that you have; tests/unit/anatomy runs each call"],
    "docs/reference/engines.md": ["needs a llama-server and weights of yours"],
    "docs/reference/gateway.md": ["a part of a plan"],
}


def run_docs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.run_docs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_the_page_run_and_print_what_it_shows(page: Path):
    done = run_docs(str(page))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_not_run_is_known_and_says_why():
    listed: dict[str, list[str]] = {}
    for line in run_docs("--list").stdout.splitlines():
        place, _, reason = line.partition(": ")
        listed.setdefault(str(Path(place.rpartition(":")[0]).relative_to(ROOT)), []).append(reason)
    assert listed == NOT_RUN


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("```console\n$ echo one\ntwo\n```", "the page shows:\ntwo\nit printed:\none"),
        ("```console\n$ exit 3\n```", "ended with 3"),
        ("```console\n$ echo 3 rows\n4 rows\n```", "it printed:\n3 rows"),
        ("```bash\nfalse\n```", "ended with 1"),
        ("```python\nraise SystemExit(4)\n```", "ended with 4"),
        ("```python\n>>> 1 + 1\n3\n```", "Expected:\n    3"),
        ('```toml\nschema = "ownward.plan/1"\n```', "name is missing"),
        ("```toml\n[server]\nprot = 1\n```", "server.prot"),
        ("```toml\n[kitchen]\n```", "neither a plan, nor settings, nor catalogue data"),
        ("```json\n{]\n```", "JSONDecodeError"),
        ("```sql\nSELECT colour FROM attempts\n```", "no such column"),
        ("```console\n^C\n```", "stops nothing"),
    ],
)
def test_the_runner_sees_what_is_wrong(page: str, told: str, tmp_path: Path):
    wrong = tmp_path / "page.md"
    wrong.write_text(page + "\n", "utf-8")
    done = run_docs(str(wrong))
    assert done.returncode == 1
    assert told in done.stdout


def test_the_runner_passes_over_what_may_differ(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ echo a b c\na …\n"
        "$ echo 'took 12 ms at 2026-11-21T09:00:00Z'\ntook 9.5 ms at 2025-01-01T00:00:00Z\n"
        "$ false  # exits with 1\n```\n\n<!-- figures vary: made up -->\n```console\n$ echo 12 rows\n7,000 rows\n```\n"
        "\n<!-- not run: made up -->\n```bash\nfalse\n```\n\n<!-- file: x.txt -->\n```text\nhello\n```\n\n"
        "```console\n$ cat x.txt\nhello\n```\n",
        "utf-8",
    )
    done = run_docs(str(page))
    assert done.returncode == 0, done.stdout


def test_an_update_writes_what_was_printed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n$ echo three\nthree\n```\n", "utf-8")
    run_docs("--update", str(page))
    assert page.read_text("utf-8") == "```console\n$ echo one\none\n$ echo three\nthree\n```\n"
