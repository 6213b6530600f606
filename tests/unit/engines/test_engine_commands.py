"""Options become llama.cpp's and vLLM's own words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ownward.core import BadInput, UsageError
from ownward.engines import EngineOptions, VllmOptions, llama_server_command, vllm_command
from ownward.engines._child import describe_status, pick_reason
from ownward.engines.embedded import build_worker_request, check_gguf

OPTIONS = EngineOptions(
    model_path=Path("/m/model.gguf"), alias="m", slots=3, context_tokens=1000, port=8081, embedding=True, kv_type="q8_0"
)


def test_a_step_of_the_embedded_engine_is_as_long_as_llama_cpp_computes_at_once_and_no_longer():
    """Its own 2048 keep everybody else, and whoever leaves, waiting for several steps."""
    plain = dataclasses.replace(OPTIONS, embedding=False)
    fields = build_worker_request(plain, threads=2, parent_pid=None)["fields"]
    assert (fields["n_batch"], fields.get("n_ubatch")) == (512, None)
    pooled = dataclasses.replace(OPTIONS, batch_tokens=1024)
    fields = build_worker_request(pooled, threads=2, parent_pid=None)["fields"]
    assert (fields["n_batch"], fields["n_ubatch"]) == (1024, 1024)  # an input to be pooled must fit into one


def test_vectors_are_the_mean_unless_the_model_pools_them_itself():
    assert "pooling_type" in build_worker_request(OPTIONS, threads=2, parent_pid=None)["enums"]
    assert "pooling_type" not in build_worker_request(OPTIONS, threads=2, parent_pid=None, pools_itself=True)["enums"]
    command = llama_server_command(OPTIONS)
    assert command[command.index("--embeddings") + 1 :][:2] == ["--pooling", "mean"]
    assert "--pooling" not in llama_server_command(OPTIONS, pools_itself=True)


def test_the_context_is_one_slots_and_is_multiplied_for_llama_cpp():
    assert build_worker_request(OPTIONS, threads=2, parent_pid=None)["fields"]["n_ctx"] == 3000
    command = llama_server_command(OPTIONS, threads=2)
    assert command[command.index("--ctx-size") + 1] == "3000"
    assert command[command.index("--parallel") + 1] == "3"


def test_no_origin_may_call_the_worker_from_a_browser_and_it_shows_no_page():
    fields = build_worker_request(OPTIONS, threads=2, parent_pid=None)["fields"]
    assert fields["cors_origins"] == ""
    assert fields["ui"] is False


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("embedding", [False, True])
def test_the_installed_xllamacpp_has_every_field_we_set(kv_type: str, embedding: bool):
    xllamacpp = pytest.importorskip("xllamacpp")
    options = EngineOptions(
        model_path=Path("m.gguf"), alias="m", kv_type=kv_type, embedding=embedding, gpu_layers=0, batch_tokens=64
    )
    request = build_worker_request(options, threads=1, parent_pid=None)
    params = xllamacpp.CommonParams()
    for name in [*request["fields"], *request["enums"]]:
        assert hasattr(params, name), name
    for enum, member in request["enums"].values():
        assert hasattr(getattr(xllamacpp, enum), member), (enum, member)


def test_llama_server_gets_a_flag_for_each_choice_and_the_users_last():
    options = EngineOptions(
        model_path=Path("m.gguf"),
        alias="m",
        use_mmap=False,
        no_extra_bufts=True,
        warmup=False,
        gpu_layers=99,
        batch_tokens=512,
        kv_type="q8_0",
        context_tokens=None,
    )
    command = llama_server_command(options, threads=8, program="/opt/llama-server", extra=("--threads", "1"))
    assert command[0] == "/opt/llama-server"
    assert command[-2:] == ["--threads", "1"]
    for flags in ("--load-mode none", "--no-repack", "--no-warmup", "--n-gpu-layers 99", "--batch-size 512"):
        assert flags in " ".join(command)
    assert "--cache-type-k q8_0 --cache-type-v q8_0" in " ".join(command)
    assert command[command.index("--ctx-size") + 1] == "0"


def test_vllm_says_nothing_where_its_default_is_meant():
    command = vllm_command(VllmOptions(model="org/model", alias="m", port=8000))
    assert " ".join(command) == (
        "vllm serve org/model --served-model-name m --host 127.0.0.1 --port 8000 --gpu-memory-utilization 0.9"
    )


def test_vllm_gets_degrees_and_limits():
    options = VllmOptions(
        model="org/model",
        alias="m",
        port=1,
        revision="abc",
        max_context_tokens=32768,
        slots=64,
        tensor_parallel=4,
        pipeline_parallel=2,
        expert_parallel=True,
        kv_type="fp8",
        cpu_offload_bytes=10 * 2**30,
    )
    text = " ".join(vllm_command(options, extra=("--seed", "1")))
    for flags in (
        "--revision abc",
        "--max-model-len 32768",
        "--max-num-seqs 64",
        "--tensor-parallel-size 4",
        "--pipeline-parallel-size 2",
        "--enable-expert-parallel",
        "--kv-cache-dtype fp8",
        "--cpu-offload-gb 10",
    ):
        assert flags in text
    assert text.endswith("--seed 1")


@pytest.mark.parametrize("change", [{"slots": 0}, {"context_tokens": 0}, {"threads": 0}, {"kv_type": "q3"}])
def test_options_without_meaning_are_refused(change: dict[str, object]):
    with pytest.raises(UsageError):
        EngineOptions(model_path=Path("m.gguf"), alias="m", **change)


@pytest.mark.parametrize("change", [{"memory_fraction": 0}, {"memory_fraction": 1.2}, {"tensor_parallel": 0}])
def test_shares_and_degrees_of_vllm_are_checked(change: dict[str, float]):
    with pytest.raises(UsageError):
        VllmOptions(model="m", alias="m", **change)


def test_a_file_that_is_no_gguf_is_refused_before_a_process_starts(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00{}")
    with pytest.raises(BadInput, match="not a GGUF file"):
        check_gguf(path)
    with pytest.raises(BadInput, match="cannot be opened"):
        check_gguf(tmp_path / "none.gguf")


def test_the_reason_is_the_first_error_and_not_the_cleaning_up():
    lines = ["0.1 I load: begin", "0.2 E model: error loading model: tensor missing", "0.3 E srv: exiting due to error"]
    assert pick_reason(lines) == "model: error loading model: tensor missing"
    assert pick_reason(["all is well"]) is None
    assert pick_reason([]) is None


def test_an_end_is_put_in_words():
    assert describe_status(3) == "stopped with status 3"
    assert describe_status(-11) == "was ended by SIGSEGV"
    assert "memory runs out" in describe_status(-9)
