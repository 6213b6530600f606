"""The only reader of ownward.toml and of the environment.

It does not know what the settings do.
"""

from ownward.config._load import (
    CONFIG_VARIABLE,
    FILE_NAME,
    find_file,
    load,
    platform_folder,
    variable_of,
)
from ownward.config._secrets import resolve_secret
from ownward.config._settings import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    CatalogSettings,
    Durability,
    EconomicsSettings,
    EngineSettings,
    GatewaySettings,
    LedgerSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from ownward.config._show import (
    SCHEMA,
    EffectiveSetting,
    as_record,
    effective,
    example_toml,
    reference_markdown,
)
from ownward.config._telemetry import SpanDestination, resolve_span_destination

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "FILE_NAME",
    "SCHEMA",
    "CatalogSettings",
    "Durability",
    "EconomicsSettings",
    "EffectiveSetting",
    "EngineSettings",
    "GatewaySettings",
    "LedgerSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "ServerSettings",
    "Settings",
    "SpanDestination",
    "TelemetrySettings",
    "as_record",
    "effective",
    "example_toml",
    "find_file",
    "load",
    "platform_folder",
    "reference_markdown",
    "resolve_secret",
    "resolve_span_destination",
    "variable_of",
]
