"""What the log says of faults of our own."""

import logging

import pytest

from ownward.core import LedgerError, ManualClock, PolicyRefusal
from ownward.gateway.watching.fault_log import FaultLog

REFUSED = "request %s failed"
FULL = LedgerError("the disk is full", next_step="Make room")
ELSEWHERE = PolicyRefusal("not there", next_step="Ask elsewhere")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def said(caplog, clock):
    caplog.set_level(logging.INFO)
    log = FaultLog(clock)

    def say(request_id, what=REFUSED, error=FULL):
        log.say(what, request_id, error)
        return caplog.messages

    return say


def test_what_befalls_every_request_is_said_of_the_first_and_then_counted(said, clock):
    for number in range(1000):
        said(f"req_{number}")
        clock.advance(0.05)
    assert said("req_1000") == [f"request req_0 failed: {FULL}"]
    clock.advance(11)
    assert said("req_1001")[1:] == [f"request req_1001 failed: {FULL} (and 1,000 more since this was last said)"]
    clock.advance(61)
    assert said("req_1002")[2:] == [f"request req_1002 failed: {FULL}"]


def test_another_fault_and_another_thing_that_failed_are_said_at_once(said):
    said("req_1")
    said("req_1", what="a settlement of %s could not be queued")
    assert said("req_2", error=ELSEWHERE)[1:] == [
        f"a settlement of req_1 could not be queued: {FULL}",
        f"request req_2 failed: {ELSEWHERE}",
    ]
