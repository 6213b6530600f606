"""Base units in code, friendly units when reading and printing, and nothing in between."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

_BYTE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "k": KIB,
    "m": MIB,
    "g": GIB,
    "t": TIB,
}
_DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*$", re.IGNORECASE)
_KILO = 1000.0
_MINUTE_S = 60.0
_HOUR_S = 3600.0
_DAY_S = 86400.0


def parse_bytes(text: str) -> int:
    """Return bytes from `64GB` (decimal), `64GiB`, `64G` (binary) or a plain number.

    Raises: ValueError, naming the text and the units allowed.

    >>> parse_bytes("64GiB") == 64 * 1024**3, parse_bytes("7.5 GB")
    (True, 7500000000)
    """
    number, unit = _split(text, "a size such as 64GB, 64GiB or 512MiB")
    if unit not in _BYTE_UNITS:
        message = f"{text!r} has the unit {unit!r}; write one of GB, GiB, MB, MiB, TB, TiB"
        raise ValueError(message)
    return round(number * _BYTE_UNITS[unit])


def parse_bandwidth(text: str) -> float:
    """Return bytes per second from `7GB/s`, `7GBps` or `7GB`.

    Raises: ValueError, naming the text and the units allowed.

    >>> parse_bandwidth("7GB/s")
    7000000000.0
    """
    bare = re.sub(r"(/s|ps)\s*$", "", text.strip(), flags=re.IGNORECASE)
    return float(parse_bytes(bare))


def parse_duration(text: str) -> float:
    """Return seconds from `250ms`, `30s`, `5m`, `2h`, `7d` or a plain number of seconds.

    Raises: ValueError, naming the text and the units allowed.
    """
    number, unit = _split(text, "a duration such as 250ms, 30s, 5m, 2h or 7d")
    if unit and unit not in _DURATION_UNITS:
        message = f"{text!r} has the unit {unit!r}; write one of ms, s, m, h, d"
        raise ValueError(message)
    return number * _DURATION_UNITS[unit or "s"]


def format_bytes(count: float | None) -> str:
    """Return a size in binary units with three figures; `?` for unknown.

    >>> format_bytes(98362432), format_bytes(None)
    ('93.8 MiB', '?')
    """
    if count is None:
        return "?"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < KIB:
            break
        value, unit = value / KIB, larger
    return f"{_three_figures(value)} {unit}"


def format_count(count: float | None) -> str:
    """Return a count with K, M, B or T; `?` for unknown.

    >>> format_count(396_800_000_000), format_count(999)
    ('397B', '999')
    """
    if count is None:
        return "?"
    value, unit = float(count), ""
    for larger in ("K", "M", "B", "T"):
        if abs(value) < _KILO:
            break
        value, unit = value / _KILO, larger
    return f"{_three_figures(value)}{unit}"


def format_counted(count: int, thing: str) -> str:
    """Return a whole number of things, in the plural unless it is one.

    >>> format_counted(1, "task"), format_counted(8819, "request")
    ('1 task', '8,819 requests')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def format_rate(per_second: float | None, unit: str = "tok") -> str:
    """Return a rate such as `75.3 tok/s`; `?` for unknown."""
    return "?" if per_second is None else f"{_three_figures(per_second)} {unit}/s"


def format_percent(fraction: float | None, *, places: int = 0) -> str:
    """Return a share of one as percent; `?` for unknown. Only none is 0%, and only all are 100%.

    >>> format_percent(0.123), format_percent(0.9996, places=1), format_percent(0.002)
    ('12%', '>99.9%', '<1%')
    """
    if fraction is None:
        return "?"
    shown, least = f"{100 * fraction:.{places}f}", 10**-places
    if fraction > 0 and not float(shown):
        return f"<{least:g}%"
    return f">{100 - least:g}%" if fraction < 1 and float(shown) == 100 else f"{shown}%"  # noqa: PLR2004


def format_duration(seconds: float | None) -> str:
    """Return a duration in the unit a person would use; `?` for unknown.

    >>> format_duration(0.00071), format_duration(0.0213), format_duration(5400)
    ('0.710 ms', '21.3 ms', '1.50 h')
    """
    if seconds is None:
        return "?"
    size = abs(seconds)
    if size < 1:
        return f"{_three_figures(seconds * 1e3)} ms"
    for limit, unit, scale in ((2 * _MINUTE_S, "s", 1.0), (_HOUR_S, "min", _MINUTE_S), (2 * _DAY_S, "h", _HOUR_S)):
        if size < limit:
            return f"{_three_figures(seconds / scale)} {unit}"
    return f"{_three_figures(seconds / _DAY_S)} days"


def _three_figures(value: float) -> str:
    size = abs(value)
    if size == 0 or size >= 99.95:  # noqa: PLR2004 - where three figures end before the point
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:#.3g}" if size < 1 else f"{value:.2f}"  # noqa: PLR2004


def _split(text: str, wanted: str) -> tuple[float, str]:
    match = _QUANTITY.match(text)
    if match is None:
        message = f"{text!r} is not {wanted}"
        raise ValueError(message)
    return float(match[1]), match[2].lower()
