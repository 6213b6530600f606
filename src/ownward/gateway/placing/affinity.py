"""Which upstream of a tier a prompt goes to: where the least is left to compute, counting what its cache spares.

An engine keeps the attention cache of prompts it has served, and skips the beginning that it has seen. What each
upstream was sent is remembered here as checksums of ever longer beginnings, never as text, and within a bound. Where a
prompt goes is decided by bytes: those that wait for their first token at an upstream, and those of this prompt that
are new to it. So a cache draws a prompt only as far as it spares more than the queue before it costs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ownward.gateway.placing.peer_load import PeerLoad

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target

BYTES_PER_TOKEN: Final = 4
"""Bytes of English text in a token of common tokenizers, by which a cache's tokens are turned into bytes."""

_ASSUMED_CACHE_TOKENS: Final = 500_000  # where the plan states none: 8B in 80 GB of memory holds 460,000
_CALL_BYTES: Final = 2048  # what a call that decodes slows others down by, as bytes of prefill
_FINE_BYTES: Final = 1024
_FINE_BLOCKS: Final = 8
_GROWTH: Final = 1.125
_MOST_BYTES: Final = 1 << 20


def _compute_ends() -> tuple[int, ...]:
    ends = [_FINE_BYTES * (index + 1) for index in range(_FINE_BLOCKS)]
    while ends[-1] < _MOST_BYTES:
        ends.append(math.ceil(ends[-1] * _GROWTH / _FINE_BYTES) * _FINE_BYTES)
    return tuple(ends)


_ENDS: Final = _compute_ends()
_SIZES: Final = tuple(end - start for start, end in zip((0, *_ENDS), _ENDS, strict=False))


class Prompt:
    """What a request's answer is computed from, cut into beginnings when first asked for."""

    __slots__ = ("_checks", "_parts", "size")

    def __init__(self, *parts: bytes | memoryview) -> None:
        """Keep the prompt's parts in the order in which an engine reads them."""
        self._parts = parts
        self._checks: tuple[int, ...] | None = None
        self.size = sum(map(len, parts))

    @property
    def beginnings(self) -> tuple[int, ...]:
        """A checksum of each beginning of 1 KiB, 2 KiB and so on, growing by an eighth from 8 KiB up to 1 MiB.

        A prompt below 1 KiB has none. Two unequal beginnings with one checksum cost a cache miss, no more.
        """
        if self._checks is None:
            beginning, left = [], _ENDS[-1]
            for part in self._parts:
                beginning.append(part[:left])
                left -= len(beginning[-1])
            self._checks = _check_beginnings(b"".join(beginning))
            self._parts = ()
        return self._checks


def _check_beginnings(prompt: bytes) -> tuple[int, ...]:
    found = []
    view = memoryview(prompt)
    checksum = start = 0
    size = len(prompt)
    for end in _ENDS:
        if end > size:
            break
        checksum = crc32(view[start:end], checksum)
        found.append(checksum << 32 | end)
        start = end
    return tuple(found)


class _Upstream:
    """What one upstream was sent, the newest last, and what waits there."""

    __slots__ = ("held_bytes", "most_bytes", "seen", "sent", "waiting_bytes")

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self.waiting_bytes = 0
        self.sent = 0
        self.seen: OrderedDict[int, int] = OrderedDict()

    def count_seen(self, beginnings: Sequence[int]) -> int:
        """Return how many beginnings it has seen: with a beginning it has seen every shorter one."""
        seen = self.seen
        low, high = 0, len(beginnings)
        while low < high:
            middle = (low + high) // 2
            if beginnings[middle] in seen:
                low = middle + 1
            else:
                high = middle
        return low

    def note(self, beginnings: Sequence[int]) -> None:
        """Remember them, the shortest as the newest, so that the longest are forgotten first."""
        seen = self.seen
        for index in range(len(beginnings) - 1, -1, -1):
            key = beginnings[index]
            if key in seen:
                seen.move_to_end(key)
            else:
                seen[key] = _SIZES[index]
                self.held_bytes += _SIZES[index]
        while self.held_bytes > self.most_bytes and seen:
            self.held_bytes -= seen.popitem(last=False)[1]


Told = tuple[list[tuple[str, Sequence[int]]], dict[str, int]]
"""What one worker tells the others: prompts that it sent, by upstream, and its load at each that has changed."""


class Prefixes:
    """The memory of all upstreams whose tier balances by prefix; at most `tier.cache_tokens` for each of them.

    Where there are several workers, `on_news` is called at the first change since `take_news`.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._upstreams: dict[str, _Upstream] = {}
        self.on_news: Callable[[], None] | None = None
        self._peer_bytes = PeerLoad()
        self._sent: list[tuple[str, Sequence[int]]] = []
        self._changed: set[str] = set()

    def order(
        self, targets: Sequence[Target], prompt: Prompt, in_flight: Mapping[str, int]
    ) -> tuple[list[Target], str]:
        """Return the upstreams of a tier, best first, and why; of equal ones the one that was sent the least."""
        beginnings, elsewhere_bytes = prompt.beginnings, self._peer_bytes.totals
        ranked = []
        for place, target in enumerate(targets):
            upstream = self._find(target)
            blocks = upstream.count_seen(beginnings)
            spared = _ENDS[blocks - 1] if blocks else 0
            left = upstream.waiting_bytes + elsewhere_bytes.get(target.key, 0) - spared
            left += _CALL_BYTES * in_flight.get(target.key, 0)
            ranked.append((left, upstream.sent, place, spared))
        ranked.sort()
        spared = ranked[0][3]
        why = f"{spared} of {prompt.size} prompt bytes in its cache" if spared else ""
        return [targets[place] for _, _, place, _ in ranked], why

    def begin(self, target: Target, prompt: Prompt) -> int:
        """Note that a prompt is sent; return the bytes that wait there until `end` is told of them."""
        upstream = self._find(target)
        beginnings = prompt.beginnings
        blocks = upstream.count_seen(beginnings)
        waiting = prompt.size - (_ENDS[blocks - 1] if blocks else 0)
        upstream.waiting_bytes += waiting
        upstream.sent += 1
        upstream.note(beginnings)
        if self.on_news is not None:
            self._sent.append((target.key, beginnings))
            self.note_load(target.key)
        return waiting

    def note_load(self, key: str) -> None:
        """Have the others told of the load at an upstream, where there are others."""
        if self.on_news is not None and key in self._upstreams:
            is_first = not self._changed
            self._changed.add(key)
            if is_first:
                self.on_news()

    def take_news(self, in_flight: Mapping[str, int]) -> Told:
        """Return what the other workers do not know yet."""
        sent, self._sent = self._sent, []
        changed, self._changed = self._changed, set()
        loads = {
            key: upstream.waiting_bytes + _CALL_BYTES * in_flight.get(key, 0)
            for key, upstream in self._upstreams.items()
            if key in changed
        }
        return sent, loads

    def hear(self, worker: int, told: Told, targets: Iterable[Target]) -> None:
        """Take in what another worker tells; `targets` are all that balance by prefix."""
        sent, loads = told
        known = {target.key: target for target in targets}
        for key, beginnings in sent:
            if key in known:
                upstream = self._find(known[key])
                upstream.sent += 1
                upstream.note(beginnings)
        self._peer_bytes.hear(worker, {key: load_bytes for key, load_bytes in loads.items() if key in known})

    def forget_worker(self, worker: int) -> None:
        """Forget the load of a worker that is gone."""
        self._peer_bytes.forget_worker(worker)

    def end(self, target: Target, waiting_bytes: int) -> None:
        """Note that a prompt's first token came, or that it never will."""
        upstream = self._upstreams.get(target.key)
        if upstream is not None:  # forgotten meanwhile, with what waited
            upstream.waiting_bytes = max(0, upstream.waiting_bytes - waiting_bytes)
            self.note_load(target.key)

    def forget(self, key: str) -> None:
        """Forget what an upstream was sent: its engine has started anew."""
        self._upstreams.pop(key, None)
        self._peer_bytes.forget(key)

    def keep(self, keys: set[str]) -> None:
        """Forget every upstream but these."""
        for key in self._upstreams.keys() - keys:
            del self._upstreams[key]
        self._peer_bytes.keep(keys)

    def _find(self, target: Target) -> _Upstream:
        upstream = self._upstreams.get(target.key)
        if upstream is None:
            tokens = target.tier.cache_tokens or _ASSUMED_CACHE_TOKENS
            upstream = self._upstreams[target.key] = _Upstream(tokens * BYTES_PER_TOKEN)
        return upstream
