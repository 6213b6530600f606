"""`ownward fit` from the outside: its JSON, its exit codes, its commands, and the files it is asked about."""

from __future__ import annotations

import json
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest

from ownward import catalog
from ownward.cli import run
from ownward.cli._app import _ownward

CONTRACT = {
    *("model", "variant", "placement", "fits", "missing_bytes", "memory", "max_context_tokens"),
    *("prefill_tokens_per_s", "decode_tokens_per_s", "usd_per_mtok_marginal", "usd_per_mtok_loaded", "command"),
}


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one JSON object of a command line, and how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def ask(*words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run(["fit", *words, "--json"])
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return code, json.loads(out)

    return ask


def test_the_json_has_every_field_of_the_contract_and_the_best_first(answer: Any) -> None:
    code, found = answer("qwen3-8b", "--machine", "RTX 4090")
    assert code == 0
    assert found["schema"] == "ownward.fit/1"
    assert all(option.keys() >= CONTRACT for option in found["options"])
    assert set(found["options"][0]["memory"]) == {"weights", "cache", "state", "activations", "overhead"}
    assert set(found["options"][0]["decode_tokens_per_s"]) == {"value", "low80", "high80"}
    assert isinstance(found["options"][0]["usd_per_mtok_loaded"], str)
    assert [option["fits"] for option in found["options"]] == sorted(
        (option["fits"] for option in found["options"]), reverse=True
    )


def test_what_does_not_fit_is_one_object_with_exit_code_three(answer: Any) -> None:
    code, found = answer("qwen3.5-397b", "--machine", "RTX 4090")
    assert code == 3
    assert found["schema"] == "ownward.fit/1"
    assert all(option["fits"] is False and option["missing_bytes"] > 0 for option in found["options"])
    assert all(option["command"] is None for option in found["options"])
    assert all(option["decode_tokens_per_s"]["value"] is None for option in found["options"])
    assert {item["change"] for item in found["nearest"]} >= {"machine", "model"}


def test_a_machine_of_which_too_little_is_known_is_an_error_that_says_so(answer: Any) -> None:
    code, found = answer("qwen3-8b", "--machine", "tpu7x-ironwood")
    assert code == 3
    assert "bandwidth" in found["error"]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("qwen3-8b", "--machine", "RTX 4090", "--ram", "much"),
        ("qwen3-8b", "--machine", "RTX 4090", "--ssd", "7GB/x"),
        ("qwen3-8b", "--machine", "RTX 4090", "--context", "0"),
        ("qwen3-8b", "--machine", "RTX 4090", "--concurrency", "0"),
        ("qwen3-8b", "--machine", "RTX 4090", "--engine", "magic"),
        ("qwen3-8b", "--machine", "RTX 4090", "--kv-type", "fp3"),
        ("qwen3-8b", "--machine", "RTX 4090", "--budget", "3000"),
        ("qwen3-8b", "--machine", "RTX 4090", "--host-price", "500"),
        ("qwen3-8b", "--budget", "much"),
        ("qwen3-8b", "--budget", "-5"),
        ("qwen3-8b", "--budget", "3000", "--watts", "5"),
        ("qwen3-8b", "--machine", "RTX 40"),
        ("qwn3-8", "--machine", "RTX 4090"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_object(answer: Any, words: tuple[str, ...]) -> None:
    code, found = answer(*words)
    assert code == 2
    assert found["schema"] == "ownward.error/1"


def test_a_weight_format_that_nobody_knows_is_refused(answer: Any) -> None:
    code, found = answer("qwen3-8b", "--machine", "RTX 4090", "--weights", "q17")
    assert code == 3
    assert found["error"]["kind"] == "unknown_quantization"


def test_a_config_file_is_answered_in_the_formats_that_are_made_of_it(answer: Any) -> None:
    path = catalog.model("qwen3-8b").config_path
    code, found = answer(str(path), "--machine", "RTX 4090")
    assert code == 0
    assert {"bf16", "q4_k_m"} <= {option["variant"] for option in found["options"]}


def test_a_quantised_checkpoint_is_answered_as_it_is_stored(answer: Any) -> None:
    path = catalog.checkpoint("Qwen/Qwen3-30B-A3B-FP8").config_path
    for name in (str(path), "Qwen/Qwen3-30B-A3B-FP8"):
        code, found = answer(name, "--machine", "H200 SXM")
        assert code == 0
        assert [option["variant"] for option in found["options"]] == ["fp8"]
        assert "--quantization" not in found["options"][0]["command"]


def test_a_budget_lists_purchases_with_what_runs_on_them(answer: Any) -> None:
    code, found = answer("qwen3-30b-a3b", "--budget", "$3,000", "--host-price", "600")
    assert code == 0
    assert len(found["purchases"]) == len(found["options"])
    assert all(float(one["total_usd"]) <= 3000 for one in found["purchases"])
    assert {one["host_usd"] for one in found["purchases"]} <= {"0.000000", "600.000000", "1200.000000"}
    assert found["unpriced"]
    assert all(one["price_source"] for one in found["purchases"])


def test_a_budget_that_runs_nothing_ends_with_three(answer: Any) -> None:
    code, found = answer("qwen3.5-397b", "--budget", "100")
    assert code == 3
    assert found["purchases"] == []
    assert found["above_budget"] is not None


def test_power_and_price_that_one_states_make_costs_known(answer: Any) -> None:
    _, unknown = answer("qwen3-8b", "--machine", "M4 Pro 24GB")
    assert unknown["options"][0]["usd_per_mtok_loaded"] is None
    _, known = answer("qwen3-8b", "--machine", "M4 Pro 24GB", "--watts", "60", "--price", "1400")
    assert float(known["options"][0]["usd_per_mtok_loaded"]) > float(known["options"][0]["usd_per_mtok_marginal"]) > 0


def test_the_price_of_another_memory_size_is_not_this_machines(answer: Any) -> None:
    _, largest = answer("gpt-oss-20b", "--machine", "M3 Ultra")
    assert "machine price" in largest["options"][0]["unknown"]


def test_memory_that_one_states_is_a_processors_own(answer: Any) -> None:
    for machine in ("EPYC 9004 12ch DDR5-4800", "M4 Max 40-core"):
        _, found = answer("qwen3-8b", "--machine", machine, "--ram", "16GB")
        assert found["options"][0]["usable_bytes"] <= 16e9
        _, largest = answer("qwen3-8b", "--machine", machine)
        assert largest["options"][0]["usable_bytes"] > 100e9
        assert "--ram" in largest["notes"][0]


def test_devices_that_attend_apart_are_told_so_by_vllms_flags(answer: Any) -> None:
    _, found = answer("kimi-k2.6", "--machine", "8xB200 SXM", "--concurrency", "96", "--context", "32768")
    command = found["options"][0]["command"]
    assert "--data-parallel-size 8" in command
    assert "--enable-expert-parallel" in command
    assert "--tensor-parallel-size" not in command
    assert "--max-num-seqs 12" in command  # for each of the devices


@pytest.mark.parametrize(("machine", "is_apart"), [("8xH100 SXM", True), ("4xH200 SXM", False)])
def test_vllm_is_told_to_keep_experts_whole_where_it_cannot_cut_them(answer: Any, machine: str, is_apart: bool) -> None:
    _, found = answer("minimax-m2.7", "--machine", machine)
    stored = next(option for option in found["options"] if option["variant"] == "fp8")
    assert ("--enable-expert-parallel" in stored["command"]) is is_apart


MACHINE_FILE = """
[[machine]]
id = "box"
name = "Box"
kind = "gpu-consumer"
memory_label = "48 GB"
bandwidth_bytes_per_s = 1e12
basis = "assumed"
source = "its owner"
checked_on = 2026-11-21
"""


def test_a_machine_file_is_a_machine_and_can_be_counted(answer: Any, tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text(MACHINE_FILE, "utf-8")
    _, one = answer("qwen3-30b-a3b", "--machine", "box.toml")
    code, two = answer("qwen3-30b-a3b", "--machine", "2xbox.toml")
    assert code == 0
    assert two["machines_count"] == 2
    assert two["options"][0]["usable_bytes"] == pytest.approx(2 * one["options"][0]["usable_bytes"], rel=1e-6)
    assert answer("qwen3-30b-a3b", "--machine", "2xnothing.toml")[0] == 2


def test_weights_whose_config_is_missing_are_told_what_is_missing(answer: Any, tmp_path: Path) -> None:
    numpy, safetensors = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    file = tmp_path / "model.safetensors"
    safetensors.save_file({"model.layers.0.mlp.up_proj.weight": numpy.zeros((64, 64), "float16")}, file)
    code, found = answer(str(file), "--machine", "RTX 4090")
    assert code == 3
    assert "config.json" in found["error"]["message"]


def test_the_tariff_of_the_settings_is_what_energy_costs(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, usual = answer("qwen3-8b", "--machine", "RTX 4090")
    monkeypatch.setenv("OWNWARD_ECONOMICS_USD_PER_KWH", "1.00")
    _, dear = answer("qwen3-8b", "--machine", "RTX 4090")
    before, after = (float(found["options"][0]["usd_per_mtok_marginal"]) for found in (usual, dear))
    assert after == pytest.approx(4 * before, rel=1e-3)


FLAGS_OF_LLAMA = ("'RTX 4090'", "'RTX 4090' --ram 64GB --kv-type q8_0", "'EPYC 9004 12ch DDR5-4800'")


@pytest.mark.parametrize("machine", FLAGS_OF_LLAMA)
@pytest.mark.parametrize("model", ["gpt-oss-120b", "llama-3.3-70b"])
def test_every_flag_of_a_llama_server_command_is_one_of_its_own(answer: Any, machine: str, model: str) -> None:
    """The flags stand, whole, in the engine that is embedded: the same program with another entrance."""
    xllamacpp = pytest.importorskip("xllamacpp")
    words = b"".join(path.read_bytes() for path in Path(xllamacpp.__file__).parent.glob("*.so"))
    _, found = answer(model, "--machine", *shlex.split(machine))
    commands = [shlex.split(option["command"]) for option in found["options"] if option["command"]]
    assert commands or "--ram" not in machine
    for flag in {word for command in commands for word in command if word.startswith("--")}:
        assert flag.encode() + b"\0" in words, flag


def test_our_own_command_is_accepted_by_our_own_command_line(answer: Any) -> None:
    _, found = answer("smollm3-3b", "--machine", "EPYC 9004 12ch DDR5-4800", "--concurrency", "3")
    words = shlex.split(found["options"][0]["serve_command"])
    assert words[:2] == ["ownward", "serve"]
    serve = _ownward.get_command(click.Context(_ownward), "serve")
    assert serve is not None
    parsed = serve.make_context("serve", words[2:], resilient_parsing=False)
    assert parsed.params["slots"] == 3
    assert parsed.params["context_tokens"] == 8192


def test_more_devices_share_layers_in_the_command(answer: Any) -> None:
    _, found = answer("qwen3.5-397b", "--machine", "8xB200", "--concurrency", "32", "--kv-type", "fp8")
    command = found["options"][0]["command"]
    assert "--tensor-parallel-size 8" in command
    assert "--max-num-seqs 32" in command
    assert "--kv-cache-dtype fp8" in command
    assert "--gpu-memory-utilization 0.92" in command
    _, sixteen = answer("qwen3.5-397b", "--machine", "16xB200")
    assert "--tensor-parallel-size 8 --pipeline-parallel-size 2" in sixteen["options"][0]["command"]


def test_a_checkpoint_on_a_hub_is_read_and_never_fetched(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub has a config without weights: headers alone are asked for, and a name that is not there is told."""
    import http.server
    import threading

    asked: list[str] = []
    config = catalog.model("qwen3-0.6b").config_path
    assert config is not None
    files = {"/org/tiny/resolve/v1/config.json": config.read_bytes()}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = files.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        monkeypatch.setenv("OWNWARD_HUB_URL", f"http://127.0.0.1:{server.server_address[1]}")
        code, found = answer("hf:org/tiny@v1/config.json", "--machine", "H200 SXM")
        assert code == 0, found
        assert found["options"][0]["command"].startswith("vllm serve org/tiny --served-model-name")
        assert "--revision v1" in found["options"][0]["command"]
        code, found = answer("hf:org/none", "--machine", "H200 SXM")
        assert code in {2, 4}
        assert found["schema"] == "ownward.error/1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not [path for path in asked if path.startswith("/org/tiny") and not path.endswith(".json")]


@pytest.mark.parametrize("columns", ["50", "60", "70", "80", "120"])
def test_charts_are_drawn_to_the_width_of_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row ends with the figure that a wide terminal shows there, and none is cut."""

    def rows(width: str) -> list[list[str]]:
        monkeypatch.setenv("COLUMNS", width)
        run(["fit", "qwen3-30b-a3b", "--machine", "strix halo"])
        shown = capsys.readouterr().out.splitlines()
        charts = [row for row in shown if row.lstrip()[:1].isdigit() and "  #" in row]
        assert all(len(row) <= int(width) for row in charts)
        return [row.replace("#", " ").replace("--", " ").split() for row in charts]

    assert [row[-2:] for row in rows(columns)] == [row[-2:] for row in rows("80")]


def test_models_that_were_made_for_less_context_are_named_in_one_note(answer: Any) -> None:
    _, found = answer("--machine", "RTX 3090")
    (note,) = found["notes"]
    assert "Llama-2-7B" in note
    assert note.endswith("were made for 4,096 tokens of context: answered for that")


def test_of_several_models_each_row_names_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where only one of them fits, whose rows would else be anybody's."""
    run(["fit", "qwen3-8b", "qwen3-14b", "--machine", "RTX 3060", "--context", "40960"])
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if "q4_k_m" in row]
    assert rows[0][:2] == ["Qwen3-8B", "q4_k_m"]


@pytest.mark.parametrize(
    ("machine", "kv_type", "told"),
    [
        ("H100 SXM", "q4_0", "vllm has no cache in q4_0: answered for fp8"),
        ("RTX 4090", "q8_0", ""),
        ("H100 SXM", "bf16", ""),
    ],
)
def test_a_cache_that_the_engine_does_not_have_is_said(answer: Any, machine: str, kv_type: str, told: str) -> None:
    _, found = answer("qwen3-8b", "--machine", machine, "--kv-type", kv_type)
    assert found["notes"] == ([told] if told else [])


def test_two_files_of_one_name_are_two_models_and_one_named_twice_is_one(answer: Any, tmp_path: Path) -> None:
    for place, model in (("a", "qwen3-8b"), ("b", "qwen3-14b")):
        (tmp_path / place / "tune").mkdir(parents=True)
        (tmp_path / place / "tune" / "config.json").write_text(json.dumps(catalog.load_config(model)), "utf-8")
    first, second = str(tmp_path / "a" / "tune"), str(tmp_path / "b" / "tune")
    _, found = answer(first, second, first, "--machine", "H100 SXM", "--weights", "bf16")
    told = {option["command"].split()[2]: option["memory"]["weights"] for option in found["options"]}
    assert len(found["options"]) == 2
    assert told[first] < told[second]


@pytest.fixture
def own_checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(catalog.load_config("qwen3-8b")), "utf-8")
    return folder


@pytest.mark.parametrize("named", ["", "config.json"])
def test_llama_cpp_is_never_given_a_config_for_a_model(answer: Any, own_checkpoint: Path, named: str) -> None:
    _, found = answer(str(own_checkpoint / named), "--machine", "RTX 4090")
    for option in found["options"]:
        if option["command"]:
            name = f"tune-{option['variant'].upper()}.gguf"
            assert f"--model {name} " in option["command"]
            assert f"--model {name} " in option["serve_command"]
            assert "a GGUF of " in option["command_needs"][0]


def test_vllm_is_given_the_folder_and_told_what_it_lacks_and_how_to_narrow_it(
    answer: Any, own_checkpoint: Path
) -> None:
    (own_checkpoint / "config.json").rename(own_checkpoint / "other.json")
    code, found = answer(str(own_checkpoint / "other.json"), "--machine", "H100 SXM")
    assert code == 0
    by_variant = {option["variant"]: option for option in found["options"]}
    assert by_variant["bf16"]["command"].startswith(f"vllm serve {own_checkpoint} ")
    assert "its weights" in by_variant["bf16"]["command_needs"][0]
    (own_checkpoint / "other.json").rename(own_checkpoint / "config.json")
    (own_checkpoint / "model-00001-of-00001.safetensors").write_bytes(b"")
    _, found = answer(str(own_checkpoint), "--machine", "H100 SXM")
    by_variant = {option["variant"]: option for option in found["options"]}
    assert not by_variant["bf16"]["command_needs"]
    assert "--quantization fp8" in by_variant["fp8"]["command"]
    assert "in int4" in by_variant["int4"]["command_needs"][0]


class _Page(HTMLParser):
    """What a page refers to, its headings, and whether its tags close."""

    VOID = frozenset({"meta", "link", "br", "img", "line", "polygon", "polyline", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.levels: list[int] = []
        self.unnamed_pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.references += [f"{tag} {name}" for name in ("src", "href", "srcset", "data") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.levels.append(int(tag[1]))
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-label")):
            self.unnamed_pictures += 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "words",
    [
        ("qwen3-8b", "--machine", "RTX 4090"),
        ("--machine", "RTX 4090"),
        ("gpt-oss-120b", "--machine", "RTX 4090", "--ram", "64GB"),
        ("qwen3.5-397b", "--machine", "RTX 4090"),
        ("qwen3-30b-a3b", "--budget", "2000"),
        ("qwen3.5-397b", "--budget", "100"),
    ],
)
def test_the_page_needs_nothing_else_and_can_be_read_aloud(answer: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    answer(*words, "--html", str(tmp_path / "fit.html"))
    text = (tmp_path / "fit.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.references == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert page.levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.levels, page.levels[1:], strict=False))
    assert page.unnamed_pictures == 0
    assert '<html lang="en">' in text
    assert "prefers-color-scheme:dark" in text
    assert len(text) < 200_000


def test_the_page_has_the_commands_in_the_order_of_the_screen(answer: Any, tmp_path: Path) -> None:
    answer("qwen3-8b", "--machine", "RTX 4090", "--html", str(tmp_path / "fit.html"))
    text = (tmp_path / "fit.html").read_text("utf-8")
    first, second = text.partition("<h3>Run it</h3>")[2].split("<h3>Or</h3>")
    assert "llama-server" in first
    assert "ownward serve" in second


def test_names_in_the_page_are_text_and_not_markup(answer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    config = catalog.model("qwen3-8b").config_path
    assert config is not None
    (folder / "config.json").write_bytes(config.read_bytes())
    answer(str(folder), "--machine", "RTX 4090", "--html", str(tmp_path / "fit.html"))
    assert "<img" not in (tmp_path / "fit.html").read_text("utf-8")


def test_a_page_that_cannot_be_written_leaves_nothing(answer: Any, tmp_path: Path) -> None:
    code, found = answer("qwen3-8b", "--machine", "RTX 4090", "--html", str(tmp_path / "missing" / "fit.html"))
    assert code == 2
    assert found["schema"] == "ownward.error/1"


@pytest.mark.parametrize("stated", [("--price", "1e999"), ("--price", "99999999999999999999"), ("--watts", "1e20")])
def test_amounts_that_nobody_means_are_refused_as_usage(answer: Any, stated: tuple[str, str]) -> None:
    code, found = answer("qwen3-0.6b", "--machine", "RTX 4090", *stated)
    assert code == 2
    assert stated[0] in found["error"]["message"]
    most = answer("qwen3-0.6b", "--machine", "RTX 4090", stated[0], "1000000000")
    assert most[0] == 0
