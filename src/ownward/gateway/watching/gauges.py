"""What is read when somebody looks: queues, breakers, budgets, and this process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ownward.core import Clock, LedgerError, picousd_to_usd
from ownward.gateway.holding.budgets import checks_of_plan
from ownward.gateway.placing.breaker import CLOSED, State
from ownward.gateway.watching.exposition import Family, value_lines
from ownward.gateway.watching.families import (
    BREAKER,
    BUDGET_LEFT,
    BUDGET_LIMIT,
    BUDGET_RESERVED,
    BUDGET_SPENT,
    CALLS_IN_FLIGHT,
    CPU_SECONDS,
    IN_FLIGHT,
    LEDGER_FAILING,
    LEDGER_QUEUE,
    QUEUE,
    RESIDENT_BYTES,
    SLOTS,
    START_TIME,
    STREAM_REST,
    UNPAID,
    UPTIME,
    USABLE,
)
from ownward.ledger import BudgetCheck, BudgetState, Ledger

if TYPE_CHECKING:
    from ownward.gateway.holding.admission import Slots
    from ownward.gateway.placing.breaker import Breaker
    from ownward.gateway.placing.routing import RoutingTable
    from ownward.gateway.watching.counting import Counting
    from ownward.upstreams import Gathering

Budgets = Sequence[tuple[BudgetCheck, BudgetState]]

_LOG = logging.getLogger("ownward.gateway")
_BREAKER_NUMBERS = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_BUDGET_FAMILIES: tuple[tuple[Family, Callable[[BudgetCheck, BudgetState], int]], ...] = (
    (BUDGET_LIMIT, lambda check, _: check.limit_picousd),
    (BUDGET_SPENT, lambda _, state: state.spent_picousd),
    (BUDGET_RESERVED, lambda _, state: state.reserved_picousd),
    (BUDGET_LEFT, lambda check, state: check.limit_picousd - state.spent_picousd - state.reserved_picousd),
)


class Held(Protocol):
    """What is held against upstreams."""

    breakers: dict[str, Breaker]


class Gauged(Protocol):
    """What a gateway's gauges are read from."""

    clock: Clock
    ledger: Ledger
    table: RoutingTable
    slots: dict[str, Slots]
    in_flight: dict[str, int]
    counting: Counting
    gathering: Gathering | None

    @property
    def health(self) -> Held:
        """How upstreams are."""
        ...

    @property
    def exchanges(self) -> Sized:
        """The requests that are being served."""
        ...


async def read_budgets(gateway: Gauged) -> Budgets:
    """Return the budgets of the plan's workloads and tiers with what is spent and reserved now, by all processes.

    None of them where the ledger cannot be read: whoever looks then must see everything else.
    """
    budgets = checks_of_plan(gateway.table.plan, at=gateway.clock.now())
    if not budgets:
        return []
    try:
        states = await asyncio.to_thread(gateway.ledger.query_budgets, budgets)
    except LedgerError as error:
        _LOG.error("what is left of budgets cannot be read: %s", error)
        return []
    return list(zip(budgets, states, strict=True))


def breaker_states(gateway: Gauged) -> Iterator[tuple[str, str, State]]:
    """Yield each upstream's tier, name and the state of its breaker."""
    now_s = gateway.clock.monotonic_s()
    for targets in gateway.table.targets.values():
        for target in targets:
            yield target.tier.name, target.name, gateway.health.breakers.get(target.key, CLOSED).state(now_s)


def gauge_families(gateway: Gauged, budgets: Budgets) -> list[Iterator[str]]:
    """Return the lines of each gauge, yet to be made, of the numbers as they are now."""
    slots = sorted(gateway.slots.items())
    targets = [target for targets in gateway.table.targets.values() for target in targets]
    running, gathering = gateway.in_flight, gateway.gathering
    unpaid = {key for key, breaker in gateway.health.breakers.items() if breaker.is_unpaid}
    spent, resident = os.times(), read_resident_bytes()
    return [
        value_lines(IN_FLIGHT, [((), len(gateway.exchanges))]),
        value_lines(SLOTS, [((name,), one.in_use) for name, one in slots]),
        value_lines(QUEUE, [((name,), one.waiting) for name, one in slots]),
        value_lines(CALLS_IN_FLIGHT, [((t.tier.name, t.name), running.get(t.key, 0)) for t in targets]),
        value_lines(
            BREAKER, [((tier, name), _BREAKER_NUMBERS[state]) for tier, name, state in breaker_states(gateway)]
        ),
        value_lines(UNPAID, [((t.tier.name, t.name), float(t.key in unpaid)) for t in targets]),
        value_lines(USABLE, [((t.tier.name, t.name), float(t.unusable is None)) for t in targets]),
        *(
            value_lines(
                family,
                [((check.kind, check.name), float(picousd_to_usd(read(check, state)))) for check, state in budgets],
            )
            for family, read in _BUDGET_FAMILIES
        ),
        value_lines(LEDGER_QUEUE, [((), gateway.ledger.queue_depth)]),
        value_lines(LEDGER_FAILING, [((), float(gateway.ledger.is_failing))]),
        value_lines(
            STREAM_REST, [((), 0.0 if gathering is None else gathering.rest_s_at(asyncio.get_running_loop().time()))]
        ),
        value_lines(START_TIME, [((), gateway.counting.started_at.timestamp())]),
        value_lines(UPTIME, [((), gateway.counting.uptime_s)]),
        value_lines(CPU_SECONDS, [((), spent.user + spent.system)]),
        value_lines(RESIDENT_BYTES, [] if resident is None else [((), resident)]),
    ]


def read_resident_bytes() -> int | None:
    """Return the memory of this process; None where the system does not say it cheaply."""
    if sys.platform != "linux":
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
