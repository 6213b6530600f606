"""The machine that `fit` is asked about: devices by name or this very machine, and the memory and disk behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.cli._lookup import find_machines
from ownward.cli._output import say
from ownward.core import (
    OwnwardError,
    Sourced,
    SystemClock,
    UnknownMachine,
    UsageError,
    format_bytes,
    parse_bandwidth,
    parse_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from decimal import Decimal

    from ownward.catalog import Machine
    from ownward.perf import Coefficients, DiskReads
    from ownward.planner import Host
    from ownward.probe import MachineFacts

THIS = "this"
_GB = 10**9
_BUSY_CORES = 0.5  # of other work, while this machine was measured
_SLOWEST_DISK_BYTES_PER_S = 1e6  # a number without its unit is less
_LEAST_MEMORY_BYTES = 10**8  # the same
_MOSTLY_FREE = 0.85  # a desktop draws in a tenth of a small card


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTarget:
    """Devices, what is behind them, and coefficients measured on them, if any were.

    `threads` are the cores an engine may use, where this machine was asked; `notes` are for whoever reads the answer.
    """

    count: int
    machine: Machine
    host: Host | None = None
    coefficients: Coefficients | None = None
    threads: int | None = None
    is_this: bool = False
    notes: tuple[str, ...] = ()


def find_target(name: str, *, ram: str | None, ssd: str | None) -> FitTarget:
    """Return the machine that `--machine`, `--ram` and `--ssd` name.

    Raises: UnknownMachine, BadInput, UsageError.
    """
    if name == THIS:
        return _this_machine(ram, ssd)
    try:
        count, machine = find_machines(name)
    except UnknownMachine as error:
        error.next_step = f"{error.next_step}. This computer is: --machine {THIS}"
        raise
    if not machine.is_whole_computer:
        return FitTarget(count=count, machine=machine, host=find_host(ram=ram, ssd=ssd))
    notes: tuple[str, ...] = ()
    if ram is not None:  # there is no memory behind it: this is its own
        machine = _with_memory(machine, ram)
    elif machine.label_is_largest and machine.memory_label is not None:
        size = machine.memory_label.value
        notes = (f"The largest memory that it comes with, {size}, is assumed. State yours with: --ram 64GB",)
    return FitTarget(count=count, machine=machine, host=find_host(ram=None, ssd=ssd), notes=notes)


def _with_memory(machine: Machine, ram: str) -> Machine:
    """Return a machine whose memory is the processor's with as much of it as is stated."""
    size = _size(ram)
    stated: dict[str, Any] = {
        "basis": "assumed",
        "source": "stated with --ram",
        "checked_on": SystemClock().now().date(),
    }
    return replace(
        machine,
        memory_label=Sourced(value=f"{round(size / _GB)} GB", **stated),
        memory_bytes=Sourced(value=size, **stated),
        label_is_largest=False,
    )


def with_stated(target: FitTarget, *, watts: float | None, price_usd: Decimal | None, at: date) -> FitTarget:
    """Return the target with the power and the price that its owner states, where they are given."""
    machine = target.machine
    if watts is not None:
        drawn = Sourced(value=watts, basis="assumed", source="stated with --watts", checked_on=at)
        machine = replace(machine, tdp_watts=drawn)
    if price_usd is not None:
        paid = Sourced(value=price_usd, basis="assumed", source="stated with --price", checked_on=at)
        machine = replace(machine, price_usd=paid, price_kind="yours", price_dated=at.isoformat())
    return replace(target, machine=machine)


def find_host(*, ram: str | None, ssd: str | None) -> Host | None:
    """Return what `--ram` and `--ssd` say stands behind a device; None where neither is given.

    Raises: UsageError.
    """
    from ownward.planner import Host

    if ram is None and ssd is None:
        return None
    return Host(memory_bytes=_size(ram) if ram else 0, disk_bytes_per_s=_rate(ssd))


def _size(ram: str) -> int:
    try:
        size = parse_bytes(ram)
    except ValueError as error:
        raise UsageError(f"--ram: {error}") from error
    if 0 < size < _LEAST_MEMORY_BYTES:
        raise UsageError(f"--ram is {ram!r}, less than any machine has", allowed="Write it as 64GB")
    return size


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = parse_bandwidth(text)
    except ValueError as error:
        raise UsageError(f"--ssd: {error}", allowed="Write it as 7GB/s") from error
    if rate < _SLOWEST_DISK_BYTES_PER_S:
        raise UsageError(f"--ssd is {text!r}, slower than any disk", allowed="Write it as 7GB/s")
    return rate


def _this_machine(ram: str | None, ssd: str | None) -> FitTarget:
    """Return this machine as its drivers describe it and `bench` has measured it, with the memory that is stated.

    Of several cards the kind with the most memory in all is taken; what else there is, the notes say.

    Without a calibration its memory and disk are measured now, which takes three seconds.
    """
    from ownward.cli._calibration import calibrated, calibration_path, load_calibration
    from ownward.perf import DiskReads
    from ownward.planner import Host
    from ownward.probe import measure_memory_bandwidth, this_machine, to_machines

    facts = this_machine()
    known = load_calibration()
    bandwidth = None
    reads: DiskReads | None = None
    if known is None or known.get("machine") != facts.name:
        known = None
        say("measuring this machine's memory and disk; `ownward bench` measures more and keeps it")
        bandwidth = measure_memory_bandwidth(threads=max(facts.usable_cores.value, 1))
        reads = _measure_disk(calibration_path().parent) if ssd is None else None
    elif ssd is None and known.get("page_faults"):
        reads = DiskReads(**known["page_faults"])
    machines = to_machines(facts, bandwidth=bandwidth)
    processor = machines[-1]
    if known is not None:
        measured = Sourced(
            value=float(known["bandwidth_bytes_per_s"]),
            basis="measured",
            source=f"ownward bench, {known['measured_at']}",
            checked_on=SystemClock().now().date(),
        )
        processor = replace(processor, bandwidth_bytes_per_s=measured)
    count, device = _most_memory(machines[:-1]) if len(machines) > 1 else (1, processor)
    rate = processor.bandwidth_bytes_per_s
    memory = 0
    if not device.is_whole_computer:
        memory = facts.usable_memory_bytes if ram is None else _size(ram)
    elif ram is not None:
        device = _with_memory(device, ram)
    host = Host(
        memory_bytes=memory,
        bytes_per_s=None if rate is None else rate.value,
        disk_bytes_per_s=_rate(ssd),
        disk_reads=reads,
    )
    effects = {} if known is None else dict(known.get("effects", {}))
    return FitTarget(
        count=count,
        machine=device,
        host=host,
        coefficients=calibrated(effects) if effects else None,
        threads=max(facts.usable_cores.value, 1),
        is_this=True,
        notes=(*_notes(known), *_left_out(facts, machines[:-1], device)),
    )


def _most_memory(cards: Sequence[Machine]) -> tuple[int, Machine]:
    """Return how many cards there are of the kind that has the most memory in all, and the smallest of them."""
    kinds: dict[str, list[Machine]] = {}
    for card in cards:
        kinds.setdefault(card.id, []).append(card)
    most = max(kinds.values(), key=lambda alike: len(alike) * _memory_of(alike[0]))
    return len(most), min(most, key=_memory_of)


def _memory_of(card: Machine) -> int:
    return 0 if card.usable_memory is None else card.usable_memory.value


def _left_out(facts: MachineFacts, cards: Sequence[Machine], taken: Machine) -> list[str]:
    """Return which accelerators of this machine the answer leaves out, and why, and which are in use."""
    notes = [
        f"{name} is here too and left out: cards of two kinds are not counted together. Ask with: --machine {name!r}"
        for name in dict.fromkeys(card.name for card in cards if card.id != taken.id)
    ]
    if len(cards) < len(facts.gpus):
        named = ", ".join(dict.fromkeys(gpu.name.value for gpu in facts.gpus))
        unknown = "one of them is" if cards else "it is"
        notes.append(f"The drivers report {named}; {unknown} not in the catalogue and left out: ownward machines add")
    for gpu in facts.gpus:
        free, total = gpu.free_memory_bytes, gpu.memory_bytes
        if free is not None and total is not None and free.value < _MOSTLY_FREE * total.value:
            notes.append(
                f"Other programs use {gpu.name.value}: {format_bytes(free.value)} of {format_bytes(total.value)} are "
                "free now, and all of it is counted"
            )
    return notes


def _notes(known: dict[str, Any] | None) -> tuple[str, ...]:
    """Return what a reader should know of a calibration."""
    busy = 0.0 if known is None else float(known.get("busy_cores") or 0.0)
    if busy < _BUSY_CORES:
        return ()
    return (f"`ownward bench` ran while other work kept {busy:.1f} cores busy: run it again on a quiet machine",)


def _measure_disk(folder: Path) -> DiskReads | None:
    """Return how the disk of the store, or of this folder, answers page faults; None where that cannot be measured."""
    from ownward.perf import DiskReads
    from ownward.probe import measure_fault_read

    try:
        found = measure_fault_read(folder if folder.is_dir() else Path.cwd())
    except OwnwardError:
        return None
    return DiskReads(bytes_per_s=found.bytes_per_s, over_read=found.over_read or 1.0)
