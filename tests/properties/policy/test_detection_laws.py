"""Patterns of one's own against Python's engine, and that no disguise of JSON hides what is found without it."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ownward.core import UsageError
from ownward.policy import Detectors
from ownward.policy.detectors import plain_text
from ownward.policy.patterns import compile_pattern

ATOMS = st.sampled_from(["a", "b", "1", "-", "[ab]", "[^b]", r"\d", r"\w", r"\b", ".", "[a-c1]"])
COUNTS = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}"])
PARTS = st.lists(st.tuples(ATOMS, COUNTS).map("".join), min_size=1, max_size=4).map("".join)
PATTERNS = st.lists(PARTS, min_size=1, max_size=2).map("|".join)
TEXTS = st.text("ab1- c", max_size=20)


@settings(deadline=None, max_examples=300)
@given(PATTERNS, st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_a_pattern_that_is_taken_finds_what_pythons_engine_finds(pattern, texts, ignore_case):
    stated = f"(?i){pattern}" if ignore_case else pattern
    try:
        searches = compile_pattern(stated)
    except UsageError:
        return
    for text in texts:
        ours = any(search.search(text.encode()) for search in searches)
        assert ours == bool(re.search(stated, text, re.ASCII)), (stated, text)


SECRETS = st.sampled_from(["ada@example.org", "+49 30 1234567", "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111"])
AROUND = st.text(st.characters(codec="utf-8", exclude_characters="0123456789\\@%+-"), max_size=30)


@settings(deadline=None, max_examples=200)
@given(SECRETS, AROUND, AROUND, st.integers(0, 3), st.booleans())
def test_no_depth_of_json_hides_what_is_found(secret, before, after, depth, ascii_only):
    body = f"{before} {secret} {after}"
    for _ in range(depth):
        body = json.dumps({"arguments": body}, ensure_ascii=ascii_only)
    detectors = Detectors(kinds=("email", "phone", "iban", "card"))
    assert detectors.find(body.encode("utf-8", "surrogatepass")) is not None


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_text(body):
    plain_text(body)
    Detectors(kinds=("email", "phone", "iban", "card")).find(body)
