"""The state machine: requests of every kind, while plans, keys, names and upstreams change beneath them."""

# ruff: noqa: D102, D401 - rules are named for what happens
from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from benchmarks.sovereignty.lab import Case, Ground, Lab, Leak
from benchmarks.sovereignty.network import BEHAVIOURS, HEALTHY
from benchmarks.sovereignty.world import (
    ANYWHERE,
    HEDGE_AFTER_S,
    HERE,
    MOVES,
    NAMES,
    PROVIDERS,
    REGIONS,
    SPILLS_AFTER_S,
    SPOTS,
    STRATEGIES,
    TIER_COUNTS,
    Alternative,
    Book,
    Spot,
    Stated,
    Work,
    permits,
    text_of,
)  # fmt: skip
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ownward.core import OwnwardError
from ownward.policy import ANY, LOCAL_ONLY, Label, Place, issue_permit

NAMES_OF_SPOTS = tuple(spot.name for spot in SPOTS)
PATHS = (
    "/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions", "/v1/messages", "/v1/completions",
    "/v1/responses", "/v1/embeddings", "/v1/messages/count_tokens",
)  # fmt: skip

PLAINLY: dict[str, Any] = {"by": "model", "pin": False, "headers": [], "spoils": None, "leaves_after": None}
"""A request that is chosen for by its workload alone."""

alternatives = st.builds(
    Alternative,
    region=st.sampled_from((None, *REGIONS)),
    provider=st.sampled_from((None, None, *PROVIDERS)),
    site=st.sampled_from((False, False, True)),
)
some_places = st.lists(alternatives.filter(lambda one: one != Alternative()), min_size=1, max_size=3).map(tuple)
labels = st.one_of(st.just(ANYWHERE), st.just(ANYWHERE), some_places, some_places, some_places, st.just(HERE))
styles = st.integers(0, 29)


troubles = st.dictionaries(st.sampled_from(NAMES_OF_SPOTS), st.sampled_from(BEHAVIOURS), min_size=2, max_size=7)


@st.composite
def works(draw: st.DrawFn, name: str) -> Work:
    """Draw a workload: a strategy over some tiers, others behind them."""
    strategy = draw(st.sampled_from(STRATEGIES))
    names = draw(st.lists(st.sampled_from(NAMES_OF_SPOTS), min_size=TIER_COUNTS[strategy], max_size=5, unique=True))
    count = TIER_COUNTS[strategy]
    return Work(
        name=name,
        label=draw(st.one_of(labels, labels, st.none())),
        strategy=strategy,
        tiers=tuple(names[:count]),
        fallback=tuple(names[count:]),
        detected=draw(st.one_of(st.none(), st.none(), labels)),
        captures=draw(st.sampled_from((False, False, False, True))),
        spill_after_s=draw(st.sampled_from(SPILLS_AFTER_S)),
        style=draw(styles),
    )


@st.composite
def books(draw: st.DrawFn) -> Book:
    """Draw a plan; a tier may state another region or provider than usual."""
    spots = list(SPOTS)
    for index in draw(st.lists(st.integers(0, len(SPOTS) - 1), max_size=2, unique=True)):
        spots[index] = replace(
            spots[index],
            region=draw(st.sampled_from((None, *REGIONS, "EU"))),
            provider=draw(st.sampled_from((None, *PROVIDERS))),
        )
        region = spots[index].region
        spots[index] = replace(spots[index], region=None if region is None else region.lower())
    return Book(
        default=draw(st.one_of(labels, labels, st.none())),
        works=tuple(draw(works(f"w{number}")) for number in range(4)),
        spots=tuple(spots),
        detected=draw(st.one_of(st.none(), st.none(), labels)),
        hedging=draw(st.one_of(st.just(frozenset(NAMES_OF_SPOTS)), st.frozensets(st.sampled_from(NAMES_OF_SPOTS)))),
        hedges_to=draw(st.sampled_from((NAMES_OF_SPOTS, NAMES_OF_SPOTS, (), NAMES_OF_SPOTS[:5]))),
        narrow=draw(st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(NAMES_OF_SPOTS)))),
        style=draw(styles),
    )


@st.composite
def books_after(draw: st.DrawFn, before: Book) -> Book:
    """Draw a plan that differs from another in what its labels, its detectors or its tiers' places say."""
    spots = list(before.spots)
    for index in draw(st.lists(st.integers(0, len(spots) - 1), max_size=3, unique=True)):
        region = draw(st.sampled_from((None, *REGIONS)))
        spots[index] = replace(spots[index], region=region, provider=draw(st.sampled_from((None, *PROVIDERS))))
    relabels = draw(st.booleans())
    return replace(
        before,
        works=tuple(replace(one, label=draw(labels) if relabels else one.label) for one in before.works),
        detected=draw(st.one_of(st.just(before.detected), labels)),
        spots=tuple(spots),
        by_name={},
    )


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a client states: how it names what it wants, its labels, its key, and how it behaves."""
    return {
        "path": draw(st.sampled_from(PATHS)),
        "by": draw(
            st.sampled_from(("model", "model", "header", "match", "tier model", "tier", "unknown name", "nothing"))
        ),
        "work": draw(st.integers(0, 3)),
        "tier": draw(st.sampled_from(NAMES_OF_SPOTS)),
        "pin": draw(st.sampled_from((False, False, False, True))),
        "headers": draw(
            st.sampled_from((0, 0, 0, 1, 1, 2)).flatmap(lambda n: st.lists(labels, min_size=n, max_size=n))
        ),
        "style": draw(styles),
        "spoils": draw(st.sampled_from((None,) * 26 + ("eu,any", "any|local_only", "", "*"))),
        "key": draw(st.sampled_from((1, 1, 1, 2, 2, 2, 3, 3, 3, 1, 2, 3, 4, 0))),
        "is_stream": draw(st.booleans()),
        "names_somebody": draw(st.sampled_from((False, False, True))),
        "leaves_after": draw(st.sampled_from((None,) * 8 + (0, 2, 5, 9))),
        "goes_on": draw(st.sampled_from((None, 0, 0, 1, 2, 3))),
    }


class Sovereignty(RuleBasedStateMachine):
    """Whatever happens: words arrive only where their label lets them, and stay out of logs, pages and ledger."""

    ground: Ground

    @initialize(book=books(), requires_keys=st.booleans(), behaviours=troubles)
    def begin(self, book: Book, requires_keys: bool, behaviours: dict[str, str]) -> None:
        self.keys: list[tuple[str, str, Stated | None, frozenset[str] | None]] = []
        self.revoked: set[str] = set()
        self.kept: list[Case] = []
        self.lab = Lab(self.ground, book, requires_keys=requires_keys)
        self.lab.run(self.lab.gateway.start())
        self.let_hosts_behave(behaviours, "relay")
        if requires_keys:
            self._make_key(None, None, 0)

    def teardown(self) -> None:
        if hasattr(self, "lab"):
            self.lab.end()
            self.ground.counts["runs"] += 1

    # What clients do.

    @rule(drawn=st.lists(requests(), min_size=2, max_size=6))
    def ask(self, drawn: list[dict[str, Any]]) -> None:
        cases = [self._prepare(one) for one in drawn]

        async def at_once() -> None:
            await asyncio.gather(*(self.lab.ask(case, **sent) for case, sent, _ in cases))

        self.lab.run(at_once())
        for case, _, expected in cases:
            self._judge(case, expected)

    @rule(drawn=st.lists(requests(), min_size=2, max_size=6))
    def ask_more(self, drawn: list[dict[str, Any]]) -> None:
        self.ask(drawn)

    @rule(drawn=st.lists(requests(), min_size=2, max_size=6))
    def ask_again(self, drawn: list[dict[str, Any]]) -> None:
        self.ask(drawn)

    @rule(drawn=st.lists(requests(), min_size=2, max_size=5))
    def talk(self, drawn: list[dict[str, Any]]) -> None:
        """One turn after another by who may continue, each as strictly and at as many tiers as it likes."""
        for one in drawn:
            by = one["by"] if one["by"] not in {"nothing", "unknown name"} else "tier"
            changes = {"path": "/v1/responses", "spoils": None, "leaves_after": None, "is_owner": True, "by": by}
            self.ask([{**one, **changes}])

    @rule(
        book=books(),
        drawn=st.lists(requests(), min_size=3, max_size=6),
        all_are_late=st.sampled_from((False, False, False, True)),
        others=st.sampled_from(("ok", "ok", "ok", "echo", "500", "400", "reset", "error_stream")),
    )
    def ask_while_some_are_late(self, book: Book, drawn: list[dict[str, Any]], all_are_late: bool, others: str) -> None:
        """Second calls are sent, and come first, or fail."""
        works = tuple(
            replace(work, label=ANYWHERE) if number % 2 else work for number, work in enumerate(_directly(book).works)
        )
        self.let_all_be_well()
        self.reload(replace(book, works=works, hedging=frozenset(NAMES_OF_SPOTS)))
        for name in NAMES_OF_SPOTS:
            is_late = all_are_late or any(name in work.tiers for work in works)
            self.lab.network.hosts[name].behaviour = "late" if is_late else others
        self.ask([one | PLAINLY for one in drawn])

    @rule(
        book=books(),
        drawn=st.lists(requests(), min_size=3, max_size=6),
        work=st.integers(0, 3),
        after_s=st.sampled_from(SPILLS_AFTER_S[1:]),
    )
    def ask_while_tiers_are_full(self, book: Book, drawn: list[dict[str, Any]], work: int, after_s: float) -> None:
        """Requests of one workload come at once to tiers of one place each: some spill, within their label."""
        self.let_all_be_well()
        self.reload(replace(_directly(book, spill_after_s=after_s), narrow=frozenset(NAMES_OF_SPOTS)))
        for host in self.lab.network.hosts.values():
            host.behaviour = "late"
        self.ask([one | PLAINLY | {"work": work} for one in drawn])
        self.let_all_be_well()

    @rule(
        book=books(),
        drawn=st.lists(requests(), min_size=4, max_size=4),
        work=st.integers(0, 3),
        before=st.sampled_from(("500", "refused", "reset")),
        after=st.sampled_from(("ok", "500", "echo")),
    )
    def ask_while_all_are_down(
        self, book: Book, drawn: list[dict[str, Any]], work: int, before: str, after: str
    ) -> None:
        """All that a workload may be served by fails and is left alone: what comes then is a probe of these alone."""
        self.let_all_be_well()
        self.reload(replace(_directly(book, spill_after_s=None), narrow=frozenset()))
        cases = [one | PLAINLY | {"work": work} for one in drawn]
        for behaviour in (before, after):
            for host in self.lab.network.hosts.values():
                host.behaviour = behaviour
            self.ask(cases)
            self.lab.clock.advance(0.3)  # a probe may be sent, and the breakers' waits are not over
        self.let_all_be_well()

    @rule(drawn=requests(), outcome=st.sampled_from(BEHAVIOURS), between=st.data())
    def ask_and_change_everything_meanwhile(self, drawn: dict[str, Any], outcome: str, between: st.DataObject) -> None:
        """A request is under way while its plan shrinks, its key is revoked or names move; then its upstream fails.

        What is sent after a plan was loaded has to be permitted by that one too.
        """
        lab = self.lab
        if between.draw(st.integers(0, 3), label="as drawn") > 0:
            drawn = {**drawn, **PLAINLY}
        case, sent, _ = self._prepare({**drawn, "leaves_after": None})
        hosts = [host for host in lab.network.hosts.values() if host.name in case.allowed]
        for host in hosts:
            host.holds = True
        task = lab.ground.loop.create_task(lab.ask(case, **sent))
        lab.tasks.append(task)
        lab.run(lab.until(lambda: task.done() or any(host.held for host in hosts)))
        match between.draw(st.sampled_from(("reload", "reload", "revoke", "move", "nothing")), label="meanwhile"):
            case "reload":
                old = lab.book
                self.reload(between.draw(st.one_of(books_after(old), books_after(old), books()), label="the new plan"))
                self._narrow(case, drawn, old)
            case "revoke" if self.keys:
                self.revoke_key(between.draw(st.integers(0, 9), label="key"))
            case "move":
                self.move_a_name(between.draw(st.sampled_from(MOVES), label="move"))
            case _:
                pass
        if between.draw(st.booleans(), label="until a second call is sent"):
            lab.run(asyncio.sleep(5 * HEDGE_AFTER_S))
        held = [(host, host.behaviour, answers) for host in hosts if (answers := list(host.held))]
        for host in hosts:
            host.holds = False
            host.held.clear()
        for host, _, answers in held:
            host.behaviour = outcome
            for answer in answers:
                lab.ground.loop.call_soon(answer)
        lab.run(asyncio.sleep(0))
        for host, before, _ in held:
            host.behaviour = before
        lab.run(asyncio.wait_for(asyncio.shield(task), 10))
        self.ground.counts["cases"] += 1

    @rule(drawn=requests(), outcome=st.sampled_from(BEHAVIOURS), between=st.data())
    def ask_and_change_everything_once_more(self, drawn: dict[str, Any], outcome: str, between: st.DataObject) -> None:
        self.ask_and_change_everything_meanwhile(drawn, outcome, between)

    @precondition(lambda self: self.kept)
    @rule(index=st.integers(0, 9), key=st.integers(0, 9), how=st.sampled_from(("GET", "GET", "items", "DELETE")))
    def look_at_a_kept_response(self, index: int, key: int, how: str) -> None:
        """Whoever was answered reads and deletes it; to everybody else it does not exist."""
        case = self.kept[-1 - index % len(self.kept)]
        secret = self.keys[key % len(self.keys)][1] if self.lab.requires_keys else None
        path = f"/v1/responses/{case.response_id}" + ("/input_items" if how == "items" else "")
        is_mine = secret == case.secret
        told = {turn.number for turn in case.turns} if is_mine else set()
        status = self.lab.run(
            self.lab.look(path, secret=secret, method="DELETE" if how == "DELETE" else "GET", told=told)
        )
        expected = 401 if secret is not None and secret in self.revoked else 200 if is_mine else 404
        if status != expected:
            raise AssertionError(f"{how} of the response to request {case.number} is {status}, not {expected}")
        if how == "DELETE" and status == 200:
            self.kept = [one for one in self.kept if case not in one.turns]
        self.ground.counts[f"kept responses asked for: {expected}"] += 1

    @rule(page=st.sampled_from(("/metrics", "/v1/models", "/healthz", "/readyz", "/v1/nothing", "/v1/models/w0")))
    def look_at_a_page(self, page: str) -> None:
        secret = self.keys[0][1] if self.keys else None
        self.lab.run(self.lab.look(page, secret=secret))
        self.ground.counts["pages read"] += 1

    @rule(words=st.sampled_from(('{"completed": true, "comment": "fine"}', '{"HIDDEN0": 1}', "{", '{"completed": 5}')))
    def state_an_outcome(self, words: str) -> None:
        secret = self.keys[0][1] if self.keys else None
        body = words.replace("HIDDEN0", "unknown").encode()
        self.lab.run(self.lab.look("/v1/tasks/t-1/outcome", secret=secret, method="POST", body=body))

    # What operators do.

    @rule(book=books())
    def reload(self, book: Book) -> None:
        self.lab.book = book
        self.lab.run(self.lab.gateway.reload(self.ground.plan(book)))
        self.lab.earn_second_calls()
        self.ground.counts["plans reloaded"] += 1

    @precondition(lambda self: len(self.keys) < 8)
    @rule(
        label=st.none() | labels,
        tiers=st.one_of(st.none(), st.none(), st.frozensets(st.sampled_from(NAMES_OF_SPOTS), max_size=6)),
        style=styles,
    )
    def make_a_key(self, label: Stated | None, tiers: frozenset[str] | None, style: int) -> None:
        self._make_key(label, tiers, style)

    @precondition(lambda self: self.keys)
    @rule(index=st.integers(0, 9))
    def revoke_key(self, index: int) -> None:
        key_id, secret, _, _ = self.keys[index % len(self.keys)]
        if secret not in self.revoked:
            self.lab.ledger.revoke_key(key_id)
            self.revoked.add(secret)
            self.ground.counts["keys revoked"] += 1
        self.lab.clock.advance(0.01)  # keys are remembered for no time at all, on a clock that moves by hand

    # What the world does.

    @rule(behaviours=troubles, leads_to=st.sampled_from(NAMES_OF_SPOTS))
    def let_hosts_behave(self, behaviours: dict[str, str], leads_to: str) -> None:
        for name, behaviour in behaviours.items():
            host = self.lab.network.hosts[name]
            host.behaviour, host.leads_to = behaviour, leads_to

    @rule()
    def let_all_be_well(self) -> None:
        for host in self.lab.network.hosts.values():
            host.behaviour = "ok"
        self.lab.network.names = {name: list(addresses) for name, addresses in NAMES.items()}

    @rule(move=st.sampled_from(MOVES))
    def move_a_name(self, move: tuple[str, tuple[str, ...]]) -> None:
        self.lab.network.names[move[0]] = list(move[1])
        self.ground.counts["names moved"] += 1
        self.lab.run(self._drop_idle())

    @rule(seconds=st.sampled_from((0.5, 2.0, 70.0)))
    def let_time_pass(self, seconds: float) -> None:
        self.lab.clock.advance(seconds)

    @rule(
        kind=st.sampled_from(("other body", "no permit", "look-alike", "tampered label", "issue")),
        spot=st.sampled_from(SPOTS),
    )
    def go_to_the_door_without_leave(self, kind: str, spot: Spot) -> None:
        """What a mistake of our own would look like."""
        self.ground.numbers += 1
        body = b'{"words": "CANARY%dZ"}' % self.ground.numbers
        place = Place(region=spot.region, provider=spot.provider)

        async def knock() -> None:
            permit: Any = issue_permit(label=ANY, place=place, upstream=spot.name, origin=spot.url, body=body)
            sent = body
            if kind == "other body":
                sent = body + b" "
            elif kind == "no permit":
                permit = None
            elif kind == "look-alike":
                permit = _LookAlike(permit)
            elif kind == "tampered label":
                object.__setattr__(permit, "label", LOCAL_ONLY)
            else:
                issue_permit(label=LOCAL_ONLY, place=place, upstream=spot.name, origin=spot.url, body=body)
            await super(type(self.lab.door), self.lab.door).send(
                permit, method="POST", target="/", headers=(), body=sent
            )

        try:
            self.lab.run(knock())
        except OwnwardError:
            self.ground.counts["knocks refused"] += 1
            return
        raise Leak(f"the door let a call through: {kind}")

    # Preparing and judging.

    def _make_key(self, label: Stated | None, tiers: frozenset[str] | None, style: int) -> None:
        scopes: dict[str, Any] = {}
        if label is not None:
            scopes["label"] = text_of(label, style=style)
        if tiers is not None:
            scopes["tiers"] = sorted(tiers)
        secret = self.lab.ledger.create_key("k", scopes)
        key = self.lab.ledger.verify_key(secret)
        assert key is not None
        self.ground.note_secret(secret)
        self.keys.append((key.key_id, secret, label, tiers))

    async def _drop_idle(self) -> None:
        """Have kept connections closed by their hosts, so that names are asked for again."""
        transport = self.lab.door._transport  # noqa: SLF001 - hosts would do it within seconds
        for connection in list(transport._connections):  # type: ignore[attr-defined]  # noqa: SLF001
            if not connection.is_busy():
                connection.abort()
        await asyncio.sleep(0)

    def _prepare(self, drawn: dict[str, Any]) -> tuple[Case, dict[str, Any], str]:
        """Return a case, what to send, and what must come of it: "served", "refused", "401", "400" or "anything"."""
        lab, book = self.lab, self.lab.book
        self.ground.numbers += 1
        number = self.ground.numbers
        canary, hidden = f"CANARY{number}Z", f"HIDDEN{number}Z"
        headers, model, metadata, work = self._address(drawn, hidden)
        tiers = (drawn["tier"],) if drawn["pin"] or work is None else (*work.tiers, *work.fallback)
        if drawn["pin"]:
            headers.append((b"x-ownward-tier", drawn["tier"].encode()))
        stated = [book.label_of(work)]
        headers += [(b"x-ownward-label", text_of(label, style=drawn["style"]).encode()) for label in drawn["headers"]]
        stated += drawn["headers"]
        if drawn["spoils"] is not None:
            headers.append((b"x-ownward-label", drawn["spoils"].encode()))
        before = None
        if drawn["path"].endswith("/responses") and drawn["goes_on"] is not None and self.kept:
            before = self.kept[-1 - drawn["goes_on"] % len(self.kept)]
        secret = None
        if lab.requires_keys and drawn.get("is_owner") and before is not None:
            _, secret, key_label, key_tiers = next(key for key in self.keys if key[1] == before.secret)
        elif lab.requires_keys and drawn["key"]:
            keys = [key for key in self.keys if key[1] not in self.revoked or drawn["key"] == 4] or self.keys
            _, secret, key_label, key_tiers = keys[drawn["key"] % len(keys)]
        if secret is not None:
            headers.append((b"authorization", b"Bearer " + secret.encode()))
            stated += [] if key_label is None else [key_label]
            tiers = tuple(name for name in tiers if key_tiers is None or name in key_tiers)
        is_mine = before is not None and before.secret == secret
        earlier = before.turns if before is not None and is_mine else ()
        names_somebody = drawn["names_somebody"] or any(turn.names_somebody for turn in earlier)
        if names_somebody:
            stated += book.detected_in(work)
        stated += [label for turn in earlier for label in turn.label]
        spots = [book.by_name[name] for name in tiers if name in book.by_name]
        allowed = [spot for spot in spots if all(permits(label, spot.where) for label in stated)]
        case = Case(
            number=number,
            allowed=frozenset(spot.host for spot in allowed),
            label=tuple(stated),
            secret=secret,
            is_captured=work is not None and work.captures,
            names_somebody=drawn["names_somebody"],
            is_barred=len(allowed) < len(spots),
            earlier=earlier,
        )
        for turn in earlier:
            turn.allowed |= case.allowed
            turn.is_captured |= case.is_captured
        expected = self._expect(drawn, secret, model, work, allowed)
        if before is not None and not is_mine and expected != "401":
            expected = "400"
        if expected in {"401", "400", "404"}:
            case.allowed = frozenset()
        if earlier:
            self.ground.counts["cases that continue others"] += 1
            self.ground.counts["cases whose earlier turns forbid a tier"] += any(
                not permits(label, spot.where) for spot in spots for turn in earlier for label in turn.label
            )
        self.ground.counts["cases whose label forbids a tier"] += case.is_barred
        body = _body(drawn, model, metadata, canary, before)
        sent = {"path": drawn["path"], "headers": headers, "body": body, "leaves_after": drawn["leaves_after"]}
        return case, sent, expected

    def _narrow(self, case: Case, drawn: dict[str, Any], old: Book) -> None:
        """Have a case hold for what is sent from now on, under both plans."""
        new = self.lab.book
        _, _, _, work = self._address(drawn, f"HIDDEN{case.number}Z")
        stated = [new.label_of(work)]
        if any(turn.names_somebody for turn in case.turns):  # its detectors read the earlier turns too
            stated += new.detected_in(work)
        case.label = (*case.label, *stated)
        case.allowed = frozenset(
            host
            for host in case.allowed
            if all(
                permits(label, spot.where)
                for label in case.label
                for spot in (*old.spots, *new.spots)
                if spot.host == host
            )
        )

    def _address(
        self, drawn: dict[str, Any], hidden: str
    ) -> tuple[list[tuple[bytes, bytes]], str, dict[str, str], Work | None]:
        """Return headers, model and metadata by which the gateway finds the workload, and the workload."""
        book = self.lab.book
        work: Work | None = book.works[drawn["work"]]
        assert work is not None
        canary = hidden.replace("HIDDEN", "CANARY").encode()
        headers = [
            (b"content-type", b"application/json"), (b"cookie", hidden.encode()), (b"x-private", hidden.encode()),
            (b"user-agent", hidden.encode()), (b"x-forwarded-for", hidden.encode()), (b"host", b"127.0.0.1:9001"),
            (b"x-forwarded-host", b"localhost"), (b"anthropic-beta", canary), (b"proxy-authorization", hidden.encode()),
        ]  # fmt: skip
        metadata = {"note": canary.decode()}
        match drawn["by"]:
            case "model":
                return headers, work.name, metadata, work
            case "header":
                return [*headers, (b"x-ownward-workload", work.name.encode())], "anything", metadata, work
            case "match":
                match = work.match
                if "metadata" in match:
                    return headers, "anything", metadata | match["metadata"], work
                if "headers" in match:
                    return [*headers, (b"x-app", b"two")], "anything", metadata, work
                return headers, match["models"][0].replace("*", "4o"), metadata, work
            case "tier model":
                return headers, f"{drawn['tier']}-model", metadata, None
            case "tier":
                return headers, drawn["tier"], metadata, None
            case "unknown name":
                # A workload that the plan does not have, as a misspelt one: it has no label to be served by.
                return [*headers, (b"x-ownward-workload", b"elsewhere")], drawn["tier"], metadata, None
            case _:
                return headers, "no-such-model", metadata, None

    def _expect(
        self, drawn: dict[str, Any], secret: str | None, model: str, work: Work | None, allowed: list[Spot]
    ) -> str:
        lab = self.lab
        if lab.requires_keys and (secret is None or secret in self.revoked):
            return "401"
        if drawn["spoils"] is not None:
            return "400"
        if drawn["by"] == "unknown name" or (work is None and model == "no-such-model" and not drawn["pin"]):
            return "404"
        if not allowed:
            return "refused"
        if drawn["leaves_after"] is not None or lab.network.names != NAMES:
            return "anything"
        dialect = "anthropic" if "messages" in drawn["path"] else "openai"
        fit = [spot for spot in allowed if spot.engine in {"llama-server", "vllm"} or spot.dialect == dialect]
        if drawn["path"].endswith(("/responses", "/messages", "/count_tokens")):  # llama.cpp knows these as chats alone
            fit = [spot for spot in fit if spot.engine != "llama-server"]
        is_simple = (
            drawn["pin"] or work is None or work.strategy == "direct" or drawn["path"].endswith("chat/completions")
        )
        hosts = lab.network.hosts
        is_calm = all(
            hosts[spot.host].behaviour in HEALTHY and f"{spot.name}/{spot.name}" not in lab.gateway.health.breakers
            for spot in allowed
        )
        if fit == allowed and is_simple and is_calm:
            return "served"
        return "anything"

    def _judge(self, case: Case, expected: str) -> None:
        counts = self.ground.counts
        counts["cases"] += 1
        counts[f"expected: {expected}"] += 1
        if (name := case.kept_as) is not None:
            case.response_id = name
            self.kept.append(case)
        if len(set(case.heard_at)) > 1:
            counts["cases that reached several places"] += 1
        for what, said in (("spilled", b", spilled to "), ("probed early", b" (a probe: nothing else is up)")):
            counts[f"cases that {what}"] += said in case.answer
            counts[f"cases that {what} whose label forbids a tier"] += case.is_barred and said in case.answer
        if expected in {"401", "400", "404"} and case.status != int(expected):
            raise AssertionError(f"request {case.number} should be {expected} and is {case.status}: {case.answer!r}")
        if expected == "refused" and case.status not in {403, 499, 0}:
            raise AssertionError(f"request {case.number} may go nowhere and is answered {case.status}: {case.answer!r}")
        if expected == "served" and case.status != 200:
            raise AssertionError(f"request {case.number} may be served and is {case.status}: {case.answer!r}")
        if expected not in {"served", "anything"} and case.heard_at:
            raise Leak(f"request {case.number} is {expected} and was heard at {case.heard_at}")


def _directly(book: Book, **more: Any) -> Book:
    """Return a plan with the same labels and tiers, and neither strategies nor second calls, and `more` of each."""
    works = tuple(
        replace(work, strategy="direct", tiers=work.tiers[:1], fallback=(*work.tiers[1:], *work.fallback), **more)
        for work in book.works
    )
    return replace(book, works=works, hedging=frozenset())


class _LookAlike:
    """What has all of a permit and is none."""

    def __init__(self, permit: Any) -> None:
        for name in ("label", "place", "upstream", "origin", "body_sha256"):
            setattr(self, name, getattr(permit, name))

    def covers(self, body: bytes) -> bool:
        del body
        return True


def _body(drawn: dict[str, Any], model: str, metadata: dict[str, str], canary: str, before: Case | None) -> bytes:
    text = f"say {canary} again" + (" to jane.doe@example.org" if drawn["names_somebody"] else "")
    body: dict[str, Any] = {"model": model, "metadata": metadata, "user": canary, "x_unknown": {"deep": [canary]}}
    path = drawn["path"]
    if "embeddings" in path:
        body["input"] = text
    elif "responses" in path:
        body |= {"input": text, "instructions": text}
        if before is not None:
            body["previous_response_id"] = before.response_id
    elif path.endswith("/v1/completions"):
        body["prompt"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
        if "messages" in path:
            body |= {"system": text, "max_tokens": 5}
    if drawn["is_stream"] and "embeddings" not in path and "count_tokens" not in path:
        body["stream"] = True
    return json.dumps(body).encode()


def machine_on(ground: Ground) -> type[Sovereignty]:
    """Return the machine, bound to a ground."""
    return type("BoundSovereignty", (Sovereignty,), {"ground": ground})


__all__ = ["Label", "Sovereignty", "machine_on"]
