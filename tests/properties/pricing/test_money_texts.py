"""Amounts of the ledger as texts: one spelling, whichever way they are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ownward.core import picousd_text, picousd_to_usd, usd_text


@given(st.integers(min_value=-(10**20), max_value=10**24) | st.integers(0, 10**7).map(lambda n: n * 10**6))
def test_picodollars_are_written_as_their_dollars_are(picousd: int) -> None:
    assert picousd_text(picousd) == usd_text(picousd_to_usd(picousd))
