"""How long predictions take: one case, and the whole catalogue on 20 machines in every weight format.

`python -m benchmarks.fit_speed`. Aims: below 1 ms a prediction; below 3 s for the catalogue.
"""

from __future__ import annotations

import statistics
import time

from ownward import anatomy, catalog
from ownward.core import OwnwardError
from ownward.perf import Case, deploy, predict

_MACHINES = 20
_FORMATS = ("bf16", "fp8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k")
_REPEATS = 2000


def main() -> None:
    """Measure and print."""
    started = time.perf_counter()
    models = []
    for release in catalog.models():
        try:
            models.append(anatomy.from_config(release.load_config(), name=release.name))
        except OwnwardError:  # not readable here, so not asked
            continue
    machines = [item for item in catalog.machines() if item.bandwidth_bytes_per_s and item.kind != "storage"][
        :_MACHINES
    ]
    read_s = time.perf_counter() - started
    case = Case(id="x", anatomy=models[0], machine=machines[0], weights="q4_k_m")
    predict(case)
    spans = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        predict(case)
        spans.append(time.perf_counter() - began)
    print(f"one prediction: median {1e6 * statistics.median(spans):.0f} us, worst {1e3 * max(spans):.2f} ms")
    began = time.perf_counter()
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
    spent = time.perf_counter() - began
    print(
        f"{len(models)} models x {len(machines)} machines x {len(_FORMATS)} formats: {answered} deployments "
        f"with memory, decode and prefill in {spent:.2f} s, after {read_s:.2f} s of reading the catalogue"
    )


if __name__ == "__main__":
    main()
