"""Every setting: its default, its unit and what it means. Values only; what acts on them stands elsewhere.

Where a default is None, the room that uses it works the value out, as the text says.
"""

# ruff: noqa: RUF009 - each field is made by one function, so that its unit and its text stand beside its default

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ownward.core import Basis, Sourced
from ownward.plan import (
    Problem,
    WrongValue,
    as_bytes,
    as_choice,
    as_date,
    as_duration_s,
    as_flag,
    as_number,
    as_text,
    as_usd,
    as_whole,
    is_variable_name,
    refuse,
)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
"""The loopback port that `ownward serve` listens on where nothing else is said."""

Durability = Literal["process", "power"]

_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "text": as_text,
    "whole": as_whole,
    "number": as_number,
    "usd": as_usd,
    "duration": as_duration_s,
    "bytes": as_bytes,
    "flag": as_flag,
    "date": as_date,
}


class SettingDoc(NamedTuple):
    """What is known of one setting besides its value."""

    kind: str
    unit: str
    doc: str
    convert: Callable[[Any], Any]
    least: float | None
    most: float | None
    shown_default: str | None


def _as_path(value: Any) -> Path:
    text = as_text(value)
    if not text.strip() or "\x00" in text:
        raise WrongValue("is no path", example='"/var/lib/ownward/ledger.db"')
    return Path(text)


def _as_variable(value: Any) -> str:
    name = as_text(value)
    if not is_variable_name(name):  # not shown: it may be the secret itself
        raise WrongValue("is not the name of an environment variable", example='"MY_LEDGER_DSN"')
    return name


def _setting(
    default: Any,
    kind: str,
    doc: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    shown_default: str | None = None,
) -> Any:
    special: Mapping[str, Callable[[Any], Any]] = {"path": _as_path, "variable": _as_variable}
    convert = as_choice(*choices) if choices else special.get(kind) or _KINDS[kind]
    allowed = f"one of {', '.join(choices)}" if choices else unit
    about = SettingDoc(kind, allowed, doc, convert, least, most, shown_default)
    return field(default=default, metadata={"about": about})


def docs_of(section: Any) -> Iterator[tuple[str, SettingDoc]]:
    """Yield the keys of a section, or of its type, with what is known of each."""
    for item in dataclasses.fields(section):
        yield item.name, item.metadata["about"]


class _Section:
    """What all sections share: the bounds stated with each setting hold."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Refuse values outside their bounds."""
        refuse(type(self).__name__, _problems(self))


def _problems(section: Any) -> Iterator[Problem]:
    for key, about in docs_of(section):
        value = getattr(section, key)
        if value is None or (about.least is None and about.most is None):
            continue
        too_low = about.least is not None and value < about.least
        too_high = about.most is not None and value > about.most
        if too_low or too_high:
            least = "" if about.least is None else f" from {about.least:g}"
            most = "" if about.most is None else f" up to {about.most:g}"
            yield Problem(key, f"is {value}", f"Write a value{least}{most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings(_Section):
    """Where `ownward serve` listens, and how it stops."""

    host: str = _setting(DEFAULT_HOST, "text", "Address to listen on; anything but loopback asks for keys.")
    port: int = _setting(DEFAULT_PORT, "whole", "Port to listen on; 0 takes a free one.", least=0, most=65535)
    workers: int = _setting(1, "whole", "Gateway processes.", unit="processes", least=1, most=256)
    drain_s: float = _setting(
        30.0, "duration", "How long requests in flight may go on after a stop is asked for.", unit="seconds", least=0
    )
    plan_file: Path | None = _setting(
        None, "path", "The plan to serve; without one the embedded model is served.", shown_default='"plan.toml"'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings(_Section):
    """Where the record of every request is kept, and what it survives."""

    path: Path | None = _setting(
        None,
        "path",
        "The SQLite file; left out, it stands in the platform's data folder.",
        shown_default='"~/.local/share/ownward/ledger.db"',
    )
    postgres_dsn_env: str | None = _setting(
        None,
        "variable",
        "The environment variable that holds a postgresql:// address; stated, it is used instead of the file.",
        shown_default='"OWNWARD_POSTGRES_DSN"',
    )
    durability: Durability = _setting(
        "process",
        "text",
        "What a committed row survives: a killed process, or power loss as well (slower).",
        choices=get_args(Durability),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings(_Section):
    """Bounds of each request and of all of them together."""

    max_body_bytes: int = _setting(
        33_554_432, "bytes", "Largest request body that is read.", unit="bytes", least=1024, most=1 << 32
    )
    request_deadline_s: float = _setting(
        600.0, "duration", "Longest time a request may take in all, retries included.", unit="seconds", least=0.001
    )
    max_attempts: int = _setting(
        3, "whole", "Upstream calls of one request at most, the first included.", unit="calls", least=1, most=20
    )
    retry_budget_fraction: float = _setting(
        0.2, "number", "Share of recent requests that may be retries.", unit="0 to 1", least=0, most=1
    )
    max_requests_in_flight: int = _setting(
        1024, "whole", "Requests served at a time; more wait in the queue.", unit="requests", least=1, most=1_000_000
    )
    max_queued_requests: int = _setting(
        1024, "whole", "Requests that may wait; more are told to come back.", unit="requests", least=0, most=1_000_000
    )
    max_queue_wait_s: float = _setting(
        30.0, "duration", "Longest time a request waits for its turn.", unit="seconds", least=0
    )
    max_unwritten_settlements: int = _setting(
        10_000, "whole", "Ledger rows that may wait to be written before requests do.", unit="rows", least=1
    )
    require_keys: bool = _setting(default=False, kind="flag", doc="Whether each request must carry a key of ours.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings(_Section):
    """The engines that are started here."""

    threads: int | None = _setting(
        None,
        "whole",
        "Threads of the embedded engine; left out, the cores that are free.",
        unit="threads",
        least=1,
        most=1024,
        shown_default="2",
    )
    slots: int = _setting(4, "whole", "Requests that the embedded engine decodes together.", unit="requests", least=1)
    context_tokens: int = _setting(
        8192, "whole", "Context of the embedded engine, divided over its slots.", unit="tokens", least=128
    )
    cache_dir: Path | None = _setting(
        None,
        "path",
        "Where fetched weights are kept; left out, in the platform's cache folder.",
        shown_default='"~/.cache/ownward"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicsSettings(_Section):
    """What owning is reckoned with. Every default here is an assumption: state your own."""

    electricity_region: str = _setting("us", "text", "Whose tariff the catalogue is asked for, where none is stated.")
    electricity_usd_per_kwh: Decimal | None = _setting(
        None,
        "usd",
        "Your tariff; left out, the catalogue's for the region.",
        unit="USD per kWh",
        least=0,
        shown_default='"0.17"',
    )
    electricity_basis: Basis = _setting("assumed", "text", "What your tariff rests on.", choices=get_args(Basis))
    electricity_source: str = _setting("ownward.toml", "text", "Where your tariff is from, such as the bill.")
    electricity_checked_on: date = _setting(date(2026, 11, 21), "date", "The day your tariff was checked.", unit="date")
    power_usage_effectiveness: float = _setting(
        1.0, "number", "Facility power over machine power (PUE); 1 for a machine in a room of its own.", least=1, most=5
    )
    amortisation_months: int = _setting(
        36, "whole", "Months over which a bought machine is written off.", unit="months", least=1, most=240
    )
    residual_fraction: float = _setting(
        0.1, "number", "Share of its price that a machine is worth at the end.", unit="0 to 1", least=0, most=1
    )
    discount_rate_fraction: float = _setting(
        0.08, "number", "Yearly rate at which later money counts less.", unit="0 to 1 a year", least=0, most=1
    )
    hosting_usd_per_month: Decimal = _setting(
        Decimal(0), "usd", "Room, network and remote hands, each machine.", unit="USD per month", least=0
    )
    people_hours_per_month: float = _setting(
        4.0, "number", "Hours of work that running it takes.", unit="hours per month", least=0, most=100_000
    )
    people_usd_per_hour: Decimal = _setting(
        Decimal(75), "usd", "What an hour of that work costs.", unit="USD per hour", least=0
    )

    @property
    def electricity(self) -> Sourced[Decimal] | None:
        """The stated tariff in USD per kWh with where it is from; None where the catalogue's is meant."""
        if self.electricity_usd_per_kwh is None:
            return None
        return Sourced(
            value=self.electricity_usd_per_kwh,
            basis=self.electricity_basis,
            source=self.electricity_source,
            checked_on=self.electricity_checked_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, in effect. `origins` says of each key where its value is from; `file` was read, if any was."""

    server: ServerSettings = field(default_factory=ServerSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    economics: EconomicsSettings = field(default_factory=EconomicsSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    file: Path | None = field(default=None, compare=False)


SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "ledger": LedgerSettings,
    "gateway": GatewaySettings,
    "engine": EngineSettings,
    "economics": EconomicsSettings,
}
