"""Cases in, predictions or reasons out."""

from dataclasses import replace

import pytest

from ownward import anatomy, catalog
from ownward.perf import Case, arranged, locate, predict, without_repetition


def _case(model: str = "llama-3.1-8b", machine: str = "RTX 4090", **asked: object) -> Case:
    release = catalog.model(model)
    found = anatomy.from_config(release.load_config(), name=release.name)
    return replace(Case(id="x", anatomy=found, machine=catalog.machine(machine), weights="q4_k_m"), **asked)  # type: ignore[arg-type]


def test_a_prediction_lies_inside_its_band() -> None:
    said = predict(_case())
    assert said.refused is None
    assert said.low80 is not None
    assert said.high80 is not None
    assert said.value is not None
    assert said.low80 < said.value < said.high80


def test_nothing_decodes_faster_than_its_weights_can_be_read() -> None:
    case = _case()
    said = predict(case)
    assert case.machine.bandwidth_bytes_per_s is not None
    assert said.value is not None
    assert said.value < case.machine.bandwidth_bytes_per_s.value / 4.3e9


def test_an_engine_nobody_measured_is_refused() -> None:
    assert "measured" in str(predict(_case(engine="ExLlama")).refused)


def test_what_does_not_fit_under_vllm_is_refused_with_its_bytes() -> None:
    said = predict(_case("llama-3.1-70b", engine="vllm", weights="bf16"))
    assert said.fits is False
    assert said.refused is not None
    assert said.memory_bytes is not None
    assert said.memory_bytes > 130e9


def test_what_does_not_fit_under_llama_cpp_is_predicted_with_the_rest_in_ram() -> None:
    said = predict(_case("llama-3.1-70b"))
    assert said.fits is False
    assert said.value is not None
    assert said.value < 5


def test_a_prompt_that_is_also_stated_as_depth_counts_once() -> None:
    assert without_repetition(_case(input_tokens=512, context_depth=512)).input_tokens == 0
    ttft = _case(input_tokens=512, context_depth=512, metric="ttft_ms")
    assert without_repetition(ttft).context_depth == 0


def test_devices_that_are_not_arranged_share_layers_up_to_eight() -> None:
    case = arranged(_case("llama-3.1-70b", "H100 SXM", engine="vllm", machines_count=16))
    assert (case.machines_count, case.replicas) == (8, 2)


def test_speculation_pays_more_on_a_dense_model_than_on_a_mixture() -> None:
    """Strix Halo, MTP of depth 3: 2.1 times on Qwen3.6-27B, 1.4 on 35B-A3B."""

    def gain(model: str) -> float:
        plain = predict(_case(model, "Ryzen AI Max+ 395")).value
        drafted = predict(_case(model, "Ryzen AI Max+ 395", speculative="mtp-3")).value
        assert plain is not None
        assert drafted is not None
        return drafted / plain

    assert gain("qwen3.6-27b") > gain("qwen3.6-35b-a3b") > 1


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Pi CM5 - 16GB (Nvidia RTX 3060)", "geforce-rtx-3060-12gb"),
        ("Ryzen 9 7900X (Nvidia 4090)", "geforce-rtx-4090"),
        ("4x RTX 4090 + Xeon Gold 6454S", "geforce-rtx-4090"),
        (
            "AMD Ryzen AI MAX+ 395 (Strix Halo, Radeon 8060S, 128GB LPDDR5X-8000)",
            "ryzen-ai-max-plus-395-128gb-strix-halo",
        ),
        ("CPU Apple M2 Max", "cpu-apple-m2-max"),
    ],
)
def test_hardware_is_found_in_what_people_write(written: str, meant: str) -> None:
    assert locate(written).machine.id == meant


def test_a_host_that_is_named_brings_its_memory() -> None:
    assert locate("4x RTX 4090 + Xeon Gold 6454S").host_bytes_per_s == pytest.approx(307.2e9)
