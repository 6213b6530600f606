"""What the log says of engines that fail while they serve."""

import logging

import pytest

from ownward.cli._serving import tell_change
from ownward.engines import EngineState, EngineStatus

KILLED = 'engine "m" was ended by SIGKILL (the kernel does so when memory runs out)'


def status(state, **more):
    given = {"reason": f"{KILLED}.", "restarts": 1, "restart_in_s": None, "load_s": 1.25, **more}
    return EngineStatus(name="m", state=state, base_url=None, pid=None, lacks=frozenset(), **given)


@pytest.mark.parametrize(
    ("told", "level", "words"),
    [
        (
            status(EngineState.FAILED, restart_in_s=0.5, restarts=0),
            "WARNING",
            f"{KILLED}; it is started again in 0.5 s",
        ),
        (status(EngineState.READY), "WARNING", 'engine "m" is ready again, after 1.2 s'),
        (status(EngineState.FAILED, restarts=5), "ERROR", f"{KILLED}; it has failed too often and stays down"),
    ],
)
def test_an_engine_that_fails_is_told_with_the_reason_and_what_follows(caplog, told, level, words):
    with caplog.at_level(logging.INFO):
        tell_change(told)
    assert [(record.levelname, record.getMessage()[: len(words)]) for record in caplog.records] == [(level, words)]


@pytest.mark.parametrize(
    "told",
    [
        status(EngineState.READY, restarts=0),
        status(EngineState.STARTING),
        status(EngineState.STOPPED),
        status(EngineState.FAILED, restarts=0),  # of a first start, which is raised
    ],
)
def test_what_nobody_has_to_see_to_is_not_told(caplog, told):
    with caplog.at_level(logging.INFO):
        tell_change(told)
    assert not caplog.records
