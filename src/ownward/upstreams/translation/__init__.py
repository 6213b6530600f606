"""Requests, answers, streams and errors told in another dialect: without loss, or refused by name.

OpenAI chat completions, OpenAI responses (those that hold all they need) and Anthropic messages come in and go out;
into responses, messages alone. Everything passes through one middle (`_core`), so that each dialect is read once
and written once. What the other side has no words for is refused with the client's own name for it; what is a mere
hint is left out and named.

It is pure and keeps nothing: it does not know upstreams, tiers or prices, and does no I/O.
"""

from ownward.upstreams.translation._core import Dialect
from ownward.upstreams.translation._errors import as_messages_error, refuses_later_system
from ownward.upstreams.translation._members import Untranslatable, UntranslatableAnswer
from ownward.upstreams.translation._steps import Steps, done
from ownward.upstreams.translation._translate import (
    Limits,
    StreamTranslator,
    Translation,
    UpstreamDialect,
    translate,
    translate_in_steps,
)
from ownward.upstreams.translation._write_chat import LimitName

__all__ = [
    "Dialect",
    "LimitName",
    "Limits",
    "Steps",
    "StreamTranslator",
    "Translation",
    "Untranslatable",
    "UntranslatableAnswer",
    "UpstreamDialect",
    "as_messages_error",
    "done",
    "refuses_later_system",
    "translate",
    "translate_in_steps",
]
