from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest

from ownward.core import BrokenStream, UpstreamTimeout
from ownward.upstreams import Gathering, Response
from ownward.upstreams._alarm import Alarm
from virtual_time import run_in_virtual_time


class Channel:
    """Counts what an answer asks of its connection."""

    def __init__(self) -> None:
        self.paused = self.aborted = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted += 1


def test_a_reader_that_keeps_up_never_makes_the_upstream_wait():
    async def main():
        loop = asyncio.get_running_loop()
        response = Response(upstream="u", origin="o", loop=loop, stall_s=1, buffer_bytes=100)
        channel = Channel()
        response.attach(channel, Alarm(asyncio.get_running_loop()))
        for _ in range(20):
            response.feed(b"x" * 60)
            assert await response.next_chunk() == b"x" * 60
        assert channel.paused == 0
        response.feed(b"x" * 60)
        response.feed(b"x" * 60)
        assert channel.paused == 1
        response.finish()
        assert len(await response.next_chunk()) == 120
        assert await response.next_chunk() == b""
        response.abort()
        assert channel.aborted == 0

    asyncio.run(main())


def attached(*, stall_s: float) -> tuple[Response, Channel]:
    response = Response(upstream="u", origin="o", loop=asyncio.get_running_loop(), stall_s=stall_s, buffer_bytes=100)
    response.begin(200, [])
    channel = Channel()
    response.attach(channel, Alarm(asyncio.get_running_loop()))
    return response, channel


class Timers:
    """Counts the timers that are made on an event loop, and those of them that still run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at
        monkeypatch.setattr(loop, "call_at", lambda *args: self.made.append(call_at(*args)) or self.made[-1])

    @property
    def running(self) -> int:
        return sum(not timer.cancelled() for timer in self.made)


async def answered(response: Response) -> bytes:
    """Return an answer that comes while it is waited for."""
    reading = asyncio.create_task(response.read(100))
    await asyncio.sleep(0)
    response.feed(b"x")
    response.finish()
    return await reading


def test_answers_on_one_connection_share_its_timer(monkeypatch):
    async def main():
        alarm, timers = Alarm(asyncio.get_running_loop()), Timers(monkeypatch)
        for _ in range(5):
            response, channel = attached(stall_s=60)
            response.attach(channel, alarm)
            assert await answered(response) == b"x"
        assert (len(timers.made), timers.running) == (1, 1)
        alarm.close()
        assert timers.running == 0

    asyncio.run(main())


def test_an_answer_that_nobody_waits_for_is_not_kept_by_its_timer():
    async def main():
        alarm = Alarm(asyncio.get_running_loop())
        response, channel = attached(stall_s=60)
        response.attach(channel, alarm)
        reading = asyncio.create_task(response.next_chunk())
        await asyncio.sleep(0)
        response.feed(b"x")
        assert await reading == b"x"
        del response, reading
        assert channel.aborted == 1
        alarm.close()

    asyncio.run(main())


def test_pieces_are_handed_on_in_the_moment_they_arrive_and_the_end_is_waited_for():
    async def main():
        response, _ = attached(stall_s=1)
        taken: list[bytes] = []
        response.feed(b"before")
        passing = asyncio.create_task(response.pass_on(taken.append))
        await asyncio.sleep(0)
        for piece in (b"one", b"two"):
            response.feed(piece)
            assert taken[-1] == piece  # no turn of the event loop lies between
        response.finish()
        await passing
        assert taken == [b"before", b"one", b"two"]
        assert response.bytes_received == 12

    asyncio.run(main())


def test_what_arrived_before_a_break_is_handed_on_and_then_the_break_is_told():
    async def main():
        response, channel = attached(stall_s=1)
        taken: list[bytes] = []
        passing = asyncio.create_task(response.pass_on(taken.append))
        await asyncio.sleep(0)
        response.feed(b"some")
        response.abort(BrokenStream("enough"))
        with pytest.raises(BrokenStream, match="enough"):
            await passing
        assert (taken, channel.aborted) == ([b"some"], 1)

    asyncio.run(main())


def test_a_stall_is_told_while_pieces_are_passed_on_but_not_while_the_client_holds_them_up():
    async def main():
        response, channel = attached(stall_s=0.05)
        taken: list[bytes] = []
        passing = asyncio.create_task(response.pass_on(taken.append))
        for _ in range(4):
            await asyncio.sleep(0.03)
            response.feed(b"x")
        response.pause()
        assert channel.paused == 1
        await asyncio.sleep(0.2)
        assert not passing.done()
        response.resume()
        with pytest.raises(UpstreamTimeout, match=r"sent no further byte within 0\.05 s, after 4 bytes"):
            await passing
        assert (len(taken), channel.aborted) == (4, 1)

    run_in_virtual_time(main)


@pytest.mark.parametrize("is_held_up", [False, True])
def test_others_come_first_after_a_long_piece_of_a_stream(is_held_up):
    class Flow(Channel):
        is_open = True

        def pause(self) -> None:
            self.is_open = False

        def resume(self) -> None:
            self.is_open = True

    async def main():
        response, _ = attached(stall_s=1)
        response.attach(flow := Flow(), Alarm(asyncio.get_running_loop()))
        passing = asyncio.create_task(response.pass_on(lambda _: None))
        await asyncio.sleep(0)
        response.feed(b"x" * 1000)
        assert flow.is_open
        response.feed(b"x" * 250_000)
        assert not flow.is_open
        if is_held_up:
            response.pause()
        await asyncio.sleep(0.01)
        assert flow.is_open != is_held_up
        response.finish()
        await passing

    asyncio.run(main())


def test_after_a_hold_up_the_upstream_has_its_whole_time_again():
    async def main():
        response, channel = attached(stall_s=0.4)
        taken: list[bytes] = []
        passing = asyncio.create_task(response.pass_on(taken.append))
        await asyncio.sleep(0)
        response.pause()
        await asyncio.sleep(0.35)
        response.resume()
        await asyncio.sleep(0.1)  # beyond the time that ran when it was held up
        assert not passing.done()
        response.feed(b"x")
        response.finish()
        await passing
        assert (taken, channel.aborted) == ([b"x"], 0)

    run_in_virtual_time(main)


def packed_answer(body: bytes, *, coding: bytes = b"gzip") -> tuple[Response, Channel]:
    response, channel = attached(stall_s=1)
    response.begin(200, [], coding=coding)
    if body:
        response.feed(body)
    return response, channel


@pytest.mark.parametrize(("pack", "coding"), [(gzip.compress, b"GZIP "), (zlib.compress, b"deflate")])
def test_a_packed_body_is_unpacked_as_it_arrives(pack, coding):
    async def main():
        response, _ = packed_answer(b"", coding=coding)
        taken = []
        for byte in pack(b"words " * 50):
            response.feed(bytes([byte]))
        response.finish()
        while piece := await response.next_chunk():
            taken.append(piece)
        assert b"".join(taken) == b"words " * 50

    asyncio.run(main())


def test_a_packed_body_that_breaks_off_or_is_garbled_is_a_broken_answer():
    async def main():
        response, _ = packed_answer(gzip.compress(b"words " * 50)[:-9])
        response.finish()
        with pytest.raises(BrokenStream, match="packed"):
            await response.read(1000)
        response, channel = packed_answer(b"no gzip at all")
        with pytest.raises(BrokenStream, match="packed"):
            await response.read(1000)
        assert channel.aborted == 1

    asyncio.run(main())


def test_a_packed_body_that_would_fill_the_memory_is_given_up_before_it_does():
    async def main():
        bomb = gzip.compress(bytes(200_000_000))
        tracemalloc.start()
        try:
            response, channel = packed_answer(bomb[:200_000])
            with pytest.raises(BrokenStream, match="unpacks to more than 100 times its size"):
                await response.read(1000)
            assert channel.aborted == 1
            assert tracemalloc.get_traced_memory()[1] < 60_000_000
        finally:
            tracemalloc.stop()
        response, _ = packed_answer(gzip.compress(b"w" * 3_000_000))
        response.finish()
        assert await response.read(4_000_000) == b"w" * 3_000_000, "small bodies may be as even as they like"

    asyncio.run(main())


def test_a_packing_that_is_not_known_breaks_the_answer_at_its_head():
    async def main():
        response, channel = packed_answer(b"", coding=b"zstd")
        with pytest.raises(BrokenStream, match="content-encoding"):
            await response.read(1000)
        assert channel.aborted == 1

    asyncio.run(main())


class Reading(Channel):
    """Says whether its bytes are being read; it rests by itself where `can_rest`, else by pausing."""

    is_read = True

    def __init__(self, *, can_rest: bool = False) -> None:
        super().__init__()
        self.can_rest = can_rest
        self.is_resting = False

    def pause(self) -> None:
        super().pause()
        self.is_read = False

    def resume(self) -> None:
        self.is_read = True

    def rest(self) -> bool:
        self.is_resting = self.can_rest
        return self.can_rest

    def end_rest(self) -> None:
        self.is_resting = False

    @property
    def is_told(self) -> bool:
        return self.is_read and not self.is_resting


def busy(longest_s: float) -> Gathering:
    """Return a gathering that has seen a hundred thousand events a second."""
    gathering, now_s = Gathering(longest_s), asyncio.get_running_loop().time()
    for number in range(10):
        gathering.count(10_000, now_s - 1 + number / 10)
    assert gathering.rest_s == longest_s
    return gathering


def passing(
    *, longest_s: float, can_rest: bool = False, stall_s: float = 5
) -> tuple[Response, Reading, list[bytes], asyncio.Task[None]]:
    response = Response(upstream="u", origin="o", loop=asyncio.get_running_loop(), stall_s=stall_s, buffer_bytes=100)
    response.begin(200, [])
    channel, taken = Reading(can_rest=can_rest), []
    response.attach(channel, Alarm(asyncio.get_running_loop()))
    response.gather(busy(longest_s))
    task = asyncio.create_task(response.pass_on(taken.append))
    return response, channel, taken, task


BOTH = pytest.mark.parametrize("can_rest", [False, True])


@BOTH
def test_a_quick_stream_is_read_now_and_then_and_what_came_first_goes_on_at_once(can_rest):
    async def main():
        response, channel, taken, task = passing(longest_s=0.06, can_rest=can_rest)
        await asyncio.sleep(0)
        response.feed(b"1")
        assert (taken, channel.is_told) == ([b"1"], True)
        response.feed(b"2")
        assert (taken, channel.is_told) == ([b"1", b"2"], False)
        await asyncio.sleep(0.1)
        assert channel.is_told
        response.feed(b"data: 3\n\n" * 50)  # it waited while the stream rested
        assert not channel.is_told
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_a_stream_whose_pieces_come_apart_is_never_made_to_rest(can_rest):
    async def main():
        response, channel, taken, task = passing(longest_s=0.02, can_rest=can_rest)
        await asyncio.sleep(0)
        for _ in range(5):
            response.feed(b"x")
            assert channel.is_told
            await asyncio.sleep(0.04)
        assert (len(taken), channel.paused) == (5, 0)
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_a_piece_after_a_pause_goes_on_at_once_though_the_stream_was_quick(can_rest):
    async def main():
        response, channel, taken, task = passing(longest_s=0.02, can_rest=can_rest)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.feed(b"2")
        await asyncio.sleep(0.1)  # the rest ended, and nothing had come
        assert channel.is_told
        response.feed(b"3")
        assert taken[-1] == b"3"
        assert channel.is_told
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_a_stream_that_rests_while_its_client_does_not_read_stays_held_up(can_rest):
    async def main():
        response, channel, _, task = passing(longest_s=0.04, can_rest=can_rest)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.feed(b"2")
        response.pause()
        await asyncio.sleep(0.08)
        assert not channel.is_read
        response.resume()
        assert channel.is_told
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_a_client_that_reads_again_does_not_end_a_rest(can_rest):
    async def main():
        response, channel, _, task = passing(longest_s=0.2, can_rest=can_rest)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.feed(b"2")
        response.pause()
        response.resume()
        assert not channel.is_told
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_a_stream_that_breaks_while_it_rests_is_told_at_once_and_not_read_again(can_rest):
    async def main():
        response, channel, _, task = passing(longest_s=0.04, can_rest=can_rest)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.feed(b"2")
        response.abort()
        with pytest.raises(BrokenStream):
            await task
        await asyncio.sleep(0.08)
        assert not channel.is_told

    asyncio.run(main())


@BOTH
def test_a_rest_is_no_stall_of_the_upstream_and_a_stall_after_it_is_one(can_rest):
    async def main():
        response, _, _, task = passing(longest_s=0.3, can_rest=can_rest, stall_s=0.05)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.rest()
        await asyncio.sleep(0.2)
        response.end_rest()
        await asyncio.sleep(0.03)
        assert not task.done()
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(task, 2)

    asyncio.run(main())


def test_what_comes_during_a_rest_since_it_is_much_goes_on_at_once():
    async def main():
        response, channel, taken, task = passing(longest_s=0.1, can_rest=True)
        await asyncio.sleep(0)
        response.feed(b"1")
        response.feed(b"2")
        response.feed(b"x" * 20_000)
        assert len(taken) == 3
        assert channel.is_resting
        response.finish()
        await task

    asyncio.run(main())


@BOTH
def test_pieces_that_are_fetched_are_gathered_too(can_rest):
    async def main():
        response = Response(upstream="u", origin="o", loop=asyncio.get_running_loop(), stall_s=5, buffer_bytes=100)
        response.begin(200, [])
        channel = Reading(can_rest=can_rest)
        response.attach(channel, Alarm(asyncio.get_running_loop()))
        response.gather(busy(0.05))
        for piece in (b"1", b"2"):
            response.feed(piece)
            assert await response.next_chunk() == piece
        assert not channel.is_told
        await asyncio.sleep(0.1)
        assert channel.is_told
        response.finish()
        assert await response.next_chunk() == b""

    asyncio.run(main())
