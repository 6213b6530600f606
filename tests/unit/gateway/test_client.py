"""The client's side of a request: what its leaving brings about at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ownward.gateway.client import Client
from ownward.gateway.listening.call import CALL
from ownward.gateway.settings import GatewaySettings


def test_nothing_more_is_taken_in_from_the_upstream_of_a_client_that_left() -> None:
    """A stream without a pause fills each turn of the event loop: its call would end tenths of a second later."""
    done: list[str] = []
    task = SimpleNamespace(cancel=done.append)
    call: Any = SimpleNamespace(task=task, is_gone=False, is_write_paused=False, write=None, on_gone=None, on_flow=None)
    response: Any = SimpleNamespace(hold_up=lambda: done.append("held up"), go_on=None)
    nobody: Any = None
    client = Client({"extensions": {CALL: call}}, nobody, nobody, GatewaySettings(port=0))
    client.watch()
    client.lead(response)
    call.on_gone()
    assert done == ["held up", "the client left"]
    assert client.is_gone
