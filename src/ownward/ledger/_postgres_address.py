"""What a PostgreSQL address says of where the ledger is, without its secrets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Final

from ownward.core import LedgerError

_SCHEMES: Final = frozenset({"postgresql", "postgres"})
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_KEYWORDS: Final = re.compile(r"(?:^|\s)(?:host|hostaddr|dbname|user|password|service)\s*=")


def is_address(target: str) -> bool:
    """Return whether `target` names a PostgreSQL database, and not a file.

    Raises: LedgerError, if it is an address of something else; as it may hold a password, only its beginning is told.

    >>> is_address("postgresql://ada@db.internal/books"), is_address("books.db")
    (True, False)
    """
    scheme = _SCHEME.match(target)
    if scheme is None:
        if _KEYWORDS.search(target):
            raise LedgerError(
                "the ledger is named by keywords and values",
                allowed="A file, or an address that begins with postgresql://",
                next_step="Write host=… dbname=… user=… as postgresql://USER@HOST:PORT/DATABASE",
            )
        return False
    if scheme[1] not in _SCHEMES:
        raise LedgerError(
            f"the ledger's address begins with {scheme[0]!r}",
            allowed="A file, or an address that begins with postgresql:// or postgres://",
            next_step="Write postgresql:// there, with the same user, host and database",
        )
    return True


def read_address(dsn: str) -> dict[str, Any]:
    """Return what an address states, by libpq's names.

    Raises: LedgerError, if it cannot be read. libpq quotes what it cannot read, which may be the password, so that its
    words are not told; and a password that is not percent-encoded is read as a part of what follows it.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        stated: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise _unreadable() from None
    hosts = str(stated.get("host") or "")
    database = str(stated.get("dbname") or "")
    if "@" in hosts[1:] or ("@" in database and "%40" not in dsn):
        raise _unreadable()
    return stated


def _unreadable() -> LedgerError:
    return LedgerError(
        "the address of the ledger's database cannot be read",
        allowed="As postgresql://USER@HOST:PORT/DATABASE, percent-encoded: a password's @ : / ? # % and spaces too",
        next_step="Write %40 for @, %2F for / and %25 for %, or leave the password to PGPASSWORD or ~/.pgpass",
    )


def name_of(stated: Mapping[str, Any]) -> str:
    """Return an address without user and password, and without the options, which can carry them too.

    >>> name_of({"user": "ada", "password": "hunter2", "host": "db1,db2", "port": "5432,5433", "dbname": "books"})
    'postgresql://db1:5432,db2:5433/books'
    """
    hosts = [] if not stated.get("host") else str(stated["host"]).split(",")
    ports = [] if not stated.get("port") else str(stated["port"]).split(",")
    if len(ports) == 1:
        ports *= len(hosts) or 1
    places = []
    for host, port in zip_longest(hosts, ports, fillvalue=""):
        shown = "" if host[:1] in {"/", "@"} else f"[{host}]" if ":" in host else host
        places.append(f"{shown}:{port}" if shown and port else shown)
    database = stated.get("dbname")
    return f"postgresql://{','.join(places)}{f'/{database}' if database else ''}"


def stays_here(stated: Mapping[str, Any], usual: Mapping[str, Any]) -> bool:
    """Return whether every server that an address can lead to is on this machine.

    `usual` is what the environment says where the address says nothing. What a service file says is not looked up.

    >>> stays_here({"host": "localhost"}, {}), stays_here({}, {"host": "db.internal"})
    (True, False)
    >>> stays_here({"host": "localhost", "hostaddr": "10.0.0.7"}, {})
    False
    """
    both = {**usual, **stated}
    if both.get("service"):
        return False
    hosts = str(both.get("hostaddr") or both.get("host") or "").split(",")
    return all(_is_here(host) for host in hosts)


def _is_here(host: str) -> bool:
    if not host or host[0] in "/@" or host == "localhost":
        return True  # a socket of this system, or its own name
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
