"""One timer for all waits on a connection."""

from __future__ import annotations

from typing import Any

from ownward.upstreams._alarm import Alarm


class Clockwork:
    """The part of an event loop that an alarm uses, moved by hand."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_at(self, at_s: float, ring: Any) -> Timer:
        self.timers.append(Timer(at_s, ring))
        return self.timers[-1]

    def pass_to(self, now_s: float) -> None:
        for timer in list(self.timers):
            if timer.at_s <= now_s and not timer.is_over:
                timer.is_over = True
                timer.ring()

    @property
    def pending(self) -> list[float]:
        return [timer.at_s for timer in self.timers if not timer.is_over]


class Timer:
    def __init__(self, at_s: float, ring: Any) -> None:
        self.at_s, self.ring, self.is_over = at_s, ring, False

    def when(self) -> float:
        return self.at_s

    def cancel(self) -> None:
        self.is_over = True


class Waiting:
    """Waits, and keeps how often it was rung for."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self) -> None:
        self.rung.append("rung")


def made() -> tuple[Alarm, Clockwork, Waiting, Waiting]:
    clock: Any = Clockwork()
    alarm = Alarm(clock)
    return alarm, clock, Waiting(), Waiting()


def test_waits_that_end_in_time_share_a_timer_and_ring_for_nobody() -> None:
    alarm, clock, one, other = made()
    for second in range(20):
        alarm.set(30.0 + second, one if second % 2 else other)
        alarm.unset()
    assert clock.pending == [30.0]
    clock.pass_to(31.0)
    assert clock.pending == []
    assert one.rung == other.rung == []


def test_a_wait_that_began_after_the_timer_was_set_is_rung_for_when_that_is_over() -> None:
    alarm, clock, one, other = made()
    alarm.set(30.0, one)
    alarm.unset()
    alarm.set(45.0, other)
    clock.pass_to(30.0)
    assert other.rung == ["rung"]  # it looks itself whether its time is up, and sets the alarm anew
    alarm.set(45.0, other)
    assert clock.pending == [45.0]
    assert one.rung == []


def test_a_shorter_wait_rings_at_its_own_time() -> None:
    alarm, clock, one, other = made()
    alarm.set(30.0, one)
    alarm.unset()
    alarm.set(2.0, other)
    assert clock.pending == [2.0]
    clock.pass_to(2.0)
    assert other.rung == ["rung"]


def test_an_alarm_that_is_closed_leaves_no_timer() -> None:
    alarm, clock, one, _ = made()
    alarm.set(30.0, one)
    alarm.close()
    assert clock.pending == []
    clock.pass_to(60.0)
    assert one.rung == []
