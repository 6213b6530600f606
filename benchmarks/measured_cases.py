"""Measured rows as cases: the question that a row answers, and whether its answer can be true at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.measured_rows import MeasuredRow

from ownward import anatomy, catalog
from ownward.core import OwnwardError
from ownward.perf import Case, Deployment, machine_named, usual_input_tokens, usual_limits

_MOST_OF_BANDWIDTH = 1.3
_STALLED = 60.0


class Configs:
    """Anatomies of a folder of configs, and of the catalogue for names that the folder has not."""

    def __init__(self, folder: Path | None) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.json"))} if folder else {}
        self._found: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Every config there is, the folder's first."""
        return [*self._paths, *(release.name for release in catalog.models())]

    def load(self, name: str) -> Any:
        """Return the anatomy, or the error that its config gives."""
        if name not in self._found:
            try:
                if name in self._paths:
                    self._found[name] = anatomy.read(self._paths[name])
                else:
                    release = catalog.model(name)
                    self._found[name] = anatomy.from_config(release.load_config(), name=release.name)
            except OwnwardError as error:
                self._found[name] = error
        return self._found[name]


def case_of(row: MeasuredRow, configs: Configs) -> Case | str:
    """Return the question of a row, or why it cannot be posed."""
    asked = row.question
    model = configs.load(row.config or "")
    if isinstance(model, OwnwardError):
        return f"config of {row.config}: {model.message}"
    try:
        located = machine_named(row.hardware, on_cpu=asked["on_cpu"])
    except OwnwardError as error:
        return error.message
    concurrency, arrivals = asked["concurrency"], None
    if isinstance(concurrency, str):
        rate = re.search(r"(\d+(?:\.\d+)?) req/s", concurrency)
        if rate is None:
            return "the load is a trace whose arrivals the row does not state"
        concurrency, arrivals = 1, float(rate[1])
    return Case(
        id=asked["id"],
        anatomy=model,
        machine=located.machine,
        host_bytes_per_s=located.host_bytes_per_s,
        slow_host=located.slow_host,
        machines_count=asked["machines_count"],
        replicas=asked["replicas"],
        engine=f"{asked['engine']} {asked['engine_limits']}".strip(),
        weights=asked["weights"],
        kv_type=asked["kv_type"],
        tensor_parallel=asked["tensor_parallel"],
        pipeline_parallel=asked["pipeline_parallel"],
        expert_parallel=asked["expert_parallel"],
        cpu_offload=asked["cpu_offload"],
        speculative=asked["speculative"],
        concurrency=concurrency,
        arrivals_per_s=arrivals,
        input_tokens=usual_input_tokens(row.metric) if asked["input_tokens"] is None else asked["input_tokens"],
        attention_data_parallel=asked["attention_data_parallel"],
        prompt_chunk_tokens=asked["prompt_chunk_tokens"],
        output_tokens=asked["output_tokens"] or 128,
        context_depth=asked["context_depth"],
        requests=asked["requests"],
        limits=usual_limits(asked["limits"], model) if asked["limits"] else None,
        metric="e2e_ms" if asked["whole_latency"] else row.metric,
    )


def is_impossible(row: MeasuredRow, case: Case, deployment: Deployment) -> bool:
    """Return whether a row claims tokens faster than the weights can be read at 1.3 x the stated bandwidth.

    Weights that lie in a second memory have to be read at that memory's. Or, alone on its machine, 60 times slower than
    that. Such rows are scored like all others; they have no part in the fit, and a second line of the summary says what
    the rest come to.
    """
    if row.apart:
        return True
    if case.speculative:
        return False
    missed = deployment.offloaded_fraction
    if missed and case.metric == "decode_tok_s_total":
        claimed_s = case.concurrency / row.value
        return claimed_s < _floor_s(case, deployment, sequences=case.concurrency)
    if case.metric not in {"tpot_ms", "decode_tok_s_per_user"}:
        return False
    claimed_s = row.value / 1e3 if case.metric == "tpot_ms" else 1 / row.value
    floor_s = _floor_s(case, deployment, sequences=1)
    return claimed_s < floor_s or (not missed and claimed_s > _STALLED * floor_s and case.concurrency == 1)


def _floor_s(case: Case, deployment: Deployment, *, sequences: int) -> float:
    """Return the time in which the weights that a step of so many sequences touches can be read."""
    counted, missed = deployment.counted, deployment.offloaded_fraction
    touched = deployment.touched_fraction(sequences) if sequences > 1 else None
    if touched is None:
        touched = case.anatomy.experts_per_tok / max(case.anatomy.experts, 1)
    routed = counted.routed * touched
    movable = routed if counted.routed else counted.dense_read
    reachable = deployment.bandwidth_bytes_per_s * deployment.tensor_parallel * _MOST_OF_BANDWIDTH
    there_s = missed * movable / (deployment.offload_bytes_per_s * _MOST_OF_BANDWIDTH)
    return max((counted.dense_read + routed - missed * movable) / reachable, there_s)
