"""Laws of sharing a model between devices: messages, the hottest rank, and what is kept once, n times or in parts."""

import pytest

from ownward import anatomy, catalog
from ownward.perf import Deployment, communication_s, deploy, hot_rank_factor


def _deployed(model: str, **asked: object) -> Deployment:
    release = catalog.model(model)
    found = anatomy.from_config(release.load_config(), name=release.name)
    asked = {"machines_count": 8, "engine": "sglang", "weights": "fp8"} | asked
    made = deploy(found, machine=catalog.machine("H200 SXM"), **asked)  # type: ignore[arg-type]
    assert isinstance(made, Deployment)
    return made


def test_the_hottest_rank_gets_more_than_the_mean_and_less_the_more_there_is_to_share() -> None:
    factors = [hot_rank_factor(8, copies) for copies in (8, 64, 512, 4096, 1 << 20)]
    assert factors == sorted(factors, reverse=True)
    assert 1 < factors[-1] < factors[0] <= 8


def test_one_rank_has_no_hottest() -> None:
    assert hot_rank_factor(1, 8) == 1.0


def test_ranks_never_get_more_than_all() -> None:
    assert hot_rank_factor(2, 1) <= 2


def _messages(*, tokens: float, attention_data_parallel: bool, copies: int = 8) -> float:
    return communication_s(
        devices=8, family="hopper", tokens=tokens, hidden=7168, layers=61, expert_layers=58, copies=copies,
        reduce_s=1e-5, attention_data_parallel=attention_data_parallel,
    )  # fmt: skip


def test_exchanges_send_less_than_reductions_when_there_is_much_to_send() -> None:
    """All-reduces move every token to every device; an exchange moves a token to the ranks of its experts."""
    many = 16384.0
    assert _messages(tokens=many, attention_data_parallel=True) < _messages(tokens=many, attention_data_parallel=False)


def test_exchanges_wait_longer_than_reductions_when_there_is_little_to_send() -> None:
    assert _messages(tokens=1, attention_data_parallel=True) > _messages(tokens=1, attention_data_parallel=False)


def test_a_latent_cache_is_kept_by_every_device_that_shares_its_layer() -> None:
    latent, grouped = _deployed("deepseek-v3"), _deployed("llama-3.1-70b")
    assert latent.cache_copies == 8
    assert grouped.cache_copies == 1
    assert latent.compute_memory(concurrency=1, context_tokens=4096).cache == pytest.approx(
        8 * latent.cache_bytes(4096), rel=1e-6
    )


def test_devices_beyond_the_heads_of_keys_and_values_keep_them_again() -> None:
    """Four heads on eight devices: each of them is kept twice, in memory and for reading."""
    few = _deployed("qwen3-235b-a22b")
    assert few.cache_copies == 2
    assert few.compute_memory(concurrency=4, context_tokens=8192).cache == pytest.approx(
        2 * 4 * few.cache_bytes(8192), rel=1e-6
    )


def test_attention_cut_by_sequences_keeps_a_latent_cache_once_and_its_weights_everywhere() -> None:
    shared = _deployed("deepseek-v3", expert_parallel=8)
    cut = _deployed("deepseek-v3", expert_parallel=8, attention_data_parallel=True)
    assert cut.cache_copies == 1
    assert cut.weight_bytes > shared.weight_bytes
    assert (cut.most_sequences(8192) or 0) > (shared.most_sequences(8192) or 0)


def test_whole_experts_on_few_devices_cost_a_small_batch_more_than_cut_ones() -> None:
    """The busiest device holds up all; cut experts are balanced by nature."""
    cut, whole = _deployed("deepseek-v3"), _deployed("deepseek-v3", expert_parallel=8)
    slower = [
        whole.compute_decode_step_s(sequences=many, context_tokens=1024)
        / cut.compute_decode_step_s(sequences=many, context_tokens=1024)
        for many in (2, 1024)
    ]
    assert slower[0] > 1
    assert slower[1] < slower[0]


@pytest.mark.parametrize(("stated", "degree"), [(None, 1), (1, 1), (8, 8), (True, 8)])
def test_experts_are_apart_where_a_degree_above_one_or_true_says_so(stated: int | None, degree: int) -> None:
    assert _deployed("deepseek-v3", expert_parallel=stated).expert_parallel == degree


@pytest.mark.parametrize(("devices", "degree"), [(4, 1), (8, 8)])
def test_experts_whose_fp8_tiles_cannot_be_cut_stay_whole(devices: int, degree: int) -> None:
    """MiniMax-M2.7: 1,536 by 8 devices are 192, no multiple of 128, and vLLM stops while it loads."""
    made = _deployed("minimax-m2.7", weights="native", machines_count=devices)
    assert (made.tensor_parallel, made.expert_parallel) == (devices, degree)


def test_a_dense_model_has_no_experts_to_place() -> None:
    assert _deployed("llama-3.1-70b", expert_parallel=8).expert_parallel == 1
