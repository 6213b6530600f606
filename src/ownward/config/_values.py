"""Values that settings alone have: paths, and names of variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ownward.plan import WrongValue, as_text, is_variable_name


def as_path(value: Any, *, example: str) -> Path:
    """Return a path; `example` is told where it is none.

    Raises: WrongValue, also of a database's address, which is not quoted.
    """
    text = as_text(value)
    if not text.strip() or "\x00" in text:
        raise WrongValue("is not a path", example=example)
    if text.lstrip().startswith(("postgresql://", "postgres://")):  # not shown: it may hold a password
        raise WrongValue(
            "is the address of a database, not a path",
            allowed="Put the address into a variable of the environment, and its name into postgres_dsn_env under "
            "[ledger] (OWNWARD_LEDGER_POSTGRES_DSN_ENV), or write --ledger ADDRESS",
        )
    return Path(text)


def as_variable(value: Any) -> str:
    """Return the name of an environment variable.

    Raises: WrongValue.
    """
    name = as_text(value)
    if not is_variable_name(name):  # not shown: it may be the secret itself
        raise WrongValue("is not the name of an environment variable", example='"MY_LEDGER_DSN"')
    return name
