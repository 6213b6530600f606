"""The same measured rows answered by us and by others: AIConfigurator and llmfit, each by its own interface.

`python -m benchmarks.peers --data FILE --configs DIR --peers FOLDER` where FOLDER is a virtual environment that has
`pip install aiconfigurator-core llmfit`; they are installed apart because neither is a dependency. Rows are those that
the peer answers; ours are given without any row of their model on their hardware, unless `--shipped`. AIConfigurator
is asked for rows of vLLM, SGLang and TensorRT-LLM on the systems that it ships data of. llmfit (its `plan` at the row's
quantisation and context) is asked for one user on one device; its profiles know no card's memory, so a card is stated
as a machine with unified memory of the card's size, bandwidth and compute rate.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import score
from benchmarks.answering import Answer, answer_rows
from benchmarks.measured_cases import Configs, case_of
from benchmarks.measured_rows import ConfigNames, MeasuredRow, load_rows

from ownward.core import OwnwardError
from ownward.perf import Case, engine_family, weight_format, with_usual_parallelism, without_repeated_depth

_BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}
_SYSTEMS = (
    (r"h100.*pcie", "h100_pcie"), (r"h100", "h100_sxm"), (r"h200", "h200_sxm"), (r"gb200", "gb200"),
    (r"gb300", "gb300"), (r"b200", "b200_sxm"), (r"b300", "b300_sxm"), (r"a100.*pcie", "a100_pcie"),
    (r"a100", "a100_sxm"), (r"l40s", "l40s"), (r"\bl4\b", "l4"), (r"pro.6000", "rtx_pro_6000_server"),
    (r"b60", "b60"),
)  # fmt: skip
_SERVED = ("decode_tok_s_total", "decode_tok_s_per_user", "tpot_ms", "ttft_ms", "e2e_ms")
_PLANNED = {"q4_k_m": "Q4_K_M", "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K_M", "q3_k_m": "Q3_K_M",
            "q2_k": "Q2_K", "f16": "F16", "bf16": "BF16"}  # fmt: skip
_LLMFIT_S = 30
_MAKERS = frozenset(
    {"Qwen", "meta-llama", "google", "openai", "mistralai", "microsoft", "deepseek-ai", "zai-org", "MiniMaxAI",
     "allenai", "nvidia", "moonshotai", "ibm-granite", "LiquidAI", "tiiuae", "HuggingFaceTB", "XiaomiMiMo"}
)  # fmt: skip


def ask_aiconfigurator(
    rows: Sequence[MeasuredRow], cases: Sequence[Case | str], python: Path
) -> dict[int, tuple[float | None, str]]:
    """Return what AIConfigurator says of each row it is asked for: a value or its refusal."""
    paths = _aiconfigurator_models(python)
    index = ConfigNames(paths)
    questions = []
    for row, case in zip(rows, cases, strict=True):
        asked = None if isinstance(case, str) else _aiconfigurator_question(row, case, index, paths)
        if asked is not None:
            questions.append(asked)
    program = Path(__file__).with_name("peer_aiconfigurator.py")
    done = subprocess.run(
        [str(python), str(program)], input="\n".join(json.dumps(asked) for asked in questions), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {int(answer["id"]): (answer["value"], answer["refused"] or "") for answer in said}


def _aiconfigurator_models(python: Path) -> dict[str, str]:
    script = "import aiconfigurator_core, pathlib; print(pathlib.Path(aiconfigurator_core.__file__).parent)"
    folder = Path(subprocess.check_output([str(python), "-c", script], text=True).strip())
    stems = sorted(path.name.removesuffix("_config.json") for path in (folder / "model_configs").glob("*_config.json"))
    return {stem.split("--")[1]: stem.replace("--", "/") for stem in stems if not re.search(r"NVFP4|FP8", stem)}


def _aiconfigurator_question(
    row: MeasuredRow, case: Case, index: ConfigNames, paths: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the question in its words; None where it has none for the engine, system, weights or load."""
    case = with_usual_parallelism(without_repeated_depth(case))
    backend = _BACKENDS.get(engine_family(case.engine))
    system = next((name for pattern, name in _SYSTEMS if re.search(pattern, row.hardware, re.IGNORECASE)), None)
    path = index.find(row.config or "")
    try:
        weights = weight_format(case.weights)
    except OwnwardError:
        return None
    is_asked = backend and system and path and case.metric in _SERVED and case.arrivals_per_s is None
    if not is_asked or case.speculative or weights not in {"native", "bf16", "f16", "fp8", "nvfp4", "int4", "mxfp4"}:
        return None
    pipeline = case.pipeline_parallel or 1
    tensor = case.tensor_parallel or max(case.machines_count // pipeline, 1)
    assert path is not None
    return {
        "id": row.number, "backend": backend, "system": system, "path": paths[path],
        "weights": "bf16" if weights == "f16" else weights, "kv_type": case.kv_type, "tensor_parallel": tensor,
        "pipeline_parallel": pipeline, "expert_parallel": tensor if case.expert_parallel else 1,
        "concurrency": max(case.concurrency // case.replicas, 1), "replicas": case.replicas,
        "input_tokens": max(case.input_tokens + case.context_depth, 1), "output_tokens": case.output_tokens,
        "metric": case.metric,
    }  # fmt: skip


def ask_llmfit(
    rows: Sequence[MeasuredRow], cases: Sequence[Case | str], program: Path
) -> dict[int, tuple[float | None, str]]:
    """Return what llmfit says of each row of one user on one device."""
    known: dict[tuple[Any, ...], tuple[float | None, str]] = {}
    found = {}
    names = _llmfit_models(program)
    index = ConfigNames(names)
    with tempfile.TemporaryDirectory() as folder:
        for row, case in zip(rows, cases, strict=True):
            if isinstance(case, str) or case.metric != "decode_tok_s_per_user" or case.speculative or case.cpu_offload:
                continue
            if case.machines_count > 1 or case.machine.kind == "cpu-platform":
                continue
            quant = _llmfit_quant(case.weights)
            memory, bandwidth = case.machine.usable_memory, case.machine.bandwidth_bytes_per_s
            model = index.find(row.config or "")
            if quant is None or memory is None or bandwidth is None or model is None:
                continue
            context = max(case.input_tokens + case.context_depth + case.output_tokens, 512)
            key = (row.config, quant, case.machine.id, context)
            if key not in known:
                known[key] = _plan(program, Path(folder) / "asked.json", names[model], quant, case, context)
            found[row.number] = known[key]
    return found


def _llmfit_models(program: Path) -> dict[str, str]:
    """Return the names of the releases that it knows of the makers themselves."""
    said = json.loads(subprocess.check_output([str(program), "--json", "list"], text=True, stderr=subprocess.DEVNULL))
    listed = said if isinstance(said, list) else said["models"]
    found: dict[str, str] = {}
    for name in sorted((str(model["name"]) for model in listed), key=len):
        maker, _, release = name.partition("/")
        if maker in _MAKERS:
            found.setdefault(release, name)
    return found


def _llmfit_quant(weights: str) -> str | None:
    try:
        return _PLANNED.get(weight_format(weights))
    except OwnwardError:
        return None


def _plan(  # noqa: PLR0917 -- what is asked, one argument each
    program: Path, path: Path, model: str, quant: str, case: Case, context: int
) -> tuple[float | None, str]:
    machine = case.machine
    assert machine.usable_memory is not None
    assert machine.bandwidth_bytes_per_s is not None
    rate = machine.rate("fp16") or machine.rate("bf16")
    profile = {
        "schema_version": 1,
        "name": "asked",
        "hardware": {
            "total_ram_gb": round(machine.usable_memory.value / 1e9, 1),
            "unified_memory": True,
            "gpu_memory_bandwidth_gbps": machine.bandwidth_bytes_per_s.value / 1e9,
            **({} if rate is None else {"gpu_compute_tflops_fp16": rate.value / 1e12}),
        },
    }
    path.write_text(json.dumps(profile), encoding="utf-8")
    done = subprocess.run(
        [str(program), "--json", "--profile", str(path), "plan", model, "--context", str(context), "--quant", quant],
        text=True, capture_output=True, check=False, timeout=_LLMFIT_S,
    )  # fmt: skip
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1][:120]
    value = (said.get("current") or {}).get("estimated_tps")
    return (value, "") if value else (None, "no speed given")


def beside(
    answers: Sequence[Answer], theirs: Mapping[int, tuple[float | None, str]]
) -> list[tuple[str, int, dict[str, Any], dict[str, Any]]]:
    """Return for each metric how many rows they were asked for, and both scores on the rows that they answered."""
    asked: Counter[str] = Counter()
    pairs: dict[str, list[tuple[Answer, float]]] = defaultdict(list)
    for answer in answers:
        if answer.row.number not in theirs:
            continue
        asked[answer.row.metric] += 1
        value, _ = theirs[answer.row.number]
        if value is not None and answer.value is not None:
            pairs[answer.row.metric].append((answer, value))
    found = []
    for metric, both in sorted(pairs.items()):
        ours = score([answer for answer, _ in both])
        said = [
            Answer(row=answer.row, cell=answer.cell, value=value, low80=None, high80=None, refused=None)
            for answer, value in both
        ]
        found.append((metric, asked[metric], ours, score(said)))
    return found


def _percent(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.0f}%"


def render(name: str, table: Sequence[tuple[str, int, dict[str, Any], dict[str, Any]]]) -> str:
    """Return a Markdown table of one peer beside us."""
    lines = [
        f"| metric | asked | answered by both | median, ours | {name} | MAPE, ours | {name} | bias, ours | {name} |",
        "|" + "---|" * 9,
    ]
    for metric, asked, ours, said in table:
        figures = (ours["median_error"], said["median_error"], ours["mape"], said["mape"])
        biases = (ours["bias"], said["bias"])
        cells = [metric, str(asked), str(ours["rows"]), *map(_percent, figures)]
        lines.append("| " + " | ".join(cells + [_percent(bias, sign=True) for bias in biases]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Ask all three, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True, help="a virtual environment with both installed")
    parser.add_argument("--shipped", action="store_true", help="ours by the shipped coefficients, not left out")
    options = parser.parse_args()
    started = time.perf_counter()
    configs = Configs(options.configs)
    rows = [row for row in load_rows(options.data, configs.names) if row.config is not None and row.value > 0]
    cases = [case_of(row, configs) for row in rows]
    answers = answer_rows(rows, configs, leave_out=None if options.shipped else "pair")
    programs = options.peers / "bin"
    for name, theirs in (
        ("AIConfigurator", ask_aiconfigurator(rows, cases, programs / "python")),
        ("llmfit", ask_llmfit(rows, cases, programs / "llmfit")),
    ):
        print(f"## {name}\n\n{render(name, beside(answers, theirs))}\n")
        refused = Counter(reason for value, reason in theirs.values() if value is None)
        print(f"asked {len(theirs)}, refused {sum(refused.values())}")
        for reason, count in refused.most_common(6):
            print(f"refused {count}: {reason}")
        possible = [answer for answer in answers if answer.is_possible and answer.row.tier in {"A", "B"}]
        print(f"\nTiers A and B, rows that can be true:\n\n{render(name, beside(possible, theirs))}\n")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
