"""Conversations that continue kept responses, as they grow."""

from __future__ import annotations

import time

import msgspec

from ownward.gateway.keeping.conversation import _newest

ASKED = msgspec.Raw(b'{"role":"user","content":"and then?"}')


def test_shortening_a_conversation_takes_each_of_its_turns_as_long_however_many_there_are():
    def seconds_for(turns):
        began = time.thread_time()
        assert len(_newest([ASKED] * turns, [ASKED], 2 * len(bytes(ASKED)))) == 2
        return time.thread_time() - began

    few = min(seconds_for(1_000) for _ in range(3))
    assert min(seconds_for(30_000) for _ in range(2)) < few * 30 * 8
