"""This machine in the catalogue's terms, so that what is planned for a bought machine is planned for this one alike."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ownward.core import Sourced, UnknownMachine
from ownward.probe._bandwidth import BandwidthMeasurement
from ownward.probe._facts import GpuFacts, MachineFacts

if TYPE_CHECKING:
    from ownward.catalog import Machine


def to_machines(facts: MachineFacts, *, bandwidth: BandwidthMeasurement | None = None) -> tuple[Machine, ...]:
    """Return this machine's devices as the catalogue describes such: accelerators first, the processor last.

    An accelerator takes the catalogue's rates by its driver's name, and its
    memory from the driver; one that the catalogue does not know, or not for
    certain, is left out. The processor has the memory this process may use and
    the `bandwidth` measured, if any; its compute is not known.
    """
    found = [_accelerator(gpu, facts) for gpu in facts.gpus]
    return (*(machine for machine in found if machine is not None), _processor(facts, bandwidth))


def _accelerator(gpu: GpuFacts, facts: MachineFacts) -> Machine | None:
    from ownward import catalog

    name = gpu.name.value if gpu.cores is None else f"{gpu.name.value} {gpu.cores.value}-core GPU"
    try:
        known = catalog.machine(name)
    except UnknownMachine:
        return None
    memory = facts.memory_bytes if gpu.is_memory_shared else gpu.memory_bytes
    return known if memory is None else dataclasses.replace(known, memory_bytes=memory)


def _processor(facts: MachineFacts, bandwidth: BandwidthMeasurement | None) -> Machine:
    from ownward.catalog import Machine

    memory = facts.memory_bytes
    if facts.memory_limit_bytes is not None and facts.usable_memory_bytes < memory.value:
        memory = facts.memory_limit_bytes
    measured: Sourced[float] | None = None if bandwidth is None else bandwidth.as_sourced()
    return Machine(
        id="this-machine",
        name=facts.name,
        kind="cpu-platform",
        vendor="",
        memory_bytes=memory,
        bandwidth_bytes_per_s=measured,
        note="described by its operating system; compute rates are not known",
    )
