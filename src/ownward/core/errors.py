"""Every error we raise: what failed, where, what would be allowed, what to do next.

OwnwardError                 exit code
├─ UsageError                2  a command line that cannot be meant
│  └─ MissingExtra           2  an optional part that is not installed
├─ ConfigError               2  the user's file or flags; all faults at once, each with file, line and key
├─ BadInput                  2  a file or record that cannot be read
├─ CatalogError              2  UnknownName: UnknownModel, UnknownMachine; MissingPrice, StalePrice
├─ InfeasiblePlan            3  an answer, not a crash: DoesNotFit, MissesSlo, NoCapacity
├─ UnsupportedModel          3  we refuse rather than guess: UnsupportedAttention, UnknownQuantization
├─ PolicyRefusal             3  a label forbids every place that could serve
├─ UpstreamError             4  UpstreamTimeout, UpstreamUnreachable, RateLimited, UpstreamRefused, BrokenStream
├─ EngineError               4  EngineExited, EngineNotReady, PortTaken, FetchFailed
└─ LedgerError               5  SchemaTooNew, LedgerLocked
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ownward.core._closest import closest

# A list of known names this short is shown whole where none is close.
_FEW = 12
# One that can begin a sentence with a capital: no address, key or option.
_WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*[,;:]?(?:\s|$)")


class OwnwardError(Exception):
    """The root: a message of four parts, a stable kind for programs and an exit code for shells."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        """Keep the parts: what failed with which value, where it stands, what is allowed, what to do next."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.allowed = allowed
        self.next_step = next_step

    @property
    def kind(self) -> str:
        """The class name in snake case, stable for programs."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def __str__(self) -> str:
        """Return the four parts as sentences."""
        head = f"{self.where}: {self.message}" if self.where else self.message
        return " ".join(_as_sentence(part) for part in (head, _capital(self.allowed), self.next_step) if part)

    def as_record(self) -> dict[str, Any]:
        """Return the `error` object of `ownward.error/1`."""
        return {
            "kind": self.kind,
            "message": self.message,
            "where": self.where,
            "allowed": self.allowed,
            "next": self.next_step,
        }


def _capital(text: str | None) -> str | None:
    """Return a text as it begins a sentence; what is written in code stays as it is written there.

    >>> _capital("one of a and b"), _capital("hf:org/name"), _capital("token_budget not below it")
    ('One of a and b', 'hf:org/name', 'token_budget not below it')
    """
    return text[0].upper() + text[1:] if text and _WORD.match(text) else text


def _as_sentence(text: str) -> str:
    return text if text.rstrip().endswith((".", "!", "?", ":")) else f"{text}."


class UsageError(OwnwardError):
    """A command line that cannot be meant."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional part that this call needs and that is not installed."""

    def __init__(self, *, needed_for: str, package: str, extra: str) -> None:
        """Name the part, the package and the extra that brings it."""
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed",
            next_step=f"Install it with: pip install 'ownward[{extra}]'",
        )
        self.package = package
        self.extra = extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong in a file: where it stands, what it is, and what would be right."""

    file: str
    line: int | None = None
    key: str | None = None
    message: str
    allowed: str | None = None

    def __str__(self) -> str:
        """Return `file:line: key message. allowed`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.key} {self.message}" if self.key else self.message
        return f"{place}: {' '.join(_as_sentence(part) for part in (subject, _capital(self.allowed)) if part)}"


class ConfigError(OwnwardError):
    """The user's file or flags, with every fault found in one reading."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault], *, next_step: str | None = None) -> None:
        """Keep the faults in the order found; there is at least one."""
        first = faults[0]
        count = len(faults)
        super().__init__(
            "; ".join(f"{fault.key} {fault.message}" if fault.key else fault.message for fault in faults),
            where=first.file if first.line is None else f"{first.file}:{first.line}",
            allowed=first.allowed if count == 1 else None,
            next_step=next_step,
        )
        self.faults = tuple(faults)

    def __str__(self) -> str:
        """Return one fault a line."""
        lines = [str(fault) for fault in self.faults]
        return "\n".join([*lines, self.next_step] if self.next_step else lines)

    def as_record(self) -> dict[str, Any]:
        """Return the `error` object with all faults listed."""
        listed = [
            {"file": f.file, "line": f.line, "key": f.key, "message": f.message, "allowed": f.allowed}
            for f in self.faults
        ]
        return {**super().as_record(), "faults": listed}


class BadInput(OwnwardError):
    """A file or record that cannot be read as what it should be."""

    exit_code = 2


class CatalogError(OwnwardError):
    """The catalogue cannot answer."""

    exit_code = 2


class UnknownName(CatalogError):
    """A name that the catalogue or a plan does not have."""

    def __init__(self, name: str, known: Sequence[str], *, what: str, see: str | None = None) -> None:
        """Name it, with the closest of `known` and the command that lists them; without one, all are named."""
        near = closest(name, known)
        named = near or (tuple(known) if see is None or len(known) <= _FEW else ())
        listed = ", ".join(repr(item) for item in named)
        super().__init__(
            f"no {what} {name!r}",
            allowed=f"{'Closest' if near else 'Known'}: {listed}" if listed else None,
            next_step=f"See them all with: {see}" if see else None,
        )
        self.name = name
        self.closest = near


class UnknownModel(UnknownName):
    """A model name that the catalogue does not have and that is no file."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        """Name it with the closest."""
        super().__init__(name, known, what="model", see="ownward models")


class UnknownMachine(UnknownName):
    """A machine name that the catalogue does not have and that is no file."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        """Name it with the closest."""
        super().__init__(name, known, what="machine", see="ownward machines")


class MissingPrice(CatalogError):
    """A price is needed and none is known; it is never taken as zero."""


class StalePrice(CatalogError):
    """The only price known does not hold at the date asked for."""


class InfeasiblePlan(OwnwardError):
    """An answer: what was asked for cannot be had."""

    exit_code = 3


class DoesNotFit(InfeasiblePlan):
    """The memory is too small."""


class MissesSlo(InfeasiblePlan):
    """No option holds the stated service level."""


class NoCapacity(InfeasiblePlan):
    """The stated load is above what the fleet can serve."""


class UnsupportedModel(OwnwardError):
    """A model that we cannot read exactly, so that we refuse it by name."""

    exit_code = 3


class UnsupportedAttention(UnsupportedModel):
    """An attention kind without a formula here."""


class UnknownQuantization(UnsupportedModel):
    """A quantisation without known bytes."""


class PolicyRefusal(OwnwardError):
    """A label forbids every place that could serve the request."""

    exit_code = 3


class UpstreamError(OwnwardError):
    """An upstream did not do what was asked; `retry_after_s` is how long it asks to wait, where it says so."""

    exit_code = 4
    is_retryable: ClassVar[bool] = True
    retry_after_s: float | None = None


class UpstreamTimeout(UpstreamError):
    """No answer, or no further byte, within the time allowed."""


class UpstreamUnreachable(UpstreamError):
    """No connection, so that nothing was sent."""


class RateLimited(UpstreamError):
    """The upstream asks to wait."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        where: str | None = None,
        next_step: str | None = None,
    ) -> None:
        """Keep how long it asks to wait, where it says so."""
        super().__init__(message, where=where, next_step=next_step)
        self.retry_after_s = retry_after_s


class UpstreamRefused(UpstreamError):
    """The upstream rejects the request itself: another try would fail alike."""

    is_retryable = False

    def __init__(self, message: str, *, status: int, where: str | None = None, allowed: str | None = None) -> None:
        """Keep the status it gave."""
        super().__init__(message, where=where, allowed=allowed)
        self.status = status


class BrokenStream(UpstreamError):
    """A stream ended before it was complete.

    `was_kept`: nothing of the answer had come, on a connection that was kept from an earlier request: its server has
    likely closed it in the moment in which it was used again.
    """

    is_retryable = False
    was_kept: bool = False


class EngineError(OwnwardError):
    """A local engine did not do what was asked."""

    exit_code = 4


class EngineExited(EngineError):
    """The engine's process ended by itself."""


class EngineNotReady(EngineError):
    """The engine did not become ready in the time allowed."""


class PortTaken(EngineError):
    """Something else listens on the port."""


class FetchFailed(EngineError):
    """Weights could not be fetched, or are not the bytes they should be."""


class LedgerError(OwnwardError):
    """The ledger cannot be read or written."""

    exit_code = 5


class SchemaTooNew(LedgerError):
    """The ledger was written by a later version."""


class LedgerLocked(LedgerError):
    """Another process holds the ledger."""
