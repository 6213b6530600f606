"""`ownward top` as people see it: a busy gateway, one in trouble, one that has done nothing."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ownward.reports import Look, compute_frame, render_frame

AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
URL = "http://127.0.0.1:8484"
UPSTREAMS = (
    ("near", "near-1", "support", 0, 1, 4, 2, 5400, 0.09),
    ("near", "near-2", "support", 2, 1, 0, 2, 10, 0.001),
    ("a-tier-with-a-very-long-name-of-its-own", "eu-central-1", "extraction", 1, 1, 1, 0, 900, 11.5),
    ("gone", "gone", "extraction", 0, 0, 0, 0, 0, 0.0),
)


def busy() -> str:
    lines = ["ownward_requests_in_flight 7", "ownward_ledger_queue_entries 3", "ownward_stream_rest_seconds 0.033"]
    for tier, upstream, workload, state, usable, running, queue, calls, usd in UPSTREAMS:
        place = f'tier="{tier}",upstream="{upstream}"'
        call = f'workload="{workload}",{place}'
        lines += [
            f"ownward_breaker_state{{{place}}} {state}",
            f"ownward_upstream_usable{{{place}}} {usable}",
            f"ownward_calls_in_flight{{{place}}} {running}",
            f'ownward_queue_requests{{tier="{tier}"}} {queue}',
        ]
        if not calls:
            continue
        lines += [
            f'ownward_attempts_total{{{call},state="settled"}} {calls}',
            f'ownward_attempts_total{{{call},state="failed"}} {calls // 50}',
            f'ownward_tokens_total{{{call},kind="input"}} {calls * 800}',
            f'ownward_tokens_total{{{call},kind="output"}} {calls * 120}',
            f"ownward_charge_usd_total{{{call}}} {usd}",
        ]
        of_time = {
            "ttft": (("0.1", 0.2), ("0.25", 0.8), ("2.5", 1)),
            "tpot": (("0.01", 0.5), ("0.05", 1)),
        }
        for name, buckets in of_time.items():
            lines += [f'ownward_{name}_seconds_bucket{{{call},le="{le}"}} {calls * f}' for le, f in buckets]
    for workload, count in (("support", 5410), ("extraction", 900)):
        stated = f'endpoint="/v1/chat/completions",workload="{workload}",tier="near"'
        lines += [
            f'ownward_requests_total{{{stated},outcome="answered",status="200"}} {count}',
            f'ownward_requests_total{{{stated},outcome="failed",status="503"}} {count // 100}',
            f'ownward_request_seconds_bucket{{workload="{workload}",tier="near",le="2.5"}} {count // 2}',
            f'ownward_request_seconds_bucket{{workload="{workload}",tier="near",le="5"}} {count}',
            f'ownward_errors_total{{workload="{workload}",tier="near",kind="overloaded"}} {count // 100}',
        ]
    lines += [
        'ownward_call_failures_total{tier="near",upstream="near-2",kind="upstream_timeout"} 41',
        'ownward_call_failures_total{tier="near",upstream="near-1",kind="upstream_credentials"} 2',
    ]
    for part, usd in (("limit", 50), ("spent", 46.2), ("reserved", 0.6), ("left", 3.2)):
        lines.append(f'ownward_budget_{part}_usd{{kind="workload",name="extraction"}} {usd}')
    lines += [
        f"process_start_time_seconds {AT.timestamp() - 7200}",
        "process_cpu_seconds_total 540",
        "process_resident_memory_bytes 61865984",
    ]
    return "\n".join(lines) + "\n"


SCREENS = {
    "top-busy.txt": (busy(), None, None),
    "top-in-trouble.txt": (busy(), "No answer since 08:59:12 UTC: no gateway answers", None),
    "top-whose-ledger-is-locked.txt": (busy() + "ownward_ledger_failing 1\n", None, None),
    "top-with-an-empty-account.txt": (
        busy() + 'ownward_upstream_unpaid{tier="near",upstream="near-2"} 1\n',
        None,
        None,
    ),
    "top-on-a-low-terminal.txt": (busy(), None, 18),
    "top-that-did-nothing.txt": ("ownward_requests_in_flight 0\n", None, None),
}


def drawn(text: str, trouble: str | None, rows: int | None, columns: int = 80) -> str:
    frame = compute_frame(Look.parse(text, at_s=0), None, at=AT)
    stream = io.StringIO()
    picture = render_frame(frame, url=URL, trouble=trouble, rows=rows, columns=columns)
    Console(file=stream, width=columns, highlight=False).print(picture)
    return "\n".join(row.rstrip() for row in stream.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_as_kept(name, golden):
    golden(name, drawn(*SCREENS[name]))


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_fits_80_columns_without_colour(name):
    text = drawn(*SCREENS[name])
    assert max(len(row) for row in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_a_low_terminal_is_not_overrun():
    assert len(drawn(*SCREENS["top-on-a-low-terminal.txt"]).splitlines()) <= 18


@pytest.mark.parametrize("columns", [24, 40, 56, 60])
def test_a_narrow_terminal_shows_fewer_figures_and_each_of_them_whole(columns):
    wide, narrow = (drawn(busy(), None, None, columns=width) for width in (80, columns))
    assert max(len(row) for row in narrow.splitlines()) <= columns
    figures = {word for word in narrow.split() if word[0] in "0123456789<"}
    assert figures <= set(wide.split())
    assert "…" not in narrow.split()
    assert "probing" in narrow, "the state of each upstream is the last that is left out"
    assert len(narrow.split()) < len(wide.split())


def test_a_terminal_that_is_low_and_narrow_is_not_overrun():
    assert len(drawn(busy(), "No answer since 08:59:12 UTC: no gateway", 24, columns=40).splitlines()) <= 24
