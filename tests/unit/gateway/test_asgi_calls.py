"""What another ASGI server carries is a call like any other: what its server is told, and what is heard from it."""

from __future__ import annotations

import asyncio
from typing import Any

from ownward.gateway.listening.asgi_call import AsgiCall


class Server:
    """The server's side: keeps what it is told; its client leaves when `left` is set."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.told.append(message)

    def call(self) -> AsgiCall:
        return AsgiCall({"type": "http", "method": "POST"}, self.receive, self.send)


def test_a_whole_answer_is_told_with_its_length_and_what_ends_the_connection() -> None:
    async def main() -> None:
        server = Server()
        call = server.call()
        call.keeps_alive = False
        call.answer(413, [(b"content-type", b"text/plain")], b"too large")
        assert not server.told
        await call.drained()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"9"), (b"connection", b"close")]
        assert server.told == [
            {"type": "http.response.start", "status": 413, "headers": headers},
            {"type": "http.response.body", "body": b"too large", "more_body": False},
        ]
        assert not call.is_write_paused

    asyncio.run(main())


def test_what_is_written_waits_until_it_can_be_sent_and_keeps_its_order() -> None:
    async def main() -> None:
        server = Server()
        call = server.call()
        call.begin(200, [])
        call.write(b"one")
        assert call.is_write_paused
        await call.drained()
        call.end(b"two")
        await call.drained()
        assert [message.get("body") for message in server.told] == [None, b"one", b"two"]
        assert [message.get("more_body") for message in server.told] == [None, True, False]

    asyncio.run(main())


def test_a_client_that_leaves_is_told_once_and_only_to_who_still_wants_to_know() -> None:
    async def main() -> None:
        for wants in (True, False):
            server, heard = Server(), []
            call = server.call()
            call.on_gone = lambda heard=heard: heard.append(True)  # type: ignore[misc]
            await asyncio.sleep(0)
            if not wants:
                call.on_gone = None
            server.left.set()
            for _ in range(3):
                await asyncio.sleep(0)
            assert (heard, call.is_gone) == ([True] * wants, wants)

    asyncio.run(main())
