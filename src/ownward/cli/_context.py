"""What commands start from: the settings in effect and the ledger they name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ownward.core import BadInput

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.ledger import Ledger

_DATABASE_SCHEMES = ("postgresql://", "postgres://")


def load_settings(config_file: str | None = None, **flags: object) -> Settings:
    """Return the settings in effect; `flags` by `section_key`, None for those not given.

    Raises: ConfigError.
    """
    from ownward import config

    stated = {key.replace("__", "."): value for key, value in flags.items()}
    return config.load(flags=stated, config_file=None if config_file is None else Path(config_file))


@contextlib.contextmanager
def open_ledger(target: str | None, *, is_read_only: bool = False) -> Iterator[Ledger]:
    """Open the ledger that a flag names, or the settings' own; a folder for a new file is made.

    Raises: LedgerError; BadInput, if it is to be read only and is not there.
    """
    from ownward import config, ledger

    durability = "process"
    if target is None:
        settings = load_settings()
        durability = settings.ledger.durability
        if settings.ledger.postgres_dsn_env:
            target = config.resolve_secret(settings.ledger.postgres_dsn_env)
        else:
            assert settings.ledger.path is not None  # filled in by config.load
            target = str(settings.ledger.path)
    is_file = not target.startswith(_DATABASE_SCHEMES)
    if is_file and is_read_only and not Path(target).exists():
        raise BadInput(
            f"there is no ledger {target!r}",
            next_step="Make one with: ownward import FILE --ledger PATH, or: ownward serve --ledger PATH",
        )
    if is_file and not is_read_only:
        Path(target).expanduser().absolute().parent.mkdir(parents=True, exist_ok=True)
    opened = ledger.open(target, durability=durability, is_read_only=is_read_only)  # type: ignore[arg-type]
    with opened:
        yield opened
