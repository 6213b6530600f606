"""llama.cpp inside a worker process of our own: any GGUF file, no server program to install."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ownward.core import BadInput, MissingExtra, UsageError
from ownward.engines._child import Child
from ownward.engines._lifeline import may_bind_to_thread
from ownward.engines._state import EngineStatus, RestartPolicy, choose_threads, compute_load_timeout_s
from ownward.engines._supervisor import HealthPolicy, SupervisedEngine
from ownward.probe import measure_busy_cores, usable_cores
from ownward.upstreams import Door

KvType = Literal["f16", "bf16", "q8_0", "q4_0"]

# Tokens of one step, which is llama.cpp's own n_ubatch: with more (its n_batch is 2048) nobody else gets a token, and
# nobody who left is noticed, until several such pieces of a long prompt are done. It costs no speed.
_BATCH_TOKENS = 512
_MIB = 1024 * 1024
_GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How one GGUF file is served by llama.cpp.

    `slots` requests are served at once, each with `context_tokens` of its own
    (None: the context the model was made for, shared by all slots). `threads`
    None takes the cores that are free when it starts. `no_extra_bufts` keeps
    llama.cpp from holding a second, repacked copy of the weights, which costs
    their size again and makes Q4_0 about 1.9 times faster a core. Without
    `use_mmap` the whole file is read into memory, which it must fit.
    """

    model_path: Path
    alias: str
    slots: int = 4
    context_tokens: int | None = 4096
    threads: int | None = None
    use_mmap: bool = True
    no_extra_bufts: bool = False
    warmup: bool = True
    embedding: bool = False
    gpu_layers: int | None = None  # None: as many as fit
    kv_type: KvType = "f16"
    batch_tokens: int | None = None  # of one prefill step; None: 512 embedded, llama-server's own default launched
    prompt_cache_bytes: int = 256 * _MIB  # of prompts whose slot was taken by another
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below one.

        Raises: UsageError.
        """
        for name in ("slots", "context_tokens", "threads", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", allowed="At least 1")
        if self.kv_type not in get_args(KvType):
            raise UsageError(f"kv_type is {self.kv_type!r}", allowed=f"One of {', '.join(get_args(KvType))}")


class EmbeddedEngine(SupervisedEngine):
    """llama.cpp in a supervised worker process. Needs the extra `engine`."""

    def __init__(
        self,
        options: EngineOptions,
        *,
        log_file: Path | None = None,
        restart: RestartPolicy | None = None,
        health: HealthPolicy | None = None,
        on_change: Callable[[EngineStatus], None] | None = None,
    ) -> None:
        """Serve `options.model_path` under the name `options.alias`; nothing runs before `start`."""
        super().__init__(
            name=options.alias,
            model=options.alias,
            is_embedding=options.embedding,  # models that are made for vectors alone make no token
            log_file=log_file,
            restart=restart or RestartPolicy(),
            health=health or HealthPolicy(),
            on_change=on_change,
        )
        self.options = options

    async def _launch(self) -> Child:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra(needed_for="The embedded engine", package="xllamacpp", extra="engine")
        check_gguf(self.options.model_path)
        threads = self.options.threads
        if threads is None:
            threads = await asyncio.to_thread(choose_free_threads)
        parent_pid = os.getpid() if may_bind_to_thread() else None
        pools_itself = await asyncio.to_thread(find_own_pooling, self.options)
        request = build_worker_request(self.options, threads=threads, parent_pid=parent_pid, pools_itself=pools_itself)
        return await Child.spawn(
            [sys.executable, "-m", "ownward.engines._worker"],
            greeting=json.dumps(request).encode() + b"\n",
            log_file=self.log_file,
        )

    async def _find_address(self, child: Child, door: Door) -> str:  # noqa: ARG002 - the worker tells it itself
        line = await child.read_line()
        if not line:
            await asyncio.get_running_loop().create_future()  # the supervisor sees it leave and says why
        address: str = json.loads(line)["address"]
        return address

    def _load_timeout_s(self) -> float:
        try:
            return compute_load_timeout_s(self.options.model_path.stat().st_size)
        except OSError:
            return compute_load_timeout_s(0)


def choose_free_threads() -> int:
    """Return how many threads may compute on this machine now; looks at it for a fifth of a second."""
    return choose_threads(
        usable_cores=usable_cores(), machine_cores=os.cpu_count() or 1, busy_cores=measure_busy_cores()
    )


def check_gguf(path: Path) -> None:
    """Refuse what is not a GGUF file, before a process is started for it.

    Raises: BadInput.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise BadInput(
            f"the model file cannot be opened: {error.strerror}",
            where=str(path),
            next_step="Give the path of a GGUF file",
        ) from error
    if magic != _GGUF_MAGIC:
        raise BadInput(
            f"the file begins with {magic!r}, not with {_GGUF_MAGIC!r}: it is not a GGUF file",
            where=str(path),
            next_step="The embedded engine serves GGUF files; others need an engine such as vLLM",
        )


def find_own_pooling(options: EngineOptions) -> bool:
    """Return whether vectors are asked for and the file itself says how they are pooled."""
    if not options.embedding:
        return False
    from ownward.anatomy import has_own_pooling

    try:
        return has_own_pooling(options.model_path)
    except BadInput:  # llama.cpp says itself what it makes of the file
        return False


def build_worker_request(
    options: EngineOptions, *, threads: int, parent_pid: int | None, pools_itself: bool = False
) -> dict[str, Any]:
    """Return what the worker is told: llama.cpp's own names, for the one release that is pinned.

    `n_ctx` is divided by llama.cpp among the slots, so that it is the product. Vectors are the mean over an input's
    tokens, unless the model `pools_itself`.
    """
    fields: dict[str, Any] = {
        "hostnames": [options.host],
        "port": options.port,
        "n_parallel": options.slots,
        "n_batch": options.batch_tokens or _BATCH_TOKENS,
        "n_ctx": 0 if options.context_tokens is None else options.context_tokens * options.slots,
        "warmup": options.warmup,
        "no_extra_bufts": options.no_extra_bufts,
        "embedding": options.embedding,
        "cache_ram_mib": options.prompt_cache_bytes // _MIB,
        "endpoint_metrics": True,
        "ui": False,
        "cors_origins": "",
        "fit_params": False,  # what was planned is served, or refused
    }
    if options.gpu_layers is not None:
        fields["n_gpu_layers"] = options.gpu_layers
    enums = {"load_mode": ("llama_load_mode", f"LLAMA_LOAD_MODE_{'MMAP' if options.use_mmap else 'NONE'}")}
    if options.kv_type != "f16":
        kind = f"GGML_TYPE_{options.kv_type.upper()}"
        enums |= {"cache_type_k": ("ggml_type", kind), "cache_type_v": ("ggml_type", kind)}
    if options.embedding:
        fields["n_ubatch"] = fields["n_batch"]  # a pooled input must fit into one step
    if options.embedding and not pools_itself:
        enums["pooling_type"] = ("llama_pooling_type", "LLAMA_POOLING_TYPE_MEAN")
    return {
        "model_path": str(options.model_path),
        "alias": options.alias,
        "threads": threads,
        "parent_pid": parent_pid,
        "fields": fields,
        "enums": enums,
    }
