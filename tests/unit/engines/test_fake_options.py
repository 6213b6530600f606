"""Options of the fake upstream: every flag reads, prints and reads again as the same value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.core import UsageError
from ownward.engines import (
    FAKE_FLAGS,
    Cut,
    Failure,
    FakeOptions,
    Garbage,
    Often,
    OutputLength,
    Stall,
    parse_fake_arguments,
    write_fake_arguments,
)


def test_every_field_is_a_flag_with_a_help():
    assert [flag.field for flag in FAKE_FLAGS] == [field.name for field in dataclasses.fields(FakeOptions)]
    assert all(flag.help for flag in FAKE_FLAGS)
    assert len({flag.flag for flag in FAKE_FLAGS}) == len(FAKE_FLAGS)


def test_the_command_of_the_readme_means_what_it_says():
    options = parse_fake_arguments(["--ttft", "0.2", "--tpot", "0.02", "--fail", "429:3"])
    assert (options.ttft_s, options.tpot_s) == (0.2, 0.02)
    assert options.failures == (Failure(status=429, often=Often(first=3)),)


often = st.one_of(
    st.just(Often()),
    st.integers(0, 99).map(lambda count: Often(first=count)),
    st.floats(0, 1).map(lambda share: Often(fraction=share)),
)
lengths = st.one_of(
    st.integers(1, 999).map(lambda low: OutputLength(kind="fixed", low=low)),
    st.just(OutputLength(kind="max", low=256)),
    st.tuples(st.integers(1, 99), st.integers(0, 99)).map(
        lambda pair: OutputLength(kind="uniform", low=pair[0], high=sum(pair))
    ),
    st.floats(0, 3).map(lambda sigma: OutputLength(kind="lognormal", low=200, sigma=sigma)),
)
seconds = st.floats(0, 1000)
several = {"max_size": 3}
all_options = st.builds(
    FakeOptions,
    port=st.integers(0, 65535),
    models=st.lists(st.sampled_from(["a", "b/c"]), min_size=1, max_size=3).map(tuple),
    ttft_s=seconds,
    output_tokens=lengths,
    reply=st.one_of(st.none(), st.text(min_size=1)),
    split_bytes=st.one_of(st.none(), st.integers(1, 100)),
    failures=st.lists(st.builds(Failure, status=st.integers(400, 599), often=often), **several).map(tuple),
    stalls=st.lists(
        st.builds(Stall, after_tokens=st.one_of(st.none(), st.integers(0, 9)), seconds=seconds, often=often), **several
    ).map(tuple),
    cuts=st.lists(
        st.builds(
            Cut,
            after_chunks=st.one_of(st.none(), st.integers(0, 9)),
            end=st.sampled_from(["close", "reset"]),
            often=often,
        ),
        **several,
    ).map(tuple),
    garbage=st.lists(st.builds(Garbage, kind=st.sampled_from(["json", "sse"]), often=often), **several).map(tuple),
    usage=st.sampled_from(["honest", "always", "missing", "wrong", "late", "running"]),
    count_file=st.one_of(st.none(), st.just(Path("/tmp/x"))),
    exit_with_parent=st.booleans(),
)


@given(all_options)
def test_options_survive_the_command_line(options: FakeOptions):
    assert parse_fake_arguments(write_fake_arguments(options)) == options


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fail", "200"],
        ["--fail", "429:1.5"],
        ["--fail", "429:-1"],
        ["--stall", "first"],
        ["--cut", "5:explode"],
        ["--garbage", "xml"],
        ["--output-tokens", "0"],
        ["--output-tokens", "9-3"],
        ["--usage", "maybe"],
        ["--port", "70000"],
        ["--kept-calls", "-1"],
        ["--kept-requests", "1" + 30 * "0"],
        ["--ttft", "-1"],
        ["--tpot", "nan"],
        ["--stall", "-3:1"],
        ["--stall", "first:-1"],
        ["--cut", "-1"],
        ["--cached-fraction", "2"],
        ["--no-such-flag"],
    ],
)
def test_a_flag_without_meaning_is_refused_as_usage(arguments: list[str]):
    with pytest.raises(UsageError):
        parse_fake_arguments(arguments)


def test_a_refusal_names_the_flag_the_value_and_what_is_allowed():
    with pytest.raises(UsageError) as caught:
        parse_fake_arguments(["--fail", "often"])
    assert "--fail is 'often'" in str(caught.value)
    assert "429:3" in str(caught.value)
