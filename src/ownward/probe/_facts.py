"""What can be said of a machine, each fact with how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from ownward.core import KIB, Sourced, format_bytes

T = TypeVar("T")

READ_AHEAD_LIMIT_BYTES = 256 * KIB
"""Above it, a model larger than memory ran 3 to 14 times slower (measured with llama.cpp, 128 KiB to 8 MiB)."""


def measured(value: T, source: str, today: date) -> Sourced[T]:
    """Return a fact that this machine told today, with the file or call that told it."""
    return Sourced(value=value, basis="measured", source=source, checked_on=today)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One accelerator, as its driver describes it."""

    name: Sourced[str]
    vendor: str
    memory_bytes: Sourced[int] | None = None
    free_memory_bytes: Sourced[int] | None = None
    power_limit_watts: Sourced[float] | None = None
    driver: Sourced[str] | None = None
    cores: Sourced[int] | None = None
    is_memory_shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """The disk that holds a path."""

    path: str
    device: str | None
    free_bytes: Sourced[int]
    read_ahead_bytes: Sourced[int] | None = None
    is_rotational: Sourced[bool] | None = None

    @property
    def advice(self) -> str | None:
        """What to change before a model larger than memory runs from this disk; None where nothing is wrong."""
        if self.read_ahead_bytes is None or self.read_ahead_bytes.value <= READ_AHEAD_LIMIT_BYTES:
            return None
        return (
            f"{self.device} reads {format_bytes(self.read_ahead_bytes.value)} ahead: a mixture of experts larger than "
            f"memory runs several times slower than with 128 KiB. Change it, as root, with: "
            f"blockdev --setra 256 /dev/{self.device}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """This machine, as its operating system and drivers describe it; what none of them says is None."""

    name: str
    system: str
    cpu_model: Sourced[str] | None
    cpu_features: Sourced[tuple[str, ...]] | None
    physical_cores: Sourced[int]
    logical_cores: Sourced[int]
    usable_cores: Sourced[int]
    cpu_quota_cores: Sourced[float] | None
    memory_bytes: Sourced[int]
    available_memory_bytes: Sourced[int]
    memory_limit_bytes: Sourced[int] | None
    disk: DiskFacts | None
    gpus: tuple[GpuFacts, ...]

    @property
    def usable_memory_bytes(self) -> int:
        """The memory that this process may ever have: the machine's, or its control group's where that is less."""
        limit = self.memory_limit_bytes
        return self.memory_bytes.value if limit is None else min(self.memory_bytes.value, limit.value)
