"""Weight formats by the names people give them, and the bytes that follow."""

import pytest

from ownward import anatomy, catalog
from ownward.core import UnknownQuantization
from ownward.perf import resident_bytes, weight_bytes, weight_format


def _anatomy(name: str) -> anatomy.Anatomy:
    release = catalog.model(name)
    return anatomy.from_config(release.load_config(), name=release.name)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("UD-Q4_K_XL", "q4_k_xl"),
        ("gguf-q6_k", "q6_k"),
        ("ollama tag default (usually Q4_K_M)", "q4_k_m"),
        ("IQ2_XXS - 2.0625 bpw", "iq2_xxs"),
        ("compressed-tensors-int4-g32-symmetric", "int4_g32"),
        ("awq-int4", "int4"),
        ("fp8-dynamic", "fp8"),
        ("MLX-8bit", "mlx_8bit"),
        ("float32", "f32"),
        ("see cmd", "native"),
        ("", "native"),
    ],
)
def test_a_format_is_found_in_what_people_write(written: str, meant: str) -> None:
    assert weight_format(written) == meant


def test_a_format_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(UnknownQuantization, match="APEX"):
        weight_format("APEX-MTP-I-Mini")


def test_bytes_are_those_of_the_tensors() -> None:
    """Llama-3.1-8B in Q4_K_M is a file of 4.58 GiB (bartowski's, 4,920,734,272 bytes with its metadata)."""
    assert resident_bytes(_anatomy("llama-3.1-8b"), "q4_k_m") == pytest.approx(4_920_734_272, rel=0.01)


def test_a_release_with_four_bit_experts_stays_four_bit_in_any_gguf() -> None:
    """gpt-oss-20b is 12 to 14 GB in every GGUF there is; a bf16 rendering would take 42 GB."""
    assert resident_bytes(_anatomy("gpt-oss-20b"), "q8_0") < 14.5e9


def test_a_step_of_one_token_reads_the_chosen_experts_only() -> None:
    model = _anatomy("qwen3-30b-a3b")
    counted = weight_bytes(model, "bf16")
    chosen = counted.routed * model.experts_per_tok / model.experts
    assert counted.dense_read + chosen == pytest.approx(2 * model.active_excl_input_embedding, rel=0.03)
    assert counted.dense_read + counted.routed == pytest.approx(2 * model.total_live_params, rel=0.03)
