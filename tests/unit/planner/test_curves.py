"""Speed against context and against sequences, and what would make something fit."""

from datetime import date

from ownward import anatomy, catalog
from ownward.planner import FitOption, Host, compute_curves, find_nearest, fit

AT = date(2026, 11, 21)


def _fit(model: str, machine: str, **asked: object) -> list[FitOption]:
    release = catalog.model(model)
    found = anatomy.from_config(release.load_config(), name=release.name)
    return fit([found], machine=catalog.machine(machine), at=AT, **asked)  # type: ignore[arg-type]


def test_curves_reach_the_longest_context_and_the_most_sequences() -> None:
    best = _fit("qwen3-30b-a3b", "RTX 4090")[0]
    curves = compute_curves(best)
    assert curves.by_context[-1].context_tokens == best.max_context_tokens
    assert curves.by_concurrency[-1].concurrency == best.max_concurrency


def test_more_context_is_never_faster_and_more_sequences_never_faster_for_each() -> None:
    for option in _fit("qwen3-8b", "RTX 4090")[:3]:
        curves = compute_curves(option)
        by_context = [point.decode_tokens_per_s.value or 0.0 for point in curves.by_context]
        each = [point.decode_tokens_per_s.value or 0.0 for point in curves.by_concurrency]
        assert by_context == sorted(by_context, reverse=True)
        assert each == sorted(each, reverse=True)


def test_a_curve_passes_through_what_was_asked() -> None:
    best = _fit("qwen3-8b", "RTX 4090", context_tokens=4096)[0]
    point = next(point for point in compute_curves(best).by_context if point.context_tokens == 4096)
    assert point.decode_tokens_per_s.value == best.decode_tokens_per_s.value


def test_a_token_costs_less_among_more_sequences_where_they_are_faster_together() -> None:
    points = compute_curves(_fit("qwen3-30b-a3b", "RTX 4090", host=Host(memory_bytes=64 << 30))[0]).by_concurrency
    assert points[0].usd_per_mtok_loaded is not None
    assert points[-1].usd_per_mtok_loaded is not None
    assert points[-1].usd_per_mtok_loaded < points[0].usd_per_mtok_loaded


def test_what_does_not_fit_has_no_speed_no_cost_and_no_curve() -> None:
    option = _fit("qwen3.5-397b-a17b", "RTX 4090")[0]
    assert option.fits is False
    assert option.decode_tokens_per_s.value is None
    assert option.usd_per_mtok_loaded is None
    assert compute_curves(option).by_context == ()


def test_the_nearest_changes_do_fit() -> None:
    options = _fit("qwen3.5-397b-a17b", "RTX 4090")
    family = [
        anatomy.from_config(catalog.model(name).load_config(), name=catalog.model(name).name)
        for name in ("qwen3.5-9b", "qwen3.5-27b")
    ]
    found = find_nearest(
        options, machines=catalog.machines(), others=family, merits={"Qwen3.5-27B": 2.0, "Qwen3.5-9B": 1.0}
    )
    assert {item.change for item in found} >= {"ram", "machine", "model"}
    assert all(item.option.fits for item in found)
    assert next(item.to for item in found if item.change == "model") == "Qwen3.5-27B"


def test_a_shorter_context_is_named_where_it_is_all_that_is_missing() -> None:
    options = _fit("qwen3-8b", "RTX 4090", context_tokens=32768, concurrency=16, formats=["bf16"])
    found = {item.change: item for item in find_nearest(options)}
    assert found["context"].option.fits
    assert found["context"].option.context_tokens < 32768
    assert found["concurrency"].option.fits
    assert found["concurrency"].option.concurrency < 16


def test_nothing_is_near_what_fits_already() -> None:
    assert find_nearest(_fit("qwen3-8b", "RTX 4090")) == ()
