"""Loads with limits: they are kept, tighter ones give less, and without any they give what a full machine does."""

import pytest

from ownward import anatomy, catalog
from ownward.perf import Case, Limits, predict, usual_limits

_RELEASE = catalog.model("llama-3.1-8b")
_MODEL = anatomy.from_config(_RELEASE.load_config(), name=_RELEASE.name)


def _asked(metric: str, limits: Limits | None, **other: object) -> float:
    case = Case(
        id="a", anatomy=_MODEL, machine=catalog.machine("H100 SXM"), engine="vllm", concurrency=1024, requests=0,
        input_tokens=1000, output_tokens=200, limits=limits, metric=metric, **other,  # type: ignore[arg-type]
    )  # fmt: skip
    value = predict(case).value
    assert value is not None
    return value


@pytest.mark.parametrize("tpot_s", [0.02, 0.03, 0.1])
def test_a_limit_on_tokens_is_kept_and_used(tpot_s: float) -> None:
    assert _asked("tpot_ms", Limits(10, tpot_s)) <= 1e3 * tpot_s * 1.001
    if tpot_s < 0.05:
        assert _asked("tpot_ms", Limits(10, tpot_s)) >= 1e3 * tpot_s * 0.9


def test_tighter_limits_give_less() -> None:
    rates = [_asked("decode_tok_s_total", Limits(ttft, tpot)) for ttft, tpot in ((0.2, 0.02), (2, 0.03), (10, 10))]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_limits_that_nothing_reaches_give_what_an_endless_run_does() -> None:
    """But for what crowds cost, which arrivals at a rate that is kept are not charged with."""
    free, full = _asked("decode_tok_s_total", Limits(1e6, 1e6)), _asked("decode_tok_s_total", None)
    assert free == pytest.approx(full, rel=0.4)


def test_a_model_that_no_benchmark_has_gets_the_limits_of_the_nearest_in_size() -> None:
    assert usual_limits("server", _MODEL) == Limits(2.0, 0.1)
    assert usual_limits("interactive", _MODEL).tpot_s < usual_limits("server", _MODEL).tpot_s
