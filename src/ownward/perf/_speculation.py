"""Drafted tokens: what is meant by a method and a depth, and what share of them is accepted."""

from __future__ import annotations

import re
from typing import NamedTuple

# Accepted share of drafted tokens where not stated. Source: MTP 0.73 to 0.82 on Strix Halo (kyuz0); others assumed.
_ACCEPTED = {"mtp": 0.75, "draft": 0.5, "ngram": 0.35, "dflash": 0.4, "eagle": 0.6}
_ANY_ACCEPTED = 0.6
_ANY_DRAFTED = 3
# The layers that a small draft model has (Qwen3-0.6B and 1.7B: 28; TinyLlama-1.1B: 22), each launched for every token.
DRAFT_LAYERS = 28


class Speculation(NamedTuple):
    """Drafted tokens a step and the share that is accepted: a step gives 1 + drafted x accepted tokens."""

    drafted: int
    accepted: float
    method: str = ""
    draft_params: float = 0.0


def read_speculation(given: bool | str | None) -> Speculation | None:
    """Return what is meant by `speculative`: a method with a depth as in `mtp-3`, or only that there is one.

    >>> read_speculation("spec:mtp-3"), read_speculation(False)
    (Speculation(drafted=3, accepted=0.75, method='mtp', draft_params=0), None)
    """
    if not given:
        return None
    text = given.lower() if isinstance(given, str) else ""
    depth = re.search(r"(?:mtp|eagle|ngram|dflash)-?k?(\d+)|\bk['\"]?[:= ]*(\d+)", text)
    drafted = int(depth[1] or depth[2]) if depth else _ANY_DRAFTED
    method = next((name for name in _ACCEPTED if name in text), "")
    size = re.search(r"(\d+(?:\.\d+)?)b\b", text) if method == "draft" else None
    return Speculation(
        min(drafted, 16), _ACCEPTED.get(method, _ANY_ACCEPTED), method, float(size[1]) * 1e9 if size else 0
    )
