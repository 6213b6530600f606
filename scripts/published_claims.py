"""A maker's claims of speed, computed on stated nodes: the tables of docs/explanation/published-claims.md.

Every figure comes from the catalogue's configs and datasheets and the shipped coefficients; nothing is measured here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ownward import anatomy, catalog
from ownward.anatomy import Anatomy
from ownward.perf import Deployment, deploy, load_coefficients

NODES = (("B200 SXM", 8), ("H200 SXM", 8))
"""The node of the tables, and a second one that shows what depends on it."""
CONTEXTS = (32_768, 262_144)
ENGINE, WEIGHTS, CACHE = "vllm", "fp8", "bf16"
BATCHES = (1, 8, 32, 128)
CLAIMED = {("qwen3-235b-a22b-2507", 32_768): 3.5, ("qwen3-235b-a22b-2507", 262_144): 7.2}
CLAIMED_OF_CLOSED = {32_768: 8.6, 262_144: 19.0}
NEW, OLD, TRILLION = "qwen3.5-397b-a17b", "qwen3-235b-a22b-2507", "kimi-k2.6"
WAYS = ((OLD, False), (OLD, True), (TRILLION, False), (TRILLION, True))
"""What the new model is compared with, and whether each device attends for sequences of its own, in both models."""
_GIGA = 1e9
_APART = ", attention apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a node decodes at a context: alone, and with as many sequences as its memory holds."""

    sequences: int
    tokens_per_s: float | None
    bytes_a_sequence: float


def claims_tables() -> str:
    """Return the generated part of the page."""
    models = read_models()
    machine, count = NODES[0]
    rows = [
        f"On one node of {count} x {catalog.machine(machine).name}, under {ENGINE}, weights in FP8, cache in 16 bits;",
        "each model with as many sequences of the context as the node's memory holds, all of them decoding:",
        "",
        "| context | model | cache of a sequence, GB | sequences | tokens/s, all together |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for context in CONTEXTS:
        for name, apart in ((NEW, False), (NEW, True), *WAYS):
            model = models[name]
            found = full_node(model, machine, count, context, apart=apart)
            each = "none" if found.tokens_per_s is None else f"{found.tokens_per_s:,.0f}"
            cache = f"{found.bytes_a_sequence / _GIGA:.2f}"
            title = model.name + (_APART if apart else "")
            rows.append(f"| {context // 1024}K | {title} | {cache} | {found.sequences:,} | {each} |")
    rows += ["", *_claims(models), "", *_equal_batches(models)]
    low, high = load_coefficients().band("decode_tok_s_total/vllm/many/hopper/hybrid-moe", "h200-sxm-141gb")
    rows += [
        "",
        f"What was measured of batches under {ENGINE} lay between {math.exp(low):.1f} and {math.exp(high):.1f} times",
        "the prediction in 8 of 10 cases that were left out of the fit. A ratio of two predictions on one node shares",
        "part of that error; how much has not been measured.",
    ]
    return "\n".join(rows)


def _claims(models: dict[str, Anatomy]) -> list[str]:
    rows = [
        "| Qwen3.5-397B-A17B against | context | the maker says | "
        + " | ".join(f"{count} x {catalog.machine(machine).name}" for machine, count in NODES)
        + " |",
        "| --- | ---: | ---: | " + " | ".join("---:" for _ in NODES) + " |",
    ]
    for name, apart in WAYS:
        for context in CONTEXTS:
            said = CLAIMED.get((name, context))
            stated = f"{said}x" if said else f"({CLAIMED_OF_CLOSED[context]:g}x, of Qwen3-Max)"
            cells = [
                shown_ratio(models[NEW], models[name], machine, count, context, apart=apart) for machine, count in NODES
            ]
            title = models[name].name + (_APART if apart else "")
            rows.append(f"| {title} | {context // 1024}K | {stated} | {' | '.join(cells)} |")
    return rows


def _equal_batches(models: dict[str, Anatomy]) -> list[str]:
    machine, count = NODES[0]
    rows = [
        f"The same node with the same number of sequences for both, {models[NEW].name} against",
        f"{models[OLD].name}, whether or not memory would hold them:",
        "",
        "| sequences | " + " | ".join(f"at {context // 1024}K" for context in CONTEXTS) + " |",
        "| ---: | " + " | ".join("---:" for _ in CONTEXTS) + " |",
    ]
    for batch in BATCHES:
        cells = []
        for context in CONTEXTS:
            new, old = (step_s(models[name], machine, count, batch, context) for name in (NEW, OLD))
            cells.append(f"{old / new:.1f}x")
        rows.append(f"| {batch} | {' | '.join(cells)} |")
    return rows


def ratio(
    model: Anatomy, other: Anatomy, machine: str, count: int, context: int, *, apart: bool = False
) -> float | None:
    """Return how many times the tokens per second of `other` a full node of `model` makes; None where one has none.

    `apart`: each device attends for sequences of its own, so that no cache is kept twice.
    """
    ours = full_node(model, machine, count, context, apart=apart)
    theirs = full_node(other, machine, count, context, apart=apart)
    if ours.tokens_per_s is None or theirs.tokens_per_s is None:
        return None
    return ours.tokens_per_s / theirs.tokens_per_s


def shown_ratio(model: Anatomy, other: Anatomy, machine: str, count: int, context: int, *, apart: bool = False) -> str:
    """Return a ratio as the page shows it."""
    found = ratio(model, other, machine, count, context, apart=apart)
    return "holds none" if found is None else f"{found:.1f}x"


def full_node(model: Anatomy, machine: str, count: int, context: int, *, apart: bool = False) -> Throughput:
    """Return what a node decodes with as many sequences as its memory holds."""
    deployed = _deploy(model, machine, count, apart=apart)
    most = deployed.most_sequences(context) or 0
    each = deployed.cache_bytes(context) + model.recurrent_state_bytes_per_seq
    rate = most / deployed.compute_decode_step_s(sequences=most, context_tokens=context) if most else None
    return Throughput(sequences=most, tokens_per_s=rate, bytes_a_sequence=each)


def step_s(model: Anatomy, machine: str, count: int, batch: int, context: int) -> float:
    """Return the seconds of a step of `batch` sequences."""
    return _deploy(model, machine, count).compute_decode_step_s(sequences=batch, context_tokens=context)


def read_models() -> dict[str, Anatomy]:
    """Return the models of the page."""
    return {name: _read(name) for name in (NEW, OLD, TRILLION)}


def _read(name: str) -> Anatomy:
    release = catalog.model(name)
    return anatomy.from_config(release.load_config(), name=release.name)


def _deploy(model: Anatomy, machine: str, count: int, *, apart: bool = False) -> Deployment:
    deployed = deploy(
        model,
        machine=catalog.machine(machine),
        machines_count=count,
        engine=ENGINE,
        weights=WEIGHTS,
        kv_type=CACHE,
        attention_data_parallel=apart,
    )
    assert not isinstance(deployed, str)
    return deployed
