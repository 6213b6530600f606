"""Whatever people call their machine and however they quote its source, the file reads back as stated."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from ownward import catalog
from ownward.cli._additions import _text_of, slug_of

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    WORDS, WORDS, st.text(st.characters(exclude_categories=["Cs"])), st.floats(1e7, 1e15), st.dates(date(2000, 1, 1))
)
def test_a_written_table_reads_back(name, source, note, bandwidth, day):
    text = _text_of(
        "machine",
        {"id": "m", "name": name, "kind": "asic", "basis": "measured", "source": source, "checked_on": day,
         "bandwidth_bytes_per_s": bandwidth, "note": note},
    )  # fmt: skip
    machine = catalog.machine_from_toml(text)
    fact = machine.bandwidth_bytes_per_s
    assert (machine.name, machine.note) == (name, note)
    assert fact is not None
    assert (fact.value, fact.source, fact.checked_on) == (bandwidth, source, day)


@given(st.lists(st.text() | st.none()))
def test_an_id_is_a_plain_file_name(words):
    """No separator, no hidden file, nothing that leads out of the folder."""
    name = slug_of(*words)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert not name.startswith((".", "-"))
    assert slug_of(name) == name
