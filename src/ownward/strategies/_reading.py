"""Reads answers as a judge does, in a process of its own, which an answer that takes too long ends.

Run as `python -P -m ownward.strategies._reading`: what is asked comes on standard input, what was read goes out on
standard output. Python's engine of regular expressions tries every way to match, which takes years for some texts.
"""

from __future__ import annotations

import functools
import json
import signal
import struct
import sys
from typing import BinaryIO

from ownward.strategies._judges import judge_for
from ownward.strategies._types import Judge

LENGTH = struct.Struct(">I")
"""Before each message: how long it is."""


def main() -> None:
    """Answer until standard input closes; the kernel ends the process where an answer takes the processor too long."""
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    limit_s = float(sys.argv[1])
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    while (rule := _take(asked)) is not None and (text := _take(asked)) is not None:
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        said = json.dumps(_read(rule, text.decode())).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        told.write(LENGTH.pack(len(said)) + said)
        told.flush()


def _read(rule: bytes, text: str) -> tuple[str | None, float | None]:
    judge = _judge_of(rule)
    return judge.extract(text), judge.verify(text)


@functools.lru_cache(maxsize=64)
def _judge_of(rule: bytes) -> Judge:
    judge = judge_for(json.loads(rule))
    assert judge is not None, "it was made of the same words in the gateway"
    return judge


def _take(stream: BinaryIO) -> bytes | None:
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    message = stream.read(LENGTH.unpack(length)[0])
    return message if len(message) == LENGTH.unpack(length)[0] else None


if __name__ == "__main__":
    main()
