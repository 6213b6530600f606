"""How many writes an answer takes, and when its head leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ownward.gateway.listening.call import BadAnswer, Call

HEADERS = [(b"content-type", b"text/event-stream")]


class Connection:
    """The connection's side of a call; keeps each write."""

    date_line = b"date: today\r\n"
    is_write_paused = False

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.answered = 0
        self.aborted = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def abort(self) -> None:
        self.aborted += 1

    def on_answered(self, call: Call) -> None:
        assert call.is_over
        self.answered += 1


def make(method: str = "POST") -> tuple[Call, Connection]:
    connection: Any = Connection()
    scope = {"method": method, "http_version": "1.1"}
    return Call(connection, scope, keeps_alive=True, expects_continue=False), connection


def test_a_head_leaves_with_the_first_piece() -> None:
    async def main() -> None:
        call, connection = make()
        call.begin(200, HEADERS)
        call.write(b"data: 1\n\n")
        (first,) = connection.writes
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await asyncio.sleep(0)
        assert len(connection.writes) == 1
        call.write(b"data: 2\n\n")
        call.end()
        assert connection.writes[1:] == [b"9\r\ndata: 2\n\n\r\n", b"0\r\n\r\n"]
        assert connection.answered == 1

    asyncio.run(main())


def test_a_head_that_no_piece_follows_leaves_when_the_turn_ends() -> None:
    async def main() -> None:
        call, connection = make()
        call.begin(200, HEADERS)
        assert connection.writes == []
        await asyncio.sleep(0)
        (head,) = connection.writes
        assert head.endswith(b"transfer-encoding: chunked\r\ndate: today\r\n\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_an_answer_without_a_body_has_its_head(method: str) -> None:
    async def main() -> None:
        call, connection = make(method)
        call.begin(204, [])
        call.end()
        await asyncio.sleep(0)
        (head,) = connection.writes
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert connection.answered == 1

    asyncio.run(main())


def test_a_head_does_not_leave_for_a_client_that_has_left() -> None:
    async def main() -> None:
        call, connection = make()
        call.begin(200, HEADERS)
        call.leave()
        await asyncio.sleep(0)
        assert connection.writes == []

    asyncio.run(main())


def test_an_answer_that_is_shorter_than_it_said_is_a_fault() -> None:
    async def main() -> None:
        call, connection = make()
        call.begin(200, [(b"content-length", b"10")])
        with pytest.raises(BadAnswer, match="5 bytes shorter"):
            call.end(b"12345")
        call.fail()
        assert connection.aborted == 1

    asyncio.run(main())


def test_a_body_that_came_with_the_head_is_there_at_once_and_once_alone() -> None:
    async def main() -> None:
        connection: Any = Connection()
        for body in (b"hello", b""):
            call = Call(connection, {"method": "POST"}, body)
            assert call.take_body() == body
            assert call.take_body() is None

    asyncio.run(main())
