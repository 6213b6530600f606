"""Run the examples of the docs and compare what they print with what the pages show.

Usage: python -m scripts.run_docs [--update] [--list] [PAGE …]    (all pages of docs/ and README.md unless named)

A page is one session in an empty folder, from top to bottom. By the word after the opening fence:

- `console` (and bare fences with `$ ` lines): each `$ command` is run by bash, lines that begin with `> ` continue it,
  and the lines below are its output. `…` stands for any text. Blanks, line breaks, ids, digests and times are not
  compared. A command fails the page unless it ends with 0 or says `# exits with N`. `ownward serve` and
  `ownward engines run fake` stay in the background, on free ports in place of those on the page, until a line `^C` or
  the end of the page.
- `bash`: run, nothing compared. `python`: run, or as a doctest where it has `>>>`. `toml`: must load as a plan,
  settings or catalogue data. `json`, `jsonl`: must parse. `sql`: must be a query of the ledger's schema.

A comment above a fence changes that: `<!-- file: NAME -->` writes the block to a file for later commands
(so does a first line `# NAME.toml`);
`<!-- figures vary: REASON -->` accepts any number in place of a number; `<!-- not run: REASON -->` leaves the block
alone, and `--list` lists those with their reasons. `--update` writes what was printed into the page, where its output
has no `…`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND_TIMEOUT_S = 60
START_TIMEOUT_S = 90
RUN_LANGUAGES = frozenset({"console", "bash", "python", "toml", "json", "jsonl", "sql"})
SETUP_WORDS = ("git clone", "make ", "pip install", "python3 -m venv", "uv ", "apt")
_SERVERS = ("ownward serve", "ownward engines run")
_FENCE = re.compile(r"^```(\w*)\s*$")
_MARK = re.compile(r"^<!-- (not run|figures vary|file): (.+?) -->$")
_ASSIGNMENT = re.compile(r"^(export )?[A-Z_]+=(\S+|\"[^\"]*\"|\$\(.*\))$")
_PORT = re.compile(r"(?:127\.0\.0\.1|localhost):(\d{4,5})|--port (\d{4,5})\b")
_VOLATILE = re.compile(
    r"\b(?:req|key|task|trial|run|cert|ow)[_-][0-9A-Za-z_-]{16,}"  # ids and secrets
    r"|\bchatcmpl-\w+|(?<=\"pid\": )\d+"
    r"|(?<=\"created\":)\d{10}|(?<=_s\": )\d+\.\d+(?:e-\d+)?|\b\d[\d.]* ms\b"  # times
    r"|\b[0-9a-f]{12,64}\b"  # digests
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|\+00:00)?"
)
_FIGURE = re.compile(r"\d[\d.,]*(?:[KMB](?![a-z]))?|\bnever\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, its lines, the marks above it, and the number of its first line (from 1)."""

    language: str
    lines: tuple[str, ...]
    marks: dict[str, str]
    number: int


@dataclass(slots=True)
class Step:
    """One command of a console block with the output that the page shows."""

    command: str
    number: int
    expected: list[str] = field(default_factory=list)
    first_output: int = 0  # the index, in the page's lines, of the first output line


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What did not come out as the page says."""

    number: int
    what: str


def read_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, but for those in generated parts."""
    blocks: list[Block] = []
    lines = text.splitlines()
    index, is_generated = 0, False
    while index < len(lines):
        line = lines[index]
        if line.startswith("<!-- generated: "):
            is_generated = True
        elif line.startswith("<!-- end of "):
            is_generated = False
        opening = _FENCE.match(line)
        if opening is None:
            index += 1
            continue
        end = next(at for at in range(index + 1, len(lines)) if lines[at].rstrip() == "```")
        body = tuple(lines[index + 1 : end])
        if not is_generated:
            language = opening[1] or ("console" if any(text.startswith("$ ") for text in body) else "")
            blocks.append(Block(language=language, lines=body, marks=_marks_above(lines, index), number=index + 2))
        index = end + 1
    return blocks


def _marks_above(lines: list[str], index: int) -> dict[str, str]:
    marks: dict[str, str] = {}
    index -= 1
    while index >= 0 and (not lines[index].strip() or _MARK.match(lines[index].strip())):
        mark = _MARK.match(lines[index].strip())
        if mark is not None:
            marks[mark[1]] = mark[2]
        index -= 1
    return marks


def read_steps(block: Block) -> list[Step]:
    """Return the commands of a console block, each with its output."""
    steps: list[Step] = []
    for offset, line in enumerate(block.lines):
        if line.startswith("$ ") or line == "^C":
            steps.append(Step(line.removeprefix("$ "), block.number + offset, [], block.number + offset))
        elif steps and not steps[-1].expected and line.startswith("> "):
            steps[-1].command += "\n" + line.removeprefix("> ")
            steps[-1].first_output += 1
        elif steps:
            steps[-1].expected.append(line)
    return steps


def matches(expected: str, actual: str, *, figures_vary: bool) -> bool:
    r"""Say whether a printed text is what the page shows.

    >>> matches("3 rows … done", "3  rows\nof many, done", figures_vary=False)
    True
    >>> matches("3 rows", "4 rows", figures_vary=False), matches("3 rows", "4,100 rows", figures_vary=True)
    (False, True)
    """
    pattern = []
    for part in re.split(r"(…)", " ".join(expected.split())):
        if part == "…":
            pattern.append(".*?")
            continue
        at = 0
        kinds = re.compile(f"{_VOLATILE.pattern}|(?P<figure>{_FIGURE.pattern})" if figures_vary else _VOLATILE.pattern)
        for hit in kinds.finditer(part):
            pattern.append(re.escape(part[at : hit.start()]))
            is_figure = figures_vary and hit["figure"] is not None
            pattern.append(f"(?:{(_FIGURE if is_figure else _VOLATILE).pattern})")
            at = hit.end()
        pattern.append(re.escape(part[at:]))
    return re.fullmatch("".join(pattern).strip(), " ".join(actual.split()), re.DOTALL) is not None


class Session:
    """One page being run: a folder, an environment, the ports that stand for those on the page, what runs behind."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.text = page.read_text(encoding="utf-8")
        self.folder = folder / "here"
        self.folder.mkdir()
        (folder / "home").mkdir()
        (folder / "home" / ".curlrc").write_text("silent\nshow-error\n", encoding="utf-8")
        ports = {int(one or other) for one, other in _PORT.findall(self.text)} | {8484}
        self.ports = dict(zip(sorted(ports), _free_ports(len(ports)), strict=True))
        self.environment = _environment(folder / "home") | {"OWNWARD_SERVER_PORT": str(self.ports[8484])}
        self.servers: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.faults: list[Fault] = []
        self.updates: list[tuple[int, int, list[str]]] = []

    def run(self) -> None:
        """Run every block; faults and updates are kept in the session."""
        try:
            for block in read_blocks(self.text):
                if "not run" not in block.marks:
                    self._run_block(block)
        finally:
            while self.servers:
                self._stop_server(at=0)

    def _run_block(self, block: Block) -> None:
        text = self._with_real_ports("\n".join(block.lines) + "\n")
        named = re.match(r"# (\w+\.toml)\n", text)
        name = block.marks.get("file") or (named[1] if named else None)
        if name is not None:
            (self.folder / name).write_text(text, encoding="utf-8")
            if block.language == "python":
                compile(text, name, "exec")
                return
        if block.language == "console":
            for step in read_steps(block):
                self._run_step(step, figures_vary="figures vary" in block.marks)
        elif block.language == "bash":
            self._run_quietly(["bash", "-euc", text], block.number)
        elif block.language == "python":
            self._run_python(text, block.number)
        elif block.language in {"toml", "json", "jsonl", "sql"}:
            self._check_text(block.language, text, block.number)

    def _run_step(self, step: Step, *, figures_vary: bool) -> None:
        if step.command == "^C":
            self._stop_server(at=step.number)
            return
        if _ASSIGNMENT.match(step.command):
            self._assign(step)
            return
        if step.command.startswith(SETUP_WORDS):
            return
        if step.command.startswith(_SERVERS) and "--help" not in step.command:
            printed, status = self._start_server(step, figures_vary=figures_vary), 0
        else:
            printed, status = self._run_command(step)
        wanted = re.search(r"# exits with (\d+)", step.command)
        if status != (int(wanted[1]) if wanted else 0):
            self._fault(step.number, f"{step.command}\nended with {status}:\n{printed}")
            return
        shown = self._as_on_the_page(printed)
        expected = "\n".join(step.expected)
        if expected.strip() and not matches(expected, shown, figures_vary=figures_vary):
            self._fault(step.number, f"{step.command}\nthe page shows:\n{expected}\nit printed:\n{shown}")
            if "…" not in expected:
                lines = [line.rstrip() for line in shown.rstrip().splitlines()]
                blank = [""] * (len(step.expected) - len("\n".join(step.expected).rstrip().split("\n")))
                self.updates.append((step.first_output, len(step.expected), lines + blank))

    def _assign(self, step: Step) -> None:
        name = step.command.removeprefix("export ").partition("=")[0]
        script = f'{self._with_real_ports(step.command)} || exit 1; printf %s "${name}"'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode or not done.stdout:
            self._fault(step.number, f"{step.command}\ngave nothing:\n{done.stderr}")
        self.environment[name] = done.stdout

    def _run_command(self, step: Step) -> tuple[str, int]:
        try:
            done = subprocess.run(
                ["bash", "-c", self._with_real_ports(step.command)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return (error.stdout or b"").decode(errors="replace"), 124
        return done.stdout.decode(errors="replace"), done.returncode

    def _start_server(self, step: Step, *, figures_vary: bool) -> str:
        stated = re.search(r"--port (\d+)", step.command)
        port = self.ports[int(stated[1]) if stated else 8484]
        log = self.folder.parent / f"server-{len(self.servers)}-{step.number}.log"
        script = "exec " + self._with_real_ports(step.command)
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.servers.append((process, log))
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and process.poll() is None and not _accepts(port):
            time.sleep(0.05)
        expected = "\n".join(step.expected)
        end = time.monotonic() + 3
        while time.monotonic() < end and process.poll() is None:
            if matches(expected, self._as_on_the_page(log.read_text("utf-8")), figures_vary=figures_vary):
                break
            time.sleep(0.05)
        return log.read_text("utf-8")

    def _stop_server(self, *, at: int) -> None:
        if not self.servers:
            self._fault(at, "^C stops nothing: no server runs here")
            return
        process, log = self.servers.pop()
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status not in {0, 130}:
            self._fault(at, f"a server ended with {status}:\n{log.read_text('utf-8')}")

    def _run_python(self, text: str, number: int) -> None:
        code = text
        if ">>>" in text:
            (self.folder / "example.txt").write_text(text, encoding="utf-8")
            code = "import doctest, sys; sys.exit(doctest.testfile('example.txt', module_relative=False).failed)"
        self._run_quietly([sys.executable, "-c", code], number)

    def _run_quietly(self, arguments: list[str], number: int) -> None:
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            self._fault(number, f"ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _check_text(self, language: str, text: str, number: int) -> None:
        try:
            if language == "toml":
                check_toml(text, self.folder)
            elif language == "sql":
                _check_sql(text)
            else:
                for one in [text] if language == "json" else text.splitlines():
                    json.loads(one)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its line
            self._fault(number, f"{type(error).__name__}: {error}")

    def _with_real_ports(self, text: str) -> str:
        for stated, real in self.ports.items():
            text = re.sub(rf"((?:127\.0\.0\.1|localhost):|--port ){stated}\b", rf"\g<1>{real}", text)
        return text

    def _as_on_the_page(self, text: str) -> str:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
        for stated, real in self.ports.items():
            text = text.replace(f":{real}", f":{stated}")
        return text.replace(str(self.folder), ".").replace(str(self.folder.parent / "home"), "~")

    def _fault(self, number: int, what: str) -> None:
        self.faults.append(Fault(number=number, what=what))

    def write_updates(self) -> int:
        """Write what was printed into the page, from its end so that line numbers hold; return how many."""
        lines = self.text.splitlines()
        for first, count, fresh in sorted(self.updates, reverse=True):
            lines[first : first + count] = fresh
        if self.updates:
            self.page.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return len(self.updates)


def check_toml(text: str, folder: Path) -> None:
    """Load a TOML example as what its keys say it is.

    Raises: whatever the reader raises; ValueError where the example is neither plan, settings nor catalogue data.
    """
    from ownward import catalog, config, plan
    from ownward.pricing import load_prices

    keys = set(tomllib.loads(text))
    if "schema" in keys:
        plan.loads(text, file="example")
        return
    path = folder / "example-to-check.toml"
    path.write_text(text, encoding="utf-8")
    try:
        if keys and keys <= {item.key.split(".")[0] for item in config.effective(config.load(environ={}))}:
            config.load(config_file=path, environ={})
        elif keys & {"machine", "model", "price", "electricity", "licence", "rental"}:
            catalog.machines([path])
            catalog.models([path])
            load_prices([path])
        else:
            raise ValueError(f"neither a plan, nor settings, nor catalogue data: {sorted(keys)}")
    finally:
        path.unlink()


def _check_sql(text: str) -> None:
    from ownward import ledger

    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.executescript(ledger.schema_text())
        base.execute(text).fetchall()


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing is found but this interpreter's programs and the fetched weights."""
    from ownward import config

    cache = os.environ.get("OWNWARD_ENGINE_CACHE_DIR") or str(config.load().engine.cache_dir)
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "OWNWARD_ENGINE_CACHE_DIR": cache,
        "PYTHONWARNINGS": "ignore",
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [item.getsockname()[1] for item in taken]


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
        return True
    return False


def pages() -> Iterator[Path]:
    """Yield the pages whose examples are run."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def list_left_out(page: Path) -> list[tuple[int, str]]:
    """Return the blocks of a page that are not run, by line and reason."""
    return [(block.number, block.marks["not run"]) for block in read_blocks(page.read_text("utf-8"))
            if "not run" in block.marks]  # fmt: skip


def main() -> int:
    """Run the pages named, or all; print every fault and return 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--update", action="store_true", help="write what was printed into the pages")
    parser.add_argument("--list", action="store_true", help="list the blocks that are not run, with their reasons")
    asked = parser.parse_args()
    count = 0
    for page in asked.pages or pages():
        if asked.list:
            for number, reason in list_left_out(page):
                print(f"{page}:{number}: {reason}")
            continue
        with tempfile.TemporaryDirectory(prefix="ownward-docs-") as folder:
            session = Session(page, Path(folder))
            session.run()
        for fault in session.faults:
            print(f"{page}:{fault.number}: {fault.what}\n")
        count += len(session.faults)
        if asked.update and session.write_updates():
            print(f"wrote {page}", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
