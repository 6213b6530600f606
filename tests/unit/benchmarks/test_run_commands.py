"""Rows of a page and the commands above them: whose result is whose."""

from benchmarks.run_commands import commands_of, last_command


def _row(heading: str, load: int, command: str, metric: str = "decode_tok_s_total") -> dict[str, str]:
    return {"source": "page", "metric": metric, "batch_or_concurrency": str(load), "prompt_tokens": "128",
            "note": f'section "{heading}"; cmd: {command}'.rstrip()}  # fmt: skip


def test_the_last_server_of_a_command_is_the_one_that_ran() -> None:
    found = last_command("cmd: trtllm-serve a/B vllm serve a/B-AWQ --tensor-parallel-size 4")
    assert found is not None
    assert (found.engine, found.weights, found.tensor_parallel) == ("vLLM", "INT4", 4)


def test_results_without_a_command_have_those_above_them_in_their_order() -> None:
    rows = [
        _row("Others", 100, "vllm serve a/B"),
        _row("Others", 100, "python3 -m sglang.launch_server --model a/B-FP8 --tp 2"),
        _row("Others", 500, ""),
        _row("Others", 500, ""),
        _row("Elsewhere", 500, ""),
    ]
    engines = [command.engine if command else None for command in commands_of(rows)]
    assert engines == ["vLLM", "SGLang", "vLLM", "SGLang", None]


def test_a_result_more_than_there_are_commands_is_not_known_to_be_of_any() -> None:
    rows = [_row("Others", 1, "vllm serve a/B"), _row("Others", 4, ""), _row("Others", 4, "")]
    assert [command.is_own for command in commands_of(rows) if command] == [True, True, False]
