"""Waiting for a server that says nothing: it is asked anew now and then, and given up where it takes nobody."""

from __future__ import annotations

import math
from collections.abc import Generator

import pytest

psycopg = pytest.importorskip("psycopg")

from ownward.ledger._postgres_watch import watch  # noqa: E402 - only where psycopg is installed


class Time:
    """What time it is, and a statement that is answered after `answers` things came."""

    def __init__(self, *, answers: int, ends_at_s: float = math.inf) -> None:
        self.now_s = 0.0
        self.ends_at_s = ends_at_s
        self.answers = answers
        self.asked: list[float] = []
        self.is_closed = False

    def statement(self) -> Generator[str, int, str]:
        came = 0
        try:
            while came < self.answers:
                if (yield "readable"):
                    came += 1
        finally:
            self.is_closed = True
        return "answer"

    def is_frozen(self) -> bool:
        self.asked.append(self.now_s)
        return len(self.asked) > 2

    def run(self, *came_at_s: int) -> str:
        waiting = watch(
            self.statement(),
            self.is_frozen,
            silence_s=10,
            has_time=lambda: self.now_s < self.ends_at_s,
            monotonic_s=lambda: self.now_s,
        )
        try:
            assert next(waiting) == "readable"
            for now_s in range(1, 1000):
                self.now_s = now_s
                waiting.send(int(now_s in came_at_s))
        except StopIteration as end:
            return str(end.value)
        raise AssertionError("it waits for ever")


def test_an_answer_that_comes_in_time_is_waited_for_without_a_question() -> None:
    time = Time(answers=3)
    assert time.run(9, 18, 27) == "answer"
    assert time.asked == []


def test_a_slow_statement_of_a_server_that_takes_others_is_waited_for() -> None:
    time = Time(answers=1)
    assert time.run(25) == "answer"
    assert time.asked == [10, 20]


def test_a_server_that_takes_nobody_is_given_up() -> None:
    time = Time(answers=1)
    with pytest.raises(psycopg.OperationalError, match="stopped answering"):
        time.run()
    assert time.asked == [10, 20, 30]
    assert time.is_closed


def test_nothing_is_waited_for_once_nobody_has_time() -> None:
    time = Time(answers=1, ends_at_s=7)
    with pytest.raises(psycopg.OperationalError, match="time for it was over"):
        time.run()
    assert time.now_s == 7
    assert time.is_closed


def test_what_comes_is_taken_though_nobody_has_time() -> None:
    assert Time(answers=8, ends_at_s=4).run(*range(1, 9)) == "answer"
