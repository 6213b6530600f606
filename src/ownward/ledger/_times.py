"""Moments as the ledger stores them: whole microseconds since 1970 in UTC, which sort and subtract."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ownward.core import LedgerError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return whole microseconds since 1970.

    Raises: LedgerError, if `moment` has no time zone.

    >>> to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    try:
        since = moment - _EPOCH
    except TypeError:
        raise LedgerError(
            f"the time {moment.isoformat()} has no time zone",
            allowed="The ledger takes aware times and stores them in UTC",
            next_step="Pass clock.now(), or add tzinfo=UTC",
        ) from None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds  # a division takes ten times as long


def from_us(microseconds: int) -> datetime:
    """Return the aware UTC moment.

    >>> from_us(1500000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def iso_text(microseconds: int | None) -> str | None:
    """Return ISO 8601 with six decimals and a `Z`, so that texts sort as their moments; None stays None.

    >>> iso_text(1500000)
    '1970-01-01T00:00:01.500000Z'
    """
    if microseconds is None:
        return None
    return from_us(microseconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_us_or_none(microseconds: int | None) -> datetime | None:
    """Return the aware UTC moment; None stays None."""
    return None if microseconds is None else from_us(microseconds)
