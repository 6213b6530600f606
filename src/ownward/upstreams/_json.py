"""What our JSON decoder raises on foreign bytes: bad JSON, text that is not UTF-8, and nesting without end."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
