"""The catalogue as rows: what search prints, JSON carries and a comparison lays side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from ownward.catalog._machine import Machine
from ownward.catalog._model import Model
from ownward.core import Basis, Sourced, UsageError, weakest_basis


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """A machine's figures without their sources; `basis` is the weakest of them. None is unknown."""

    id: str
    name: str
    kind: str
    vendor: str
    memory_label: str | None
    memory_bytes: int | None
    bandwidth_bytes_per_s: float | None
    bf16_flop_per_s: float | None
    fp16_flop_per_s: float | None
    fp8_flop_per_s: float | None
    fp4_flop_per_s: float | None
    int8_op_per_s: float | None
    tdp_watts: float | None
    price_usd: Decimal | None
    price_kind: str | None
    price_dated: str | None
    priced_memory_gb: int | None
    """The memory size that the price is of, where that is not the row's."""
    launched: str | None
    basis: Basis | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A release's stated facts without their sources; `basis` is the weakest of them. None is unknown."""

    id: str
    name: str
    family: str
    maker: str
    hub_id: str | None
    released: str | None
    licence: str | None
    context_tokens: int | None
    modalities: tuple[str, ...] | None
    stated_total: str | None
    stated_active: str | None
    basis: Basis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineList:
    """The answer of a search for machines, as JSON carries it."""

    schema: str = "ownward.machines/1"
    machines: tuple[MachineRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """The answer of a search for models, as JSON carries it."""

    schema: str = "ownward.models/1"
    models: tuple[ModelRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFact:
    """One line of a comparison: the fact of each thing in order, None where unknown."""

    name: str
    facts: tuple[Sourced[Any] | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the values are not all the same."""
        return len({repr(None if fact is None else fact.value) for fact in self.facts}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Things side by side, each figure with its source, and the weakest basis of each column."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    lines: tuple[ComparedFact, ...]
    bases: tuple[Basis | None, ...]


def list_machines(found: Sequence[Machine]) -> MachineList:
    """Return machines as rows for a table or JSON."""
    return MachineList(machines=tuple(_machine_row(item) for item in found))


def list_models(found: Sequence[Model]) -> ModelList:
    """Return releases as rows for a table or JSON."""
    return ModelList(models=tuple(_model_row(item) for item in found))


def compare(things: Sequence[Machine] | Sequence[Model]) -> Comparison:
    """Return machines, or releases, side by side, leaving out what none of them states.

    Raises: UsageError, for fewer than two things or for machines among models.
    """
    kinds = {type(thing) for thing in things}
    if len(things) < 2 or len(kinds) > 1:  # noqa: PLR2004 - two is what side by side means
        raise UsageError(f"{len(things)} things of {len(kinds)} kinds", allowed="Two or more of one kind")
    stated = [_facts(thing) for thing in things]
    names = list(dict.fromkeys(name for facts in stated for name in facts))
    order = [field.name for field in fields(things[0]) if field.name in names]
    return Comparison(
        ids=tuple(thing.id for thing in things),
        names=tuple(thing.name for thing in things),
        lines=tuple(ComparedFact(name=name, facts=tuple(facts.get(name) for facts in stated)) for name in order),
        bases=tuple(weakest_basis(fact.basis for fact in facts.values()) for facts in stated),
    )


def _facts(thing: Machine | Model) -> dict[str, Sourced[Any]]:
    named = ((field.name, getattr(thing, field.name)) for field in fields(thing))
    return {name: value for name, value in named if isinstance(value, Sourced)}


def _values(thing: Machine | Model, names: Sequence[str]) -> dict[str, Any]:
    """Return the plain fields of these names: the value of a fact, anything else as it is."""
    found = {name: getattr(thing, name) for name in names if name != "basis"}
    return {name: value.value if isinstance(value, Sourced) else value for name, value in found.items()}


def _machine_row(item: Machine) -> MachineRow:
    basis = weakest_basis(fact.basis for fact in _facts(item).values())
    return MachineRow(**_values(item, [field.name for field in fields(MachineRow)]), basis=basis)


def _model_row(item: Model) -> ModelRow:
    basis = weakest_basis(fact.basis for fact in _facts(item).values())
    return ModelRow(**_values(item, [field.name for field in fields(ModelRow)]), basis=basis)
