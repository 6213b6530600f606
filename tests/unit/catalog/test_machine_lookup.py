"""The names people type, and the machine each means."""

from __future__ import annotations

import pytest

from ownward import catalog
from ownward.core import BadInput, ConfigError, UnknownMachine


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("RTX 4090", "geforce-rtx-4090"),
        ("rtx-4090", "geforce-rtx-4090"),
        ("NVIDIA GeForce RTX 5070 (12GB)", "geforce-rtx-5070"),
        ("5070 Ti", "geforce-rtx-5070-ti"),
        ("H100-SXM", "h100-sxm5-80gb"),
        ("H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA A40 48GB", "a40"),
        ("A100-SXM-80GB", "a100-sxm4-80gb"),
        ("strix halo", "ryzen-ai-max-plus-395-128gb-strix-halo"),
        ("M3 Ultra", "apple-m3-ultra"),
        ("DGX Spark", "dgx-spark-gb10"),
        ("H200", "h200-sxm-141gb"),
        ("RTX 4070 12GB", "geforce-rtx-4070"),
        ("AMD Radeon RX 7900 XT (20GB)", "radeon-rx-7900-xt"),
        ("NVIDIA H20 96GB", "h20-96gb"),
        ("RTX 3090 24GB (PCIe3 x16, 220W cap)", "geforce-rtx-3090"),
        ("AMD Ryzen AI MAX+ 395 (Strix Halo, Radeon 8060S, 128GB)", "ryzen-ai-max-plus-395-128gb-strix-halo"),
        ("Apple M3 Pro (32GB)", "apple-m3-pro"),
        ("rtx3090", "geforce-rtx-3090"),
        ("7900xtx", "radeon-rx-7900-xtx"),
        ("h100sxm", "h100-sxm5-80gb"),
        ("m3ultra", "apple-m3-ultra"),
    ],
)
def test_a_name_as_people_type_it_is_found(typed, meant):
    assert catalog.machine(typed).id == meant


@pytest.mark.parametrize(("typed", "choice"), [("H100", "h100-sxm5-80gb"), ("M4 Max 64GB", "apple-m4-max-40-core-gpu")])
def test_a_name_of_several_machines_lists_them(typed, choice):
    with pytest.raises(UnknownMachine, match=r"can mean \d machines") as caught:
        catalog.machine(typed)
    assert choice in caught.value.closest
    assert choice in str(caught.value)


def test_an_unknown_name_shows_the_closest():
    with pytest.raises(UnknownMachine, match="geforce-rtx-4090"):
        catalog.machine("geforce rtx 4099")


def test_a_chip_of_several_sizes_takes_the_size_in_its_name():
    small = catalog.machine("M4 Pro 24GB")
    assert small.id == "apple-m4-pro"
    assert small.memory_label.value == "24 GB"
    assert "largest is 64 GB" in small.memory_label.note
    with pytest.raises(UnknownMachine):
        catalog.machine("M4 Pro 128GB")


@pytest.mark.parametrize("typed", ["m3 ultra 256", "M3 Ultra 256GB", "m3 ultra 256g"])
def test_a_size_needs_no_unit(typed):
    assert catalog.machine(typed).memory_label.value == "256 GB"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("7900 xtx", (1, "radeon-rx-7900-xtx")),
        ("6700xt", (1, "radeon-rx-6700-xt")),
        ("2x7900xtx", (2, "radeon-rx-7900-xtx")),
    ],
)
def test_a_card_whose_name_goes_on_with_an_x_is_no_count(typed, meant):
    group = catalog.parse_machines(typed)
    assert (group.count, group.machine.id) == meant


def test_a_mac_is_asked_for_its_chip():
    with pytest.raises(UnknownMachine, match="by its chip"):
        catalog.machine("mac studio")


@pytest.mark.parametrize("typed", ['2x"RTX 3090"', "2 x RTX 3090", "2×rtx-3090"])
def test_a_count_goes_before_the_name(typed):
    group = catalog.parse_machines(typed)
    assert (group.count, group.machine.id) == (2, "geforce-rtx-3090")


def test_one_machine_needs_no_count():
    assert catalog.parse_machines("4090").count == 1
    with pytest.raises(UnknownMachine):
        catalog.parse_machines("0x 4090")


def test_labels_and_driver_visible_bytes_are_two_facts():
    gb300 = catalog.machine("GB300")
    assert gb300.memory_label.value == "288 GB"
    assert gb300.memory_bytes.value == 284208 * 1024**2
    assert gb300.usable_memory == gb300.memory_bytes
    guessed = catalog.machine("MI300X")
    assert guessed.memory_bytes is None
    assert guessed.usable_memory.basis == "assumed"
    assert 0.95 * 192 * 1024**3 < guessed.usable_memory.value < 192 * 1024**3


def test_a_mapping_with_the_columns_of_the_machine_table_is_a_machine():
    made = catalog.machine_from_mapping(
        {"name": "My card", "kind": "gpu-consumer", "memory_gb": "24", "bandwidth_gb_s": 936.2,
         "bf16_tflops_dense": "71.0", "fp8_tflops_dense": "", "tdp_w": None, "price_usd": "500",
         "price_kind": "used_low", "source": "its box"}
    )  # fmt: skip
    assert made.bandwidth_bytes_per_s.value == 936.2e9
    assert made.bf16_flop_per_s.value == 71e12
    assert made.fp8_flop_per_s is None
    assert (made.memory_label_gb, made.tdp_watts, made.rate("bf16").source) == (24.0, None, "its box")


def test_figures_without_a_source_are_the_callers_own_word():
    made = catalog.machine_from_mapping({"name": "x", "memory_gb": 8})
    assert made.memory_label.basis == "assumed"
    assert made.memory_label.source == "stated by the caller"


@pytest.mark.parametrize(
    "wrong", [{"memory_gb": "much"}, {"memory_gb": -1}, {"bandwidth": 5}, {"kind": "toaster"}, {"tdp_w": True}]
)
def test_a_mapping_with_a_wrong_cell_is_refused(wrong):
    with pytest.raises(BadInput):
        catalog.machine_from_mapping({"name": "x", **wrong})


GOOD = """
[[machine]]
id = "my-box"
name = "My box"
kind = "gpu-consumer"
basis = "measured"
source = "nvidia-smi and a benchmark of mine"
checked_on = 2026-11-20
memory_label = "24 GB"
memory_bytes = 25_757_220_864
bandwidth_bytes_per_s = { value = 9.0e11, note = "copy benchmark" }
"""


def test_a_users_file_adds_and_replaces_machines(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "other.toml").write_text(GOOD.replace("my-box", "geforce-rtx-4090"))
    assert catalog.machine("my box", [tmp_path / "mine.toml"]).bandwidth_bytes_per_s.note == "copy benchmark"
    assert catalog.machine("geforce-rtx-4090", [tmp_path]).name == "My box"
    assert catalog.machine("geforce-rtx-4090").name == "GeForce RTX 4090"
    with pytest.raises(UnknownMachine):
        catalog.machine("my-box")


@pytest.mark.parametrize(
    ("was", "now", "line", "says"),
    [
        ('source = "nvidia-smi and a benchmark of mine"\n', "", 8, "no valid source"),
        ('basis = "measured"', 'basis = "heard"', 9, "no valid basis"),
        ("checked_on = 2026-11-20\n", "", 8, "no valid checked_on"),
        ('"24 GB"', '"lots"', 9, "memory_label is 'lots'"),
        ("memory_bytes = 25_757_220_864", "memory_bytes = -1", 10, "memory_bytes is -1"),
        ("memory_bytes =", "memry_bytes =", 10, "Closest: 'memory_bytes'"),
        ('kind = "gpu-consumer"', 'kind = "gpu"', 5, "gpu-consumer"),
        ('id = "my-box"\n', "", 2, "id is not stated"),
        ('note = "copy benchmark"', 'why = "x"', 11, "has the parts"),
    ],
)
def test_a_fact_that_is_not_right_is_refused_with_its_line(was, now, line, says):
    with pytest.raises(ConfigError) as caught:
        catalog.machine_from_toml(GOOD.replace(was, now), file="mine.toml")
    fault = next(f for f in caught.value.faults if says in str(f))
    assert (fault.file, fault.line) == ("mine.toml", line)


def test_all_faults_come_at_once():
    text = GOOD.replace('"24 GB"', '"lots"').replace("9.0e11", '"fast"')
    with pytest.raises(ConfigError) as caught:
        catalog.machine_from_toml(text)
    assert len(caught.value.faults) == 2


def test_text_that_is_no_toml_names_the_line():
    with pytest.raises(ConfigError) as caught:
        catalog.machine_from_toml("[[machine]]\nid = \n", file="bad.toml")
    assert caught.value.faults[0].line == 2


def test_an_unknown_table_names_the_closest():
    with pytest.raises(ConfigError, match="Closest: 'machine'"):
        catalog.machine_from_toml(GOOD + "\n[[machin]]\nid = 'x'\n")


_BOX = """
[[machine]]
id = "box"
name = "Box"
kind = "gpu-consumer"
memory_label = "24 GB"
bandwidth_bytes_per_s = 9.36e11
basis = "measured"
source = "its owner"
checked_on = 2026-11-20
"""


@pytest.mark.parametrize(
    ("said", "meant", "told"),
    [
        ("bandwidth_bytes_per_s = 9.36e11", "bandwidth_bytes_per_s = 936", "936 GB/s is 9.36e11"),
        ('memory_label = "24 GB"', 'memory_label = "0 GB"', "Gigabytes of one machine"),
        ('memory_label = "24 GB"', 'memory_label = "24 GB"\nmemory_bytes = 24', "24 GiB is 25769803776"),
        (
            'memory_label = "24 GB"',
            'memory_label = "24 GB"\nmemory_bytes = 80000000000',
            "never shows more than the box says",
        ),
        ('memory_label = "24 GB"', 'memory_label = "24 GB"\nbf16_flop_per_s = 71', "71 TFLOP/s is 7.1e13"),
    ],
)
def test_a_figure_in_another_unit_is_refused_with_the_right_one(said, meant, told):
    assert catalog.machine_from_toml(_BOX).id == "box"
    with pytest.raises(ConfigError, match=told):
        catalog.machine_from_toml(_BOX.replace(said, meant))


def test_bytes_in_a_column_of_gigabytes_are_refused():
    with pytest.raises(BadInput, match="bandwidth_gb_s"):
        catalog.machine_from_mapping({"name": "x", "memory_gb": 24, "bandwidth_gb_s": 936_000_000_000})
    with pytest.raises(BadInput, match="memory_gb"):
        catalog.machine_from_mapping({"name": "x", "memory_gb": 25_769_803_776, "bandwidth_gb_s": 936})
