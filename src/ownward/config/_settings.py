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
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ownward.config._values import as_path, as_variable
from ownward.core import MIB, Basis, Sourced
from ownward.plan import (
    Problem,
    as_bytes,
    as_choice,
    as_date,
    as_duration_s,
    as_flag,
    as_number,
    as_text,
    as_usd,
    as_whole,
    refuse,
)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
"""The loopback port that `ownward serve` listens on where nothing else is stated."""

Durability = Literal["process", "power"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

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

    @property
    def bounds(self) -> str | None:
        """What values it may have, in words; None where nothing bounds them."""
        if self.least is None and self.most is None:
            return None
        least = "" if self.least is None else f" from {self.least:g}"
        most = "" if self.most is None else f" up to {self.most:g}"
        unit = f", in {self.unit}" if self.unit[:1].isalpha() else ""  # "0 to 1" is said by the bounds
        return f"a value{least}{most}{unit}"


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
    special: Mapping[str, Callable[[Any], Any]] = {
        "path": partial(as_path, example=shown_default or '"some/path"'),
        "variable": as_variable,
    }
    convert = as_choice(*choices) if choices else special.get(kind) or _KINDS[kind]
    if convert in (as_whole, as_number) and (usual := shown_default or default) is not None:
        convert = partial(convert, example=str(usual))
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
            yield Problem(key, f"is {value}", f"Write {about.bounds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings(_Section):
    """Where `ownward serve` listens, and how it stops."""

    host: str = _setting(DEFAULT_HOST, "text", "Address to listen on; any but loopback needs keys and TLS.")
    port: int = _setting(DEFAULT_PORT, "whole", "Port to listen on; 0 takes a free one.", least=0, most=65535)
    tls_cert_file: Path | None = _setting(
        None,
        "path",
        "Certificate chain in PEM, to listen over TLS; required beyond loopback.",
        shown_default='"tls/chain.pem"',
    )
    tls_key_file: Path | None = _setting(
        None,
        "path",
        "Its key in PEM, without a passphrase; if left out, it is in the same file.",
        shown_default='"tls/key.pem"',
    )
    allow_plaintext: bool = _setting(
        default=False,
        kind="flag",
        doc="Whether to listen beyond loopback without TLS, because a proxy in front has it.",
    )
    drain_s: float = _setting(
        30.0, "duration", "How long requests in flight may continue after a stop.", unit="seconds", least=0
    )
    plan_file: Path | None = _setting(
        None, "path", "The plan to serve; if left out, the embedded model.", shown_default='"plan.toml"'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings(_Section):
    """Where the record of every request is kept, and what it survives."""

    path: Path | None = _setting(
        None,
        "path",
        "The SQLite file; if left out, one in the platform's data folder.",
        shown_default='"~/.local/share/ownward/ledger.db"',
    )
    postgres_dsn_env: str | None = _setting(
        None,
        "variable",
        "The environment variable that holds a postgresql:// address, to be used instead of the file.",
        shown_default='"OWNWARD_POSTGRES_DSN"',
    )
    durability: Durability = _setting(
        "process",
        "text",
        "What a committed row survives: a killed process, or power loss as well (slower).",
        choices=get_args(Durability),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings(_Section):
    """What `ownward serve` writes to standard error."""

    level: LogLevel = _setting(
        "warning",
        "text",
        "The lowest level that is written; info and debug have a line for each request, without bodies.",
        choices=get_args(LogLevel),
    )
    format: LogFormat = _setting(
        "text", "text", "Text for people, or one JSON object per line.", choices=get_args(LogFormat)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings(_Section):
    """Spans for your collector. Nothing is sent anywhere unless you turn them on."""

    spans: bool = _setting(
        default=False,
        kind="flag",
        doc="Whether each request and call becomes an OpenTelemetry span, without content;"
        " OTEL_EXPORTER_OTLP_ENDPOINT says where to.",
    )
    label: str = _setting(
        "local_only", "text", "Where spans may travel, written like a workload's label: site, eu, any."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings(_Section):
    """Limits of each request, and of all of them together."""

    requires_keys: bool = _setting(
        default=False, kind="flag", doc="Whether each request must carry a key; required beyond loopback."
    )
    deadline_s: float = _setting(
        600.0, "duration", "Longest time until an answer's first byte, retries included.", unit="seconds", least=0.001
    )
    max_attempts: int = _setting(
        6, "whole", "Most upstream calls for one request, the first included.", unit="calls", least=1, most=100
    )
    retry_fraction: float = _setting(
        0.2,
        "number",
        "What retries may add to the load of upstreams that failed last, as a share.",
        unit="0 to 1",
        least=0,
        most=1,
    )
    retry_burst: int = _setting(
        50, "whole", "Retries to such upstreams that are allowed beyond that share.", unit="calls", least=0
    )
    max_in_flight_requests: int = _setting(
        10_000, "whole", "Requests served or waiting at a time; others get 503.", unit="requests", least=1
    )
    queue_per_tier_requests: int = _setting(
        256, "whole", "Requests that may wait for a place in one tier.", unit="requests", least=0
    )
    queue_timeout_s: float = _setting(
        60.0, "duration", "How long a request waits for its place.", unit="seconds", least=0.001
    )
    max_body_bytes: int = _setting(64 * MIB, "bytes", "Largest request body that is read.", unit="bytes", least=1)
    max_bodies_bytes: int = _setting(
        2048 * MIB,
        "bytes",
        "All request bodies held at a time; others get 503.",
        unit="bytes",
        least=1,
    )
    max_header_bytes: int = _setting(65_536, "bytes", "Largest head of a request.", unit="bytes", least=1)
    max_answer_bytes: int = _setting(256 * MIB, "bytes", "Largest answer that is not streamed.", unit="bytes", least=1)
    header_timeout_s: float = _setting(
        30.0, "duration", "How long a request's head may take to arrive.", unit="seconds", least=0.001
    )
    body_timeout_s: float = _setting(
        300.0, "duration", "How long a request's body may take to arrive.", unit="seconds", least=0.001
    )
    keep_alive_s: float = _setting(
        75.0, "duration", "How long an idle connection is kept.", unit="seconds", least=0.001
    )
    max_connections: int = _setting(
        12_000,
        "whole",
        "Connections of clients at a time; fewer if the system gives too few file descriptors.",
        unit="connections",
        least=1,
    )
    client_stall_s: float = _setting(
        60.0, "duration", "How long a client may leave its answer unread.", unit="seconds", least=0.001
    )
    stream_keep_alive_s: float = _setting(
        0.0,
        "duration",
        "How long a stream may be silent before a comment keeps its connection alive; 0 sends none.",
        unit="seconds",
        least=0,
    )
    breaker_failures: int = _setting(
        5, "whole", "Failures in a row after which an upstream is left alone.", unit="calls", least=1
    )
    breaker_wait_s: float = _setting(
        1.0, "duration", "How long it is left alone the first time; doubles each time.", unit="seconds", least=0.001
    )
    breaker_longest_wait_s: float = _setting(
        60.0, "duration", "The longest that it is left alone.", unit="seconds", least=0.001
    )
    key_cache_s: float = _setting(
        5.0, "duration", "How long a revoked key may still be taken for valid.", unit="seconds", least=0
    )
    workers: int = _setting(1, "whole", "Processes that serve one port.", unit="processes", least=1)
    assumed_output_tokens: int = _setting(
        131_072,
        "whole",
        "Output assumed in the bound of a charge if neither the request nor its tier states a maximum.",
        unit="tokens",
        least=1,
    )
    gather_stream_s: float = _setting(
        0.05,
        "duration",
        "Under load, how long events of quick streams wait to go on together; 0 always passes on each at once.",
        unit="seconds",
        least=0,
        most=1,
    )
    detect_cpu_s: float = _setting(
        1.0,
        "duration",
        "Processor time for detection in one request; what is not examined by then counts as a find.",
        unit="seconds",
        least=0.001,
    )
    keep_responses_s: float = _setting(
        0.0,
        "duration",
        "How long responses are kept for clients to continue, from the last that continues them; 0 keeps none.",
        unit="seconds",
        least=0,
    )
    keep_responses_per_key: int = _setting(
        1000, "whole", "Most responses kept for one key; the oldest go.", unit="responses", least=1
    )
    keep_bytes_per_key: int = _setting(
        64 * MIB, "bytes", "Most bytes they take together; the oldest go.", unit="bytes", least=1
    )
    keep_response_bytes: int = _setting(
        4 * MIB, "bytes", "Largest response that is kept, its own input included.", unit="bytes", least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings(_Section):
    """The embedded engine, unless a plan says otherwise."""

    threads: int | None = _setting(
        None,
        "whole",
        "Threads; if left out, as many as cores are free.",
        unit="threads",
        least=1,
        most=1024,
        shown_default="2",
    )
    slots: int | None = _setting(
        None,
        "whole",
        "Requests decoded together; if left out, up to 4 as memory allows.",
        unit="requests",
        least=1,
        most=1024,
        shown_default="4",
    )
    context_tokens: int | None = _setting(
        None,
        "whole",
        "Context of each of them; if left out, up to 4096 as memory allows.",
        unit="tokens",
        least=1,
        shown_default="4096",
    )
    use_mmap: bool | None = _setting(
        None,
        "flag",
        "Whether weights are mapped (true), or read into memory, which they must fit; if left out, chosen by memory.",
        shown_default="true",
    )
    no_extra_bufts: bool | None = _setting(
        None,
        "flag",
        "Whether to do without a repacked copy of the weights: less memory, slower; if left out, chosen by memory.",
        shown_default="false",
    )
    cache_dir: Path | None = _setting(
        None,
        "path",
        "Where fetched weights are kept; if left out, in the platform's cache folder.",
        shown_default='"~/.cache/ownward"',
    )
    log_dir: Path | None = _setting(
        None,
        "path",
        "Folder for engines' logs, a file for each tier, overwritten at each start; if left out, they are not kept.",
        shown_default='"engines"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings(_Section):
    """Facts of your own, beside the shipped ones."""

    folder: Path | None = _setting(
        None,
        "path",
        "Folder of your own catalogue files, which win over shipped ones; if left out, in the config folder.",
        shown_default='"~/.config/ownward/catalog"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings(_Section):
    """Where checkpoints named hf:org/name are."""

    url: str = _setting("https://huggingface.co", "text", "The hub's address.")
    token_env: str | None = _setting(
        None,
        "variable",
        "Environment variable that holds the hub's token, for gated and private models; sent to the hub alone.",
        shown_default='"HF_TOKEN"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicsSettings(_Section):
    """What the cost of owning is made of. Every default here is an assumption: state your own."""

    usd_per_kwh: Decimal = _setting(
        Decimal("0.25"), "usd", "Electricity; the catalogue has tariffs of many places.", unit="USD per kWh", least=0
    )
    usd_per_kwh_basis: Basis = _setting("assumed", "text", "What this tariff rests on.", choices=get_args(Basis))
    usd_per_kwh_source: str = _setting(
        "ownward's default; state your own", "text", "Where this tariff is from, such as the bill."
    )
    usd_per_kwh_checked_on: date = _setting(date(2026, 11, 21), "date", "The day it was checked.", unit="date")
    pue: float = _setting(1.2, "number", "Power of the whole room divided by power of the machine.", least=1, most=5)
    amortisation_months: int = _setting(
        36, "whole", "Months over which a bought machine is written off.", unit="months", least=1, most=240
    )
    residual_fraction: float = _setting(
        0.2, "number", "Share of its price that a sale brings at the end.", unit="0 to 1", least=0, most=1
    )
    cost_of_capital_fraction_per_year: float = _setting(
        0.08, "number", "Interest a year on the mean capital tied up.", unit="0 to 1", least=0, most=1
    )
    hosting_usd_per_month: Decimal = _setting(
        Decimal(0), "usd", "Room, network and remote hands of a machine.", unit="USD per month", least=0
    )
    maintenance_fraction_per_year: float = _setting(
        0.03, "number", "Of a machine's price: spares, warranty.", unit="0 to 1", least=0, most=1
    )
    people_hours_per_month: float = _setting(
        8.0, "number", "Hours that someone spends on the whole fleet.", unit="hours per month", least=0, most=100_000
    )
    people_usd_per_hour: Decimal = _setting(
        Decimal(60), "usd", "What such an hour costs, all in.", unit="USD per hour", least=0
    )
    peak_load_fraction: float = _setting(
        0.65, "number", "Share of its capacity that a machine may carry at the peak.", unit="0 to 1", least=0.01, most=1
    )
    cache_reuse_fraction: float = _setting(
        0.8, "number", "Share of the input a log calls cached that your own engine reuses too.", least=0, most=1
    )
    redundancy: int = _setting(1, "whole", "Machines that stand by.", unit="machines", least=0, most=1000)
    api_price_factor: float = _setting(
        1.0, "number", "Every API price is multiplied by this; 1 is the list price.", least=0, most=100
    )

    @property
    def electricity(self) -> Sourced[Decimal]:
        """The tariff in USD per kWh with where it is from."""
        return Sourced(
            value=self.usd_per_kwh,
            basis=self.usd_per_kwh_basis,
            source=self.usd_per_kwh_source,
            checked_on=self.usd_per_kwh_checked_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, in effect. `origins` says of each key where its value is from; `file` was read, if any was."""

    server: ServerSettings = field(default_factory=ServerSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    logs: LogSettings = field(default_factory=LogSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    economics: EconomicsSettings = field(default_factory=EconomicsSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    file: Path | None = field(default=None, compare=False)


SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "ledger": LedgerSettings,
    "gateway": GatewaySettings,
    "logs": LogSettings,
    "telemetry": TelemetrySettings,
    "engine": EngineSettings,
    "catalog": CatalogSettings,
    "hub": HubSettings,
    "economics": EconomicsSettings,
}
