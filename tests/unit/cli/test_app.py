"""The command line: help, errors as JSON, exit codes, and start-up time."""

from __future__ import annotations

import ast
import contextlib
import gzip
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import click
import pytest

import ownward
from ownward import ledger
from ownward.__main__ import main
from ownward.cli import run
from ownward.cli._app import COMMANDS, _ownward


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found.extend(walk(inner, f"{path} {name}"))
    return found


class Interrupted(ModuleType):
    """A module whose loading was ended by Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_an_interruption_while_the_command_line_is_loaded_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ownward.cli", Interrupted("ownward.cli"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


EVERY_COMMAND = walk(_ownward, "ownward")


@pytest.mark.parametrize(("path", "command"), EVERY_COMMAND, ids=[path for path, _ in EVERY_COMMAND])
def test_every_command_says_what_it_does(path: str, command: click.Command) -> None:
    assert command.help


RUNNING = [(path, command) for path, command in EVERY_COMMAND if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), RUNNING, ids=[path for path, _ in RUNNING])
def test_every_command_has_an_example_that_names_it(path: str, command: click.Command) -> None:
    assert path in (command.epilog or ""), "the epilog is a real example"


@pytest.mark.parametrize(("path", "command"), RUNNING, ids=[path for path, _ in RUNNING])
def test_every_command_has_json(path: str, command: click.Command) -> None:
    if path == "ownward engines run fake":
        return  # its options are the fake upstream's own, and it answers in HTTP
    assert any("--json" in parameter.opts for parameter in command.params)


NAMED = dict(EVERY_COMMAND)


def advice_in(source: Path) -> list[str]:
    """Return the command lines that the texts of a file name; what is filled in as a word."""
    texts = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "WORD" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return re.findall(rf"\bownward (?:{'|'.join(COMMANDS)})\b[^\n.;,()`]*", "\n".join(texts))


def test_every_command_and_flag_that_a_message_names_exists() -> None:
    """Whoever follows an error's advice must not get another error."""
    wrong = set()
    for source in Path(ownward.__file__).parent.rglob("*.py"):
        for line in advice_in(source):
            words = line.split()
            path = next(p for n in range(len(words), 0, -1) if (p := " ".join(words[:n])) in NAMED)
            if path == "ownward engines run fake":
                continue  # its options are its own
            known = {"-h", "--help"}.union(*(parameter.opts for parameter in NAMED[path].params))
            wrong |= {line for word in words if word.startswith("--") and word.partition("=")[0] not in known}
    assert wrong == set()


@pytest.mark.parametrize("path", [path for path, command in EVERY_COMMAND if isinstance(command, click.Group)])
def test_a_group_without_a_command_shows_its_commands_and_nothing_else(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = path.split()[1:]
    code = run(words)
    if code == 0:
        return  # it does something by itself
    assert code == 2
    run([*words, "--help"])
    shown = capsys.readouterr()
    assert shown.err.strip() == shown.out.strip()


def test_top_level_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("argv", "kind", "code"),
    [
        (["trial", "--json"], "usage_error", 2),
        (["tial", "--json"], "usage_error", 2),
        (["models", "show", "no-such-model", "--json"], "unknown_model", 2),
        (["fit", "qwen3-8b", "--machine", "RTX 9999", "--json"], "unknown_machine", 2),
        (["prices", "show", "claude-opus-99", "--json"], "missing_price", 2),
        (["ledger", "show", "--ledger", "/nowhere/ledger.db", "--json"], "ledger_error", 5),
        (["simulate", "--trace", "/nowhere.csv", "--json"], "bad_input", 2),
    ],
)
def test_errors_are_one_json_object_with_the_contracts_code(
    argv: list[str], kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == code
    out = capsys.readouterr().out
    record = json.loads(out)
    assert record["schema"] == "ownward.error/1"
    assert record["error"].keys() >= {"kind", "message", "where", "allowed", "next"}
    assert record["error"]["kind"] == kind


def test_a_mistyped_command_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    run(["simulte"])
    assert "Closest: simulate" in capsys.readouterr().err


def test_an_answer_that_nothing_fits_has_exit_code_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = tmp_path / "options.jsonl"
    options.write_text('{"workload": "w", "tier": "t", "cost_usd": 1, "feasible": false}\n')
    assert run(["plan", "--options", str(options), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "infeasible_plan"


def test_plan_chooses_among_explicit_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = tmp_path / "options.jsonl"
    options.write_text(
        '{"workload": "w", "strategy": "direct", "tier": "api", "cost_usd": "9.50"}\n'
        '{"workload": "w", "strategy": "direct", "tier": "own", "cost_usd": "4.25", "completion": 0.9}\n'
    )
    assert run(["plan", "--options", str(options), "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema"] == "ownward.plan/1"
    assert payload["plan_usd"] == "4.250000"
    assert payload["baseline_usd"] == "9.500000"
    assert [item["tier"] for item in payload["chosen"]] == ["own"]


def test_trial_answers_in_the_contracts_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = tmp_path / "outcomes.jsonl"
    outcomes.write_text(
        "".join(
            json.dumps({"task_id": index, "big": {"completed": 1, "cost_usd": 0.02},
                        "small": {"completed": 1, "cost_usd": 0.001}}) + "\n"
            for index in range(400)
        )
    )  # fmt: skip
    argv = ["trial", "--outcomes", str(outcomes), "--baseline", "big", "--candidate", "small", "--rho", "0.9"]
    assert run([*argv, "--confidence", "0.95", "--json", "--at", "2026-11-21"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema"] == "ownward.certificate/1"
    assert payload["state"] == "certified"
    assert payload["tasks"] == 400
    assert payload["e_value"] >= 20
    assert payload["cpct_candidate_usd"]["value"] == "0.001000"
    assert payload["expires_at"] == "2026-12-21T00:00:00Z"


@pytest.mark.parametrize("is_gzip", [False, True])
def test_outcomes_in_parquet_give_the_certificate_of_the_same_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_gzip: bool
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    rows = [
        {"item_id": number, "big|correct": number % 5 > 0, "small|correct": number % 7 > 0, "small|cost_usd": 0.1}
        for number in range(60)
    ]
    lines, columns = tmp_path / "o.jsonl", tmp_path / "o.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), columns)
    if is_gzip:
        columns.write_bytes(gzip.compress(columns.read_bytes()))
    told = []
    for path in (lines, columns):
        argv = ["trial", "--outcomes", str(path), "--baseline", "big", "--candidate", "small", "--rho", "0.9"]
        assert run([*argv, "--at", "2026-11-21", "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["tasks"] == 60


def test_help_answers_at_once() -> None:
    """Generous for a loaded machine; benchmarks/startup.py has the figure (aim: 0.2 s)."""
    command = [sys.executable, "-m", "ownward", "--help"]
    fastest = 9.0
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.6


HOSTILE = {
    "deep.jsonl": "[" * 100_000 + "\n\0\n",
    "infinite.jsonl": '{"workload": "a", "tier": "t", "cost_usd": 1e400}\n',
    "infinite.json": '{"max_batch": 1e400}',
    "nan.json": '{"fixed_s": NaN, "per_prefill_token_s": 1, "capacity_blocks": 1e400}',
    "surplus.csv": "task_id,big_completed\nt1,1,2,3,4\n",
    "trace.jsonl": '{"arrival_s": 0, "input_tokens": 5, "output_tokens": 5}\n',
    "bad.jsonl": '{"arrival_s": 0, "input_tokens": -5, "output_tokens": 5}\n',
    "step.json": '{"fixed_s": 0.01, "per_prefill_token_s": 0.001, "capacity_blocks": 100}',
}


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["trial", "--outcomes", "deep.jsonl", "--baseline", "a", "--candidate", "b"], 2),
        (["trial", "--outcomes", "surplus.csv", "--baseline", "big", "--candidate", "b"], 2),
        (["plan", "--options", "infinite.jsonl"], 2),
        (["simulate", "--trace", "trace.jsonl", "--step-model", "step.json", "--scheduler", "infinite.json"], 2),
        (["simulate", "--trace", "trace.jsonl", "--step-model", "nan.json"], 2),
        (["simulate", "--trace", "bad.jsonl", "--step-model", "step.json"], 2),
        (["import", "deep.jsonl", "--ledger", "new.db"], 2),
        (["import", "trace.jsonl", "missing.jsonl", "--ledger", "new.db"], 2),
        (["serve", "--model", "step.json", "--ledger", "/proc/nowhere/ledger.db", "--port", "0"], 5),
        (["config", "show", "--config", "9" * 300], 2),
        (["keys", "list", "--ledger", "9" * 300], 2),
        (["predict", "--cases", "9" * 300], 2),
    ],
)
def test_no_input_is_answered_with_our_own_fault(
    argv: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error object and the contract's code, never a traceback; and nothing is left half-made."""
    monkeypatch.chdir(tmp_path)
    for name, text in HOSTILE.items():
        (tmp_path / name).write_text(text)
    assert run([*argv, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["schema"] == "ownward.error/1"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(HOSTILE)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m ownward machines search --json | head -c 20; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


def test_an_export_that_fails_has_its_error_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ledger", "export", "--ledger", "/nowhere.db", "--format", "jsonl"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "ledger_error"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes descriptors")
def test_closed_standard_streams_are_no_fault(tmp_path):
    command = ["sh", "-c", 'exec "$@" 0<&- >&- 2>&-', "sh", sys.executable, "-m", "ownward"]
    assert subprocess.run([*command, "config", "show"], cwd=tmp_path, check=False).returncode == 0
    assert subprocess.run([*command, "config", "check", "none.toml"], cwd=tmp_path, check=False).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["config", "show"], ["config", "show", "--json"]])
def test_a_full_disk_under_the_output_is_told_and_is_no_fault_of_ours(tmp_path, words):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ownward", *words]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "cannot write: No space left on device. Free some space" in done.stderr


def test_a_path_that_may_not_be_looked_at_is_no_fault_of_ours(monkeypatch, capsys):
    def refuse(path: Path, **_options: bool) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert run(["fit", "/root/model.gguf", "--machine", "rtx-4090"]) == 2
    assert "Permission denied. Check the path, the permissions of its folders" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_messages_stops_nothing_and_loses_no_key(tmp_path):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ownward", "keys", "create", "ben", "--ledger", "ledger.db"]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.returncode == 0
    with ledger.open(tmp_path / "ledger.db", is_read_only=True) as book:
        assert book.verify_key(done.stdout.strip()) is not None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_the_outputs_encoding_cannot_spell_is_escaped_and_a_key_is_not_lost(tmp_path: Path, encoding: str) -> None:
    """Pipes are Latin-1 or a code page with some locales, and on Windows; the secret of a key is shown once."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

    def ask(*argv: str) -> bytes:
        command = [sys.executable, "-m", "ownward", "keys", *argv, "--ledger", str(tmp_path / "l.db")]
        return subprocess.run(command, check=True, capture_output=True, env=environment).stdout

    name = "Zo\u00eb \u20ac \u6f22 \U0001f600"
    made = json.loads(ask("create", name, "--json").decode(encoding))
    assert made["name"] == name
    assert made["secret"].startswith("ow-")
    assert json.loads(ask("list", "--json").decode(encoding))["keys"][0]["name"] == name
    assert made["key_id"] in ask("list").decode(encoding)


def test_the_signs_of_screens_have_a_likeness_of_the_same_width_and_json_keeps_them() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    def ask(*argv: str) -> str:
        command = [sys.executable, "-m", "ownward", "models", "show", "gpt-oss-20b", *argv]
        return subprocess.run(command, check=True, capture_output=True, env=environment).stdout.decode("ascii")

    assert ask().startswith("gpt-oss-20b - OpenAI - ")
    assert json.loads(ask("--json"))


def test_an_export_to_csv_names_its_columns_also_where_there_is_no_row(tmp_path, capsys):
    path = tmp_path / "ledger.db"
    with ledger.open(path):
        pass
    assert run(["ledger", "export", "--ledger", str(path), "--format", "csv"]) == 0
    assert capsys.readouterr().out.strip() == ",".join(ledger.EXPORT_COLUMNS)


def test_a_check_finds_the_judges_that_serve_would_refuse_all_at_once(tmp_path, capsys):
    pytest.importorskip("fastjsonschema", reason="schemas are compiled with the extra [trials]")
    path = tmp_path / "plan.toml"
    tier = '[tiers.a]\nkind = "rented"\nmodel = "m"\nupstreams = [{ name = "u", url = "https://a.example" }]\n'
    elsewhere = '{"$ref": "https://a.example/schema"}'
    vote = f"kind = 'vote', tiers = ['a'], options = {{ samples = 3, json_schema = '{elsewhere}' }}"
    workloads = "".join(
        f'[workloads.{name}]\nmatch = {{ models = ["{name}"] }}\nstrategy = {{ {vote} }}\n' for name in ("b", "c")
    )
    path.write_text(f'schema = "ownward.plan/1"\nname = "p"\n{tier}{workloads}')
    assert run(["config", "check", str(path), "--json"]) == 2
    faults = json.loads(capsys.readouterr().out)["error"]["faults"]
    assert [(fault["file"], fault["key"]) for fault in faults] == [
        ("workload 'b'", "strategy.json_schema"),
        ("workload 'c'", "strategy.json_schema"),
    ]


def test_settings_are_shown_as_the_file_takes_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "own.toml").write_text("[gateway]\nrequires_keys = true\n")
    assert run(["config", "show", "--config", str(tmp_path / "own.toml")]) == 0
    lines = {words[0]: words[1] for line in capsys.readouterr().out.splitlines() if len(words := line.split()) > 1}
    assert (lines["gateway.requires_keys"], lines["telemetry.spans"]) == ("true", "false")


def test_the_id_that_revokes_a_key_is_shown_in_one_piece_however_much_stands_beside_it(tmp_path, capsys):
    path = str(tmp_path / "ledger.db")
    many = [word for number in range(9) for word in ("--workload", f"a-workload-{number}")]
    assert (
        run(["keys", "create", "a name of some length", "--ledger", path, *many, "--budget", "5.00/day", "--json"]) == 0
    )
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    assert run(["keys", "list", "--ledger", path]) == 0
    assert key_id in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_id_that_revoke_takes_is_in_one_piece_however_narrow_the_terminal(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    ledger_file = str(tmp_path / "ledger.db")
    name = "a team with quite a long name"
    assert run(["keys", "create", name, "--workload", "w" * 60, "--ledger", ledger_file, "--json"]) == 0
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    assert run(["keys", "list", "--ledger", ledger_file]) == 0
    shown = capsys.readouterr().out
    assert key_id in shown
    assert max(map(len, shown.splitlines())) <= int(columns)
    assert ("no room for scopes" in shown) == (columns == "60")


def test_a_ledger_of_an_earlier_version_is_brought_up_to_date_by_the_command_that_reading_it_names(tmp_path, capsys):
    path = tmp_path / "ledger.db"
    ledger.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as earlier, earlier:
        (newest,) = earlier.execute("SELECT MAX(name) FROM migrations").fetchone()
        earlier.execute("DELETE FROM migrations WHERE name = ?", (newest,))
        earlier.execute("DROP TABLE imported_cache_writes_1h")
    report = ["report", "--ledger", str(path), "--json"]
    assert run(report) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert newest in error["message"]
    assert "ownward ledger reconcile, with the same --ledger" in error["next"]
    assert run(["ledger", "reconcile", "--ledger", str(path)]) == 0
    assert run(report) == 0


@pytest.mark.parametrize("group", ["models", "machines", "prices"])
def test_whoever_asks_a_catalogue_for_its_list_is_told_that_it_lists_itself(group, capsys):
    assert run([group, "list", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["next"].endswith(f"or all of them with: ownward {group}")


def test_a_format_that_there_is_not_is_told_with_those_there_are(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text('{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}')
    command = ["import", str(tmp_path / "log.jsonl"), "--format", "xyz", "--ledger", str(tmp_path / "l.db")]
    assert run([*command, "--json"]) == 2
    assert "'litellm'" in json.loads(capsys.readouterr().out)["error"]["allowed"]


def test_a_folder_that_was_removed_under_the_shell_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(["report", "--ledger", "l.db", "--json"]) == 2
    assert "does not exist any more" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_terminal_of_no_known_width_gets_tables_too(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    assert run(["models", "search", "qwen3-0.6b"]) == 0
    assert "qwen3-0.6b" in capsys.readouterr().out
