"""How fast the simulator and the readers are, and how near to vLLM's recorded runs once its coefficients are known.

    python -m benchmarks.simulation [--vllm FOLDER] [--fit-seconds 25]

FOLDER holds runs as NAME.requests.jsonl and NAME.meta.json (LLMServingSim's format). Six coefficients a run are fitted
by seeded random search to the times of the first half of the requests; the errors printed are those of the other half.
Writes benchmarks/results/simulation-DATE.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ownward.core import SystemClock
from ownward.perf import StepModel
from ownward.simulation import Scheduler, simulate
from ownward.traffic import Trace, read

RESULTS = Path(__file__).parent / "results"
START = (
    1.2e-2,
    8e-5,
    1e-10,
    3e-5,
    1e-7,
)  # seconds: fixed, prompt token, prompt token x context, sequence, cached token
ROWS_READ = 100_000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, help="folder of recorded runs; left out without it")
    parser.add_argument("--fit-seconds", type=float, default=25.0, help="for each run")
    arguments = parser.parse_args()
    now = datetime.now(UTC)
    figures: dict[str, Any] = {
        "schema": "ownward.benchmark/1",
        "benchmark": "simulation",
        "measured_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": {
            "cpu_cores": os.cpu_count(),
            "load_average_before": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "speed": measure_speed(),
        "readers": measure_readers(),
    }
    print(json.dumps(figures["speed"]))
    print(json.dumps(figures["readers"]))
    if arguments.vllm:
        figures["vllm"] = []
        for path in sorted(arguments.vllm.glob("*.requests.jsonl")):
            figures["vllm"].append(fit(path, arguments.fit_seconds))
            print(json.dumps(figures["vllm"][-1]))
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"simulation-{now.date()}.json"
    result.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {result}")


def measure_speed() -> dict[str, Any]:
    """Return requests simulated a second of wall time, by the plain loop and, where numba is, the compiled one."""
    generator = np.random.default_rng(0)
    count = 1_000_000
    whole = Trace.from_columns(
        arrival_s=np.cumsum(generator.exponential(1 / 15, count)),
        input_tokens=generator.integers(10, 900, count),
        output_tokens=generator.geometric(1 / 200, count),
    )
    model = StepModel(
        fixed_s=0.008,
        per_prefill_token_s=5e-5,
        per_decode_sequence_s=2e-5,
        per_kv_byte_s=1 / 1.5e12,
        kv_bytes_per_token=131072,
        capacity_blocks=30000,
    )
    clock = SystemClock()
    part = whole.take(np.arange(100_000))
    plain = simulate(part, model, clock=clock, is_compiled=False)
    found: dict[str, Any] = {"plain_requests_per_s": round(plain.requests_per_wall_s or 0)}
    try:
        simulate(part, model, is_compiled=True)
    except ImportError:
        found["compiled_requests_per_s"] = None
    else:
        runs = [simulate(whole, model, clock=clock, is_compiled=True) for _ in range(3)]
        found["compiled_requests_per_s"] = round(max(run.requests_per_wall_s or 0 for run in runs))
    return found


def measure_readers() -> dict[str, Any]:
    """Return rows read a second from CSV and from logged chats."""
    table = "arrival_s,input_tokens,output_tokens\n" + "".join(
        f"{i * 0.1},{i % 500},{i % 80}\n" for i in range(ROWS_READ)
    )
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "s" * 1000}, {"role": "user", "content": "u" * 300}],
    }
    logs = "".join(
        json.dumps({"request": body, "response": {"id": f"r{i}", "created": 1_750_000_000 + i, "usage": usage}}) + "\n"
        for i in range(ROWS_READ // 10)
    )
    return {name: round(rate_of(text)) for name, text in (("csv_rows_per_s", table), ("chat_log_rows_per_s", logs))}


def rate_of(text: str) -> float:
    """Return rows read a second."""
    start = time.perf_counter()
    count = sum(1 for _ in read(io.BytesIO(text.encode())))
    return count / (time.perf_counter() - start)


def fit(path: Path, seconds: float) -> dict[str, Any]:
    """Return the coefficients found on the first half of a run, and the errors on the second."""
    name = path.name.removesuffix(".requests.jsonl")
    engine = json.loads(path.with_name(f"{name}.meta.json").read_text())["engine_kwargs"]
    rows = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda row: row["queued_ts"])
    queued = np.array([row["queued_ts"] for row in rows])
    trace = Trace.from_columns(
        arrival_s=queued - queued[0],
        input_tokens=[row["input_toks"] for row in rows],
        output_tokens=[row["output_toks"] for row in rows],
    )
    ttft_s = np.array([row["first_token_ts"] for row in rows]) - queued
    latency_s = np.array([row["last_token_ts"] for row in rows]) - queued
    scheduler = Scheduler(max_batch=engine["max_num_seqs"], token_budget=engine["max_num_batched_tokens"])
    replicas = int(engine.get("data_parallel_size", 1))
    fitted = slice(0, len(rows) // 2)
    held_out = slice(len(rows) // 2, None)

    def run(found: np.ndarray) -> Any:
        model = StepModel(
            fixed_s=found[0],
            per_prefill_token_s=found[1],
            per_prefill_token_context_s=found[2],
            per_decode_sequence_s=found[3],
            per_kv_byte_s=found[4],
            kv_bytes_per_token=1.0,
            capacity_blocks=int(found[5]),
        )
        return simulate(trace, model, scheduler, replicas=replicas, is_compiled=False).per_request

    def loss(found: np.ndarray) -> float:
        times = run(found)
        late = np.abs(np.log(times.latency_s / latency_s))[fitted]
        first = np.abs(np.log((times.ttft_s + 0.02) / (ttft_s + 0.02)))[fitted]
        return float(late.mean() + first.mean() / 2)

    generator = np.random.default_rng(0)
    best = np.array([*START, 2200.0 if "4090" in name else 30_000.0])
    least, width, end = loss(best), 0.5, time.perf_counter() + seconds
    while time.perf_counter() < end:
        tried = best * np.exp(generator.normal(0, width, len(best)) * (generator.random(len(best)) < 0.5))
        tried[5] = max(tried[5], 1000)
        found = loss(tried)
        if found < least:
            least, best = found, tried
        else:
            width = max(0.03, width * 0.998)
    times = run(best)
    gaps = trace.output_tokens - 1
    return {
        "run": name,
        "replicas": replicas,
        "coefficients": [float(f"{one:.5g}") for one in best],
        "latency_median_error": round(float(np.median(np.abs(times.latency_s / latency_s - 1)[held_out])), 4),
        "tpot_mean_error": error_of(np.mean(times.tpot_s[held_out]), np.mean(((latency_s - ttft_s) / gaps)[held_out])),
        "ttft_p50_error": error_of(np.median(times.ttft_s[held_out]), np.median(ttft_s[held_out])),
        "ttft_p90_error": error_of(np.percentile(times.ttft_s[held_out], 90), np.percentile(ttft_s[held_out], 90)),
    }


def error_of(found: float, truth: float) -> float:
    """Return the relative error, signed."""
    return round(float(found / truth - 1), 4)


if __name__ == "__main__":
    main()
