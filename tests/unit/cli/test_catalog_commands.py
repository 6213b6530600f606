"""The catalogue's commands: what they answer, what they refuse, and files of the user's own."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from ownward import catalog
from ownward.cli import run

STATED = ["--basis", "datasheet", "--source", "the vendor's page", "--checked-on", "2026-11-20"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's catalogue folder, in the platform's place and not there yet."""
    for name in ("OWNWARD_CONFIG", "OWNWARD_CATALOG_FOLDER", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "ownward" / "catalog"


@pytest.fixture
def answer(capsys):
    """The JSON of a command, and its exit code."""

    def ask(*words, code=0):
        assert run([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return ask


# models


def test_search_lists_the_newest_first(answer):
    found = answer("models", "search", "qwen3.5")["models"]
    assert {row["family"] for row in found} == {"qwen3.5"}
    assert [row["released"] for row in found] == sorted((row["released"] for row in found), reverse=True)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("llama 3.3 70B q4", "Weights are named separately: ownward fit llama-3.3-70b --weights q4_k_m"),
        ("qwen3:30b-a3b-q4_K_M", "Weights are named separately: ownward fit qwen3-30b-a3b --weights q4_k_m"),
        ("gpt-5-mini", "It is known only as an API: ownward prices show gpt-5-mini"),
    ],
)
def test_a_name_that_is_of_no_release_is_told_what_to_ask_for(answer, typed, told):
    assert answer("models", "show", typed, code=2)["error"]["next"] == told


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("gpt-oss-20b", "ownward models pull hf:openai/gpt-oss-20b. For llama.cpp, find a GGUF file"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "ownward models pull hf:nvidia/DeepSeek-V3.1-NVFP4. For"),
        ("some-org/some-model", "If it is one on the hub: ownward models pull hf:some-org/some-model"),
        ("own.gguf", "It is on this machine, and nothing has to be fetched"),
    ],
)
def test_a_name_that_is_no_place_of_weights_is_told_which_places_it_may_stand_for(answer, typed, told):
    Path("own.gguf").write_bytes(b"GGUF")
    assert told in answer("models", "pull", typed, code=2)["error"]["next"]


def test_show_keeps_the_contract_and_adds_reads_and_caches(answer):
    page = answer("models", "show", "qwen3.5-397b-a17b", "--beside", "kimi-k2.6")
    assert page["schema"] == "ownward.anatomy/1"
    assert page["total_live_params"] == 396_802_360_816
    assert page["weights_bytes_by_type"]["bf16"] == page["weights_bytes"]
    bf16 = next(line for line in page["reads"] if line["weights"] == "bf16")
    assert [round(touched) for touched in bf16["distinct_experts"]] == [10, 75, 240, 367, 509]
    assert [round(read / 1e9) for read in bf16["step_bytes"]] == [33, 130, 379, 572, 786]
    assert [line["model"] for line in page["caches"]] == ["Qwen3.5-397B-A17B", "Qwen3.5-397B-A17B", "Kimi-K2.6"]
    assert page["release"]["licence"] == "apache-2.0"
    assert page["release"]["scores_warning"]


def test_show_reads_a_quantised_checkpoint_by_its_hub_name(answer):
    """Its own mixed precision, though a release of the same words is nearer to the name."""
    page = answer("models", "show", "nvidia/Qwen3.5-397B-A17B-NVFP4")
    assert page["quantization"] is not None
    assert page["weights_bytes"] < page["weights_bytes_by_type"]["fp8"]
    assert page["release"]["id"] == "qwen3.5-397b-a17b"
    assert answer("models", "show", "Qwen3.5-397B-A17B-NVFP4")["weights_bytes"] == page["weights_bytes"]


def test_a_checkpoint_without_a_config_names_its_release(answer):
    error = answer("models", "show", "mlx-community/Qwen3.5-397B-A17B-4bit", code=2)["error"]
    assert error["kind"] == "unknown_model"
    assert "qwen3.5-397b-a17b" in error["allowed"]


def test_show_reads_a_folder_and_takes_it_for_no_release_by_its_name(answer, tmp_path):
    """What somebody keeps in a folder called Kimi-K2.6 may be anything."""
    config = catalog.model("qwen3-8b").load_config()
    (tmp_path / "Kimi-K2.6").mkdir()
    (tmp_path / "Kimi-K2.6" / "config.json").write_text(json.dumps(config))
    page = answer("models", "show", "Kimi-K2.6")
    assert page["name"] == "Kimi-K2.6"
    assert page["total_live_params"] == answer("models", "show", "qwen3-8b")["total_live_params"]
    assert page["release"] is None


def test_tensors_without_a_config_show_what_they_tell_and_say_what_not(answer, capsys, tmp_path):
    """A safetensors file alone: counts are exact, cache and reads of a mixture are not known."""
    names = {f"model.layers.0.mlp.experts.{expert}.up_proj.weight": [8, 16] for expert in range(4)}
    names["model.embed_tokens.weight"] = [32, 16]
    header, offset = {}, 0
    for name, shape in names.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path = tmp_path / "alone.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))
    page = answer("models", "show", str(path))
    assert page["weights_bytes"] == offset
    assert page["unsupported"]
    assert page["caches"] == []
    assert run(["models", "show", str(path)]) == 0
    assert "do not show" in capsys.readouterr().out


def test_models_are_compared_side_by_side(answer):
    rows = answer("models", "compare", "qwen3-30b-a3b", "gpt-oss-20b")["models"]
    assert [row["release"] for row in rows] == ["qwen3-30b-a3b", "gpt-oss-20b"]
    for row in rows:
        by_type = row["by_weights"]["bf16"]
        assert by_type["step_bytes_1"] < by_type["step_bytes_64"] <= by_type["resident_bytes"]


def test_one_model_is_nothing_to_compare(answer):
    assert answer("models", "compare", "qwen3-8b", code=2)["error"]["kind"] == "usage_error"


def test_a_licence_is_shown_by_release_and_by_id_with_its_thresholds(answer, capsys):
    by_release, by_id = answer("models", "licence", "kimi-k3"), answer("models", "licence", "kimi-k3", "--json")
    assert by_release == by_id
    assert {limit["measure"] for limit in by_release["licences"][0]["limits"]} >= {"annual_revenue_usd"}
    assert answer("models", "licence", "llama-3.1-community")["release"] is None
    assert len(answer("models", "licence")["licences"]) > 5
    run(["models", "licence", "kimi-k3"])
    assert "above 20,000,000 USD of yearly revenue" in capsys.readouterr().out


def test_scores_come_with_their_conditions_and_the_warning(answer, capsys):
    found = answer("models", "scores", "kimi-k2.6")
    assert found["warning"] == catalog.SCORES_WARNING
    assert all(score["score"]["source"] for score in found["scores"])
    run(["models", "scores", "kimi-k2.6"])
    assert "do not compare" in " ".join(capsys.readouterr().out.split())


# machines


def test_the_largest_memory_comes_first_and_the_unknown_last(answer):
    rows = answer("machines", "search")["machines"]
    sizes = [
        float(row["memory_label"].split()[0]) for row in rows if row["kind"] == "gpu-consumer" and row["memory_label"]
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[-1]["kind"] in {"storage", "cpu-platform"}


@pytest.mark.parametrize("order", ["memory", "bandwidth", "compute", "watts", "price", "name"])
def test_every_order_lists_every_machine(answer, order):
    assert len(answer("machines", "search", "--sort", order)["machines"]) == len(catalog.machines())


def test_a_kind_filters(answer):
    rows = answer("machines", "search", "rtx", "--kind", "gpu-consumer")["machines"]
    assert {row["kind"] for row in rows} == {"gpu-consumer"}


def test_machines_are_compared_with_the_source_of_every_figure(answer):
    found = answer("machines", "compare", "4090", "5090")
    assert [row["id"] for row in found["machines"]] == ["geforce-rtx-4090", "geforce-rtx-5090"]
    assert all(fact is None or fact["source"] for line in found["comparison"]["lines"] for fact in line["facts"])


def test_rentals_are_listed_by_the_price_of_one_gpu(answer):
    rows = answer("machines", "rentals", "h100")["rentals"]
    hourly = [Decimal(row["usd_per_gpu_hour"]) for row in rows if row["usd_per_gpu_hour"]]
    assert hourly
    assert hourly == sorted(hourly)


def test_electricity_names_its_currency_and_date(answer):
    found = answer("machines", "electricity", "germany")
    assert found["prices"][0]["currency"] == "EUR"
    assert found["prices"][0]["usd_per_kwh"] is None
    assert found["carbon"][0]["iso3"] == "DEU"


# prices


def test_requests_are_compared_by_what_they_use(answer):
    """2,000 tokens in and 300 out at 0.25 and 2 USD a million are 1.10 USD for a thousand."""
    found = answer("prices", "compare", "claude-haiku-4-5", "gpt-5-mini", "--input", "2000", "--output", "300",
                   "--cached", "0", "--at", "2026-11-21")  # fmt: skip
    assert [row["model"] for row in found["prices"]] == ["gpt-5-mini", "claude-haiku-4-5"]
    assert found["prices"][0]["usd_per_1000_requests"] == "1.100000"
    for row in found["prices"]:
        rates = row["rates"]
        by_hand = 2 * Decimal(rates["input_usd_per_mtok"]) + Decimal("0.3") * Decimal(rates["output_usd_per_mtok"])
        assert Decimal(row["usd_per_1000_requests"]) == by_hand


def test_a_long_request_is_compared_at_its_step(answer):
    short = answer("prices", "compare", "gemini-2.5-pro", "--input", "200000", "--at", "2026-11-21")["prices"][0]
    long = answer("prices", "compare", "gemini-2.5-pro", "--input", "200001", "--at", "2026-11-21")["prices"][0]
    assert Decimal(long["rates"]["input_usd_per_mtok"]) == 2 * Decimal(short["rates"]["input_usd_per_mtok"])


def test_more_cached_than_input_is_refused(answer):
    found = answer("prices", "compare", "gpt-5-mini", "--input", "10", "--cached", "11", "--at", "2026-11-21", code=2)
    assert found["error"]["kind"] == "bad_input"


def test_a_price_is_shown_in_every_mode_known(answer):
    modes = [row["mode"] for row in answer("prices", "show", "gpt-5", "--at", "2026-11-21")["prices"]]
    assert modes[0] == "standard"
    assert "batch" in modes
    one = answer("prices", "show", "gpt-5", "--mode", "batch", "--at", "2026-11-21")["prices"]
    assert [row["mode"] for row in one] == ["batch"]


def test_history_is_in_order_and_ends_with_what_holds(answer):
    rows = answer("prices", "history", "deepseek-chat", "--at", "2026-11-21")["prices"]
    starts = [row["valid_from"] for row in rows]
    assert len(starts) > 2
    assert starts == sorted(set(starts))
    now = answer("prices", "show", "deepseek-chat", "--mode", "standard", "--at", "2026-11-21")["prices"][0]
    assert rows[-1] == now


def test_hosts_come_cheapest_first(answer):
    rows = answer("prices", "hosts", "qwen3-235b-a22b", "--at", "2026-11-21")["prices"]
    charges = [3 * Decimal(row["input_usd_per_mtok"]) + Decimal(row["output_usd_per_mtok"]) for row in rows]
    assert charges == sorted(charges)


# files of the user's own


def add_machine(*more, name="Our box"):
    return run(["machines", "add", "--name", name, "--kind", "soc-unified", "--memory", "128GB",
                "--bandwidth", "273GB/s", *STATED, *more])  # fmt: skip


def test_an_added_machine_serves_every_command(answer, folder, capsys):
    assert add_machine("--bf16-tflops", "125", "--watts", "170", "--price-usd", "3999", "--price-kind", "list") == 0
    capsys.readouterr()
    shown = answer("machines", "show", "our box")
    assert shown["bandwidth_bytes_per_s"]["value"] == 273e9
    assert shown["memory_label"] == {
        "value": "128 GB", "basis": "datasheet", "source": "the vendor's page", "checked_on": "2026-11-20", "note": "",
    }  # fmt: skip
    assert answer("fit", "qwen3-8b", "--machine", "our-box")["machine"] == "our-box"
    (row,) = [row for row in answer("machines", "search", "our")["machines"] if row["id"] == "our-box"]
    assert row["price_usd"] == "3999.000000"
    assert [path.name for path in folder.iterdir()] == ["machine-our-box.toml"]


def test_nothing_is_overwritten_without_saying_so(folder, capsys):
    add_machine()
    before = (folder / "machine-our-box.toml").read_text("utf-8")
    assert add_machine("--watts", "5") == 2
    assert "--replace" in capsys.readouterr().err
    assert (folder / "machine-our-box.toml").read_text("utf-8") == before
    assert add_machine("--watts", "5", "--replace") == 0
    assert tomllib.loads((folder / "machine-our-box.toml").read_text("utf-8"))["machine"][0]["tdp_watts"] == 5


def test_an_id_that_stands_in_another_file_is_not_added_twice(folder, capsys):
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('[[machine]]\nid = "our-box"\nname = "Ours"\nkind = "asic"\n', encoding="utf-8")
    assert add_machine("--replace") == 2
    assert "mine.toml" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "lots"], "--memory"),
        (["--memory", "0GB"], "--memory"),
        (["--bandwidth", "fast"], "--bandwidth"),
        (
            ["--memory", "24"],
            "--memory is '24': 24 bytes are less than any machine has; write what the box says, such as 64GB",
        ),
        (["--price-usd", "5"], "--price-kind"),
        (["--price-usd", "dear", "--price-kind", "list"], "price_usd"),
        (["--kind", "toaster"], "--kind"),
        (["--name", "§§"], "letter"),
        (["--note", "\udcff"], "UTF-8"),
        (["--checked-on", "yesterday"], "--checked-on"),
    ],
)
def test_a_machine_that_is_not_right_leaves_nothing_behind(folder, capsys, words, said):
    assert add_machine(*words) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.parametrize("missing", ["--basis", "--source", "--checked-on"])
def test_a_fact_without_its_source_is_not_taken(folder, capsys, missing):
    at = STATED.index(missing)
    left = STATED[:at] + STATED[at + 2 :]
    assert run(["machines", "add", "--name", "x", "--kind", "asic", *left]) == 2
    assert missing in capsys.readouterr().err
    assert not folder.exists()


def test_an_added_model_is_copied_with_its_config_and_read_by_name(answer, folder, tmp_path, capsys):
    config = catalog.model("qwen3-8b").load_config()
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run(["models", "add", "config.json", "--name", "Our tune", "--licence", "apache-2.0", *STATED]) == 0
    (tmp_path / "config.json").unlink()
    capsys.readouterr()
    page = answer("models", "show", "our-tune")
    assert page["name"] == "Our tune"
    assert page["release"]["id"] == "our-tune"
    assert page["total_live_params"] == answer("models", "show", "qwen3-8b")["total_live_params"]
    assert (folder / "configs" / "our-tune" / "config.json").is_file()


def test_a_model_that_cannot_be_counted_is_not_added(folder, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "newest-thing", "architectures": ["NewestThing"]}')
    assert run(["models", "add", "config.json", "--name", "x", *STATED]) == 3
    assert "newest-thing" in capsys.readouterr().err.lower()
    assert not folder.exists()


def test_an_added_price_goes_first_and_keeps_every_digit(answer, folder, capsys):
    stated = ["--provider", "our-reseller", "--model", "gpt-5", "--input", "1.0000001", "--output", "8", *STATED]
    assert run(["prices", "add", *stated]) == 0
    capsys.readouterr()
    (row,) = answer("prices", "show", "our-reseller/gpt-5")["prices"]
    assert row["input_usd_per_mtok"] == "1.0000001"
    assert answer("prices", "show", "gpt-5", "--mode", "standard")["prices"][0]["provider"] == "our-reseller"
    assert answer("prices", "show", "openai/gpt-5", "--mode", "standard")["prices"][0]["provider"] == "openai"
    assert run(["prices", "add", *stated]) == 2
    later = [*stated, "--valid-from", "2027-01-01"]
    assert run(["prices", "add", *later]) == 0
    assert len(list(folder.glob("price-*.toml"))) == 2


def test_a_price_of_nothing_is_said_to_be_free(folder, capsys):
    stated = ["--provider", "ours", "--model", "m", "--input", "0", "--output", "0", *STATED]
    assert run(["prices", "add", *stated]) == 2
    assert "free" in capsys.readouterr().err
    assert not folder.exists()
    assert run(["prices", "add", *stated, "--free"]) == 0


def test_a_fault_in_the_users_files_is_told_with_its_line(answer, folder):
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('[[machine]]\nid = "m"\nname = "M"\nkind = "asic"\ntdp_watts = 5\n')
    error = answer("machines", "show", "4090", code=2)["error"]
    assert error["kind"] == "config_error"
    assert error["faults"][0]["line"] == 5


def test_a_stated_folder_that_is_not_there_is_an_error_until_something_is_added(answer, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OWNWARD_CATALOG_FOLDER", str(tmp_path / "facts"))
    error = answer("machines", "show", "4090", code=2)["error"]
    assert error["where"] == "catalog.folder (env OWNWARD_CATALOG_FOLDER)"
    assert add_machine() == 0
    capsys.readouterr()
    assert answer("machines", "show", "our-box")["id"] == "our-box"
    assert (tmp_path / "facts" / "machine-our-box.toml").is_file()


def test_the_folder_of_the_settings_file_counts_from_it(answer, tmp_path):
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "box.toml").write_text(
        '[defaults]\nbasis = "measured"\nsource = "a scale"\nchecked_on = 2026-11-01\n'
        '[[machine]]\nid = "scaled"\nname = "Scaled"\nkind = "asic"\ntdp_watts = 7\n'
    )
    Path("ownward.toml").write_text('[catalog]\nfolder = "facts"\n')
    assert answer("machines", "show", "scaled")["tdp_watts"]["value"] == 7


def test_what_cannot_be_written_leaves_no_half(folder, monkeypatch, capsys):
    """A disk that is full when the table is written takes the copied config back too."""
    config = catalog.model("qwen3-8b").load_config()
    Path("config.json").write_text(json.dumps(config))
    real = Path.replace

    def full(self, target):
        if str(target).endswith(".toml"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert run(["models", "add", "config.json", "--name", "Our tune", *STATED]) == 2
    assert "No space left" in capsys.readouterr().err
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("group", ["models", "machines"])
def test_a_search_that_the_help_proposes_finds_something(capsys, answer, group):
    assert run([group, "search", "--help"]) == 0
    proposed = capsys.readouterr().out.rpartition(f"ownward {group} search ")[2].splitlines()[0]
    found = answer(group, "search", *proposed.split())
    assert found[group]
