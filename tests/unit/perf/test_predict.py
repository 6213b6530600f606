"""Cases in, predictions or reasons out."""

from dataclasses import replace
from datetime import date

import pytest

from ownward import anatomy, catalog
from ownward.perf import (
    Case,
    Deployment,
    deploy,
    deploy_case,
    load_coefficients,
    machine_named,
    predict,
    with_usual_parallelism,
    without_repeated_depth,
)
from ownward.perf._traits import backend_of
from ownward.planner import fit


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
    assert without_repeated_depth(_case(input_tokens=512, context_depth=512)).input_tokens == 0
    ttft = _case(input_tokens=512, context_depth=512, metric="ttft_ms")
    assert without_repeated_depth(ttft).context_depth == 0


def test_devices_that_are_not_arranged_share_layers_up_to_eight() -> None:
    case = with_usual_parallelism(_case("llama-3.1-70b", "H100 SXM", engine="vllm", machines_count=16))
    assert (case.machines_count, case.replicas) == (8, 2)


@pytest.mark.parametrize(
    ("model", "devices", "degrees"),
    [("phi-4", 8, (2, 1, 4)), ("llama-3.1-70b", 3, (1, 3, 1)), ("llama-3.1-70b", 6, (2, 1, 3))],
)
def test_devices_that_are_not_arranged_share_layers_only_as_the_heads_come_out_even(
    model: str, devices: int, degrees: tuple[int, int, int]
) -> None:
    """10 key-value heads go to 2 devices; 3 share no layer of 64 heads, and take turns where one is too small."""
    case = with_usual_parallelism(
        _case(model, "H100 SXM", engine="vllm", weights="bf16", machines_count=devices, kv_type="fp8")
    )
    assert (case.tensor_parallel, case.pipeline_parallel or 1, case.replicas) == degrees


def test_simulation_and_plans_share_layers_as_fit_does() -> None:
    case = _case("phi-4", "H100 SXM")
    made = deploy(case.anatomy, machine=case.machine, machines_count=8, engine="vllm", weights="bf16")
    assert isinstance(made, Deployment)
    assert (made.tensor_parallel, made.pipeline_parallel) == (2, 4)


@pytest.mark.parametrize(("engine", "is_refused"), [("vllm", True), ("SGLang 0.5", True), ("TensorRT-LLM 1.0", False)])
def test_a_degree_with_which_the_engine_does_not_start_is_refused(engine: str, is_refused: bool) -> None:
    case = _case("phi-4", "H100 SXM", engine=engine, weights="bf16", machines_count=8, tensor_parallel=8)
    refused = predict(case).refused
    assert (refused is not None) == is_refused
    assert refused is None or "tensor_parallel = 2 is possible" in refused


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
    assert machine_named(written).machine.id == meant


def test_a_host_that_is_named_brings_its_memory() -> None:
    assert machine_named("4x RTX 4090 + Xeon Gold 6454S").host_bytes_per_s == pytest.approx(307.2e9)


@pytest.mark.parametrize(
    ("engine", "backend"),
    [("llama.cpp vulkan_radv", "vulkan"), ("llama.cpp b9415 hip", "rocm"), ("ollama", ""), ("vLLM 0.25.0", "")],
)
def test_a_back_end_is_read_from_the_engine_s_name(engine: str, backend: str) -> None:
    assert backend_of(engine) == backend


def test_a_card_on_a_board_computer_is_no_faster_than_in_a_computer() -> None:
    assert machine_named("Pi 5 - 8GB (AMD RX 7600)").slow_host
    assert not machine_named("Intel 265K Custom PC (Nvidia RTX 4090)").slow_host
    usual = _case("llama-3.2-1b", "RX 7900 XT")
    slow, quick = predict(replace(usual, slow_host=True)), predict(usual)
    assert slow.value is not None
    assert quick.value is not None
    assert slow.value < quick.value


def test_prompts_that_come_together_share_the_engine_s_chunks() -> None:
    """Sixteen prompts of 512 fill pieces of 2,048 tokens; one alone does not."""
    case = _case(metric="prefill_tok_s", machine="DGX Spark", input_tokens=512, prompt_chunk_tokens=2048)
    alone, together = predict(case), predict(replace(case, concurrency=16))
    assert alone.value is not None
    assert together.value is not None
    assert together.value > alone.value


def test_layers_in_the_other_memory_take_their_caches_along() -> None:
    """The same bytes over two memories lose more to a long context than in one."""
    spilled, whole = _case("llama-3.1-70b"), _case("llama-3.1-70b", "RTX PRO 6000 Blackwell Workstation")

    def added_s(case: Case) -> float:
        rates = [predict(replace(case, context_depth=depth)).value for depth in (1024, 65536)]
        assert rates[0] is not None
        assert rates[1] is not None
        return 1 / rates[1] - 1 / rates[0]

    assert added_s(spilled) > 4 * added_s(whole)


def test_a_release_in_four_bits_keeps_them_whatever_its_file_is_called() -> None:
    said = [predict(_case("gpt-oss-20b", weights=name)).value for name in ("mxfp4", "q8_0")]
    assert said[0] is not None
    assert said[1] is not None
    assert said[1] == pytest.approx(said[0], rel=0.2)


def test_a_mixture_of_tensorrt_llm_under_a_full_load_attends_apart() -> None:
    case = _case("qwen3-235b-a22b", "H200 SXM", engine="TensorRT-LLM 1.0", machines_count=8, tensor_parallel=8)
    assert with_usual_parallelism(replace(case, concurrency=3000)).attention_data_parallel
    assert not with_usual_parallelism(replace(case, concurrency=8)).attention_data_parallel


def test_a_note_of_an_unknown_band_class_falls_back_to_a_wider_one() -> None:
    known = load_coefficients()
    wider = known.band("prefill_tok_s/llama.cpp/one", "geforce-rtx-4090")
    assert known.band("prefill_tok_s/llama.cpp/one/no-such-family", "geforce-rtx-4090") == wider


def test_a_machine_that_nobody_measured_has_the_band_of_machines_left_out() -> None:
    known = load_coefficients()
    measured, other = (catalog.machine(name).id for name in ("RTX 4090", "RTX 4080 SUPER"))
    assert measured in known.devices
    assert other not in known.devices
    class_ = "prefill_tok_s/llama.cpp/one/ada/dense"
    assert known.band(class_, measured) == known.bands[class_][1:]
    assert known.band(class_, other) == known.far_bands[class_][1:]


def _deployed(model: str = "llama-3.1-8b", machine: str = "RTX 4090") -> Deployment:
    case = _case(model, machine)
    made = deploy(case.anatomy, machine=case.machine, machines_count=1, engine="llama.cpp", weights="q4_k_m")
    assert isinstance(made, Deployment)
    return made


def test_a_chunk_s_buffer_grows_with_the_vocabulary_and_the_chunk() -> None:
    """llama.cpp's own log says 258.5 MiB for Llama 3 8B and 398 MiB for gpt-oss-20b, at chunks of 512."""
    llama, other = _deployed(), _deployed("gpt-oss-20b")
    sizes = [one.compute_memory(concurrency=1, context_tokens=4096).activations / 2**20 for one in (llama, other)]
    assert sizes == [pytest.approx(258.5, rel=0.1), pytest.approx(398, rel=0.1)]
    wide = llama.compute_memory(concurrency=1, context_tokens=4096, batch_tokens=2048).activations
    assert wide == pytest.approx(4 * sizes[0] * 2**20, rel=0.01)


def test_a_card_s_driver_keeps_memory_and_a_shared_one_has_none() -> None:
    card, shared = _deployed(), _deployed(machine="Apple M4 Max (40-core GPU)")
    kept = [one.compute_memory(concurrency=1, context_tokens=4096).overhead for one in (card, shared)]
    assert kept[0] > 4 * kept[1]


def test_geforce_computes_twice_its_datasheet_under_llama_cpp_and_not_in_bf16() -> None:
    machine = catalog.machine("RTX 4090")
    stated = machine.rate("bf16")
    assert stated is not None
    asked = {"machine": machine, "machines_count": 1}
    anatomy_ = _case().anatomy
    rates = []
    for engine, weights in (("llama.cpp", "q4_k_m"), ("llama.cpp", "bf16"), ("vllm", "bf16")):
        made = deploy(anatomy_, engine=engine, weights=weights, **asked)  # type: ignore[arg-type]
        assert isinstance(made, Deployment)
        rates.append(made.flop_per_s / stated.value)
    assert rates == [2, 1, 1]


def test_a_long_prompt_of_an_offloaded_mixture_is_read_faster_a_token_than_a_short_one() -> None:
    """Experts come over the bus once a chunk, whatever the chunk holds."""
    case = _case("qwen3-235b-a22b", engine="ktransformers", cpu_offload=True, metric="prefill_tok_s", weights="int4")
    rates = [predict(replace(case, input_tokens=tokens)).value for tokens in (64, 2048, 32768)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert rates[2] is not None
    assert rates[0] < rates[1] < rates[2]


def _spilled(**asked: object) -> Case:
    return _case("qwen3-235b-a22b", engine="ktransformers", weights="int4", **asked)


def _value(case: Case) -> float:
    said = predict(case).value
    assert said is not None
    return said


def test_more_cards_leave_less_of_an_offloaded_mixture_to_the_host() -> None:
    one, four = _spilled(cpu_offload=True), _spilled(cpu_offload=True, machines_count=4, tensor_parallel=4)
    missed = []
    for case in (one, four):
        placed = deploy_case(case, "int4")
        assert isinstance(placed, tuple)
        missed.append(placed[0].offloaded_fraction)
    assert 0.2 < missed[1] < missed[0] - 0.3


def test_offload_of_a_mixture_that_would_fit_means_all_of_its_experts() -> None:
    placed = deploy_case(_case("gpt-oss-20b", cpu_offload=True), "native")
    assert isinstance(placed, tuple)
    assert placed[0].offloaded_fraction == 1


def test_experts_placed_by_how_often_they_are_used_are_missed_less_and_all_or_none_alike() -> None:
    placings = [
        [_value(_spilled(cpu_offload=f"gpu_experts={share}% {how}")) for how in ("random", "frequency")]
        for share in (0, 50, 100)
    ]
    assert placings[0][0] == placings[0][1]
    assert placings[1][0] < placings[1][1]
    assert placings[2][0] == placings[2][1]


def test_handing_over_costs_a_step_its_layers_however_little_the_host_has() -> None:
    """At a thousandth of the experts in the host, a card and its host still meet at every layer of experts."""
    whole, most = (1 / _value(_spilled(cpu_offload=f"gpu_experts={share}%")) for share in (100, 99.9))
    layers = _case("qwen3-235b-a22b").anatomy.moe_layers
    assert most - whole > 1e-5 * layers


def test_layers_of_a_dense_model_in_the_host_are_handed_over_once() -> None:
    """They follow each other: what a little of them costs is little."""
    asked = _case("llama-3.1-8b")
    times = []
    for share in (0.0, 0.001):
        made = deploy(
            asked.anatomy, machine=asked.machine, machines_count=1, engine="llama.cpp", weights="q4_k_m",
            offloaded_fraction=share,
        )  # fmt: skip
        assert isinstance(made, Deployment)
        times.append(made.compute_decode_step_s(sequences=1, context_tokens=512))
    assert times[1] - times[0] < 5e-4


def _under(model: str, machine: str, engine: str) -> Deployment:
    asked = _case(model, machine)
    found = deploy(asked.anatomy, machine=asked.machine, machines_count=1, engine=engine, weights="q4_k_m")
    assert isinstance(found, Deployment)
    return found


def test_llama_cpp_has_room_for_a_chunk_beside_a_window_and_vllm_for_the_window() -> None:
    """Gemma 3 270M in four slots of 8,192 took 156 MiB more than in one of 256, of which 152 are so; 122 without."""
    rings = _under("gemma-4-31b", "RTX 5090", "llama.cpp")
    pages = _under("gemma-4-31b", "RTX 5090", "vllm")
    window, slope = rings.anatomy.window_kv_bytes_per_slot_bf16, rings.anatomy.kv_bytes_per_token_bf16
    assert rings.anatomy.window_tokens == 1024
    for context, of_ring, of_window in ((8192, 1536, 1024), (1200, 1200, 1024), (300, 300, 300)):
        kept = [one.compute_memory(concurrency=4, context_tokens=context).cache for one in (rings, pages)]
        assert kept == [4 * (context * slope + ring * window) for ring in (of_ring, of_window)]
    assert rings.cache_bytes(8192) == pages.cache_bytes(8192)  # a step reads the window


@pytest.mark.parametrize("machine", ["RTX 4090", "Desktop 2ch DDR5-5600", "M4 Max 40-core"])
def test_a_first_token_that_waits_for_nobody_comes_as_surely_as_its_prompt_is_read(machine: str) -> None:
    """No page has such rows of llama.cpp; those of servers under load tell of queues."""
    case = _case(machine=machine, input_tokens=2048, output_tokens=128)
    prompt, first = (predict(replace(case, metric=metric)) for metric in ("prefill_tok_s", "ttft_ms"))
    assert first.high80 / first.value == pytest.approx(prompt.value / prompt.low80)
    low, high = load_coefficients().band(prompt.class_, "unheard of")
    assert load_coefficients().band(first.class_, "unheard of") == (-high, -low)


@pytest.mark.parametrize(
    ("model", "machine", "weights", "concurrency"),
    [
        ("qwen3-8b", "RTX 4090", "q4_k_m", 1),
        ("qwen3-8b", "RTX 4090", "q4_k_m", 8),
        ("gemma-4-26b-a4b", "RTX 5090", "q4_k_m", 4),
        ("qwen3.5-27b", "H100 SXM", "fp8", 16),
    ],
)
def test_predict_and_fit_count_the_same_memory_for_the_same_load(
    model: str, machine: str, weights: str, concurrency: int
) -> None:
    case = _case(model, machine, weights=weights, concurrency=concurrency, input_tokens=3000, output_tokens=1000)
    [option] = fit(
        [case.anatomy],
        machine=case.machine,
        formats=[weights],
        context_tokens=4000,
        concurrency=concurrency,
        at=date(2026, 11, 21),
    )
    said = predict(replace(case, engine=option.engine, metric="decode_tok_s_total"))
    assert (said.fits, said.memory_bytes) == (option.fits, option.memory.total)


def test_what_waits_outside_takes_no_memory() -> None:
    case = _case("qwen3-8b", "RTX 4090", concurrency=500, input_tokens=3000, output_tokens=1000)
    said = predict(replace(case, engine="vllm", weights="bf16", metric="decode_tok_s_total"))
    assert said.fits
    assert said.memory_bytes <= 0.92 * case.machine.usable_memory.value
