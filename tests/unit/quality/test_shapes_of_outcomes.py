"""Recorded outcomes in the shapes that people and evaluation tools keep them."""

from __future__ import annotations

import io
import json

import pytest

from ownward.core import BadInput
from ownward.quality import OutcomeTable, read_outcomes


def table(text: str) -> OutcomeTable:
    return read_outcomes(io.StringIO(text), name="outcomes")


def completions(found: OutcomeTable) -> list[tuple[float, float]]:
    return [(task.baseline_completion, task.candidate_completion) for task in found.pair("a", "b")[0]]


@pytest.mark.parametrize(
    "text",
    [
        "task_id,a,b\n1,1,0\n2,0.5,1\n",
        '{"task_id": 1, "a": 1, "b": 0}\n{"task_id": 2, "a": 0.5, "b": 1}\n',
        json.dumps([{"task_id": 1, "a": 1, "b": 0}, {"task_id": 2, "a": 0.5, "b": 1}]),
        json.dumps([{"id": 1, "a": 1, "b": 0}, {"id": 2, "a": 0.5, "b": 1}], indent=1),
        "question_id,model,correct\n1,a,1\n1,b,0\n2,a,0.5\n2,b,1\n",
        "task_id,tier,score,difficulty\n1,a,1,7\n1,b,0,7\n2,a,0.5,9\n2,b,1,9\n",
        "item_id,prompt_tokens,a|correct,b|correct\n1,40,1,0\n2,50,0.5,1\n",
    ],
    ids=[
        "matrix",
        "matrix in JSON",
        "array",
        "array over lines",
        "one row a model",
        "one row a tier",
        "one row an item",
    ],
)
def test_completions_are_found_in(text: str) -> None:
    assert completions(table(text)) == [(1.0, 0.0), (0.5, 1.0)]


@pytest.mark.parametrize("word", ["", "NA", "NaN", "null", "None", " n/a "])
def test_an_empty_cell_leaves_a_task_out_for_its_own_strategy_alone(word: str) -> None:
    found = table(f"task_id,a,b,c,a_cost_usd\n1,Y,f,{word},{word}\n2,0.5,true,1,0.1\n")
    assert completions(found) == [(1.0, 0.0), (0.5, 1.0)]
    assert found.tasks["1"]["a"].cost_usd is None
    assert "c" not in found.tasks["1"]
    assert (found.bad_total, found.pair("a", "c")[1]) == (0, 1)


def test_a_parquet_file_is_named_as_one() -> None:
    with pytest.raises(BadInput, match="line 1: a Parquet file"):
        table("PAR1\x15\x04,\x15\n,,,\n")


def test_a_word_that_is_no_completion_is_told_as_it_stands() -> None:
    found = table("task_id,a_completed,b_completed\n1,1,1\n2,maybe,1\n")
    assert found.bad == ((3, "a completion of 'maybe', which is not a share from 0 to 1"),)


def test_numbers_beside_stated_completions_are_no_strategies() -> None:
    found = table('{"task_id": 1, "a": {"completed": true}, "b": {"completed": false}, "seed": 1, "a_cost_usd": "0.5"}')
    assert found.strategies == ("a", "b")


def test_a_row_that_repeats_one_strategy_still_tells_of_the_other() -> None:
    found = table('{"task_id": 1, "a": true}\n{"task_id": 1, "a": false, "b": true}\n')
    assert completions(found) == [(1.0, 1.0)]
    assert found.duplicates == 1


@pytest.mark.parametrize(("cost", "why"), [("abc", "a cost that is not an amount"), ("1e30", "a cost of 1e30")])
def test_a_cost_that_cannot_be_is_a_bad_row_with_its_reason(cost: str, why: str) -> None:
    found = table(f"task_id,a_completed,a_cost_usd\n1,1,0.1\n2,1,{cost}\n")
    assert found.bad == ((3, why),)


def test_an_array_that_is_cut_off_is_refused() -> None:
    with pytest.raises(BadInput, match="line 1: not JSON"):
        table('[{"task_id": 1, "a": 1}, {"task_')


@pytest.mark.parametrize("columns", ["a_completed,a_score", "a_score,a_completed"])
def test_what_was_completed_goes_before_a_score_in_whatever_order_they_stand(columns: str) -> None:
    values = {"a_completed": "0", "a_score": "0.9"}
    row = ",".join(values[name] for name in columns.split(","))
    table = read_outcomes(io.StringIO(f"task_id,{columns}\nt,{row}\n"), name="x")
    assert table.tasks["t"]["a"].completion == 0.0


@pytest.mark.parametrize("separator", [";", "\t", ", "])
def test_a_table_is_read_whatever_stands_between_its_columns(separator: str) -> None:
    rows = [["task_id", "a_completed", "b_completed"], ["t", "1", "0"]]
    table = read_outcomes(io.StringIO("\n".join(separator.join(row) for row in rows)), name="x")
    assert {name: result.completion for name, result in table.tasks["t"].items()} == {"a": 1.0, "b": 0.0}


def test_rows_without_a_task_are_no_repetitions_of_one_another() -> None:
    table = read_outcomes(io.StringIO("task_id,a,b\n,1,0\n,1,0\nt,1,0\n"), name="x")
    assert (table.bad_total, table.duplicates, list(table.tasks)) == (2, 0, ["t"])
