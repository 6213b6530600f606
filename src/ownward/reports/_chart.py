"""A line with its band as an SVG picture: logarithmic across, from zero upwards, readable aloud."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 44
_TICKS = 4
_KILO = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points (x, value, low, high) with x above 0 and rising; each has its own label on the axis."""

    title: str
    x_name: str
    y_name: str
    points: tuple[tuple[float, float, float, float], ...]
    x_labels: tuple[str, ...]


def draw_chart(series: Series) -> str:
    """Return the picture as an SVG element; colours are the page's classes `line`, `band`, `axis`, `tick`."""
    points = series.points
    top = nice_top(max((high for *_, high in points), default=1.0))
    first, last = math.log(points[0][0]), math.log(points[-1][0])
    span = (last - first) or 1.0

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((math.log(x) - first) / span if last > first else 0.5)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * y / top

    line = " ".join(f"{across(x):.1f},{up(value):.1f}" for x, value, *_ in points)
    edge = [(across(x), up(high)) for x, _, _, high in points]
    edge += [(across(x), up(low)) for x, _, low, _ in reversed(points)]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
    said = "; ".join(
        f"{label}: {value:,.0f} ({low:,.0f} to {high:,.0f})"
        for label, (_, value, low, high) in zip(series.x_labels, points, strict=True)
    )
    marks = "".join(
        f'<circle class="dot" cx="{across(x):.1f}" cy="{up(value):.1f}" r="3.5">'
        f"<title>{escape(label)}: {value:,.1f} ({low:,.1f} to {high:,.1f})</title></circle>"
        f'<line class="whisker" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{up(low):.1f}" y2="{up(high):.1f}"/>'
        for label, (x, value, low, high) in zip(series.x_labels, points, strict=True)
    )
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{_short(y)}</text>'
        for y in (top * step / _TICKS for step in range(_TICKS + 1))
    )
    labels = "".join(
        f'<text class="tick" x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{escape(label)}</text>"
        for label, (x, *_) in zip(series.x_labels, points, strict=True)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(series.title)}, {escape(series.y_name)}. {escape(said)}">'
        f'{grid}<polygon class="band" points="{band}"/><polyline class="line" points="{line}"/>{marks}{labels}'
        f'<text class="tick" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(series.x_name)}</text>"
        f'<text class="tick" x="14" y="{(_TOP + _HEIGHT - _BOTTOM) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(_TOP + _HEIGHT - _BOTTOM) / 2:.0f})">{escape(series.y_name)}</text></svg>'
    )


def nice_top(highest: float) -> float:
    """Return the least of 1, 2, 4, 8 and 10 times a power of ten, or 6 times, that holds `highest`.

    >>> nice_top(183.0), nice_top(7.2), nice_top(1060.0), nice_top(0.0)
    (200.0, 8.0, 2000.0, 1.0)
    """
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0) if step * power >= highest)


def _short(value: float) -> str:
    return f"{value / _KILO:g}K" if value >= _KILO else f"{value:g}"
