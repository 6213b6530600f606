"""When quick streams rest, and for how long: a rule of the load, by a clock that the test sets."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from ownward.upstreams import Gathering
from ownward.upstreams.gathering import BEGINS_PER_S, FULL_PER_S

LONGEST_S = 0.05


def under(per_s: float, *, seconds: float = 2.0, gathering: Gathering | None = None, at_s: float = 0.0) -> Gathering:
    """Return a gathering that has seen so many events a second."""
    gathering = gathering or Gathering(LONGEST_S)
    for number in range(int(per_s * seconds)):
        gathering.count(1, at_s + number / per_s)
    return gathering


@pytest.mark.parametrize("per_s", [1, 100, 1000, 3500])
def test_nothing_rests_while_few_events_come(per_s):
    assert under(per_s, seconds=3).rest_s == 0.0


@pytest.mark.parametrize("per_s", [10_500, 50_000])
def test_where_many_come_streams_rest_as_long_as_they_may_and_no_longer(per_s):
    assert under(per_s).rest_s == LONGEST_S


def test_between_them_the_rest_grows_with_the_load():
    rests = [under(per_s).rest_s for per_s in range(4500, 10_000, 500)]
    assert rests == sorted(rests)
    assert 0 < rests[0] < 0.2 * LONGEST_S
    middle = (BEGINS_PER_S + FULL_PER_S) / 2
    assert under(middle).rest_s == pytest.approx(LONGEST_S / 2, rel=0.1)


def test_a_burst_shorter_than_a_look_makes_nothing_rest():
    gathering = under(100)
    for _ in range(100):
        gathering.count(1, 2.0)
    assert under(100, gathering=gathering, at_s=2.0).rest_s == 0.0


def test_the_load_is_in_events_and_the_same_however_they_are_read():
    one_by_one, together = Gathering(LONGEST_S), Gathering(LONGEST_S)
    for number in range(16_000):
        one_by_one.count(30, number / 8000 * 30)
        together.count(300, number / 8000 * 300)
    assert one_by_one.per_s == pytest.approx(8000, rel=0.02)
    assert together.per_s == pytest.approx(one_by_one.per_s, rel=0.02)


def test_gathering_itself_does_not_change_the_load_so_that_the_rest_settles():
    gathering, now_s, rests = Gathering(LONGEST_S), 0.0, []
    for _ in range(2000):  # 7,000 events a second, each read as long after the last as streams rest
        step_s = max(gathering.rest_s, 0.001)
        now_s += step_s
        gathering.count(max(1, round(7000 * step_s)), now_s)
        rests.append(gathering.rest_s)
    settled = rests[-500:]
    assert max(settled) - min(settled) < 0.35 * LONGEST_S
    assert min(settled) > 0


def test_once_the_load_is_gone_the_rest_is_too_also_where_nothing_comes_to_show_it():
    gathering = under(12_800)
    assert gathering.rest_s == LONGEST_S
    assert gathering.rest_s_at(2.6) == 0.0
    assert under(50, gathering=under(12_800), at_s=2.0, seconds=0.5).rest_s == 0.0


def test_the_rest_is_long_within_a_third_of_a_second():
    assert under(12_800, seconds=0.35).rest_s == LONGEST_S


@pytest.mark.parametrize(
    ("events", "took_s", "has_rested", "wanted"),
    [
        (1, 0.010, False, True),
        (1, 0.020, False, False),
        (1, 0.020, True, True),
        (1, 0.030, True, False),
        (8, 0.060, True, True),
        (2, 0.060, True, False),
        (1, 10.0, False, False),
        (50, 10.0, True, False),
    ],
)
def test_a_stream_rests_where_that_gathers_several_events_and_leaves_off_later_than_it_begins(
    events, took_s, has_rested, wanted
):
    assert under(20_000).wants(events, took_s, has_rested=has_rested) is wanted


def test_while_nothing_is_to_rest_no_stream_does_however_quick():
    assert not under(100).wants(1, 0.000_1, has_rested=False)
    assert not under(100).wants(40, 0.01, has_rested=True)


class Stream:
    """Notes when its rest ended."""

    def __init__(self) -> None:
        self.ended_s: float | None = None

    def rest(self) -> None:
        self.ended_s = None

    def end_rest(self) -> None:
        self.ended_s = asyncio.get_running_loop().time()


def test_no_rest_is_longer_than_it_may_be_and_those_of_a_few_end_together():
    async def main():
        loop, gathering = asyncio.get_running_loop(), under(20_000)
        streams = [Stream() for _ in range(20)]
        began_s = loop.time()
        for stream in streams:
            gathering.hold(stream, loop, has_rested=True)
        await asyncio.sleep(3 * LONGEST_S)
        ended = {round(stream.ended_s - began_s, 3) for stream in streams}
        assert len(ended) <= 2
        assert max(ended) <= LONGEST_S + 0.03

    asyncio.run(main())


@pytest.mark.parametrize("has_rested", [False, True])
def test_many_that_rest_are_read_a_few_at_a_time_with_room_for_others_between(has_rested):
    async def main():
        loop, gathering = asyncio.get_running_loop(), under(100_000)
        streams, turns = [Stream() for _ in range(5000)], itertools.count()
        at_turn: dict[int, int] = {}

        class Counted(Stream):
            def end_rest(self) -> None:
                at_turn[turn] = at_turn.get(turn, 0) + 1

        turn, is_over = 0, False

        def next_turn() -> None:
            nonlocal turn
            turn = next(turns)
            if not is_over:
                loop.call_soon(next_turn)

        next_turn()
        streams = [Counted() for _ in range(5000)]
        for stream in streams:
            gathering.hold(stream, loop, has_rested=has_rested)
        while sum(at_turn.values()) < len(streams):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        is_over = True
        assert sum(at_turn.values()) == len(streams)
        assert max(at_turn.values()) <= 64

    asyncio.run(main())


def test_streams_that_begin_together_do_not_end_their_rests_together():
    async def main():
        loop, gathering = asyncio.get_running_loop(), under(100_000)
        streams = [Stream() for _ in range(1000)]
        for stream in streams:
            gathering.hold(stream, loop, has_rested=False)
        await asyncio.sleep(3 * LONGEST_S)
        assert len({stream.ended_s for stream in streams}) >= 8

    asyncio.run(main())
