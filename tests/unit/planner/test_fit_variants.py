"""Which weight formats are tried, and what a file that is there already is called."""

from datetime import date

from ownward import anatomy, catalog
from ownward.planner import FitOption, default_engine, find_nearest, fit

AT = date(2026, 11, 21)


def _checkpoint(name: str, machine: str) -> list[FitOption]:
    found = anatomy.read(catalog.checkpoint(name).config_path or "")
    return fit([found], machine=catalog.machine(machine), stored_as={found.name: "checkpoint"}, at=AT)


def test_an_fp8_checkpoint_is_served_as_it_is_stored_and_called_so() -> None:
    options = _checkpoint("Qwen/Qwen3-30B-A3B-FP8", "H200 SXM")
    assert [option.variant for option in options] == ["fp8"]
    stored = anatomy.read(catalog.checkpoint("Qwen/Qwen3-30B-A3B-FP8").config_path or "")
    assert options[0].memory.weights == stored.weights_bytes()


def test_a_checkpoint_in_float32_is_served_in_16_bits() -> None:
    """Twice the file for the same model: vLLM casts what it loads."""
    release = catalog.model("llama-3.1-8b")
    plain = anatomy.from_config(release.load_config(), name=release.name)
    wide = anatomy.from_config({**release.load_config(), "torch_dtype": "float32"}, name=release.name)
    machine = catalog.machine("H100 SXM")
    served, usual = (fit([found], machine=machine, formats=["native"], at=AT)[0] for found in (wide, plain))
    assert (served.variant, served.memory.weights) == (usual.variant, usual.memory.weights)
    assert served.memory.weights * 2 == wide.weights_bytes()
    assert served.decode_tokens_per_s.value == usual.decode_tokens_per_s.value


def test_a_checkpoint_whose_tool_is_named_is_called_by_its_format() -> None:
    assert [
        option.variant for option in _checkpoint("nvidia/Qwen3.5-397B-A17B-NVFP4", "8xB200".removeprefix("8x"))
    ] == ["nvfp4"]


def test_a_quantised_checkpoint_on_a_card_is_for_vllm_and_a_gguf_never_is() -> None:
    card, node = catalog.machine("RTX 4090"), catalog.machine("H200 SXM")
    assert default_engine(card, "checkpoint") == "vllm"
    assert default_engine(node, "gguf") == "llama.cpp"


def test_weights_that_one_kind_of_file_holds_are_for_the_engine_that_reads_it() -> None:
    """No GGUF holds FP8, no checkpoint Q4_K_M; each keeps its cache in the engine's own type."""
    release = catalog.model("qwen3-8b")
    found = anatomy.from_config(release.load_config(), name=release.name)
    wanted = ["fp8", "int4", "q4_k_m", "q8_0", "bf16"]
    on_card = fit([found], machine=catalog.machine("RTX 4090"), formats=wanted, at=AT)
    assert {option.variant: option.engine for option in on_card} == {
        "fp8": "vllm", "int4": "vllm", "q4_k_m": "llama.cpp", "q8_0": "llama.cpp", "bf16": "llama.cpp",
    }  # fmt: skip
    on_node = fit([found], machine=catalog.machine("H200 SXM"), formats=wanted, at=AT)
    assert {option.variant: option.engine for option in on_node} == {
        "fp8": "vllm", "int4": "vllm", "q4_k_m": "llama.cpp", "q8_0": "llama.cpp", "bf16": "vllm",
    }  # fmt: skip
    asked = fit([found], machine=catalog.machine("H200 SXM"), formats=["q4_k_m"], engine="vllm", at=AT)
    assert [option.engine for option in asked] == ["vllm"]


def test_chips_that_vllm_has_no_kernels_for_are_served_by_llama_cpp() -> None:
    assert default_engine(catalog.machine("Tesla V100 PCIe 32GB")) == "llama.cpp"
    assert default_engine(catalog.machine("tesla-p40")) == "llama.cpp"
    assert default_engine(catalog.machine("a100-sxm4-80gb")) == "vllm"


def test_a_release_in_eight_bits_is_never_widened() -> None:
    release = catalog.model("minimax-m2.7")
    found = anatomy.from_config(release.load_config(), name=release.name)
    on_node = fit([found], machine=catalog.machine("H200 SXM"), machines_count=8, at=AT)
    assert "bf16" not in {option.variant for option in on_node}
    assert on_node[0].variant == "fp8"
    on_cards = fit([found], machine=catalog.machine("RTX 3090"), machines_count=4, at=AT)
    assert "bf16" not in {option.variant for option in on_cards}


def test_a_machine_with_four_bit_units_is_offered_four_bit_floats() -> None:
    release = catalog.model("qwen3-32b")
    found = anatomy.from_config(release.load_config(), name=release.name)
    assert "nvfp4" in {option.variant for option in fit([found], machine=catalog.machine("B200 SXM"), at=AT)}
    assert "nvfp4" not in {option.variant for option in fit([found], machine=catalog.machine("H200 SXM"), at=AT)}


def test_a_cache_type_that_an_engine_lacks_becomes_the_nearest_it_has() -> None:
    release = catalog.model("qwen3-8b")
    found = anatomy.from_config(release.load_config(), name=release.name)
    assert fit([found], machine=catalog.machine("RTX 4090"), kv_type="fp8", at=AT)[0].kv_type == "q8_0"
    assert fit([found], machine=catalog.machine("H200 SXM"), kv_type="q4_0", at=AT)[0].kv_type == "fp8"


def test_weights_named_as_stored_or_as_computed_are_the_files_own_or_the_machines() -> None:
    release = catalog.model("kimi-k2.6")
    found = anatomy.from_config(release.load_config(), name=release.name)
    node = catalog.machine("B200 SXM")
    stored = fit([found], machine=node, machines_count=8, formats=["native"], at=AT)
    assert [option.memory.weights for option in stored] == [found.weights_bytes()]
    computed = fit([found], machine=node, machines_count=8, formats=["best"], at=AT)
    assert [option.variant for option in computed] == ["nvfp4"]


def test_what_comes_nearest_is_found_also_for_a_release_in_a_format_of_its_own() -> None:
    release = catalog.model("kimi-k2.6")
    found = anatomy.from_config(release.load_config(), name=release.name)
    options = fit(
        [found],
        machine=catalog.machine("H200 SXM"),
        machines_count=8,
        concurrency=64,
        context_tokens=65536,
        at=AT,
    )
    assert options[0].fits is False
    assert [item for item in find_nearest(options) if item.change == "concurrency" and item.option.fits]


def test_devices_attend_apart_where_a_latent_cache_would_be_kept_by_each_of_them() -> None:
    release = catalog.model("kimi-k2.6")
    found = anatomy.from_config(release.load_config(), name=release.name)
    node = catalog.machine("B200 SXM")
    many = fit([found], machine=node, machines_count=8, concurrency=96, context_tokens=32768, at=AT)[0]
    one = fit([found], machine=node, machines_count=8, concurrency=1, context_tokens=32768, at=AT)[0]
    assert many.fits
    assert many.attention_data_parallel
    assert not one.attention_data_parallel
    assert (many.max_concurrency or 0) > 2 * (one.max_concurrency or 0)
