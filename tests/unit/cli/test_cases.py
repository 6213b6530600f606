"""Lines of `ownward predict --cases`: whatever stands in a field, a line gets an answer or a reason that names it."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ownward.cli._cases import read_case
from ownward.cli._predict import predict
from ownward.core import BadInput
from ownward.perf import Case

CASE: dict[str, Any] = {
    "id": "one",
    "model": "qwen3-8b",
    "machine": "h100-sxm5-80gb",
    "machines_count": 2,
    "engine": "vllm",
    "weights": "bf16",
    "kv_type": "bf16",
    "tensor_parallel": 2,
    "pipeline_parallel": 1,
    "expert_parallel": None,
    "cpu_offload": False,
    "speculative": False,
    "concurrency": 8,
    "input_tokens": 1000,
    "output_tokens": 100,
    "context_depth": 0,
    "metric": "decode_tok_s_total",
}
FIELDS = sorted(CASE.keys() - {"id"})
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["max", "TP4", "open-loop 0 req/s", "open-loop 2.5 req/s", "1e9", "9" * 4_000, "nan", "/dev/null"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def ask(tmp_path: Path, *cases: dict[str, Any]) -> Result:
    """Run the command on cases."""
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(json.dumps(case) for case in cases))
    return CliRunner().invoke(predict, ["--cases", str(path), "--json"], catch_exceptions=False)


def read(**changed: Any) -> Case:
    """Return the case of a line that differs in some fields."""
    return read_case({**CASE, **changed}, "cases.jsonl:1", {})


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(FIELDS), value=ANYTHING)
def test_whatever_a_field_holds_the_line_is_answered_or_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object
):
    done = ask(tmp_path_factory.mktemp("cases"), {**CASE, field: value}, CASE)
    assert done.exit_code == 0
    first, second = (json.loads(line) for line in done.output.splitlines())
    if first["refused"] is None:
        assert 0 < first["low80"] <= first["value"] <= first["high80"] < math.inf
    else:
        assert first["value"] is None
        assert len(first["refused"]) > 10
    assert second["refused"] is None


@pytest.mark.parametrize("field", ["engine", "weights", "kv_type", "metric"])
def test_a_number_where_a_name_is_meant_is_refused_with_the_name_of_the_field(field: str):
    with pytest.raises(BadInput, match=f"{field} is 7"):
        read(**{field: 7})


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "context_depth", "machines_count", "concurrency"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "many", 10**30, [3]])
def test_what_is_no_count_is_refused(field: str, value: object):
    with pytest.raises(BadInput, match=field) as caught:
        read(**{field: value})
    assert caught.value.allowed


def test_a_mean_length_is_rounded_and_a_number_may_be_written_as_text():
    case = read(input_tokens=573.6, output_tokens="250", concurrency="16")
    assert (case.input_tokens, case.output_tokens, case.concurrency) == (574, 250, 16)


@pytest.mark.parametrize(("stated", "degree"), [("TP4", 4), ("4", 4), (4.0, 4), (0, None), (True, 1), ("no", None)])
def test_a_degree_is_read_from_how_people_write_it(stated: object, degree: int | None):
    assert read(tensor_parallel=stated).tensor_parallel == degree


@pytest.mark.parametrize(
    ("stated", "degree"), [(1, 1), ("1", 1), (8, 8), ("EP8", 8), (True, True), ("yes", True), ("no", None), (0, None)]
)
def test_experts_apart_in_one_part_are_none_and_true_is_of_any_degree(stated: object, degree: int | None):
    found = read(expert_parallel=stated).expert_parallel
    assert (found, found is True) == (degree, degree is True)


def test_a_rate_is_arrivals_and_a_load_without_one_is_refused():
    assert read(concurrency="open-loop 2.5 req/s").arrivals_per_s == 2.5
    with pytest.raises(BadInput, match="open-loop trace") as caught:
        read(concurrency="open-loop trace")
    assert "req/s" in str(caught.value.allowed)


@pytest.mark.parametrize("load", ["max", "Offline", "server", "interactive"])
def test_a_load_in_the_words_of_mlperf_means_its_prompts_where_none_is_stated(load: str):
    assert read(model="llama-2-70b", concurrency=load, input_tokens=None).input_tokens == 294
    assert read(model="llama-2-70b", concurrency=load, input_tokens=50).input_tokens == 50
    assert read(model="qwen3-32b", concurrency=load, input_tokens=None).input_tokens == 128


def test_a_count_beside_the_machine_is_taken_unless_the_case_states_its_own():
    assert read(machine='4x"RTX 3090"', machines_count=None).machines_count == 4
    assert read(machine='4x"RTX 3090"', machines_count=2).machines_count == 2


def test_a_field_that_nobody_knows_is_refused_with_those_that_are_known(tmp_path: Path):
    (said,) = (json.loads(line) for line in ask(tmp_path, {**CASE, "conccurency": 4}).output.splitlines())
    assert "conccurency" in said["refused"]
    assert "concurrency" in said["refused"]


@pytest.mark.parametrize("kept", [0.5, 0.99], ids=["half", "all but its end"])
def test_a_packed_file_that_is_broken_is_named_and_what_was_whole_is_answered(tmp_path: Path, kept: float):
    path = tmp_path / "cases.jsonl.gz"
    packed = gzip.compress("\n".join(json.dumps({**CASE, "id": str(n)}) for n in range(2_000)).encode(), mtime=0)
    path.write_bytes(packed[: int(kept * len(packed))])
    with pytest.raises(BadInput, match=r"cases\.jsonl\.gz"):
        CliRunner().invoke(predict, ["--cases", str(path), "--json"], catch_exceptions=False)


def test_a_packed_file_of_noise_is_named(tmp_path: Path):
    path = tmp_path / "cases.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 100)[:10] + bytes(range(7, 250)))
    with pytest.raises(BadInput, match=r"cases\.jsonl\.gz"):
        CliRunner().invoke(predict, ["--cases", str(path), "--json"], catch_exceptions=False)


def test_a_machine_file_that_is_no_text_is_refused_by_its_name(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(BadInput, match=r"mine\.toml"):
        read(machine=str(path))
