"""Run models: the store of weights, the embedded engine as a supervised child, adopted servers, the fake upstream.

It does not know prices, plans or who asks.
"""

from ownward.engines._engine import Engine
from ownward.engines._state import TRANSITIONS, EngineState, RestartPolicy, compute_load_timeout_s
from ownward.engines._supervisor import EngineStatus, HealthPolicy, SupervisedEngine
from ownward.engines.adopted import AdoptedEngine
from ownward.engines.commands import (
    SglangOptions,
    VllmOptions,
    llama_server_command,
    sglang_command,
    vllm_command,
)
from ownward.engines.embedded import EmbeddedEngine, EngineOptions, choose_free_threads
from ownward.engines.fake import (
    FAKE_FLAGS,
    Cut,
    Failure,
    FakeFlag,
    FakeOptions,
    FakeProcess,
    FakeServer,
    Garbage,
    Often,
    OutputLength,
    Stall,
    parse_fake_arguments,
    run_fake,
    serve_fake,
    write_fake_arguments,
)
from ownward.engines.launched import LaunchedEngine
from ownward.engines.store import (
    EMBEDDED_MODEL,
    PackageSource,
    Progress,
    RemoteAddress,
    RemoteCheckpoint,
    RemoteFile,
    RemoteLimits,
    WebSource,
    Weights,
    fetch,
    find,
    parse_remote,
    verify,
)

__all__ = [
    "EMBEDDED_MODEL",
    "FAKE_FLAGS",
    "TRANSITIONS",
    "AdoptedEngine",
    "Cut",
    "EmbeddedEngine",
    "Engine",
    "EngineOptions",
    "EngineState",
    "EngineStatus",
    "Failure",
    "FakeFlag",
    "FakeOptions",
    "FakeProcess",
    "FakeServer",
    "Garbage",
    "HealthPolicy",
    "LaunchedEngine",
    "Often",
    "OutputLength",
    "PackageSource",
    "Progress",
    "RemoteAddress",
    "RemoteCheckpoint",
    "RemoteFile",
    "RemoteLimits",
    "RestartPolicy",
    "SglangOptions",
    "Stall",
    "SupervisedEngine",
    "VllmOptions",
    "WebSource",
    "Weights",
    "choose_free_threads",
    "compute_load_timeout_s",
    "fetch",
    "find",
    "llama_server_command",
    "parse_fake_arguments",
    "parse_remote",
    "run_fake",
    "serve_fake",
    "sglang_command",
    "verify",
    "vllm_command",
    "write_fake_arguments",
]
