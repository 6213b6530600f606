"""The client's side of a request: what its leaving brings about at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ownward.gateway.client import Client
from ownward.gateway.listening.call import Call
from ownward.gateway.settings import GatewaySettings


def test_nothing_more_is_taken_in_from_the_upstream_of_a_client_that_left() -> None:
    """A stream without a pause fills each turn of the event loop: its call would end tenths of a second later."""
    done: list[str] = []
    task = SimpleNamespace(cancel=done.append)
    connection: Any = SimpleNamespace(is_write_paused=False)
    call = Call(connection, {"method": "POST"}, keeps_alive=True)
    call.task = cast("Any", task)
    response: Any = SimpleNamespace(pause=lambda: done.append("held up"), resume=None)
    client = Client(call, GatewaySettings(port=0))
    client.watch()
    client.direct_writer(response)
    call.leave()
    assert done == ["held up", "the client left"]
    assert client.is_gone
