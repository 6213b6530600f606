"""How long predictions take: one case, the catalogue on 20 machines in every weight format, and whole answers of `fit`.

`python -m benchmarks.fit_speed`. Aims: below 1 ms a prediction; below 3 s for the catalogue on 20 machines; below 1 s
for the best models of one machine. Seconds are of the processor, so that other work beside it counts little.
"""

from __future__ import annotations

import resource
import statistics
import time
from datetime import date
from decimal import Decimal

from ownward import anatomy, catalog
from ownward.core import OwnwardError
from ownward.perf import Case, deploy, predict
from ownward.planner import advise, compute_curves, fit

_MACHINES = 20
_FORMATS = ("bf16", "fp8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k")
_REPEATS = 2000


def main() -> None:
    """Measure and print."""
    started = cpu_s()
    models = []
    for release in catalog.models():
        try:
            models.append(anatomy.from_config(release.load_config(), name=release.name))
        except OwnwardError:  # not readable here, so not asked
            continue
    machines = [item for item in catalog.machines() if item.bandwidth_bytes_per_s and item.kind != "storage"][
        :_MACHINES
    ]
    read_s = cpu_s() - started
    case = Case(id="x", anatomy=models[0], machine=machines[0], weights="q4_k_m")
    predict(case)
    spans = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        predict(case)
        spans.append(time.perf_counter() - began)
    print(f"one prediction: median {1e6 * statistics.median(spans):.0f} us, worst {1e3 * max(spans):.2f} ms")
    began = cpu_s()
    answered = 0
    for model in models:
        for machine in machines:
            for weights in _FORMATS:
                placed = deploy(model, machine=machine, machines_count=1, engine="llama.cpp", weights=weights)
                if not isinstance(placed, str):
                    placed.compute_memory(concurrency=1, context_tokens=8192)
                    placed.compute_decode_step_s(sequences=1, context_tokens=8192)
                    placed.compute_prefill_s(tokens=2048)
                    answered += 1
    spent = cpu_s() - began
    print(
        f"{len(models)} models x {len(machines)} machines x {len(_FORMATS)} formats: {answered} deployments "
        f"with memory, decode and prefill in {spent:.2f} s, after {read_s:.2f} s of reading the catalogue"
    )
    at = date(2026, 11, 21)
    merits = {model.name: float(model.total_live_params) for model in models}
    began = cpu_s()
    options = fit(models, machine=catalog.machine("RTX 4090"), merits=merits, at=at)
    print(f"the best of {len(models)} models on one machine: {cpu_s() - began:.2f} s")
    began = cpu_s()
    compute_curves(options[0])
    print(f"the curves of one option: {1e3 * (cpu_s() - began):.1f} ms")
    began = cpu_s()
    one = [model for model in models if model.name == "Qwen3-30B-A3B"]
    advice = advise(one, machines=catalog.machines(), budget_usd=Decimal(3000), at=at)
    print(f"what to buy for one model, {advice.tried} purchases tried: {cpu_s() - began:.2f} s")
    began = cpu_s()
    advice = advise(models, machines=catalog.machines(), budget_usd=Decimal(3000), merits=merits, at=at)
    print(f"what to buy for the best of {len(models)} models, {advice.tried} purchases tried: {cpu_s() - began:.2f} s")


def cpu_s() -> float:
    """Return the processor's seconds so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
