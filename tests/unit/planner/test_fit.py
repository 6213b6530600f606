"""Ways to run a model on a machine, with the memory and the disk behind it."""

from datetime import date

import pytest

from ownward import anatomy, catalog
from ownward.planner import FitOption, Host, at_load, fit

AT = date(2026, 11, 21)


def _fit(model: str, machine: str, host: Host | None = None, **asked: object) -> list[FitOption]:
    release = catalog.model(model)
    found = anatomy.from_config(release.load_config(), name=release.name)
    return fit([found], machine=catalog.machine(machine), host=host, at=AT, **asked)  # type: ignore[arg-type]


def test_what_fits_stands_before_what_does_not_and_the_rest_says_what_is_missing() -> None:
    options = _fit("qwen3-32b", "RTX 4090")
    assert [option.fits for option in options] == sorted([option.fits for option in options], reverse=True)
    assert all((option.missing_bytes or 0) > 0 for option in options if option.fits is False)


def test_experts_move_to_the_host_and_only_as_many_as_must() -> None:
    best = next(option for option in _fit("gpt-oss-120b", "RTX 4090", Host(memory_bytes=64 << 30)) if option.fits)
    assert best.is_split_by_expert
    assert 0 < best.layers_on_host < best.layer_count
    assert best.placement.startswith("experts over VRAM and RAM")


def test_layers_of_a_dense_model_move_to_the_host() -> None:
    moved = [
        option for option in _fit("llama-3.3-70b", "RTX 4090", Host(memory_bytes=64 << 30)) if option.layers_on_host
    ]
    assert moved
    assert not any(option.is_split_by_expert for option in moved)


def test_more_memory_behind_a_card_never_takes_an_option_away() -> None:
    def fitting(gib: int) -> set[str]:
        return {
            option.variant for option in _fit("llama-3.3-70b", "RTX 4090", Host(memory_bytes=gib << 30)) if option.fits
        }

    assert fitting(0) <= fitting(32) <= fitting(64) <= fitting(256)


def test_a_disk_takes_what_memory_does_not_and_is_slower() -> None:
    with_disk = Host(memory_bytes=32 << 30, disk_bytes_per_s=7e9)
    slow = next(o for o in _fit("gpt-oss-120b", "RTX 4090", with_disk, context_tokens=4096) if o.fits)
    fast = next(
        o for o in _fit("gpt-oss-120b", "RTX 4090", Host(memory_bytes=128 << 30), context_tokens=4096) if o.fits
    )
    assert "SSD" in slow.placement
    assert slow.decode_tokens_per_s.value is not None
    assert fast.decode_tokens_per_s.value is not None
    assert slow.decode_tokens_per_s.value < fast.decode_tokens_per_s.value


def test_a_release_with_four_bit_weights_is_offered_as_released() -> None:
    assert [option.variant for option in _fit("gpt-oss-20b", "RTX 4090")] == ["mxfp4"]


def test_merits_rank_models_and_keep_one_option_of_each() -> None:
    names = ("qwen3-0.6b", "qwen3-8b")
    found = [anatomy.from_config(catalog.model(n).load_config(), name=catalog.model(n).name) for n in names]
    options = fit(found, machine=catalog.machine("RTX 4090"), merits={"Qwen3-0.6B": 1.0, "Qwen3-8B": 2.0}, at=AT)
    assert [option.model for option in options] == ["Qwen3-8B", "Qwen3-0.6B"]


@pytest.mark.parametrize("context", [4096, 16384])
def test_the_longest_context_holds_what_was_asked_where_it_fits(context: int) -> None:
    best = _fit("qwen3-8b", "RTX 4090", context_tokens=context)[0]
    assert best.max_context_tokens is not None
    assert best.max_context_tokens >= context


def test_where_memory_is_not_known_options_are_ranked_as_if_they_fitted_and_say_so() -> None:
    options = _fit("qwen3-8b", "epyc-9005-12ch-ddr5-6000")
    assert {option.fits for option in options} == {None}
    assert options[0].bits >= 6
    assert "driver-visible memory" in options[0].unknown


def test_prompts_are_read_in_wider_pieces_where_experts_come_from_the_hosts_memory() -> None:
    split = next(o for o in _fit("gpt-oss-120b", "RTX 4090", Host(memory_bytes=64 << 30)) if o.fits)
    whole = next(o for o in _fit("gpt-oss-20b", "RTX 4090") if o.fits)
    assert split.prefill_chunk_tokens > whole.prefill_chunk_tokens


def test_an_option_at_another_load_reads_prompts_in_the_same_pieces() -> None:
    split = next(o for o in _fit("gpt-oss-120b", "RTX 4090", Host(memory_bytes=64 << 30)) if o.fits)
    other = at_load(split, context_tokens=2048, concurrency=2)
    assert other is not None
    assert other.prefill_chunk_tokens == split.prefill_chunk_tokens


@pytest.mark.parametrize(
    ("heads", "kv_heads", "degrees"),
    [(32, 8, (8, 1)), (28, 4, (4, 2)), (20, 4, (4, 2)), (40, 10, (2, 4)), (9, 3, (1, 8))],
)
def test_devices_share_layers_only_as_the_heads_come_out_even(
    heads: int, kv_heads: int, degrees: tuple[int, int]
) -> None:
    """28 heads cannot be dealt out to 8 devices: vLLM would not start, so four share and two groups take turns."""
    config = {
        "model_type": "llama",
        "hidden_size": 128 * heads,
        "head_dim": 128,
        "intermediate_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 32000,
    }
    machine = catalog.machine("h100-sxm-80gb")
    (option, *_) = fit([anatomy.from_config(config)], machine=machine, machines_count=8, formats=["bf16"], at=AT)
    assert (option.tensor_parallel, option.pipeline_parallel) == degrees
