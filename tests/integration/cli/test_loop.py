"""Import, look, plan and report, as a user types them, on the trace that ships with the demo."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ownward import plan as plan_room
from ownward.cli import run

TRACE = str(files("ownward.demo").joinpath("data/azure_llm_2023_code.csv.gz"))


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = run([*argv, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_a_trace_is_imported_once_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, out = str(tmp_path / "ledger.db"), tmp_path / "plan.toml"
    first = ask(capsys, "import", TRACE, "--ledger", ledger)
    assert (first["read"], first["imported"], first["duplicates"], first["bad_total"]) == (8819, 8819, 0, 0)
    (workload,) = first["workloads"]
    assert (workload["id"], workload["requests"], workload["basis"]) == ("azure_llm_2023_code", 8819, "none")
    again = ask(capsys, "import", TRACE, "--ledger", ledger)
    assert (again["imported"], again["duplicates"]) == (0, 8819)

    planned = ask(
        capsys, "plan", "--ledger", ledger, "--rent", "gpt-5-mini", "--own", "box=qwen3-30b-a3b:q4_k_m@RTX 5090",
        "--out", str(out), "--at", "2026-11-21",
    )  # fmt: skip
    assert planned["schema"] == "ownward.plan/1"
    assert planned["chosen"][0]["tier"] == "gpt-5-mini"  # nobody has measured the box
    barred = next(item for item in planned["options"] if item["tier"] == "box")
    assert not barred["feasible"]
    assert "nobody has measured" in barred["binding_constraint"]
    made = plan_room.loads(out.read_text(), file="plan.toml")
    assert made.sha256 == planned["plan_sha256"]
    assert made.workloads["azure_llm_2023_code"].strategy.tiers == ("gpt-5-mini",)

    if_equal = ask(
        capsys, "plan", "--ledger", ledger, "--rent", "gpt-5-mini", "--own", "box=qwen3-30b-a3b:q4_k_m@RTX 5090",
        "--what-if", "--at", "2026-11-21",
    )  # fmt: skip
    cheapest = min((item for item in if_equal["options"] if item["feasible"]), key=lambda item: float(item["cost_usd"]))
    assert if_equal["chosen"][0]["tier"] == cheapest["tier"]


def test_comments_of_an_edited_plan_survive_planning_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, out = str(tmp_path / "ledger.db"), tmp_path / "plan.toml"
    ask(capsys, "import", TRACE, "--ledger", ledger)
    argv = ("plan", "--ledger", ledger, "--rent", "gpt-5-mini", "--out", str(out), "--at", "2026-11-21")
    ask(capsys, *argv)
    out.write_text(out.read_text().replace("[tiers.gpt-5-mini]", "# Ben says: ask before changing\n[tiers.gpt-5-mini]"))
    ask(capsys, *argv)
    assert "# Ben says: ask before changing" in out.read_text()


def test_nothing_is_written_when_planning_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, out = str(tmp_path / "ledger.db"), tmp_path / "plan.toml"
    ask(capsys, "import", TRACE, "--ledger", ledger)
    assert run(["plan", "--ledger", ledger, "--rent", "no-such-api", "--out", str(out)]) == 2
    assert not out.exists()


@pytest.mark.parametrize("fault", ["assignments", "a second file", "a folder for assignments", "a full disk"])
def test_an_import_that_fails_has_imported_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    if fault == "a full disk" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    good, odd, ledger = tmp_path / "good.csv", tmp_path / "odd.log", str(tmp_path / "l.db")
    good.write_text("request_id,arrival_s,input_tokens,output_tokens\na,0,10,2\n")
    odd.write_text("of no format that we know\n")
    assert run(["import", str(good), "--workload", "before", "--ledger", ledger]) == 0
    good.write_text("request_id,arrival_s,input_tokens,output_tokens\nb,0,10,2\n")
    more = {
        "assignments": ["--assignments", str(tmp_path / "nowhere" / "out.jsonl")],
        "a folder for assignments": ["--assignments", str(tmp_path)],
        "a full disk": ["--assignments", "/dev/full"],
        "a second file": [str(odd), "--assignments", str(tmp_path / "out.jsonl")],
    }[fault]
    capsys.readouterr()
    assert run(["import", str(good), *more, "--ledger", ledger, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["schema"] == "ownward.error/1"
    assert not (tmp_path / "out.jsonl").exists()
    assert run(["import", str(good), "--ledger", ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"] == 1


def test_bad_rows_are_listed_and_good_ones_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        '{"arrival_s": 0, "input_tokens": 10, "output_tokens": 5}\n'
        '{"arrival_s": 1, "input_tokens": -4, "output_tokens": 5}\n'
        "nonsense\n"
        '{"arrival_s": 2, "input_tokens": 20, "output_tokens": 1}\n'
    )
    found = ask(capsys, "import", str(trace), "--ledger", str(tmp_path / "l.db"), "--workload", "mine")
    assert (found["imported"], found["bad_total"]) == (2, 2)
    assert [row["line"] for row in found["bad"]] == [2, 3]
    assert [(item["id"], item["requests"]) for item in found["workloads"]] == [("mine", 2)]


def test_an_import_of_which_no_row_can_be_read_is_bad_input_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, empty = tmp_path / "trace.csv", tmp_path / "empty.csv"
    empty.write_text("arrival_s,input_tokens,output_tokens\n")
    trace.write_text(empty.read_text() + "x,1,1\n0,-1,2\n")
    options = ["--ledger", str(tmp_path / "l.db"), "--assignments", str(tmp_path / "assigned.jsonl")]
    assert run(["import", str(trace), *options, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "none of 2 rows can be read" in error["message"]
    assert f"{trace}:3: input_tokens is '-1'" in error["message"]
    assert sorted(tmp_path.iterdir()) == [empty, trace]
    assert ask(capsys, "import", str(empty), "--ledger", str(tmp_path / "l.db"))["read"] == 0


def test_workloads_that_a_log_names_in_any_letters_can_be_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BurstGPT calls its logs "Conversation log", and apps, trace names and files have spaces and umlauts too."""
    log, ledger = tmp_path / "März (1).jsonl", str(tmp_path / "l.db")
    usage = {"input_tokens": 100, "output_tokens": 10, "model": "gpt-5-mini"}
    rows = [
        {"started_at": f"2026-10-{day + 1:02d}T10:00:00Z", **usage, "workload": workload}
        for day, workload in enumerate(["Support bot", "chat", "客服", "Support bot!", None] * 2)
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask(capsys, "import", str(log), "--ledger", ledger)["workloads"]
    names = ["Support bot", "chat", "客服", "Support bot!", "März (1)"]
    assert {item["name"]: item["requests"] for item in found} == dict.fromkeys(names, 2)
    assert len({item["id"] for item in found}) == 5
    decided = ask(capsys, "plan", "--ledger", ledger)
    assert {item["workload"] for item in decided["workloads"]} == {item["id"] for item in found}
    assert plan_room.loads(decided["plan_toml"], file="plan.toml").workloads.keys() == {item["id"] for item in found}


def through_a_pipe(content: bytes, *argv: str) -> dict[str, Any]:
    """Return the JSON of a command that reads from a pipe, as `<(zcat log.gz)` is one."""
    found = subprocess.run(
        [sys.executable, "-m", "ownward", *argv, "--json"], input=content, stdout=subprocess.PIPE, check=True
    )
    read: dict[str, Any] = json.loads(found.stdout)
    return read


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_may_be_pipes(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    rows = [{"arrival_s": second, "input_tokens": 10, "output_tokens": 5} for second in range(5)]
    log = pack("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "other.jsonl").write_bytes(log)
    target = ["--ledger", str(tmp_path / "l.db"), str(tmp_path / "other.jsonl")]
    found = through_a_pipe(log, "import", "/dev/stdin", *target)
    assert found["imported"] == 10
    assert {item["id"] for item in found["workloads"]} == {"default", "other"}
    outcomes = pack(b'{"task_id": 1, "a_completed": 1, "b_completed": 1}\n')
    certificate = through_a_pipe(outcomes, "trial", "--outcomes", "/dev/stdin", "--baseline", "a", "--candidate", "b")
    assert certificate["tasks"] == 1


def test_a_plan_of_what_the_ledger_does_not_have_says_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "l.db")
    assert run(["keys", "create", "ada", "--ledger", path]) == 0
    capsys.readouterr()
    assert run(["plan", "--ledger", path, "--json"]) == 2
    assert "ownward import FILE" in json.loads(capsys.readouterr().out)["error"]["next"]
    ask(capsys, "import", TRACE, "--ledger", path, "--workload", "code")
    assert run(["plan", "--ledger", path, "--workload", "chat", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["message"], error["allowed"]) == ("the ledger has no workload 'chat'", "It has code")


def test_applications_in_a_chat_log_become_workloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two system prompts in one log are two workloads; the assignments name one for each row."""
    log, out = tmp_path / "chats.jsonl", tmp_path / "assigned.jsonl"
    systems = ("You sort letters of complaint by topic.", "Translate what the user writes into Rumantsch.")
    rows = [
        {"messages": [{"role": "system", "content": systems[index % 2]},
                      {"role": "user", "content": f"text number {index} about something else"},
                      {"role": "assistant", "content": "done"}]}
        for index in range(20)
    ]  # fmt: skip
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask(capsys, "import", str(log), "--ledger", str(tmp_path / "l.db"), "--assignments", str(out))
    assert [item["requests"] for item in found["workloads"]] == [10, 10]
    assigned = [json.loads(line) for line in out.read_text().splitlines()]
    assert [item["row"] for item in assigned] == list(range(20))
    assert len({item["workload"] for item in assigned[0::2]}) == 1
    assert len({item["workload"] for item in assigned}) == 2


def test_simulate_repeats_itself_and_writes_a_row_a_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = tmp_path / "step.json"
    step.write_text('{"fixed_s": 0.01, "per_prefill_token_s": 0.0001, "capacity_blocks": 10000}')
    rows = tmp_path / "rows.jsonl"
    argv = ("simulate", "--trace", TRACE, "--step-model", str(step), "--per-request", str(rows), "--slo-ttft", "5")
    first = ask(capsys, *argv)
    written = rows.read_bytes()
    again = ask(capsys, *argv)
    first.pop("requests_per_wall_s"), again.pop("requests_per_wall_s")
    assert first == again
    assert rows.read_bytes() == written
    listed = [json.loads(line) for line in written.splitlines()]
    assert len(listed) == 8819
    assert listed[0].keys() == {
        "request_id", "arrival_s", "ttft_s", "tpot_s", "latency_s", "cached_input_tokens", "preemptions"
    }  # fmt: skip


def test_an_empty_ledger_reports_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"arrival_s": 0, "input_tokens": 10, "output_tokens": 5}\n')
    ask(capsys, "import", str(trace), "--ledger", str(tmp_path / "l.db"))
    report = ask(capsys, "report", "--ledger", str(tmp_path / "l.db"))
    assert report["schema"] == "ownward.report/1"
    assert report["workloads"] == []


def test_keys_are_shown_once_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(tmp_path / "l.db")
    made = ask(capsys, "keys", "create", "ben", "--label", "eu", "--ledger", ledger)
    assert made["secret"].startswith("ow-")
    listed = ask(capsys, "keys", "list", "--ledger", ledger)
    assert made["secret"] not in json.dumps(listed)
    ask(capsys, "keys", "revoke", made["key_id"], "--ledger", ledger)
    assert ask(capsys, "keys", "list", "--ledger", ledger)["keys"][0]["revoked_at"] is not None


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "n" * 129])
def test_a_key_needs_a_name_that_a_list_can_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    ledger = tmp_path / "l.db"
    assert run(["keys", "create", name, "--ledger", str(ledger), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "usage_error"
    assert not ledger.exists()


@pytest.mark.parametrize(
    "command",
    [["ledger", "export"], ["ledger", "show"], ["report"], ["plan"], ["keys", "list"], ["keys", "revoke", "key_ben"]],
    ids=" ".join,
)
def test_a_ledger_that_is_not_there_is_an_error_of_the_ledger_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    ledger = tmp_path / "l.db"
    assert run([*command, "--ledger", str(ledger), "--json"]) == 5
    assert "no such ledger" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not ledger.exists()


def test_a_key_that_is_not_there_is_an_unknown_name_and_a_secret_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = str(tmp_path / "l.db")
    made = ask(capsys, "keys", "create", "ben", "--ledger", ledger)
    assert run(["keys", "revoke", made["key_id"][:-1], "--ledger", ledger, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "unknown_name"
    assert made["key_id"] in error["allowed"]
    assert run(["keys", "revoke", made["secret"], "--ledger", ledger, "--json"]) == 2
    told = capsys.readouterr()
    assert made["secret"] not in told.out + told.err
    assert "ownward keys list" in told.out


def test_predict_answers_every_case_or_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(
        '{"id": "a", "model": "qwen3-8b", "machine": "RTX 4090", "engine": "llama.cpp", "weights": "Q4_K_M",'
        ' "metric": "decode_tok_s_per_user"}\n'
        '{"id": "b", "model": "no-such", "machine": "RTX 4090", "metric": "decode_tok_s_per_user"}\n'
        '{"id": "c", "model": "qwen3-8b", "machine": {"name": "mine", "kind": "gpu-consumer", "memory_gb": 24,'
        ' "bandwidth_gb_s": 1000, "bf16_tflops_dense": 100}, "weights": "q8_0", "metric": "prefill_tok_s"}\n'
        '{"id": "d", "model": "llama-3.1-405b", "machine": "RTX 4090", "weights": "q4_k_m",'
        ' "metric": "decode_tok_s_per_user"}\n'
    )
    assert run(["predict", "--cases", str(cases), "--json"]) == 0
    rows = {row["id"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows.keys() == {"a", "b", "c", "d"}
    for name in ("a", "c"):
        assert rows[name]["refused"] is None
        assert rows[name]["low80"] < rows[name]["value"] < rows[name]["high80"]
    assert rows["b"]["value"] is None
    assert "no-such" in rows["b"]["refused"]
    assert rows["d"]["fits"] is False


def test_a_line_that_is_no_case_is_refused_and_those_after_it_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases.jsonl"
    case = {"model": "llama-3.1-8b", "machine": "RTX 4090", "engine": "llama.cpp", "metric": "decode_tok_s_per_user"}
    cases.write_text(f'{{"id":\n{json.dumps(case)}\n{json.dumps(case | {"id": "good"})}\n')
    assert run(["predict", "--cases", str(cases), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in told] == [None, None, "good"]
    assert "not JSON" in told[0]["refused"]
    assert told[2]["value"] > 0


def test_a_prediction_carries_the_id_of_its_case_as_it_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases.jsonl"
    case = {"model": "llama-3.1-8b", "machine": "RTX 4090", "engine": "llama.cpp", "metric": "decode_tok_s_per_user"}
    stated: list[object] = [7, "7", 0, "no-such"]
    cases.write_text("".join(f"{json.dumps(case | {'id': name})}\n" for name in stated[:3]))
    with cases.open("a") as file:
        file.write(json.dumps(case | {"id": "no-such", "model": "no-such"}))
    assert run(["predict", "--cases", str(cases), "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == stated


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", "-1"), "--seed"),
        (("--slo-ttft", "nan"), "--slo-ttft"),
        (("--model", "qwen3-8b", "--machine", "RTX 4090"), "two deployments are named"),
    ],
    ids=["seed", "service level", "two deployments"],
)
def test_simulate_refuses_what_it_cannot_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    trace, step = tmp_path / "trace.csv", tmp_path / "step.json"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,10,10\n")
    step.write_text('{"fixed_s": 0.01, "per_prefill_token_s": 0.0001, "capacity_blocks": 100}')
    assert run(["simulate", "--trace", str(trace), "--step-model", str(step), *flags, "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(("model", "is_said"), [("qwen3-30b-a3b", True), ("llama-3.1-8b", False)])
def test_simulate_says_how_many_requests_are_longer_than_the_models_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, is_said: bool
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,40000,1000\n1,40000,900\n2,40000,960\n")
    assert run(["simulate", "--trace", str(trace), "--model", model, "--machine", "H100 SXM", "--json"]) == 0
    said = capsys.readouterr().err
    assert ("longer than the context of qwen3-30b-a3b (40,960 tokens)" in said) is is_said
    assert is_said is (": 1 request of 3" in said)


def test_simulate_says_how_many_rows_repeat_an_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, step = tmp_path / "trace.csv", tmp_path / "step.json"
    trace.write_text("request_id,arrival_s,input_tokens,output_tokens\na,0,10,10\na,1,10,10\n")
    step.write_text('{"fixed_s": 0.01, "per_prefill_token_s": 0.0001, "capacity_blocks": 100}')
    assert run(["simulate", "--trace", str(trace), "--step-model", str(step), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["requests"] == 1
    assert "left out because an earlier row has the same id: 1 row" in said.err
