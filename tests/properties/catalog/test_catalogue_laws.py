"""Laws of names, machine rows and data files that hold for whatever people write."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from ownward import catalog
from ownward.core import BadInput, ConfigError, UnknownMachine, UnknownModel
from ownward.pricing import prices_from_toml

MACHINES = catalog.machines()
MODELS = catalog.models()
GOOD = (catalog.DATA_FOLDER / "machines" / "storage.toml").read_text("utf-8")


@given(st.sampled_from(MACHINES), st.sampled_from([str.upper, str.lower, str.title]), st.sampled_from("- _"))
def test_case_and_separators_do_not_matter(machine, change, separator):
    assert catalog.machine(change(machine.name).replace(" ", separator)).id == machine.id


@given(st.text(max_size=40))
def test_any_text_names_a_machine_or_is_refused_with_a_reason(text):
    with contextlib.suppress(UnknownMachine):
        assert catalog.machine(text).id in {machine.id for machine in MACHINES}


@given(st.text(max_size=40))
def test_any_text_names_a_model_or_is_refused_with_a_reason(text):
    with contextlib.suppress(UnknownModel):
        assert catalog.model(text) in MODELS


@given(st.text(max_size=20), st.text(alphabet="abc 0123.-", max_size=5))
def test_more_words_never_find_more(text, more):
    assert set(catalog.search_machines(f"{text} {more}")) <= set(catalog.search_machines(text))


NUMBERS = st.none() | st.just("") | st.decimals("0.001", 100_000, places=3)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_machine_row_keeps_its_numbers_in_base_units(memory, bandwidth, rate):
    row = {"name": "x", "memory_gb": memory, "bandwidth_gb_s": bandwidth, "bf16_tflops_dense": rate}
    made = catalog.machine_from_mapping(row)
    for stated, fact, factor in ((bandwidth, made.bandwidth_bytes_per_s, 10**9), (rate, made.bf16_flop_per_s, 10**12)):
        if stated in (None, ""):
            assert fact is None
        else:
            assert fact.value == float(Decimal(stated) * factor)
    assert (made.memory_label is None) == (memory in (None, ""))


@given(
    st.dictionaries(st.sampled_from(["name", "kind", "memory_gb", "tdp_w", "price_usd", "other"]), st.text(max_size=5))
)
def test_a_foreign_row_is_a_machine_or_refused(row):
    try:
        made = catalog.machine_from_mapping(row)
    except BadInput:
        return
    assert "other" not in row
    assert made.name == (row.get("name", "").strip() or "stated machine")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 30), st.text(max_size=4))
def test_a_damaged_file_is_read_or_refused_with_a_place(start, length, instead):
    damaged = GOOD[:start] + instead + GOOD[start + length :]
    for read in (catalog.machine_from_toml, prices_from_toml):
        faults = faults_of(read, damaged)
        assert all(fault.file == "damaged.toml" and fault.message for fault in faults)


KEYS = st.sampled_from(
    ["defaults", "machine", "price", "id", "name", "kind", "memory_label", "tdp_watts", "basis", "source", "checked_on",
     "provider", "model", "input_usd_per_mtok", "output_usd_per_mtok", "steps", "mode", "valid_from", "free", "value"]
)  # fmt: skip
PLAIN = st.integers(-9, 9) | st.text(alphabet="ab1 .", max_size=3) | st.booleans() | st.dates()
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_toml_is_read_or_refused_and_never_breaks_the_reader(document):
    text = tomlkit.dumps(document)
    for read in (catalog.machine_from_toml, prices_from_toml):
        assert all(fault.message for fault in faults_of(read, text))


def faults_of(read, text):
    try:
        read(text, file="damaged.toml")
    except ConfigError as error:
        return error.faults
    return ()
