"""What a SIGHUP means: that the terminal goes, or that the plan is to be read again."""

from __future__ import annotations

import asyncio
import signal

import pytest

from ownward.gateway import signals
from ownward.gateway.signals import heeded_signals


@pytest.mark.parametrize(
    ("has_terminal", "goes", "waits_s", "heard"),
    [
        (True, False, 0.0, ["reload", "reload"]),
        (True, True, 0.0, ["stop"]),
        (True, True, 0.2, ["reload", "reload"]),
        (False, False, 0.0, ["reload", "reload"]),
    ],
    ids=["it stays", "it goes", "it went long ago", "there was none"],
)
def test_a_hangup_stops_in_the_moment_in_which_the_terminal_goes_and_reloads_at_any_other(
    monkeypatch, has_terminal, goes, waits_s, heard
):
    """Who outlives its terminal without a word of it (`disown`) is not stopped by a reload weeks later."""
    monkeypatch.setattr(signals, "_LOOK_S", 0.01)
    monkeypatch.setattr(signals, "_has_terminal", lambda: has_terminal)
    said = []

    async def main():
        with heeded_signals(stop=lambda: said.append("stop"), reload=lambda: said.append("reload")):
            if goes:
                monkeypatch.setattr(signals, "_has_terminal", lambda: False)
            await asyncio.sleep(waits_s)
            for _ in range(2):
                signal.raise_signal(signal.SIGHUP)
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
        assert said == heard

    asyncio.run(main())
