"""The engines that `ownward serve` starts for a plan: weights found, options read, nothing run yet."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from ownward.cli._serving_choice import choose_for_file, choose_for_files, stated_in
from ownward.core import ConfigError, Fault, UnknownModel, UsageError

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.engines import EmbeddedEngine, EngineOptions, EngineStatus, LaunchedEngine, ServingChoice, Stated
    from ownward.plan import Tier

_PROGRAM_OPTIONS = frozenset({"program", "extra_flags", "load_timeout_s", "model_path"})
_MADE_OF_A_RELEASE = frozenset({"int4", "int8", "nvfp4"})  # what vLLM does not make by itself
_HUB_LOAD_TIMEOUT_S = 1800.0  # weights of a name are fetched by the program itself, of a size not known here
_KIND = "A value of the option's kind: docs/reference/engines.md"
_ALLOWED = {
    "extra_flags": 'Flags as an array of texts: ["--flag", "value"]',
    "load_timeout_s": "Seconds, above 0",
}
_GPU_START_S = 300.0  # compiling kernels and capturing graphs, on top of reading the weights


def is_started_by_serve(tier: Tier) -> bool:
    """Return whether the tier's engine has no address of its own, so that `serve` starts it."""
    return tier.is_owned and any(upstream.url is None for upstream in tier.upstreams)


def find_weights(tiers: Mapping[str, Tier], plan_path: Path) -> dict[str, Path | None]:
    """Return the weights of each tier whose engine serve starts; None where the program finds them by the model's name.

    Raises: ConfigError, with the faults of all tiers; FetchFailed.
    """
    started = [tier for tier in tiers.values() if is_started_by_serve(tier)]
    if not started:
        return {}
    from ownward.cli._weights import fetch_weights, is_hub_name
    from ownward.engines import EMBEDDED_MODEL  # a gateway that starts none does without them

    weights: dict[str, Path | None] = {}
    faults: list[Fault] = []
    for tier in started:
        key = f"tiers.{tier.name}.engine_options"
        stated = tier.engine_options.get("model_path")
        if isinstance(stated, str):
            weights[tier.name] = fetch_weights(stated) if is_hub_name(stated) else plan_path.parent / stated
        elif tier.engine in {"vllm", "sglang"}:
            weights[tier.name] = None
            if _name_on_the_hub(tier) is None:
                message = (
                    f"names no weights in {tier.variant}, and the catalogue knows no such checkpoint of {tier.model}"
                )
                allowed = 'State the folder, or the name on the hub as the tier\'s model: model_path = "weights"'
                faults.append(Fault(file=str(plan_path), key=key, message=message, allowed=allowed))
        elif tier.model == EMBEDDED_MODEL.id:
            weights[tier.name] = fetch_weights(EMBEDDED_MODEL.id)
        else:
            allowed = 'State the file: model_path = "weights.gguf"'
            faults.append(Fault(file=str(plan_path), key=key, message="names no weights", allowed=allowed))
    if faults:
        raise ConfigError(faults)
    return weights


def choose_for_tiers(
    tiers: Mapping[str, Tier], weights: Mapping[str, Path | None], settings: Settings
) -> dict[str, ServingChoice]:
    """Return how the tiers that llama.cpp serves are best served beside each other; what the plan states is kept."""
    files = {
        name: (path, stated_for(tiers[name], settings))
        for name, path in weights.items()
        if path is not None and tiers[name].engine in {"embedded", "llama-server"}
    }
    return choose_for_files(files)


def stated_for(tier: Tier, settings: Settings) -> Stated:
    """Return what the plan says of a tier's engine, and the settings where it says nothing.

    Values of a wrong kind are passed over here: they are refused where the engine is made.
    """
    stated = stated_in(settings)
    types = get_type_hints(type(stated))
    given: dict[str, Any] = {
        name: value
        for name, value in tier.engine_options.items()
        if name in types and any(_is_a(value, one) for one in _members(types[name]))
    }
    return dataclasses.replace(stated, **given)


def make_engine(
    tier: Tier,
    weights: Path | None,
    settings: Settings,
    *,
    choice: ServingChoice | None = None,
    on_change: Callable[[EngineStatus], None],
) -> EmbeddedEngine | LaunchedEngine:
    """Return the tier's engine, not yet started, with its words going to a log file of its own.

    Raises: ConfigError, naming the option that the engine does not have, or its wrong value.
    """
    log_file = _log_file(tier, settings)
    if tier.engine == "embedded":
        from ownward.engines import EmbeddedEngine

        options = _llama_options(tier, weights, settings, choice)
        return EmbeddedEngine(options, log_file=log_file, on_change=on_change)

    from ownward.engines import LaunchedEngine

    command, load_timeout_s = _program(tier, weights, settings, choice)
    return LaunchedEngine(
        command,
        name=tier.name,
        model=tier.model,
        is_embedding=tier.engine_options.get("embedding") is True,
        load_timeout_s=load_timeout_s,
        log_file=log_file,
        on_change=on_change,
    )


def _log_file(tier: Tier, settings: Settings) -> Path | None:
    if settings.engine.log_dir is None:
        return None
    settings.engine.log_dir.mkdir(parents=True, exist_ok=True)
    return settings.engine.log_dir / f"{tier.name}.log"


def _llama_options(tier: Tier, weights: Path | None, settings: Settings, choice: ServingChoice | None) -> EngineOptions:
    from ownward.engines import EngineOptions

    assert weights is not None  # find_weights refuses a plan that leaves them out
    if choice is None:
        choice = choose_for_file(weights, stated_for(tier, settings))
    defaults = {**choice.options, "threads": settings.engine.threads}
    not_its_own = _PROGRAM_OPTIONS if tier.engine == "llama-server" else {"model_path"}
    stated = {key: value for key, value in tier.engine_options.items() if key not in not_its_own}
    options: EngineOptions = _read_options(
        EngineOptions, tier, {"model_path": weights, "alias": tier.model}, defaults, stated
    )
    return options


def _program(
    tier: Tier, weights: Path | None, settings: Settings, choice: ServingChoice | None
) -> tuple[Callable[[int], list[str]], float]:
    """Return what gives the command line for a port, and how long the program may take to load."""
    from ownward.engines import (
        SglangOptions,
        VllmOptions,
        choose_free_threads,
        find_own_pooling,
        llama_server_command,
        sglang_command,
        vllm_command,
    )

    of_program = {key: value for key, value in tier.engine_options.items() if key in _PROGRAM_OPTIONS}
    stated = {key: value for key, value in tier.engine_options.items() if key not in _PROGRAM_OPTIONS}
    said: dict[str, Any] = {"extra": _flags(tier, of_program.get("extra_flags", ""))}
    if "program" in of_program:
        said["program"] = str(of_program["program"])
    load_timeout_s = _seconds(tier, of_program.get("load_timeout_s"), weights)

    if tier.engine == "llama-server":
        options = _llama_options(tier, weights, settings, choice)

        def llama(port: int) -> list[str]:
            threads, pools_itself = options.threads or choose_free_threads(), find_own_pooling(options)
            return llama_server_command(
                dataclasses.replace(options, port=port), threads=threads, pools_itself=pools_itself, **said
            )

        return llama, load_timeout_s

    model = (_name_on_the_hub(tier) or tier.model) if weights is None else str(weights)
    limits = {"max_context_tokens": tier.max_context_tokens, "slots": tier.max_concurrency}
    if tier.engine == "vllm":
        vllm = _read_options(VllmOptions, tier, {"model": model, "alias": tier.model}, limits, stated)
        return lambda port: vllm_command(dataclasses.replace(vllm, port=port), **said), load_timeout_s
    sglang = _read_options(SglangOptions, tier, {"model": model, "alias": tier.model}, limits, stated)
    return lambda port: sglang_command(dataclasses.replace(sglang, port=port), **said), load_timeout_s


def _name_on_the_hub(tier: Tier) -> str | None:
    """Return what the tier's model is called where programs fetch it: of the catalogue its checkpoint, else as it is.

    None for a release in a narrow format that somebody has to make first.
    """
    from ownward.cli._fit_commands import published
    from ownward.cli._lookup import find_checkpoint, find_model

    if "/" in tier.model or Path(tier.model).exists():
        return tier.model
    try:
        release = find_model(tier.model)
    except UnknownModel:
        checkpoint = find_checkpoint(tier.model)
        return tier.model if checkpoint is None else checkpoint.name
    variant = (tier.variant or "").lower()
    if "quantization" not in tier.engine_options:  # else the engine makes it of the release
        if (made := published(release, variant)) is not None:
            return made
        if variant in _MADE_OF_A_RELEASE:
            return None
    return tier.model if release.hub_id is None else release.hub_id.value


def _flags(tier: Tier, stated: Any) -> tuple[str, ...]:
    """Return flags that are handed to the program as they are: an array of texts, or one text as a shell reads it."""
    if not isinstance(stated, str):
        return tuple(map(str, stated)) if isinstance(stated, list | tuple) else _refuse(tier, "extra_flags", stated)
    try:
        return tuple(shlex.split(stated))
    except ValueError:
        return _refuse(tier, "extra_flags", stated)


def _seconds(tier: Tier, stated: Any, weights: Path | None) -> float:
    """Return how long the program may take until it answers: as stated, or by the size of its weights."""
    from ownward.engines import compute_load_timeout_s

    if stated is not None:
        is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
        return float(stated) if is_number and stated > 0 else _refuse(tier, "load_timeout_s", stated)
    if weights is None:
        return _HUB_LOAD_TIMEOUT_S
    files = (file for file in weights.rglob("*") if file.is_file()) if weights.is_dir() else iter((weights,))
    size_bytes = sum(file.stat().st_size for file in files if file.exists())
    return compute_load_timeout_s(size_bytes) + (0 if tier.engine == "llama-server" else _GPU_START_S)


def _read_options(
    kind: type[Any], tier: Tier, given: Mapping[str, Any], defaults: Mapping[str, Any], stated: Mapping[str, Any]
) -> Any:
    """Return the engine's options: `given` cannot be stated in a plan, `stated` goes before `defaults`."""
    types = get_type_hints(kind)
    for name, value in stated.items():
        if name not in types or name in given:
            known = ", ".join(sorted(types.keys() - given.keys()))
            _refuse(tier, name, value, message="is not an option of the engine", allowed=known)
        if not any(_is_a(value, one) for one in _members(types[name])):
            _refuse(tier, name, value)
    try:
        return kind(**{**given, **defaults, **stated})
    except UsageError as error:
        _refuse(
            tier, error.message.split(" ", 1)[0], None, message=f"is refused: {error.message}", allowed=error.allowed
        )


def _members(kind: Any) -> Iterator[object]:
    """Yield the plain types and literal values that a union or a literal is made of."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif get_args(kind):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _is_a(value: object, kind: object) -> bool:
    """Return whether a value of TOML is one of `kind`, a type or a literal value."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(kind, type):
        return type(value) is kind
    return value == kind


def _refuse(
    tier: Tier, name: str, value: object, *, message: str | None = None, allowed: str | None = None
) -> NoReturn:
    key = f"tiers.{tier.name}.engine_options.{name}"
    raise ConfigError(
        [Fault(file="plan", key=key, message=message or f"is {value!r}", allowed=allowed or _ALLOWED.get(name, _KIND))]
    )
