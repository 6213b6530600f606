"""Command lines of server programs, computed from plain values: what `fit` worked out becomes flags here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ownward.core import UsageError
from ownward.engines.embedded import EngineOptions

_MIB = 1024 * 1024


def llama_server_command(
    options: EngineOptions,
    *,
    threads: int | None = None,
    program: str = "llama-server",
    extra: tuple[str, ...] = (),
    pools_itself: bool = False,
) -> list[str]:
    """Return the command that serves `options` with a `llama-server` binary; `extra` comes last, so that it wins.

    Without `threads` the program takes as many as it finds cores. Vectors are the mean over an input's tokens, unless
    the model `pools_itself`.

    >>> from pathlib import Path
    >>> llama_server_command(EngineOptions(model_path=Path("m.gguf"), alias="m"), threads=4)[:5]
    ['llama-server', '--model', 'm.gguf', '--alias', 'm']
    """
    context = 0 if options.context_tokens is None else options.context_tokens * options.slots
    counted = () if threads is None else ("--threads", str(threads), "--threads-batch", str(threads))
    command = [
        *(program, "--model", str(options.model_path), "--alias", options.alias),
        *("--host", options.host, "--port", str(options.port)),
        *("--parallel", str(options.slots), "--ctx-size", str(context)),
        *counted,
        *("--cache-ram", str(options.prompt_cache_bytes // _MIB), "--metrics", "--no-webui"),
    ]
    if not options.use_mmap:
        command += ["--load-mode", "none"]
    if options.no_extra_bufts:
        command.append("--no-repack")
    if not options.warmup:
        command.append("--no-warmup")
    if options.embedding:
        command += ["--embeddings"] if pools_itself else ["--embeddings", "--pooling", "mean"]
    if options.gpu_layers is not None:
        command += ["--n-gpu-layers", str(options.gpu_layers)]
    if options.batch_tokens is not None:
        command += ["--batch-size", str(options.batch_tokens)]
    if options.kv_type != "f16":
        command += ["--cache-type-k", options.kv_type, "--cache-type-v", options.kv_type]
    return [*command, *extra]


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """How vLLM serves one model: a folder of weights or a name it knows."""

    model: str
    alias: str
    revision: str | None = None
    max_context_tokens: int | None = None
    slots: int | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: bool = False
    memory_fraction: float = 0.9
    kv_type: Literal["auto", "fp8"] = "auto"
    quantization: str | None = None
    batch_tokens: int | None = None
    cpu_offload_bytes: int = 0
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        """Refuse a share outside 0 to 1 and degrees below one.

        Raises: UsageError.
        """
        if not 0 < self.memory_fraction <= 1:
            raise UsageError(f"memory_fraction is {self.memory_fraction}", allowed="A share above 0, up to 1")
        for name in ("tensor_parallel", "pipeline_parallel"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="At least 1")


def vllm_command(options: VllmOptions, *, program: str = "vllm", extra: tuple[str, ...] = ()) -> list[str]:
    """Return the command that serves `options` with vLLM; `extra` comes last, so that it wins.

    >>> vllm_command(VllmOptions(model="org/model", alias="m", port=8000, tensor_parallel=2))[-2:]
    ['--tensor-parallel-size', '2']
    """
    command = [
        *(program, "serve", options.model, "--served-model-name", options.alias),
        *("--host", options.host, "--port", str(options.port)),
        *("--gpu-memory-utilization", f"{options.memory_fraction:g}"),
    ]
    flags: list[tuple[str, object | None]] = [
        ("--revision", options.revision),
        ("--max-model-len", options.max_context_tokens),
        ("--max-num-seqs", options.slots),
        ("--max-num-batched-tokens", options.batch_tokens),
        ("--quantization", options.quantization),
        ("--kv-cache-dtype", None if options.kv_type == "auto" else options.kv_type),
        ("--tensor-parallel-size", options.tensor_parallel if options.tensor_parallel > 1 else None),
        ("--pipeline-parallel-size", options.pipeline_parallel if options.pipeline_parallel > 1 else None),
        ("--cpu-offload-gb", f"{options.cpu_offload_bytes / 2**30:g}" if options.cpu_offload_bytes else None),
    ]
    for flag, value in flags:
        if value is not None:
            command += [flag, str(value)]
    if options.expert_parallel:
        command.append("--enable-expert-parallel")
    return [*command, *extra]


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangOptions:
    """How SGLang serves one model: a folder of weights or a name it knows."""

    model: str
    alias: str
    revision: str | None = None
    max_context_tokens: int | None = None
    slots: int | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    memory_fraction: float | None = None  # of the GPU for weights and cache; None: as SGLang chooses
    kv_type: Literal["auto", "fp8_e5m2", "fp8_e4m3"] = "auto"
    quantization: str | None = None
    batch_tokens: int | None = None  # of one prefill chunk
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        """Refuse a share outside 0 to 1 and degrees below one.

        Raises: UsageError.
        """
        if self.memory_fraction is not None and not 0 < self.memory_fraction < 1:
            raise UsageError(f"memory_fraction is {self.memory_fraction}", allowed="A share between 0 and 1")
        for name in ("tensor_parallel", "pipeline_parallel", "expert_parallel"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="At least 1")


def sglang_command(options: SglangOptions, *, program: str = "python3", extra: tuple[str, ...] = ()) -> list[str]:
    """Return the command that serves `options` with SGLang; `program` is the Python that it is installed in.

    Source: SGLang's documentation, "Server Arguments", read 2026-11-21.

    >>> sglang_command(SglangOptions(model="org/model", alias="m", port=8000, tensor_parallel=2))[-2:]
    ['--tp-size', '2']
    """
    command = [
        *(program, "-m", "sglang.launch_server", "--model-path", options.model),
        *("--served-model-name", options.alias, "--host", options.host, "--port", str(options.port)),
        "--enable-metrics",
    ]
    flags: list[tuple[str, object | None]] = [
        ("--revision", options.revision),
        ("--context-length", options.max_context_tokens),
        ("--max-running-requests", options.slots),
        ("--chunked-prefill-size", options.batch_tokens),
        ("--mem-fraction-static", options.memory_fraction),
        ("--quantization", options.quantization),
        ("--kv-cache-dtype", None if options.kv_type == "auto" else options.kv_type),
        ("--tp-size", options.tensor_parallel if options.tensor_parallel > 1 else None),
        ("--pp-size", options.pipeline_parallel if options.pipeline_parallel > 1 else None),
        ("--ep-size", options.expert_parallel if options.expert_parallel > 1 else None),
    ]
    for flag, value in flags:
        if value is not None:
            command += [flag, str(value)]
    return [*command, *extra]
