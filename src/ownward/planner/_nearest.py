"""What would make a model run that does not fit: the nearest changes, each tried and predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import GIB
from ownward.planner._fit import READING_TOKENS_PER_S, SENSIBLE_BITS, FitOption, fit
from ownward.planner._placement import HOST_SHARE, Host

Change = Literal["concurrency", "context", "kv_type", "ram", "devices", "machine", "model"]

_LEAST_CONTEXT_TOKENS = 1024
# Sizes in which memory is bought, in GiB.
_MEMORY_GIB = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_DEVICES = (2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """A change with which something fits: what is changed, to what (as its flag takes it), and what comes of it."""

    change: Change
    to: str
    option: FitOption


def find_nearest(
    options: Sequence[FitOption],
    *,
    machines: Sequence[Machine] = (),
    others: Sequence[Anatomy] = (),
    merits: Mapping[str, float] | None = None,
) -> tuple[Nearest, ...]:
    """Return what makes the first model of `options` run: a lesser load, more memory, more devices, another machine.

    `machines` are those one could have instead, of which the smallest that is fast enough to read along is named;
    `others` are models that may fit where this one does not, the best by `merits` first. Empty where the options are,
    or already fit.
    """
    if not options or any(option.fits is not False for option in options):
        return ()
    wanted = options[0].model
    own = [option for option in options if option.model == wanted]
    sensible = [option for option in own if option.bits >= SENSIBLE_BITS] or own
    subject = min(sensible, key=lambda option: option.missing_bytes or 0)
    found = (
        *_lesser_load(own),
        *_more_memory(subject),
        *_more_devices(subject),
        *_another_machine(subject, machines),
        *_another_model(subject, others, merits or {}),
    )
    return tuple(found)


def _lesser_load(own: Sequence[FitOption]) -> Iterator[Nearest]:
    narrowest = min(own, key=lambda option: option.missing_bytes or 0)
    conditions = narrowest.conditions
    if conditions.concurrency > 1 and narrowest.max_concurrency:
        fewer = narrowest.max_concurrency
        yield from _tried(narrowest, "concurrency", str(fewer), concurrency=fewer)
    if narrowest.max_context_tokens and narrowest.max_context_tokens >= _LEAST_CONTEXT_TOKENS:
        context = narrowest.max_context_tokens
        yield from _tried(narrowest, "context", str(context), context_tokens=context)
    elif conditions.kv_type == "bf16":
        kv_type = "q8_0" if narrowest.deployment.is_llama_like else "fp8"
        yield from _tried(narrowest, "kv_type", kv_type, kv_type=kv_type)


def _more_memory(subject: FitOption) -> Iterator[Nearest]:
    conditions = subject.conditions
    if not subject.deployment.is_llama_like or conditions.machine.is_whole_computer:
        return
    held = 0 if conditions.host is None else conditions.host.memory_bytes
    for gib in _MEMORY_GIB:
        memory = gib * GIB
        if memory > held and HOST_SHARE * memory >= (subject.missing_bytes or 0):
            host = Host(
                memory_bytes=memory,
                bytes_per_s=None if conditions.host is None else conditions.host.bytes_per_s,
                disk_bytes_per_s=None if conditions.host is None else conditions.host.disk_bytes_per_s,
            )
            yield from _tried(subject, "ram", f"{gib}GiB", host=host)
            return


def _more_devices(subject: FitOption) -> Iterator[Nearest]:
    conditions = subject.conditions
    if conditions.machine.is_whole_computer:
        return
    for count in _DEVICES:
        if count <= conditions.machines_count:
            continue
        found = [*_tried(subject, "devices", str(count), machines_count=count)]
        if found:
            yield found[0]
            return


def _another_machine(subject: FitOption, machines: Sequence[Machine]) -> Iterator[Nearest]:
    sized = [
        (machine.usable_memory.value, machine)
        for machine in machines
        if machine.usable_memory is not None and machine.id != subject.conditions.machine.id
    ]
    for size, machine in sorted(sized, key=lambda pair: (pair[0], pair[1].id)):
        if size <= (subject.usable_bytes or 0) / max(subject.machines_count, 1):
            continue
        found = [*_tried(subject, "machine", machine.name, machine=machine, machines_count=1, engine=None)]
        if found and (found[0].option.decode_tokens_per_s.value or 0.0) >= READING_TOKENS_PER_S:
            yield found[0]
            return


def _another_model(subject: FitOption, others: Sequence[Anatomy], merits: Mapping[str, float]) -> Iterator[Nearest]:
    options = fit(others, merits=merits, **subject.conditions.as_keywords())
    if options and options[0].fits:
        yield Nearest(change="model", to=options[0].model, option=options[0])


def _tried(subject: FitOption, change: Change, to: str, **changed: object) -> Iterator[Nearest]:
    """Yield the change with its best option, if anything fits with it."""
    stated = {**subject.conditions.as_keywords(), "engine": subject.engine, **changed}
    formats = () if change == "machine" else (subject.deployment.weights,)
    options = fit([subject.deployment.anatomy], formats=formats, **stated)
    if options and options[0].fits:
        yield Nearest(change=change, to=to, option=options[0])
