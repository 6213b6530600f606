"""The plan as a whole: what its parts owe each other, its identity, and what it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from ownward.plan._detection import detection_problems
from ownward.plan._problems import Figures, Problem, figure_problems, freeze, name_problems, refuse, shown, suggest
from ownward.plan._tiers import Tier
from ownward.plan._workloads import Match, Workload
from ownward.policy import LOCAL_ONLY, DetectorKind, Label

SCHEMA = "ownward.plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something a plan leaves unknown or open: where it stands, and what follows from it."""

    where: str
    message: str


@dataclass(frozen=True, kw_only=True)  # no slots: the hash and the order of matching are worked out once
class Plan:
    """Where every request goes: the tiers there are, the workloads, and the figures they were chosen by.

    The order of tiers and workloads carries no meaning: of the workloads that
    accept a request, the most specific serves it.
    `baseline` names the tier that everything is compared with. `detect`, `detect_patterns` and
    `detected_label` hold for every request, beside what its workload states.
    """

    schema: str = SCHEMA
    name: str
    created_at: datetime | None = None
    baseline: str | None = None
    default_label: Label | None = None
    detect: tuple[DetectorKind, ...] = ()
    detect_patterns: Mapping[str, str] = field(default_factory=dict)
    detected_label: Label = LOCAL_ONLY
    tiers: Mapping[str, Tier]
    workloads: Mapping[str, Workload]
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze what is nested; refuse references that lead nowhere."""
        object.__setattr__(self, "detect", tuple(self.detect))
        for key in ("tiers", "workloads", "figures", "detect_patterns"):
            object.__setattr__(self, key, freeze(getattr(self, key)))
        if self.created_at is not None and self.created_at.tzinfo is not None:
            object.__setattr__(self, "created_at", self.created_at.astimezone(UTC))
        problems = [
            *own_problems(self.schema, self.name, self.created_at),
            *reference_problems(
                baseline=self.baseline, tiers=self.tiers, workloads=self.workloads, known_tiers=self.tiers
            ),
            *detection_problems(self.detect, self.detect_patterns),
            *figure_problems(self.figures),
        ]
        refuse(f"plan {shown(self.name)}", problems)

    @cached_property
    def canonical_text(self) -> str:
        """The plan as TOML without comments, tables and keys sorted, every value that holds written out."""
        from ownward.plan._write import write_canonical

        return write_canonical(self)

    @cached_property
    def sha256(self) -> str:
        """The hash of `canonical_text`: the same for every order, spacing and comment of the same plan."""
        import hashlib

        return hashlib.sha256(self.canonical_text.encode()).hexdigest()

    @cached_property
    def workloads_by_specificity(self) -> tuple[Workload, ...]:
        """The workloads in the order they are tried: the most specific first, then by name."""
        by_name = sorted(self.workloads.values(), key=lambda workload: workload.name)
        return tuple(sorted(by_name, key=lambda workload: workload.match.specificity, reverse=True))

    def find_workload(
        self,
        *,
        model: str,
        headers: Mapping[str, str] | None = None,
        key_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fingerprint: str | None = None,
    ) -> Workload | None:
        """Return the most specific workload that accepts the request; None where none does."""
        for workload in self.workloads_by_specificity:
            if workload.match.accepts(
                model=model, headers=headers, key_id=key_id, metadata=metadata, fingerprint=fingerprint
            ):
                return workload
        return None

    def find_baseline(self, workload: str) -> str | None:
        """Return the tier that a workload is compared with: its own or the plan's baseline; None for none."""
        stated = self.workloads.get(workload)
        return self.baseline if stated is None or stated.baseline is None else stated.baseline

    def gaps(self) -> tuple[Gap, ...]:
        """Return what the plan leaves unknown: charges without a price, figures assumed, keys sent in the clear."""
        return tuple(_gaps(self))


def own_problems(schema: str, name: str, created_at: datetime | None) -> Iterable[Problem]:
    """Yield what is wrong with the plan's own fields."""
    if schema != SCHEMA:
        yield Problem("schema", f"is {shown(schema)}", f"This version writes {shown(SCHEMA)}")
    yield from name_problems("name", name)
    if created_at is not None and created_at.tzinfo is None:
        yield Problem("created_at", "has no time zone", "Write it in UTC: 2026-11-21T09:00:00Z")


def reference_problems(
    *,
    baseline: str | None,
    tiers: Mapping[str, Tier],
    workloads: Mapping[str, Workload],
    known_tiers: Iterable[str],
) -> Iterable[Problem]:
    """Yield references that lead nowhere and workloads that no request can reach.

    `known_tiers` are the names that may be referred to; while a file with
    faults is read they are more than the `tiers` that could be made.
    """
    known = frozenset(known_tiers)
    if not known:
        yield Problem("tiers", "is empty", "A plan names at least one tier: [tiers.NAME]")
    for name, tier in tiers.items():
        if tier.name != name:
            yield Problem(f"tiers.{name}", f"holds a tier named {shown(tier.name)}", "Names and keys are the same")
        for tier_name in () if tier.hedge is None else tier.hedge.to:
            yield from tier_problems(f"tiers.{name}.hedge.to", tier_name, known)
    if baseline is not None:
        yield from tier_problems("baseline", baseline, known)
    seen: dict[tuple[object, ...], str] = {}
    for name, workload in workloads.items():
        key = f"workloads.{name}"
        if workload.name != name:
            yield Problem(key, f"holds a workload named {shown(workload.name)}", "Names and keys are the same")
        for tier_name in workload.strategy.tiers:
            yield from tier_problems(f"{key}.strategy.tiers", tier_name, known)
        for tier_name in workload.fallback:
            yield from tier_problems(f"{key}.fallback", tier_name, known)
        if workload.baseline is not None:
            yield from tier_problems(f"{key}.baseline", workload.baseline, known)
        other = seen.setdefault(_match_key(workload.match), name)
        if other != name:
            allowed = "State a condition in one of them that the other does not"
            yield Problem(f"{key}.match", f"is that of the workload {shown(other)}, so that one is never used", allowed)


def tier_problems(key: str, name: str, known: frozenset[str]) -> Iterable[Problem]:
    """Yield a problem where `name` is none of the `known` tiers."""
    if name not in known:
        yield Problem(key, f"names {shown(name)}, which is not a tier", suggest(name, known))


def _match_key(match: Match) -> tuple[object, ...]:
    named = tuple(tuple(sorted(mapping.items())) for mapping in (match.headers, match.metadata))
    return (frozenset(match.models), frozenset(match.keys), frozenset(match.fingerprints), *named)


def _gaps(plan: Plan) -> Iterable[Gap]:
    for name, tier in sorted(plan.tiers.items()):
        where = f"tiers.{name}"
        if tier.price is None:
            what = "list price" if tier.kind == "rented" else "marginal price"
            yield Gap(where=f"{where}.price", message=f"no {what}: what a request is charged is unknown")
        elif tier.price.basis == "assumed":
            yield Gap(where=f"{where}.price", message="the price is assumed")
        if tier.kind == "owned" and tier.loaded_price is None:
            yield Gap(where=f"{where}.loaded_price", message="no fully loaded price: what owning costs is unknown")
        for index, upstream in enumerate(tier.upstreams):
            is_clear = upstream.url is not None and upstream.url.startswith("http:") and not upstream.is_on_site
            if is_clear:
                what = "the key and the data" if upstream.api_key_env else "the data"
                yield Gap(where=f"{where}.upstreams[{index}].url", message=f"{what} travel unencrypted")
    for name, workload in sorted(plan.workloads.items()):
        if workload.floor_fraction is not None and plan.find_baseline(name) is None:
            yield Gap(
                where=f"workloads.{name}.floor_fraction", message="no baseline is named to hold the floor against"
            )
        asked = dict.fromkeys((*workload.strategy.tiers, *workload.fallback))
        barred = [tier for tier in asked if tier in plan.tiers and not workload.label.permits(plan.tiers[tier].place)]
        if barred:
            places = ", ".join(f"{tier} ({plan.tiers[tier].place})" for tier in barred)
            then = ": every request is refused" if len(barred) == len(asked) else ""
            message = f"{workload.label} does not let its data go to {places}{then}"
            yield Gap(where=f"workloads.{name}.label", message=message)
