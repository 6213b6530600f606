"""What commands start from: the settings in effect and the ledger they name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ownward.core import LedgerError

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.ledger import Ledger


def load_settings(config_file: str | None = None, **flags: object) -> Settings:
    """Return the settings in effect; `flags` by `section_key`, None for those not given.

    Raises: ConfigError.
    """
    from ownward import config

    stated = {key.replace("__", "."): value for key, value in flags.items()}
    return config.load(flags=stated, config_file=None if config_file is None else Path(config_file))


@contextlib.contextmanager
def open_ledger(
    target: str | None, *, settings: Settings | None = None, is_read_only: bool = False
) -> Iterator[Ledger]:
    """Open the ledger that a flag names, or the settings' own; a folder for a new file is made.

    `settings` are those in effect, where the command has loaded them.

    Raises: LedgerError.
    """
    from ownward import config, ledger

    if target is None:
        settings = settings or load_settings()
        if settings.ledger.postgres_dsn_env:
            target = config.resolve_secret(settings.ledger.postgres_dsn_env)
            if not ledger.is_address(target):
                raise LedgerError(
                    f"the variable {settings.ledger.postgres_dsn_env} does not hold the address of a database",
                    allowed="An address that begins with postgresql://",
                    next_step="Write postgresql://USER@HOST:PORT/DATABASE there, or name a file with ledger.path",
                )
        else:
            assert settings.ledger.path is not None  # filled in by config.load
            target = str(settings.ledger.path)
    durability = "process" if settings is None else settings.ledger.durability
    is_file = not ledger.is_address(target)
    if is_file and not is_read_only:
        _make_folder(Path(target).expanduser().absolute().parent)
    opened = ledger.open(target, durability=durability, is_read_only=is_read_only)
    with opened:
        yield opened


@contextlib.contextmanager
def leaving_no_trace(target: str | None) -> Iterator[None]:
    """Remove the ledger file again, if it was made in here and an error ends what it was made for."""
    from ownward import ledger

    path = None if target is None or ledger.is_address(target) else Path(target).expanduser()
    is_new = path is not None and not path.exists()
    try:
        yield
    except BaseException:
        if is_new and path is not None:
            for left in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                left.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    """Make a ledger's folder, for its user alone: bodies may be kept in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the ledger's folder {str(folder)!r} cannot be made: {error.strerror}",
            next_step="Name another place with --ledger",
        ) from error
