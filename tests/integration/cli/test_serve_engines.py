"""`ownward serve` starts the programs that a plan names: llama-server, vLLM, SGLang, each by a stand-in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownward.cli._serve_engines import find_weights, make_engine
from ownward.config import Settings
from ownward.core import ConfigError
from ownward.engines import EmbeddedEngine, LaunchedEngine
from ownward.plan import loads

TIER = """
schema = "ownward.plan/1"
name = "one"
default_label = "local_only"

[tiers.desk]
kind = "owned"
engine = "{engine}"
model = "org/some-model"
max_context_tokens = 8192
max_concurrency = 16
capabilities = []
{options}

[workloads.all]
strategy = {{ kind = "direct", tiers = ["desk"] }}
"""


def plan_text(engine: str, **options: object) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    return TIER.format(engine=engine, options="\n".join(["[tiers.desk.engine_options]", *lines]) if lines else "")


def engine_of(
    engine: str, folder: Path, *, model: str = "org/some-model", **options: object
) -> EmbeddedEngine | LaunchedEngine:
    text = plan_text(engine, **options).replace("org/some-model", model)
    plan = loads(text, file="plan.toml")
    weights = find_weights(plan.tiers, folder / "plan.toml")
    return make_engine(plan.tiers["desk"], weights["desk"], Settings(), on_change=lambda _: None)


def command_of(engine: str, folder: Path, **options: Any) -> list[str]:
    made = engine_of(engine, folder, **options)
    assert isinstance(made, LaunchedEngine)
    return made._command(8000)


def test_a_vllm_tier_is_a_command_with_the_limits_of_the_tier(tmp_path: Path):
    command = command_of("vllm", tmp_path, tensor_parallel=2, extra_flags=["--seed", "1"])
    assert command[:3] == ["vllm", "serve", "org/some-model"]
    text = " ".join(command)
    assert "--max-model-len 8192 --max-num-seqs 16" in text
    assert "--tensor-parallel-size 2" in text
    assert text.endswith("--seed 1")


@pytest.mark.parametrize(
    ("model", "fetched"),
    [
        ("Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"),  # as plan writes it
        ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"),
        ("our-own-tune", "our-own-tune"),
    ],
)
def test_a_model_of_the_catalogue_is_fetched_by_its_name_on_the_hub(tmp_path: Path, model: str, fetched: str):
    command = command_of("vllm", tmp_path, model=model)
    assert command[:5] == ["vllm", "serve", fetched, "--served-model-name", model]
    assert fetched in command_of("sglang", tmp_path, model=model)


def test_weights_that_somebody_has_to_make_are_asked_for_and_published_ones_are_named(tmp_path: Path):
    def named(model: str, variant: str, **options: Any) -> str:
        return command_of("vllm", tmp_path, model=f'{model}"\nvariant = "{variant}', **options)[2]

    assert named("Qwen3.6-27B", "nvfp4") == "nvidia/Qwen3.6-27B-NVFP4"
    assert named("Qwen3-30B-A3B", "fp8") == "Qwen/Qwen3-30B-A3B-FP8"
    assert named("Qwen3-30B-A3B", "fp8", quantization="fp8") == "Qwen/Qwen3-30B-A3B"
    assert named("Qwen3-30B-A3B", "int4", model_path="folder") == str(tmp_path / "folder")
    assert named("Qwen3-30B-A3B", "int4", quantization="bitsandbytes") == "Qwen/Qwen3-30B-A3B"
    assert named("org/Qwen3-30B-A3B-AWQ", "int4") == "org/Qwen3-30B-A3B-AWQ"
    with pytest.raises(ConfigError) as caught:
        named("Qwen3-30B-A3B", "int4")
    assert "tiers.desk.engine_options names no weights in int4" in str(caught.value)


def test_an_sglang_tier_is_a_command_of_the_python_it_names(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    command = command_of("sglang", tmp_path, model_path="weights", program="/opt/sglang/bin/python")
    assert command[:5] == [
        "/opt/sglang/bin/python",
        "-m",
        "sglang.launch_server",
        "--model-path",
        f"{tmp_path}/weights",
    ]
    assert "--context-length 8192 --max-running-requests 16" in " ".join(command)


def test_a_llama_server_tier_gets_the_options_that_the_embedded_engine_knows(tmp_path: Path):
    command = command_of("llama-server", tmp_path, model_path="m.gguf", threads=3, slots=2, context_tokens=1024)
    assert command[:3] == ["llama-server", "--model", f"{tmp_path}/m.gguf"]
    assert "--parallel 2 --ctx-size 2048 --threads 3" in " ".join(command)


@pytest.mark.parametrize(
    ("engine", "options", "told"),
    [
        ("llama-server", {}, "names no weights"),
        ("vllm", {"tensor_parallel": "two"}, "engine_options.tensor_parallel is 'two'"),
        ("vllm", {"tensor_parallel": 0}, "engine_options.tensor_parallel is refused"),
        ("vllm", {"tensor_paralel": 2}, "is not an option of the engine"),
        ("vllm", {"expert_parallel": 1}, "engine_options.expert_parallel is 1"),
        ("sglang", {"kv_type": "int3"}, "engine_options.kv_type is 'int3'"),
        ("sglang", {"load_timeout_s": -1}, "engine_options.load_timeout_s is -1"),
        ("vllm", {"extra_flags": "--a 'b"}, "engine_options.extra_flags"),
        ("embedded", {"model_path": "m.gguf", "program": "x"}, "engine_options.program is not an option"),
        ("llama-server", {"model_path": "m.gguf", "alias": "x"}, "engine_options.alias is not an option"),
    ],
)
def test_an_option_that_cannot_be_meant_is_told_by_its_key(
    tmp_path: Path, engine: str, options: dict[str, object], told: str
):
    with pytest.raises(ConfigError, match=r"tiers\.desk") as caught:
        engine_of(engine, tmp_path, **options)
    assert told in str(caught.value)


def test_serve_starts_the_program_and_answers_through_it_and_stops_it(
    serve: Callable[..., tuple[subprocess.Popen[bytes], str]], tmp_path: Path
):
    """The stand-in takes the flags of the program it stands for and understands the port alone."""
    program = tmp_path / "llama-server"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        'port = sys.argv[sys.argv.index("--port") + 1]\n'
        'fake = [sys.executable, "-m", "ownward.engines.fake", "--port", port, "--reply", "from the program"]\n'
        "os.execv(sys.executable, fake)\n"
    )
    program.chmod(0o755)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_text("llama-server", model_path="m.gguf", program=str(program)))
    serving, base_url = serve("--plan", str(plan))
    from openai import OpenAI

    with OpenAI(base_url=base_url + "/v1", api_key="none") as client:
        answer = client.chat.completions.create(model="org/some-model", messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == "from the program"
    serving.send_signal(signal.SIGINT)
    assert serving.wait(timeout=30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_killed_gateway_left_in_the_ready_file_is_gone_while_the_engine_starts(tmp_path: Path, workers: str):
    """Whoever waits for the file would else go to where nobody listens."""
    ready, may_go_on = tmp_path / "r.json", tmp_path / "go"
    ready.write_text('{"base_url": "http://127.0.0.1:1"}')
    program = tmp_path / "llama-server"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\n"
        f"while not os.path.exists({str(may_go_on)!r}):\n    time.sleep(0.05)\n"
        'port = sys.argv[sys.argv.index("--port") + 1]\n'
        'os.execv(sys.executable, [sys.executable, "-m", "ownward.engines.fake", "--port", port])\n'
    )
    program.chmod(0o755)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "plan.toml").write_text(plan_text("llama-server", model_path="m.gguf", program=str(program)))
    command = ["serve", "--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
    process = subprocess.Popen([sys.executable, "-m", "ownward", *command, "--workers", workers], cwd=tmp_path)
    try:
        _until(lambda: not ready.exists())
        may_go_on.touch()
        _until(ready.exists)
        assert json.loads(ready.read_text())["pid"] == process.pid
    finally:
        may_go_on.touch()
        process.terminate()
        assert process.wait(timeout=30) == 0


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
