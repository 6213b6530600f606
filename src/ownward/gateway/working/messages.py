"""What the parent and its workers say to each other: lines of JSON, over a pair of sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ownward.gateway.settings import GatewaySettings

Message = dict[str, Any]

News = dict[str, Any]
"""`breakers`: by upstream, when it was said and the breaker's fields; `calls`: those in flight, by upstream; `sent` and
`loads`: as `Prefixes` has them."""

LINE_BYTES: Final = 1 << 26
MOST_UNHEARD_BYTES: Final = 1 << 20  # what waits for a process that does not listen; further news are left out
GATHER_S: Final = 2.0
"""How long a worker's metrics are waited for."""


def settings_as_message(settings: GatewaySettings) -> Message:
    """Return settings as a message can carry them; the ready file is the parent's."""
    values = {name: getattr(settings, name) for name in GatewaySettings.__dataclass_fields__}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()} | {
        "ready_file": None
    }


def settings_of_message(values: Message) -> GatewaySettings:
    """Return the settings of a message."""
    paths = {"tls_cert_file", "tls_key_file"}
    stated: dict[str, Any] = {
        name: Path(value) if name in paths and value is not None else value for name, value in values.items()
    }
    return GatewaySettings(**stated)
