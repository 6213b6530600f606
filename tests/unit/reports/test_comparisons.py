"""Own against rent on a screen: every figure under its heading, and what is unknown or barred said so."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from ownward.economics import ApiOption, Assumptions, Capacity, OwnedOption, Volume, assume, own_vs_rent
from ownward.reports import render_comparisons
from ownward.simulation import Scheduler

DAY = date(2026, 11, 21)


def sure(value: float) -> Any:
    return assume(value, "stated by the test", checked_on=DAY)


def api(name: str, usd: str) -> ApiOption:
    return ApiOption(
        name=name, input_usd_per_mtok=Decimal(usd), output_usd_per_mtok=Decimal(usd), source="p", checked_on=DAY
    )


@dataclass
class Compared:
    workload: str
    own_vs_rent: Any
    sizings: dict[str, Any] = field(default_factory=dict)
    barred: dict[str, str] = field(default_factory=dict)


@dataclass
class Choice:
    why: tuple[str, ...] = ("chat: direct on box",)
    plan_usd: Decimal = Decimal("12.50")
    baseline_usd: Decimal | None = None


@dataclass
class Sized:
    scheduler: Scheduler


def shown(
    *rented: ApiOption,
    assumptions: Assumptions | None = None,
    barred: dict[str, str] | None = None,
    sizings: dict[str, Any] | None = None,
    width: int = 100,
) -> list[str]:
    volume = Volume(
        requests=2_000_000,
        input_tokens=1_000_000_000,
        cached_input_tokens=0,
        output_tokens=500_000_000,
        peak_input_tokens_per_s=1_000,
        peak_output_tokens_per_s=500,
    )
    capacity = Capacity(prefill_tokens_per_s=sure(1e6), decode_tokens_per_s=sure(2000))
    box = OwnedOption(name="box", capex_usd=sure(8000), idle_watts=sure(100), busy_watts=sure(700), capacity=capacity)
    found = own_vs_rent(volume, [box], list(rented), assumptions, seed=1)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_comparisons([Compared("chat", found, sizings=sizings or {}, barred=barred or {})], Choice()))
    return console.export_text().splitlines()


def row(lines: list[str], beginning: str) -> list[str]:
    return next(line.split() for line in lines if line.strip().startswith(beginning))


def test_each_rented_model_has_its_own_column_of_break_evens() -> None:
    lines = shown(api("cheap", "0.001"), api("dear", "1000"))
    assert row(lines, "against") == ["against", "against"]
    assert row(lines, "cheap") == ["cheap", "dear"]
    _, cheap, dear = row(lines, "box")
    assert cheap == "never"
    assert "never" not in dear
    assert row(lines, "(")  # its band, in one piece


def test_a_rented_model_costs_what_it_costs_and_an_owned_one_has_both_figures() -> None:
    lines = shown(api("dear", "2"))
    assert row(lines, "rent dear")[2:] == ["$3,000", "$1.50"]
    energy, loaded = row(lines, "own  box")[4:6]
    assert 0 < float(energy.strip("$")) < float(loaded.replace(",", "").strip("$"))


def test_what_is_barred_stands_with_its_reason_and_an_unknown_baseline_is_no_zero() -> None:
    lines = shown(api("dear", "2"), barred={"big": "does not fit"})
    assert row(lines, "own  big") == ["own", "big", "none"]
    assert "not big: does not fit" in lines
    assert any("everything at the baseline: ?" in line for line in lines)


def test_the_limits_under_which_an_engine_holds_the_service_level_are_told() -> None:
    lines = shown(api("dear", "2"), sizings={"box": Sized(Scheduler(max_batch=64, token_budget=2048))})
    assert "engine limits: box 64 sequences and 2,048 tokens a step" in lines


def test_a_narrow_terminal_shows_what_costs_and_names_what_it_leaves_out() -> None:
    lines = shown(api("claude-haiku-4-5", "2"), barred={"big": "context: " + "too long " * 9}, width=60)
    assert row(lines, "rent claude-haiku-4-5")[-2:] == ["$3,000", "$1.50"]
    assert any(line.startswith("no room for machines, busy") for line in lines)
    assert "owning pays from (requests a month, 80% band)" in lines


@pytest.mark.parametrize(("redundancy", "told"), [(0, "none"), (1, "one"), (2, "2")])
def test_the_machines_in_reserve_are_those_that_were_counted(redundancy: int, told: str) -> None:
    lines = shown(api("cheap", "1"), assumptions=Assumptions(redundancy=redundancy))
    assert f"weakest figure: assumed; machines include {told} in reserve" in lines
