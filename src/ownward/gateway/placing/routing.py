"""A plan compiled for the hot path: every address, header, bound and name that a request needs, worked out once.

Immutable; a reload makes a new table, and requests in flight keep the one they began with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ownward import __version__
from ownward.core import UsageError
from ownward.gateway.endpoints import COUNT_CHATS, ENDPOINTS, Endpoint
from ownward.gateway.headers import ascii_of
from ownward.gateway.placing.accepting import ANYTHING, Accepting
from ownward.gateway.placing.bounds import ChargeBound
from ownward.gateway.placing.engine_address import Addresses, EngineAddress
from ownward.gateway.placing.engine_quirks import EngineQuirks, quirks_of
from ownward.gateway.placing.strategy import CompiledStrategy, compile_strategy, is_carried_out
from ownward.gateway.placing.substitutes import (
    CHATS_ALONE,
    SubstitutesByNeed,
    find_substitutes,
    find_substitutes_by_need,
)
from ownward.plan import Plan, Tier, Upstream, Workload
from ownward.policy import LOCAL_ONLY, Detectors, Label, Place
from ownward.upstreams import DIRECT, Proxy, Timeouts, Way

BOTH_DIALECTS = frozenset({"openai", "anthropic"})

_ENGINE_STARTING = "its engine failed and is being started again"

_SHORTEST_HIDDEN = 8
"""What is shorter is no secret, as "ollama" is none, and may stand in any text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """One upstream of one tier, ready to be called; `unusable` says why it cannot be, None where it can.

    `key` is `tier/upstream`. `is_starting`: its engine failed and is being started again, so that it is usable soon.
    `streams_whole_answers`: it is asked for a stream where the client wants a whole answer. `substitutes` holds, by the
    client's path, the endpoint that is asked where the upstream does not serve that path, `substitutes_by_need` where
    what it serves there lacks something that a request needs. `lacks` are capabilities that its engine is known not to
    have. `shown_key` finds the key that is sent to it, None where that is no secret; `bound` bounds charges by its
    price, None without one. `answer_headers` name tier and upstream to the client.
    """

    key: str
    name: str
    tier: Tier
    upstream: Upstream
    place: Place
    origin: str
    unusable: str | None
    is_starting: bool
    streams_whole_answers: bool
    dialects: frozenset[str]
    substitutes: Mapping[str, Endpoint]
    substitutes_by_need: SubstitutesByNeed
    lacks: frozenset[str]
    quirks: EngineQuirks
    paths: Mapping[str, str]
    headers: tuple[tuple[bytes, bytes], ...]
    shown_key: re.Pattern[bytes] | None
    answer_headers: tuple[tuple[bytes, bytes], ...]
    timeouts: Timeouts
    way: Way
    bound: ChargeBound | None
    price_id: str | None

    @property
    def counts_tokens(self) -> bool:
        """Whether it serves Anthropic's count_tokens, whatever dialect it is asked for answers in."""
        return self.quirks.counts_message_tokens or "count_tokens" in self.tier.capabilities

    def hide_key(self, said: bytes) -> bytes:
        """Return what an upstream said without the key that is sent to it: some quote it in their errors."""
        return said if self.shown_key is None else self.shown_key.sub(b"[key hidden]", said)

    def quotes_key(self, said: bytes) -> bool:
        """Return whether what an upstream said holds the key that is sent to it."""
        return self.shown_key is not None and self.shown_key.search(said) is not None

    def substitute(self, endpoint: Endpoint, needs: frozenset[str]) -> Endpoint | None:
        """Return the endpoint that is asked instead of the client's, or None where that one is served."""
        if needs and self.substitutes_by_need:
            for need, substitutes in self.substitutes_by_need.items():
                if need in needs and endpoint.path in substitutes:
                    return substitutes[endpoint.path]
        return self.substitutes.get(endpoint.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What is looked for in a request, and where its data may go where it is found."""

    detectors: Detectors
    label: Label


class Memory(dict[Hashable, Any]):
    """A bounded cache of results by what they depend on; clients choose part of the keys."""

    __slots__ = ("_most",)

    def __init__(self, most: int = 8192) -> None:
        """Start empty."""
        super().__init__()
        self._most = most

    def remember(self, key: Hashable, value: object) -> None:
        """Keep `value`; when full, forget everything else."""
        if len(self) >= self._most:
            self.clear()
        self[key] = value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingTable:
    """Everything a request may be matched with.

    `route_names` are all that a client may ask for as `model`: workloads, their declared models, tiers, model ids.
    `has_free_names`: a request may state any name as its workload, since no workload of the plan could be meant by it.
    `prefix_tiers` place by prefix, over several upstreams; of the other tiers with several, `counted` holds the keys of
    the upstreams, of which the one with the fewest calls in flight is taken.
    """

    plan: Plan
    plan_sha256: str
    default_label: Label
    default_label_origin: str
    targets: Mapping[str, tuple[Target, ...]]
    tiers_by_model: Mapping[str, tuple[str, ...]]
    prefix_tiers: frozenset[str]
    counted: frozenset[str]
    needs_metadata: bool
    needs_headers: bool
    needs_fingerprint: bool
    strategies: Mapping[str, CompiledStrategy]
    detection: Mapping[str | None, tuple[Detection, ...]]
    accepts: Accepting
    route_names: tuple[str, ...]
    has_free_names: bool
    memory: Memory = field(default_factory=Memory)

    def accepting(self, model: str, key_id: str | None) -> tuple[tuple[Workload, bool], ...]:
        """Return the workloads whose conditions on model and key hold, the most specific first.

        The flag says that these are all its conditions, so that it is certain to accept.
        """
        found: tuple[tuple[Workload, bool], ...] | None = self.memory.get((model, key_id))
        if found is None:
            found = self.accepts.find(model, key_id)
            self.memory.remember((model, key_id), found)
        return found

    @property
    def ways(self) -> frozenset[Way]:
        """How the upstreams are reached."""
        return frozenset(target.way for targets in self.targets.values() for target in targets)

    @property
    def unusable(self) -> tuple[str, ...]:
        """What an operator should know: upstreams that nothing can be sent to, and why."""
        listed = (target for targets in self.targets.values() for target in targets)
        return tuple(f"upstream {target.key!r}: {target.unusable}" for target in listed if target.unusable)

    def list_models(self, names: Sequence[str], *, is_anthropic: bool) -> bytes:
        """Return the answer to GET /v1/models, in OpenAI's form or Anthropic's."""
        if not is_anthropic:
            return json.dumps({"object": "list", "data": [self.model_record(name) for name in names]}).encode()
        first, last = (names[0], names[-1]) if names else (None, None)
        listed = [anthropic_record(name) for name in names]
        return json.dumps({"data": listed, "has_more": False, "first_id": first, "last_id": last}).encode()

    def model_record(self, name: str, key_id: str | None = None) -> dict[str, object]:
        """Return one entry of the list: what the name stands for, and the tiers behind it for who has this key."""
        workload = self.plan.workloads.get(name)
        if workload is not None:
            kind, tiers = "workload", (*workload.strategy.tiers, *workload.fallback)
        elif name in self.plan.tiers:
            kind, tiers = "tier", (name,)
        else:
            kind, tiers = "model", self.tiers_by_model.get(name, ())
            for accepting, _ in () if tiers else self.accepting(name, key_id)[:1]:
                tiers = (*accepting.strategy.tiers, *accepting.fallback)
        return {"id": name, "object": "model", "created": 0, "owned_by": "ownward", "kind": kind, "tiers": tiers}


def anthropic_record(name: str) -> dict[str, object]:
    """Return one entry of the list in Anthropic's form."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _detection(plan: Plan) -> dict[str | None, tuple[Detection, ...]]:
    """Return what is looked for in requests, by workload, and under None in those of none; empty where nothing is."""
    of_all = _stated_detection(plan)
    found: dict[str | None, tuple[Detection, ...]] = {None: of_all} if of_all else {}
    for name, workload in plan.workloads.items():
        both = of_all + _stated_detection(workload)
        if both:
            found[name] = both
    return found


def _stated_detection(stated: Plan | Workload) -> tuple[Detection, ...]:
    if not stated.detect and not stated.detect_patterns:
        return ()
    detectors = Detectors(kinds=stated.detect, patterns=stated.detect_patterns)
    return (Detection(detectors=detectors, label=stated.detected_label),)


def compile_plan(
    plan: Plan,
    *,
    addresses: Addresses | None = None,
    secrets: Mapping[str, str] | None = None,
) -> RoutingTable:
    """Return the table of `plan`.

    `addresses` holds, by `tier/upstream` or upstream name, where upstreams are whose engine is started by
    `ownward serve`. `secrets` holds the values of the environment variables that the plan names.
    Raises: ConfigError, if a workload's strategy cannot be carried out.
    """
    by_model: dict[str, tuple[str, ...]] = {}
    for tier in plan.tiers.values():
        by_model[tier.model] = (*by_model.get(tier.model, ()), tier.name)
    stated = plan.default_label
    matches = [workload.match for workload in plan.workloads.values()]
    return RoutingTable(
        plan=plan,
        plan_sha256=plan.sha256,
        default_label=LOCAL_ONLY if stated is None else stated,
        default_label_origin="nothing states another" if stated is None else "the plan's default",
        targets={
            tier.name: tuple(_targets(tier, addresses=addresses or {}, secrets=secrets or {}))
            for tier in plan.tiers.values()
        },
        tiers_by_model=by_model,
        strategies={
            workload.name: compile_strategy(workload.strategy, of=workload.name)
            for workload in plan.workloads.values()
            if is_carried_out(workload.strategy)
        },
        prefix_tiers=frozenset(
            tier.name for tier in plan.tiers.values() if tier.balances_by_prefix and len(tier.upstreams) > 1
        ),
        counted=frozenset(
            f"{tier.name}/{upstream.name}"
            for tier in plan.tiers.values()
            if len(tier.upstreams) > 1 and not tier.balances_by_prefix
            for upstream in tier.upstreams
        ),
        detection=_detection(plan),
        accepts=Accepting(plan.workloads_by_specificity),
        route_names=_route_names(plan, by_model),
        has_free_names=all(match == ANYTHING for match in matches),
        needs_metadata=any(match.metadata for match in matches),
        needs_headers=any(match.headers for match in matches),
        needs_fingerprint=any(match.fingerprints for match in matches),
    )


def _route_names(plan: Plan, tiers_by_model: Iterable[str]) -> tuple[str, ...]:
    names: dict[str, None] = dict.fromkeys(plan.workloads)
    for workload in plan.workloads.values():
        names.update(dict.fromkeys(model for model in workload.match.models if "*" not in model))
    names.update(dict.fromkeys(plan.tiers))
    names.update(dict.fromkeys(tiers_by_model))
    return tuple(names)


def _targets(tier: Tier, *, addresses: Addresses, secrets: Mapping[str, str]) -> Iterable[Target]:
    bound = None if tier.price is None else ChargeBound(tier.price)
    for stated in tier.upstreams:
        key = f"{tier.name}/{stated.name}"
        found = addresses.get(key) or addresses.get(stated.name)
        url = stated.url or (found.url if found else None)
        is_starting = url is None and found is not None
        upstream = stated if url == stated.url else replace(stated, url=url)
        quirks = quirks_of(tier.engine)
        dialects = BOTH_DIALECTS if quirks.speaks_both_dialects else frozenset({upstream.dialect})
        secret = secrets.get(upstream.api_key_env) if upstream.api_key_env else None
        way, why_no_way = _find_way(upstream, secrets)
        substitutes = CHATS_ALONE if quirks.takes_chats_only else find_substitutes(tier, upstream, dialects)
        yield Target(
            key=key,
            name=upstream.name,
            tier=tier,
            upstream=upstream,
            place=_place_of(tier, upstream),
            origin=upstream.origin or "",
            unusable=_ENGINE_STARTING if is_starting else _why_unusable(upstream, secret) or why_no_way,
            is_starting=is_starting,
            streams_whole_answers=found is not None and quirks.computes_after_disconnect,
            dialects=dialects,
            substitutes=substitutes,
            substitutes_by_need=find_substitutes_by_need(substitutes, upstream),
            lacks=_find_lacks(tier, quirks, found),
            quirks=quirks,
            paths={path: upstream.compute_target(path) for path in (*ENDPOINTS, COUNT_CHATS.path)},
            headers=tuple(_headers(upstream, secret)),
            shown_key=_spellings_of(secret) if secret and len(secret) >= _SHORTEST_HIDDEN else None,
            answer_headers=(
                (b"x-ownward-tier", ascii_of(tier.name)),
                (b"x-ownward-upstream", ascii_of(upstream.name)),
            ),
            timeouts=Timeouts(
                connect_s=upstream.connect_timeout_s,
                first_byte_s=upstream.first_byte_timeout_s,
                stall_s=upstream.stall_timeout_s,
            ),
            way=way,
            bound=bound,
            price_id=None if tier.price is None else tier.price.price_id,
        )


def _find_lacks(tier: Tier, quirks: EngineQuirks, found: EngineAddress | None) -> frozenset[str]:
    """Return what a tier's engine cannot do as it is started, unless the plan states what it can."""
    if tier.capabilities:
        return quirks.never_has
    lacks = quirks.lacks - {"embeddings"} if tier.engine_options.get("embedding") is True else quirks.lacks
    return quirks.never_has | lacks | (frozenset() if found is None else found.lacks)


def _place_of(tier: Tier, upstream: Upstream) -> Place:
    """Return the tier's place, as far as the address that is known by now bears it out."""
    place = tier.place
    if upstream.is_local:
        return place
    return replace(place, is_local=False, is_on_site=place.is_on_site and upstream.is_on_site)


def _find_way(upstream: Upstream, secrets: Mapping[str, str]) -> tuple[Way, str | None]:
    """Return how the upstream is reached, or why it cannot be; never around a proxy that is stated."""
    variable = upstream.proxy_url_env
    proxy_url = upstream.proxy_url or (secrets.get(variable) if variable else None)
    if variable and not proxy_url:
        return DIRECT, f"the environment variable {variable} is not set"
    try:
        way = Way(
            proxy=Proxy.parse(proxy_url) if proxy_url else None,
            ca_file=_path(upstream.ca_file),
            client_cert_file=_path(upstream.client_cert_file),
            client_key_file=_path(upstream.client_key_file),
        )
    except UsageError as error:
        return DIRECT, f"{variable}: {error}" if variable else str(error)
    return (DIRECT if way.is_direct else way), None


def _path(stated: str | None) -> Path | None:
    return None if stated is None else Path(stated)


def _why_unusable(upstream: Upstream, secret: str | None) -> str | None:
    if upstream.origin is None:
        return "its engine is not running"
    if upstream.api_key_env and not secret:
        return f"the environment variable {upstream.api_key_env} is not set"
    if secret and not secret.isprintable():
        return (
            f"the environment variable {upstream.api_key_env} holds a line break or another sign that no header carries"
        )
    return None


def _spellings_of(secret: str) -> re.Pattern[bytes]:
    r"""Return what finds a secret as it is, and as JSON may spell it, also in a text inside JSON: `\/`, `\u002B`.

    Letters and digits are escaped by nobody.
    """

    def spelled(sign: int) -> bytes:
        literal = re.escape(bytes([sign]))
        return literal if literal.isalnum() else rb"\\{0,4}(?:%b|u00(?i:%02x))" % (literal, sign)

    return re.compile(b"".join(map(spelled, secret.encode())))


def _headers(upstream: Upstream, secret: str | None) -> Iterable[tuple[bytes, bytes]]:
    if "user-agent" not in upstream.headers:  # some services, and what stands before them, refuse who says none
        yield b"user-agent", f"ownward/{__version__}".encode("ascii")
    for name, value in upstream.headers.items():
        yield name.encode("ascii"), value.encode("ascii")
    if secret:
        if upstream.dialect == "anthropic":
            yield b"x-api-key", secret.encode()
        else:
            yield b"authorization", b"Bearer " + secret.encode()
