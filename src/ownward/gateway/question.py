"""One request as it was asked: what it states, its workload and label, and where it may go by which plan.

How it is sent there and answered stands in `exchange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ownward.core import OwnwardError, new_id
from ownward.gateway import peeking
from ownward.gateway.calling.translating import RequestTranslations, TranslatedCall
from ownward.gateway.endpoints import Endpoint
from ownward.gateway.head import head_of
from ownward.gateway.headers import read_headers, texts_of
from ownward.gateway.holding.budgets import task_check
from ownward.gateway.holding.detecting import detect
from ownward.gateway.placing.affinity import Prompt
from ownward.gateway.placing.choice import UNASSIGNED, Asked, Choice, KeyScope
from ownward.gateway.placing.choosing import choose, find_to_translate
from ownward.gateway.placing.matching import find_detection, name_refused
from ownward.gateway.placing.routing import RoutingTable, Target
from ownward.ledger import BudgetCheck, Request, TaskBasis
from ownward.policy import LOCAL_ONLY, Label
from ownward.upstreams import UNREADABLE

if TYPE_CHECKING:
    from ownward.gateway.asgi import Headers, Scope
    from ownward.gateway.commons import Commons
    from ownward.gateway.keeping.responses import Keeping
    from ownward.upstreams import translation


class Question:
    """What one client asks; `heeded` is the newest plan by which its label holds."""

    __slots__ = (
        "_listed",
        "_peeked",
        "_translations",
        "body",
        "choice",
        "endpoint",
        "gateway",
        "head",
        "headers",
        "heeded",
        "is_beta",
        "is_stream",
        "keeping",
        "key",
        "label",
        "needs",
        "outcome",
        "prompt",
        "request",
        "request_id",
        "route",
        "started_s",
        "table",
        "task_basis",
        "task_budget",
        "task_id",
        "translated",
        "workload",
    )

    def __init__(self, gateway: Commons, endpoint: Endpoint, scope: Scope) -> None:
        """Begin; its body is not read yet."""
        self.gateway = gateway
        self.table: RoutingTable = gateway.table
        self.heeded = self.table
        self.outcome = ""
        self.endpoint = endpoint
        self.is_beta = endpoint.dialect == "anthropic" and b"beta=true" in scope.get("query_string", b"").split(b"&")
        self._listed: Headers = scope["headers"]  # all of them: `head` may leave the length out
        self.head = head_of(scope)
        self.headers = self.head.headers
        self.request_id = new_id("req_", random_bits=gateway.random_bits(128))
        self.started_s = gateway.clock.monotonic_s()
        self.body = b""
        self.key: KeyScope | None = None
        self.request: Request | None = None
        self.choice: Choice | None = None
        self.task_id = self.request_id
        self.task_budget: BudgetCheck | None = None
        self.task_basis: TaskBasis = "single"
        self.route = ""
        self.workload = UNASSIGNED
        self.label: Label = LOCAL_ONLY
        self.is_stream = False
        self.needs: frozenset[str] = frozenset()
        self.translated: dict[str, TranslatedCall] = {}  # by target: its last call in another dialect
        self.keeping: Keeping | None = None
        self.prompt: Prompt | None = None
        self._peeked: peeking.Peeked | None = None
        self._translations: RequestTranslations | None = None

    # What it states.

    def read(self, peeked: peeking.Peeked) -> Asked:
        """Return what the request states, to be chosen by.

        Raises: MalformedRequest.
        """
        own = self.head.read_own()
        self._peeked = peeked
        self.route = peeked.model or ""
        self.is_stream = peeked.stream is True and self.endpoint.has_output
        if own.task is not None:
            self.task_id, self.task_basis = own.task
        self.workload = own.workload or UNASSIGNED
        self.needs = peeked.needs(self.body)
        return self._asked_by(self.table, peeked)

    def _asked_by(self, table: RoutingTable, peeked: peeking.Peeked) -> Asked:
        """Return what the request states, with all that a plan's match rules look at.

        Not to be kept here: it leads back to this question, which would outlive its request.
        """
        own = self.head.read_own()
        return Asked(
            endpoint=self.endpoint,
            model=self.route,
            workload=None if own.workload == UNASSIGNED else own.workload,
            tier=own.tier,
            label=own.label,
            key=self.key,
            headers=texts_of(read_headers(self._listed)) if table.needs_headers else None,
            metadata=peeked.texts_of_metadata() if table.needs_metadata else None,
            fingerprint=self._fingerprint() if table.needs_fingerprint else None,
            needs=self.needs,
            inherited=None if self.keeping is None else self.keeping.label,
            why_untranslatable=self._why_untranslatable,
        )

    def _fingerprint(self) -> str | None:
        try:
            body = msgspec.json.decode(self.body)
        except UNREADABLE:
            return None
        return self.gateway.sketcher.fingerprint(body) if isinstance(body, dict) else None

    async def detect(self, asked: Asked, table: RoutingTable) -> Asked:
        """Return the request with what its workload's detectors find in it, by a plan."""
        detections = find_detection(asked, table)
        found = await detect(self.body, detections, budget_s=self.gateway.settings.detect_cpu_s)
        for one in found:
            self.gateway.counting.metrics.detected.add((one.name,))
        return msgspec.structs.replace(asked, found=tuple(found)) if found else asked

    @property
    def is_unkept(self) -> bool:
        """Whether the request says that its answer is not to be kept upstream."""
        return self._peeked is not None and bytes(self._peeked.store) == b"false"

    def ledger_request(self, reason: str) -> Request:
        """Return the request's row, as far as it is known by now."""
        return Request(
            request_id=self.request_id,
            task_id=self.task_id,
            task_basis=self.task_basis,
            workload=self.workload,
            route=self.route,
            key_id=None if self.key is None else self.key.key_id,
            label=str(self.label),
            dialect=self.endpoint.dialect,
            is_stream=self.is_stream,
            plan_sha256=self.table.plan_sha256,
            reason=reason,
            started_at=self.gateway.clock.now(),
        )

    # Where it may go.

    async def translate_ahead(self, asked: Asked) -> None:
        """Translate a long request for the targets that `choose` considers; others are served in between."""
        try:
            targets = find_to_translate(asked, self.table)
        except OwnwardError:
            return  # `choose` says so
        for target in targets:
            await self._find_translations().prepare(target)

    def choose(self, asked: Asked, peeked: peeking.Peeked) -> Choice:
        """Return the candidates in order, and note workload, label and reason.

        Raises: UnknownRoute, OutOfScope, PolicyRefusal, Incapable, NoUpstream.
        """
        gateway, table = self.gateway, self.table
        if table.prefix_tiers and self.prompt is None:
            self.prompt = Prompt(*peeked.parts_of_prompt())
        try:
            choice = choose(
                asked,
                table,
                breakers=gateway.health.breakers,
                in_flight=gateway.in_flight,
                full_tiers=gateway.full_tiers,
                now_s=self.started_s,
                by_prefix=None if self.prompt is None else self._order,
                peer_load=gateway.peer_load.totals,
            )
        except OwnwardError:
            self.workload, self.label = name_refused(asked, table)
            raise
        self.choice = choice
        self.workload = choice.workload
        self.label = choice.label
        self.task_budget = task_check(
            self.task_id, declared=choice.declared, asked_usd=self.head.read_own().task_budget_usd
        )
        self.request = self.ledger_request(choice.reason)
        return choice

    def add_reason(self, why: str) -> None:
        """Add to the reason why the request went where it did, on its row too, as far as that is not written yet."""
        self.outcome += f"; {why}"
        if self.request is not None:
            self.request = msgspec.structs.replace(self.request, reason=f"{self.request.reason}; {why}")

    def _order(self, targets: Sequence[Target]) -> tuple[list[Target], str]:
        assert self.prompt is not None
        return self.gateway.prefixes.order(targets, self.prompt, self.gateway.in_flight)

    async def heed_new_plan(self) -> None:
        """Where a plan was loaded since, shrink the label to what it permits too, its detectors included."""
        while (table := self.gateway.table) is not self.heeded:
            assert self._peeked is not None
            asked = await self.detect(self._asked_by(table, self._peeked), table)
            self.label = self.label.meet(name_refused(asked, table)[1])
            self.heeded = table

    def may_still_go(self, target: Target) -> bool:
        """Return whether every plan in question permits the target: the one it was routed by, and the newest."""
        table = self.heeded
        if table is self.table:
            return True
        now = [other for other in table.targets.get(target.tier.name, ()) if other.key == target.key]
        return all(self.label.permits(one.place) for one in (target, *now))

    # In which dialect.

    async def translate(self, target: Target, body: bytes) -> TranslatedCall:
        """Return the request translated for an upstream of another dialect; others are served meanwhile.

        Raises: Incapable.
        """
        translated = self.translated[target.key] = await self._find_translations().translate(target, body)
        return translated

    def _why_untranslatable(self, target: Target) -> translation.Untranslatable | None:
        return self._find_translations().why_untranslatable(target)

    def _find_translations(self) -> RequestTranslations:
        if self._translations is None:
            self._translations = RequestTranslations(
                self.endpoint,
                self._body_for,
                self.needs,
                request_id=self.request_id,
                system_first=self.gateway.learned.refuses_later_system,
            )
        return self._translations

    def _body_for(self, target: Target) -> bytes:
        return self.body if self.keeping is None else self.keeping.body_for(target)
