"""Whatever stands in the environment, the flags or the file, the answer is settings or a ConfigError."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownward import config
from ownward.core import ConfigError
from ownward.plan import parse_toml

NOWHERE = Path("/nonexistent/ownward")
CALM = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
KEYS = [each.key for each in config.effective(config.Settings())]
VARIABLES = [each.variable for each in config.effective(config.Settings())]
texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=12)
likely = st.sampled_from(
    ["1", "-1", "1e9", "1e999999999", "nan", "30s", "2GiB", "true", "power", "0.5", "2026-01-01", "~"]
)


def load(**given):
    with contextlib.suppress(ConfigError):
        loaded = config.load(folder=NOWHERE, **given)
        assert len(config.effective(loaded)) == len(KEYS)


@CALM
@given(st.dictionaries(st.sampled_from(VARIABLES), texts | likely, max_size=4))
def test_any_environment_is_read_or_refused(environ):
    load(environ={"HOME": "/home/a", **environ})


@CALM
@given(
    st.dictionaries(
        st.sampled_from(KEYS) | texts,
        st.one_of(texts, likely, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())),
        max_size=4,
    )
)
def test_any_flags_are_read_or_refused(flags):
    load(environ={"HOME": "/home/a"}, flags=flags)


@CALM
@given(st.text(max_size=200))
def test_any_text_is_a_table_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        parse_toml(text, file="ownward.toml")
