"""Run the state machine for a number of cases and say what was covered."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from unittest import mock

from benchmarks.sovereignty.lab import Ground
from benchmarks.sovereignty.machine import machine_on
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test

_RUNS_AT_A_TIME = 25
_PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), "http://203.0.114.250:3128")


def run_cases(
    cases: int,
    *,
    first_seed: int,
    steps: int = 80,
    shrinks: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Counter[str]:
    """Return what was covered by at least `cases` requests.

    The environment names a proxy meanwhile, which nothing may go through. Raises: Leak, or what else did not hold.
    """
    ground = Ground()
    phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)
    rules = settings(
        max_examples=_RUNS_AT_A_TIME, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
        verbosity=Verbosity.quiet if not shrinks else Verbosity.normal,
        suppress_health_check=list(HealthCheck), phases=phases,
    )  # fmt: skip
    with mock.patch.dict(os.environ, _PROXIES), ground.open():
        asyncio.set_event_loop(ground.loop)
        try:
            number = first_seed
            while ground.counts["cases"] < cases:
                try:
                    run_state_machine_as_test(seed(number)(machine_on(ground)), settings=rules)
                except FlakyStrategyDefinition:  # what was drawn hung on what came first: the next seed draws anew
                    ground.counts["seeds given up"] += 1
                number += 1
                if on_progress is not None:
                    on_progress(ground.counts["cases"])
        finally:
            asyncio.set_event_loop(None)
    ground.counts["seeds"] = number - first_seed
    return ground.counts


def try_cases(cases: int, first_seed: int) -> tuple[Counter[str], str | None]:
    """Return what was covered and None, or nothing and what did not hold."""
    try:
        return run_cases(cases, first_seed=first_seed), None
    except Exception as error:  # noqa: BLE001 - whatever did not hold is the result
        return Counter(), f"{type(error).__name__}: {error}"
