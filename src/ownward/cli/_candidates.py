"""From names on a command line to candidates: rented APIs, owned deployments, and a ledger's traffic as a trace."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ownward.cli._lookup import find_anatomy, find_machines, load_price_book
from ownward.core import UsageError

if TYPE_CHECKING:
    from ownward.ledger import TrafficColumns
    from ownward.planner import OwnedCandidate, RentedCandidate
    from ownward.traffic import Trace

# Weight formats one would choose without being asked, by engine.
_USUAL_WEIGHTS = {"llama.cpp": "q4_k_m", "vllm": "fp8"}


def rented_candidate(text: str, *, at: datetime) -> RentedCandidate:
    """Return the candidate of `[NAME=][PROVIDER/]MODEL`, with its price at `at`.

    Raises: MissingPrice.
    """
    from ownward.planner import RentedCandidate

    name, _, model = text.rpartition("=")
    price = load_price_book().find(model, at=at)
    return RentedCandidate(tier=tier_name(name or price.model), price=price)


def owned_candidate(text: str) -> OwnedCandidate:
    """Return the candidate of `[NAME=]MODEL[:WEIGHTS]@[Nx]MACHINE`.

    Raises: UsageError, UnknownModel, UnknownMachine.
    """
    from ownward.perf import weight_format
    from ownward.planner import OwnedCandidate, default_engine, stored_as_of

    name, _, rest = text.partition("=") if "=" in text else ("", "", text)
    subject, at_sign, machine_name = rest.partition("@")
    if not at_sign or not machine_name:
        raise UsageError(f"--own {text!r} names no machine", allowed='--own "qwen3-30b-a3b:q4_k_m@RTX 5090"')
    model, _, weights = subject.partition(":")
    count, machine = find_machines(machine_name)
    stated = weight_format(weights) if weights else None
    engine = default_engine(machine, stored_as_of(stated) if stated else None)
    anatomy = find_anatomy(model)
    return OwnedCandidate(
        tier=tier_name(name or f"{anatomy.name}-{machine.id}"),
        anatomy=anatomy,
        machine=machine,
        machines_count=count,
        engine=engine,
        weights=stated or _USUAL_WEIGHTS[engine],
    )


def tier_name(text: str) -> str:
    """Return `text` as a tier's name: lower case, other characters as hyphens.

    >>> tier_name("Qwen3 30B/A3B")
    'qwen3-30b-a3b'
    """
    kept = "".join(character if character.isalnum() or character in "._-" else "-" for character in text.lower())
    return kept.strip("-._") or "tier"


def trace_of(columns: TrafficColumns) -> Trace:
    """Return a ledger's traffic as a trace."""
    import numpy as np

    from ownward.traffic import Trace

    arrival = np.frombuffer(columns.arrival_s, dtype=np.float64) if len(columns) else np.zeros(0)
    return Trace.from_columns(
        arrival_s=arrival - (arrival.min() if len(arrival) else 0.0),
        input_tokens=list(columns.input_tokens),
        cached_input_tokens=list(columns.cached_input_tokens),
        cache_write_tokens=list(columns.cache_write_tokens),
        cache_write_1h_tokens=list(columns.cache_write_1h_tokens),
        output_tokens=list(columns.output_tokens),
        workload=[columns.workload.value(row) for row in range(len(columns))],
        session=[columns.session.value(row) for row in range(len(columns))],
        model=[columns.model.value(row) for row in range(len(columns))],
    )
