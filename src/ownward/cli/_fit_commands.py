"""The commands that run an option of a fit: a server program's with every flag worked out, and our own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.cli._remote import is_remote_name
from ownward.core import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from ownward.catalog import Model
    from ownward.engines import ServingChoice
    from ownward.planner import FitOption
    from ownward.reports import LaunchCommand

_ALL_LAYERS = 999
_LLAMA_BATCH_TOKENS = 2048
_SMALL_MAC_GB, _SMALL_MAC_SHARE, _MAC_SHARE = 36, 2 / 3, 3 / 4
_ON_PROCESSORS = frozenset({"cpu-platform"})
# What the embedded engine's package runs on as it comes: processors, and Apple's chips.
_EMBEDDED_RUNS_ON = ("cpu-platform", "apple")

_NEEDS_A_BUILD = "needs the embedded engine built for this device; as it is installed it uses the processor"


def launch_commands(
    option: FitOption,
    release: Model | None,
    *,
    source: str | None,
    threads: int | None,
    serving: ServingChoice | None = None,
) -> tuple[LaunchCommand, ...]:
    """Return the commands that run the option, the one that was predicted first.

    `source` is the path or the name elsewhere of a file that is served as it is, where the engine reads such files;
    else weights are named as they are usually published, and what the command needs says so. `threads` are this
    machine's free cores. `serving` is how the weights are best held where the processor's memory is all there is;
    `ownward serve` chooses that itself.
    """
    if option.engine == "vllm":
        return (_vllm(option, release, source),)
    gguf = _gguf_of(source)
    server = _llama_server(option, release, source, gguf, threads=threads, serving=serving)
    return tuple(way for way in (server, _serve(option, gguf)) if way)


def _llama_server(
    option: FitOption,
    release: Model | None,
    source: str | None,
    gguf: str | None,
    *,
    threads: int | None,
    serving: ServingChoice | None,
) -> LaunchCommand:
    from ownward.engines import EngineOptions, llama_server_command
    from ownward.reports import LaunchCommand

    extra = ["--ubatch-size", str(option.prefill_chunk_tokens)]
    layers: int | None = None if option.deployment.machine.kind in _ON_PROCESSORS else _ALL_LAYERS
    if option.deployment.machine.is_whole_computer:
        pass  # what it does not hold is read from the disk by whoever computes
    elif option.layers_on_host and option.is_split_by_expert:
        extra += ["--n-cpu-moe", str(option.deployment.anatomy.first_layers_with(option.layers_on_host))]
    elif option.layers_on_host:
        layers = option.layer_count + 1 - option.layers_on_host  # llama.cpp counts the head as one
    kv_type = "f16" if option.kv_type in {"bf16", "f16"} else option.kv_type
    if kv_type != "f16":
        extra += ["--flash-attn", "on"]  # a quantised cache of values needs it
    options = EngineOptions(
        model_path=Path(_file_name(option, gguf)),
        alias=option.model,
        gpu_layers=layers,
        batch_tokens=max(_LLAMA_BATCH_TOKENS, option.prefill_chunk_tokens),
        **(_plain(option) if serving is None else serving.options),
        kv_type="q4_0" if kv_type == "q4_0" else "q8_0" if kv_type == "q8_0" else "f16",
        port=8080,
    )
    needs = ["" if gguf is not None else _needed_file(option, release, source), _wired_memory(option)]
    words = llama_server_command(options, threads=threads, extra=tuple(extra))
    if gguf is not None and is_remote_name(gguf):  # llama-server fetches it itself, by other flags
        place = words.index("--model")
        words[place : place + 2] = _fetched(gguf)
    return LaunchCommand(
        words=tuple(words),
        needs=tuple(filter(None, needs)),
    )


def _fetched(source: str) -> list[str]:
    """Return llama-server's flags for a file elsewhere.

    >>> _fetched("hf:org/name@main/part/file.gguf"), _fetched("https://there/file.gguf")
    (['--hf-repo', 'org/name', '--hf-file', 'part/file.gguf'], ['--model-url', 'https://there/file.gguf'])
    """
    if not source.startswith("hf:"):
        return ["--model-url", source]
    organisation, name, *file = source.removeprefix("hf:").split("/")
    return ["--hf-repo", f"{organisation}/{name.partition('@')[0]}", *(("--hf-file", "/".join(file)) if file else ())]


def _wired_memory(option: FitOption) -> str:
    """Return what to say to macOS where it lets the GPU have less of the memory than the option takes.

    By default two thirds of up to 36 GB and three quarters of more. Source: Metal's recommendedMaxWorkingSetSize, as
    many have read it.
    """
    machine, usable = option.deployment.machine, option.usable_bytes
    label = machine.memory_label_gb
    if not machine.id.startswith("apple") or label is None or usable is None or option.split is not None:
        return ""
    share = _MAC_SHARE if label > _SMALL_MAC_GB else _SMALL_MAC_SHARE
    taken = min(option.memory.total, usable)
    if taken <= share * label * GIB:
        return ""
    return (
        f"macOS lets the GPU use about {share * label:.0f} of {label:.0f} GB unless told otherwise: "
        f"sudo sysctl iogpu.wired_limit_mb={math.ceil(taken / MIB)}"
    )


def context_of(option: FitOption) -> int:
    """Return the context that each sequence gets."""
    return max(min(option.context_tokens, option.max_context_tokens or option.context_tokens), 1)


def _plain(option: FitOption) -> dict[str, Any]:
    warmup = option.split is None or not option.split.on_disk_bytes
    return {"slots": option.concurrency, "context_tokens": context_of(option), "warmup": warmup}


def _serve(option: FitOption, gguf: str | None) -> LaunchCommand | None:
    """Return our own command, where the embedded engine needs no flag that it does not take."""
    from ownward.reports import LaunchCommand

    if (option.split is not None and not option.deployment.machine.is_whole_computer) or option.kv_type not in {
        "bf16",
        "f16",
    }:
        return None
    machine = option.deployment.machine
    runs = any(machine.kind == name or machine.id.startswith(name) for name in _EMBEDDED_RUNS_ON)
    words = ("ownward", "serve", "--model", _file_name(option, gguf))
    load = ("--context", str(context_of(option)), "--slots", str(option.concurrency))
    return LaunchCommand(
        words=(*words, *load),
        needs=() if runs else (_NEEDS_A_BUILD,),
    )


def _vllm(option: FitOption, release: Model | None, source: str | None) -> LaunchCommand:
    from ownward.engines import VllmOptions, vllm_command
    from ownward.planner import vllm_options
    from ownward.reports import LaunchCommand

    model, quantization, needs = _checkpoint(option, release, source)
    revision = None
    if source is not None and source.startswith("hf:"):
        model, _, revision = model.partition("@")
    apart = option.tensor_parallel if option.attention_data_parallel else 1
    options = VllmOptions(
        model=model,
        alias=option.model,
        revision=revision or None,
        max_context_tokens=context_of(option),
        quantization=quantization,
        port=8000,
        **vllm_options(
            option.deployment,
            sequences=option.concurrency,
            batch_tokens=max(option.prefill_chunk_tokens, option.concurrency),
        ),
    )
    extra = ("--data-parallel-size", str(apart)) if apart > 1 else ()
    return LaunchCommand(words=tuple(vllm_command(options, extra=extra)), needs=(needs,) if needs else ())


def _checkpoint(option: FitOption, release: Model | None, source: str | None) -> tuple[str, str | None, str]:
    """Return what vLLM is to load, the quantisation it is to do itself, and what is needed that is not published."""
    hub, needs = _named_checkpoint(option, release, source)
    if option.deployment.weights in {"native", "bf16"}:
        return hub, None, needs
    made = None if release is None or source is not None else published(release, option.variant)
    if made is not None:
        return made, None, ""
    if option.variant == "fp8":
        return hub, "fp8", needs
    size = format_bytes(option.memory.weights)
    needs = f"needs a checkpoint of {hub} in {option.variant}, {size}"
    return (
        f"./{option.model}-{option.variant}",
        None,
        needs + ("; none is in the catalogue" if source is None else ": make it first"),
    )


def _named_checkpoint(option: FitOption, release: Model | None, source: str | None) -> tuple[str, str]:
    """Return the name or folder that vLLM takes, and what is missing of it where it is a folder here."""
    if source is None:
        return (option.model if release is None or release.hub_id is None else release.hub_id.value), ""
    if is_remote_name(source):
        return source.removeprefix("hf:").removesuffix("/config.json").removesuffix("/model.safetensors"), ""
    path = Path(source)
    if path.suffix == ".gguf" or not path.exists():  # or the name of a published checkpoint
        return source, ""
    folder = path if path.is_dir() else path.parent
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return str(folder), ""
    size = format_bytes(option.memory.weights)
    return str(folder), f"needs config.json and its weights, {size}, in {folder}: fetch or make them first"


def published(release: Model, variant: str) -> str | None:
    """Return the catalogue's checkpoint of a release in a format that vLLM loads; None for none."""
    from ownward import catalog
    from ownward.cli._lookup import catalog_files

    named = [
        item.name
        for item in catalog.checkpoints(release.id, catalog_files())
        if item.quantisation.lower() == variant and not item.name.startswith("mlx-community/")
    ]
    return named[0] if named else None


def _needed_file(option: FitOption, release: Model | None, source: str | None) -> str:
    hub = source or (option.model if release is None or release.hub_id is None else release.hub_id.value)
    return f"needs a GGUF of {hub} in {option.variant}, {format_bytes(option.memory.weights)}: fetch or make it first"


def _gguf_of(source: str | None) -> str | None:
    """Return the GGUF file that `source` is or, as a folder, holds; None for what llama.cpp does not read."""
    if source is None or source.endswith(".gguf"):
        return source
    if is_remote_name(source) or not Path(source).is_dir() or any(Path(source).glob("*.json")):
        return None
    return next((str(file) for file in sorted(Path(source).glob("*.gguf"))), None)


def _file_name(option: FitOption, gguf: str | None) -> str:
    return gguf if gguf is not None else f"{option.model}-{option.variant.upper()}.gguf"
