"""A machine: memory, bandwidth, compute, power and price, each figure with its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeVar, get_args

from ownward.catalog._facts import (
    FactFile,
    FactTable,
    as_count,
    as_money,
    as_positive,
    as_text,
)
from ownward.core import GIB, BadInput, Basis, Sourced, parse_bytes

T = TypeVar("T")

MachineKind = Literal[
    "gpu-consumer", "gpu-workstation", "gpu-datacenter", "soc-unified", "asic", "tpu", "cpu-platform", "storage"
]
Dtype = Literal["bf16", "fp16", "fp8", "fp4", "int8"]

_PRICED_SIZE = re.compile(r"price is for (\d+) ?GB")
# The day of a statement that names none.
UNDATED = date(1970, 1, 1)
CALLER = "stated by the caller"

# What a driver shows of a labelled memory, where nobody has written it down: the lowest share seen among
# the catalogue's machines whose driver-visible bytes are known is 0.96 (GB300), most show 0.98 to 1.00.
ASSUMED_VISIBLE_FRACTION = 0.97


# No device is below or above these: a figure that is has another unit than it was taken for. The least is a card
# reader's rate, the largest some hundred times today's.
_LEAST_RATE, _LARGEST_RATE = 10**7, 10**19
_LEAST_MEMORY_GB, _LARGEST_MEMORY_GB = 0.1, 10**6
_MOST_OVER_LABEL = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device, or the memory side of a platform, as its datasheet and price pages state it.

    `memory_label` is what stands on the box ("80 GB"); `memory_bytes` is what
    a driver shows, None where nobody has looked. Compute rates are dense and
    for FP32 accumulation. `price_kind` says what sort of price it is
    (launch_msrp, list, used_low, …) and `price_dated` of when. Storage and CPU
    platforms have a bandwidth and little else. `label_is_largest` marks chips
    sold in several memory sizes, where the label is the largest.
    """

    id: str
    name: str
    kind: MachineKind
    vendor: str
    aliases: tuple[str, ...] = ()
    memory_label: Sourced[str] | None = None
    label_is_largest: bool = False
    memory_bytes: Sourced[int] | None = None
    bandwidth_bytes_per_s: Sourced[float] | None = None
    bf16_flop_per_s: Sourced[float] | None = None
    fp16_flop_per_s: Sourced[float] | None = None
    fp8_flop_per_s: Sourced[float] | None = None
    fp4_flop_per_s: Sourced[float] | None = None
    int8_op_per_s: Sourced[float] | None = None
    tdp_watts: Sourced[float] | None = None
    price_usd: Sourced[Decimal] | None = None
    price_kind: str | None = None
    price_dated: str | None = None
    launched: Sourced[str] | None = None
    note: str = ""

    @property
    def is_whole_computer(self) -> bool:
        """Whether its memory is the computer's (a processor, a chip with unified memory): it is no card in a host."""
        return self.kind in {"cpu-platform", "soc-unified"}

    @property
    def memory_label_gb(self) -> float | None:
        """The number on the box."""
        if self.memory_label is None:
            return None
        return float(self.memory_label.value.split()[0])

    @property
    def priced_memory_gb(self) -> int | None:
        """The memory size that the price is of, where it is not the size of this machine; None where it is."""
        stated = _PRICED_SIZE.search(self.note)
        if stated is None or self.price_usd is None or self.price_kind == "yours":
            return None
        size = int(stated[1])
        return None if self.memory_label_gb == size else size

    @property
    def usable_memory(self) -> Sourced[int] | None:
        """The driver-visible bytes; where unknown, the label in GiB times `ASSUMED_VISIBLE_FRACTION`, as assumed.

        Labels of memory chips count binary gigabytes whatever they call them. None for a machine without a label.
        """
        if self.memory_bytes is not None or self.memory_label is None:
            return self.memory_bytes
        labelled = parse_bytes(self.memory_label.value.replace("GB", "GiB"))
        return Sourced(
            value=labelled if self.is_whole_computer else int(labelled * ASSUMED_VISIBLE_FRACTION),
            basis="assumed",
            source=f"{self.memory_label.source}; label {self.memory_label.value}",
            checked_on=self.memory_label.checked_on,
            note="label read as GiB" if self.is_whole_computer else f"label read as GiB x {ASSUMED_VISIBLE_FRACTION}",
        )

    def rate(self, dtype: Dtype) -> Sourced[float] | None:
        """Return the dense rate of `dtype` in FLOP/s (int8: operations/s), None where unknown."""
        match dtype:
            case "bf16":
                return self.bf16_flop_per_s
            case "fp16":
                return self.fp16_flop_per_s
            case "fp8":
                return self.fp8_flop_per_s
            case "fp4":
                return self.fp4_flop_per_s
            case "int8":
                return self.int8_op_per_s

    @property
    def facts(self) -> dict[str, Sourced[Any]]:
        """The stated figures by name."""
        named = {name: getattr(self, name) for name in FACT_NAMES}
        return {name: fact for name, fact in named.items() if fact is not None}


FACT_NAMES = (
    "memory_label",
    "memory_bytes",
    "bandwidth_bytes_per_s",
    "bf16_flop_per_s",
    "fp16_flop_per_s",
    "fp8_flop_per_s",
    "fp4_flop_per_s",
    "int8_op_per_s",
    "tdp_watts",
    "price_usd",
    "launched",
)


def read_machine(table: FactTable) -> Machine:
    """Return the machine of one `[[machine]]` table; its faults are noted in the table's file."""
    kind = table.need_text("kind")
    if kind not in get_args(MachineKind):
        table.fault("kind", f"is {kind!r}", allowed=f"One of {', '.join(get_args(MachineKind))}")
    price_kind = table.text("price_kind") or None
    machine = Machine(
        id=table.need_text("id"),
        name=table.need_text("name"),
        kind=kind,  # type: ignore[arg-type]  # checked above; the fault is raised before anyone sees it
        vendor=table.text("vendor"),
        aliases=table.texts("aliases"),
        memory_label=table.fact("memory_label", _as_label),
        label_is_largest=table.flag("label_is_largest"),
        memory_bytes=table.fact("memory_bytes", _as_memory),
        bandwidth_bytes_per_s=table.fact("bandwidth_bytes_per_s", _as_bandwidth),
        bf16_flop_per_s=table.fact("bf16_flop_per_s", _as_rate),
        fp16_flop_per_s=table.fact("fp16_flop_per_s", _as_rate),
        fp8_flop_per_s=table.fact("fp8_flop_per_s", _as_rate),
        fp4_flop_per_s=table.fact("fp4_flop_per_s", _as_rate),
        int8_op_per_s=table.fact("int8_op_per_s", _as_rate),
        tdp_watts=table.fact("tdp_watts", as_positive),
        price_usd=table.fact("price_usd", as_money),
        price_kind=price_kind,
        price_dated=table.text("price_dated") or None,
        launched=table.fact("launched", as_text),
        note=table.text("note"),
    )
    _note_contradiction(table, machine)
    if machine.price_usd is not None and price_kind is None:
        table.fault("price_kind", "is not stated", allowed="A price says its kind: launch_msrp, list, used_low, …")
    table.close()
    return machine


def _note_contradiction(table: FactTable, machine: Machine) -> None:
    """Note a driver that shows more memory than stands on the box."""
    label, shown = machine.memory_label_gb, machine.memory_bytes
    if label is not None and shown is not None and shown.value > _MOST_OVER_LABEL * label * GIB:
        table.fault(
            "memory_bytes",
            f"is {shown.value}, and memory_label says {label:g} GB",
            allowed="A driver never shows more than the box says",
        )


def machine_from_toml(text: str, *, file: str = "machine.toml") -> Machine:
    """Return the one machine of a TOML text, in the format of the catalogue's own files.

    Raises: ConfigError, with every fault and its line, or if there is not exactly one `[[machine]]`.
    """
    facts = FactFile(text, file=file, kinds=("machine",))
    machines = [read_machine(table) for table in facts.tables("machine")]
    if len(machines) != 1:
        facts.add_fault(f"has {len(machines)} [[machine]] tables", line=None, allowed="Exactly one")
    facts.check()
    return machines[0]


_COLUMNS: dict[str, tuple[str, int]] = {
    "bandwidth_gb_s": ("bandwidth_bytes_per_s", 10**9),
    "bf16_tflops_dense": ("bf16_flop_per_s", 10**12),
    "fp16_tflops_dense": ("fp16_flop_per_s", 10**12),
    "fp8_tflops_dense": ("fp8_flop_per_s", 10**12),
    "fp4_tflops_dense": ("fp4_flop_per_s", 10**12),
    "int8_tops": ("int8_op_per_s", 10**12),
    "tdp_w": ("tdp_watts", 1),
}
_OTHER_COLUMNS = ("name", "kind", "memory_gb", "launch", "price_usd", "price_kind", "price_date", "source")
_ALL_COLUMNS = frozenset({*_COLUMNS, *_OTHER_COLUMNS, "price_source", "notes"})


def machine_from_mapping(stated: Mapping[str, Any], *, checked_on: date | None = None) -> Machine:
    """Return a machine from the columns of a machine table: `name, kind, memory_gb, bandwidth_gb_s, …_tflops_dense, ….

    Numbers may be texts; empty, None and 0 are unknown. A row that names no source
    is taken as the caller's own word: basis `assumed`, source "stated by the caller".
    Raises: BadInput, for a column that is not known or a cell that is no number.
    """
    unknown = sorted(set(stated) - _ALL_COLUMNS)
    if unknown:
        raise BadInput(
            f"a machine has the unknown column {unknown[0]!r}", allowed=f"Known: {', '.join(sorted(_ALL_COLUMNS))}"
        )
    source = str(stated.get("source") or "").strip()
    day = checked_on or UNDATED

    def said(value: T, basis: Basis = "datasheet", where: str = "") -> Sourced[T]:
        stated_basis: Basis = basis if source else "assumed"
        return Sourced(value=value, basis=stated_basis, source=where or source or CALLER, checked_on=day)

    figures: dict[str, Any] = {}
    for column, (name, factor) in _COLUMNS.items():
        number = _number(column, stated.get(column))
        if number is not None:
            if number * factor > _LARGEST_RATE:
                raise BadInput(
                    f"{column} is {stated[column]!r}", allowed="A figure in the unit of its name: 936 GB/s, 71 TFLOP/s"
                )
            figures[name] = said(float(number * factor))
    memory_gb = _number("memory_gb", stated.get("memory_gb"))
    if memory_gb is not None and memory_gb > _LARGEST_MEMORY_GB:
        raise BadInput(f"memory_gb is {stated['memory_gb']!r}", allowed="Gigabytes, such as 24")
    if memory_gb is not None:
        figures["memory_label"] = said(f"{memory_gb.normalize():f} GB")
    price = _number("price_usd", stated.get("price_usd"))
    if price is not None:
        figures["price_usd"] = said(price, "price page", str(stated.get("price_source") or ""))
    if stated.get("launch"):
        figures["launched"] = said(str(stated["launch"]))
    kind = str(stated.get("kind") or "gpu-datacenter")
    if kind not in get_args(MachineKind):
        raise BadInput(f"a machine has the kind {kind!r}", allowed=f"One of {', '.join(get_args(MachineKind))}")
    title = str(stated.get("name") or "").strip() or "stated machine"
    return Machine(
        id=slug(title),
        name=title,
        kind=kind,  # type: ignore[arg-type]  # checked above
        vendor="",
        price_kind=str(stated["price_kind"]) if stated.get("price_kind") else None,
        price_dated=str(stated["price_date"]) if stated.get("price_date") else None,
        note=str(stated.get("notes") or ""),
        **figures,
    )


def machines_from_csv(text: str, *, checked_on: date | None = None) -> tuple[Machine, ...]:
    """Return the machines of a CSV text with those columns."""
    import csv

    return tuple(machine_from_mapping(row, checked_on=checked_on) for row in csv.DictReader(text.splitlines()))


def slug(name: str) -> str:
    """Return a name as an id.

    >>> slug("Ryzen AI Max+ 395"), slug("GB200 (per GPU)")
    ('ryzen-ai-max-plus-395', 'gb200')
    """
    bare = re.sub(r"\((per gpu|chip|announced)\)", "", name.lower()).replace("+", " plus ")
    return re.sub(r"[^a-z0-9.]+", "-", bare).strip("-")


def _as_label(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)? GB", value):
        raise ValueError('A label such as "80 GB"')
    if not _LEAST_MEMORY_GB <= float(value.split()[0]) <= _LARGEST_MEMORY_GB:
        raise ValueError('Gigabytes of one machine, such as "80 GB"')
    return value


def _as_memory(value: Any) -> int:
    if as_count(value) < _LEAST_MEMORY_GB * GIB:
        raise ValueError("Bytes: 24 GiB is 25769803776")
    return as_count(value)


def _as_bandwidth(value: Any) -> float:
    if not _LEAST_RATE <= as_positive(value) <= _LARGEST_RATE:
        raise ValueError("Bytes a second: 936 GB/s is 9.36e11")
    return float(value)


def _as_rate(value: Any) -> float:
    if not _LEAST_RATE <= as_positive(value) <= _LARGEST_RATE:
        raise ValueError("Operations a second: 71 TFLOP/s is 7.1e13")
    return float(value)


def _number(column: str, cell: object) -> Decimal | None:
    if cell is None or cell == "":
        return None
    try:
        number = Decimal(str(cell).strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(cell, bool) or not number.is_finite() or number < 0:
        raise BadInput(f"{column} is {cell!r}", allowed="A number above 0, or empty where it is not known")
    return number or None
