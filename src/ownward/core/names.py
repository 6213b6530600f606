"""Names that stand in headers, in the plan and in the ledger: of workloads, tiers, upstreams."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,127}")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_.:@/+-]+")
_MOST_KEPT: Final = 64
_DIGITS: Final = 12  # of the digest: of names in other scripts nothing else is left


def is_name(text: str) -> bool:
    """Return whether a text is up to 128 ASCII letters, digits and _ . : @ / + -, beginning with a letter or digit."""
    return _NAME.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def as_name(text: str) -> str:
    """Return a text that is a name as it is, and of any other a name that is like it and of no other text.

    >>> as_name("chat"), as_name("Conversation log"), as_name("客服")
    ('chat', 'Conversation-log-0b6009283bf7', 'w-eae0efe236c3')
    """
    if is_name(text):
        return text
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    alike = _OTHER.sub("-", ascii_only).strip("_.:@/+-")[:_MOST_KEPT] or "w"
    return f"{alike}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"
